"""Protocol v2: the command request, the arguments of `fetch`, and the sections of its reply.

    command=NAME LF
    key[=value] LF …          capabilities, in any order, also before the command
    [delim  argument LF …]
    flush

    reply to fetch:  acknowledgments, wanted-refs, shallow-info, packfile-uris, packfile
                     each absent or followed by a delim; a flush after the last one

When the client did not say `done` and the server isn't ready, the reply is the acknowledgments and a flush.
With `sideband-all` each line carries a band byte; delim and flush never do.

Source: gitprotocol-v2 "Command Request", "fetch"; rows V2-04..09, V2-22..46.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from govc.protocol.capabilities import CapabilityList
from govc.protocol.errors import RemoteProtocolError
from govc.protocol.fetch_request import NO_CHECKS, DeepenLines, FetchRequest, LineChecks, parse_have
from govc.protocol.oid import HashAlgorithm, find_algorithm
from govc.protocol.pktline import (
    DELIM,
    FLUSH,
    HEADER_SIZE,
    HUNG_UP,
    TICK_BYTES,
    Control,
    check_not_error,
    encode,
    encode_error,
    iter_packets,
    no_tick,
    parse_size,
    text_of,
    ticking,
)
from govc.protocol.sideband import PACKET_MAX_LARGE, Band, frame
from govc.protocol.text import quote_line

DEFAULT_COMMANDS: Final = frozenset({b"ls-refs", b"fetch"})
DEFAULT_KEYS: Final = frozenset({b"agent", b"server-option", b"object-format"})

ARGS_MAX: Final = 1_000_000
"""More lines are refused: of wants and haves a body of 10 MiB, inflated to three times that, holds 650,000."""

RUN_MAX: Final = 2048
"""Want lines that are looked at together: a millisecond's work."""

HEAD_BYTES_MAX: Final = 1024
"""What comes before the arguments of a request is mostly a tenth of that, and the same for all of a client."""

_SIZES: Final = {b"%04x" % size: size for size in range(HEADER_SIZE, 256)}
"""The lengths of lines that requests consist of, as they are mostly spelled."""

_FLAGS: Final = (
    b"done",
    b"thin-pack",
    b"ofs-delta",
    b"no-progress",
    b"include-tag",
    b"deepen-relative",
    b"wait-for-done",
)


@dataclass(frozen=True, slots=True)
class Command:
    """One v2 request: the command's name, the client's capabilities, and the argument lines without LF.

    `fault` is what is wrong behind the last of them; what is wrong with a line itself comes first.
    """

    name: bytes
    capabilities: CapabilityList
    args: list[bytes]
    fault: RemoteProtocolError | None = None

    @property
    def client_agent(self) -> bytes:
        """What the client calls itself; b"" when it doesn't say."""
        return self.capabilities.get(b"agent", [b""])[0]


def parse_command_request(
    body: bytes,
    algo_name: str,
    *,
    commands: frozenset[bytes] = DEFAULT_COMMANDS,
    keys: frozenset[bytes] = DEFAULT_KEYS,
    tick: Callable[[], None] = no_tick,
) -> Command | None:
    """Parse a whole request body; None when it is empty or only a flush.

    `commands` and `keys` are what was advertised (V2Features.commands, .request_keys). A second request in
    the body is ignored (V2-07). `tick` is called every millisecond or so of the work. Raises RemoteProtocolError with
    git's texts.
    """
    if not body:
        return None
    end = _end_of_head(body)
    if end:
        name, capabilities = _parse_known_head(body[:end], algo_name, commands, keys)
        args, fault = _parse_args(body, end, name, tick)
        return Command(name, capabilities, args, fault)
    return _parse_head(body, algo_name, commands, keys, tick)


