"""The introductions index of one repository: where its segments lie, and the view that this process has of them.

    <commondir>/govc/introductions/
        <8 digits>-<checksum>.segment      graph.segment; the digits give the order in which they were made
        <8 digits>-<checksum>.forward      odb.forward: deltas for what packs hold whole, or as large deltas
        <8 digits>-<checksum>.ready        odb.ready: whole entries for what packs hold as deltas
        <8 digits>-<checksum>.thin         odb.thin: all that the newest commits introduce, as it is sent
        <8 digits>-<checksum>.paths        graph.path_file: which commits change which paths, for the library

They lie in `govc/` and not beside the packs, because they belong to no pack: what a commit introduces follows from its
name, so a `git gc` that replaces every pack makes nothing of it wrong, and git neither minds the folder nor leaves
files of ours behind when it deletes a pack. The folder may be removed at any time; it is filled again in the
background.

Nothing here is needed for an answer to be right: a file that is cut, damaged or of another version is passed over, and
what no segment knows is walked as before. A segment says nothing of commits beyond a shallow boundary, of grafts or of
a partial repository: where there is one of these, the snapshot has no index (`Snapshot.introductions`).

A worker notices new files by one stat of the folder, and by one of each file that it has mapped that none was
overwritten in place (by a backup that was copied over, say): what kernels read of maps was checked once.

Commits that the files don't know yet (plain git's, or a push of this moment) are added in memory when they are few
(`cover`); a push adds a file (`extend`); whatever is more is `introducing`'s work, in a helper process.
"""

import logging
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from govc.errors import Corrupt, LimitExceeded, ObjectMissing
from govc.graph.introduce import is_empty, make_segment
from govc.graph.path_file import HEADER_BYTES, BadPaths, read_count
from govc.graph.segment import BadSegment, Introduced, Segment, iter_encoded, parse_segment
from govc.graph.view import View, arrange
from govc.kernels.guard import FileMap, drop_pages, map_file
from govc.kernels.stamps import Signature, Stamps
from govc.odb.files import create_temporary
from govc.odb.forward import BadForward, ForwardDeltas, ForwardFile, parse_forward, read_packs
from govc.odb.ready import BadReady, ReadyFile, open_ready
from govc.odb.store import ObjectStore
from govc.odb.thin import BadThin, Row, ThinEntries, parse_thin, read_thin_packs
from govc.protocol.oid import HashAlgorithm

log = logging.getLogger(__name__)

FOLDER = "govc/introductions"
SEGMENT, FORWARD, READY, PATHS, THIN = ".segment", ".forward", ".ready", ".paths", ".thin"

TEMPORARY_PREFIX = "tmp_introductions_"

INLINE_COMMITS_MAX = 64
INLINE_ENTRIES_MAX = 4000
"""What a request adds by itself: a few milliseconds."""

SEGMENT_FILES_MAX = 12
"""With more files than this, some are to be merged."""

_MAP_BYTES_MIN = 64 << 10


class _Stamp(NamedTuple):
    inode: int
    mtime_ns: int
    ctime_ns: int


@dataclass
class Making:
    """A file that is being written: `checksum`, its writer's to set, becomes part of its name."""

    file: BinaryIO
    checksum: bytes = b""
    name: str = ""


