"""What of an answer counts when two servers are compared, and in which words.

An answer becomes a `Seen`: status, the headers that git sends, and its body taken apart as far as its kind allows.
Left out is what two servers can't have in common: the agent, session ids, dates of this moment, progress, and which
objects a pack holds beyond what was asked for (two correct servers differ there; compat/answers.py says how).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from itertools import groupby

from compat.differential.world import Request
from compat.pushing import REASONS
from compat.rawhttp import Reply, Special

COMPARED_HEADERS = ("content-type", "cache-control", "pragma", "allow", "content-length")

_AGENT = re.compile(rb" ?(?:agent|session-id)=[^ \n]*")


@dataclass(frozen=True)
class Seen:
    """One answer, as it counts. `packets` end where something that is no packet begins; `rest` is that.

    `died`: the program ended with a failure, or broke the answer off.
    """

    status: int
    headers: dict[str, str]
    packets: tuple[bytes, ...]
    rest: bytes
    errors: tuple[bytes, ...] = ()
    died: bool = field(default=False, compare=False)


def look_at(request: Request, reply: Reply) -> Seen:
    """Take an answer apart."""
    headers = {name: reply.headers[name] for name in COMPARED_HEADERS if name in reply.headers}
    expires = reply.headers.get("expires", "")
    headers["expires"] = "in 1980" if "1980" in expires else "later" if expires else ""
    if "last-modified" in reply.headers:
        headers["last-modified"] = str(parsedate_to_datetime(reply.headers["last-modified"]).timestamp())
    if (not reply.body and reply.status != 200) or reply.status == 415:
        headers.pop("content-length", None)  # git leaves it to the web server to say how much there is
    if request.variables.get("REQUEST_METHOD") == "HEAD":  # git leaves it to the web server to cut the body off
        headers.pop("content-length", None)
        return Seen(reply.status, headers, (), b"", died=reply.cut)
    kind = reply.headers.get("content-type", "")
    is_framed = kind.startswith("application/x-git-") and kind.endswith(("-result", "-advertisement"))
    if not is_framed:
        return Seen(reply.status, headers, (), reply.body, died=reply.cut)
    headers.pop("content-length", None)
    packets, rest = split(reply.body)
    if kind.endswith("-advertisement"):
        return Seen(reply.status, headers, tuple(map(plain_capabilities, packets)), rest, died=reply.cut)
    if "receive-pack" in kind:
        errors = tuple(packet.rstrip(b"\n") for packet in packets if packet.startswith(b"=ERR "))
        packets = [packet for packet in packets if not packet.startswith(b"=ERR ")]
        return Seen(reply.status, headers, report(packets), rest, errors, died=reply.cut)
    return replace(fetched(reply.status, headers, packets, rest), died=reply.cut)


def split(body: bytes) -> tuple[list[bytes], bytes]:
    """The packets (their bytes, or the four of a special one), and what follows the last whole one."""
    packets, at = [], 0
    while at + 4 <= len(body):
        try:
            size = int(body[at : at + 4], 16)
        except ValueError:
            break
        if size < 3:
            packets.append(Special(body[at : at + 4]).value)
            at += 4
        elif size == 3 or at + size > len(body):
            break
        else:
            packets.append(b"=" + body[at + 4 : at + size])
            at += size
    return packets, body[at:]


def plain_capabilities(packet: bytes) -> bytes:
    """An advertised line without its agent, its capabilities in order of the alphabet."""
    name, nul, words = packet.partition(b"\0")
    if nul:
        return name + nul + b" ".join(sorted(_AGENT.sub(b"", words).split()))
    return _AGENT.sub(b"", packet)


def report(packets: list[bytes]) -> tuple[bytes, ...]:
    """The report of a push in the words of every release; progress and messages are dropped."""
    if any(packet[:2] in (b"=\1", b"=\2", b"=\3") for packet in packets):
        data = b"".join(packet[2:] for packet in packets if packet[:2] == b"=\1")
        fatal = [packet for packet in packets if packet[:2] == b"=\3"]
        inner, rest = split(data)
        packets = [*inner, *([b"rest " + rest] if rest else []), *([b"fatal"] if fatal else []), *packets[-1:]]
    said = []
    for packet in packets:
        if packet.startswith(b"=ng "):
            for newer, older in REASONS.items():
                packet = packet.replace(newer, older)
        said.append(packet)
    return tuple(said)


def fetched(status: int, headers: dict[str, str], packets: list[bytes], rest: bytes) -> Seen:
    """A fetch's answer: the packets before the pack, whether there is one, and how it ends."""
    head: list[bytes] = []
    data = b""
    errors: list[bytes] = []
    for packet in packets:
        if packet[:2] == b"=\1":
            data += packet[2:]
        elif packet[:2] == b"=\3" or packet.startswith(b"=ERR "):
            errors.append(packet.rstrip(b"\n\0"))  # 2.39 sends the NUL of its text
        elif packet[:2] != b"=\2":
            head.append(packet)
    # In a v2 conversation that is all in the side band, band 1 holds the lines, too.
    lines, after = split(data) if data and not data.startswith(b"PACK") else ([], data)
    head += lines
    head = in_order(head)
    pack = after if after.startswith(b"PACK") else rest if rest.startswith(b"PACK") else b""
    other = b"" if pack else after + rest
    summary = (b"a pack",) if pack and is_pack(pack) else (b"a broken pack",) if pack else ()
    return Seen(status, headers, (*head, *summary), other, tuple(errors))


def in_order(packets: list[bytes]) -> list[bytes]:
    """The packets, neighbours that tell the boundary in order of the alphabet: git has them as it walked."""
    found: list[bytes] = []
    for is_boundary, run in groupby(packets, lambda packet: packet.startswith((b"=shallow ", b"=unshallow "))):
        neighbours = list(run)
        found += sorted(neighbours) if is_boundary else neighbours
    return found


def is_pack(pack: bytes) -> bool:
    """Whether a pack has as many entries as it says, each a whole zlib stream, and nothing else; hashes aren't made."""
    count = int.from_bytes(pack[8:12], "big")
    at = 12
    for _ in range(count):
        byte = pack[at]
        kind = byte >> 4 & 7
        at += 1
        while byte & 0x80:
            byte = pack[at]
            at += 1
        if kind == 6:
            while pack[at] & 0x80:
                at += 1
            at += 1
        elif kind == 7:
            at += 20
        stream = zlib.decompressobj()
        stream.decompress(pack[at:])
        if not stream.eof:
            return False
        at = len(pack) - len(stream.unused_data)
    return len(pack) - at == 20
