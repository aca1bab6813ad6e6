"""receive-pack: the commands of a push, what may come with them, and the report.

    shallow OID LF …                                     the client's shallow boundary
    OLD SP NEW SP refname [NUL capabilities] LF …        one command a line, capabilities on the first
      or  push-cert NUL capabilities LF  certificate lines  push-cert-end LF      the commands are inside it
    flush
    [push option LF …  flush]                            when push-options was agreed
    [pack]                                               unless every command deletes

The parser is fed pieces of the body; once it has returned the request, `take_rest` gives the first bytes of
the pack. An old or new value of zeros means that the ref isn't, or won't be, there.

Source: gitprotocol-pack "Pushing Data To a Server", "Push Certificate", "Report Status"; rows RP-15..22,
52, 67, 70.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from govc.protocol.capabilities import CapabilityList, parse_capability_list
from govc.protocol.errors import LocalProtocolError, RemoteProtocolError
from govc.protocol.oid import HashAlgorithm
from govc.protocol.pktline import (
    FLUSH,
    HEADER_SIZE,
    HUNG_UP,
    MAX_PAYLOAD,
    NEED_DATA,
    Control,
    NeedDataType,
    PktLineDecoder,
    check_not_error,
    encode,
    no_tick,
    strip_lf,
)
from govc.protocol.push_certificate import Certificate, parse_certificate
from govc.protocol.text import quote_line

# A command for a ref with a long name takes some 200 bytes: more than a million refs in one push.
COMMAND_BYTES_MAX: Final = 256 << 20


class Command(NamedTuple):
    """One wish: let `refname` go from `old` to `new` (oids; zeros for absent)."""

    old: bytes
    new: bytes
    refname: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """Everything that a push says before its pack.

    `report` is 0, 1 (report-status) or 2 (report-status-v2). `push_options` is None when they weren't agreed.
    `certificate` is the raw signed text, `signed` the same taken apart. No commands at all is a probe, answered with an
    empty success.
    """

    commands: tuple[Command, ...] = ()
    capabilities: CapabilityList = field(default_factory=dict)
    push_options: tuple[bytes, ...] | None = None
    certificate: bytes | None = None
    signed: Certificate | None = None
    shallows: tuple[bytes, ...] = ()
    agent: bytes = b""
    session_id: bytes = b""
    atomic: bool = False
    side_band: bool = False
    report: int = 0
    quiet: bool = False

    @property
    def options_agree(self) -> bool:
        """False when the push options aren't those that were signed (RP-69)."""
        return self.signed is None or self.signed.push_options == (self.push_options or ())

    @property
    def wants_pack(self) -> bool:
        """True when a pack follows: some command sets a value (RP-18, RP-19)."""
        return any(command.new.strip(b"\0") for command in self.commands)


def parse_command(line: bytes, algo: HashAlgorithm) -> Command:
    """Parse `OLD SP NEW SP refname`. Raises RemoteProtocolError; the refname's form is not looked at."""
    size = algo.hex_size
    old = algo.parse_hex(line[:size])
    new = algo.parse_hex(line[size + 1 : 2 * size + 1])
    is_spaced = line[size : size + 1] == b" " == line[2 * size + 1 : 2 * size + 2]
    if old is None or new is None or not is_spaced:
        check_not_error(line)
        raise RemoteProtocolError(f"protocol error: expected old/new/ref, got '{quote_line(line)}'")
    return Command(old, new, line[2 * size + 2 :])


class _State(Enum):
    COMMANDS = "commands"
    CERTIFICATE = "certificate"
    PUSH_OPTIONS = "push options"
    COMPLETE = "complete"


