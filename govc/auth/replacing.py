"""Changing a file that running servers read: under a lock, written beside it, synced, renamed over it.

Readers take no lock and see one version or the other, whole. Writers hold `FILE.lock`, so that none undoes another's
change.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator

FILE_MODE = 0o600
"""Of a new file: secrets are its owner's."""


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock of a file; waits for whoever has it. Raises OSError."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def replace_file(path: str, content: bytes) -> None:
    """Put a new file in the place of an old one, whole and synced; owner and mode of the old one are kept."""
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        _keep_owner(path, descriptor)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)
    os.rename(temporary, path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _keep_owner(path: str, descriptor: int) -> None:
    """Give the new file what the old one had: root may make tokens for a server that runs as somebody else."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        return
    new = os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o777)
