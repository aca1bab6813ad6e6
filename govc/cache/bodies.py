"""The cache of bodies, as a service asks it: give me the body with this key, and if need be this is how it is made.

    serve(request) →  the whole body, from its file                          hit
                      a flight of this process, or of another, is followed   follow
                      a flight is begun, and followed                        miss
                      it is produced for this reader alone                   direct: no key, no folder, no room
                      a stored file is sent, nothing is kept             stored: nobody asked for it before

What comes out are packets as bytes, and `FileSpan`s of packets that lie in a file. While a follower waits,
`keepalive` goes out after each `quiet_seconds` of silence. An error of a production comes out as it is when it was
direct, and as `FlightFailed` when it was shared.

A body is kept when it is worth it: at least WORTH_BYTES, or WORTH_SECONDS of work. What the key has to hold, and
whether the caller may see the body, is the caller's affair, before he asks.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

from govc.cache.flight import (
    SPAN_BYTES,
    Dropped,
    Flight,
    FlightFailed,
    Follower,
    Piece,
    Produce,
    RemoteFlight,
    begin,
    join_remote,
)
from govc.cache.folder import CacheFolder
from govc.cache.grown import Elder, Whole
from govc.cache.record import FlightState, FlightStatus
from govc.cache.span import CallBlocking, FileSpan, FramedSpan
from govc.cache.views import WAIT_SECONDS, Boarded, View, view_of
from govc.errors import ClientGone, Refused

log = logging.getLogger(__name__)

WORTH_BYTES = 256 << 10
WORTH_SECONDS = 0.05
AHEAD_BYTES_MAX = 256 << 20
"""How far a production may be ahead of its fastest reader: far enough that a slow client doesn't keep a helper busy."""

PRODUCER_QUIET_SECONDS = 0.25
"""How often a production says that it has nothing to say: how soon one that nobody wants any more ends."""

LITTLE_BYTES = SPAN_BYTES
LITTLE_SECONDS = 0.1
"""Less than so much is sent at most so often: fifty followers of a production would wake for every piece of it."""

WHOLE_BYTES_MAX = 1 << 30
"""Nobody waits for the whole of a body that will be larger: it takes too long."""
TRIES = 8
"""How often a reader looks for the flight of his body before he goes on alone. Several who find one dead get in each
other's way: one probes its lock and it looks alive to the next, one begins the new flight as another is about to."""
TRY_SECONDS = 0.001
"""Between the second look and the third; twice as long each time."""

GONE_SECONDS = 1.0
"""A reader who has waited so long for the first byte is asked whether he is still there. Not sooner: one who has only
closed his sending side looks the same as one who is gone."""

PER_CLIENT = "operations_per_client_max"
"""The limit that refuses one client what another may have."""

Chunk = bytes | FileSpan

HIT: Final = "hit"
FOLLOW: Final = "follow"
MISS: Final = "miss"
DIRECT: Final = "direct"
EVICTED: Final = "evicted"
STORED: Final = "stored"

_LOST = (FlightState.ABANDONED, FlightState.NO_SPACE)
"""A production that ended early, and not by a fault of what was asked."""

ASKED_MAX = 1024
"""How many keys of bodies that were sent from a stored file are remembered."""

Count = Callable[[str, int, int], None]
"""`count(what, how many, how many bytes)`: HIT, FOLLOW, MISS, DIRECT, STORED when one begins and as its bytes go out;
EVICTED."""


def _nobody_knows() -> bool:
    return False


def _nothing_noted() -> bytes | None:
    return None


def _make_nothing() -> Iterator[Piece]:
    return iter(())


