"""Git's lock files: `X.lock`, made exclusively, becomes X by a rename.

Whoever makes the file holds the lock; git and we respect each other's. A lock that is taken is waited for,
with growing pauses of about n^2 ms, up to a time-out (git: 100 ms for a ref, 1000 ms for packed-refs). The
pauses are made by a `sleep` function that is handed in (gevent's, in the server).

Texts name the path within the repository, never the server's.

Source: git's lockfile.c; git-config "core.filesRefLockTimeout", "core.packedRefsTimeout".
"""

import contextlib
import errno
import os
import random
from collections.abc import Callable
from typing import Protocol

from govc import disk
from govc.errors import GovcError

REF_LOCK_TIMEOUT_MS = 100
PACKED_LOCK_TIMEOUT_MS = 1000

_BACKOFF_MAX_MS = 1000
_PARENT_TRIES = 10

Sleep = Callable[[float], object]
"""Pauses for that many seconds."""


class FileModes(Protocol):
    """What core.sharedRepository asks for: called on every file and folder that is made."""

    def adjust_file(self, path: str) -> None:
        """Set the mode of a new file."""

    def adjust_dir(self, path: str) -> None:
        """Set the mode of a new folder."""


class PlainModes:
    """No core.sharedRepository: the umask decides."""

    def adjust_file(self, path: str) -> None:
        """Leave the file as it is."""

    def adjust_dir(self, path: str) -> None:
        """Leave the folder as it is."""


class LockFailed(GovcError):
    """A lock that can't be had. `shown` is the path within the repository, `errno` says why."""

    def __init__(self, shown: str, error_number: int) -> None:
        super().__init__(f"Unable to create '{shown}.lock': {os.strerror(error_number)}.")
        self.shown = shown
        self.errno = error_number

    @property
    def public_text(self) -> str:
        """Return the text: it names no path of the server."""
        return str(self)


class LockFile:
    """A held lock. Ends by `commit`, or by `release`, which leaves the locked file as it was."""

    __slots__ = ("lock_path", "path")

    def __init__(self, path: str) -> None:
        """Say which file is locked; `acquire_lock` makes the lock."""
        self.path = path
        self.lock_path = f"{path}.lock"

    def write(self, content: bytes, modes: FileModes, *, fsync: bool) -> None:
        """Write what the file is to become. OSError when the disk is full."""
        descriptor = disk.open_file(self.lock_path, os.O_WRONLY | os.O_TRUNC)
        try:
            disk.write_all(descriptor, content)
            if fsync:
                disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        modes.adjust_file(self.lock_path)

    def commit(self) -> None:
        """Put the new content in place: the lock is gone with it."""
        disk.rename(self.lock_path, self.path)

    def release(self) -> None:
        """Give the lock back without a change; fine when it is gone."""
        remove_file(self.lock_path)


def acquire_lock(path: str, shown: str, *, timeout_ms: int, sleep: Sleep, modes: FileModes) -> LockFile:
    """Return the held lock of `path`, making its parent folders. Raises LockFailed.

    `timeout_ms` 0: one try; negative: for ever.
    """
    lock = LockFile(path)
    waited_ms = 0.0
    step = 1
    while True:
        try:
            _create_with_parents(lock.lock_path, modes)
            return lock
        except OSError as error:
            reason = error.errno or errno.EIO
            if reason != errno.EEXIST or 0 <= timeout_ms <= waited_ms:
                raise LockFailed(shown, reason) from error
        pause_ms = min(step * step, _BACKOFF_MAX_MS) * random.uniform(0.75, 1.25)
        if timeout_ms > 0:
            pause_ms = min(pause_ms, max(timeout_ms - waited_ms, 0.1))
        sleep(pause_ms / 1000)
        waited_ms += pause_ms
        step += 1


def _create_with_parents(path: str, modes: FileModes) -> None:
    """Create a file exclusively. A folder that someone prunes meanwhile is made again."""
    for _ in range(_PARENT_TRIES):
        try:
            disk.close(disk.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            return
        except FileNotFoundError:
            make_parents(path, modes)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def make_parents(path: str, modes: FileModes) -> None:
    """Make the missing folders above `path`. NotADirectoryError when a file is in the way."""
    missing: list[str] = []
    folder = os.path.dirname(path)
    while folder and not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        try:
            disk.mkdir(folder)
        except FileNotFoundError:
            return  # a parent was pruned again: the caller's next try makes it
        except FileExistsError as error:
            if not os.path.isdir(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from error
        else:
            modes.adjust_dir(folder)


def remove_file(path: str) -> bool:
    """Remove a file; False when there was none."""
    try:
        disk.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def remove_empty_tree(path: str) -> bool:
    """Remove a folder that holds nothing but empty folders. False when something is in it."""
    try:
        for folder, _, _ in os.walk(path, topdown=False):
            disk.rmdir(folder)
    except FileNotFoundError:
        return not os.path.isdir(path)
    except OSError:
        return False
    return True


def prune_parents(path: str, stop: str) -> None:
    """Remove the folders above `path` that became empty, up to but not including `stop`."""
    folder = os.path.dirname(path)
    while folder.startswith(f"{stop}/"):
        try:
            disk.rmdir(folder)
        except OSError:
            return  # not empty, or someone else was faster
        folder = os.path.dirname(folder)


def sync_folder(path: str) -> None:
    """Make a folder's entries durable; a folder that is gone has none."""
    with contextlib.suppress(FileNotFoundError):
        disk.sync_folder(path)
