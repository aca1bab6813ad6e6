"""The seam to the file system: every call of the log, the locks, refs and published packs that changes the disk.

What must survive a crash goes through these functions and through nothing else, so that a test can put a simulated
disk in their place (`use`): one that fails any call, stops the process at any call, and tells what of the unsynced
changes a power cut may leave behind. Reading isn't part of it: readers see the page cache, whatever is durable.

Each function is one system call (`write_all` loops); errors are the kernel's OSError. `sync` makes a file's content
and size durable, not its name: that is `sync_folder` of the folder it lies in. `sync_data` leaves out what isn't
needed to read the content back (fdatasync).

Source: open(2), write(2), fsync(2), link(2), rename(2), syncfs(2).
"""

import errno
import os
import posix  # its close: gevent's, in os, asks the kernel twice more, for the sake of sockets
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Disk:
    """The real disk. A simulated one overrides the methods."""

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        """Open for writing, creating if the flags say so; close-on-exec."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def close(self, descriptor: int) -> None:
        """Close."""
        posix.close(descriptor)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write at the file's position (its end, when opened for appending); return how many bytes went."""
        return os.write(descriptor, data)

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        """Write at `offset`; return how many bytes went."""
        return os.pwrite(descriptor, data, offset)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut or lengthen (with zeros) to `size` bytes."""
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Make content and metadata durable."""
        os.fsync(descriptor)

    def sync_data(self, descriptor: int) -> None:
        """Make the content durable."""
        os.fdatasync(descriptor)

    def sync_folder(self, path: str) -> None:
        """Make a folder's names durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            posix.close(descriptor)

    def sync_filesystem(self, path: str) -> None:
        """Make everything on the file system of `path` durable."""
        import ctypes  # by the one in many processes that comes here

        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), path)
        finally:
            posix.close(descriptor)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name; FileExistsError when that is taken."""
        os.link(source, target, follow_symlinks=False)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, in place of what has it."""
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        """Take a name away."""
        os.unlink(path)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Make a folder."""
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    def chmod(self, path: str, mode: int) -> None:
        """Set permissions."""
        os.chmod(path, mode)


_active = Disk()


@contextmanager
def use(disk: Disk) -> Iterator[Disk]:
    """Put another disk in place of the real one for the `with` block: for tests."""
    global _active
    before, _active = _active, disk
    try:
        yield disk
    finally:
        _active = before


def open_file(path: str, flags: int, mode: int = 0o666) -> int:
    """Open for writing, creating if the flags say so; close-on-exec."""
    return _active.open(path, flags, mode)


def open_with_mode(path: str, flags: int, mode: int) -> int:
    """Open as `open_file` does; a group's share in `mode` is given whatever the umask says."""
    descriptor = _active.open(path, flags, mode)
    if mode & 0o060:
        with suppress(PermissionError):  # another member of the group made it, with the same mode
            os.fchmod(descriptor, mode)
    return descriptor


def close(descriptor: int) -> None:
    """Close what `open_file` opened."""
    _active.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes at the file's position."""
    count = _active.write(descriptor, data)
    if count < len(data):
        view = memoryview(data)[count:]
        while view:
            view = view[_active.write(descriptor, view) :]


def pwrite_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write all bytes from `offset` on."""
    count = _active.pwrite(descriptor, data, offset)
    view = memoryview(data)[count:]
    while view:
        offset += count
        count = _active.pwrite(descriptor, view, offset)
        view = view[count:]


def truncate(descriptor: int, size: int) -> None:
    """Cut or lengthen (with zeros) to `size` bytes."""
    _active.truncate(descriptor, size)


def sync(descriptor: int) -> None:
    """Make a file's content and metadata durable."""
    _active.sync(descriptor)


def sync_data(descriptor: int) -> None:
    """Make a file's content durable."""
    _active.sync_data(descriptor)


def sync_path(path: str) -> None:
    """Make the content of the file at `path` durable."""
    descriptor = _active.open(path, os.O_RDONLY)
    try:
        _active.sync(descriptor)
    finally:
        _active.close(descriptor)


def sync_folder(path: str) -> None:
    """Make a folder's names durable."""
    _active.sync_folder(path)


def sync_filesystem(path: str) -> None:
    """Make everything on the file system of `path` durable."""
    _active.sync_filesystem(path)


def link(source: str, target: str) -> None:
    """Give a file a second name; FileExistsError when that is taken."""
    _active.link(source, target)


def rename(source: str, target: str) -> None:
    """Give a file another name, in place of what has it."""
    _active.rename(source, target)


def rename_new(source: str, target: str) -> None:
    """Give a file another name; FileExistsError when that is taken.

    A hard link can't overwrite; where links don't work, a rename has to do.
    """
    try:
        _active.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        _active.rename(source, target)
    else:
        _active.unlink(source)


def unlink(path: str) -> None:
    """Take a name away."""
    _active.unlink(path)


def mkdir(path: str, mode: int = 0o777) -> None:
    """Make a folder."""
    _active.mkdir(path, mode)


def rmdir(path: str) -> None:
    """Remove an empty folder."""
    _active.rmdir(path)


def chmod(path: str, mode: int) -> None:
    """Set permissions."""
    _active.chmod(path, mode)


def write_file(path: str, content: bytes, *, mode: int = 0o666, fsync: bool) -> None:
    """Create a new file with `content`; FileExistsError when there is one."""
    descriptor = _active.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        write_all(descriptor, content)
        if fsync:
            _active.sync(descriptor)
    finally:
        _active.close(descriptor)
