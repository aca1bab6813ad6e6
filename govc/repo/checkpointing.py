"""Checkpoints: git's own files are made durable, and the log up to there may go.

    observe what plain git changed → sync what the records touched → write the checkpoint → retire segments and packs

Readers never notice; writers wait only while the log's lock is held for an append, not while files are synced. What it
costs goes with what changed since the last one and with the loose refs, with one exception: when packed-refs was
rewritten, or the oldest reftable merged, all of it is compared once.

Source: storage rules 19, 24.
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from govc import disk
from govc.odb.loose import loose_path
from govc.refs.backend_state import RefMark
from govc.refs.loose import LooseRef
from govc.refs.table import RefTable
from govc.repo.journal import Journal, kept_pack_path
from govc.repo.recovery import Site
from govc.repo.ref_values import LoggedRefs, RefTableFile, encode_table, table_path
from govc.wal.boot import boot_id
from govc.wal.checkpoint import Checkpoint, read_checkpoint, replace_synced, write_checkpoint
from govc.wal.errors import LogDamaged, LogError, LogFailed
from govc.wal.flock import Flocked
from govc.wal.reader import LogReader, Position
from govc.wal.record import Draft, Kind, Record, RefChange
from govc.wal.segment import list_segments, segment_path

log = logging.getLogger(__name__)

SYNC_EACH_MAX = 64
"""With more files and folders than this to sync, the whole file system is synced in one call."""

STAGED_PACK_NS = 3600 * 10**9

TABLE_CHANGES_MIN = 1000
"""The table is written anew when this many refs, and a quarter of it, have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointReport:
    """What a checkpoint did. `sequence`: up to which record the repository is durable."""

    sequence: int
    records: int = 0
    observed: int = 0
    synced: int = 0
    segments_retired: int = 0
    packs_retired: int = 0


@dataclass(slots=True)
class _Touched:
    """What the records since the last checkpoint have touched."""

    position: Position
    names: set[bytes]
    packs: set[str]
    loose: set[bytes] = field(default_factory=set)
    records: int = 0
    size: int = 0
    changes: int = 0


@dataclass(frozen=True, slots=True)
class _Observed:
    """What HEAD says, how many refs something else than us has changed, and by what the refs are known again."""

    head: bytes
    changes: int
    mark: RefMark | None


def write_first_checkpoint(journal: Journal, site: Site, position: Position, log_id: bytes) -> None:
    """Write the checkpoint that a log begins with: nothing is known of the refs but what they are now."""
    state = site.database.load()
    refs = LoggedRefs(journal.folder.root, None, site.layout.algo)
    packs = sorted(_list_packs(site.layout.objects_dir))
    observed = _Observed(_head_of(site), 0, site.database.mark_of(state))
    _write(journal, site, position, log_id, refs, iter_direct(state.table), packs, observed)


def write_checkpoint_now(journal: Journal, site: Site) -> CheckpointReport:
    """Make a checkpoint of everything that is published, right after recovery: all refs are compared and synced."""
    return checkpoint(journal, site, is_complete=True)


def checkpoint(journal: Journal, site: Site, *, is_complete: bool = False, close_log: bool = False) -> CheckpointReport:
    """Make a checkpoint. `close_log`: retire all segments when nothing is left in them. Raises LogError, OSError.

    `is_complete`: sync the whole file system, whatever the records say.
    """
    with checkpoint_lock(journal):
        try:
            return _checkpoint(journal, site, is_complete, close_log)
        except OSError as error:
            raise LogFailed(f"{journal.folder.root}: checkpoint", error) from error


def checkpoint_lock(journal: Journal) -> Flocked:
    """Hold what checkpoints hold: meanwhile no segment is retired. Before the append lock."""
    return Flocked(f"{journal.folder.root}/checkpointing", journal.file_mode)


