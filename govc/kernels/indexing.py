"""Indexing a received pack: both passes over it, compiled.

    scan       where entries begin and end, their CRCs, the names of whole objects
    resolve    the objects that are stored as deltas are made, and named; several threads share the work
    contents   some of the objects are made once more, for those who want to look inside

The twin is `govc.pack.scanner` and `govc.pack.resolver`, on the same columns (`govc.pack.tables.EntryTable`). Where the
time goes: a pack of 84 MB makes 2.6 GB of objects, each to be inflated, put together and hashed. So the kernel

- inflates with libdeflate when that is installed (`_inflate.pxd`);
- hashes sixteen objects at once, and sees collision attacks on the way (`sha1.h`);
- gives the GIL away, in calls of a few milliseconds;
- holds a content only while deltas wait for it and the budget lasts.

What is wrong with a pack is said by the twin: the kernel stops at the entry (EntryAtFault), and the twin looks at that
one entry again, so that both refuse in the same words.
"""

from govc.kernels.choice import find

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any, Protocol
else:
    Any = Protocol = object


class Indexing(Protocol):
    """Both passes over one pack; every method raises CorruptPack and LimitExceeded as the twin does.

    `Indexing(fd, table, limits, pack_size=..., detects=..., threads=...)`: `table` is the pack's EntryTable, `limits`
    its IndexLimits, `detects` whether SHA-1 collision attacks are looked for. A budget is in bytes of work, about a
    nanosecond each.
    """

    def scan(self, budget: int) -> int:
        """Take some entries; return how many are done in all. Raises EntryAtFault."""

    def waiting_refs(self) -> tuple[bytes, bytes]:
        """Return the ref-deltas (array of i) and the names of their bases, once everything is scanned."""

    def prepare(self, ref_children: Any, cache_bytes: int) -> None:
        """Begin the second pass: `ref_children` is a RefChildren or None, `cache_bytes` for all threads together."""

    @property
    def resolved_count(self) -> int:
        """How many deltas have become objects."""

    def resolve(self, thread: int, budget: int) -> bool:
        """Do some of the work of one thread; return whether there is more. Each thread has its own number."""

    def push_root(self, entry: int, content: bytes) -> None:
        """Let thread 0 go on with what stands on this whole object, which was appended."""

    def stop(self) -> None:
        """Let all threads end soon; nothing can be done afterwards."""

    def want(self, flags: bytes | bytearray, cache_bytes: int) -> None:
        """Ask for the contents of the entries whose byte in `flags` isn't zero."""

    def contents(self, budget: int) -> "list[tuple[int, bytes]] | None":
        """Return the next of the contents that were asked for, by entry; None when there are no more."""


def find_compiled(algo_name: str) -> Any:
    """Return the module that has `Indexing` and `EntryAtFault`, or None when the twins index this object format."""
    module: Any = find("indexing")
    return module if module is not None and algo_name in module.HASHES else None


def describe() -> str:
    """Return what the kernel inflates and hashes with on this machine."""
    module: Any = find("indexing")
    return module.describe() if module is not None else "zlib and OpenSSL; collision attacks on SHA-1 are not detected"
