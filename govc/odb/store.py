"""All objects of one repository: its packs, its loose objects, those of its alternates.

A store is append-only and lives long. An **object number** names an object inside one store and never
changes its meaning: a packed object is `pack.first_number` + its position in the pack's index, a loose one
gets a number from LOOSE_NUMBER_FIRST on when it is first seen. An object that lies in several places has
one number as far as `find` is concerned: that of a loose object that was seen first, else the one in the
pack that was opened first.

Packs are opened largest first, later ones are appended by `refresh`. A pack that another process deleted
stays readable here; `vanished` and `superseded` tell the owner that a new store would be better
(`ObjectStore.open(..., reuse=old)`, which takes over the packs that are still there; the rest is closed
when its last user is gone).

Look-ups go: small packs (together in one dictionary), large packs, loose files, then the pack folders are
listed again, as git does: that an object is absent is never remembered.

Nothing here switches greenlets and nothing locks. A helper process that inherits the descriptors uses
`ObjectStore.from_descriptors`, and has the same numbers for packed objects.
"""

import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import compress
from operator import not_
from typing import TypeVar

from govc.errors import Corrupt, ObjectMissing
from govc.kernels.chainread import ChainReader
from govc.kernels.guard import fault_count
from govc.kernels.order import match_oids
from govc.kernels.packread import PackReader, PackTable
from govc.kernels.stamps import Stamps
from govc.late_log import LateLog
from govc.odb.alternates import ObjectDirectories, find_object_directories
from govc.odb.cache import BaseCache, StoreStatistics
from govc.odb.kernel_tables import KernelTables
from govc.odb.listing import list_packs
from govc.odb.loose import (
    has_loose_object,
    iter_loose_content,
    iter_loose_oids,
    loose_path,
    read_loose_header,
    read_loose_object,
)
from govc.odb.pack_set import LISTING_TRIES, PackSet
from govc.odb.packs import PackDescriptor, PackFile
from govc.odb.resolve import PackEntry, Resolver
from govc.odb.torn import torn_files
from govc.protocol.oid import HashAlgorithm
from govc.watch import ClockNs, StatFunction, WatchedFile, watch_folder, watch_path

log = LateLog(__name__)

LOOSE_NUMBER_FIRST = 1 << 40
"""Object numbers from here on are those of loose objects."""

OBJECT_BYTES_MAX = 2 << 30
_FEW_OIDS = 512
"""Up to so many loose objects are looked for by name; for more the folders are listed."""
SMALL_OBJECT_BYTES = 64 << 10
"""Up to this size an object is read by the kernel while everybody waits: well below a millisecond."""

KERNEL_CACHE_BYTES = 16 << 20
"""Bases that one reader keeps while its work lasts."""

_DIRECTORIES_TRIES = 10
_Result = TypeVar("_Result")


