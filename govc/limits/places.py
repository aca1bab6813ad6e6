"""Places: a number of them per name, shared by all processes of a server, and free again when their holder dies.

A place is a locked byte (`ofd_lock`) of one empty file. The name's hash says where its bytes lie, so any number of
names (repositories, clients, the queue) needs no table and no tidying up:

    offset = 39 bits of BLAKE2b(kind, name) << 20, plus the number of the place

Why locks and not counters in shared memory: a counter that a killed worker has not taken back is wrong for ever, and
mending it needs somebody who knows which workers live. The kernel knows.

The file may be deleted at any moment: the next place is then taken in a new one, and until the old places are given
back a little more than the limit is possible. When the file can't be had at all, each process counts for itself.
"""

import logging
import os
import threading
from hashlib import blake2b

from govc import ofd_lock

log = logging.getLogger(__name__)

PLACES_MAX = 1 << 20
_HASH_BITS = 39
_LOCAL = -1


class _File:
    """One opening of the file of places; closed with the last place in it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        if self.descriptor != _LOCAL:
            os.close(self.descriptor)


class Place:
    """One place that is held. Giving it back twice is harmless."""

    __slots__ = ("_base", "_file", "_number", "_places")

    def __init__(self, places: "Places", file: _File, base: int, number: int) -> None:
        self._places: Places | None = places
        self._file = file
        self._base = base
        self._number = number

    def give_back(self) -> None:
        """Let somebody else have it."""
        places, self._places = self._places, None
        if places is not None:
            places.take_back(self._file, self._base, self._number)


class Places:
    """The places of one server, as one process sees them."""

    def __init__(self, path: str | None) -> None:
        """`path`: the file, in a folder that only we can write to; None: this process is the only one."""
        self._path = path if ofd_lock.IS_AVAILABLE else None
        self._lock = threading.Lock()
        self._held: dict[int, set[int]] = {}
        self._file = _File(_LOCAL)
        self._open()

    def _open(self) -> None:
        """Open the file, if that is possible."""
        if self._path is None:
            return
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = _File(os.open(self._path, flags, 0o600))
        except OSError as error:
            log.warning("%s: %s: each worker counts its own operations only", self._path, error.strerror)
            self._path = None

    def take(self, kind: str, name: str, count: int) -> Place | None:
        """Return one of `count` places, None when all are taken. Never waits."""
        base = _base_of(kind, name)
        with self._lock:
            held = self._held.get(base)
            if held is not None and len(held) >= count:
                return None
            self._look_at_file()
            file = self._file
            for number in range(min(count, PLACES_MAX)):
                if (held is None or number not in held) and _lock(file, base + number):
                    self._held.setdefault(base, set()).add(number)
                    return Place(self, file, base, number)
            return None

    def is_taken_elsewhere(self, kind: str, name: str, count: int) -> bool:
        """Say whether another process holds one of these places."""
        descriptor = self._file.descriptor
        if descriptor == _LOCAL:
            return False
        try:
            return ofd_lock.is_locked_elsewhere(descriptor, _base_of(kind, name), min(count, PLACES_MAX))
        except OSError:
            return False

    def take_back(self, file: _File, base: int, number: int) -> None:
        """See Place.give_back."""
        with self._lock:
            held = self._held[base]
            held.discard(number)
            if not held:
                del self._held[base]
            if file.descriptor != _LOCAL:
                ofd_lock.unlock(file.descriptor, base + number)

    def _look_at_file(self) -> None:
        """Go on with a new file when somebody has deleted ours. Places in the old one stay valid for their holders."""
        if self._file.descriptor != _LOCAL and not os.fstat(self._file.descriptor).st_nlink:
            self._file = _File(_LOCAL)
            self._open()


def _lock(file: _File, offset: int) -> bool:
    if file.descriptor == _LOCAL:
        return True
    try:
        return ofd_lock.try_lock(file.descriptor, offset)
    except OSError as error:  # the kernel has no memory for locks: better one too many than nobody at all
        log.warning("a place could not be locked: %s", error.strerror)
        return True


def _base_of(kind: str, name: str) -> int:
    digest = blake2b(f"{kind}\0{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - _HASH_BITS)) * PLACES_MAX
