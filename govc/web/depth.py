"""How much of an answer may wait in the kernel for a client that hasn't taken it yet.

Left alone, the kernel takes up to 4 MiB of an answer into each socket's buffer, which is memory that thousands of slow
readers use up for everybody: so connections begin with UNSENT_BYTES_MAX (TCP_NOTSENT_LOWAT, which they inherit from
their listener). What is on its way, the window of a long, fat line, is not bounded.

A client that takes what it gets at once is another matter. With little in the kernel its server is woken for each few
hundred kilobytes, and to wake up costs more than to send. So a few connections of a process at a time may be *deep*, as
long as they are quick: one that made us wait for QUIET_SECONDS is so no more, and gives its place back once it has
taken what was too much. Little of that is memory at all when it is sent from a file: the pages are the file's.

A Unix socket has no window, only a buffer (SO_SNDBUF): net.core.wmem_default to begin with, some 200 KiB of memory for
the bytes and what the kernel needs beside them, whatever its listener has. Of a deep one it is as large as
net.core.wmem_max lets it be, twice that, and 16 MiB at most: a proxy that reads is then woken, and wakes us, once for
three quarters of that. `counted_socket` sees that it reads meanwhile.

Source: tcp(7) "TCP_NOTSENT_LOWAT"; socket(7) "SO_SNDBUF"; unix(7).
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

UNSENT_BYTES_MAX = 256 << 10
DEEP_BYTES_MAX = 16 << 20
"""More than any buffer: the kernel decides (tcp_wmem)."""
DEEP_MAX = 32
"""So many at once in a process: 128 MiB at most, if all of them stop reading (tcp_wmem's 4 MiB; on Unix sockets twice
net.core.wmem_max, which is 13 MiB in all as Linux has it, and 512 MiB where it is 8 MiB or more)."""
QUIET_SECONDS = 0.25

_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)

_deep: set["Depth"] = set()
"""Of this process."""


def bound_unsent(connection: Any, bytes_max: int = UNSENT_BYTES_MAX) -> bool:
    """Say how much may wait in a connection, or those of a listener; whether that could be said."""
    if connection.family == socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, bytes_max // 2)  # the kernel doubles it
        return True
    if _NOTSENT_LOWAT is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    connection.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, bytes_max)
    return True


def _no_wait(_connection: Any) -> None:
    """Wait for nothing."""


def send_all(connection: Any, data: bytes | memoryview) -> None:
    """Send what is in memory. Through a deep Unix socket where it is long: else it takes a wake-up for every 150 KiB,
    of us and of the proxy. (TCP's own buffer is as deep as that.) Raises OSError. May switch.
    """
    if len(data) > UNSENT_BYTES_MAX and connection.family == socket.AF_UNIX:
        with Depth(connection, _no_wait):
            connection.sendall(data)
    else:
        connection.sendall(data)


class Depth:
    """The depth of one connection while something long is sent: `with Depth(...) as depth: ... depth.wait()`."""

    __slots__ = ("_connection", "_wait_writable")

    def __init__(self, connection: Any, wait_writable: Callable[[Any], None]) -> None:
        self._connection = connection
        self._wait_writable = wait_writable

    def __enter__(self) -> "Depth":
        if len(_deep) < DEEP_MAX and bound_unsent(self._connection, DEEP_BYTES_MAX):
            _deep.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self in _deep:
            _deep.remove(self)
            with suppress(OSError):  # the connection may be gone
                bound_unsent(self._connection)

    def wait(self) -> None:
        """Wait until the connection takes more. Raises OSError. May switch."""
        if self not in _deep:
            self._wait_writable(self._connection)
            return
        began = monotonic()
        self._wait_writable(self._connection)
        if monotonic() - began > QUIET_SECONDS:
            bound_unsent(self._connection)
            self._wait_writable(self._connection)  # until no more is left than others may have
            _deep.discard(self)
