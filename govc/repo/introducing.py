"""Filling the introductions index, in a helper process: segments, their merging, forward deltas, ready entries, paths.

Of a repository that plain git made, everything is done once, at some ten microseconds per object; after that a run adds
what is new. Segments are merged in a geometric progression, as packs are, so that each commit is copied a logarithmic
number of times. Forward deltas are made for what packs hold whole though it has earlier versions, the newest first,
within bounds of time and space; a new large pack (a `git gc`) starts another run.

One run at a time per repository: the folder is flocked. Readers need no lock: a file appears under its name complete,
and one that was merged goes after the merged one has come.
"""

import fcntl
import logging
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from govc.errors import Corrupt, GovcError, ObjectMissing
from govc.graph.commits import follow_tags
from govc.graph.introduce import make_segment, merge
from govc.graph.segment import NONE
from govc.graph.view import View
from govc.kernels import deltify, thin, treewalk
from govc.kernels.packread import PackReader
from govc.objects.types import COMMIT
from govc.odb.forward import Entry, iter_encoded
from govc.odb.store import ObjectStore
from govc.pack.delta import make_delta
from govc.protocol.oid import find_algorithm
from govc.repo.helper import Emit
from govc.repo.introductions import (
    FORWARD,
    INLINE_ENTRIES_MAX,
    SEGMENT_FILES_MAX,
    TEMPORARY_PREFIX,
    Introductions,
)
from govc.repo.path_files import add_paths, is_paths_due
from govc.repo.readying import TIPS_MAX, add_ready
from govc.repo.snapshot import Snapshot
from govc.repo.thinning import add_thin

log = logging.getLogger(__name__)

READER_CACHE_BYTES = 64 << 20

LEFTOVER_SECONDS = 10.0
"""A file that nobody has written to for so long is a dead process's: runs exclude each other, and the small file of a
push is written within milliseconds (if it was slower, the next run adds what it would have)."""

_NOT_DUE = "what the index knew when nothing was due"
LARGE_PACK_OBJECTS = 1000
"""A pack of so many objects is worth a look for forward deltas."""

FORWARD_SECONDS = 60.0
FORWARD_SHARE = 0.1
FORWARD_BYTES_MIN = 8 << 20
FORWARD_TARGETS_MAX = 100_000
"""Bounds of forward deltas: processor time per run; bytes, as a share of the packs' and at least; objects."""

FORWARD_STEPS = 10
"""Bases of one object: 1, 2, 4, .. 512 versions back."""

FORWARD_DELTA_BYTES_MIN = 256
"""Stored deltas of fewer bytes stay."""

FORWARD_BACK_COMMITS = 5000
FORWARD_BACK_TARGETS_MAX = 50_000
FORWARD_BACK_SHARE = 0.25
"""What the newest commits replaced is stored as a delta on what replaced it, which nobody gets who wants an older one:
for so many objects of so many commits there is a delta on the version before, of at most this share of the object."""

FORWARD_OBJECT_BYTES_MAX = 8 << 20
FORWARD_GAIN = 0.6
"""A delta is kept when it takes at most this share of the whole entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroduceTask:
    """One repository whose index is to be filled. Picklable. `tips`: the values of its refs. `heads`: those of HEAD
    and some branches, for ready entries (`readying`).

    `identity`: the folder's device and inode. A helper starts late on a busy machine, and what lies at the path then
    may be another repository, in which nobody asked for an index; None: it was gone at once.
    """

    commondir: str
    identity: tuple[int, int] | None
    objects_dir: str
    algo_name: str
    shared_bits: int
    tips: tuple[bytes, ...]
    heads: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, snapshot: Snapshot) -> "IntroduceTask":
        """Take what the snapshot knows."""
        layout = snapshot.layout
        return cls(
            commondir=layout.commondir,
            identity=_identity_of(layout.commondir),
            objects_dir=layout.objects_dir,
            algo_name=layout.algo.name,
            shared_bits=layout.shared.bits,
            tips=tuple({ref.oid for ref in snapshot.table.iter_refs()}),
            heads=tuple(dict.fromkeys(islice(_iter_heads(snapshot), TIPS_MAX))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroduceReport:
    """What was done; `skipped` says why nothing was."""

    commits_added: int = 0
    commits_with_paths: int = 0
    segments_merged: int = 0
    forward_added: int = 0
    entries_ready: int = 0
    entries_thin: int = 0
    skipped: str = ""


def introduce_job(task: IntroduceTask, _emit: Emit) -> IntroduceReport:
    """The helper's "introduce" job."""
    with suppress(OSError):
        os.nice(10)  # nobody waits for it
    return fill_introductions(task)


