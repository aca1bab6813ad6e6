"""Is a ref, under its lock, what the update expects, and is the name of a new one free?

The texts are git's: clients and people know them.

Source: git's refs/files-backend.c (check_old_oid, lock_raw_ref), refs.c (refs_verify_refname_available).
"""

import os

from govc.errors import RefUpdateRefused
from govc.protocol.oid import to_hex
from govc.refs.database import RefDatabase
from govc.refs.lock import LockFile, remove_empty_tree
from govc.refs.loose import LooseRef
from govc.refs.packed import PackedRefs
from govc.refs.plan import (
    REASON_ABSENT,
    REASON_CONFLICT,
    REASON_EXISTS,
    REASON_FAILED,
    REASON_STALE,
    RefUpdate,
    iter_parents,
    refuse,
    shown,
)
from govc.refs.reflog import ReflogAppender


class Change:
    """One update on its way: the ref it really changes, its lock, what was found under it."""

    __slots__ = ("aliases", "current", "goes_packed", "is_packed", "lock", "logs", "target", "update")

    def __init__(self, update: RefUpdate, target: bytes) -> None:
        self.update = update
        self.target = target
        self.aliases: list[bytes] = []  # other names (symrefs) under which the same change was asked for
        self.lock: LockFile | None = None
        self.current: LooseRef | None = None
        self.is_packed = False  # the current value comes from packed-refs
        self.goes_packed = False  # the new value goes there
        self.logs: list[ReflogAppender] = []


def absent(name: bytes) -> RefUpdateRefused:
    """Return the refusal of an update whose ref should exist and doesn't."""
    return refuse(name, REASON_ABSENT, f"unable to resolve reference '{shown(name)}'")


def conflict(name: bytes, other: bytes) -> RefUpdateRefused:
    """Return the refusal of a name that another ref excludes."""
    return refuse(name, REASON_CONFLICT, f"'{shown(other)}' exists; cannot create '{shown(name)}'")


def blocked(name: bytes) -> RefUpdateRefused:
    """Return the refusal of a ref in whose place a folder lies that can't be removed."""
    detail = f"there is a non-empty directory '{shown(name)}' blocking reference '{shown(name)}'"
    return refuse(name, REASON_FAILED, detail)


def check_old_value(change: Change, zero: bytes) -> RefUpdateRefused | None:
    """Compare the value under the lock with the expected one; None when it is right."""
    name, old, current = change.target, change.update.old, change.current
    is_deletion = change.update.new == zero
    if current is not None and current.oid is None:
        if is_deletion and old is None and current.problem:
            return None  # a broken ref may be deleted
        return refuse(name, REASON_FAILED, f"unable to resolve reference '{shown(name)}': reference broken")
    if old is None or (is_deletion and old == zero):
        return None
    if current is None:
        return None if old == zero else absent(name)
    if old == zero:
        return refuse(name, REASON_EXISTS, "reference already exists")
    if current.oid != old:
        is_at, expected = shown(to_hex(current.oid or zero)), shown(to_hex(old))
        return refuse(name, REASON_STALE, f"is at {is_at} but expected {expected}")
    return None


def check_is_free(
    change: Change, database: RefDatabase, packed: PackedRefs, parents_checked: dict[bytes, bool]
) -> RefUpdateRefused | None:
    """Check that no ref lies above or below a new one, whose lock is held.

    That the lock file could be made proves that no loose ref is above. `parents_checked` is shared by the
    checks of one transaction: whether packed-refs has a ref of that name.
    """
    name = change.target
    for parent in iter_parents(name):
        if parent not in parents_checked:
            parents_checked[parent] = packed.find(parent) >= 0
        if parents_checked[parent] and database.read_raw(parent) is not None:
            return conflict(name, parent)
    low, high = packed.range_of_prefix(name + b"/")
    if low < high:
        return conflict(name, packed.name_at(low))
    return check_place(database, name)


def check_place(database: RefDatabase, name: bytes) -> RefUpdateRefused | None:
    """Check that nothing lies where the file of a ref that has none must come: a ref below, or the lock of one."""
    if not is_blocked(database, name):
        return None
    below = find_loose_below(database, name)
    return blocked(name) if below is None else conflict(name, below)


def is_blocked(database: RefDatabase, name: bytes) -> bool:
    """Say whether a folder lies in the place of a ref's file; an empty one is removed."""
    path = database.path_of(name)
    return os.path.isdir(path) and not remove_empty_tree(path)


def find_loose_parent(database: RefDatabase, name: bytes) -> bytes | None:
    """Return the loose ref that stands where a folder of `name` must be."""
    for parent in iter_parents(name):
        if os.path.isfile(database.path_of(parent)):
            return parent
    return None


def find_loose_below(database: RefDatabase, name: bytes) -> bytes | None:
    """Return some loose ref below `name`; a lock is none."""
    path = database.path_of(name)
    for folder, _, filenames in os.walk(path):
        for filename in filenames:
            if not filename.endswith(".lock"):
                return name + os.fsencode(f"{folder}/{filename}"[len(path) :])
    return None
