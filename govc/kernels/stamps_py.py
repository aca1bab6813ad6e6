"""Are many files what they were? In pure Python; the story is in `stamps`."""

import errno
import os
from collections.abc import Iterable

_ABSENT_ERRNOS = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)

_Signature = tuple[int, int, int, int, int]


class Stamps:
    """See stamps.Stamps."""

    def __init__(self, present: Iterable[tuple[str, _Signature]], absent: Iterable[str]) -> None:
        self.present = tuple(present)
        self.absent = tuple(absent)
        if any("\0" in path for path in (*(path for path, _ in self.present), *self.absent)):
            raise ValueError("a path holds a NUL")

    def __len__(self) -> int:
        return len(self.present) + len(self.absent)

    def are_current(self) -> bool:
        """See stamps.Stamps."""
        stat = os.stat
        try:
            for path, (device, inode, size, mtime_ns, ctime_ns) in self.present:
                now = stat(path)
                if (
                    now.st_ctime_ns != ctime_ns
                    or now.st_ino != inode
                    or now.st_mtime_ns != mtime_ns
                    or now.st_size != size
                    or now.st_dev != device
                ):
                    return False
        except OSError:
            return False
        return all(_is_absent(path) for path in self.absent)


def _is_absent(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        return error.errno in _ABSENT_ERRNOS
    return False
