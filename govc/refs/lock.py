"""Git's lock files: `X.lock`, made exclusively, becomes X by a rename.

Whoever makes the file holds the lock; git and we respect each other's. With a `LockOwner` the file is made elsewhere
and linked to `X.lock`: after a kill that tells our locks from git's, and a lock of a dead process of ours is removed
by who meets it. A lock that is taken is waited for,
with growing pauses of about n^2 ms, up to a time-out (git: 100 ms for a ref, 1000 ms for packed-refs). The
pauses are made by a `sleep` function that is handed in (gevent's, in the server).

A lock that every push to a repository needs (of a stack of reftables, of packed-refs) is held while a record is synced,
so with many pushes at once, or a slow disk, a fixed time-out refuses some of them although all goes well. Who waits
with a `queue_ms` gives up on a holder that stands still, not on a queue that moves: the time-out begins anew when the
lock changes hands. His pauses stay short, or whoever has waited longest would try least often.

Texts name the path within the repository, never the server's.

Source: git's lockfile.c; git-config "core.filesRefLockTimeout", "core.packedRefsTimeout".
"""

import contextlib
import errno
import logging
import os
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from govc import disk
from govc.errors import GovcError

REF_LOCK_TIMEOUT_MS = 100
PACKED_LOCK_TIMEOUT_MS = 1000

_BACKOFF_MAX_MS = 1000
_QUEUE_PAUSE_MAX_MS = 20
_PARENT_TRIES = 10
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)

log = logging.getLogger(__name__)

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


class LockOwner(Protocol):
    """Who holds locks: knows its own after a crash."""

    def next_lock_path(self) -> str:
        """Return a path, on the file system of the repository, for one more lock's own file."""

    def break_dead(self, lock_path: str) -> bool:
        """Deal with a lock that is in the way: True when it was a dead process of ours that held it, and it is gone."""


class LockFile:
    """A held lock. Ends by `commit`, or by `release`, which leaves the locked file as it was."""

    __slots__ = ("_has_ended", "_own_path", "lock_path", "path")

    def __init__(self, path: str, own_path: str | None = None) -> None:
        """Say which file is locked; `acquire_lock` makes the lock. `own_path`: the lock's other name."""
        self.path = path
        self.lock_path = f"{path}.lock"
        self._own_path = own_path
        self._has_ended = False

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
        self._has_ended = True
        with tolerant():  # whoever was told that it failed would take back what others see already
            self._drop_own()

    def release(self) -> None:
        """Give the lock back without a change; fine when it is gone, or somebody else's by now."""
        if self.is_held():
            remove_file(self.lock_path)
        self._has_ended = True
        self._drop_own()

    def is_held(self) -> bool:
        """Say whether the lock file that is there now is this lock's, and not one of a later holder."""
        if self._has_ended:
            return False
        if self._own_path is None:
            return os.path.lexists(self.lock_path)
        return _is_same_file(self._own_path, self.lock_path)

    def _drop_own(self) -> None:
        own, self._own_path = self._own_path, None
        if own is not None:
            remove_file(own)


def _is_same_file(first: str, second: str) -> bool:
    try:
        return os.path.samestat(os.lstat(first), os.lstat(second))
    except FileNotFoundError:
        return False


HeldLocks = Mapping[str, LockFile]
"""Locks by the path of the lock file."""


def is_among(locks: HeldLocks | None, lock_path: str) -> bool:
    """Say whether the lock file that is there now may be of these locks; None: whose they were can't be asked."""
    if locks is None:
        return True
    lock = locks.get(lock_path)
    return lock is not None and lock.is_held()


@contextlib.contextmanager
def tolerant() -> Iterator[None]:
    """Go on when a lock or a new reflog can't be removed: what is decided stays so. A restart finds the lock."""
    try:
        yield
    except OSError as error:
        log.error("left behind: %s", error)


def acquire_lock(
    path: str,
    shown: str,
    *,
    timeout_ms: int,
    sleep: Sleep,
    modes: FileModes,
    owner: LockOwner | None = None,
    queue_ms: int = 0,
) -> LockFile:
    """Return the held lock of `path`, making its parent folders. Raises LockFailed.

    `timeout_ms` 0: one try; negative: for ever. It begins anew with each holder until `queue_ms` have gone by in all.
    """
    lock_path = f"{path}.lock"
    own_path = _create_own(owner)
    pause_max_ms = _QUEUE_PAUSE_MAX_MS if queue_ms else _BACKOFF_MAX_MS
    waited_ms = waited_before_ms = 0.0
    holder: tuple[int, int] | None = None
    step = 1
    while True:
        try:
            own_path = _create_with_parents(lock_path, own_path, modes)
            return LockFile(path, own_path)
        except OSError as error:
            reason = error.errno or errno.EIO
            if reason == errno.EEXIST and owner is not None and owner.break_dead(lock_path):
                continue
            if waited_ms < queue_ms and (now := _holder_of(lock_path)) != holder:
                holder, waited_before_ms = now, waited_ms
            if reason != errno.EEXIST or 0 <= timeout_ms <= waited_ms - waited_before_ms:
                if own_path is not None:
                    remove_file(own_path)
                raise LockFailed(shown, reason) from error
        pause_ms = min(step * step, pause_max_ms) * random.uniform(0.75, 1.25)
        if timeout_ms > 0:
            pause_ms = min(pause_ms, max(timeout_ms - (waited_ms - waited_before_ms), 0.1))
        sleep(pause_ms / 1000)
        waited_ms += pause_ms
        step += 1


def _holder_of(lock_path: str) -> tuple[int, int] | None:
    """Return what tells one holder of a lock from the next. One who writes into it passes for another: he is alive."""
    try:
        status = os.lstat(lock_path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _create_own(owner: LockOwner | None) -> str | None:
    """Create the lock's own file; None without an owner."""
    if owner is None:
        return None
    path = owner.next_lock_path()
    try:
        disk.close(disk.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except OSError as error:
        raise LockFailed(os.path.basename(path), error.errno or errno.EIO) from error
    return path


def _create_with_parents(lock_path: str, own_path: str | None, modes: FileModes) -> str | None:
    """Create a lock exclusively; return `own_path` when it is linked to that.

    A folder that someone prunes meanwhile is made again. Where links don't work, the lock is a file by itself.
    """
    for _ in range(_PARENT_TRIES):
        try:
            if own_path is not None:
                disk.link(own_path, lock_path)
            else:
                disk.close(disk.open_file(lock_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            return own_path
        except FileNotFoundError:
            make_parents(lock_path, modes)
        except OSError as error:
            if own_path is None or error.errno not in _NO_LINKS:
                raise
            remove_file(own_path)
            own_path = None
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), lock_path)


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
    """Remove a file; False when there was none, be there a folder of that name."""
    try:
        disk.unlink(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    return True


def remove_empty_tree(path: str) -> bool:
    """Remove a folder that holds nothing but empty folders. False when something is in it."""
    try:
        for folder, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(FileNotFoundError):  # somebody else prunes it, too
                disk.rmdir(folder)
    except OSError:
        return not os.path.isdir(path)
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
