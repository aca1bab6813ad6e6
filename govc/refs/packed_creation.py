"""New refs that go straight into packed-refs: do they exclude, or are they excluded by, what others make meanwhile?

A ref can't be a file and a folder at once. Of loose refs the file system sees to it: `refs/heads/x` can't be renamed
into the place of a folder in which `y` lies. packed-refs keeps nothing apart, so who makes the other of the two is
looked for once packed-refs has been replaced. He takes his lock first and reads packed-refs then: either he has found
our ref there, or we find his lock, or his ref.

Source: git's refs/files-backend.c (files_transaction_finish_initial, lock_raw_ref).
"""

import logging
import os
from collections.abc import Sequence

from govc.errors import CorruptRefs, RefUpdateRefused
from govc.refs.database import RefDatabase
from govc.refs.packed_file import PackedRefsFile
from govc.refs.plan import iter_parents
from govc.refs.table import Peel
from govc.refs.verify import Change, check_is_free, is_blocked

log = logging.getLogger(__name__)


def check_still_free(
    database: RefDatabase, creations: Sequence[Change], packed: PackedRefsFile
) -> list[tuple[Change, RefUpdateRefused]]:
    """Return what another ref has come to exclude while packed-refs' lock, which is held now, was waited for."""
    prefixes_checked: dict[bytes, bool] = {}
    found = []
    for change in creations:
        error = check_is_free(change, database, packed.refs, prefixes_checked) if change.current is None else None
        if error is not None:
            found.append((change, error))
    return found


def take_out_excluded(
    database: RefDatabase, creations: Sequence[Change], packed: PackedRefsFile, peel: Peel | None, *, fsync: bool
) -> list[Change]:
    """Remove from packed-refs, which has just been published, what a ref below excludes; return these changes."""
    excluded = [change for change in creations if change.current is None and is_blocked(database, change.target)]
    if not excluded:
        return []
    try:
        packed.take_out([change.target for change in excluded], peel, fsync=fsync)
    except (CorruptRefs, OSError) as error:
        log.error("%s: refs that others exclude stay in packed-refs: %s", database.commondir, error)
        return []
    return excluded


def find_locked_above(database: RefDatabase, creations: Sequence[Change]) -> list[Change]:
    """Return the new refs above which somebody is about to make one: he can't while they are loose as well."""
    known: dict[bytes, bool] = {}
    new = [change for change in creations if change.current is None]
    return [change for change in new if is_locked_above(database, change.target, known)]


def is_locked_above(database: RefDatabase, name: bytes, known: dict[bytes, bool]) -> bool:
    """Say whether a ref above `name` is locked: somebody makes it, as it can't be there beside `name`.

    `known` is shared by several questions: which refs are locked.
    """
    for parent in iter_parents(name):
        if parent not in known:
            known[parent] = os.path.lexists(f"{database.path_of(parent)}.lock")
        if known[parent]:
            return True
    return False
