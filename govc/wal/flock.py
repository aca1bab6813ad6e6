"""The locks of a log between processes: an flock on an empty file, through a descriptor of its own.

flock doesn't exclude greenlets of one process that share a descriptor: each holder opens the file anew.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from govc import disk


@contextmanager
def flocked(path: str, mode: int) -> Iterator[None]:
    """Hold an exclusive flock on a file, created when missing, through a descriptor of its own."""
    descriptor = disk.open_with_mode(path, os.O_RDWR | os.O_CREAT, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        disk.close(descriptor)
