"""An answer of the fast lane on its way: in one write when it is little, as chunks when there is more of it.

The first chunk is held until it is known whether another follows, unless it may be long until that is known (a push,
whose hooks speak in their own time). One that is marked as the last (`LastChunk`) leaves with the answer's end; what
its maker still has to do is done after that. A whole answer leaves with its head, in one write; else the head goes out
and every piece is a chunk of HTTP's, as gunicorn would do it, unless the headers say how long the body is. Spans of
files go out by `sending.Outlet`, which takes this for gunicorn's response: `send_headers`, `chunked` and `sent` are its
names.

An answer that breaks off ends without its last chunk, and what was held is sent before: the connection is to be closed.
"""

import socket
from collections.abc import Iterable
from typing import Any

from govc.service.last_chunk import LastChunk
from govc.web.depth import send_all
from govc.web.lane import encode_answer, encode_head


class LaneAnswer:
    """One answer. `start` is its WSGI start_response; `date` for its head; `stays`: whether the connection does.
    `holds_first` False: the first chunk leaves at once, unless the answer's length is told.
    """

    def __init__(self, connection: Any, date: str, *, stays: bool, holds_first: bool = True) -> None:
        self.connection = connection
        self.sent = 0
        self.chunked = True
        self._date = date
        self.stays = stays
        self._holds_first = holds_first
        self._is_ended = False
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self._held: bytes | None = None
        self._is_open = False

    def start(self, status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
        """Take status and headers."""
        self._status, self._headers = status, headers
        self.chunked = not any(name == "Content-Length" for name, _ in headers)
        self._holds_first = self._holds_first or not self.chunked

    def send_headers(self) -> None:
        """Send the head and what was held, unless that is done: more follows at once."""
        self._open(socket.MSG_MORE)

    def _open(self, flags: int) -> None:
        if not self._is_open:
            self._is_open = True
            head = encode_head(self._status, self._headers, self._date, stays=self.stays, chunked=self.chunked)
            held, self._held = self._held, None
            self.connection.sendall(head + self._framed(held) if held else head, flags)

    def send(self, chunks: Iterable[bytes]) -> None:
        """Send the answer. Raises OSError, and what `chunks` raises. May switch."""
        try:
            for chunk in chunks:
                if isinstance(chunk, LastChunk):
                    self._end(chunk)
                elif self._is_open:
                    self._write(self._framed(chunk))
                elif self._held is None:
                    self._held = chunk
                    if not self._holds_first:
                        self._open(0)
                else:
                    self.send_headers()
                    self._write(self._framed(chunk))
        except OSError:
            raise
        except Exception:
            if self._held is not None:
                self.send_headers()
            raise
        self._end(b"")

    def _end(self, last: bytes) -> None:
        """Send what is left, and the end; nothing when that was done."""
        if self._is_ended:
            return
        self._is_ended = True
        if self._held is not None and last:
            self.send_headers()
        if self._is_open:
            data = self._framed(last) if last else b""
            if self.chunked:
                data += b"0\r\n\r\n"
            if data:
                self._write(data)
            return
        data = self._held if self._held is not None else last
        self._held = None
        for piece in encode_answer(self._status, self._headers, (data,), self._date, stays=self.stays):
            sent = self.connection.send(piece)  # mostly all of it; `sendall` first asks how much that may be
            if sent < len(piece):
                self._write(memoryview(piece)[sent:])

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data

    def _write(self, data: bytes | memoryview) -> None:
        send_all(self.connection, data)