def count_nothing(_what: str, _number: int, _bytes: int) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyRequest:
    """One reader's wish.

    `key` is None for what must not be shared. `head` is the first piece of what `produce` yields (a Notice); a reader
    that has got no more than that and progress may start over. `expected_bytes`: about how large the body will be.
    `is_gone` says whether the reader has hung up; it is asked while there is nothing that could be sent.

    `line`, not empty, names the line of bodies that this one belongs to, and `note` says, once it was produced whole,
    what whoever makes the next one has to know of it (`grown`); None when nothing may grow out of it.

    `produce_stored`, where there is one, makes the same body for one reader at a fraction of what keeping it costs: who
    asks first gets that. What is asked for again is kept, for those who come after.

    A production may raise Refused before its first piece, and may wait for that as long as it likes, yielding None:
    nothing is sent meanwhile, so that the refusal is an answer of its own.

    `whole_seconds`: a reader who would rather have the whole body, as a file with a name, waits so long for it before
    he reads along.
    """

    key: bytes | None
    produce: Produce = _make_nothing
    head: bytes = b""
    expected_bytes: int
    keepalive: bytes
    quiet_seconds: float
    is_gone: Callable[[], bool] = _nobody_knows
    line: str = ""
    note: Callable[[], bytes | None] = _nothing_noted
    produce_stored: Produce | None = None
    whole_seconds: float = 0.0


