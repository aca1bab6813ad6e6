"""Which packs lie in an objects folder.

A pack is a `*.idx` with a `*.pack` beside it, whatever else the name says (git takes any). Files that git
and we write under temporary names don't end so. Whether a folder changed since it was listed is `govc.watch`'s affair.
"""

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from govc.odb.packs import SIDE_SUFFIXES


class Names(NamedTuple):
    """What one pack folder holds: the inode of each name, as the folder tells them without another question.

    Two with equal inodes list the same files. `has_links`: what a symbolic link leads to may change all the same.
    """

    inodes: Mapping[str, int]
    has_links: bool


class Listed(NamedTuple):
    """A pack in a listing: the suffixes of its side files; the inode of the .pack by the folder's word."""

    side_files: frozenset[str]
    inode: int


NO_NAMES = Names({}, False)


def read_names(objects_dir: str, before: Names = NO_NAMES) -> Names:
    """Return what lies in `objects_dir`/pack; nothing when there is no such folder. OSError when it can't be read.

    `before` is returned again when nothing is different.
    """
    try:
        with os.scandir(f"{objects_dir}/pack") as iterator:
            entries = list(iterator)
    except (FileNotFoundError, NotADirectoryError):
        return NO_NAMES
    inodes = {entry.name: entry.inode() for entry in entries}
    if inodes == before.inodes:
        return before
    if before.has_links or not before.inodes:
        return Names(inodes, any(entry.is_symlink() for entry in entries))
    # What a folder says of a name and its inode stays true: of the others it was asked before.
    new = inodes.items() - before.inodes.items()
    return Names(inodes, any(os.path.islink(f"{objects_dir}/pack/{name}") for name, _ in new))


def changed_stems(before: Names, now: Names) -> frozenset[str]:
    """Return the names, without suffix, of which some file came, went, or is another."""
    return frozenset(os.path.splitext(name)[0] for name, _ in before.inodes.items() ^ now.inodes.items())


def pair_up(objects_dir: str, names: Names, stems: Iterable[str] | None = None) -> dict[str, Listed]:
    """Return the packs among those names (of all `stems`), by the path of each .pack, in the order of their names."""
    inodes = names.inodes
    folder = f"{objects_dir}/pack"
    if stems is None:
        stems = (name[:-4] for name in inodes if name.endswith(".idx"))
    whole = sorted(stem for stem in stems if f"{stem}.idx" in inodes and f"{stem}.pack" in inodes)
    return {
        f"{folder}/{stem}.pack": Listed(
            frozenset(suffix for suffix in SIDE_SUFFIXES if stem + suffix in inodes), inodes[f"{stem}.pack"]
        )
        for stem in whole
    }


def list_packs(objects_dir: str) -> dict[str, frozenset[str]]:
    """Return the packs in `objects_dir`/pack: the path of each .pack, and the suffixes of its side files.

    Empty when there is no such folder. OSError when it can't be read.
    """
    listed = pair_up(objects_dir, read_names(objects_dir))
    return {path: found.side_files for path, found in listed.items()}