def _end_of_head(body: bytes) -> int:
    """Return where the arguments begin, 0 when the head has anything unusual."""
    position = 0
    while position <= HEAD_BYTES_MAX and (size := _SIZES.get(body[position : position + HEADER_SIZE], 0)):
        position += size
    is_delim = body.startswith(DELIM, position) and 0 < position <= HEAD_BYTES_MAX
    return position + HEADER_SIZE if is_delim else 0


@lru_cache(maxsize=64)
def _parse_known_head(
    head: bytes, algo_name: str, commands: frozenset[bytes], keys: frozenset[bytes]
) -> tuple[bytes, CapabilityList]:
    """Parse what all requests of a client begin with: the lines up to a delim."""
    command = _parse_head(head + FLUSH, algo_name, commands, keys, no_tick)
    assert command is not None
    return command.name, command.capabilities


def _parse_head(
    body: bytes, algo_name: str, commands: frozenset[bytes], keys: frozenset[bytes], tick: Callable[[], None]
) -> Command | None:
    name: bytes | None = None
    capabilities: CapabilityList = {}
    ending: Control | None = None
    position = 0
    for packet in ticking(iter_packets(body), tick):
        position += HEADER_SIZE
        if isinstance(packet, Control):
            ending = packet
            break
        position += len(packet)
        line = text_of(packet)
        if line.startswith(b"command="):
            name = _parse_command_name(line[8:], name, commands)
        else:
            _take_capability(line, keys, capabilities)
    if ending is None:
        raise RemoteProtocolError(HUNG_UP)
    if ending is Control.FLUSH and name is None and not capabilities:
        return None
    if ending is Control.RESPONSE_END:
        raise RemoteProtocolError("unexpected response end packet")
    if name is None:
        raise RemoteProtocolError("no command requested")
    _check_object_format(capabilities, algo_name)
    if ending is Control.FLUSH:
        return Command(name, capabilities, [])
    args, fault = _parse_args(body, position, name, tick)
    return Command(name, capabilities, args, fault)


def _parse_command_name(text: bytes, earlier: bytes | None, commands: frozenset[bytes]) -> bytes:
    if earlier is not None:
        raise RemoteProtocolError(
            f"command '{quote_line(text)}' requested after already requesting command '{quote_line(earlier)}'"
        )
    if text not in commands:
        raise RemoteProtocolError(f"invalid command '{quote_line(text)}'")
    return text


def _take_capability(line: bytes, keys: frozenset[bytes], capabilities: CapabilityList) -> None:
    key, equals, value = line.partition(b"=")
    if key not in keys:
        check_not_error(line)
        raise RemoteProtocolError(f"unknown capability '{quote_line(line)}'")
    if key == b"object-format":
        if not equals:
            raise RemoteProtocolError("object-format capability requires an argument")
        if find_algorithm(value.decode("utf-8", "replace")) is None:
            raise RemoteProtocolError(f"unknown object format '{quote_line(value)}'")
    capabilities.setdefault(key, []).append(value)


def _check_object_format(capabilities: CapabilityList, algo_name: str) -> None:
    """The last one given counts, and none means SHA-1 (V2-09)."""
    client_name = capabilities.get(b"object-format", [b"sha1"])[-1].decode("ascii")
    if client_name != algo_name:
        raise RemoteProtocolError(f"mismatched object format: server {algo_name}; client {client_name}")


