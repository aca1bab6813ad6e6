"""One block of a reftable: finding its end, its records, and a key within it.

    kind:1 size:3 record+ restart_offset:3+ restart_count:2 padding?

`size` counts from the block's start (for the first block of a file: from the file's) to the end of the restart
table; offsets count from there, too. Log blocks are deflated behind their 4-byte header, and their size is that of the
inflated block.

A block is at most 16 MiB. Keys may repeat a long prefix in two bytes, so those who decode many of them count the bytes
that come out (`DECODED_BYTES_BASE`, `DECODED_RATIO_MAX`).

Source: git's technical/reftable "Ref block format", "Log block format", "Binary search".
"""

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from govc.errors import CorruptRefs
from govc.refs.reftable.format import (
    BLOCK_HEADER_SIZE,
    BLOCK_KINDS,
    LOG_BLOCK,
    NAME_BYTES_MAX,
    Header,
    RefRecord,
    decode_string,
    decode_varint,
)

DECODED_BYTES_BASE = 16 << 20
DECODED_RATIO_MAX = 64
"""Names may unfold to so many bytes, plus so many times the section's size. Ordinary tables stay below 10 times."""

_KEY_BYTES_MAX = NAME_BYTES_MAX + 9

T = TypeVar("T")
Decode = Callable[[bytes, int, int, int], tuple[T, int]]
"""(data, position, end, type) -> (value, position after it)."""


class Block(NamedTuple):
    """A block; positions are within `data`, which starts where the block's offsets count from.

    `first`: the first record; `end`: of the records; `next_offset`: of the next block in the file, perhaps in padding.
    """

    kind: int
    data: bytes
    first: int
    end: int
    restart_count: int
    next_offset: int

    def restart(self, number: int) -> int:
        """Return the position of the record at a restart."""
        at = self.end + 3 * number
        position = int.from_bytes(self.data[at : at + 3], "big")
        if not self.first <= position < self.end:
            raise CorruptRefs(f"restart at {position} is outside of its block")
        return position


def block_size_at(data: bytes, start: int) -> tuple[int, int]:
    """Return (kind, size) from the block header at `start`."""
    if len(data) < start + BLOCK_HEADER_SIZE:
        raise CorruptRefs("block cut off")
    kind, size = data[start], int.from_bytes(data[start + 1 : start + 4], "big")
    if kind not in BLOCK_KINDS:
        raise CorruptRefs(f"no block of kind {kind:#x} is known")
    if size < start + BLOCK_HEADER_SIZE + 2:
        raise CorruptRefs(f"block of {size} bytes")
    return kind, size


def parse_block(data: bytes, offset: int, header: Header) -> Block:
    """Return the block at `offset` of its file; `data` starts there and holds at least the block."""
    start = header.size if offset == 0 else 0
    kind, size = block_size_at(data, start)
    if kind == LOG_BLOCK:
        data, taken = _inflate(data, start + BLOCK_HEADER_SIZE, size)
        next_offset = offset + taken
    else:
        if size > len(data):
            raise CorruptRefs("block cut off")
        next_offset = offset + _padded_size(data, size, header.block_size)
    count = int.from_bytes(data[size - 2 : size], "big")
    first, end = start + BLOCK_HEADER_SIZE, size - 2 - 3 * count
    if end < first:
        raise CorruptRefs(f"{count} restarts in a block of {size} bytes")
    return Block(kind, data, first, end, count, next_offset)


