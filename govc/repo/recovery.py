"""What dead processes have left is finished, or taken back: by whoever meets it.

The machine has not been restarted, so the page cache is the truth. A record of a dead writer is published where its
lock still lies, and nowhere else: where the lock is gone the rename was done, and what the ref says now is newer. A
lock is the record's own only if it says the new value and the ref the old one: the writer may have published this
record and taken the lock again for another change. Other locks of dead writers go, and their `.keep` files; plain git's
stay.

All of it is idempotent: a crash during recovery is recovered from by the next one. One recovery at a time per
repository, under its own lock. After a power cut: `power_cut`.

Source: storage rules 10, 21, 22.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from govc import disk
from govc.config.config import Config
from govc.odb.quarantine import KEEP_PREFIX
from govc.protocol.oid import to_hex
from govc.refs.backend import RefBackend, ReftableBackend
from govc.refs.database import RefDatabase
from govc.refs.lock import HeldLocks, LockFile, LockOwner, Sleep, is_among, prune_parents
from govc.refs.loose import LOOSE_BYTES_MAX
from govc.refs.redo import append_reflog_once, delete_refs, names_with_logs, set_ref, take_out_of_packed
from govc.refs.reflog import LogUpdates, delete_reflog, encode_reflog_line
from govc.refs.verify import is_blocked
from govc.repo.journal import FOLDER, NONE, Journal
from govc.repo.layout import RepositoryLayout
from govc.repo.modes import RefModes
from govc.repo.ref_options import read_log_updates
from govc.repo.reftable_recovery import publish_held_table
from govc.wal.checkpoint import read_checkpoint
from govc.wal.errors import LogDamaged, LogFailed
from govc.wal.flock import Flocked
from govc.wal.log import Appended
from govc.wal.owner import find_lock, forget, is_alive, iter_locks, iter_tokens
from govc.wal.place import LogFolder
from govc.wal.reader import Located, LogReader
from govc.wal.record import Kind, Record, RefChange
from govc.wal.state import UNPUBLISHED_MAX
from govc.watch import read_regular

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where records are applied: a repository's refs and objects, and its rules for reflogs."""

    layout: RepositoryLayout
    database: RefBackend
    log_updates: LogUpdates
    modes: RefModes
    sleep: Sleep

    @property
    def files(self) -> RefDatabase:
        """The refs of a repository that keeps them in files."""
        assert isinstance(self.database, RefDatabase)
        return self.database

    @classmethod
    def of(cls, layout: RepositoryLayout, config: Config, database: RefBackend, sleep: Sleep) -> "Site":
        """Take what layout and configuration say."""
        return cls(
            layout=layout,
            database=database,
            log_updates=read_log_updates(config, is_bare=layout.is_bare),
            modes=RefModes(layout.shared),
            sleep=sleep,
        )


@dataclass(kw_only=True)
class RecoveryReport:
    """What a recovery found and did. `kind`: "clean", "new log", "dead processes" or "power cut"."""

    kind: str = "clean"
    records: int = 0
    refs_set: int = 0
    refs_deleted: int = 0
    packs_restored: int = 0
    packs_set_aside: list[str] = field(default_factory=list)
    locks_removed: int = 0
    torn_records: int = 0
    outside_changes_kept: int = 0
    problems: list[str] = field(default_factory=list)


def log_folder(commondir: str) -> LogFolder:
    """Return where a repository's log lies."""
    return LogFolder(f"{commondir}/{FOLDER}")


def finish_dead(journal: Journal, site: Site) -> RecoveryReport:
    """Publish what dead processes have recorded, and remove their locks. Raises LogError, OSError."""
    report = RecoveryReport()
    with Flocked(f"{journal.folder.root}/recovering", journal.file_mode):
        finish_dead_locked(journal, site, report)
    return report


def finish_dead_locked(journal: Journal, site: Site, report: RecoveryReport) -> None:
    """Do what `finish_dead` does, under the recovery lock, and tell it in `report`."""
    locks = journal.folder.locks
    dead = [token for token in iter_tokens(locks) if not is_alive(locks, token)]
    _publish_of_dead(journal, site, report)
    if not dead:
        return
    report.kind = "dead processes"
    report.locks_removed += remove_locks(journal, site.layout, dead)
    remove_keeps(site.layout.objects_dir, locks)
    for token in dead:
        forget(locks, token)


