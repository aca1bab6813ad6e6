"""One repository in memory: the current snapshot, and how a handful of stat calls keeps it true.

`snapshot()` compares what was read with what lies on disk now (docs/architecture.md has the table of files) and reads
again what changed, piece by piece: a push by plain git costs the loose ref that it moved and the pack that it added,
not the rest. Pieces that turn out the same stay the same Python objects, so what was derived from them stays, too.

The order of reading matters: refs before packs. An object is written before the ref that names it, so a pack folder
that is listed after the refs holds what the refs need.

Threads of a WSGI server may share a repository: one at a time looks, and what it finds is published whole. Nothing else
here locks and no call switches greenlets, except where a file system makes a stat wait.
"""

import _thread
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from govc.config.config import Config
from govc.config.loader import SYSTEM_CONFIG_PATH, find_shared_files, load_config
from govc.config.wildmatch import matches
from govc.errors import GovcError, RepositoryNotFound
from govc.graph.commit_graph_file import open_commit_graphs
from govc.graph.commits import CommitTable
from govc.kernels.guard import fault_count
from govc.odb.alternates import parse_alternates_variable
from govc.odb.cache import BaseCache
from govc.odb.store import ObjectStore
from govc.odb.torn import torn_files
from govc.protocol.oid import HashAlgorithm
from govc.refs.backend import REFTABLE, RefBackend, open_ref_backend
from govc.refs.backend_state import RefState
from govc.refs.lock import Sleep
from govc.repo.introductions import Introductions
from govc.repo.journal import Journal, JournalOptions
from govc.repo.layout import RepositoryLayout, find_commondir, read_layout
from govc.repo.open_journal import has_log, open_journal, recover_for_reading
from govc.repo.recovery import RecoveryReport, Site
from govc.repo.snapshot import Snapshot
from govc.repo.watched import WatchedFiles
from govc.repo.worktrees import read_head_branch
from govc.wal.log import LogStatistics
from govc.watch import ClockNs, StatFunction, WatchedFile, read_watched, watch_path

log = logging.getLogger(__name__)

NO_LOG_STATISTICS = LogStatistics(0, 0, 0, 0.0, 0, 0)

OID_FILE_BYTES_MAX = 64 << 20
"""shallow and info/grafts: a line of 41 bytes per commit."""

