"""The order of a pack's or of a multi-pack-index's objects that bitmaps are about: names, places and bits.

    place   rank of an object's name in the index
    bit     its rank by where it lies: by offset in a pack, by pseudo-pack order in a multi-pack-index

Source: gitformat-bitmap; gitformat-pack "multi-pack-index reverse indexes".
"""

from array import array
from typing import NamedTuple

from govc.kernels.order import invert, match_oids

NONE = 0xFFFFFFFF


class BitOrder(NamedTuple):
    """`oids`: the names, ascending, one after the other; `place_by_bit`: array of "I"; `checksum`: of the index."""

    oids: bytes | memoryview
    oid_size: int
    place_by_bit: "array[int]"
    checksum: bytes

    @property
    def bit_count(self) -> int:
        """How many objects there are."""
        return len(self.place_by_bit)

    def bit_by_place(self) -> "array[int]":
        """Return the inverse of `place_by_bit`."""
        return invert(self.place_by_bit)

    def pair(self, oids_sorted: bytes | memoryview) -> "tuple[array[int], array[int]]":
        """Return the ranks in `oids_sorted` (names, ascending) of the objects that are here, and their places."""
        size = self.oid_size
        ranks = match_oids(oids_sorted, size, self.oids, 0, size, self.bit_count)
        return ranks, match_oids(self.oids, size, oids_sorted, 0, size, len(oids_sorted) // size)
