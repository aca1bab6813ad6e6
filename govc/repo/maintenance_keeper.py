"""Who starts maintenance when a push has made it due? One run at a time per repository, in a helper process.

Nobody waits for it and nothing fails by it.
"""

import logging
import threading

from govc.errors import GovcError
from govc.repo.helper import HelperSlots, Job, drain, run_helper, start_detached
from govc.repo.maintenance import MaintenanceTask, is_due
from govc.repo.repository import Repository

log = logging.getLogger(__name__)


class MaintenanceKeeper:
    """One per worker. `slots` None: a process that serves one request; what it starts lives on."""

    def __init__(self, slots: HelperSlots | None) -> None:
        self._slots = slots
        self._running: set[str] = set()

    def note_push(self, repository: Repository) -> None:
        """Start maintenance if it is due."""
        try:
            # The push has just looked, or will soon: counts that are a few pushes old are good enough for this.
            snapshot = repository.last_snapshot or repository.snapshot()
            if not is_due(snapshot, repository.ref_database):
                return
            task = MaintenanceTask.of(snapshot.layout, snapshot.config)
            if self._slots is None:
                start_detached(Job("maintain", task))
                return
        except (GovcError, OSError) as error:
            log.warning("%s: maintenance not started: %s", repository.gitdir, error)
            return
        if repository.gitdir not in self._running:
            self._running.add(repository.gitdir)
            threading.Thread(target=self._maintain, args=(repository.gitdir, self._slots, task), daemon=True).start()

    def _maintain(self, gitdir: str, slots: HelperSlots, task: MaintenanceTask) -> None:
        try:
            report = drain(run_helper(Job("maintain", task), slots=slots))
            log.info("%s: maintenance: %s", gitdir, report)
        except (GovcError, OSError) as error:
            log.error("%s: maintenance failed: %s", gitdir, error)
        finally:
            self._running.discard(gitdir)
