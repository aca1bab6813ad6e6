"""The packs of a store: which there are, what numbers their objects have, which of them holds an oid.

Packs are opened largest first, later ones are appended; numbers never change. An object that lies in
several packs is found in the one that was opened first, at any time. Small packs share one dictionary, so
that hundreds of them (a repository between two consolidations) cost one look-up; large ones are asked one
by one.
"""

import os
import time
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from govc.errors import CorruptPack
from govc.late_log import LateLog
from govc.odb.listing import NO_NAMES, Listed, Names, changed_stems, pair_up, read_names
from govc.odb.packs import PackFile, identity_of
from govc.protocol.oid import HashAlgorithm
from govc.watch import OUR_TROUBLE, ClockNs, StatFunction, WatchedFile, are_current, watch_path

log = LateLog(__name__)

_SMALL_PACK_COUNT_MAX = 4096
_SMALL_TABLE_COUNT_MAX = 1 << 16
LISTING_TRIES = 10
"""So often folders are listed again because a pack was gone before it was opened: what was in it lies in another."""


class PackSet:
    """An append-only list of open packs."""

    __slots__ = (
        "_algo",
        "_base_limit",
        "_base_table",
        "_by_path",
        "_clock_ns",
        "_first_numbers",
        "_large_packs",
        "_names",
        "_packs",
        "_refused",
        "_small_table",
        "_stat",
        "descriptors",
        "expected",
        "next_number",
        "vanished",
    )

    def __init__(self, algo: HashAlgorithm, *, stat: StatFunction = os.stat, clock_ns: ClockNs = time.time_ns) -> None:
        self._algo = algo
        self._stat = stat
        self._clock_ns = clock_ns
        self.next_number = 0
        self.descriptors = 0
        """How many the packs hold open together."""
        self.vanished = False
        self.expected: dict[str, PackFile] = {}
        """Open packs by the path at which the next listing will find them: a push that has just moved its own."""
        self._packs: list[PackFile] = []
        self._first_numbers = array("Q")
        self._by_path: dict[str, PackFile] = {}
        self._large_packs: list[PackFile] = []
        self._small_table: dict[bytes, int] = {}
        # What the folders held when they were last listed: a folder that was just pushed to is listed again and again,
        # since its stamp proves nothing yet.
        self._names: dict[str, Names] = {}
        # Packs that could not be opened, with .pack and .idx as they were then: either may be completed in place.
        self._refused: dict[str, tuple[WatchedFile, ...]] = {}
        # For a set that continues another one: the other's table, of which numbers below the limit count.
        self._base_table: dict[bytes, int] = {}
        self._base_limit = 0

    @property
    def has_large(self) -> bool:
        """Some pack is so large that it is asked by itself."""
        return bool(self._large_packs)

    @property
    def has_unusable(self) -> bool:
        """Some pack that was met could not be opened, and is still there."""
        return bool(self._refused)

    def refused_changed(self) -> bool:
        """Tell whether a pack that could not be opened deserves another try; the folder's stamp doesn't show it."""
        return not all(are_current(files, self._stat) for files in self._refused.values())

    def continued(self) -> "PackSet":
        """Return a set with the same packs and numbers, to which others can be added without a change to
        this one.
        """
        continued = PackSet(self._algo, stat=self._stat, clock_ns=self._clock_ns)
        continued.next_number = self.next_number
        continued.descriptors = self.descriptors
        continued._packs = list(self._packs)
        continued._first_numbers = self._first_numbers[:]
        continued._by_path = dict(self._by_path)
        continued._large_packs = list(self._large_packs)
        continued._small_table = dict(self._small_table) if self._base_table else {}
        continued._base_table = self._base_table or self._small_table
        continued._base_limit = self._base_limit if self._base_table else self.next_number
        return continued

    def __iter__(self) -> Iterator[PackFile]:
        return iter(self._packs)

    def __len__(self) -> int:
        return len(self._packs)

    def append(self, pack: PackFile) -> PackFile:
        """Add an open pack under the next numbers, and return it as it is numbered here."""
        pack = pack.renumbered(self.next_number)
        self._packs.append(pack)
        self._by_path[pack.path] = pack
        self._first_numbers.append(pack.first_number)
        self.next_number += pack.count
        self.descriptors += pack.descriptor_count
        table = self._small_table
        is_small = pack.count <= _SMALL_PACK_COUNT_MAX and len(table) + pack.count <= _SMALL_TABLE_COUNT_MAX
        if is_small and len(self._packs) > 1:  # the first one is the largest: its own index is asked, and no table made
            for number, oid in enumerate(pack.index.iter_oids(), pack.first_number):
                table.setdefault(oid, number)
        else:
            self._large_packs.append(pack)
        return pack

    def find(self, oid: bytes) -> int:
        """Return the lowest number of the object, -1 when no pack holds it."""
        best = self._base_table.get(oid, -1) if self._base_limit else -1
        if best < 0 or best >= self._base_limit:
            best = self._small_table.get(oid, -1)
        for pack in self._large_packs:
            if 0 <= best < pack.first_number:
                break
            position = pack.index.find(oid)
            if position >= 0:
                return pack.first_number + position
        return best

    def locate(self, number: int) -> tuple[PackFile, int]:
        """Return the pack and the position that a number means; IndexError for one that was never given."""
        if not 0 <= number < self.next_number:
            raise IndexError(f"no object has the number {number}")
        pack = self._packs[bisect_right(self._first_numbers, number) - 1]
        return pack, number - pack.first_number

    def rescan(
        self, objects_dirs: Iterable[str], reusable: dict[str, PackFile], *, is_partial: bool = False
    ) -> list[PackFile] | None:
        """List the pack folders; open what is new, taking over what is in `reusable` (by path) if it is the file.

        Return the packs that were added; None when nothing came and nothing went. Sets `vanished` when a pack is
        gone or was replaced by another file; it stays readable by number. With `is_partial`, these aren't all
        the folders, and nothing is taken for gone.
        """
        folders = tuple(objects_dirs)
        added: list[PackFile] = []
        has_gone = False
        for _ in range(LISTING_TRIES):
            opened, is_gone, was_missed = self._list_and_open(folders, reusable, is_partial)
            added += opened
            has_gone |= is_gone
            if not was_missed:
                break
        if not is_partial:
            self.expected.clear()
        return added if added or has_gone else None

    def _list_and_open(
        self, objects_dirs: Iterable[str], reusable: dict[str, PackFile], is_partial: bool
    ) -> tuple[list[PackFile], bool, bool]:
        """Return the packs that were added; whether one has gone; and whether one went before it could be opened."""
        names = {path: _read_or_nothing(path, self._names.get(path, NO_NAMES)) for path in objects_dirs}
        listing: dict[str, Listed] = {}
        if names.keys() != self._names.keys() or self._refused or any(found.has_links for found in names.values()):
            for directory, found in names.items():
                listing.update(pair_up(directory, found))
            asked: Iterable[str] = list(self._by_path)
        else:
            asked = []
            for directory, found in names.items():
                if found is not self._names[directory]:
                    stems = changed_stems(self._names[directory], found)
                    listing.update(pair_up(directory, found, stems))
                    asked += (f"{directory}/pack/{stem}.pack" for stem in stems)
        is_gone = not is_partial and self._note_vanished(asked, listing)
        if not is_partial:
            self._refused = {path: files for path, files in self._refused.items() if path in listing}
        opened = []
        was_missed = False
        for path, listed in listing.items():
            known = self._by_path.get(path)
            if known is not None:
                known.side_files = listed.side_files
            elif (pack := self._open(path, reusable.get(path) or self.expected.get(path))) is not None:
                opened.append(pack)
            else:
                was_missed |= path not in self._refused
        # Largest first: that is where most look-ups end. (By path among equals, to be deterministic.)
        opened.sort(key=lambda pack: (-pack.count, pack.path))
        added = [self.append(pack) for pack in opened]
        for pack in added:
            pack.side_files = listing[pack.path].side_files
        if not is_partial:
            self._names = names
        return added, is_gone, was_missed

    def _note_vanished(self, asked: Iterable[str], listing: dict[str, Listed]) -> bool:
        """Look which of the packs at those paths are no longer what lies there."""
        gone = []
        for path in asked:
            pack, listed = self._by_path.get(path), listing.get(path)
            # An inode is nobody else's while we hold the file open: only where the folder tells another is it asked.
            is_there = pack is None or (
                listed is not None and (listed.inode == pack.identity.inode or pack.is_on_disk())
            )
            if not is_there:
                gone.append(path)
        for path in gone:
            del self._by_path[path]
            self.vanished = True
        return bool(gone)

    def _open(self, path: str, known: PackFile | None) -> PackFile | None:
        """Open one pack; None, and one warning for each pair that was met at that path, when it can't be used."""
        if known is not None and known.identity == identity_of(path):
            return known
        refused = self._refused.get(path)
        if refused is not None and are_current(refused, self._stat):
            return None
        idx_path = path.removesuffix(".pack") + ".idx"
        pair = tuple(watch_path(name, self._stat, self._clock_ns) for name in (path, idx_path))
        try:
            pack = PackFile.open(path, self._algo)
        except CorruptPack as error:
            self._refuse(path, pair, str(error))
            return None
        except OSError as error:
            if error.errno in OUR_TROUBLE:
                raise
            if os.path.lexists(path) and os.path.lexists(idx_path):
                self._refuse(path, pair, error.strerror or "unreadable")
            else:  # gone is not damaged: another process has just removed it
                log.warning("pack %s is not used: %s", path, error.strerror)
            return None
        self._refused.pop(path, None)
        return pack

    def _refuse(self, path: str, pair: tuple[WatchedFile, ...], reason: str) -> None:
        known = self._refused.get(path, ())
        if [file.signature for file in known] != [file.signature for file in pair]:
            log.warning("pack %s is not used: %s", path, reason)
        self._refused[path] = pair


def _read_or_nothing(objects_dir: str, before: Names) -> Names:
    """List a folder; one that can't be read has no packs for us, which is worth a warning."""
    try:
        return read_names(objects_dir, before)
    except OSError as error:
        if error.errno in OUR_TROUBLE:
            raise
        log.warning("unable to list %s/pack: %s", objects_dir, error.strerror)
        return NO_NAMES
