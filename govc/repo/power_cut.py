"""Recovery after a power cut: what the log holds since the checkpoint is made true again.

    read the log   to its tail; a torn one is cut off, damage before it stops everything, untouched
    objects        packs and loose objects of the records are put back where they are missing or torn; packs that
                   nobody can vouch for and that are torn are set aside
    fold           the records give one final value per ref. A ref that shows a value of its chain, that is torn or
                   missing, or that shows a packed value from before the checkpoint, gets the final one. Another value
                   is somebody else's, and stays if its object is there.
                   Of two refs that exclude one another the one that is there stays; where neither is, the later one
                   comes back.
    the rest       refs of the checkpoint that are gone altogether come back when packed-refs is an old one: plain git
                   syncs neither packed-refs nor folders
    reflogs        lines that are missing are appended
    checkpoint     syncs all of it

One by one the records are never replayed: that would move refs backwards on the way, and fail at changes that later
ones undid. Source: storage rules 20, 21, 24.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from govc import disk
from govc.errors import CorruptRefs, GovcError
from govc.odb.restore import find_pack_damage, move_aside, restore_loose_object, restore_pack
from govc.odb.store import ObjectStore
from govc.refs.backend import ReftableBackend, WriteOptions
from govc.refs.lock import LockFailed
from govc.refs.loose import LooseRef
from govc.refs.packed import PackedRefs
from govc.refs.plan import iter_parents
from govc.refs.redo import append_reflog_once, delete_refs, names_with_logs, set_ref
from govc.refs.reflog import encode_reflog_line
from govc.refs.verify import find_loose_below, is_blocked
from govc.repo.checkpointing import checkpoint as checkpoint_now
from govc.repo.checkpointing import write_checkpoint_now, write_first_checkpoint
from govc.repo.journal import Journal, kept_pack_path
from govc.repo.modes import object_modes
from govc.repo.recovery import Heir, RecoveryReport, Site, remove_keeps, remove_locks
from govc.repo.ref_values import RefTableFile, table_path
from govc.repo.reftable_recovery import restore_values
from govc.repo.shallow_file import add_shallow
from govc.wal.checkpoint import Checkpoint, read_checkpoint
from govc.wal.errors import LogDamaged, LogForeign, check_home
from govc.wal.owner import is_alive, iter_tokens
from govc.wal.reader import LogEnd, LogReader, Position
from govc.wal.record import GENESIS, Kind, Record
from govc.wal.segment import list_segments, read_header

log = logging.getLogger(__name__)

TORN_FOLDER = "torn"
"""Below `govc/`: where files go that a power cut has torn and nobody can put together again."""


@dataclass(kw_only=True)
class _Fold:
    """What the records since the checkpoint come to."""

    final: dict[bytes, bytes] = field(default_factory=dict)
    chain: dict[bytes, set[bytes]] = field(default_factory=dict)
    lines: dict[bytes, list[tuple[bytes, bytes, bytes]]] = field(default_factory=dict)
    last: dict[bytes, Record] = field(default_factory=dict)
    symrefs: dict[bytes, bytes] = field(default_factory=dict)
    symref_chain: dict[bytes, set[bytes]] = field(default_factory=dict)
    records: int = 0

    def take(self, record: Record, zero: bytes) -> None:
        """Fold one more record in."""
        draft = record.draft
        self.records += record.kind is Kind.CHANGE
        for name, old, new in draft.refs:
            self.chain.setdefault(name, set()).update((old, new))
            self.final[name] = new
            self.last[name] = record
            if record.kind is not Kind.CHANGE:
                continue
            line = encode_reflog_line(old, new, draft.committer, record.time_seconds, draft.message)
            if new == zero:
                self.lines[name] = []
            self.lines.setdefault(name, []).append((new, line, name))
        for name, old_target, new_target in draft.symrefs:
            self.symref_chain.setdefault(name, set()).update((old_target, new_target))
            self.symrefs[name] = new_target

    def age_of(self, name: bytes) -> int:
        """Return what sorts refs by their last change, the latest first: of two that exclude one another it holds."""
        record = self.last.get(name)
        return -record.sequence if record is not None else 0


def start_new_log(journal: Journal, site: Site) -> RecoveryReport:
    """Begin the log of a repository that has none: the refs as they are become its first checkpoint."""
    log_id = os.urandom(16)
    position = Position(0, 0, 0, GENESIS)
    write_first_checkpoint(journal, site, position, log_id)
    with journal.log.append_lock():
        journal.log.start(position, log_id)
    return RecoveryReport(kind="new log")


def recover_power_cut(journal: Journal, site: Site, *, adopt: bool = False, cut: bool = False) -> RecoveryReport:
    """Make the repository what its log says. Raises LogDamaged, LogForeign, OSError.

    `adopt`: the log of another folder (a copy) is taken over. `cut`: damage ends the log, and what follows is lost.
    """
    report = RecoveryReport(kind="power cut")
    checkpoint = _read_checkpoint(journal, cut=cut)
    _check_home(journal, adopt=adopt)
    voided = _find_voided(journal, checkpoint, cut)
    fold = _Fold()
    zero = site.layout.algo.zero
    reader = _reader(journal, checkpoint, strict=not cut)
    for located in reader:
        record = located.record
        if record.sequence in voided:
            continue
        fold.take(record, zero)
        _restore_objects(journal, site, record, report)
    report.records = fold.records
    end = reader.end
    _release_locks(journal, site, report)
    _set_torn_packs_aside(site, journal, checkpoint, report)
    _restore_refs(journal, site, checkpoint, fold, report)
    position, log_id = _tail_of(end, checkpoint)
    if end is not None and end.torn_bytes:
        report.torn_records += 1
        log.warning(
            "%s: a record that was never acknowledged is cut off (%d bytes)", site.layout.gitdir, end.torn_bytes
        )
    with journal.log.append_lock():
        journal.log.start(position, log_id, torn_bytes=end.torn_bytes if end is not None else 0)
    if checkpoint is None:
        disk.sync_filesystem(site.layout.commondir)
        write_first_checkpoint(journal, site, position, log_id)
    else:
        write_checkpoint_now(journal, site)
    if adopt:
        checkpoint_now(journal, site, close_log=True)  # its segments still name the folder that they were made in
    return report


# Reading


def _read_checkpoint(journal: Journal, *, cut: bool) -> Checkpoint | None:
    try:
        return read_checkpoint(journal.folder.checkpoint)
    except LogDamaged:
        if not cut:
            raise
        move_aside(journal.folder.checkpoint, f"{journal.folder.root}/{TORN_FOLDER}")
        return None


def _reader(journal: Journal, checkpoint: Checkpoint | None, *, strict: bool) -> LogReader:
    return LogReader(
        journal.folder.segments,
        durable=checkpoint.position.sequence if checkpoint is not None else 0,
        after=checkpoint.position if checkpoint is not None else None,
        strict=strict,
    )


def _find_voided(journal: Journal, checkpoint: Checkpoint | None, cut: bool) -> set[int]:
    """Read the whole log once, so that damage is found before anything is touched; return what is void."""
    reader = _reader(journal, checkpoint, strict=not cut)
    return {located.record.draft.number for located in reader if located.record.kind is Kind.VOID}


def _check_home(journal: Journal, *, adopt: bool) -> None:
    inode = os.stat(journal.layout.commondir).st_ino
    for ordinal in list_segments(journal.folder.segments):
        header = read_header(journal.folder.segments, ordinal)
        if header is None:
            continue
        if header.algo is not journal.layout.algo:
            raise LogForeign(journal.folder.root, "the log is of a repository with another object format")
        if not adopt:
            check_home(header.inode, inode, journal.folder.root)


def _tail_of(end: LogEnd | None, checkpoint: Checkpoint | None) -> tuple[Position, bytes]:
    if end is not None:
        return end.position, end.header.log_id
    if checkpoint is not None:
        position = checkpoint.position
        return Position(position.ordinal, 0, position.sequence, position.checksum), checkpoint.log_id
    return Position(0, 0, 0, GENESIS), os.urandom(16)


# Objects


def _restore_objects(journal: Journal, site: Site, record: Record, report: RecoveryReport) -> None:
    """Put back what a record brought. What can't be is a problem, told; the refs then say whether it matters."""
    layout, draft = site.layout, record.draft
    modes = object_modes(layout.shared)
    size = layout.algo.oid_size
    sources: list[tuple[bytes, bytes | str]] = [(pack[-size:], pack) for pack in draft.packs]
    sources += [
        (reference.checksum, kept_pack_path(journal.folder, reference.checksum)) for reference in draft.pack_references
    ]
    for checksum, source in sources:
        try:
            report.packs_restored += restore_pack(layout.objects_dir, checksum, source, layout.algo, modes)
        except (GovcError, OSError) as error:
            report.problems.append(f"record {record.sequence}: pack {checksum.hex()}: {error}")
    for oid, content in draft.loose_objects:
        restore_loose_object(layout.objects_dir, oid, content, modes)
    if draft.shallow:
        add_shallow(layout, frozenset(draft.shallow), site.sleep, site.modes, owner=Heir(journal))