class BodyCache:
    """The cache of one process. `folder` None: nothing is shared or kept."""

    def __init__(
        self,
        folder: CacheFolder | None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        call_blocking: CallBlocking = lambda function, *arguments: function(*arguments),
        count: Count = count_nothing,
        ahead_bytes_max: int = AHEAD_BYTES_MAX,
    ) -> None:
        self.folder = folder
        self._sleep = sleep
        self._call_blocking = call_blocking
        self._count = count
        self._ahead_bytes_max = ahead_bytes_max
        self._lock = threading.RLock()
        self._asked: dict[bytes, None] = {}
        self._flights: dict[str, Flight] = {}
        """Our own. One is entered as it is begun and nobody may look between (`_board`)."""

    def serve(self, request: BodyRequest, sent: int = 0) -> Generator[Chunk, None, None]:
        """Yield the body. Closing the generator ends this reader's part in it. May switch.

        `sent`: so much of it was sent already, by `serve_known`.
        """
        sent = min(sent, len(request.head))
        if not sent and request.produce_stored is not None and self._is_first(request):
            self._count(STORED, 1, 0)
            yield from self._serve_direct(request, 0, request.produce_stored, STORED)
            return
        if self.folder is not None and request.key is not None:
            for tried in range(TRIES):
                if tried > 1:
                    self._sleep(TRY_SECONDS * 2 ** (tried - 2))
                try:
                    yield from self._serve_shared(self.folder, request.key.hex(), request, sent)
                    return
                except _NotHere:
                    break
                except _Quicker:
                    continue
                except _Gone as gone:
                    sent = min(gone.check(), len(request.head))
                    if not gone.may_try_again:
                        break
        self._count(DIRECT, 1, 0)
        yield from self._serve_direct(request, sent, request.produce, DIRECT)

    def serve_known(self, request: BodyRequest) -> Generator[Chunk, None, int | None]:
        """Yield the body from what is there: all of it, or a flight that somebody has begun. Nothing is produced.

        Return None when it was served; else how much of it was: the rest is to be had by `serve`.
        """
        folder = self.folder
        if folder is None or request.key is None:
            return 0
        key = request.key.hex()
        body = folder.open_whole(key)
        if body is not None:
            with closing(body):
                yield from self._send_whole(folder, key, body, 0)
            return None
        boarded = self._find_flight(folder, key)
        try:
            if boarded is None:
                return 0
            yield from self._ride_on(folder, key, boarded, request, 0, FOLLOW)
        except _Quicker:
            return 0
        except _Gone as gone:
            return gone.check()
        return None

    def _is_first(self, request: BodyRequest) -> bool:
        """Tell whether nobody asked this process for that body before, and nothing in the folder could serve."""
        folder, key = self.folder, request.key
        if folder is None or key is None:
            return True
        with self._lock:
            if key in self._asked:
                return False
            while len(self._asked) >= ASKED_MAX:
                del self._asked[next(iter(self._asked))]
            self._asked[key] = None
            if key.hex() in self._flights:
                return False
        if folder.has_flight(key.hex()) or folder.has_body(key.hex()):
            return False
        elder = folder.find_elder(request.line) if request.line else None
        if elder is not None:
            elder.body.close()
        return elder is None

    def serve_whole(self, key: bytes) -> Generator[Chunk, None, bool]:
        """Yield the body if it lies there whole; return whether it did."""
        body = self.folder.open_whole(key.hex()) if self.folder is not None else None
        if self.folder is None or body is None:
            return False
        with closing(body):
            yield from self._send_whole(self.folder, key.hex(), body, 0)
        return True

    def serve_made(self, body: bytes, *, is_hit: bool = False) -> Iterator[bytes]:
        """Yield a body that is in memory: made just now for this reader, or before, and kept by whoever asks."""
        self._count(HIT if is_hit else DIRECT, 1, len(body))
        yield body

    def find_elder(self, line: str) -> Elder | None:
        """Return the last whole body of a line, opened, and what was noted of it; None when there is none."""
        return self.folder.find_elder(line) if self.folder is not None else None

    def forget_line(self, line: str) -> None:
        """Let nothing grow out of a line's last body any more: it isn't what was noted of it."""
        if self.folder is not None:
            self.folder.forget_line(line)

    def _serve_direct(self, request: BodyRequest, skipped: int, produce: Produce, how: str) -> Iterator[Chunk]:
        said_at = time.monotonic()
        has_begun = skipped > 0
        began_at = said_at
        pieces = produce()
        try:
            for piece in pieces:
                if not has_begun:
                    has_begun = bool(piece)
                    if not has_begun and time.monotonic() - began_at >= GONE_SECONDS and request.is_gone():
                        raise ClientGone
                if skipped and piece:  # the head, which this reader has
                    skipped = 0
                elif piece:
                    said_at = time.monotonic()
                    self._count(how, 0, len(piece))
                    if isinstance(piece, bytes | FramedSpan):
                        yield piece
                    else:
                        yield from self._spans(piece.body, piece.start, piece.end)
                elif has_begun and request.keepalive and time.monotonic() - said_at >= request.quiet_seconds:
                    said_at = time.monotonic()
                    yield request.keepalive
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def _serve_shared(self, folder: CacheFolder, key: str, request: BodyRequest, sent: int) -> Iterator[Chunk]:
        """Serve from the folder. Raises _NotHere when this body can't be shared, _Gone when its flight ended early."""
        body = folder.open_whole(key)
        if body is not None:
            with closing(body):
                yield from self._send_whole(folder, key, body, sent)
            return
        boarded, how = self._board(folder, key, request)
        yield from self._ride_on(folder, key, boarded, request, sent, how)

    def _ride_on(
        self,
        folder: CacheFolder,
        key: str,
        boarded: Boarded,
        request: BodyRequest,
        sent: int,
        how: str,
    ) -> Iterator[Chunk]:
        """Yield what a flight brings, and leave it in the end."""
        try:
            if how == MISS and not isinstance(boarded, RemoteFlight):
                self._start(folder, boarded[0], request)
            yield from self._ride(folder, key, view_of(boarded, self._sleep), request, sent, how)
        finally:
            if isinstance(boarded, RemoteFlight):
                boarded.close()
            else:
                flight, follower = boarded
                flight.leave(follower)

    def _board(self, folder: CacheFolder, key: str, request: BodyRequest) -> tuple[Boarded, str]:
        """Find a place in the flight of this body: ours, another process's, or a new one of ours.

        All of it is one step under the lock: a flight of ours that nobody has entered yet, or one that takes nobody in
        any more, looks like another process's. It takes a few short calls to the file system and no switch.
        """
        with self._lock:
            boarded = self._find_flight(folder, key)
            return (boarded, FOLLOW) if boarded is not None else (self._begin(folder, key, request), MISS)

    def _find_flight(self, folder: CacheFolder, key: str) -> Boarded | None:
        with self._lock:
            known = self._flights.get(key)
            follower = known.join() if known is not None else None
            if known is not None and follower is not None:
                return known, follower
            return join_remote(folder, key)

    def _send_whole(self, folder: CacheFolder, key: str, body: Whole, sent: int) -> Iterator[Chunk]:
        self._count(HIT, 1, body.size - sent)
        if body.base < 0 and not sent:
            yield self._whole_span(folder, key, body)
        else:
            yield from self._spans(body, sent, body.size)

    def _whole_span(self, folder: CacheFolder, key: str, body: Whole) -> FileSpan:
        return FileSpan(body.descriptor, 0, body.size, self._call_blocking, folder.relative_name(key))

    def _spans(self, body: Whole, start: int, end: int) -> Iterator[FileSpan]:
        for descriptor, offset, length in body.iter_places(start, end):
            yield FileSpan(descriptor, offset, length, self._call_blocking)

    # Producing

    def _begin(self, folder: CacheFolder, key: str, request: BodyRequest) -> tuple[Flight, Follower]:
        """Begin a flight, with a place in it for this reader: one without would end at once."""
        if not folder.has_room_for(request.expected_bytes):
            raise _NotHere
        try:
            flight = begin(
                folder,
                key,
                sleep=self._sleep,
                call_blocking=self._call_blocking,
                ahead_bytes_max=self._ahead_bytes_max,
                lock=self._lock,
            )
        except OSError as error:
            log.warning("%s: a body is not cached: %s", folder.path, error.strerror)
            raise _NotHere from error
        if flight is None:
            raise _Quicker
        if folder.has_body(key):  # made between our looking for it and our beginning
            flight.cancel()
            raise _Quicker
        follower = flight.join()
        assert follower is not None
        self._flights[key] = flight
        return flight, follower

    def _start(self, folder: CacheFolder, flight: Flight, request: BodyRequest) -> None:
        try:
            threading.Thread(target=self._run, args=(folder, flight, request), daemon=True).start()
        except RuntimeError:  # no thread is to be had, and others may wait for this flight by now
            self._forget(flight)
            flight.cancel()
            raise

    def _forget(self, flight: Flight) -> None:
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]

    def _run(self, folder: CacheFolder, flight: Flight, request: BodyRequest) -> None:
        try:
            flight.run(request.produce, _is_worth_keeping)
            if flight.is_kept and request.line and (note := request.note()) is not None:
                with suppress(OSError):  # the folder may be gone, or full: then nothing grows out of this one
                    folder.write_line(request.line, flight.key, note)
        finally:
            self._forget(flight)
        added = flight.status.published
        swept = self._call_blocking(folder.sweep, added) if folder.is_sweep_due(added) else folder.sweep(added)
        if swept is not None and swept.evicted:
            self._count(EVICTED, swept.evicted, swept.evicted_bytes)

    # Following

    def _ride(
        self, folder: CacheFolder, key: str, view: View, request: BodyRequest, sent: int, how: str
    ) -> Iterator[Chunk]:
        """Yield the body of a flight: whole, when this reader would rather have that and it is there soon."""
        body = None
        if request.whole_seconds and not sent and request.expected_bytes <= WHOLE_BYTES_MAX:
            body = self._await_whole(folder, key, view, request)
            if body is None and view.is_dropped(view.read()):
                raise _Gone(0, 0, may_try_again=False)
        if body is None:
            yield from self._follow(view, request, sent, how)
            return
        with closing(body):
            self._count(how, 1, body.size)
            yield self._whole_span(folder, key, body)

    def _await_whole(self, folder: CacheFolder, key: str, view: View, request: BodyRequest) -> Whole | None:
        """Wait for the end of a flight; return its body, None when that takes too long or there is no file of it."""
        began_at = time.monotonic()
        view.wants_all(does=True)
        try:
            while (status := view.read()).state is FlightState.RUNNING and not status.window:
                waited = time.monotonic() - began_at
                if waited >= request.whole_seconds:
                    return None
                if waited >= GONE_SECONDS and request.is_gone():
                    raise ClientGone
                view.rest(min(WAIT_SECONDS, request.whole_seconds - waited))
        finally:
            view.wants_all(does=False)
        body = folder.open_whole(key) if status.state is FlightState.DONE else None
        if body is not None and body.base >= 0:  # not one file
            body.close()
            return None
        return body

    def _follow(self, view: View, request: BodyRequest, position: int, how: str) -> Iterator[Chunk]:
        """Yield what is published from `position` on, to the end."""
        self._count(how, 1, 0)
        began_at = said_at = time.monotonic()
        sent_at = -LITTLE_SECONDS
        fresh: FlightStatus | None = None
        while True:
            status, fresh = fresh or view.read(), None
            has_data = bool(status.data_start) and position > status.data_start
            if not has_data and (status.state in _LOST or view.is_dropped(status)):
                # What is left can't be ended: who has no pack data begins again, and takes none of it.
                raise _Gone(position, status.data_start, may_try_again=status.state is FlightState.ABANDONED)
            may_wait = status.state is FlightState.RUNNING and not status.window
            rested = time.monotonic() - sent_at
            if may_wait and rested < LITTLE_SECONDS and status.published < position + LITTLE_BYTES:
                view.rest(LITTLE_SECONDS - rested)
            elif position < status.published:
                fresh = yield from self._next_chunk(view, status, position)
                length = view.place(status, position)[2]
                position += length
                view.move_to(position)
                self._count(how, 0, length)
                said_at = sent_at = time.monotonic()
            elif status.state is FlightState.DONE:
                return
            elif status.state is FlightState.REFUSED:
                refusal = view.refusal()
                if how == FOLLOW and (refusal is None or refusal.limit == PER_CLIENT):
                    raise _Quicker  # who began it has had his share; perhaps this reader hasn't
                raise refusal or _full()
            elif status.state is FlightState.FAILED:
                raise FlightFailed("a shared production failed")
            elif status.state in _LOST:
                raise _Gone(position, status.data_start, may_try_again=status.state is FlightState.ABANDONED)
            elif not position and time.monotonic() - began_at >= GONE_SECONDS and request.is_gone():
                raise ClientGone
            elif position and request.keepalive and time.monotonic() - said_at >= request.quiet_seconds:
                said_at = time.monotonic()
                yield request.keepalive
            else:
                view.wait()

    def _next_chunk(
        self, view: View, status: FlightStatus, position: int
    ) -> Generator[Chunk, None, FlightStatus | None]:
        """Yield what there is, or a part of it; return how far the flight is, if that was asked meanwhile."""
        descriptor, offset, length = view.place(status, position)
        if view.is_dropped(status):
            raise Dropped("too slow for a body that the disk has no room for")
        if not status.window:
            yield FileSpan(descriptor, offset, length, self._call_blocking)
            fresh = view.read()
            if view.is_dropped(fresh):  # it may have been overwritten while it was sent
                raise Dropped("the disk has no room for a body that another process produces")
            return fresh
        yield os.pread(descriptor, length, offset)
        return None


def _is_worth_keeping(flight: Flight) -> bool:
    return flight.status.published >= WORTH_BYTES or time.monotonic() - flight.started_at >= WORTH_SECONDS


def _full() -> Refused:
    text = "The server has as much to do as it can take on at once. Please try again."
    return Refused("operations_max", text, http_status=503, retry_after_seconds=30)


class _NotHere(Exception):
    """This body can't be shared: no room, no folder."""


class _Quicker(Exception):
    """Look again: another process has just begun the flight that we were about to begin, or nobody will."""


class _Gone(Exception):
    """The flight ended before its body was whole, through no fault of the request."""

    def __init__(self, position: int, data_start: int, *, may_try_again: bool = True) -> None:
        super().__init__(position)
        self.may_try_again = may_try_again
        self.position = position
        self.data_start = data_start

    def check(self) -> int:
        """Return how much the reader has got, none of it pack data. Raises FlightFailed when he can't begin again."""
        if self.data_start and self.position > self.data_start:
            raise FlightFailed("the producer of a body that was being sent is gone") from self
        return self.position
