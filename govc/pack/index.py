"""The index of one pack: from an oid to the place of its entry.

An object's *position* is its rank in oid order; everything else about it is found by position. The buffer
is kept and nothing of the size of the pack is copied out of it, so an index that is memory-mapped costs no
private memory (`offsets` makes a copy, for callers that want one).

    version 2   "\\377tOc"  2 (4)  fan-out (256 x 4)  oids (n x oid_size)  CRC-32 of entries (n x 4)
                offsets (n x 4; top bit set: rank in the next table)  large offsets (m x 8)  trailer
    version 1   fan-out (256 x 4)  entries (n x (offset (4), oid))  trailer
    trailer     checksum of the pack  checksum of the index, all of it but this

Numbers are big-endian; fan-out[b] counts the oids whose first byte is at most b.

Source: gitformat-pack "pack-*.idx files have the following format" (versions 1 and 2).
"""

import mmap
import struct
import sys
from array import array
from collections.abc import Iterator
from itertools import islice
from operator import gt

from govc.errors import CorruptPack
from govc.kernels.order import match_oids
from govc.pack.format import INDEX_SIGNATURE, INDEX_VERSION
from govc.protocol.oid import HashAlgorithm

IndexBuffer = bytes | bytearray | mmap.mmap
"""What an index can lie in: slices of it are bytes-like and struct reads it."""

_FANOUT_BYTES = 256 * 4
_HEADER_BYTES = 8
_LARGE_BIT = 0x80000000
_CHUNK_COUNT = 4096
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


