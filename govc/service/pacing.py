"""Sharing the hub during our own loops: over many refs, many wants, many haves.

One greenlet that computes for 200 ms makes every other client of its worker wait as long. `paced` lets others run every
few milliseconds of a loop. Since those others may then ask for the very answer that is being made (fifty clients after
one push), `remembered` lets them wait for it instead of making it fifty times.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from govc.graph.interface import Ticker
from govc.repo.runtime import Runtime
from govc.repo.snapshot import Snapshot

_T = TypeVar("_T")

RUN_MAX = 1024

_WAIT_SECONDS = 0.002


def paced(items: Iterable[_T], pause: Callable[[], None]) -> Iterator[_T]:
    """Yield the items, letting others run every few milliseconds. May switch."""
    ticker = Ticker()
    for item in items:
        yield item
        if ticker.due():
            pause()
            ticker.restart()


def paced_runs(items: Sequence[_T], pause: Callable[[], None]) -> Iterable[_T]:
    """Return the items, paced in runs of RUN_MAX, for what takes a microsecond each; a few are returned as they are."""
    return items if len(items) <= RUN_MAX else _iter_runs(items, pause)


def _iter_runs(items: Sequence[_T], pause: Callable[[], None]) -> Iterator[_T]:
    for run in paced(range(0, len(items), RUN_MAX), pause):
        yield from items[run : run + RUN_MAX]


class Pace:
    """`paced`, with its pause given before."""

    __slots__ = ("_pause",)

    def __init__(self, pause: Callable[[], None]) -> None:
        self._pause = pause

    def __call__(self, items: Iterable[_T]) -> Iterator[_T]:
        """Yield the items, letting others run. May switch."""
        return paced(items, self._pause)


def remembered(snapshot: Snapshot, key: Any, runtime: Runtime, make: Callable[[], tuple[_T, bool]]) -> _T:
    """Return the answer that the snapshot holds under `key`, else what `make` makes, once at a time.

    `make` returns the answer and whether it may be kept. May switch.
    """
    derived = snapshot.derived
    making, mine = ("making", key), object()
    while key not in derived and derived.setdefault(making, mine) is not mine:  # one of several threads sets it
        runtime.sleep(_WAIT_SECONDS)
    try:
        known: _T | None = derived.get(key)
        if known is not None:
            return known
        answer, may_be_kept = make()
        if may_be_kept:
            derived[key] = answer
        return answer
    finally:
        if derived.get(making) is mine:
            del derived[making]
