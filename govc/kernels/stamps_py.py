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
        return all(_is_same(path, was) for path, was in self.present) and all(map(_is_absent, self.absent))

    def changed(self) -> frozenset[str]:
        """See stamps.Stamps."""
        return frozenset(path for path, was in self.present if not _is_same(path, was))


def _is_same(path: str, was: _Signature) -> bool:
    try:
        now = os.stat(path)
    except OSError:
        return False
    return was == (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def _is_absent(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        return error.errno in _ABSENT_ERRNOS
    return False
