"""Packing: loose refs move into packed-refs, as `git pack-refs --all --prune` moves them.

First the packed file is written and renamed under its lock; only then, ref by ref and each under its own
lock, are the loose files removed. A reader that looks at loose refs first never misses one. A loose file
goes only if it still holds what packed-refs holds at that moment: a ref that was changed, or deleted and
made again, stays loose. So does one above which a ref is locked: who makes that has perhaps read packed-refs before
ours was in it, and only the loose file is in his way.

Removing happens under packed-refs' lock as well (git lets go of it): else another packer that has read an
older value could write it after the loose file went, if the ref has come back to the value that we packed.

Left loose: symrefs, broken refs, refs whose object is missing, and a worktree's own refs.
"""

from govc.errors import ObjectMissing
from govc.refs.database import RefDatabase
from govc.refs.lock import (
    FileModes,
    LockFailed,
    LockFile,
    LockOwner,
    PlainModes,
    Sleep,
    acquire_lock,
    prune_parents,
    remove_file,
)
from govc.refs.packed_creation import is_locked_above
from govc.refs.packed_file import PackedRefsFile
from govc.refs.table import Peel

_PRUNE_BATCH = 100
"""So many loose files go under one hold of packed-refs' lock; others wait for it a second at most."""


def pack_refs(
    database: RefDatabase,
    peel: Peel,
    *,
    sleep: Sleep,
    modes: FileModes | None = None,
    fsync: bool = False,
    owner: LockOwner | None = None,
) -> int:
    """Move all loose refs that can be packed; return how many loose files went.

    `peel` raises ObjectMissing for an oid that isn't there; `owner` as in `RefTransaction`. Raises LockFailed when
    packed-refs stays locked.
    """
    modes = modes if modes is not None else PlainModes()
    packed = PackedRefsFile(database, sleep=sleep, modes=modes, owner=owner)
    try:
        loose = database.load().loose.refs
        peeled: dict[bytes, bytes | None] = {}
        changes: dict[bytes, bytes | None] = {}
        for name, ref in loose.items():
            if ref.oid is not None and database.is_shared(name) and _can_peel(ref.oid, peel, peeled):
                changes[name] = ref.oid
        if changes:
            packed.stage(changes, lambda oid: _peel_known(oid, peel, peeled), fsync=fsync)
            packed.publish()
    finally:
        packed.release()
    names = sorted(changes)
    batches = (names[start : start + _PRUNE_BATCH] for start in range(0, len(names), _PRUNE_BATCH))
    return sum(_prune_batch(database, batch, sleep, modes, owner) for batch in batches)


def _prune_batch(
    database: RefDatabase, names: list[bytes], sleep: Sleep, modes: FileModes, owner: LockOwner | None
) -> int:
    """Remove some loose files, with nobody else packing meanwhile."""
    try:
        packed = PackedRefsFile(database, sleep=sleep, modes=modes, owner=owner)
    except LockFailed:
        return 0  # they are packed and loose, which is fine
    try:
        return sum(_prune(database, name, sleep, modes, owner) for name in names)
    finally:
        packed.release()


def _can_peel(oid: bytes, peel: Peel, peeled: dict[bytes, bytes | None]) -> bool:
    try:
        peeled[oid] = peel(oid)
    except ObjectMissing:
        return False
    return True


def _peel_known(oid: bytes, peel: Peel, peeled: dict[bytes, bytes | None]) -> bytes | None:
    """Peel; an old packed ref whose object is missing stays as it is, unpeeled."""
    if oid not in peeled and not _can_peel(oid, peel, peeled):
        return None
    return peeled[oid]


def _prune(database: RefDatabase, name: bytes, sleep: Sleep, modes: FileModes, owner: LockOwner | None) -> bool:
    """Remove one loose file when packed-refs says the same. One that is locked just stays."""
    path = database.path_of(name)
    try:
        lock: LockFile = acquire_lock(path, "", timeout_ms=0, sleep=sleep, modes=modes, owner=owner)
    except LockFailed:
        return False
    is_gone = False
    try:
        loose = None if is_locked_above(database, name, {}) else database.read_loose(name)
        if loose is not None and loose.oid is not None and database.read_packed().get(name) == loose.oid:
            is_gone = remove_file(path)
    finally:
        lock.release()
    if is_gone:
        prune_parents(path, database.kept_folder_of(name))
    return is_gone