class PushRequestParser:
    """Reads a push up to its pack, from pieces of any size.

    `allow_atomic` and `allow_push_options` say what was advertised; a client that asks for more is not
    heard, as in git. At most `command_bytes_max` bytes of packets are taken before the pack. `tick` is called every
    millisecond or so while a certificate is taken apart, which is done in one go when it has come.
    """

    def __init__(
        self,
        algo: HashAlgorithm,
        *,
        command_bytes_max: int = COMMAND_BYTES_MAX,
        allow_atomic: bool = True,
        allow_push_options: bool = True,
        tick: Callable[[], None] = no_tick,
    ) -> None:
        self._algo = algo
        self._tick = tick
        self._bytes_left = command_bytes_max
        self._command_bytes_max = command_bytes_max
        self._allow_atomic = allow_atomic
        self._allow_push_options = allow_push_options
        self._decoder = PktLineDecoder()
        self._state = _State.COMMANDS
        self._commands: list[Command] = []
        self._capabilities: CapabilityList = {}
        self._shallows: dict[bytes, None] = {}
        self._certificate = bytearray()
        self._signed: Certificate | None = None
        self._push_options: list[bytes] = []
        self._takers = {
            _State.COMMANDS: self._take_command_packet,
            _State.CERTIFICATE: self._take_certificate_packet,
            _State.PUSH_OPTIONS: self._take_push_option_packet,
        }

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._decoder.receive_data(data)

    def next_event(self) -> PushRequest | NeedDataType:
        """Return the request once it is whole, else NEED_DATA. Raises RemoteProtocolError.

        A request without commands is complete at its first flush.
        """
        if self._has_ended():
            raise LocalProtocolError("the request was already returned")
        while not self._has_ended():
            packet = self._decoder.next_event()
            if packet is NEED_DATA:
                return NEED_DATA
            self._spend(packet)
            self._takers[self._state](packet)
        return self._build()

    def _has_ended(self) -> bool:
        return self._state is _State.COMPLETE

    def take_rest(self) -> bytes:
        """Return the bytes after the request: the beginning of the pack. Ends the parser."""
        if not self._has_ended():
            raise LocalProtocolError("the request is not whole yet")
        return self._decoder.take_rest()

    def close(self) -> None:
        """Say that the body has ended. Raises RemoteProtocolError when the request wasn't whole."""
        if not self._has_ended():
            raise RemoteProtocolError(HUNG_UP)

    def _spend(self, packet: bytes | Control) -> None:
        self._bytes_left -= HEADER_SIZE + (0 if isinstance(packet, Control) else len(packet))
        if self._bytes_left < 0:
            raise RemoteProtocolError(f"push commands of more than {self._command_bytes_max} bytes", http_status=413)

    def _take_command_packet(self, packet: bytes | Control) -> None:
        if isinstance(packet, Control):
            self._end_commands()
            return
        line, _, words = strip_lf(packet).partition(b"\0")
        if line.startswith(b"shallow "):
            oid = self._algo.parse_hex(line[8 : 8 + self._algo.hex_size])
            if oid is None:
                raise RemoteProtocolError(f"protocol error: expected shallow sha, got '{quote_line(line[8:])}'")
            self._shallows[oid] = None
            return
        words = words.partition(b"\0")[0]  # there git's text ends
        if words:
            self._take_capabilities(words)
        if line == b"push-cert":
            self._state = _State.CERTIFICATE
        else:
            self._commands.append(parse_command(line, self._algo))

    def _take_capabilities(self, words: bytes) -> None:
        capabilities = parse_capability_list(words)
        client_format = capabilities.get(b"object-format", [b"sha1"])[0]
        if client_format != self._algo.name.encode("ascii"):
            raise RemoteProtocolError(f"error: unsupported object format '{quote_line(client_format)}'")
        self._capabilities.update(capabilities)

    def _take_certificate_packet(self, packet: bytes | Control) -> None:
        if isinstance(packet, Control):
            self._end_commands()
        elif strip_lf(packet) == b"push-cert-end":
            self._state = _State.COMMANDS
        else:
            self._certificate += packet

    def _end_commands(self) -> None:
        """Any special packet ends them, as in git, though clients send a flush."""
        if self._certificate:
            if self._commands:
                raise RemoteProtocolError("protocol error: got both push certificate and unsigned commands")
            self._signed = parse_certificate(bytes(self._certificate), self._tick)
            lines = self._signed.iter_command_lines(self._tick)
            self._commands.extend(parse_command(line, self._algo) for line in lines)
        has_options = bool(self._commands) and self._uses_push_options()
        self._state = _State.PUSH_OPTIONS if has_options else _State.COMPLETE

    def _take_push_option_packet(self, packet: bytes | Control) -> None:
        if isinstance(packet, Control):
            self._state = _State.COMPLETE
        else:
            line = strip_lf(packet)
            check_not_error(line)
            self._push_options.append(
                line.partition(b"\0")[0]
            )  # for git a text ends at a NUL, and so it does for hooks

    def _uses_push_options(self) -> bool:
        return self._allow_push_options and b"push-options" in self._capabilities

    def _build(self) -> PushRequest:
        capabilities = self._capabilities
        return PushRequest(
            commands=tuple(self._commands),
            capabilities=capabilities,
            push_options=tuple(self._push_options) if self._uses_push_options() else None,
            certificate=bytes(self._certificate) if self._certificate else None,
            signed=self._signed,
            shallows=tuple(self._shallows),
            agent=capabilities.get(b"agent", [b""])[0],
            session_id=capabilities.get(b"session-id", [b""])[0],
            atomic=self._allow_atomic and b"atomic" in capabilities,
            side_band=b"side-band-64k" in capabilities,
            report=_report_version(capabilities),
            quiet=b"quiet" in capabilities,
        )


