"""Which objects of a pack to send lie where: rows, in the order in which they leave.

`sort_numbers` makes one ascending list of many; the copier (`packcopy`) makes of it a row per object, and of the rows
that lie in one pack a share. In a share rows lie by offset, which is the order of reading; each knows where its entry
begins and ends there and, once it is out, where it begins in the new pack.

    whose row begins at this offset     a search in the share; for a delta's base mostly close by, just before the delta
    whose row is the base of a delta    the same, else that of the same object in an earlier pack, else none: not sent

Where the rows of a share are many their ends come from one pass over the pack's order, else by a search for each.
There is no twin: only who has the copier asks.
"""

from array import array
from typing import TYPE_CHECKING

from govc.kernels.choice import find
from govc.kernels.packread import PackTable

__all__ = ["AVAILABLE", "sort_numbers"]

_module = find("packrows")

AVAILABLE = _module is not None
"""Whether the kernel was compiled."""

if TYPE_CHECKING:

    def sort_numbers(table: PackTable, numbers: "array[int]") -> "tuple[array[int], array[int]]":
        """Return the numbers (array of q or Q) that lie in packs and the others, ascending, each once (arrays of q)."""

elif AVAILABLE:
    sort_numbers = _module.sort_numbers
else:
    sort_numbers = None
