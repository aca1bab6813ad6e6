"""Appending to a log: by many threads of many processes, with one sync for all that wait.

    append          under the append lock: number, chain, write, move the tail
    make_durable    under the sync lock: nothing to do when somebody's sync has covered the number, else one sync
                    that covers everything appended so far

Two locks, because a sync must not keep others from appending what the next sync will cover. A lock is an flock of a
descriptor of its own, so it excludes threads and processes alike and dies with its process. Order: append lock, then
sync lock; who holds only the sync lock never takes the other.

Room runs out: an end record, a sync, a new segment. A sync fails: nothing is judged by reading back, since the page
cache is clean and wrong by then. The segment is poisoned for everybody; the next append begins a new one, whose header
says with which record the old one ends (the last durable one), and those who waited for the failed sync get
LogFailed.

Everything here blocks. Source: storage rules 12 to 16.
"""

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from govc import disk
from govc.wal.boot import boot_id
from govc.wal.errors import LogError, LogFailed, LogFull, LogInDoubt
from govc.wal.flock import Flocked
from govc.wal.owner import Owner
from govc.wal.place import LogFolder, LogHome
from govc.wal.reader import Located, Position, iter_records, read_record_at
from govc.wal.record import Draft, Kind, Record, make_record
from govc.wal.segment import (
    HEADER_BYTES,
    RESERVE_BYTES,
    SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN,
    SegmentHeader,
    create_segment,
    list_segments,
    read_header,
    segment_path,
)
from govc.wal.state import UNPUBLISHED_MAX, Durability, SharedState, Tail, with_nothing_to_publish