def _publish_of_dead(journal: Journal, site: Site, report: RecoveryReport) -> None:
    tail = journal.log.tail()
    pending = set(tail.unpublished()) if tail is not None else set()
    if not pending:
        return
    done: list[int] = []
    for located in _read_of_dead(journal, pending):
        if _finish_record(journal, site, located):
            report.records += 1
            done.append(located.record.sequence)
    if done:
        report.kind = "dead processes"
        journal.log.mark_published(done)


def _read_of_dead(journal: Journal, pending: set[int]) -> list[Located]:
    """Return those of some records whose writers are dead. Raises LogError, OSError.

    Others may append and make checkpoints meanwhile. When one retires what is about to be read, all is read once more
    under the append lock: then nothing behind the checkpoint goes.
    """
    try:
        return list(_iter_of_dead(journal, pending))
    except (LogDamaged, FileNotFoundError):
        with journal.log.append_lock():
            return list(_iter_of_dead(journal, pending))


def _iter_of_dead(journal: Journal, pending: set[int]) -> Iterator[Located]:
    checkpoint = read_checkpoint(journal.folder.checkpoint)
    last = max(pending)
    for located in LogReader(journal.folder.segments, after=checkpoint.position if checkpoint is not None else None):
        record = located.record
        if record.sequence > last:
            return
        if record.sequence in pending and not is_alive(journal.folder.locks, record.writer):
            yield located


def _finish_record(journal: Journal, site: Site, located: Located) -> bool:
    """Make a dead writer's record durable and publish it; False when a failed sync has taken it."""
    try:
        journal.log.make_durable(Appended(located.record, located.ordinal, located.offset + located.record.size))
    except LogFailed:
        return False
    publish_held(journal, site, located.record)
    return True


def publish_held(journal: Journal, site: Site, record: Record, locks: HeldLocks | None = None) -> list[bytes]:
    """Publish the refs of a record whose locks its writer still holds, dead or not; return those that were given up.

    Where the lock is gone, the ref has been published. One in whose place another ref lies by now is given up: the log
    says so, and its lock goes. `locks`: those of the transaction, where the writer lives: its other locks are other
    transactions'. Raises LogError, LockFailed, CorruptRefs, OSError.
    """
    if record.kind is not Kind.CHANGE:
        return []
    if isinstance(site.database, ReftableBackend):
        publish_held_table(journal, site.database, record, locks)
        return []
    for name, _, target in record.draft.symrefs:
        lock = LockFile(site.files.path_of(name))
        found = find_lock(journal.folder.locks, lock.lock_path)
        if found is None or found[0] != record.writer:
            continue
        if read_regular(lock.lock_path, LOOSE_BYTES_MAX) == b"ref: %b\n" % target:
            lock.commit()
    owner: LockOwner = Heir(journal)
    if locks is not None:
        owner = journal
        packed_lock = f"{os.path.realpath(site.files.packed_path)}.lock"
        if is_among(locks, packed_lock):
            locks[packed_lock].release()
    excluded = _find_packed_excluded(journal, site, record, locks)
    if excluded:
        take_out_of_packed(site.files, excluded, sleep=site.sleep, modes=site.modes, owner=owner)
    held = {
        change.name: path
        for change in record.draft.refs
        if (path := _held_lock(journal, site.files, record, change, locks)) is not None
    }
    if not held:
        return []
    given_up = {name: held.pop(name) for name in find_blocked(site, record) if name in held}
    for change in record.draft.refs:
        if change.name in held:
            append_reflogs(site, record, change.name, change.old, change.new)
    zero = site.layout.algo.zero
    doomed = [change.name for change in record.draft.refs if change.name in held and change.new == zero]
    if doomed:
        delete_refs(site.files, doomed, sleep=site.sleep, modes=site.modes, owner=owner, held_locks=held)
    for change in record.draft.refs:
        if change.name not in held or change.new == zero:
            continue
        lock_path = held[change.name]
        try:
            set_ref(
                site.files,
                change.name,
                change.new,
                sleep=site.sleep,
                modes=site.modes,
                owner=owner,
                held_lock=lock_path,
            )
        except IsADirectoryError:
            given_up[change.name] = lock_path
    return _give_up(journal, site, record, given_up) if given_up else []


