"""Which packs lie in an objects folder.

A pack is a `*.idx` with a `*.pack` beside it, whatever else the name says (git takes any). Files that git
and we write under temporary names don't end so. Whether a folder changed since it was listed is `govc.watch`'s affair.
"""

import os

from govc.odb.packs import SIDE_SUFFIXES


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
