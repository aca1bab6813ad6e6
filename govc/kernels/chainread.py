"""Reading single objects, wherever they lie in packs: each through its chain of deltas, in one call.

A `ChainReader` is a `packread.PackReader` for who asks for one object here and one there, as a program that uses the
library does. What is different:

- **Kept is what was inflated**: whole objects and deltas as they are, not each object that stands on the way. So the
  cache holds ten times as many chains, and inflating, which is most of a first read, is done once for an entry.
- **The chain is applied at once.** From the object down, what its delta copies is looked up in the delta below, and so
  on: a list of runs, which ends at the whole object. Each byte is copied once, however long the chain is. Where runs
  get too short for that, the rest is made one delta after the other, in two buffers by turns; of what is made so, the
  topmost that something else stood on before is kept instead of them: several versions of a large file, mostly.
- **Tables of fixed codes are made once.** A third of all entries, small ones, have them: a decompressor of their own
  keeps the tables.
- **Many at once** are read in the order in which they lie: what they stand on is met again while it is at hand.
- **Packs are mapped**, under `guard`: no call of the system for an entry, and nothing is copied before it is inflated.
  A page that could not be read is noticed before the object leaves, and the object is read by descriptor instead,
  which says what is wrong. Where a pack can't be mapped, that is how it is read.

It never says what is wrong with an object: whatever is unusual (a chain that holds more than 8 MiB of deltas, damage,
no memory) is read as every other kernel reads it, by `PackReader.load`. `load`, for kernels that walk from an object to
its neighbours, is what it is there, with the same cache.

There is no twin: where nothing was compiled, `govc.odb.store` reads.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from govc.kernels.choice import find
from govc.kernels.packread import PackReader

__all__ = ["AVAILABLE", "ChainReader"]

_T = TypeVar("_T", bound=tuple[str, bytes])

_module = find("chainread")

AVAILABLE = _module is not None
"""Whether the kernel was compiled."""

if TYPE_CHECKING:
    from govc.kernels.packread import PackTable

    class ChainReader(PackReader):
        """Reads through a table; for one thread at a time."""

        def __init__(
            self,
            table: PackTable,
            cache_bytes: int,
            object_bytes_max: int,
            map_pack: Callable[[int], Any],
        ) -> None:
            """`map_pack` returns the mapped content of the pack with that place in the table, if there is any."""

        def find_raw(self, oid: bytes, kind: type[_T], kinds: Sequence[str]) -> _T | None:
            """Return the object as a named tuple of `kinds[type]` and its content; None where `read` has to answer."""

        def find_many_raw(
            self, oids: list[bytes], kind: type[_T], kinds: Sequence[str], bytes_max: int
        ) -> list[_T | None]:
            """Return many objects as `find_raw` does, each at the place of its name.

            They are read in the order in which they lie in the packs. Beyond `bytes_max` of content none is begun any
            more: None, as for what `read` has to answer.
            """

elif AVAILABLE:
    ChainReader = _module.ChainReader
else:

    class ChainReader(PackReader):
        """Not compiled: a name for annotations, never made."""