def _find_packed_excluded(journal: Journal, site: Site, record: Record, locks: HeldLocks | None) -> list[bytes]:
    """Return new refs that a writer has put into packed-refs, and not looked any more whether another lies below."""
    zero = site.layout.algo.zero
    found: list[bytes] = []
    for change in record.draft.refs:
        if change.old != zero or not is_blocked(site.files, change.name):
            continue
        lock_path = f"{site.files.path_of(change.name)}.lock"
        lock = find_lock(journal.folder.locks, lock_path)
        is_writers = lock is not None and lock[0] == record.writer and is_among(locks, lock_path)
        if is_writers and site.files.read_packed().get(change.name) == change.new:
            found.append(change.name)
    return found


def find_blocked(site: Site, record: Record) -> list[bytes]:
    """Return the refs that lack a record's value and can't get it: another ref, or its lock, lies below.

    Raises CorruptRefs, OSError.
    """
    if isinstance(site.database, ReftableBackend):
        return []
    zero = site.layout.algo.zero
    given = [c for c in record.draft.refs if c.new != zero and is_blocked(site.files, c.name)]
    return [change.name for change in given if _value_of(site, change.name) != change.new]


def _give_up(journal: Journal, site: Site, record: Record, locks: Mapping[bytes, str]) -> list[bytes]:
    """Take single refs of a record back, whose locks are held: what they are instead is recorded as observed.

    Returns those that are something else. The log says so, durably, before a lock goes: else whoever comes next would
    publish them.
    """
    tail = journal.log.tail()
    if tail is not None and tail.next_sequence - tail.published >= UNPUBLISHED_MAX:
        journal.log.mark_published([record.sequence])  # all the others wait for this one, and nothing can be appended
    with journal.log.append_lock():
        refs = journal.follow()
        changes = [RefChange(name, refs.value(name), _value_of(site, name)) for name in locks]
        others = [change for change in changes if change.old != change.new]
        observed = journal.observe(others, given_up=record.sequence)
    if observed is not None and journal.options.durability != NONE:
        journal.log.make_durable(observed)
    for change in changes:
        if change.new == site.layout.algo.zero:
            log_path = site.files.log_path_of(change.name)
            delete_reflog(log_path)  # its line is of a value that never was, and the other ref's log goes there
            prune_parents(log_path, site.files.kept_folder_of(change.name, logs=True))
        lock = locks[change.name]
        found = find_lock(journal.folder.locks, lock)  # None on a file system without hard links
        _unlink_lock(lock)
        if found is not None:
            with suppress(FileNotFoundError):
                disk.unlink(found[1])
    wanted = {change.name: change.new for change in record.draft.refs}
    given_up = [change.name for change in changes if change.new != wanted[change.name]]
    for name in given_up:
        log.error(
            "%s: record %d: %s is given up, another ref lies below it",
            journal.folder.root,
            record.sequence,
            os.fsdecode(name),
        )
    return given_up


def _value_of(site: Site, name: bytes) -> bytes:
    """Return what a ref says now, zeros for one that isn't there."""
    found = site.files.read_raw(name)
    return (found.oid if found is not None else None) or site.layout.algo.zero


def _held_lock(
    journal: Journal, database: RefDatabase, record: Record, change: RefChange, locks: HeldLocks | None
) -> str | None:
    """Return the lock file of a ref when it stands for this change of it, and not for another one of the same writer.

    On a file system without hard links a lock is known by what it says. Raises CorruptRefs, OSError.
    """
    path = f"{database.path_of(change.name)}.lock"
    if not is_among(locks, path):
        return None
    found = find_lock(journal.folder.locks, path)
    if found is not None and found[0] != record.writer:
        return None
    try:
        content = read_regular(path, LOOSE_BYTES_MAX)
    except OSError:
        if found is None:
            return None
        raise
    # The lock of a ref that is deleted, or goes straight into packed-refs, says nothing.
    if content != to_hex(change.new) + b"\n" and (found is None or content != b""):
        return None
    current = database.read_raw(change.name)
    if current is not None and current.problem:
        return path
    zero = database.algo.zero
    value = (current.oid if current is not None else None) or zero
    is_half_deleted = value == change.new == zero  # what belongs to it may still be there
    return path if value == change.old or is_half_deleted else None


