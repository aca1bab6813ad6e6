"""Keeping a repository quick: few packs, few loose refs, no leftovers.

Each push adds one pack, so packs are merged when there are many of them, in a geometric progression: every object is
copied a logarithmic number of times over the life of a repository, entries as they lie. Loose refs are packed when
there are many, reftables merged when their sizes aren't geometric. What killed processes left in the objects folder
goes after a day. No object is ever dropped here, reachable or not: pruning stays `git gc`'s business.

One maintenance at a time per repository, and none beside git's own: `gc.pid` is honoured and the objects folder is
flocked. The work runs in a helper process, started after the push was answered.

Source: git-maintenance "incremental-repack", git-repack "--geometric", git-config "gc.autoPackLimit", "receive.autogc".
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from govc.config.config import Config
from govc.config.loader import load_config
from govc.errors import GovcError
from govc.odb.leftovers import find_leftovers, remove_leftovers
from govc.odb.packs import PackFile
from govc.odb.repack import choose_packs_to_merge, is_mergeable, merge_packs, remove_merged_packs
from govc.odb.store import ObjectStore
from govc.protocol.oid import find_algorithm
from govc.refs.backend import RefBackend, WriteOptions, open_ref_backend
from govc.refs.lock import LockOwner
from govc.refs.table import RefTable
from govc.repo.bitmap_writing import BitmapSite, Written, write_bitmaps
from govc.repo.discover import enter_repository
from govc.repo.helper import Emit
from govc.repo.introductions import Introductions
from govc.repo.layout import RepositoryLayout, SharedPermissions, find_commondir, read_layout
from govc.repo.modes import object_modes
from govc.repo.native_files import (
    NativeFileSettings,
    commit_numbers,
    write_commit_graph,
    write_multi_pack_index,
    write_reverse_indexes,
)
from govc.repo.peeling import StorePeeler
from govc.repo.recovery import log_folder
from govc.repo.ref_options import read_write_options
from govc.repo.snapshot import Snapshot
from govc.wal.owner import Owner

log = logging.getLogger(__name__)

PACKS_MAX = 20
"""From this many packs on they are merged, unless gc.autoPackLimit says another number (0: never): look-ups by plain
git beside us stay cheap. Git's own default is 50."""

GC_PID_SECONDS = 12 * 3600

LEFTOVERS_SECONDS = 60.0
"""Leftovers are a day old at least: so much later is no matter."""

