"""Waiting for what will come true, and never for a time: a busy machine is slow, not wrong.

The limit is for what never comes; no test may depend on how long something takes.
"""

import time
from collections.abc import Callable

SECONDS = 120
"""Far beyond what anything takes on a machine that is ten times too busy."""


def wait_until(condition: Callable[[], object], what: str = "it", seconds: float = SECONDS) -> None:
    """Return once `condition()` holds; fails, naming `what`, when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.01)
