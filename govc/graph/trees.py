"""Trees by difference: which objects does a commit introduce, given its parents' trees.

A tree is cut into its raw entries (`<octal mode> SP <name> NUL <oid>`, one bytes object each) and kept as a
frozenset, so that "what is new here" is one set difference in C. A commit's tree and its parents' trees are
descended together: an entry that a parent has at the same path costs nothing, not even a look-up; only what
differs from every parent is looked up, marked and descended into.

Why that is complete: everything in a commit's tree is either introduced by it or in a parent's tree at the
same path, and the parent is either walked too or complete at the other side. A commit whose parents are not
walked and not complete there (a root, a shallow boundary) must come without old trees: it is then walked
whole.

Commits must come parents first (`parents_first`). Then an old-side entry that isn't marked to be sent is
known to be at the client: it is a base for thin deltas, and needs no sending when a rename brings it to
another path.

Source: git's tree-walk.c (decode_tree_entry), list-objects.c.
"""

import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from govc.errors import CorruptObject, LimitExceeded, ObjectMissing
from govc.graph.commits import History, never
from govc.graph.interface import ObjectReader, Ticker, Work
from govc.graph.marks import NumberMarks
from govc.objects.types import BLOB, TREE, TYPE_NAMES

TREE_DEPTH_MAX = 2048
"""git's default of core.maxTreeDepth: trees nested deeper are refused."""

CACHED_ENTRIES_MAX = 80_000
"""How many entries the cache of parsed trees holds: about 100 bytes each."""

ABSENT = 0
HAD = 1

_FORMAT_MASK = 0o170000
_KINDS_BY_FORMAT = {0o040000: TREE, 0o100000: BLOB, 0o120000: BLOB}
_KINDS = {b"40000": TREE, b"100644": BLOB, b"100755": BLOB, b"120000": BLOB, b"160000": 0}
_TREE_PREFIX = b"40000 "
_BLOB_PREFIXES = (b"100644 ", b"100755 ", b"120000 ")

_ENTRY_PATTERNS = {size: re.compile(rb"[0-7]{1,11}+ [^\0]++\0.{%d}" % size, re.DOTALL) for size in (20, 32)}


def split_tree(data: bytes, oid_size: int) -> list[bytes] | None:
    """Return the raw entries of a tree in order, or None when the content isn't a sequence of entries."""
    entries = _ENTRY_PATTERNS[oid_size].findall(data)
    return entries if sum(map(len, entries)) == len(data) else None


def entry_kind(entry: bytes) -> int:
    """Return TREE or BLOB as the mode of a raw entry says; 0 for a gitlink, which is never followed.

    A mode that is no file, link or directory counts as a gitlink, as in git's canon_mode.
    """
    mode = entry[: entry.index(b" ")]
    kind = _KINDS.get(mode)
    return _KINDS_BY_FORMAT.get(int(mode, 8) & _FORMAT_MASK, 0) if kind is None else kind


class TreeCache:
    """Parsed trees by oid, the least recently used dropped; bounded by the number of entries held."""

    __slots__ = ("_entries_held", "_entries_max", "_oid_size", "_reader", "_trees")

    def __init__(self, reader: ObjectReader, entries_max: int = CACHED_ENTRIES_MAX) -> None:
        self._reader = reader
        self._oid_size = reader.algo.oid_size
        self._entries_max = entries_max
        self._entries_held = 0
        self._trees: dict[bytes, frozenset[bytes]] = {}

    def get(self, oid: bytes, number: int) -> frozenset[bytes]:
        """Return the raw entries of a tree. Raises CorruptObject when it is no tree."""
        entries = self._trees.pop(oid, None)
        if entries is None:
            type_number, data = self._reader.read(number)
            if type_number != TREE:
                name = TYPE_NAMES.get(type_number, b"object").decode("ascii")
                raise WrongType(oid, f"is a {name}, not a tree")
            parsed = split_tree(data, self._oid_size)
            if parsed is None:
                raise CorruptObject(oid, "malformed tree")
            entries = frozenset(parsed)
            self._entries_held += len(entries) + 1
            while self._entries_held > self._entries_max and self._trees:
                oldest = next(iter(self._trees))
                self._entries_held -= len(self._trees.pop(oldest)) + 1
        self._trees[oid] = entries
        return entries

    def get_old(self, oid: bytes) -> frozenset[bytes]:
        """Return the raw entries of a tree of the old side; empty when it can't be had, as git does."""
        entries = self._trees.get(oid)
        if entries is not None:
            return entries
        number = self._reader.find(oid)
        if number < 0:
            return frozenset()
        try:
            return self.get(oid, number)
        except (WrongType, ObjectMissing):
            return frozenset()


class WrongType(CorruptObject):
    """An object that is there but has another type than the link to it says."""


