"""The single write path: how the refs of a repository change, whoever asks.

    lock → verify → stage → publish

`RefWriter.change` takes the wanted updates and returns those that were refused. What is refused leaves the others
going on, unless the caller wants all or nothing.

Everything here blocks (locks, disk): the server calls it where that is allowed (`Runtime.call_blocking`).
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from govc.errors import GovcError, RefUpdateRefused
from govc.refs.plan import REASON_FAILED, RefUpdate, split_by_conflict
from govc.refs.reflog import choose_log_updates
from govc.refs.transaction import RefTransaction
from govc.repo.modes import RefModes
from govc.repo.peeling import ThreadPeeler
from govc.repo.repository import Repository
from govc.repo.snapshot import Snapshot

log = logging.getLogger(__name__)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who changes something, and why.

    `committer` is `name <email>` for reflogs, `message` the reflog's text; `actor`, `address` and `request_id` say
    where it came from.
    """

    committer: bytes
    message: bytes
    actor: str = ""
    address: str = ""
    request_id: str = ""


class RefWriter:
    """Changes refs of one repository, seen through one snapshot. Use it for one request."""

    def __init__(
        self,
        repository: Repository,
        snapshot: Snapshot,
        origin: Origin,
        *,
        clock: Clock = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`clock` gives seconds since 1970; `sleep` waits for locks, in the thread that calls `change`."""
        self._repository = repository
        self._snapshot = snapshot
        self._origin = origin
        self._clock = clock
        self._sleep = sleep

    def change(self, updates: Sequence[RefUpdate], *, atomic: bool = False) -> dict[bytes, RefUpdateRefused]:
        """Make the changes; return the refused ones by name. With `atomic`, one refusal means that nothing changes.

        Deletions that make room for creations (`a` for `a/b`) go first, by themselves.
        """
        refused: dict[bytes, RefUpdateRefused] = {}
        for group in split_by_conflict(tuple(updates), self._snapshot.algo.zero):
            refused.update(self._change_together(group, atomic))
            if refused and atomic:
                break
        return refused

    def _change_together(self, group: Sequence[RefUpdate], atomic: bool) -> dict[bytes, RefUpdateRefused]:
        try:
            with self._transaction() as transaction:
                for update in group:
                    transaction.add(update)
                refused = transaction.prepare()
                if refused and atomic:
                    return refused
                return {**refused, **transaction.commit()}
        except (GovcError, OSError) as error:
            log.error("%s: %s: %s", self._origin.request_id, self._snapshot.layout.gitdir, error)
            return {update.name: RefUpdateRefused(update.name, REASON_FAILED) for update in group}

    def _transaction(self) -> RefTransaction:
        layout, config = self._snapshot.layout, self._snapshot.config
        entry = config.find_entry("core.logallrefupdates")
        value = entry.value if entry is not None else None
        is_always = value is not None and value.lower() == "always"
        return RefTransaction(
            self._repository.ref_database,
            committer=self._origin.committer,
            message=self._origin.message,
            clock=self._clock,
            sleep=self._sleep,
            fsync=True,
            modes=RefModes(layout.shared),
            log_updates=choose_log_updates(
                value,
                None if entry is None or is_always else config.get_bool("core.logallrefupdates", False),
                is_bare=layout.is_bare,
            ),
            peel=ThreadPeeler(self._snapshot),
            lock_timeout_ms=config.get_int("core.filesreflocktimeout", 100),
            packed_timeout_ms=config.get_int("core.packedrefstimeout", 1000),
        )
