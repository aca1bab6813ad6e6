"""The single write path: how the refs of a repository change, whoever asks.

    lock → verify → stage → append the record, one sync → publish by renames

Everything that can fail for space or permission has been done before the record. From the record on the change is made
even if this process dies: whoever comes next publishes it. If publishing fails here (a disk that fails a rename), a
record of which nothing shows is taken back by a void record; one of which something shows is rolled forward. What can
never be rolled forward, because another ref has come to lie in its place, is recorded as observed and refused; of an
atomic change the rest is then put back, by a record of its own.

What is refused leaves the others going on, unless the caller wants all or nothing.

Everything here blocks (locks, disk): the server calls it where that is allowed (`Runtime.call_blocking`).

Where a hook has a word in it (reference-transaction), the same work is done in steps: `change_in_steps` is a generator
that stops at each state of a transaction, so that its caller can ask the hook where asking doesn't block a thread, and
sends back whether to go on. The record is appended after the hook has agreed to what is prepared.

Source: storage rules 8 to 13.
"""

import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from govc.errors import GovcError, RefUpdateRefused
from govc.refs.backend import Transaction, WriteOptions
from govc.refs.lock import HeldLocks, tolerant
from govc.refs.plan import REASON_FAILED, REASON_HOOK, RefUpdate, split_by_conflict
from govc.refs.verify import blocked
from govc.repo.journal import NO_OBJECTS, Journal, JournalOptions, StagedObjects
from govc.repo.peeling import ThreadPeeler
from govc.repo.recovery import find_blocked, publish_held
from govc.repo.ref_options import read_reflogging, read_write_options
from govc.repo.repository import Repository
from govc.repo.snapshot import Snapshot
from govc.wal.errors import IN_DOUBT, LogError, LogInDoubt
from govc.wal.log import Appended
from govc.wal.record import Draft, Kind, RefChange, SymrefChange