def _report_version(capabilities: CapabilityList) -> int:
    if b"report-status-v2" in capabilities:
        return 2
    return 1 if b"report-status" in capabilities else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefReport:
    """What really happened to a ref where that differs from its command (proc-receive, report-status-v2)."""

    refname: bytes | None = None
    old: bytes | None = None
    new: bytes | None = None
    forced: bool = False

    def command_for(self, command: Command) -> Command:
        """Return what hooks are told instead of the command."""
        return Command(
            command.old if self.old is None else self.old,
            command.new if self.new is None else self.new,
            command.refname if self.refname is None else self.refname,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandStatus:
    """The outcome of one command: `error` is the `ng` reason or None, `options` one entry per real result."""

    refname: bytes
    error: str | None = None
    options: tuple[RefReport, ...] = ()


def encode_report(unpack: str, statuses: Iterable[CommandStatus], version: int) -> bytes:
    """Return the report as pkt-lines and a flush; the caller puts it on band 1 when there is a side band.

    `unpack` is "ok" or the reason why not; `version` is 1 or 2. Statuses come in command order.
    """
    packets = [_encode_line(b"unpack " + _encode_reason(unpack))]
    for status in statuses:
        if status.error is not None:
            packets.append(_encode_line(b"ng %b %b" % (status.refname, _encode_reason(status.error))))
        elif version == 2 and status.options:
            for report in status.options:
                packets.append(_encode_line(b"ok " + status.refname))
                packets.extend(map(_encode_line, _option_lines(report)))
        else:
            packets.append(_encode_line(b"ok " + status.refname))
    return b"".join(packets) + FLUSH


def _encode_line(line: bytes) -> bytes:
    return encode(line[: MAX_PAYLOAD - 1] + b"\n")


def _encode_reason(reason: str) -> bytes:
    """A reason is one line: what a hook or an error text put into it can't forge another."""
    return reason.replace("\n", " ").encode("utf-8", "surrogateescape")


def _option_lines(report: RefReport) -> Iterable[bytes]:
    if report.refname is not None:
        yield b"option refname " + report.refname
    if report.old is not None:
        yield b"option old-oid " + report.old.hex().encode("ascii")
    if report.new is not None:
        yield b"option new-oid " + report.new.hex().encode("ascii")
    if report.forced:
        yield b"option forced-update"
