"""The beginning of a body, made before it is decided how it is sent.

Most fetches that say what they have are answered in a millisecond, with some kilobytes. To name such a body, to look
for it in the cache and to share its production costs more than to make it again. So its production is begun where it
was asked for: what comes to its end soon is sent as it is, in one piece; of anything else what was made is the
beginning of what is shared.

Bounds: so many bytes, so many seconds of CPU (what a busy machine does meanwhile makes none longer), and no silence
(a production that waits for a helper process is no little one). They are wider for what nobody asked for before: most
of that nobody asks for again. What is asked again is kept for all who come after.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from time import thread_time
from typing import NamedTuple

from govc.cache.flight import Piece, Produce

UNDER_WAY_MAX = 4
"""So many productions of a process are begun at a time by who has no turn. Little ones hardly ever meet; what others
choose before their first byte takes time and memory, and that is what turns are for."""


class Bounds(NamedTuple):
    """What is little: up to so many bytes, so many seconds of CPU."""

    bytes_max: int
    seconds_max: float


LITTLE = Bounds(256 << 10, 0.010)
FIRST = Bounds(2 << 20, 0.060)
"""For what nobody asked for before: two megabytes that wait for a slow client, half as much as a chunk of a file. So
many are seldom made in less than 20 ms, on a busy machine in 40; and what is given up half-way, to be shared, costs its
file and its wakings on top."""


class Begun:
    """One production. `produce` is called at once, and again for every `take` after the first."""

    under_way = 0
    """How many are being begun in this process."""

    def __init__(self, produce: Produce, bounds: Bounds = LITTLE, *, clock: Callable[[], float] = thread_time) -> None:
        self._produce = produce
        self._bounds = bounds
        self._rest: Iterator[Piece] | None = None
        self._made: list[Piece] = []
        Begun.under_way += 1
        try:
            self.is_whole = self._begin(produce(), clock)
        finally:
            Begun.under_way -= 1

    def _begin(self, pieces: Iterator[Piece], clock: Callable[[], float]) -> bool:
        size, deadline = 0, clock() + self._bounds.seconds_max
        for piece in pieces:
            self._made.append(piece)
            size += len(piece) if piece else 0
            if not isinstance(piece, bytes) or size > self._bounds.bytes_max or clock() > deadline:
                self._rest = pieces
                return False
        return True

    def take(self) -> Iterator[Piece]:
        """Return the pieces from the first one on."""
        made, self._made = self._made, []
        rest, self._rest = self._rest, None
        if self.is_whole and made:
            return iter((b"".join(piece for piece in made if isinstance(piece, bytes)),))
        return chain(made, rest) if rest is not None else self._produce()

    def close(self) -> None:
        """Give up what nobody has taken."""
        rest, self._rest = self._rest, None
        close = getattr(rest, "close", None)
        if close is not None:
            close()
