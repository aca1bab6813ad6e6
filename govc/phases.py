"""Where the time of a request goes: its phases, noted where they happen, in whatever room, thread or process.

    receive        the body of a push is read (as long as the client takes to send it)
    validate       the repository is found and its snapshot compared with the files
    negotiate      a fetch: from the parsed request to the plan of the pack
    enumerate      the objects of a pack are listed
    write          the pack's bytes are made (not: waiting for the client to take them)
    index          a pushed pack is indexed, its objects hashed and, if wanted, checked
    connectivity   is everything there that the new refs need?
    hooks          programs run, from their start to their end
    log_sync       a push waits until its record is on the disk

Who serves a request puts a `Recorder` into CURRENT; a phase notes itself there, and costs a look-up where nobody
listens. Threads that work for a request are given its context (`Runtime.call_blocking`), the producer of a shared body
adopts the recorder of the request that began it, and a helper process sends what it noted back to its parent: clocks
are CLOCK_MONOTONIC, which is the same in all processes of a machine, in seconds.
"""

from collections.abc import Generator
from contextvars import ContextVar
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Protocol, TypeVar

RECEIVE = "receive"
VALIDATE = "validate"
NEGOTIATE = "negotiate"
ENUMERATE = "enumerate"
WRITE = "write"
INDEX = "index"
CONNECTIVITY = "connectivity"
HOOKS = "hooks"
LOG_SYNC = "log_sync"
PHASES = (RECEIVE, VALIDATE, NEGOTIATE, ENUMERATE, WRITE, INDEX, CONNECTIVITY, HOOKS, LOG_SYNC)

_T = TypeVar("_T")
_Yielded = TypeVar("_Yielded")


class Phase(NamedTuple):
    """One phase, over. `seconds` is what it worked; between start and end it may have waited for others."""

    name: str
    started: float
    ended: float
    seconds: float


class Recorder(Protocol):
    """Hears of phases that are over; called from any thread."""

    def note(self, phase: Phase) -> None:
        """Take one down."""


CURRENT: ContextVar[Recorder | None] = ContextVar("govc_phases", default=None)
"""Who hears of the phases of the request that this greenlet or thread works for."""


class PhaseList:
    """A recorder that keeps them: what a helper process sends to its parent."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []

    def note(self, phase: Phase) -> None:
        """Keep it."""
        self.phases.append(phase)


class Timed:
    """`with Timed(INDEX): ...` notes what is done inside, however it ends."""

    __slots__ = ("_name", "_started")

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = monotonic()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        note(self._name, self._started)


def note(name: str, started: float) -> None:
    """Note a phase that began at `started` (monotonic) and is over now."""
    recorder = CURRENT.get()
    if recorder is not None:
        ended = monotonic()
        recorder.note(Phase(name, started, ended, ended - started))


def timed_steps(name: str, steps: "Generator[_Yielded, None, _T]") -> "Generator[_Yielded, None, _T]":
    """Yield what `steps` yields and return its result; the time inside it counts, not that between its steps."""
    if CURRENT.get() is None:
        return (yield from steps)
    first = monotonic()
    seconds = 0.0
    try:
        while True:
            started = monotonic()
            try:
                item = next(steps)
            except StopIteration as stop:
                result: _T = stop.value
                return result
            finally:
                seconds += monotonic() - started
            yield item
    finally:
        steps.close()
        recorder = CURRENT.get()
        if recorder is not None:
            recorder.note(Phase(name, first, monotonic(), seconds))
