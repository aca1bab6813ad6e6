"""Reachability bitmaps that plain git wrote, beside a pack or a multi-pack-index: parsed, decoded when asked for.

    BITM  version 1  options  count of entries  checksum of the pack or multi-pack-index
    four bitmaps           which objects are commits, trees, blobs, tags
    entry ...              4 bytes: the commit's place in the index   1 byte: xor offset   1 byte: flags   bitmap
    pseudo-merges          sets of many commits (optional)
    lookup table           12 + 4 bytes an entry: place, position in the file, entry it is xored with (optional)
    name-hash cache        4 bytes an object (optional)
    checksum

A bit is a place in the order of the pack, of a multi-pack-index in its pseudo-pack order. A commit's bitmap has all
that the commit reaches, itself included; one with a xor offset n is xored with the entry n before it, and so on.

Not here: what the places mean (`repo.bitmaps`), and what is asked of the sets (`bitmap_closure`). Pseudo-merges are
passed over: they only save decoding.

Source: gitformat-bitmap; git's pack-bitmap.c, pack-bitmap-write.c.
"""

import struct
from dataclasses import dataclass

from govc.graph.ewah import CorruptBitmap, decode_ewah
from govc.protocol.oid import HashAlgorithm

SIGNATURE = b"BITM"
VERSION = 1
FULL_DAG = 0x1
HASH_CACHE = 0x4
LOOKUP_TABLE = 0x10
PSEUDO_MERGES = 0x20
KNOWN_OPTIONS = FULL_DAG | HASH_CACHE | LOOKUP_TABLE | PSEUDO_MERGES

XOR_OFFSET_MAX = 160
"""git's own limit."""

_HEADER = struct.Struct(">4sHHI")
_ENTRY = struct.Struct(">IBB")
_LOOKUP_BYTES = 16


@dataclass(slots=True)
class _Entry:
    """A commit's bitmap in the file; `value` once it was decoded."""

    start: int
    base: int
    value: int | None = None


class BitmapFile:
    """One file. `types`: the four sets of types, by type number 1 to 4 (commit, tree, blob, tag)."""

    def __init__(self, data: bytes | memoryview, algo: HashAlgorithm, object_count: int) -> None:
        """Parse all but the entries' own words; `object_count` bounds every set. Raises CorruptBitmap."""
        self._data = memoryview(data)
        self._bits = object_count
        size = algo.oid_size
        if len(self._data) < _HEADER.size + 2 * size:
            raise CorruptBitmap("cut short")
        signature, version, options, self.entry_count = _HEADER.unpack_from(self._data)
        if signature != SIGNATURE or version != VERSION:
            raise CorruptBitmap("not a bitmap of version 1")
        if not options & FULL_DAG or options & ~KNOWN_OPTIONS:
            raise CorruptBitmap(f"options {options:#x} are not known")
        if self.entry_count > object_count:
            raise CorruptBitmap("more entries than objects")
        at = _HEADER.size + size
        self.index_checksum = bytes(self._data[_HEADER.size : at])
        end = len(self._data) - size
        if options & HASH_CACHE:
            end -= 4 * object_count
        if options & LOOKUP_TABLE:
            end -= _LOOKUP_BYTES * self.entry_count
        if end < at:
            raise CorruptBitmap("cut short")
        self._end = end
        self.types: dict[int, int] = {}
        for type_number in (1, 2, 3, 4):
            self.types[type_number], at = self._decode(at)
        self._entries = self._scan(at)

    def _decode(self, at: int) -> tuple[int, int]:
        # git rounds the room of a set up to whole words.
        value, behind = decode_ewah(self._data[: self._end], at, bits_max=(self._bits + 63) // 64 * 64)
        if value >> self._bits:
            raise CorruptBitmap("bits beyond the last object")
        return value, behind

    def _scan(self, at: int) -> dict[int, _Entry]:
        """Find the entries: place in the index to where its set begins."""
        found: dict[int, _Entry] = {}
        places: list[int] = []
        for number in range(self.entry_count):
            if at + _ENTRY.size + 8 > self._end:
                raise CorruptBitmap("cut short")
            place, xor_offset, _flags = _ENTRY.unpack_from(self._data, at)
            if place >= self._bits or place in found or xor_offset > min(number, XOR_OFFSET_MAX):
                raise CorruptBitmap("an entry makes no sense")
            start = at + _ENTRY.size
            found[place] = _Entry(start, places[number - xor_offset] if xor_offset else -1)
            places.append(place)
            words = int.from_bytes(self._data[start + 4 : start + 8], "big")
            at = start + 8 + 8 * words + 4
            if at > self._end:
                raise CorruptBitmap("cut short")
        return found

    def has(self, place: int) -> bool:
        """Say whether the commit at a place of the index has a set of its own."""
        return place in self._entries

    def reachable(self, place: int) -> int:
        """Return what the commit at a place of the index reaches. Raises KeyError, CorruptBitmap."""
        waiting = []
        entry = self._entries[place]
        while entry.value is None:
            waiting.append(entry)
            if entry.base < 0:
                break
            entry = self._entries[entry.base]
        while waiting:
            lower = waiting.pop()
            value, _ = self._decode(lower.start)
            if lower.base >= 0:
                base = self._entries[lower.base].value
                assert base is not None
                value ^= base
            lower.value = value
        value_now = self._entries[place].value
        assert value_now is not None
        return value_now

    def places(self) -> list[int]:
        """Return the places of the commits that have sets, in the order of the file."""
        return list(self._entries)
