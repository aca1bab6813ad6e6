"""What the processes of one machine share about a log: `govc/state`, never synced.

      0  512  tail, first copy       1024  512  durability, first copy
    512  512  tail, second copy      1536  512  durability, second copy

    tail         where the next record goes, its number, what is published; written under the append lock
    durability   up to which record the log is on the disk, whether a sync is under way or has failed, and where the
                 log was cut after a failure; written under the sync lock

Each is written twice in turn with a counter and a checksum, so that a process killed in the middle of writing leaves
the other copy. Both are read at once, and parsed only when they differ from what this process read or wrote last: a
push asks a dozen times. The boot id says whether the page cache that holds all this is still the one it was written
to: after a restart of the machine nothing in this file counts.

Published: all up to `published`, and those whose bit is set in `published_after` (bit i: number published + 1 + i).
A record is published when the native repository shows it, or when it has nothing to show.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from govc import disk
from govc.wal.record import Draft, Kind

FILE_BYTES = 2048
_TAIL = struct.Struct(">Q16sQQQ32sQQ16sQ256s")
_DURABILITY = struct.Struct(">Q16sQQQ8Q8Q")
_COPY_BYTES = 512
_TAIL_OFFSETS = (0, 512)
_DURABILITY_OFFSETS = (1024, 1536)
CUTS_MAX = 8
UNPUBLISHED_MAX = 256 * 8
_LAYOUT = zlib.crc32(b"govc state 2")
"""Begins each checksum: what another version of govc has written counts for nothing."""


class Tail(NamedTuple):
    """The end of the log. `log_size` is the number of bytes in records since the last checkpoint.

    `inode` is that of the repository's folder: a copy of the folder has another.
    """

    boot: bytes
    log_id: bytes
    inode: int
    ordinal: int
    offset: int
    next_sequence: int
    checksum: bytes
    published: int
    log_size: int = 0
    published_after: int = 0
    generation: int = 0

    @property
    def is_all_published(self) -> bool:
        """Say whether no record waits to be published."""
        return self.published == self.next_sequence - 1

    def unpublished(self) -> list[int]:
        """Return the numbers of records that wait to be published."""
        first = self.published + 1
        return [n for n in range(first, self.next_sequence) if not self.published_after >> (n - first) & 1]

    def with_published(self, sequence: int) -> "Tail":
        """Return the tail with one more record published."""
        if sequence <= self.published:
            return self
        bits = self.published_after | 1 << (sequence - self.published - 1)
        published = self.published
        while bits & 1:
            bits >>= 1
            published += 1
        return self._replace(published=published, published_after=bits)


class Durability(NamedTuple):
    """`durable`: the highest synced number. `poisoned`: ordinal of a segment whose sync has failed, 0 for none.

    `syncing`: ordinal of the segment that is being synced. Found by who holds the sync lock it says that a process died
    in its sync, and nobody knows how that ended: as bad as a failure. `cuts`: the last times that the log went on after
    a failure, as (ordinal of the segment that was cut, number of its last record that counts).
    """

    boot: bytes
    durable: int
    poisoned: int = 0
    syncing: int = 0
    cuts: tuple[tuple[int, int], ...] = ()
    generation: int = 0

    def is_poisoned(self, ordinal: int) -> bool:
        """Say whether nothing may be appended to that segment any more."""
        return ordinal != 0 and self.poisoned == ordinal

    def is_cut(self, ordinal: int, sequence: int) -> bool:
        """Say whether a record, appended to that segment, was lost in a failed sync."""
        return any(ordinal == cut and sequence > last for cut, last in self.cuts)

    def with_cut(self, ordinal: int) -> "Durability":
        """Return it with the cut of a poisoned segment noted, where the log has gone on in the segment `ordinal`."""
        if self.poisoned in (0, ordinal):
            return self
        return self._replace(poisoned=0, cuts=(*self.cuts, (self.poisoned, self.durable))[-CUTS_MAX:])


class SharedState:
    """The open file. The caller holds the lock that a method names."""

    _tail: tuple[bytes, Tail | None] = (b"", None)  # the bytes that were read last, and what they mean
    _durability: tuple[bytes, Durability | None] = (b"", None)

    def __init__(self, path: str, boot: bytes, *, mode: int = 0o600) -> None:
        """Open, creating when there is none. OSError."""
        self._boot = boot
        self._descriptor = disk.open_with_mode(path, os.O_RDWR | os.O_CREAT, mode)
        if os.fstat(self._descriptor).st_size < FILE_BYTES:
            # Its blocks are taken now: later, on a full disk, it has to be writable.
            disk.pwrite_all(self._descriptor, bytes(1), FILE_BYTES - 1)

    def close(self) -> None:
        """Close."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            disk.close(descriptor)

    def is_at(self, path: str) -> bool:
        """Say whether the open file is the one at `path`."""
        try:
            found = os.stat(path)
        except OSError:
            return False
        ours = os.fstat(self._descriptor)
        return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)

    def read_tail(self) -> Tail | None:
        """Return the tail, None when nobody has written one since the machine started."""
        data = self._read(_TAIL_OFFSETS)
        known = self._tail
        if data != known[0]:
            known = self._tail = data, self._parse_tail(data)
        return known[1]

    def _parse_tail(self, data: bytes) -> Tail | None:
        found = self._copies(_TAIL, data)
        if not found:
            return None
        generation, boot, ordinal, offset, sequence, checksum, published, size, log_id, inode, bits = max(found)
        return Tail(
            boot=boot,
            log_id=log_id,
            inode=inode,
            ordinal=ordinal,
            offset=offset,
            next_sequence=sequence,
            checksum=checksum,
            published=published,
            log_size=size,
            published_after=int.from_bytes(bits, "little"),
            generation=generation,
        )

    def write_tail(self, tail: Tail) -> None:
        """Write the tail. Under the append lock."""
        generation = tail.generation + 1
        packed = _TAIL.pack(
            generation,
            self._boot,
            tail.ordinal,
            tail.offset,
            tail.next_sequence,
            tail.checksum,
            tail.published,
            tail.log_size,
            tail.log_id,
            tail.inode,
            tail.published_after.to_bytes(256, "little"),
        )
        offset = _TAIL_OFFSETS[generation % 2]
        written = self._write(packed, offset)
        known = _with_copy(self._tail[0], written, offset - _TAIL_OFFSETS[0])
        self._tail = known, tail._replace(boot=self._boot, generation=generation)

    def read_durability(self) -> Durability | None:
        """Return how far the log is durable, None when nobody has told since the machine started."""
        data = self._read(_DURABILITY_OFFSETS)
        known = self._durability
        if data != known[0]:
            known = self._durability = data, self._parse_durability(data)
        return known[1]

    def _parse_durability(self, data: bytes) -> Durability | None:
        found = self._copies(_DURABILITY, data)
        if not found:
            return None
        generation, boot, durable, poisoned, syncing, *cuts = max(found)
        pairs = zip(cuts[:CUTS_MAX], cuts[CUTS_MAX:], strict=True)
        return Durability(
            boot=boot,
            durable=durable,
            poisoned=poisoned,
            syncing=syncing,
            cuts=tuple(pair for pair in pairs if pair[0]),
            generation=generation,
        )

    def write_durability(self, value: Durability) -> Durability:
        """Write how far the log is durable; return it as it stands now. Under the sync lock."""
        generation = value.generation + 1
        cuts = [*value.cuts[-CUTS_MAX:], *[(0, 0)] * CUTS_MAX][:CUTS_MAX]
        numbers = [ordinal for ordinal, _ in cuts] + [sequence for _, sequence in cuts]
        packed = _DURABILITY.pack(generation, self._boot, value.durable, value.poisoned, value.syncing, *numbers)
        offset = _DURABILITY_OFFSETS[generation % 2]
        written = self._write(packed, offset)
        known = _with_copy(self._durability[0], written, offset - _DURABILITY_OFFSETS[0])
        kept = tuple([pair for pair in cuts if pair[0]])
        stands = Durability(self._boot, value.durable, value.poisoned, value.syncing, kept, generation)
        self._durability = known, stands
        return stands

    def _read(self, offsets: tuple[int, int]) -> bytes:
        return os.pread(self._descriptor, 2 * _COPY_BYTES, offsets[0])

    def _copies(self, layout: struct.Struct, data: bytes) -> list[tuple[Any, ...]]:
        """Return the copies that are whole and of this boot. What an earlier boot has written is not even older."""
        pieces = (data[:_COPY_BYTES], data[_COPY_BYTES:])
        found = [values for piece in pieces if (values := _unpack(layout, piece)) is not None]
        return [values for values in found if values[1] == self._boot]

    def _write(self, packed: bytes, offset: int) -> bytes:
        written = packed + zlib.crc32(packed, _LAYOUT).to_bytes(4, "big")
        disk.pwrite_all(self._descriptor, written, offset)
        return written


