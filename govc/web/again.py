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

The full way is shown what there is to learn by a `Lesson` in its environ.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from govc.service.known import KnownListing
from govc.web.lane import LaneRequest
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
    answer is a body in a file."""

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


class Lesson(NamedTuple):
    """In an environ: the request's whole body, and who wants to know what was found out about it."""

    body: bytes
    learn: Callable[[KnownRequest], None]