log = logging.getLogger(__name__)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who changes something, and why.

    `committer` is `name <email>` for reflogs, `message` the reflog's text; `actor`, `address` and `request_id` say
    where it came from; `push_options` and `certificate` are recorded with a push.
    """

    committer: bytes
    message: bytes
    actor: str = ""
    address: str = ""
    request_id: str = ""
    push_options: tuple[bytes, ...] = ()
    certificate: bytes = b""
    has_late_hooks: bool = False


class State(Enum):
    """Where a transaction is, in the words that the reference-transaction hook gets."""

    PREPARING = "preparing"
    PREPARED = "prepared"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Stage(NamedTuple):
    """A state that a transaction has reached, and the updates that are in it. PREPARING and PREPARED may be vetoed."""

    state: State
    updates: tuple[RefUpdate, ...]


Steps = Generator[Stage, bool, dict[bytes, RefUpdateRefused]]
"""Stops at each stage, is sent whether to go on, returns the refused updates by name."""


class RefWriter:
    """Changes refs of one repository, seen through one snapshot. Use it for one request."""

    def __init__(
        self,
        repository: Repository,
        snapshot: Snapshot,
        origin: Origin,
        journal: JournalOptions,
        *,
        clock: Clock = time.time,
        shallow: Sequence[bytes] = (),
        arrival: object = None,
    ) -> None:
        """`shallow` came with the change: it goes into its first record. `clock`: seconds since 1970.
        `arrival`: the mark of `Journal.arriving`, when others may wait for this one.
        """
        self._arrival = arrival
        self._repository = repository
        self._snapshot = snapshot
        self._origin = origin
        self._options = journal
        self._clock = clock
        self._objects = NO_OBJECTS
        self._shallow = tuple(shallow)
        self._write: WriteOptions | None = None
        self._journal: Journal | None = None
        self.sequences: list[int] = []

    def take_objects(self, objects: StagedObjects) -> None:
        """Take the objects that came with the change, before it is made: they go into its first record."""
        self._objects = objects

    def change(self, updates: Sequence[RefUpdate], *, atomic: bool = False) -> dict[bytes, RefUpdateRefused]:
        """Make the changes; return the refused ones by name. With `atomic`, one refusal means that nothing changes.

        Deletions that make room for creations (`a` for `a/b`) go first, by themselves.
        """
        steps = self.change_in_steps(updates, atomic=atomic)
        try:
            next(steps)
            while True:
                steps.send(True)
        except StopIteration as stop:
            refused: dict[bytes, RefUpdateRefused] = stop.value
            return refused

    def change_in_steps(self, updates: Sequence[RefUpdate], *, atomic: bool = False) -> Steps:
        """Make the changes as `change` does, stopping at each stage.

        False, sent for PREPARING or PREPARED, refuses what is in the transaction, and ABORTED follows. Closing the
        generator undoes what wasn't committed; after PREPARED the caller then owes the hook its ABORTED.
        """
        refused: dict[bytes, RefUpdateRefused] = {}
        for group in split_by_conflict(tuple(updates), self._snapshot.algo.zero):
            refused.update((yield from self._change_together(group, atomic)))
            if refused and atomic:
                break
        self._tidy()
        return refused

    def _tidy(self) -> None:
        """Do the small upkeep of the backend; what goes wrong there is no matter of the change that was made."""
        try:
            journal = self._journal or self._repository.journal(self._options)
            self._repository.ref_database.tidy(self._write_options(journal))
        except (GovcError, OSError) as error:
            log.error("%s: %s: %s", self._origin.request_id, self._snapshot.layout.gitdir, error)

    def _change_together(self, group: tuple[RefUpdate, ...], atomic: bool) -> Steps:
        try:
            if not (yield Stage(State.PREPARING, group)):
                return (yield from _veto(State.PREPARING, group))
            journal = self._journal = self._repository.journal(self._options)
            with self._transaction(journal) as transaction:
                for update in group:
                    transaction.add(update)
                refused = transaction.prepare()
                if refused and atomic:
                    return refused
                ready = _without(group, refused)
                if ready and not (yield Stage(State.PREPARED, ready)):
                    transaction.rollback()
                    return {**refused, **(yield from _veto(State.PREPARED, ready))}
                failed = self._commit(transaction, journal, ready, atomic=atomic)
            done = _without(ready, failed)
            if done and not (failed and atomic):
                yield Stage(State.COMMITTED, done)
            return {**refused, **failed}
        except (GovcError, OSError) as error:
            log.error("%s: %s: %s", self._origin.request_id, self._snapshot.layout.gitdir, error)
            detail = error.public_text if isinstance(error, LogError) else ""
            reason = f"{REASON_FAILED}; {IN_DOUBT}" if isinstance(error, LogInDoubt) else REASON_FAILED
            return {update.name: RefUpdateRefused(update.name, reason, detail) for update in group}

    def _commit(
        self, transaction: Transaction, journal: Journal, updates: Sequence[RefUpdate], *, atomic: bool = False
    ) -> dict[bytes, RefUpdateRefused]:
        """Record what was prepared, then publish it; return what can't be published, by name."""
        changes = transaction.prepared()
        if not changes:
            return transaction.commit()
        try:
            appended = journal.record(self._draft(changes), self._arrival)
        except LogInDoubt as error:
            if error.sequence is not None:
                journal.hold(error.sequence, transaction.hand_over())
            raise
        self.sequences.append(appended.record.sequence)
        try:
            if self._origin.has_late_hooks:
                journal.expect_late_hooks(appended)
            failed = transaction.commit(keep_failed=True, time_seconds=appended.record.time_seconds)
            if failed and self._take_back(journal, appended, transaction, failed):
                return failed
            given_up = self._roll_forward(journal, appended, transaction) if failed else []
        except (GovcError, OSError) as error:
            self._complain(journal, appended, error)
            given_up = self._roll_forward(journal, appended, transaction)
        except BaseException:
            # Whatever it was: the record stands, so its refs are published now or by the next writer.
            self._roll_forward(journal, appended, transaction)
            raise
        # From the record on the change is made: only another record may have it refused.
        if given_up is None:
            # The locks stay: whoever meets one, or opens the log after us, publishes what they stand for.
            locks = transaction.held_locks()
            transaction.abandon()
            journal.when_stuck(appended, lambda: self._retry(journal, appended, locks))
            return self._doubt_blocked(journal, appended, updates)
        self._note_published(journal, appended)
        if not given_up:
            return {}
        transaction.rollback()
        is_in_doubt = atomic and not self._put_back(journal, appended, given_up)
        return self._refuse_blocked(updates, given_up, is_in_doubt=is_in_doubt)

    def _put_back(self, journal: Journal, appended: Appended, given_up: Sequence[bytes]) -> bool:
        """Change the other refs of a record back; False when one of them has moved on, or that fails."""
        rest = [change for change in appended.record.draft.refs if change.name not in given_up]
        updates = [RefUpdate(change.name, change.new, change.old) for change in rest]
        try:
            with self._transaction(journal) as transaction:
                for update in updates:
                    transaction.add(update)
                refused = transaction.prepare() or self._commit(transaction, journal, updates)
        except (GovcError, OSError) as error:
            log.error("%s: record %d: not put back: %s", journal.folder.root, appended.record.sequence, error)
            return False
        for refusal in refused.values():
            log.error("%s: record %d: not put back: %s", journal.folder.root, appended.record.sequence, refusal)
        return not refused

    def _doubt_blocked(
        self, journal: Journal, appended: Appended, updates: Sequence[RefUpdate]
    ) -> dict[bytes, RefUpdateRefused]:
        """Refuse, in doubt, what whoever publishes the record will have to give up as things are."""
        try:
            names = find_blocked(self._repository.site(self._options.sleep), appended.record)
            return self._refuse_blocked(updates, names, is_in_doubt=True)
        except (GovcError, OSError) as error:
            self._complain(journal, appended, error)
            return {}

    def _refuse_blocked(
        self, updates: Sequence[RefUpdate], names: Sequence[bytes], *, is_in_doubt: bool
    ) -> dict[bytes, RefUpdateRefused]:
        """Refuse the updates of refs that another one excludes."""
        refused: dict[bytes, RefUpdateRefused] = {}
        for update in updates if names else ():
            end = self._repository.ref_database.follow(update.name)  # what was asked for may be a symref to it
            if end is not None and end[0] in names:
                error = blocked(end[0])
                reason = f"{error.reason}; {IN_DOUBT}" if is_in_doubt else error.reason
                refused[update.name] = RefUpdateRefused(update.name, reason, error.detail)
        return refused

    def _note_published(self, journal: Journal, appended: Appended) -> None:
        try:
            journal.published(appended)
        except (GovcError, OSError) as error:
            self._complain(journal, appended, error)

    def _retry(self, journal: Journal, appended: Appended, locks: HeldLocks) -> bool:
        """Publish what could not be published at once; False when it still can't."""
        try:
            publish_held(journal, self._repository.site(self._options.sleep), appended.record, locks)
        except (GovcError, OSError) as error:
            self._complain(journal, appended, error)
            return False
        self._note_published(journal, appended)
        return True

    def _complain(self, journal: Journal, appended: Appended, error: Exception) -> None:
        log.error("%s: record %d: not published: %s", journal.folder.root, appended.record.sequence, error)

    def _draft(self, changes: Sequence[tuple[bytes, bytes, bytes]]) -> Draft:
        origin = self._origin
        objects, self._objects = self._objects, NO_OBJECTS
        shallow, self._shallow = self._shallow, ()
        return Draft(
            kind=Kind.CHANGE,
            actor=origin.actor,
            address=origin.address,
            request_id=origin.request_id,
            committer=origin.committer,
            message=origin.message,
            refs=tuple(RefChange(*change) for change in changes),
            packs=objects.packs,
            pack_references=objects.references,
            loose_objects=objects.loose_objects,
            shallow=shallow,
            push_options=origin.push_options,
            certificate=origin.certificate,
        )

    def _take_back(
        self,
        journal: Journal,
        appended: Appended,
        transaction: Transaction,
        failed: dict[bytes, RefUpdateRefused],
    ) -> bool:
        """Publishing has failed: void the record if nothing of it shows. LogError: it can't be voided, and stands."""
        changes = appended.record.draft.refs
        if not {change.name for change in changes} <= failed.keys():
            return False
        # A step behind the rename may be what failed: the reflog of a deleted ref, the other name of a lock.
        if any(self._value_now(change.name) != change.old for change in changes):
            return False
        journal.void(appended)
        transaction.rollback()
        return True

    def _value_now(self, name: bytes) -> bytes:
        """Return a ref's value as it is on disk, zeros for none: the snapshot belongs to another thread."""
        found = self._repository.ref_database.follow(name)
        oid = found[1].oid if found is not None and found[1] is not None else None
        return oid or self._snapshot.algo.zero

    def _roll_forward(self, journal: Journal, appended: Appended, transaction: Transaction) -> list[bytes] | None:
        """Publish what our locks still hold; return what was given up, None where the next writer has to do it."""
        locks = transaction.held_locks()
        with tolerant():  # what is left of it `publish_held` removes
            transaction.release_packed()
        try:
            return publish_held(journal, self._repository.site(self._options.sleep), appended.record, locks)
        except (GovcError, OSError) as error:
            self._complain(journal, appended, error)
            return None

    def _transaction(self, journal: Journal) -> Transaction:
        return self._repository.ref_database.begin(
            self._write_options(journal),
            read_reflogging(
                self._snapshot.config,
                is_bare=self._snapshot.layout.is_bare,
                committer=self._origin.committer,
                message=self._origin.message,
                clock=self._clock,
            ),
            ThreadPeeler(self._snapshot),
        )

    def _write_options(self, journal: Journal) -> WriteOptions:
        if self._write is None or self._write.owner is not journal:
            self._write = read_write_options(
                self._snapshot.layout, self._snapshot.config, sleep=self._options.sleep, owner=journal
            )
        return self._write


