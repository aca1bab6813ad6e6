"""The file of changed paths in an introductions folder (`graph.path_file`): made in the background, for the library.

It is made of the commits that the segments hold when it lacks more than a sixteenth of them (or `LAG_MIN`), by the
helper that fills the index: a push never waits for it, and who reads compares the few commits that it lacks himself. A
newer file takes over what the older one says, so each commit is compared once.

A history that changes too much to be listed, or whose trees are damaged, gets a file in which every commit is large, so
that it isn't tried again before it has grown; the library takes its other way then.
"""

import logging
import os
from array import array
from contextlib import suppress

from govc.errors import GovcError, ObjectMissing
from govc.graph.path_changes import find_changes
from govc.graph.path_file import BadPaths, PathColumns, PathFile, iter_encoded, parse_paths
from govc.kernels import pathchanges
from govc.kernels.history import Graph
from govc.kernels.packread import PackReader
from govc.odb.store import ObjectStore
from govc.protocol.oid import HashAlgorithm
from govc.repo.introductions import FOLDER, PATHS, Introductions, map_index

log = logging.getLogger(__name__)

LAG_MIN = 500
"""So many commits may be lacking before a file is made anew; in a large history a sixteenth."""

COMMITS_MIN = 500
"""A shorter history is compared in less time than a file takes to be looked for."""


def is_paths_due(index: Introductions) -> bool:
    """Tell whether a file of changed paths is to be made."""
    if not pathchanges.AVAILABLE or index.commit_count < COMMITS_MIN:
        return False
    return index.commit_count - index.path_commits > max(LAG_MIN, index.path_commits // 16)


def add_paths(index: Introductions, store: ObjectStore, packs: PackReader | None) -> int:
    """Make the file where that is due; return how many commits were compared. OSError, Corrupt (of the segments)."""
    if not is_paths_due(index):
        return 0
    view = index.view

    def read_links(oid: bytes) -> tuple[bytes, tuple[bytes, ...], int]:
        found = view.commit(oid)
        if found is None:
            raise ObjectMissing(oid, "commit")
        return found[1], found[2], found[0]

    def read(oid: bytes) -> tuple[int, bytes]:
        number = store.find(oid)
        if number < 0:
            raise ObjectMissing(oid)
        return store.read(number)

    size = index.algo.oid_size
    old = _old_file(index)
    graph = Graph(size)
    graph.load(None, b"".join([bytes(segment.commit_oids) for segment in view.segments]), read_links, {}, ())
    _, cids = graph.find_many(old.commit_oids)
    if not cids:  # segments that overlap count some twice
        return 0
    oids = b"".join([bytes(old.commit_oids), *graph.oids(cids)])
    try:
        large, *columns = find_changes(packs, read, graph, cids, len(old.commit_oids) // size, old.iter_known())
        made = PathColumns(oids, bytes(old.large) + large, *columns)
    except GovcError as error:
        # What is damaged or missing is told by whoever is asked for it.
        log.warning("%s: changed paths are not listed: %s", index.folder, error)
        made = empty_columns(oids, len(oids) // size)
    before = [name for name in os.listdir(index.folder) if name.endswith(PATHS)]
    index.write_paths(list(iter_encoded(made, index.algo)))
    for name in before:
        with suppress(FileNotFoundError):
            os.unlink(f"{index.folder}/{name}")
    index.refresh()
    return len(cids)


def empty_columns(oids: bytes, count: int) -> PathColumns:
    """Return columns of so many commits that say nothing of any of them."""
    none = array("I", [0]).tobytes()
    return PathColumns(oids, array("I", range(count)).tobytes(), none, b"", none, b"", b"")


def _old_file(index: Introductions) -> PathFile:
    if index.path_name:
        try:
            found = parse_paths(map_index(f"{index.folder}/{index.path_name}"), index.algo, name=index.path_name)
            if found.path_count:
                return found
        except (BadPaths, OSError) as error:
            log.warning("%s: %s", index.folder, error)
    return PathFile(empty_columns(b"", 0))


class FoundPaths:
    """The newest good file of a repository, for who only reads: found again when the folder has changed."""

    def __init__(self, commondir: str, algo: HashAlgorithm) -> None:
        self._folder = f"{commondir}/{FOLDER}"
        self._algo = algo
        self._stamp: tuple[int, int] | None = None
        self._name = ""
        self.file: PathFile | None = None

    def refresh(self) -> bool:
        """Look at the folder; True when there is another file than before, or none any more. One stat at least."""
        try:
            status = os.stat(self._folder)
            stamp = (status.st_ino, status.st_mtime_ns)
        except OSError:
            stamp = (0, 0)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            names = sorted((name for name in os.listdir(self._folder) if name.endswith(PATHS)), reverse=True)
        except OSError:
            names = []
        for name in names:
            if name == self._name:
                return False
            try:
                self.file = parse_paths(map_index(f"{self._folder}/{name}"), self._algo, name=name)
            except (BadPaths, OSError) as error:
                log.warning("%s: %s", self._folder, error)
                continue
            self._name = name
            return True
        is_other = self.file is not None
        self.file, self._name = None, ""
        return is_other

    def forget(self) -> None:
        """Let go of the file: it isn't what it was. It is looked at again when the folder changes."""
        self.file, self._name = None, ""
