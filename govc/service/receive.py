"""The push conversation over one repository: what receive-pack does, as the protocol's steps in order.

    read commands → receive the pack into quarantine → index it, check connectivity → hidden refs
    → judge each command → move the objects out of quarantine → lock, verify, stage → publish → report

A failure before `publish` leaves no ref changed. Nothing of a refused push stays on disk: the quarantine is removed on
every way out. The reasons in the report are git's own words, since scripts and people read them.

Source: gitprotocol-pack "Pushing Data To a Server", git's builtin/receive-pack.c; rows RP-15..66, RP-90..100.
"""

import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from govc.auth.branches import NO_RULES, BranchRules
from govc.errors import GovcError, LimitExceeded, RefUpdateRefused
from govc.odb.quarantine import KEEP_PREFIX, Migration, MigrationFailed, Quarantine
from govc.pack.limits import IndexLimits
from govc.protocol.errors import ProtocolError, RemoteProtocolError
from govc.protocol.pktline import FLUSH, NEED_DATA, encode_error
from govc.protocol.receive_pack import (
    Command,
    CommandStatus,
    PushRequest,
    PushRequestParser,
    encode_report,
)
from govc.protocol.sideband import KEEPALIVE, Band, frame
from govc.refs.plan import RefUpdate
from govc.repo.helper import HelperSlots, Job, Progress, run_helper
from govc.repo.hooks import LATER_HOOKS, VETO_HOOKS, find_hooks
from govc.repo.journal import NO_OBJECTS, Journal, JournalOptions, StagedObjects
from govc.repo.modes import RefModes, object_modes
from govc.repo.receiving import INLINE_LIMITS, ReceiveResult, ReceiveTask, receive_pack_file
from govc.repo.repository import Repository
from govc.repo.runtime import Breather, Runtime
from govc.repo.server_info import replace_file
from govc.repo.shallow_file import add_shallow
from govc.repo.snapshot import Snapshot
from govc.repo.writing import Origin, RefWriter
from govc.service import dumb
from govc.service.context import RequestContext
from govc.service.identity import committer_ident
from govc.service.judge import CommandJudge
from govc.service.pacing import paced
from govc.service.policy import ReceivePolicy
from govc.service.protection import RefProtection
from govc.service.shown import ShownRefs
from govc.wal.errors import LogError

log = logging.getLogger(__name__)

_T = TypeVar("_T")

READ_BYTES = 128 << 10
PACK_HEADER_BYTES = 12
UNPACK_LIMIT = 100


