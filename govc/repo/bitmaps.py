"""The bitmaps of a store: one file beside a pack, or beside a multi-pack-index, and what its bits mean here.

    pack      bit n is the nth object by its offset in the pack; an entry's place is one in the .idx
    multi     bit n is the nth object in pseudo-pack order (the chunk RIDX, else a .rev file); a place is one in the
              multi-pack-index

Files are believed when their checksums are right and they belong to what lies beside them; else there is a warning, and
the walk does without. git never has more than one set of bitmaps in use, and neither have we: the first that knows what
is wanted.

Source: gitformat-bitmap; git's pack-bitmap.c (open_pack_bitmap_1, open_midx_bitmap_1).
"""

import logging
import os
import sys
from array import array
from collections.abc import Iterable, Sequence

from govc.errors import Corrupt
from govc.graph.bitmap_file import BitmapFile
from govc.graph.ewah import CorruptBitmap
from govc.kernels.order import match_oids
from govc.odb.midx import FILE_NAME, MultiPackIndex, bitmap_path, read_multi_pack_index
from govc.odb.packs import PackFile
from govc.odb.store import ObjectStore
from govc.pack.format import HASH_IDS
from govc.protocol.oid import HashAlgorithm

log = logging.getLogger(__name__)

SUFFIX = ".bitmap"


class StoreBitmaps:
    """One file's sets, by the object numbers of a store. Fits graph.bitmap_closure.ReachabilityBitmaps."""

    def __init__(self, file: BitmapFile, order: Sequence[int], place_by_bit: Sequence[int]) -> None:
        """`order`: the object number of each bit; `place_by_bit`: its place in the index."""
        self._file = file
        self.order = order
        self.types = file.types
        self._bit_by_place = array("I", bytes(4 * len(place_by_bit)))
        for bit, place in enumerate(place_by_bit):
            self._bit_by_place[place] = bit

    def find_place(self, oid: bytes) -> int:
        """Return the object's place in the index, -1 for none."""
        raise NotImplementedError

    def bit_of(self, oid: bytes) -> int:
        """Return an object's bit, -1 for one that has none."""
        place = self.find_place(oid)
        return self._bit_by_place[place] if place >= 0 else -1

    def reachable(self, oid: bytes) -> int | None:
        """Return what a commit reaches, None for one without a set of its own. Raises CorruptBitmap."""
        place = self.find_place(oid)
        return self._file.reachable(place) if place >= 0 and self._file.has(place) else None


class PackBitmaps(StoreBitmaps):
    """The bitmaps of one pack."""

    def __init__(self, pack: PackFile, data: bytes) -> None:
        """Raises CorruptBitmap."""
        file = BitmapFile(data, pack.algo, pack.count)
        if file.index_checksum != pack.index.pack_checksum:
            raise CorruptBitmap("belongs to another pack")
        positions = pack.positions_by_offset()
        first = pack.first_number
        super().__init__(file, array("Q", [first + position for position in positions]), positions)
        self._index = pack.index

    def find_place(self, oid: bytes) -> int:
        """Return the object's place in the .idx, -1 for none."""
        return self._index.find(oid)


class MultiPackBitmaps(StoreBitmaps):
    """The bitmaps of a multi-pack-index."""

    def __init__(self, index: MultiPackIndex, packs: dict[str, PackFile], data: bytes, reverse: bytes) -> None:
        """`packs`: the store's, by the names of their .idx; `reverse`: the places in the order of the bits.

        Raises CorruptBitmap.
        """
        algo = _algo_of(packs)
        file = BitmapFile(data, algo, index.count)
        if file.index_checksum != index.checksum:
            raise CorruptBitmap("belongs to another multi-pack-index")
        places = array("I", reverse)
        if sys.byteorder == "little":
            places.byteswap()
        if len(places) != index.count or sorted(places) != list(range(index.count)):
            raise CorruptBitmap("its order is none")
        numbers = _numbers_of(index, packs, algo)
        super().__init__(file, array("Q", map(numbers.__getitem__, places)), places)
        self._index = index

    def find_place(self, oid: bytes) -> int:
        """Return the object's place in the multi-pack-index, -1 for none."""
        return self._index.find_position(oid)