CONFIG_TRIES = 5
ALTERNATE_TIPS_MAX = 100_000
TURN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all repositories of a process share: environment, delta base cache, object limits, `stat` and its clock."""

    environ: Mapping[str, str]
    base_cache: BaseCache
    object_bytes_max: int
    stat: StatFunction = os.stat
    clock_ns: ClockNs = time.time_ns


@dataclass(frozen=True, slots=True)
class _ConfigPiece:
    config: Config
    layout: RepositoryLayout
    watches: WatchedFiles


@dataclass(frozen=True, slots=True)
class _CutPiece:
    """The shallow file and info/grafts."""

    shallow: frozenset[bytes]
    grafts: Mapping[bytes, tuple[bytes, ...]]
    watches: WatchedFiles


@dataclass(frozen=True, slots=True)
class _AlternateRefs:
    database: RefBackend
    state: RefState
    config: WatchedFile


class Repository:
    """One repository of this process. `gitdir` is absolute; see the story of this module."""

    def __init__(self, gitdir: str, surroundings: Surroundings) -> None:
        self.gitdir = gitdir
        self.identity = identity_of(gitdir)
        self._around = surroundings
        self._config: _ConfigPiece | None = None
        self._refs: RefBackend | None = None
        self._cut: _CutPiece | None = None
        self._store: ObjectStore | None = None
        self._commits: CommitTable | None = None
        self._graphs_of: tuple[int, int] | None = None
        self._alternate_refs: dict[str, _AlternateRefs] = {}
        self._introductions: Introductions | None = None
        self._faults_seen = fault_count()
        self._snapshot: Snapshot | None = None
        self._journal: Journal | None = None
        self.is_recovered = False
        self._counted = NO_LOG_STATISTICS
        self._recoveries: list[RecoveryReport] = []
        self._turn = threading.Lock()
        # Locks of the kernel's threads: threads of a pool may take them, which may wait for ever for one of gevent's.
        # A greenlet that a file system makes wait while it looks keeps no other out.
        self._change = _thread.RLock()
        """Of `_journal`."""
        self._look = _thread.RLock()
        """Of what a snapshot is made of."""

    @property
    def layout(self) -> RepositoryLayout:
        """Folders and format, as of the last snapshot."""
        assert self._config is not None, "snapshot() comes first"
        return self._config.layout

    @property
    def ref_database(self) -> RefBackend:
        """The refs on disk, for transactions."""
        assert self._refs is not None, "snapshot() comes first"
        return self._refs

    @contextmanager
    def writers_turn(self, *, locks_packed: bool = False) -> Iterator[None]:
        """Queue for the one lock that all writers of a stack of reftables need, before a thread is taken for it; with
        `locks_packed`, for that of packed-refs where refs are files.

        Ten writers that wait for a lock file inside the pool of threads would leave none to the one who holds it, when
        he has asked his hook and goes on. After TURN_SECONDS a writer goes on all the same: the lock file decides.
        """
        if self.layout.ref_storage != REFTABLE and not locks_packed:
            yield  # each ref has a lock of its own, and pushes that arrive together share a sync
            return
        has_turn = self._turn.acquire(timeout=TURN_SECONDS)
        try:
            yield
        finally:
            if has_turn:
                self._turn.release()

    def site(self, sleep: Sleep) -> Site:
        """Return where records are applied. Reads the configuration, and no refs: those may be torn."""
        # No lock: this runs in threads beside a hub, whose greenlets must not wait for them. So what is found to
        # have changed is left to the next snapshot.
        known, refs = self._config, self._refs
        config = known
        if config is None or not config.watches.are_current(self._around.stat):
            config = self._load_config()
            if known is None:
                self._config = config
        if refs is None or (known is not None and known.layout != config.layout):
            refs = self._open_refs(config.layout)
            if self._refs is None:
                self._refs = refs
        return Site.of(config.layout, config.config, refs, sleep)

    def needs_recovery(self) -> bool:
        """Say whether `recover` is still to be called. Where there is no log it isn't: nobody takes a thread for that.

        Raises RepositoryRefused.
        """
        if not self.is_recovered and not has_log(find_commondir(self.gitdir)):
            self.is_recovered = True
        return not self.is_recovered

    def recover(self, options: JournalOptions) -> None:
        """Finish what dead processes or a power cut have left, once per opening. Blocks. Raises LogError."""
        if not self.is_recovered:
            report = recover_for_reading(lambda: self.site(options.sleep), find_commondir(self.gitdir), options)
            if report is not None:
                self._recoveries.append(report)
            self.is_recovered = True

    def journal(self, options: JournalOptions) -> Journal:
        """Return the log, opened (and recovered) at the first call. Blocks. Raises LogError."""
        journal = self._journal
        if journal is not None and journal.is_current():
            return journal
        opened, report = open_journal(self.site(options.sleep), options)
        self._recoveries.append(report)
        with self._change:
            other = self._journal
            if other is journal or other is None:
                self._journal, self._counted = opened, NO_LOG_STATISTICS
                return opened
        opened.close()  # another push of this process was quicker: with two, one would not know what the other owes
        return other

    def current_journal(self) -> Journal | None:
        """Return the log if this process has it open and it is still the one on disk. Nothing here waits."""
        journal = self._journal
        return journal if journal is not None and journal.is_current() else None

    def take_log_counts(self) -> tuple[LogStatistics, list[RecoveryReport]]:
        """Return what this process's log has done, and was recovered, since the last call: for metrics."""
        now = self._journal.log.statistics if self._journal is not None else NO_LOG_STATISTICS
        before, self._counted = self._counted, now
        recoveries, self._recoveries = self._recoveries, []
        return now.since(before), [report for report in recoveries if report.kind not in ("clean", "new log")]

    def log_size(self) -> int:
        """Return the bytes of records that no checkpoint covers, of all processes; 0 until this one opens the log."""
        tail = self._journal.log.tail() if self._journal is not None else None
        return tail.log_size if tail is not None else 0

    @property
    def has_journal(self) -> bool:
        """Say whether this process has opened the log for writing."""
        return self._journal is not None

    def close(self) -> None:
        """Let go of the log; a clean end for a process."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    @property
    def descriptor_count(self) -> int:
        """How many files the packs hold open."""
        return self._store.descriptor_count if self._store is not None else 0

    @property
    def last_snapshot(self) -> Snapshot | None:
        """The last snapshot that was taken, true then; None when none was."""
        return self._snapshot

    def snapshot(self) -> Snapshot:
        """Return a snapshot that is true now. Raises GovcError, or OSError when a file can't be read."""
        with self._look:
            return self._take_snapshot()

    def _take_snapshot(self) -> Snapshot:
        old = self._snapshot
        config = self._validate_config()
        refs = self._validate_refs(config.layout, old.refs if old is not None else None)
        cut = self._validate_cut(config.layout)
        store = self._validate_store(config.layout)
        tips = self._alternate_tips(store, config.layout.algo, config.config)
        if (
            old is not None
            and old.config is config.config
            and old.refs.table is refs.table
            and old.store is store
            and old.shallow is cut.shallow
            and old.grafts is cut.grafts
            and old.alternate_tips == tips
            and old.pack_count == len(store.packs)
        ):
            if old.refs is refs:
                return old
            derived = old.derived
        else:
            derived = {}
        assert self._commits is not None
        self._choose_graphs(config, refs, cut, store)
        self._snapshot = Snapshot(
            layout=config.layout,
            config=config.config,
            refs=refs,
            store=store,
            commits=self._commits,
            shallow=cut.shallow,
            grafts=cut.grafts,
            is_partial=_is_partial(config),
            alternate_tips=tips,
            pack_count=len(store.packs),
            introductions=None if cut.shallow or cut.grafts or _is_partial(config) else self._introductions,
            derived=derived,
            lasting=_lasting(old, config.config, refs, store),
        )
        return self._snapshot

    def configured_snapshot(self) -> Snapshot:
        """Return a snapshot of which the configuration is true now; refs and objects may be those of the last one.

        For who will take a true one when it is clear what is wanted: a push, once all of it has come. Or for who relies
        on nothing else of it: what was read of objects by their names is true at any time.
        """
        with self._look:
            old, config = self._snapshot, self._validate_config()
            is_whole = old is not None and old is self._snapshot and fault_count() == self._faults_seen
            if old is not None and is_whole and old.config is config.config:
                return old
        return self.snapshot()

    def watched(self, snapshot: Snapshot) -> list[WatchedFile] | None:
        """Return all files whose stamps prove a snapshot true; None when there is more to it, or when it isn't the last
        one that was taken: another thread may have looked since.
        """
        with self._look:
            store, config, cut = self._store, self._config, self._cut
            if snapshot is not self._snapshot or config is None or cut is None or store is None or self._refs is None:
                return None
            refs, objects = self._refs.watched(snapshot.refs), store.watched_files()
            if refs is None or objects is None or self._around.stat is not os.stat:
                return None
            is_of_it = (
                snapshot.config is config.config
                and snapshot.store is store
                and snapshot.shallow is cut.shallow
                and snapshot.grafts is cut.grafts
                and snapshot.pack_count == len(store.packs)
            )  # not where a look has failed halfway, nor where objects were looked for since
            return [*config.watches.files, *refs, *cut.watches.files, *objects] if is_of_it else None

    # Pieces

    def _validate_config(self) -> _ConfigPiece:
        if self._config is None or not self._config.watches.are_current(self._around.stat):
            old = self._config
            new = self._load_config()
            if old is not None and old.config == new.config and old.layout == new.layout:
                new = _ConfigPiece(old.config, old.layout, new.watches)
            elif old is not None and old.layout != new.layout:
                self._forget_objects()
            self._config = new
        return self._config

    def _forget_objects(self) -> None:
        """The format changed under us: nothing that was read by the old one is kept."""
        self._refs = self._cut = self._store = self._commits = self._introductions = self._snapshot = None

    def _load_config(self) -> _ConfigPiece:
        """Watch what is usually looked at, then load; what else was looked at is watched, and all loaded again.

        The stamps must be older than the reading.
        """
        usual = (path for path, _ in find_shared_files(self._around.environ, SYSTEM_CONFIG_PATH))
        paths: tuple[str, ...] = (*dict.fromkeys(usual), f"{self.gitdir}/config", f"{self.gitdir}/commondir")
        watches = tuple(self._watch_config(path) for path in paths)
        layout: RepositoryLayout | None = None
        for _ in range(CONFIG_TRIES):
            commondir = find_commondir(self.gitdir)
            loaded = load_config(
                environ=self._around.environ,
                gitdir=self.gitdir,
                commondir=commondir,
                head_branch=read_head_branch(self.gitdir, layout),
            )
            layout = read_layout(self.gitdir, loaded.config)
            paths = (*(_where_it_is(path, layout) for path in loaded.watched), f"{self.gitdir}/commondir")
            if tuple(watch.path for watch in watches) == paths:
                return _ConfigPiece(loaded.config, layout, WatchedFiles(watches))
            watches = tuple(self._watch_config(path) for path in paths)
        raise GovcError(f"{self.gitdir}: the list of configuration files keeps changing")

    def _watch_config(self, path: str) -> WatchedFile:
        """Watch what configuration depends on. HEAD as a symbolic link means its text, which no stat tells."""
        if path == f"{self.gitdir}/HEAD" and os.path.islink(path):
            return WatchedFile(path=path, signature=None, is_settled=False)
        return watch_path(path, self._around.stat, self._around.clock_ns)

    def _validate_refs(self, layout: RepositoryLayout, old: RefState | None) -> RefState:
        if self._refs is None:
            self._refs = self._open_refs(layout)
            old = None
        if old is not None and self._refs.is_current(old):
            return old
        state = self._refs.load(old)
        if old is None or old.table is not state.table:
            for warning in state.table.warnings:
                log.warning("%s: %s", self.gitdir, warning)
        return state

    def _open_refs(self, layout: RepositoryLayout) -> RefBackend:
        return open_ref_backend(
            layout.ref_storage,
            layout.refs_gitdir,
            layout.refs_commondir,
            layout.algo,
            stat=self._around.stat,
            clock_ns=self._around.clock_ns,
        )

    def _validate_cut(self, layout: RepositoryLayout) -> _CutPiece:
        old = self._cut
        if old is not None and old.watches.are_current(self._around.stat):
            return old
        shallow_data, shallow_watch = self._read_oid_file(f"{layout.commondir}/shallow")
        grafts_data, grafts_watch = self._read_oid_file(f"{layout.commondir}/info/grafts")
        shallow = frozenset(oid for line in shallow_data.split() if (oid := layout.algo.parse_hex(line)) is not None)
        grafts = parse_grafts(grafts_data, layout.algo)
        watches = WatchedFiles((shallow_watch, grafts_watch))
        if old is not None and (old.shallow, old.grafts) == (shallow, grafts):
            shallow, kept = old.shallow, old.grafts
            self._cut = _CutPiece(shallow, kept, watches)
            return self._cut
        self._cut = _CutPiece(shallow, grafts, watches)
        return self._cut

    def _read_oid_file(self, path: str) -> tuple[bytes, WatchedFile]:
        data, watch = read_watched(
            path, bytes_max=OID_FILE_BYTES_MAX, stat=self._around.stat, clock_ns=self._around.clock_ns
        )
        return data or b"", watch

    def _let_go_of_torn(self, layout: RepositoryLayout) -> None:
        """Open everything again when a page of a file of ours could not be read: it may be cut, or whole again."""
        count = fault_count()
        if count == self._faults_seen:
            return
        places = (layout.commondir, *(self._store.directories if self._store is not None else ()))
        torn = torn_files(places, self._faults_seen)
        self._faults_seen = count
        if torn:
            log.error("%s: can't be read any more: %s", self.gitdir, ", ".join(torn))
            self._store = self._commits = self._introductions = self._graphs_of = self._snapshot = None

    def _validate_store(self, layout: RepositoryLayout) -> ObjectStore:
        self._let_go_of_torn(layout)
        store = self._store
        if store is not None:
            store.refresh()
            if not store.vanished and not store.superseded:
                return store
        self._store = ObjectStore.open(
            layout.objects_dir,
            layout.algo,
            reuse=store,
            extra_alternates=_environment_alternates(self._around.environ),
            cache=self._around.base_cache,
            object_bytes_max=self._around.object_bytes_max,
            stat=self._around.stat,
            clock_ns=self._around.clock_ns,
        )
        if self._introductions is None:
            self._introductions = Introductions(layout.commondir, layout.algo, layout.shared.bits)
        self._commits = CommitTable(self._store, self._introductions.find_commit)
        return self._store

    def _choose_graphs(self, config: _ConfigPiece, refs: RefState, cut: _CutPiece, store: ObjectStore) -> None:
        """Let the commit table ask git's commit-graph files, unless parents may be others than the commits say.

        Nothing depends on these files but speed, so they are looked for again only when packs have come or gone.
        """
        assert self._commits is not None
        allowed = not cut.shallow and not cut.grafts and config.config.get_bool("core.commitgraph", True)
        if not allowed or refs.table.has_prefix(b"refs/replace/"):
            self._commits.graphs = ()
            self._graphs_of = None
            return
        state = (id(store), len(store.packs))
        if self._graphs_of != state:
            self._graphs_of = state
            self._commits.graphs = open_commit_graphs(store.directories, store.algo)

    def _alternate_tips(self, store: ObjectStore, algo: HashAlgorithm, config: Config) -> tuple[bytes, ...]:
        """Return the ref values of the repositories whose objects we borrow, without doubles, in order.

        Only of refs that core.alternateRefsPrefixes names, where it is set.
        """
        alternates = store.directories[1:]
        if not alternates:
            return ()
        patterns = (config.get("core.alternaterefsprefixes") or "").split()
        kept: dict[str, _AlternateRefs] = {}
        tips: dict[bytes, None] = {}
        for objects_dir in alternates:
            gitdir = os.path.dirname(objects_dir)
            if not os.path.isdir(f"{gitdir}/refs"):
                continue
            known = kept[gitdir] = self._validate_alternate(gitdir, algo)
            for ref in known.state.table.iter_refs():
                if patterns and not any(is_below(pattern, os.fsdecode(ref.name)) for pattern in patterns):
                    continue
                tips[ref.oid] = None
                if len(tips) >= ALTERNATE_TIPS_MAX:
                    break
        self._alternate_refs = kept
        return tuple(tips)

    def _validate_alternate(self, gitdir: str, algo: HashAlgorithm) -> _AlternateRefs:
        """Return the refs of an alternate. Of its configuration only where its refs are kept counts."""
        known = self._alternate_refs.get(gitdir)
        if known is None or not known.config.is_current(self._around.stat):
            config = watch_path(f"{gitdir}/config", self._around.stat, self._around.clock_ns)
            database = self._open_refs(replace(_read_alternate_layout(gitdir), algo=algo))
            return _AlternateRefs(database, database.load(known.state if known is not None else None), config)
        if known.database.is_current(known.state):
            return known
        return _AlternateRefs(known.database, known.database.load(known.state), known.config)


