"""Another thread, at a chosen moment of ours: what it would meet there if nothing kept it away."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

HELD_SECONDS = 0.5
"""So long one of the two waits for the other to get through. Where a lock keeps it away it doesn't, and that is right;
who is kept away by a slow machine only proves nothing."""


class Beside:
    """Calls `function` in another thread when `meet` is called for the first time, and waits for it for a moment."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1)
        self.future: Future[object] | None = None

    def meet(self) -> None:
        if self._lock.acquire(blocking=False):
            self.future = self._pool.submit(self._function)
            wait([self.future], HELD_SECONDS)

    def result(self) -> object:
        """Return what it returned, or raise what it raised."""
        assert self.future is not None, "the moment never came"
        self._pool.shutdown()
        return self.future.result()