def _algo_of(packs: dict[str, PackFile]) -> HashAlgorithm:
    return next(iter(packs.values())).algo


def _numbers_of(index: MultiPackIndex, packs: dict[str, PackFile], algo: HashAlgorithm) -> "array[int]":
    """Return by place the number of each object, in the pack that the index says."""
    numbers = array("q", [-1]) * index.count
    owners, size, names = index.owners(), algo.oid_size, index.oids()
    for rank, name in enumerate(index.packs):
        pack = packs.get(name)
        if pack is None:
            raise CorruptBitmap(f"{name} is not here")
        oids = pack.index.oids()
        places = match_oids(names, size, oids, 0, size, pack.count)
        positions = match_oids(oids, size, names, 0, size, index.count)
        for place, position in zip(places, positions, strict=True):
            if owners[place] == rank:
                numbers[place] = pack.first_number + position
    if -1 in numbers:
        raise CorruptBitmap("a pack isn't what it was")
    return numbers


def open_bitmaps(store: ObjectStore, wants: Iterable[bytes]) -> StoreBitmaps | None:
    """Return the bitmaps that know most of what is wanted, None when there are none that can be used."""
    wanted = tuple(wants)
    for directory in store.directories:
        opened = _open_of_index(store, directory)
        if opened is not None:
            return opened
    best = max(
        (pack for pack in store.packs if os.path.exists(pack_bitmap_path(pack))),
        key=lambda pack: (sum(pack.index.find(oid) >= 0 for oid in wanted), pack.count),
        default=None,
    )
    if best is None:
        return None
    try:
        return PackBitmaps(best, _read_checked(pack_bitmap_path(best), best.algo))
    except (Corrupt, OSError) as error:
        log.warning("%s is not used: %s", pack_bitmap_path(best), error)
        return None


def pack_bitmap_path(pack: PackFile) -> str:
    """Return where the bitmaps of a pack lie."""
    return pack.path.removesuffix(".pack") + SUFFIX


def _open_of_index(store: ObjectStore, directory: str) -> StoreBitmaps | None:
    """Return the bitmaps of a folder's multi-pack-index."""
    folder = f"{directory}/pack"
    if not any(name.startswith(f"{FILE_NAME}-") and name.endswith(SUFFIX) for name in _names(folder)):
        return None
    index = read_multi_pack_index(directory, store.algo)
    if index is None:
        return None
    path = bitmap_path(folder, index.checksum)
    packs = {
        os.path.basename(pack.path).removesuffix(".pack") + ".idx": pack
        for pack in store.packs
        if os.path.dirname(pack.path) == folder
    }
    try:
        data = _read_checked(path, store.algo)
        reverse = index.reverse_chunk() or _read_reverse(path.removesuffix(SUFFIX) + ".rev", index, store.algo)
        return MultiPackBitmaps(index, packs, data, reverse)
    except FileNotFoundError:
        return None  # those that lie there are of an older index
    except (Corrupt, OSError, StopIteration) as error:
        log.warning("%s is not used: %s", path, error)
        return None


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read_checked(path: str, algo: HashAlgorithm) -> bytes:
    """Read a file that ends in the hash of what comes before. Raises CorruptBitmap, OSError."""
    with open(path, "rb") as file:
        data = file.read()
    if algo.new(data[: -algo.oid_size]).digest() != data[-algo.oid_size :]:
        raise CorruptBitmap("its checksum is wrong")
    return data


def _read_reverse(path: str, index: MultiPackIndex, algo: HashAlgorithm) -> bytes:
    """Read the order of a multi-pack-index from a file of its own."""
    data = _read_checked(path, algo)
    head = b"RIDX" + (1).to_bytes(4, "big") + HASH_IDS[algo.name].to_bytes(4, "big")
    end = 12 + 4 * index.count
    if data[:12] != head or data[end : end + algo.oid_size] != index.checksum:
        raise CorruptBitmap("its reverse index belongs to another multi-pack-index")
    return data[12:end]
