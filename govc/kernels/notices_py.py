"""In pure Python nothing is watched: inotify can't be reached. The story is in `notices`."""

from collections.abc import Collection


class Notice:
    """See notices.Notice; one that is never quiet."""

    def watch(self, path: str, kind: int, names: Collection[bytes] | None = None) -> bool:
        """See notices.Notice."""
        del path, kind, names
        return False

    def is_quiet(self) -> bool:
        """See notices.Notice."""
        return False

    def close(self) -> None:
        """See notices.Notice."""


def watch_count() -> int:
    """See notices.watch_count."""
    return 0


def forget_in_child() -> None:
    """Nothing to forget."""
