"""What the limits tell whoever counts: refusals by the limit that made them, who waits and for how long, who works."""

from typing import Protocol


class LimitWatch(Protocol):
    """Told of what happens. `limit` is the name of a setting, `operation` one of a few words."""

    def refused(self, limit: str) -> None:
        """A limit has refused or ended something."""

    def waiting(self, change: int) -> None:
        """So many more (or fewer) stand in the queue."""

    def waited(self, seconds: float) -> None:
        """Somebody has left the queue, let in or not."""

    def working(self, operation: str, change: int) -> None:
        """So many more (or fewer) operations are under way."""

    def pressure(self, resource: str, percent: float) -> None:
        """How short "cpu" or "memory" is."""


class NoWatch:
    """Nobody wants to know."""

    def refused(self, limit: str) -> None:
        """Tell nobody."""

    def waiting(self, change: int) -> None:
        """Tell nobody."""

    def waited(self, seconds: float) -> None:
        """Tell nobody."""

    def working(self, operation: str, change: int) -> None:
        """Tell nobody."""

    def pressure(self, resource: str, percent: float) -> None:
        """Tell nobody."""


NO_WATCH = NoWatch()
