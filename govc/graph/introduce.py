"""Making a segment: the commits below some tips that are not known yet, and what each of them introduces.

Commits are put in an order of time in which parents come first. A commit's tree is then compared with its parents'
trees, path by path: an entry that some parent has at the same path with the same name is passed over with all that is
below it; every other one is introduced, and descended into next to the parents' trees at its path. The cost is that of
the difference, at each commit. Entries are met by going through both trees once, in their sorted order; of a tree that
isn't sorted something may count as introduced that isn't, which is harmless.

Anything missing (a shallow or partial repository) raises: such a segment would claim too much. Grafts and replace refs
are not looked at; who has grafts must not use segments.

`make_segment` is the door: the kernel does it over the packs where it was compiled, `introduce` here is its twin and
works over any ObjectReader.

Source: git's tree-walk.c (decode_tree_entry, base_name_compare), commit.c.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from govc.errors import CorruptObject, GovcError, LimitExceeded, ObjectMissing
from govc.graph.interface import ObjectReader
from govc.graph.name_hash import hash_path
from govc.graph.segment import FOREIGN, NONE, SIZE_MAX, Introduced
from govc.graph.trees import TREE_DEPTH_MAX, entry_kind, split_tree
from govc.kernels import introduce as kernel
from govc.kernels.packread import PackReader
from govc.objects.commit import CommitLinks, parse_commit_links
from govc.objects.types import BLOB, COMMIT, TREE, TYPE_NAMES

ENTRIES_MAX = 1 << 28
"""Introductions in one segment: a gigabyte."""

Known = Callable[[bytes], bool]


COMMITS_MAX = 1 << 30


def make_segment(
    reader: ObjectReader,
    packs: PackReader | None,
    tips: Sequence[bytes],
    known: Known,
    *,
    entries_max: int = ENTRIES_MAX,
    commits_max: int = COMMITS_MAX,
) -> Introduced:
    """Return the segment of the commits below `tips` that `known` doesn't name; they may be none.

    `packs` reads the packs of `reader` without Python, where that was compiled. Raises ObjectMissing, Corrupt,
    LimitExceeded (too many commits or introductions, trees too deep).
    """
    if packs is None or not kernel.AVAILABLE:
        return introduce(reader, tips, known, entries_max=entries_max, commits_max=commits_max)

    def read_loose(oid: bytes) -> tuple[int, bytes] | None:
        number = reader.find(oid)
        return reader.read(number) if number >= 0 else None

    return Introduced(*kernel.introduce(packs, b"".join(tips), known, read_loose, entries_max, commits_max))


def introduce(
    reader: ObjectReader,
    tips: Sequence[bytes],
    known: Known,
    *,
    entries_max: int = ENTRIES_MAX,
    commits_max: int = COMMITS_MAX,
) -> Introduced:
    """The same in pure Python."""
    return _Builder(reader, entries_max, commits_max).build(tips, known)


class _Entry(NamedTuple):
    key: bytes  # sorts as trees are sorted
    name: bytes
    kind: int
    oid: bytes


class _Builder:
    def __init__(self, reader: ObjectReader, entries_max: int, commits_max: int) -> None:
        self._commits_max = commits_max
        self._reader = reader
        self._size = reader.algo.oid_size
        self._entries_max = entries_max
        self._ranks: dict[bytes, int] = {}
        self._types = bytearray()
        self._sizes = array("I")
        self._previous = array("I")
        self._name_hashes = array("I")
        self._stamps = array("I")
        self._intros = array("I")
        self._commit = 0

    def build(self, tips: Sequence[bytes], known: Known) -> Introduced:
        links = self._find_commits(tips, known)
        order = _date_order(links)
        place = {oid: i for i, oid in enumerate(order)}
        foreign: dict[bytes, int] = {}
        old_trees: dict[bytes, bytes] = {}
        parents, parent_starts = array("I"), array("I", [0])
        intro_starts, trees = array("I", [0]), array("I")
        for i, oid in enumerate(order):
            old_roots = []
            for parent in links[oid].parents:
                if parent in place:
                    parents.append(place[parent])
                    old_roots.append(links[parent].tree)
                    continue
                parents.append(FOREIGN | foreign.setdefault(parent, len(foreign)))
                if parent not in old_trees:
                    old_trees[parent] = self._read_commit(parent).tree
                old_roots.append(old_trees[parent])
            self._commit = i
            root = links[oid].tree
            if root not in old_roots:
                self._add_root(root, old_roots)
            trees.append(self._enter(root, TREE, is_introduced=False))
            parent_starts.append(len(parents))
            intro_starts.append(len(self._intros))
        return self._finish(order, links, trees, parent_starts, parents, foreign, intro_starts)

    def _find_commits(self, tips: Sequence[bytes], known: Known) -> dict[bytes, CommitLinks]:
        queue = [oid for oid in dict.fromkeys(tips) if not known(oid)]
        seen = set(queue)
        links = {}
        for oid in queue:
            links[oid] = self._read_commit(oid)
            for parent in links[oid].parents:
                if parent not in seen and not known(parent):
                    seen.add(parent)
                    queue.append(parent)
            if len(queue) > self._commits_max:
                raise LimitExceeded("commits", self._commits_max)
        return links

    def _read(self, oid: bytes, kind: int) -> bytes:
        number = self._reader.find(oid)
        if number < 0:
            raise ObjectMissing(oid, TYPE_NAMES[kind].decode("ascii"))
        type_number, data = self._reader.read(number)
        if type_number != kind:
            raise CorruptObject(oid, "is of another type than what names it says")
        return data

    def _read_commit(self, oid: bytes) -> CommitLinks:
        data = self._read(oid, COMMIT)
        try:
            return parse_commit_links(data, self._reader.algo)
        except GovcError as error:
            raise CorruptObject(oid, "malformed commit") from error

    def _enter(self, oid: bytes, kind: int, *, is_introduced: bool) -> int:
        """Return the rank of an object, entering it when it is new."""
        rank = self._ranks.get(oid)
        if rank is None:
            rank = self._ranks[oid] = len(self._types)
            self._types.append(kind)
            self._sizes.append(NONE)
            self._previous.append(NONE)
            self._name_hashes.append(0)
            self._stamps.append(NONE)
        if is_introduced and kind == BLOB and self._sizes[rank] == NONE:
            number = self._reader.find(oid)
            if number < 0:
                raise ObjectMissing(oid, "blob")
            if self._reader.type_of(number) != BLOB:
                raise CorruptObject(oid, "is not a blob, as the tree that names it says")
            self._sizes[rank] = min(self._reader.size_of(number), SIZE_MAX)
        return rank

    def _add_root(self, root: bytes, old_roots: list[bytes]) -> None:
        rank = self._enter(root, TREE, is_introduced=True)
        self._intros.append(rank)
        self._stamps[rank] = self._commit
        if old_roots and self._previous[rank] == NONE:
            self._previous[rank] = self._enter(old_roots[0], TREE, is_introduced=False)
        stack = [self._compare(root, rank, old_roots, 0)]
        while stack:  # depth first, as the kernel does it
            below = next(stack[-1], None)
            if below is None:
                stack.pop()
                continue
            if len(stack) > TREE_DEPTH_MAX:
                raise LimitExceeded("core.maxTreeDepth", TREE_DEPTH_MAX)
            stack.append(self._compare(*below))

    def _entries(self, oid: bytes) -> tuple[int, list[_Entry]]:
        data = self._read(oid, TREE)
        raw = split_tree(data, self._size)
        if raw is None:
            raise CorruptObject(oid, "malformed tree")
        entries = []
        for entry in raw:
            kind = entry_kind(entry)
            name = entry[entry.index(b" ") :].lstrip(b" ")[: -self._size - 1]
            entries.append(_Entry(name + b"/" if kind == TREE else name, name, kind, entry[-self._size :]))
        return len(data), entries

    def _compare(
        self, oid: bytes, rank: int, olds: list[bytes], path_hash: int
    ) -> Iterator[tuple[bytes, int, list[bytes], int]]:
        """Add what a tree introduces; yield the trees to descend into, each with its old ones.

        `path_hash`: of what stands before the names of its entries.
        """
        size, entries = self._entries(oid)
        self._sizes[rank] = min(size, SIZE_MAX)
        sides = [self._entries(old)[1] for old in olds]
        at = [0] * len(sides)
        for new in entries:
            children: list[bytes] = []
            before = None
            is_old = False
            for i, side in enumerate(sides):
                while at[i] < len(side) and side[at[i]].key < new.key:
                    at[i] += 1
                old = side[at[i]] if at[i] < len(side) else None
                if old is None or old.key != new.key or old.kind != new.kind:
                    continue
                if old.oid == new.oid:
                    is_old = True
                    break
                if i == 0:
                    before = old.oid
                if new.kind == TREE:
                    children.append(old.oid)
            if is_old or not new.kind:
                continue
            child = self._enter(new.oid, new.kind, is_introduced=True)
            if self._stamps[child] == self._commit:
                continue
            self._stamps[child] = self._commit
            if len(self._intros) >= self._entries_max:
                raise LimitExceeded("introductions", self._entries_max)
            self._intros.append(child)
            name_hash = hash_path(new.name, path_hash)
            self._name_hashes[child] = self._name_hashes[child] or name_hash
            if before is not None and self._previous[child] == NONE:
                self._previous[child] = self._enter(before, new.kind, is_introduced=False)
            if new.kind == TREE:
                yield new.oid, child, children, hash_path(b"/", name_hash)

    def _finish(
        self,
        order: list[bytes],
        links: dict[bytes, CommitLinks],
        trees: "array[int]",
        parent_starts: "array[int]",
        parents: "array[int]",
        foreign: dict[bytes, int],
        intro_starts: "array[int]",
    ) -> Introduced:
        """Put the objects in the order of their names."""
        names = sorted(self._ranks)
        ranks = [self._ranks[name] for name in names]
        places = array("I", bytes(4 * len(ranks)))
        for place, rank in enumerate(ranks):
            places[rank] = place
        previous = (self._previous[rank] for rank in ranks)
        return Introduced(
            commit_oids=b"".join(order),
            times=array("q", [links[oid].time for oid in order]).tobytes(),
            trees=array("I", [places[rank] for rank in trees]).tobytes(),
            parent_starts=parent_starts.tobytes(),
            parents=parents.tobytes(),
            foreign_oids=b"".join(foreign),
            object_oids=b"".join(names),
            types=bytes(self._types[rank] for rank in ranks),
            sizes=array("I", [self._sizes[rank] for rank in ranks]).tobytes(),
            previous=array("I", [places[p] if p != NONE else NONE for p in previous]).tobytes(),
            name_hashes=array("I", [self._name_hashes[rank] for rank in ranks]).tobytes(),
            intro_starts=intro_starts.tobytes(),
            intros=array("I", [places[rank] for rank in self._intros]).tobytes(),
        )


def _date_order(links: dict[bytes, CommitLinks]) -> list[bytes]:
    """Return the commits, parents before children, older ones first, equal ones by name."""
    waiting = {oid: sum(parent in links for parent in link.parents) for oid, link in links.items()}
    children: dict[bytes, list[bytes]] = {}
    for oid, link in links.items():
        for parent in link.parents:
            children.setdefault(parent, []).append(oid)
    heap = [(links[oid].time, oid) for oid, count in waiting.items() if not count]
    heapify(heap)
    order = []
    while heap:
        oid = heappop(heap)[1]
        order.append(oid)
        for child in children.get(oid, ()):
            waiting[child] -= 1
            if not waiting[child]:
                heappush(heap, (links[child].time, child))
    return order


def is_empty(introduced: Introduced) -> bool:
    """Tell whether there was nothing to make a segment of."""
    return not introduced.times


def merge(parts: Sequence[Introduced], oid_size: int) -> Introduced:
    """Return one segment in place of several that follow each other, each closed over those before.

    A commit that is in two of them is kept once, as the first one has it.
    """
    return _Merger(oid_size).merge(parts)


class _Detail(NamedTuple):
    """What segments say of an object; `previous` is a name, b"" for none."""

    type_number: int
    size: int
    previous: bytes
    name_hash: int


class _Merger:
    def __init__(self, oid_size: int) -> None:
        self._size = oid_size
        self._commits: dict[bytes, int] = {}
        self._foreign: dict[bytes, int] = {}
        self._columns: dict[str, Any] = {}

    def _names(self, block: bytes) -> list[bytes]:
        size = self._size
        return [block[at : at + size] for at in range(0, len(block), size)]

    def merge(self, parts: Sequence[Introduced]) -> Introduced:
        details = self._merge_objects(parts)
        rank_of = {oid: rank for rank, oid in enumerate(details)}
        times, trees = array("q"), array("I")
        parent_starts, parents = array("I", [0]), array("I")
        intro_starts, intros = array("I", [0]), array("I")
        for part in parts:
            ranks = array("I", [rank_of[oid] for oid in self._names(part.object_oids)])
            foreign = self._names(part.foreign_oids)
            names = self._names(part.commit_oids)
            part_times, part_trees = array("q", part.times), array("I", part.trees)
            starts, words = array("I", part.parent_starts), array("I", part.parents)
            places, entries = array("I", part.intro_starts), array("I", part.intros)
            for place, oid in enumerate(names):
                if oid in self._commits:
                    continue
                self._commits[oid] = len(times)
                times.append(part_times[place])
                trees.append(ranks[part_trees[place]])
                for word in words[starts[place] : starts[place + 1]]:
                    parents.append(self._parent(foreign[word & ~FOREIGN] if word & FOREIGN else names[word]))
                parent_starts.append(len(parents))
                intros.extend(ranks[rank] for rank in entries[places[place] : places[place + 1]])
                intro_starts.append(len(intros))
        previous = (value.previous for value in details.values())
        return Introduced(
            commit_oids=b"".join(self._commits),
            times=times.tobytes(),
            trees=trees.tobytes(),
            parent_starts=parent_starts.tobytes(),
            parents=parents.tobytes(),
            foreign_oids=b"".join(self._foreign),
            object_oids=b"".join(details),
            types=bytes(value.type_number for value in details.values()),
            sizes=array("I", [value.size for value in details.values()]).tobytes(),
            previous=array("I", [rank_of[oid] if oid else NONE for oid in previous]).tobytes(),
            name_hashes=array("I", [value.name_hash for value in details.values()]).tobytes(),
            intro_starts=intro_starts.tobytes(),
            intros=intros.tobytes(),
        )

    def _parent(self, oid: bytes) -> int:
        place = self._commits.get(oid)
        return place if place is not None else FOREIGN | self._foreign.setdefault(oid, len(self._foreign))

    def _merge_objects(self, parts: Sequence[Introduced]) -> dict[bytes, _Detail]:
        """Return what the parts say of each object, by name, sorted."""
        found: dict[bytes, _Detail] = {}
        for part in parts:
            names = self._names(part.object_oids)
            sizes, previous, hashes = array("I", part.sizes), array("I", part.previous), array("I", part.name_hashes)
            for rank, oid in enumerate(names):
                old = found.get(oid)
                before = names[previous[rank]] if previous[rank] != NONE else b""
                if old is None:
                    found[oid] = _Detail(part.types[rank], sizes[rank], before, hashes[rank])
                else:
                    size, name_hash = min(old.size, sizes[rank]), old.name_hash or hashes[rank]
                    found[oid] = _Detail(old.type_number, size, old.previous or before, name_hash)
        return dict(sorted(found.items()))
