"""A connection that counts the bytes it moves, where the kernel doesn't: a Unix socket, with a proxy behind it.

Of a TCP connection the kernel knows how much has come and gone (`slow_clients`). Of a Unix socket it doesn't, and a
client behind a proxy that sends a byte a minute keeps its place here as it would without one. So what is read and what
the kernel takes is added up, by `recv`, `recv_into` and `send`, which `sendall` goes through; who sends files adds
to `moved_bytes` himself (`sending`).

What the kernel took is not yet with the client: some 200 KiB (net.core.wmem_default) may wait for the proxy.
"""

from typing import Any

from gevent.socket import socket


class CountedSocket(socket):  # type: ignore[misc]
    """A gevent socket with `moved_bytes`."""

    moved_bytes = 0

    @classmethod
    def of(cls, connection: Any) -> "CountedSocket":
        """Return the connection as one that counts; the one that is given is not to be used any more."""
        family, kind, protocol = connection.family, connection.type, connection.proto
        return cls(family, kind, protocol, fileno=connection.detach())

    def recv(self, *arguments: Any) -> bytes:
        """Return what has come (the socket's own)."""
        data: bytes = super().recv(*arguments)
        self.moved_bytes += len(data)
        return data

    def recv_into(self, *arguments: Any) -> int:
        """Read into a buffer (the socket's own)."""
        count: int = super().recv_into(*arguments)
        self.moved_bytes += count
        return count

    def send(self, data: Any, *arguments: Any, **named: Any) -> int:
        """Send as much as the kernel takes (the socket's own)."""
        count: int = super().send(data, *arguments, **named)
        self.moved_bytes += count
        return count
