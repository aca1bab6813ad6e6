"""How this process waits: the three things that differ between gevent, a CGI program and a helper.

`app` chooses one and hands it down; no room below asks which it is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _call_here(function: Callable[..., Any], /, *arguments: Any) -> Any:
    return function(*arguments)


def _do_not_pause() -> None:
    return None


Later = Callable[[float, Callable[[], None]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """`call_blocking(f, *args)` runs a call that blocks in the kernel (fsync) without stalling others;
    `call_cpu(f, *args)` one that computes for some milliseconds without the GIL, in a pool of its own: a sync never
    queues behind somebody's indexing;
    `pause()` lets others run between two chunks of our CPU work; `sleep(seconds)` waits;
    `lock_sleep(seconds)` waits inside a `call_blocking` call; `later(seconds, f)`, from any thread, calls f after a
    time (None where the process doesn't live that long): beside what is asked, so what blocks there is for
    `call_blocking`, as anywhere (`later_blocking`).
    """

    call_blocking: Callable[..., Any] = _call_here
    call_cpu: Callable[..., Any] = _call_here
    pause: Callable[[], None] = _do_not_pause
    sleep: Callable[[float], None] = time.sleep
    lock_sleep: Callable[[float], None] = time.sleep
    later: Later | None = None


def later_blocking(runtime: Runtime) -> Later | None:
    """Return `runtime.later` for functions that block."""
    later = runtime.later
    if later is None:
        return None

    def start(seconds: float, function: Callable[[], None]) -> None:
        later(seconds, lambda: runtime.call_blocking(function))

    return start


class Breather:
    """Pauses when others have waited for `PAUSE_AFTER_SECONDS`: called between small steps, it mostly does nothing.

    Reading a socket that always has data never switches greenlets by itself, so an upload over a fast link would
    keep everybody else waiting.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._pause = runtime.pause
        self._last = time.monotonic()

    def __call__(self) -> None:
        """Pause if it is time to."""
        if time.monotonic() - self._last >= PAUSE_AFTER_SECONDS:
            self._pause()
            self._last = time.monotonic()

    def has_paused(self) -> None:
        """Take down that others had their turn just now."""
        self._last = time.monotonic()


PAUSE_AFTER_SECONDS = 0.002

PLAIN = Runtime()
