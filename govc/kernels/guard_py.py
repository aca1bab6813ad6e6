"""No guard: pure Python can't survive a SIGBUS. The story is in `guard`."""

from mmap import mmap


def watch(mapping: bytes | mmap) -> int:
    """Return -1: the mapping is not guarded."""
    return -1


def forget(slot: int) -> None:
    """Do nothing."""


def fault_count() -> int:
    """Return 0."""
    return 0


def fault_of(slot: int) -> int:
    """Return 0."""
    return 0
