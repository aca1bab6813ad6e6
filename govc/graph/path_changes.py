"""Which commits change which paths: made once for a whole history, so that the log of a path need not read trees.

A commit *changes* a path when what lies there (mode and oid, as git compares them; nothing, too) differs from what its
first parent has; one without parents changes every path that it has. Folders are paths as well, and b"" is the root
tree. For a merge the number of the first parent that has the same is noted, 0 where none has: that is all that git's
default simplification asks of it. So a path's history is a short list of places, and every other commit is followed to
its first parent.

The cost is that of the difference to the first parent at each commit. A commit that changes more than
`ChangeLimits.changes_each` paths (a first import, a merge of a branch that was long away), or paths that are too long,
is called *large*, and nothing is noted of it: whoever asks looks into its trees.

`find_changes` is the door: the kernel does it over the packs, the twin here over anything that reads objects.

Source: git-rev-list "History Simplification"; git's tree-diff.c, tree-walk.c.
"""

from array import array
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from govc.errors import CorruptObject, LimitExceeded
from govc.graph.treelist_py import canonical_mode
from govc.kernels import pathchanges as kernel
from govc.kernels.history import Graph
from govc.kernels.packread import PackReader
from govc.objects.errors import MalformedObject
from govc.objects.tree import parse_tree
from govc.objects.types import TREE
from govc.protocol.oid import SHA1, SHA256

Found = tuple[int, bytes] | None
"""Mode and oid of what lies somewhere."""


class ChangeLimits(NamedTuple):
    """Beyond the first four a commit is large; beyond the others LimitExceeded is raised."""

    changes_each: int = 20_000
    path_bytes: int = 4096
    depth: int = 2048
    scanned_bytes: int = 64 << 20
    """What may be searched for names that a merge doesn't have."""
    changes: int = 8_000_000
    name_bytes: int = 64 << 20


LIMITS = ChangeLimits()


def find_changes(
    packs: PackReader | None,
    read: Callable[[bytes], tuple[int, bytes]],
    graph: Graph,
    cids: "array[int]",
    first_place: int = 0,
    known: Iterable[tuple[bytes, Any, Any]] = (),
    limits: ChangeLimits = LIMITS,
) -> kernel.Columns:
    """Return what the commits `cids` of a graph change: columns of `graph.path_file`.

    Their places are counted from `first_place` on. `known`: the paths of those before them, with places and parents.
    `packs` reads packs without Python, where that was compiled, `read` all else. Raises ObjectMissing, Corrupt,
    LimitExceeded.
    """
    if packs is not None and kernel.AVAILABLE:
        return kernel.find_changes(packs, read, graph, cids, first_place, known, limits)
    return _Builder(read, graph, limits).build(cids, first_place, known)


class _TooMuch(Exception):
    """One commit changes more than is noted."""


class _Builder:
    def __init__(self, read: Callable[[bytes], tuple[int, bytes]], graph: Graph, limits: ChangeLimits) -> None:
        self._read = read
        self._graph = graph
        self._algo = SHA1 if graph.oid_size == SHA1.oid_size else SHA256
        self._limits = limits

    def build(self, cids: "array[int]", first_place: int, known: Iterable[tuple[bytes, Any, Any]]) -> kernel.Columns:
        """See find_changes."""
        found: dict[bytes, list[tuple[int, int]]] = {
            name: list(zip(places, parents, strict=True)) for name, places, parents in known
        }
        large = array("I")
        total = sum(map(len, found.values()))
        for place, cid in enumerate(cids, first_place):
            try:
                changed = self._changed_in(cid)
            except _TooMuch:
                large.append(place)
                continue
            total += len(changed)
            if total > self._limits.changes:
                raise LimitExceeded("changes of paths", self._limits.changes)
            for path, parent in changed.items():
                found.setdefault(path, []).append((place, parent))
        if (size := sum(map(len, found))) > self._limits.name_bytes:
            raise LimitExceeded("names of paths", self._limits.name_bytes, size)
        return large.tobytes(), *self._columns(found)

    def _columns(self, found: dict[bytes, list[tuple[int, int]]]) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        names = sorted(found)
        name_starts, change_starts = array("I", [0]), array("I", [0])
        places, parents = array("I"), bytearray()
        for name in names:
            name_starts.append(name_starts[-1] + len(name))
            places.extend(place for place, _parent in found[name])
            parents.extend(parent for _place, parent in found[name])
            change_starts.append(len(places))
        return name_starts.tobytes(), b"".join(names), change_starts.tobytes(), places.tobytes(), bytes(parents)

    def _changed_in(self, cid: int) -> dict[bytes, int]:
        """Return the paths that a commit changes, with the parent that has the same."""
        olds = [self._graph.tree(parent) for parent in self._graph.parents(cid)]
        first, others = (olds[0] if olds else None), olds[1:]
        root = self._graph.tree(cid)
        if root == first:
            return {}
        if len(others) > 254:
            raise _TooMuch
        changed: dict[bytes, Found] = {b"": (0o040000, root)}
        self._compare(root, first, b"", changed, 0)
        return {
            path: next((number for number, other in enumerate(others, 1) if self._find(other, path) == value), 0)
            for path, value in changed.items()
        }

    def _compare(
        self, new: bytes | None, old: bytes | None, prefix: bytes, changed: dict[bytes, Found], depth: int
    ) -> None:
        if depth > self._limits.depth:
            raise _TooMuch
        there, before = self._entries(new), self._entries(old)
        for name in there.keys() | before.keys():
            now, then = there.get(name), before.get(name)
            if now == then:
                continue
            if len(prefix + name) > self._limits.path_bytes or len(changed) >= self._limits.changes_each:
                raise _TooMuch
            changed[prefix + name] = now
            trees = [found[1] if found is not None and found[0] == 0o040000 else None for found in (now, then)]
            if trees != [None, None]:
                self._compare(trees[0], trees[1], prefix + name + b"/", changed, depth + 1)

    def _find(self, root: bytes, path: bytes) -> Found:
        found: Found = (0o040000, root)
        for name in path.split(b"/") if path else ():
            found = self._entries(found[1]).get(name) if found is not None and found[0] == 0o040000 else None
        return found

    def _entries(self, oid: bytes | None) -> dict[bytes, tuple[int, bytes]]:
        if oid is None:
            return {}
        type_number, data = self._read(oid)
        if type_number != TREE:
            raise CorruptObject(oid, "is not a tree, as what names it says")
        try:
            return {entry.name: (canonical_mode(entry.mode), entry.oid) for entry in parse_tree(data, self._algo)}
        except MalformedObject as error:
            raise CorruptObject(oid, str(error)) from error
