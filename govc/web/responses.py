"""What goes out: a status line, headers and a body, and which answer an error gets.

Error answers have no body (git's own tests expect that), except 415, whose sentence helps whoever built the
request, and what says "not now" (429, 503): git shows the text of such an answer to info/refs to its user. Everything
that can change is marked never to be cached, with the three headers that git sends; a loose object or a pack never
changes under its name and may be kept for a year.

Source: git-http-backend; gitprotocol-http "General Request Processing"; RFC 9110 for dates.
"""

from collections.abc import Iterable
from email.utils import formatdate
from typing import NamedTuple

from govc.cache.bodies import Chunk

Header = tuple[str, str]

YEAR_SECONDS = 31536000
NEVER_CACHE: tuple[Header, ...] = (
    ("Expires", "Fri, 01 Jan 1980 00:00:00 GMT"),
    ("Pragma", "no-cache"),
    ("Cache-Control", "no-cache, max-age=0, must-revalidate"),
)

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    499: "Client Closed Request",
    500: "Internal Server Error",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}


class Response(NamedTuple):
    """One answer. `body` is bytes when it is whole (it then gets a Content-Length), or chunks to stream
    (bytes, or spans of files)."""

    status: int
    headers: list[Header]
    body: bytes | Iterable[Chunk]


def status_line(status: int) -> str:
    """Return "403 Forbidden" and the like."""
    return f"{status} {_REASONS.get(status, 'Unknown')}"


def http_date(seconds: float) -> str:
    """Return a date as HTTP wants it, with GMT."""
    return formatdate(seconds, usegmt=True)


def cache_for_a_year(now_seconds: float) -> list[Header]:
    """Return the headers of what never changes. The server adds Date itself."""
    return [
        ("Expires", http_date(now_seconds + YEAR_SECONDS)),
        ("Cache-Control", f"public, max-age={YEAR_SECONDS}"),
    ]


def whole_response(content_type: str, body: bytes) -> Response:
    """Return a 200 that must not be cached, with a body that is complete."""
    return Response(200, [*NEVER_CACHE, ("Content-Type", content_type), ("Content-Length", str(len(body)))], body)


def error_response(status: int, *more: Header, sentence: bytes = b"") -> Response:
    """Return an answer for what failed; nothing in it says why except the `sentence`, if one is given."""
    headers = [*NEVER_CACHE, *more]
    if sentence and status != 415:
        headers.append(("Content-Type", "text/plain; charset=utf-8"))
    elif sentence:
        # As git, which doesn't say what it is. It repeats what the client has sent: no browser may take it for HTML.
        headers.append(("X-Content-Type-Options", "nosniff"))
    headers.append(("Content-Length", str(len(sentence))))
    return Response(status, headers, sentence)
