"""git's multi-pack-index: one sorted list of the objects of many packs.

    objects/pack/multi-pack-index

    file    MIDX  version 1 or 2  hash id  chunks (1)  base files (1)  packs (4)  table  chunks  checksum
    PNAM    names of the packs' .idx files, in order, each with a NUL, padded to 4
    OIDF    fan-out        OIDL  oids in order
    OOFF    pack (4) and offset (4) per object; LOFF the offsets that don't fit, 8 bytes each
    RIDX    where bitmaps stand beside it: the places of the objects in the order of their bits

We write it so that plain git beside us finds objects quickly, and read it to know whether it is still right; our own
look-ups keep to the indexes of packs, of which small ones lie together in memory. An object that lies in several packs
is listed in the one that was written last; where there are bitmaps, in the preferred pack first, whose objects git then
sends as they lie.

Source: gitformat-pack "multi-pack-index (MIDX) files"; rows FS-19..21, CF-55.
"""

import logging
import os
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from heapq import merge
from typing import NamedTuple

from govc import disk
from govc.errors import Corrupt
from govc.odb.packs import PackFile
from govc.pack.chunks import (
    CorruptChunks,
    big_endian,
    check_fanout,
    encode_chunks,
    fanout_of,
    find_oid,
    is_checksum_right,
    parse_chunks,
)
from govc.pack.format import HASH_IDS
from govc.protocol.oid import HashAlgorithm

log = logging.getLogger(__name__)

FILE_NAME = "multi-pack-index"

_HEADER = struct.Struct(">4sBBBBI")
_PLACE = struct.Struct(">II")
_LARGE_BIT = 0x80000000
_U32_MAX = 0xFFFFFFFF
_ALIGNMENT = 4


class Place(NamedTuple):
    """Where an object lies: the name of the pack's .idx, and the offset in the .pack."""

    pack: str
    offset: int


class MultiPackIndex:
    """A multi-pack-index in memory. The frame is checked when it is made, the checksum by `is_whole`."""

    def __init__(self, data: bytes, algo: HashAlgorithm) -> None:
        """Raises CorruptChunks."""
        self._data = data
        self._algo = algo
        if len(data) < _HEADER.size + algo.oid_size:
            raise CorruptChunks("multi-pack-index is too small")
        signature, version, hash_id, chunk_count, _bases, pack_count = _HEADER.unpack_from(data)
        if signature != b"MIDX":
            raise CorruptChunks("multi-pack-index signature doesn't match")
        if version not in (1, 2):
            raise CorruptChunks(f"multi-pack-index version {version} is not known")
        if hash_id != HASH_IDS[algo.name]:
            raise CorruptChunks("multi-pack-index hash version doesn't match the repository's")
        chunks = parse_chunks(data, _HEADER.size, chunk_count, algo)
        for needed in (b"PNAM", b"OIDF", b"OIDL", b"OOFF"):
            if needed not in chunks:
                raise CorruptChunks(f"multi-pack-index lacks chunk {needed.decode()}")
        self._fanout = check_fanout(data, *chunks[b"OIDF"])
        self.count = self._fanout[256]
        self._oid_start, end = chunks[b"OIDL"]
        if end - self._oid_start != self.count * algo.oid_size:
            raise CorruptChunks("multi-pack-index list of objects has a wrong size")
        self._place_start, end = chunks[b"OOFF"]
        if end - self._place_start != self.count * _PLACE.size:
            raise CorruptChunks("multi-pack-index list of offsets has a wrong size")
        self._large = chunks.get(b"LOFF", (0, 0))
        self._reverse = chunks.get(b"RIDX", (0, 0))
        start, end = chunks[b"PNAM"]
        names = data[start:end].split(b"\0")[:pack_count]
        if len(names) != pack_count or any(b"/" in name or not name.endswith(b".idx") for name in names):
            raise CorruptChunks("multi-pack-index names of packs make no sense")
        self.packs = [os.fsdecode(name) for name in names]

    @property
    def checksum(self) -> bytes:
        """What the file says its checksum is."""
        return self._data[len(self._data) - self._algo.oid_size :]

    def is_whole(self) -> bool:
        """Say whether the checksum is right."""
        return is_checksum_right(self._data, self._algo)

    def find(self, oid: bytes) -> Place | None:
        """Return where an object lies, None when it isn't listed. Raises CorruptChunks."""
        position = self.find_position(oid)
        return self._place(position) if position >= 0 else None

    def find_position(self, oid: bytes) -> int:
        """Return the place of an object in the list, -1 for none."""
        return find_oid(self._data, self._oid_start, self._fanout, oid)

    def oids(self) -> memoryview:
        """Return the names, ascending, one after the other."""
        return memoryview(self._data)[self._oid_start : self._oid_start + self.count * self._algo.oid_size]

    def owners(self) -> "array[int]":
        """Return by place which of `packs` an object is listed in: array of "I"."""
        words = array("I", self._data[self._place_start : self._place_start + self.count * _PLACE.size])
        if sys.byteorder == "little":
            words.byteswap()
        return words[::2]

    def reverse_chunk(self) -> bytes:
        """Return the chunk RIDX: the places in the order of the bitmaps' bits; b"" when there is none."""
        start, end = self._reverse
        return self._data[start:end]

    def _place(self, position: int) -> Place:
        pack, offset = _PLACE.unpack_from(self._data, self._place_start + position * _PLACE.size)
        start, end = self._large
        if start and offset & _LARGE_BIT:
            at = start + 8 * (offset & ~_LARGE_BIT)
            if at + 8 > end:
                raise CorruptChunks("multi-pack-index refers to a large offset that it does not have")
            (offset,) = struct.unpack_from(">Q", self._data, at)
        if pack >= len(self.packs):
            raise CorruptChunks("multi-pack-index refers to a pack that it does not have")
        return Place(self.packs[pack], offset)


