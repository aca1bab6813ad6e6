"""Leaving: the log is emptied into git's own files and removed, and nothing of ours is left in a repository.

checkpoint → verify → remove `govc/`. Afterwards git-http-backend, or anything else, can serve it.

Source: storage rule 26.
"""

import os
import secrets
import shutil
from dataclasses import dataclass

from govc import disk
from govc.repo.checkpointing import checkpoint
from govc.repo.journal import JournalOptions
from govc.repo.open_journal import open_journal
from govc.repo.recovery import Site, log_folder
from govc.wal.errors import LogError
from govc.wal.owner import is_alive, iter_tokens
from govc.wal.place import LogFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireReport:
    """What was done: `was_there` says whether there was a log at all, `sequence` its last record."""

    was_there: bool
    sequence: int = 0


class NotRetired(LogError):
    """The log can't be removed now; the text says why."""


def retire(site: Site, options: JournalOptions) -> RetireReport:
    """Make everything durable in git's own files and remove the log. Raises LogError, OSError.

    Raises NotRetired while another process has the log open: a push could be under way.
    """
    folder = log_folder(site.layout.commondir)
    if not os.path.isdir(folder.root):
        return RetireReport(was_there=False)
    journal, _ = open_journal(site, options)
    try:
        _check_unused(folder, journal.log.owner.token)
        report = checkpoint(journal, site, close_log=True)
        with journal.log.append_lock():  # nobody appends between the last look and the end
            _check_unused(folder, journal.log.owner.token)
            tail = journal.log.tail()
            if tail is None or tail.offset or not tail.is_all_published:
                raise NotRetired(f"{folder.root}: records came in meanwhile; try again")
            # Out of the way in one step: a process that comes now begins a new log.
            doomed = f"{folder.root}.retired-{secrets.token_hex(4)}"
            disk.rename(folder.root, doomed)
    finally:
        journal.close()
    shutil.rmtree(doomed)
    return RetireReport(was_there=True, sequence=report.sequence)


def _check_unused(folder: LogFolder, own_token: bytes) -> None:
    """Raise NotRetired when another process has the log open."""
    living = [token for token in iter_tokens(folder.locks) if is_alive(folder.locks, token)]
    others = [token for token in living if token != own_token]
    if others:
        raise NotRetired(f"{folder.root}: {len(others)} other process(es) have the log open; stop the server first")


def discard(site: Site) -> str:
    """Set a log aside without replaying it, and return where it lies now. The refs stay as they are. OSError."""
    folder = log_folder(site.layout.commondir)
    kept = f"{folder.root}.set-aside-{secrets.token_hex(4)}"
    disk.rename(folder.root, kept)
    return kept
