"""The log of one repository, as one process uses it: what `wal` is told, and what it means.

    <commondir>/govc/
        log/          segments                         wal.segment
        checkpoint    up to where git's files are safe  wal.checkpoint
        refs-N        all refs at a checkpoint          ref_values
        late/         pushes whose post-receive hooks are still to be told  late_hooks
        packs/        large packs that records name, as second names of the ones in objects/pack
        locks/        our lock files, and which processes live
        state         what the processes share          wal.state

A push: `stage_objects` when its objects have been published, `record` when its refs are locked, verified and staged,
`published` when the renames are done. `void` takes a record back of which nothing has been published.

Everything blocks; call it in a thread. Opening a journal recovers what a dead process or a power cut has left.
"""

import logging
import os
import time
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice

from govc import disk
from govc.errors import GovcError
from govc.objects.types import encode_object_header
from govc.odb.quarantine import Migration
from govc.odb.store import ObjectStore
from govc.phases import LOG_SYNC, Timed
from govc.repo.layout import RepositoryLayout
from govc.repo.ref_values import LoggedRefs
from govc.wal.checkpoint import read_checkpoint
from govc.wal.errors import LogDamaged, LogError, LogFailed, LogInDoubt
from govc.wal.log import Appended, Log, LogOptions
from govc.wal.owner import find_lock, is_alive
from govc.wal.place import LogFolder, LogHome
from govc.wal.reader import Located, LogReader, Position
from govc.wal.record import Draft, Kind, PackReference, RefChange, SymrefChange

log = logging.getLogger(__name__)

