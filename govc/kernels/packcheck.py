"""Whether the bytes of a pack are those that its index was made of, looked at as they go by, without the GIL.

Who copies a pack as it lies parses nothing, so a damaged disk, or another file written over it, would go on into what
is kept of the copy, and stay there when the pack is whole again. An index of version 2 has the CRC-32 of each entry,
header included, as it lies in the pack; a `PackCheck` takes the bytes that are copied, in their order, and compares.
It holds nothing for each object: where entries begin comes from the table.

    the header     signature, version, the index's count
    entries        one begins where the one before ends, and each has its CRC-32
    the trailer    the one that the index names

Entries that are copied one by one `packcopy` compares by itself, in the same way; its twin is `govc.pack.writer`.

Source: gitformat-pack "Version 2 pack-*.idx".
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from govc.kernels.choice import find
from govc.kernels.packread import PackTable

__all__ = ["AVAILABLE", "PackCheck"]

_module = find("packcheck")

AVAILABLE = _module is not None
"""Whether the kernel was compiled."""

if TYPE_CHECKING:

    class PackCheck:
        """One run over one pack; for one thread at a time."""

        def __init__(self, table: PackTable, number: int) -> None:
            """`number`: that of any object of the pack. IndexError."""

        def prepare(self) -> None:
            """Have what takes some milliseconds for a large pack, for which a thread may be the place."""

        def look(self, at: int, pieces: Sequence[bytes | memoryview]) -> None:
            """Look at the bytes of the file from `at` on, which follow those that were looked at before; the first are
            those from 0 on, or those behind the header.

            Raises CorruptPack where they aren't what the index says, at the end of an entry at the latest; ValueError.
            """

elif AVAILABLE:
    PackCheck = _module.PackCheck
else:

    class PackCheck:
        """Not compiled: a name for annotations, never made."""
