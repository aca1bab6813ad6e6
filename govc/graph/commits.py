"""The commit graph in memory: parents, committer times and root trees of the commits that were asked for.

`CommitTable` is a cache keyed by object number. A store only grows and its numbers stay, so one table serves
every snapshot of a repository: it holds what the commit objects say and nothing else. Per commit it spends a
dictionary slot and about 40 bytes in arrays:

    times    int64   committer time, seconds
    trees    oid     root tree, raw
    starts   uint32  where this commit's parents begin; the next commit's start is their end
    parents  int64   object numbers; a missing parent is -1 - (position in a list of missing oids)

What a repository or a client adds to that (the `shallow` file, info/grafts, the shallow lines of one request)
is a `History`: a table plus the commits whose parents are to be replaced. It is cheap and made per request.

Source: gitrepository-layout "shallow" and "info/grafts"; git's commit.c (lookup_commit_graft).
"""

import logging
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

from govc.errors import Corrupt, CorruptObject, GovcError, ObjectMissing
from govc.graph.commit_graph_file import CommitGraph
from govc.graph.interface import ObjectReader
from govc.graph.marks import NumberSlots
from govc.objects.commit import parse_commit_links
from govc.objects.tag import parse_tag_links
from govc.objects.types import COMMIT, TAG, TYPE_NAMES

log = logging.getLogger(__name__)

TAG_CHAIN_MAX = 100_000
"""Tags that point to tags: how many are followed before the chain is refused."""

SINGLE_TAGS_MAX = 10_000
"""So many tags that name no other tag are known by heart, in at most a megabyte."""


def never(_oid: bytes) -> bool:
    """The `may_be_missing` of a repository that is not a partial clone."""
    return False


LookUp = Callable[[bytes], tuple[int, bytes, tuple[bytes, ...]] | None]
"""Who knows commits by heart: committer time, root tree, parents; None for one that isn't known."""


class CommitTable:
    """Commits by object number; filled on demand, never emptied, shared by all snapshots of one store."""

    __slots__ = (
        "_look_up",
        "_missing",
        "_oid_size",
        "_parents",
        "_slots",
        "_starts",
        "_times",
        "_trees",
        "graphs",
        "reader",
        "single_tags",
    )

    def __init__(self, reader: ObjectReader, look_up: "LookUp | None" = None) -> None:
        """`look_up` is asked before a commit is read."""
        self.reader = reader
        self._look_up = look_up
        self._slots = NumberSlots()
        self._times = array("q")
        self._trees = bytearray()
        self._starts = array("I", [0])
        self._parents = array("q")
        self._missing: list[bytes] = []
        self._oid_size = reader.algo.oid_size
        self.graphs: tuple[CommitGraph, ...] = ()
        """Commit-graph files that may be asked before the commits themselves."""
        self.single_tags: set[int] = set()
        """Tags that were read, and name something that is here and no tag (`History.tags_passed`)."""

    def __len__(self) -> int:
        return len(self._slots)

    def time(self, number: int) -> int:
        """Return the committer time, in seconds since 1970."""
        slot = self._slots.get(number)
        return self._times[self._load(number) if slot < 0 else slot]

    def tree_oid(self, number: int) -> bytes:
        """Return the oid of the root tree."""
        slot = self._slots.get(number)
        if slot < 0:
            slot = self._load(number)
        return bytes(self._trees[slot * self._oid_size : (slot + 1) * self._oid_size])

    def parents(self, number: int) -> tuple[int, ...]:
        """Return the numbers of the parents. Raises ObjectMissing when the store lacks one."""
        numbers = self.present_parents(number)
        if numbers and min(numbers) < 0:
            raise ObjectMissing(self._missing[-1 - min(numbers)], "commit")
        return numbers

    def missing_oid(self, stand_in: int) -> bytes:
        """Return the oid behind a negative number out of `present_parents`."""
        return self._missing[-1 - stand_in]

    def present_parents(self, number: int) -> tuple[int, ...]:
        """Return the parents; a parent that the store lacks is a negative stand-in (see `missing_oid`)."""
        slot = self._slots.get(number)
        if slot < 0:
            slot = self._load(number)
        start, end = self._starts[slot], self._starts[slot + 1]
        if end - start == 1:
            only = self._parents[start]
            if only >= 0:
                return (only,)
        numbers = tuple(self._parents[start:end])
        if numbers and min(numbers) < 0:
            return self._look_again(start, numbers)
        return numbers

    def _look_again(self, start: int, numbers: tuple[int, ...]) -> tuple[int, ...]:
        """A parent that was missing may have arrived since."""
        for i, number in enumerate(numbers):
            if number < 0:
                found = self.reader.find(self._missing[-1 - number])
                if found >= 0:
                    self._parents[start + i] = found
        return tuple(self._parents[start : start + len(numbers)])

    def _load(self, number: int) -> int:
        tree, parent_oids, time = self._read_links(number)
        parents: list[int] = []
        for oid in parent_oids:
            parent = self.reader.find(oid)
            if parent < 0:
                self._missing.append(oid)
                parent = -len(self._missing)
            parents.append(parent)
        slot = len(self._times)
        self._times.append(max(-(1 << 63), min(time, (1 << 63) - 1)))
        self._trees += tree
        self._parents.extend(parents)
        self._starts.append(len(self._parents))
        self._slots.set(number, slot)
        return slot

    def _read_links(self, number: int) -> tuple[bytes, tuple[bytes, ...], int]:
        """Return (tree, parents, time) from what is known by heart, a commit-graph file, else from the commit."""
        if self._look_up is not None:
            known = self._look_up(self.reader.oid_of(number))
            if known is not None:
                return known[1], known[2], known[0]
        for graph in self.graphs:
            try:
                found = graph.find(self.reader.oid_of(number))
            except Corrupt as error:
                log.warning("commit-graph is not used any more: %s", error)
                self.graphs = ()
                break
            if found is not None:
                return found.tree, found.parents, found.time
        type_number, data = self.reader.read(number)
        if type_number != COMMIT:
            raise CorruptObject(self.reader.oid_of(number), f"is a {_type_name(type_number)}, not a commit")
        try:
            return parse_commit_links(data, self.reader.algo)
        except GovcError as error:
            raise CorruptObject(self.reader.oid_of(number), str(error)) from error


