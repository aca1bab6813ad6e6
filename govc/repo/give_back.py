"""Memory that large answers have used goes back to the system, once for all that end within a moment.

What an answer has read of maps and freed inside the heap is taken again by the next one: each page that was given back
is then cleared and mapped anew, which costs as much as a tenth of making a clone. So it is given back DELAY_SECONDS
after a large answer's end, whatever else comes meanwhile; a worker that has nothing to do is small a moment later.

What small answers leave is added up first: to give back costs as much as to make one of them, and until there are
ENOUGH_OBJECTS it is some megabytes for a process, whatever it serves.

Where a process doesn't live that long (`Runtime.later`), it is given back at once.
"""

from govc.kernels.guard import drop_pages
from govc.memory import trim
from govc.repo.runtime import Runtime

DELAY_SECONDS = 0.25
ENOUGH_OBJECTS = 100_000


def give_back() -> None:
    """Give back what was read and freed; takes milliseconds, see `kernels.guard` and `memory`."""
    drop_pages()
    trim()


class GiveBack:
    """When to; for one process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._is_due = False
        self._object_count = 0

    def soon(self, object_count: int) -> None:
        """Say that an answer of so many objects has ended. May switch."""
        self._object_count += object_count
        if self._object_count < ENOUGH_OBJECTS:
            return
        self._object_count = 0
        if self._runtime.later is None:
            self._runtime.call_blocking(give_back)
        elif not self._is_due:
            self._is_due = True
            self._runtime.later(DELAY_SECONDS, self._now)

    def _now(self) -> None:
        self._is_due = False  # before: who ends meanwhile says so again
        self._runtime.call_blocking(give_back)
