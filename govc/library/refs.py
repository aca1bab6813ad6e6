"""The refs of a repository as a mapping: names to what they lead to.

`refs[b"refs/heads/main"]` is a `Ref`: name, oid, what a tag there finally names, and, for a symbolic ref, the ref at
the end of its chain. Broken and dangling refs are left out, as git leaves them out with a warning. HEAD isn't below
refs/ and is asked for as `head`.

`list()` returns all of them, or those with a prefix, as a tuple. Refs of packed-refs are made once per packed-refs
file, about 300 bytes each, and shared by all later listings; loose ones are put in their places.
"""

import threading
from collections.abc import Iterator, Mapping

from govc.library.errors import RefNotFound
from govc.refs.table import HeadState, Peel, Ref, RefTable, SortedRefs

__all__ = ["PackedList", "Ref", "Refs"]

LISTINGS_MAX = 32
"""Prefixes whose listing a picture remembers."""

KNOWN_MAX = 10_000
"""Refs that were asked for by name and are remembered, 400 bytes each."""


class PackedList:
    """The refs of one packed-refs file as values, made at the first listing."""

    def __init__(self) -> None:
        self._of: SortedRefs | None = None
        self._refs: tuple[Ref, ...] = ()

    def refs(self, table: RefTable, peel: Peel) -> tuple[Ref, ...]:
        """Return all refs of the table's packed part, hidden ones included. Under the repository's lock."""
        if self._of is not table.packed:
            self._refs = tuple(table.iter_packed(0, table.packed.count, peel))
            self._of = table.packed
        return self._refs

    def known(self, table: RefTable) -> tuple[Ref, ...] | None:
        """Return them if they are there."""
        return self._refs if self._of is table.packed else None

    @property
    def count(self) -> int:
        """How many are held."""
        return len(self._refs)

    def forget(self) -> None:
        """Let go of them."""
        self._of, self._refs = None, ()


class Refs(Mapping[bytes, Ref]):
    """The refs of one picture."""

    __slots__ = ("_known", "_listed", "_lock", "_packed", "_peel", "_table")

    def __init__(self, table: RefTable, peel: Peel, packed: PackedList, lock: threading.RLock) -> None:
        self._table = table
        self._peel = peel
        self._packed = packed
        self._lock = lock
        self._listed: dict[bytes, tuple[Ref, ...]] = {}
        self._known: dict[bytes, Ref] = {}

    @property
    def head(self) -> HeadState:
        """HEAD: `symref_target` when it is on a branch, `oid` None while that is unborn, `is_detached`."""
        return self._table.head

    @property
    def broken(self) -> tuple[tuple[bytes, str], ...]:
        """Names of refs that git would warn of, and why."""
        return self._table.broken

    def __getitem__(self, name: bytes) -> Ref:
        known = self._known.get(name)
        if known is not None:
            return known
        with self._lock:
            ref = self._table.get(name, self._peel)
            if ref is None:
                raise RefNotFound(name)
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[name] = ref
        return ref

    def __contains__(self, name: object) -> bool:
        return isinstance(name, bytes) and self._table.get(name) is not None

    def __iter__(self) -> Iterator[bytes]:
        return (ref.name for ref in self.list())

    def __len__(self) -> int:
        return len(self.list())

    def list(self, prefix: bytes = b"") -> tuple[Ref, ...]:
        """Return the refs whose name starts with `prefix`, in byte order of names.

        The whole listing costs about half a microsecond a ref when it is made for the first time, and nothing when
        it was made before.
        """
        known = self._listed.get(prefix)
        if known is not None:
            return known
        with self._lock:
            found: list[Ref] = []
            packed = self._packed.known(self._table)
            if packed is None and not prefix:
                packed = self._packed.refs(self._table, self._peel)
            for item in self._table.iter_runs(prefix, self._peel):
                if isinstance(item, Ref):
                    found.append(item)
                elif packed is not None:
                    found += packed[item.low : item.high]
                else:
                    found += self._table.iter_packed(item.low, item.high, self._peel)
            if len(self._listed) < LISTINGS_MAX:
                self._listed[prefix] = tuple(found)
        return tuple(found)

    def __repr__(self) -> str:
        return f"<Refs, at most {self._table.count_max}>"
