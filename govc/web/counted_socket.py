"""A connection that counts the bytes it moves, where the kernel doesn't: a Unix socket, with a proxy behind it.

Of a TCP connection the kernel knows how much has come and gone (`slow_clients`). Of a Unix socket it doesn't, and a
client behind a proxy that sends a byte a minute keeps its place here as it would without one. So what is read and what
the kernel takes is added up, by `recv`, `recv_into` and `send`, which `sendall` goes through; who sends files adds
to `taken_bytes` himself (`sending`).

What the kernel took is not yet with the proxy, and of a deep connection (`depth`) that may be megabytes, which a slow
client takes long for, while we wait until a quarter is left. So what still waits is asked for (SIOCOUTQ), and only what
has left counts. The kernel's number is that of the memory in which it keeps the bytes, more than these where they came
a few at a time, and it falls by pieces of up to 64 KiB: a look takes what became less since the last one, and so may
count such bytes a few times over, but none for long too late.

Source: unix(7); net/unix/af_unix.c (unix_outq_len) and include/net/sock.h (sk_wmem_alloc) of Linux.
"""

import fcntl
import struct
import termios
from typing import Any

from gevent.socket import socket

_INT = struct.Struct("@i")


class CountedSocket(socket):  # type: ignore[misc]
    """A gevent socket with `moved_bytes`."""

    taken_bytes = 0
    """By the kernel, to be sent."""
    _read_bytes = 0
    _left_bytes = 0
    _taken_bytes_seen = 0
    _waiting_bytes_seen = 0

    @classmethod
    def of(cls, connection: Any) -> "CountedSocket":
        """Return the connection as one that counts; the one that is given is not to be used any more."""
        family, kind, protocol = connection.family, connection.type, connection.proto
        return cls(family, kind, protocol, fileno=connection.detach())

    @property
    def moved_bytes(self) -> int:
        """How many bytes have come and gone, as far as that was seen when somebody asked."""
        waiting = self._count_waiting()
        taken, before = self.taken_bytes, self._waiting_bytes_seen + self.taken_bytes - self._taken_bytes_seen
        self._left_bytes += max(0, before - waiting)
        self._taken_bytes_seen, self._waiting_bytes_seen = taken, waiting
        return self._read_bytes + self._left_bytes

    def _count_waiting(self) -> int:
        """Return how much memory holds what the other end hasn't read."""
        descriptor = self.fileno()
        if descriptor < 0:  # closed: nothing moves any more
            return self._waiting_bytes_seen + self.taken_bytes - self._taken_bytes_seen
        try:
            (count,) = _INT.unpack(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(_INT.size)))
        except OSError:  # a system that doesn't say it of Unix sockets
            return 0
        waiting: int = count
        return waiting

    def recv(self, *arguments: Any) -> bytes:
        """Return what has come (the socket's own)."""
        data: bytes = super().recv(*arguments)
        self._read_bytes += len(data)
        return data

    def recv_into(self, *arguments: Any) -> int:
        """Read into a buffer (the socket's own)."""
        count: int = super().recv_into(*arguments)
        self._read_bytes += count
        return count

    def send(self, data: Any, *arguments: Any, **named: Any) -> int:
        """Send as much as the kernel takes (the socket's own)."""
        count: int = super().send(data, *arguments, **named)
        self.taken_bytes += count
        return count
