"""Pointing a symbolic ref elsewhere, and the files of a new repository.

Source: git-symbolic-ref; git's technical/reftable "Backward compatibility".
"""

import os
from collections.abc import Callable

from govc import disk
from govc.errors import CorruptRefs, RefUpdateRefused
from govc.protocol.oid import HashAlgorithm
from govc.protocol.refname import check_refname_format
from govc.refs.lock import FileModes, LockFailed, LockOwner, PlainModes, Sleep
from govc.refs.plan import REASON_FAILED, REASON_FUNNY, refuse
from govc.refs.reftable.addition import Addition
from govc.refs.reftable.database import HEADS_STUB, ReftableDatabase
from govc.refs.reftable.format import RefRecord
from govc.refs.reftable.writer import EntryTooLarge, ReftableOptions


def set_symref(
    database: ReftableDatabase,
    name: bytes,
    target: bytes,
    *,
    sleep: Sleep,
    modes: FileModes | None = None,
    fsync: bool = False,
    options: ReftableOptions | None = None,
    owner: LockOwner | None = None,
    before_commit: Callable[[], None] | None = None,
) -> None:
    """Make `name` (HEAD, or a ref) a symref to `target`, which needn't exist. Raises RefUpdateRefused.

    `before_commit` is called when all is staged; what it raises leaves the symref as it was.
    """
    if not (target.startswith(b"refs/") and check_refname_format(target)):
        raise RefUpdateRefused(name, REASON_FUNNY, f"refusing to point {name!r} outside of refs/")
    if name != b"HEAD" and not (name.startswith(b"refs/") and check_refname_format(name)):
        raise RefUpdateRefused(name, REASON_FUNNY)
    number = database.stack_number_of(name)
    latest = database.latest
    try:
        addition = Addition(
            database.stacks[number],
            latest.stacks[number] if latest is not None else None,
            options=options if options is not None else ReftableOptions(),
            sleep=sleep,
            modes=modes if modes is not None else PlainModes(),
            fsync=fsync,
            owner=owner,
        )
    except (LockFailed, CorruptRefs) as error:
        raise refuse(name, REASON_FAILED, str(error)) from error
    try:
        addition.put_ref(RefRecord(name, addition.update_index, target=target))
        addition.stage()
        if before_commit is not None:
            before_commit()
        addition.publish()
    except (OSError, EntryTooLarge) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise refuse(name, REASON_FAILED, text or "input/output error") from error
    finally:
        addition.abandon()


def create_reftable(gitdir: str, algo: HashAlgorithm, head: bytes) -> None:
    """Make what a new repository needs below `gitdir` for its refs, with HEAD on the branch `head`. Raises OSError.

    The file HEAD, without which it is no repository, is the caller's (`database.HEAD_STUB`).
    """
    for folder in ("refs", "reftable"):
        os.makedirs(f"{gitdir}/{folder}", exist_ok=True)
    disk.write_file(f"{gitdir}/refs/heads", HEADS_STUB, fsync=True)
    set_symref(ReftableDatabase(gitdir, gitdir, algo), b"HEAD", head, sleep=lambda _: None, fsync=True)
