"""A repository that was in use in two crashes is out of service for a while: one bad disk must not end every worker.

    <cache_dir>/crashes/
        worker-<id>.now      257 slots of 256 bytes: which repositories a worker's requests use at this moment; locked.
                             The first is a byte that others set when there are new crashes to know of
        worker-<id>.trace    what Python wrote when a fatal signal came (faulthandler): not empty after a crash only
        worker-<id>.new      a `.now` that is being made
        <digest>             one line for each crash in which that repository was in use: seconds since 1970

A worker maps its `.now`, so what stands there outlives it without a system call per request. It is SIGSEGV, SIGBUS,
SIGFPE and SIGILL that count as crashes; a worker that is killed or ends by itself leaves an empty trace. Whoever starts
next gathers what the dead have left. Nothing here is needed: the folder may be removed at any time.
"""

import faulthandler
import fcntl
import hashlib
import logging
import mmap
import os
import secrets
import signal
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from govc.errors import GovcError

log = logging.getLogger(__name__)

FOLDER = "crashes"
SLOT_BYTES = 256
SLOT_COUNT = 256
DIGEST_BYTES = 16
CRASHES_MAX = 2
"""So many, and it is out of service."""

MEMORY_SECONDS = 3600.0
"""A crash that is longer ago doesn't count any more."""

TRACE_BYTES_MAX = 64 << 10
_NEW, _NOW, _TRACE = ".new", ".now", ".trace"
_EMPTY = bytes(SLOT_BYTES)
_MAP_BYTES = SLOT_BYTES * (1 + SLOT_COUNT)


class OutOfService(GovcError):
    """The repository was in use when workers crashed. Answered 503."""

    http_status = 503

    def __init__(self, path: str, count: int, seconds: float) -> None:
        super().__init__(
            f"{path}: out of service for another {seconds / 60:.0f} minutes: {count} workers crashed while it was in "
            "use. The log has their traces; `govc fsck` looks for damage"
        )
        self.path = path

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return "the repository is out of service, as the server crashed in its use; its administrator has to look at it"


class Use:
    """One request's use of a repository, until this is no longer referred to."""

    __slots__ = ("_notes", "_slot")

    def __init__(self, notes: "CrashNotes", slot: int) -> None:
        self._notes = notes
        self._slot = slot

    def __del__(self) -> None:
        """The request is over."""
        self._notes._leave(self._slot)


