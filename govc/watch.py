"""Has this file changed? Answered by comparing `stat` results, honestly about the clock's grain.

A cached picture of a file is valid while device, inode, size, mtime and ctime are what they were. Some
traps:

- A file system stamps with a coarse clock (4 ms on common kernels, 1 s or 2 s on old file systems). Two
  writes within one tick leave the same stamps. So a stamp that was younger than the grain when we read is
  *unsettled*: the signature proves nothing yet, and the file is read again next time. Only ctime is asked,
  because anybody can set mtime and nobody can set ctime. A stamp from the future is unsettled too.
- Newer kernels (6.13 and later) give a file on ext4, xfs, btrfs and tmpfs another stamp at each change, if somebody has
  asked for the last one. Then a folder's stamp proves what its listing said, however young it is (`watch_folder`):
  listing, changing and stamping are done under the folder's lock. Not so a file's: it is stamped before its new content
  is there, and who reads in between has the old content and the new stamp.
- A file can change between the stat and the read. So the stat is taken before and after, until both agree.

What this isn't: inotify. Nothing here waits, and nothing is kept open except what `HeldInode` is asked to
keep. The `stat` function is always an argument, so that tests can use a clock with any grain.
"""

import errno
import os
import posix  # its close: gevent's, in os, asks the kernel twice more, for the sake of sockets
import re
import stat as stat_modes
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

StatFunction = Callable[[str], os.stat_result]
ClockNs = Callable[[], int]

GRAIN_NS = 20_000_000
"""Younger than this is unsettled: five ticks of the slowest common kernel clock (HZ=250)."""

COARSE_GRAIN_NS = 2_100_000_000
"""The same for a file system that stamps in whole seconds (FAT: two of them)."""

EXACT_SINCE = (6, 13)
EXACT_FILE_SYSTEMS = frozenset(("btrfs", "ext4", "tmpfs", "xfs"))
"""From that Linux on these have a new stamp at each change ("multigrain timestamps")."""

READ_TRIES = 100
"""A file that changes this often while it is being read is returned unsettled."""

OUR_TROUBLE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
"""Errors of opening that say nothing about the file. A picture taken under one of them must not be kept."""

_ABSENT_ERRNOS = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))
_SECOND_NS = 1_000_000_000
_RELEASE = re.compile(r"(\d+)\.(\d+)")


class StatSignature(NamedTuple):
    """What `stat` says about one file, as far as it changes when the file does."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


_signature = tuple.__new__
"""What StatSignature's own constructor calls: a push makes dozens."""


def signature_from(result: os.stat_result) -> StatSignature:
    """Return the signature within a stat result that was already taken."""
    return StatSignature(result.st_dev, result.st_ino, result.st_size, result.st_mtime_ns, result.st_ctime_ns)


