"""Who keeps the introductions indexes filled: after pushes at once, for everything else in the background.

A push's commits become a small file a moment after it was answered; pushes that follow closely share one, and many such
files are merged on the spot. What is more than that (a repository that plain git made, a large push, large files to be
merged, a new pack after `git gc`) is a job for a helper process: one at a time per worker, one per repository on the
machine.

Nothing waits for it and nothing fails by it. A repository in which it comes to nothing (a damaged pack, no right to
write, memory that ends it each time) is tried more and more seldom, until one run does its work, or refs or packs are
others.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from govc.errors import Corrupt, GovcError, ObjectMissing
from govc.graph.commits import follow_tags
from govc.objects.types import COMMIT
from govc.repo.helper import HelperSlots, Job, drain, run_helper, start_detached
from govc.repo.introducing import IntroduceReport, IntroduceTask, merge_small
from govc.repo.repository import Repository
from govc.repo.runtime import Runtime
from govc.repo.snapshot import Snapshot

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.2
"""Pushes within so long share a file."""

RETRY_SECONDS = 60.0
"""A repository is not looked at again before, whatever came of it."""

RETRY_SECONDS_MAX = 3600.0
"""Twice as long after each helper that came to nothing, up to this."""

FAILURES_MAX = 16
"""More than so many are not counted: the time between two has long been the longest."""

REMEMBERED_MAX = 4096


@dataclass(slots=True)
class _Tried:
    """What came of one repository. `looked_at`, `started_at`: seconds of the keeper's clock. `state`: what the
    repository was when a helper was last started. `failures`: helpers that came to nothing, one after the other."""

    looked_at: float
    started_at: float
    state: int
    failures: int = 0


class IndexKeeper:
    """One per worker."""

    def __init__(
        self,
        runtime: Runtime,
        slots: HelperSlots | None,
        *,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`slots` None: a process that serves one request; what it starts lives on, and only a push starts anything."""
        self._runtime = runtime
        self._slots = slots
        self._enabled = enabled
        self._clock = clock
        self._tried: dict[str, _Tried] = {}
        self._pending: dict[str, set[bytes]] = {}

    def want(self, snapshot: Snapshot) -> None:
        """Have the index of a repository filled, if that was not tried a moment ago, nor in vain not long ago."""
        gitdir = snapshot.layout.gitdir
        now = self._clock()
        tried = self._tried.get(gitdir)
        if not self._enabled or self._slots is None or (tried and now - tried.looked_at < RETRY_SECONDS):
            return
        task = IntroduceTask.of(snapshot)
        state = _state_of(snapshot, task)
        if tried is None or tried.state != state:
            if len(self._tried) >= REMEMBERED_MAX:
                self._tried.clear()
            tried = self._tried[gitdir] = _Tried(now, now, state)
        else:
            tried.looked_at = now
            if now - tried.started_at < min(RETRY_SECONDS * 2**tried.failures, RETRY_SECONDS_MAX):
                return
            tried.started_at = now
        threading.Thread(target=self._fill, args=(gitdir, task, tried), daemon=True).start()

    def _fill(self, gitdir: str, task: IntroduceTask, tried: _Tried) -> None:
        assert self._slots is not None
        try:
            report: IntroduceReport = drain(run_helper(Job("introduce", task), slots=self._slots))
        except (GovcError, OSError) as error:
            tried.failures = min(tried.failures + 1, FAILURES_MAX)
            log.warning("%s: introductions not filled: %s", gitdir, error)
            return
        tried.failures = min(tried.failures + 1, FAILURES_MAX) if report.skipped else 0
        log.info("%s: introductions: %s", gitdir, report)

    def note_push(self, repository: Repository, tips: Iterable[bytes]) -> None:
        """Take the new values of refs, a moment after which the index knows them."""
        if not self._enabled:
            return
        waiting = self._pending.get(repository.gitdir)
        if waiting is not None:
            waiting.update(tips)
            return
        self._pending[repository.gitdir] = set(tips)
        if self._runtime.later is None:
            self._extend(repository)
        else:
            # A greenlet, not a thread: a snapshot belongs to the hub.
            threading.Thread(target=self._extend_soon, args=(repository,), daemon=True).start()

    def _extend_soon(self, repository: Repository) -> None:
        self._runtime.sleep(GATHER_SECONDS)
        self._extend(repository)

    def _extend(self, repository: Repository) -> None:
        tips = tuple(self._pending.pop(repository.gitdir, ()))  # at once: another thread may be adding to them
        try:
            snapshot = repository.snapshot()
            index = snapshot.introductions
            if index is None:
                return
            commits = [oid for tip in tips if (oid := _peel(snapshot, tip)) is not None]
            if index.extend(snapshot.store, commits) and not (index.is_crowded and merge_small(index)):
                return
            if self._slots is None:
                start_detached(Job("introduce", IntroduceTask.of(snapshot)))
            else:
                self.want(snapshot)
        except (GovcError, OSError) as error:
            log.warning("%s: introductions not extended: %s", repository.gitdir, error)


def _state_of(snapshot: Snapshot, task: IntroduceTask) -> int:
    """Return what is another one when refs or packs are, most probably."""
    changed_ns = 0
    with suppress(OSError):  # also when a pack was replaced by a good one of the same name
        changed_ns = os.stat(f"{task.objects_dir}/pack").st_mtime_ns
    packs = frozenset(pack.index.pack_checksum for pack in snapshot.store.packs)
    return hash((task.identity, frozenset(task.tips), packs, changed_ns))


def _peel(snapshot: Snapshot, oid: bytes) -> bytes | None:
    """Return the commit that an object is or leads to."""
    number = snapshot.store.find(oid)
    if number < 0:
        return None
    try:
        _tags, target, type_number = follow_tags(snapshot.store, number)
    except (ObjectMissing, Corrupt):
        return None
    return snapshot.store.oid_of(target) if type_number == COMMIT else None