def _checkpoint(journal: Journal, site: Site, is_complete: bool, close_log: bool) -> CheckpointReport:
    last = read_checkpoint(journal.folder.checkpoint)
    if last is None:
        raise LogDamaged(journal.folder.checkpoint, 0, "there is no checkpoint")
    observed = _observe(journal, site, None if is_complete else last)
    tail = journal.log.tail()
    if tail is None:
        raise LogError(f"{journal.folder.root}: the log has not been recovered")
    refs = LoggedRefs(journal.folder.root, last, site.layout.algo)
    touched = _read_touched(journal, last, refs, tail.published)
    packs = _list_packs(site.layout.objects_dir)
    if not touched.changes and not is_complete:
        report = CheckpointReport(sequence=touched.position.sequence)
        return _close(journal, report) if close_log else report
    new_packs = packs.difference(last.packs)
    loose = [loose_path(site.layout.objects_dir, oid) for oid in touched.loose]
    synced = _sync(site, touched.names, new_packs, loose, is_complete)
    journal.log.make_durable_up_to(touched.position)
    _write(journal, site, touched.position, tail.log_id, refs, None, sorted(packs), observed)
    with journal.log.append_lock():
        journal.log.append([Draft(kind=Kind.CHECKPOINT, number=touched.position.sequence)])
        journal.log.checkpoint_done(touched.size)
    retired, packs_retired = _retire(journal, touched)
    report = CheckpointReport(
        sequence=touched.position.sequence,
        records=touched.records,
        observed=observed.changes,
        synced=synced,
        segments_retired=retired,
        packs_retired=packs_retired,
    )
    return _close(journal, report) if close_log else report


# Observing


def _observe(journal: Journal, site: Site, last: Checkpoint | None) -> _Observed:
    """Record what something else than us has changed. `last`: what is known since then needn't be compared."""
    with journal.log.append_lock():
        known = journal.follow().copy()
        tail = journal.log.tail()
        assert tail is not None
        before = tail
        in_flight = set(_names_in_flight(journal, before.unpublished()))
    # Everything that takes its time is done without the lock; what records change meanwhile is left out below.
    looked = None
    if last is not None and last.packed_mark:
        looked = site.database.changed_since(RefMark(last.packed_mark, last.loose))
    if looked is None or last is None:
        state = site.database.load()
        mark = site.database.mark_of(state)
        differences = list(_differences(known, dict(iter_direct(state.table)), site.layout.algo.zero))
    else:
        some, mark = looked
        names = some.keys() | set(_names_since(journal, last.position.sequence + 1))
        differences = list(_differences_among(site, known, names, some))
    with journal.log.append_lock():
        journal.follow()
        in_flight |= set(_names_since(journal, before.next_sequence))
        changes = [RefChange(*difference) for difference in differences if difference[0] not in in_flight]
        if changes:
            journal.observe(sorted(changes))
    return _Observed(_head_of(site), len(changes), mark)


def _differences_among(
    site: Site, refs: LoggedRefs, names: Iterable[bytes], seen: Mapping[bytes, LooseRef | None]
) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (name, value in the log, value found) where they differ, of some refs."""
    zero = site.layout.algo.zero
    for name in names:
        found = seen.get(name) or site.database.read_raw(name)
        value = found.oid if found is not None and found.target is None and name.startswith(b"refs/") else None
        logged = refs.value(name)
        if (value or zero) != logged:
            yield name, logged, value or zero


def _head_of(site: Site) -> bytes:
    """Return the branch that HEAD names, b"" for none."""
    head = site.database.read_head()
    return head.target if head is not None and head.target is not None else b""


def iter_direct(table: RefTable) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, oid) of the refs that aren't symbolic, in byte order."""
    for ref in table.iter_refs():
        if ref.symref_target is None and ref.name.startswith(b"refs/"):
            yield ref.name, ref.oid


