"""What is refused when the machine is short: the expensive first.

    threshold reached                        clones and archives
    half of the way from there to 100 %      fetches and pushes, too

Listings of refs and answers that are made already are no operations: they are given as long as we can answer at all.
Each worker reads the pressure for itself, at most once a second, and only when an operation lines up.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from govc.errors import Refused
from govc.limits.pressure import Pressure
from govc.limits.watch import NO_WATCH, LimitWatch

SAMPLE_SECONDS = 1.0
RETRY_SECONDS = 15.0
"""Pressure is an average over ten seconds: sooner it will hardly be another."""

_EXPENSIVE = ("clone", "archive")


class Thresholds(NamedTuple):
    """Percent from which on something is refused; 0: never."""

    cpu: int = 0
    memory: int = 0
    stall: int = 0


_SETTINGS = {"cpu": "shed_cpu_percent", "memory": "shed_memory_percent", "stall": "shed_stall_percent"}


class Shedder:
    """See the story of this module."""

    def __init__(
        self,
        read: Callable[[], Pressure],
        thresholds: Thresholds,
        *,
        watch: LimitWatch = NO_WATCH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._thresholds = thresholds
        self._watch = watch
        self._clock = clock
        self._next = float("-inf")
        self._short: list[tuple[str, bool]] = []

    def check(self, operation: str) -> None:
        """Raise Refused when the machine is too short for an operation of that sort."""
        now = self._clock()
        if now >= self._next:
            self._next = now + SAMPLE_SECONDS
            self._sample()
        for resource, is_badly in self._short:
            if is_badly or operation in _EXPENSIVE:
                what = "processor time" if resource == "cpu" else "memory"
                text = f"The server is short of {what} at the moment. Please try again in a while."
                raise Refused(_SETTINGS[resource], text, http_status=503, retry_after_seconds=RETRY_SECONDS)

    def _sample(self) -> None:
        pressure = self._read()
        self._short = []
        for resource, threshold, percent in zip(_SETTINGS, self._thresholds, pressure, strict=True):
            self._watch.pressure(resource, percent)
            if threshold and percent >= threshold:
                self._short.append((resource, percent >= threshold + (100 - threshold) / 2))