def _native(typecode: str, data: bytes) -> "array[int]":
    """Return the big-endian numbers in `data`."""
    numbers = array(typecode, data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


class PackIndex:
    """A pack index of version 1 or 2 over a buffer.

    The frame is checked when it is made (signature, version, fan-out, size of the file), the checksum by
    `verify`. Offsets are bytes from the start of the pack.
    """

    __slots__ = (
        "_buffer",
        "_crc_start",
        "_fanout",
        "_large_count",
        "_large_start",
        "_offset_start",
        "_oid_size",
        "_oid_start",
        "_stride",
        "algo",
        "count",
        "pack_checksum",
        "version",
    )

    def __init__(self, buffer: IndexBuffer, algo: HashAlgorithm) -> None:
        """Raise CorruptPack unless `buffer` is exactly one index."""
        self.algo = algo
        self._buffer = buffer
        self._oid_size = algo.oid_size
        size = len(buffer)
        if size < _FANOUT_BYTES + 2 * algo.oid_size:
            raise CorruptPack("index file is too small")
        fanout_start = 0
        self.version = 1
        if buffer[:4] == INDEX_SIGNATURE:
            (self.version,) = _U32.unpack_from(buffer, 4)
            if self.version != INDEX_VERSION:
                raise CorruptPack(f"index file is version {self.version} and is not supported")
            fanout_start = _HEADER_BYTES
        self._fanout = self._read_fanout(fanout_start)
        self.count = self._fanout[256]
        self._lay_out(fanout_start + _FANOUT_BYTES, size)
        trailer = size - 2 * algo.oid_size
        self.pack_checksum = bytes(buffer[trailer : trailer + algo.oid_size])

    def _read_fanout(self, start: int) -> "array[int]":
        """Return 257 counts: of the oids before each first byte, and of all."""
        fanout = array("I", [0])
        fanout.extend(_native("I", bytes(self._buffer[start : start + _FANOUT_BYTES])))
        if len(fanout) != 257 or any(map(gt, fanout, islice(fanout, 1, None))):
            raise CorruptPack("non-monotonic index")
        return fanout

    def _lay_out(self, start: int, size: int) -> None:
        """Find where each table begins, and check that the file has room for just these."""
        count, oid_size = self.count, self._oid_size
        self._large_count = 0
        if self.version == 1:
            self._stride = 4 + oid_size
            self._offset_start, self._oid_start = start, start + 4
            self._crc_start = self._large_start = -1
            if size != start + count * self._stride + 2 * oid_size:
                raise CorruptPack("wrong index v1 file size")
            return
        self._stride = oid_size
        self._oid_start = start
        self._crc_start = start + count * oid_size
        self._offset_start = self._crc_start + count * 4
        self._large_start = self._offset_start + count * 4
        large_bytes = size - 2 * oid_size - self._large_start
        # The first entry of a pack lies at offset 12, so at most count - 1 offsets are large.
        if large_bytes < 0 or large_bytes % 8 or large_bytes > 8 * max(count - 1, 0):
            raise CorruptPack("wrong index v2 file size")
        self._large_count = large_bytes // 8

    def find(self, oid: bytes) -> int:
        """Return the position of `oid`, the first one should the pack hold it twice; -1 when it isn't
        there.
        """
        first = oid[0]
        low = self._fanout[first]
        end = high = self._fanout[first + 1]
        if low == high:
            return -1
        buffer, stride, size, start = self._buffer, self._stride, self._oid_size, self._oid_start
        while low < high:
            middle = (low + high) >> 1
            at = start + middle * stride
            if buffer[at : at + size] < oid:
                low = middle + 1
            else:
                high = middle
        at = start + low * stride
        return low if low < end and buffer[at : at + size] == oid else -1

    def find_among(self, oids_sorted: bytes) -> "array[int]":
        """Return the ranks in `oids_sorted` (oids in ascending order) of those that are here, ascending."""
        return match_oids(oids_sorted, self._oid_size, self._buffer, self._oid_start, self._stride, self.count)

    def oid_at(self, position: int) -> bytes:
        """Return the oid at `position`; IndexError when there is none."""
        if not 0 <= position < self.count:
            raise IndexError(position)
        at = self._oid_start + position * self._stride
        return bytes(self._buffer[at : at + self._oid_size])

    def offset_at(self, position: int) -> int:
        """Return where the entry begins; IndexError beyond the last one."""
        if not 0 <= position < self.count:
            raise IndexError(position)
        stride = 4 if self.version == 2 else self._stride
        offset: int = _U32.unpack_from(self._buffer, self._offset_start + position * stride)[0]
        return self._large_offset(offset) if offset & _LARGE_BIT and self.version == 2 else offset

    def _large_offset(self, word: int) -> int:
        rank = word & ~_LARGE_BIT
        if rank >= self._large_count:
            raise CorruptPack("index refers to a large offset that it does not have")
        offset: int = _U64.unpack_from(self._buffer, self._large_start + rank * 8)[0]
        return offset

    def crc_at(self, position: int) -> int | None:
        """Return the CRC-32 of the entry as it lies in the pack; None in version 1, which has none."""
        if not 0 <= position < self.count:
            raise IndexError(position)
        if self.version == 1:
            return None
        crc: int = _U32.unpack_from(self._buffer, self._crc_start + position * 4)[0]
        return crc

    def iter_oids(self) -> Iterator[bytes]:
        """Yield the oids in their order."""
        size, stride = self._oid_size, self._stride
        for first in range(0, self.count, _CHUNK_COUNT):
            number = min(_CHUNK_COUNT, self.count - first)
            at = self._oid_start + first * stride
            chunk = bytes(self._buffer[at : at + number * stride])
            for pos in range(0, number * stride, stride):
                yield chunk[pos : pos + size]

    def oids(self) -> bytes | memoryview:
        """Return the oids one after the other."""
        if self.version == 1:
            return b"".join(self.iter_oids())
        return memoryview(self._buffer)[self._oid_start : self._crc_start]

    def offsets(self) -> "array[int]":
        """Return a new array('Q') of the offsets by position (8 bytes for each object)."""
        if self.version == 1:
            end = self._offset_start + self.count * self._stride
            words = struct.Struct(f">I{self._oid_size}x").iter_unpack(self._buffer[self._offset_start : end])
            return array("Q", (word for (word,) in words))
        end = self._offset_start + self.count * 4
        narrow = _native("I", bytes(self._buffer[self._offset_start : end]))
        offsets = array("Q", narrow)
        if self._large_count or (narrow and max(narrow) & _LARGE_BIT):
            for position, word in enumerate(narrow):
                if word & _LARGE_BIT:
                    offsets[position] = self._large_offset(word)
        return offsets

    def verify(self) -> None:
        """Raise CorruptPack unless the checksum is right and the oids are in order below their fan-out.

        Reads all of the index: about 2 ms for each MB, and 0.2 us for each object.
        """
        body_bytes = len(self._buffer) - self._oid_size
        hasher = self.algo.new()
        for at in range(0, body_bytes, 1 << 20):
            hasher.update(bytes(self._buffer[at : min(at + (1 << 20), body_bytes)]))
        if hasher.digest() != self._buffer[body_bytes:]:
            raise CorruptPack("index checksum mismatch")
        previous = b""
        counts = array("I", bytes(4 * 256))
        for oid in self.iter_oids():
            if oid < previous:
                raise CorruptPack("oid lookup out of order")
            previous = oid
            counts[oid[0]] += 1
        if any(self._fanout[i + 1] - self._fanout[i] != counts[i] for i in range(256)):
            raise CorruptPack("oid fanout does not match the oids")
