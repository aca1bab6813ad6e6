"""Reading a log: records in order, and what the end of it is.

A record counts when its checksum is right, its number is the next one, its `previous` is the checksum of the one before
and its salt is the segment's. Where that ends is the tail. What follows the tail is one of

    nothing      zeros, or bytes of an earlier life of the file
    a torn tail  the beginning of a record, or a record whose predecessor is missing: an append that no sync had
                 covered when the power went. It was never acknowledged, so it is cut off.
    damage       a record that was durable and is wrong now. Which ones were durable is told by every later whole
                 record (`durable` in its header), by the next segment's header and by the checkpoint. Then reading
                 stops with LogDamaged: nothing is guessed.

Source: storage rules 16, 20; docs/formats/log.md.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from govc.wal.errors import LogDamaged
from govc.wal.record import HEADER, MAGIC, BadRecord, Record, decode_record, peek_frame
from govc.wal.segment import HEADER_BYTES, SegmentHeader, list_segments, read_header, segment_path

_SEARCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log: behind the record `sequence`, whose checksum is `checksum`."""

    ordinal: int
    offset: int
    sequence: int
    checksum: bytes


@dataclass(frozen=True, slots=True)
class Located:
    """A record and where it begins."""

    record: Record
    ordinal: int
    offset: int


@dataclass(frozen=True, slots=True)
class LogEnd:
    """How reading ended: the tail, the header of its segment, and how many bytes of a torn tail follow."""

    position: Position
    header: SegmentHeader
    torn_bytes: int = 0
    torn_sequence: int = 0


class LogReader:
    """Reads a log from its oldest segment, or from a position, to its end.

    Iterate for `Located` records; `end` is there afterwards. `durable` is the highest number that is known to have been
    durable (by a checkpoint, by the shared state), from before reading.
    """

    def __init__(self, folder: str, *, durable: int = 0, after: Position | None = None, strict: bool = True) -> None:
        """`folder` is govc/log. With `strict` off, damage ends the reading like a tail (for tools that look at it)."""
        self._folder = folder
        self._durable = durable
        self._after = after
        self._strict = strict
        self.end: LogEnd | None = None
        self.damage: LogDamaged | None = None

    def __iter__(self) -> Iterator[Located]:
        ordinals = list_segments(self._folder)
        if self._after is not None:
            ordinals = [n for n in ordinals if n >= self._after.ordinal]
        headers = [(n, read_header(self._folder, n)) for n in ordinals]
        position: Position | None = self._after
        for index, (ordinal, header) in enumerate(headers):
            path = segment_path(self._folder, ordinal)
            if header is None:
                error = LogDamaged(path, 0, "the segment's header", safe_up_to=position.sequence if position else 0)
                self._stop(error)
                return
            if position is None:
                position = Position(ordinal, HEADER_BYTES, header.first_sequence - 1, header.previous)
            elif position.ordinal != ordinal:
                if header.first_sequence != position.sequence + 1 or header.previous != position.checksum:
                    reason = f"begins after record {header.first_sequence - 1}, the one before it ends at another one"
                    self._stop(LogDamaged(path, 0, reason, safe_up_to=position.sequence))
                    return
                position = Position(ordinal, HEADER_BYTES, position.sequence, position.checksum)
            following = headers[index + 1][1] if index + 1 < len(headers) else None
            until = following.first_sequence if following is not None else None
            for located in self._read_segment(path, header, position, until):
                yield located
                record = located.record
                offset = located.offset + record.size
                position = Position(ordinal, offset, record.sequence, record.checksum)
            if until is not None and position.sequence < until - 1:
                reason = f"record {position.sequence + 1} is missing or damaged"
                self._stop(LogDamaged(path, position.offset, reason, safe_up_to=position.sequence))
                return
            self._end(path, position, header, is_last=following is None)
            if self.damage is not None:
                return

    def _stop(self, error: LogDamaged) -> None:
        if self._strict:
            raise error
        self.damage = error

    def _read_segment(
        self, path: str, header: SegmentHeader, position: Position, until: int | None
    ) -> Iterator[Located]:
        """Yield whole records from `position` on, up to the first that isn't one (or is `until`)."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield from iter_records(descriptor, header.salt, position, until)
        finally:
            os.close(descriptor)

    def _end(self, path: str, position: Position, header: SegmentHeader, *, is_last: bool) -> None:
        """Look at what follows the tail: tell a torn one from damage."""
        if not is_last:
            self.end = LogEnd(position, header)
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            torn, attested = _look_behind(descriptor, position, header)
            if torn and next(iter_records(descriptor, header.salt, position), None) is not None:
                torn = attested = 0  # who reads without the append lock looked for it before it was written
        finally:
            os.close(descriptor)
        durable = max(self._durable, attested)
        if durable > position.sequence:
            reason = f"record {position.sequence + 1} was durable and is missing or damaged"
            self._stop(LogDamaged(path, position.offset, reason, safe_up_to=position.sequence))
        self.end = LogEnd(position, header, torn, position.sequence + 1 if torn else 0)


def iter_records(descriptor: int, salt: bytes, position: Position, until: int | None = None) -> Iterator[Located]:
    """Yield the whole records of an open segment from `position` on, up to the first that isn't one (or is `until`)."""
    offset, sequence, checksum = position.offset, position.sequence, position.checksum
    while until is None or sequence + 1 < until:
        record = read_record_at(descriptor, offset, salt)
        if record is None or record.sequence != sequence + 1 or record.previous != checksum:
            return
        yield Located(record, position.ordinal, offset)
        offset += record.size
        sequence, checksum = record.sequence, record.checksum


def read_record_at(descriptor: int, offset: int, salt: bytes) -> Record | None:
    """Return the whole record of that segment at `offset`, None when there is none."""
    frame = peek_frame(os.pread(descriptor, HEADER.size, offset))
    if frame is None or frame.salt != salt:
        return None
    data = os.pread(descriptor, frame.length, offset)
    try:
        return decode_record(data)
    except BadRecord:
        return None


def _look_behind(descriptor: int, position: Position, header: SegmentHeader) -> tuple[int, int]:
    """Return (bytes from the tail to the end of what was written after it, highest number attested as durable).

    Every header of a record of this segment is looked for, wherever it stands; only whole records attest.
    """
    size = os.fstat(descriptor).st_size
    start = position.offset
    last = start
    attested = 0
    offset = start
    keep = len(MAGIC) - 1
    while offset < size:
        chunk = os.pread(descriptor, _SEARCH_BYTES + keep, offset)
        if not chunk:
            break
        found = chunk.find(MAGIC)
        while found >= 0:
            at = offset + found
            record = read_record_at(descriptor, at, header.salt)
            if record is not None and record.sequence > position.sequence:
                attested = max(attested, record.durable)
                last = max(last, at + record.size)
            found = chunk.find(MAGIC, found + 1)
        offset += _SEARCH_BYTES
    if last == start and any(os.pread(descriptor, HEADER.size, start)):
        frame = peek_frame(os.pread(descriptor, HEADER.size, start))
        if frame is None or frame.salt == header.salt:
            last = min(size, start + (frame.length if frame is not None else HEADER.size))
    return last - start, attested