def _with_copy(data: bytes, written: bytes, at: int) -> bytes:
    """Return the bytes of both copies as they are now, if they were `data`; the next reading tells whether they are."""
    return data[:at] + written + data[at + len(written) :]


def _unpack(layout: struct.Struct, piece: bytes) -> tuple[Any, ...] | None:
    """Return what one copy says, None when it is not whole."""
    packed = piece[: layout.size]
    if zlib.crc32(packed, _LAYOUT).to_bytes(4, "big") != piece[layout.size : layout.size + 4]:
        return None
    values = layout.unpack(packed)
    return values if values[0] else None


def peek_tail(path: str, boot: bytes) -> Tail | None:
    """Return the tail without making the file, None when there is none of this boot. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    state = SharedState.__new__(SharedState)
    state._boot, state._descriptor = boot, descriptor
    try:
        return state.read_tail()
    finally:
        os.close(descriptor)


def with_nothing_to_publish(tail: Tail, drafts: Sequence[Draft]) -> Tail:
    """Return the tail behind `drafts` with those noted as published that have nothing to show."""
    for number, draft in enumerate(drafts, tail.next_sequence - len(drafts)):
        if draft.kind is not Kind.CHANGE:
            tail = tail.with_published(number)
        if draft.kind is Kind.VOID:
            tail = tail.with_published(draft.number)
    return tail