_MAY_USE_RESERVE = frozenset((Kind.VOID, Kind.END, Kind.CHECKPOINT))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Knobs. `bytes_max`: records since the last checkpoint. `file_mode`, `folder_mode`: of what is made here.

    `gather_seconds`: how long a sync waits for the pushes that `is_crowded` knows to be about to append; `sleep`
    waits in the thread that calls. `watch_sync` is told the seconds that each sync took.
    """

    bytes_max: int = 1 << 30
    segment_bytes_min: int = SEGMENT_BYTES_MIN
    segment_bytes_max: int = SEGMENT_BYTES_MAX
    file_mode: int = 0o600
    folder_mode: int = 0o700
    gather_seconds: float = 0.0
    sleep: Callable[[float], None] = time.sleep
    watch_sync: Callable[[float], None] | None = None


class LogStatistics(NamedTuple):
    """What this process has done: for metrics and benchmarks."""

    records: int
    bytes: int
    syncs: int
    sync_seconds: float
    failed_syncs: int
    failed_appends: int

    def since(self, before: "LogStatistics") -> "LogStatistics":
        """Return how much each figure has grown."""
        return LogStatistics._make(now - then for now, then in zip(self, before, strict=True))


class Appended(NamedTuple):
    """A record that was appended, the segment that it went to, and where it ends there."""

    record: Record
    ordinal: int
    end: int


class _Encoded(NamedTuple):
    """A record, its bytes, and where it will end in its segment."""

    encoded: bytes
    record: Record
    end: int


class Log:
    """One repository's log, as one process uses it. Made by `repo.journal`, after recovery."""

    def __init__(
        self, folder: LogFolder, home: LogHome, options: LogOptions, *, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """Open the shared state. OSError. Nothing is read yet."""
        self.folder = folder
        self._home = home
        self._options = options
        self._clock_ns = clock_ns
        self._boot = boot_id()
        self._state = SharedState(folder.state, self._boot, mode=options.file_mode)
        self._owner: Owner | None = None
        self._segment: tuple[int, int, SegmentHeader] | None = None  # (ordinal, descriptor, header) to append to
        self._synced: tuple[int, int] | None = None  # (ordinal, descriptor) to sync: touched under the sync lock only
        self._counts = [0, 0, 0, 0, 0]
        self._sync_seconds = 0.0

    @property
    def owner(self) -> Owner:
        """This process's token; made when first asked for."""
        if self._owner is None:
            self._owner = Owner(self.folder.locks, mode=self._options.file_mode)
        return self._owner

    @property
    def statistics(self) -> LogStatistics:
        """What this process has done."""
        records, size, syncs, failed_syncs, failed_appends = self._counts
        return LogStatistics(records, size, syncs, self._sync_seconds, failed_syncs, failed_appends)

    def close(self) -> None:
        """Let go of everything."""
        _close(self._segment)
        _close(self._synced)
        self._segment = self._synced = None
        if self._owner is not None:
            self._owner.close()
            self._owner = None
        self._state.close()

    def is_current(self) -> bool:
        """Say whether the folder still holds the state that we have open."""
        return self._state.is_at(self.folder.state)

    def tail(self) -> Tail | None:
        """Return the tail as it is now, None when nobody has opened the log since the machine started."""
        return self._state.read_tail() if self._state.read_durability() is not None else None

    def durable(self) -> int:
        """Return the highest durable number that is known."""
        value = self._state.read_durability()
        return value.durable if value is not None else 0

    def lost_after(self, tail: Tail) -> int | None:
        """Return the last record that stands where a failed sync has lost others, which the next append will cut."""
        value = self._state.read_durability()
        return value.durable if value is not None and value.is_poisoned(tail.ordinal) else None

    def iter_after(self, position: Position) -> Iterator[Located]:
        """Yield what was appended, by whomever, behind a position in the segment that is open here; nothing where that
        is another one. Under the append lock. Where it ends before the tail, a `LogReader` tells why.
        """
        if self._segment is None or self._segment[0] != position.ordinal:
            return iter(())
        return iter_records(self._segment[1], self._segment[2].salt, position)

    # Locks

    def append_lock(self) -> Flocked:
        """Hold the append lock: `with log.append_lock(): ...`."""
        return Flocked(f"{self.folder.root}/appending", self._options.file_mode)

    def _sync_lock(self) -> Flocked:
        return Flocked(f"{self.folder.root}/syncing", self._options.file_mode)

    # Starting

    def start(self, position: Position, log_id: bytes, *, torn_bytes: int = 0) -> None:
        """Write the shared state for a log that ends at `position`, everything in it published. Under the append lock.

        `torn_bytes` behind the tail are overwritten with zeros. A position with offset 0 has no segment yet.
        """
        if torn_bytes:
            self._erase(position, torn_bytes)
        durability, tail = self._state.read_durability(), self._state.read_tail()
        self._state.write_durability(
            Durability(
                boot=self._boot,
                durable=position.sequence,
                generation=durability.generation if durability is not None else 0,
            )
        )
        self._state.write_tail(
            Tail(
                boot=self._boot,
                log_id=log_id,
                inode=self._home.inode,
                ordinal=position.ordinal,
                offset=position.offset,
                next_sequence=position.sequence + 1,
                checksum=position.checksum,
                published=position.sequence,
                generation=tail.generation if tail is not None else 0,
            )
        )

    def _erase(self, position: Position, size: int) -> None:
        """Overwrite a torn tail with zeros, durably: it must never come to follow a new record."""
        path = segment_path(self.folder.segments, position.ordinal)
        descriptor = disk.open_file(path, os.O_WRONLY)
        try:
            disk.pwrite_all(descriptor, bytes(size), position.offset)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)

    # Appending

    def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """Append records, together. Under the append lock. Raises LogError; then none of them is in the log."""
        tail = self._tail_or_raise()
        if tail.next_sequence - tail.published + len(drafts) > UNPUBLISHED_MAX:
            raise LogError(f"{self.folder.root}: too many records wait to be published")
        try:
            tail = self._with_segment(self._go_on_after_failure(tail))
            encoded, tail = self._place(drafts, tail)
            tail = with_nothing_to_publish(tail, drafts)
            data = b"".join([one.encoded for one in encoded])
            self._write_records(data, tail)
        except OSError as error:
            self._counts[4] += 1
            raise LogFailed(f"{self.folder.root}: append", error) from error
        self._counts[0] += len(drafts)
        self._counts[1] += len(data)
        return [Appended(one.record, tail.ordinal, one.end) for one in encoded]

    def _write_records(self, data: bytes, tail: Tail) -> None:
        """Write records and move the tail behind them. When the tail can't be moved, they must not stay."""
        descriptor, offset = self._descriptor_of(tail.ordinal), tail.offset - len(data)
        disk.pwrite_all(descriptor, data, offset)
        try:
            self._state.write_tail(tail)
        except OSError:
            try:
                disk.pwrite_all(descriptor, bytes(len(data)), offset)
                disk.sync_data(descriptor)
            except OSError as error:  # the next append overwrites them; a crash before that may find them
                raise LogInDoubt(f"{self.folder.root}: append", error) from error
            raise

    def _with_segment(self, tail: Tail) -> Tail:
        """Make a segment when a checkpoint has retired the last one, or there never was one. Raises LogError when the
        log itself is gone: what lies in its place, if anything, is another one.
        """
        if tail.offset:
            return tail
        if not self.is_current():
            raise LogError(f"{self.folder.root}: the log was retired")
        with suppress(FileExistsError):
            disk.mkdir(self.folder.segments, self._options.folder_mode & 0o777)
            disk.chmod(self.folder.segments, self._options.folder_mode)
            disk.sync_folder(self.folder.root)
        self._begin(tail, self._options.segment_bytes_min, continues=False)
        return self._tail_or_raise()

    def _tail_or_raise(self) -> Tail:
        tail = self._state.read_tail()
        if tail is None:
            raise LogError(f"{self.folder.root}: the log has not been recovered")
        return tail

    def _place(self, drafts: Sequence[Draft], tail: Tail) -> tuple[list[_Encoded], Tail]:
        """Encode the records for where they will lie, in a new segment when the current one has no room.

        Returns them and the tail behind them.
        """
        encoded, after = self._encode(drafts, tail)
        header = self._header_of(tail.ordinal)
        reserve = 0 if {draft.kind for draft in drafts} <= _MAY_USE_RESERVE else RESERVE_BYTES
        if after.offset + reserve <= header.size:
            return encoded, after
        size = sum(one.record.size for one in encoded)
        if tail.log_size + size > self._options.bytes_max:
            raise LogFull(self.folder.root, tail.log_size + size, self._options.bytes_max)
        tail = self._rotate(tail, size)
        return self._encode(drafts, tail)

    def _encode(self, drafts: Sequence[Draft], tail: Tail) -> tuple[list[_Encoded], Tail]:
        salt = self._header_of(tail.ordinal).salt
        durability = self._state.read_durability()
        durable = durability.durable if durability is not None else 0
        offset, sequence, checksum = tail.offset, tail.next_sequence, tail.checksum
        encoded: list[_Encoded] = []
        for draft in drafts:
            record, data = make_record(
                draft,
                sequence=sequence,
                salt=salt,
                durable=min(durable, sequence - 1),
                writer=self.owner.token,
                time_ns=self._clock_ns(),
                previous=checksum,
            )
            checksum = record.checksum
            offset += len(data)
            encoded.append(_Encoded(data, record, offset))
            sequence += 1
        log_size = tail.log_size + offset - tail.offset
        return encoded, tail._replace(offset=offset, next_sequence=sequence, checksum=checksum, log_size=log_size)

    # Segments

    def _header_of(self, ordinal: int) -> SegmentHeader:
        self._descriptor_of(ordinal)
        assert self._segment is not None
        return self._segment[2]

    def _descriptor_of(self, ordinal: int) -> int:
        """Return a descriptor of the current segment."""
        if self._segment is not None and self._segment[0] == ordinal:
            return self._segment[1]
        header = read_header(self.folder.segments, ordinal)
        if header is None:
            raise LogError(f"{segment_path(self.folder.segments, ordinal)}: the header is damaged")
        self._drop_segment()
        descriptor = disk.open_file(segment_path(self.folder.segments, ordinal), os.O_RDWR)
        self._segment = (ordinal, descriptor, header)
        return descriptor

    def _create(self, header: SegmentHeader) -> None:
        create_segment(self.folder.segments, header, mode=self._options.file_mode)

    def _rotate(self, tail: Tail, wanted: int) -> Tail:
        """End the current segment and begin a new one with room for `wanted` bytes; return its tail."""
        old = self._header_of(tail.ordinal)
        encoded, after = self._encode([Draft(kind=Kind.END)], tail)
        if after.offset <= old.size:
            disk.pwrite_all(self._descriptor_of(tail.ordinal), encoded[0].encoded, tail.offset)
            self._state.write_tail(after.with_published(after.next_sequence - 1))
            tail = self._tail_or_raise()
        self._sync_up_to(tail.next_sequence - 1)
        durability = self._state.read_durability()
        if durability is not None and durability.is_poisoned(tail.ordinal):
            return self._go_on_after_failure(tail)
        filled_fast = self._clock_ns() - old.time_ns < 600_000_000_000
        size = min(old.size * 2 if filled_fast else old.size, self._options.segment_bytes_max)
        size = max(size, self._options.segment_bytes_min, _round_up(wanted + HEADER_BYTES + 2 * RESERVE_BYTES))
        self._begin(tail, size, continues=False)
        return self._tail_or_raise()

    def _begin(self, tail: Tail, size: int, *, continues: bool) -> None:
        """Make the segment after `tail` and move the tail into it."""
        ordinal = max([tail.ordinal, *list_segments(self.folder.segments)]) + 1
        header = SegmentHeader(
            algo=self._home.algo,
            log_id=tail.log_id,
            inode=self._home.inode,
            salt=secrets.token_bytes(8),
            ordinal=ordinal,
            first_sequence=tail.next_sequence,
            size=size,
            time_ns=self._clock_ns(),
            previous=tail.checksum,
            continues=continues,
        )
        self._create(header)
        self._state.write_tail(
            tail._replace(ordinal=ordinal, offset=HEADER_BYTES, generation=self._tail_or_raise().generation)
        )

    def _go_on_after_failure(self, tail: Tail) -> Tail:
        """Begin a new segment when a sync of the current one has failed; return the tail to append to.

        The old one ends with the last durable record; what came after never happened. Under the append lock.
        """
        durability = self._state.read_durability()
        if durability is None or not durability.is_poisoned(tail.ordinal):
            return tail
        old = self._header_of(tail.ordinal)
        sequence = durability.durable
        kept = max(0, sequence - tail.published)
        cut = tail._replace(
            next_sequence=sequence + 1,
            checksum=self._checksum_of(tail.ordinal, old, sequence),
            published=min(tail.published, sequence),
            published_after=tail.published_after & ((1 << kept) - 1),
        )
        self._begin(cut, old.size, continues=True)
        with self._sync_lock():
            now = self._state.read_durability() or durability
            begun = self._tail_or_raise()
            self._state.write_durability(now.with_cut(begun.ordinal)._replace(syncing=0))
        return begun

    def _checksum_of(self, ordinal: int, header: SegmentHeader, sequence: int) -> bytes:
        """Return the checksum of a durable record of a segment (or of the one before its first)."""
        if sequence < header.first_sequence:
            return header.previous
        descriptor = self._descriptor_of(ordinal)
        offset = HEADER_BYTES
        while (record := read_record_at(descriptor, offset, header.salt)) is not None:
            if record.sequence == sequence:
                return record.checksum
            offset += record.size
        raise LogError(f"{segment_path(self.folder.segments, ordinal)}: record {sequence} can not be read")

    # Durability

    def make_durable(self, appended: Appended, is_crowded: Callable[[], bool] | None = None) -> None:
        """Return when that record is on the disk. Raises LogFailed when a sync that had to cover it has failed.

        `is_crowded` says that others are about to append: then the sync waits for them, up to `gather_seconds`.
        """
        self._make_durable(appended.ordinal, appended.record.sequence, is_crowded)

    def make_durable_up_to(self, position: Position) -> None:
        """The same for the record before a position: no checkpoint may stand on what a failed sync takes back."""
        self._make_durable(position.ordinal, position.sequence)

    def _make_durable(self, ordinal: int, sequence: int, is_crowded: Callable[[], bool] | None = None) -> None:
        with self._sync_lock():
            if self._is_durable(ordinal, sequence):
                return
            if is_crowded is not None:
                self._gather(is_crowded)
            self._sync_holding_lock(sequence)
            if self._is_durable(ordinal, sequence):
                return
        self._cut_now()
        raise LogFailed(f"{self.folder.root}: sync", OSError(errno.EIO, "a sync of the log has failed"))

    def _gather(self, is_crowded: Callable[[], bool]) -> None:
        until = time.monotonic() + self._options.gather_seconds
        while is_crowded() and time.monotonic() < until:
            self._options.sleep(0.001)

    def _is_durable(self, ordinal: int, sequence: int) -> bool:
        """Say whether a record is durable, and wasn't lost."""
        known = self._state.read_durability()
        return known is not None and known.durable >= sequence and not known.is_cut(ordinal, sequence)

    def _cut_now(self) -> None:
        """After a failed sync, make the log end durably before what was lost, so that it can be refused for good."""
        with self.append_lock():
            self.settle()

    def settle(self) -> None:
        """Cut what a failed sync has lost, if nobody has yet. Under the append lock. Raises LogInDoubt."""
        try:
            self._go_on_after_failure(self._tail_or_raise())
        except OSError as error:
            raise LogInDoubt(f"{self.folder.root}: going on after a failed sync", error) from error

    def is_cut(self, appended: Appended) -> bool:
        """Say whether a failed sync has taken a record: it never happened."""
        durability = self._state.read_durability()
        return durability is not None and durability.is_cut(appended.ordinal, appended.record.sequence)

    def _sync_up_to(self, sequence: int) -> None:
        """Make everything up to `sequence` durable; a failure poisons the segment and isn't raised."""
        with self._sync_lock():
            self._sync_holding_lock(sequence)

    def _sync_holding_lock(self, sequence: int) -> None:
        durability = self._state.read_durability()
        tail = self._state.read_tail()
        if durability is None or tail is None:
            raise LogError(f"{self.folder.root}: the log has not been recovered")
        if durability.syncing:  # who held this lock before has died in its sync
            durability = self._state.write_durability(durability._replace(poisoned=durability.syncing, syncing=0))
        if durability.durable >= sequence or durability.is_poisoned(tail.ordinal) or not tail.offset:
            return
        target = tail.next_sequence - 1
        # With the cut that somebody made who was killed before he could write it down: nothing was synced since.
        durability = self._state.write_durability(durability.with_cut(tail.ordinal)._replace(syncing=tail.ordinal))
        started = time.perf_counter()
        try:
            disk.sync_data(self._descriptor_for_sync(tail.ordinal))
        except OSError:
            self._counts[3] += 1
            self._state.write_durability(durability._replace(syncing=0, poisoned=tail.ordinal))
            return
        self._counts[2] += 1
        seconds = time.perf_counter() - started
        self._sync_seconds += seconds
        if self._options.watch_sync is not None:
            self._options.watch_sync(seconds)
        self._state.write_durability(durability._replace(durable=target, syncing=0))

    def _descriptor_for_sync(self, ordinal: int) -> int:
        """Return a descriptor for syncing: a rotation may close the one for appending meanwhile."""
        if self._synced is None or self._synced[0] != ordinal:
            old, self._synced = self._synced, None
            _close(old)
            self._synced = (ordinal, disk.open_file(segment_path(self.folder.segments, ordinal), os.O_RDWR))
        return self._synced[1]

    # Publishing

    def mark_published(self, sequences: Sequence[int]) -> None:
        """Note that the repository shows these records."""
        with self.append_lock():
            tail = self._tail_or_raise()
            for sequence in sequences:
                tail = tail.with_published(sequence)
            self._state.write_tail(tail)

    def checkpoint_done(self, size: int, *, is_closed: bool = False) -> None:
        """Note that `size` bytes of records no longer count for the cap. Under the append lock.

        `is_closed`: the checkpoint covers everything, and the segments are about to be removed.
        """
        tail = self._tail_or_raise()
        tail = tail._replace(log_size=max(0, tail.log_size - size))
        self._state.write_tail(tail._replace(offset=0) if is_closed else tail)
        if is_closed:
            with self._sync_lock():
                durability = self._state.read_durability()
                if durability is not None:
                    durability = durability.with_cut(tail.ordinal)
                    self._state.write_durability(durability._replace(durable=tail.next_sequence - 1, poisoned=0))
            self._drop_segment()

    def let_go_of_retired(self) -> bool:
        """Close what is open here of a segment that a checkpoint has removed, in whichever process: its bytes are the
        disk's again once nobody has it open. Returns whether one that is in use is open. Blocks. OSError.
        """
        if _is_removed(self._segment):
            with self.append_lock():
                if _is_removed(self._segment):
                    self._drop_segment()
        if _is_removed(self._synced):
            with self._sync_lock():
                if _is_removed(self._synced):
                    synced, self._synced = self._synced, None
                    _close(synced)
        return self._segment is not None or self._synced is not None

    def _drop_segment(self) -> None:
        segment, self._segment = self._segment, None
        _close(segment)


_Held = tuple[int, int] | tuple[int, int, SegmentHeader] | None


def _is_removed(held: _Held) -> bool:
    """Tell whether a segment that is open here has no name any more. OSError when another thread has just closed it."""
    return held is not None and os.fstat(held[1]).st_nlink == 0


def _close(held: _Held) -> None:
    if held is not None:
        disk.close(held[1])


def _round_up(size: int) -> int:
    return -(-size // 65536) * 65536
