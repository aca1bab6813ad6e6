"""One value for every way of asking for a pack: v0, v1 and v2 requests end up here.

Hashable, so that it can be part of a cache key. Shared by `upload_pack` (v0, v1) and `fetch` (v2), which
also share the parsing of the deepen family.

Source: gitprotocol-pack "Packfile Negotiation", gitprotocol-v2 "fetch"; rows U0-22, U0-35, U0-37..49.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.object_filter import ObjectFilter, parse_filter
from govc.protocol.oid import HashAlgorithm
from govc.protocol.text import find_c_integer, quote_line

INFINITE_DEPTH: Final = 0x7FFFFFFF  # `deepen 2147483647`: the client wants to be shallow no more
TIMESTAMP_MAX: Final = (1 << 64) - 2


class AckMode(Enum):
    """How haves are acknowledged in v0 and v1."""

    NONE = "none"
    MULTI = "multi_ack"
    DETAILED = "multi_ack_detailed"


class Step(Enum):
    """What stands between the haves of a v0 or v1 request."""

    FLUSH = "flush"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """What the client wants and has.

    `depth` 0 means none was asked for, INFINITE_DEPTH means unshallow. `side_band` is the packet size: 0
    (no side band), 1000 or 65520. `steps` is the have phase of v0/v1 in order: oids, then the FLUSH or DONE
    that ends it; empty when the body ended before (the client only wanted the shallow lines).

    `fault` is what is wrong with the body behind the last step: told once the steps have been answered.

    v2 only: `want_refs`, `wait_for_done`, `sideband_all`, `packfile_uris`. v0/v1 only: `ack_mode`,
    `no_done`, `steps`, `fault`, `client_agent` (in v2 the agent is the Command's).
    """

    wants: tuple[bytes, ...] = ()
    haves: tuple[bytes, ...] = ()
    done: bool = False
    shallows: tuple[bytes, ...] = ()
    depth: int = 0
    deepen_since: int | None = None
    deepen_not: tuple[bytes, ...] = ()
    deepen_relative: bool = False
    filter: ObjectFilter | None = None
    thin_pack: bool = False
    ofs_delta: bool = False
    no_progress: bool = False
    include_tag: bool = False
    side_band: int = 0
    want_refs: tuple[bytes, ...] = ()
    wait_for_done: bool = False
    sideband_all: bool = False
    packfile_uris: tuple[bytes, ...] = ()
    ack_mode: AckMode = AckMode.NONE
    no_done: bool = False
    steps: tuple[bytes | Step, ...] = ()
    fault: RemoteProtocolError | None = field(default=None, compare=False)
    client_agent: bytes = b""

    @property
    def deepens(self) -> bool:
        """True when the request moves the shallow boundary, so that v0 answers with shallow lines."""
        return bool(self.depth or self.deepen_not) or self.deepen_since is not None

    def check_consistent(self) -> None:
        """Raise RemoteProtocolError when a depth and a revision limit were both given (U0-45).

        Not a matter of one line: git finds out when it tells the boundary, after ACKs in v2.
        """
        if self.depth and (self.deepen_not or self.deepen_since is not None):
            raise RemoteProtocolError(
                "git upload-pack: deepen and deepen-since (or deepen-not) cannot be used together"
            )


class LineChecks:
    """What only a repository can tell of a line. Called as the lines come: of several faults the first is told.

    The methods raise RemoteProtocolError. This one knows no repository and lets everything pass.
    """

    def tick(self) -> None:
        """Called every millisecond or so of reading: others may run."""

    def want(self, oid: bytes) -> None:
        """Look at a wanted object."""

    def wants(self, oids: Sequence[bytes]) -> bool:
        """Look at many of them at once; False: they are to be looked at one by one."""
        return False

    def want_ref(self, name: bytes) -> None:
        """Look at a ref wanted by name (v2)."""

    def shallow(self, oid: bytes) -> bool:
        """Return whether the commit is known here; one that isn't says nothing (U0-42)."""
        return True

    def deepen_not(self, name: bytes) -> None:
        """Look at the name of a ref."""

    def filter(self, object_filter: ObjectFilter) -> None:
        """Look whether such filters are served."""

    def sideband_all(self) -> None:
        """Note that what is said from here on goes into the side band (v2)."""


NO_CHECKS: Final = LineChecks()


class DeepenLines:
    """Collects `shallow`, `deepen…` and `filter` lines, whose grammar v0 and v2 share."""

    def __init__(self, algo: HashAlgorithm, checks: LineChecks = NO_CHECKS) -> None:
        self._algo = algo
        self._checks = checks
        self.shallows: dict[bytes, None] = {}
        self.depth = 0
        self.deepen_since: int | None = None
        self.deepen_not: list[bytes] = []
        self.filter: ObjectFilter | None = None

    def take(self, line: bytes) -> bool:
        """Take the line (without LF) when it is one of those; return False when it isn't.

        Raises RemoteProtocolError with git's text on a bad value.
        """
        word, _, value = line.partition(b" ")
        if word == b"shallow":
            # git reads the hex digits and leaves what follows them alone
            oid = self._algo.parse_hex(value[: self._algo.hex_size])
            if oid is None:
                raise RemoteProtocolError(f"invalid shallow line: {quote_line(line)}")
            if self._checks.shallow(oid):
                self.shallows[oid] = None
        elif word == b"deepen":
            self.depth = _parse_depth(line, value)
        elif word == b"deepen-since":
            self.deepen_since = _parse_timestamp(line, value)
        elif word == b"deepen-not":
            self._checks.deepen_not(value)
            self.deepen_not.append(value)
        else:
            return False
        return True

    def take_filter(self, spec: bytes) -> None:
        """Take the spec of a `filter` line. Raises RemoteProtocolError on a second one or a bad one."""
        if self.filter is not None:
            raise RemoteProtocolError("multiple filter-specs cannot be combined")
        self.filter = parse_filter(spec)
        self._checks.filter(self.filter)

    @property
    def deepens(self) -> bool:
        """True when the client asks for a new boundary."""
        return bool(self.depth or self.deepen_not) or self.deepen_since is not None


def _parse_depth(line: bytes, value: bytes) -> int:
    depth = find_c_integer(value)
    if depth is None or depth <= 0:
        raise RemoteProtocolError(f"Invalid deepen: {quote_line(line)}")
    return min(depth, INFINITE_DEPTH)


def _parse_timestamp(line: bytes, value: bytes) -> int:
    seconds = find_c_integer(value) if value else 0  # as in git
    if seconds is None or not 0 <= seconds <= TIMESTAMP_MAX:
        raise RemoteProtocolError(f"Invalid deepen-since: {quote_line(line)}")
    return seconds


def parse_have(text: bytes, algo: HashAlgorithm) -> bytes:
    """Return the oid of a have (`text` follows `have `; what follows the digits is ignored, as in git)."""
    oid = algo.parse_hex(text[: algo.hex_size])
    if oid is None:
        raise RemoteProtocolError(f"git upload-pack: expected SHA1 object, got '{quote_line(text)}'")
    return oid
