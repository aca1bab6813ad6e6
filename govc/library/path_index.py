"""Which commits changed a path, where a server's helper has written it down (`repo.path_files`): no tree is read.

The file knows commits by name. For each of them its number in the graph is found once (some ten milliseconds for
100,000), and of what the graph has besides, the few newest commits mostly, the changed paths are found here, in memory.
A path's history is then a binary search among names, a list of places, and a walk in which every other commit is
followed to its first parent. Commits that change too much to be listed are looked into, path by path.

The file is no authority: where it is absent, damaged, lacks many commits or says nothing of many, and in grafted,
shallow and partial repositories, `order` returns None, and the columns of `paths` answer. They are also what ranges
and questions about several paths take, for which a merge's other parents count that the file doesn't tell of.
"""

import logging
import threading
from array import array
from typing import Any

from govc.errors import Corrupt, LimitExceeded, ObjectMissing
from govc.graph.path_changes import find_changes
from govc.graph.path_file import BadPaths, PathFile
from govc.graph.treelist_py import canonical_mode
from govc.kernels.guard import fault_count
from govc.kernels.history import Graph
from govc.library.objects import Objects
from govc.objects.tree import is_tree
from govc.repo.path_files import FoundPaths
from govc.repo.snapshot import Snapshot

log = logging.getLogger(__name__)

ADDED_MAX = 1000
"""Commits that the file may lack, of a large history a sixteenth: each costs some ten microseconds, once."""

LARGE_MAX = 1000
"""Commits of which nothing is noted: each costs a look into its tree and its first parent's, once for a path."""

PARTS_MAX = 8
VERIFIED_MAX = 1000

_NONE = 0xFFFFFFFF

Changes = tuple[Any, bytes, "array[int]"]
"""As `Graph.order` takes them: places, parents, cid of each place."""


class PathIndex:
    """What is known of one repository's paths; see the story of this module."""

    def __init__(self, objects: Objects, lock: threading.RLock) -> None:
        self._objects = objects
        self._lock = lock
        self._found: FoundPaths | None = None
        self._graph: Graph | None = None
        self._covered = 0
        self._parts: list[tuple[PathFile, array[int]]] = []
        self._large = array("I")
        self._verified: dict[bytes, Changes] = {}
        self._is_good = False

    def order(
        self,
        snapshot: Snapshot,
        graph: Graph,
        tips: "array[int]",
        kind: int,
        first_parent: bool,
        limit: int,
        path: bytes,
    ) -> "array[int] | None":
        """Return the history of a path (no slashes at its ends, b"" for everything), as `Graph.order` does.

        None where somebody else has to answer.
        """
        if snapshot.introductions is None:
            return None
        with self._lock:
            faults = fault_count()
            try:
                if not self._prepare(snapshot, graph):
                    return None
                changes = self._changes(graph, path)
            except (BadPaths, Corrupt, IndexError, LimitExceeded, ObjectMissing) as error:
                log.warning("changed paths are not used: %s", error)
                self._give_up()
                return None
            if fault_count() != faults:  # the file was cut under its map
                self._give_up()
                return None
        try:
            return graph.order(tips, array("I"), kind, first_parent, limit, None, changes)
        except IndexError:
            with self._lock:
                log.warning("changed paths are not used: a place beyond the commits")
                self._give_up()
            return None

    def _changes(self, graph: Graph, path: bytes) -> list[Changes]:
        found: list[Changes] = []
        for file, cid_of in self._parts:
            rank = file.find(path)
            if rank >= 0:
                places, parents = file.changes(rank)
                found.append((memoryview(places.tobytes()).cast("I"), bytes(parents), cid_of))
        if self._large:
            known = self._verified.get(path)
            if known is None:
                if len(self._verified) >= VERIFIED_MAX:
                    self._verified.clear()
                known = self._verified[path] = self._look_up(graph, path)
            found.append(known)
        return found

    # Under the lock

    def _prepare(self, snapshot: Snapshot, graph: Graph) -> bool:
        """Have everything known for all commits of the graph; False when it isn't."""
        if self._found is None:
            self._found = FoundPaths(snapshot.layout.commondir, snapshot.algo)
        is_same = graph is self._graph
        if is_same and self._is_good and self._covered == len(graph):
            return True
        is_other = self._found.refresh()
        if is_same and not is_other and not self._is_good and self._covered == len(graph):
            return False
        if not is_same or is_other:
            self._parts = []
            self._covered = 0
        file = self._found.file
        # Until all commits are known, whatever ends this before, nothing is.
        before, known = self._covered, self._parts
        self._graph, self._covered, self._parts, self._is_good = graph, len(graph), [], False
        if file is None:
            return False
        cid_of, others = graph.find_many(file.commit_oids)
        if len(others) > max(ADDED_MAX, len(cid_of) // 16):
            return False
        parts = [(file, cid_of), *known[1:]]
        if len(parts) > PARTS_MAX or not known:
            parts, before = parts[:1], 0
        added = array("I", [cid for cid in others if cid >= before])
        if added:
            columns = find_changes(self._objects.pack_reader(), self._objects.read, graph, added)
            parts.append((PathFile((b"".join(graph.oids(added)), *columns)), added))
        self._parts = parts
        self._large = array("I", [cid_of[place] for file, cid_of in parts for place in file.large])
        self._large = array("I", [cid for cid in self._large if cid != _NONE])
        self._verified.clear()
        self._is_good = len(self._large) <= LARGE_MAX
        return self._is_good

    def _look_up(self, graph: Graph, path: bytes) -> Changes:
        """Return which of the large commits change a path, from their trees."""
        places, followed = array("I"), bytearray()
        for place, cid in enumerate(self._large):
            now = self._at(graph.tree(cid), path)
            parents = [self._at(graph.tree(parent), path) for parent in graph.parents(cid)[:1]]
            if now == (parents[0] if parents else None):
                continue
            others = (self._at(graph.tree(parent), path) for parent in graph.parents(cid)[1:256])
            places.append(place)
            followed.append(next((number for number, other in enumerate(others, 1) if other == now), 0))
        return places, bytes(followed), self._large

    def _at(self, tree: bytes, path: bytes) -> tuple[int, bytes] | None:
        """Return what lies at a path below a tree: mode, as git compares it, and oid."""
        found: tuple[int, bytes] | None = (0o040000, tree)
        for name in path.split(b"/") if path else ():
            if found is None or not is_tree(found[0]):
                return None
            found = self._objects.find_entry(found[1], name)
        return (canonical_mode(found[0]), found[1]) if found is not None else None

    def _give_up(self) -> None:
        """Use the file no more, until there is another one."""
        if self._found is not None:
            self._found.forget()
        self._parts = []
        self._is_good = False
        self._large = array("I")

    @property
    def byte_count(self) -> int:
        """How much memory it takes; the file is a map."""
        added = sum(file.byte_count for file, _cid_of in self._parts[1:])
        return added + sum(4 * len(cid_of) for _file, cid_of in self._parts)

    def forget(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._found = self._graph = None
            self._give_up()
            self._verified.clear()