class History:
    """A `CommitTable` as one repository or one request sees it: some commits have other parents, or none.

    `shallow` are object numbers of commits whose parents are not there (they are taken to have none);
    `grafts` gives commits other parents. `may_be_missing(oid)` is true for promised objects: a parent
    that is absent and promised is left out of the walk.
    """

    __slots__ = ("_replaced", "_table", "may_be_missing", "reader", "shallow", "time", "tree_oid")

    def __init__(
        self,
        table: CommitTable,
        *,
        shallow: Iterable[int] = (),
        grafts: Mapping[int, tuple[int, ...]] | None = None,
        may_be_missing: Callable[[bytes], bool] = never,
    ) -> None:
        self._table = table
        self.reader = table.reader
        self.shallow = frozenset(shallow)
        self._replaced: dict[int, tuple[int, ...]] = dict(grafts or {})
        self._replaced.update(dict.fromkeys(self.shallow, ()))
        self.may_be_missing = may_be_missing
        self.time = table.time
        self.tree_oid = table.tree_oid

    @property
    def table(self) -> CommitTable:
        """The table below."""
        return self._table

    @property
    def is_whole(self) -> bool:
        """Whether every commit has the parents that it says, all of them here."""
        return not self._replaced and self.may_be_missing is never

    def tags_passed(self, number: int) -> Sequence[int]:
        """Return the tags that peeling this one passes, itself first. Most are read once. Raises as `follow_tags`."""
        single = self._table.single_tags
        if number in single:
            return (number,)
        tags, target, _type = follow_tags(self.reader, number, self.may_be_missing)
        if len(tags) == 1 and target >= 0 and len(single) < SINGLE_TAGS_MAX:
            single.add(number)
        return tags

    def cut(self, numbers: Iterable[int]) -> "History":
        """Return this history with more commits made shallow."""
        more = History(
            self._table,
            shallow=self.shallow.union(numbers),
            grafts=self._replaced,
            may_be_missing=self.may_be_missing,
        )
        return more

    def restored(self, numbers: Iterable[int]) -> "History":
        """Return this history with the own parents of `numbers`, whether shallow or grafted here."""
        gone = frozenset(numbers)
        kept = {number: parents for number, parents in self._replaced.items() if number not in gone}
        return History(self._table, shallow=self.shallow - gone, grafts=kept, may_be_missing=self.may_be_missing)

    def parents(self, number: int) -> tuple[int, ...]:
        """Return the parents' numbers. Raises ObjectMissing for one that is neither there nor promised."""
        replaced = self._replaced.get(number)
        if replaced is not None:
            return replaced
        numbers = self._table.present_parents(number)
        if numbers and min(numbers) < 0:
            return self._drop_promised(numbers)
        return numbers

    def known_parents(self, number: int) -> tuple[int, ...]:
        """Return the parents that are there: what git does on the side it doesn't have to send."""
        replaced = self._replaced.get(number)
        if replaced is not None:
            return replaced
        numbers = self._table.present_parents(number)
        if numbers and min(numbers) < 0:
            return tuple(n for n in numbers if n >= 0)
        return numbers

    def missing_parents(self, number: int) -> list[bytes]:
        """Return the oids of parents that are neither there, nor promised, nor cut off."""
        if number in self._replaced:
            return []
        numbers = self._table.present_parents(number)
        absent = [self._table.missing_oid(n) for n in numbers if n < 0]
        return [oid for oid in absent if not self.may_be_missing(oid)]

    def _drop_promised(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        for number in numbers:
            if number < 0:
                oid = self._table.missing_oid(number)
                if not self.may_be_missing(oid):
                    raise ObjectMissing(oid, "commit")
        return tuple(n for n in numbers if n >= 0)


def find_numbers(reader: ObjectReader, oids: Iterable[bytes]) -> list[int]:
    """Return the numbers of those oids that the store has, in order."""
    return [number for oid in oids if (number := reader.find(oid)) >= 0]


def follow_tags(
    reader: ObjectReader, number: int, may_be_missing: Callable[[bytes], bool] = never
) -> tuple[list[int], int, int]:
    """Peel an object: return (tags passed, outermost first; number of what they lead to; its type).

    The last number is -1, with the type that the last tag names, when the target is absent and promised.
    Raises ObjectMissing when it is just absent.
    """
    tags: list[int] = []
    type_number = reader.type_of(number)
    while type_number == TAG:
        tags.append(number)
        if len(tags) > TAG_CHAIN_MAX:
            raise CorruptObject(reader.oid_of(number), "too many tags point to tags")
        try:
            links = parse_tag_links(reader.read(number)[1], reader.algo)
        except ObjectMissing:
            raise
        except GovcError as error:
            raise CorruptObject(reader.oid_of(number), str(error)) from error
        number = reader.find(links.oid)
        if number < 0:
            if may_be_missing(links.oid):
                return tags, -1, links.type_number
            raise ObjectMissing(links.oid, _type_name(links.type_number))
        type_number = reader.type_of(number)
    return tags, number, type_number


def _type_name(type_number: int) -> str:
    return TYPE_NAMES.get(type_number, b"object").decode("ascii")
