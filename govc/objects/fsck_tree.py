"""Is a received tree one that git would have written, and one that is safe to check out?

What: form, order and names of the entries; which entries are files that git itself reads. Not here: the contents of
those (`fsck_gitmodules`, `fsck_attributes`), which names are look-alikes (`dotgit`).

Whole columns are looked at in C; entries are walked one by one only in trees that aren't plainly good. A tree that
stops parsing is `badTree`; what stands before the damage is still judged, as in git. An empty name is such damage
(git never gets to print `emptyName`).

Source: git's fsck.c fsck_tree and verify_ordered, tree-walk.c decode_tree_entry; git-fsck "Fsck messages".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import lt

from govc.objects.dotgit import (
    DotFile,
    count_backslashed_gitmodules,
    is_dot_file,
    is_dotgit,
    may_hold_lookalikes,
)
from govc.objects.fsck_messages import FsckMessage, Report
from govc.protocol.oid import HashAlgorithm

_Entry = tuple[bytes, bytes, bytes]  # mode in octal digits, name, raw oid

_FORMAT_MASK = 0o170000
_DIRECTORY = 0o040000
_SYMLINK = 0o120000
_GOOD_MODES = frozenset((0o100755, 0o100644, 0o120000, 0o040000, 0o160000))
_GROUP_WRITABLE = 0o100664  # written by early versions of git

_ENTRIES = {
    size: (
        re.compile(rb"(?:[0-7]++ [^\0]++\0.{%d})*" % size, re.DOTALL),
        re.compile(rb"([0-7]++) ([^\0]++)\0(.{%d})" % size, re.DOTALL),
    )
    for size in (20, 32)
}

_TEXTS = {
    FsckMessage.NULL_SHA1: b"contains entries pointing to null sha1",
    FsckMessage.FULL_PATHNAME: b"contains full pathnames",
    FsckMessage.HAS_DOT: b"contains '.'",
    FsckMessage.HAS_DOTDOT: b"contains '..'",
    FsckMessage.HAS_DOTGIT: b"contains '.git'",
    FsckMessage.ZERO_PADDED_FILEMODE: b"contains zero-padded file modes",
    FsckMessage.BAD_FILEMODE: b"contains bad file modes",
    FsckMessage.DUPLICATE_ENTRIES: b"contains duplicate file entries",
    FsckMessage.TREE_NOT_SORTED: b"not properly sorted",
    FsckMessage.LARGE_PATHNAME: b"contains excessively large pathname",
}

_LINKS = (
    (DotFile.GITMODULES, FsckMessage.GITMODULES_SYMLINK, b".gitmodules is a symbolic link"),
    (DotFile.GITATTRIBUTES, FsckMessage.GITATTRIBUTES_SYMLINK, b".gitattributes is a symlink"),
    (DotFile.GITIGNORE, FsckMessage.GITIGNORE_SYMLINK, b".gitignore is a symlink"),
    (DotFile.MAILMAP, FsckMessage.MAILMAP_SYMLINK, b".mailmap is a symlink"),
)


@dataclass(slots=True)
class SpecialBlobs:
    """The oids of what trees call `.gitmodules` and `.gitattributes`: contents still to be checked."""

    gitmodules: set[bytes] = field(default_factory=set)
    gitattributes: set[bytes] = field(default_factory=set)


def _mode_of(digits: bytes) -> int:
    """Return the mode as git keeps it: sixteen bits."""
    return int(digits[-6:], 8) & 0xFFFF


def _split(content: bytes, oid_size: int) -> tuple[list[_Entry], bool]:
    """Return the entries that parse and whether they are all."""
    whole, entry = _ENTRIES[oid_size]
    match = whole.match(content)
    end = match.end() if match is not None else 0
    if end == len(content):
        return entry.findall(content), True
    if len(content) < oid_size + 3 or content[-(oid_size + 1)] != 0:
        return [], False  # git looks at the end before it reads the first entry
    return entry.findall(content, 0, end), False


def check_tree(
    content: bytes,
    algo: HashAlgorithm,
    report: Report,
    special: SpecialBlobs,
    *,
    strict: bool,
    entry_bytes_max: int,
) -> None:
    """Report on one tree and note its special blobs.

    `strict` counts mode 100664 as bad; names longer than `entry_bytes_max` are large.
    """
    entries, is_whole = _split(content, algo.oid_size)
    modes, names, oids = zip(*entries, strict=True) if entries else ((), (), ())
    joined = b"\0".join(names)
    has_dotgit = may_hold_lookalikes(joined) and _check_names(entries, report, special)
    if not is_whole:
        report(FsckMessage.BAD_TREE, b"cannot be parsed as a tree")
    # git drops out before it looks at mode and order of the entry before the damage.
    judged = entries if is_whole else entries[:-1]
    has_duplicates, is_unsorted = _check_order(judged, b"/" in joined)
    all_names = set(names)
    findings = (
        (algo.zero in oids, FsckMessage.NULL_SHA1),
        (b"/" in joined, FsckMessage.FULL_PATHNAME),
        (b"." in all_names, FsckMessage.HAS_DOT),
        (b".." in all_names, FsckMessage.HAS_DOTDOT),
        (has_dotgit, FsckMessage.HAS_DOTGIT),
        (any(mode.startswith(b"0") for mode in set(modes)), FsckMessage.ZERO_PADDED_FILEMODE),
        (_has_bad_mode(modes[: len(judged)], strict), FsckMessage.BAD_FILEMODE),
        (has_duplicates, FsckMessage.DUPLICATE_ENTRIES),
        (is_unsorted, FsckMessage.TREE_NOT_SORTED),
        (max(map(len, names), default=0) > entry_bytes_max, FsckMessage.LARGE_PATHNAME),
    )
    for is_found, message in findings:
        if is_found:
            report(message, _TEXTS[message])


def _has_bad_mode(digits: Sequence[bytes], strict: bool) -> bool:
    modes = set(map(_mode_of, set(digits))) - _GOOD_MODES
    if not strict:
        modes.discard(_GROUP_WRITABLE)
    return bool(modes)


def _check_names(entries: Sequence[_Entry], report: Report, special: SpecialBlobs) -> bool:
    """Report links that git would follow, note special blobs; return whether some name is a `.git`."""
    has_dotgit = False
    for digits, name, oid in entries:
        if not may_hold_lookalikes(name):
            continue
        has_dotgit = has_dotgit or is_dotgit(name)
        is_link = _mode_of(digits) & _FORMAT_MASK == _SYMLINK
        if is_link:
            _report_links(name, report)
            continue
        if is_dot_file(name, DotFile.GITMODULES) or count_backslashed_gitmodules(name):
            special.gitmodules.add(oid)
        if is_dot_file(name, DotFile.GITATTRIBUTES):
            special.gitattributes.add(oid)
    return has_dotgit


def _report_links(name: bytes, report: Report) -> None:
    for file, message, text in _LINKS:
        if is_dot_file(name, file):
            report(message, text)
    for _ in range(count_backslashed_gitmodules(name)):
        report(*_LINKS[0][1:])


def _check_order(entries: Sequence[_Entry], has_slashes: bool) -> tuple[bool, bool]:
    """Return (some name comes twice, the order is not git's)."""
    is_directory = {mode: _mode_of(mode) & _FORMAT_MASK == _DIRECTORY for mode in {e[0] for e in entries}}
    keys = [name + b"/" if is_directory[mode] else name for mode, name, _ in entries]
    names = {name for _, name, _ in entries}
    if not has_slashes and len(names) == len(entries) and all(map(lt, keys, keys[1:])):
        return False, False
    return _walk_order([(name, is_directory[mode]) for mode, name, _ in entries])


def _walk_order(entries: Sequence[tuple[bytes, bool]]) -> tuple[bool, bool]:
    """Compare neighbours as git does, and keep the files that a directory further down may repeat."""
    has_duplicates = is_unsorted = False
    candidates: list[bytes] = []
    for (name1, is_directory1), (name2, is_directory2) in pairwise(entries):
        size = min(len(name1), len(name2))
        start1, start2 = name1[:size], name2[:size]
        if start1 != start2:
            is_unsorted = is_unsorted or start1 > start2
            continue
        if len(name1) == len(name2):
            has_duplicates = True
            continue
        next1 = name1[size] if len(name1) > size else 0x2F if is_directory1 else 0
        next2 = name2[size] if len(name2) > size else 0x2F if is_directory2 else 0
        if not next1 and 0 < next2 < 0x2F:
            candidates.append(name1)
        elif next2 == 0x2F and 0 < next1 < 0x2F and _take_candidate(candidates, name2):
            has_duplicates = True
            continue
        is_unsorted = is_unsorted or next1 >= next2
    return has_duplicates, is_unsorted


def _take_candidate(candidates: list[bytes], directory: bytes) -> bool:
    """Drop files that nothing further down can repeat; return whether one has the directory's name."""
    while candidates:
        file = candidates.pop()
        if not directory.startswith(file):
            continue
        if len(file) == len(directory):
            return True
        if 0 < directory[len(file)] < 0x2F:
            candidates.append(file)
            return False
    return False
