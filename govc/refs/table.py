"""The refs of a repository as one immutable table: many sorted refs below, some on top by name, HEAD beside them.

In the files backend these are packed refs and loose refs; in the reftable backend the large tables of the stack and
the small ones.

A loose ref hides the packed one of its name, also when the loose one is broken (git doesn't fall back
either). Names come out in byte order. Symrefs are followed to depth 5; a symref that leads nowhere is left
out of listings, as git leaves it out with a warning. Root refs (FETCH_HEAD, ORIG_HEAD and the like) are
never part of a table.

The table doesn't know objects: whether a ref's object exists is the caller's to check, and peeling a tag is
done by a function that the caller hands in. What was peeled once is remembered for the table's life.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from govc.errors import ObjectMissing
from govc.protocol.oid import HashAlgorithm
from govc.refs.loose import LooseRef
from govc.refs.packed import PackedEntry

SYMREF_DEPTH_MAX = 5
"""How many refs are read on the way, the last one included (git's SYMREF_MAXDEPTH)."""

Peel = Callable[[bytes], bytes | None]
"""oid -> the oid of what the tag finally names; None when the object is no tag. May raise ObjectMissing."""


DELETED: Final = LooseRef(None, None)
"""On top: there is no such ref, whatever lies below."""


class SortedRefs(Protocol):
    """Many direct refs by position, in byte order of their names (`PackedRefs` says what each method does)."""

    @property
    def count(self) -> int:
        """How many refs there are."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """About names that were left out."""

    def oid_at(self, position: int) -> bytes:
        """Return the raw oid at a position."""

    def peeled_at(self, position: int) -> bytes | None:
        """Return the peeled oid, NOT_A_TAG when it is known that there is none, None when nothing is."""

    def find(self, name: bytes) -> int:
        """Return the position of a refname, or -1."""

    def place_of(self, name: bytes) -> tuple[int, int]:
        """Return the positions [low, high) of a refname: one, or none, and low is where it would stand."""

    def get(self, name: bytes) -> bytes | None:
        """Return the oid of a refname, or None."""

    def range_of_prefix(self, prefix: bytes) -> tuple[int, int]:
        """Return the positions [low, high) of the names that start with `prefix`."""

    def iter_entries(self, low: int = 0, high: int | None = None) -> Iterator[PackedEntry]:
        """Yield the entries at positions [low, high) in order."""

    def iter_names(self, low: int = 0, high: int | None = None) -> Iterator[bytes]:
        """Yield the names at positions [low, high) in order."""


class Ref(NamedTuple):
    """One ref that resolves. `peeled`: what its tag names, None when it is no tag (or, unpeeled, unknown).

    `symref_target`: for a symref, the ref at the end of its chain.
    """

    name: bytes
    oid: bytes
    peeled: bytes | None
    symref_target: bytes | None


_new = tuple.__new__
"""What a named tuple's own constructor calls: a listing makes one for each loose ref."""


class Run(NamedTuple):
    """A run of packed refs that no loose ref hides: positions [low, high) of the table's `packed`."""

    low: int
    high: int


class HeadState(NamedTuple):
    """HEAD: on a branch (`symref_target`, the end of its chain; `oid` None while unborn), or detached."""

    symref_target: bytes | None
    oid: bytes | None
    is_detached: bool


class RefTable:
    """All refs of a repository at one moment. Immutable, but for the memory of what was peeled."""

    __slots__ = ("_loose", "_loose_names", "_peeled", "algo", "broken", "head", "packed", "warnings")

    def __init__(
        self,
        packed: SortedRefs,
        loose: dict[bytes, LooseRef],
        head: LooseRef | None,
        algo: HashAlgorithm,
        *,
        warnings: tuple[str, ...] = (),
        peeled: dict[bytes, bytes | None] | None = None,
    ) -> None:
        """Take the parsed parts. `head` None: no HEAD. `peeled`: what an earlier table has peeled."""
        self.algo = algo
        self.packed = packed
        self._loose = loose
        self._loose_names = sorted(loose)
        self._peeled = {} if peeled is None else peeled
        self.warnings = warnings + packed.warnings
        self.broken = tuple((name, loose[name].problem) for name in self._loose_names if loose[name].problem)
        self.head = HeadState(None, None, False)  # what a chain that comes back to HEAD finds
        self.head = self._head_state(head)

    def _head_state(self, head: LooseRef | None) -> HeadState:
        if head is None or head.problem:
            return HeadState(None, None, False)
        if head.target is None:
            return HeadState(None, head.oid, True)
        end = self.follow(head.target)
        return HeadState(end[0], end[1], False) if end is not None else HeadState(head.target, None, False)

    @property
    def peeled_so_far(self) -> dict[bytes, bytes | None]:
        """What was peeled: tag oid -> peeled oid. Hand it to the next table: oids never change."""
        return self._peeled

    @property
    def count_max(self) -> int:
        """An upper bound of the number of refs, without looking for doubles."""
        return self.packed.count + len(self._loose_names)

    def raw(self, name: bytes) -> LooseRef | None:
        """Return what the ref's file or packed line says, unresolved; None when there is none."""
        found = self._loose.get(name)
        if found is not None:
            return None if found == DELETED else found
        oid = self.packed.get(name)
        return None if oid is None else LooseRef(oid, None)

    def follow(self, name: bytes) -> tuple[bytes, bytes | None] | None:
        """Return (ref at the end of the symref chain, its oid or None when absent).

        None when the chain is broken, ill-formed or deeper than SYMREF_DEPTH_MAX.
        """
        for _ in range(SYMREF_DEPTH_MAX):
            if name == b"HEAD":
                end = self.head.symref_target
                return (end or name, self.head.oid)
            found = self.raw(name)
            if found is None:
                return name, None
            if found.problem:
                return None
            if found.target is None:
                return name, found.oid
            name = found.target
        return None

    def resolve(self, name: bytes) -> bytes | None:
        """Return the oid that a ref (or HEAD) leads to, or None."""
        end = self.follow(name)
        return None if end is None else end[1]

    def get(self, name: bytes, peel: Peel | None = None) -> Ref | None:
        """Return one ref below refs/, or None when it is absent, broken or a dangling symref."""
        found = self._loose.get(name)
        if found is not None:
            return self._ref_from_loose(name, found, peel)
        position = self.packed.find(name)
        if position < 0:
            return None
        oid = self.packed.oid_at(position)
        return Ref(name, oid, self._peeled_value(oid, self.packed.peeled_at(position), peel), None)

    def peeled(self, oid: bytes, peel: Peel) -> bytes | None:
        """Return what a tag finally names, None for no tag. `peel` is called once per oid and table.

        An object that is missing counts as no tag, for now: that it is absent is not remembered.
        """
        try:
            return self._peeled[oid]
        except KeyError:
            pass
        try:
            value = self._peeled[oid] = peel(oid)
        except ObjectMissing:
            return None
        return value

    def _peeled_value(self, oid: bytes, known: bytes | None, peel: Peel | None) -> bytes | None:
        """Settle what packed-refs says about peeling (None: nothing; NOT_A_TAG is false)."""
        if known is not None:
            return known or None
        return self.peeled(oid, peel) if peel is not None else self._peeled.get(oid)

    def _ref_from_loose(self, name: bytes, found: LooseRef, peel: Peel | None) -> Ref | None:
        if found.oid is not None:
            return Ref(name, found.oid, self._peeled_value(found.oid, None, peel), None)
        if found.target is None:
            return None
        end = self.follow(name)
        if end is None or end[1] is None:
            return None
        return Ref(name, end[1], self._peeled_value(end[1], None, peel), end[0])

    def iter_refs(self, prefix: bytes = b"", peel: Peel | None = None) -> Iterator[Ref]:
        """Yield the refs whose name starts with `prefix`, in byte order of names.

        With `peel` each `peeled` is exact; without it, it is what packed-refs and earlier peeling tell.
        """
        names, loose = self._loose_names, self._loose
        next_loose = bisect_left(names, prefix)
        loose_name = _name_below(names, next_loose, prefix)
        for entry in self.packed.iter_entries(*self.packed.range_of_prefix(prefix)):
            name, oid, peeled = entry
            hidden = False
            while loose_name is not None and loose_name <= name:
                hidden = loose_name == name
                ref = self._ref_from_loose(loose_name, loose[loose_name], peel)
                if ref is not None:
                    yield ref
                next_loose += 1
                loose_name = _name_below(names, next_loose, prefix)
            if not hidden:
                if peeled is None:
                    peeled = self._peeled_value(oid, None, peel)
                yield Ref(name, oid, peeled or None, None)
        while loose_name is not None:
            ref = self._ref_from_loose(loose_name, loose[loose_name], peel)
            if ref is not None:
                yield ref
            next_loose += 1
            loose_name = _name_below(names, next_loose, prefix)

    def iter_packed(self, low: int, high: int, peel: Peel | None = None) -> Iterator[Ref]:
        """Yield the packed refs at positions [low, high), whether or not a loose one hides them."""
        for name, oid, peeled in self.packed.iter_entries(low, high):
            yield Ref(name, oid, (self._peeled_value(oid, None, peel) if peeled is None else peeled) or None, None)

    def iter_runs(self, prefix: bytes = b"", peel: Peel | None = None) -> Iterator[Run | Ref]:
        """Yield what `iter_refs` yields, with packed refs as runs: the cost is that of the loose refs alone."""
        packed, loose, peeled = self.packed, self._loose, self._peeled
        low, high = packed.range_of_prefix(prefix)
        names = self._loose_names
        for index in range(bisect_left(names, prefix), len(names)):
            name = names[index]
            if not name.startswith(prefix):
                break
            position, after = packed.place_of(name)
            if position > low:
                yield Run(low, position)
            low = after
            found = loose[name]
            oid = found.oid
            ref: Ref | None
            if oid is not None and (peel is None or oid in peeled):
                ref = _new(Ref, (name, oid, peeled.get(oid), None))
            else:
                ref = self._ref_from_loose(name, found, peel)
            if ref is not None:
                yield ref
        if high > low:
            yield Run(low, high)

    def loose_values(self) -> frozenset[bytes]:
        """Return the values of the loose refs that resolve."""
        direct = {found.oid for found in self._loose.values() if found.oid is not None}
        ends = [self.follow(name) for name, found in self._loose.items() if found.target is not None]
        return frozenset((*direct, *(end[1] for end in ends if end is not None and end[1] is not None)))

    def iter_names(self, prefix: bytes = b"") -> Iterator[bytes]:
        """Yield the names that start with `prefix`, in byte order, broken and dangling ones included."""
        names, loose = self._loose_names, self._loose
        next_loose = bisect_left(names, prefix)
        loose_name = _name_below(names, next_loose, prefix)
        for name in self.packed.iter_names(*self.packed.range_of_prefix(prefix)):
            hidden = False
            while loose_name is not None and loose_name <= name:
                hidden = loose_name == name
                if loose[loose_name] != DELETED:
                    yield loose_name
                next_loose += 1
                loose_name = _name_below(names, next_loose, prefix)
            if not hidden:
                yield name
        while loose_name is not None:
            if loose[loose_name] != DELETED:
                yield loose_name
            next_loose += 1
            loose_name = _name_below(names, next_loose, prefix)

    def has_prefix(self, prefix: bytes) -> bool:
        """Say whether any name starts with `prefix`."""
        return next(self.iter_names(prefix), None) is not None


def _name_below(names: list[bytes], position: int, prefix: bytes) -> bytes | None:
    """Return the name at a position, None past the end or past the prefix."""
    if position < len(names) and names[position].startswith(prefix):
        return names[position]
    return None
