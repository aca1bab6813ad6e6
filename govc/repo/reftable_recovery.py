"""What a dead process or a power cut has left of a change in a reftable repository.

A transaction writes and syncs its table and the new list before the record is appended; publishing is two renames. So
a dead writer that still holds the lock of the list has left everything that is needed: if the table that its list adds
says what the record says, the two renames are done for it. If not, the lock belongs to a later, unrecorded transaction,
and the record has been published.

After a power cut nothing of a stack can be torn. Refs that show an older value of their chain get the final one;
another value is somebody else's and stays.

Source: storage rules 10, 20 to 22.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

from govc import disk
from govc.errors import GovcError
from govc.odb.store import ObjectStore
from govc.refs.backend import Reflogging, ReftableBackend, WriteOptions
from govc.refs.lock import FileModes, HeldLocks, LockOwner, Sleep, is_among
from govc.refs.plan import ANY, RefUpdate
from govc.refs.reflog import LogUpdates
from govc.refs.reftable.stack import LIST_BYTES_MAX, TABLES_LIST, Stack, parse_tables_list
from govc.refs.reftable.table import open_table
from govc.repo.journal import Journal
from govc.repo.peeling import StorePeeler
from govc.wal.owner import find_lock
from govc.wal.record import Record


def publish_held_table(
    journal: Journal, database: ReftableBackend, record: Record, locks: HeldLocks | None = None
) -> int:
    """Publish the table of a record whose writer still holds the lock of a stack; return how many. OSError.

    `locks`: as in `recovery.publish_held`.
    """
    published = 0
    for stack in database.stacks:
        lock_path = f"{stack.folder}/{TABLES_LIST}.lock"
        if not is_among(locks, lock_path):
            continue
        found = find_lock(journal.folder.locks, lock_path)
        if found is None or found[0] != record.writer:
            continue
        staged = _find_staged(stack, lock_path)
        if staged is None or not _says(stack, staged[1], record):
            continue
        name, path = staged
        if path != f"{stack.folder}/{name}":
            disk.rename(path, f"{stack.folder}/{name}")
        disk.rename(lock_path, stack.list_path)
        disk.sync_folder(stack.folder)
        with suppress(FileNotFoundError):
            disk.unlink(found[1])
        published += 1
    return published


def _find_staged(stack: Stack, lock_path: str) -> tuple[str, str] | None:
    """Return (name, path) of the table that the list in the lock file adds, None when it adds none."""
    try:
        with open(lock_path, "rb") as file:
            wanted = parse_tables_list(file.read(LIST_BYTES_MAX))
        known = stack.read_names()
    except (GovcError, OSError):
        return None
    if wanted[:-1] != known or len(wanted) != len(known) + 1:
        return None
    name = wanted[-1]
    prefix = f"{name.removesuffix('.ref')}.temp."
    for candidate in os.listdir(stack.folder):
        if candidate == name or candidate.startswith(prefix):
            return name, f"{stack.folder}/{candidate}"
    return None


def _says(stack: Stack, path: str, record: Record) -> bool:
    """Say whether a table holds nothing but changes of the record."""
    zero = stack.algo.zero
    changes = {change.name: change.new for change in record.draft.refs}
    symrefs = {change.name: change.new_target for change in record.draft.symrefs}
    try:
        table = open_table(stack.folder, os.path.basename(path), stack.algo)
        refs = list(table.iter_refs())
        logs = any(True for _ in table.iter_logs())
    except (GovcError, OSError):
        return False
    if not refs:
        return logs  # only reflog entries: a linked worktree's HEAD
    return all(
        symrefs.get(ref.name) == ref.target if ref.target is not None else changes.get(ref.name) == (ref.oid or zero)
        for ref in refs
    )


def restore_values(
    database: ReftableBackend,
    values: Mapping[bytes, bytes],
    chains: Mapping[bytes, set[bytes]],
    last_records: Mapping[bytes, Record],
    *,
    store: ObjectStore,
    modes: FileModes,
    sleep: Sleep,
    log_updates: LogUpdates,
    owner: LockOwner,
) -> tuple[int, int, list[str]]:
    """Set refs that show an older value of their chain to the final one; return (set, left to others, problems)."""
    state = database.load()
    zero = database.algo.zero
    kept = 0
    problems: list[str] = []
    by_record: dict[int, list[bytes]] = {}
    for name, final in values.items():
        found = state.get(name)
        current = (found.oid if found is not None else None) or zero
        if current == final:
            continue
        if current not in chains[name]:
            kept += 1
        elif final != zero and store.find(final) < 0:
            problems.append(f"{os.fsdecode(name)}: {final.hex()} is missing, the ref is left as it is")
        else:
            by_record.setdefault(last_records[name].sequence, []).append(name)
    records = {record.sequence: record for record in last_records.values()}
    options = WriteOptions(sleep=sleep, modes=modes, owner=owner)
    done = 0
    for sequence in sorted(by_record):
        record = records[sequence]
        refused = _set(
            database, record, ((name, values[name]) for name in by_record[sequence]), store, options, log_updates
        )
        problems += [f"{os.fsdecode(name)}: {reason}" for name, reason in refused.items()]
        done += len(by_record[sequence]) - len(refused)
    return done, kept, problems


def _set(
    database: ReftableBackend,
    record: Record,
    values: Iterable[tuple[bytes, bytes]],
    store: ObjectStore,
    options: WriteOptions,
    log_updates: LogUpdates,
) -> dict[bytes, str]:
    """Set refs whatever they are now, with the reflog lines of a record; return what was refused."""
    seconds = record.time_seconds
    reflogging = Reflogging(
        committer=record.draft.committer,
        message=record.draft.message,
        clock=lambda: float(seconds),
        updates=log_updates,
    )
    with database.begin(options, reflogging, StorePeeler(store)) as transaction:
        for name, oid in values:
            transaction.add(RefUpdate(name, ANY, oid))
        refused = {**transaction.prepare(), **transaction.commit()}
    return {name: error.detail or error.reason for name, error in refused.items()}
