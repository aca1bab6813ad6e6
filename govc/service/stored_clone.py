"""Is what a fetch asks for a stored pack, or nearly, and is that sent from where it lies?

All of a repository of one pack is that pack: it has been compressed and ordered before, and is sent as it is. Who asks
for it first needs no copy in the cache of bodies either, where a copy costs more than it saves.
"""

from govc.graph.filter import ALL
from govc.repo.pack_plan import PackPlan
from govc.repo.snapshot import Snapshot

STORED_BYTES_MIN = 8 << 20
"""A pack of so many bytes is sent from where it lies to who asks for it first; to keep a smaller one costs less than a
millisecond."""


def may_be_stored(snapshot: Snapshot, plan: PackPlan, side_band: int) -> bool:
    """Tell whether the answer may well be a stored pack, or nearly.

    That is all of a repository of one pack and little more, such as pushes since it was packed. `side_band`: the size
    of a packet, 0 for none.
    """
    is_whole = not plan.haves and not plan.boundary and not plan.client_shallow and plan.selection == ALL
    is_simple = is_whole and bool(side_band) and not snapshot.is_partial
    sizes = [pack.size for pack in snapshot.store.packs]
    return is_simple and max(sizes, default=0) > sum(sizes) // 2


def is_sent_stored(snapshot: Snapshot, *, has_queue: bool) -> bool:
    """Tell whether the first who asks for what may be stored is sent that from where it lies, and nothing is kept.

    `has_queue`: operations are counted. Who reads slowly must not keep a place then.
    """
    return not has_queue and max(pack.size for pack in snapshot.store.packs) >= STORED_BYTES_MIN