def _set_torn_packs_aside(site: Site, journal: Journal, checkpoint: Checkpoint | None, report: RecoveryReport) -> None:
    """Move packs away that are not whole and that no checkpoint has vouched for: git would stumble over them."""
    folder = f"{site.layout.objects_dir}/pack"
    known = frozenset(checkpoint.packs) if checkpoint is not None else frozenset[bytes]()
    names = os.listdir(folder) if os.path.isdir(folder) else []
    for name in names:
        stem = name.removesuffix(".pack")
        if not name.endswith(".pack") or not name.startswith("pack-") or os.fsencode(stem) in known:
            continue
        damage = find_pack_damage(f"{folder}/{name}", site.layout.algo)
        if damage:
            report.packs_set_aside.append(f"{stem}: {damage}")
            for suffix in (".idx", ".rev", ".pack"):
                with contextlib.suppress(FileNotFoundError):
                    move_aside(f"{folder}/{stem}{suffix}", f"{journal.folder.root}/{TORN_FOLDER}")


def _release_locks(journal: Journal, site: Site, report: RecoveryReport) -> None:
    dead = [token for token in iter_tokens(journal.folder.locks) if not is_alive(journal.folder.locks, token)]
    report.locks_removed += remove_locks(journal, site.layout, dead)
    remove_keeps(site.layout.objects_dir, journal.folder.locks)


