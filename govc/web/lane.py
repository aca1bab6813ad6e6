"""The fast lane: plain little requests, read and answered without the server's machinery.

gunicorn takes about 150 µs of CPU to parse a request, to dress it as an environ and to send an answer in two or three
writes, which is several times what a listing of refs costs us. So its worker (`gunicorn_worker`) looks at what
arrived first. `read_request` takes a request only when all of it is in the buffer and every byte is as the usual
client sends it:

    GET TARGET HTTP/1.1        TARGET ends in /info/refs?service=…
    POST TARGET HTTP/1.1       TARGET ends in /git-upload-pack, a Content-Length, and a body that asks for ls-refs or
                               fetches, in version 2
    POST TARGET HTTP/1.1       TARGET ends in /git-receive-pack, a Content-Length that a small push has. Here only its
                               head is needed: what is still to come of its body is read when it is asked for
    Name: value                letters, digits and dashes; no name twice; none that change how a message is read

Anything else (no end yet, other methods and targets, percent signs, other versions, folded lines, control characters,
underscores, Transfer-Encoding, Expect, Upgrade, Connection other than keep-alive or close) is left to gunicorn's
parser, with all its rules. So the lane knows one form of a request, in which there is nothing to disagree about with a
proxy in front.

Pure: bytes in, values out.

Source: RFC 9112 "Message Format"; PEP 3333 "environ Variables".
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

BODY_BYTES_MAX = 56 << 10
"""A clone of a thousand refs; with its head it still arrives in one read."""
PUSH_BYTES_MAX = 256 << 10
"""A larger push costs much more than its HTTP."""

SCHEME_VARIABLE = "HTTP_X_FORWARDED_PROTO"
HEAD_BYTES_MAX = 8 << 10
FIELDS_MAX = 100
JOIN_BYTES_MAX = 64 << 10
"""A body up to here is copied behind its head, to leave in one write; a larger one is written by itself."""

_TARGET = rb"(/[A-Za-z0-9._~/!$&'()*+,;:@=-]*?(?:/info/refs\?service=git-[a-z-]+|/git-(?:upload|receive)-pack))"
_HEADER = rb"([A-Za-z0-9-]+):([\t\x20-\x7e\x80-\xff]*)\r\n"
_HEAD = re.compile(rb"(GET|POST) " + _TARGET + rb" HTTP/1\.1\r\n((?:" + _HEADER + rb")*)\r\n")
_HEADERS = re.compile(_HEADER)
_LENGTH = re.compile(r"[0-9]{1,6}")
_RECEIVE = b"/git-receive-pack"
_LS_REFS = b"command=ls-refs"
_FETCH = b"command=fetch"

# How a message is read, or over what it came: never decided here.
_NOT_OURS = frozenset(
    (
        b"content-encoding",
        b"expect",
        b"http2-settings",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-forwarded-protocol",
        b"x-forwarded-ssl",
    )
)

_NAMES: dict[bytes, str] = {}
_NAMES_MAX = 256


class LaneRequest(NamedTuple):
    """One request; `size` is how many bytes of the buffer it took."""

    method: str
    path: str
    query: str
    variables: dict[str, str]
    body: bytes
    size: int
    stays: bool
    """Whether the client keeps the connection."""
    streams: bool
    """Whether the answer may be long: a pack."""
    is_push: bool = False
    rest: int = 0
    """How many bytes of the body are still to come."""


def read_request(data: bytes, head_bytes_max: int = HEAD_BYTES_MAX, fields_max: int = FIELDS_MAX) -> LaneRequest | None:
    """Return the request at the beginning of `data`, None when it is not for the lane."""
    match = _HEAD.match(data, 0, head_bytes_max)
    if match is None:
        return None
    method, target, fields = match.group(1, 2, 3)
    variables = _read_fields(fields)
    if variables is None or len(variables) > fields_max:
        return None
    end = match.end()
    body, streams, is_push, rest = b"", False, False, 0
    length = variables.get("CONTENT_LENGTH")
    if method == b"POST":
        is_push = target.endswith(_RECEIVE)
        bytes_max = PUSH_BYTES_MAX if is_push else BODY_BYTES_MAX
        if length is None or not _LENGTH.fullmatch(length) or int(length) > bytes_max:
            return None
        body = data[end : end + int(length)]
        rest = int(length) - len(body)
        if not is_push:
            streams = body.startswith(_FETCH, 4)
            if rest or not (streams or body.startswith(_LS_REFS, 4)):
                return None
        end += len(body)
    elif length is not None:
        return None
    path, _, query = target.decode("ascii").partition("?")
    if method == b"GET" and not query:
        return None
    stays = variables.get("HTTP_CONNECTION", "").lower() != "close"
    return LaneRequest(method.decode("ascii"), path, query, variables, body, end, stays, streams, is_push, rest)


def _read_fields(fields: bytes) -> dict[str, str] | None:
    """Return the header fields as CGI variables; None when one is not for the lane."""
    variables: dict[str, str] = {}
    for name, value in _HEADERS.findall(fields):
        variable = _NAMES.get(name) or _variable_of(name)
        if not variable or variable in variables:
            return None
        text = value.decode("latin-1").strip(" \t")
        if variable == "HTTP_CONNECTION" and text.lower() not in ("keep-alive", "close"):
            return None
        if variable == SCHEME_VARIABLE and text not in ("http", "https"):
            return None
        variables[variable] = text
    return variables


def _variable_of(name: bytes) -> str:
    """Return the CGI variable of a header, "" for one that is not for the lane."""
    lowered = name.lower()
    if lowered in _NOT_OURS:
        return ""
    variable = name.decode("ascii").upper().replace("-", "_")
    if lowered not in (b"content-type", b"content-length"):
        variable = f"HTTP_{variable}"
    if len(_NAMES) < _NAMES_MAX:
        _NAMES[name] = variable
    return variable


def encode_answer(
    status: str, headers: Sequence[tuple[str, str]], chunks: Iterable[bytes], date: str, *, stays: bool
) -> list[bytes]:
    """Return an answer as one or a few pieces to write. What is here as a whole is told its length: a proxy writes a
    body of unknown length in twice as many pieces.

    `stays` says whether the connection does.
    """
    body = b"".join(chunks)
    lines = _encode_lines(status, headers, date, stays)
    if any(name == "Content-Length" for name, _ in headers):
        head = lines + b"\r\n"
    elif body:
        head = lines + b"Content-Length: %d\r\n\r\n" % len(body)
    else:
        head = lines + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    return [head + body] if len(body) <= JOIN_BYTES_MAX else [head, body]


def encode_whole(headers: Sequence[tuple[str, str]], body: bytes, date: str, *, stays: bool) -> list[bytes]:
    """The same as `encode_answer` of a body that isn't empty, status 200; with the same headers for many answers."""
    head = _encode_whole_head(tuple(headers), len(body), date, stays)
    return [head + body] if len(body) <= JOIN_BYTES_MAX else [head, body]


