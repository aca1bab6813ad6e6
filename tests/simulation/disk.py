"""The disk of a simulated process: performs each call for real, and asks the machine before each.

A process is a forked child. Before each call it says what it wants to do, and the machine (`machine.py`, the parent)
answers: go on; fail with this errno; write only so many bytes; or die here, which is os._exit: descriptors close and
flocks fall, as with SIGKILL. After the call it says what was done, as a `Call`. The machine lets one process at a time
go on, so the calls of several processes have one order.
"""

import fcntl
import os
import threading
from multiprocessing.connection import Connection
from typing import Any

from govc.disk import Disk
from tests.simulation.trace import Call

DIED = 9


class SimulatedDisk(Disk):
    """Sits behind `govc.disk` in a simulated process."""

    def __init__(self, root: str, connection: Connection, process: int) -> None:
        """`root` is the watched folder; what lies outside it is done for real and not told."""
        self._root = os.path.realpath(root)
        self._connection = connection
        self._process = process
        self._turn = threading.Lock()
        self._paths: dict[int, str] = {}

    # What the simulated process may tell the test

    def note(self, what: Any) -> None:
        """Put a remark into the trace, after all calls made so far."""
        with self._turn:
            self._connection.send(Call("note", self._process, what=what))

    # Asking

    def _relative(self, path: str) -> str | None:
        path = os.path.abspath(path)
        folder = os.path.realpath(os.path.dirname(path))
        full = f"{folder}/{os.path.basename(path)}"
        if full == self._root:
            return ""
        return full[len(self._root) + 1 :] if full.startswith(f"{self._root}/") else None

    def _ask(self, kind: str, path: str, size: int = 0) -> int:
        """Wait for our turn. Return how many bytes may be written (-1: all); raise the error that is to happen."""
        self._connection.send((kind, path, size))
        verdict, value = self._connection.recv()
        if verdict == "die":
            os._exit(DIED)
        if verdict == "fail":
            raise OSError(value, os.strerror(value), path)
        return int(value)

    def _did(self, kind: str, **fields: Any) -> None:
        self._connection.send(Call(kind, self._process, **fields))

    def _did_to(self, status: os.stat_result, kind: str, **fields: Any) -> None:
        self._did(kind, inode=status.st_ino, time_ns=status.st_mtime_ns, **fields)

    def _did_nothing(self) -> None:
        self._connection.send(None)

    # The calls

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        """Only an open that creates or truncates is a change."""
        relative = self._relative(path)
        if relative is None or not flags & (os.O_CREAT | os.O_TRUNC):
            descriptor = super().open(path, flags, mode)
            if relative is not None:
                self._paths[descriptor] = relative
            return descriptor
        with self._turn:
            was_there = os.path.exists(path)
            self._ask("open" if was_there else "create", relative)
            try:
                size = os.path.getsize(path) if was_there else 0
                descriptor = super().open(path, flags, mode)
                status = os.fstat(descriptor)
            except OSError:
                self._did_nothing()
                raise
            self._paths[descriptor] = relative
            if not was_there:
                self._did_to(status, "create", path=relative, mode=status.st_mode & 0o7777)
            elif flags & os.O_TRUNC and size:
                self._did_to(status, "truncate", path=relative, size=0)
            else:
                self._did_nothing()
            return descriptor

    def close(self, descriptor: int) -> None:
        """No change."""
        self._paths.pop(descriptor, None)
        super().close(descriptor)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write at the position."""
        path = self._paths.get(descriptor)
        if path is None:
            return super().write(descriptor, data)
        with self._turn:
            return self._write(descriptor, data, -1, path)

    def pwrite(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        """Write at an offset."""
        path = self._paths.get(descriptor)
        if path is None:
            return super().pwrite(descriptor, data, offset)
        with self._turn:
            return self._write(descriptor, data, offset, path)

    def _write(self, descriptor: int, data: bytes | memoryview, offset: int, path: str) -> int:
        end = os.fstat(descriptor).st_size
        place = offset
        if offset < 0:
            appends = bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND)
            place = end if appends else os.lseek(descriptor, 0, os.SEEK_CUR)
        grows = max(0, place + len(data) - end)
        allowed = self._ask("write", path, grows)
        piece = bytes(data) if allowed < 0 else bytes(data)[:allowed]
        try:
            count = super().write(descriptor, piece) if offset < 0 else super().pwrite(descriptor, piece, offset)
        except OSError:
            self._did_nothing()
            raise
        self._did_to(os.fstat(descriptor), "write", path=path, offset=place, data=piece[:count])
        return count

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut or lengthen."""
        path = self._paths.get(descriptor)
        if path is None:
            return super().truncate(descriptor, size)
        with self._turn:
            self._ask("truncate", path, max(0, size - os.fstat(descriptor).st_size))
            super().truncate(descriptor, size)
            self._did_to(os.fstat(descriptor), "truncate", path=path, size=size)

    def sync(self, descriptor: int) -> None:
        """Nothing is asked of the real disk: what is durable is the model's business."""
        self._sync("sync", descriptor)

    def sync_data(self, descriptor: int) -> None:
        """The same."""
        self._sync("syncdata", descriptor)

    def _sync(self, kind: str, descriptor: int) -> None:
        path = self._paths.get(descriptor)
        if path is None:
            return
        with self._turn:
            inode = os.fstat(descriptor).st_ino
            try:
                self._ask(kind, path)
            except OSError:
                self._did(kind, path=path, inode=inode, ok=False)
                raise
            self._did(kind, path=path, inode=inode)

    def sync_folder(self, path: str) -> None:
        """Names of a folder."""
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        relative = self._relative(path)
        if relative is None:
            return
        self._sync_names("syncdir", relative)

    def sync_filesystem(self, path: str) -> None:
        """Everything."""
        os.close(os.open(path, os.O_RDONLY))
        relative = self._relative(path)
        if relative is not None:
            self._sync_names("syncfs", relative)

    def _sync_names(self, kind: str, relative: str) -> None:
        with self._turn:
            try:
                self._ask(kind, relative)
            except OSError:
                self._did(kind, path=relative, ok=False)
                raise
            self._did(kind, path=relative)

    def link(self, source: str, target: str) -> None:
        """A second name."""
        self._name_call("link", source, target, lambda: Disk.link(self, source, target))

    def rename(self, source: str, target: str) -> None:
        """Another name."""
        self._name_call("rename", source, target, lambda: Disk.rename(self, source, target))

    def unlink(self, path: str) -> None:
        """One name less."""
        self._name_call("unlink", path, "", lambda: Disk.unlink(self, path))

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """A folder."""
        self._name_call("mkdir", path, "", lambda: Disk.mkdir(self, path, mode), is_new=True)

    def rmdir(self, path: str) -> None:
        """A folder less."""
        self._name_call("rmdir", path, "", lambda: Disk.rmdir(self, path))

    def chmod(self, path: str, mode: int) -> None:
        """Permissions."""
        self._name_call("chmod", path, "", lambda: Disk.chmod(self, path, mode), mode=mode)

    def _name_call(
        self, kind: str, path: str, target: str, perform: Any, *, is_new: bool = False, mode: int = 0
    ) -> None:
        relative = self._relative(path)
        other = self._relative(target) if target else ""
        if relative is None or other is None:
            assert relative is None and not other, f"{kind} {path} {target} crosses the border of the watched folder"
            perform()
            return
        with self._turn:
            self._ask(kind, relative)
            try:
                status = None if is_new else os.lstat(path)
                perform()
                status = status or os.lstat(path)
            except OSError:
                self._did_nothing()
                raise
            if kind == "rename" and os.path.lexists(path) and os.path.lexists(target):
                self._did_nothing()  # both were names of one inode: rename(2) does nothing then
                return
            self._did(kind, path=relative, target=other, inode=status.st_ino, mode=mode or status.st_mode & 0o7777)
