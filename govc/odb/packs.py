"""One pack on disk, open for reading: the descriptor of the .pack, the index, and the order of entries by
offset.

The .pack is read by pread, so that no file that is cut short can kill the process; the library, which reads one object
here and one there, has it mapped under the guard (`map_content`).
Descriptors stay open, so a pack that another process deletes stays readable for those who hold it. An index
of more than 64 KB is mapped (git never changes one in place); smaller ones are read.

Opening checks that the pair belongs together: header, count, sizes, and that the checksum in the index is
the pack's trailer. The content of the pack isn't hashed.

`PackFile` numbers the objects for one store; what it stands on (`_OpenPack`) may be shared by stores, and
is closed when the last user is gone.
"""

import itertools
import mmap
import os
import struct
import sys
import weakref
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from operator import lt
from typing import NamedTuple

from govc.errors import CorruptPack
from govc.kernels.guard import FileMap, map_file
from govc.kernels.packread import PackSource
from govc.pack.format import (
    HASH_IDS,
    PACK_HEADER_SIZE,
    REVERSE_INDEX_SIGNATURE,
    REVERSE_INDEX_VERSION,
    parse_pack_header,
)
from govc.pack.index import PackIndex
from govc.protocol.oid import HashAlgorithm

SIDE_SUFFIXES = (".keep", ".promisor", ".mtimes", ".bitmap", ".rev")
"""Files beside a pack that say something about it. Others are ignored."""

_MAP_BYTES_MIN = 64 << 10
_SORT_COUNT = 1 << 16
_READ_BYTES_MAX = 1 << 30
_REVERSE_HEADER = struct.Struct(">4sII")


_serials = itertools.count()


class PackDescriptor(NamedTuple):
    """What another process needs to open the same pack: both descriptors, and the path for messages and
    .rev.
    """

    path: str
    pack_fd: int
    idx_fd: int


class PackIdentity(NamedTuple):
    """Which file a .pack is: device, inode, size in bytes."""

    device: int
    inode: int
    size: int


