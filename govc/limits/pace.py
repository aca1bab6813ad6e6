"""Is a client too slow? Judged from how many bytes it has moved while we waited for it, and only then.

Somebody looks every second at the connections on which we wait: for more of a request, or for room for more of an
answer. Time that we spend working is nobody's fault and doesn't count, nor does a look that comes late.

    idle       no byte in `idle_seconds` of waiting
    too slow   in `window_seconds` of waiting fewer than `bytes_per_second` on average; then the next window begins

Pure: looks, bytes and seconds are the caller's.
"""

from typing import NamedTuple

IDLE = "client_idle_seconds"
SLOW = "client_bytes_per_second_min"


class PaceLimits(NamedTuple):
    """`idle_seconds` 0: silence is no reason; `bytes_per_second` 0: slowness isn't."""

    bytes_per_second: int
    window_seconds: float
    idle_seconds: float


class Pace:
    """One client."""

    __slots__ = ("_bytes", "_limits", "_silent_seconds", "_waited_seconds", "_window_bytes")

    def __init__(self, limits: PaceLimits, moved_bytes: int = 0) -> None:
        """`moved_bytes`: what the connection has moved before."""
        self._limits = limits
        self._bytes = self._window_bytes = moved_bytes
        self._waited_seconds = self._silent_seconds = 0.0

    def look(self, moved_bytes: int, seconds: float) -> str | None:
        """We have waited `seconds` more, and `moved_bytes` is what came and went so far; return the limit that is
        broken.
        """
        limits = self._limits
        self._silent_seconds = self._silent_seconds + seconds if moved_bytes == self._bytes else 0.0
        self._bytes = moved_bytes
        if limits.idle_seconds and self._silent_seconds >= limits.idle_seconds:
            return IDLE
        self._waited_seconds += seconds
        if self._waited_seconds < limits.window_seconds:
            return None
        moved = moved_bytes - self._window_bytes
        is_slow = 0 < moved < limits.bytes_per_second * self._waited_seconds
        self._window_bytes = moved_bytes
        self._waited_seconds = 0.0
        return SLOW if is_slow else None