class BodyReader(Protocol):
    """A request body, decoded."""

    def read(self, size: int, /) -> bytes:
        """Return 1 to `size` bytes, b"" at the end. A body cut short raises RemoteProtocolError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveTools:
    """What a push needs beside the repository.

    `slots` None: everything inline. `inline_bytes_max`: packs up to this size are tried inline. `after_push` is
    called with the repository once refs have moved.
    """

    runtime: Runtime
    slots: HelperSlots | None
    environ: Mapping[str, str]
    limits: IndexLimits
    journal: JournalOptions
    inline_bytes_max: int
    after_push: Callable[[Repository], None]
    clock: Callable[[], float] = time.time


class _Unpacked(GovcError):
    """The pack can't be taken: `reason` for the report's first line, `detail` for band 2."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class ReceiveSession:
    """One push."""

    def __init__(
        self,
        repository: Repository,
        snapshot: Snapshot,
        context: RequestContext,
        tools: ReceiveTools,
        branch_rules: BranchRules,
    ) -> None:
        self._branch_rules = branch_rules
        self._repository = repository
        self._snapshot = snapshot
        self._context = context
        self._tools = tools
        self._policy = ReceivePolicy.from_config(snapshot.config)
        self._shown = ShownRefs(snapshot, "receive", context.namespace)
        self._zero = snapshot.algo.zero
        self._errors: dict[int, str] = {}
        self._commands: tuple[Command, ...] = ()
        self._said: list[bytes] = []
        self._band = False
        self._objects = NO_OBJECTS
        self._new_shallow: frozenset[bytes] = frozenset()

    # The steps

    def serve(self, body: BodyReader) -> Iterator[bytes]:
        """Answer one push. Yields framed bytes. May switch."""
        parser = PushRequestParser(
            self._snapshot.algo,
            allow_atomic=self._policy.advertise_atomic,
            allow_push_options=self._policy.advertise_push_options,
        )
        try:
            request = self._read_request(parser, body)
        except ProtocolError as error:
            log.warning("%s: %s: %s", self._context.request_id, self._snapshot.layout.gitdir, error)
            yield encode_error(getattr(error, "text", str(error)))
            return
        if not request.commands:
            return
        self._commands = request.commands
        self._band = request.side_band
        unpack = "ok"
        try:
            if self._has_veto_hooks():
                _read_to_the_end(body)
            else:
                yield from self._serve_recorded(request, parser.take_rest(), body)
        except _Unpacked as error:
            unpack = error.reason
            log.warning("%s: %s: %s", self._context.request_id, self._snapshot.layout.gitdir, error)
            if error.detail:
                self._say(error.detail)
            self._fail_all("unpacker error")
        yield from self._drain_said()
        yield from self._report(request, unpack)

    def _serve_recorded(self, request: PushRequest, first: bytes, body: BodyReader) -> Iterator[bytes]:
        """Open the log, then receive and update: without a log that can be written nothing is accepted."""
        try:
            journal: Journal = self._tools.runtime.call_blocking(self._repository.journal, self._tools.journal)
        except (LogError, OSError) as error:
            log.error("%s: %s: %s", self._context.request_id, self._snapshot.layout.gitdir, error)
            self._fail_all(error.public_text if isinstance(error, LogError) else "the server's log can not be opened")
            _read_to_the_end(body)
            return
        with journal.arriving():
            if request.wants_pack:
                yield from self._receive_and_update(request, journal, first, body)
            else:
                self._judge_hidden()
                self._update_refs(request, self._snapshot, None)

    def _has_veto_hooks(self) -> bool:
        """Refuse everything where a hook could have refused something: this version runs none."""
        layout, config = self._snapshot.layout, self._snapshot.config
        found = find_hooks(layout, config, VETO_HOOKS)
        for name in found:
            self._say(f"error: this repository has a hook '{name}', which this version of govc does not run")
            self._fail_all(f"{name} hook is not supported")
        for name in find_hooks(layout, config, LATER_HOOKS):
            self._say(f"warning: hook '{name}' is not run by this version of govc")
        return bool(found)

    def _read_request(self, parser: PushRequestParser, body: BodyReader) -> PushRequest:
        while True:
            event = parser.next_event()
            if event is not NEED_DATA:
                assert isinstance(event, PushRequest)
                return event
            data = body.read(READ_BYTES)
            if not data:
                parser.close()
                return PushRequest()
            parser.receive_data(data)

    def _receive_and_update(
        self, request: PushRequest, journal: Journal, first: bytes, body: BodyReader
    ) -> Iterator[bytes]:
        try:
            quarantine = Quarantine(self._snapshot.layout.objects_dir, object_modes(self._snapshot.layout.shared))
        except OSError as error:
            raise _Unpacked("unable to create temporary object directory", error.strerror or "") from error
        with quarantine:
            pack_path, size, count = self._store_pack(quarantine, first, body)
            self._look_again()
            result = yield from self._check_pack(request, quarantine, pack_path, size, count)
            self._note_broken(result)
            if not self._policy.shallow_update:
                self._fail_shallow(result, "shallow update not allowed")
            self._judge_hidden()
            if len(self._errors) == len(self._commands) or (request.atomic and self._errors):
                self._fail_rest_if_atomic(request)
                return
            migration = self._migrate(journal, quarantine, result)
            if migration is None:
                return
            try:
                if result.shallow_tips and self._policy.shallow_update:
                    self._record_shallow(result)
                self._update_refs(request, self._repository.snapshot(), result)
            finally:
                self._tools.runtime.call_blocking(migration.release_keep)

    def _look_again(self) -> None:
        """Take a new snapshot: the pack may have been hours on its way, and what it builds on may have been pruned."""
        try:
            self._snapshot = self._repository.snapshot()
            self._shown = ShownRefs(self._snapshot, "receive", self._context.namespace)
        except GovcError as error:
            raise _Unpacked("unable to read the repository", f"fatal: {error.public_text}") from error
        except OSError as error:
            raise _Unpacked("unable to read the repository", f"fatal: {error.strerror}") from error

    # Receiving the pack

    def _store_pack(self, quarantine: Quarantine, first: bytes, body: BodyReader) -> tuple[str, int, int]:
        """Write the pack into quarantine as it comes; return its path, size in bytes and stated object count."""
        size_max = self._policy.pack_bytes_max
        try:
            descriptor, path = quarantine.create_pack_file()
        except OSError as error:
            raise _Unpacked("unable to create temporary object directory", error.strerror or "") from error
        try:
            header = first
            while len(header) < PACK_HEADER_BYTES:
                data = body.read(READ_BYTES)
                if not data:
                    raise _Unpacked("eof before pack header was fully read")
                header += data
            count = _check_pack_header(header)
            size = 0
            data = header
            breathe = Breather(self._tools.runtime)
            while data:
                breathe()
                size += len(data)
                if size_max and size > size_max:
                    raise _Unpacked(
                        _unpacker(count), f"fatal: pack exceeds maximum allowed size ({_shown_size(size_max)})"
                    )
                _write_all(descriptor, data)
                data = body.read(READ_BYTES)
            return path, size, count
        except RemoteProtocolError as error:
            raise _Unpacked(_unpacker(0), f"fatal: early EOF: {error.text}") from error
        except OSError as error:
            raise _Unpacked(_unpacker(0), f"fatal: write error: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def _check_pack(
        self, request: PushRequest, quarantine: Quarantine, pack_path: str, size: int, count: int
    ) -> Generator[bytes, None, ReceiveResult]:
        """Index the pack and check that the new tips are whole. Yields progress and keepalives."""
        task = ReceiveTask.of(
            self._snapshot,
            quarantine_dir=quarantine.path,
            pack_path=pack_path,
            new_tips=tuple(dict.fromkeys(c.new for c in self._commands if c.new != self._zero)),
            ref_tips=self._ref_tips(),
            client_shallow=frozenset(request.shallows) - self._snapshot.shallow,
            limits=self._tools.limits,
            progress=request.side_band and not request.quiet,
        )
        try:
            if self._tools.slots is None or size <= self._tools.inline_bytes_max:
                result = self._check_inline(task, is_bounded=self._tools.slots is not None)
                if result is not None:
                    yield from self._drain_said()
                    return result
            assert self._tools.slots is not None
            keepalive = self._policy.keepalive_seconds
            work = run_helper(
                Job("receive", task),
                slots=self._tools.slots,
                quiet_seconds=float(keepalive) if keepalive > 0 else 3600.0,
            )
            while True:
                try:
                    item = next(work)
                except StopIteration as stop:
                    outcome: ReceiveResult = stop.value
                    return outcome
                if isinstance(item, Progress):
                    self._say_raw(item.text)
                    yield from self._drain_said()
                elif not isinstance(item, bytes) and self._band and keepalive > 0:
                    yield KEEPALIVE
        except GovcError as error:
            raise _Unpacked(_unpacker(count), f"fatal: {error.public_text}") from error
        except OSError as error:
            raise _Unpacked(_unpacker(count), f"fatal: {error.strerror}") from error

    def _check_inline(self, task: ReceiveTask, *, is_bounded: bool) -> ReceiveResult | None:
        """Do it here; None when the pack turns out to be more than this process should take on."""
        said: list[str] = []
        try:
            return receive_pack_file(
                replace(task, limits=INLINE_LIMITS) if is_bounded else task,
                lambda item: said.append(item.text) if isinstance(item, Progress) else None,
                self._tools.runtime.pause,
                reuse=self._snapshot.store,
            )
        except LimitExceeded:
            if not is_bounded:
                raise
            said.clear()
            return None
        finally:
            for text in said:
                self._say_raw(text)

    def _ref_tips(self) -> frozenset[bytes]:
        key = "ref tips"
        known = self._snapshot.derived.get(key)
        if known is None:
            table = self._snapshot.table
            pause = self._tools.runtime.pause
            tips = {ref.oid for ref in paced(table.iter_refs(), pause)}
            tips.update(self._snapshot.alternate_tips)
            store = self._snapshot.store
            known = frozenset(oid for oid in paced(tips, pause) if store.find(oid, rescan=False) >= 0)
            if len(known) == len(tips):
                self._snapshot.derived[key] = known
        tips_known: frozenset[bytes] = known
        return tips_known

    def _record_shallow(self, result: ReceiveResult) -> None:
        """Let our history end where the pusher's does, before a ref needs it (receive.shallowUpdate)."""
        layout = self._snapshot.layout
        try:
            self._tools.runtime.call_blocking(
                add_shallow, layout, result.new_shallow, self._tools.journal.sleep, RefModes(layout.shared)
            )
            self._new_shallow = result.new_shallow
        except (GovcError, OSError) as error:
            log.error("%s: %s: shallow not updated: %s", self._context.request_id, layout.gitdir, error)
            self._fail_shallow(result, "shallow error")

    def _fail_shallow(self, result: ReceiveResult, reason: str) -> None:
        for index, command in enumerate(self._commands):
            if command.new in result.shallow_tips:
                self._fail(index, reason)

    def _note_broken(self, result: ReceiveResult) -> None:
        for index, command in enumerate(self._commands):
            problem = result.broken_tips.get(command.new)
            if problem is not None and command.new != self._zero:
                self._fail(index, "missing necessary objects")
                self._say(
                    f"error: {problem.reason} {problem.kind} {problem.oid.hex()}"
                    if problem.reason == "missing"
                    else f"error: {problem.kind} {problem.oid.hex()} {problem.reason}"
                )

    def _migrate(self, journal: Journal, quarantine: Quarantine, result: ReceiveResult) -> Migration | None:
        """Make the objects visible, and ready for the record; None, with every command failed, if that can't be."""
        call = self._tools.runtime.call_blocking
        migration: Migration
        try:
            migration, self._objects = call(_migrate_staged, journal, quarantine)
            if result.object_count and not migration.pack_paths:
                raise MigrationFailed("the pack is gone: something prunes the quarantine")
            return migration
        except MigrationFailed as error:
            log.error("%s: %s: %s", self._context.request_id, self._snapshot.layout.gitdir, error)
            self._fail_all("unable to migrate objects to permanent storage")
            return None
        except LogError as error:
            log.error("%s: %s: %s", self._context.request_id, self._snapshot.layout.gitdir, error)
            self._fail_all(error.public_text)
            return None

    # Judging and updating

    def _judge_hidden(self) -> None:
        for index, command in enumerate(self._commands):
            if index not in self._errors and self._shown.is_hidden(command.refname):
                deletes = command.new == self._zero
                self._fail(index, "deny deleting a hidden ref" if deletes else "deny updating a hidden ref")

    def _update_refs(self, request: PushRequest, snapshot: Snapshot, result: ReceiveResult | None) -> None:
        """Judge every command that still stands, then change the refs."""
        self._fail_rest_if_atomic(request)
        judge = CommandJudge(snapshot, self._shown, self._policy, say=self._say, pause=self._tools.runtime.pause)
        protection = RefProtection(self._branch_rules, snapshot, self._shown, run=judge.run, is_signed=False)
        missing_tips = result.missing_tips if result is not None else frozenset[bytes]()
        for index, command in paced(enumerate(self._commands), self._tools.runtime.pause):
            if index in self._errors:
                continue
            reason = judge.judge(command, missing_tips) or protection.judge(command)
            if reason is not None:
                self._fail(index, reason)
                if request.atomic:
                    break
        self._fail_rest_if_atomic(request)
        updates = {
            index: self._ref_update(command, snapshot)
            for index, command in paced(enumerate(self._commands), self._tools.runtime.pause)
            if index not in self._errors
        }
        if updates:
            self._tools.runtime.call_blocking(self._change_refs, request, updates, snapshot)
            if snapshot.config.get_bool("receive.updateserverinfo", False):
                self._update_server_info()
            self._tools.after_push(self._repository)

    def _update_server_info(self) -> None:
        """Write the two files that a plain web server needs to serve the dumb protocol (RP-89)."""
        try:
            snapshot = self._repository.snapshot()
            objects_dir, commondir = snapshot.layout.objects_dir, snapshot.layout.commondir
            replace_file(f"{commondir}/info/refs", dumb.info_refs(snapshot, b""))
            replace_file(f"{objects_dir}/info/packs", dumb.info_packs(snapshot))
        except (GovcError, OSError) as error:
            log.error("%s: server info not updated: %s", self._repository.gitdir, error)

    def _ref_update(self, command: Command, snapshot: Snapshot) -> RefUpdate:
        name = self._shown.full_name(command.refname)
        if command.new == self._zero and (command.old == self._zero or snapshot.store.find(command.old) < 0):
            # As git: a deletion whose old value names nothing that we have doesn't ask for an old value.
            return RefUpdate(name, None, command.new)
        return RefUpdate(name, command.old, command.new)

    def _change_refs(self, request: PushRequest, updates: dict[int, RefUpdate], snapshot: Snapshot) -> None:
        """Change the refs and note what was refused. Runs where blocking is allowed."""
        indexes: dict[bytes, list[int]] = {}
        for index, update in updates.items():
            indexes.setdefault(update.name, []).append(index)
        writer = RefWriter(
            self._repository,
            snapshot,
            self._origin(),
            self._tools.journal,
            clock=self._tools.clock,
            objects=self._objects,
            shallow=sorted(self._new_shallow),
        )
        self._refuse(writer.change(tuple(updates.values()), atomic=request.atomic), indexes)
        self._fail_rest_if_atomic(request)

    def _origin(self) -> Origin:
        context = self._context
        return Origin(
            committer=committer_ident(context, self._tools.environ),
            message=b"push",
            actor=context.remote_user or "",
            address=context.remote_addr or "",
            request_id=context.request_id,
        )

    def _refuse(self, refused: Mapping[bytes, RefUpdateRefused], indexes: Mapping[bytes, list[int]]) -> None:
        for name, error in refused.items():
            for index in indexes.get(name, ()):
                self._fail(index, error.reason)
            if error.detail:
                self._say(f"error: {error.detail}")

    # What was decided and said

    def _fail(self, index: int, reason: str) -> None:
        self._errors.setdefault(index, reason)

    def _fail_all(self, reason: str) -> None:
        for index in range(len(self._commands)):
            self._fail(index, reason)

    def _fail_rest_if_atomic(self, request: PushRequest) -> None:
        if request.atomic and self._errors:
            self._fail_all("atomic push failure")

    def _say(self, text: str) -> None:
        self._said.append(text.encode("utf-8", "surrogateescape") + b"\n")

    def _say_raw(self, text: str) -> None:
        self._said.append(text.encode("utf-8", "surrogateescape"))

    def _drain_said(self) -> Iterator[bytes]:
        """Yield what is to be said on band 2; without a side band there is nowhere to say it."""
        said, self._said = self._said, []
        if self._band:
            for text in said:
                yield frame(Band.PROGRESS, text)

    def _report(self, request: PushRequest, unpack: str) -> Iterator[bytes]:
        if request.report:
            statuses = [
                CommandStatus(refname=command.refname, error=self._errors.get(index))
                for index, command in enumerate(self._commands)
            ]
            report = encode_report(unpack, statuses, request.report)
            yield frame(Band.DATA, report) if self._band else report
        if self._band:
            yield FLUSH


