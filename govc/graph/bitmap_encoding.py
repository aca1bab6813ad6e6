"""A bitmap file's bytes; `bitmap_file` has the layout and reads it.

The lookup table lets git find one set without reading the entries before it; the name-hash cache has a number per
object, in the order of the index, that says how its path ends: what git's search for deltas sorts by.

Source: gitformat-bitmap "On-disk format", "Commit lookup table", "Name-hash cache"; git's pack-bitmap-write.c.
"""

import struct
from array import array
from collections.abc import Iterator, Sequence

from govc.graph.bitmap_file import FULL_DAG, HASH_CACHE, LOOKUP_TABLE, SIGNATURE, VERSION
from govc.graph.bitmap_sets import Bitmaps, Entry
from govc.graph.ewah import encode_ewah
from govc.pack.chunks import big_endian
from govc.protocol.oid import HashAlgorithm

_HEADER = struct.Struct(">4sHHI")
_ENTRY = struct.Struct(">IBB")
_LOOKUP = struct.Struct(">IQI")
_NO_BASE = 0xFFFFFFFF


def encode_bitmap_file(
    bitmaps: Bitmaps,
    algo: HashAlgorithm,
    object_count: int,
    index_checksum: bytes,
    *,
    name_hashes: "array[int] | None" = None,
    has_lookup_table: bool = False,
) -> Iterator[bytes]:
    """Yield the file in pieces; the last one is the checksum of the others.

    `index_checksum`: of the pack or multi-pack-index; `name_hashes`: array of "I" by place.
    """
    hasher = algo.new()
    for piece in _iter_pieces(bitmaps, object_count, index_checksum, name_hashes, has_lookup_table):
        hasher.update(piece)
        yield piece
    yield hasher.digest()


def _iter_pieces(
    bitmaps: Bitmaps,
    object_count: int,
    index_checksum: bytes,
    name_hashes: "array[int] | None",
    has_lookup_table: bool,
) -> Iterator[bytes]:
    options = FULL_DAG
    options |= HASH_CACHE if name_hashes is not None else 0
    options |= LOOKUP_TABLE if has_lookup_table else 0
    head = _HEADER.pack(SIGNATURE, VERSION, options, len(bitmaps.entries)) + index_checksum
    head += b"".join(encode_ewah(bitmaps.types[number], object_count) for number in (1, 2, 3, 4))
    yield head
    positions = []
    at = len(head)
    for entry in bitmaps.entries:
        positions.append(at)
        piece = _ENTRY.pack(entry.place, entry.xor_offset, 0) + entry.words
        at += len(piece)
        yield piece
    if has_lookup_table:
        yield _lookup_table(bitmaps.entries, positions)
    if name_hashes is not None:
        yield big_endian(name_hashes)


def _lookup_table(entries: Sequence[Entry], positions: Sequence[int]) -> bytes:
    """Return the rows in the order of the commits' places: place, position in the file, row of the base."""
    ranked = sorted(range(len(entries)), key=lambda number: entries[number].place)
    row_of = {number: row for row, number in enumerate(ranked)}
    rows = []
    for number in ranked:
        entry = entries[number]
        base_row = row_of[number - entry.xor_offset] if entry.xor_offset else _NO_BASE
        rows.append(_LOOKUP.pack(entry.place, positions[number], base_row))
    return b"".join(rows)
