"""Changing refs of a reftable repository: `prepare` locks, verifies and writes the new table; `commit` only renames.

    add ... add, prepare -> refusals by name, then commit or rollback

One lock, that of the list, holds off all writers of a stack. Under it the stack is read again, every update is judged
by what is there, and those that stand become one table: refs, tombstones for deleted ones, and their reflog entries.
It is complete on disk, beside a new list in the lock file, when `prepare` returns. `commit` gives the table its name
and the list its place: all updates of the transaction appear at once, or none does.

A linked worktree has a stack of its own for HEAD and the refs that aren't shared. Both stacks are locked then, the
shared one first.

Source: git's technical/reftable "Update transactions", refs/reftable-backend.c.
"""

import copy
from collections.abc import Callable

from govc.errors import CorruptRefs, GovcError, ObjectMissing, RefUpdateRefused
from govc.protocol.refname import check_refname_format
from govc.refs.lock import FileModes, HeldLocks, LockFailed, LockOwner, PlainModes, Sleep, tolerant
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
    iter_parents,
    refuse,
    shown,
)
from govc.refs.reflog import LogUpdates, is_log_wanted
from govc.refs.reftable.addition import Addition
from govc.refs.reftable.database import ReftableDatabase, ReftableState
from govc.refs.reftable.format import NAME_BYTES_MAX, LogEntry, LogRecord, RefRecord
from govc.refs.reftable.merged import has_log, merge_logs
from govc.refs.reftable.writer import EntryTooLarge, ReftableOptions
from govc.refs.table import Peel
from govc.refs.verify import Change, check_old_value, conflict

_RECORD_BYTES_REST = 64
"""What headers, sizes and restarts take of a block that holds one ref."""


