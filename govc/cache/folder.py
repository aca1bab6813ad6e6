"""The folder that holds the bodies: private, bounded, and safe to delete at any moment.

    <cache_dir>/bodies-3-<boot id>/
        <key>.body              a whole body; nothing but its bytes, so that nginx can send it
        <key>.grown, .base      a whole body that borrows from an older one, and that one (`grown`)
        <key>.<id>.part, .base  a body that is being produced, and what it borrows from
        <line>.line             the last body of a line
        <key>.flight            who produces it and how far it is (`flight`); locked for as long as its producer lives
        new-<id>                a file that has no name of its own yet

Nothing is synced: what a power cut tore is never looked at again, because the folder's name holds the boot id of the
kernel, and folders of other boots are removed when one of ours is made. A folder belongs to one machine.

**Who goes.** The clock: bodies stand in the order of their mtime. A body that is used gets an atime after its mtime,
at most once per turn (`touch`). The hand takes them from the oldest on: with an atime after the mtime a body gets a
new mtime and stays for another turn, without one it is unlinked. Who reads an unlinked body holds its descriptor and
notices nothing.

**Full.** A body is only begun while the file system has `reserve` bytes free beside what is expected of it, so that
the cache is hardly ever the one who fills a disk: bodies that are begun at once all find the same room.

What a killed process leaves is removed when the folder is swept: a `.flight` whose lock nobody holds, a `.part`
without a flight, an old `new-*`.
"""

import errno
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from govc import ofd_lock
from govc.cache.grown import Elder, Whole, encode_line, open_grown, open_regular, read_line
from govc.cache.record import clear_if_dead

log = logging.getLogger(__name__)

FORMAT = 3
PREFIX = "bodies-"
BODY, PART, FLIGHT, NEW = ".body", ".part", ".flight", "new-"
GROWN, BASE, LINE = ".grown", ".base", ".line"
_BLOCK_BYTES = 512
RESERVE_BYTES_MAX = 1 << 30
RESERVE_SHARE = 20
ABANDONED_SECONDS = 3600
SWEEP_SECONDS = 30
BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"


class CacheUnusable(Exception):
    """There is no folder that we may trust; the text says why."""


class Body(NamedTuple):
    """One whole body in the folder. `is_used`: since the hand came by last."""

    path: str
    size: int  # of what it alone holds: what two names share counts half for each
    entered_ns: int
    is_used: bool


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found and did. Bytes of whole bodies and of those in production."""

    bytes_left: int
    evicted: int = 0
    evicted_bytes: int = 0


def _make_private(path: str, mode: int) -> None:
    """Make the folder and the one around it, and check whose they are. Raises OSError, CacheUnusable."""
    for folder in (os.path.dirname(path), path):
        with suppress(FileExistsError):  # another worker may be quicker, at any of these
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            os.mkdir(folder, mode)
            os.chmod(folder, mode)  # whatever the umask is
        _check_private(folder)


def _remove_other_boots(cache_dir: str, prefix: str, own_name: str) -> None:
    for name in os.listdir(cache_dir):
        if name.startswith(prefix) and name != own_name:
            shutil.rmtree(f"{cache_dir}/{name}", ignore_errors=True)


def make_boot_folder(cache_dir: str, prefix: str, *, group_reads: bool = False) -> str:
    """Make a private folder of this boot beside the bodies, for what else workers share; return its path.

    Those of other boots are removed. Raises CacheUnusable.
    """
    cache_dir = os.path.abspath(cache_dir)
    name = f"{prefix}{read_boot_id()}"
    try:
        _make_private(f"{cache_dir}/{name}", 0o750 if group_reads else 0o700)
        _remove_other_boots(cache_dir, prefix, name)
    except OSError as error:
        raise CacheUnusable(f"{cache_dir}: {error.strerror}") from error
    return f"{cache_dir}/{name}"


def default_cache_dir(environ: Mapping[str, str]) -> str:
    """Return where a cache may lie when nobody said: XDG_CACHE_HOME, TMPDIR, /var/tmp (which is on a disk), /tmp."""
    home = environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(home):
        return os.path.join(home, "govc")
    base = environ.get("TMPDIR") or ("/var/tmp" if os.path.isdir("/var/tmp") else tempfile.gettempdir())
    return os.path.join(base, f"govc-cache-{os.geteuid()}")


def read_boot_id(path: str = BOOT_ID_PATH) -> str:
    """Return what names this boot of the kernel. Raises CacheUnusable."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(64).strip()
    except (OSError, ValueError) as error:
        raise CacheUnusable(f"the kernel tells no boot id ({error})") from error
    if not re.fullmatch(r"[0-9a-f-]{16,64}", text):
        raise CacheUnusable("the kernel's boot id has a strange form")
    return text


