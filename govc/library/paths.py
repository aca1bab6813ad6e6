"""Which commits changed a path: columns of what lies there, commit by commit.

The column of a path (one number per commit of the graph) says when it changed, with any number of parents, by
comparing numbers; `kernels.history` does git's simplification over it. Columns come from `graph.treelist.Folder`s,
one per folder on the way: the root's reads every root tree of the history once, those below only the trees that
differ. So the first question about a repository costs what reading its root trees costs (git/git: about a second),
one about another path in the same folder a pass over the array, and the same path again little more than the walk.

Folders and columns have a share of the cache's budget and go when it is used up, the least recently used first; what a
question needs is there while it is answered. New commits are added to what is there.

Where a server has written down which commits change which paths, most questions are answered from that (`index`).
"""

import threading
from array import array
from collections import OrderedDict

from govc.graph.treelist import Folder, Values, root_column
from govc.kernels.history import Graph
from govc.library.objects import Objects
from govc.library.path_index import PathIndex

PIECE_COMMITS = 500
"""So many commits are compared before other threads may read."""


class PathHistories:
    """The columns of one repository; see the story of this module."""

    def __init__(self, objects: Objects, lock: threading.RLock, budget_bytes: int) -> None:
        self._objects = objects
        self._lock = lock
        self._budget_bytes = budget_bytes
        self._graph: Graph | None = None
        self._values: Values | None = None
        self._folders: OrderedDict[bytes, Folder] = OrderedDict()
        self._columns: OrderedDict[bytes, array[int]] = OrderedDict()
        self.index = PathIndex(objects, lock)

    def columns(self, graph: Graph, paths: list[bytes]) -> "list[array[int]]":
        """Return the column of each path (no slashes at its ends, b"" for everything), for all commits of the graph."""
        with self._lock:
            if self._graph is not graph or self._values is None:
                self.forget()
                self._graph = graph
                self._values = Values(graph.oid_size)
            values = self._values
        found = [self._column(graph, values, path) for path in paths]
        with self._lock:
            if self._values is values:
                self._make_room()
                self._objects.make_way(self.byte_count)
        return found

    def _column(self, graph: Graph, values: Values, path: bytes) -> "array[int]":
        """Return a column that holds for all commits that the graph has now."""
        with self._lock:
            # A longer copy: whoever walks over the old one may go on.
            column = self._columns.get(path, array("I"))
            if len(column) >= len(graph):
                self._columns.move_to_end(path)
                return column
            column = column[:]
            if not path:
                root_column(graph, values, column)
                self._columns[path] = column
                return column
        parent, _, name = path.rpartition(b"/")
        above = self._column(graph, values, parent) if parent else None
        while True:
            with self._lock:
                folder = self._folders.get(parent)
                if folder is None:
                    folder = Folder(graph, values)
                    if self._graph is graph and self._values is values:
                        self._folders[parent] = folder
                else:
                    self._folders.move_to_end(parent)
                reader = self._objects.pack_reader()
                if folder.cover(reader, self._objects.read, above, PIECE_COMMITS):
                    folder.extend(name, column)
                    if self._graph is graph and self._values is values:
                        self._columns[path] = column
                        self._columns.move_to_end(path)
                    return column

    def _make_room(self) -> None:
        """Keep to the budget: columns go first, then folders, and with the last folder the values that they share."""
        while self._read_bytes > self._budget_bytes:
            if self._columns:
                self._columns.popitem(last=False)
            elif len(self._folders) > 1:
                # The root's is what all others stand on.
                first = next(iter(self._folders))
                if first == b"":
                    self._folders.move_to_end(b"")
                    continue
                del self._folders[first]
            else:
                self.forget()
                return

    @property
    def byte_count(self) -> int:
        """How much memory all of it takes."""
        return self._read_bytes + self.index.byte_count

    @property
    def _read_bytes(self) -> int:
        values = self._values.byte_count if self._values is not None else 0
        columns = sum(4 * len(column) + 200 for column in self._columns.values())
        return values + columns + sum(folder.byte_count for folder in self._folders.values())

    def forget(self) -> None:
        """Let go of everything that was read from trees."""
        self._graph = self._values = None
        self._folders.clear()
        self._columns.clear()
        self._objects.make_way(0)
