"""What trees hold, and how a folder's entries changed through history, in pure Python;

the story is in `kernels.treelist`.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable
from typing import TypeVar

from govc.errors import CorruptObject, LimitExceeded, ObjectMissing
from govc.kernels.history import Graph
from govc.objects.errors import MalformedObject
from govc.objects.tree import TreeEntry, is_tree, parse_tree
from govc.objects.types import TREE
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm

_Read = Callable[[bytes], tuple[int, bytes]]
_T = TypeVar("_T", bound=tuple[int, bytes, bytes])
_DIRECTORY = 0o040000


def _algo_of(oid_size: int) -> HashAlgorithm:
    return SHA1 if oid_size == SHA1.oid_size else SHA256


def parse_entries(data: bytes, oid_size: int, kind: type[_T]) -> list[_T]:
    """See kernels.treelist.parse_entries."""
    entries = parse_tree(bytes(data), _algo_of(oid_size))
    return [tuple.__new__(kind, entry) for entry in entries]


def find_entry(data: bytes, oid_size: int, name: bytes) -> tuple[int, bytes] | None:
    """See kernels.treelist.find_entry."""
    entries = parse_tree(bytes(data), _algo_of(oid_size))
    return next(((entry.mode, entry.oid) for entry in entries if entry.name == name), None)


def _read_tree(oid: bytes, read: _Read, algo: HashAlgorithm) -> list[TreeEntry]:
    type_number, data = read(oid)
    if type_number != TREE:
        raise CorruptObject(oid, "is not a tree, as what names it says")
    try:
        return parse_tree(data, algo)
    except MalformedObject as error:
        raise CorruptObject(oid, str(error)) from error


def list_files(
    _reader: object, fallback: _Read, root: bytes, kind: type[_T], depth_max: int, entries_max: int
) -> tuple[_T, ...]:
    """See kernels.treelist.list_files."""
    found: list[_T] = []
    if len(root) not in (SHA1.oid_size, SHA256.oid_size):
        raise ObjectMissing(root, "tree")
    algo = _algo_of(len(root))

    def walk(oid: bytes, prefix: bytes, depth: int) -> None:
        if depth > depth_max:
            raise LimitExceeded("core.maxTreeDepth", depth_max)
        for mode, name, child in _read_tree(oid, fallback, algo):
            if is_tree(mode):
                walk(child, prefix + name + b"/", depth + 1)
            elif len(found) >= entries_max:
                raise LimitExceeded("files_max", entries_max)
            else:
                found.append(tuple.__new__(kind, (mode, prefix + name, child)))

    walk(root, b"", 0)
    return tuple(found)


def canonical_mode(mode: int) -> int:
    """Return what git compares: of a file's permissions only whether its owner may run it."""
    kind = mode & 0o170000
    if kind == 0o100000:
        return 0o100755 if mode & 0o100 else 0o100644
    return kind if kind in (0o120000, _DIRECTORY) else 0o160000


class Values:
    """See kernels.treelist.Values."""

    def __init__(self, oid_size: int) -> None:
        self.oid_size = oid_size
        self._entries: list[tuple[int, bytes] | None] = [None]
        self._numbers: dict[tuple[int, bytes], int] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._entries)

    @property
    def byte_count(self) -> int:
        """About how much memory that takes."""
        return 300 * len(self._entries)

    def add(self, mode: int, oid: bytes) -> int:
        """Return the number of a mode and an oid."""
        number = self._numbers.setdefault((mode, oid), len(self._entries))
        if number == len(self._entries):
            self._entries.append((mode, oid))
        return number

    def entry(self, value: int) -> tuple[int, bytes] | None:
        """See kernels.treelist.Values."""
        return self._entries[value]

    def tree_of(self, value: int) -> bytes | None:
        """Return the oid of a value that is a tree."""
        entry = self._entries[value]
        return entry[1] if entry is not None and entry[0] == _DIRECTORY else None


def root_column(graph: Graph, values: Values, column: "array[int]") -> None:
    """See kernels.treelist.root_column."""
    column.extend(values.add(_DIRECTORY, graph.tree(cid)) for cid in range(len(column), len(graph)))


class Folder:
    """See kernels.treelist.Folder."""

    def __init__(self, graph: Graph, values: Values) -> None:
        self._graph = graph
        self._values = values
        self._algo = _algo_of(graph.oid_size)
        self._changed: dict[bytes, dict[int, int]] = {}
        self._count = 0
        self.covered = 0

    @property
    def byte_count(self) -> int:
        """About how much memory that takes."""
        return 200 * self._count + 400 * len(self._changed)

    def cover(self, _reader: object, fallback: _Read, column: "array[int] | None", until: int) -> bool:
        """See kernels.treelist.Folder."""
        goal = len(self._graph) if column is None else min(len(self._graph), len(column))
        end = goal if until < 0 else min(goal, self.covered + until)
        for cid in range(self.covered, end):
            parents = self._graph.parents(cid)
            old, new = (self._tree_at(parents[0], column) if parents else None), self._tree_at(cid, column)
            if old != new:
                self._compare(cid, self._entries(new, fallback), self._entries(old, fallback))
            self.covered = cid + 1
        return self.covered >= goal

    def _tree_at(self, cid: int, column: "array[int] | None") -> bytes | None:
        return self._graph.tree(cid) if column is None else self._values.tree_of(column[cid])

    def _entries(self, oid: bytes | None, read: _Read) -> dict[bytes, tuple[int, bytes]]:
        if oid is None:
            return {}
        return {entry.name: (canonical_mode(entry.mode), entry.oid) for entry in _read_tree(oid, read, self._algo)}

    def _compare(self, cid: int, new: dict[bytes, tuple[int, bytes]], old: dict[bytes, tuple[int, bytes]]) -> None:
        for name in new.keys() | old.keys():
            entry = new.get(name)
            if entry != old.get(name):
                self._changed.setdefault(name, {})[cid] = self._values.add(*entry) if entry is not None else 0
                self._count += 1

    def extend(self, name: bytes, column: "array[int]") -> None:
        """See kernels.treelist.Folder."""
        changed = self._changed.get(name, {})
        cids = sorted(changed)
        at = bisect_left(cids, len(column))
        for cid in range(len(column), self.covered):
            if at < len(cids) and cids[at] == cid:
                column.append(changed[cid])
                at += 1
            else:
                parents = self._graph.parents(cid)
                column.append(column[parents[0]] if parents else 0)
