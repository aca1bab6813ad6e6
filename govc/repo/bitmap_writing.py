"""Reachability bitmaps, written by our maintenance so that plain git beside us lists objects without reading trees.

    objects/pack/pack-*.bitmap                 of the largest pack, where that is all there is, or nearly
    objects/pack/multi-pack-index-*.bitmap     of the multi-pack-index, which is then written with them

Written where git would, and only where it is true: what a set says git takes for all there is. So not in partial,
shallow or grafted repositories, nor where objects are borrowed; and each commit's set is checked to be closed: one that
reaches an object outside the pack or the index has none. git uses one file of them, so what the new one replaces goes.

Each file is written anew when a sixteenth of what it covers would be new. A multi-pack-index with bitmaps that are
good enough stays as it is though packs have come: git looks into those besides.

The history comes from the introductions index where a server has filled it, else each tree is read once.

Source: git-config "repack.writeBitmaps", "pack.writeBitmapHashCache", "pack.writeBitmapLookupTable",
"pack.preferBitmapTips", "core.multiPackIndex"; git-repack "--write-bitmap-index"; gitformat-bitmap; rows CF-70, CF-73.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from govc import disk
from govc.config.config import Config
from govc.graph.bitmap_closure import reach
from govc.graph.bitmap_encoding import encode_bitmap_file
from govc.graph.bitmap_order import BitOrder
from govc.graph.bitmap_sets import BitmapMaker
from govc.graph.commits import CommitTable, History
from govc.graph.interface import drain
from govc.graph.view import View
from govc.objects.types import COMMIT
from govc.odb.midx import FILE_NAME, bitmap_path, encode_multi_pack_index, list_objects, remove_side_files
from govc.odb.modes import FileModes
from govc.odb.packs import PackFile
from govc.odb.store import ObjectStore
from govc.repo.bitmaps import SUFFIX, MultiPackBitmaps, open_bitmaps, pack_bitmap_path
from govc.repo.introductions import Introductions
from govc.repo.placing import replace_locked, write_temporary

NEW_COMMITS_DIVISOR = 16
"""Bitmaps are written anew when a sixteenth of their commits would be new."""

LARGEST_SHARE = 15 / 16
"""A pack with so much of all objects has bitmaps of its own: they live longer than those of a multi-pack-index."""

READER_CACHE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BitmapSettings:
    """What the configuration says. `preferred`: prefixes of refs whose commits shall have sets."""

    wanted: bool = True
    name_hashes: bool = True
    lookup_table: bool = False
    preferred: tuple[bytes, ...] = ()

    @classmethod
    def from_config(cls, config: Config, *, is_bare: bool) -> "BitmapSettings":
        """Read the settings. Raises BadConfig."""
        old_name = config.get_bool("pack.writebitmaps", is_bare)
        return cls(
            wanted=config.get_bool("repack.writebitmaps", old_name),
            name_hashes=config.get_bool("pack.writebitmaphashcache", True),
            lookup_table=config.get_bool("pack.writebitmaplookuptable", False),
            preferred=tuple(map(os.fsencode, config.get_all("pack.preferbitmaptips"))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BitmapSite:
    """One repository whose bitmaps are to be looked after. `packs`: its own; `tips`: commits that refs lead to."""

    store: ObjectStore
    packs: Sequence[PackFile]
    objects_dir: str
    modes: FileModes
    tips: Sequence[bytes]
    preferred: Sequence[bytes]
    settings: BitmapSettings
    with_multi_pack_index: bool = True


class Written(NamedTuple):
    """What was written: how many commits have bitmaps, and how many packs the new multi-pack-index has."""

    commits: int = 0
    packs_indexed: int = 0


def write_bitmaps(site: BitmapSite, introductions: Introductions) -> Written:
    """Write bitmaps unless those that are there are good enough.

    Raises OSError, ObjectMissing, Corrupt, LimitExceeded.
    """
    store = site.store
    plain = [pack for pack in site.packs if ".mtimes" not in pack.side_files]
    is_whole = len(store.directories) == 1 and not any(pack.is_promisor for pack in store.packs)
    if not site.tips or not plain or not is_whole or _are_enough(site):
        return Written()
    largest = max(plain, key=lambda pack: (pack.count, pack.path))
    is_all = largest.count >= LARGEST_SHARE * sum(pack.count for pack in site.packs)
    view = introductions.whole_view(store, site.tips, cache_bytes=READER_CACHE_BYTES)
    write = _write_for_pack if is_all or not site.with_multi_pack_index else _write_for_index
    return write(site, largest, view)


def _are_enough(site: BitmapSite) -> bool:
    """Say whether the bitmaps that are there leave little of what lies in packs to be walked. Raises Corrupt."""
    store = site.store
    bitmaps = open_bitmaps(store, site.tips)
    if bitmaps is None or (isinstance(bitmaps, MultiPackBitmaps) and not site.with_multi_pack_index):
        return False
    numbers = [store.find(oid) for oid in site.tips]
    side = drain(reach(History(CommitTable(store)), numbers, bitmaps, 0))
    if side is None:
        return False
    ranges = [range(pack.first_number, pack.first_number + pack.count) for pack in site.packs]
    fresh = sum(any(number in inside for inside in ranges) for number in side.fresh)
    return fresh * NEW_COMMITS_DIVISOR <= (side.bits & bitmaps.types[COMMIT]).bit_count()


def _write_for_pack(site: BitmapSite, pack: PackFile, view: View) -> Written:
    order = BitOrder(pack.index.oids(), pack.algo.oid_size, pack.positions_by_offset(), pack.index.pack_checksum)
    count, pieces = _make(site, order, view, lambda place: site.store.type_of(pack.first_number + place))
    if not count:
        return Written()
    path = pack_bitmap_path(pack)
    temporary = write_temporary(site.objects_dir, "bitmap", pieces, site.modes)
    if not pack.is_on_disk():  # somebody repacks: bitmaps without their pack would only lie about
        disk.unlink(temporary)
        return Written()
    disk.rename(temporary, path)
    _remove(other for one in site.packs if (other := pack_bitmap_path(one)) != path)
    folder = f"{site.objects_dir}/pack"
    of_index = (name for name in os.listdir(folder) if name.startswith(f"{FILE_NAME}-") and name.endswith(SUFFIX))
    _remove(f"{folder}/{name}" for name in of_index)
    return Written(count)


def _write_for_index(site: BitmapSite, preferred: PackFile, view: View) -> Written:
    algo = site.store.algo
    listing = list_objects(site.packs, preferred)
    place_by_bit = listing.pseudo_pack_order(preferred)
    index_pieces = list(encode_multi_pack_index(listing, algo, place_by_bit))
    order = BitOrder(listing.oids, algo.oid_size, place_by_bit, index_pieces[-1])
    packs, owners, oid_size = listing.packs, listing.owners, algo.oid_size

    def type_of(place: int) -> int:
        pack = packs[owners[place]]
        oid = listing.oids[place * oid_size : (place + 1) * oid_size]
        return site.store.type_of(pack.first_number + pack.index.find(oid))

    count, pieces = _make(site, order, view, type_of)
    if not count:
        return Written()
    folder = f"{site.objects_dir}/pack"
    path = bitmap_path(folder, order.checksum)
    temporary = write_temporary(site.objects_dir, "bitmap", pieces, site.modes)
    if not all(pack.is_on_disk() for pack in site.packs):
        disk.unlink(temporary)
        return Written()
    # First the bitmaps, then the index that they belong to: nobody looks for them before.
    disk.rename(temporary, path)
    if not replace_locked(f"{folder}/{FILE_NAME}", site.objects_dir, index_pieces, site.modes):
        _remove([path])
        return Written()
    remove_side_files(folder, order.checksum)
    _remove(pack_bitmap_path(pack) for pack in site.packs)
    return Written(count, len(site.packs))


def _make(site: BitmapSite, order: BitOrder, view: View, type_of: Callable[[int], int]) -> tuple[int, Iterator[bytes]]:
    """Return how many commits have a set, and the file."""
    maker = BitmapMaker(view, order)
    bitmaps = maker.make(site.tips, site.preferred, type_of)
    settings = site.settings
    pieces = encode_bitmap_file(
        bitmaps,
        site.store.algo,
        order.bit_count,
        order.checksum,
        name_hashes=maker.name_hashes() if settings.name_hashes else None,
        has_lookup_table=settings.lookup_table,
    )
    return len(bitmaps.entries), pieces


def _remove(paths: Iterable[str]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            disk.unlink(path)