class _Pair(NamedTuple):
    """A tree to look at, and the trees that the parents have at its path."""

    oid: bytes
    number: int
    olds: tuple[bytes, ...]
    depth: int


class Introductions:
    """Collects trees and blobs that commits introduce, each once, in `trees` and `blobs` (object numbers).

    `marks` says of every object met whether it is to be sent or known to be at the other side; `had` lists
    the latter. With `note_old` False (nothing is at the other side) the old side is not looked up.
    """

    def __init__(
        self,
        reader: ObjectReader,
        *,
        with_blobs: bool = True,
        note_old: bool = True,
        may_be_missing: Callable[[bytes], bool] = never,
        tree_depth_max: int = TREE_DEPTH_MAX,
    ) -> None:
        self.reader = reader
        self.marks = NumberMarks()
        # Arrays: a list would cost four times as much for the million numbers of a full clone.
        self.trees = array("Q")
        self.blobs = array("Q")
        self.had = array("Q")
        self.cache = TreeCache(reader)
        self.ticker = Ticker()
        self._may_be_missing = may_be_missing
        self._with_blobs = with_blobs
        self._note_old = note_old
        self._tree_depth_max = tree_depth_max
        self._oid_size = reader.algo.oid_size

    # What connectivity does otherwise

    def on_missing(self, oid: bytes, kind: int, holder: bytes) -> None:
        """Called for an object that the store lacks; `holder` is the oid of what links to it."""
        if not self._may_be_missing(oid):
            raise ObjectMissing(oid, TYPE_NAMES[kind].decode("ascii"))

    def on_wrong_type(self, oid: bytes, kind: int, actual: int, holder: bytes) -> None:
        """Called for an object of which a link says `kind`, and which is, or is also said to be, `actual`."""
        is_a, not_a = TYPE_NAMES[actual].decode("ascii"), TYPE_NAMES[kind].decode("ascii")
        raise WrongType(oid, f"is a {is_a}, not a {not_a}")

    def read_entries(self, oid: bytes, number: int) -> frozenset[bytes]:
        """Return the entries of a tree of the new side. Raises CorruptObject."""
        return self.cache.get(oid, number)

    def check_blob(self, oid: bytes, number: int, holder: bytes) -> bool:
        """Return whether a present object that an entry calls a blob is acceptable."""
        return True

    # The walk

    def add_commit(self, root: bytes, old_roots: Sequence[bytes], holder: bytes) -> Work[None]:
        """Add what the commit `holder` with tree `root` introduces over its parents' trees `old_roots`."""
        if root in old_roots:
            return
        number = self._admit(root, TREE, holder)
        if number < 0:
            return
        if not old_roots:
            yield from self._walk_new([(root, number, 1)])
            return
        yield from self._walk_pairs(_Pair(root, number, tuple(dict.fromkeys(old_roots)), 1))

    def add_tree(self, oid: bytes, number: int) -> Work[None]:
        """Add a whole tree that is wanted by itself."""
        if self.marks.get(number) == ABSENT:
            self.marks.set(number, TREE)
            self.trees.append(number)
            yield from self._walk_new([(oid, number, 1)])

    def add_had_tree(self, oid: bytes) -> Work[None]:
        """Mark a whole tree as known to be at the other side."""
        stack = [oid]
        size = self._oid_size
        while stack:
            oid = stack.pop()
            number = self.reader.find(oid)
            if number < 0 or self.marks.get(number) != ABSENT:
                continue
            self.mark_had(number)
            for entry in self.cache.get_old(oid):
                kind = entry_kind(entry)
                if kind == TREE:
                    stack.append(entry[-size:])
                elif kind == BLOB:
                    self.mark_had(self.reader.find(entry[-size:]))
            if self.ticker.due():
                yield
                self.ticker.restart()

    def mark_had(self, number: int) -> None:
        """Note that an object is at the other side, unless it is to be sent."""
        if number >= 0 and self.marks.get(number) == ABSENT:
            self.marks.set(number, HAD)
            self.had.append(number)

    def _admit(self, oid: bytes, kind: int, holder: bytes) -> int:
        """Mark an object of the new side to be sent. Return its number, or -1 when there is no more to do."""
        number = self.reader.find(oid)
        if number < 0:
            self.on_missing(oid, kind, holder)
            return -1
        mark = self.marks.get(number)
        if mark != ABSENT:
            if mark not in (kind, HAD):
                self.on_wrong_type(oid, kind, mark, holder)
            return -1
        if kind == TREE:
            self.marks.set(number, TREE)
            self.trees.append(number)
        elif self.check_blob(oid, number, holder):
            self.marks.set(number, BLOB)
            self.blobs.append(number)
        return number

    def _walk_pairs(self, first: _Pair) -> Work[None]:
        """Descend where both sides have a tree; what is wholly new waits until the old side is marked."""
        size = self._oid_size
        cache = self.cache
        ticker = self.ticker
        pairs = [first]
        waiting: list[tuple[bytes, bytes, int]] = []  # raw entry, holder, depth
        while pairs:
            oid, number, olds, depth = pairs.pop()
            entries = self.read_entries(oid, number)
            old_sides = [cache.get_old(old) for old in olds]
            fresh = entries.difference(*old_sides)
            old_trees = self._note_old_sides(entries, old_sides, bool(fresh))
            for entry in sorted(fresh):
                if old_trees and entry.startswith(_TREE_PREFIX):
                    counterparts = old_trees.get(entry[:-size])
                    if counterparts:
                        child = self._admit(entry[-size:], TREE, oid)
                        if child >= 0:
                            self._check_depth(depth)
                            pairs.append(_Pair(entry[-size:], child, tuple(counterparts), depth + 1))
                        continue
                waiting.append((entry, oid, depth))
            if ticker.due():
                yield
                ticker.restart()
        stack: list[tuple[bytes, int, int]] = []
        for entry, holder, depth in waiting:
            self._take(entry, holder, depth, stack)
            if ticker.due():
                yield
                ticker.restart()
        yield from self._walk_new(stack)

    def _note_old_sides(
        self, entries: frozenset[bytes], old_sides: list[frozenset[bytes]], need_trees: bool
    ) -> dict[bytes, list[bytes]]:
        """Mark what only the old sides have, and return their trees: `<mode> SP <name> NUL` to oids."""
        size = self._oid_size
        old_trees: dict[bytes, list[bytes]] = {}
        if not (need_trees or self._note_old):
            return old_trees
        for side in old_sides:
            for entry in side - entries:
                is_tree = entry.startswith(_TREE_PREFIX)
                if is_tree:
                    old_trees.setdefault(entry[:-size], []).append(entry[-size:])
                if self._note_old and (is_tree or entry_kind(entry)):
                    self.mark_had(self.reader.find(entry[-size:]))
        return old_trees

    def _walk_new(self, stack: list[tuple[bytes, int, int]]) -> Work[None]:
        """Walk whole trees (oid, number, depth) without an old side, skipping what is marked."""
        ticker = self.ticker
        while stack:
            oid, number, depth = stack.pop()
            for entry in sorted(self.read_entries(oid, number)):
                self._take(entry, oid, depth, stack)
            if ticker.due():
                yield
                ticker.restart()

    def _take(self, entry: bytes, holder: bytes, depth: int, stack: list[tuple[bytes, int, int]]) -> None:
        """Admit one entry of the new side; a tree goes onto the stack."""
        if entry.startswith(_BLOB_PREFIXES):
            kind = BLOB
        elif entry.startswith(_TREE_PREFIX):
            kind = TREE
        else:
            kind = entry_kind(entry)
        if kind == TREE:
            oid = entry[-self._oid_size :]
            number = self._admit(oid, TREE, holder)
            if number >= 0:
                self._check_depth(depth)
                stack.append((oid, number, depth + 1))
        elif kind == BLOB and self._with_blobs:
            self._admit(entry[-self._oid_size :], BLOB, holder)

    def _check_depth(self, depth: int) -> None:
        if depth > self._tree_depth_max:  # the root is at depth 1 here and at 0 in git
            raise LimitExceeded("core.maxTreeDepth", self._tree_depth_max)


