"""Writing a pack's index (version 2, or 1 where pack.indexVersion asks for it) and its reverse index, in pieces.

    idx   \\377tOc  2  fan-out (256)  oids  CRC-32s  offsets  8-byte offsets  pack checksum  own checksum
    idx   fan-out (256)  (offset, oid) for each  pack checksum  own checksum                   (version 1)
    rev   RIDX  1  hash id  idx positions in the order of the pack  pack checksum  own checksum

All numbers are big-endian, four bytes but for the 8-byte offsets. The bytes are those that `git index-pack`
writes.

Source: gitformat-pack "Version 2 pack-*.idx files", "pack-*.rev files have the format".
"""

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from govc.pack.format import (
    HASH_IDS,
    INDEX_SIGNATURE,
    INDEX_VERSION,
    REVERSE_INDEX_SIGNATURE,
    REVERSE_INDEX_VERSION,
)
from govc.protocol.oid import HashAlgorithm

_OFFSET_SMALL_LIMIT = 1 << 31
_CHUNK_BYTES = 1 << 20
_FEW = 64


def _big_endian(numbers: "array[int]") -> bytes:
    if sys.byteorder == "little":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _split_offsets(offsets: "array[int]") -> "tuple[array[int], array[int]]":
    """Return the 4-byte column and the 8-byte table that it points into."""
    large: array[int] = array("Q")
    if fits_v1(offsets):
        return array("I", offsets), large
    small: array[int] = array("I")
    for offset in offsets:
        if offset < _OFFSET_SMALL_LIMIT:
            small.append(offset)
        else:
            small.append(_OFFSET_SMALL_LIMIT | len(large))
            large.append(offset)
    return small, large


def _with_checksum(algo: HashAlgorithm, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pass the pieces on in chunks, and end with the hash of them all."""
    hasher = algo.new()
    for piece in pieces:
        hasher.update(piece)
        for at in range(0, len(piece), _CHUNK_BYTES):
            yield piece[at : at + _CHUNK_BYTES]
    yield hasher.digest()


def encode_index_v2(
    algo: HashAlgorithm,
    oids_sorted: bytes | bytearray,
    crcs: "array[int]",
    offsets: "array[int]",
    pack_checksum: bytes,
) -> Iterator[bytes]:
    """Yield an index in chunks.

    `oids_sorted` holds the raw oids in ascending order; `crcs` (array of I) and `offsets` (array of Q)
    follow them.
    """
    count = len(offsets)
    if len(oids_sorted) != count * algo.oid_size or len(crcs) != count:
        raise ValueError("columns of different lengths")
    pieces = _index_pieces(algo, oids_sorted, crcs, offsets, pack_checksum)
    if count < _FEW:
        whole = b"".join(pieces)
        return iter((whole, algo.new(whole).digest()))
    return _with_checksum(algo, pieces)


def _index_pieces(
    algo: HashAlgorithm,
    oids_sorted: bytes | bytearray,
    crcs: "array[int]",
    offsets: "array[int]",
    pack_checksum: bytes,
) -> tuple[bytes, ...]:
    small, large = _split_offsets(offsets)
    return (
        INDEX_SIGNATURE + struct.pack(">I", INDEX_VERSION),
        _fan_out(oids_sorted, algo.oid_size),
        oids_sorted if isinstance(oids_sorted, bytes) else bytes(oids_sorted),
        _big_endian(crcs),
        _big_endian(small),
        _big_endian(large),
        pack_checksum,
    )


def fits_v1(offsets: "array[int]") -> bool:
    """Say whether an index of the first version can hold these offsets."""
    return not offsets or max(offsets) < _OFFSET_SMALL_LIMIT


def encode_index_v1(
    algo: HashAlgorithm, oids_sorted: bytes | bytearray, offsets: "array[int]", pack_checksum: bytes
) -> Iterator[bytes]:
    """Yield an index of the first version in chunks; its offsets (array of Q) must be below 2 GiB: `fits_v1`."""
    size = algo.oid_size
    count = len(offsets)
    if len(oids_sorted) != count * size:
        raise ValueError("columns of different lengths")
    return _with_checksum(algo, (_fan_out(oids_sorted, size), *_iter_rows(oids_sorted, offsets, size), pack_checksum))


def _fan_out(oids_sorted: bytes | bytearray, size: int) -> bytes:
    firsts = oids_sorted[::size]
    if len(firsts) < _FEW:  # a small push: runs of equal numbers, not 256 searches
        numbers = struct.pack(f">{len(firsts) + 1}I", *range(len(firsts) + 1))
        ends = (*firsts, 256)
        starts = (0, *firsts)
        return b"".join([numbers[4 * n : 4 * n + 4] * (ends[n] - starts[n]) for n in range(len(ends))])
    return struct.pack(">256I", *[bisect_right(firsts, byte) for byte in range(256)])


def _iter_rows(oids_sorted: bytes | bytearray, offsets: "array[int]", size: int) -> Iterator[bytes]:
    """Yield the rows of version 1, some thousands at a time."""
    step = _CHUNK_BYTES // (size + 4)
    for first in range(0, len(offsets), step):
        rows = range(first, min(first + step, len(offsets)))
        yield b"".join(struct.pack(">I", offsets[row]) + oids_sorted[row * size : (row + 1) * size] for row in rows)


def encode_reverse_index(algo: HashAlgorithm, positions: "array[int]", pack_checksum: bytes) -> Iterator[bytes]:
    """Yield a reverse index in chunks; `positions` (array of I) are idx positions in the order of the pack:
    what `govc.pack.tables.sort_by_offset` makes of the offsets in the order of the idx.
    """
    header = REVERSE_INDEX_SIGNATURE + struct.pack(">II", REVERSE_INDEX_VERSION, HASH_IDS[algo.name])
    return _with_checksum(algo, (header, _big_endian(positions), pack_checksum))
