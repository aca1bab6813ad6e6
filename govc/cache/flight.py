"""A flight: one production of one body, and all who read along.

The producer is a thread of its own (a greenlet under gevent) that belongs to no client. It writes what it makes to
the spool, the `.part` file, and says how far it is; clients, the first one included, are followers that read the
spool at their own pace. Followers in the same process hear of news at once, those in other processes look into the
`.flight` file (`record`).

- **Pace.** The producer is at most `ahead_bytes_max` ahead of its fastest follower. Who waits for the whole body is as
  fast as can be.
- **Nobody left.** It looks between two pieces whether anybody still follows, here or elsewhere, and ends when nobody
  does.
- **Death.** Its locks go with its process. Who finds them gone goes on by himself if he has sent no pack data yet,
  else fails.
- **A full disk.** The flight takes nobody in any more, and its file becomes a ring of what has been written so far:
  the byte p of the body lies at p modulo `window`. From then on the producer waits for the slowest follower of its
  own process (who stands still for STALL_SECONDS is dropped, with an error in his stream). Followers in other
  processes end with an error before anything that they have not read is overwritten.

- **Borrowed bytes** (`grown`) are not written: the file keeps a hole, and who reads there reads the base. They are
  copied where nothing may be lent: a body of no single base, a folder whose bodies nginx sends. A disk that fills up
  later ends such a flight: a file with a hole is no ring.

Published is what may be read; it always ends between two packets, so a follower that has to wait may say keepalive.
"""

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from govc.cache.folder import BASE, FLIGHT, GROWN, NEW, PART, CacheFolder
from govc.cache.grown import (
    NOTHING_LENT,
    Borrowed,
    Lent,
    encode_footer,
    link_same,
    may_borrow,
    place_at,
)
from govc.cache.record import (
    FlightState,
    FlightStatus,
    claim,
    clear_if_dead,
    initialize,
    is_claimed_by_another,
    read_fastest,
    read_part_id,
    read_status,
    try_lock,
    write_fastest,
    write_status,
)
from govc.cache.span import READ_BYTES, CallBlocking, FramedSpan
from govc.cache.spool import WRITE_BYTES, copy_packets, write_cut
from govc.errors import GovcError, Refused

log = logging.getLogger(__name__)

FLUSH_BYTES = 1 << 20
FLUSH_SECONDS = 0.02
DIRECT_WRITE_BYTES = 64 << 10
"""Below this a write to the page cache is cheaper than a change of threads."""

SPAN_BYTES = 4 << 20
"""What a follower who is behind takes at once while it is produced: more would hide from the producer how far he is."""

WINDOW_BYTES_MIN = 4 << 20
"""The least ring on a full disk, and so the largest piece of a body."""

STALL_SECONDS = 60.0
PACE_SECONDS = 0.005
POLL_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)


class Notice(bytes):
    """A piece of a body that carries no pack data: the head, progress."""

    __slots__ = ()


Piece = bytes | Borrowed | FramedSpan | None
"""What a production yields: whole packets, a `Notice`, whole packets of an older body, a file that is to be cut into
packets, or None for a silence."""

Produce = Callable[[], Iterator[Piece]]


class FlightFailed(GovcError):
    """The production failed, or its producer died in the middle; the log of the producer says why."""


class Dropped(FlightFailed):
    """This follower can't go on: too slow for a ring, or in another process than it."""


class _Unwanted(Exception):
    """Nobody follows any more."""


class _NoSpace(Exception):
    """The disk was full before there was enough for a ring."""


class Follower:
    """One reader's place in a flight of its own process."""

    __slots__ = ("is_dropped", "moved_at", "position", "wants_all")

    def __init__(self) -> None:
        self.position = 0
        self.moved_at = time.monotonic()
        self.is_dropped = False
        self.wants_all = False

    def move_to(self, position: int) -> None:
        """Everything before `position` was sent."""
        self.position = position
        self.moved_at = time.monotonic()


