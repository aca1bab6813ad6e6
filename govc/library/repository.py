"""A repository in a Python program: `from govc import Repository`.

    with Repository("/srv/git/project.git") as repository:
        for commit in repository.log("main", limit=10):
            print(commit.hex, commit.message)

Every question (`reading`) first makes sure that what is in memory is what lies on disk, as a request to the server
does: some fifteen `stat` calls, about ten microseconds, and the rest of the way only where one differs; after some
questions the kernel's silence takes the place of most of them (`standing`). `snapshot()` returns a picture to ask many
questions of without that. Contents of objects are never validated, for what an oid names never changes; nor is a single
ref by more than the two files that could say otherwise.

Nothing is written: no folder `govc/`, no index, no lock. A push of a govc server that was cut off by a crash and
waits for recovery is seen as plain git sees it.

Threads: one Repository may be used from any number of them, and Pictures, Logs and Commits may be handed about. What
is in memory is read without waiting; what reads the disk takes turns. After `fork` each process opens its own.
"""

import os
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from govc.errors import LimitExceeded
from govc.kernels.guard import fault_count
from govc.kernels.stamps import Stamps
from govc.library.errors import RepositoryClosed
from govc.library.history import HistoryKeeper
from govc.library.objects import PATHS_SHARE, Objects, ObjectStatistics
from govc.library.paths import PathHistories
from govc.library.reading import Picture, Reading, Revision
from govc.library.refs import KNOWN_MAX, PackedList, Ref, Refs
from govc.library.standing import Patience, Standing, stand
from govc.odb.cache import BaseCache
from govc.odb.store import ObjectStore
from govc.refs.database import FilesState
from govc.repo.discover import check_ownership, enter_repository
from govc.repo.repository import Repository as Inner
from govc.repo.repository import Surroundings
from govc.watch import WatchedFile

CACHE_BYTES = 64 << 20
"""What a program that didn't think about it can spare, and most of what most repositories are asked for again."""

CACHE_BYTES_MIN = 1 << 20
OBJECT_BYTES_MAX = 2 << 30
_BASE_CACHE_BYTES = 1 << 20


class Statistics(NamedTuple):
    """What a repository holds in memory, in bytes: within the budget `objects` and `path_bytes`, beside it the rest."""

    objects: ObjectStatistics
    path_bytes: int
    graph_bytes: int
    graph_commits: int
    listed_refs: int


class _Stood(NamedTuple):
    """A picture that stands. `faults`: as many had happened when it was proved."""

    is_quiet: Callable[[], bool]
    refs: Refs
    standing: Standing
    picture: Picture
    faults: int