def _parse_args(
    body: bytes, position: int, name: bytes, tick: Callable[[], None]
) -> tuple[list[bytes], RemoteProtocolError | None]:
    """Return the argument lines from `position` on, and what is wrong behind the last of them.

    As `iter_packets` and `text_of` read them, in one loop: there may be thousands.
    """
    args: list[bytes] = []
    end = len(body)
    has_nul = body.find(b"\0", position) >= 0
    try:
        while position < end:
            stop = min(end, position + TICK_BYTES)
            while position < stop:
                header = body[position : position + HEADER_SIZE]
                size = _SIZES.get(header, 0) or parse_size(header, position)
                if size < HEADER_SIZE:
                    if not size:
                        return args, None
                    prefix = "object-info: " if name == b"object-info" else ""
                    raise RemoteProtocolError(f"{prefix}expected flush after {quote_line(name)} arguments")
                if position + size > end:
                    raise RemoteProtocolError(HUNG_UP, offset=position)
                line = body[position + HEADER_SIZE : position + size]
                position += size
                if has_nul:
                    line = text_of(line)
                elif line.endswith(b"\n"):
                    line = line[:-1]
                if line.startswith(b"ERR "):
                    check_not_error(line)
                args.append(line)
            tick()
            if len(args) > ARGS_MAX:
                raise RemoteProtocolError(f"more than {ARGS_MAX} arguments")
        raise RemoteProtocolError(HUNG_UP)
    except RemoteProtocolError as error:
        return args, error


def parse_fetch_args(
    args: Iterable[bytes],
    algo: HashAlgorithm,
    *,
    allow_filter: bool = False,
    allow_ref_in_want: bool = False,
    allow_sideband_all: bool = False,
    allow_packfile_uris: bool = False,
    checks: LineChecks = NO_CHECKS,
) -> FetchRequest:
    """Parse the argument lines of `fetch`. Arguments of features that are off are unknown lines, and fatal.

    `checks` is shown the lines. Raises RemoteProtocolError with git's texts.
    """
    wants: dict[bytes, None] = {}
    haves: list[bytes] = []
    want_refs: dict[bytes, None] = {}
    packfile_uris: tuple[bytes, ...] = ()
    flags = dict.fromkeys(_FLAGS, False)
    if allow_sideband_all:
        flags[b"sideband-all"] = False
    deepen = DeepenLines(algo, checks)
    run: list[bytes] = []
    for arg in args:
        if arg.startswith(b"want ") and len(run) < RUN_MAX:
            run.append(arg)
            continue
        if run:
            _take_wants(run, wants, algo, checks)
            run.clear()
        if arg.startswith(b"have "):
            haves.append(parse_have(arg[5:], algo))
        elif arg.startswith(b"want "):
            run.append(arg)
        elif arg in flags:
            flags[arg] = True
            if arg == b"sideband-all":
                checks.sideband_all()
        elif allow_ref_in_want and arg.startswith(b"want-ref "):
            checks.want_ref(arg[9:])
            _take_want_ref(arg[9:], want_refs)
        elif allow_filter and arg.startswith(b"filter "):
            deepen.take_filter(arg[7:])
        elif allow_packfile_uris and arg.startswith(b"packfile-uris "):
            if packfile_uris:
                raise RemoteProtocolError("multiple packfile-uris lines forbidden")
            packfile_uris = tuple(arg[14:].split(b","))
        elif not deepen.take(arg):
            raise RemoteProtocolError(f"unexpected line: '{quote_line(arg)}'")
    if run:
        _take_wants(run, wants, algo, checks)
    return FetchRequest(
        wants=tuple(wants),
        haves=tuple(haves),
        done=flags[b"done"],
        shallows=tuple(deepen.shallows),
        depth=deepen.depth,
        deepen_since=deepen.deepen_since,
        deepen_not=tuple(deepen.deepen_not),
        deepen_relative=flags[b"deepen-relative"],
        filter=deepen.filter,
        thin_pack=flags[b"thin-pack"],
        ofs_delta=flags[b"ofs-delta"],
        no_progress=flags[b"no-progress"],
        include_tag=flags[b"include-tag"],
        side_band=PACKET_MAX_LARGE,
        want_refs=tuple(want_refs),
        wait_for_done=flags[b"wait-for-done"],
        sideband_all=flags.get(b"sideband-all", False),
        packfile_uris=packfile_uris,
    )


