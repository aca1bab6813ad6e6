"""The body of a push in the fast lane: what came with its head, then what the connection brings, up to its length.

What is read is what has come, up to the size that is asked for. Bytes behind the body stay on the connection.
"""

from collections.abc import Callable
from typing import Any

READ_BYTES_MAX = 64 << 10


class LaneBody:
    """A `wsgi.input` of known length."""

    __slots__ = ("_begun", "_connection", "_left")

    def __init__(self, connection: Any, begun: bytes, left: int) -> None:
        """`begun`: what is here of it; `left`: how many bytes are still to come."""
        self._connection = connection
        self._begun = begun
        self._left = left

    @property
    def is_read(self) -> bool:
        """Whether all of it was read."""
        return not self._begun and not self._left

    def read(self, size: int, /) -> bytes:
        """Return 1 to `size` bytes; b"" at the end, or where the client stops before it. OSError. May switch."""
        if self._begun:
            data, self._begun = self._begun[:size], self._begun[size:]
            return data
        wanted = min(size, self._left)
        if wanted <= 0:
            return b""
        received: bytes = self._connection.recv(wanted)
        self._left -= len(received)
        return received

    def drop_rest(self, breathe: Callable[[], None]) -> bool:
        """Read on to the end; False when the client stops before it. `breathe` lets others run. OSError. May switch."""
        while self.read(READ_BYTES_MAX):
            breathe()
        return self.is_read