def is_below(pattern: str, refname: str) -> bool:
    """Say whether for-each-ref lists a ref for a pattern: one of its folders, or a glob."""
    if refname.startswith(pattern) and (pattern.endswith("/") or refname[len(pattern) :][:1] in ("", "/")):
        return True
    return matches(pattern, refname)


def _where_it_is(path: str, layout: RepositoryLayout) -> str:
    """Return what to watch for a file that configuration depends on: HEAD may be in a stack of reftables."""
    if path != f"{layout.gitdir}/HEAD":
        return path
    return f"{layout.refs_gitdir}/{'reftable/tables.list' if layout.ref_storage == REFTABLE else 'HEAD'}"


def _read_alternate_layout(gitdir: str) -> RepositoryLayout:
    """Return how an alternate keeps its refs; what we can't understand or read is taken for the plain form."""
    try:
        return read_layout(gitdir, load_config(environ={}, gitdir=gitdir, commondir=gitdir).config)
    except (GovcError, OSError) as error:
        log.warning("alternate: %s", error)
        return RepositoryLayout(gitdir=gitdir, commondir=gitdir, objects_dir=f"{gitdir}/objects")


def _lasting(old: Snapshot | None, config: Config, refs: RefState, store: ObjectStore) -> dict[Any, Any]:
    """Return what the last snapshot kept, unless nobody could use it any more."""
    if old is None or old.config is not config or old.store is not store or old.table.packed is not refs.table.packed:
        return {}
    return old.lasting