def fill_introductions(task: IntroduceTask) -> IntroduceReport:
    """Bring the index of one repository up to date. Raises OSError, Corrupt, LimitExceeded."""
    algo = find_algorithm(task.algo_name)
    assert algo is not None
    if task.identity is None or task.identity != _identity_of(task.commondir):
        return IntroduceReport(skipped="the repository is gone, or another one lies there")
    index = Introductions(task.commondir, algo, task.shared_bits)
    index.make_folder()
    descriptor = os.open(index.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return IntroduceReport(skipped="another process is at it")
        _remove_leftovers(index)
        store = ObjectStore.open(task.objects_dir, algo)
        reader = store.pack_reader(READER_CACHE_BYTES)
        try:
            added = _add_segment(index, store, reader, task.tips)
        except ObjectMissing as error:
            return IntroduceReport(skipped=f"history is not whole: {error}")
        merged = _merge_segments(index)
        forward = _add_forward(index, store, reader)
        ready = add_ready(index, store, reader, task.heads, _large_packs(store))
        made_thin = add_thin(index, store, reader, task.heads, _large_packs(store))
        return IntroduceReport(
            commits_added=added,
            segments_merged=merged,
            forward_added=forward,
            entries_ready=ready,
            entries_thin=made_thin,
            commits_with_paths=add_paths(index, store, reader),
        )
    finally:
        os.close(descriptor)


def merge_small(index: Introductions) -> bool:
    """Merge the last segments here and now, if that is little work and nobody else is at it. OSError.

    Return whether it is too much work: there are many files still, and nobody else is at it.
    """
    descriptor = os.open(index.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        index.refresh()
        _merge_segments(index, INLINE_ENTRIES_MAX)
        return index.is_crowded
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _identity_of(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_due(snapshot: Snapshot, index: Introductions) -> bool:
    """Tell whether there is a large pack that nobody has looked at for forward deltas, or for ready entries, or whether
    the paths of many commits are to be found.
    """
    has_read = index.has_read_forward, index.has_read_thin
    state = index.generation, len(snapshot.store.packs), has_read, len(index.bad_names)
    if snapshot.derived.get(_NOT_DUE) == state:
        return False
    if is_paths_due(index) or _are_packs_due(snapshot, index):
        return True
    snapshot.derived[_NOT_DUE] = state
    return False


def _are_packs_due(snapshot: Snapshot, index: Introductions) -> bool:
    known = index.forward_packs
    if treewalk.AVAILABLE:
        known = known & index.ready.packs if index.ready is not None else frozenset()
    if thin.AVAILABLE:
        known = known & index.thin_packs
    return any(
        pack.count >= LARGE_PACK_OBJECTS and pack.index.pack_checksum not in known for pack in snapshot.store.packs
    )


def _large_packs(store: ObjectStore) -> list[bytes]:
    return [pack.index.pack_checksum for pack in store.packs if pack.count >= LARGE_PACK_OBJECTS]


def _iter_heads(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield what HEAD names, then what branches name."""
    if snapshot.table.head.oid is not None:
        yield snapshot.table.head.oid
    for ref in snapshot.table.iter_refs(b"refs/heads/"):
        yield ref.oid


def _remove_leftovers(index: Introductions) -> None:
    """Remove files that are no good, and what a killed process left."""
    index.refresh()
    index.read_forward()  # of a damaged one a reader may have looked at the header only
    index.read_thin()
    for name in os.listdir(index.folder):
        path = f"{index.folder}/{name}"
        is_old_temporary = False
        if name.startswith(TEMPORARY_PREFIX):
            with suppress(OSError):
                is_old_temporary = time.time() - os.stat(path).st_mtime > LEFTOVER_SECONDS
        if name in index.bad_names or is_old_temporary:
            with suppress(FileNotFoundError):
                os.unlink(path)


def _add_segment(index: Introductions, store: ObjectStore, reader: PackReader | None, tips: Sequence[bytes]) -> int:
    commits = []
    for oid in tips:
        number = store.find(oid)
        if number < 0:
            continue  # gone since
        try:
            _tags, target, type_number = follow_tags(store, number)
        except ObjectMissing:
            continue
        if type_number == COMMIT:
            commits.append(store.oid_of(target))
    made = make_segment(store, reader, sorted(set(commits)), index.view.knows)
    if index.write_segment(made) is None:
        return 0
    index.refresh()
    return len(made.times) // 8


def _merge_segments(index: Introductions, entries_max: int | None = None) -> int:
    """Merge the last segments, as far back as each is not much larger than those behind it together; where there are
    too many files, until they are few, however large those in front are.

    `entries_max`: of the merged one, commits and introductions together.
    """
    files_max = SEGMENT_FILES_MAX // 2 if index.is_crowded else SEGMENT_FILES_MAX
    files = index.segment_files()
    sizes = [segment.commit_count + segment.intro_count for _name, segment in files]
    first = len(files) - 1
    total = sizes[first] if files else 0
    while first > 0 and (sizes[first - 1] <= 2 * total or first >= files_max):
        if entries_max is not None and total + sizes[first - 1] > entries_max:
            break
        first -= 1
        total += sizes[first]
    if len(files) - first < 2:
        return 0
    chosen = files[first:]
    merged = merge([segment.introduced() for _name, segment in chosen], index.algo.oid_size)
    index.write_segment(merged)
    for name, _segment in chosen:
        with suppress(FileNotFoundError):
            os.unlink(f"{index.folder}/{name}")
    index.refresh()
    return len(chosen)


# Forward deltas


def _add_forward(index: Introductions, store: ObjectStore, reader: PackReader | None) -> int:
    """Write the forward deltas anew: those that are still of use, and new ones. Only with the compiled kernels."""
    table = store.pack_table()
    if table is None or reader is None or not deltify.AVAILABLE:
        return 0
    packs = _large_packs(store)
    if set(packs) <= index.forward_packs:
        return 0
    poor = _find_poor(index.view, store)
    kept = [entry for entry in index.forward.entries() if entry.target in poor]
    known = {entry.target for entry in kept}
    room = max(FORWARD_BYTES_MIN, int(FORWARD_SHARE * sum(pack.size for pack in store.packs)))
    room -= sum(len(entry.stream) for entry in kept)
    started = time.process_time()
    maker = _ForwardMaker(index.view, store, reader)
    added = 0
    for target, poverty in poor.items():
        if target in known:
            continue
        if room <= 0 or len(known) + added >= FORWARD_TARGETS_MAX or time.process_time() - started > FORWARD_SECONDS:
            break
        entries = list(maker.iter_entries(target, poverty)) or [Entry(target, index.algo.zero, 0, b"")]
        room -= sum(len(entry.stream) for entry in entries)
        kept += entries
        added += 1
    old = [name for name in os.listdir(index.folder) if name.endswith(FORWARD)]
    index.write_forward(list(iter_encoded(kept, packs, index.algo)))
    for name in old:
        with suppress(FileNotFoundError):
            os.unlink(f"{index.folder}/{name}")
    return added


class _Poverty(NamedTuple):
    """How an object is stored: the bytes of its entry; how many bases to try; the most bytes that a delta may take, as
    a share of the object, or 0 for a share of the entry that is the same for all.
    """

    stored_bytes: int
    steps: int
    share: float = 0.0


def _find_poor(view: View, store: ObjectStore) -> dict[bytes, _Poverty]:
    """Return the objects that have earlier versions and are stored whole, or as large deltas on something older that
    isn't the version before, newest first; before those what the newest commits brought or replaced and is stored as a
    delta on something newer.
    """
    found = dict(islice(_iter_backward(view, store), FORWARD_BACK_TARGETS_MAX))
    for segment in reversed(view.segments):
        previous = segment.previous.cast("I")
        introducers = segment.introducers.cast("I")
        ranks = [rank for rank, before in enumerate(previous) if before != NONE and introducers[rank] != NONE]
        ranks.sort(key=introducers.__getitem__, reverse=True)
        for rank in ranks:
            oid = segment.object_oid(rank)
            number = store.find(oid, rescan=False)
            if number < 0 or oid in found:
                continue
            try:
                entry = store.entry(number)
            except Corrupt:
                continue
            if entry is None or entry.size > FORWARD_OBJECT_BYTES_MAX:
                continue
            stored_bytes = entry.end - entry.offset
            if entry.base_number >= 0:
                if stored_bytes < FORWARD_DELTA_BYTES_MIN:
                    continue
                base = store.oid_of(entry.base_number)
                if base == segment.object_oid(previous[rank]) or view.age(base) > view.age(oid):
                    continue
            found[oid] = _Poverty(stored_bytes, 1 if entry.base_number >= 0 else FORWARD_STEPS)
            if len(found) >= FORWARD_TARGETS_MAX:
                return found
    return found


def _iter_backward(view: View, store: ObjectStore) -> Iterator[tuple[bytes, _Poverty]]:
    """Yield what the newest commits introduced or replaced and packs hold as deltas on something newer."""
    left = FORWARD_BACK_COMMITS
    for segment in reversed(view.segments):
        previous = segment.previous.cast("I")
        oldest = max(0, segment.commit_count - left)
        introducers = segment.introducers.cast("I")
        ranks = [rank for rank, place in enumerate(introducers) if oldest <= place < segment.commit_count]
        ranks.sort(key=introducers.__getitem__, reverse=True)
        for rank in ranks:
            if previous[rank] == NONE:
                continue
            for oid in map(segment.object_oid, (rank, previous[rank])):
                number = store.find(oid, rescan=False)
                if number < 0 or view.before(oid) is None:
                    continue
                try:
                    entry = store.entry(number)
                except Corrupt:
                    continue
                if entry is None or entry.base_number < 0 or entry.size > FORWARD_OBJECT_BYTES_MAX:
                    continue
                if view.age(store.oid_of(entry.base_number)) > view.age(oid):
                    yield oid, _Poverty(entry.end - entry.offset, 1, FORWARD_BACK_SHARE)
        left -= segment.commit_count - oldest


class _ForwardMaker:
    def __init__(self, view: View, store: ObjectStore, reader: PackReader) -> None:
        self._view = view
        self._store = store
        self._reader = reader

    def _read(self, oid: bytes) -> bytes | None:
        number = self._store.find(oid, rescan=False)
        if number < 0:
            return None
        try:
            if self._store.entry(number) is None:
                return self._store.read(number)[1]
            return self._reader.read(number)[1]
        except GovcError as error:
            log.warning("%s is passed over: %s", oid.hex(), error)
            return None

    def _iter_versions(self, oid: bytes) -> Iterator[bytes]:
        """Yield the earlier versions of an object at its path, the newest first."""
        seen = {oid}
        while True:
            before = self._view.before(oid)
            if before is None or before in seen:
                return
            oid = before
            seen.add(oid)
            yield oid

    def iter_entries(self, target: bytes, poverty: _Poverty) -> Iterator[Entry]:
        """Yield the deltas of one object on its first, second, fourth.. version back, as far as they are worth it."""
        content = self._read(target)
        if content is None or len(content) > FORWARD_OBJECT_BYTES_MAX:
            return
        wanted = 1
        steps = 0
        limit = int(poverty.share * len(content) if poverty.share else poverty.stored_bytes * FORWARD_GAIN)
        for distance, oid in enumerate(self._iter_versions(target), 1):
            if distance != wanted:
                continue
            wanted *= 2
            steps += 1
            base = self._read(oid)
            if base is None or len(base) > FORWARD_OBJECT_BYTES_MAX:
                return
            delta = deltify.make_delta(base, content, len(content)) if deltify.AVAILABLE else make_delta(base, content)
            if delta is None:
                return
            stream = zlib.compress(delta)
            if len(stream) > limit:
                return
            yield Entry(target, oid, len(delta), stream)
            if steps == poverty.steps:
                return
