"""The packs of one store as the kernels see them: a table of all of them, and a reader for single small objects.

A table is made anew when packs have come. A push brings one, of a few objects, which isn't worth that: single objects
are looked for, and read, by a table that may lack the newest packs (`recent`), as long as these are few and small;
what it doesn't know is asked the other way.
"""

from itertools import islice

from govc.kernels.packread import AVAILABLE as kernel_available
from govc.kernels.packread import PackReader, PackSource, PackTable
from govc.odb.pack_set import PackSet

PACKS_BEHIND_MAX = 16
OBJECTS_BEHIND_MAX = 1024
SMALL_CACHE_BYTES = 256 << 10


class KernelTables:
    """See the story of this module. Numbers are the store's."""

    __slots__ = (
        "_count",
        "_object_bytes_max",
        "_oid_size",
        "_packs",
        "_recent",
        "_recent_of",
        "_small",
        "_small_of",
        "_sources",
        "_table",
        "end",
    )

    def __init__(self, packs: PackSet, oid_size: int, object_bytes_max: int) -> None:
        self._packs = packs
        self._oid_size = oid_size
        self._object_bytes_max = object_bytes_max
        self._table: PackTable | None = None
        self._count = -1
        self._sources: list[PackSource | None] = []
        self.end = 0
        """The objects from this number on are unknown to the table that was made last."""
        self._recent: PackTable | None = None
        self._recent_of = -1
        self._small: PackReader | None = None
        self._small_of: PackTable | None = None

    def continued(self, packs: PackSet) -> "KernelTables":
        """Return those of a store that has the same packs, and more on top."""
        tables = KernelTables(packs, self._oid_size, self._object_bytes_max)
        tables._table, tables._count, tables.end = self._table, self._count, self.end
        tables._sources = list(self._sources)
        tables._small, tables._small_of = self._small, self._small_of
        return tables

    def whole(self) -> PackTable | None:
        """Return the table of all packs. None where nothing was compiled, and when some pack can't be read that way."""
        count = len(self._packs)
        if self._count != count and kernel_available:
            self._sources += [pack.kernel_source() for pack in islice(self._packs, len(self._sources), None)]
            self._count = count
            self.end = self._packs.next_number
            self._recent_of = -1
            known = [source for source in self._sources if source is not None]
            is_whole = len(known) == len(self._sources)
            self._table = PackTable(known, self._oid_size, self._table) if is_whole else None
        return self._table

    def recent(self) -> PackTable | None:
        """Return a table that knows the objects below `end`; None also where no pack is large enough for one."""
        packs = self._packs
        if self._recent_of != packs.next_number:  # asked for each object
            behind = len(packs) - self._count
            is_recent = 0 <= behind <= PACKS_BEHIND_MAX and packs.next_number - self.end <= OBJECTS_BEHIND_MAX
            if not packs.has_large:
                self._recent = None
            else:
                self._recent = self._table if is_recent and self._table is not None else self.whole()
            self._recent_of = packs.next_number
        return self._recent

    def small_reader(self, number: int) -> PackReader | None:
        """Return what reads a single small object, where there is a table that knows it."""
        table = self.recent()
        if table is not self._small_of:
            self._small_of = table
            self._small = PackReader(table, SMALL_CACHE_BYTES, self._object_bytes_max) if table is not None else None
        return self._small if number < self.end else None
