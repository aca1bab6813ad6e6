"""Requests built by hand and answers taken apart: pkt-lines, side bands, reports (gitprotocol-common, -pack).

Written apart from govc.protocol on purpose: a mistake there must not be able to hide itself here.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from compat.gitclient import Git

ZERO = "0" * 40
UPLOAD = "application/x-git-upload-pack-request"
RECEIVE = "application/x-git-receive-pack-request"
V2 = {"Git-Protocol": "version=2"}
TIMEOUT_SECONDS = 180


class Special(enum.Enum):
    """The packets that are no data."""

    FLUSH = b"0000"
    DELIM = b"0001"
    END = b"0002"


FLUSH, DELIM, END = Special.FLUSH, Special.DELIM, Special.END
Packet = bytes | Special


def pkt(line: bytes | str) -> bytes:
    """One data packet; text gets no LF of its own accord."""
    data = line.encode() if isinstance(line, str) else line
    return b"%04x%b" % (len(data) + 4, data)


def lines(*items: bytes | str | Special) -> bytes:
    """Packets in a row: text gets an LF, specials are themselves, bytes are taken as they are."""
    out = []
    for item in items:
        if isinstance(item, Special):
            out.append(item.value)
        else:
            out.append(pkt(item + "\n" if isinstance(item, str) else item))
    return b"".join(out)


@dataclass(frozen=True)
class Reply:
    """An HTTP answer: header names in lower case."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes
    cut: bool = False

    @property
    def packets(self) -> list[Packet]:
        """The body as packets; raises ValueError when it is not framed so."""
        return parse_packets(self.body)


def request(
    base: str,
    method: str,
    path: str,
    *,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Reply:
    """Send one request; the path goes out as it is. An iterable body is sent chunked.

    A server that has heard enough may be gone before all of the body is sent; what it said counts then too.
    """
    place = urlsplit(base)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=timeout)
    try:
        connection.connect()
        chunked = body is not None and not isinstance(body, bytes)
        target, fields = place.path + path, dict(headers or {})
        with contextlib.suppress(ConnectionError):
            connection.request(method, target, body=body, headers=fields, encode_chunked=chunked)
        return read_reply(connection.getresponse())
    finally:
        connection.close()


def read_reply(answer: http.client.HTTPResponse) -> Reply:
    """All of an answer, also when the server cut it short."""
    cut = False
    try:
        data = answer.read()
    except http.client.IncompleteRead as error:
        data, cut = error.partial, True
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Reply(answer.status, answer.reason, headers, data, cut)


def post(base: str, service: str, body: bytes | Iterable[bytes], headers: Mapping[str, str] | None = None) -> Reply:
    """POST to a service with the right content type."""
    types = {"Content-Type": f"application/x-git-{service}-request"}
    return request(base, "POST", f"/git-{service}", body=body, headers=types | dict(headers or {}))


