"""The token buckets of a server, one per user or address, in memory that its workers share.

    0       magic "GVRB", format 1 (4 bytes each), 8 bytes unused
    16      a random key, 16 bytes: nobody can choose names that fall into one set
    4096    SETS sets of WAYS entries, each: 8 bytes of the name's hash, 8 bytes of `full_at_ns` (see `bucket`)

Numbers are big-endian; times are of the monotonic clock, which all processes of a machine share and which begins anew
at each boot, as the folder that the file lies in does. A name has its place in one set. A full bucket is forgotten,
since a new one is full, too; when all of a set are in use the fullest makes room. So memory is bounded whatever the
crowd does, and the worst that a crowd of addresses can do is to have some debts forgotten.

Two processes that change one set at once exclude each other by a lock on a byte of the file. It is never waited for: a
process that is stopped while it holds one must not stop the others. Who doesn't get it takes that token from buckets of
its own and leaves the shared ones alone: a number that is written back without the lock would undo all that others have
taken since it was read.
"""

import logging
import mmap
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable
from hashlib import blake2b

from govc import ofd_lock
from govc.limits.bucket import Rate, take

log = logging.getLogger(__name__)

SETS, WAYS = 4096, 8
_MAGIC = b"GVRB\0\0\0\1"
_KEY_AT, _KEY_BYTES, _SETS_AT = 16, 16, 4096
_SET = struct.Struct(f">{2 * WAYS}Q")
_ENTRY = struct.Struct(">QQ")
FILE_BYTES = _SETS_AT + SETS * _SET.size
_LOCK_TRIES = 50


class Buckets:
    """All buckets. Names of different kinds (users, addresses) are told apart by the caller."""

    def __init__(self, path: str | None, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """`path`: the file, in a folder that only we can write to; None, or where it can't be had: our own memory."""
        self._clock_ns = clock_ns
        self._path = path
        self._lock = threading.Lock()
        self._descriptor = -1
        self.unlocked_takes = 0
        """How often another process held a lock for too long: at most so many tokens were taken for nothing."""
        self._own = bytearray(FILE_BYTES)  # zeros that nothing was written to: next to no memory
        self._memory: mmap.mmap | bytearray = self._own
        self._key = secrets.token_bytes(_KEY_BYTES)
        if path is not None and ofd_lock.IS_AVAILABLE:
            try:
                self._map(path)
            except (OSError, ValueError) as error:
                log.warning("%s: %s: each worker counts the requests that it gets itself", path, error)

    def _map(self, path: str) -> None:
        """Map the file; make it when it is not there. Raises OSError, ValueError."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            _create(path)
            descriptor = os.open(path, flags)
        try:
            memory = mmap.mmap(descriptor, FILE_BYTES)
            if memory[: len(_MAGIC)] != _MAGIC:
                raise ValueError("not a file of buckets")
        except (OSError, ValueError):
            os.close(descriptor)
            raise
        self._descriptor, self._memory = descriptor, memory
        self._key = memory[_KEY_AT : _KEY_AT + _KEY_BYTES]

    def take(self, name: str, rate: Rate, *, debt: int = 0) -> float:
        """Take a token from the bucket of that name; return the seconds to wait for one, 0 when it was there."""
        digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16, key=self._key).digest()
        mark = int.from_bytes(digest[:8], "big") or 1
        set_number = int.from_bytes(digest[8:], "big") % SETS
        at = _SETS_AT + set_number * _SET.size
        with self._lock:
            if not self._lock_set(set_number):
                return self._take(self._own, at, mark, rate, debt)
            try:
                return self._take(self._memory, at, mark, rate, debt)
            finally:
                ofd_lock.unlock(self._descriptor, set_number)

    def _take(self, memory: mmap.mmap | bytearray, at: int, mark: int, rate: Rate, debt: int) -> float:
        numbers = _SET.unpack_from(memory, at)
        marks, times = numbers[::2], numbers[1::2]
        way = marks.index(mark) if mark in marks else times.index(min(times))
        full_at = times[way] if marks[way] == mark else 0
        full_at, wait_ns = take(full_at, self._clock_ns(), rate, debt=debt)
        _ENTRY.pack_into(memory, at + way * _ENTRY.size, mark, full_at)
        return wait_ns / 1e9

    def _lock_set(self, set_number: int) -> bool:
        if self._descriptor < 0:
            return False
        try:
            if any(ofd_lock.try_lock(self._descriptor, set_number) for _ in range(_LOCK_TRIES)):
                return True
        except OSError as error:
            log.debug("%s: %s", self._path, error)
        self.unlocked_takes += 1
        return False


def _create(path: str) -> None:
    """Make the file, whole before it has its name; if somebody was quicker, that one counts. Raises OSError."""
    temporary = f"{path}.{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, FILE_BYTES)  # a hole that the disk has no room for ends who writes to it
        os.pwrite(descriptor, _MAGIC, 0)
        os.pwrite(descriptor, secrets.token_bytes(_KEY_BYTES), _KEY_AT)
        try:
            os.link(temporary, path)
        except FileExistsError:
            log.debug("%s: another worker has just made it", path)
    finally:
        os.unlink(temporary)
        os.close(descriptor)
