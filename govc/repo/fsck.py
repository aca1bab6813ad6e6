"""Is a repository whole? Objects, refs, and the log against what git's own files say.

    objects   every pack is read and named anew, its index compared; every loose object is read and named anew
    refs      each one parses and names an object that is there; HEAD leads somewhere or is unborn
    links     everything that the refs reach exists
    log       sound from the checkpoint to its tail; refs that differ from the log's last word are told: something
              else than govc has changed them, which the next push or checkpoint will record

Nothing is changed. Source: git-fsck(1); docs/formats/log.md.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from govc.errors import Corrupt, CorruptRefs, GovcError, ObjectMissing
from govc.graph.commits import CommitTable
from govc.graph.connectivity import check_connectivity
from govc.objects.types import hash_object
from govc.odb.listing import list_packs
from govc.odb.loose import iter_loose_oids, read_loose_object
from govc.odb.restore import find_pack_damage
from govc.odb.store import OBJECT_BYTES_MAX, ObjectStore
from govc.pack.index import PackIndex
from govc.pack.indexer import index_pack
from govc.protocol.oid import HashAlgorithm
from govc.refs.backend_state import RefState
from govc.repo.checkpointing import iter_direct
from govc.repo.log_view import LogView, iter_located, verify
from govc.repo.recovery import Site, log_folder
from govc.repo.ref_values import LoggedRefs
from govc.repo.snapshot import make_history
from govc.wal.checkpoint import read_checkpoint

Tell = Callable[[str, int, int], None]
"""Progress: what is being looked at, how many are done, of how many."""

PROBLEMS_MAX = 1000


@dataclass(kw_only=True)
class FsckReport:
    """What was found. `problems` make the repository broken; `notes` don't."""

    objects: int = 0
    refs: int = 0
    log_records: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def fsck(site: Site, tell: Tell) -> FsckReport:
    """Look at everything. Raises OSError when the repository can't be read at all."""
    report = FsckReport()
    _check_packs(site, report, tell)
    _check_loose(site, report, tell)
    state = _check_refs(site, report)
    if state is not None:
        _check_links(site, state, report, tell)
    _check_log(site, state, report)
    return report


def _check_packs(site: Site, report: FsckReport, tell: Tell) -> None:
    objects_dir, algo = site.layout.objects_dir, site.layout.algo
    paths = sorted(list_packs(objects_dir))
    for number, path in enumerate(paths):
        tell("packs", number, len(paths))
        problem = find_pack_damage(path, algo)
        if not problem:
            problem = _check_pack_objects(path, algo, report)
        if problem:
            report.problems.append(f"{os.path.basename(path)}: {problem}")
    tell("packs", len(paths), len(paths))


def _check_pack_objects(path: str, algo: HashAlgorithm, report: FsckReport) -> str:
    """Name every object of a pack anew and compare with its index; return what is wrong."""
    with open(f"{path.removesuffix('.pack')}.idx", "rb") as file:
        index = PackIndex(file.read(), algo)
    report.objects += index.count
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        indexed = index_pack(descriptor, algo)
    except GovcError as error:
        return str(error)
    finally:
        os.close(descriptor)
    if indexed.count != index.count:
        return f"the index names {index.count} objects, the pack holds {indexed.count}"
    for position, oid in enumerate(index.iter_oids()):
        if indexed.oid_at(position) != oid:
            return f"the index names {oid.hex()}, the pack holds {indexed.oid_at(position).hex()}"
    return ""


def _check_loose(site: Site, report: FsckReport, tell: Tell) -> None:
    objects_dir, algo = site.layout.objects_dir, site.layout.algo
    for number, oid in enumerate(iter_loose_oids(objects_dir, algo)):
        if number % 1000 == 0:
            tell("loose objects", number, 0)
        report.objects += 1
        try:
            type_number, data = read_loose_object(objects_dir, oid, object_bytes_max=OBJECT_BYTES_MAX)
        except FileNotFoundError:
            continue  # packed meanwhile
        except (GovcError, OSError) as error:
            report.problems.append(f"loose object {oid.hex()}: {error}")
            continue
        if hash_object(algo, type_number, data) != oid:
            report.problems.append(f"loose object {oid.hex()}: hash mismatch")


def _check_refs(site: Site, report: FsckReport) -> RefState | None:
    try:
        state = site.database.load()
        head = site.database.read_head()
    except CorruptRefs as error:
        report.problems.append(f"refs: {error}")
        return None
    report.problems += [f"{os.fsdecode(name)}: {problem}" for name, problem in state.table.broken]
    report.notes += state.table.warnings
    if head is None or head.problem:
        report.problems.append("HEAD is missing or can't be read")
    return state


def _check_links(site: Site, state: RefState, report: FsckReport, tell: Tell) -> None:
    store = ObjectStore.open(site.layout.objects_dir, site.layout.algo)
    tips: dict[bytes, bytes] = {}
    for name, oid in iter_direct(state.table):
        report.refs += 1
        if store.find(oid) < 0:
            report.problems.append(f"{os.fsdecode(name)}: {oid.hex()} is missing")
        else:
            tips.setdefault(oid, name)
    tell("links", 0, 0)
    try:
        shallow = _read_shallow(site)
        is_partial = "partialclone" in site.layout.extensions or any(pack.is_promisor for pack in store.packs)
        history = make_history(CommitTable(store), shallow, {}, is_partial=is_partial)
        work = check_connectivity(history, tuple(tips), ref_tips=frozenset(), is_new=lambda _number: True)
        while True:
            try:
                next(work)
            except StopIteration as stop:
                report.problems += [
                    f"{one.kind} {one.oid.hex()}: {one.reason}"
                    + (f", needed by {one.needed_by.hex()}" if one.needed_by else "")
                    for one in stop.value
                ]
                return
    except (Corrupt, ObjectMissing) as error:
        report.problems.append(str(error))


def _read_shallow(site: Site) -> frozenset[bytes]:
    try:
        with open(f"{site.layout.commondir}/shallow", "rb") as file:
            lines = file.read().split()
    except FileNotFoundError:
        return frozenset()
    return frozenset(oid for line in lines if (oid := site.layout.algo.parse_hex(line)) is not None)


def _check_log(site: Site, state: RefState | None, report: FsckReport) -> None:
    folder = log_folder(site.layout.commondir)
    if not os.path.isdir(folder.root):
        return
    view = verify(site.layout.commondir)
    report.log_records = view.records
    report.notes += view.notes
    if view.torn_bytes:
        report.notes.append(f"log: {view.torn_bytes} bytes of a record that was never acknowledged")
    if view.damage:
        report.problems.append(f"log: {view.damage}")
    elif state is not None:
        report.notes += _differences(site, state)


def _differences(site: Site, state: RefState) -> Iterator[str]:
    """Yield a sentence for each ref that isn't what the log last said."""
    folder = log_folder(site.layout.commondir)
    refs = LoggedRefs(folder.root, read_checkpoint(folder.checkpoint), site.layout.algo)
    for located in iter_located(site.layout.commondir, LogView()):
        if located.record.sequence > refs.sequence:
            refs.note(located.record)
    current = dict(iter_direct(state.table))
    zero = site.layout.algo.zero
    for name, logged in refs.iter_values():
        found = current.pop(name, zero)
        if found != logged:
            yield f"{os.fsdecode(name)} is at {found.hex()}, the log says {logged.hex()}: changed by something else"
    for name, found in current.items():
        yield f"{os.fsdecode(name)} is at {found.hex()}, the log doesn't know it: made by something else"
