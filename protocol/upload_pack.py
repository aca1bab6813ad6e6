"""upload-pack in v0 and v1: the request, and the dance of haves.

    want OID [SP capabilities] LF        capabilities on a want line, in practice the first
    shallow OID | deepen N | deepen-since T | deepen-not REF | filter SPEC
    flush
    have OID …   then flush or "done"    absent when the client only wants the shallow lines

Over HTTP every request stands alone: the client repeats its wants and what is common. So at a flush the
reply ends, unless `no-done` lets the pack follow; what the body holds behind that flush is ignored, as git
does.

`Negotiator` says what to answer to each have. It knows no objects: the caller says whether a have is known,
and answers "ready?" (every want reaches something common).

Source: gitprotocol-pack "Packfile Negotiation"; gitprotocol-http "Smart Service git-upload-pack"; rows
U0-20..49.
"""

from collections.abc import Callable, Iterator
from typing import Final

from govc.protocol.capabilities import CapabilityList, parse_capability_list
from govc.protocol.errors import RemoteProtocolError
from govc.protocol.fetch_request import (
    NO_CHECKS,
    AckMode,
    DeepenLines,
    FetchRequest,
    LineChecks,
    Step,
    parse_have,
)
from govc.protocol.oid import HashAlgorithm
from govc.protocol.pktline import (
    HUNG_UP,
    Control,
    check_not_error,
    encode_text,
    iter_packets,
    text_of,
    ticking,
)
from govc.protocol.sideband import PACKET_MAX_LARGE, PACKET_MAX_SMALL
from govc.protocol.text import quote_line

NAK: Final = encode_text(b"NAK")


def parse_upload_pack_request(
    body: bytes, algo: HashAlgorithm, *, allow_filter: bool = True, checks: LineChecks = NO_CHECKS
) -> FetchRequest | None:
    """Parse a whole request body; None when it wants nothing, and asks for no shallow lines (U0-26).

    `allow_filter` says whether the repository advertised `filter`; `checks` is shown the lines. Raises
    RemoteProtocolError with git's texts for what is wrong up to the flush; a fault among the haves is in the request.
    """
    packets = ticking(iter_packets(body), checks.tick)
    wants, capabilities, deepen = _parse_wants(packets, algo, allow_filter, checks)
    if not wants and not deepen.deepens:
        return None
    haves, steps, fault = _parse_haves(packets, algo) if wants else ([], [], None)
    return FetchRequest(
        wants=tuple(wants),
        haves=tuple(haves),
        done=steps[-1:] == [Step.DONE],
        shallows=tuple(deepen.shallows),
        depth=deepen.depth,
        deepen_since=deepen.deepen_since,
        deepen_not=tuple(deepen.deepen_not),
        deepen_relative=b"deepen-relative" in capabilities,
        filter=deepen.filter,
        thin_pack=b"thin-pack" in capabilities,
        ofs_delta=b"ofs-delta" in capabilities,
        no_progress=b"no-progress" in capabilities,
        include_tag=b"include-tag" in capabilities,
        side_band=_side_band(capabilities),
        ack_mode=_ack_mode(capabilities),
        no_done=b"no-done" in capabilities,
        steps=tuple(steps),
        fault=fault,
        client_agent=capabilities.get(b"agent", [b""])[0],
    )


def _side_band(capabilities: CapabilityList) -> int:
    if b"side-band-64k" in capabilities:
        return PACKET_MAX_LARGE
    return PACKET_MAX_SMALL if b"side-band" in capabilities else 0


def _ack_mode(capabilities: CapabilityList) -> AckMode:
    if b"multi_ack_detailed" in capabilities:
        return AckMode.DETAILED
    return AckMode.MULTI if b"multi_ack" in capabilities else AckMode.NONE


def _parse_wants(
    packets: Iterator[bytes | Control], algo: HashAlgorithm, allow_filter: bool, checks: LineChecks
) -> tuple[dict[bytes, None], CapabilityList, DeepenLines]:
    """Read up to the flush. A body that ends before it is a peer that hung up."""
    wants: dict[bytes, None] = {}
    capabilities: CapabilityList = {}
    deepen = DeepenLines(algo, checks)
    for packet in packets:
        if isinstance(packet, Control):
            return wants, capabilities, deepen
        line = text_of(packet)
        if line.startswith(b"want "):
            oid, words = _parse_want(line, algo)
            checks.want(oid)
            wants[oid] = None
            if words:
                # git takes capabilities from every want line, though clients send them on the first
                capabilities.update(parse_capability_list(words))
        elif line.startswith(b"filter "):
            if not (allow_filter and b"filter" in capabilities):
                raise RemoteProtocolError("git upload-pack: filtering capability not negotiated")
            deepen.take_filter(line[7:])
        elif not deepen.take(line):
            check_not_error(line)
            raise _bad_want(line)
    raise RemoteProtocolError(HUNG_UP)