@lru_cache(maxsize=256)
def _encode_whole_head(headers: tuple[tuple[str, str], ...], size: int, date: str, stays: bool) -> bytes:
    """A second's answers of one size differ in their bodies only."""
    lines = _encode_lines("200 OK", headers, date, stays)
    if any(name == "Content-Length" for name, _ in headers):
        return lines + b"\r\n"
    return lines + b"Content-Length: %d\r\n\r\n" % size


def encode_head(
    status: str, headers: Iterable[tuple[str, str]], date: str, *, stays: bool, chunked: bool = True
) -> bytes:
    """Return the head of an answer whose body follows: in chunks, or as long as the headers say."""
    return _encode_lines(status, headers, date, stays) + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n")


def _encode_lines(status: str, headers: Iterable[tuple[str, str]], date: str, stays: bool) -> bytes:
    connection = "keep-alive" if stays else "close"
    first = f"HTTP/1.1 {status}\r\nServer: gunicorn\r\nDate: {date}\r\nConnection: {connection}\r\n"
    return first.encode("latin-1") + _encode_fields(tuple(headers))


@lru_cache(maxsize=256)
def _encode_fields(headers: tuple[tuple[str, str], ...]) -> bytes:
    """Most answers say the same."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")


def make_environ(base: dict[str, Any], request: LaneRequest, stream: Any) -> dict[str, Any]:
    """Return the WSGI environ of a request. `base` holds what all requests of a connection share."""
    return {
        **base,
        **request.variables,
        "REQUEST_METHOD": request.method,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "wsgi.input": stream,
    }
