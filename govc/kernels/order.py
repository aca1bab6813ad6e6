"""Sorting by oid and by offset, and bringing columns into another order.

An index is ascending by oid, a pack is ascending by offset; a pack of a million objects needs five columns reordered.
Orders are arrays of I: what stands at a rank is the number of the record that belongs there. Sorting is stable, so
equal oids keep their order, and takes n log n steps whatever a peer sends.

`match_oids` tells which of many oids a pack index has: it bisects the longer list for each of the shorter one.
"""

from govc.kernels.choice import choose

__all__ = [
    "gather_bytes",
    "gather_numbers",
    "invert",
    "match_oids",
    "reorder_records",
    "sort_by_offset",
    "sort_by_oid",
]

TYPE_CHECKING = False

if TYPE_CHECKING:
    from govc.kernels.order_py import (
        gather_bytes,
        gather_numbers,
        invert,
        match_oids,
        reorder_records,
        sort_by_offset,
        sort_by_oid,
    )
else:
    _chosen = choose("order")
    gather_bytes = _chosen.gather_bytes
    gather_numbers = _chosen.gather_numbers
    invert = _chosen.invert
    match_oids = _chosen.match_oids
    reorder_records = _chosen.reorder_records
    sort_by_offset = _chosen.sort_by_offset
    sort_by_oid = _chosen.sort_by_oid
