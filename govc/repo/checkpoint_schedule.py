"""When checkpoints are made: by size, some time after a push, and at a clean end.

The work itself is a helper process's ("checkpoint" job): comparing refs would hold this process's lock for long. A
program that ends with its request (CGI) starts one that outlives it, by size only.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from weakref import ref

from govc.config.loader import load_config
from govc.errors import GovcError
from govc.refs.backend import open_ref_backend
from govc.repo.checkpointing import CheckpointReport, checkpoint
from govc.repo.helper import Emit, HelperSlots, Job, drain, run_helper, start_detached
from govc.repo.journal import JournalOptions
from govc.repo.layout import find_commondir, read_layout
from govc.repo.open_journal import open_journal
from govc.repo.recovery import Site
from govc.repo.repository import Repository
from govc.repo.runtime import Runtime

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointTask:
    """One repository. Picklable. `close_log`: retire the log when nothing is left in it."""

    gitdir: str
    archive_dir: str = ""
    close_log: bool = False


def checkpoint_job(task: CheckpointTask, _emit: Emit) -> CheckpointReport:
    """The helper's "checkpoint" job."""
    return checkpoint_path(task.gitdir, archive_dir=task.archive_dir, close_log=task.close_log)


def checkpoint_path(gitdir: str, *, archive_dir: str = "", close_log: bool = False) -> CheckpointReport:
    """Make a checkpoint of the repository whose git folder is `gitdir`. Raises GovcError, OSError."""
    site = load_site(gitdir)
    journal, _ = open_journal(site, JournalOptions(archive_dir=archive_dir))
    try:
        return checkpoint(journal, site, close_log=close_log)
    finally:
        journal.close()


def load_site(gitdir: str) -> Site:
    """Return where records of a repository are applied, read from disk. Raises GovcError, OSError."""
    options = JournalOptions()
    commondir = find_commondir(gitdir)
    config = load_config(environ=os.environ, gitdir=gitdir, commondir=commondir).config
    layout = read_layout(gitdir, config)
    database = open_ref_backend(layout.ref_storage, layout.refs_gitdir, layout.refs_commondir, layout.algo)
    return Site.of(layout, config, database, options.sleep)


def _count_nothing(_what: str, _number: float) -> None:
    """Count nothing: where nobody asks for metrics."""


class CheckpointSchedule:
    """Starts checkpoints for the repositories of this process."""

    def __init__(
        self,
        runtime: Runtime,
        slots: HelperSlots | None,
        *,
        bytes_min: int,
        seconds: int,
        archive_dir: str,
        count: Callable[[str, float], None] = _count_nothing,
    ) -> None:
        """`slots` None: this process ends with its request. `count` is told "checkpoints" and "failed_checkpoints"."""
        self._count = count
        self._runtime = runtime
        self._slots = slots
        self._bytes_min = bytes_min
        self._seconds = seconds
        self._archive_dir = archive_dir
        self._waiting: dict[str, ref[Repository]] = {}
        """The folders whose checkpoint is planned, and through which repository the last push went."""
        self._running: set[str] = set()

    def note_push(self, repository: Repository, options: JournalOptions) -> None:
        """A push has gone through the log: start or plan a checkpoint."""
        try:
            tail = repository.journal(options).log.tail()
        except (GovcError, OSError) as error:
            log.warning("%s: no checkpoint: %s", repository.gitdir, error)
            return
        task = CheckpointTask(gitdir=repository.gitdir, archive_dir=self._archive_dir)
        if tail is not None and tail.log_size >= self._bytes_min:
            self._start(task)
        elif self._runtime.later is not None:
            gitdir = repository.gitdir
            is_planned = gitdir in self._waiting
            self._waiting[gitdir] = ref(repository)
            if not is_planned:
                self._runtime.later(self._seconds, lambda: self._when_due(gitdir))

    def _when_due(self, gitdir: str) -> None:
        known = self._waiting.pop(gitdir)
        self._run(CheckpointTask(gitdir=gitdir, archive_dir=self._archive_dir, close_log=True))
        self._let_go(known)

    def _let_go(self, known: "ref[Repository]") -> None:
        """Keep no segment open that was retired, here or elsewhere: looked at again as long as there is one in use.

        Who is dropped meanwhile closes its log by itself, and isn't kept for this.
        """
        repository = known()
        journal = repository.current_journal() if repository is not None else None
        if repository is None or journal is None or self._runtime.later is None or repository.gitdir in self._waiting:
            return  # closed, or looked at when the checkpoint that waits is due
        is_in_use = True
        try:
            is_in_use = self._runtime.call_blocking(journal.log.let_go_of_retired)
        except OSError as error:  # one that was just closed elsewhere, too
            log.info("%s: retired segments stay open for now: %s", repository.gitdir, error)
        if is_in_use:
            self._runtime.later(self._seconds, lambda: self._let_go(known))

    def _start(self, task: CheckpointTask) -> None:
        if self._slots is None or self._runtime.later is None:
            start_detached(Job("checkpoint", task))
            return
        if task.gitdir not in self._running:
            self._running.add(task.gitdir)
            self._runtime.later(0, lambda: self._run(task))

    def _run(self, task: CheckpointTask) -> None:
        """Run one and wait for it: beside what is asked. May switch."""
        try:
            if not os.path.isdir(task.gitdir):
                return
            if self._slots is None:
                make = partial(checkpoint_path, archive_dir=task.archive_dir, close_log=task.close_log)
                report = self._runtime.call_blocking(make, task.gitdir)
            else:
                report = drain(run_helper(Job("checkpoint", task), slots=self._slots))
            self._count("checkpoints", 1)
            log.info("%s: checkpoint: %s", task.gitdir, report)
        except (GovcError, OSError) as error:
            self._count("failed_checkpoints", 1)
            log.error("%s: checkpoint failed: %s", task.gitdir, error)
        finally:
            self._running.discard(task.gitdir)

    def finish(self, repository: Repository, options: JournalOptions) -> None:
        """Checkpoint a repository at a clean end, and retire its log, when this process has written to it. Blocks."""
        if not (repository.has_journal and os.path.isdir(repository.gitdir)):
            return
        try:
            checkpoint(repository.journal(options), repository.site(options.sleep), close_log=True)
            self._count("checkpoints", 1)
        except (GovcError, OSError) as error:
            self._count("failed_checkpoints", 1)
            log.error("%s: checkpoint failed: %s", repository.gitdir, error)
