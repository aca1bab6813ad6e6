"""The push conversation over one repository: what receive-pack does, as the protocol's steps in order.

    read commands → receive the pack into quarantine → index it, check connectivity → hidden refs → pre-receive
    → move the objects out of quarantine → proc-receive → judge each command, ask update → lock, verify, stage → publish
    → report → post-receive, post-update → maintenance

Where nothing looks at the objects in between (no hook, no work tree), they move only when every command was judged, in
the call that changes the refs. What a push is judged by is a snapshot that was taken when all of it had come; what
stands on the old value of its one ref alone is judged by that value, and needs none (`_find_on_old`).

A failure before `publish` leaves no ref changed. Nothing of a refused push stays on disk: the quarantine is removed on
every way out. The reasons in the report are git's own words, since scripts and people read them.

A client that goes away before refs have moved ends the push, hooks and all. After that the push is finished without it:
what was accepted has its post-receive run whoever listens.

Each step is in a room of its own: `unpacking`, `push_hooks`, `ref_changes`; `push_state` keeps what has become of each
command.

Source: gitprotocol-pack "Pushing Data To a Server", git's builtin/receive-pack.c; rows RP-15..66, RP-90..100.
"""

import logging
import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from govc.auth.branches import NO_RULES, BranchRules
from govc.errors import GovcError
from govc.graph.commits import CommitTable
from govc.kernels.indexing import find_compiled
from govc.odb.lone_pack import LonePack
from govc.odb.quarantine import Quarantine
from govc.phases import RECEIVE, Timed
from govc.protocol.errors import ProtocolError, RemoteProtocolError
from govc.protocol.pktline import NEED_DATA, encode_error
from govc.protocol.proc_receive import matches_any
from govc.protocol.receive_pack import PushRequest, PushRequestParser
from govc.refs.backend import REFTABLE
from govc.refs.loose import LooseRef
from govc.repo.hook_environ import hook_environ
from govc.repo.journal import Journal
from govc.repo.modes import RefModes, object_modes
from govc.repo.push_hooks import EARLY_HOOKS, LATE_HOOKS, HookSurroundings, PushHooks, run_late_hooks
from govc.repo.receiving import ReceiveResult
from govc.repo.repository import Repository
from govc.repo.runtime import Breather, Runtime
from govc.repo.server_info import replace_file
from govc.repo.shallow_file import add_shallow
from govc.repo.signed_push import SignedPush
from govc.repo.snapshot import Snapshot
from govc.repo.writing import Origin
from govc.service import dumb
from govc.service.admitting import PUSH, admitted, wish_of
from govc.service.audit import REFUSAL as AUDIT_REFUSAL
from govc.service.context import RequestContext
from govc.service.identity import committer_ident, committer_variables
from govc.service.last_chunk import LastChunk
from govc.service.policy import DenyAction, ReceivePolicy
from govc.service.push_limits import PushRoom
from govc.service.push_state import PushState
from govc.service.pushed_objects import NotMoved, PushedObjects
from govc.service.receive_tools import ReceiveTools
from govc.service.ref_changes import PushSurroundings, RefChanges
from govc.service.shown import ShownRefs
from govc.service.unpacking import READ_BYTES, BodyReader, NotUnpacked, OnOld, ReadAhead, Unpacker
from govc.wal.errors import LogError

log = logging.getLogger(__name__)

SERVER_INFO_ROUNDS_MAX = 10
"""So often info/refs is written for one push while others go on: whose end it misses then writes it for all."""

