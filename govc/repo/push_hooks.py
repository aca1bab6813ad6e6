"""The hooks of a push: which one gets what, and what its answer means.

    pre-receive             stdin: every command. In quarantine. Failure refuses all
    proc-receive            talks pkt-lines (protocol/proc_receive) about what receive.procReceiveRefs names
    update                  arguments: name, old, new. Failure refuses that command
    push-to-checkout        argument: new. Updates a work tree whose branch is pushed to
    reference-transaction   argument: the state, stdin: its updates. Failure while preparing or prepared refuses them
    post-receive            stdin: what was done. Its failure changes nothing
    post-update             arguments: the names of what was done. Likewise

Their output goes to the pusher on band 2 as it comes, with keepalives in the silences. That of reference-transaction
and push-to-checkout goes to the log, as with git it goes to the web server's: the client never sees it.

`run_late_hooks` runs the last two. It needs nothing of a request, so that recovery can run them for a push of which
only the record is left: see `for_record`.

Every method is a generator of framed packets that returns its verdict. Closing one ends its hook with all that it
started. All may switch.

Source: githooks; git's builtin/receive-pack.c; rows RP-24, RP-25, RP-34, RP-54, RP-55, RP-67, RP-73, RP-75..RP-87.
"""

import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from govc.config.config import Config
from govc.errors import GovcError
from govc.objects.types import BLOB
from govc.odb.loose import write_loose_object
from govc.phases import HOOKS, Timed
from govc.protocol.oid import to_hex
from govc.protocol.proc_receive import ProcReceive
from govc.protocol.push_certificate import parse_certificate
from govc.protocol.receive_pack import Command
from govc.protocol.sideband import KEEPALIVE, Band, frame
from govc.repo.helper import Quiet
from govc.repo.hook_environ import hook_environ
from govc.repo.hook_runner import STATUS_TIMED_OUT, Channel, Conversation, ProgramNotStarted, run
from govc.repo.hooks import Hook, find_hook_file, find_hooks, has_configured_hooks, list_hook_files
from govc.repo.layout import RepositoryLayout
from govc.repo.modes import object_modes
from govc.repo.signatures import SignatureChecker, SignatureVerdict
from govc.repo.signed_push import SignedPush, encode_certificate_variables
from govc.repo.writing import Origin, Stage, State

log = logging.getLogger(__name__)

PRE_RECEIVE = "pre-receive"
UPDATE = "update"
PROC_RECEIVE = "proc-receive"
PUSH_TO_CHECKOUT = "push-to-checkout"
REFERENCE_TRANSACTION = "reference-transaction"
POST_RECEIVE = "post-receive"
POST_UPDATE = "post-update"
LATE_HOOKS = (POST_RECEIVE, POST_UPDATE)
EARLY_HOOKS = (PRE_RECEIVE, UPDATE, PROC_RECEIVE, PUSH_TO_CHECKOUT, REFERENCE_TRANSACTION)
"""Those that a push waits for before its record."""

LINES_PER_PIECE = 500
LOGGED_OUTPUT_BYTES_MAX = 4000
NO_KEEPALIVE_SECONDS = 3600.0