def _parse_want(line: bytes, algo: HashAlgorithm) -> tuple[bytes, bytes]:
    """Return the oid and what follows it."""
    end = 5 + algo.hex_size
    oid = algo.parse_hex(line[5:end])
    if oid is None:
        raise _bad_want(line)
    return oid, line[end:]


def _bad_want(line: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(f"git upload-pack: protocol error, expected to get object ID, not '{quote_line(line)}'")


def _parse_haves(
    packets: Iterator[bytes | Control], algo: HashAlgorithm
) -> tuple[list[bytes], list[bytes | Step], RemoteProtocolError | None]:
    """Return the haves, the steps (the same, and the FLUSH or DONE that ends them), and what is wrong after them.

    A body that ends before either is fine: a stateless client goes away once it knows the shallow lines (U0-40), and
    what it said so far is answered. So is one that ends within the first of the packets, for git only peeks there.
    """
    haves: list[bytes] = []
    is_first = True
    try:
        for packet in packets:
            is_first = False
            if isinstance(packet, Control):
                return haves, [*haves, Step.FLUSH], None
            line = text_of(packet)
            if line.startswith(b"have "):
                haves.append(parse_have(line[5:], algo))
            elif line == b"done":
                return haves, [*haves, Step.DONE], None
            else:
                check_not_error(line)
                raise RemoteProtocolError(f"git upload-pack: expected SHA1 list, got '{quote_line(line)}'")
    except RemoteProtocolError as error:
        if is_first and error.text == HUNG_UP:
            return [], [], None
        return haves, list[bytes | Step](haves), error
    return haves, list[bytes | Step](haves), None


def encode_shallow_lines(shallows: list[bytes], unshallows: list[bytes]) -> bytes:
    """Return the shallow reply of a request that deepens: lines without LF, as in git, and a flush."""
    lines = [b"shallow " + oid.hex().encode("ascii") for oid in shallows]
    lines += [b"unshallow " + oid.hex().encode("ascii") for oid in unshallows]
    return b"".join(b"%04x%b" % (len(line) + 4, line) for line in lines) + b"0000"


class Negotiator:
    """Answers to haves, flush and done in the three acknowledgment modes.

    One per request. The methods return the packets to send, b"" for none. `ready` may be asked on every
    call until it first says yes; it isn't asked again before another common have came, since nothing else
    can change its answer.
    """

    def __init__(self, mode: AckMode, *, no_done: bool = False) -> None:
        self._mode = mode
        self._no_done = no_done
        self._last_common: bytes | None = None
        self._is_ready: bool | None = False  # None: a common have came since it was last asked
        self._sent_ready = False
        self._got_common = False  # in this round
        self._got_other = False

    @property
    def has_common(self) -> bool:
        """True when any have so far was common."""
        return self._last_common is not None

    def have(self, oid: bytes, is_common: bool, ready: Callable[[], bool], *, is_alone: bool = True) -> bytes:
        """Answer one have. `is_alone`: the common ones so far, this one included, say no more than one commit would."""
        if not is_common:
            return self._have_unknown(oid, ready)
        self._last_common = oid
        self._got_common = True
        if not self._is_ready:
            self._is_ready = None
        if self._mode is AckMode.DETAILED:
            return _ack(oid, b" common")
        if self._mode is AckMode.MULTI:
            return _ack(oid, b" continue")
        return _ack(oid) if is_alone else b""

    def _have_unknown(self, oid: bytes, ready: Callable[[], bool]) -> bytes:
        self._got_other = True
        if self._mode is AckMode.NONE or not self._ask(ready):
            return b""
        if self._mode is AckMode.MULTI:
            return _ack(oid, b" continue")
        self._sent_ready = True
        return _ack(oid, b" ready")

    def _ask(self, ready: Callable[[], bool]) -> bool:
        if self._is_ready is None:
            self._is_ready = ready()
        return self._is_ready

    def flush(self, ready: Callable[[], bool]) -> tuple[bytes, bool]:
        """Answer a flush. True with it means that the pack follows at once (no-done, U0-30).

        Otherwise a stateless reply ends here, and a stateful conversation goes on.
        """
        answer = b""
        is_whole_round_common = self._got_common and not self._got_other
        if self._mode is AckMode.DETAILED and is_whole_round_common and self._ask(ready):
            self._sent_ready = True
            answer += _ack(self._get_last_common(), b" ready")
        if self._mode is not AckMode.NONE or self._last_common is None:
            answer += NAK
        if self._no_done and self._sent_ready:
            return answer + _ack(self._get_last_common()), True
        self._got_common = self._got_other = False
        return answer, False

    def done(self) -> bytes:
        """Answer "done": the pack follows."""
        if self._last_common is None:
            return NAK
        return b"" if self._mode is AckMode.NONE else _ack(self._last_common)

    def _get_last_common(self) -> bytes:
        assert self._last_common is not None, "ready without a common have"
        return self._last_common


def _ack(oid: bytes, status: bytes = b"") -> bytes:
    return encode_text(b"ACK %b%b" % (oid.hex().encode("ascii"), status))