_LEFTOVERS = "leftovers"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceTask:
    """One repository to look after. Picklable."""

    gitdir: str
    commondir: str
    objects_dir: str
    algo_name: str
    shared: SharedPermissions
    precious_objects: bool
    native_files: NativeFileSettings
    ref_storage: str
    refs_gitdir: str
    refs_commondir: str
    write_options: WriteOptions

    @classmethod
    def of(cls, layout: RepositoryLayout, config: Config) -> "MaintenanceTask":
        """Take what layout and configuration say. Raises BadConfig, RepositoryRefused."""
        return cls(
            gitdir=layout.gitdir,
            commondir=layout.commondir,
            objects_dir=layout.objects_dir,
            algo_name=layout.algo.name,
            shared=layout.shared,
            precious_objects=layout.precious_objects,
            native_files=NativeFileSettings.from_config(config, is_bare=layout.is_bare),
            ref_storage=layout.ref_storage,
            refs_gitdir=layout.refs_gitdir,
            refs_commondir=layout.refs_commondir,
            write_options=read_write_options(layout, config, sleep=time.sleep),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceReport:
    """What was done; `skipped` says why nothing was. `refs_packed`: how many files of refs went."""

    packs_merged: int = 0
    refs_packed: int = 0
    leftovers_removed: int = 0
    commits_graphed: int = 0
    packs_indexed: int = 0
    reverse_indexes: int = 0
    commits_bitmapped: int = 0
    skipped: str = ""


def is_due(snapshot: Snapshot, refs: RefBackend) -> bool:
    """Say whether a push should start maintenance: `receive.autogc`, `maintenance.auto`, counts, leftovers."""
    config = snapshot.config
    is_wanted = config.get_bool("receive.autogc", True) and config.get_bool("maintenance.auto", True)
    if not is_wanted or config.get_int("gc.auto", 6700) == 0:
        return False
    own = f"{snapshot.layout.objects_dir}/pack/"
    pack_count = sum(pack.path.startswith(own) and is_mergeable(pack) for pack in snapshot.store.packs)
    packs_max = config.get_int("gc.autopacklimit", PACKS_MAX)
    is_crowded = pack_count > packs_max > 0
    return is_crowded or refs.is_packing_due(snapshot.refs) or _has_leftovers(snapshot)


def _has_leftovers(snapshot: Snapshot) -> bool:
    """Look for leftovers, but not after each push: it lists folders that grow with every one."""
    now = time.monotonic()
    if now < snapshot.lasting.get(_LEFTOVERS, 0.0):
        return False
    snapshot.lasting[_LEFTOVERS] = now + LEFTOVERS_SECONDS
    return bool(find_leftovers(snapshot.layout.objects_dir))


def maintain_job(task: MaintenanceTask, _emit: Emit) -> MaintenanceReport:
    """The helper's "maintain" job."""
    return maintain(task)


def maintain_path(path: str, environ: Mapping[str, str]) -> MaintenanceReport:
    """Look after the repository at `path` on disk. Raises GovcError, OSError."""
    gitdir = os.path.realpath(enter_repository(path).gitdir)
    commondir = find_commondir(gitdir)
    config = load_config(environ=environ, gitdir=gitdir, commondir=commondir).config
    return maintain(MaintenanceTask.of(read_layout(gitdir, config), config))


def maintain(task: MaintenanceTask) -> MaintenanceReport:
    """Look after one repository. Raises OSError, Corrupt."""
    # The folder itself is locked: nothing has to be created, and nothing is left behind.
    descriptor = os.open(task.objects_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return MaintenanceReport(skipped="another maintenance is running")
        if is_git_gc_running(task.commondir):
            return MaintenanceReport(skipped="git gc is running")
        report = MaintenanceReport(
            leftovers_removed=len(remove_leftovers(task.objects_dir)),
            packs_merged=_merge(task),
            refs_packed=_pack_refs(task),
        )
        return _write_native_files(task, report)
    finally:
        os.close(descriptor)


def _write_native_files(task: MaintenanceTask, report: MaintenanceReport) -> MaintenanceReport:
    """Write what makes plain git quick, as far as the configuration allows."""
    algo = find_algorithm(task.algo_name)
    assert algo is not None
    store = ObjectStore.open(task.objects_dir, algo)
    own = [pack for pack in store.packs if pack.path.startswith(f"{task.objects_dir}/pack/")]
    modes = object_modes(task.shared)
    files = task.native_files
    graphed = indexed = reversed_ = 0
    bitmaps = Written()
    if files.reverse_index:
        reversed_ = write_reverse_indexes(own, store, task.objects_dir, modes)
    if not _has_other_parents(task.commondir):
        refs = _open_refs(task).load().table
        if files.bitmaps.wanted:  # first: what the graph's rows took would come on top of its memory
            bitmaps = _write_bitmaps(task, store, own, refs)
        if files.commit_graph and not refs.has_prefix(b"refs/replace/"):
            graphed = write_commit_graph(store, (ref.oid for ref in refs.iter_refs()), task.objects_dir, modes)
    if files.multi_pack_index:
        keeps = files.bitmaps.wanted
        indexed = write_multi_pack_index(own, store, task.objects_dir, modes, keeps_bitmaps=keeps)
    return replace(
        report,
        commits_graphed=graphed,
        packs_indexed=indexed or bitmaps.packs_indexed,
        reverse_indexes=reversed_,
        commits_bitmapped=bitmaps.commits,
    )


def _write_bitmaps(task: MaintenanceTask, store: ObjectStore, own: list[PackFile], refs: RefTable) -> Written:
    """Write bitmaps; none where something is missing or damaged."""
    files = task.native_files

    def commits_of(prefix: bytes) -> list[bytes]:
        return list(map(store.oid_of, commit_numbers(store, (ref.oid for ref in refs.iter_refs(prefix)))))

    try:
        site = BitmapSite(
            store=store,
            packs=own,
            objects_dir=task.objects_dir,
            modes=object_modes(task.shared),
            tips=commits_of(b""),
            preferred=[oid for prefix in files.bitmaps.preferred for oid in commits_of(prefix)],
            settings=files.bitmaps,
            with_multi_pack_index=files.multi_pack_index,
        )
        return write_bitmaps(site, Introductions(task.commondir, store.algo, task.shared.bits))
    except GovcError as error:
        log.warning("%s: no bitmaps are written: %s", task.objects_dir, error)
        return Written()


def _has_other_parents(commondir: str) -> bool:
    """Say whether some commits have other parents here than they say: a shallow repository, or grafts."""
    return any(os.path.exists(f"{commondir}/{name}") for name in ("shallow", "info/grafts"))


def is_git_gc_running(commondir: str) -> bool:
    """Say whether a fresh gc.pid is there; git itself ignores one that is older than twelve hours."""
    try:
        age = time.time() - os.stat(f"{commondir}/gc.pid").st_mtime
    except OSError:
        return False
    return age < GC_PID_SECONDS


def _merge(task: MaintenanceTask) -> int:
    if task.precious_objects:
        return 0  # the old packs would have to stay: merging would only add
    algo = find_algorithm(task.algo_name)
    assert algo is not None
    store = ObjectStore.open(task.objects_dir, algo)
    packs = choose_packs_to_merge(store.packs, task.objects_dir)
    if not packs:
        return 0
    version = task.native_files.index_version
    merged = merge_packs(store, packs, task.objects_dir, object_modes(task.shared), index_version=version)
    return len(remove_merged_packs(packs, merged, algo))


def _pack_refs(task: MaintenanceTask) -> int:
    algo = find_algorithm(task.algo_name)
    assert algo is not None
    database = _open_refs(task)
    if not database.is_packing_due(database.load()):
        return 0
    store = ObjectStore.open(task.objects_dir, algo)
    with _lock_owner(task) as owner:
        return database.pack(StorePeeler(store), replace(task.write_options, owner=owner))


class _Locks:
    """The locks of one maintenance (`refs.lock.LockOwner`)."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def next_lock_path(self) -> str:
        """Return a path for one more lock's own file."""
        return self._owner.next_lock_path()

    def break_dead(self, lock_path: str) -> bool:
        """Leave it to the next push: what a dead process held may have to be finished."""
        return False


@contextmanager
def _lock_owner(task: MaintenanceTask) -> Iterator[LockOwner | None]:
    """Give the locks an owner where there is a log: should this process be killed, whoever meets one removes it.

    None where another user runs this: the server could not read what tells whether its process lives.
    """
    folder = log_folder(task.commondir).locks
    shared = task.shared.bits & 0o060
    if not os.path.isdir(folder) or not (shared or os.stat(folder).st_uid == os.geteuid()):
        yield None
        return
    owner = Owner(folder, mode=0o600 | shared)
    try:
        yield _Locks(owner)
    finally:
        owner.close()


def _open_refs(task: MaintenanceTask) -> RefBackend:
    algo = find_algorithm(task.algo_name)
    assert algo is not None
    return open_ref_backend(task.ref_storage, task.refs_gitdir, task.refs_commondir, algo)
