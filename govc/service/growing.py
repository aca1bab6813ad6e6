"""Bodies of clones that grow: what was sent before a push, the objects that the push added, a new trailer.

    head, progress       said anew
    first data packet    the old one with the new count in the pack's header; nothing is moved
    the old packets      borrowed as they lie (`cache.grown`), up to the one that the old trailer begins in
    the rest of them     their entries, without the trailer; the entries of what was added; the trailer of all
    progress, tail       said anew

The trailer is a hash over the whole pack, so all old bytes are read and hashed: that is the price, and nearly all of
it. What is added are the entries of an incremental fetch (`repo.pack_growth`): deltas by name on objects that the old
pack holds, never the other way round, so no cycle can come of it. Each later push is added behind the others: a push
that only adds supersedes nothing. Only since deltas on deltas become long chains is a body made anew after TIMES_MAX.

An `Outline` is noted with each body that others may grow out of, under the name of its *line*: the key of a body
without what a push changes or what makes no difference to the pack's bytes. Who sees which refs is in it, as in the
key.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from govc.cache.grown import Borrowed, Whole
from govc.cache.span import FramedSpan
from govc.errors import Corrupt
from govc.pack.format import PACK_HEADER_SIZE, encode_pack_header
from govc.protocol.oid import HashAlgorithm
from govc.protocol.pktline import HEADER_SIZE, MAX_PACKET
from govc.protocol.sideband import OVERHEAD, Band, frame
from govc.repo.pack_growth import WantsBefore, can_grow, candidate_tags
from govc.repo.pack_plan import PackPlan
from govc.repo.stored_packing import READ_BYTES, WINDOW_BYTES

_FORM = 1
_OUTLINE = struct.Struct(">BQQQIII")
PIECE_BYTES = 1 << 20
TIMES_MAX = 50
"""So often a body may grow before it is made anew: each time a chain of deltas may become longer by what a push brings,
and clients read through those chains. It is the depth at which git itself ends a chain."""

NAMES_MAX = 200_000
"""With more wants and tags than this nothing is noted: the note would be several megabytes."""


class Outline(NamedTuple):
    """Where the pack lies in a body, and what it was made for. Positions are those of packets.

    `data_at`: its first packet. `rest_at`: the one that the trailer begins in, or one before. `end_at`: behind the
    last. `times`: how often the body has grown.
    """

    data_at: int
    rest_at: int
    end_at: int
    object_count: int
    times: int
    trailer: bytes
    before: WantsBefore


def line_plan(plan: PackPlan) -> PackPlan | None:
    """Return what all plans of one line have in common; None for a plan whose bodies can't grow."""
    if not can_grow(plan):
        return None
    return replace(plan, wants=(), include_tags={}, thin=False, progress=False)


def encode_outline(outline: Outline) -> bytes:
    """Return the note."""
    wants, tags = sorted(outline.before.wants), sorted(outline.before.tags)
    numbers = (outline.data_at, outline.rest_at, outline.end_at, outline.object_count, outline.times, len(wants))
    return b"".join((_OUTLINE.pack(_FORM, *numbers), outline.trailer, *wants, *tags))


def decode_outline(note: bytes, algo: HashAlgorithm) -> Outline | None:
    """Return what a note says, None for one of another form."""
    size = algo.oid_size
    if len(note) < _OUTLINE.size + size or (len(note) - _OUTLINE.size) % size or note[0] != _FORM:
        return None
    _, data_at, rest_at, end_at, count, times, want_count = _OUTLINE.unpack_from(note)
    names = [note[at : at + size] for at in range(_OUTLINE.size, len(note), size)]
    before = WantsBefore(frozenset(names[1 : 1 + want_count]), frozenset(names[1 + want_count :]))
    return Outline(data_at, rest_at, end_at, count, times, names[0], before)


