"""Capabilities: what each side can do, as names and values.

In v0 and v1 they are one space-separated list behind a NUL on the first line of the advertisement, and on
the first `want` or command line of the request. In v2 each is a line of its own, and the values of `fetch`
and `ls-refs` are space-separated features of that command. The order on output is that of the real server.

Source: gitprotocol-capabilities; gitprotocol-v2 "Capability Advertisement"; rows U0-10..19, RP-02..08,
V2-01..03, V2-21.
"""

from dataclasses import dataclass

from govc.protocol.oid import HashAlgorithm

CapabilityList = dict[bytes, list[bytes]]

_UPLOAD_PACK_ALWAYS = (
    b"multi_ack thin-pack side-band side-band-64k ofs-delta shallow deepen-since deepen-not"
    b" deepen-relative no-progress include-tag multi_ack_detailed"
)
_RECEIVE_PACK_ALWAYS = b"report-status report-status-v2 delete-refs side-band-64k quiet"

_DOT_FOR_UNPRINTABLE = bytes(b if 0x20 < b < 0x7F else ord(".") for b in range(256))


def parse_capability_list(text: bytes) -> CapabilityList:
    """Return name -> values, in order of appearance. A name without `=` has the value b"".

    Unknown names are kept: whoever asks by name ignores them.
    """
    capabilities: CapabilityList = {}
    for word in text.split():
        name, _, value = word.partition(b"=")
        capabilities.setdefault(name, []).append(value)
    return capabilities


def encode_capability_list(words: list[bytes]) -> bytes:
    """Return the words as one list, leaving out the empty ones."""
    return b" ".join(word for word in words if word)


def sanitize_agent(agent: str) -> bytes:
    """Return an agent string fit for the wire: bytes that aren't printable ASCII become dots, as in git."""
    return agent.strip().encode("utf-8", "surrogateescape").translate(_DOT_FOR_UNPRINTABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPackFeatures:
    """What the v0/v1 advertisement of upload-pack says. `head_target` is the branch that HEAD names."""

    algo: HashAlgorithm
    agent: bytes
    head_target: bytes | None = None
    allow_tip_sha1_in_want: bool = False
    allow_reachable_sha1_in_want: bool = False
    no_done: bool = True
    filter: bool = False
    session_id: bytes = b""

    def encode(self) -> bytes:
        """Return the capability list."""
        return encode_capability_list(
            [
                _UPLOAD_PACK_ALWAYS,
                b"allow-tip-sha1-in-want" if self.allow_tip_sha1_in_want else b"",
                b"allow-reachable-sha1-in-want" if self.allow_reachable_sha1_in_want else b"",
                b"no-done" if self.no_done else b"",
                b"symref=HEAD:" + self.head_target if self.head_target is not None else b"",
                b"filter" if self.filter else b"",
                b"session-id=" + self.session_id if self.session_id else b"",
                b"object-format=" + self.algo.name.encode("ascii"),
                b"agent=" + self.agent,
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivePackFeatures:
    """What the advertisement of receive-pack says. `push_cert_nonce` is b"" when signed pushes are off."""

    algo: HashAlgorithm
    agent: bytes
    atomic: bool = True
    ofs_delta: bool = True
    push_cert_nonce: bytes = b""
    push_options: bool = False
    session_id: bytes = b""

    def encode(self) -> bytes:
        """Return the capability list."""
        return encode_capability_list(
            [
                _RECEIVE_PACK_ALWAYS,
                b"atomic" if self.atomic else b"",
                b"ofs-delta" if self.ofs_delta else b"",
                b"push-cert=" + self.push_cert_nonce if self.push_cert_nonce else b"",
                b"push-options" if self.push_options else b"",
                b"session-id=" + self.session_id if self.session_id else b"",
                b"object-format=" + self.algo.name.encode("ascii"),
                b"agent=" + self.agent,
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class V2Features:
    """What the v2 advertisement says, and so which commands and keys a request may use."""

    algo: HashAlgorithm
    agent: bytes
    unborn: bool = True
    filter: bool = False
    ref_in_want: bool = False
    sideband_all: bool = False
    packfile_uris: bool = False
    session_id: bytes = b""
    object_info: bool = False
    bundle_uri: bool = False
    promisor_remote: bytes = b""

    def encode_lines(self) -> list[bytes]:
        """Return the capability lines, without LF, in the order of the real server."""
        fetch = [
            b"fetch=shallow wait-for-done",
            b"filter" if self.filter else b"",
            b"ref-in-want" if self.ref_in_want else b"",
            b"sideband-all" if self.sideband_all else b"",
            b"packfile-uris" if self.packfile_uris else b"",
        ]
        lines = [
            b"agent=" + self.agent,
            b"ls-refs=unborn" if self.unborn else b"ls-refs",
            encode_capability_list(fetch),
            b"server-option",
            b"object-format=" + self.algo.name.encode("ascii"),
            b"session-id=" + self.session_id if self.session_id else b"",
            b"object-info" if self.object_info else b"",
            b"bundle-uri" if self.bundle_uri else b"",
            b"promisor-remote=" + self.promisor_remote if self.promisor_remote else b"",
        ]
        return [line for line in lines if line]

    @property
    def commands(self) -> frozenset[bytes]:
        """The commands a request may ask for; the others are invalid, not just unadvertised (V2-48)."""
        names = {b"ls-refs", b"fetch"}
        if self.object_info:
            names.add(b"object-info")
        if self.bundle_uri:
            names.add(b"bundle-uri")
        return frozenset(names)

    @property
    def request_keys(self) -> frozenset[bytes]:
        """The keys that a request may carry beside its command."""
        names = {b"agent", b"server-option", b"object-format"}
        if self.session_id:
            names.add(b"session-id")
        if self.promisor_remote:
            names.add(b"promisor-remote")
        return frozenset(names)
