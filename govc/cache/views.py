"""A flight as a reader sees it: one of this process, which tells its news, or another's, which is looked at."""

import time
from collections.abc import Callable
from typing import Protocol

from govc.cache.flight import POLL_SECONDS, Flight, Follower, RemoteFlight, span_at
from govc.cache.record import FlightState, FlightStatus
from govc.errors import Refused

WAIT_SECONDS = 0.25
LOOK_SECONDS = 0.025
"""How often who waits for the end of another process's flight looks for it; of many who do, one looks for all."""

Boarded = tuple[Flight, Follower] | RemoteFlight
"""A place in a flight: of this process, or of another one."""


class View(Protocol):
    """What a reader needs of a flight."""

    def read(self) -> FlightStatus:
        """Return how far it is."""

    def wait(self) -> None:
        """Wait for news, a while at most. May switch."""

    def rest(self, seconds: float) -> None:
        """Wait for the end, so long at most. May switch."""

    def wants_all(self, *, does: bool) -> None:
        """Say whether this reader waits for the end before he reads: then nobody is to wait for him."""

    def place(self, status: FlightStatus, position: int) -> tuple[int, int, int]:
        """Return (descriptor, offset, length) of what may be read next."""

    def move_to(self, position: int) -> None:
        """Say that everything before `position` was sent."""

    def refusal(self) -> Refused | None:
        """Return why nothing was produced, where that is known."""

    def is_dropped(self, status: FlightStatus) -> bool:
        """Say whether this reader can't go on."""


class _Local(View):
    """A flight of this process."""

    def __init__(self, flight: Flight, follower: Follower) -> None:
        self._flight = flight
        self._follower = follower
        self._news = flight.news

    def read(self) -> FlightStatus:
        self._news = self._flight.news  # before the status: what happens after it is not missed
        return self._flight.status

    def wait(self) -> None:
        self._news.wait(WAIT_SECONDS)

    def rest(self, seconds: float) -> None:
        self._flight.ended.wait(seconds)

    def wants_all(self, *, does: bool) -> None:
        self._follower.wants_all = does

    def place(self, status: FlightStatus, position: int) -> tuple[int, int, int]:
        return span_at(status, self._flight.part, self._flight.base, position)

    def move_to(self, position: int) -> None:
        self._follower.move_to(position)

    def refusal(self) -> Refused | None:
        return self._flight.refusal

    def is_dropped(self, status: FlightStatus) -> bool:
        return self._follower.is_dropped


class _Remote(View):
    """A flight of another process."""

    def __init__(self, flight: RemoteFlight, sleep: Callable[[float], None]) -> None:
        self._flight = flight
        self._sleep = sleep
        self._polls = 0
        self._wants_all = False
        self._position = 0

    def read(self) -> FlightStatus:
        return self._flight.read()

    def wait(self) -> None:
        # Again: who said so at the same moment may have undone it, and the producer would wait for us as we for him.
        self._flight.move_to(self._position)
        self._sleep(POLL_SECONDS[min(self._polls, len(POLL_SECONDS) - 1)])
        self._polls += 1

    def rest(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._sleep(min(left, LOOK_SECONDS))
            status = self._flight.glance(LOOK_SECONDS / 2)
            if status.state is not FlightState.RUNNING or status.window:
                return
            if self._wants_all:
                self._flight.move_to(status.published)

    def wants_all(self, *, does: bool) -> None:
        self._wants_all = does

    def place(self, status: FlightStatus, position: int) -> tuple[int, int, int]:
        return span_at(status, self._flight.part, self._flight.base, position)

    def move_to(self, position: int) -> None:
        self._polls = 0
        self._position = position
        self._flight.move_to(position)

    def refusal(self) -> Refused | None:
        return None

    def is_dropped(self, status: FlightStatus) -> bool:
        return bool(status.window)


def view_of(boarded: Boarded, sleep: Callable[[float], None]) -> View:
    """Return what the reader with this place sees."""
    return _Remote(boarded, sleep) if isinstance(boarded, RemoteFlight) else _Local(*boarded)
