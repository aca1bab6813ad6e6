"""What killed processes left in an objects folder: found by age, removed by maintenance.

    objects/tmp_objdir-incoming-*    a quarantine whose process is gone (see quarantine)
    objects/pack/pack-*.keep         ours, by its text: it outlived the push that it protected, and its pack would
                                     never be merged again
    objects/pack/tmp_*               packs and indexes that were being written; git's own too, as `git prune` does

Nothing younger than a day is touched. Lock files of refs stay: nobody can tell whether the owner of plain
git's lives, and ours are removed by `repo.recovery`.
"""

import logging
import os
import time
from collections.abc import Callable

from govc.odb.quarantine import KEEP_PREFIX, STALE_SECONDS, remove_stale_quarantines, stale_quarantines

log = logging.getLogger(__name__)


def find_leftovers(objects_dir: str, *, now_seconds: float | None = None) -> list[str]:
    """Return the paths of what nobody will miss. Raises OSError when `objects_dir` can't be listed."""
    return [*stale_quarantines(objects_dir, now_seconds=now_seconds), *_stale_files(objects_dir, now_seconds)]


def remove_leftovers(objects_dir: str, *, now_seconds: float | None = None) -> list[str]:
    """Remove what `find_leftovers` finds, and return it."""
    removed = remove_stale_quarantines(objects_dir, now_seconds=now_seconds)
    for path in _stale_files(objects_dir, now_seconds):
        try:
            os.unlink(path)
        except OSError as error:
            log.warning("unable to remove %s: %s", path, error)
        else:
            removed.append(path)
    return removed


def _stale_files(objects_dir: str, now_seconds: float | None) -> list[str]:
    now = time.time() if now_seconds is None else now_seconds
    folder = f"{objects_dir}/pack"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    suspects: dict[str, Callable[[str], bool]] = {
        **{name: _is_our_keep for name in names if name.endswith(".keep")},
        **{name: os.path.isfile for name in names if name.startswith("tmp_")},
    }
    return sorted(
        path
        for name, is_ours in suspects.items()
        if _age_seconds(path := f"{folder}/{name}", now) >= STALE_SECONDS and is_ours(path)
    )


def _age_seconds(path: str, now: float) -> float:
    """Return the time since the last change; a file that is gone was touched just now."""
    try:
        return now - os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _is_our_keep(path: str) -> bool:
    """An admin's .keep, or that of a `git receive-pack`, has another text."""
    try:
        with open(path, "rb") as file:
            return file.read(len(KEEP_PREFIX)) == KEEP_PREFIX.encode("ascii")
    except OSError:
        return False
