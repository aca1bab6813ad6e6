"""Ending clients that are too slow (see `govc.limits.pace`): the connections on which we wait, looked at once a second.

Whoever is about to wait for a client says so, and says when that is over:

    waits = slow.begin(connection)      None where the connection can't be watched
    waits.begins() ... waits.ends()     around reading a body, or handing an answer to the server's socket
    waits.end_request(), slow.end(waits)

How much has moved is what the kernel counted on that TCP connection, bytes received and bytes that the client's kernel
has acknowledged: exact whatever the size of the pieces in which we read and write, and costing nothing until somebody
looks. A connection that is too slow is shut down, which wakes whoever waits on it with an error, and reset when it is
closed. Of a Unix socket, behind which there is a proxy, the connection itself counts (`counted_socket`).

One thread (a greenlet under gevent) looks, from the first wait on.

Source: tcp(7) "TCP_INFO", struct tcp_info in linux/tcp.h.
"""

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from govc.limits.pace import Pace, PaceLimits
from govc.limits.watch import NO_WATCH, LimitWatch

log = logging.getLogger("govc.web")

LOOK_SECONDS = 1.0
TICK_SECONDS_MAX = 2.0
"""A look that comes later than that says more about us than about the client."""

_ESTABLISHED = 1
_TCP_INFO_BYTES = 136
_MOVED = struct.Struct("@QQ")
_MOVED_AT = 120
"""Where tcpi_bytes_acked and tcpi_bytes_received are."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def _tcp_info(connection: Any) -> bytes:
    """Return what the kernel knows of a TCP connection, b"" when it says less than we need, or it isn't one."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return b""
    try:
        info: bytes = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return b""
    return info if len(info) >= _TCP_INFO_BYTES else b""


def moved_bytes(connection: Any) -> int | None:
    """Return how many bytes have come and gone; None where that can't be known."""
    info = _tcp_info(connection)
    return sum(_MOVED.unpack_from(info, _MOVED_AT)) if info else getattr(connection, "moved_bytes", None)


def has_hung_up(connection: Any) -> bool:
    """Say whether the other end has closed its side; False where that can't be known."""
    if connection.family == socket.AF_UNIX:
        return _refuses(connection)
    info = _tcp_info(connection)
    return bool(info) and info[0] != _ESTABLISHED


def _refuses(connection: Any) -> bool:
    """Say whether a Unix socket takes nothing any more: not even nothing at all, which never waits for room."""
    try:
        connection.send(b"", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except BrokenPipeError:
        return True
    except OSError:  # closed, by us
        return False
    return False


class Waits:
    """One connection, and whether we wait for it."""

    __slots__ = ("_slow", "broken_limit", "connection", "is_lasting", "pace")

    def __init__(self, slow: "SlowClients", connection: Any, pace: Pace, *, is_lasting: bool) -> None:
        self._slow = slow
        self.is_lasting = is_lasting
        self.connection = connection
        self.pace = pace
        self.broken_limit = ""
        """The limit for which the connection was ended."""

    def begins(self) -> None:
        """We wait for the client from now on."""
        self._slow.add(self)

    def ends(self) -> None:
        """We don't wait any more."""
        self._slow.remove(self)

    def end_request(self) -> None:
        """One request on it is over."""
        if self.is_lasting:
            self.ends()
        else:
            self._slow.end(self)


class SlowClients:
    """All connections of one process."""

    def __init__(
        self,
        limits: PaceLimits | None,
        *,
        watch: LimitWatch = NO_WATCH,
        start_thread: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        """`limits` None: nobody is too slow. `start_thread` runs a function beside us."""
        self._limits = limits
        self._watch = watch
        self._start_thread = start_thread or _start_daemon
        self._waiting: dict[Waits, None] = {}
        self._known: dict[Any, Waits] = {}
        self._is_looking = False
        self._lock = threading.Lock()

    def begin(self, connection: Any, *, is_lasting: bool = False) -> Waits | None:
        """Return the watch of a connection; None when it can't be watched.

        `is_lasting`: whoever begins will end it with the connection, not with the request.
        """
        if self._limits is None or connection is None:
            return None
        known = self._known.get(connection)
        if known is not None:
            return known
        moved = moved_bytes(connection)
        if moved is None:
            return None
        waits = self._known[connection] = Waits(self, connection, Pace(self._limits, moved), is_lasting=is_lasting)
        return waits

    def end(self, waits: Waits | None) -> None:
        """Forget a connection."""
        if waits is not None:
            self.remove(waits)
            self._known.pop(waits.connection, None)

    def add(self, waits: Waits) -> None:
        """See Waits.begins."""
        self._waiting[waits] = None
        if not self._is_looking:
            with self._lock:
                starts, self._is_looking = not self._is_looking, True
            if starts:
                self._start_thread(self._look_on)

    def remove(self, waits: Waits) -> None:
        """See Waits.ends."""
        self._waiting.pop(waits, None)

    def _look_on(self) -> None:
        looked_at = time.monotonic()
        while True:
            time.sleep(LOOK_SECONDS)
            now = time.monotonic()
            try:
                self.look(min(now - looked_at, TICK_SECONDS_MAX))
            except Exception:
                log.exception("slow clients could not be looked at")
            looked_at = now

    def look(self, seconds: float) -> None:
        """Look at all that we wait for, `seconds` after the last time, and end what is too slow."""
        for waits in list(self._waiting):
            moved = moved_bytes(waits.connection)
            if moved is None or waits.broken_limit:
                continue
            broken = waits.pace.look(moved, seconds)
            if broken is not None:
                waits.broken_limit = broken
                self._watch.refused(broken)
                _cut(waits.connection)


def _cut(connection: Any) -> None:
    with suppress(OSError):  # it may just have ended by itself
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        connection.shutdown(socket.SHUT_RDWR)


def _start_daemon(function: Callable[[], None]) -> None:
    threading.Thread(target=function, daemon=True).start()