def _differences(refs: LoggedRefs, current: dict[bytes, bytes], zero: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (name, value in the log, value found) where they differ."""
    seen = 0
    for name, logged in refs.iter_values():
        found = current.get(name)
        if found is not None:
            seen += 1
        if (found or zero) != logged:
            yield name, logged, found or zero
    if seen == len(current):
        return
    known = {name for name, _ in refs.iter_values()}
    for name, found in current.items():
        if name not in known:
            yield name, zero, found


def _names_in_flight(journal: Journal, sequences: Sequence[int]) -> Iterator[bytes]:
    """Yield the refs of records that wait to be published."""
    if sequences:
        wanted = set(sequences)
        for record in _records(journal, min(sequences)):
            if record.sequence in wanted:
                yield from (change.name for change in record.draft.refs)


def _names_since(journal: Journal, sequence: int) -> Iterator[bytes]:
    for record in _records(journal, sequence):
        yield from (change.name for change in record.draft.refs)


def _records(journal: Journal, first: int) -> Iterator[Record]:
    tail = journal.log.tail()
    if tail is None or tail.next_sequence <= first:
        return
    last = read_checkpoint(journal.folder.checkpoint)
    for located in LogReader(journal.folder.segments, after=last.position if last is not None else None):
        if located.record.sequence >= tail.next_sequence:
            return
        if located.record.sequence >= first:
            yield located.record


def _read_touched(journal: Journal, last: Checkpoint, refs: LoggedRefs, published: int) -> _Touched:
    """Read the records up to `published`: what they touched, and the place behind them."""
    touched = _Touched(last.position, set(), set())
    for located in LogReader(journal.folder.segments, after=last.position):
        record = located.record
        if record.sequence > published:
            break
        refs.note(record)
        touched.names.update(change.name for change in record.draft.refs)
        touched.names.update(change.name for change in record.draft.symrefs)
        touched.packs.update(
            os.path.basename(kept_pack_path(journal.folder, reference.checksum))
            for reference in record.draft.pack_references
        )
        touched.loose.update(oid for oid, _content in record.draft.loose_objects)
        touched.records += record.kind is Kind.CHANGE
        touched.changes += record.kind in (Kind.CHANGE, Kind.OBSERVED, Kind.VOID)
        touched.size += record.size
        touched.position = Position(located.ordinal, located.offset + record.size, record.sequence, record.checksum)
    return touched


# Syncing


def _list_packs(objects_dir: str) -> set[bytes]:
    try:
        names = os.listdir(f"{objects_dir}/pack")
    except FileNotFoundError:
        return set()
    return {os.fsencode(name[:-5]) for name in names if name.endswith(".pack") and name.startswith("pack-")}


def _sync(site: Site, names: Iterable[bytes], packs: Iterable[bytes], loose: Iterable[str], is_complete: bool) -> int:
    """Make git's files durable: refs, reflogs, packs, loose objects, and the folders that name them.

    Returns how many calls.
    """
    layout = site.layout
    pack_folder = f"{layout.objects_dir}/pack"
    files = [*site.database.durable_files(names), f"{layout.commondir}/shallow", *loose]
    for pack in packs:
        files += [f"{pack_folder}/{os.fsdecode(pack)}{suffix}" for suffix in (".pack", ".idx", ".rev")]
    folders = _folders_of(files, (layout.commondir, layout.gitdir), pack_folder, layout.objects_dir)
    if is_complete or len(files) + len(folders) > SYNC_EACH_MAX:
        try:
            disk.sync_filesystem(layout.commondir)
            return 1
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
    count = 0
    for path in files:
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            if os.path.isfile(path):
                disk.sync_path(path)
                count += 1
    for folder in folders:
        with suppress(FileNotFoundError, NotADirectoryError):
            disk.sync_folder(folder)
            count += 1
    return count


def _folders_of(files: Sequence[str], tops: tuple[str, ...], *more: str) -> list[str]:
    """Return the folders that name the files, up to the repository, deepest first."""
    folders = {*tops, *(path for path in more if os.path.isdir(path))}
    for path in files:
        folder = os.path.dirname(path)
        while folder not in folders and any(folder.startswith(f"{top}/") for top in tops):
            folders.add(folder)
            folder = os.path.dirname(folder)
    return sorted(folders, key=len, reverse=True)


# Writing


def _write(
    journal: Journal,
    site: Site,
    position: Position,
    log_id: bytes,
    refs: LoggedRefs,
    all_refs: Iterable[tuple[bytes, bytes]] | None,
    packs: Sequence[bytes],
    observed: _Observed,
) -> None:
    """Write the checkpoint, and a new table when there is none or its changes have become many."""
    root = journal.folder.root
    last = None if all_refs is not None else read_checkpoint(journal.folder.checkpoint)
    changes = dict(refs.changes)
    # The table is only counted when it may be due.
    is_small = len(changes) <= TABLE_CHANGES_MIN or len(changes) <= refs.table_count // 4
    if last is not None and is_small:
        sequence, checksum = last.table_sequence, last.table_checksum
    else:
        sequence, changes = position.sequence, {}
        rows = all_refs if all_refs is not None else refs.iter_present()
        path = table_path(root, sequence)
        replace_synced(path, b"".join(encode_table(rows)), mode=journal.file_mode)
        checksum = RefTableFile(path, site.layout.algo).checksum()
    write_checkpoint(
        journal.folder.checkpoint,
        Checkpoint(
            position=position,
            log_id=log_id,
            boot=boot_id(),
            time_ns=journal.clock_ns(),
            table_sequence=sequence,
            table_checksum=checksum,
            changes=changes,
            packs=tuple(packs),
            head=observed.head,
            packed_mark=observed.mark.base if observed.mark is not None else b"",
            loose=observed.mark.loose if observed.mark is not None else (),
        ),
        mode=journal.file_mode,
    )
    _remove_old_tables(root, sequence)


def _remove_old_tables(root: str, kept: int) -> None:
    for name in os.listdir(root):
        number = name.removeprefix("refs-")
        if name.startswith("refs-") and number.isdigit() and int(number) != kept:
            with suppress(FileNotFoundError):
                disk.unlink(f"{root}/{name}")


# Retiring


def _retire(journal: Journal, touched: _Touched) -> tuple[int, int]:
    """Remove (or archive) the segments and packs that only records up to the checkpoint need."""
    doomed = [n for n in list_segments(journal.folder.segments) if n < touched.position.ordinal]
    for ordinal in doomed:
        _remove(journal, segment_path(journal.folder.segments, ordinal))
    return len(doomed), _retire_packs(journal, touched)


def _retire_packs(journal: Journal, touched: _Touched) -> int:
    """Remove packs from `govc/packs` that no record behind the checkpoint names.

    One that no record names at all may be on its way to one, unless it has lain there for an hour.
    """
    names = os.listdir(journal.folder.packs)
    if not names:
        return 0
    needed = _packs_named(journal, touched.position)
    now = journal.clock_ns()
    doomed: list[str] = []
    for name in names:
        path = f"{journal.folder.packs}/{name}"
        if name in needed:
            continue
        with suppress(FileNotFoundError):
            if name in touched.packs or now - os.stat(path).st_ctime_ns > STAGED_PACK_NS:
                _archive(journal, path)
                doomed.append(name)
    if not doomed:
        return 0
    # A push may be about to name one that lies there for an older record: it has done so by now, or looks for it first.
    with journal.log.append_lock():
        needed = _packs_named(journal, touched.position)
        doomed = [name for name in doomed if name not in needed]
        for name in doomed:
            with suppress(FileNotFoundError):
                disk.unlink(f"{journal.folder.packs}/{name}")
    return len(doomed)


def _packs_named(journal: Journal, position: Position) -> set[str]:
    """Return the names of the packs in `govc/packs` that records behind a position name."""
    return {
        os.path.basename(kept_pack_path(journal.folder, reference.checksum))
        for located in LogReader(journal.folder.segments, after=position)
        for reference in located.record.draft.pack_references
    }


def _remove(journal: Journal, path: str) -> None:
    """Remove a retired file; with an archive, once a copy of it is durable there."""
    _archive(journal, path)
    with suppress(FileNotFoundError):
        disk.unlink(path)


def _archive(journal: Journal, path: str) -> None:
    """Make a durable copy of a file that is about to be retired, where there is an archive."""
    archive = journal.options.archive_dir
    if archive:
        folder = f"{archive}/{journal.archive_name()}"
        os.makedirs(folder, mode=0o700, exist_ok=True)
        target = f"{folder}/{os.path.basename(path)}"
        shutil.copyfile(path, f"{target}.new")
        disk.sync_path(f"{target}.new")
        disk.rename(f"{target}.new", target)
        disk.sync_folder(folder)


def _close(journal: Journal, report: CheckpointReport) -> CheckpointReport:
    """Retire all segments, when nothing but records of checkpoints has come after the last one."""
    with journal.log.append_lock():
        last = read_checkpoint(journal.folder.checkpoint)
        tail = journal.log.tail()
        if tail is None or last is None or not tail.is_all_published or not tail.offset:
            return report
        end = last.position
        for located in LogReader(journal.folder.segments, after=end):
            record = located.record
            if record.sequence >= tail.next_sequence:
                break
            if record.kind not in (Kind.CHECKPOINT, Kind.END):
                return report
            end = Position(located.ordinal, located.offset + record.size, record.sequence, record.checksum)
        if end.sequence != last.position.sequence:
            write_checkpoint(
                journal.folder.checkpoint,
                replace(last, position=end),
                mode=journal.file_mode,
            )
        journal.log.checkpoint_done(0, is_closed=True)
        for ordinal in list_segments(journal.folder.segments):
            _remove(journal, segment_path(journal.folder.segments, ordinal))
        for name in os.listdir(journal.folder.segments):
            disk.unlink(f"{journal.folder.segments}/{name}")
        disk.rmdir(journal.folder.segments)
    return report
