"""Opening a journal: what a dead process or a power cut has left is recovered first.

Three cases, told apart by the machine's boot id in the shared state:

    clean            nothing waits to be published, every writer lives
    dead processes   `recovery`
    power cut        `power_cut`: or a restart of the machine, which is taken for one

Source: storage rules 18, 21 to 23.
"""

import logging
import os
from collections.abc import Callable

from govc.refs.lock import LockFailed
from govc.repo.journal import Journal, JournalOptions
from govc.repo.power_cut import recover_power_cut, start_new_log
from govc.repo.recovery import RecoveryReport, Site, finish_dead, finish_dead_locked, log_folder
from govc.wal.boot import boot_id
from govc.wal.errors import LogBlocked, LogFailed, LogForeign, check_home
from govc.wal.flock import Flocked
from govc.wal.owner import is_alive, iter_tokens
from govc.wal.state import peek_tail

log = logging.getLogger(__name__)


def has_log(commondir: str) -> bool:
    """Say whether there is a log, of which something might be to recover: one stat."""
    return os.path.isdir(log_folder(commondir).segments)


def may_need_recovery(commondir: str) -> bool:
    """Say whether opening this repository has to recover something first. Cheap: one stat for a clean one.

    Raises OSError.
    """
    if not has_log(commondir):
        return False
    folder = log_folder(commondir)
    tail = peek_tail(folder.state, boot_id())
    if tail is None or not tail.is_all_published:
        return True
    return any(not is_alive(folder.locks, token) for token in iter_tokens(folder.locks))


def open_journal(
    site: Site, options: JournalOptions, *, adopt: bool = False, cut: bool = False
) -> tuple[Journal, RecoveryReport]:
    """Open a repository's log for writing, recovering first. Raises LogError, OSError.

    `adopt`: replay a log that was made for another folder. `cut`: let a damaged log end where the damage begins.
    """
    journal = Journal(site.layout, options)
    journal.when_dead(lambda: finish_dead(journal, site))
    try:
        with Flocked(f"{journal.folder.root}/recovering", journal.file_mode):
            report = _recover(journal, site, adopt=adopt, cut=cut)
    except LockFailed as error:
        journal.close()
        raise LogBlocked(site.layout.commondir, error.public_text) from error
    except BaseException:
        journal.close()
        raise
    if report.kind != "clean":
        log.info("%s: log opened: %s", site.layout.gitdir, report)
    return journal, report


def _recover(journal: Journal, site: Site, *, adopt: bool, cut: bool) -> RecoveryReport:
    """Do what is to do before the log is used. Under the recovery lock."""
    report = RecoveryReport()
    tail = journal.log.tail()
    has_segments = os.path.isdir(journal.folder.segments)
    if tail is None:
        has_log = has_segments or os.path.exists(journal.folder.checkpoint)
        return recover_power_cut(journal, site, adopt=adopt, cut=cut) if has_log else start_new_log(journal, site)
    inode = os.stat(site.layout.commondir).st_ino
    if (adopt or cut) and has_segments:
        return recover_power_cut(journal, site, adopt=adopt, cut=cut)
    if has_segments:
        check_home(tail.inode, inode, journal.folder.root)
    elif tail.inode != inode:
        return start_new_log(journal, site)  # a copy of a repository whose log held nothing
    finish_dead_locked(journal, site, report)
    return report


def recover_for_reading(site_of: Callable[[], Site], commondir: str, options: JournalOptions) -> RecoveryReport | None:
    """Recover before a repository is read for the first time; None when nothing is to do.

    A read-only file system or missing permissions leave things as they are, and so does the log of another folder: a
    backup that was restored is served as it was saved. Raises LogDamaged, LogBlocked: a ref whose push was acknowledged
    is not shown as it was before.
    """
    try:
        if not may_need_recovery(commondir):
            return None
        journal, report = open_journal(site_of(), options)
    except (LogFailed, LogForeign, OSError) as error:
        log.warning("%s: not recovered, what is there is served: %s", commondir, error)
        return None
    journal.close()
    return report
