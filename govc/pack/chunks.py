"""The chunked files of git: a header, a table of contents, chunks, a checksum.

    header (its own)  table: (id (4)  offset (8)) per chunk, then id 0 and the end of the last chunk  chunks  checksum

A chunk ends where the next one in the table begins. Unknown ones are passed over. Numbers are big-endian.

Source: gitformat-chunk.
"""

import mmap
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise

from govc.errors import Corrupt
from govc.protocol.oid import HashAlgorithm

Buffer = bytes | mmap.mmap

_ENTRY = struct.Struct(">4sQ")
_PIECE_BYTES = 1 << 20


class CorruptChunks(Corrupt):
    """A chunked file whose frame is broken."""


def parse_chunks(data: Buffer, table_start: int, count: int, algo: HashAlgorithm) -> dict[bytes, tuple[int, int]]:
    """Return id -> (start, end) of each chunk. Raises CorruptChunks."""
    end = len(data) - algo.oid_size
    table_end = table_start + (count + 1) * _ENTRY.size
    if table_end > end:
        raise CorruptChunks("the table of contents is cut short")
    entries = [_ENTRY.unpack_from(data, table_start + i * _ENTRY.size) for i in range(count + 1)]
    chunks: dict[bytes, tuple[int, int]] = {}
    for (identifier, start), (_, following) in pairwise(entries):
        if identifier == bytes(4) or identifier in chunks:
            raise CorruptChunks("a chunk without a name, or one twice")
        if not table_end <= start <= following <= end:
            raise CorruptChunks(f"improper offsets of chunk {identifier!r}")
        chunks[identifier] = (start, following)
    if entries[-1][0] != bytes(4):
        raise CorruptChunks("the table of contents doesn't end")
    return chunks


def is_checksum_right(data: Buffer, algo: HashAlgorithm) -> bool:
    """Say whether the checksum at the end is that of all before it: about a millisecond for each MB."""
    hasher = algo.new()
    end = len(data) - algo.oid_size
    for at in range(0, end, _PIECE_BYTES):
        hasher.update(data[at : min(at + _PIECE_BYTES, end)])
    return bool(hasher.digest() == data[end:])


def encode_chunks(algo: HashAlgorithm, header: bytes, chunks: Sequence[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Yield a file of these (id, content) chunks, the empty ones left out, and its checksum."""
    kept = [(identifier, content) for identifier, content in chunks if content]
    offset = len(header) + (len(kept) + 1) * _ENTRY.size
    table = []
    for identifier, content in kept:
        table.append(_ENTRY.pack(identifier, offset))
        offset += len(content)
    table.append(_ENTRY.pack(bytes(4), offset))
    hasher = algo.new()
    for piece in (header + b"".join(table), *(content for _, content in kept)):
        hasher.update(piece)
        yield piece
    yield hasher.digest()


def big_endian(numbers: "array[int]") -> bytes:
    """Return the numbers as they stand in such a file."""
    if sys.byteorder == "little":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def fanout_of(first_bytes: bytes) -> bytes:
    """Return the 256 counts for sorted oids, given their first bytes in order."""
    counts = [0] * 256
    for byte in first_bytes:
        counts[byte] += 1
    total, out = 0, []
    for count in counts:
        total += count
        out.append(total)
    return struct.pack(">256I", *out)


def check_fanout(data: Buffer, start: int, end: int) -> tuple[int, ...]:
    """Return 257 counts (of the oids before each first byte, and of all). Raises CorruptChunks."""
    if end - start != 1024:
        raise CorruptChunks("the fan-out has a wrong size")
    fanout = (0, *struct.unpack_from(">256I", data, start))
    if any(fanout[i] > fanout[i + 1] for i in range(256)):
        raise CorruptChunks("the fan-out decreases")
    return fanout


def find_oid(data: Buffer, start: int, fanout: Sequence[int], oid: bytes) -> int:
    """Return the position of an oid in sorted oids at `start`, -1 when it isn't there."""
    size = len(oid)
    low, high = fanout[oid[0]], fanout[oid[0] + 1]
    while low < high:
        middle = (low + high) >> 1
        at = start + middle * size
        found = data[at : at + size]
        if found == oid:
            return middle
        if found < oid:
            low = middle + 1
        else:
            high = middle
    return -1