def parents_first(history: History, commits: Sequence[int]) -> Work[Sequence[int]]:
    """Return the commits of a range in an order in which parents come before children.

    A line of history stays together, so that a commit's tree is still in the cache when its child comes.
    """
    marks = NumberMarks()  # 1: in the range; 2: put on a stack already
    for number in commits:
        marks.set(number, 1)
    ticker = Ticker()
    order = array("Q")
    for tip in commits:
        stack = [tip]
        while stack:
            number = stack.pop()
            if number < 0:
                order.append(~number)
                continue
            if marks.get(number) != 1:
                continue
            marks.set(number, 2)
            stack.append(~number)
            stack.extend(p for p in reversed(history.known_parents(number)) if marks.get(p) == 1)
            if ticker.due():
                yield
                ticker.restart()
    return order


def old_roots_of(history: History, number: int) -> list[bytes]:
    """Return the root trees of a commit's parents, those of a shallow commit being none.

    A parent that is promised and absent has no tree to compare with.
    """
    return [history.tree_oid(parent) for parent in history.known_parents(number)]


def walk_commits(history: History, order: Iterable[int], introductions: Introductions) -> Work[None]:
    """Feed commits, parents first, to `introductions`."""
    oid_of = history.reader.oid_of
    for number in order:
        old_roots = old_roots_of(history, number)
        yield from introductions.add_commit(history.tree_oid(number), old_roots, oid_of(number))
        if introductions.ticker.due():
            yield
            introductions.ticker.restart()
