"""Thin entries of the newest history: which of them a fetch takes, and in what order they leave.

The file (`govc.odb.thin`) has an entry for everything that the newest commits introduce, in the order of their making:
parents before children. Most are deltas on the version before, at the same path, in a parent. Who lacks a commit has
its parents, or is sent them, so what such a delta stands on is at the client, or was sent before: nothing has to be
chosen, and no pack is read.

    base sent            a delta by distance; it is out, for it lies further in front in the file
    base at the client   a delta by name
    neither              the object isn't taken: it is among `rest`, which goes out as if there were no such file

The last comes of objects that several commits introduce, where only a later one of these is sent, and of what stands on
such. By name only what isn't sent: `index-pack` refuses a pack in which a name stands for two objects.

An object may have several entries: the nearest first, then some on versions 16 and 256 back, so that chains stay short,
however many commits are sent: at most DEPTH_MAX. The nearest is taken where its base is at the client, else the widest
that will do.
"""

from array import array
from typing import TYPE_CHECKING, Any

from govc.kernels.choice import find
from govc.kernels.packread import PackReader

__all__ = ["AVAILABLE", "FOREIGN", "WHOLE", "ThinChoice", "ThinFile"]

WHOLE = 0xFFFFFFFF
FOREIGN = 1 << 31
"""For a base: the entry is no delta; added to the rank of a name that isn't in the file."""

_module = find("thin")

AVAILABLE = _module is not None
"""Whether the kernel was compiled. There is no twin: without it nothing copies packs, either."""

if TYPE_CHECKING:

    class ThinFile:
        """The columns of one file, as buffers; any thread may use it."""

        count: int
        """How many objects it has."""

        def __init__(
            self,
            oid_size: int,
            names: Any,
            places: Any,
            ranks: Any,
            kinds: Any,
            starts: Any,
            bases: Any,
            foreign: Any,
            sizes: Any,
            checksums: Any,
            offsets: Any,
            streams: Any,
        ) -> None:
            """Raises ValueError when a column is too short, or a number in it leads outside of another."""

    class ThinChoice:
        """The choice for one pack; for one thread at a time."""

        taken: int
        """Objects that are sent from the file."""

        rest: array[int]
        """The numbers of the others, ascending."""

        def __init__(self, file: ThinFile, reader: PackReader, numbers: Any, at_peer: Any) -> None:
            """`numbers`: what is sent, int64 each. `at_peer`: what `Painting.peer_of` returns; of one that isn't
            compiled nothing is asked, and nothing taken.
            """

elif AVAILABLE:
    ThinChoice, ThinFile = _module.ThinChoice, _module.ThinFile
else:

    class ThinFile:
        """Not compiled: a name for annotations, never made."""

    class ThinChoice:
        """Likewise."""