FOLDER = "govc"
SYNC, BATCH, NONE = "sync", "batch", "none"
DURABILITIES = (SYNC, BATCH, NONE)
LOOSE_BYTES_MAX = 64 << 20
"""Loose objects that hooks made in quarantine go into the record itself, up to this size together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalOptions:
    """Knobs of logs.

    `durability`: "sync" (acknowledged means on disk), "batch" (up to `batch_seconds` of acknowledged pushes are at risk
    in a power cut), "none" (as much as the kernel has not written yet). Packs up to `inline_bytes_max` lie in the
    record. `watch_sync` is told the seconds of each sync, in whatever thread it was made.
    """

    durability: str = SYNC
    batch_seconds: float = 0.1
    inline_bytes_max: int = 256 << 10
    bytes_max: int = 1 << 30
    gather_seconds: float = 0.03
    checkpoint_bytes: int = 8 << 20
    checkpoint_seconds: int = 300
    archive_dir: str = ""
    later: Callable[[float, Callable[[], None]], None] | None = None
    watch_sync: Callable[[float], None] | None = None
    clock_ns: Callable[[], int] = time.time_ns
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedObjects:
    """The objects of a push, ready for its record: packs (inline or named) and loose objects."""

    packs: tuple[bytes, ...] = field(default=(), repr=False)
    references: tuple[PackReference, ...] = ()
    loose_objects: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)


NO_OBJECTS = StagedObjects()


class Journal:
    """One repository's log. Use `open_journal` (repo.recovery), which recovers first."""

    def __init__(self, layout: RepositoryLayout, options: JournalOptions) -> None:
        """Make the folders that are missing and open the shared state. LogFailed."""
        self.layout = layout
        self.options = options
        self.folder = LogFolder(f"{layout.commondir}/{FOLDER}")
        shared = layout.shared.bits & 0o060
        self.file_mode = 0o600 | shared
        self.folder_mode = 0o700 | shared | (shared >> 1 & 0o010) | (0o2000 if shared else 0)
        try:
            self._make_folders()
            self.log = Log(
                self.folder,
                LogHome(layout.algo, os.stat(layout.commondir).st_ino),
                LogOptions(
                    bytes_max=options.bytes_max,
                    file_mode=self.file_mode,
                    folder_mode=self.folder_mode,
                    gather_seconds=options.gather_seconds,
                    sleep=options.sleep,
                    watch_sync=options.watch_sync,
                ),
                clock_ns=options.clock_ns,
            )
        except OSError as error:
            raise LogFailed(f"{self.folder.root}: open", error) from error
        weakref.finalize(self, self.log.close)
        self._refs: LoggedRefs | None = None
        self._position: Position | None = None
        self._arriving: set[object] = set()
        self._unflushed: deque[Appended] = deque()
        self._is_flush_due = False
        self._stuck: dict[int, Callable[[], bool]] = {}
        self._unmarked: list[int] = []
        self._doubtful: dict[int, Appended] = {}
        self._held: dict[int, Callable[[], None]] = {}
        self._break_dead: Callable[[], object] | None = None

    def _make_folders(self) -> None:
        for path in (self.folder.root, self.folder.locks, self.folder.packs, self.folder.late):
            try:
                disk.mkdir(path, self.folder_mode & 0o777)
            except FileExistsError:
                continue
            disk.chmod(path, self.folder_mode)
            disk.sync_folder(os.path.dirname(path))

    def close(self) -> None:
        """Let go of descriptors and of this process's token."""
        self.log.close()

    def is_current(self) -> bool:
        """Say whether this is still the log of the repository: not retired, not another folder's by now."""
        return self.log.is_current()

    def clock_ns(self) -> int:
        """Return the time, nanoseconds since 1970."""
        return self.options.clock_ns()

    def archive_name(self) -> str:
        """Return the name of this log's folder in the archive: the repository's, and the log's id."""
        tail = self.log.tail()
        log_id = tail.log_id.hex() if tail is not None else "unknown"
        return f"{os.path.basename(self.layout.commondir)}-{log_id}"

    # Locks of refs (refs.lock.LockOwner)

    def next_lock_path(self) -> str:
        """Return a path for one more lock's own file."""
        return self.log.owner.next_lock_path()

    def break_dead(self, lock_path: str) -> bool:
        """Finish what a dead process of ours began, when it holds this lock; False when it is somebody else's."""
        found = find_lock(self.folder.locks, lock_path)
        if found is not None and found[0] == self.log.owner.token:
            return self._retry_stuck()
        if found is None or is_alive(self.folder.locks, found[0]) or self._break_dead is None:
            return False
        self._break_dead()
        return True

    def when_stuck(self, appended: Appended, retry: Callable[[], bool]) -> None:
        """Note a record of ours that could not be published, and what tries again; its locks are still held."""
        self._stuck[appended.record.sequence] = retry

    def hold(self, sequence: int, release: Callable[[], None]) -> None:
        """Keep the locks of a record in doubt: `release` is called once it is settled that it doesn't count.

        Were they let go of one by one and this process killed meanwhile, its heirs would publish what is still locked.
        """
        self._held[sequence] = release
        if sequence not in self._doubtful:
            self._let_go_of([sequence])

    def _let_go_of(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            self._doubtful.pop(sequence, None)
            release = self._held.pop(sequence, None)
            if release is not None:
                release()

    def _settle(self) -> bool:
        """Take back what is in doubt and let go of its locks; say whether there was anything and that could be done."""
        doubtful = list(self._doubtful)
        if not doubtful:
            return False
        try:
            with self.log.append_lock():
                self.follow()
                drafts = self._late_voids()
                appended = self.log.append(drafts) if drafts else []
                for one in appended:
                    self._note(one)
            if appended and self.options.durability != NONE:
                self.log.make_durable(appended[-1])
        except (LogError, OSError) as error:
            log.error("%s: still in doubt: %s", self.folder.root, error)
            return False
        self._let_go_of(doubtful)
        return True

    def _retry_stuck(self) -> bool:
        """Try to settle what is in doubt and to publish what is stuck; say whether anything could be."""
        is_settled = self._settle()
        is_published = False
        for sequence in list(self._stuck):
            retry = self._stuck.pop(sequence, None)
            if retry is None:
                continue  # another thread is at it: two would take each other's step for a stranger's
            is_done = False
            try:
                is_done = retry()
            finally:
                if not is_done:
                    self._stuck[sequence] = retry
            is_published = is_published or is_done
        return is_settled or is_published

    def when_dead(self, recover: Callable[[], object]) -> None:
        """Say what finishes the work of dead processes."""
        self._break_dead = recover

    # Objects

    def stage_objects(self, migration: Migration) -> StagedObjects:
        """Take the objects of a push, which lie in the repository under a `.keep`. LogFailed.

        Small packs are read; larger ones get a second name in `govc/packs` and are synced, so that a `git gc` may
        delete the first at any time.
        """
        packs: list[bytes] = []
        references: list[PackReference] = []
        try:
            for path in migration.pack_paths:
                if os.stat(path).st_size <= self.options.inline_bytes_max:
                    with open(path, "rb", buffering=0) as file:  # to its end, all the same
                        packs.append(file.read())
                else:
                    references.append(self._keep_pack(path))
            loose = self._read_loose(migration.loose_paths)
            if references:
                disk.sync_folder(self.folder.packs)
        except OSError as error:
            raise LogFailed(f"{self.folder.root}: staging objects", error) from error
        return StagedObjects(packs=tuple(packs), references=tuple(references), loose_objects=loose)

    def _keep_pack(self, path: str) -> PackReference:
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            header = file.read(12)
            file.seek(-self.layout.algo.oid_size, os.SEEK_END)
            checksum = file.read()
        if self.options.durability != NONE:  # with "batch", too: somebody else may sync the record that names it
            disk.sync_path(path)
        with suppress(FileExistsError):
            disk.link(path, kept_pack_path(self.folder, checksum))
        return PackReference(checksum, size, int.from_bytes(header[8:12], "big"))

    def _keep_again(self, references: Sequence[PackReference]) -> None:
        """See to it that packs still lie in `govc/packs`: a checkpoint may have let go of one that was there before it
        was staged, for an older record. Under the append lock. Raises LogFailed.
        """
        for reference in references:
            path = kept_pack_path(self.folder, reference.checksum)
            if os.path.exists(path):
                continue
            try:
                disk.link(f"{self.layout.objects_dir}/pack/{os.path.basename(path)}", path)
                disk.sync_folder(self.folder.packs)
            except OSError as error:
                raise LogFailed(f"{self.folder.root}: keeping a pack", error) from error

    def _read_loose(self, paths: Sequence[str]) -> tuple[tuple[bytes, bytes], ...]:
        found: list[tuple[bytes, bytes]] = []
        room = LOOSE_BYTES_MAX
        for path in paths:
            folder, name = path.rsplit("/", 2)[-2:]
            oid = bytes.fromhex(folder + name)
            try:
                with open(path, "rb") as file:
                    content = file.read(room + 1)
            except FileNotFoundError:
                content = self._read_packed(oid)
            room -= len(content)
            if room < 0:
                raise LogError(f"{path}: loose objects of a push above {LOOSE_BYTES_MAX} bytes")
            found.append((oid, content))
        return tuple(found)

    def _read_packed(self, oid: bytes) -> bytes:
        """Return an object that plain git has packed since it was placed, as a loose one's file. Raises LogError."""
        store = ObjectStore.open(self.layout.objects_dir, self.layout.algo, object_bytes_max=LOOSE_BYTES_MAX)
        try:
            type_number, content = store.read_oid(oid)
        except GovcError as error:
            raise LogError(f"{self.folder.root}: staging objects: {error}") from error
        return zlib.compress(encode_object_header(type_number, len(content)) + content, 1)

    # Recording

    @contextmanager
    def arriving(self) -> Iterator[object]:
        """Say that a push is about to append: a sync may wait some milliseconds for it. Yields a mark for `record`."""
        mark = object()
        self._arriving.add(mark)
        try:
            yield mark
        finally:
            self._arriving.discard(mark)

    def record(self, draft: Draft, arrival: object = None) -> Appended:
        """Append a change, with what else was observed of its refs, and make it as durable as the setting promises.

        `arrival`: the mark of `arriving`; once the record is appended nobody waits for it any more. Raises LogError;
        then it never happened.
        """
        with self.log.append_lock():
            doubtful = list(self._doubtful)
            drafts = self._late_voids()
            self.follow()
            observed = self._observed(draft)
            if observed is not None:
                drafts.append(observed)
            self._keep_again(draft.pack_references)
            appended = self.log.append([*drafts, draft])
            for one in appended:
                self._note(one)
        self._arriving.discard(arrival)
        try:
            if self.options.durability == SYNC or (self.options.durability == BATCH and self.options.later is None):
                with Timed(LOG_SYNC):
                    self.log.make_durable(appended[-1], self._is_crowded)
            elif self.options.durability == BATCH:
                self._flush_later(appended[-1])
        except OSError as error:
            # Not the sync (the log would have gone on without the record) but what is around it: the record lies there,
            # and the next push's sync would make it true.
            self._void_or_doubt(appended[-1], error)
            raise LogFailed(f"{self.folder.root}: sync", error) from error
        self._let_go_of(doubtful)  # not before the sync: with a failed one the void records would go, too
        return appended[-1]

    def _void_or_doubt(self, appended: Appended, cause: OSError) -> None:
        """Void a record; raise LogInDoubt when it stands and that can't be done now. The next record will do it."""
        try:
            self.void(appended)
        except (LogError, OSError) as error:
            if not self.log.is_cut(appended):
                sequence = appended.record.sequence
                self._doubtful[sequence] = appended
                raise LogInDoubt(f"{self.folder.root}: sync", cause, sequence) from error

    def _late_voids(self) -> list[Draft]:
        """Return what takes back the records that could not be voided in time. Under the append lock."""
        if not self._doubtful:
            return []
        self.log.settle()
        standing = [appended for appended in list(self._doubtful.values()) if not self.log.is_cut(appended)]
        return [Draft(kind=Kind.VOID, number=appended.record.sequence) for appended in standing]

    def _is_crowded(self) -> bool:
        return bool(self._arriving)

    def _observed(self, draft: Draft) -> Draft | None:
        assert self._refs is not None
        changes = []
        for change in draft.refs:
            last = self._refs.value(change.name)
            if last != change.old:
                changes.append(RefChange(change.name, last, change.old))
        return Draft(kind=Kind.OBSERVED, refs=tuple(changes)) if changes else None

    def observe(
        self, changes: Sequence[RefChange], symrefs: Sequence[SymrefChange] = (), *, given_up: int = 0
    ) -> Appended | None:
        """Record what something else has changed; None for nothing. Under the append lock, after `follow`.

        `given_up`: the number of the record whose changes of these refs could not be published.
        """
        if not changes and not symrefs:
            return None
        draft = Draft(kind=Kind.OBSERVED, refs=tuple(changes), symrefs=tuple(symrefs), number=given_up)
        appended = self.log.append([draft])[0]
        self._note(appended)
        return appended

    def void(self, appended: Appended) -> None:
        """Take back a record of which nothing was published. Raises LogError when that can't be made durable."""
        with self.log.append_lock():
            self.log.settle()
            if self.log.is_cut(appended):
                return  # a failed sync has taken it, and its number will be another record's
            self.follow()
            done = self.log.append([Draft(kind=Kind.VOID, number=appended.record.sequence)])[0]
            self._note(done)
        if self.options.durability != NONE:
            self.log.make_durable(done)

    def published(self, appended: Appended) -> None:
        """Note that the repository shows a record, and others for which that failed before."""
        self._unmarked.append(appended.record.sequence)
        done = list(self._unmarked)
        self.log.mark_published(done)
        for sequence in done:
            with suppress(ValueError):  # another thread has marked it, too
                self._unmarked.remove(sequence)

    def expect_late_hooks(self, appended: Appended) -> None:
        """Note that hooks have to be told of this record: should we die before that, somebody else does it."""
        try:
            disk.write_file(self._late_path(appended.record.sequence), b"", mode=self.file_mode, fsync=False)
        except OSError as error:
            log.error("%s: hooks are not told should this process die: %s", self.folder.root, error)

    def late_hooks_done(self, sequences: Sequence[int]) -> None:
        """Note that the hooks of these records were told."""
        for sequence in sequences:
            with suppress(FileNotFoundError):
                disk.unlink(self._late_path(sequence))

    def _late_path(self, sequence: int) -> str:
        return f"{self.folder.late}/{sequence}-{self.log.owner.token.hex()}"

    # Following what other processes append

    @property
    def refs(self) -> LoggedRefs:
        """The refs as of the last `follow`."""
        assert self._refs is not None, "follow() comes first"
        return self._refs

    def follow(self) -> LoggedRefs:
        """Read what has been appended since last time. Under the append lock."""
        tail = self.log.tail()
        if tail is None:
            raise LogError(f"{self.folder.root}: the log has not been recovered")
        last = self.log.lost_after(tail)
        if last is not None:
            self._position = None
            self._read_on(last)
            return self.refs
        if self._position is not None and self._position.ordinal == tail.ordinal:
            count = max(0, tail.next_sequence - 1 - self._position.sequence)
            for located in islice(self.log.iter_after(self._position), count):
                self._take(located)
        if self._position is not None and self._position.sequence == tail.next_sequence - 1:
            if self._position.checksum == tail.checksum:
                return self.refs
            self._position = None  # the log went on in a new segment after a failed sync
        try:
            self._read_on(tail.next_sequence - 1)
        except (LogDamaged, FileNotFoundError):
            if self._position is None:
                raise
            self._position = None  # a checkpoint has retired what we stood on
            self._read_on(tail.next_sequence - 1)
        if self._position is not None and self._position.sequence < tail.next_sequence - 1:
            self._position = None  # it has retired all that came since, so there was nothing to read
            self._read_on(tail.next_sequence - 1)
        return self.refs

    def _read_on(self, last: int) -> None:
        if self._position is None:
            checkpoint = read_checkpoint(self.folder.checkpoint)
            self._refs = LoggedRefs(self.folder.root, checkpoint, self.layout.algo)
            self._position = checkpoint.position if checkpoint is not None else None
        reader = LogReader(self.folder.segments, after=self._position)
        for located in reader:
            if located.record.sequence > last:
                return
            self._take(located)
            if located.record.sequence == last:
                return  # what lies behind it in the segment is nobody's concern: that would all be read

    def _take(self, located: Located) -> None:
        record = located.record
        self.refs.note(record)
        self._position = Position(located.ordinal, located.offset + record.size, record.sequence, record.checksum)

    def _note(self, appended: Appended) -> None:
        record = appended.record
        self.refs.note(record)
        self._position = Position(appended.ordinal, appended.end, record.sequence, record.checksum)

    # Batches

    def _flush_later(self, appended: Appended) -> None:
        self._unflushed.append(appended)  # before the question: who flushes says so before it takes what is there
        if not self._is_flush_due and self.options.later is not None:
            self._is_flush_due = True
            self.options.later(self.options.batch_seconds, self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        unflushed = []
        with suppress(IndexError):  # taken one by one, since two may be here
            while True:
                unflushed.append(self._unflushed.popleft())
        if not unflushed:
            return
        try:
            self.log.make_durable(max(unflushed, key=lambda appended: appended.record.sequence))
        except (GovcError, OSError) as error:
            log.error("%s: acknowledged pushes could not be made durable: %s", self.folder.root, error)


def kept_pack_path(folder: LogFolder, checksum: bytes) -> str:
    """Return where a pack lies that records name by its trailer."""
    return f"{folder.packs}/pack-{checksum.hex()}.pack"