class Flight:
    """The producer's side. Made by `begin`; `run` is the thread's function."""

    def __init__(
        self,
        folder: CacheFolder,
        key: str,
        descriptors: tuple[int, int],
        part_path: str,
        *,
        sleep: Callable[[float], None],
        call_blocking: CallBlocking,
        ahead_bytes_max: int,
        lock: threading.RLock,
    ) -> None:
        self.key = key
        self.started_at = time.monotonic()
        self.part, self._record = descriptors
        self.base = -1
        """The file that bytes are borrowed from."""
        self.is_kept = False
        self.status = FlightStatus(FlightState.RUNNING, 0, 0, 0)
        self.news = threading.Event()
        self.ended = threading.Event()
        self.refusal: Refused | None = None
        """Why nothing was produced, when the server was too full for it."""
        self.is_open = True
        """Whether followers are taken in. Changed under `lock` only, as `followers` is: who holds it finds this
        flight open, or without its name in the folder, never closed and still there for `join_remote`."""
        self.followers: set[Follower] = set()
        self._folder = folder
        self._part_path = part_path
        self._flight_path = f"{folder.path}/{key}{FLIGHT}"
        self._sleep = sleep
        self._call_blocking = call_blocking
        self._ahead_bytes_max = ahead_bytes_max
        self._lock = lock
        self._users = 1  # of the spool's descriptor: the producer, and each follower
        self._is_checked = True  # whether nothing went by what looks at copied files

    # Followers

    def join(self) -> Follower | None:
        """Return a place; None when the flight takes nobody in."""
        with self._lock:
            if not self.is_open:
                return None
            follower = Follower()
            self.followers.add(follower)
            self._users += 1
            return follower

    def leave(self, follower: Follower) -> None:
        """Give the place back."""
        with self._lock:
            self.followers.discard(follower)
        self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            self._users -= 1
            is_last = not self._users
        if is_last:
            os.close(self.part)
            if self.base >= 0:
                os.close(self.base)

    def _close_to_others(self) -> None:
        """Take nobody in from now on. Once: the name in the folder may be the next flight's afterwards."""
        with self._lock:
            if not self.is_open:
                return
            self.is_open = False
            for path in (self._flight_path, self._part_path, self._base_path):
                with suppress(OSError):
                    os.unlink(path)

    # The producer

    def run(self, produce: Produce, keep: Callable[["Flight"], bool]) -> None:
        """Produce to the end, or until nobody follows. `keep` says of a finished flight whether its body stays."""
        state = FlightState.FAILED
        pieces = produce()
        try:
            self._spool(pieces)
            state = FlightState.DONE
        except _Unwanted:
            state = FlightState.ABANDONED
        except _NoSpace:
            log.warning("%s: no space for a body: its readers go on without the cache", self._folder.path)
            state = FlightState.NO_SPACE
        except Refused as error:
            state = FlightState.REFUSED
            self.refusal = error
        except GovcError as error:
            log.error("a body could not be produced: %s", error)
        except Exception:
            log.exception("a body could not be produced")
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
            may_stay = state is FlightState.DONE and self._is_checked and not self.status.window
            self._end(state, is_kept=may_stay and keep(self))

    def cancel(self) -> None:
        """End a flight that was begun and will not run."""
        self._end(FlightState.ABANDONED, is_kept=False)

    def _end(self, state: FlightState, *, is_kept: bool) -> None:
        # The body has its name before the flight loses its own: who comes now finds one or the other.
        if is_kept:
            with suppress(OSError):  # the folder may be gone: then nothing is kept
                self._keep()
        self._close_to_others()
        self._tell(self.status._replace(state=state))
        self.ended.set()
        os.close(self._record)
        self._let_go()

    def _keep(self) -> None:
        if self.base < 0:
            os.rename(self._part_path, self._folder.body_path(self.key))
        else:
            os.pwrite(self.part, encode_footer(self.status.lent, self.base), self.status.published)
            stem = f"{self._folder.path}/{self.key}"
            os.rename(self._base_path, stem + BASE)
            os.rename(self._part_path, stem + GROWN)
        self.is_kept = True

    @property
    def _base_path(self) -> str:
        return self._part_path[: -len(PART)] + BASE

    def _tell(self, status: FlightStatus) -> None:
        self.status = status
        with suppress(OSError):  # who can't read it will find our lock gone
            write_status(self._record, status)
        news, self.news = self.news, threading.Event()
        news.set()

    def _spool(self, pieces: Iterable[Piece]) -> None:
        waiting: list[bytes] = []
        waiting_bytes = 0
        # A head of a few bytes goes with what follows it soon: alone it would wake, and be sent, for itself.
        flushed_at = time.monotonic()
        try:
            for piece in pieces:
                if isinstance(piece, Borrowed | FramedSpan):
                    if waiting:
                        self._publish(b"".join(waiting), tells=False)
                        waiting.clear()
                        waiting_bytes = 0
                    if isinstance(piece, Borrowed):
                        self._borrow(piece)
                    else:
                        self._copy_framed(piece)
                elif piece:
                    if not self.status.data_start and not isinstance(piece, Notice):
                        start = self.status.published + waiting_bytes
                        self.status = self.status._replace(data_start=start)
                    waiting.append(piece)
                    waiting_bytes += len(piece)
                now = time.monotonic()
                if waiting and (waiting_bytes >= FLUSH_BYTES or now - flushed_at >= FLUSH_SECONDS):
                    self._publish(b"".join(waiting) if len(waiting) > 1 else waiting[0])
                    waiting.clear()
                    waiting_bytes = 0
                    flushed_at = now
                self._check_wanted()
        except (_Unwanted, _NoSpace):
            raise
        except Exception:
            if waiting:
                self._publish(b"".join(waiting))  # what was said before an error is told before it
            raise
        if waiting:
            self._publish(b"".join(waiting))

    def _borrow(self, piece: Borrowed) -> None:
        """Lend what may be lent of an older body, and copy the rest."""
        at, body = piece.start, piece.body
        while at < piece.end:
            descriptor, offset, length = place_at(body.lent, body.descriptor, body.base, at, piece.end)
            is_base = descriptor == (body.base if body.base >= 0 else body.descriptor)
            if not (
                is_base
                and self._folder.lends
                and may_borrow(body)
                and self._lend(body.path, descriptor, offset, length)
            ):
                self._copy(descriptor, offset, length)
            at += length

    def _lend(self, path: str, descriptor: int, offset: int, length: int) -> bool:
        """Leave a hole for bytes of a base, the first time or right behind what was lent; False when that can't be."""
        at, lent = self.status.published, self.status.lent
        if self.status.window:
            return False
        if lent == NOTHING_LENT:
            if not link_same(path, descriptor, self._base_path):
                return False
            self.base = os.dup(descriptor)
            lent = Lent(at, at, offset)
        elif lent.end != at or lent.offset + at - lent.start != offset:
            return False
        self._tell(self.status._replace(published=at + length, lent=lent._replace(end=at + length)))
        return True

    def _copy(self, descriptor: int, offset: int, length: int) -> None:
        data = b""
        while len(data) < length:  # one piece: what is published ends between two packets
            more = self._call_blocking(os.pread, descriptor, length - len(data), offset + len(data))
            if not more:
                raise OSError(errno.EIO, "a cached body ends early")
            data = data + more if data else more
        self._publish(data)

    def _copy_framed(self, span: FramedSpan) -> None:
        """Copy the packets of a file: many at a time, while there is room for them. Then they are checked, too."""
        offset, buffer = span.offset, bytearray(WRITE_BYTES)
        if not self.status.data_start:
            self.status = self.status._replace(data_start=self.status.published)
        while offset < span.end and self._is_checked and not self.status.window:
            self._keep_pace()
            at = self.status.published
            try:
                offset, at = self._call_blocking(copy_packets, span, offset, self.part, at, buffer)
            except OSError:
                # Piece by piece what is wrong is met again, and known for what it is; and if not, nothing is kept.
                self._is_checked = False
                break
            self._tell(self.status._replace(published=at))
            self._check_wanted()
        for data in span.rest(offset).iter_bytes() if offset < span.end else ():
            self._publish(data)
            self._check_wanted()

    def _publish(self, data: bytes, *, tells: bool = True) -> None:
        """Write whole packets and say so; `tells` False: the next ones will (if there is no ring)."""
        if len(data) > DIRECT_WRITE_BYTES:
            self._keep_pace()
        at = self.status.published
        view = memoryview(data)
        while view:
            count = self._write(view, at)
            view = view[count:]
            at += count
        if tells or self.status.window:
            self._tell(self.status._replace(published=at))
        else:
            self.status = self.status._replace(published=at)

    def _write(self, view: memoryview, at: int) -> int:
        """Write some bytes that belong at `at` of the body; return how many."""
        window = self.status.window
        if len(view) > window > 0:
            raise _NoSpace  # for so much there is room never, however quick its readers are
        if window:
            self._wait_for_room(at + len(view))
            offset = at % window
            view = view[: window - offset]
        else:
            offset = at
        try:
            if len(view) <= DIRECT_WRITE_BYTES:
                return os.pwrite(self.part, view, offset)
            count: int = self._call_blocking(write_cut, self.part, view, offset)
            return count
        except OSError as error:
            if window or at < WINDOW_BYTES_MIN or self.base >= 0:
                raise _NoSpace from error
            log.warning("%s: no space: a body of more than %d bytes is not kept", self._folder.path, at)
            self._become_ring(at)
            return 0

    def _become_ring(self, window: int) -> None:
        self._close_to_others()
        self._tell(self.status._replace(window=window))
        # Followers elsewhere leave when they see this; who is in the middle of a piece gets the time to end it.
        deadline = time.monotonic() + STALL_SECONDS
        while not try_lock(self.part, fcntl.LOCK_EX) and time.monotonic() < deadline:
            self._sleep(PACE_SECONDS)

    def _wait_for_room(self, end: int) -> None:
        """Wait until the body's bytes up to `end` overwrite nothing that a follower still has to read."""
        while True:
            self._check_wanted()
            with self._lock:
                followers = list(self.followers)
            laggards = [follower for follower in followers if end - follower.position > self.status.window]
            if not laggards:
                return
            for follower in laggards:
                if time.monotonic() - follower.moved_at > STALL_SECONDS:
                    follower.is_dropped = True
                    with self._lock:
                        self.followers.discard(follower)
            self._sleep(PACE_SECONDS)

    def _keep_pace(self) -> None:
        while True:
            with self._lock:
                if any(follower.wants_all for follower in self.followers):
                    return
                fastest = max((follower.position for follower in self.followers), default=0)
            if self.status.published - max(fastest, read_fastest(self._record)) <= self._ahead_bytes_max:
                return
            self._check_wanted()
            self._sleep(PACE_SECONDS)

    def _check_wanted(self) -> None:
        """Raise _Unwanted when nobody follows, here or elsewhere."""
        if self.followers:
            return
        # Who joins from another process takes a shared lock on the spool first: with ours held he can't.
        if not self.status.window and not try_lock(self.part, fcntl.LOCK_EX):
            return
        with self._lock:
            if self.followers:
                fcntl.flock(self.part, fcntl.LOCK_UN)
                return
            self._close_to_others()
        raise _Unwanted


