"""How long is the request body, and what does it say once decoded?

    Content-Length: n      exactly n bytes are read, whatever follows on the connection; fewer are an error
    no Content-Length      a chunked body, which the server decodes and ends (wsgi.input_terminated), or a CGI
                           program's standard input up to its end; on any other server: no body
    Content-Encoding       gzip or x-gzip, by exact comparison; others pass undecoded, and fail later

Readers are stacked: a length reader at the bottom, a gzip reader on top when needed. A gzip reader never
inflates more than was asked for, stops at the end of the first member, and reports a member that ends early,
so that a cut push can't be taken for a whole one.

Source: git-http-backend; RFC 1952; PEP 3333 "Input and Error Streams".
"""

import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

from govc.errors import LimitExceeded
from govc.protocol.errors import RemoteProtocolError
from govc.web.interface import BodyReader

READ_BYTES_MAX = 1 << 20
"""One read from the server, in bytes: small reads cost several times the CPU under gunicorn."""

COMPRESSED_READ_BYTES = 1 << 16
"""One read below gzip, in bytes: zlib copies what it did not consume on every call."""

REQUEST_BYTES_FLOOR = 8192
"""The least limit for a fetch request that doesn't say how long it is, in bytes: git's first buffer."""

INFLATED_RATIO_MAX = 3
"""How much larger than the limit a gzipped fetch request may be when inflated. The limit counts compressed
bytes, as git's does; the hex digits of haves compress to less than half, and nothing honest beats 3."""

BODY_LIMIT = "body_bytes_max"
REQUEST_LIMIT = "maxRequestBuffer"

_LENGTH_MAX = (1 << 63) - 1
_GZIP_WBITS = 16 + zlib.MAX_WBITS
_GZIP_NAMES = ("gzip", "x-gzip")


class BodyError(RemoteProtocolError):
    """The request body is not what its headers promised: cut short, or not gzip."""


class NoBody:
    """A body of no bytes."""

    def read(self, size: int, /) -> bytes:
        """Return b""."""
        return b""


class StreamBody:
    """A body that ends where its stream ends (chunked, or a CGI program's standard input)."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end."""
        return _read_stream(self._stream, min(size, READ_BYTES_MAX))


class LengthBody:
    """A body of exactly `length` bytes; nothing beyond is touched."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream = stream
        self._left = length

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end."""
        wanted = min(size, READ_BYTES_MAX, self._left)
        if wanted <= 0:
            return b""
        data = _read_stream(self._stream, wanted)
        if not data:
            raise BodyError(f"request body ended {self._left} bytes early")
        self._left -= len(data)
        return data


class GzipBody:
    """The content of the first gzip member of another body."""

    def __init__(self, body: BodyReader) -> None:
        self._body = body
        self._inflater = zlib.decompressobj(_GZIP_WBITS)

    def read(self, size: int, /) -> bytes:
        """Return up to `size` inflated bytes, b"" at the end of the member."""
        if size <= 0:
            return b""
        while not self._inflater.eof:
            compressed = self._inflater.unconsumed_tail or self._body.read(COMPRESSED_READ_BYTES)
            try:
                # With nothing left to feed, zlib may still hold output of earlier calls back.
                data = self._inflater.decompress(compressed, min(size, READ_BYTES_MAX))
            except zlib.error as error:
                raise BodyError("request body is not valid gzip") from error
            if data:
                return data
            if not compressed and not self._inflater.eof:
                raise BodyError("gzipped request body ends early")
        return b""


class CountedBody:
    """Another body, of at most `limit` bytes."""

    def __init__(self, body: BodyReader, limit: int, limit_name: str = REQUEST_LIMIT) -> None:
        self._body = body
        self._limit = limit
        self._limit_name = limit_name
        self._count = 0

    def read(self, size: int, /) -> bytes:
        """Return what the other body returns; raise `LimitExceeded` beyond the limit."""
        data = self._body.read(size)
        self._count += len(data)
        if self._count > self._limit:
            raise LimitExceeded(self._limit_name, self._limit)
        return data


def _read_stream(stream: BinaryIO, size: int) -> bytes:
    """Read once. Every server has classes of its own for a body that breaks off (gunicorn's are not even
    OSErrors)."""
    try:
        return stream.read(size)
    except Exception as error:
        raise BodyError("request body broke off") from error


def parse_content_length(value: str | None) -> int | None:
    """Return the length in bytes, None when not told; raise `BodyError` for what is no number or
    overflows."""
    if not value:
        return None
    if not (value.isascii() and value.isdigit()) or len(value) > 19 or int(value) > _LENGTH_MAX:
        raise BodyError("unusable Content-Length")
    return int(value)


def raw_body(environ: Mapping[str, Any], bytes_max: int = 0) -> BodyReader:
    """Return the body as it was sent, of at most `bytes_max` bytes (0: any number).

    Raises LimitExceeded: at once when the length is told, else where more is read.
    """
    stream: BinaryIO = environ["wsgi.input"]
    length = parse_content_length(environ.get("CONTENT_LENGTH"))
    if length is not None:
        if bytes_max and length > bytes_max:
            raise LimitExceeded(BODY_LIMIT, bytes_max, length)
        return LengthBody(stream, length)
    if environ.get("wsgi.input_terminated"):
        body = StreamBody(stream)
        return CountedBody(body, bytes_max, BODY_LIMIT) if bytes_max else body
    return NoBody()


def is_gzipped(environ: Mapping[str, Any]) -> bool:
    """Whether the body is to be inflated."""
    return environ.get("HTTP_CONTENT_ENCODING") in _GZIP_NAMES


def open_body(environ: Mapping[str, Any], bytes_max: int = 0) -> BodyReader:
    """Return the body, inflated when it is gzipped. `bytes_max` counts bytes as sent; 0: pushes are streamed."""
    body = raw_body(environ, bytes_max)
    return GzipBody(body) if is_gzipped(environ) else body


def read_bounded_body(environ: Mapping[str, Any], limit: int, bytes_max: int = 0) -> bytes:
    """Return a whole fetch request, inflated. `limit`, and that of all bodies, count the bytes as sent.

    Raises `LimitExceeded` before more than the limit, or `INFLATED_RATIO_MAX` times the limit inflated,
    is held.
    """
    if not environ.get("CONTENT_LENGTH"):
        limit = max(limit, REQUEST_BYTES_FLOOR)
    body: BodyReader = CountedBody(raw_body(environ, bytes_max), limit)
    if is_gzipped(environ):
        body = CountedBody(GzipBody(body), limit * INFLATED_RATIO_MAX)
    pieces = []
    while piece := body.read(READ_BYTES_MAX):
        pieces.append(piece)
    return b"".join(pieces)
