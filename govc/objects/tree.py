"""The entries of a tree: `<octal mode> SP <name> NUL <raw oid>`, repeated to the end.

A tree is read whole or refused: the first expression walks it from end to end (possessively, so in linear
time whatever a peer sends), the second then cuts it up in C. Order and duplicates are fsck's business, not
ours.

Source: git's tree-walk.c decode_tree_entry and get_mode; cache.h canon_mode for what a mode means.
"""

import re
from typing import NamedTuple

from govc.objects.errors import MalformedObject
from govc.protocol.oid import HashAlgorithm

_FORMAT_MASK = 0o170000
_DIRECTORY = 0o040000
_REGULAR = 0o100000
_SYMLINK = 0o120000


class TreeEntry(NamedTuple):
    """One entry: the mode as written (100644 octal, say), the name of one path component, the raw oid."""

    mode: int
    name: bytes
    oid: bytes


def _compile(oid_size: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    whole = re.compile(rb"(?:[0-7]{1,11}+ [^\0]++\0.{%d})*" % oid_size, re.DOTALL)
    entry = re.compile(rb"([0-7]++) ([^\0]++)\0(.{%d})" % oid_size, re.DOTALL)
    return whole, entry


_PATTERNS = {oid_size: _compile(oid_size) for oid_size in (20, 32)}

_COMMON_MODES = {text: int(text, 8) for text in (b"100644", b"40000", b"100755", b"120000", b"160000")}


def is_tree(mode: int) -> bool:
    """Tell whether an entry of that mode names a tree."""
    return mode & _FORMAT_MASK == _DIRECTORY


def is_gitlink(mode: int) -> bool:
    """Tell whether an entry names a commit of another repository, which nobody follows.

    As in git, everything that is no file, no symbolic link and no directory counts as one.
    """
    return mode & _FORMAT_MASK not in (_DIRECTORY, _REGULAR, _SYMLINK)


def _explain(data: bytes, end: int, oid_size: int) -> str:
    """Return why no entry could be read at `end`."""
    if len(data) - end < oid_size + 4:
        return "truncated entry"
    space = data.find(b" ", end, end + 12)
    if space <= end or data[end:space].strip(b"01234567"):
        return "malformed mode"
    nul = data.find(b"\0", space + 1)
    if nul == space + 1:
        return "empty name"
    return "truncated entry"


def parse_tree(data: bytes, algo: HashAlgorithm) -> list[TreeEntry]:
    """Return the entries in the order written. Raises MalformedObject on anything that is not one."""
    whole, entry = _PATTERNS[algo.oid_size]
    match = whole.match(data)
    end = match.end() if match is not None else 0
    if end != len(data):
        raise MalformedObject("tree", f"{_explain(data, end, algo.oid_size)} at byte {end}")
    known = _COMMON_MODES.get
    entries = [TreeEntry(known(mode) or int(mode, 8), name, oid) for mode, name, oid in entry.findall(data)]
    for mode, name, _ in entries:
        if mode == 0:
            raise MalformedObject("tree", f"mode 0 of {name!r}")
    return entries
