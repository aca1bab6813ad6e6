"""Reading packs without the GIL: where objects lie, what they are, what they hold.

A `PackTable` is the packs of one store: their descriptors, their indexes (buffers, mapped or read), the order of their
entries by offset. An object number is the pack's first number plus the position in its index, as everywhere; an object
that lies in several packs has its lowest number. It knows no loose object.

A `PackReader` reads through a table, with a window, a zlib stream and a cache of its own; it serves one thread at a
time and is made for one piece of work. The window is read from a little before an entry: bases mostly lie there. Packs
are read by pread, never mapped: a short file is an error, not a SIGBUS. Everything that the files say is checked:
offsets, sizes, bases, cycles.

The other kernels are built on these two. There is no twin: where nothing was compiled, `govc.odb.store` reads, and what
stands on it (`govc.graph.introduce`, `govc.pack.writer`) is the twin of what stands on this.

Source: gitformat-pack "Version 2 pack-*.idx", ".rev", "Deltified representation".
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from govc.kernels.choice import find

__all__ = ["AVAILABLE", "PackReader", "PackSource", "PackTable"]

PackSource = tuple[int, Any, Any, int, int, Any]
"""Descriptor of the .pack, its index (version 2), what returns its .rev or None, its size in bytes, its first number,
and what keeps the descriptor open: it is held as long as the table. The .rev is asked for when the order of entries is
needed, for checking it reads all of it."""

_module = find("packread")

AVAILABLE = _module is not None
"""Whether the kernel was compiled."""

if TYPE_CHECKING:

    class PackTable:
        """The packs of a store."""

        def __init__(self, sources: Sequence[PackSource], oid_size: int, before: "PackTable | None" = None) -> None:
            """`before`: a table of the same store when it had fewer packs; what was sorted for it is kept."""

        def find(self, oid: bytes) -> int:
            """Return the lowest number of the object, -1 when no pack holds it."""

        def find_many(self, oids: bytes, is_sorted: bool) -> bytes:
            """Return the numbers (int64 each) of the names that stand in `oids` one after the other."""

        def oid_of(self, number: int) -> bytes:
            """Return the name; IndexError."""

    class PackReader:
        """Reads through a table; for one thread at a time."""

        table: PackTable

        def __init__(self, table: PackTable, cache_bytes: int, object_bytes_max: int) -> None: ...
        def read(self, number: int) -> tuple[int, bytes]:
            """Return (type 1-4, content). CorruptPack, LimitExceeded, IndexError."""

        def read_small(self, number: int, size_max: int) -> tuple[int, bytes] | None:
            """Return (type 1-4, content); None when it is larger, or when anything is wrong with it.

            Holds the GIL all the while, so threads may share a reader for this and for `type_and_size`.
            """

        def type_and_size(self, number: int) -> tuple[int, int]:
            """Return type (1-4) and size of the content in bytes. CorruptPack, IndexError."""

elif AVAILABLE:
    PackTable = _module.PackTable
    PackReader = _module.PackReader
else:

    class PackTable:
        """Not compiled: a name for annotations, never made."""

    class PackReader:
        """Likewise."""
