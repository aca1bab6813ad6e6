"""What the configuration says about how refs are written: time-outs, permissions, reflogs, the shape of reftables.

Source: git-config "core.filesRefLockTimeout", "core.packedRefsTimeout", "core.logAllRefUpdates", "reftable.*".
"""

from collections.abc import Callable
from typing import NamedTuple

from govc.config.config import Config
from govc.errors import RepositoryRefused
from govc.refs.backend import REFTABLE, Reflogging, WriteOptions
from govc.refs.lock import LockOwner, Sleep
from govc.refs.reflog import LogUpdates, choose_log_updates
from govc.refs.reftable.writer import (
    BLOCK_SIZE,
    GEOMETRIC_FACTOR,
    RESTART_INTERVAL,
    ReftableOptions,
    check_options,
)
from govc.repo.layout import RepositoryLayout
from govc.repo.modes import RefModes

REFTABLE_LOCK_TIMEOUT_MS = 1000
"""Every writer of a stack passes through one lock, so we wait as git does for packed-refs, not as for one ref."""

LOCK_QUEUE_MS = 60_000
"""How long a lock that goes from hand to hand is waited for where no time-out is configured: sixty pushes, each with a
sync of a second, may queue. One that stands still is given up after its time-out, as with git."""


def read_write_options(
    layout: RepositoryLayout, config: Config, *, sleep: Sleep, owner: LockOwner | None = None
) -> WriteOptions:
    """Return how refs are written in a repository. Raises BadConfig, RepositoryRefused for what git would die on.

    With an `owner`, a log, files need no sync of their own. Tables are synced all the same: recovery relies on it.
    """
    said = config.remembered(_read_said)
    problem = check_options(said.reftable)
    if problem is not None:
        raise RepositoryRefused(layout.gitdir, problem)
    return WriteOptions(
        sleep=sleep,
        modes=RefModes(layout.shared),
        fsync=owner is None or layout.ref_storage == REFTABLE,
        lock_timeout_ms=said.lock_timeout_ms,
        packed_timeout_ms=said.packed_timeout_ms,
        packed_queue_ms=said.packed_queue_ms,
        reftable=said.reftable,
        owner=owner,
    )


class _Said(NamedTuple):
    """What the configuration alone says of it."""

    reftable: ReftableOptions
    lock_timeout_ms: int
    packed_timeout_ms: int
    packed_queue_ms: int


def _read_said(config: Config) -> _Said:
    return _Said(
        ReftableOptions(
            block_size=config.get_int("reftable.blocksize", 0) or BLOCK_SIZE,
            restart_interval=config.get_int("reftable.restartinterval", 0) or RESTART_INTERVAL,
            index_objects=config.get_bool("reftable.indexobjects", True),
            geometric_factor=config.get_int("reftable.geometricfactor", 0) or GEOMETRIC_FACTOR,
            lock_timeout_ms=config.get_int("reftable.locktimeout", REFTABLE_LOCK_TIMEOUT_MS),
            lock_queue_ms=_queue_ms(config, "reftable.locktimeout"),
        ),
        config.get_int("core.filesreflocktimeout", 100),
        config.get_int("core.packedrefstimeout", 1000),
        _queue_ms(config, "core.packedrefstimeout"),
    )


def _queue_ms(config: Config, key: str) -> int:
    """Return how long a queue is waited for: a time-out that somebody has set is one for all of the waiting."""
    return LOCK_QUEUE_MS if config.find_entry(key) is None else 0


def read_log_updates(config: Config, *, is_bare: bool) -> LogUpdates:
    """Return which refs get a reflog, by core.logAllRefUpdates."""
    entry = config.find_entry("core.logallrefupdates")
    value = entry.value if entry is not None else None
    is_always = value is not None and value.lower() == "always"
    as_bool = None if entry is None or is_always else config.get_bool("core.logallrefupdates", False)
    return choose_log_updates(value, as_bool, is_bare=is_bare)


def read_reflogging(
    config: Config, *, is_bare: bool, committer: bytes, message: bytes, clock: Callable[[], float]
) -> Reflogging:
    """Return which refs get a reflog, and what is written there."""
    return Reflogging(
        committer=committer, message=message, clock=clock, updates=read_log_updates(config, is_bare=is_bare)
    )
