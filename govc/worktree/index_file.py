"""The index of a work tree: which file is in which version, and how it looked on the disk.

    DIRC  version 2 to 4  count of entries
    entry ...      ten numbers (ctime, mtime: seconds and nanoseconds; dev, ino, mode, uid, gid, size), oid, flags, path
    extensions     4 letters, a length, content; those in capitals may be passed over
    checksum       zeros where it was skipped (index.skipHash)

    flags   1 bit: assume valid   1: more flags follow (version 3)   2: stage   12: length of the path, 4095 at most
    more    1 bit: reserved       1: skip-worktree   1: intent to add

Paths end at a NUL; before version 4 up to seven more fill the entry to eight bytes; in version 4 a path is how many
bytes to take off the path before it, and what to add.

Read: all of it. Written: version 2, or 3 where an entry has more flags, without extensions: they are caches of git's.

Source: gitformat-index; git's read-cache.c.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from govc.errors import Corrupt
from govc.protocol.oid import HashAlgorithm

SIGNATURE = b"DIRC"
MODE_FILE, MODE_LINK, MODE_GITLINK = 0o100000, 0o120000, 0o160000
FORMAT_MASK = 0o170000

_HEADER = struct.Struct(">4sII")
_STAT = struct.Struct(">10I")
_ASSUME_VALID, _EXTENDED, _STAGE, _NAME_MASK = 0x8000, 0x4000, 0x3000, 0x0FFF
_SKIP_WORKTREE, _INTENT_TO_ADD = 0x4000, 0x2000


class CorruptIndex(Corrupt):
    """An index that makes no sense, or that needs more than is known here."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"index file: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One path. `stat` are the ten numbers as they are stored, mode among them; `stage` 0 unless it is unmerged."""

    path: bytes
    oid: bytes
    stat: tuple[int, ...]
    stage: int = 0
    assume_valid: bool = False
    skip_worktree: bool = False
    intent_to_add: bool = False

    @property
    def mode(self) -> int:
        """The mode, as in a tree."""
        return self.stat[6]


def parse_index(data: bytes, algo: HashAlgorithm) -> list[IndexEntry]:
    """Return the entries, in the order of the file. Raises CorruptIndex."""
    size = algo.oid_size
    if len(data) < _HEADER.size + size:
        raise CorruptIndex("cut short")
    signature, version, count = _HEADER.unpack_from(data)
    if signature != SIGNATURE or version not in (2, 3, 4):
        raise CorruptIndex("not of version 2, 3 or 4")
    end = len(data) - size
    trailer = data[end:]
    if any(trailer) and algo.new(data[:end]).digest() != trailer:
        raise CorruptIndex("the checksum is wrong")
    entries: list[IndexEntry] = []
    at = _HEADER.size
    before = b""
    for _ in range(count):
        entry, at = _parse_entry(data[:end] if not entries else data, at, version, before, size, end)
        before = entry.path
        entries.append(entry)
    _check_extensions(data, at, end)
    return entries


def _parse_entry(data: bytes, at: int, version: int, before: bytes, size: int, end: int) -> tuple[IndexEntry, int]:
    start = at
    if at + _STAT.size + size + 2 > end:
        raise CorruptIndex("cut short")
    stat = _STAT.unpack_from(data, at)
    at += _STAT.size
    oid = data[at : at + size]
    at += size
    flags = int.from_bytes(data[at : at + 2], "big")
    at += 2
    more = 0
    if flags & _EXTENDED:
        if version < 3:
            raise CorruptIndex("an entry of version 2 has flags of version 3")
        more = int.from_bytes(data[at : at + 2], "big")
        at += 2
    if version == 4:
        strip, at = _parse_varint(data, at, end)
        if strip > len(before):
            raise CorruptIndex("a path takes off more than there is")
        before = before[: len(before) - strip]
    else:
        before = b""
    nul = data.find(b"\0", at, end)
    if nul < 0:
        raise CorruptIndex("a path without an end")
    path = before + data[at:nul]
    at = nul + 1 if version == 4 else start + (nul - start) // 8 * 8 + 8
    return (
        IndexEntry(
            path=path,
            oid=oid,
            stat=stat,
            stage=(flags & _STAGE) >> 12,
            assume_valid=bool(flags & _ASSUME_VALID),
            skip_worktree=bool(more & _SKIP_WORKTREE),
            intent_to_add=bool(more & _INTENT_TO_ADD),
        ),
        at,
    )


def _parse_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The numbers of ofs-deltas: seven bits a byte, one added for each byte that follows."""
    value = -1
    while at < end and value < 1 << 32:
        value = value + 1 << 7 | data[at] & 0x7F
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise CorruptIndex("a number without an end")


def _check_extensions(data: bytes, at: int, end: int) -> None:
    """Pass over what is only a cache; refuse what changes the meaning (a split or a sparse index)."""
    while at < end:
        name = data[at : at + 4]
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        if at + 8 + length > end:
            raise CorruptIndex("an extension without an end")
        if not name[:1].isupper():
            raise CorruptIndex(f"extension {name.decode('ascii', 'replace')} is not known here")
        at += 8 + length


def encode_index(entries: Iterable[IndexEntry], algo: HashAlgorithm) -> bytes:
    """Return the file of these entries, sorted by path and stage."""
    ordered = sorted(entries, key=lambda entry: (entry.path, entry.stage))
    version = 3 if any(entry.skip_worktree or entry.intent_to_add for entry in ordered) else 2
    out = bytearray(_HEADER.pack(SIGNATURE, version, len(ordered)))
    for entry in ordered:
        start = len(out)
        out += _STAT.pack(*(number & 0xFFFFFFFF for number in entry.stat)) + entry.oid
        more = _SKIP_WORKTREE * entry.skip_worktree | _INTENT_TO_ADD * entry.intent_to_add
        flags = min(len(entry.path), _NAME_MASK) | entry.stage << 12 | _ASSUME_VALID * entry.assume_valid
        out += (flags | (_EXTENDED if more else 0)).to_bytes(2, "big")
        if more:
            out += more.to_bytes(2, "big")
        out += entry.path
        out += bytes(8 - (len(out) - start) % 8)
    return bytes(out) + algo.new(bytes(out)).digest()
