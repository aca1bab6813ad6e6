"""Making a recorded change again: what recovery does to refs and reflogs. Every step may have been done already.

A value is set whatever the ref says now; whether it should be set is the caller's to decide. A reflog line that the log
ends with isn't written twice, and what a power cut left of a line is cut off first.

Source: git's refs/files-backend.c for the forms; storage rules 12, 20, 21.
"""

import os
from collections.abc import Sequence

from govc import disk
from govc.protocol.oid import to_hex
from govc.refs.database import RefDatabase
from govc.refs.lock import (
    FileModes,
    LockFile,
    LockOwner,
    Sleep,
    acquire_lock,
    prune_parents,
    remove_empty_tree,
    remove_file,
)
from govc.refs.packed_file import PackedRefsFile
from govc.refs.reflog import LogUpdates, delete_reflog, open_reflog

LOCK_TIMEOUT_MS = 2000
_TAIL_BYTES = 64 << 10


def set_ref(
    database: RefDatabase,
    name: bytes,
    oid: bytes,
    *,
    sleep: Sleep,
    modes: FileModes,
    owner: LockOwner | None,
    held_lock: str | None = None,
) -> None:
    """Give a ref a value. `held_lock`: its lock file, held for us by a dead process. Raises LockFailed, OSError."""
    path = database.path_of(name)
    content = to_hex(oid) + b"\n"
    if held_lock is not None:
        lock = LockFile(path)
    else:
        lock = acquire_lock(path, os.fsdecode(name), timeout_ms=LOCK_TIMEOUT_MS, sleep=sleep, modes=modes, owner=owner)
    try:
        lock.write(content, modes, fsync=False)
        try:
            lock.commit()
        except IsADirectoryError:
            remove_empty_tree(path)
            lock.commit()
    except BaseException:
        if held_lock is None:  # else it goes on standing for what has to be published
            lock.release()
        raise


def delete_refs(
    database: RefDatabase,
    names: Sequence[bytes],
    *,
    sleep: Sleep,
    modes: FileModes,
    owner: LockOwner | None,
    held_locks: dict[bytes, str],
) -> None:
    """Delete refs and their reflogs. `held_locks`: lock files held for us by a dead process, by name.

    Raises LockFailed, CorruptRefs, OSError.
    """
    packed = PackedRefsFile(database, sleep=sleep, modes=modes, timeout_ms=LOCK_TIMEOUT_MS, owner=owner)
    try:
        changes: dict[bytes, bytes | None] = {name: None for name in names if packed.refs.find(name) >= 0}
        if changes:
            packed.stage(changes, None, fsync=False)
            packed.publish()
        for name in names:
            path = database.path_of(name)
            lock = LockFile(path)
            if name not in held_locks:
                lock = acquire_lock(
                    path, os.fsdecode(name), timeout_ms=LOCK_TIMEOUT_MS, sleep=sleep, modes=modes, owner=owner
                )
            try:
                remove_file(path)
                log_path = database.log_path_of(name)
                delete_reflog(log_path)
            finally:
                lock.release()
            prune_parents(path, database.kept_folder_of(name))
            prune_parents(log_path, database.kept_folder_of(name, logs=True))
    finally:
        packed.release()


def take_out_of_packed(
    database: RefDatabase, names: Sequence[bytes], *, sleep: Sleep, modes: FileModes, owner: LockOwner | None
) -> None:
    """Remove refs, whose locks are held, from packed-refs alone. Raises LockFailed, CorruptRefs, OSError."""
    packed = PackedRefsFile(database, sleep=sleep, modes=modes, timeout_ms=LOCK_TIMEOUT_MS, owner=owner)
    try:
        packed.take_out(names, None, fsync=False)
    finally:
        packed.release()


def names_with_logs(database: RefDatabase, name: bytes) -> list[bytes]:
    """Return the refs whose reflogs tell of a change of `name`: itself, and HEAD when it points there."""
    head = database.follow(b"HEAD")
    return [name, b"HEAD"] if head is not None and head[0] == name and name != b"HEAD" else [name]


def append_reflog_once(
    database: RefDatabase, name: bytes, line: bytes, log_updates: LogUpdates, modes: FileModes
) -> bool:
    """Append a line to a ref's reflog unless it is there; False when nothing was to do. Raises OSError."""
    path = database.log_path_of(name)
    appender = open_reflog(path, name, log_updates, modes)
    if appender is None:
        return False
    try:
        tail, torn = _read_tail(path)
        if line in tail:
            return False
        if torn:
            _cut(path, torn)
        appender.append(line, fsync=False)
        return True
    finally:
        appender.abandon()


def _read_tail(path: str) -> tuple[bytes, int]:
    """Return the last whole lines of a reflog, and how many bytes of a torn line follow them."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _TAIL_BYTES))
        data = file.read()
    end = data.rfind(b"\n") + 1
    whole = data[:end]
    nul = whole.find(b"\0")
    if nul >= 0:  # zeros where a line should be: pages that a power cut lost
        end = whole.rfind(b"\n", 0, nul) + 1
    return data[:end], len(data) - end


def _cut(path: str, size: int) -> None:
    descriptor = disk.open_file(path, os.O_RDWR)
    try:
        disk.truncate(descriptor, os.fstat(descriptor).st_size - size)
    finally:
        disk.close(descriptor)
