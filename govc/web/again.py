"""Requests that come again in the same bytes, whose answer is in memory or in a file: nothing is read twice.

Most of what a listing costs, and a small clone, is finding out what is asked: reading the request, dressing it as an
environ, deciding who asks from where for what. All of that says the same for the same bytes from the same address, so a
worker keeps what the full way found out (`KnownRequest`), by these bytes. What may say something else the next time is
asked each time:

    has anything changed?     the proof by stat (`repo/proof`); what was found out holds for one proof and no other
    who may?                  the permission file
    who is it?                nothing is kept where logins are checked here, or requests are counted against a rate
    the request's id          a proxy gives each request another one: it is cut out, and counts for the log

`words_of` gives the bytes. Two requests of the lane with the same words differ in the value of one X-Request-Id alone,
wherever in the head it stands. Long words are kept as a digest. Nothing is kept of a request that carries a secret.

Fetches hardly ever come again in the same bytes, but mostly in the same head: what differs is the body, and with it
the Content-Length. `fetch_head_of` gives the head without that value; what was found out by it (who asks from where,
for which repository, in which version) is the context in which the new body is answered, by the services, as ever.

The full way is shown what there is to learn by a `Lesson` in its environ.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from govc.service.known import KnownListing
from govc.web.access_log import Exchange
from govc.web.lane import LaneRequest
from govc.web.redaction import redact
from govc.web.responses import Header
from govc.web.sending import NO_ACCEL_VARIABLE

LESSON_VARIABLE = "govc.lesson"
WORDS_BYTES_MAX = 64 << 10
"""What a worker reads at once; longer requests are read anew each time."""
PLAIN_BYTES_MAX = 2 << 10
"""A listing's request is a quarter of that; of longer ones, which are clones of many refs, the digest is kept."""
KNOWN_MAX = 512
"""Requests that a worker remembers: about a megabyte."""

_UPLOAD_PACK = b"/git-upload-pack HTTP/1.1\r\n"
_FETCH = b"command=fetch"
_LENGTH_BEFORE = b"\r\nContent-Length: "
_ID_BEFORE = b"\r\nX-Request-Id: "
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_NEVER = ("HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION", "HTTP_COOKIE", NO_ACCEL_VARIABLE)
"""Secrets, and what a proxy says that didn't find the file which we named: no request of a client."""


class Words(NamedTuple):
    """What a request says, as a key; and its id, "" when it has none."""

    key: tuple[str | None, bool, bytes]
    request_id: str


def words_of(peer: str | None, data: bytes) -> Words | None:
    """Return the words of a request from an address; None when it is too long, or long and no fetch."""
    if len(data) > PLAIN_BYTES_MAX and not (
        len(data) < WORDS_BYTES_MAX and data.find(_UPLOAD_PACK, 0, PLAIN_BYTES_MAX) > 0
    ):
        return None
    end = data.find(b"\r\n\r\n")
    start = data.find(_ID_BEFORE, 0, end + 2)
    if start >= 0:
        begin = start + len(_ID_BEFORE)
        stop = data.find(b"\r\n", begin, end + 2)
        if stop > 0 and _ID.fullmatch(data, begin, stop):
            return Words((peer, True, _shorten(data[:start] + data[stop:])), data[begin:stop].decode("ascii"))
    return Words((peer, False, _shorten(data)), "")


class FetchHead(NamedTuple):
    """The head of a fetch, and its body."""

    words: Words
    body: bytes


def fetch_head_of(peer: str | None, data: bytes) -> FetchHead | None:
    """Return the head of a request that is a fetch of version 2, whole and nothing more; else None.

    What the lane takes in two requests with the same words differs in body, Content-Length and X-Request-Id alone.
    """
    end = data.find(b"\r\n\r\n", 0, PLAIN_BYTES_MAX)
    if end < 0 or not data.startswith(_FETCH, end + 8):
        return None
    begin = data.find(_LENGTH_BEFORE, 0, end) + len(_LENGTH_BEFORE)
    stop = data.find(b"\r\n", begin, end + 2)
    body = data[end + 4 :]
    if begin < len(_LENGTH_BEFORE) or data[begin:stop] != b"%d" % len(body):
        return None
    words = words_of(peer, data[:begin] + data[stop : end + 4])
    return FetchHead(words, body) if words is not None else None


def _shorten(data: bytes) -> bytes:
    """No digest is taken for a request: there is none of 32 bytes."""
    return data if len(data) <= PLAIN_BYTES_MAX else hashlib.sha256(data).digest()


def may_be_known(request: LaneRequest, words: Words, data: bytes) -> bool:
    """Say whether what is found out about a request may be kept under its words."""
    variables = request.variables
    return (
        request.size == len(data)
        and variables.get("HTTP_X_REQUEST_ID", "") == words.request_id
        and not any(name in variables for name in _NEVER)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRequest:
    """What the full way found out: `listing` is the answer's place, the rest is for headers and log. `streams`: the
    answer is a body in a file. `body_bytes_max`: of a fetch's head, how long a body it may have."""

    listing: KnownListing
    headers: list[Header]
    peer: str | None
    method: str
    path: str
    remote_addr: str | None
    remote_user: str | None
    login: str
    route: str
    repository: str
    bytes_received: int
    streams: bool
    log_middle: str
    """Of its line in the access log (`access_log.Exchange.middle`), redacted."""
    body_bytes_max: int = 0


def known_request(place: KnownListing, headers: list[Header], peer: str | None, exchange: Exchange) -> KnownRequest:
    """Return what an exchange has found out, to be had at `place`."""
    return KnownRequest(
        listing=place,
        headers=headers,
        peer=peer,
        method=exchange.method,
        path=exchange.path,
        remote_addr=exchange.remote_addr,
        remote_user=exchange.remote_user,
        login=exchange.login,
        route=exchange.route,
        repository=exchange.repository,
        bytes_received=exchange.bytes_received,
        streams=place.body_key is not None,
        log_middle=redact(exchange.middle(200)),
    )


class Lesson(NamedTuple):
    """In an environ: the request's whole body, who wants to know what was found out about it, and who wants to know
    what was about its head."""

    body: bytes
    learn: Callable[[KnownRequest], None]
    learn_head: Callable[[KnownRequest], None] | None = None
