"""Which packs lie in an objects folder, and whether the folder changed since it was last listed.

A pack is a `*.idx` with a `*.pack` beside it, whatever else the name says (git takes any). Files that git
and we write under temporary names don't end so.

A folder's stamp is trusted only when it is older than the grain of the file system's clock: something
created in the same tick would not change it (storage: "unsettled").
"""

import os
import time
from typing import NamedTuple

from govc.odb.packs import SIDE_SUFFIXES

_GRAIN_NS = 20_000_000
_COARSE_GRAIN_NS = 2_000_000_000
_SECOND_NS = 1_000_000_000


class FolderStamp(NamedTuple):
    """What `stat` said of a folder or file, and whether that can be relied on until it differs."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    is_settled: bool


def stamp_of(path: str) -> FolderStamp | None:
    """Return the stamp of what lies at `path`, None when nothing does."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    latest = max(status.st_mtime_ns, status.st_ctime_ns)
    grain = _GRAIN_NS if latest % _SECOND_NS else _COARSE_GRAIN_NS
    is_settled = time.time_ns() - latest > grain
    return FolderStamp(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, is_settled
    )


def is_unchanged(before: FolderStamp | None, now: FolderStamp | None) -> bool:
    """Tell whether nothing happened since `before` was taken. What wasn't there and isn't there is
    unchanged.
    """
    if before is None or now is None:
        return before is now
    return before.is_settled and before[:5] == now[:5]


def list_packs(objects_dir: str) -> dict[str, frozenset[str]]:
    """Return the packs in `objects_dir`/pack: the path of each .pack, and the suffixes of its side files.

    Empty when there is no such folder. OSError when it can't be read.
    """
    folder = f"{objects_dir}/pack"
    try:
        names = set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    stems = sorted(name[:-4] for name in names if name.endswith(".idx") and f"{name[:-4]}.pack" in names)
    return {
        f"{folder}/{stem}.pack": frozenset(suffix for suffix in SIDE_SUFFIXES if stem + suffix in names)
        for stem in stems
    }
