"""Forward deltas: the newest versions of files as deltas on older ones, ready to be sent.

Git stores the newest version of a file whole and the older ones as deltas on it, so a client that has an older version
would be sent the whole file. For an object that a pack holds whole, this file has deltas on some of its earlier
versions at the same path: the one before, the second, the fourth, the eighth. Whoever has one version has those before
it, so a client at any distance has a base that is at most twice as old as the best one.

A pack may also hold many versions as large deltas on one old one. For each of those there is a delta on the version
before, which the client has or is sent: a chain of small steps (`kernels/chains` takes care that it is no circle).

What was replaced lately is stored as a delta on what replaced it. Who wants a commit in between is not sent that one:
for him there is a delta on the version before, which he has or is sent.

    "GVFD"  version 3, hash id, count, number of packs (u32 each)      little-endian, as all numbers here
    packs       the checksums of the packs that were looked at
    targets     count oids, ascending; equal ones follow each other, the newest base first
    bases       count oids
    sizes       u32 each: the delta inflated
    checksums   u32 each: CRC-32 of the stream
    offsets     u64, count + 1: where each stream begins in what follows
    streams     zlib; an empty one says that no base was found worth while, so that nobody tries again
    checksum    the repository's hash over all that stands before the streams

Derived, like segments: a file that is no good is passed over, and made again. Opening one reads no stream: who sends
one compares its CRC, and expands the object where that is wrong.
"""

import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import le
from typing import Any, NamedTuple

from govc.errors import GovcError
from govc.kernels.chains import ForwardColumns
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm

MAGIC = b"GVFD"
VERSION = 3
_HEADER = struct.Struct("<4sIIII")
_HASH_IDS = {SHA1.name: 1, SHA256.name: 2}
_CHUNK_BYTES = 1 << 20
PACKS_MAX = 1 << 16
"""Names of packs that are read of a file that nobody has checked yet."""


class BadForward(GovcError):
    """A file that is no good."""


class Entry(NamedTuple):
    """One delta in the making."""

    target: bytes
    base: bytes
    size: int
    stream: bytes


def iter_encoded(entries: Sequence[Entry], packs: Sequence[bytes], algo: HashAlgorithm) -> Iterator[bytes]:
    """Yield the file in pieces, the checksum last. Entries of one target must come newest base first."""
    ordered = sorted(entries, key=lambda entry: entry.target)
    offsets = array("Q", [0])
    for entry in ordered:
        offsets.append(offsets[-1] + len(entry.stream))
    hasher = algo.new()
    for piece in (
        _HEADER.pack(MAGIC, VERSION, _HASH_IDS[algo.name], len(ordered), len(packs)),
        b"".join(packs),
        b"".join(entry.target for entry in ordered),
        b"".join(entry.base for entry in ordered),
        array("I", [entry.size for entry in ordered]).tobytes(),
        array("I", [zlib.crc32(entry.stream) for entry in ordered]).tobytes(),
        offsets.tobytes(),
    ):
        hasher.update(piece)
        yield piece
    for entry in ordered:
        yield entry.stream
    yield hasher.digest()


class ForwardFile:
    """One that was read."""

    def __init__(self, buffer: Any, count: int, pack_count: int, algo: HashAlgorithm) -> None:
        self.count = count
        self._size = size = algo.oid_size
        view = memoryview(buffer)
        at = _HEADER.size + size * pack_count
        self._targets = view[at : at + count * self._size]
        at += count * self._size
        self._bases = view[at : at + count * self._size]
        at += count * self._size
        self._sizes = array("I", bytes(view[at : at + 4 * count]))
        at += 4 * count
        self._checksums = array("I", bytes(view[at : at + 4 * count]))
        at += 4 * count
        self._offsets = array("Q", bytes(view[at : at + 8 * (count + 1)]))
        self._streams = view[at + 8 * (count + 1) : len(view) - self._size]

    def check(self) -> None:
        """Raise BadForward when an offset lies."""
        offsets = self._offsets
        if offsets[-1] != len(self._streams) or not all(map(le, offsets, islice(offsets, 1, None))):
            raise BadForward("an offset outside the file")

    @property
    def columns(self) -> ForwardColumns:
        """Return what `kernels.chains` chooses from."""
        return self._targets, self._bases, self._sizes, self._offsets, self._streams, self._checksums

    def entries(self) -> Iterator[Entry]:
        """Yield all, but what is damaged."""
        size = self._size
        for rank in range(self.count):
            name = slice(rank * size, (rank + 1) * size)
            stream = bytes(self._streams[self._offsets[rank] : self._offsets[rank + 1]])
            if zlib.crc32(stream) == self._checksums[rank]:
                yield Entry(bytes(self._targets[name]), bytes(self._bases[name]), self._sizes[rank], stream)


def parse_forward(buffer: Any, algo: HashAlgorithm) -> ForwardFile:
    """Return the file in a buffer. Raises BadForward."""
    view = memoryview(buffer)
    if sys.byteorder != "little" or len(view) < _HEADER.size + algo.oid_size:
        raise BadForward("too short")
    magic, version, hash_id, count, pack_count = _HEADER.unpack_from(view)
    if magic != MAGIC or version != VERSION or hash_id != _HASH_IDS[algo.name]:
        raise BadForward(f"not forward deltas of version {VERSION} for {algo.name}")
    if len(view) < _HEADER.size + (pack_count + 1) * algo.oid_size + count * (2 * algo.oid_size + 16) + 8:
        raise BadForward("too short")
    hasher = algo.new()
    end = _HEADER.size + pack_count * algo.oid_size + count * (2 * algo.oid_size + 16) + 8
    for at in range(0, end, _CHUNK_BYTES):
        hasher.update(view[at : min(at + _CHUNK_BYTES, end)])
    if hasher.digest() != view[-algo.oid_size :]:
        raise BadForward("checksum mismatch")
    found = ForwardFile(buffer, count, pack_count, algo)
    found.check()
    return found


def read_packs(path: str, algo: HashAlgorithm) -> frozenset[bytes]:
    """Return for which packs a file says that it was made; nothing else is read or checked. BadForward, OSError."""
    with open(path, "rb", buffering=0) as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise BadForward("too short")
        magic, version, hash_id, _count, pack_count = _HEADER.unpack(header)
        if magic != MAGIC or version != VERSION or hash_id != _HASH_IDS[algo.name]:
            raise BadForward(f"not forward deltas of version {VERSION} for {algo.name}")
        names = file.read(min(pack_count, PACKS_MAX) * algo.oid_size)
    return frozenset(names[at : at + algo.oid_size] for at in range(0, len(names), algo.oid_size))


class ForwardDeltas:
    """All files of a repository."""

    def __init__(self, files: Sequence[ForwardFile]) -> None:
        self._files = tuple(files)
        self.columns = tuple(file.columns for file in self._files)

    def entries(self) -> Iterator[Entry]:
        """Yield everything."""
        for file in self._files:
            yield from file.entries()
