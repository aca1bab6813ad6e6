"""Sorting and reordering columns in pure Python; the story is in `order`."""

import io
import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from mmap import mmap

_REORDER_CHUNK = 4096
_SORTED_AT_ONCE = 1 << 15
"""So many records may be Python values at a time: about 100 bytes each."""

Buffer = bytes | bytearray | memoryview | mmap


def sort_by_oid(oids: bytes | bytearray, oid_size: int) -> "array[int]":
    """Return the record numbers (array of I) in ascending order of oid; equal oids keep their order.

    Many records are first dealt into 256 buckets by their first byte, so that only one bucket at a time
    exists as Python values.
    """
    words = array("I")
    words.frombytes(oids)
    words = words[:: oid_size // words.itemsize]  # the first four bytes of each
    if sys.byteorder == "little":
        words.byteswap()
    if len(words) <= _SORTED_AT_ONCE:  # as floats, which are compared faster
        return array("I", _sorted_bucket(range(len(words)), list(map(float, words)), oids, oid_size))
    firsts = oids[::oid_size]
    starts = array("I", bytes(4 * 257))
    total = 0
    for byte in range(256):
        starts[byte] = total
        total += firsts.count(byte)
    starts[256] = total
    order = array("I", bytes(4 * total))
    cursors = starts[:]
    for number, byte in enumerate(firsts):
        at = cursors[byte]
        order[at] = number
        cursors[byte] = at + 1
    for byte in range(256):
        start, end = starts[byte], starts[byte + 1]
        if end - start > 1:
            order[start:end] = array("I", _sorted_bucket(order[start:end].tolist(), words, oids, oid_size))
    return order


def _sorted_bucket(numbers: Sequence[int], prefixes: Sequence[float], oids: bytes | bytearray, size: int) -> list[int]:
    """Return these record numbers in ascending order of their oids, of which `prefixes` has the first bytes."""
    ordered = sorted(numbers, key=prefixes.__getitem__)
    if len(set(map(prefixes.__getitem__, numbers))) < len(numbers):
        ordered.sort(key=lambda number: oids[number * size : number * size + size])  # nearly in order: soon done
    return ordered


def sort_by_offset(offsets: "array[int]") -> "array[int]":
    """Return the indexes (array of I) into `offsets` (array of Q) in ascending order of offset; likewise."""
    count = len(offsets)
    shift = max(0, max(offsets, default=0).bit_length() - 8)
    starts = array("I", bytes(4 * 257))
    for offset in offsets:
        starts[(offset >> shift) + 1] += 1
    for bucket in range(256):
        starts[bucket + 1] += starts[bucket]
    order = array("I", bytes(4 * count))
    cursors = starts[:]
    for index, offset in enumerate(offsets):
        bucket = offset >> shift
        at = cursors[bucket]
        order[at] = index
        cursors[bucket] = at + 1
    for bucket in range(256):
        start, end = starts[bucket], starts[bucket + 1]
        if end - start > 1:
            members = order[start:end].tolist()
            members.sort(key=offsets.__getitem__)
            order[start:end] = array("I", members)
    return order


def reorder_records(records: bytes | bytearray, order: "array[int]", size: int) -> bytes:
    """Return the records of `size` bytes in another order, a few thousand at a time."""
    records = bytes(records)  # of which pieces are made faster than of a bytearray
    out = io.BytesIO()  # getvalue() hands its buffer over, where bytes(bytearray) would copy it
    for start in range(0, len(order), _REORDER_CHUNK):
        chunk = order[start : start + _REORDER_CHUNK]
        out.write(b"".join([records[number * size : number * size + size] for number in chunk]))
    return out.getvalue()


def gather_numbers(numbers: "array[int]", order: "array[int]") -> "array[int]":
    """Return the numbers (array of I or of Q) in another order."""
    return array(numbers.typecode, map(numbers.__getitem__, order))


def gather_bytes(values: bytes | bytearray, order: "array[int]") -> bytes:
    """Return single bytes in another order."""
    return bytes(map(values.__getitem__, order))


def invert(order: "array[int]") -> "array[int]":
    """Return the rank of each record (array of I)."""
    ranks = array("I", bytes(4 * len(order)))
    for rank, number in enumerate(order):
        ranks[number] = rank
    return ranks


def match_oids(oids_sorted: Buffer, oid_size: int, table: Buffer, start: int, stride: int, count: int) -> "array[int]":
    """Return the ranks in `oids_sorted` (array of I, ascending) of those that are in `table`, too.

    The table has `count` oids in ascending order, the first one at `start`, one every `stride` bytes.
    """
    view = memoryview(table)
    number = len(oids_sorted) // oid_size
    found: array[int] = array("I")

    def in_table(at: int) -> bytes:
        return bytes(view[start + at * stride : start + at * stride + oid_size])

    def in_list(at: int) -> bytes:
        return bytes(oids_sorted[at * oid_size : at * oid_size + oid_size])

    low = 0
    if number <= count:
        for rank in range(number):
            oid = in_list(rank)
            low = bisect_left(range(count), oid, low, count, key=in_table)
            if low < count and in_table(low) == oid:
                found.append(rank)
        return found
    for at in range(count):
        oid = in_table(at)
        low = bisect_left(range(number), oid, low, number, key=in_list)
        while low < number and in_list(low) == oid:
            found.append(low)
            low += 1
    return found
