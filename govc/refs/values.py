"""The values that refs have, as a set that is asked and not made.

A push asks of a handful of objects whether some ref names them; a repository may have a million refs. So what is kept
is the oids of packed refs in one sorted string of bytes, as long as packed-refs is what it was (`sort_values`); beside
it only what differs by loose refs. A packed ref that a loose one hides has no value: where its oid is asked for, and
only there, all refs are looked through.

Whether an object exists that a ref names is the caller's to say, once for each that is asked for.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Set

from govc.kernels.order import reorder_records, sort_by_oid
from govc.refs.table import RefTable, Run


def sort_values(oids: bytes, oid_size: int) -> bytes:
    """Return oids that stand one after the other in ascending order."""
    return reorder_records(oids, sort_by_oid(oids, oid_size), oid_size)


class RefValues(Set[bytes]):
    """See the story of this module. Pickled, it is a frozenset."""

    def __init__(
        self, table: RefTable, packed_sorted: bytes, exists: Callable[[bytes], bool], more: Iterable[bytes] = ()
    ) -> None:
        """`packed_sorted`: `sort_values` of all that `table.packed` holds; `more`: further values."""
        self._table = table
        self._packed = packed_sorted
        self._exists = exists
        self._size = table.algo.oid_size
        self._top = table.loose_values().union(more)
        self._hidden: set[bytes] | None = None
        self._all: frozenset[bytes] | None = None

    def _is_hidden(self, oid: bytes) -> bool:
        """Tell whether some packed ref of this value is hidden by a loose one."""
        if self._hidden is None:
            self._hidden = set()
            oid_at, end = self._table.packed.oid_at, 0
            for item in self._table.iter_runs():
                if isinstance(item, Run):
                    self._hidden.update(map(oid_at, range(end, item.low)))
                    end = item.high
            self._hidden.update(map(oid_at, range(end, self._table.packed.count)))
        return oid in self._hidden

    def __contains__(self, oid: object) -> bool:
        """Tell whether a ref has this value, and the object exists."""
        assert isinstance(oid, bytes)
        if oid not in self._top and (not self._is_packed(oid) or (self._is_hidden(oid) and oid not in self._values())):
            return False
        return self._exists(oid)

    def _is_packed(self, oid: bytes) -> bool:
        size, packed = self._size, self._packed
        count = len(packed) // size
        at = bisect_left(range(count), oid, key=lambda rank: packed[rank * size : rank * size + size])
        return at < count and packed[at * size : at * size + size] == oid

    def _values(self) -> frozenset[bytes]:
        if self._all is None:
            self._all = frozenset((*(ref.oid for ref in self._table.iter_refs()), *self._top))
        return self._all

    def __iter__(self) -> Iterator[bytes]:
        """Yield those that exist."""
        return filter(self._exists, self._values())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __reduce__(self) -> tuple[type[frozenset[bytes]], tuple[tuple[bytes, ...]]]:
        return frozenset, (tuple(self),)
