"""Changing refs: `prepare` locks, verifies and stages; `commit` only renames and appends.

    add ... add, prepare -> refusals by name, then commit or rollback

The order is git's, so that git may work beside us: lock files of loose refs in the order of their names,
HEAD's lock after them when HEAD's reflog gets a line, packed-refs' lock last. Old values are read under the
locks, loose before packed, never from a cached table. Each update stands alone: one that is refused leaves
the others going on (an atomic push is the caller's: it rolls back when anything was refused).

After `prepare` everything that can fail for space or permission has been done: lock files hold their
contents, the new packed-refs is written, reflogs exist. `fsync` makes all of it durable at the price of a
sync per file.

A push that creates very many refs writes one packed-refs instead of thousands of files. There no file and no folder
keep a ref and one below it apart: `packed_creation` does. Deletions hold packed-refs' lock from before the rewrite
until the loose files are gone.

Source: git's refs/files-backend.c (files_transaction_prepare, files_transaction_finish).
"""

import copy
import errno
import os
from collections.abc import Callable, Sequence

from govc.errors import CorruptRefs, RefUpdateRefused
from govc.protocol.oid import to_hex
from govc.protocol.refname import check_refname_format
from govc.refs.database import RefDatabase
from govc.refs.lock import (
    REF_LOCK_TIMEOUT_MS,
    FileModes,
    HeldLocks,
    LockFailed,
    LockFile,
    LockOwner,
    PlainModes,
    Sleep,
    acquire_lock,
    prune_parents,
    remove_empty_tree,
    remove_file,
    sync_folder,
    tolerant,
)
from govc.refs.loose import LooseRef
from govc.refs.packed_creation import check_still_free, find_locked_above, take_out_excluded
from govc.refs.packed_file import PackedRefsFile
from govc.refs.plan import (
    REASON_ALIASED,
    REASON_BROKEN_SYMREF,
    REASON_CONFLICT,
    REASON_DUPLICATE,
    REASON_FAILED,
    REASON_FUNNY,
    RefUpdate,
    explain_aliased,
    find_conflicts,
    refuse,
    shown,
)
from govc.refs.reflog import LogUpdates, delete_reflog, encode_reflog_line, open_reflog
from govc.refs.table import Peel
from govc.refs.verify import (
    Change,
    absent,
    blocked,
    check_is_free,
    check_old_value,
    check_place,
    conflict,
    find_loose_parent,
)

PACKED_CREATION_MIN = 200
"""From this many updates on, refs without a loose file go straight into packed-refs."""

_OPEN_LOGS_MAX = 64


def may_lock_packed(updates: Sequence[RefUpdate]) -> bool:
    """Say whether a transaction of these updates may take packed-refs' lock: it deletes, or makes very many refs."""
    kept = sum(any(update.new) for update in updates)
    return kept < len(updates) or kept >= PACKED_CREATION_MIN


