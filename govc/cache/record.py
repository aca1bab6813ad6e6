"""The `.flight` file: how far a body is that somebody produces, for followers in other processes.

    0     magic "GVFL"     4 bytes
    4     state            4    of `FlightState`
    8     published        8    bytes of the body that may be read; always a boundary between packets
    16    data start       8    where the first packet of pack data begins; 0: not yet known
    24    window           8    0; else the file is a ring of so many bytes (see `flight`)
    32    lent             24   start, end, offset: what lies in the base (see `grown`); 0: nothing
    56    CRC-32 of these 56 bytes, 4
    64    the id in the part's name, 16 hexadecimal digits
    128   fastest          8    how far the fastest follower of another process is: a hint that several may write

Numbers are big-endian. The producer has the file locked (`ofd_lock`, byte 0) for as long as it lives; a shared flock on
the part says that somebody follows. Who looks whether a producer lives takes no lock: many look at once, and one who
held it for a moment would keep the others from clearing away what a dead one left. The record is written in one call
and read in one call; the checksum tells a reader that met half of a write to look again.
"""

import errno
import fcntl
import os
import struct
import zlib
from contextlib import suppress
from enum import IntEnum
from typing import NamedTuple

from govc import ofd_lock
from govc.cache.grown import NOTHING_LENT, Lent

_RECORD = struct.Struct(">4sIQQQQQQ")
_CRC = struct.Struct(">I")
_NUMBER = struct.Struct(">Q")
_MAGIC = b"GVFL"
_ID_AT, _ID_BYTES, _FASTEST_AT, _FILE_BYTES = 64, 16, 128, 136
_READ_TRIES = 100


class FlightState(IntEnum):
    """ABANDONED: the producer died, or nobody followed it any more: somebody else may try. NO_SPACE: each goes on
    alone. REFUSED: it was not begun, since the server is full."""

    RUNNING = 1
    DONE = 2
    FAILED = 3
    ABANDONED = 4
    NO_SPACE = 5
    REFUSED = 6


class FlightStatus(NamedTuple):
    """One moment of a flight. See the story of this module."""

    state: FlightState
    published: int
    data_start: int
    window: int
    lent: Lent = NOTHING_LENT


def encode_status(status: FlightStatus) -> bytes:
    """Return the record."""
    record = _RECORD.pack(_MAGIC, status.state, status.published, status.data_start, status.window, *status.lent)
    return record + _CRC.pack(zlib.crc32(record))


def decode_status(data: bytes) -> FlightStatus | None:
    """Return what a record says, None when it isn't whole."""
    if len(data) < _RECORD.size + _CRC.size or _CRC.unpack_from(data, _RECORD.size)[0] != zlib.crc32(
        data[: _RECORD.size]
    ):
        return None
    magic, state, published, data_start, window, *lent = _RECORD.unpack_from(data)
    if magic != _MAGIC or state not in FlightState.__members__.values():
        return None
    return FlightStatus(FlightState(state), published, data_start, window, Lent(*lent))


def write_status(descriptor: int, status: FlightStatus) -> None:
    """Put the record into the file. Raises OSError."""
    os.pwrite(descriptor, encode_status(status), 0)


def read_status(descriptor: int) -> FlightStatus:
    """Return the record of a file. Raises OSError for a file that holds none."""
    for _ in range(_READ_TRIES):
        status = decode_status(os.pread(descriptor, _RECORD.size + _CRC.size, 0))
        if status is not None:
            return status
    raise OSError(errno.EIO, "a flight file holds no record")


def initialize(descriptor: int, part_id: str) -> None:
    """Write a new file: all its bytes, so that later writes need no space. Raises OSError."""
    content = bytearray(_FILE_BYTES)
    content[_ID_AT : _ID_AT + _ID_BYTES] = part_id.encode("ascii")
    record = encode_status(FlightStatus(FlightState.RUNNING, 0, 0, 0))
    content[: len(record)] = record
    if os.pwrite(descriptor, content, 0) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_part_id(descriptor: int) -> str:
    """Return the id in the part's name; "" when the file holds none."""
    text = os.pread(descriptor, _ID_BYTES, _ID_AT).decode("ascii", "replace")
    return text if len(text) == _ID_BYTES and text.isalnum() else ""


def read_fastest(descriptor: int) -> int:
    """Return how far the fastest remote follower said it is."""
    data = os.pread(descriptor, _NUMBER.size, _FASTEST_AT)
    fastest: int = _NUMBER.unpack(data)[0] if len(data) == _NUMBER.size else 0
    return fastest


def write_fastest(descriptor: int, position: int) -> None:
    """Say how far we are, if that is farther than anybody said. Another who says so at this moment may undo it."""
    if position > read_fastest(descriptor):
        os.pwrite(descriptor, _NUMBER.pack(position), _FASTEST_AT)


def clear_if_dead(descriptor: int, path: str) -> bool:
    """Remove the name of a flight whose producer is dead; False when somebody lives, or is clearing it himself.

    The lock stays with the descriptor until it is closed, so that only one removes the name, and never a successor's.
    Raises OSError (ENOLCK).
    """
    if not claim(descriptor):
        return False
    with suppress(OSError):
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            os.unlink(path)
    return True


def try_lock(descriptor: int, kind: int) -> bool:
    """Take a flock (fcntl.LOCK_EX or LOCK_SH) without waiting; False when somebody else's excludes it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def claim(descriptor: int) -> bool:
    """Lock a flight file for as long as it is open, as its producer does; False when another has it. Raises OSError."""
    return ofd_lock.try_lock(descriptor, 0)


def is_claimed_by_another(descriptor: int) -> bool:
    """Say whether the producer lives, or somebody is clearing it away just now. Raises OSError."""
    return ofd_lock.is_locked_elsewhere(descriptor, 0, 1)
