"""Enumeration under filters that ask where an object is: `tree:n` and `sparse:oid`.

The same object may be left out at one path and sent at another, so "seen" is not a property of the object
alone: for a depth it is the least level it was walked at, for patterns it is the path. Slower than `trees`,
and used for nothing else. As there, what a parent has at the same path is skipped: the same path means the
same level and the same choice. And as there commits must come parents first: a tree is compared once, and one that came
back would else be compared with what followed it, which has what it brought when it was new.

Source: list-objects-filter.c (filter_trees_depth, filter_sparse).
"""

from collections.abc import Callable
from typing import NamedTuple

from govc.errors import LimitExceeded, ObjectMissing
from govc.graph.commits import History
from govc.graph.filter import ObjectSelection
from govc.graph.interface import Ticker, Work
from govc.graph.trees import TREE_DEPTH_MAX, TreeCache, entry_kind, old_roots_of
from govc.objects.types import BLOB, TREE, TYPE_NAMES


class _Visit(NamedTuple):
    oid: bytes
    number: int
    olds: tuple[bytes, ...]
    level: int  # of the tree itself; a root tree is at 0
    path: bytes  # with a slash at its end, but for the root
    chosen: tuple[bool, ...]  # what each list of patterns says of this directory


class PathWalk:
    """Collects the trees and blobs that commits introduce and a selection lets pass, each once."""

    def __init__(
        self,
        history: History,
        selection: ObjectSelection,
        *,
        had: frozenset[int] = frozenset(),
        may_be_missing: Callable[[bytes], bool],
        tree_depth_max: int = TREE_DEPTH_MAX,
    ) -> None:
        self.trees: dict[int, None] = {}
        self.blobs: dict[int, None] = {}
        self._history = history
        self._reader = history.reader
        self._selection = selection
        self._had = had
        self._may_be_missing = may_be_missing
        self._tree_depth_max = tree_depth_max
        self._cache = TreeCache(history.reader)
        self._levels: dict[int, int] = {}
        self._paths: set[tuple[int, bytes]] = set()
        self._ticker = Ticker()

    def add_commit(self, commit: int) -> Work[None]:
        """Add what a commit introduces."""
        root = self._history.tree_oid(commit)
        olds = tuple(old_roots_of(self._history, commit))
        if root not in olds:
            yield from self._walk(root, olds, self._reader.oid_of(commit))

    def add_tree(self, oid: bytes) -> Work[None]:
        """Add what is below a tree that is wanted by itself: no filter applies to it, so its entries are at level 0."""
        yield from self._walk(oid, (), oid, level=-1)

    def _walk(self, root: bytes, olds: tuple[bytes, ...], holder: bytes, *, level: int = 0) -> Work[None]:
        number = self._find(root, TREE, holder)
        if number < 0:
            return
        start = _Visit(root, number, olds, level, b"", (False,) * len(self._selection.sparse))
        stack = [start] if self._enter(start) else []
        while stack:
            yield from self._expand(stack.pop(), stack)
            if self._ticker.due():
                yield
                self._ticker.restart()

    def _enter(self, visit: _Visit) -> bool:
        """Note a tree; return whether it must be expanded."""
        depth = self._selection.tree_depth
        if visit.number in self._had or (depth is not None and visit.level >= depth):
            return False
        if visit.level > self._tree_depth_max:
            raise LimitExceeded("core.maxTreeDepth", self._tree_depth_max)
        if TREE in self._selection.types:
            self.trees[visit.number] = None
        if self._selection.sparse:
            key = (visit.number, visit.path)
            if key in self._paths:
                return False
            self._paths.add(key)
            return True
        before = self._levels.get(visit.number)
        if before is not None and before <= visit.level:
            return False
        self._levels[visit.number] = visit.level
        return True

    def _expand(self, visit: _Visit, stack: list[_Visit]) -> Work[None]:
        """Look at the entries of a tree; a tick may come between any two: each is matched with every pattern."""
        size = self._reader.algo.oid_size
        entries = self._cache.get(visit.oid, visit.number)
        old_sides = [self._cache.get_old(old) for old in visit.olds]
        old_trees: dict[bytes, list[bytes]] = {}
        for side in old_sides:
            for entry in side - entries:
                if entry_kind(entry) == TREE:
                    old_trees.setdefault(entry[:-size], []).append(entry[-size:])
        for entry in sorted(entries.difference(*old_sides)):
            kind = entry_kind(entry)
            oid = entry[-size:]
            path = visit.path + entry[entry.index(b" ") + 1 : -size - 1]
            if kind == TREE:
                number = self._find(oid, TREE, visit.oid)
                if number >= 0:
                    olds = tuple(old_trees.get(entry[:-size], ()))
                    chosen = self._choose(path, visit.chosen, is_directory=True)
                    child = _Visit(oid, number, olds, visit.level + 1, path + b"/", chosen)
                    if self._enter(child):
                        stack.append(child)
            elif kind == BLOB:
                self._add_blob(oid, path, visit)
            if self._ticker.due():
                yield
                self._ticker.restart()

    def _add_blob(self, oid: bytes, path: bytes, visit: _Visit) -> None:
        selection = self._selection
        if BLOB not in selection.types:
            return
        if selection.tree_depth is not None and visit.level + 1 >= selection.tree_depth:
            return
        if not all(self._choose(path, visit.chosen, is_directory=False)):
            return
        number = self._find(oid, BLOB, visit.oid)
        if number < 0 or number in self._had or number in self.blobs:
            return
        if selection.passes_blob(self._reader, number):
            self.blobs[number] = None

    def _choose(self, path: bytes, above: tuple[bool, ...], *, is_directory: bool) -> tuple[bool, ...]:
        chosen = []
        for patterns, inherited in zip(self._selection.sparse, above, strict=True):
            choice = patterns.find_choice(path, is_directory=is_directory)
            chosen.append(inherited if choice is None else choice)
        return tuple(chosen)

    def _find(self, oid: bytes, kind: int, holder: bytes) -> int:
        number = self._reader.find(oid)
        if number < 0 and not self._may_be_missing(oid):
            raise ObjectMissing(oid, TYPE_NAMES[kind].decode("ascii"))
        return number