def _take_wants(run: Sequence[bytes], wants: dict[bytes, None], algo: HashAlgorithm, checks: LineChecks) -> None:
    """Take want lines that follow each other: all at once; where something is wrong one by one, to tell the first."""
    text = b"".join([arg[5 : 5 + algo.hex_size] for arg in run])
    size = algo.oid_size
    if len(text) == len(run) * algo.hex_size and (row := algo.parse_hex_row(text)) is not None:
        oids = [row[at : at + size] for at in range(0, len(row), size)]
        if checks.wants(oids):
            wants.update(dict.fromkeys(oids))
            return
    for arg in run:
        oid = _parse_want(arg, algo)
        checks.want(oid)
        wants[oid] = None


def _parse_want(arg: bytes, algo: HashAlgorithm) -> bytes:
    oid = algo.parse_hex(arg[5 : 5 + algo.hex_size])
    if oid is None:
        raise RemoteProtocolError(f"git upload-pack: protocol error, expected to get oid, not '{quote_line(arg)}'")
    return oid


def _take_want_ref(name: bytes, want_refs: dict[bytes, None]) -> None:
    if name in want_refs:
        raise RemoteProtocolError(f"duplicate want-ref {quote_line(name)}")
    want_refs[name] = None


def encode_line(line: bytes, *, sideband_all: bool = False) -> bytes:
    """Return one reply line as a packet, with band byte 1 when everything is side-banded. No LF is added."""
    return frame(Band.DATA, line) if sideband_all else encode(line)


def encode_fatal(text: str, *, sideband_all: bool = False) -> bytes:
    """Return the fatal answer: `ERR …`, or band 3 when everything is side-banded (V2-58)."""
    if sideband_all:
        return frame(Band.ERROR, text.encode("utf-8", "surrogateescape"))
    return encode_error(text)


def _encode_section(lines: Iterable[bytes], ending: bytes, sideband_all: bool) -> bytes:
    return b"".join(encode_line(line, sideband_all=sideband_all) for line in lines) + ending


def encode_acknowledgments(common_oids: Iterable[bytes], *, ready: bool, sideband_all: bool = False) -> bytes:
    """Return the acknowledgments section: NAK or ACKs, then `ready` and a delim, or a flush.

    Left out by the caller when the client said `done` (V2-29).
    """
    acks = [b"ACK %b\n" % oid.hex().encode("ascii") for oid in common_oids] or [b"NAK\n"]
    lines = [b"acknowledgments\n", *acks]
    if ready:
        lines.append(b"ready\n")
    return _encode_section(lines, DELIM if ready else FLUSH, sideband_all)


def encode_wanted_refs(refs: Iterable[tuple[bytes, bytes]], *, sideband_all: bool = False) -> bytes:
    """Return the wanted-refs section of (oid, name as asked for) pairs, and its delim."""
    lines = [b"%b %b\n" % (oid.hex().encode("ascii"), name) for oid, name in refs]
    return _encode_section([b"wanted-refs\n", *lines], DELIM, sideband_all)


def encode_shallow_info(shallows: Iterable[bytes], unshallows: Iterable[bytes], *, sideband_all: bool = False) -> bytes:
    """Return the lines of the shallow-info section (there may be none) and its delim. git puts no LF on them.

    Its first line is the caller's: git says it before it looks for the boundary, which may fail.
    """
    lines = [b"shallow " + oid.hex().encode("ascii") for oid in shallows]
    lines += [b"unshallow " + oid.hex().encode("ascii") for oid in unshallows]
    return _encode_section(lines, DELIM, sideband_all)


def encode_packfile_uris(uris: Iterable[tuple[bytes, bytes]], *, sideband_all: bool = False) -> bytes:
    """Return the packfile-uris section of (hex pack hash, URI) pairs, and its delim."""
    lines = [b"%b %b\n" % pair for pair in uris]
    return _encode_section([b"packfile-uris\n", *lines], DELIM, sideband_all)


def encode_packfile_header(*, sideband_all: bool = False) -> bytes:
    """Return the line that opens the packfile section; framed pack bytes and a flush follow."""
    return encode_line(b"packfile\n", sideband_all=sideband_all)
