"""The locks of a log between processes: an flock on an empty file, through a descriptor of its own.

flock doesn't exclude greenlets of one process that share a descriptor: each holder opens the file anew.
"""

import fcntl
import os
from types import TracebackType

from govc import disk


class Flocked:
    """`with Flocked(path, mode): ...` holds an exclusive flock on a file, created when missing, through a descriptor
    of its own. A class, since a push takes three of them.
    """

    __slots__ = ("_descriptor", "_mode", "_path")

    def __init__(self, path: str, mode: int) -> None:
        self._path = path
        self._mode = mode
        self._descriptor = -1

    def __enter__(self) -> None:
        self._descriptor = disk.open_with_mode(self._path, os.O_RDWR | os.O_CREAT, self._mode)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            disk.close(self._descriptor)
            raise

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        disk.close(self._descriptor)