def read_multi_pack_index(objects_dir: str, algo: HashAlgorithm) -> MultiPackIndex | None:
    """Return the one of an objects folder; None when there is none, or none that can be used (with a warning)."""
    try:
        with open(f"{objects_dir}/pack/{FILE_NAME}", "rb") as file:
            return MultiPackIndex(file.read(), algo)
    except FileNotFoundError:
        return None
    except (Corrupt, OSError) as error:
        log.warning("%s: multi-pack-index is not used: %s", objects_dir, error)
        return None


class Listing(NamedTuple):
    """The objects of several packs of one folder, each once.

    packs     in the order of their names, which gives them their numbers
    oids      ascending, one after the other; an object's rank is its place
    owners    array of "I" by place: the number of the pack in which the object is listed
    offsets   array of "Q" by place
    places    by pack: array of "I", the place of each position of its index
    """

    packs: tuple[PackFile, ...]
    oids: bytes
    owners: "array[int]"
    offsets: "array[int]"
    places: "tuple[array[int], ...]"

    def pseudo_pack_order(self, preferred: PackFile) -> "array[int]":
        """Return the places as if the packs followed each other, the preferred one first: the order of bitmaps."""
        first = self.packs.index(preferred)
        order = array("I")
        for number in (first, *(n for n in range(len(self.packs)) if n != first)):
            places, owners = self.places[number], self.owners
            for position in self.packs[number].positions_by_offset():
                place = places[position]
                if owners[place] == number:
                    order.append(place)
        return order


def list_objects(packs: Sequence[PackFile], preferred: PackFile | None = None) -> Listing:
    """List the objects of packs of one folder. One in several packs counts for `preferred`, else for the newest one."""
    ordered = sorted(packs, key=lambda pack: _idx_name(pack))
    ranked = sorted(
        range(len(ordered)),
        key=lambda number: (ordered[number] is not preferred, -ordered[number].modified_seconds(), number),
    )
    rank_of = {number: rank for rank, number in enumerate(ranked)}
    oids = bytearray()
    owners, offsets = array("I"), array("Q")
    places = tuple(array("I") for _ in ordered)
    previous = b""
    for oid, _rank, number, offset in merge(*(_rows(pack, n, rank_of[n]) for n, pack in enumerate(ordered))):
        if oid != previous:
            oids += oid
            owners.append(number)
            offsets.append(offset)
            previous = oid
        places[number].append(len(owners) - 1)
    return Listing(tuple(ordered), bytes(oids), owners, offsets, places)


def encode_multi_pack_index(
    listing: Listing, algo: HashAlgorithm, pseudo_pack_order: "array[int] | None" = None
) -> Iterator[bytes]:
    """Yield the file; with an order it is one that bitmaps may stand beside."""
    large = array("Q")
    needs_large = any(offset > _U32_MAX for offset in listing.offsets)
    out = bytearray()
    for number, offset in zip(listing.owners, listing.offsets, strict=True):
        if needs_large and offset >= _LARGE_BIT:
            out += _PLACE.pack(number, _LARGE_BIT | len(large))
            large.append(offset)
        else:
            out += _PLACE.pack(number, offset)
    names = b"".join(os.fsencode(_idx_name(pack)) + b"\0" for pack in listing.packs)
    chunks = [
        (b"PNAM", names + bytes(-len(names) % _ALIGNMENT)),
        (b"OIDF", fanout_of(listing.oids[:: algo.oid_size])),
        (b"OIDL", listing.oids),
        (b"OOFF", bytes(out)),
        (b"LOFF", big_endian(large)),
        (b"RIDX", big_endian(pseudo_pack_order) if pseudo_pack_order is not None else b""),
    ]
    count = sum(bool(content) for _, content in chunks)
    return encode_chunks(algo, _HEADER.pack(b"MIDX", 1, HASH_IDS[algo.name], count, 0, len(listing.packs)), chunks)


def _idx_name(pack: PackFile) -> str:
    return os.path.basename(pack.path).removesuffix(".pack") + ".idx"


def _rows(pack: PackFile, number: int, rank: int) -> Iterator[tuple[bytes, int, int, int]]:
    for oid, offset in zip(pack.index.iter_oids(), pack.index.offsets(), strict=True):
        yield oid, rank, number, offset


def bitmap_path(folder: str, checksum: bytes) -> str:
    """Return where the bitmaps of the multi-pack-index with that checksum lie."""
    return f"{folder}/{FILE_NAME}-{checksum.hex()}.bitmap"


def remove_side_files(folder: str, checksum: bytes) -> None:
    """Remove the bitmaps and reverse indexes of other multi-pack-indexes than the one with this checksum."""
    for name in os.listdir(folder):
        if name.startswith(f"{FILE_NAME}-") and name.endswith((".bitmap", ".rev")) and checksum.hex() not in name:
            with suppress(FileNotFoundError):
                disk.unlink(f"{folder}/{name}")