def append_reflogs(site: Site, record: Record, name: bytes, old: bytes, new: bytes) -> None:
    """Append the lines that a change leaves in reflogs, where they are missing. OSError."""
    draft = record.draft
    line = encode_reflog_line(old, new, draft.committer, record.time_seconds, draft.message)
    for logged in names_with_logs(site.files, name):
        if logged != name or new != site.layout.algo.zero:
            append_reflog_once(site.files, logged, line, site.log_updates, site.modes)


# Locks and other leftovers


class Heir:
    """Takes locks for a recovery (`refs.lock.LockOwner`): one of a dead process that is in the way goes at once.

    The journal would begin a recovery for it, and wait for the one that is under way. What was held under the lock is
    in records that are done again, or was never recorded.
    """

    def __init__(self, journal: Journal) -> None:
        """Take the journal of the recovery."""
        self._journal = journal

    def next_lock_path(self) -> str:
        """Return a path for one more lock's own file."""
        return self._journal.next_lock_path()

    def break_dead(self, lock_path: str) -> bool:
        """Remove a lock of a dead process of ours; False when it is somebody else's."""
        locks = self._journal.folder.locks
        found = find_lock(locks, lock_path)
        if found is None or is_alive(locks, found[0]):
            return False
        _unlink_lock(lock_path)
        with suppress(FileNotFoundError):
            disk.unlink(found[1])
        return True


def _unlink_lock(path: str) -> None:
    """Remove a lock of ours; that of packed-refs with what was written under it: plain git can't work beside that."""
    if os.path.basename(path) == "packed-refs.lock":
        with suppress(FileNotFoundError):
            disk.unlink(f"{path.removesuffix('.lock')}.new")
    with suppress(FileNotFoundError):
        disk.unlink(path)


def remove_locks(journal: Journal, layout: RepositoryLayout, tokens: list[bytes]) -> int:
    """Remove all locks and `.keep` files of dead processes; return how many locks of the repository that freed."""
    doomed = [(path, status) for token, path, status in iter_locks(journal.folder.locks) if token in tokens]
    linked = {(status.st_dev, status.st_ino) for _, status in doomed if status.st_nlink > 1}
    removed = 0
    if linked:
        for path in (*iter_lock_files(layout), *_iter_keeps(layout.objects_dir)):
            with suppress(FileNotFoundError):
                status = os.lstat(path)
                if (status.st_dev, status.st_ino) in linked:
                    _unlink_lock(path)
                    removed += path.endswith(".lock")
    for path, _ in doomed:
        with suppress(FileNotFoundError):
            disk.unlink(path)
    return removed


def iter_lock_files(layout: RepositoryLayout) -> list[str]:
    """Return the paths of all `*.lock` files where locks of refs can be."""
    found: list[str] = []
    for top in dict.fromkeys((layout.commondir, layout.gitdir)):
        found += [f"{top}/{name}" for name in os.listdir(top) if name.endswith(".lock")]
        for below in ("refs", "reftable"):
            for folder, _, names in os.walk(f"{top}/{below}"):
                found += [f"{folder}/{name}" for name in names if name.endswith(".lock")]
    return found


def _iter_keeps(objects_dir: str) -> list[str]:
    folder = f"{objects_dir}/pack"
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [f"{folder}/{name}" for name in names if name.endswith(".keep")]


def remove_keeps(objects_dir: str, locks: str) -> int:
    """Remove the `.keep` files that name a push whose process is dead; return how many."""
    removed = 0
    for path in _iter_keeps(objects_dir):
        with suppress(OSError):
            with open(path, "rb") as file:
                text = file.read(200).decode("ascii", "replace")
            token = _token_of(text)
            if token is not None and not is_alive(locks, token):
                disk.unlink(path)
                removed += 1
    return removed


def _token_of(text: str) -> bytes | None:
    if not text.startswith(KEEP_PREFIX):
        return None
    try:
        token = bytes.fromhex(text.removeprefix(KEEP_PREFIX).strip())
    except ValueError:
        return None
    return token if len(token) == 8 else None
