"""The columns of a pack while it is indexed, without a Python object per object.

A pack of a million objects costs about fifty bytes an object here; as Python values it would cost five
hundred. Entries are numbered in the order of the file, from 0. `NONE` in a column of links means no entry.
"""

from array import array
from bisect import bisect_left

from govc.kernels.order import reorder_records, sort_by_offset, sort_by_oid
from govc.protocol.oid import HashAlgorithm

__all__ = ["NONE", "EntryTable", "RefChildren", "reorder_records", "sort_by_offset", "sort_by_oid"]

NONE = -1


class EntryTable:
    """One row per entry of a pack, in the order of the file.

    offsets     array of Q: where the entry begins; one row more than entries, the last being where they end
    crcs        array of I: CRC-32 of the raw entry
    oids        oid_size bytes each, zero until known
    types       1 to 4 once the object is known, 0 before
    bases       array of i: the entry that a delta is applied to, NONE when not a delta or not known yet
    first_child, next_sibling
                array of i: the deltas on an entry as a linked list, which the resolver takes apart
    ref_entries, ref_base_oids
                the ref-deltas and the names of their bases, in the order of the file
    """

    def __init__(self, algo: HashAlgorithm, count: int) -> None:
        self.algo = algo
        self.count = count
        self.offsets: array[int] = array("Q", bytes(8 * (count + 1)))
        self.crcs: array[int] = array("I", bytes(4 * count))
        self.oids = bytearray(algo.oid_size * count)
        self.types = bytearray(count)
        no_links = array("i", [NONE])
        self.bases: array[int] = no_links * count
        self.first_child: array[int] = no_links * count
        self.next_sibling: array[int] = no_links * count
        self.ref_entries: array[int] = array("I")
        self.ref_base_oids = bytearray()

    def append(self, end: int, crc: int, type_number: int, oid: bytes) -> int:
        """Add a row for a whole object that begins where the entries end now, and ends at `end`."""
        entry = self.count
        self.count += 1
        self.offsets.append(end)
        self.crcs.append(crc)
        self.types.append(type_number)
        self.oids += oid
        for links in (self.bases, self.first_child, self.next_sibling):
            links.append(NONE)
        return entry

    def name(self, entry: int, type_number: int, oid: bytes) -> None:
        """Note what an object is, and its name."""
        self.types[entry] = type_number
        self.oids[entry * len(oid) : entry * len(oid) + len(oid)] = oid

    def add_child(self, base: int, child: int) -> None:
        """Hang a delta on the entry that it is applied to."""
        self.bases[child] = base
        self.next_sibling[child] = self.first_child[base]
        self.first_child[base] = child

    def drop_links(self) -> None:
        """Free what only resolving needs."""
        self.bases = self.first_child = self.next_sibling = array("i")
        self.ref_entries = array("I")
        self.ref_base_oids = bytearray()


class RefChildren:
    """Which ref-deltas wait for a base of a given name.

    Sorted records with a fan-out over the first two bytes, so that an object nobody waits for is told in
    one step.
    """

    def __init__(self, table: EntryTable) -> None:
        size = table.algo.oid_size
        order = sort_by_oid(table.ref_base_oids, size)
        self._oid_size = size
        self._entries = array("I", map(table.ref_entries.__getitem__, order))
        self._oids = reorder_records(table.ref_base_oids, order, size)
        # Every thin push comes here, with a few names mostly: runs of equal counts, not a loop over all the keys.
        self._fanout = array("I")
        for number, at in enumerate(range(0, len(self._oids), size)):
            missing = (self._oids[at] << 8 | self._oids[at + 1]) + 1 - len(self._fanout)
            if missing > 0:
                self._fanout.extend(array("I", [number]) * missing)
        self._fanout.extend(array("I", [len(order)]) * (65537 - len(self._fanout)))

    @property
    def columns(self) -> "tuple[array[int], bytes, array[int]]":
        """The ref-deltas and the names of their bases, sorted by these, and the fan-out over two bytes."""
        return self._entries, self._oids, self._fanout

    def may_wait(self, oids: bytes | bytearray, at: int) -> bool:
        """Say whether any ref-delta waits for a name that begins as the one at `oids[at]` does: mostly none."""
        key = oids[at] << 8 | oids[at + 1]
        return self._fanout[key] != self._fanout[key + 1]

    def find(self, oid: bytes) -> "array[int] | None":
        """Return the entries, in the order of the file, whose base has that name; None for none."""
        key = oid[0] << 8 | oid[1]
        low, high = self._fanout[key], self._fanout[key + 1]
        if low == high:
            return None
        low = bisect_left(range(high), oid, low, high, key=self._oid_at)
        end = low
        while end < high and self._oid_at(end) == oid:
            end += 1
        return self._entries[low:end] if end > low else None

    def _oid_at(self, record: int) -> bytes:
        return self._oids[record * self._oid_size : (record + 1) * self._oid_size]