def upload(base: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
    """POST to git-upload-pack."""
    return post(base, "upload-pack", body, headers)


def receive(base: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
    """POST to git-receive-pack."""
    return post(base, "receive-pack", body, headers)


def discover(base: str, service: str = "upload-pack", headers: Mapping[str, str] | None = None) -> Reply:
    """GET info/refs for a service."""
    return request(base, "GET", f"/info/refs?service=git-{service}", headers=headers)


def raw_head(base: str, service: str, framing: str) -> bytes:
    """The head of a POST to a service, for `send_raw`; `framing` is the header that bounds the body."""
    path = urlsplit(base).path
    kind = f"application/x-git-{service}-request"
    return f"POST {path}/git-{service} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n".encode()


def send_raw(base: str, data: bytes, *, close: bool = True, timeout: float = TIMEOUT_SECONDS) -> bytes:
    """Bytes on a socket as they are; with `close` our side is shut down after them. All that came back.

    A server that has heard enough may be gone before our side is shut down; what it said is kept then too.
    """
    place = urlsplit(base)
    with socket.create_connection((place.hostname or "", place.port or 80), timeout=timeout) as connection:
        out: list[bytes] = []
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        if close:
            with contextlib.suppress(OSError):  # ENOTCONN, which is no ConnectionError
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                out.append(piece)
        return b"".join(out)


def parse_packets(data: bytes) -> list[Packet]:
    """Split pkt-lines; raises ValueError at what is none."""
    out: list[Packet] = []
    position = 0
    while position < len(data):
        length = int(data[position : position + 4], 16)
        if length < 3:
            out.append(Special(data[position : position + 4]))
            position += 4
            continue
        if length == 3 or position + length > len(data) or length > 65520:
            raise ValueError(f"bad packet at byte {position}: {data[position : position + 40]!r}")
        out.append(data[position + 4 : position + length])
        position += length
    return out


def split_pack_lines(data: bytes) -> tuple[list[Packet], bytes]:
    """The pkt-lines before a pack that is sent without a side band, and the pack."""
    place = data.find(b"PACK")
    if place < 0:
        return parse_packets(data), b""
    return parse_packets(data[:place]), data[place:]


@dataclass(frozen=True)
class Demuxed:
    """What the three bands carried, and the packets before the first band packet."""

    head: list[Packet]
    data: bytes
    progress: bytes
    fatal: bytes
    ended: bool


def demux(packets: list[Packet], *, v2: bool = False) -> Demuxed:
    """Take side bands apart. v0: bands begin at the first packet of band 1 to 3; v2: after `packfile`."""
    start = len(packets)
    for position, packet in enumerate(packets):
        if v2 and packet == b"packfile\n":
            start = position + 1
            break
        if not v2 and isinstance(packet, bytes) and packet[:1] in (b"\1", b"\2", b"\3"):
            start = position
            break
    bands = {1: [], 2: [], 3: []}  # type: dict[int, list[bytes]]
    ended = False
    for packet in packets[start:]:
        if isinstance(packet, Special):
            ended = packet is FLUSH
            continue
        bands[packet[0]].append(packet[1:])
    return Demuxed(packets[:start], b"".join(bands[1]), b"".join(bands[2]), b"".join(bands[3]), ended)


def parse_report(reply: Reply) -> list[bytes]:
    """The lines of report-status, side-banded or not."""
    if reply.body == b"":
        return []
    packets = reply.packets
    if any(isinstance(packet, bytes) and packet[:1] in (b"\1", b"\2", b"\3") for packet in packets):
        packets = parse_packets(demux(packets).data)
    return [packet.rstrip(b"\n") for packet in packets if isinstance(packet, bytes)]


def parse_advertisement(packets: list[Packet]) -> tuple[list[bytes], list[bytes]]:
    """The lines of a v0 advertisement without its service line, and the capabilities (agent left out)."""
    found = [packet.rstrip(b"\n") for packet in packets if isinstance(packet, bytes)]
    found = [line for line in found if not line.startswith(b"# service=")]
    capabilities: list[bytes] = []
    out = []
    for line in found:
        name, nul, words = line.partition(b"\0")
        if nul:
            capabilities = [word for word in words.split() if not word.startswith((b"agent=", b"session-id="))]
        out.append(name)
    return out, capabilities


def pack_objects(git: Git, pack: bytes, *, bases: str | None = None, object_format: str = "sha1") -> set[str]:
    """The ids in a pack; `bases` is a repository that holds what a thin pack leans on."""
    scratch = git.cwd / "unpack-scratch.git"
    count = 0
    while scratch.exists():
        count += 1
        scratch = git.cwd / f"unpack-scratch{count}.git"
    git("init", "-q", "--bare", f"--object-format={object_format}", scratch)
    if bases is not None:
        (scratch / "objects/info/alternates").write_text(f"{bases}/objects\n")
    options = ["--fix-thin"] if bases is not None else []
    name = git("index-pack", "--stdin", *options, cwd=scratch, input=pack).stdout.split()[-1]
    index = (scratch / f"objects/pack/pack-{name}.idx").read_bytes()
    listing = git("show-index", f"--object-format={object_format}", cwd=scratch, input=index).stdout
    return {line.split()[1] for line in listing.splitlines()}


def make_pack(git: Git, repository: object, revisions: Iterable[str], *options: str) -> bytes:
    """`git pack-objects` over revisions (`^x` excludes) of a repository, as bytes."""
    stdin = "".join(f"{revision}\n" for revision in revisions).encode()
    return git.output_bytes("pack-objects", "--revs", "-q", "--stdout", *options, cwd=str(repository), input=stdin)