# Refs


def _restore_refs(
    journal: Journal, site: Site, checkpoint: Checkpoint | None, fold: _Fold, report: RecoveryReport
) -> None:
    store = ObjectStore.open(site.layout.objects_dir, site.layout.algo)
    if isinstance(site.database, ReftableBackend):
        done, kept, problems = restore_values(
            site.database,
            fold.final,
            fold.chain,
            fold.last,
            store=store,
            modes=site.modes,
            sleep=site.sleep,
            log_updates=site.log_updates,
            owner=Heir(journal),
        )
        report.refs_set += done
        report.outside_changes_kept += kept
        report.problems += problems
        _restore_head(journal, site, checkpoint, fold, report)
        return
    packed = _readable_packed_refs(journal, site, report)
    judge = _Judge(site, journal, checkpoint, packed, store)
    zero = site.layout.algo.zero
    final = dict(fold.final)
    for name, oid in judge.checkpointed():
        fold.chain.setdefault(name, set()).add(oid)
        final.setdefault(name, oid)
    wanted: dict[bytes, bytes] = {}
    for name, oid in final.items():
        verdict = judge.wants(name, oid, fold.chain[name], is_recorded=name in fold.final)
        if verdict is None:
            report.outside_changes_kept += 1
        elif verdict:
            wanted[name] = oid
    doomed = [name for name, oid in wanted.items() if oid == zero]
    if doomed:
        _remove_torn(site, doomed)
        delete_refs(site.files, doomed, sleep=site.sleep, modes=site.modes, owner=Heir(journal), held_locks={})
        report.refs_deleted += len(doomed)
    for name in sorted(wanted, key=fold.age_of):
        oid = wanted[name]
        if oid == zero:
            continue
        if store.find(oid) < 0:
            report.problems.append(f"{os.fsdecode(name)}: {oid.hex()} is missing, the ref is left as it is")
            continue
        other = _find_excluding(site, name)
        if other is not None:
            report.problems.append(f"{os.fsdecode(name)}: {os.fsdecode(other)} is there, both can't be")
            fold.lines.pop(name, None)  # the other one's reflog lies where its own would be
            continue
        set_ref(site.files, name, oid, sleep=site.sleep, modes=site.modes, owner=Heir(journal))
        report.refs_set += 1
    _restore_head(journal, site, checkpoint, fold, report)
    _restore_reflogs(site, fold)


def _find_excluding(site: Site, name: bytes) -> bytes | None:
    """Return the ref that keeps another one from being made; None for one that is there already, or is free.

    Raises LockFailed where it is the lock of another program.
    """
    database = site.files
    if database.read_raw(name) is not None:
        return None
    packed = database.read_packed()
    above = [parent for parent in iter_parents(name) if database.read_raw(parent) is not None]
    low, high = packed.range_of_prefix(name + b"/")
    if above or low < high:
        return above[0] if above else packed.name_at(low)
    if not is_blocked(database, name):
        return None
    below = find_loose_below(database, name)
    if below is None:
        raise LockFailed(f"{os.fsdecode(name)}/*", errno.EEXIST)
    return below