def _padded_size(data: bytes, size: int, alignment: int) -> int:
    """Return the size with padding: there is none in front of a block that follows directly."""
    if not alignment or data[size : size + 1].strip(b"\0"):
        return size
    return -(-size // alignment) * alignment


def _inflate(data: bytes, start: int, size: int) -> tuple[bytes, int]:
    """Return (the block inflated to `size` bytes, how many bytes of `data` it took)."""
    engine = zlib.decompressobj()
    try:
        body = engine.decompress(data[start:], size - start)
        if not engine.eof:
            body += engine.decompress(engine.unconsumed_tail, 1)  # the trailer, when the output was full before it
    except zlib.error as error:
        raise CorruptRefs(f"log block doesn't inflate: {error}") from error
    if not engine.eof or len(body) != size - start:
        raise CorruptRefs("log block has another size than it says")
    return data[:start] + body, len(data) - len(engine.unused_data)


def iter_records(block: Block, decode: Decode[T], position: int | None = None) -> Iterator[tuple[bytes, T]]:
    """Yield (key, value) of the records, from the start or from the restart at `position`."""
    data, end = block.data, block.end
    at = block.first if position is None else position
    key = b""
    while at < end:
        prefix_size, at = decode_varint(data, at, end)
        word, at = decode_varint(data, at, end)
        size = word >> 3
        if prefix_size > len(key) or size > end - at or not 0 < prefix_size + size <= _KEY_BYTES_MAX:
            raise CorruptRefs(f"ill-formed key at {at}")
        key = key[:prefix_size] + data[at : at + size]
        value, at = decode(data, at + size, end, word & 7)
        yield key, value


def seek_records(block: Block, key: bytes, decode: Decode[T]) -> Iterator[tuple[bytes, T]]:
    """Yield the records whose key is `key` or after it, found by bisecting the restarts."""
    low, high = 0, block.restart_count
    while low < high:  # the first restart whose key is after `key`
        middle = (low + high) // 2
        if _key_at_restart(block, block.restart(middle)) > key:
            high = middle
        else:
            low = middle + 1
    position = block.restart(low - 1) if low else None
    for record in iter_records(block, decode, position):
        if record[0] >= key:
            yield record


def _key_at_restart(block: Block, position: int) -> bytes:
    prefix_size, position = decode_varint(block.data, position, block.end)
    word, position = decode_varint(block.data, position, block.end)
    size = word >> 3
    if prefix_size or not 0 < size <= min(_KEY_BYTES_MAX, block.end - position):
        raise CorruptRefs(f"ill-formed key at {position}")
    return block.data[position : position + size]


def decode_position(data: bytes, position: int, end: int, _kind: int) -> tuple[int, int]:
    """Decode the value of an index record."""
    return decode_varint(data, position, end)


def iter_ref_records(block: Block, header: Header) -> Iterator[RefRecord]:
    """Yield the refs of a block in order. Written for speed: most varints are one byte."""
    data, end, at = block.data, block.end, block.first
    oid_size, base = header.algo.oid_size, header.min_update_index
    name = b""
    while at + 3 <= end:
        prefix_size, word, at = data[at], data[at + 1], at + 2
        if prefix_size >= 0x80 or word >= 0x80:
            prefix_size, at = decode_varint(data, at - 2, end)
            word, at = decode_varint(data, at, end)
        value_at = at + (word >> 3)
        if prefix_size > len(name) or value_at >= end:
            raise CorruptRefs(f"ill-formed name at {at}")
        name = name[:prefix_size] + data[at:value_at]
        if not 0 < len(name) <= NAME_BYTES_MAX:
            raise CorruptRefs(f"name of {len(name)} bytes")
        delta, at = data[value_at], value_at + 1
        if delta >= 0x80:
            delta, at = decode_varint(data, value_at, end)
        kind = word & 7
        if kind == 1:
            value_at, at = at, at + oid_size
            record = RefRecord(name, base + delta, data[value_at:at])
        elif kind == 2:
            value_at, at = at, at + 2 * oid_size
            middle = value_at + oid_size
            record = RefRecord(name, base + delta, data[value_at:middle], data[middle:at])
        elif kind == 3:
            target, at = decode_string(data, at, end)
            record = RefRecord(name, base + delta, None, None, target)
        elif kind == 0:
            record = RefRecord(name, base + delta)
        else:
            raise CorruptRefs(f"ref of type {kind}")
        if at > end:
            raise CorruptRefs("ref cut off")
        yield record
    if at != end:
        raise CorruptRefs("ref cut off")