class CacheFolder:
    """The folder. Every call that names a file may meet a folder that somebody has just deleted."""

    def __init__(
        self, cache_dir: str, bytes_max: int, *, group_reads: bool = False, boot_id: str | None = None
    ) -> None:
        """Make the folder when it is not there. `group_reads`: nginx, in our group, reads the bodies.

        Raises CacheUnusable.
        """
        self.cache_dir = os.path.abspath(cache_dir)
        self.bytes_max = bytes_max
        self.name = f"{PREFIX}{FORMAT}-{read_boot_id() if boot_id is None else boot_id}"
        self.path = f"{self.cache_dir}/{self.name}"
        self.lends = not group_reads
        """Whether bodies may borrow from others: nginx sends one file only."""
        self.folder_mode = 0o750 if group_reads else 0o700
        self.file_mode = 0o640 if group_reads else 0o600
        self._next_sweep = 0.0
        self._added_since = 0
        if not ofd_lock.IS_AVAILABLE:
            raise CacheUnusable("this system has no locks that belong to open files")
        try:
            self.make()
        except OSError as error:
            raise CacheUnusable(f"{self.cache_dir}: {error.strerror}") from error

    def make(self) -> None:
        """Make what is missing of the folder, and check whose it is. Raises OSError, CacheUnusable."""
        _make_private(self.path, self.folder_mode)
        _remove_other_boots(self.cache_dir, PREFIX, self.name)

    def body_path(self, key: str) -> str:
        """Return the path of a whole body."""
        return f"{self.path}/{key}{BODY}"

    def relative_name(self, key: str) -> str:
        """Return the path of a whole body below `cache_dir`, for a front server that sends it."""
        return f"{self.name}/{key}{BODY}"

    def create(self) -> tuple[int, str]:
        """Create a new file; return (descriptor, path). Makes the folder again when it is gone. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        path = f"{self.path}/{NEW}{secrets.token_hex(8)}"
        try:
            return os.open(path, flags, self.file_mode), path
        except FileNotFoundError:
            self._make_again()
            return os.open(path, flags, self.file_mode), path

    def _make_again(self) -> None:
        try:
            self.make()
        except CacheUnusable as error:
            raise OSError(errno.EACCES, str(error)) from error
        log.warning("%s was gone and has been made again", self.path)

    def open_body(self, key: str) -> int:
        """Return a descriptor of a whole body, -1 when there is none; it counts as used."""
        body = self._open_plain(key)
        if body is None:
            return -1
        touch(body.descriptor)
        return body.descriptor

    def _find_whole(self, key: str) -> Whole | None:
        return self._open_plain(key) or open_grown(f"{self.path}/{key}{GROWN}", f"{self.path}/{key}{BASE}")

    def _open_plain(self, key: str) -> Whole | None:
        path = self.body_path(key)
        try:
            descriptor, status = open_regular(path)
        except OSError:
            return None
        return Whole(path, descriptor, status.st_size)

    def open_whole(self, key: str) -> Whole | None:
        """Return a whole body of either kind, None when there is none; it counts as used."""
        body = self._find_whole(key)
        if body is not None:
            touch(body.descriptor)
        return body

    def has_body(self, key: str) -> bool:
        """Say whether there is a whole body."""
        body = self._find_whole(key)
        if body is not None:
            body.close()
        return body is not None

    def has_flight(self, key: str) -> bool:
        """Say whether somebody may be producing this body."""
        return os.path.exists(f"{self.path}/{key}{FLIGHT}")

    def find_elder(self, line: str) -> Elder | None:
        """Return the last body of a line, None when it is gone. It doesn't count as used: the next one will be."""
        known = read_line(f"{self.path}/{line}{LINE}")
        if known is None:
            return None
        key, note = known[0].hex(), known[1]
        body = self._find_whole(key)
        return Elder(body, note) if body is not None else None

    def write_line(self, line: str, key: str, note: bytes) -> None:
        """Note that this body is the last of its line. Raises OSError."""
        descriptor, path = self.create()
        try:
            with open(descriptor, "wb") as file:
                file.write(encode_line(bytes.fromhex(key), note))
            os.rename(path, f"{self.path}/{line}{LINE}")
        except OSError:
            with suppress(OSError):
                os.unlink(path)
            raise

    def forget_line(self, line: str) -> None:
        """Let nothing grow out of a line's last body any more."""
        with suppress(OSError):
            os.unlink(f"{self.path}/{line}{LINE}")

    def has_room_for(self, expected_bytes: int) -> bool:
        """Say whether a body of about so many bytes may be begun."""
        if expected_bytes > self.bytes_max:
            return False
        try:
            status = os.statvfs(self.path)
        except OSError:
            return True  # gone: it is made again when the body is begun, and that may fail
        free = status.f_bavail * status.f_frsize
        reserve = min(RESERVE_BYTES_MAX, status.f_blocks * status.f_frsize // RESERVE_SHARE)
        return free - reserve >= expected_bytes

    def is_sweep_due(self, added_bytes: int, *, now: float | None = None) -> bool:
        """Tell whether `sweep` will look at the folder: it blocks then, and else it doesn't."""
        seconds = time.monotonic() if now is None else now
        return seconds >= self._next_sweep or (self._added_since + added_bytes) * 16 >= self.bytes_max

    def sweep(self, added_bytes: int, *, now: float | None = None) -> Swept | None:
        """After a body came in: remove leftovers and, over the bound, bodies by the clock. None when it isn't due."""
        seconds = time.monotonic() if now is None else now
        if not self.is_sweep_due(added_bytes, now=seconds):
            self._added_since += added_bytes
            return None
        self._next_sweep = seconds + SWEEP_SECONDS
        self._added_since = 0
        try:
            return self._sweep()
        except OSError as error:
            log.warning("%s: not swept: %s", self.path, error.strerror)
            return None

    def _sweep(self) -> Swept:
        bodies: list[Body] = []
        others: list[tuple[str, os.stat_result]] = []
        with os.scandir(self.path) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if entry.name.endswith((BODY, GROWN)):
                        is_used = status.st_atime_ns > status.st_mtime_ns
                        bodies.append(Body(entry.path, _share_of(status), status.st_mtime_ns, is_used))
                    else:
                        others.append((entry.path, status))
        total = sum(body.size for body in bodies) + sum(_share_of(status) for _, status in others)
        total -= _remove_abandoned(others)
        return _turn_clock(bodies, total, self.bytes_max)


def touch(descriptor: int) -> None:
    """Mark a body as used, at most once per turn of the clock's hand."""
    status = os.fstat(descriptor)
    if status.st_atime_ns <= status.st_mtime_ns:
        with suppress(OSError):
            os.utime(descriptor, ns=(max(time.time_ns(), status.st_mtime_ns + 1), status.st_mtime_ns))


def _turn_clock(bodies: list[Body], total: int, bytes_max: int) -> Swept:
    """Take bodies away until `total` is within the bound. Two turns are enough: the first clears what was used."""
    evicted = evicted_bytes = 0
    queue = sorted(bodies, key=lambda body: body.entered_ns)
    spared: list[Body] = []
    for turn in (queue, spared):
        for body in turn:
            if total <= bytes_max:
                return Swept(total, evicted, evicted_bytes)
            if body.is_used and turn is queue:
                now_ns = time.time_ns()
                with suppress(OSError):
                    os.utime(body.path, ns=(now_ns, now_ns))
                spared.append(body)
                continue
            with suppress(OSError):
                os.unlink(body.path)
                evicted += 1
                evicted_bytes += body.size
                if body.path.endswith(GROWN):
                    os.unlink(body.path[: -len(GROWN)] + BASE)
            total -= body.size
    return Swept(total, evicted, evicted_bytes)


def _share_of(status: os.stat_result) -> int:
    """Return what one name of a file costs in bytes: a hole costs nothing, a file with two names half for each."""
    return min(status.st_size, status.st_blocks * _BLOCK_BYTES) // max(status.st_nlink, 1)


def _remove_abandoned(files: list[tuple[str, os.stat_result]]) -> int:
    """Remove what dead producers left, and what belongs to bodies that are gone; return how many bytes that freed."""
    freed = 0
    for path, _ in files:
        if path.endswith(FLIGHT):
            _clear_if_dead(path)
    for path, status in files:
        owner = f"{os.path.dirname(path)}/{os.path.basename(path).partition('.')[0]}"
        if path.endswith(PART):
            if os.path.exists(owner + FLIGHT) or _age_of(status) < SWEEP_SECONDS:
                continue
        elif path.endswith(BASE):
            # Its mtime is that of the body which it was before; who has just renamed it has a flight, or a body by now.
            # A flight that has begun since the folder was listed counts: its base may be on the list without it.
            if os.path.exists(owner + FLIGHT) or (path == owner + BASE and os.path.exists(owner + GROWN)):
                continue
        elif path.endswith(LINE):
            known = read_line(path)
            # Looked for now: since the folder was listed another line may lie there, whose body isn't on the list.
            stem = f"{os.path.dirname(path)}/{known[0].hex()}" if known is not None else path
            if _age_of(status) < SWEEP_SECONDS or os.path.exists(stem + BODY) or os.path.exists(stem + GROWN):
                continue
        elif path.endswith(FLIGHT) or _age_of(status) < ABANDONED_SECONDS:
            continue
        with suppress(OSError):
            os.unlink(path)
            freed += _share_of(status)
    return freed


def _age_of(status: os.stat_result) -> float:
    return time.time() - status.st_mtime


def _clear_if_dead(flight_path: str) -> None:
    with suppress(OSError):  # it is gone, or stays for the next sweep
        descriptor = os.open(flight_path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            clear_if_dead(descriptor, flight_path)
        finally:
            os.close(descriptor)


def _check_private(path: str) -> None:
    """A folder of somebody else, or one that others write to, could feed our clients anything."""
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise CacheUnusable(f"{path} is not a folder")
    if status.st_uid != os.geteuid():
        raise CacheUnusable(f"{path} belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheUnusable(f"others may write to {path}")
