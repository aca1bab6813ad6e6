"""Pointing a symbolic ref elsewhere: HEAD, when the default branch changes.

Source: git-symbolic-ref.
"""

import os
from collections.abc import Callable

from govc.errors import RefUpdateRefused
from govc.protocol.refname import check_refname_format
from govc.refs.database import RefDatabase
from govc.refs.lock import (
    REF_LOCK_TIMEOUT_MS,
    FileModes,
    LockFailed,
    LockOwner,
    PlainModes,
    Sleep,
    acquire_lock,
    sync_folder,
)
from govc.refs.plan import REASON_FAILED, REASON_FUNNY, refuse


def set_symref(
    database: RefDatabase,
    name: bytes,
    target: bytes,
    *,
    sleep: Sleep,
    modes: FileModes | None = None,
    fsync: bool = False,
    timeout_ms: int = REF_LOCK_TIMEOUT_MS,
    owner: LockOwner | None = None,
    before_commit: Callable[[], None] | None = None,
) -> None:
    """Make `name` (HEAD, or a ref) a symref to `target`, which needn't exist. Raises RefUpdateRefused.

    `before_commit` is called when all is staged; what it raises leaves the symref as it was.
    """
    if not (target.startswith(b"refs/") and check_refname_format(target)):
        raise RefUpdateRefused(name, REASON_FUNNY, f"refusing to point {name!r} outside of refs/")
    modes = modes if modes is not None else PlainModes()
    try:
        path = database.path_of(name)
        lock = acquire_lock(path, os.fsdecode(name), timeout_ms=timeout_ms, sleep=sleep, modes=modes, owner=owner)
    except ValueError as error:
        raise RefUpdateRefused(name, REASON_FUNNY) from error
    except LockFailed as error:
        raise refuse(name, REASON_FAILED, str(error)) from error
    try:
        lock.write(b"ref: %b\n" % target, modes, fsync=fsync)
        if before_commit is not None:
            before_commit()
        lock.commit()
    except OSError as error:
        lock.release()
        raise refuse(name, REASON_FAILED, error.strerror or "input/output error") from error
    except BaseException:
        lock.release()
        raise
    if fsync:
        sync_folder(os.path.dirname(path))
