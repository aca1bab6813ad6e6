"""Thin entries of the newest history: all that the newest commits introduce, ready to be sent to who has the rest.

A fetch mostly asks for what came lately. For each commit, tree and blob of that there is an entry here as it is sent: a
delta on the version before at its path, or whole. Parents come before children, so that a run over the file from front
to back meets every base before what stands on it (`kernels/thin` says which entries are taken).

    "GVTH"      version 1, hash id, objects N, rows R, foreign names F, packs K (u32 each)     little-endian, as all
    packs       K checksums of the packs that were looked at
    names       N oids, ascending
    places      N u32: where each name's object stands in the file
    ranks       N u32: the rank of the name at each place
    kinds       N u8, by place: 1 commit, 2 tree, 3 blob, 4 tag
    starts      N+1 u32, by place: the first row of each object; the last is R
    bases       R u32: a smaller place, or 2^31 + rank of a foreign name, or 2^32-1 of an entry that is no delta
    foreign     F oids, of bases that the file doesn't have
    sizes       R u32: what the stream inflates to
    checksums   R u32: CRC-32 of the stream
    offsets     R+1 u64: where each stream begins in what follows
    streams     zlib
    checksum    the repository's hash over everything before the streams

Header and columns each begin at a multiple of eight bytes, zeros between. Derived, like segments: a file that is no
good is passed over, and made again. Opening one reads no stream: who sends one compares its CRC.
"""

import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

from govc.errors import GovcError
from govc.kernels.thin import AVAILABLE, FOREIGN, WHOLE, ThinFile
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm

MAGIC = b"GVTH"
VERSION = 1
_HEADER = struct.Struct("<4s6I")
_HASH_IDS = {SHA1.name: 1, SHA256.name: 2}
_CHUNK_BYTES = 1 << 20
_PACKS_AT = _HEADER.size + -_HEADER.size % 8
OBJECTS_MAX = 1 << 24
PACKS_MAX = 1 << 16
"""Names of packs that are read of a file that nobody has checked yet."""


class BadThin(GovcError):
    """A file that is no good."""


class Row(NamedTuple):
    """One entry: the name of what it stands on, None for a whole one; what the stream inflates to; the stream."""

    base: bytes | None
    size: int
    stream: bytes


class Item(NamedTuple):
    """One object with its entries, the nearest base first."""

    oid: bytes
    kind: int
    rows: Sequence[Row]


def _padded(piece: bytes) -> bytes:
    return piece + bytes(-len(piece) % 8)


def iter_encoded(items: Sequence[Item], packs: Sequence[bytes], algo: HashAlgorithm) -> Iterator[bytes]:
    """Yield the file in pieces, the checksum last. Bases that are items come first."""
    places = {item.oid: place for place, item in enumerate(items)}
    foreign: dict[bytes, int] = {}
    rows = [row for item in items for row in item.rows]
    bases = array("I")
    for place, item in enumerate(items):
        for row in item.rows:
            if row.base is None:
                bases.append(WHOLE)
            elif (base := places.get(row.base, place)) < place:
                bases.append(base)
            else:
                bases.append(FOREIGN + foreign.setdefault(row.base, len(foreign)))
    by_name = array("I", sorted(range(len(items)), key=lambda place: items[place].oid))
    ranks = array("I", bytes(4 * len(items)))
    for rank, place in enumerate(by_name):
        ranks[place] = rank
    hasher = algo.new()
    for piece in (
        _HEADER.pack(MAGIC, VERSION, _HASH_IDS[algo.name], len(items), len(rows), len(foreign), len(packs)),
        b"".join(packs),
        b"".join(items[place].oid for place in by_name),
        by_name.tobytes(),
        ranks.tobytes(),
        bytes(item.kind for item in items),
        array("I", accumulate((len(item.rows) for item in items), initial=0)).tobytes(),
        bases.tobytes(),
        b"".join(foreign),
        array("I", [row.size for row in rows]).tobytes(),
        array("I", [zlib.crc32(row.stream) for row in rows]).tobytes(),
        array("Q", accumulate((len(row.stream) for row in rows), initial=0)).tobytes(),
    ):
        hasher.update(_padded(piece))
        yield _padded(piece)
    yield from (row.stream for row in rows)
    yield hasher.digest()


