"""Ready entries: objects that packs hold as deltas, whole, compressed, as they are sent.

A client without history (depth 1, lazy blobs) can't be sent a delta on something that it doesn't get, so such objects
have to be put together and compressed: most of what these answers cost. This file has them ready, for the trees that
are asked for most.

    "GVRE"  version 1, hash id (u32 each), 4 zeros                     little-endian, as all numbers here
    streams     zlib, in the order in which their objects lie in packs; zeros up to a multiple of 8
    offsets     u64 each: where the stream of each object begins in the file; objects by ascending name
    lengths     u32 each: bytes of the stream
    sizes       u32 each: bytes of the object
    checksums   u32 each: CRC-32 of the stream
    types       u8 each: 2 tree, 3 blob
    names       N oids, ascending
    packs       K checksums of the packs that were looked at
    footer      u64 where the offsets begin, N and K (u32 each)
    checksum    the repository's hash over everything from the offsets on

Derived, like segments: a file that is no good is passed over, and made again. A name stands for its content, so a
repack makes nothing of it wrong. Streams are read by pread when they are sent, not when the file is opened, and
believed as their CRC says; whoever takes the pack checks names besides.
"""

import os
import struct
import sys
import zlib
from array import array
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from govc.errors import GovcError
from govc.kernels.packcopy import ReadySource
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm

MAGIC = b"GVRE"
VERSION = 1
_HEADER = struct.Struct("<4sIII")
_FOOTER = struct.Struct("<QII")
_HASH_IDS = {SHA1.name: 1, SHA256.name: 2}
_ROW_BYTES = 8 + 4 + 4 + 4 + 1


class BadReady(GovcError):
    """A file that is no good."""


class _Row(NamedTuple):
    name: bytes
    offset: int
    length: int
    size: int
    checksum: int
    type_number: int


class ReadyWriter:
    """One file in the making: entries in any order, each name once, then `finish`."""

    def __init__(self, file: BinaryIO, algo: HashAlgorithm) -> None:
        self._file = file
        self._algo = algo
        self._rows: list[_Row] = []
        self._at = file.write(_HEADER.pack(MAGIC, VERSION, _HASH_IDS[algo.name], 0))

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._at

    @property
    def count(self) -> int:
        """Entries so far."""
        return len(self._rows)

    def add(self, name: bytes, type_number: int, size: int, stream: bytes) -> None:
        """Add an object: its size in bytes, and the zlib stream that makes it. OSError."""
        self._rows.append(_Row(name, self._at, len(stream), size, zlib.crc32(stream), type_number))
        self._at += self._file.write(stream)

    def finish(self, packs: Sequence[bytes]) -> bytes:
        """Write the rest, and return the checksum. OSError."""
        rows = sorted(self._rows)
        self._at += self._file.write(bytes(-self._at % 8))
        columns = b"".join(
            (
                array("Q", [row.offset for row in rows]).tobytes(),
                array("I", [row.length for row in rows]).tobytes(),
                array("I", [row.size for row in rows]).tobytes(),
                array("I", [row.checksum for row in rows]).tobytes(),
                bytes(row.type_number for row in rows),
                b"".join(row.name for row in rows),
                *packs,
                _FOOTER.pack(self._at, len(rows), len(packs)),
            )
        )
        checksum = self._algo.new(columns).digest()
        self._file.write(columns + checksum)
        return checksum


class ReadyFile:
    """One that was opened; the descriptor is closed with the last reference."""

    def __init__(self, descriptor: int, columns: bytes, start: int, count: int, packs: frozenset[bytes]) -> None:
        self.descriptor = descriptor
        self.count = count
        self.packs = packs
        self._columns = columns
        self._start = start

    def __del__(self) -> None:
        """Close it."""
        os.close(self.descriptor)

    def source(self) -> ReadySource:
        """Return what the kernel reads from; it keeps this file open."""
        return ReadySource(self.descriptor, self.count, self._columns, self._start, self)


def open_ready(path: str, algo: HashAlgorithm) -> ReadyFile:
    """Open a file; of its streams nothing is read. Raises BadReady, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        columns, start, count, pack_count = _read_columns(descriptor, algo)
    except BaseException:
        os.close(descriptor)
        raise
    at = count * (_ROW_BYTES + algo.oid_size)
    names = range(at, at + pack_count * algo.oid_size, algo.oid_size)
    packs = frozenset(columns[name : name + algo.oid_size] for name in names)
    return ReadyFile(descriptor, columns, start, count, packs)


def _read_columns(descriptor: int, algo: HashAlgorithm) -> tuple[bytes, int, int, int]:
    file_size = os.fstat(descriptor).st_size
    tail = _FOOTER.size + algo.oid_size
    if sys.byteorder != "little" or file_size < _HEADER.size + tail:
        raise BadReady("too short")
    magic, version, hash_id, _zeros = _HEADER.unpack(_read_at(descriptor, 0, _HEADER.size))
    if (magic, version, hash_id) != (MAGIC, VERSION, _HASH_IDS[algo.name]):
        raise BadReady(f"not ready entries of version {VERSION} for {algo.name}")
    start, count, pack_count = _FOOTER.unpack(_read_at(descriptor, file_size - tail, _FOOTER.size))
    expected = count * (_ROW_BYTES + algo.oid_size) + pack_count * algo.oid_size + tail
    if start < _HEADER.size or start + expected != file_size:
        raise BadReady("sizes that don't fit")
    columns = _read_at(descriptor, start, expected)
    end = len(columns) - algo.oid_size
    if algo.new(columns[:end]).digest() != columns[end:]:
        raise BadReady("checksum mismatch")
    return columns, start, count, pack_count


def _read_at(descriptor: int, offset: int, length: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    if len(data) != length:
        raise BadReady("too short")
    return data