class CrashNotes:
    """The notes of this process, once `begin` was called; before, and where that failed, nothing is noted."""

    def __init__(self, cache_dir: str, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = os.path.join(cache_dir, FOLDER)
        self._clock = clock
        self._map: mmap.mmap | None = None
        self._files: dict[str, BinaryIO] = {}
        self._free: list[int] = []
        self._entries: dict[str, bytes] = {}

    def begin(self) -> None:
        """Gather what dead workers have left, and note from now on what this one uses. Nothing when it can't be."""
        if self._map is not None or faulthandler.is_enabled():  # somebody else wants the traces of this process
            return
        try:
            self._make_folder()
            self.gather()
            self._open()
        except OSError as error:
            self._remove_files()
            log.warning("%s: crashes are not noted: %s", self.folder, error.strerror)

    def _make_folder(self) -> None:
        os.makedirs(self.folder, 0o700, exist_ok=True)
        status = os.lstat(self.folder)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(0, "not a folder that is ours alone", self.folder)

    def _open(self) -> None:
        name = f"{self.folder}/worker-{secrets.token_hex(8)}"
        # Locked before it has its name: who gathers takes one that isn't for a dead worker's, and removes it.
        now = open(f"{name}{_NEW}", "x+b", buffering=0)  # noqa: SIM115 - both stay open as long as the process
        self._files[f"{name}{_NEW}"] = now
        fcntl.flock(now, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.posix_fallocate(now.fileno(), 0, _MAP_BYTES)  # a hole that the disk has no room for ends who writes to it
        os.rename(f"{name}{_NEW}", f"{name}{_NOW}")
        self._files[f"{name}{_NOW}"] = self._files.pop(f"{name}{_NEW}")
        trace = open(f"{name}{_TRACE}", "xb", buffering=0)  # noqa: SIM115
        self._files[f"{name}{_TRACE}"] = trace
        self._map = mmap.mmap(now.fileno(), _MAP_BYTES)
        self._free = list(range(SLOT_BYTES, _MAP_BYTES, SLOT_BYTES))
        # A worker that hangs is ended by its master with SIGABRT, which it handles: that stays as it is.
        on_abort = signal.getsignal(signal.SIGABRT)
        faulthandler.enable(trace)
        if on_abort is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGABRT, on_abort)

    def close(self) -> None:
        """End cleanly."""
        if self._map is None:
            return
        self._map = None
        faulthandler.disable()
        self._remove_files()

    def _remove_files(self) -> None:
        for path, file in self._files.items():
            with suppress(FileNotFoundError):
                os.unlink(path)
            file.close()
        self._files.clear()

    def enter(self, gitdir: str) -> Use | None:
        """Note a request; None when nothing is noted, or too many are at once."""
        if self._map is None or not self._free:
            return None
        entry = self._entries.get(gitdir)
        if entry is None:
            if len(self._entries) > SLOT_COUNT:
                self._entries.clear()
            tail = os.fsencode(gitdir)[-(SLOT_BYTES - DIGEST_BYTES) :]
            entry = self._entries[gitdir] = (_digest(gitdir) + tail).ljust(SLOT_BYTES, b"\0")
        slot = self._free.pop()
        self._map[slot : slot + SLOT_BYTES] = entry
        return Use(self, slot)

    def _leave(self, slot: int) -> None:
        if self._map is not None:
            self._map[slot : slot + SLOT_BYTES] = _EMPTY
            self._free.append(slot)

    def take_news(self) -> bool:
        """Say, once, whether another worker has gathered crashes: some of here may be refused now."""
        if self._map is None or not self._map[0]:
            return False
        self._map[0] = 0
        return True

    def check(self, gitdir: str) -> None:
        """Raise OutOfService when the repository was in use in too many crashes lately."""
        try:
            with open(self._mark_path(_digest(gitdir)), encoding="ascii") as file:
                times = [float(line) for line in file]
        except (OSError, ValueError):
            return
        now = self._clock()
        times = [moment for moment in times if 0 <= now - moment < MEMORY_SECONDS]
        if len(times) >= CRASHES_MAX:
            raise OutOfService(gitdir, len(times), times[-CRASHES_MAX] + MEMORY_SECONDS - now)

    def gather(self) -> None:
        """Write down in which repositories' use workers have crashed, and remove what the dead have left. OSError."""
        names = os.listdir(self.folder)
        crashes = 0
        for name in names:
            path = f"{self.folder}/{name}"
            if name.endswith(_NOW):
                with suppress(FileNotFoundError), open(path, "rb") as file:
                    crashes += self._gather_one(file, path)
            elif not name.endswith(_TRACE):
                with suppress(FileNotFoundError):
                    if self._clock() - os.stat(path).st_mtime > MEMORY_SECONDS:
                        os.unlink(path)
        for name in names if crashes else ():
            if name.endswith(_NOW):
                with suppress(FileNotFoundError), open(f"{self.folder}/{name}", "r+b", buffering=0) as file:
                    file.write(b"\1")

    def _gather_one(self, file: BinaryIO, path: str) -> bool:
        """Return whether it was a crash."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # it lives
            return False
        if not os.fstat(file.fileno()).st_nlink:  # another worker was faster
            return False
        trace_path = path.removesuffix(_NOW) + _TRACE
        trace = b""
        with suppress(FileNotFoundError), open(trace_path, "rb") as traces:
            trace = traces.read(TRACE_BYTES_MAX)
        if trace:
            used = {}
            file.seek(SLOT_BYTES)
            for slot in iter(lambda: file.read(SLOT_BYTES), b""):
                if slot != _EMPTY:
                    used[slot[:DIGEST_BYTES]] = os.fsdecode(slot[DIGEST_BYTES:].rstrip(b"\0"))
            for digest in used:
                with open(self._mark_path(digest), "a", encoding="ascii") as mark:
                    mark.write(f"{int(self._clock())}\n")
            names = ", ".join(used.values()) or "none"
            log.critical("a worker crashed; in use were: %s\n%s", names, trace.decode("utf-8", "replace"))
        for left in (path, trace_path):
            with suppress(FileNotFoundError):
                os.unlink(left)
        return bool(trace)

    def _mark_path(self, digest: bytes) -> str:
        return f"{self.folder}/{digest.hex()}"


def _digest(gitdir: str) -> bytes:
    return hashlib.blake2b(os.fsencode(gitdir), digest_size=DIGEST_BYTES).digest()
