"""Which forward deltas a pack takes: the chains they make never come back to where they began.

A forward delta (`govc.odb.forward`) may stand for what is stored. Its base is an older version of the same path, and
the peer has that, or is sent it: as it is stored, or as another forward delta, and so on down. Of many versions of a
large file each is then a small step from the one before, where a pack may hold every one as a large delta on something
old. But a stored delta may well lead from an old version to a new one; taken together they could make a circle.

So each object is decided once, when it is first asked for, and before it whatever its deltas stand on:

    a delta is taken     when the peer has its base, or its base's chain is decided down to what isn't sent or is whole
    else                 the stored entry stays; what it stands on may be decided later

No circle comes of it. Stored entries alone make none; and the last forward delta taken of a circle would have been
taken when the chain below it was decided, without it, down to its end. A chain is at most DEPTH_MAX long where a
forward delta is put on it; stored deltas may follow. It may be LOST_DEPTH_MAX long where the object would have to be
expanded, for what its stored delta stands on is neither sent nor had.

A delta is taken where it takes no more bytes than the stored entry; or where that is lost, as above; or where the
stored one stands on what waits for this very object, to stand on it, and gains more by that.

What stays as stored though its base is neither sent nor had is the copier's to expand, or to make a delta for: on what
the peer has, so it counts as an end.
"""

from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from govc.kernels.choice import find
from govc.kernels.packread import PackReader

__all__ = ["AVAILABLE", "Chains", "ForwardColumns"]

_module = find("chains")

AVAILABLE = _module is not None
"""Whether the kernel was compiled. There is no twin: without it nothing copies packs, either."""

ForwardColumns = tuple[Any, Any, Any, Any, Any, Any]
"""Of one file, as buffers: targets (names, ascending), bases, sizes (I), offsets (Q), streams, CRC-32 of each (I)."""

if TYPE_CHECKING:

    class Chains:
        """The choice for one pack; for one thread at a time."""

        target_count: int
        """Objects for which there is some delta."""

        def __init__(
            self,
            reader: PackReader,
            numbers: "array[int] | bytes",
            at_peer: Callable[[int], bool],
            files: Sequence[ForwardColumns],
        ) -> None:
            """`numbers`: what is sent, int64 each, ascending. ValueError when a column is too short."""

elif AVAILABLE:
    Chains = _module.Chains
else:
    Chains = None