def begin(
    folder: CacheFolder,
    key: str,
    *,
    sleep: Callable[[float], None],
    call_blocking: CallBlocking,
    ahead_bytes_max: int,
    lock: threading.RLock,
) -> Flight | None:
    """Return a new flight with its files made and locked; None when another process has one. Raises OSError."""
    record, record_path = folder.create()
    try:
        part, part_path = folder.create()
    except OSError:
        _give_up(record, record_path)
        raise
    try:
        part_id = part_path.rpartition(NEW)[2]
        initialize(record, part_id)
        claim(record)
        named_part = f"{folder.path}/{key}.{part_id}{PART}"
        os.rename(part_path, named_part)
        part_path = named_part
        os.link(record_path, f"{folder.path}/{key}{FLIGHT}")
        os.unlink(record_path)
    except OSError as error:
        _give_up(record, record_path)
        _give_up(part, part_path)
        if isinstance(error, FileExistsError):
            return None
        raise
    return Flight(
        folder,
        key,
        (part, record),
        part_path,
        sleep=sleep,
        call_blocking=call_blocking,
        ahead_bytes_max=ahead_bytes_max,
        lock=lock,
    )


def _give_up(descriptor: int, path: str) -> None:
    os.close(descriptor)
    with suppress(OSError):
        os.unlink(path)