def _remove_torn(site: Site, names: list[bytes]) -> None:
    """Empty folders and torn files in the place of a ref that is to be deleted need no verifying."""
    for name in names:
        path = site.files.path_of(name)
        if os.path.isfile(path) and os.path.getsize(path) == 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _readable_packed_refs(journal: Journal, site: Site, report: RecoveryReport) -> PackedRefs:
    """Return packed-refs; a torn one is moved aside, and its refs come from the checkpoint."""
    try:
        return site.files.read_packed()
    except CorruptRefs as error:
        kept = move_aside(site.files.packed_path, f"{journal.folder.root}/{TORN_FOLDER}")
        report.problems.append(f"packed-refs was torn ({error}); it is kept as {kept}")
        return site.files.read_packed()


class _Judge:
    """Decides which refs are what the power cut left, and which are somebody's doing."""

    def __init__(
        self,
        site: Site,
        journal: Journal,
        checkpoint: Checkpoint | None,
        packed: PackedRefs,
        store: ObjectStore,
    ) -> None:
        self._site = site
        self._journal = journal
        self._checkpoint = checkpoint
        self._packed = packed
        self._store = store
        self._zero = site.layout.algo.zero
        self._packed_is_old = self._is_old(site.files.packed_path)

    def _is_old(self, path: str) -> bool:
        """Say whether a file is from before the checkpoint (or there is none)."""
        try:
            written = os.stat(path).st_mtime_ns
        except FileNotFoundError:
            return True
        return self._checkpoint is not None and written <= self._checkpoint.time_ns

    def checkpointed(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (name, oid) of the refs at the checkpoint; zeros for one that was deleted since its table."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            return
        table = RefTableFile(table_path(self._journal.folder.root, checkpoint.table_sequence), self._site.layout.algo)
        if table.checksum() != checkpoint.table_checksum:
            raise LogDamaged(
                table_path(self._journal.folder.root, checkpoint.table_sequence), 0, "the table's checksum is wrong"
            )
        for name, oid in table:
            if name not in checkpoint.changes:
                yield name, oid
        for name, oid in checkpoint.changes.items():
            yield name, oid or self._zero

    def wants(self, name: bytes, final: bytes, chain: set[bytes], *, is_recorded: bool) -> bool | None:
        """Say whether a ref has to be set to its final value; None: it is an outsider's and stays."""
        loose = self._site.files.read_loose(name)
        if loose is not None and loose.target is not None:
            return None
        if loose is not None and loose.oid is None:
            return True  # torn
        current = _oid_of(loose) or self._packed.get(name)
        if current is None:
            # Without a record it comes back only if packed-refs may have lost it; else somebody has deleted it.
            return final != self._zero and (is_recorded or self._packed_is_old)
        if current == final:
            return False
        if current in chain:
            # A ref without records that shows an older value of its own is the checkpoint's affair as well.
            return True
        if loose is None and self._packed_is_old:
            return True
        if self._store.find(current) >= 0:
            return None
        return True if is_recorded or final != self._zero else None


def _oid_of(ref: LooseRef | None) -> bytes | None:
    return ref.oid if ref is not None else None


def _restore_head(
    journal: Journal, site: Site, checkpoint: Checkpoint | None, fold: _Fold, report: RecoveryReport
) -> None:
    head = site.database.read_head()
    target = fold.symrefs.get(b"HEAD") or (checkpoint.head if checkpoint is not None else b"")
    is_torn = head is None or bool(head.problem)
    in_chain = head is not None and head.target is not None and head.target in fold.symref_chain.get(b"HEAD", ())
    if target and (is_torn or (in_chain and head is not None and head.target != target)):
        options = WriteOptions(sleep=site.sleep, modes=site.modes, owner=Heir(journal))
        site.database.set_symref(b"HEAD", target, options)
        report.refs_set += 1


def _restore_reflogs(site: Site, fold: _Fold) -> None:
    zero = site.layout.algo.zero
    for name, lines in fold.lines.items():
        for logged in names_with_logs(site.files, name):
            if logged == name and fold.final[name] == zero:
                continue
            for new, line, _ in lines:
                if logged != name or new != zero:
                    append_reflog_once(site.files, logged, line, site.log_updates, site.modes)