def _read_to_the_end(body: BodyReader) -> None:
    """Read what is left and drop it: a client that is still sending doesn't read the answer."""
    try:
        while body.read(READ_BYTES):
            continue
    except RemoteProtocolError as error:
        log.info("the rest of a refused push broke off: %s", error)


def _migrate_staged(journal: Journal, quarantine: Quarantine) -> tuple[Migration, StagedObjects]:
    """Publish the objects under a `.keep` that names us; nothing is synced here, the record makes it durable."""
    migration = quarantine.migrate(f"{KEEP_PREFIX}{journal.log.owner.token.hex()}")
    try:
        return migration, journal.stage_objects(migration)
    except BaseException:
        migration.release_keep()
        raise


def _check_pack_header(header: bytes) -> int:
    """Return the stated number of objects. Raises _Unpacked with receive-pack's texts (RP-26)."""
    if header[:4] != b"PACK":
        raise _Unpacked("protocol error (pack signature mismatch detected)")
    if int.from_bytes(header[4:8], "big") not in (2, 3):
        raise _Unpacked("protocol error (pack version unsupported)")
    return int.from_bytes(header[8:12], "big")


def _unpacker(count: int) -> str:
    """Return what git says when the program that it would have started gave up (RP-27)."""
    return "unpack-objects abnormal exit" if count < UNPACK_LIMIT else "index-pack abnormal exit"


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _shown_size(size: int) -> str:
    """Return a size as git's strbuf_humanise_bytes does."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size > unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def serve_receive_pack(
    repository: Repository,
    snapshot: Snapshot,
    context: RequestContext,
    body: BodyReader,
    tools: ReceiveTools,
    branch_rules: BranchRules = NO_RULES,
) -> Iterator[bytes]:
    """Answer one POST git-receive-pack. Closing the generator abandons the push: nothing of it stays. May switch."""
    yield from ReceiveSession(repository, snapshot, context, tools, branch_rules).serve(body)