_glances: dict[str, tuple[float, FlightStatus]] = {}
"""When somebody in this process last looked at another's flight, and what he saw, by the path of its part."""


class RemoteFlight:
    """A flight of another process, as one follower of ours sees it. Made by `join_remote`."""

    def __init__(self, part: int, record: int, part_path: str) -> None:
        self.part = part
        self.base = -1
        self._record = record
        self._part_path = part_path  # which no other flight has
        self._base_path = part_path[: -len(PART)] + BASE
        self._kept_base_path = self._base_path[: -len(BASE)].rpartition(".")[0] + BASE

    def read(self) -> FlightStatus:
        """Return how far it is; ABANDONED when its producer is dead."""
        try:
            is_alive = is_claimed_by_another(self._record)
            status = read_status(self._record)
        except OSError:
            return FlightStatus(FlightState.ABANDONED, 0, 0, 0)
        if status.lent != NOTHING_LENT and self.base < 0 and not self._open_base():
            return status._replace(state=FlightState.ABANDONED)
        # In this order: a producer that ended between the two calls has said so.
        if status.state is FlightState.RUNNING and not is_alive:
            return status._replace(state=FlightState.ABANDONED)
        return status

    def glance(self, seconds: float) -> FlightStatus:
        """The same as it was so long ago at most, as anybody in this process has read it."""
        known = _glances.get(self._part_path)
        now = time.monotonic()
        if known is None or now - known[0] >= seconds:
            known = _glances[self._part_path] = (now, self.read())
        return known[1]

    def move_to(self, position: int) -> None:
        """Say that everything before `position` was sent."""
        with suppress(OSError):
            write_fastest(self._record, position)

    def close(self) -> None:
        """Stop following."""
        _glances.pop(self._part_path, None)
        os.close(self.part)
        os.close(self._record)
        if self.base >= 0:
            os.close(self.base)

    def _open_base(self) -> bool:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        for path in (self._base_path, self._kept_base_path):
            with suppress(OSError):
                self.base = os.open(path, flags)
                return True
        return False


def join_remote(folder: CacheFolder, key: str) -> RemoteFlight | None:
    """Follow another process's flight; None when there is none any more. One that is dead is cleared away."""
    flight_path = f"{folder.path}/{key}{FLIGHT}"
    try:
        record = os.open(flight_path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        part_path = f"{folder.path}/{key}.{read_part_id(record)}{PART}"
        if clear_if_dead(record, flight_path):
            with suppress(OSError):
                os.unlink(part_path)
            os.close(record)
            return None
        part = os.open(part_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        os.close(record)
        return None
    if not try_lock(part, fcntl.LOCK_SH):  # its producer is ending it
        os.close(part)
        os.close(record)
        return None
    return RemoteFlight(part, record, part_path)


def span_at(status: FlightStatus, own: int, base: int, position: int) -> tuple[int, int, int]:
    """Return (descriptor, offset, length) of what may be read next at `position`: at most SPAN_BYTES of a file that
    grows, all of one that is whole, of a ring READ_BYTES.
    """
    length = status.published - position
    if status.window:
        offset = position % status.window
        return own, offset, min(length, READ_BYTES, status.window - offset)
    if status.state is FlightState.RUNNING:
        length = min(length, SPAN_BYTES)
    return place_at(status.lent, own, base, position, position + length)