def iter_packets_at(data: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each whole packet of a side band. Raises Corrupt for what is none."""
    at, end = 0, len(data)
    while at + OVERHEAD <= end:
        try:
            size = int(bytes(data[at : at + HEADER_SIZE]), 16)
        except ValueError:
            size = 0
        if size < OVERHEAD:
            raise Corrupt("a cached body is no side band")
        if at + size > end:
            return
        yield at, at + size
        at += size


def unframe(data: bytes) -> bytes:
    """Return what the packets of band 1 carry."""
    view = memoryview(data)
    return b"".join(view[a + OVERHEAD : b] for a, b in iter_packets_at(data) if data[a + HEADER_SIZE] == Band.DATA)


class Outliner:
    """Notes where the parts of a body come to lie, while it is made."""

    def __init__(self) -> None:
        self._at = 0
        self._data_at = -1
        self._count = 0
        self.times = 0
        """How often the body has grown."""
        self._last: list[tuple[int, bytes | FramedSpan]] = []

    def said(self, size: int) -> None:
        """So many bytes went out that carry no pack data."""
        self._at += size

    def sent(self, piece: bytes | Borrowed | FramedSpan) -> None:
        """Whole packets of pack data went out. OSError when the file that they lie in ends early."""
        if self._data_at < 0 and not isinstance(piece, Borrowed):
            first = piece if isinstance(piece, bytes) else piece.first_packet()
            self._data_at = self._at
            self._count = int.from_bytes(first[OVERHEAD + 8 : OVERHEAD + PACK_HEADER_SIZE], "big")
        before = self._last[-1:] if isinstance(piece, bytes) else []
        self._last = [*before, (self._at, piece)] if not isinstance(piece, Borrowed) else []
        self._at += len(piece)

    def outline(self, plan: PackPlan, algo: HashAlgorithm) -> Outline | None:
        """Return what there is to note; None when it is too much, or the pack too short for anything to be kept.

        OSError when a file whose packets went out has become shorter.
        """
        before = WantsBefore(frozenset(plan.wants), frozenset(candidate_tags(plan)))
        if not self._last or len(before.wants) + len(before.tags) > NAMES_MAX:
            return None
        ends = [piece if isinstance(piece, bytes) else piece.last_packets(2) for _, piece in self._last]
        at, piece = self._last[0]
        first_at = at + len(piece) - len(ends[0])
        data = b"".join(ends)
        carried = 0
        for start, end in reversed(list(iter_packets_at(data))):
            carried += end - start - OVERHEAD
            if carried >= algo.oid_size and first_at + start > self._data_at:
                trailer = unframe(data)[-algo.oid_size :]
                return Outline(
                    self._data_at, first_at + start, first_at + len(data), self._count, self.times, trailer, before
                )
        return None


class Growth:
    """One body in the making: `before` is what lies in the cache, `added` yields a pack of what it lacks."""

    def __init__(self, body: Whole, outline: Outline, algo: HashAlgorithm, call_blocking: Callable[..., Any]) -> None:
        """Raises Corrupt or OSError when the body isn't the one that was outlined."""
        self._body = body
        self._outline = outline
        self._algo = algo
        self._call_blocking = call_blocking
        self._hasher = algo.new()
        self._buffer = bytearray(READ_BYTES)
        self._count = 0
        self._waiting = b""
        start = body.read(outline.data_at, min(outline.data_at + (1 << 16), outline.rest_at))
        self._first = next((start[:end] for _, end in iter_packets_at(start)), b"")
        rest = unframe(body.read(outline.rest_at, outline.end_at))
        header = encode_pack_header(outline.object_count)
        is_first = self._first[HEADER_SIZE : OVERHEAD + PACK_HEADER_SIZE] == bytes((Band.DATA,)) + header
        if not is_first or rest[-algo.oid_size :] != outline.trailer:
            raise Corrupt("a cached body isn't what was noted of it")
        self._rest = rest[: -algo.oid_size]

    def count_with(self, added: Iterator[Any]) -> int:
        """Return how many objects the new pack holds; to be asked before the pieces."""
        first = next(chunk for chunk in added if isinstance(chunk, bytes))
        self._waiting = first[PACK_HEADER_SIZE:]
        self._count = self._outline.object_count + int.from_bytes(first[8:PACK_HEADER_SIZE], "big")
        return self._count

    def iter_pieces(self, added: Iterator[Any], side_band: int) -> Iterator[bytes | Borrowed]:
        """Yield packets of pack data. Raises Corrupt, OSError, and what `added` raises."""
        size = self._algo.oid_size
        header = encode_pack_header(self._count)
        first = self._first[:OVERHEAD] + header + self._first[OVERHEAD + PACK_HEADER_SIZE :]
        self._hasher.update(memoryview(first)[OVERHEAD:])
        yield first
        at = self._outline.data_at + len(first)
        while at < self._outline.rest_at:
            end = self._call_blocking(self._hash_window, at)
            yield Borrowed(self._body, at, end)
            at = end
        pending, waiting = self._rest, self._waiting
        for chunk in added:
            if isinstance(chunk, bytes):
                pending += waiting[:-size]
                waiting = waiting[-size:] + chunk
                if len(pending) >= PIECE_BYTES:
                    self._hasher.update(pending)
                    yield frame(Band.DATA, pending, side_band)
                    pending = b""
        pending += waiting[:-size]
        self._hasher.update(pending)
        yield frame(Band.DATA, pending + self._hasher.digest(), side_band)

    def _hash_window(self, at: int) -> int:
        """Hash the next old packets; return where they end."""
        window_end = min(at + WINDOW_BYTES, self._outline.rest_at)
        view = memoryview(self._buffer)
        while at < window_end:
            data = view[: self._body.read_into(at, view[: window_end - at])]
            done = 0
            for start, end in iter_packets_at(data):
                if data[start + HEADER_SIZE] == Band.DATA:
                    self._hasher.update(data[start + OVERHEAD : end])
                done = end
            if not done and window_end - at < MAX_PACKET and window_end < self._outline.rest_at:
                break  # the next packet goes beyond this window
            if not done:
                raise Corrupt("a cached body isn't what was noted of it")
            at += done
        return at