EXPECTED_MAX = 16
"""So many pushes in a row are taken in without a look at the folders: their packs stay open until there is one."""


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
        self._policy = snapshot.config.remembered(ReceivePolicy.from_config)
        self._shown = ShownRefs(snapshot, "receive", context.namespace)
        self._zero = snapshot.algo.zero
        self._changes: RefChanges | None = None
        self._has_late_hooks = False
        self._arrival: object = None
        self._on_old: OnOld | None = None

    # The steps

    def serve(self, body: BodyReader) -> Iterator[bytes]:
        """Answer one push. Yields framed bytes. May switch."""
        steps = self._answer(body)
        try:
            # Not `yield from`, which would end the steps when the client goes away.
            for chunk in steps:  # noqa: UP028
                yield chunk
        finally:
            if self._has_moved:
                for _ in steps:
                    continue
            steps.close()

    @property
    def _has_moved(self) -> bool:
        return self._changes is not None and self._changes.has_moved

    def _answer(self, body: BodyReader) -> Generator[bytes, None, None]:
        parser = PushRequestParser(
            self._snapshot.algo,
            allow_atomic=self._policy.advertise_atomic,
            allow_push_options=self._policy.advertise_push_options,
            command_bytes_max=self._tools.push_limits.command_bytes_max,
            tick=Breather(self._tools.runtime),
        )
        try:
            request = self._read_request(parser, body)
        except ProtocolError as error:
            log.warning("%s: %s: %s", self._context.request_id, self._snapshot.layout.gitdir, error)
            yield encode_error(getattr(error, "text", str(error)))
            return
        if not request.commands:
            return
        with admitted(self._tools.admission, wish_of(self._context, PUSH, self._repository.gitdir)):
            state = PushState(request, self._tools.runtime.pause)
            hooks = self._make_hooks(request)
            yield from self._take_in(state, hooks, ReadAhead(parser.take_rest(), body))
        self._tools.audit.note_push(self._context, self._repository.gitdir, state)
        if hooks.has_any(LATE_HOOKS) or self._updates_server_info():
            yield from state.drain()
            yield from state.iter_report()
            yield from self._follow_up(state, hooks)
            yield from state.iter_end()
            return
        # Nobody says anything any more: one piece, which leaves in one write, before what follows.
        if answer := b"".join((*state.drain(), *state.iter_report(), *state.iter_end())):
            yield LastChunk(answer)
        yield from self._follow_up(state, hooks)

    def _take_in(self, state: PushState, hooks: PushHooks, body: ReadAhead) -> Iterator[bytes]:
        try:
            if state.request.wants_pack:
                body.fill(READ_BYTES)
            self._on_old = self._find_on_old(state, hooks, body)
            if self._on_old is None:
                self._look()
            room = PushRoom(self._tools.push_limits, self._snapshot, self._tools.runtime)
            if not state.request.options_agree:
                state.fail_all("inconsistent push options")
            if room.check_commands(state) and state.is_lost:
                _read_to_the_end(body, self._tools.runtime)
            elif self._tools.audit.accepts_push(self._context, self._repository.gitdir, state):
                yield from self._serve_recorded(state, hooks, room, body)
            else:
                state.fail_all(AUDIT_REFUSAL)
                _read_to_the_end(body, self._tools.runtime)
        except NotUnpacked as error:
            state.unpack = error.reason
            log.warning("%s: %s: %s", self._context.request_id, self._snapshot.layout.gitdir, error)
            if error.detail:
                state.say(error.detail)
            state.errors.clear()
            state.fail_all("unpacker error")
        except BaseException:
            self._tools.audit.note_push(self._context, self._repository.gitdir, state, broke_off=True)
            raise

    def _serve_recorded(self, state: PushState, hooks: PushHooks, room: PushRoom, body: ReadAhead) -> Iterator[bytes]:
        """Open the log, then receive and update: without a log that can be written nothing is accepted."""
        try:
            journal: Journal = self._repository.current_journal() or self._tools.runtime.call_blocking(
                self._repository.journal, self._tools.journal
            )
        except (LogError, OSError) as error:
            log.error("%s: %s: %s", self._context.request_id, self._snapshot.layout.gitdir, error)
            state.fail_all(error.public_text if isinstance(error, LogError) else "the server's log can not be opened")
            _read_to_the_end(body, self._tools.runtime)
            return
        with self._arriving(journal, hooks) as self._arrival:
            if state.request.wants_pack:
                unpacker = Unpacker(state, self._policy, self._tools, room)
                yield from self._receive_and_update(state, hooks, journal, unpacker, body)
            else:
                yield from self._decide(state, hooks, journal, None, None)

    def _arriving(self, journal: Journal, hooks: PushHooks) -> AbstractContextManager[object]:
        """Let a sync wait for this push, if it is soon done: it is small, and waits for no hook, nor for who syncs."""
        length = self._context.environ.get("CONTENT_LENGTH", "")
        is_small = length.isdigit() and int(length) <= self._tools.inline_bytes_max
        has_one_lock = self._snapshot.layout.ref_storage == REFTABLE
        is_soon_done = is_small and not has_one_lock and not hooks.has_any(EARLY_HOOKS)
        return journal.arriving() if is_soon_done else nullcontext()

    def _read_request(self, parser: PushRequestParser, body: BodyReader) -> PushRequest:
        breathe = Breather(self._tools.runtime)  # some kilobytes may unfold to millions of commands
        while True:
            event = parser.next_event()
            if event is not NEED_DATA:
                assert isinstance(event, PushRequest)
                return event
            breathe()
            data = body.read(READ_BYTES)
            if not data:
                parser.close()
                return PushRequest()
            parser.receive_data(data)

    def _receive_and_update(
        self, state: PushState, hooks: PushHooks, journal: Journal, unpacker: Unpacker, body: ReadAhead
    ) -> Iterator[bytes]:
        try:
            quarantine = self._make_quarantine(state, hooks, body)
        except OSError as error:
            raise NotUnpacked("unable to create temporary object directory", error.strerror or "") from error
        with quarantine:
            with Timed(RECEIVE):
                had_come = body.has_ended
                pack_path, size, count = unpacker.store_pack(quarantine, body)
            if not had_come:
                self._look()  # it may have been hours on its way, and what it builds on may have been pruned
                hooks.look_again(self._snapshot.config)
            result = yield from unpacker.check_pack(self._snapshot, quarantine, pack_path, size, count, self._on_old)
            self._note_broken(state, result)
            if not self._policy.shallow_update:
                self._fail_shallow(state, result, "shallow update not allowed")
            yield from self._decide(state, hooks, journal, quarantine, result)

    def _make_quarantine(self, state: PushState, hooks: PushHooks, body: ReadAhead) -> Quarantine:
        """Return where the pack is received: without a folder if it is small and nobody looks there. OSError."""
        layout = self._snapshot.layout
        kind = LonePack if self._may_lie_alone(state, hooks, body) else Quarantine
        return kind(layout.objects_dir, object_modes(layout.shared))

    def _may_lie_alone(self, state: PushState, hooks: PushHooks, body: ReadAhead) -> bool:
        policy = self._policy
        is_looked_at = (
            hooks.has_any(EARLY_HOOKS)
            or policy.deny_current_branch is DenyAction.UPDATE_INSTEAD
            or bool(policy.unpack_limit or state.request.shallows)
        )
        return body.has_ended and not is_looked_at

    def _find_on_old(self, state: PushState, hooks: PushHooks, body: ReadAhead) -> OnOld | None:
        """Return what a push of every day may turn out to stand on alone; None when it has to be looked at in full.

        It moves one ref, which had its old value when the last snapshot was taken. Of that snapshot nothing counts but
        objects by their names, and the configuration, which is looked at here: the old value is compared under the
        lock, and what it reaches is there as long as the ref names it.
        """
        if len(state.commands) != 1 or not (state.request.wants_pack and self._may_lie_alone(state, hooks, body)):
            return None
        if self._branch_rules or self._policy.proc_receive_refs:
            return None
        command = state.commands[0]
        if self._zero in (command.old, command.new) or not command.refname.startswith(b"refs/"):
            return None
        if not self._tools.detects or find_compiled(self._snapshot.algo.name) is None:
            return None  # then objects are compared with those of the same name, and all of these have to be known
        snapshot = self._look(is_true=False)
        if not snapshot.layout.is_bare or snapshot.store.expected_count >= EXPECTED_MAX:
            return None
        if snapshot.table.raw(self._shown.full_name(command.refname)) != LooseRef(command.old, None):
            return None
        return OnOld(command.old, self._look)

    def _look(self, *, is_true: bool = True) -> Snapshot:
        """Take a snapshot, by which what has come is judged; `is_true` not: only its configuration is that of now."""
        try:
            self._snapshot = self._repository.snapshot() if is_true else self._repository.configured_snapshot()
            self._shown = ShownRefs(self._snapshot, "receive", self._context.namespace)
            return self._snapshot
        except GovcError as error:
            raise NotUnpacked("unable to read the repository", f"fatal: {error.public_text}") from error
        except OSError as error:
            raise NotUnpacked("unable to read the repository", f"fatal: {error.strerror}") from error

    def _decide(
        self,
        state: PushState,
        hooks: PushHooks,
        journal: Journal,
        quarantine: Quarantine | None,
        result: ReceiveResult | None,
    ) -> Iterator[bytes]:
        """From objects in quarantine to refs that have moved, or reasons why not."""
        self._judge_hidden(state)
        self._give_away(state)
        yield from state.drain()
        variables = self._quarantine_variables(quarantine, result) if quarantine is not None else {}
        if not (yield from hooks.pre_receive(state.commands, variables)):
            state.fail_all("pre-receive hook declined")
        if state.is_lost:
            state.fail_rest_if_atomic()
            return
        call = self._tools.runtime.call_blocking
        objects = PushedObjects(journal, quarantine, result)
        try:
            snapshot = self._snapshot_beyond(result, hooks)
            if snapshot is None:
                call(objects.move)
                snapshot = self._repository.snapshot()
            new_shallow: tuple[bytes, ...] = ()
            if result is not None and result.shallow_tips and self._policy.shallow_update:
                new_shallow = self._record_shallow(state, result)
            around = PushSurroundings(
                repository=self._repository,
                shown=self._shown,
                policy=self._policy,
                branch_rules=self._branch_rules,
                hooks=hooks,
                origin=self._origin(state.request, hooks),
                tools=self._tools,
                objects=objects,
                new_shallow=new_shallow,
                arrival=self._arrival,
            )
            self._changes = RefChanges(state, around)
            yield from self._changes.carry_out(snapshot, result.missing_tips if result is not None else frozenset())
            if result is not None and result.pack is not None and self._has_moved:
                self._snapshot.store.expect(result.pack)
        except NotMoved as error:
            log.error("%s: %s: %s", self._context.request_id, self._snapshot.layout.gitdir, error)
            state.fail_all(error.reason)
        finally:
            if objects.is_kept:
                call(objects.release)

    def _snapshot_beyond(self, result: ReceiveResult | None, hooks: PushHooks) -> Snapshot | None:
        """Return the snapshot with what came, as it lies in quarantine; None when somebody has to find it moved."""
        if result is None:
            return self._snapshot
        is_looked_at = hooks.has_any(EARLY_HOOKS) or (
            self._policy.deny_current_branch is DenyAction.UPDATE_INSTEAD or bool(result.shallow_tips)
        )
        if is_looked_at or result.store is None:
            return None
        index, known = self._snapshot.introductions, self._snapshot.commits
        commits = CommitTable(result.store, index.find_commit if index is not None else None)
        commits.graphs = known.graphs
        return replace(self._snapshot, store=result.store, commits=commits, derived={}, lasting={})

    def _follow_up(self, state: PushState, hooks: PushHooks) -> Iterator[bytes]:
        """After the report: hooks that are told, maintenance, the files of the dumb protocol."""
        done, names = state.done()
        try:
            yield from run_late_hooks(hooks, done, names)
        finally:
            self._note_told()
        if self._has_moved:
            self._tools.after_push(self._repository, [change.new for change in done])
            if self._updates_server_info():
                self._update_server_info()

    def _updates_server_info(self) -> bool:
        """Say whether a push makes the files of the dumb protocol: before its client is told the end, as by git."""
        return self._snapshot.config.get_bool("receive.updateserverinfo", False)

    def _note_told(self) -> None:
        """Note in the log that the hooks of this push were told: nobody has to do it after us."""
        sequences = self._changes.sequences if self._changes is not None and self._has_late_hooks else []
        if not sequences:
            return
        try:
            journal: Journal = self._tools.runtime.call_blocking(self._repository.journal, self._tools.journal)
            self._tools.runtime.call_blocking(journal.late_hooks_done, sequences)
        except (GovcError, OSError) as error:
            log.error("%s: %s: hooks may be told again: %s", self._context.request_id, self._repository.gitdir, error)

    # Hooks

    def _make_hooks(self, request: PushRequest) -> PushHooks:
        context, snapshot = self._context, self._snapshot
        name, email = committer_variables(context, self._tools.environ)
        signed = None
        if request.signed is not None:
            text, now = request.certificate or b"", int(self._tools.clock())
            signed = SignedPush.judge(text, request.signed, snapshot.layout, snapshot.config, now)
        return PushHooks(
            HookSurroundings(
                layout=snapshot.layout,
                config=snapshot.config,
                make_environ=lambda: hook_environ(
                    self._tools.environ,
                    context.environ,
                    committer_name=name,
                    committer_email=email,
                    namespace=os.fsdecode(context.namespace),
                ),
                band=request.side_band,
                keepalive_seconds=self._policy.keepalive_seconds,
                seconds_max=self._tools.hook_seconds_max,
                request_id=context.request_id,
                call_blocking=self._tools.runtime.call_blocking,
            ),
            push_options=request.push_options or (),
            signed=signed,
        )

    def _quarantine_variables(self, quarantine: Quarantine, result: ReceiveResult | None) -> dict[str, str]:
        """Return what shows the quarantine to a hook, and the shallow boundary that the push would bring."""
        variables = quarantine.environment(self._tools.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", ""))
        if result is not None and result.new_shallow and self._policy.shallow_update:
            path = f"{quarantine.path}/shallow"
            boundary = sorted(self._snapshot.shallow | result.new_shallow)
            with open(path, "wb") as file:
                file.write(b"".join(oid.hex().encode("ascii") + b"\n" for oid in boundary))
            variables["GIT_SHALLOW_FILE"] = path
        return variables

    # Judging all together

    def _judge_hidden(self, state: PushState) -> None:
        for index, command in list(state.iter_standing()):
            if self._shown.is_hidden(command.refname):
                deletes = command.new == self._zero
                state.fail(index, "deny deleting a hidden ref" if deletes else "deny updating a hidden ref")

    def _give_away(self, state: PushState) -> None:
        """Mark the commands that a proc-receive hook is to carry out."""
        patterns = self._policy.proc_receive_refs
        if patterns:
            state.given_away.update(i for i, command in state.iter_standing() if matches_any(patterns, command))

    def _note_broken(self, state: PushState, result: ReceiveResult) -> None:
        for index, command in state.iter_all():
            problem = result.broken_tips.get(command.new)
            if problem is not None and command.new != self._zero:
                state.fail(index, "missing necessary objects")
                state.say(
                    f"error: {problem.reason} {problem.kind} {problem.oid.hex()}"
                    if problem.reason == "missing"
                    else f"error: {problem.kind} {problem.oid.hex()} {problem.reason}"
                )

    def _fail_shallow(self, state: PushState, result: ReceiveResult, reason: str) -> None:
        for index, command in state.iter_all():
            if command.new in result.shallow_tips:
                state.fail(index, reason)

    def _record_shallow(self, state: PushState, result: ReceiveResult) -> tuple[bytes, ...]:
        """Let our history end where the pusher's does, before a ref needs it (receive.shallowUpdate); return where."""
        layout = self._snapshot.layout
        try:
            self._tools.runtime.call_blocking(self._add_shallow, result.new_shallow)
            return tuple(sorted(result.new_shallow))
        except (GovcError, OSError) as error:
            log.error("%s: %s: shallow not updated: %s", self._context.request_id, layout.gitdir, error)
            self._fail_shallow(state, result, "shallow error")
            return ()

    def _add_shallow(self, oids: frozenset[bytes]) -> None:
        layout, options = self._snapshot.layout, self._tools.journal
        journal = self._repository.journal(options)
        add_shallow(layout, oids, options.sleep, RefModes(layout.shared), owner=journal)

    # Files

    def _update_server_info(self) -> None:
        """Write the two files that a plain web server needs to serve the dumb protocol (RP-89). Then look again: a push
        in another worker, which has looked after us, may have written its own before.
        """
        written: tuple[bytes, bytes] | None = None
        try:
            for _ in range(SERVER_INFO_ROUNDS_MAX):
                snapshot = self._repository.snapshot()
                content = dumb.info_refs(snapshot, b""), dumb.info_packs(snapshot)
                if content == written:
                    return
                replace_file(f"{snapshot.layout.commondir}/info/refs", content[0])
                replace_file(f"{snapshot.layout.objects_dir}/info/packs", content[1])
                written = content
        except (GovcError, OSError) as error:
            log.error("%s: server info not updated: %s", self._repository.gitdir, error)

    def _origin(self, request: PushRequest, hooks: PushHooks) -> Origin:
        context = self._context
        self._has_late_hooks = hooks.has_any(LATE_HOOKS)
        return Origin(
            committer=committer_ident(context, self._tools.environ),
            message=b"push",
            actor=context.remote_user or "",
            address=context.remote_addr or "",
            request_id=context.request_id,
            push_options=request.push_options or (),
            certificate=request.certificate or b"",
            has_late_hooks=self._has_late_hooks,
        )


def _read_to_the_end(body: BodyReader, runtime: Runtime) -> None:
    """Read what is left and drop it: a client that is still sending doesn't read the answer. May switch."""
    breathe = Breather(runtime)
    try:
        while body.read(READ_BYTES):
            breathe()
    except RemoteProtocolError as error:
        log.info("the rest of a refused push broke off: %s", error)


def serve_receive_pack(
    repository: Repository,
    snapshot: Snapshot,
    context: RequestContext,
    body: BodyReader,
    tools: ReceiveTools,
    branch_rules: BranchRules = NO_RULES,
) -> Iterator[bytes]:
    """Answer one POST git-receive-pack. Closing the generator before refs have moved abandons the push. May switch."""
    yield from ReceiveSession(repository, snapshot, context, tools, branch_rules).serve(body)
