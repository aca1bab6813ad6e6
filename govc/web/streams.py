"""A request's body as it comes in, and an answer's as it goes out: counted, and the client's pace watched.

The first chunk of an answer is here before its status is sent (see `wsgi_app`); the others are produced as the server
asks for them. What fails among them is taken down and raised on, so that the connection is cut. `close()` ends an
answer, whether it was sent or not, and the exchange with it.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from govc.cache.bodies import Chunk
from govc.cache.span import FileSpan
from govc.web.access_log import Exchange
from govc.web.sending import Outlet
from govc.web.slow_clients import Waits

_LOG = logging.getLogger("govc.web")
CLIENT_WENT_AWAY = "client went away"


class Stream:
    """An answer under way: its first chunk is here already, the others are produced as they are asked for."""

    def __init__(
        self,
        first: Chunk,
        chunks: Iterator[Chunk],
        exchange: Exchange,
        outlet: Outlet | None,
    ) -> None:
        self._first: Chunk | None = first
        self._chunks = chunks
        self._exchange = exchange
        self._outlet = outlet
        self._waits = exchange.waits
        self._pieces: Iterator[bytes] = iter(())
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._waits is not None:
            self._waits.ends()
        try:
            chunk = self._next_bytes()
        except Exception as error:
            self._fail(error)
            raise
        finally:
            # At the end, too: the server may hold a chunk until it knows whether another follows.
            if self._waits is not None:
                self._waits.begins()
        if chunk is None:
            self._ended = True
            raise StopIteration
        self._exchange.bytes_sent += len(chunk)
        return chunk

    def _next_bytes(self) -> bytes | None:
        """Return the next bytes for the server to send; spans of files go out by the outlet, where there is one."""
        piece = next(self._pieces, None)
        while piece is None:
            chunk = self._first
            self._first = None
            if chunk is None:
                chunk = next_chunk(self._chunks)
            if not isinstance(chunk, FileSpan):
                # A server that goes by the letter of PEP 3333 takes no kind of bytes of ours (LastChunk).
                return chunk if chunk is None or self._outlet is not None or type(chunk) is bytes else bytes(chunk)
            if self._outlet is not None:
                self._send_span(self._outlet, chunk)
            else:
                self._pieces = chunk.iter_bytes()
                piece = next(self._pieces, None)
        return piece

    def _send_span(self, outlet: Outlet, span: FileSpan) -> None:
        if self._waits is not None:
            self._waits.begins()
        try:
            outlet.send(span)
        finally:
            if self._waits is not None:
                self._waits.ends()
        self._exchange.bytes_sent += span.length

    def _fail(self, error: Exception) -> None:
        self._exchange.broke_off = True
        if isinstance(error, ConnectionError):
            self._exchange.error = CLIENT_WENT_AWAY
            return
        self._exchange.error = f"broke off: {error}"
        _LOG.error("request %s broke off", self._exchange.request_id, exc_info=error)

    def close(self) -> None:
        """End the answer, cancelling what still works for it; again is harmless."""
        if self._waits is not None:
            self._waits.ends()
        close_chunks(self._chunks, self._exchange)
        if not self._ended and not self._exchange.error:
            self._exchange.error = CLIENT_WENT_AWAY
            self._exchange.broke_off = True
        self._exchange.finish()
        if self._waits is not None:
            self._waits.end_request()


class Whole:
    """A whole body that is handed to the server in one piece, while the client's pace is watched."""

    def __init__(self, body: bytes, waits: Waits) -> None:
        self._body = body
        self._waits = waits

    def __iter__(self) -> Iterator[bytes]:
        self._waits.begins()
        yield self._body

    def close(self) -> None:
        """It was sent, or could not be."""
        self._waits.end_request()


class CountedInput:
    """A request's body as the server gives it, counted, and its client's pace watched."""

    __slots__ = ("_exchange", "_read", "_waits")

    def __init__(self, stream: Any, exchange: Exchange) -> None:
        self._read = stream.read
        self._exchange = exchange
        self._waits = exchange.waits

    def read(self, size: int, /) -> bytes:
        """Return what the server has, up to `size` bytes."""
        if self._waits is not None:
            self._waits.begins()
        try:
            data: bytes = self._read(size)
        finally:
            if self._waits is not None:
                self._waits.ends()
        self._exchange.bytes_received += len(data)
        return data


def next_chunk(chunks: Iterator[Chunk]) -> Chunk | None:
    """Return the next chunk that has bytes in it, None at the end."""
    return next((chunk for chunk in chunks if chunk), None)


def close_chunks(chunks: Iterable[Chunk], exchange: Exchange) -> None:
    """Close what made an answer; what is raised there is logged."""
    close = getattr(chunks, "close", None)
    if close is None:
        return
    try:
        close()
    except Exception:
        _LOG.exception("request %s: clean-up failed", exchange.request_id)