class Repository(Reading):
    """One repository on disk; see the story of this module."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        cache_bytes: int = CACHE_BYTES,
        object_bytes_max: int = OBJECT_BYTES_MAX,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Open a repository: a git folder, or a folder of files that has one, or `path` with .git added.

        `cache_bytes`: the budget (objects, bases of deltas, listings of trees, histories of paths). `object_bytes_max`:
        larger objects raise LimitExceeded when they are read whole. `environ`: where git's configuration is looked
        for; the process's own when None. Raises RepositoryNotFound, RepositoryRefused (another owner, unknown
        format), BadConfig, OSError.
        """
        if cache_bytes < CACHE_BYTES_MIN:
            raise LimitExceeded("cache_bytes (at least 1 MiB)", CACHE_BYTES_MIN, cache_bytes)
        environ = os.environ if environ is None else environ
        found = enter_repository(os.path.abspath(os.fspath(path)))
        check_ownership(found, None, environ=environ, euid=os.geteuid())
        self.path = found.gitdir
        self._lock = threading.RLock()
        self._inner: Inner | None = Inner(
            found.gitdir,
            Surroundings(environ=environ, base_cache=BaseCache(_BASE_CACHE_BYTES), object_bytes_max=object_bytes_max),
        )
        self._packed_list = PackedList()
        self._objects = Objects(cache_bytes, self._lock, self._current_store, self._renew)
        self.known_entries = self._objects.known_entries
        self._history = HistoryKeeper(self._objects, self._lock)
        self._paths = PathHistories(self._objects, self._lock, int(cache_bytes * PATHS_SHARE))
        self._current: tuple[Stamps | None, Picture, int] | None = None
        self._proved_refs: dict[bytes, tuple[Stamps, Ref]] = {}
        self._stood: _Stood | None = None
        self._patience = Patience()
        self.snapshot()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, cache_bytes: int = CACHE_BYTES) -> Self:
        """Open a repository, by name."""
        return cls(path, cache_bytes=cache_bytes)

    def close(self) -> None:
        """Let go of files and memory. Pictures and objects that the caller still holds go on being what they are."""
        with self._lock:
            self._inner = None
            self._current = None
            self._fall()
            self._proved_refs.clear()
            self._objects.forget()
            self._history.forget()
            self._paths.forget()
            self._paths.index.forget()
            self._packed_list.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Repository {self.path}>"

    # The present

    def snapshot(self) -> Picture:
        """Return a picture that is true now. Raises RepositoryClosed, or what reading its files raises."""
        stood = self._stood
        # A fault is a mapped file that could not be read: perhaps one of ours.
        if stood is not None and stood.faults == fault_count() and stood.standing.holds():
            return stood.picture
        current = self._current
        if current is not None and current[0] is not None and current[2] == fault_count() and current[0].are_current():
            if stood is not None or self._patience.is_over():
                self._make_it_stand()
            return current[1]
        with self._lock:
            return self._look()

    def _picture_for(self, revision: Revision) -> Picture:
        """Return the last picture where an oid is asked about, a true one otherwise."""
        current = self._current
        return self.snapshot() if isinstance(revision, str) or current is None else current[1]

    @property
    def objects(self) -> Objects:
        """The objects. No stat: what an oid names never changes."""
        if self._inner is None:
            raise RepositoryClosed(f"{self.path} was closed")
        return self._objects

    def ref(self, name: bytes) -> Ref:
        """Return one ref, validated by the files that could hold it: its own and packed-refs. Raises RefNotFound.

        Two stat calls when it was asked for before, one look for announcements when the picture stands. A picture asks
        none.
        """
        stood = self._stood
        if stood is not None and stood.is_quiet():
            return stood.refs[name]
        known = self._proved_refs.get(name)
        if known is not None and known[0].are_current():
            if self._patience.is_over():
                self.snapshot()
            return known[1]
        picture = self.snapshot()
        ref = picture.all_refs[name]
        self._prove_ref(picture, ref)
        return ref

    def statistics(self) -> Statistics:
        """Return what is held in memory."""
        return Statistics(
            self._objects.statistics(),
            self._paths.byte_count,
            self._history.byte_count,
            self._history.commit_count,
            self._packed_list.count,
        )

    # Under the lock

    def _opened(self) -> Inner:
        if self._inner is None:
            raise RepositoryClosed(f"{self.path} was closed")
        return self._inner

    def _look(self) -> Picture:
        """Look at the disk in full, and note what proves it."""
        inner = self._opened()
        faults = fault_count()
        snapshot = inner.snapshot()
        known = self._current
        if known is not None and known[1].inner is snapshot:
            picture = known[1]
        else:
            refs = Refs(snapshot.table, snapshot.peel, self._packed_list, self._lock)
            picture = Picture(snapshot, refs, self._objects, self._history, self._paths)
            self._fall()
        watched = inner.watched(snapshot)
        self._current = (_stamps_of(watched), picture, faults)
        return picture

    def _make_it_stand(self) -> None:
        """Have the last picture stand, if it can."""
        with self._lock:
            self._fall()
            current = self._current
            if self._inner is None or current is None or not self._patience.is_over():
                return
            stamps, picture, faults = current
            watched = self._inner.watched(picture.inner)
            standing = None
            if stamps is not None and watched is not None and not picture.inner.layout.is_linked_worktree:
                standing = stand(self.path, watched, stamps)
            if standing is None:
                self._patience.end()
                return
            self._patience.begin()
            self._stood = _Stood(standing.is_quiet, picture.all_refs, standing, picture, faults)

    def _fall(self) -> None:
        """Nothing stands any more."""
        stood, self._stood = self._stood, None
        if stood is not None:
            stood.standing.notice.close()
            self._patience.end()

    def _current_store(self) -> ObjectStore:
        self._opened()
        current = self._current
        return current[1].inner.store if current is not None else self._look().inner.store

    def _renew(self) -> None:
        self._look()

    def _prove_ref(self, picture: Picture, ref: Ref) -> None:
        """Remember the files that say what a ref is: its own when it is a loose one, else that there is none."""
        state, layout = picture.inner.refs, picture.inner.layout
        if not isinstance(state, FilesState) or layout.is_linked_worktree or ref.symref_target is not None:
            return
        file = state.loose.file_of(ref.name)
        if file is not None:
            stamps = _stamps_of([file])
        elif ref.name in state.loose.refs:
            return  # a link, of which stat tells nothing
        else:
            path = f"{layout.refs_commondir}/{os.fsdecode(ref.name)}"
            stamps = _stamps_of([state.packed.watch, WatchedFile(path=path, signature=None, is_settled=True)])
        if stamps is not None:
            if len(self._proved_refs) >= KNOWN_MAX:
                self._proved_refs.clear()
            self._proved_refs[ref.name] = (stamps, ref)


def _stamps_of(watched: list[WatchedFile] | None) -> Stamps | None:
    """Return the stamps of files that were read, None when they prove nothing."""
    if watched is None or not all(watch.is_settled for watch in watched):
        return None
    present = {watch.path: watch.signature for watch in watched if watch.signature is not None}
    # The appearing of a file changes the folder it appears in.
    absent = {watch.path for watch in watched if watch.signature is None and os.path.dirname(watch.path) not in present}
    return Stamps(present.items(), sorted(absent))
