"""At start: recover the repositories whose log holds something, before a request asks for them.

A cron `git gc` may run on refs that a power cut has torn, so it isn't left to the first request. A clean repository
costs one stat: the folder of log segments is there only while they hold something.

Source: storage rule 23.
"""

import logging
import os
from collections.abc import Iterator

from govc.errors import GovcError
from govc.repo.checkpoint_schedule import load_site
from govc.repo.journal import FOLDER, JournalOptions
from govc.repo.open_journal import may_need_recovery, open_journal
from govc.repo.recovery import RecoveryReport

log = logging.getLogger(__name__)

DEPTH_MAX = 8


def iter_unretired(root: str) -> Iterator[str]:
    """Yield the git folders below `root` whose log has segments."""
    return _iter_with(root, f"{FOLDER}/log", DEPTH_MAX)


def iter_logged(root: str) -> Iterator[str]:
    """Yield the git folders below `root` that have a log, be it empty."""
    return _iter_with(root, FOLDER, DEPTH_MAX)


def _iter_with(root: str, wanted: str, depth: int) -> Iterator[str]:
    """Yield the folders below `root` that have `wanted` in them. What can't be read is passed over, as not served."""
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") and entry.name != ".git":
            continue
        path = entry.path
        if os.path.isdir(f"{path}/{wanted}"):
            yield path
        elif depth > 1 and not entry.name.endswith(".git") and _is_plain_folder(entry):
            yield from _iter_with(path, wanted, depth - 1)


def _is_plain_folder(entry: "os.DirEntry[str]") -> bool:
    """Say whether there may be repositories below: a folder, no link, and no repository itself."""
    try:
        return entry.is_dir(follow_symlinks=False) and not os.path.exists(f"{entry.path}/HEAD")
    except OSError:
        return False


def recover_all(root: str, options: JournalOptions) -> dict[str, RecoveryReport | str]:
    """Recover what needs it; return, by git folder, what was done or why it failed."""
    done: dict[str, RecoveryReport | str] = {}
    for gitdir in iter_unretired(root):
        try:
            site = load_site(gitdir)
            if not may_need_recovery(site.layout.commondir):
                continue
            journal, report = open_journal(site, options)
            journal.close()
            done[gitdir] = report
        except (GovcError, OSError) as error:
            log.error("%s: not recovered: %s", gitdir, error)
            done[gitdir] = str(error)
    return done
