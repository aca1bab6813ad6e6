"""The door to the repositories: finds the one that a request names, and offers the services on it.

Everything that `web` (or a program that embeds us) needs goes through `Backend.open` and the handle that it returns. A
handle is made for one request: it holds the snapshot that the request is answered from.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from govc.auth.branches import NO_RULES, BranchRules
from govc.auth.permissions import Policy
from govc.cache.bodies import BodyCache, Chunk, Count, count_nothing
from govc.cache.folder import CacheFolder, CacheUnusable, default_cache_dir
from govc.config.loader import load_protected_config
from govc.errors import GovcError, RepositoryNotFound
from govc.limits.admission import Admission
from govc.limits.watch import NO_WATCH, LimitWatch
from govc.odb.cache import BaseCache
from govc.odb.store import OBJECT_BYTES_MAX
from govc.pack.limits import IndexLimits
from govc.repo.checkpoint_schedule import CheckpointSchedule
from govc.repo.crash_notes import CrashNotes
from govc.repo.discover import FoundRepository, check_ownership, find_repository, resolve_repository_path
from govc.repo.disk_use import DiskUses
from govc.repo.eager_recovery import iter_unretired, recover_all
from govc.repo.helper import HelperSlots, Job, drain, run_helper, start_detached
from govc.repo.index_keeper import IndexKeeper
from govc.repo.journal import JournalOptions
from govc.repo.late_hooks import LateHooksTask, has_late_hooks
from govc.repo.layout import find_commondir
from govc.repo.maintenance_keeper import MaintenanceKeeper
from govc.repo.packing import PackProducer, ProducerLimits
from govc.repo.pool import PoolLimits, RepositoryPool
from govc.repo.proof import PathStamps, Proof, prove, stamp_path, stamp_place
from govc.repo.repository import Repository, Surroundings
from govc.repo.runtime import Runtime, later_blocking
from govc.repo.snapshot import Snapshot
from govc.service import dumb
from govc.service.access import AccessGuard
from govc.service.admitting import ARCHIVE, admitted, wish_of
from govc.service.advertise import Pieces, advertise, advertisement_key
from govc.service.archive import ArchiveTools, serve_upload_archive
from govc.service.audit import NO_AUDIT, AuditLog
from govc.service.context import RECEIVE_PACK, UPLOAD_PACK, RequestContext, is_never_gone
from govc.service.creating import RepositoryCreator, not_made
from govc.service.fetch import FetchTools, serve_upload_pack
from govc.service.known import KnownListing
from govc.service.policy import getanyfile_enabled, service_enabled
from govc.service.push_limits import PushLimits
from govc.service.push_places import PushPlaces
from govc.service.receive import serve_receive_pack
from govc.service.receive_tools import ReceiveTools
from govc.service.unpacking import BodyReader
from govc.service.words import known_answer, known_body, words_key
from govc.settings import Settings

log = logging.getLogger(__name__)

REQUEST_BYTES_DEFAULT = 10 << 20


CountLog = Callable[[str, float], None]
"""Told a field of LogStatistics, "recoveries" or "torn_records", and how much it has grown."""


def count_no_log(_what: str, _number: float) -> None:
    """Count nothing: where nobody asks for metrics."""


class _Proved(NamedTuple):
    """The snapshot of a path in a URL, and what shows that it is still true."""

    proof: Proof
    gitdir: str
    repository: Repository
    snapshot: Snapshot
    look: object
    """Stands for this proof: whoever keeps it keeps nothing else alive."""


class Backend:
    """The services over one folder of repositories."""

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        environ: Mapping[str, str] | None = None,
        policy: Callable[[], Policy] | None = None,
        *,
        count_body: Count = count_nothing,
        count_log: CountLog = count_no_log,
        audit: AuditLog = NO_AUDIT,
        note_pool: Callable[[int, int], None] | None = None,
        count_helpers: Callable[[str, int, int], None] | None = None,
        watch_sync: Callable[[float], None] | None = None,
        note_log_size: Callable[[int], None] | None = None,
        admission: Admission | None = None,
        limit_watch: LimitWatch = NO_WATCH,
    ) -> None:
        """`environ` is the server's own environment, in which git's variables count; by default os.environ as it is
        now, since that costs several calls for each question. `policy` gives the permissions of this moment; None:
        git's own rules are all there is.

        Told of what happens: `count_body` what the cache of bodies does, `count_log` what the logs of repositories do,
        `audit` who fetches and pushes what, `note_pool` how many repositories and descriptors are open,
        `count_helpers` a sort of work and by how much its busy and waiting helpers have become more, `watch_sync` the
        seconds of each sync of a log, `note_log_size` what the largest log holds that no checkpoint covers,
        `limit_watch` what limits refuse. `admission` says who may work now; None: everybody.
        """
        self._note_log_size = note_log_size
        self._count_log = count_log
        self.audit = audit
        self.settings = settings
        self.runtime = runtime
        self.environ: Mapping[str, str] = dict(os.environ) if environ is None else environ
        self._guard = AccessGuard(policy, settings.root or "/") if policy is not None else None
        around = Surroundings(
            environ=self.environ,
            base_cache=BaseCache(settings.object_cache_bytes),
            object_bytes_max=min(settings.object_bytes_max, OBJECT_BYTES_MAX),
        )
        self._creator: RepositoryCreator | None = None
        if settings.create_on_push and settings.root is not None:
            self._creator = RepositoryCreator(settings.root, around, self.environ)
        self.crashes = CrashNotes(settings.cache_dir or default_cache_dir(self.environ))
        self.pool = RepositoryPool(
            around, PoolLimits(repositories_max=settings.repositories_max), admit=self.crashes.check
        )
        self._places = PushPlaces(self.pool, settings.repositories_max)
        self._note_pool = note_pool
        self._noted_pool = (0, 0)
        self._log_sizes: dict[str, int] = {}

        def make_slots(work: str, count: int) -> HelperSlots:
            if count_helpers is None:
                return HelperSlots(count)
            count_helpers(work, 0, 0)
            return HelperSlots(count, partial(count_helpers, work))

        slots = make_slots("requests", settings.helper_processes_max) if settings.helper_processes_max else None
        self._slots = slots
        # Maintenance has a slot of its own: it must never make a push or a clone wait.
        self._maintenance_slots = make_slots("maintenance", 1) if slots is not None else None
        self._maintenance = MaintenanceKeeper(self._maintenance_slots)
        self._proved: dict[str, _Proved] = {}
        self.journal_options = JournalOptions(
            durability=settings.durability,
            batch_seconds=settings.durability_batch_ms / 1000,
            bytes_max=settings.log_bytes_max,
            gather_seconds=settings.log_gather_ms / 1000,
            archive_dir=settings.log_archive_dir or "",
            later=later_blocking(runtime),
            sleep=runtime.lock_sleep,
            watch_sync=watch_sync,
        )
        self._checkpoints = CheckpointSchedule(
            runtime,
            self._maintenance_slots,
            bytes_min=settings.checkpoint_bytes,
            seconds=settings.checkpoint_seconds,
            archive_dir=settings.log_archive_dir or "",
            count=self._count_checkpoint,
        )
        self._index_keeper = IndexKeeper(
            runtime, make_slots("index", 1) if slots is not None else None, enabled=settings.introductions
        )
        self.fetch_tools = FetchTools(
            runtime=runtime,
            producer=PackProducer(runtime, slots, ProducerLimits(), self._index_keeper.want),
            environ=self.environ,
            bodies=BodyCache(
                open_cache_folder(settings, self.environ),
                sleep=runtime.sleep,
                call_blocking=runtime.call_blocking,
                count=count_body,
            ),
            admission=admission,
            haves_max=settings.haves_max,
            watch=limit_watch,
        )
        self.admission = admission
        self.archive_tools = ArchiveTools(runtime=runtime, slots=slots, environ=self.environ)
        self.receive_tools = ReceiveTools(
            runtime=runtime,
            slots=slots,
            environ=self.environ,
            limits=IndexLimits(
                object_bytes_max=settings.object_bytes_max,
                delta_result_bytes_max=settings.delta_result_bytes_max,
            ),
            inline_bytes_max=settings.helper_threshold_bytes,
            detects=settings.sha1_collision_detection,
            threads=settings.index_threads or max(1, (os.cpu_count() or 1) // 2),
            journal=self.journal_options,
            after_push=self._after_push,
            hook_seconds_max=settings.hook_seconds_max,
            audit=audit,
            admission=admission,
            push_limits=PushLimits(
                refs_per_push_max=settings.push_refs_max,
                refs_max=settings.refs_max,
                pack_bytes_max=settings.pack_bytes_max,
                repository_bytes_max=settings.repository_bytes_max,
                watch=limit_watch,
                disk_uses=DiskUses(settings.repositories_max),
            ),
        )

    def open(self, path_info: str, *, context: RequestContext) -> "Handle":
        """Return the repository at the URL path `path_info` (surrogateescape, service part cut off).

        Without a root in the settings the path is one on disk. Raises RepositoryNotFound (404), RepositoryRefused,
        PathRefused, BadConfig (500), AccessDenied (403, 404).
        """
        access = self._guard.check_name(path_info, context) if self._guard is not None else None
        self._hear_of_crashes()
        proved = self._proved.get(path_info)
        if proved is not None and context.service != RECEIVE_PACK:
            if proved.proof.holds():
                self.pool.note_use(proved.repository)
                if self._guard is not None and access is not None:
                    self._guard.check_place(access, proved.gitdir, context)
                return Handle(self, proved.repository, proved.snapshot, context)
            self._proved.pop(path_info, None)  # another thread may have been quicker
        is_push = context.service == RECEIVE_PACK
        place = self._places.find(path_info) if is_push else None
        stamps = self._stamp(path_info, is_push=is_push) if place is None else None
        try:
            found = place.found if place is not None else self._find(path_info)
        except RepositoryNotFound:
            if self._creator is None or not is_push:
                raise
            stand_in = self._create(self._creator, path_info, context)
            if stand_in is not None:
                return stand_in
            stamps = None
            found = self._find(path_info)  # made just now, by us or by somebody else; or none may be made
        if self._guard is not None and access is not None:
            access = self._guard.check_place(access, found.gitdir, context)
        if place is not None:
            repository = place.repository
        else:
            if is_push:
                self._check_link_target(found)
            repository = self.pool.get(found.gitdir)
            if is_push and stamps is not None:
                self._places.keep(path_info, stamps, found, repository)
        if not repository.is_recovered:
            if repository.needs_recovery():
                self.runtime.call_blocking(repository.recover, self.journal_options)
            self._run_late_hooks(repository.gitdir)
        if is_push and not context.is_discovery:
            snapshot = repository.configured_snapshot()  # the push takes one when all of it has come
        else:
            snapshot = repository.snapshot()
        self.pool.trim(repository)
        self._tell_pool()
        if stamps is not None and not is_push:
            self._keep_proof(path_info, stamps, found, repository, snapshot)
        rules = access.branch_rules() if access is not None and is_push else NO_RULES
        return Handle(self, repository, snapshot, context, rules)

    def _hear_of_crashes(self) -> None:
        if self.crashes.take_news():
            self._proved.clear()
            self._places.clear()
            self.pool.admit_again()

    def known_listing(
        self, path_info: str, snapshot: Snapshot, context: RequestContext, body: bytes | None
    ) -> KnownListing | None:
        """Return where the answer to a request is that was just answered from `snapshot`; None: nowhere.

        `body` None: it was for the advertisement.
        """
        proved = self._proved.get(path_info)
        if proved is None or proved.snapshot is not snapshot or context.service != UPLOAD_PACK:
            return None
        if body is not None and (context.protocol_version != 2 or self.audit.is_kept):
            return None
        key = advertisement_key(context) if body is None else words_key(context, body)
        if key in snapshot.derived:
            return KnownListing(path_info, context, key, proved.look)
        known = known_body(snapshot, context, body) if body is not None else None
        return KnownListing(path_info, context, key, proved.look, known.key) if known is not None else None

    def known_place(self, path_info: str, snapshot: Snapshot, context: RequestContext) -> KnownListing | None:
        """Return where `snapshot` is to be had again for who asks as `context` says; None: nowhere."""
        proved = self._proved.get(path_info)
        if proved is None or proved.snapshot is not snapshot or context.service != UPLOAD_PACK:
            return None
        return KnownListing(path_info, replace(context, is_gone=is_never_gone), (), proved.look)

    def open_known(self, known: KnownListing, context: RequestContext) -> "Handle | None":
        """Return the repository for another request of the same caller, when nothing has changed since; None: it has
        to be opened in full. Raises AccessDenied.
        """
        proved = self._find_unchanged(known)
        return Handle(self, proved.repository, proved.snapshot, context) if proved is not None else None

    def answer_known(self, known: KnownListing) -> bytes | None:
        """Return the answer, when nothing has changed since; None: ask in full. Raises AccessDenied."""
        proved = self._find_unchanged(known)
        answer: bytes | None = proved.snapshot.derived.get(known.key) if proved is not None else None
        return answer

    def stream_known(self, known: KnownListing) -> Iterator[Chunk] | None:
        """The same for a body that is kept: its spans, none when it is not there any more. Raises AccessDenied."""
        if known.body_key is None or self._find_unchanged(known) is None:
            return None
        return self.fetch_tools.bodies.serve_whole(known.body_key)

    def _find_unchanged(self, known: KnownListing) -> _Proved | None:
        """Return what an answer was given from, if the same question still leads to it."""
        access = self._guard.check_name(known.path_info, known.context) if self._guard is not None else None
        self._hear_of_crashes()
        proved = self._proved.get(known.path_info)
        if proved is None or proved.look is not known.look or not proved.proof.holds():
            return None
        self.pool.note_use(proved.repository)
        if self._guard is not None and access is not None:
            self._guard.check_place(access, proved.gitdir, known.context)
        return proved

    def _stamp(self, path_info: str, *, is_push: bool) -> PathStamps | None:
        root = self.settings.root
        stamp = stamp_place if is_push else stamp_path
        return stamp(resolve_repository_path("/" if root is None else root, path_info))

    def _find(self, path_info: str) -> FoundRepository:
        root = self.settings.root
        return find_repository(
            "/" if root is None else root, path_info, export_all=self.settings.export_all, environ=self.environ
        )

    def _create(self, creator: RepositoryCreator, path_info: str, context: RequestContext) -> "Handle | None":
        """Make the repository that a push wants. A handle on an empty one instead, when this is not the push itself.

        Nothing is made where none may be. Whether the caller has a right to the name was asked before.
        """
        place = creator.find_place(path_info)
        if place is None:
            return None
        try:
            if context.is_discovery or not service_enabled(creator.config(), RECEIVE_PACK, context.remote_user):
                empty: Repository = self.runtime.call_blocking(creator.empty)
                return Handle(self, empty, empty.snapshot(), context)
            if self.runtime.call_blocking(creator.create, place):
                log.info("%s: %s made, on a push by %s", context.request_id, place, context.remote_user or "anybody")
                self.audit.note_created(context, place)
        except OSError as error:
            log.error("%s: %s can't be made: %s", context.request_id, place, error)
            raise not_made(path_info, error) from error
        return None

    def _count_checkpoint(self, what: str, number: float) -> None:
        self._count_log(what, number)
        self._log_sizes = {each.gitdir: each.log_size() for each in self.pool.opened() if each.has_journal}
        self._tell_log_size()

    def _tell_log_size(self) -> None:
        if self._note_log_size is not None:
            self._note_log_size(max(self._log_sizes.values(), default=0))

    def count_log(self, repository: Repository) -> None:
        """Tell the metrics what a repository's log has done since last time."""
        done, recoveries = repository.take_log_counts()
        for name, value in done._asdict().items():
            if value:
                self._count_log(name, value)
        for report in recoveries:
            self._count_log("recoveries", 1)
            self._count_log("torn_records", report.torn_records)
        # Of the others as of their last push here, or the last checkpoint: they are many, and each is a read.
        self._log_sizes[repository.gitdir] = repository.log_size()
        self._tell_log_size()

    def _tell_pool(self) -> None:
        if self._note_pool is None:
            return
        statistics = self.pool.statistics()
        now = (statistics.repositories, statistics.descriptors)
        if now != self._noted_pool:
            self._noted_pool = now
            self._note_pool(*now)

    def start(self) -> None:
        """Gather the crashes of dead workers, and recover, in the background, what an earlier life of the server has
        left. Once per process."""
        self.crashes.begin()
        if self.settings.root is not None and self.runtime.later is not None:
            root = self.settings.root
            self.runtime.later(0, lambda: self._recover_all(root))

    def _recover_all(self, root: str) -> None:
        done = self.runtime.call_blocking(recover_all, root, replace(self.journal_options, later=None))
        for gitdir in iter_unretired(root):
            self._run_late_hooks(gitdir)
        if done:
            log.info("recovered %d repositories at start: %s", len(done), done)

    def _keep_proof(
        self, path_info: str, stamps: PathStamps, found: FoundRepository, repository: Repository, snapshot: Snapshot
    ) -> None:
        """Make the next request for this path cheaper, if nothing changes until then."""
        watched = repository.watched(snapshot)
        proof = prove(stamps, found, watched) if watched is not None else None
        if proof is None:
            return
        if len(self._proved) >= self.settings.repositories_max:
            self._proved.clear()
        self._proved[path_info] = _Proved(proof, found.gitdir, repository, snapshot, object())

    def _run_late_hooks(self, gitdir: str) -> None:
        """Start what runs the hooks that a dead process owes; nobody waits for it."""
        try:
            if not has_late_hooks(find_commondir(gitdir)):
                return
            job = Job("late hooks", LateHooksTask(gitdir=gitdir, seconds_max=self.settings.hook_seconds_max))
            if self.runtime.later is None or self._maintenance_slots is None:
                start_detached(job)
            else:
                self.runtime.later(0, lambda: self._tell_late(gitdir, job))
        except (GovcError, OSError) as error:
            log.error("%s: hooks of a dead process: %s", gitdir, error)

    def _tell_late(self, gitdir: str, job: Job) -> None:
        assert self._maintenance_slots is not None
        try:
            count = drain(run_helper(job, slots=self._maintenance_slots))
            log.warning("%s: hooks of %d pushes were told late: their process had died", gitdir, count)
        except (GovcError, OSError) as error:
            log.error("%s: hooks of a dead process: %s", gitdir, error)

    def close(self) -> None:
        """End cleanly: checkpoint the logs that this process has written to. Blocks."""
        for repository in self.pool.opened():
            self._checkpoints.finish(repository, self.journal_options)
            repository.close()
        if self._creator is not None:
            self._creator.close()
        self.audit.close()
        self.crashes.close()

    def _check_link_target(self, found: FoundRepository) -> None:
        """A push also asks who owns what a symbolic link leads to, as git-receive-pack does."""
        if os.path.islink(found.gitdir):
            config = load_protected_config(self.environ).config
            check_ownership(found, config, environ=self.environ, euid=os.geteuid(), follows_links=True)

    def _after_push(self, repository: Repository, tips: Iterable[bytes]) -> None:
        """Start maintenance and checkpoints when a push has made them due; nobody waits for them."""
        self._checkpoints.note_push(repository, self.journal_options)
        self._index_keeper.note_push(repository, tips)
        self._maintenance.note_push(repository)


