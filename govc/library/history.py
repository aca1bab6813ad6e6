"""The commit graph of a repository in memory, and what `log` returns.

A `HistoryKeeper` holds one `kernels.history.Graph`: the commits that were asked for and all their ancestors. It grows
when a question names a commit that it doesn't have, from git's commit-graph files where there are any (a hundredth of
a second for 100,000 commits), else from the packs (a second). About 75 bytes a commit; it isn't part of the cache's
budget, for without it nothing is answered.

What commits say of their parents never changes, so the graph serves every snapshot. Only another shallow file or
other grafts make a new one. Replace refs are not followed (as upload-pack doesn't, and libgit2).
"""

import logging
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from govc.errors import Corrupt, CorruptObject
from govc.kernels.history import BY_DATE, BY_DATE_TOPO, BY_TOPO, Graph, iter_handles, make_handle
from govc.library.objects import Objects
from govc.library.values import Commit
from govc.repo.snapshot import Snapshot

log = logging.getLogger(__name__)

ORDERS = {"default": BY_DATE, "date": BY_DATE_TOPO, "topo": BY_TOPO}
"""git's names: no option, --date-order, --topo-order."""


class Log(Sequence[Commit]):
    """Commits in the order that was asked for. They are made when they are looked at; `oids` are their names.

    A slice is a Log, too. Holds four bytes a commit, and the graph.
    """

    __slots__ = ("_cids", "_graph", "_source")

    def __init__(self, graph: Graph, source: Objects, cids: "array[int]") -> None:
        self._graph = graph
        self._source = source
        self._cids = cids

    def __len__(self) -> int:
        return len(self._cids)

    def __iter__(self) -> Iterator[Commit]:
        return iter_handles(Commit, self._graph, self._source, self._cids)

    @overload
    def __getitem__(self, index: int) -> Commit: ...
    @overload
    def __getitem__(self, index: slice) -> "Log": ...
    def __getitem__(self, index: int | slice) -> "Commit | Log":
        if isinstance(index, slice):
            return Log(self._graph, self._source, self._cids[index])
        return make_handle(Commit, self._graph, self._source, self._cids[index])

    @property
    def oids(self) -> list[bytes]:
        """The names, in order."""
        return self._graph.oids(self._cids)

    def __repr__(self) -> str:
        return f"<Log of {len(self)} commits>"


class HistoryKeeper:
    """The graph of one repository; see the story of this module."""

    def __init__(self, objects: Objects, lock: threading.RLock) -> None:
        self._objects = objects
        self._lock = lock
        self._graph: Graph | None = None
        self._cut: tuple[object, object] = (None, None)

    def graph_of(self, snapshot: Snapshot) -> Graph:
        """Return the graph that holds for a snapshot."""
        cut = (snapshot.shallow, snapshot.grafts)
        graph = self._graph
        if graph is None or self._cut != cut:
            with self._lock:
                graph = self._graph = Graph(snapshot.algo.oid_size)
                self._cut = cut
        return graph

    def find(self, snapshot: Snapshot, graph: Graph, oids: Iterable[bytes]) -> "array[int]":
        """Return the cids of commits, loading what is new. Raises ObjectMissing, Corrupt."""
        names = list(oids)
        cids = [graph.find(oid) for oid in names]
        missing = [oid for oid, cid in zip(names, cids, strict=True) if cid < 0]
        if missing:
            self._load(snapshot, graph, missing)
            cids = [graph.find(oid) for oid in names]
        return array("I", cids)

    def _load(self, snapshot: Snapshot, graph: Graph, oids: list[bytes]) -> None:
        replaced = {**snapshot.grafts, **dict.fromkeys(snapshot.shallow, ())}
        files = max(snapshot.commits.graphs, key=len, default=None)
        layers = files.kernel_layers() if files is not None and not replaced else []
        with self._lock:
            reader = self._objects.pack_reader()
            try:
                graph.load(reader, b"".join(oids), self._objects.read_links, replaced, layers)
            except CorruptObject:
                raise
            except Corrupt as error:
                if not layers:
                    raise
                log.warning("commit-graph is not used: %s", error)
                graph.load(reader, b"".join(oids), self._objects.read_links, replaced, ())

    @property
    def byte_count(self) -> int:
        """How much memory the graph takes."""
        return self._graph.byte_count if self._graph is not None else 0

    @property
    def commit_count(self) -> int:
        """How many commits were loaded."""
        return len(self._graph) if self._graph is not None else 0

    def forget(self) -> None:
        """Let go of the graph."""
        self._graph = None
