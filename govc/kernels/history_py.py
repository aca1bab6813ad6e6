"""All commits of a repository as columns, and walks over them, in pure Python; the story is in `history`.

The same answers as the compiled kernel. Commit-graph files and pack readers are passed over: they are there for speed.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, TypeVar

from govc.errors import Corrupt

_WANT, _HAVE, _BOTH, _STALE = 1, 2, 3, 4
_BY_DATE, _BY_DATE_TOPO = 0, 1

_NONE = 0xFFFFFFFF

_SLOP = 5
"""git's: so many excluded commits are looked at after the last one that isn't."""

_Parents = Callable[[int], Sequence[int]]


class Graph:
    """See history.Graph."""

    def __init__(self, oid_size: int) -> None:
        self.oid_size = oid_size
        self._oids: list[bytes] = []
        self._trees: list[bytes] = []
        self._times = array("q")
        self._parents: list[tuple[int, ...]] = []
        self._cids: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._oids)

    @property
    def count(self) -> int:
        """How many commits there are."""
        return len(self._oids)

    @property
    def byte_count(self) -> int:
        """About how much memory that takes."""
        return len(self._oids) * (400 + 2 * self.oid_size)

    def _check(self, cids: Iterable[int]) -> None:
        for cid in cids:
            if not 0 <= cid < len(self._oids):
                raise IndexError(f"no commit has the number {cid}")

    def find(self, oid: bytes) -> int:
        """See history.Graph."""
        return self._cids.get(oid, -1)

    def find_many(self, oids: bytes | memoryview) -> "tuple[array[int], array[int]]":
        """See history.Graph."""
        names = [bytes(oids[at : at + self.oid_size]) for at in range(0, len(oids), self.oid_size)]
        found = array("I", [self._cids.get(name, _NONE) for name in names])
        named = set(found)
        return found, array("I", [cid for cid in range(len(self._oids)) if cid not in named])

    def oid(self, cid: int) -> bytes:
        """See history.Graph."""
        self._check((cid,))
        return self._oids[cid]

    def tree(self, cid: int) -> bytes:
        """See history.Graph."""
        self._check((cid,))
        return self._trees[cid]

    def time(self, cid: int) -> int:
        """See history.Graph."""
        self._check((cid,))
        return self._times[cid]

    def parents(self, cid: int) -> tuple[int, ...]:
        """See history.Graph."""
        self._check((cid,))
        return self._parents[cid]

    def oids(self, cids: "array[int]") -> list[bytes]:
        """See history.Graph."""
        self._check(cids)
        return [self._oids[cid] for cid in cids]

    def load(
        self,
        _reader: object,
        tips: bytes,
        read: Callable[[bytes], tuple[bytes, tuple[bytes, ...], int]],
        replaced: Mapping[bytes, tuple[bytes, ...]],
        _layers: object,
    ) -> int:
        """See history.Graph."""
        met: dict[bytes, tuple[bytes, tuple[bytes, ...], int]] = {}
        waiting = [tips[at : at + self.oid_size] for at in range(0, len(tips), self.oid_size)]
        while waiting:
            oid = waiting.pop()
            if oid in met or oid in self._cids:
                continue
            tree, parents, time = read(oid)
            parents = replaced.get(oid, parents)
            met[oid] = (tree, parents, time)
            waiting.extend(parents)
        for _, oid in sorted((date, oid) for oid, date in self._corrected_dates(met).items()):
            tree, parents, time = met[oid]
            self._parents.append(tuple(self._cids[parent] for parent in parents))
            self._cids[oid] = len(self._oids)
            self._oids.append(oid)
            self._trees.append(tree)
            self._times.append(time)
        return len(met)

    def _corrected_dates(self, met: Mapping[bytes, tuple[bytes, tuple[bytes, ...], int]]) -> dict[bytes, int]:
        """Return for each a number above those of its parents: the time, where clocks were right."""
        dates: dict[bytes, int] = {}
        for tip in met:
            stack = [tip]
            on_stack: set[bytes] = set()
            while stack:
                oid = stack[-1]
                _, parents, time = met[oid]
                missing = [parent for parent in parents if parent in met and parent not in dates]
                if oid in dates or not missing:
                    stack.pop()
                    on_stack.discard(oid)
                    dates[oid] = max(time, 1 + max((dates.get(parent, -1) for parent in parents), default=-1))
                    continue
                on_stack.add(oid)
                if any(parent in on_stack for parent in missing):
                    raise Corrupt("commits are their own ancestors")
                stack.extend(missing)
        return dates

    # Walks

    def order(
        self,
        tips: "array[int]",
        excluded: "array[int]",
        kind: int,
        first_parent: bool,
        limit: int,
        columns: Sequence[Any] | None = None,
        changes: Sequence[tuple[Any, Any, Any]] | None = None,
    ) -> "array[int]":
        """See history.Graph."""
        self._check(tips)
        self._check(excluded)
        if not tips or limit == 0:
            return array("I")
        if columns is not None and any(len(column) <= max([*tips, *excluded]) for column in columns):
            raise ValueError("a column is too short")
        if changes is not None and (excluded or columns):
            raise ValueError("changes are for what has neither bounds nor columns")
        had = self._reach(excluded)
        parents: _Parents = self._parents.__getitem__
        if first_parent:
            parents = self._first_parent
        same: set[int] = set()
        if columns or changes is not None:
            pruning = _Pruning(self, columns or (), first_parent=first_parent, followed=_followed_in(changes))
            visited = pruning.walk(tips, excluded)
            same, parents = pruning.same, pruning.followed
            listed = [cid for cid in visited if cid not in had and cid not in pruning.excluded]
        else:
            listed = self._by_date(tips, parents, had, limit if kind == _BY_DATE else -1)
        if kind != _BY_DATE:
            listed = self._by_topology(listed, parents, is_by_date=kind == _BY_DATE_TOPO)
        shown = [cid for cid in listed if cid not in same]
        return array("I", shown if limit < 0 else shown[:limit])

    def _first_parent(self, cid: int) -> tuple[int, ...]:
        return self._parents[cid][:1]

    def _reach(self, tips: Iterable[int]) -> set[int]:
        reached = set(tips)
        waiting = list(reached)
        while waiting:
            for parent in self._parents[waiting.pop()]:
                if parent not in reached:
                    reached.add(parent)
                    waiting.append(parent)
        return reached

    def _by_date(self, tips: Iterable[int], parents: _Parents, had: set[int], limit: int) -> list[int]:
        seen = set(had)
        heap: list[tuple[int, int, int]] = []
        serial = 0
        listed: list[int] = []

        def push(cids: Iterable[int]) -> None:
            nonlocal serial
            for cid in cids:
                if cid not in seen:
                    seen.add(cid)
                    heappush(heap, (-self._times[cid], serial, cid))
                    serial += 1

        push(tips)
        while heap and len(listed) != limit:
            cid = heappop(heap)[2]
            listed.append(cid)
            push(parents(cid))
        return listed

    def _by_topology(self, listed: list[int], parents: _Parents, *, is_by_date: bool) -> list[int]:
        waiting = dict.fromkeys(listed, 0)
        for cid in listed:
            for parent in parents(cid):
                if parent in waiting:
                    waiting[parent] += 1
        free = [cid for cid in listed if not waiting[cid]]
        heap = [(-self._times[cid], serial, cid) for serial, cid in enumerate(free)] if is_by_date else []
        heap.sort()
        serial = len(free)
        stack = free[::-1]
        ordered: list[int] = []
        while heap or (stack and not is_by_date):
            cid = heappop(heap)[2] if is_by_date else stack.pop()
            ordered.append(cid)
            for parent in parents(cid):
                if parent not in waiting:
                    continue
                waiting[parent] -= 1
                if waiting[parent] == 0:
                    heappush(heap, (-self._times[parent], serial, parent)) if is_by_date else stack.append(parent)
                    serial += 1
        return ordered

    def ahead_behind(self, one: int, other: int) -> tuple[int, int]:
        """See history.Graph."""
        self._check((one, other))
        ahead, behind = self._reach((one,)), self._reach((other,))
        return len(ahead - behind), len(behind - ahead)

    def merge_bases(self, one: int, others: "array[int]") -> "array[int]":
        """See history.Graph."""
        self._check((one, *others))
        marks = {one: _WANT}
        for other in others:
            marks[other] = marks.get(other, 0) | _HAVE
        heap = [-cid for cid in sorted(marks, reverse=True)]
        found = array("I")
        pending = len(marks)
        while heap and pending:
            cid = -heappop(heap)
            mark = marks[cid]
            if not mark & _STALE:
                pending -= 1
                if mark == _BOTH:
                    found.append(cid)
                    mark |= _STALE
            for parent in self._parents[cid]:
                before = marks.get(parent, 0)
                after = marks[parent] = before | mark
                if not before:
                    heappush(heap, -parent)
                pending += (not after & _STALE) - bool(before and not before & _STALE)
        return found

    def is_ancestor(self, old: int, new: int) -> bool:
        """See history.Graph."""
        self._check((old, new))
        return old in self._reach((new,))

    def reached_by(self, old: int, tips: "array[int]") -> bytes:
        """See history.Graph."""
        self._check((old, *tips))
        marked = {old}
        for cid in range(old + 1, max(tips, default=old) + 1):
            if not marked.isdisjoint(self._parents[cid]):
                marked.add(cid)
        return bytes(tip in marked for tip in tips)


def _followed_in(changes: Sequence[tuple[Any, Any, Any]] | None) -> dict[int, int] | None:
    if changes is None:
        return None
    return {
        cid_of[place]: parent
        for places, parents, cid_of in changes
        for place, parent in zip(places, parents, strict=True)
    }


class _Pruning:
    """The walk over the history of paths, in the order of events of git's limit_list.

    Whether a parent counts depends on whether it is known to be excluded by the time that its child is looked at.
    """

    def __init__(
        self, graph: Graph, columns: Sequence[Any], *, first_parent: bool, followed: Mapping[int, int] | None
    ) -> None:
        """`followed`: instead of columns, which commits change the path, and the parent that has the same."""
        self._graph = graph
        self._changes = followed
        self._columns = columns
        self._first_parent = first_parent
        self.same: set[int] = set()
        self.excluded: set[int] = set()
        self._bottoms: frozenset[int] = frozenset()
        self._parsed: set[int] = set()
        self._followed: dict[int, tuple[int, ...]] = {}
        self._heap: list[tuple[int, int, int]] = []
        self._seen: set[int] = set()

    def followed(self, cid: int) -> tuple[int, ...]:
        """Return the parents that a commit was followed to."""
        return self._followed[cid]

    def walk(self, tips: Sequence[int], bottoms: Sequence[int]) -> list[int]:
        """Return what is visited, by date."""
        self._bottoms = frozenset(bottoms)
        self._parsed.update(tips)
        for bottom in bottoms:
            self.excluded.add(bottom)
            self._parsed.add(bottom)
            self._exclude_parents(bottom)
        self._push((*tips, *bottoms))
        listed: list[int] = []
        date, slop = 1 << 62, _SLOP
        while self._heap:
            cid = heappop(self._heap)[2]
            if cid not in self.excluded:
                self._followed[cid] = parents = self._simplify(cid)
                self._parsed.update(parents)
                listed.append(cid)
                date = self._graph.time(cid)
                self._push(parents)
                continue
            for parent in self._graph.parents(cid):
                self.excluded.add(parent)
                self._parsed.add(parent)
                self._exclude_parents(parent)
                self._push((parent,))
            if not self._heap:
                break
            is_open = date <= -self._heap[0][0] or any(item[2] not in self.excluded for item in self._heap)
            slop = _SLOP if is_open else slop - 1
            if slop <= 0:
                break
        return listed

    def _push(self, cids: Iterable[int]) -> None:
        for cid in cids:
            if cid not in self._seen:
                heappush(self._heap, (-self._graph.time(cid), len(self._seen), cid))
                self._seen.add(cid)

    def _exclude_parents(self, commit: int) -> None:
        stack = [commit]
        while stack:
            cid = stack.pop()
            followed = self._followed.get(cid) if cid not in self.excluded else None
            for parent in followed if followed is not None else self._graph.parents(cid):
                if parent not in self.excluded:
                    self.excluded.add(parent)
                    if parent in self._parsed:
                        stack.append(parent)

    def _simplify(self, cid: int) -> tuple[int, ...]:
        parents = self._graph.parents(cid)[: 1 if self._first_parent else None]
        if self._changes is not None:
            same = self._changes.get(cid, 0)
            if cid not in self._changes or 0 < same < len(parents):
                self.same.add(cid)
                return parents[same : same + 1]
            return parents
        if not parents:
            if not any(column[cid] for column in self._columns):
                self.same.add(cid)
            return parents
        changes: dict[bool, bool] = {}
        for parent in parents:
            self._parsed.add(parent)
            is_relevant = parent not in self.excluded or parent in self._bottoms
            is_same = all(column[cid] == column[parent] for column in self._columns)
            if is_same and is_relevant:
                self.same.add(cid)
                return (parent,)
            changes[is_relevant] = changes.get(is_relevant, False) or not is_same
        if not changes.get(True, changes.get(False)):
            self.same.add(cid)
        return parents


class Handle:
    """See history.Handle."""

    __slots__ = ("cid", "graph", "source")

    graph: Graph
    source: Any
    cid: int

    @property
    def oid(self) -> bytes:
        """The name."""
        return self.graph.oid(self.cid)

    @property
    def tree_oid(self) -> bytes:
        """The root tree's name."""
        return self.graph.tree(self.cid)

    @property
    def time(self) -> int:
        """The committer's time."""
        return self.graph.time(self.cid)

    @property
    def message(self) -> bytes:
        """See history.Handle."""
        data: bytes = self.source[self.oid].data
        return data.partition(b"\n\n")[2] if data.startswith(b"tree ") else self.odd_message()

    def odd_message(self) -> bytes:
        """See history.Handle."""
        raise ValueError("not a commit of the usual form")


_H = TypeVar("_H", bound=Handle)


def make_handle(kind: type[_H], graph: Graph, source: object, cid: int) -> _H:
    """See history.make_handle."""
    graph._check((cid,))
    handle = kind.__new__(kind)
    handle.graph = graph
    handle.source = source
    handle.cid = cid
    return handle


def iter_handles(kind: type[_H], graph: Graph, source: object, cids: "array[int]") -> Iterator[_H]:
    """See history.iter_handles."""
    graph._check(cids)
    return (make_handle(kind, graph, source, cid) for cid in cids)