class Introductions:
    """The index of one repository in this process."""

    def __init__(self, commondir: str, algo: HashAlgorithm, shared_bits: int = 0) -> None:
        """`shared_bits`: those of core.sharedRepository."""
        self.folder = f"{commondir}/{FOLDER}"
        self.algo = algo
        shared = shared_bits & 0o060
        self._file_mode = 0o400 | (shared & 0o040)
        self._folder_mode = 0o700 | shared | (shared >> 1 & 0o010) | (0o2000 if shared else 0)
        self._stamp: _Stamp | None = None
        self._segments: dict[str, Segment] = {}
        self._bad: dict[str, _Stamp] = {}
        self._memory: list[Segment] = []
        self._view = self._file_view = View(self.algo)
        self._forward_packs: dict[str, frozenset[bytes]] = {}
        self._forward_files: dict[str, ForwardFile] = {}
        self._forward: ForwardDeltas | None = ForwardDeltas(())
        self._ready_name = ""
        self.ready: ReadyFile | None = None
        """The newest file of ready entries."""
        self._thin_name = ""
        self.thin_packs: frozenset[bytes] = frozenset()
        """The checksums of the packs that were looked at for thin entries."""
        self._thin: ThinEntries | None = None
        self.path_name = ""
        self.path_commits = 0
        """The newest file of changed paths, and how many commits it knows; no more of it is read here."""
        self.generation = 0
        """Another one whenever there is more to know."""
        self._maps: list[bytes | mmap.mmap] = []
        """What was opened by the refresh that runs."""
        self._mapped: dict[str, Signature] = {}
        self._files = Stamps((), ())
        """What the files that are mapped were then."""
        self._forgotten = 0
        """How often anything was forgotten, for refreshes that run beside each other."""

    # Reading

    @property
    def view(self) -> View:
        """The segments, as of the last `refresh`."""
        return self._view

    def find_commit(self, oid: bytes) -> tuple[int, bytes, tuple[bytes, ...]] | None:
        """Return committer time, root tree and parents of a commit; None when it isn't known (graph.commits.LookUp)."""
        return self._view.commit(oid)

    def is_current(self) -> bool:
        """Tell whether the folder is as it was read, and what is mapped of it. One stat, and one for each map."""
        return self._stamp is not None and self._stamp == self._look() and self._files.are_current()

    def news_bytes(self) -> int:
        """Return how much `refresh` has to read: the segments that are new, or were overwritten. Some stats."""
        known = self._segments.keys() - self._find_overwritten()
        size = 0
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(SEGMENT) and entry.name not in known:
                    with suppress(FileNotFoundError):  # merged away meanwhile; the others have to be read all the same
                        size += entry.stat().st_size
        return size

    def refresh(self) -> None:
        """Read what is new in the folder. Blocks: about 1 ms for each MB of a file that is new."""
        stamp = self._look()
        overwritten = self._find_overwritten()
        if overwritten:
            self._forget(overwritten)
        elif stamp == self._stamp and self._files.are_current():
            return
        forgotten = self._forgotten
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            names = []
        except OSError as error:
            log.warning("%s: introductions are not used: %s", self.folder, error.strerror)
            names = []
        was_missed = self._read_segments([name for name in names if name.endswith(SEGMENT)])
        self._look_at_forward([name for name in names if name.endswith(FORWARD)])
        self._open_ready([name for name in names if name.endswith(READY)])
        self._look_at_thin([name for name in names if name.endswith(THIN)])
        self._look_at_paths([name for name in names if name.endswith(PATHS)])
        for name in self._mapped.keys() - set(names):
            self._mapped.pop(name, None)
        self._watch_maps()
        self._stamp = None if was_missed else stamp
        if forgotten != self._forgotten:  # meanwhile, by another: of that, this one may have kept some
            self._forget({*self._segments, *self._forward_files, self._thin_name})
        self.generation += 1
        drop_pages(self._maps)  # all of each was read for its checksum
        self._maps.clear()

    def _watch_maps(self) -> None:
        self._files = Stamps([(f"{self.folder}/{name}", known) for name, known in list(self._mapped.items())], ())

    def _find_overwritten(self) -> set[str]:
        """Return the files that aren't what they were when they were mapped. What is gone stays as it is mapped."""
        changed = () if self._files.are_current() else self._files.changed()
        return {os.path.basename(path) for path in changed if os.path.exists(path)}

    def _forget(self, names: Set[str]) -> None:
        """Have these files read anew, by the next refresh."""
        self._forgotten += 1
        self._stamp = None
        if not names.isdisjoint(self._segments):
            self._segments = {name: segment for name, segment in self._segments.items() if name not in names}
            self._memory = []
            self._view = self._file_view = View(self.algo)
        if self._thin_name in names:
            self._thin_name, self._thin = "", None
        for name in names:
            self._mapped.pop(name, None)
            self._forward_files.pop(name, None)
            if self._forward_packs.pop(name, None) is not None:
                self._forward = None

    def _look(self) -> _Stamp:
        return _stamp_of(self.folder)

    def _is_bad(self, name: str) -> bool:
        """Tell whether this very file was found to be no good. (One that is made again may have the same name.)"""
        return name in self._bad and self._bad[name] == _stamp_of(f"{self.folder}/{name}")

    def _read_segments(self, names: Sequence[str]) -> bool:
        """Say whether one was gone before it could be read. What it held lies in another one, which the folder's stamp
        needn't show: it may have come within the same tick of the clock.
        """
        kept: dict[str, Segment] = {}
        was_missed = False
        for name in names:
            known = self._segments.get(name)
            if known is None and not self._is_bad(name):
                try:
                    known = parse_segment(self._map(name), self.algo, name=name)
                except FileNotFoundError:
                    was_missed = True
                except (BadSegment, OSError) as error:
                    log.warning("%s: %s", self.folder, error)
                    self._bad[name] = _stamp_of(f"{self.folder}/{name}")
            if known is not None:
                kept[name] = known
        if kept == self._segments and self._stamp is not None:
            return was_missed
        view = self._grown(kept)
        self._segments = kept
        if view is None:
            view, troubles = arrange(self.algo, kept.values())
            for trouble in troubles:
                log.info("%s: a segment is not used: %s", self.folder, trouble)
        self._file_view = view
        memory = []
        for segment in self._memory:
            if segment.commit_count and not view.knows(bytes(segment.commit_oids[-self.algo.oid_size :])):
                with suppress(BadSegment):
                    view = view.extended(segment)
                    memory.append(segment)
        self._memory = memory
        self._view = view
        return was_missed

    def _map(self, name: str) -> bytes | mmap.mmap:
        content = self._open(name)
        self._maps.append(content)
        return content

    def _open(self, name: str) -> bytes | mmap.mmap:
        content = map_index(f"{self.folder}/{name}")
        if isinstance(content, FileMap):
            self._mapped[name] = content.signature
        return content

    def _grown(self, kept: dict[str, Segment]) -> View | None:
        """Return the view of the files extended by those that came, None when it has to be made anew."""
        view = self._file_view
        if len(view.segments) != len(self._segments) or not self._segments.keys() <= kept.keys():
            return None
        try:
            for name, segment in kept.items():
                known = self._segments.get(name)
                if known is None:
                    view = view.extended(segment)
                elif known is not segment:
                    return None
        except BadSegment:
            return None
        return view

    def _look_at_forward(self, names: Sequence[str]) -> None:
        """Note which files there are, and for which packs they were made. They are read when somebody needs them."""
        kept: dict[str, frozenset[bytes]] = {}
        for name in names:
            known = self._forward_packs.get(name)
            if known is None and not self._is_bad(name):
                try:
                    known = read_packs(f"{self.folder}/{name}", self.algo)
                except (BadForward, OSError) as error:
                    self._note_bad(name, error)
            if known is not None:
                kept[name] = known
        if kept != self._forward_packs:
            self._forward_packs = kept
            self._forward = None

    @property
    def forward_packs(self) -> frozenset[bytes]:
        """The checksums of the packs that were looked at for forward deltas."""
        return frozenset().union(*self._forward_packs.values())

    @property
    def has_read_forward(self) -> bool:
        """Whether `forward` is at hand."""
        return self._forward is not None

    @property
    def forward(self) -> ForwardDeltas:
        """The forward deltas, read when they are first asked for."""
        return self._forward if self._forward is not None else self.read_forward()

    def read_forward(self) -> ForwardDeltas:
        """Read the forward deltas; a clone needs none. Blocks, as `refresh`. What is no good is noted."""
        maps: list[bytes | mmap.mmap] = []
        files: dict[str, ForwardFile] = {}
        for name in list(self._forward_packs):
            known = self._forward_files.get(name)
            try:
                if known is None:
                    maps.append(self._open(name))
                    known = parse_forward(maps[-1], self.algo)
                files[name] = known
            except (BadForward, OSError) as error:
                self._note_bad(name, error)
                self._forward_packs.pop(name, None)  # so that somebody makes another one
        drop_pages(maps)
        self._watch_maps()
        self._forward_files = files
        self._forward = ForwardDeltas(tuple(files.values()))
        return self._forward

    def _note_bad(self, name: str, error: Exception) -> None:
        log.warning("%s: %s: %s", self.folder, name, error)
        self._bad[name] = _stamp_of(f"{self.folder}/{name}")

    def _open_ready(self, names: Sequence[str]) -> None:
        for name in reversed(names):
            if name == self._ready_name:
                return
            if not self._is_bad(name):
                try:
                    self.ready = open_ready(f"{self.folder}/{name}", self.algo)
                except (BadReady, OSError) as error:
                    self._note_bad(name, error)
                else:
                    self._ready_name = name
                    return
        self.ready, self._ready_name = None, ""

    def _look_at_thin(self, names: Sequence[str]) -> None:
        """Note the newest file, and for which packs it was made. It is read when somebody needs it."""
        for name in reversed(names):
            if name == self._thin_name:
                return
            if not self._is_bad(name):
                try:
                    self.thin_packs = read_thin_packs(f"{self.folder}/{name}", self.algo)
                except (BadThin, OSError) as error:
                    self._note_bad(name, error)
                else:
                    self._thin_name, self._thin = name, None
                    return
        self._thin_name, self._thin, self.thin_packs = "", None, frozenset()

    @property
    def has_read_thin(self) -> bool:
        """Whether `read_thin` has nothing to do."""
        return self._thin is not None or not self._thin_name

    def read_thin(self) -> ThinEntries | None:
        """Return the thin entries, read when they are first asked for; None when there are none. Blocks, as `refresh`.
        A file that is no good is noted.
        """
        name = self._thin_name
        if self._thin is None and name:
            try:
                content = self._open(name)
                self._watch_maps()
                found = parse_thin(content, self.algo)
                drop_pages([content])
                if name != self._thin_name:
                    return found  # another thread has met a newer one meanwhile
                self._thin = found
            except (BadThin, OSError) as error:
                self._note_bad(name, error)
                self._thin_name, self.thin_packs = "", frozenset()  # so that somebody makes another one
        return self._thin

    def iter_thin_rows(self) -> Iterator[tuple[bytes, Row]]:
        """Yield the deltas of the file with their targets."""
        entries = self.read_thin()
        return entries.iter_rows() if entries is not None else iter(())

    def _look_at_paths(self, names: Sequence[str]) -> None:
        for name in reversed(names):
            if name == self.path_name:
                return
            if not self._is_bad(name):
                try:
                    with open(f"{self.folder}/{name}", "rb") as file:
                        self.path_commits = read_count(file.read(HEADER_BYTES), self.algo)
                except (BadPaths, OSError) as error:
                    log.warning("%s: %s: %s", self.folder, name, error)
                    self._bad[name] = _stamp_of(f"{self.folder}/{name}")
                else:
                    self.path_name = name
                    return
        self.path_name, self.path_commits = "", 0

    # What lies in the folder, for maintenance

    @property
    def bad_names(self) -> frozenset[str]:
        """Files that were passed over."""
        return frozenset(self._bad)

    def segment_files(self) -> list[tuple[str, Segment]]:
        """Return the segments of the view that are files, in its order, with their names."""
        return [(segment.name, segment) for segment in self._file_view.segments]

    @property
    def is_crowded(self) -> bool:
        """Whether there are so many files that some should be merged."""
        return len(self._segments) > SEGMENT_FILES_MAX

    # Adding

    def cover(self, store: ObjectStore, oids: Iterable[bytes]) -> bool:
        """Have the view know these commits (of any other object it says nothing), if only few are missing.

        What is added stays in memory. Returns False when somebody should make a file of more.
        """
        tips = [oid for oid in oids if not self._view.knows(oid)]
        if not tips:
            return True
        if self._view.is_empty:
            return False
        segment = self._make_small(store, tips, self._view)
        if segment is None:
            return False
        try:
            self._view = self._view.extended(segment)
            self.generation += 1
        except BadSegment:  # another thread of this process was faster
            return False
        self._memory.append(segment)
        return True

    def whole_view(self, store: ObjectStore, commits: Iterable[bytes], *, cache_bytes: int) -> View:
        """Return a view that knows these commits and all below them; of what the files lack nothing is kept.

        Some ten microseconds for each object that they lack. Raises ObjectMissing, Corrupt, LimitExceeded, BadSegment.
        """
        self.refresh()
        view = self._file_view
        missing = [oid for oid in commits if not view.knows(oid)]
        if not missing:
            return view
        encoded = bytearray()
        for piece in iter_encoded(make_segment(store, store.pack_reader(cache_bytes), missing, view.knows), self.algo):
            encoded += piece
        return view.extended(parse_segment(encoded, self.algo, name="in memory", trusted=True))

    def _make_small(self, store: ObjectStore, tips: Sequence[bytes], view: View) -> Segment | None:
        try:
            made = make_segment(
                store,
                store.pack_reader(),
                tips,
                view.knows,
                entries_max=INLINE_ENTRIES_MAX,
                commits_max=INLINE_COMMITS_MAX,
            )
        except (LimitExceeded, ObjectMissing, Corrupt) as error:
            log.debug("%s: not extended: %s", self.folder, error)
            return None
        return parse_segment(b"".join(iter_encoded(made, self.algo)), self.algo, name="in memory", trusted=True)

    def extend(self, store: ObjectStore, tips: Iterable[bytes]) -> bool:
        """Make a file of the commits below `tips` that the files don't know yet; at a cost in proportion to them.

        Returns False when they are too many to do it here and now. Blocks. OSError.
        """
        self.refresh()
        missing = [oid for oid in tips if not self._file_view.knows(oid)]
        if not missing:
            return True
        self.make_folder()
        # What other requests have added in memory goes into the file too: a file stands on files only.
        segment = self._make_small(store, missing, self._file_view)
        if segment is None:
            return False
        self.write_segment(segment.introduced())
        self.refresh()
        return True

    def write_segment(self, introduced: Introduced) -> str | None:
        """Write a segment file and return its name; None when there is nothing in it. OSError."""
        if is_empty(introduced):
            return None
        pieces = list(iter_encoded(introduced, self.algo))
        return self._write(pieces, SEGMENT)

    @property
    def commit_count(self) -> int:
        """How many commits the segments in files hold."""
        return sum(segment.commit_count for segment in self._segments.values())

    def write_paths(self, pieces: list[bytes]) -> str:
        """Write a file of changed paths and return its name. OSError."""
        return self._write(pieces, PATHS)

    def write_forward(self, pieces: list[bytes]) -> str:
        """Write a file of forward deltas and return its name. OSError."""
        return self._write(pieces, FORWARD)

    def write_thin(self, pieces: list[bytes]) -> str:
        """Write a file of thin entries and return its name. OSError."""
        return self._write(pieces, THIN)

    def _write(self, pieces: list[bytes], suffix: str) -> str:
        with self.writing(suffix) as making:
            making.file.writelines(pieces)
            making.checksum = pieces[-1]
        return making.name

    @contextmanager
    def writing(self, suffix: str) -> Iterator["Making"]:
        """Write a file under a new number: whole, or not at all. Not synced: one that a power cut has torn is passed
        over. OSError.

        The folder isn't made here: one that was there is gone because the repository left us (`govc retire`).
        """
        descriptor, path = create_temporary(self.folder, TEMPORARY_PREFIX, self._file_mode)
        try:
            with open(descriptor, "wb") as file:
                making = Making(file)
                yield making
            making.name = f"{self._next_number():08d}-{making.checksum.hex()}{suffix}"
            os.rename(path, f"{self.folder}/{making.name}")
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(path)
            raise

    def make_folder(self) -> None:
        """Make the folder unless it is there. OSError."""
        for path in (os.path.dirname(self.folder), self.folder):
            try:
                os.mkdir(path, self._folder_mode & 0o777)
            except FileExistsError:
                continue
            os.chmod(path, self._folder_mode)

    def _next_number(self) -> int:
        numbers = (int(name[:8]) for name in os.listdir(self.folder) if name[:8].isdigit())
        return max(numbers, default=0) + 1


def _stamp_of(path: str) -> _Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return _Stamp(0, 0, 0)
    return _Stamp(status.st_ino, status.st_mtime_ns, status.st_ctime_ns)


def map_index(path: str) -> bytes | mmap.mmap:
    """Return a file's content; a map for a large one, which is never changed in place. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size < _MAP_BYTES_MIN:
            return os.read(descriptor, size + 1)
        return map_file(path, descriptor, size)
    finally:
        os.close(descriptor)
