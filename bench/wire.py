"""Requests as bytes, and clients that cost next to nothing: they read an answer to its end and throw it away.

`git clone` spends most of its time in its own index-pack, so no server could be told from another by its clock; and
what a client spends is nobody's figure here. An answer counts when it ends as a whole one does.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from bench.servers import Server

BUFFER_BYTES = 1 << 20
TAIL_BYTES = 64
UPLOAD_PACK = "application/x-git-upload-pack-"
RECEIVE_PACK = "application/x-git-receive-pack-"
FETCH_OPTIONS = ("thin-pack", "no-progress", "include-tag", "ofs-delta")


class Refused(Exception):
    """A server can't do what a row asks; the text is the reason that the table gives."""


@dataclass(frozen=True)
class Request:
    """One HTTP request of a row: path with query, body (a POST when there is one), headers."""

    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """GET without a body."""
        return "POST" if self.body else "GET"

    def encode(self, host: str, *, keep: bool = False) -> bytes:
        """The request as it goes over the wire."""
        fields = {"Host": host, "Connection": "keep-alive" if keep else "close", **self.headers}
        if self.body:
            fields["Content-Length"] = str(len(self.body))
        head = f"{self.method} {self.path} HTTP/1.1\r\n" + "".join(f"{name}: {x}\r\n" for name, x in fields.items())
        return head.encode() + b"\r\n" + self.body


def packets(*lines: str) -> bytes:
    """Pkt-lines; "0000" and "0001" stand for themselves."""
    return "".join(x if x in ("0000", "0001") else f"{len(x) + 4:04x}{x}" for x in lines).encode()


def info_refs(name: str, service: str = "git-upload-pack") -> Request:
    """What a client of version 0 asks first."""
    return Request(f"/{name}/info/refs?service={service}")


def _v2(name: str, command: str, arguments: Iterable[str]) -> Request:
    body = packets(f"command={command}\n", "agent=bench\n", "object-format=sha1", "0001", *arguments, "0000")
    headers = {"Git-Protocol": "version=2", "Content-Type": UPLOAD_PACK + "request", "Accept": UPLOAD_PACK + "result"}
    return Request(f"/{name}/git-upload-pack", body, headers)


def ls_refs(name: str, *prefixes: str) -> Request:
    """`git ls-remote` in version 2."""
    return _v2(name, "ls-refs", ["peel\n", "symrefs\n", *(f"ref-prefix {prefix}\n" for prefix in prefixes)])


def fetch(name: str, wants: Sequence[str], haves: Sequence[str] = (), *options: str) -> Request:
    """One request of version 2 that ends in a pack."""
    lines = [*FETCH_OPTIONS, *(f"want {oid}" for oid in wants), *(f"have {oid}" for oid in haves), *options, "done"]
    return _v2(name, "fetch", (f"{line}\n" for line in lines))


def push(name: str, body: bytes) -> Request:
    """A push whose commands and pack are given."""
    return Request(f"/{name}/git-receive-pack", body, {"Content-Type": RECEIVE_PACK + "request"})


def push_body(ref: str, old: str | None, new: str, pack: bytes) -> bytes:
    """One command, and the pack behind it."""
    zero = "0" * 40
    return packets(f"{old or zero} {new} {ref}\0 report-status side-band-64k object-format=sha1", "0000") + pack


def connect(server: Server, timeout: float = 120) -> http.client.HTTPConnection:
    """A keep-alive connection to a server."""
    parts = urlsplit(server.url)
    return http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=timeout)


def ask(connection: http.client.HTTPConnection, request: Request) -> bytes:
    """Send it and return the whole answer; Refused unless the status is 200."""
    connection.request(request.method, request.path, request.body or None, dict(request.headers))
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise Refused(f"status {response.status}")
    return content


def ask_once(server: Server, request: Request) -> bytes:
    """The same over a connection of its own."""
    with contextlib.closing(connect(server)) as connection:
        return ask(connection, request)


def is_acknowledged(report: bytes) -> bool:
    """Whether a report, in a side band or without, says that all went well."""
    return b"unpack ok\n" in report and b"ng refs/" not in report


def push_once(connection: http.client.HTTPConnection, request: Request) -> None:
    """Refused unless the push is acknowledged."""
    said = ask(connection, request)
    if not is_acknowledged(said):
        raise Refused(f"push: {said[:200]!r}")


_CHUNK_BOUNDARY = re.compile(rb"\r\n[0-9a-f]+\r\n")


def is_end_of_answer(tail: bytes) -> bool:
    """Whether an answer, chunked or not, ends with a flush: the bytes may be split anywhere between chunks."""
    return _CHUNK_BOUNDARY.sub(b"", tail).rstrip(b"\r\n").endswith(b"0000")


class Drained(NamedTuple):
    """How many bytes came, and after how many seconds the first of the pack did."""

    size: int
    first_pack_seconds: float


def drain(server: Server, request: Request) -> Drained:
    """Send a request and read its answer to the end of the connection. Refused unless whole."""
    place = urlsplit(server.url)
    buffer = bytearray(BUFFER_BYTES)
    total, tail, head, first_pack = 0, b"", b"", 0.0
    began = time.perf_counter()
    with socket.create_connection((str(place.hostname), place.port or 80), timeout=600) as connection:
        connection.sendall(request.encode(place.netloc))
        while count := connection.recv_into(buffer):
            total += count
            if not first_pack:
                head += bytes(buffer[:count])
                if b"PACK\0" in _CHUNK_BOUNDARY.sub(b"", head):
                    first_pack = time.perf_counter() - began
            tail = (tail + bytes(buffer[max(0, count - TAIL_BYTES) : count]))[-TAIL_BYTES:]
    if not head.startswith(b"HTTP/1.1 200"):
        raise Refused(f"answered {head[:40]!r}")
    if not is_end_of_answer(tail) or not first_pack:
        raise Refused(f"the answer was cut short: {head[-300:]!r}")
    return Drained(total, first_pack)


Lane = TypeVar("Lane")
Result = TypeVar("Result")


def at_once(work: Callable[[Lane], Result], lanes: Sequence[Lane]) -> list[Result]:
    """`work` on each of them at the same time, in a thread each; raises the first error when all have ended."""
    with ThreadPoolExecutor(len(lanes)) as pool:
        return list(pool.map(work, lanes))


def drain_at_once(server: Server, request: Request, clients: int) -> int:
    """So many clients at once, in this one process; how many bytes they got."""
    return sum(drained.size for drained in at_once(lambda _: drain(server, request), range(clients)))


def push_lanes(server: Server, name: str, lanes: Sequence[Sequence[bytes]], *, lists: bool = True) -> None:
    """Push each list through a connection of its own, all at once; `lists`: the refs are asked for before each push."""
    listing = info_refs(name, "git-receive-pack")

    def work(bodies: Sequence[bytes]) -> None:
        with contextlib.closing(connect(server)) as connection:
            for body in bodies:
                if lists:
                    ask(connection, listing)
                push_once(connection, push(name, body))

    at_once(work, lanes)