class RefTransaction:
    """Some ref updates that are prepared together. Use once; end it by `commit` or `rollback`."""

    def __init__(
        self,
        database: RefDatabase,
        *,
        committer: bytes,
        message: bytes,
        clock: Callable[[], float],
        sleep: Sleep,
        fsync: bool = False,
        modes: FileModes | None = None,
        log_updates: LogUpdates = LogUpdates.NONE,
        peel: Peel | None = None,
        lock_timeout_ms: int = REF_LOCK_TIMEOUT_MS,
        packed_timeout_ms: int = 1000,
        packed_queue_ms: int = 0,
        owner: LockOwner | None = None,
    ) -> None:
        """Take the surroundings.

        `committer` is `name <email>` (see `reflog.encode_ident`), `clock` gives seconds since 1970; without
        `peel` nothing is written into packed-refs but what was there. `owner` makes the locks recognisable after a
        crash.
        """
        self._database = database
        self._committer = committer
        self._message = message
        self._clock = clock
        self._sleep = sleep
        self._fsync = fsync
        self._modes: FileModes = modes if modes is not None else PlainModes()
        self._log_updates = log_updates
        self._peel = peel
        self._lock_timeout_ms = lock_timeout_ms
        self._packed_timeout_ms = packed_timeout_ms
        self._packed_queue_ms = packed_queue_ms
        self._owner = owner
        self._zero = database.algo.zero
        self._updates: list[RefUpdate] = []
        self._changes: list[Change] = []
        self._refused: dict[bytes, RefUpdateRefused] = {}
        self._packed: PackedRefsFile | None = None
        self._head_lock: LockFile | None = None
        self._time_seconds = 0

    def add(self, update: RefUpdate) -> None:
        """Add one update; HEAD and names below refs/ are accepted."""
        self._updates.append(update)

    def __enter__(self) -> "RefTransaction":
        return self

    def __exit__(self, *exception: object) -> None:
        self.rollback()

    # Prepare

    def prepare(self) -> dict[bytes, RefUpdateRefused]:
        """Lock, verify and stage; return the refusals by name. The updates not named there are ready."""
        try:
            self._plan()
            self._refuse_conflicts_inside()
            for change in self._changes:
                self._lock(change)
            self._drop_refused()
            self._verify_all()
            self._drop_refused()
            self._choose_packed()
            self._stage_loose()
            self._drop_refused()
            self._stage_packed()
            self._drop_refused()
        except BaseException:
            self.rollback()
            raise
        return dict(self._refused)

    def _refuse(self, change: Change, error: RefUpdateRefused) -> None:
        """Refuse a change, under the name and every alias it was asked for by."""
        for name in (change.update.name, *change.aliases):
            self._refused[name] = RefUpdateRefused(name, error.reason, error.detail)

    def _drop_refused(self) -> None:
        """Let go of what the refused changes hold."""
        if not self._refused:
            return
        for change in self._changes:
            if change.update.name in self._refused:
                self._release(change)
        self._changes = [c for c in self._changes if c.update.name not in self._refused]

    def _release(self, change: Change) -> None:
        self._abandon_logs(change)
        lock, change.lock = change.lock, None
        if lock is not None:
            lock.release()
            prune_parents(lock.path, self._database.kept_folder_of(change.target))

    @staticmethod
    def _abandon_logs(change: Change) -> None:
        logs, change.logs = change.logs, []
        for log in logs:
            with tolerant():
                log.abandon()

    def _plan(self) -> None:
        """Find the targets of symrefs; refuse ill-formed and doubled names."""
        counts: dict[bytes, int] = {}
        for update in self._updates:
            counts[update.name] = counts.get(update.name, 0) + 1
        by_target: dict[bytes, Change] = {}
        for update in self._updates:
            if counts[update.name] > 1:
                detail = f"multiple updates for ref '{shown(update.name)}' not allowed"
                self._refused[update.name] = RefUpdateRefused(update.name, REASON_DUPLICATE, detail)
                continue
            target = self._target_of(update)
            if target is None:
                continue
            known = by_target.setdefault(target, Change(update, target))
            if known.update is not update:
                self._join(known, update)
        self._changes = [by_target[target] for target in sorted(by_target)]
        for change in self._changes:
            if change.update.name in self._refused:
                self._refuse(change, self._refused[change.update.name])
        self._drop_refused()

    def _join(self, known: Change, update: RefUpdate) -> None:
        """Two names of one ref: fine when they agree, then it is changed once."""
        if known.update.new == update.new and known.update.old == update.old:
            known.aliases.append(update.name)
            return
        self._refused[update.name] = RefUpdateRefused(update.name, REASON_ALIASED)
        detail = explain_aliased(update, known.update, known.target)
        self._refuse(known, RefUpdateRefused(known.update.name, REASON_ALIASED, detail))

    def _target_of(self, update: RefUpdate) -> bytes | None:
        """Return the ref that an update really changes, None when it was refused."""
        name = update.name
        if name != b"HEAD" and not (name.startswith(b"refs/") and check_refname_format(name)):
            self._refused[name] = RefUpdateRefused(name, REASON_FUNNY)
            return None
        try:
            end = self._database.follow(name)
        except (CorruptRefs, OSError) as error:
            self._refused[name] = refuse(name, REASON_FAILED, _text_of(error))
            return None
        if end is None:
            detail = f"unable to resolve reference '{shown(name)}'"
            self._refused[name] = refuse(name, REASON_BROKEN_SYMREF, detail)
            return None
        return end[0]

    def _refuse_conflicts_inside(self) -> None:
        """Refuse a name below another one of this transaction: a file can't be a folder."""
        if len(self._changes) < 2:
            return
        by_target = {change.target: change for change in self._changes}
        for below, above in find_conflicts(by_target).items():
            lower, upper = by_target[below], by_target[above]
            if lower.update.new == self._zero and upper.update.new == self._zero:
                continue  # at most one of them exists
            detail = f"cannot process '{shown(above)}' and '{shown(below)}' at the same time"
            self._refuse(upper if lower.update.new == self._zero else lower, refuse(below, REASON_CONFLICT, detail))
        self._drop_refused()

    def _lock(self, change: Change) -> None:
        """Take the lock of one loose ref."""
        name = change.target
        try:
            change.lock = acquire_lock(
                self._database.path_of(name),
                shown(name),
                timeout_ms=self._lock_timeout_ms,
                sleep=self._sleep,
                modes=self._modes,
                owner=self._owner,
            )
        except LockFailed as error:
            if error.errno not in (errno.ENOTDIR, errno.EEXIST):
                self._refuse(change, refuse(name, REASON_FAILED, str(error)))
            elif (blocker := find_loose_parent(self._database, name)) is not None:
                self._lock_blocked(change, blocker)
            else:
                self._refuse(change, refuse(name, REASON_FAILED, str(error)))

    def _lock_blocked(self, change: Change, blocker: bytes) -> None:
        """A loose ref stands where a folder must be: nothing to delete, or a conflict."""
        if change.update.new == self._zero and change.update.old in (None, self._zero):
            return
        if change.update.old not in (None, self._zero):
            self._refuse(change, absent(change.target))
        else:
            self._refuse(change, conflict(change.target, blocker))

    def _verify_all(self) -> None:
        """Read what the locked refs are now, loose then packed, and compare with what was expected."""
        database = self._database
        for change in self._changes:
            if change.lock is not None:
                change.current = database.read_loose(change.target)
        packed = database.read_packed()
        prefixes_checked: dict[bytes, bool] = {}
        for change in self._changes:
            if change.current is None:
                oid = packed.get(change.target)
                if oid is not None:
                    change.is_packed = True
                    change.current = LooseRef(oid, None)
            error = check_old_value(change, self._zero)
            if error is None and change.update.new != self._zero:
                if change.current is None:
                    error = check_is_free(change, database, packed, prefixes_checked)
                elif change.is_packed and self._moves(change):
                    error = check_place(database, change.target)
            if error is not None:
                self._refuse(change, error)

    # Stage

    def _choose_packed(self) -> None:
        """Mark the changes that go straight into packed-refs, when they are very many."""
        if self._peel is None:
            return
        wanted = [
            change
            for change in self._changes
            if change.update.new != self._zero
            and (change.current is None or change.is_packed)
            and self._database.is_shared(change.target)
        ]
        if len(wanted) >= PACKED_CREATION_MIN:
            for change in wanted:
                change.goes_packed = True

    def _stage_loose(self) -> None:
        """Write the lock files and open the reflogs."""
        has_logs = self._log_updates is not LogUpdates.NONE or self._database.has_reflogs()
        head = self._database.follow(b"HEAD") if has_logs else None
        head_target = head[0] if head is not None else b"HEAD"
        logs_open = 0
        for change in self._changes:
            if change.lock is None:
                continue
            try:
                if change.update.new != self._zero and not change.goes_packed and self._moves(change):
                    self._write_value(change, change.lock)
                if has_logs:
                    self._open_logs(change, head_target)
            except LockFailed as error:
                self._refuse(change, refuse(change.target, REASON_FAILED, str(error)))
            except OSError as error:
                self._refuse(change, refuse(change.target, REASON_FAILED, _text_of(error)))
            logs_open += len(change.logs)
            if logs_open > _OPEN_LOGS_MAX:
                for log in change.logs:
                    log.let_go_of_descriptor()

    def _write_value(self, change: Change, lock: LockFile) -> None:
        lock.write(to_hex(change.update.new) + b"\n", self._modes, fsync=self._fsync)

    def _open_logs(self, change: Change, head_target: bytes) -> None:
        """Open the reflogs that get a line: the ref's, those of symrefs it was named by, and HEAD's."""
        if not self._moves(change):
            return
        names = [name for name in (change.update.name, *change.aliases) if name != change.target]
        if change.update.new != self._zero:
            names.append(change.target)
        if head_target == change.target and b"HEAD" not in names:
            names.append(b"HEAD")
        for name in names:
            log = open_reflog(self._database.log_path_of(name), name, self._log_updates, self._modes)
            if log is None:
                continue
            change.logs.append(log)
            if name == b"HEAD" and change.target != b"HEAD":
                self._lock_head()
                if self._database.follow(b"HEAD") != self._expected_head(change):
                    change.logs.remove(log)
                    log.abandon()

    def _expected_head(self, change: Change) -> tuple[bytes, LooseRef | None]:
        """What following HEAD leads to while HEAD is still on the change's branch."""
        return change.target, change.current

    def _lock_head(self) -> None:
        if self._head_lock is None:
            self._head_lock = acquire_lock(
                self._database.path_of(b"HEAD"),
                "HEAD",
                timeout_ms=self._lock_timeout_ms,
                sleep=self._sleep,
                modes=self._modes,
                owner=self._owner,
            )

    def _stage_packed(self) -> None:
        """Lock packed-refs and write its successor when refs are deleted or very many are made."""
        deletions = [c for c in self._changes if self._is_deletion(c) and c.current is not None]
        creations = [c for c in self._changes if c.goes_packed]
        if not deletions and not creations:
            return
        packed = None
        try:
            packed = PackedRefsFile(
                self._database,
                sleep=self._sleep,
                modes=self._modes,
                timeout_ms=self._packed_timeout_ms,
                queue_ms=self._packed_queue_ms,
                owner=self._owner,
            )
            for change, error in check_still_free(self._database, creations, packed):
                self._refuse(change, error)
            creations = [c for c in creations if c.update.name not in self._refused]
            changes: dict[bytes, bytes | None] = {c.target: c.update.new for c in creations}
            changes.update((c.target, None) for c in deletions if packed.refs.find(c.target) >= 0)
            if changes:
                packed.stage(changes, self._peel, fsync=self._fsync)
            self._packed = packed
        except (LockFailed, CorruptRefs, OSError) as error:
            for change in (*deletions, *creations):
                self._refuse(change, refuse(change.target, REASON_FAILED, _text_of(error)))
        finally:
            if packed is not None and self._packed is None:
                packed.release()

    def _is_deletion(self, change: Change) -> bool:
        return change.update.new == self._zero and change.lock is not None

    def _moves(self, change: Change) -> bool:
        """Say whether the ref's value changes at all."""
        current = change.current.oid if change.current is not None else None
        return (current or self._zero) != change.update.new

    def prepared(self) -> list[tuple[bytes, bytes, bytes]]:
        """Return (ref, old, new) of each ref whose value `commit` will change; zeros for a ref that isn't there.

        The names are those of the refs that really change: a symref's end, not the symref.
        """
        return [
            (
                change.target,
                (change.current.oid if change.current is not None else None) or self._zero,
                change.update.new,
            )
            for change in self._changes
            if change.lock is not None and self._moves(change)
        ]

    # Commit and rollback

    def commit(self, *, keep_failed: bool = False, time_seconds: int | None = None) -> dict[bytes, RefUpdateRefused]:
        """Publish what was prepared; return what failed even so, by name (a disk that fails a rename).

        With `keep_failed`, the locks stay when something failed: `rollback` is the caller's then. `time_seconds` goes
        into reflogs, by default the clock's.
        """
        self._time_seconds = int(self._clock()) if time_seconds is None else time_seconds
        before = set(self._refused)
        try:
            deletions = [c for c in self._changes if self._is_deletion(c)]
            for change in self._changes:
                if change.update.new != self._zero and change.lock is not None:
                    self._guarded(change, self._commit_update)
            for change in deletions:
                self._guarded(change, self._commit_logs)
            self._publish_packed()
            for change in deletions:
                self._guarded(change, self._commit_deletion)
            if self._fsync:
                self._sync_folders()
            failed = {name: error for name, error in self._refused.items() if name not in before}
        except BaseException:
            if not keep_failed:
                self.rollback()
            raise
        if not (failed and keep_failed):
            self.rollback()
        return failed

    def _guarded(self, change: Change, step: Callable[[Change], None]) -> None:
        try:
            step(change)
        except OSError as error:
            self._refuse(change, refuse(change.target, REASON_FAILED, _text_of(error)))

    def _commit_logs(self, change: Change) -> None:
        if not change.logs:
            return
        old = (change.current.oid if change.current is not None else None) or self._zero
        line = encode_reflog_line(old, change.update.new, self._committer, self._time_seconds, self._message)
        for log in change.logs:
            log.append(line, fsync=self._fsync)
        change.logs = []

    def _commit_update(self, change: Change) -> None:
        self._commit_logs(change)
        if change.lock is None or change.goes_packed or not self._moves(change):
            return
        try:
            change.lock.commit()
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            remove_empty_tree(change.lock.path)
            change.lock.commit()
        change.lock = None

    def _publish_packed(self) -> None:
        if self._packed is None:
            return
        try:
            self._packed.publish()
        except OSError as error:
            for change in self._changes:
                if change.goes_packed or change.update.new == self._zero:
                    self._refuse(change, refuse(change.target, REASON_FAILED, _text_of(error)))
            return
        self._keep_apart(self._packed)

    def _keep_apart(self, packed: PackedRefsFile) -> None:
        """Give up what a ref below excludes; keep out, by being loose as well, who is about to make one above."""
        creations = [change for change in self._changes if change.goes_packed]
        for change in take_out_excluded(self._database, creations, packed, self._peel, fsync=self._fsync):
            self._refuse(change, blocked(change.target))
        for change in find_locked_above(self._database, creations):
            self._guarded(change, self._commit_loose_too)

    def _commit_loose_too(self, change: Change) -> None:
        if change.lock is not None and change.update.name not in self._refused:
            self._write_value(change, change.lock)
            change.lock.commit()
            change.lock = None

    def _commit_deletion(self, change: Change) -> None:
        if change.update.name in self._refused or change.lock is None:
            return
        remove_file(change.lock.path)
        log_path = self._database.log_path_of(change.target)
        delete_reflog(log_path)
        prune_parents(log_path, self._database.kept_folder_of(change.target, logs=True))

    def _sync_folders(self) -> None:
        folders = {self._database.commondir}
        for change in self._changes:
            folder = os.path.dirname(self._database.path_of(change.target))
            while folder not in folders and len(folder) > len(self._database.commondir):
                folders.add(folder)
                folder = os.path.dirname(folder)
        for folder in sorted(folders):
            sync_folder(folder)

    def held_locks(self) -> HeldLocks:
        """Return the locks of refs whose change wasn't published, and that of packed-refs."""
        locks = [change.lock for change in self._changes if change.lock is not None]
        if self._packed is not None:
            locks.append(self._packed.lock)
        return {lock.lock_path: lock for lock in locks}

    def release_packed(self) -> None:
        """Let go of packed-refs' lock alone: somebody else finishes this transaction."""
        if self._packed is not None:
            self._packed.release()
            self._packed = None

    def abandon(self) -> None:
        """Forget the transaction; the locks of refs whose change wasn't published stay for who finishes it."""
        changes, self._changes = self._changes, []
        for change in changes:
            self._abandon_logs(change)
        self.rollback()

    def hand_over(self) -> Callable[[], None]:
        """Forget the transaction; what lets go of its locks is returned, for later."""
        holder = copy.copy(self)
        self._changes, self._head_lock, self._packed = [], None, None
        return holder.rollback

    def rollback(self) -> None:
        """Let go of every lock; what wasn't committed never was. Harmless after `commit`. Raises nothing."""
        for change in self._changes:
            if change.lock is not None or change.logs:
                with tolerant():
                    self._release(change)
        head_lock, self._head_lock = self._head_lock, None
        if head_lock is not None:
            with tolerant():
                head_lock.release()
        if self._packed is not None:
            with tolerant():
                self.release_packed()


def _text_of(error: Exception) -> str:
    """Return what may be shown of an error: never a path of the server."""
    if isinstance(error, OSError):
        return error.strerror or "input/output error"
    return str(error)