def signature_of(path: str, stat: StatFunction = os.stat) -> StatSignature | None:
    """Return the signature of a file or folder, or None when there is none. Other errors are OSError."""
    try:
        found = stat(path)
    except OSError as error:
        if error.errno in _ABSENT_ERRNOS:
            return None
        raise
    return _signature(StatSignature, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


def _visible_signature(path: str, stat: StatFunction) -> StatSignature | None:
    """Return the signature; None also when a folder on the way may not be entered: reading tells what that means."""
    try:
        found = stat(path)
    except OSError as error:
        if error.errno in _ABSENT_ERRNOS or isinstance(error, PermissionError):
            return None
        raise
    return _signature(StatSignature, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


def is_settled(signature: StatSignature, now_ns: int, grain_ns: int = GRAIN_NS) -> bool:
    """Say whether a change made after `now_ns` must show in the signature.

    `now_ns` is the time just before the content was read, by a clock that agrees with the file system's. A
    stamp of whole seconds is taken for a coarse file system's, whose grain is two seconds.
    """
    if signature.ctime_ns % _SECOND_NS == 0 and signature.mtime_ns % _SECOND_NS == 0:
        grain_ns = max(grain_ns, COARSE_GRAIN_NS)
    return now_ns - signature.ctime_ns >= grain_ns


class WatchedFile(NamedTuple):
    """A file or folder as it was when it was read.

    `signature` None: it was absent, or out of our reach (and that is settled).
    """

    path: str
    signature: StatSignature | None
    is_settled: bool

    def is_current(self, stat: StatFunction = os.stat) -> bool:
        """Say whether what was read then is what would be read now. One stat; none when unsettled."""
        return self.is_settled and _visible_signature(self.path, stat) == self.signature


def watch_path(
    path: str, stat: StatFunction = os.stat, clock_ns: ClockNs = time.time_ns, grain_ns: int = GRAIN_NS
) -> WatchedFile:
    """Return the watch of a file or folder. Call it BEFORE reading or listing, never after."""
    now_ns = clock_ns()
    signature = _visible_signature(path, stat)
    settled = signature is None or is_settled(signature, now_ns, grain_ns)
    return WatchedFile(path=path, signature=signature, is_settled=settled)


def watch_folder(
    path: str, stat: StatFunction = os.stat, clock_ns: ClockNs = time.time_ns, grain_ns: int = GRAIN_NS
) -> WatchedFile:
    """Return the watch of a folder whose names are about to be listed: settled at once where its file system shows each
    change of it.
    """
    watch = watch_path(path, stat, clock_ns, grain_ns)
    if watch.is_settled or watch.signature is None or stat is not os.stat:
        return watch
    if watch.signature.ctime_ns % _SECOND_NS == 0:
        return watch  # inodes of 128 bytes (ext4 that was ext3 once, or small) have no room for more than seconds
    return watch._replace(is_settled=True) if shows_each_change(watch.signature.device) else watch


@lru_cache(maxsize=64)
def shows_each_change(device: int) -> bool:
    """Say whether any two changes of a file there have different stamps, if it was asked for its stamp in between."""
    release = _RELEASE.match(os.uname().release)
    if os.uname().sysname != "Linux" or release is None or (int(release[1]), int(release[2])) < EXACT_SINCE:
        return False
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file_system_of(device, file) in EXACT_FILE_SYSTEMS
    except OSError:
        return False


def file_system_of(device: int, mountinfo: Iterable[str]) -> str:
    """Return the type of the file system on a device, "" when it isn't told, or not in one word.

    Source: proc_pid_mountinfo(5).
    """
    wanted = f"{os.major(device)}:{os.minor(device)}"
    types = set()
    for line in mountinfo:
        fields = line.split(" ")
        if len(fields) > 2 and fields[2] == wanted and "-" in fields[6:]:
            types.add(fields[fields.index("-", 6) + 1])
    return types.pop() if len(types) == 1 else ""


def are_current(files: Iterable[WatchedFile], stat: StatFunction = os.stat) -> bool:
    """Say whether every one of the files is still what it was."""
    return all(file.is_current(stat) for file in files)


def read_watched(
    path: str,
    *,
    bytes_max: int,
    stat: StatFunction = os.stat,
    clock_ns: ClockNs = time.time_ns,
    grain_ns: int = GRAIN_NS,
) -> tuple[bytes | None, WatchedFile]:
    """Return (content, watch) of a regular file; content is None when it is absent.

    Stats before and after reading and starts over when they differ. Content longer than `bytes_max` bytes
    and anything but a regular file raise OSError (EFBIG, EISDIR, EINVAL), as does a file that can't be read.
    """
    watch = watch_path(path, stat, clock_ns, grain_ns)
    for _ in range(READ_TRIES):
        content = read_regular(path, bytes_max)
        after = watch_path(path, stat, clock_ns, grain_ns)
        if after.signature == watch.signature and (content is None) == (after.signature is None):
            return content, watch
        watch = after
    return content, WatchedFile(path=path, signature=watch.signature, is_settled=False)


def read_regular(path: str, bytes_max: int, flags: int = 0) -> bytes | None:
    """Return the content of a regular file, None when absent. Never blocks on a pipe or reads a device.

    `flags`: more of open's; with O_NOFOLLOW a symbolic link is absent.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    except OSError as error:
        if error.errno in _ABSENT_ERRNOS:
            return None
        raise
    try:
        result = os.fstat(descriptor)
        if stat_modes.S_ISDIR(result.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat_modes.S_ISREG(result.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return _read_all(descriptor, result.st_size, bytes_max, path)
    finally:
        posix.close(descriptor)


def _read_all(descriptor: int, size_hint: int, bytes_max: int, path: str) -> bytes:
    """Read to the end; what the size says and, for growth to be noticed, room for more."""
    if size_hint > bytes_max:
        raise OSError(errno.EFBIG, "file too large", path)
    pieces: list[bytes] = []
    total = 0
    while piece := os.read(descriptor, max(size_hint + 1 - total, 65536 if total else 512)):
        pieces.append(piece)
        total += len(piece)
        if total > bytes_max:
            raise OSError(errno.EFBIG, "file too large", path)
        if total == size_hint:
            break
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class HeldInode:
    """Keeps a descriptor open on a file, so that its inode number can't be given to another file meanwhile.

    Closed by `close()`, or when the last holder forgets it.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, path: str) -> None:
        """Open the file; a missing or unreadable one holds nothing."""
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            self._descriptor = -1

    def signature(self) -> StatSignature | None:
        """Return the signature of the held file (also when its name is gone), None when nothing is held."""
        return signature_from(os.fstat(self._descriptor)) if self._descriptor >= 0 else None

    def close(self) -> None:
        """Let go; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            posix.close(descriptor)

    def __del__(self) -> None:
        self.close()
