"""What the graph asks of a store, and how long work shares the processor.

The graph knows no pack and no file: it sees objects through `ObjectReader`, by *object number* (a small int
that names an object inside one store for as long as the store lives; -1 means absent).

Work that may take more than a few milliseconds is a generator: it yields None (a *tick*) about every two
milliseconds, so that its caller can let others run, and returns its result. Inside another such generator it
is called with `yield from`; where nobody waits, `drain` runs it to its end.
"""

from collections.abc import Generator
from time import perf_counter
from typing import Protocol, TypeAlias, TypeVar

from govc.protocol.oid import HashAlgorithm

_T = TypeVar("_T")

Work: TypeAlias = Generator[None, None, _T]
"""A generator of ticks that returns a `_T`."""

TICK_SECONDS = 0.002


class ObjectReader(Protocol):
    """The part of an object store that the graph needs."""

    @property
    def algo(self) -> HashAlgorithm:
        """The hash that names the objects."""

    def find(self, oid: bytes, /) -> int:
        """Return the number of the object with that name, or -1."""

    def oid_of(self, number: int, /) -> bytes:
        """Return the name of a numbered object."""

    def read(self, number: int, /) -> tuple[int, bytes]:
        """Return (type 1..4, content). Raises Corrupt or ObjectMissing."""

    def type_of(self, number: int, /) -> int:
        """Return the type, 1..4."""

    def size_of(self, number: int, /) -> int:
        """Return the size of the content, in bytes."""


class Ticker:
    """Tells when the next tick is due. The time spent outside, between two ticks, doesn't count."""

    __slots__ = ("_deadline",)

    def __init__(self) -> None:
        self._deadline = perf_counter() + TICK_SECONDS

    def due(self) -> bool:
        """Return True when the caller should yield now."""
        return perf_counter() > self._deadline

    def restart(self) -> None:
        """Count from now: called when the caller goes on after a tick."""
        self._deadline = perf_counter() + TICK_SECONDS


def drain(work: Work[_T]) -> _T:
    """Run `work` to its end without a pause and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: _T = stop.value
            return result
