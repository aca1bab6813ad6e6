"""Who keeps the introductions indexes filled: after pushes at once, for everything else in the background.

A push's commits become a small file a moment after it was answered; pushes that follow closely share one, and many such
files are merged on the spot. What is more than that (a repository that plain git made, a large push, large files to be
merged, a new pack after `git gc`) is a job for a helper process: one at a time per worker, one per repository on the
machine.

Nothing waits for it and nothing fails by it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from govc.errors import Corrupt, GovcError, ObjectMissing
from govc.graph.commits import follow_tags
from govc.objects.types import COMMIT
from govc.repo.helper import HelperSlots, Job, drain, run_helper, start_detached
from govc.repo.introducing import IntroduceTask, merge_small
from govc.repo.repository import Repository
from govc.repo.runtime import Runtime
from govc.repo.snapshot import Snapshot

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.2
"""Pushes within so long share a file."""

RETRY_SECONDS = 60.0
"""A repository is not looked at again before, whatever came of it."""

REMEMBERED_MAX = 4096


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
        self._started: dict[str, float] = {}
        self._pending: dict[str, set[bytes]] = {}

    def want(self, snapshot: Snapshot) -> None:
        """Have the index of a repository filled, if that was not tried a moment ago."""
        gitdir = snapshot.layout.gitdir
        now = self._clock()
        if not self._enabled or self._slots is None or now - self._started.get(gitdir, -RETRY_SECONDS) < RETRY_SECONDS:
            return
        if len(self._started) >= REMEMBERED_MAX:
            self._started.clear()
        self._started[gitdir] = now
        task = IntroduceTask.of(snapshot)
        threading.Thread(target=self._fill, args=(gitdir, task), daemon=True).start()

    def _fill(self, gitdir: str, task: IntroduceTask) -> None:
        assert self._slots is not None
        try:
            report = drain(run_helper(Job("introduce", task), slots=self._slots))
            log.info("%s: introductions: %s", gitdir, report)
        except (GovcError, OSError) as error:
            log.warning("%s: introductions not filled: %s", gitdir, error)

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
        tips = self._pending.pop(repository.gitdir, set())
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