class ObjectStore:
    """See the story of this module. Make one with `open` or `from_descriptors`."""

    def __init__(
        self,
        directories: ObjectDirectories,
        algo: HashAlgorithm,
        *,
        cache: BaseCache | None = None,
        object_bytes_max: int = OBJECT_BYTES_MAX,
        extra_alternates: Sequence[str] = (),
        stat: StatFunction = os.stat,
        clock_ns: ClockNs = time.time_ns,
    ) -> None:
        self.algo = algo
        self.cache = BaseCache() if cache is None else cache
        self.superseded = False
        """Objects that have numbers as loose ones were found in a new pack since."""
        self._directories = directories
        self._extra_alternates = tuple(extra_alternates)
        self._resolver = Resolver(algo, self.cache, object_bytes_max=object_bytes_max)
        self._object_bytes_max = object_bytes_max
        self._stat = stat
        self._clock_ns = clock_ns
        self._packs = PackSet(algo, stat=stat, clock_ns=clock_ns)
        self.top: range | None = None
        """The numbers of the pack on top, of an `overlaid_by` store."""
        self._loose_oids: list[bytes] = []
        self._loose_numbers: dict[bytes, int] = {}
        self._watches: dict[str, WatchedFile] = {}
        self._is_fixed = False
        self._faults_before = fault_count()
        self._tables = KernelTables(self._packs, algo.oid_size, object_bytes_max)

    @classmethod
    def open(
        cls,
        objects_dir: str,
        algo: HashAlgorithm,
        *,
        reuse: "ObjectStore | None" = None,
        extra_alternates: Sequence[str] = (),
        cache: BaseCache | None = None,
        object_bytes_max: int = OBJECT_BYTES_MAX,
        stat: StatFunction = os.stat,
        clock_ns: ClockNs = time.time_ns,
    ) -> "ObjectStore":
        """Open the objects folder and its alternates; those in `extra_alternates` are searched first among
        these.

        Packs of `reuse` that are still the files on disk are taken over open, with new numbers, and its
        cache too. `stat` and `clock_ns` tell when folders have changed (govc.watch).
        """
        if cache is None and reuse is not None:
            cache = reuse.cache
        store = cls(
            ObjectDirectories((objects_dir,), (), ()),
            algo,
            cache=cache,
            object_bytes_max=object_bytes_max,
            extra_alternates=extra_alternates,
            stat=stat,
            clock_ns=clock_ns,
        )
        store._rescan({pack.path: pack for pack in reuse.packs} if reuse is not None else {})
        return store

    @classmethod
    def from_descriptors(
        cls,
        objects_dirs: Sequence[str],
        algo: HashAlgorithm,
        descriptors: Iterable[tuple[str, int, int]],
        *,
        cache: BaseCache | None = None,
        object_bytes_max: int = OBJECT_BYTES_MAX,
    ) -> "ObjectStore":
        """Open a store over packs given by open descriptors, which it owns from now on.

        With the descriptors of another store, in the order of `descriptors()`, packed objects have the same
        numbers. Loose objects are looked for in `objects_dirs`; the folders are listed again only when an object is
        nowhere else.
        """
        store = cls(
            ObjectDirectories(tuple(objects_dirs), (), ()),
            algo,
            cache=cache,
            object_bytes_max=object_bytes_max,
        )
        store._is_fixed = True
        for path, pack_fd, idx_fd in descriptors:
            store._packs.append(PackFile.from_fds(path, pack_fd, idx_fd, algo))
        return store

    def overlaid(self, objects_dir: str) -> "ObjectStore":
        """Return a store that has the objects of this one, with their numbers, and those in `objects_dir` beyond.

        This is how a push sees its quarantine. An object that lies in both is this store's. Short-lived:
        numbers that either gives from now on mean nothing to the other.
        """
        below = self._directories
        store = self._continued(ObjectDirectories((objects_dir, *below.directories), below.watched, below.messages))
        store._packs.rescan((objects_dir,), {}, is_partial=True)
        return store

    def overlaid_by(self, pack: PackFile | None) -> "ObjectStore":
        """Return the same with one pack on top that isn't to be found yet, or with nothing."""
        store = self._continued(self._directories)
        store.top = range(store._packs.next_number, store._packs.next_number + (pack.count if pack else 0))
        if pack is not None:
            store._packs.append(pack)
        return store

    def _continued(self, directories: ObjectDirectories) -> "ObjectStore":
        store = ObjectStore(
            directories,
            self.algo,
            cache=self.cache,
            object_bytes_max=self._object_bytes_max,
            extra_alternates=self.directories if directories is not self._directories else self._extra_alternates,
            stat=self._stat,
            clock_ns=self._clock_ns,
        )
        store._packs = self._packs.continued()
        store._tables = self._tables.continued(store._packs)
        store._loose_oids = list(self._loose_oids)
        store._loose_numbers = dict(self._loose_numbers)
        store._watches = dict(self._watches)
        return store

    def expect(self, pack: PackFile) -> None:
        """Take an open pack over when it is found in a folder, instead of opening it again."""
        self._packs.expected[pack.path] = pack

    @property
    def expected_count(self) -> int:
        """How many packs are held open for the next listing of the folders to find."""
        return len(self._packs.expected)

    def is_overlaid(self, number: int) -> bool:
        """Tell whether an object lies only in the first folder: in an `overlaid` store, the one on top."""
        if self.top is not None:
            return number in self.top
        own, *others = self._directories.directories
        if number < LOOSE_NUMBER_FIRST:
            return self._packs.locate(number)[0].path.startswith(f"{own}/")
        oid = self.oid_of(number)
        return not any(has_loose_object(directory, oid) for directory in others)

    # Folders

    @property
    def packs(self) -> tuple[PackFile, ...]:
        """The open packs by ascending `first_number`."""
        return tuple(self._packs)

    @property
    def vanished(self) -> bool:
        """A pack that is open here is no longer in its folder, or is another file by now."""
        return self._packs.vanished

    @property
    def has_unusable_packs(self) -> bool:
        """Some pack in the folders is damaged, or has a damaged index: objects may be missing that should be there."""
        return self._packs.has_unusable or bool(torn_files(self.directories, self._faults_before))

    @property
    def directories(self) -> tuple[str, ...]:
        """The objects folders that are searched, the own one first."""
        return self._directories.directories

    @property
    def messages(self) -> tuple[str, ...]:
        """What the alternates files name and we couldn't use."""
        return self._directories.messages

    def watched(self) -> tuple[str, ...]:
        """Return the paths whose change (stat) may change what this store holds; some may not exist."""
        return self._directories.pack_folders + self._directories.watched

    def descriptors(self) -> list[PackDescriptor]:
        """Return what `from_descriptors` needs in another process. They stay open as long as this store's
        packs.
        """
        return [pack.descriptor() for pack in self._packs]

    def refresh(self) -> bool:
        """Look at the folders again where their stamps changed; True when a pack came or went."""
        if self._is_fixed:
            return self._add_new_packs()
        if self._is_current():
            return False
        return self._rescan({})

    def _add_new_packs(self) -> bool:
        """Open the packs that appeared since this store got its descriptors: what was loose may lie there by now."""
        known = {pack.path for pack in self._packs}
        count = len(known)
        for _ in range(LISTING_TRIES):
            was_missed = False
            for directory in self._directories.directories:
                for path in list_packs(directory):
                    if path in known:
                        continue
                    try:
                        self._packs.append(PackFile.open(path, self.algo))
                        known.add(path)
                    except FileNotFoundError:  # repacked since: its objects lie in another one
                        was_missed = True
                    except (OSError, Corrupt):  # not whole: an object in it is missing, as told
                        known.add(path)
            if not was_missed:
                break
        return len(self._packs) > count

    def watched_files(self) -> list[WatchedFile] | None:
        """Return the files that prove that no pack came or went; None when these are not all (alternates, bad
        packs)."""
        if len(self.directories) > 1 or self.has_unusable_packs or self.vanished or self.superseded:
            return None
        watches = [self._watches.get(path) for path in self.watched()]
        return [watch for watch in watches if watch is not None] if None not in watches else None

    def _is_current(self) -> bool:
        for path in self.watched():
            watch = self._watches.get(path)
            if watch is None or not watch.is_current(self._stat):
                return False
        return not self._packs.refused_changed()

    def _rescan(self, reusable: dict[str, PackFile]) -> bool:
        # Stamps are older than what they vouch for: a change in between is met as a change later. They are kept
        # only when all went well: what failed for lack of descriptors is tried again.
        self._directories, watches = self._find_directories()
        added = self._packs.rescan(self._directories.directories, reusable)
        self._watches = watches
        if added and not self.superseded:
            self.superseded = any(pack.index.find(oid) >= 0 for pack in added for oid in self._loose_oids)
        return added is not None

    def _find_directories(self) -> tuple[ObjectDirectories, dict[str, WatchedFile]]:
        """Follow the alternates; return the folders, and the stamps of all that is watched, taken before reading."""
        own = self._directories.directories[0]
        found = self._directories
        for _ in range(_DIRECTORIES_TRIES):
            watches = {path: watch_folder(path, self._stat, self._clock_ns) for path in found.pack_folders}
            watches.update((path, watch_path(path, self._stat, self._clock_ns)) for path in found.watched)
            found = find_object_directories(own, self._extra_alternates)
            if {*found.pack_folders, *found.watched} <= watches.keys():
                break
        for message in found.messages:
            if message not in self._directories.messages:
                log.warning("%s", message)
        return found, watches

    # For kernels

    def pack_table(self) -> PackTable | None:
        """Return the packs as the kernels see them, under the same numbers.

        None where nothing was compiled, and when some pack can't be read that way.
        """
        return self._tables.whole()

    @property
    def object_bytes_max(self) -> int:
        """The largest object that is read whole."""
        return self._object_bytes_max

    def pack_reader(self, cache_bytes: int = KERNEL_CACHE_BYTES) -> PackReader | None:
        """Return a reader of the packs for one piece of work, None where there is no table."""
        table = self.pack_table()
        return PackReader(table, cache_bytes, self._object_bytes_max) if table is not None else None

    def chain_reader(self, cache_bytes: int) -> ChainReader | None:
        """Return a reader for single objects, as a program asks for them, None where there is no table.

        It maps the packs that it reads in.
        """
        table = self.pack_table()
        if table is None:
            return None
        packs = tuple(self._packs)
        return ChainReader(table, cache_bytes, self._object_bytes_max, lambda place: packs[place].map_content())

    def pack_of(self, number: int) -> PackFile:
        """Return the pack that a packed object lies in; IndexError."""
        return self._packs.locate(number)[0]

    # Looking up

    def find(self, oid: bytes, *, rescan: bool = True) -> int:
        """Return the number of the object, -1 when it is nowhere.

        `rescan=False` leaves out listing the pack folders again: for callers who expect many absent objects
        and don't mind missing one that another process is just packing.
        """
        number = self._find_now(oid)
        return self._find_now(oid) if number < 0 and rescan and self.refresh() else number

    def _find_now(self, oid: bytes) -> int:
        """Look through packs, then loose files. An object that has a loose number keeps it while it is
        anywhere.
        """
        loose = self._loose_numbers.get(oid, -1) if self._loose_numbers else -1
        number = self._find_packed(oid)
        if number >= 0:
            return number if loose < 0 else loose
        if not self._is_loose(oid):
            return -1
        if loose < 0:
            loose = LOOSE_NUMBER_FIRST + len(self._loose_oids)
            self._loose_oids.append(oid)
            self._loose_numbers[oid] = loose
        return loose

    def _find_packed(self, oid: bytes) -> int:
        """Look through the packs: large ones by the kernels' table, what it doesn't know last in any case."""
        table = self._tables.recent()
        number = table.find(oid) if table is not None else -1
        if number >= 0 or (table is not None and self._tables.end == self._packs.next_number):
            return number
        return self._packs.find(oid)

    def find_among(self, oids_sorted: bytes) -> "array[int]":
        """Return the ranks in `oids_sorted` (oids in ascending order) of the objects that are here, ascending.

        Folders are not listed again for packs. Far cheaper than asking for one after the other, where they are many.
        """
        size = self.algo.oid_size
        if len(oids_sorted) <= _FEW_OIDS * size:
            oids = [oids_sorted[at : at + size] for at in range(0, len(oids_sorted), size)]
            find = self._find_packed
            packed = [find(oid) >= 0 for oid in oids]
            places = [
                loose_path(folder, oid) for folder in self.directories for oid in compress(oids, map(not_, packed))
            ]
            if Stamps((), places).are_current():  # one call for what is mostly the case: nothing of them is there
                return array("I", compress(range(len(oids)), packed))
            return array("I", [rank for rank, oid in enumerate(oids) if packed[rank] or self._is_loose(oid)])
        found: set[int] = set()
        for pack in self._packs:
            found.update(pack.index.find_among(oids_sorted))
        for directory in self._directories.directories:
            listed = b"".join(iter_loose_oids(directory, self.algo))
            found.update(match_oids(oids_sorted, size, listed, 0, size, len(listed) // size))
        return array("I", sorted(found))

    def _is_loose(self, oid: bytes) -> bool:
        return any(has_loose_object(directory, oid) for directory in self._directories.directories)

    def contains(self, oid: bytes, *, rescan: bool = True) -> bool:
        """Tell whether the object is there."""
        return self.find(oid, rescan=rescan) >= 0

    def oid_of(self, number: int) -> bytes:
        """Return the oid of an object; IndexError for a number that was never given."""
        if number >= LOOSE_NUMBER_FIRST:
            return self._loose_oids[number - LOOSE_NUMBER_FIRST]
        pack, position = self._packs.locate(number)
        return pack.index.oid_at(position)

    def entry(self, number: int) -> PackEntry | None:
        """Return where and how a packed object lies; None for a loose one. CorruptPack."""
        if number >= LOOSE_NUMBER_FIRST:
            return None
        pack, position = self._packs.locate(number)
        return self._resolver.entry(pack, position)

    def iter_oids(self) -> Iterator[bytes]:
        """Yield every oid of packs and loose files; one that lies in several places comes several times."""
        for pack in self.packs:
            yield from pack.index.iter_oids()
        for directory in self._directories.directories:
            yield from iter_loose_oids(directory, self.algo)

    # Reading

    def read(self, number: int) -> tuple[int, bytes]:
        """Return (type 1-4, content).

        A damaged copy is passed over when there is another one. Raises Corrupt, LimitExceeded;
        ObjectMissing when a loose object is gone and lies nowhere else.
        """
        if number < LOOSE_NUMBER_FIRST:
            small = self._tables.small_reader(number)
            found = small.read_small(number, SMALL_OBJECT_BYTES) if small is not None else None
            if found is not None:
                return found
            pack, position = self._packs.locate(number)
            try:
                return self._resolver.read(pack, pack.index.offset_at(position))
            except Corrupt as error:
                return self._read_elsewhere(pack.index.oid_at(position), pack, error)
        oid = self.oid_of(number)
        for directory in self._directories.directories:
            try:
                return read_loose_object(directory, oid, object_bytes_max=self._object_bytes_max)
            except FileNotFoundError:
                continue
            except Corrupt as error:
                return self._read_elsewhere(oid, None, error)
        return self._from_packs(oid, self._resolver.read)

    def read_oid(self, oid: bytes) -> tuple[int, bytes]:
        """Return (type 1-4, content); ObjectMissing when it is nowhere, else as `read`."""
        number = self.find(oid)
        if number < 0:
            raise ObjectMissing(oid)
        return self.read(number)

    def _read_elsewhere(self, oid: bytes, damaged: PackFile | None, error: Corrupt) -> tuple[int, bytes]:
        """Return another copy of an object of which one is damaged, or raise what was wrong with that."""
        log.error("damaged copy of %s in %s: %s", oid.hex(), damaged.path if damaged else "a file", error)
        for pack in self._packs:
            position = pack.index.find(oid) if pack is not damaged else -1
            if position >= 0:
                try:
                    return self._resolver.read(pack, pack.index.offset_at(position))
                except Corrupt:
                    continue
        for directory in self._directories.directories if damaged is not None else ():
            try:
                return read_loose_object(directory, oid, object_bytes_max=self._object_bytes_max)
            except (FileNotFoundError, Corrupt):
                continue
        raise error

    def _from_packs(self, oid: bytes, read: Callable[[PackFile, int], _Result]) -> _Result:
        """Read a loose object that was packed and removed since it got its number."""
        for is_fresh in (False, True):
            if is_fresh and not self.refresh():
                break
            for pack in self._packs:
                position = pack.index.find(oid)
                if position >= 0:
                    return read(pack, pack.index.offset_at(position))
        raise ObjectMissing(oid)

    def _loose_header(self, number: int) -> tuple[int, int] | None:
        """Return (type, size) of a loose object; None when its file is gone."""
        for directory in self._directories.directories:
            try:
                return read_loose_header(directory, self.oid_of(number))
            except FileNotFoundError:
                continue
        return None

    def type_of(self, number: int) -> int:
        """Return the type (1-4), through delta chains without inflating anything. Raises as `read`."""
        if number >= LOOSE_NUMBER_FIRST:
            header = self._loose_header(number)
            return header[0] if header else self._from_packs(self.oid_of(number), self._resolver.type_of)
        if (small := self._tables.small_reader(number)) is not None:
            return small.type_and_size(number)[0]
        pack, position = self._packs.locate(number)
        return self._resolver.type_of(pack, pack.index.offset_at(position))

    def size_of(self, number: int) -> int:
        """Return the size of the content in bytes, from headers. Raises as `read`."""
        if number >= LOOSE_NUMBER_FIRST:
            header = self._loose_header(number)
            return header[1] if header else self._from_packs(self.oid_of(number), self._resolver.size_of)
        if (small := self._tables.small_reader(number)) is not None:
            return small.type_and_size(number)[1]
        pack, position = self._packs.locate(number)
        return self._resolver.size_of(pack, pack.index.offset_at(position))

    def iter_content(self, number: int, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """Yield the content in pieces of at most `chunk_bytes`.

        Whole entries and loose files are streamed and may be of any size; the result of a delta is made in
        memory. Raises as `read`, perhaps after some pieces.
        """
        if number < LOOSE_NUMBER_FIRST:
            pack, position = self._packs.locate(number)
            yield from self._resolver.iter_content(pack, pack.index.offset_at(position), chunk_bytes)
            return
        oid = self.oid_of(number)
        for directory in self._directories.directories:
            with suppress(FileNotFoundError):
                yield from iter_loose_content(directory, oid, chunk_bytes)
                return
        content = self._from_packs(oid, self._resolver.read)[1]
        for at in range(0, len(content), chunk_bytes):
            yield content[at : at + chunk_bytes]

    def freshen(self, number: int) -> bool:
        """Set the times of the file that holds the object to now, which saves it from pruning; False if we
        may not.

        As git does when it would write an object that is there already. Never in an alternate.
        """
        own = self._directories.directories[0]
        if number >= LOOSE_NUMBER_FIRST:
            path = loose_path(own, self.oid_of(number))
        else:
            path = self._packs.locate(number)[0].path
            if not path.startswith(f"{own}/"):
                return False
        try:
            os.utime(path)
        except OSError:
            return False
        return True

    @property
    def descriptor_count(self) -> int:
        """How many files the packs hold open."""
        return self._packs.descriptors

    def statistics(self) -> StoreStatistics:
        """Return the sizes for metrics."""
        return StoreStatistics(
            packs=len(self._packs),
            packed_objects=self._packs.next_number,
            loose_objects_seen=len(self._loose_oids),
            descriptors=self._packs.descriptors,
            mapped_bytes=sum(pack.mapped_bytes for pack in self._packs),
            pack_bytes=sum(pack.size for pack in self._packs),
            cache=self.cache.statistics(),
        )