def identity_of(path: str) -> PackIdentity | None:
    """Return the identity of the file at `path`, None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return PackIdentity(status.st_dev, status.st_ino, status.st_size)


class _Order(NamedTuple):
    """The entries by offset: array('Q') of ascending offsets, and array('I') of the position of each."""

    offsets: "array[int]"
    positions: "array[int]"


def _sorted_positions(offsets: "array[int]", pack_size: int) -> "array[int]":
    """Return the positions by ascending offset.

    Sorted in shares of the pack, so that the lists that sorting needs stay small.
    """
    share_count = (len(offsets) // _SORT_COUNT) + 1
    if share_count == 1:
        return array("I", sorted(range(len(offsets)), key=offsets.__getitem__))
    shares = [array("I") for _ in range(share_count)]
    for position, offset in enumerate(offsets):
        shares[min(offset * share_count // pack_size, share_count - 1)].append(position)
    positions = array("I")
    for share in shares:
        positions.extend(sorted(share, key=offsets.__getitem__))
    return positions


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


class _OpenPack:
    """The descriptors and the index of one pack, closed when nobody refers to it any more."""

    def __init__(self, path: str, pack_fd: int, idx_fd: int, algo: HashAlgorithm) -> None:
        self.path = path
        self.pack_fd = pack_fd
        self.idx_fd = idx_fd
        self.algo = algo
        self.serial = next(_serials)
        self._order: _Order | None = None
        self._looked_for_reverse_index = False
        self._reverse_index: bytes | mmap.mmap | None = None
        self._content: FileMap | None = None
        # Whoever fails below has its descriptors closed as well: from here on they are ours.
        self.close = weakref.finalize(self, _close, (pack_fd, idx_fd))
        self.close.atexit = False
        status = os.fstat(pack_fd)
        self.identity = PackIdentity(status.st_dev, status.st_ino, status.st_size)
        self.size = status.st_size
        self.mapped_bytes = 0
        self.index_buffer = self._index_buffer()
        self.index = PackIndex(self.index_buffer, algo)
        self._check()

    def _index_buffer(self) -> bytes | mmap.mmap:
        size = os.fstat(self.idx_fd).st_size
        if size < _MAP_BYTES_MIN:
            return os.pread(self.idx_fd, size, 0)
        self.mapped_bytes = size
        return map_file(self.path.removesuffix(".pack") + ".idx", self.idx_fd, size)

    def _check(self) -> None:
        """Raise CorruptPack unless pack and index belong together."""
        oid_size = self.algo.oid_size
        if self.size < PACK_HEADER_SIZE + oid_size:
            raise CorruptPack("pack is too small")
        count = parse_pack_header(os.pread(self.pack_fd, PACK_HEADER_SIZE, 0))
        if count != self.index.count:
            raise CorruptPack(f"pack has {count} objects and its index {self.index.count}")
        if os.pread(self.pack_fd, oid_size, self.size - oid_size) != self.index.pack_checksum:
            raise CorruptPack("pack checksum does not match its index")

    def content(self) -> FileMap | None:
        """Return the .pack as a map that survives its file, made on first use; None where there can be none."""
        if self._content is None:
            try:
                content = map_file(self.path, self.pack_fd, self.size)
            except (OSError, ValueError):  # it became shorter, or there is no room: reading says which
                return None
            self._content = content if content.is_guarded else None
        return self._content

    def order(self) -> _Order:
        """Return the entries by offset, made on first use (from the .rev when there is a good one)."""
        if self._order is None:
            offsets = self.index.offsets()
            self._order = self._order_from_reverse_index(offsets) or self._order_by_sorting(offsets)
        return self._order

    def reverse_index(self) -> bytes | mmap.mmap | None:
        """Return the .rev, None when there is none of the right size; whoever uses it checks what it says."""
        if not self._looked_for_reverse_index:
            self._looked_for_reverse_index = True
            self._reverse_index = self._map_reverse_index()
        return self._reverse_index

    def _map_reverse_index(self) -> bytes | mmap.mmap | None:
        path = self.path.removesuffix(".pack") + ".rev"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            size = 12 + 4 * self.index.count + 2 * self.algo.oid_size
            if os.fstat(fd).st_size != size:
                return None
            if os.pread(fd, self.algo.oid_size, size - 2 * self.algo.oid_size) != self.index.pack_checksum:
                return None
            if size < _MAP_BYTES_MIN:
                return os.pread(fd, size, 0)
            return map_file(path, fd, size)
        finally:
            os.close(fd)

    def has_order(self) -> bool:
        """Tell whether `order` costs nothing."""
        return self._order is not None

    def _order_by_sorting(self, offsets: "array[int]") -> _Order:
        positions = _sorted_positions(offsets, self.size)
        return _Order(array("Q", map(offsets.__getitem__, positions)), positions)

    def _order_from_reverse_index(self, offsets: "array[int]") -> _Order | None:
        """Return the order that the .rev tells, None when there is none or it isn't right. (gitformat-pack
        ".rev").
        """
        try:
            with open(self.path.removesuffix(".pack") + ".rev", "rb") as file:
                expected_size = 12 + 4 * len(offsets) + 2 * self.algo.oid_size
                data = file.read(expected_size + 1)
        except OSError:
            return None
        header = _REVERSE_HEADER.pack(REVERSE_INDEX_SIGNATURE, REVERSE_INDEX_VERSION, HASH_IDS[self.algo.name])
        trailer = 12 + 4 * len(offsets)
        checksum = data[trailer : trailer + self.algo.oid_size]
        if len(data) != expected_size or data[:12] != header or checksum != self.index.pack_checksum:
            return None
        positions = array("I", data[12:trailer])
        if sys.byteorder == "little":
            positions.byteswap()
        try:
            ordered = array("Q", map(offsets.__getitem__, positions))
        except IndexError:
            return None
        # Strictly ascending and as many as there are: then it is a permutation, and the right one.
        if not all(map(lt, ordered, itertools.islice(ordered, 1, None))):
            return None
        return _Order(ordered, positions)


class PackFile:
    """One pack of one store. Its objects have the numbers `first_number` + position in the index.

    `path` is that of the .pack, which may be gone. `side_files` are the suffixes of SIDE_SUFFIXES seen when
    the folder was last listed. `serial` tells open packs of this process apart (a cache of many stores
    needs it).
    """

    __slots__ = (
        "_fd",
        "_opened",
        "algo",
        "count",
        "first_number",
        "index",
        "path",
        "serial",
        "side_files",
        "size",
    )

    def __init__(self, opened: _OpenPack, first_number: int) -> None:
        self._opened = opened
        self._fd = opened.pack_fd
        self.algo = opened.algo
        self.path = opened.path
        self.index = opened.index
        self.count = opened.index.count
        self.size = opened.size
        self.serial = opened.serial
        self.first_number = first_number
        self.side_files: frozenset[str] = frozenset()

    @classmethod
    def open(cls, path: str, algo: HashAlgorithm, *, first_number: int = 0) -> "PackFile":
        """Open a pack by the path of its .pack; the .idx lies beside it. OSError, CorruptPack."""
        pack_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            idx_fd = os.open(path.removesuffix(".pack") + ".idx", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(pack_fd)
            raise
        return cls.from_fds(path, pack_fd, idx_fd, algo, first_number=first_number)

    @classmethod
    def from_fds(
        cls, path: str, pack_fd: int, idx_fd: int, algo: HashAlgorithm, *, first_number: int = 0
    ) -> "PackFile":
        """Open a pack from descriptors, which belong to it from now on (also when this raises)."""
        return cls(_OpenPack(path, pack_fd, idx_fd, algo), first_number)

    def renumbered(self, first_number: int) -> "PackFile":
        """Return the same open pack with other numbers, for another store."""
        pack = PackFile(self._opened, first_number)
        pack.side_files = self.side_files
        return pack

    def descriptor(self) -> PackDescriptor:
        """Return what a helper process needs; the descriptors stay this pack's."""
        return PackDescriptor(self.path, self._opened.pack_fd, self._opened.idx_fd)

    @property
    def identity(self) -> PackIdentity:
        """Which file the .pack is."""
        return self._opened.identity

    def is_on_disk(self) -> bool:
        """Tell whether `path` is still this file."""
        return identity_of(self.path) == self._opened.identity

    def modified_seconds(self) -> int:
        """Return when the .pack was last changed, be it on disk or not: whole seconds since 1970 (fstat(2))."""
        return int(os.fstat(self._fd).st_mtime)

    @property
    def is_promisor(self) -> bool:
        """Tell whether what its objects refer to may be missing (gitformat-pack, partial clones)."""
        return ".promisor" in self.side_files

    @property
    def mapped_bytes(self) -> int:
        """How much of the index is mapped rather than read."""
        return self._opened.mapped_bytes

    @property
    def descriptor_count(self) -> int:
        """How many descriptors are open for it; a mapping holds one of its own."""
        return 3 if self._opened.mapped_bytes else 2

    def map_content(self) -> FileMap | None:
        """Return the file as a map that survives what happens to it; None where it can only be read.

        For readers who look at the guard's count (`kernels.guard`) before they believe what they read.
        """
        return self._opened.content()

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes, fewer only where the pack ends; CorruptPack when the file became shorter."""
        length = min(length, self.size - offset)
        data = os.pread(self._fd, min(length, _READ_BYTES_MAX), offset) if length > 0 else b""
        return data if len(data) >= length else self._read_on(data, offset, length)

    def _read_on(self, data: bytes, offset: int, length: int) -> bytes:
        pieces = [data]
        done = len(data)
        while done < length:
            piece = os.pread(self._fd, min(length - done, _READ_BYTES_MAX), offset + done)
            if not piece:
                raise CorruptPack("pack file became shorter", offset + done)
            pieces.append(piece)
            done += len(piece)
        return b"".join(pieces)

    def positions_by_offset(self) -> "array[int]":
        """Return the index positions in the order of the pack. Not to be changed."""
        return self._opened.order().positions

    def end_of(self, offset: int) -> int:
        """Return where the entry at `offset` ends, which is where the next one or the trailer begins."""
        offsets = self._opened.order().offsets
        rank = bisect_right(offsets, offset)
        if rank == 0 or offsets[rank - 1] != offset:
            raise CorruptPack("no entry begins here", offset)
        return offsets[rank] if rank < len(offsets) else self.size - self.algo.oid_size

    def position_of_offset(self, offset: int) -> int:
        """Return the position of the object whose entry begins at `offset`, -1 when none does."""
        order = self._opened.order()
        rank = bisect_left(order.offsets, offset)
        if rank == len(order.offsets) or order.offsets[rank] != offset:
            return -1
        return order.positions[rank]

    def kernel_source(self) -> PackSource | None:
        """Return what the kernels read this pack by; None for an index of version 1."""
        if self.index.version != 2:
            return None
        opened = self._opened
        return self._fd, opened.index_buffer, opened.reverse_index, self.size, self.first_number, opened

    def has_order(self) -> bool:
        """Tell whether `end_of` and `position_of_offset` are ready (their first use costs about 1 us per
        object).
        """
        return self._opened.has_order()

    def close(self) -> None:
        """Close the descriptors now, for every store that shares them. Usually left to the last reference."""
        self._opened.close()