def identity_of(gitdir: str) -> tuple[int, int]:
    """Return (device, inode) of a folder. Raises RepositoryNotFound when it is gone."""
    try:
        status = os.stat(gitdir)
    except OSError as error:
        raise RepositoryNotFound(gitdir, error.strerror or "not there") from error
    return status.st_dev, status.st_ino


def parse_grafts(data: bytes, algo: HashAlgorithm) -> dict[bytes, tuple[bytes, ...]]:
    """Parse info/grafts: `commit parent...` a line; comments, blank and bad lines are passed over, as git does.

    Source: gitrepository-layout "info/grafts".
    """
    grafts: dict[bytes, tuple[bytes, ...]] = {}
    for line in data.splitlines():
        oids = [algo.parse_hex(word) for word in line.split()]
        if line.startswith(b"#") or not oids or None in oids:
            continue
        known = [oid for oid in oids if oid is not None]
        grafts[known[0]] = tuple(known[1:])
    return grafts


def _is_partial(piece: _ConfigPiece) -> bool:
    """Say whether some remote promises objects: extensions.partialClone or remote.<name>.promisor."""
    return "partialclone" in piece.layout.extensions or piece.config.remembered(_has_promisor)


def _has_promisor(config: Config) -> bool:
    find: Callable[[str], bool | None] = config.find_bool
    return any(bool(find(entry.key)) for _, name, entry in config.iter_section("remote") if name == "promisor")


def _environment_alternates(environ: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(parse_alternates_variable(environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", ""), os.getcwd()))
