"""Replacing packed-refs: lock, write a new file, rename.

The lock is `packed-refs.lock`, which stays empty; the content goes to `packed-refs.new`, as git does it, so
that the lock can outlive the rename: whoever deletes refs holds it until their loose files are gone, else
somebody could read the loose value in between, pack it again and bring the ref back.

Source: git's refs/packed-backend.c.
"""

import os
from collections.abc import Iterable

from govc import disk
from govc.refs.database import RefDatabase
from govc.refs.lock import (
    PACKED_LOCK_TIMEOUT_MS,
    FileModes,
    LockFile,
    LockOwner,
    Sleep,
    acquire_lock,
    remove_file,
)
from govc.refs.packed import PackedRefs, encode_packed_refs, merge_entries
from govc.refs.table import Peel


class PackedRefsFile:
    """packed-refs under its lock."""

    __slots__ = ("_database", "_is_staged", "_modes", "_new_path", "lock", "refs")

    def __init__(
        self,
        database: RefDatabase,
        *,
        sleep: Sleep,
        modes: FileModes,
        timeout_ms: int = PACKED_LOCK_TIMEOUT_MS,
        queue_ms: int = 0,
        owner: LockOwner | None = None,
    ) -> None:
        """Take the lock and read the file. Raises LockFailed, CorruptRefs."""
        self._database = database
        self._modes = modes
        path = os.path.realpath(database.packed_path)
        self._new_path = f"{path}.new"
        self._is_staged = False
        self.lock: LockFile = acquire_lock(
            path, "packed-refs", timeout_ms=timeout_ms, queue_ms=queue_ms, sleep=sleep, modes=modes, owner=owner
        )
        try:
            self.refs: PackedRefs = database.read_packed()
        except BaseException:
            self.lock.release()
            raise

    def stage(self, changes: dict[bytes, bytes | None], peel: Peel | None, *, fsync: bool) -> None:
        """Write the new file with `changes` (name -> oid, None to remove). OSError when that fails."""
        only_removes = not any(changes.values())
        is_known = peel is not None or (only_removes and (self.refs.fully_peeled or not self.refs.count))
        entries = merge_entries(self.refs, changes, peel)
        self._write(encode_packed_refs(entries, fully_peeled=is_known), fsync=fsync)

    def _write(self, chunks: Iterable[bytes], *, fsync: bool) -> None:
        remove_file(self._new_path)  # left behind by a process that died: nobody else may hold the lock
        descriptor = disk.open_file(self._new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._is_staged = True
        try:
            for chunk in chunks:
                disk.write_all(descriptor, chunk)
            if fsync:
                disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        self._modes.adjust_file(self._new_path)

    def publish(self) -> None:
        """Put the staged file in place; the lock stays."""
        if self._is_staged:
            disk.rename(self._new_path, self.lock.path)
            self._is_staged = False

    def take_out(self, names: Iterable[bytes], peel: Peel | None, *, fsync: bool) -> None:
        """Remove refs that were just published, and publish that. Raises CorruptRefs, OSError."""
        self.refs = self._database.read_packed()
        self.stage(dict.fromkeys(names), peel, fsync=fsync)
        self.publish()

    def release(self) -> None:
        """Give the lock back; what was staged and not published is gone."""
        if self._is_staged:
            remove_file(self._new_path)
            self._is_staged = False
        self.lock.release()
