"""All commits that were asked for, as columns, and the questions that history is asked, as passes over them.

A `Graph` numbers commits: a **cid** is a commit's place in the columns, and parents always have smaller cids than their
children. So reachability is one pass over an array of bytes from high to low, and stops as soon as nothing is pending;
there is no heap, no look-up and no date that could be wrong. Per commit

    oid, tree      oid_size bytes each
    time           int64, the committer's, seconds since 1970
    start          uint32: where its parents begin; the next commit's is their end
    parents        uint32 cids

and a slot in a hash of names, about 75 bytes in all. Commits are only ever added (`load`, everything that some tips
reach), in order of their corrected dates, so that neighbours in history are neighbours in memory.

`order` writes git's orders: by date (a commit when a child was written and no newer one waits; of one time, what was
met first), by date with no parent before all of its children, and by topology (one line of history after the other).
With columns of values, one per commit and path, it follows git's default simplification: a merge that has one
parent's value at the paths is followed there only, and what changes nothing is left out. Where somebody knows which
commits change a path (graph.path_index), these stand for the column.

What is excluded is excluded exactly, whatever the clocks said: git's own answer may hold commits that the excluded
side reaches where times are wrong.

`Handle` is what a commit is as long as nobody asks for more: graph, number, source (whoever can read objects). Kinds
of it add what is to be known. Making one costs less than a tenth of a microsecond, so a log of 80,000 commits is made
of them.

Threads: a graph grows (`load`) under its owner's lock only; every other call may run beside it, as what stands below a
count never changes. Sweeps release the GIL.

Source: git-rev-list "Commit Ordering", "History Simplification"; git's revision.c (try_to_simplify_commit,
sort_in_topological_order), commit-reach.c for what a merge base is; gitformat-commit-graph.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from govc.kernels.choice import choose
from govc.kernels.packread import PackReader

__all__ = ["BY_DATE", "BY_DATE_TOPO", "BY_TOPO", "Graph", "GraphLayer", "Handle", "iter_handles", "make_handle"]

BY_DATE: Final = 0
BY_DATE_TOPO: Final = 1
BY_TOPO: Final = 2

GraphLayer = tuple[Any, int, int, int, int, int, int]
"""One commit-graph file, the base of a chain first: buffer, where fan-out, oids, rows and edges begin, where edges end,
how many commits."""

if TYPE_CHECKING:

    class Graph:
        """See the story of this module."""

        count: int
        oid_size: int
        byte_count: int

        def __init__(self, oid_size: int) -> None: ...
        def __len__(self) -> int: ...
        def find(self, oid: bytes) -> int:
            """Return the cid, -1 for a commit that was not loaded."""

        def find_many(self, oids: bytes | memoryview) -> tuple[array[int], array[int]]:
            """Return the cids of many names (one after the other), 2^32-1 for what isn't here; and all other cids."""

        def oid(self, cid: int) -> bytes:
            """Return the name; IndexError."""

        def tree(self, cid: int) -> bytes:
            """Return the root tree."""

        def time(self, cid: int) -> int:
            """Return the committer's time."""

        def parents(self, cid: int) -> tuple[int, ...]:
            """Return the cids of the parents, in order."""

        def oids(self, cids: array[int]) -> list[bytes]:
            """Return the names of many."""

        def load(
            self,
            reader: PackReader | None,
            tips: bytes,
            read: Callable[[bytes], tuple[bytes, tuple[bytes, ...], int]],
            replaced: Mapping[bytes, tuple[bytes, ...]],
            layers: Sequence[GraphLayer],
        ) -> int:
            """Add the commits of these names (one after the other) and all that they reach; return how many were new.

            They are taken from `layers`, else read with `reader`, else with `read`, which returns tree, parents and
            time of a commit or raises. `replaced`: commits whose parents are others than they say. Adds nothing when
            it raises: CorruptObject, Corrupt (a commit-graph file that lies), or what `read` does.
            """

        def order(
            self,
            tips: array[int],
            excluded: array[int],
            kind: int,
            first_parent: bool,
            limit: int,
            columns: Sequence[Any] | None = None,
            changes: Sequence[tuple[Any, Any, Any]] | None = None,
        ) -> array[int]:
            """Return the cids that `tips` reach and `excluded` don't, at most `limit` of them (-1: all).

            `columns`: for each path an array of uint32, its value at each commit, 0 where it is absent. Or `changes`,
            where one path is asked for and nothing is excluded: places (uint32), parents (one byte each), and the cid
            of each place (uint32, 2^32-1 for none). These commits, and no others, differ from their first parent at the
            path, or have it and no parent. The byte is the number of the first parent that has the same, 0 for none.
            """

        def ahead_behind(self, one: int, other: int) -> tuple[int, int]:
            """Return how many commits only `one` reaches, and how many only `other`."""

        def merge_bases(self, one: int, others: array[int]) -> array[int]:
            """Return the best common ancestors of `one` and any of the `others`, highest cid first."""

        def is_ancestor(self, old: int, new: int) -> bool:
            """Tell whether `new` reaches (or is) `old`."""

        def reached_by(self, old: int, tips: array[int]) -> bytes:
            """Return a byte for each tip: 1 where it reaches (or is) `old`."""

    class Handle:
        """A commit of a graph."""

        __slots__ = ()

        @property
        def graph(self) -> Graph:
            """Where it stands."""

        @property
        def source(self) -> Any:
            """Who can read objects."""

        @property
        def cid(self) -> int:
            """Its number there."""

        @property
        def oid(self) -> bytes:
            """The name, raw."""

        @property
        def tree_oid(self) -> bytes:
            """The root tree's name, raw."""

        @property
        def time(self) -> int:
            """The committer's time, in seconds since 1970, 0 when unreadable."""

        @property
        def message(self) -> bytes:
            """What follows the headers in `source[oid].data`."""

        def odd_message(self) -> bytes:
            """Return the message of a commit that doesn't begin with its tree."""

    _H = TypeVar("_H", bound=Handle)

    def iter_handles(kind: type[_H], graph: Graph, source: object, cids: array[int]) -> Iterator[_H]:
        """Make the handles of many commits as they are asked for. `kind` has no constructor of its own."""

    def make_handle(kind: type[_H], graph: Graph, source: object, cid: int) -> _H:
        """Make one."""

else:
    _module = choose("history")
    Graph = _module.Graph
    Handle = _module.Handle
    iter_handles = _module.iter_handles
    make_handle = _module.make_handle
