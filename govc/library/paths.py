"""Which commits changed a path: columns of what lies there, commit by commit.

The column of a path (one number per commit of the graph) says when it changed, with any number of parents, by
comparing numbers; `kernels.history` does git's simplification over it. Columns come from `graph.treelist.Folder`s,
one per folder on the way: the root's reads every root tree of the history once, those below only the trees that
differ. So the first question about a repository costs what reading its root trees costs (git/git: about a second),
one about another path in the same folder a pass over the array, and the same path again little more than the walk.

Folders and columns have a share of the cache's budget and go when it is used up, the least recently used first; what a
question needs is there while it is answered. New commits are added to what is there.

Where a server has written down which commits change which paths, most questions are answered from that (`index`).

What was answered is kept, too, four bytes a commit: from the same commits the same ways lead back for ever. All of it
goes when it takes more than ANSWERS_SHARE of the budget.
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

ANSWERS_SHARE = 1 / 16
"""Of what histories of paths may take."""

_ANSWER_OVERHEAD = 400
"""An answer, its question and their places, beyond their content."""

Question = tuple[bytes, int, int, bool, int, tuple[bytes, ...]]
"""Cids of tips and of what is excluded, how many are tips, order, first_parent, limit, paths."""


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
        self._answers: tuple[Graph | None, dict[Question, array[int]]] = (None, {})
        self._answers_bytes = 0

    def answer(self, graph: Graph, question: Question) -> "array[int] | None":
        """Return what a question was answered with before, None when it wasn't asked."""
        known, answers = self._answers
        return answers.get(question) if known is graph else None

    def remember(self, graph: Graph, question: Question, answer: "array[int]") -> None:
        """Keep an answer."""
        size = 4 * len(answer) + len(question[0]) + sum(map(len, question[5])) + _ANSWER_OVERHEAD
        most = int(self._budget_bytes * ANSWERS_SHARE)
        with self._lock:
            if self._answers[0] is not graph or self._answers_bytes + size > most:
                self._answers, self._answers_bytes = (graph, {}), 0
            answers = self._answers[1]
            if size <= most and question not in answers:
                answers[question] = answer
                self._answers_bytes += size
            self._objects.make_way(self.byte_count)

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
        while self._read_bytes + self._answers_bytes > self._budget_bytes:
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
        return self._read_bytes + self.index.byte_count + self._answers_bytes

    @property
    def _read_bytes(self) -> int:
        values = self._values.byte_count if self._values is not None else 0
        columns = sum(4 * len(column) + 200 for column in self._columns.values())
        return values + columns + sum(folder.byte_count for folder in self._folders.values())

    def forget(self) -> None:
        """Let go of everything that was read from trees, and of what was answered."""
        self._graph = self._values = None
        self._folders.clear()
        self._columns.clear()
        self._answers, self._answers_bytes = (None, {}), 0
        self._objects.make_way(0)