def _without(group: Sequence[RefUpdate], refused: dict[bytes, RefUpdateRefused]) -> tuple[RefUpdate, ...]:
    return tuple(update for update in group if update.name not in refused)


def _veto(state: State, group: tuple[RefUpdate, ...]) -> Steps:
    """Refuse a whole transaction because the hook said no; git's words, once."""
    yield Stage(State.ABORTED, group)
    said = f"in '{state.value}' phase, update aborted by the reference-transaction hook"
    refused = {update.name: RefUpdateRefused(update.name, REASON_HOOK) for update in group}
    refused[group[0].name] = RefUpdateRefused(group[0].name, REASON_HOOK, said)
    return refused


def change_symref(
    repository: Repository,
    snapshot: Snapshot,
    origin: Origin,
    options: JournalOptions,
    name: bytes,
    target: bytes,
) -> None:
    """Point a symbolic ref (HEAD: the default branch) elsewhere, through the log. Raises RefUpdateRefused, LogError."""
    journal = repository.journal(options)
    database = repository.ref_database
    before = database.read_raw(name)
    old_target = before.target if before is not None and before.target is not None else b""

    def record() -> None:
        draft = Draft(
            kind=Kind.CHANGE,
            actor=origin.actor,
            address=origin.address,
            request_id=origin.request_id,
            committer=origin.committer,
            message=origin.message,
            symrefs=(SymrefChange(name, old_target, target),),
        )
        recorded.append(journal.record(draft))

    recorded: list[Appended] = []
    try:
        write_options = read_write_options(snapshot.layout, snapshot.config, sleep=options.sleep, owner=journal)
        database.set_symref(name, target, write_options, before_commit=record)
    except BaseException:
        for appended in recorded:
            journal.void(appended)
        raise
    for appended in recorded:
        journal.published(appended)