Running = Generator[bytes, None, bool]
"""Yields framed packets while hooks run; returns whether all of them succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSurroundings:
    """What the hooks of one push find around them.

    `make_environ` makes the variables of `hook_environ`: most pushes run no hook. `band`: output goes to the pusher;
    else to the log. `keepalive_seconds` 0: no keepalives. `seconds_max` 0: hooks may take as long as they like.
    """

    layout: RepositoryLayout
    config: Config
    make_environ: Callable[[], Mapping[str, str]]
    band: bool = False
    keepalive_seconds: int = 5
    seconds_max: float = 0
    request_id: str = ""
    call_blocking: Callable[..., object] = field(default=lambda function, *arguments: function(*arguments))


class PushHooks:
    """The hooks of one push."""

    def __init__(
        self,
        around: HookSurroundings,
        *,
        push_options: tuple[bytes, ...] = (),
        signed: SignedPush | None = None,
    ) -> None:
        """Raises BadConfigValue when the configuration of hooks is one that git dies on."""
        self._around = around
        self._push_options = push_options
        self._signed = signed
        self._certificate: dict[str, str] | None = None
        is_audible = around.band and around.keepalive_seconds > 0
        self._quiet_seconds = float(around.keepalive_seconds) if is_audible else NO_KEEPALIVE_SECONDS
        self._is_kept_alive = is_audible
        self._list()

    def _list(self) -> None:
        around = self._around
        self._found: dict[str, tuple[Hook, ...]] = {}
        self._has_any: dict[tuple[str, ...], bool] = {}
        self._names = list_hook_files(around.layout, around.config)
        self._is_configured = around.config.remembered(has_configured_hooks)
        self._find(PRE_RECEIVE)

    def look_again(self, config: Config) -> None:
        """Look for the hooks anew, by the configuration of now: git does so when it runs them, and a push may have been
        hours on its way. Raises BadConfigValue.
        """
        self._around = replace(self._around, config=config)
        self._list()

    @classmethod
    def for_record(
        cls,
        layout: RepositoryLayout,
        config: Config,
        origin: Origin,
        server_environ: Mapping[str, str],
        *,
        seconds_max: float = 0,
        now_seconds: int | None = None,
    ) -> "PushHooks":
        """Return the hooks of a push that only its log record tells of: no client, of CGI's variables who and where."""
        name, _, email = os.fsdecode(origin.committer).rpartition(" <")
        request = {"REMOTE_USER": origin.actor, "REMOTE_ADDR": origin.address}
        around = HookSurroundings(
            layout=layout,
            config=config,
            make_environ=lambda: hook_environ(
                server_environ,
                {key: value for key, value in request.items() if value},
                committer_name=name,
                committer_email=email.rstrip(">"),
            ),
            seconds_max=seconds_max,
            request_id=origin.request_id,
        )
        signed = None
        if origin.certificate:
            now = int(time.time()) if now_seconds is None else now_seconds
            signed = SignedPush.judge(origin.certificate, parse_certificate(origin.certificate), layout, config, now)
        return cls(around, push_options=origin.push_options, signed=signed)

    # Which there are

    def has(self, event: str) -> bool:
        """Say whether anything runs for an event: looked at once for a push."""
        return bool(self._find(event))

    def has_any(self, events: tuple[str, ...]) -> bool:
        """Say whether anything runs for one of several events."""
        known = self._has_any.get(events)
        if known is None:
            has_none = self._names is not None and self._names.isdisjoint(events) and not self._is_configured
            known = self._has_any[events] = not has_none and any(map(self.has, events))
        return known

    def _find(self, event: str) -> tuple[Hook, ...]:
        found = self._found.get(event)
        if found is None:
            layout, config = self._around.layout, self._around.config
            has_none = self._names is not None and event not in self._names and not self._is_configured
            found = self._found[event] = () if has_none else find_hooks(layout, config, event, self._names)
        return found

    # The hooks, in the order in which a push meets them

    def pre_receive(self, commands: Sequence[Command], quarantine: Mapping[str, str]) -> Running:
        """Ask pre-receive about all commands. `quarantine`: its variables, none when no pack came."""
        if not self.has(PRE_RECEIVE):
            return True
        variables = {**quarantine, **(yield from self._push_variables())}
        return (yield from self._run(PRE_RECEIVE, stdin=lambda: command_lines(commands), variables=variables))

    def update(self, command: Command) -> Running:
        """Ask update about one command."""
        name, old, new = _shown(command.refname), command.old.hex(), command.new.hex()
        return (yield from self._run(UPDATE, (name, old, new)))

    def proc_receive(self, talk: ProcReceive) -> Generator[bytes, None, bool | None]:
        """Let proc-receive speak. False when it failed, as a program or in what it said; None when there is none."""
        hook = find_hook_file(self._around.layout, self._around.config, PROC_RECEIVE)
        if hook is None:
            return None
        try:
            program = self._open(hook)
        except ProgramNotStarted as error:
            yield from self._complain_of(hook, f"cannot run hook '{hook.event}'", error.reason)
            return False
        with Timed(HOOKS), program:
            program.write((talk.first_bytes(),))
            while program.is_open:
                heard = program.wait(self._quiet_seconds)
                if isinstance(heard, Quiet):
                    yield from self._keep_alive()
                elif heard.channel is Channel.OUTPUT:
                    yield from self._relay(hook, heard.data)
                else:
                    self._talk(talk, program, heard.data)
            status = yield from self._wait_for(hook, program)
        return status == 0 and not talk.is_failed

    @staticmethod
    def _talk(talk: ProcReceive, program: Conversation, data: bytes) -> None:
        if not talk.is_over:
            if data:
                program.write((talk.receive_data(data),))
            else:
                talk.close()
        if talk.is_over:
            program.close_input()

    def push_to_checkout(self, new: bytes, *, gitdir: str, worktree: str) -> Running:
        """Let push-to-checkout update a work tree to `new`."""
        variables = {"GIT_DIR": os.path.abspath(gitdir), "GIT_WORK_TREE": os.path.abspath(worktree)}
        return (yield from self._run(PUSH_TO_CHECKOUT, (new.hex(),), variables=variables, is_shown=False))

    def reference_transaction(self, stage: Stage) -> Running:
        """Tell reference-transaction that a transaction has reached a state; its word counts while it may be vetoed."""
        zero = self._around.layout.algo.zero
        lines = [Command(update.old or zero, update.new, update.name) for update in stage.updates]
        is_good = yield from self._run(
            REFERENCE_TRANSACTION, (stage.state.value,), stdin=lambda: command_lines(lines), is_shown=False
        )
        return is_good or stage.state in (State.COMMITTED, State.ABORTED)

    def post_receive(self, commands: Sequence[Command]) -> Running:
        """Tell post-receive what was done."""
        if not commands or not self.has(POST_RECEIVE):
            return True
        variables = yield from self._push_variables()
        return (yield from self._run(POST_RECEIVE, stdin=lambda: command_lines(commands), variables=variables))

    def post_update(self, names: Sequence[bytes]) -> Running:
        """Tell post-update which refs were updated."""
        return (yield from self._run(POST_UPDATE, tuple(map(_shown, names)))) if names else True

    # Running

    def _run(
        self,
        event: str,
        arguments: tuple[str, ...] = (),
        *,
        stdin: Callable[[], Iterable[bytes]] | None = None,
        variables: Mapping[str, str] | None = None,
        is_shown: bool = True,
    ) -> Running:
        """Run all that there is for an event, one after the other, even after a failure, as git does."""
        is_good = True
        for hook in self._find(event):
            with Timed(HOOKS):
                status = yield from self._run_one(hook, arguments, stdin, variables or {}, is_shown)
            is_good = is_good and status == 0
        return is_good

    def _run_one(
        self,
        hook: Hook,
        arguments: tuple[str, ...],
        stdin: Callable[[], Iterable[bytes]] | None,
        variables: Mapping[str, str],
        is_shown: bool,
    ) -> Generator[bytes, None, int]:
        around = self._around
        events = run(
            hook.arguments(arguments),
            cwd=around.layout.gitdir,
            environ={**around.make_environ(), **variables},
            stdin=stdin() if stdin is not None else None,
            quiet_seconds=self._quiet_seconds,
            seconds_max=around.seconds_max,
        )
        try:
            while True:
                try:
                    event = next(events)
                except StopIteration as stop:
                    status: int = stop.value
                    break
                if isinstance(event, Quiet):
                    yield from self._keep_alive()
                else:
                    yield from self._relay(hook, event, is_shown=is_shown)
        except ProgramNotStarted as error:
            yield from self._complain_of(hook, f"cannot run hook '{hook.event}'", error.reason)
            return 1
        finally:
            events.close()
        yield from self._complain_of_time(hook, status)
        return status

    def _open(self, hook: Hook) -> Conversation:
        around = self._around
        return Conversation(
            hook.arguments(()),
            cwd=around.layout.gitdir,
            environ=around.make_environ(),
            splits_output=True,
            seconds_max=around.seconds_max,
        )

    def _wait_for(self, hook: Hook, program: Conversation) -> Generator[bytes, None, int]:
        while (status := program.poll_status(self._quiet_seconds)) is None:
            yield from self._keep_alive()
        yield from self._complain_of_time(hook, status)
        return status

    def _keep_alive(self) -> Iterator[bytes]:
        if self._is_kept_alive:
            yield KEEPALIVE

    def _relay(self, hook: Hook, data: bytes, *, is_shown: bool = True) -> Iterator[bytes]:
        if is_shown and self._around.band:
            yield frame(Band.PROGRESS, data)
        elif data:
            text = data[:LOGGED_OUTPUT_BYTES_MAX].decode("utf-8", "backslashreplace").rstrip()
            log.info("%s: %s: hook %s: %s", self._around.request_id, self._around.layout.gitdir, hook.event, text)

    def _complain_of(self, hook: Hook, public: str, reason: str) -> Iterator[bytes]:
        log.error("%s: %s: hook %s: %s", self._around.request_id, self._around.layout.gitdir, hook.event, reason)
        if self._around.band:
            yield frame(Band.PROGRESS, f"error: {public}\n".encode())

    def _complain_of_time(self, hook: Hook, status: int) -> Iterator[bytes]:
        if status == STATUS_TIMED_OUT and self._around.seconds_max:
            said = f"hook '{hook.event}' took longer than {self._around.seconds_max:g} seconds and was ended"
            yield from self._complain_of(hook, said, said)

    # Push options and certificate

    def _push_variables(self) -> Generator[bytes, None, dict[str, str]]:
        """Return what pre-receive and post-receive are told beside their lines."""
        options = self._push_options
        variables = {f"GIT_PUSH_OPTION_{index}": os.fsdecode(option) for index, option in enumerate(options)}
        variables["GIT_PUSH_OPTION_COUNT"] = str(len(options))
        variables.update((yield from self._certificate_variables()))
        return variables

    def _certificate_variables(self) -> Generator[bytes, None, dict[str, str]]:
        """Store the certificate and have its signature checked, once; return what hooks are told of it."""
        signed = self._signed
        if signed is None:
            return {}
        if self._certificate is None:
            verdict = yield from self._check_signature(signed)
            try:
                oid = self._around.call_blocking(self._store, signed.text)
                assert isinstance(oid, bytes)
                self._certificate = encode_certificate_variables(oid, verdict, signed.nonce)
            except (OSError, GovcError) as error:
                # As git: what can't be stored isn't told of.
                log.error("%s: push certificate not stored: %s", self._around.layout.gitdir, error)
                self._certificate = {}
        return self._certificate

    def is_well_signed(self) -> Generator[bytes, None, bool]:
        """Say whether the push has a certificate with a good signature by a trusted key, over a nonce of ours.

        git's status is "G" for an SSH key that nobody has allowed, too; only then has it no signer.
        """
        variables = yield from self._certificate_variables()
        is_fresh = variables.get("GIT_PUSH_CERT_NONCE_STATUS") in ("OK", "SLOP")
        is_known = bool(variables.get("GIT_PUSH_CERT_SIGNER"))
        return is_fresh and is_known and variables.get("GIT_PUSH_CERT_STATUS") == "G"

    def _check_signature(self, signed: SignedPush) -> Generator[bytes, None, SignatureVerdict]:
        around = self._around
        certificate = signed.certificate
        checker = SignatureChecker(
            signed.signatures,
            cwd=around.layout.gitdir,
            environ=around.make_environ(),
            quiet_seconds=self._quiet_seconds,
        )
        checking = checker.check(certificate.payload, certificate.signature, certificate.signature_format)
        while True:
            try:
                next(checking)
            except StopIteration as stop:
                verdict: SignatureVerdict = stop.value
                return verdict
            yield from self._keep_alive()

    def _store(self, text: bytes) -> bytes:
        layout = self._around.layout
        return write_loose_object(layout.objects_dir, layout.algo, BLOB, text, object_modes(layout.shared), fsync=True)


def command_lines(commands: Sequence[Command]) -> Iterator[bytes]:
    """Yield `old SP new SP refname LF` for each command, many lines at a time."""
    for start in range(0, len(commands), LINES_PER_PIECE):
        yield b"".join(
            b"%b %b %b\n" % (to_hex(command.old), to_hex(command.new), command.refname)
            for command in commands[start : start + LINES_PER_PIECE]
        )


def run_late_hooks(hooks: PushHooks, done: Sequence[Command], names: Sequence[bytes] | None = None) -> Iterator[bytes]:
    """Run post-receive and post-update for what was done. Yields framed packets; their failures change nothing.

    `names`: what post-update gets, when a proc-receive hook has changed more or other refs than were named.
    """
    yield from hooks.post_receive(done)
    yield from hooks.post_update([command.refname for command in done] if names is None else names)


def _shown(name: bytes) -> str:
    return os.fsdecode(name)