class ReftableTransaction:
    """Some ref updates that are prepared together. Use once; end it by `commit` or `rollback`."""

    def __init__(
        self,
        database: ReftableDatabase,
        *,
        committer: bytes,
        message: bytes,
        clock: Callable[[], float],
        sleep: Sleep,
        fsync: bool = False,
        modes: FileModes | None = None,
        log_updates: LogUpdates = LogUpdates.NONE,
        peel: Peel | None = None,
        options: ReftableOptions | None = None,
        owner: LockOwner | None = None,
    ) -> None:
        """Take the surroundings.

        `committer` is `name <email>` (see `reflog.encode_ident`), `clock` gives seconds since 1970; without `peel`
        tags are stored without what they name. `owner` makes the locks recognisable after a crash.
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
        self._options = options if options is not None else ReftableOptions()
        self._owner = owner
        self._zero = database.algo.zero
        self._updates: list[RefUpdate] = []
        self._changes: list[Change] = []
        self._refused: dict[bytes, RefUpdateRefused] = {}
        self._additions: list[Addition] = []

    def add(self, update: RefUpdate) -> None:
        """Add one update; HEAD and names below refs/ are accepted."""
        self._updates.append(update)

    def __enter__(self) -> "ReftableTransaction":
        return self

    def __exit__(self, *exception: object) -> None:
        self.rollback()

    # Prepare

    def prepare(self) -> dict[bytes, RefUpdateRefused]:
        """Lock, verify and write; return the refusals by name. The updates not named there are ready."""
        try:
            self._prepare()
        except LockFailed:
            self._refuse_all("cannot lock references")
        except (CorruptRefs, EntryTooLarge, OSError) as error:
            self._refuse_all(_text_of(error))
        except BaseException:
            self.rollback()
            raise
        return dict(self._refused)

    def _prepare(self) -> None:
        latest = self._database.latest
        for number, stack in enumerate(self._database.stacks):
            known = latest.stacks[number] if latest is not None else None
            self._additions.append(
                Addition(
                    stack,
                    known,
                    options=self._options,
                    sleep=self._sleep,
                    modes=self._modes,
                    fsync=self._fsync,
                    owner=self._owner,
                )
            )
        state = self._database.state_of(tuple(addition.state for addition in self._additions))
        self._plan(state)
        self._refuse_conflicts_inside()
        self._verify(state)
        head = state.follow(b"HEAD")
        for change in self._changes:
            self._record(change, head[0] if head is not None else b"HEAD")
        for addition in self._additions:
            addition.stage()

    def _refuse_all(self, detail: str) -> None:
        """Nothing could be prepared: every update is refused, and the reason said once."""
        self.rollback()
        self._changes = []
        for update in self._updates:
            if update.name not in self._refused:
                self._refused[update.name] = RefUpdateRefused(update.name, REASON_DUPLICATE, detail)
                detail = ""

    def _refuse(self, change: Change, error: RefUpdateRefused) -> None:
        """Refuse a change, under the name and every alias it was asked for by."""
        for name in (change.update.name, *change.aliases):
            self._refused[name] = RefUpdateRefused(name, error.reason, error.detail)

    def _drop_refused(self) -> None:
        self._changes = [change for change in self._changes if change.update.name not in self._refused]

    def _plan(self, state: ReftableState) -> None:
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
            target = self._target_of(state, update.name)
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

    def _target_of(self, state: ReftableState, name: bytes) -> bytes | None:
        """Return the ref that an update really changes, None when it was refused."""
        if name != b"HEAD" and not (name.startswith(b"refs/") and check_refname_format(name)):
            self._refused[name] = RefUpdateRefused(name, REASON_FUNNY)
            return None
        end = state.follow(name)
        if end is None:
            detail = f"unable to resolve reference '{shown(name)}'"
            self._refused[name] = refuse(name, REASON_BROKEN_SYMREF, detail)
            return None
        return end[0]

    def _refuse_conflicts_inside(self) -> None:
        """Refuse a name below another one of this transaction."""
        by_target = {change.target: change for change in self._changes}
        for below, above in find_conflicts(by_target).items():
            lower, upper = by_target[below], by_target[above]
            if lower.update.new == self._zero and upper.update.new == self._zero:
                continue  # at most one of them exists
            detail = f"cannot process '{shown(above)}' and '{shown(below)}' at the same time"
            self._refuse(upper if lower.update.new == self._zero else lower, refuse(below, REASON_CONFLICT, detail))
        self._drop_refused()

    def _verify(self, state: ReftableState) -> None:
        """Compare what the refs are with what was expected, and see that new names are free."""
        parents: dict[bytes, bool] = {}
        for change in self._changes:
            change.current = state.get(change.target)
            error = self._check_fits(change.target) or check_old_value(change, self._zero)
            if error is None and change.current is None and change.update.new != self._zero:
                error = self._check_is_free(state, change.target, parents)
            if error is not None:
                self._refuse(change, error)
        self._drop_refused()

    def _check_fits(self, name: bytes) -> RefUpdateRefused | None:
        """A ref can't be larger than a block."""
        if len(name) + 2 * len(self._zero) + _RECORD_BYTES_REST <= min(self._options.block_size, NAME_BYTES_MAX):
            return None
        return refuse(name, REASON_FAILED, "File name too long.")

    def _check_is_free(self, state: ReftableState, name: bytes, parents: dict[bytes, bool]) -> RefUpdateRefused | None:
        """Check that no ref lies above or below a new one. `parents`: which names above are taken, as far as looked."""
        for parent in iter_parents(name):
            if parent not in parents:
                parents[parent] = state.table.raw(parent) is not None
            if parents[parent]:
                return conflict(name, parent)
        below = next(state.table.iter_names(name + b"/"), None)
        return None if below is None else conflict(name, below)

    # What is written

    def _record(self, change: Change, head_target: bytes) -> None:
        """Put a change into the tables-to-be: the ref, and the reflogs that get a line."""
        if not self._moves(change):
            return
        target, new = change.target, change.update.new
        addition = self._addition_for(target)
        if new == self._zero:
            addition.put_ref(RefRecord(target, addition.update_index))
            for log in merge_logs(addition.state.tables, target, drop_tombstones=True):
                addition.put_log(LogRecord(target, log.update_index, None))
        else:
            addition.put_ref(RefRecord(target, addition.update_index, new, self._peeled(new)))
        names = {name for name in (change.update.name, *change.aliases) if name != target}
        if new != self._zero:
            names.add(target)
        if head_target == target:
            names.add(b"HEAD")
        for name in names:
            self._add_log(name, change)

    def _moves(self, change: Change) -> bool:
        """Say whether anything is to be written: the value changes, or a broken ref goes."""
        current = change.current
        if current is None:
            return change.update.new != self._zero
        return current.oid != change.update.new

    def _peeled(self, oid: bytes) -> bytes | None:
        try:
            return self._peel(oid) if self._peel is not None else None
        except ObjectMissing:
            return None

    def _add_log(self, name: bytes, change: Change) -> None:
        addition = self._addition_for(name)
        if not is_log_wanted(name, self._log_updates) and not has_log(addition.state.tables, name):
            return
        old = (change.current.oid if change.current is not None else None) or self._zero
        ident, _, email = self._committer.partition(b" <")
        email = email.removesuffix(b">")
        text = b" ".join(self._message.split())[: self._options.block_size // 2]
        entry = LogEntry(old, change.update.new, ident, email, int(self._clock()), 0, text + b"\n")
        addition.put_log(LogRecord(name, addition.update_index, entry))

    def _addition_for(self, name: bytes) -> Addition:
        return self._additions[self._database.stack_number_of(name)]

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
            if self._moves(change)
        ]

    # Commit and rollback

    def commit(self, *, keep_failed: bool = False, time_seconds: int | None = None) -> dict[bytes, RefUpdateRefused]:
        """Publish what was prepared; return what failed even so, by name (a disk that fails a rename).

        With `keep_failed`, the locks stay when something failed: `rollback` is the caller's then. Reflog entries are in
        the table already, with the time of `prepare`: `time_seconds` comes too late for them.
        """
        failed: dict[bytes, RefUpdateRefused] = {}
        try:
            for number, addition in enumerate(self._additions):
                try:
                    addition.publish()
                except OSError as error:
                    failed.update(self._failed(number, error))
        finally:
            if not (failed and keep_failed):
                self.rollback()
        return failed

    def held_locks(self) -> HeldLocks:
        """Return the locks of the stacks that weren't published."""
        locks = [addition.lock for addition in self._additions if addition.lock is not None]
        return {lock.lock_path: lock for lock in locks}

    def release_packed(self) -> None:
        """Let go of nothing: who finishes this transaction needs the lock as it is."""

    def _failed(self, number: int, error: OSError) -> dict[bytes, RefUpdateRefused]:
        failed: dict[bytes, RefUpdateRefused] = {}
        for change in self._changes:
            if self._database.stack_number_of(change.target) == number:
                for name in (change.update.name, *change.aliases):
                    failed[name] = refuse(name, REASON_FAILED, _text_of(error))
        return failed

    def abandon(self) -> None:
        """Forget the transaction; the stack's lock stays for who finishes it."""
        self._additions = []

    def hand_over(self) -> Callable[[], None]:
        """Forget the transaction; what lets go of the stacks' locks is returned, for later."""
        holder = copy.copy(self)
        self._additions = []
        return holder.rollback

    def rollback(self) -> None:
        """Let go of the locks; what wasn't committed never was. Harmless after `commit`."""
        additions, self._additions = self._additions, []
        for addition in additions:
            with tolerant():
                addition.abandon()


def _text_of(error: Exception) -> str:
    """Return what may be shown of an error: never a path of the server."""
    if isinstance(error, OSError):
        return error.strerror or "input/output error"
    return error.public_text if isinstance(error, GovcError) else str(error)