def open_cache_folder(settings: Settings, environ: Mapping[str, str]) -> CacheFolder | None:
    """Return the folder of the cache of bodies; None when it is switched off or can't be used, which the log says."""
    if not settings.cache_bytes_max:
        return None
    path = settings.cache_dir if settings.cache_dir is not None else default_cache_dir(environ)
    try:
        return CacheFolder(path, settings.cache_bytes_max, group_reads=bool(settings.accel_location))
    except CacheUnusable as error:
        log.warning("answers are not cached: %s", error)
        return None


class Handle:
    """One repository as one request sees it."""

    def __init__(
        self,
        backend: Backend,
        repository: Repository,
        snapshot: Snapshot,
        context: RequestContext,
        branch_rules: BranchRules = NO_RULES,
    ) -> None:
        self._backend = backend
        self._context = context
        self._namespace = context.namespace
        self._branch_rules = branch_rules
        self.repository = repository
        self.snapshot = snapshot
        self.in_use = backend.crashes.enter(repository.gitdir)

    def service_enabled(self, service: str, remote_user: str | None) -> bool:
        """Say whether http.uploadpack, http.receivepack or http.uploadarchive allow the service to this user."""
        return service_enabled(self.snapshot.config, service, remote_user)

    def getanyfile_enabled(self) -> bool:
        """Say whether http.getanyfile allows the dumb routes."""
        return getanyfile_enabled(self.snapshot.config)

    def max_request_bytes(self) -> int:
        """Return the limit of a fetch request, in bytes: GIT_HTTP_MAX_REQUEST_BUFFER, else http.maxRequestBuffer."""
        given = self._backend.settings.max_request_buffer
        if given is None:
            return self.snapshot.config.get_unsigned("http.maxrequestbuffer", REQUEST_BYTES_DEFAULT)
        return given

    def known_listing(self, path_info: str, context: RequestContext, body: bytes | None) -> KnownListing | None:
        """Return where the answer that was just given is, so that it can be had again; None: nowhere."""
        return self._backend.known_listing(path_info, self.snapshot, context, body)

    def known_place(self, path_info: str, context: RequestContext) -> KnownListing | None:
        """Return where this is to be had again for who asks as `context` says; None: nowhere."""
        return self._backend.known_place(path_info, self.snapshot, context)

    def advertise(self, context: RequestContext) -> bytes | Pieces:
        """Return the whole body of a smart info/refs answer."""
        return advertise(self.snapshot, context, self._backend.environ, self._backend.runtime)

    def upload_pack(self, context: RequestContext, body: bytes) -> bytes | Iterator[Chunk]:
        """Answer a fetch request; at once, when the answer is known."""
        tools, audit = self._backend.fetch_tools, self._backend.audit
        if not audit.is_kept:
            known = known_answer(self.snapshot, context, body)
            if known is not None:
                return known
            return serve_upload_pack(self.snapshot, context, body, tools)
        return audit.watch_fetch(
            context,
            self.repository.gitdir,
            lambda note_wants: serve_upload_pack(self.snapshot, context, body, tools, note_wants),
        )

    def upload_archive(self, context: RequestContext, body: bytes) -> Iterator[bytes]:
        """Answer a request for an archive."""
        chunks = self._make_archive(context, body)
        audit = self._backend.audit
        return audit.watch_archive(context, self.repository.gitdir, chunks) if audit.is_kept else chunks

    def _make_archive(self, context: RequestContext, body: bytes) -> Iterator[bytes]:
        with admitted(self._backend.admission, wish_of(context, ARCHIVE, self.repository.gitdir)):
            yield from serve_upload_archive(self.snapshot, context, body, self._backend.archive_tools)

    def receive_pack(self, context: RequestContext, body: BodyReader) -> Iterator[bytes]:
        """Answer a push, reading its body as it comes."""
        try:
            yield from serve_receive_pack(
                self.repository, self.snapshot, context, body, self._backend.receive_tools, self._branch_rules
            )
        finally:
            self._backend.count_log(self.repository)

    def dumb_info_refs(self) -> bytes:
        """Return the refs as `oid TAB name` lines."""
        return dumb.info_refs(self.snapshot, self._namespace)

    def dumb_head(self) -> bytes:
        """Return what HEAD says; b"" when unborn."""
        return dumb.head(self.snapshot, self._namespace)

    def dumb_info_packs(self) -> bytes:
        """Return the local packs."""
        return dumb.info_packs(self.snapshot)

    def dumb_file(self, kind: str, relative: str) -> str | None:
        """Return the path on disk of a file of the repository, or None."""
        path = dumb.find_file(self.snapshot, kind, relative)
        if path is not None:
            self._backend.audit.note_file(self._context, self.repository.gitdir, relative)
        return path
