"""Locks on single bytes of a file that several processes have open: who holds what, told by the kernel.

An "open file description" lock belongs to the opening, not to the process: two openings exclude each other even within
one process, and the kernel releases it when the last descriptor of the opening is closed, so also when its process is
killed. No byte of the file has to exist, so any offset will do.

`is_locked_elsewhere` takes no lock itself, so that nobody who only looks is in anybody's way.

Source: fcntl(2) "Open file description locks" (Linux 3.15). `IS_AVAILABLE` is False elsewhere.
"""

import errno
import fcntl
import struct

_FLOCK = struct.Struct("@hhqqi4x")
"""struct flock with 64 bit offsets: type, whence, start, length, process."""

IS_AVAILABLE = hasattr(fcntl, "F_OFD_SETLK") and struct.calcsize("P") == 8
_BUSY = (errno.EAGAIN, errno.EACCES)


def try_lock(descriptor: int, offset: int) -> bool:
    """Lock the byte; False when another opening has it. Raises OSError (ENOLCK)."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, offset, 1, 0))
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def unlock(descriptor: int, offset: int) -> None:
    """Release the byte. Raises OSError."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, 0, offset, 1, 0))


def is_locked_elsewhere(descriptor: int, offset: int, length: int) -> bool:
    """Say whether another opening holds any of these bytes. Raises OSError."""
    answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, offset, length, 0))
    kind: int = _FLOCK.unpack(answer)[0]
    return kind != fcntl.F_UNLCK