@dataclass(frozen=True)
class ThinEntries:
    """One file that was read: `file` is what the kernel chooses from; None where that isn't compiled."""

    packs: frozenset[bytes]
    file: ThinFile | None
    columns: Sequence[memoryview] = field(repr=False)
    streams: memoryview = field(repr=False)
    oid_size: int = SHA1.oid_size

    def iter_rows(self) -> Iterator[tuple[bytes, Row]]:
        """Yield the deltas with their targets, but what is damaged."""
        names, _places, ranks, _kinds, starts, bases, foreign, sizes, checksums, offsets = self.columns
        size = self.oid_size
        rank_at, start_of, base_of, offset_of = ranks.cast("I"), starts.cast("I"), bases.cast("I"), offsets.cast("Q")
        size_of, checksum_of = sizes.cast("I"), checksums.cast("I")
        for place, rank in enumerate(rank_at):
            target = bytes(names[rank * size : (rank + 1) * size])
            for row in range(start_of[place], start_of[place + 1]):
                base, column = base_of[row], names
                if base == WHOLE:
                    continue
                if base >= FOREIGN:
                    base, column = base - FOREIGN, foreign
                else:
                    base = rank_at[base]
                stream = bytes(self.streams[offset_of[row] : offset_of[row + 1]])
                if zlib.crc32(stream) == checksum_of[row]:
                    yield target, Row(bytes(column[base * size : (base + 1) * size]), size_of[row], stream)


def parse_thin(buffer: Any, algo: HashAlgorithm) -> ThinEntries:
    """Return the file in a buffer (bytes, a map): about 1 ms for each MB of its columns. Raises BadThin."""
    view = memoryview(buffer)
    if sys.byteorder != "little" or len(view) < _HEADER.size + algo.oid_size:
        raise BadThin("too short")
    magic, version, hash_id, count, row_count, foreign_count, pack_count = _HEADER.unpack_from(view)
    if magic != MAGIC or version != VERSION or hash_id != _HASH_IDS[algo.name]:
        raise BadThin(f"not thin entries of version {VERSION} for {algo.name}")
    if max(count, row_count, foreign_count, pack_count) > OBJECTS_MAX:
        raise BadThin("more than such a file holds")
    size = algo.oid_size
    by_place = (4 * count, 4 * count, count, 4 * (count + 1))
    by_row = (4 * row_count, foreign_count * size, 4 * row_count, 4 * row_count, 8 * (row_count + 1))
    packs, *columns = _split(view, (pack_count * size, count * size, *by_place, *by_row), algo)
    try:
        file = ThinFile(size, *columns) if AVAILABLE else None
    except ValueError as error:
        raise BadThin(str(error)) from error
    names = frozenset(bytes(packs[at : at + size]) for at in range(0, len(packs), size))
    return ThinEntries(names, file, columns[:-1], columns[-1], size)


def _split(view: memoryview, sizes: Iterable[int], algo: HashAlgorithm) -> list[memoryview]:
    """Return the columns behind the header, and the streams, which follow them."""
    columns = []
    at = _PACKS_AT
    for size in sizes:
        columns.append(view[at : at + size])
        at += size + -size % 8
    if len(view) < at + algo.oid_size:
        raise BadThin("too short")
    hasher = algo.new()
    for start in range(0, at, _CHUNK_BYTES):
        hasher.update(view[start : min(start + _CHUNK_BYTES, at)])
    if hasher.digest() != view[-algo.oid_size :]:
        raise BadThin("checksum mismatch")
    columns.append(view[at : len(view) - algo.oid_size])
    return columns


def read_thin_packs(path: str, algo: HashAlgorithm) -> frozenset[bytes]:
    """Return for which packs a file says that it was made; nothing else is read or checked. BadThin, OSError."""
    with open(path, "rb", buffering=0) as file:
        header = file.read(_PACKS_AT)
        if len(header) < _PACKS_AT:
            raise BadThin("too short")
        magic, version, hash_id, *_counts, pack_count = _HEADER.unpack_from(header)
        if magic != MAGIC or version != VERSION or hash_id != _HASH_IDS[algo.name]:
            raise BadThin(f"not thin entries of version {VERSION} for {algo.name}")
        names = file.read(min(pack_count, PACKS_MAX) * algo.oid_size)
    return frozenset(names[at : at + algo.oid_size] for at in range(0, len(names), algo.oid_size))
