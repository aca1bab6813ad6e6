"""Sending what lies in a file without reading it: by the kernel, or by nginx.

**sendfile.** Under gunicorn's gevent worker the connection's socket is in the environ (`gunicorn.socket`) and
`start_response` is a method of gunicorn's response. With both at hand a span of a file goes out by `os.sendfile`
between two chunks that gunicorn writes itself: the head first (`send_headers`), the framing of a chunk around it when
the answer is chunked, and gunicorn's own counter (`sent`) told. That is gunicorn's inside: what isn't exactly as
expected makes us read the file and send plain chunks. `wsgi.file_wrapper` would not do: gevent's socket has no
sendfile and reads 8 KiB at a time.

**X-Accel-Redirect.** A whole body is named to nginx, which sends it; see conf/nginx.conf. Only proxies that we trust
get that answer, since others would show it to their clients.

Source: gunicorn's http/wsgi.py (Response.sendfile); nginx "X-Accel-Redirect".
"""

import errno
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from govc.cache.span import FileSpan, FramedSpan
from govc.repo.runtime import Breather, Runtime
from govc.web.depth import UNSENT_BYTES_MAX, Depth
from govc.web.lane_answer import LaneAnswer

NO_ACCEL_VARIABLE = "HTTP_X_GOVC_NO_ACCEL"
"""Set by nginx when the file that we named was gone, to have the body from us."""

PIECE_BYTES = 4 << 20
"""So much is asked of the kernel at once. It takes about as much into a socket, in a millisecond."""

_TCP_CORK = getattr(socket, "TCP_CORK", -1)

WaitWritable = Callable[[Any], None]


class Outlet:
    """The connection of one answer, for spans of files."""

    __slots__ = ("_breathe", "_counts", "_descriptor", "_response", "_socket", "_wait_writable")

    def __init__(self, response: Any, connection: Any, wait_writable: WaitWritable, runtime: Runtime) -> None:
        self._response = response
        self._socket = connection
        self._descriptor: int = connection.fileno()
        self._counts = hasattr(connection, "taken_bytes")  # it can't see what goes past it
        self._wait_writable = wait_writable
        self._breathe = Breather(runtime)

    def send(self, span: FileSpan) -> None:
        """Send a span, as one chunk when the answer is chunked. Raises OSError. May switch."""
        response = self._response
        response.send_headers()
        if response.chunked:
            self._socket.sendall(b"%x\r\n" % span.length, socket.MSG_MORE)
        if span.length > UNSENT_BYTES_MAX:
            with Depth(self._socket, self._wait_writable) as depth:
                self._send_span(span, depth.wait)
        else:
            self._send_span(span, self._wait)
        if response.chunked:
            self._socket.sendall(b"\r\n", socket.MSG_MORE)  # another chunk, or the last one
        response.sent += span.length

    def _wait(self) -> None:
        self._wait_writable(self._socket)

    def _send_span(self, span: FileSpan, wait: Callable[[], None]) -> None:
        if isinstance(span, FramedSpan):
            self._send_framed(span, wait)
            return
        offset, end = span.offset, span.offset + span.length
        while offset < end:
            count = min(PIECE_BYTES, end - offset)
            span.make_ready(offset, count)
            self._send_piece(span.descriptor, offset, count, wait)
            offset += count

    def _send_framed(self, span: FramedSpan, wait: Callable[[], None]) -> None:
        """Send each packet's header and its bytes. A large pack has thousands: two calls of the kernel for each, and
        little else. What they would flush is held together by a cork, not by a flag of each call.
        """
        write, sendfile, source, target = os.write, os.sendfile, span.descriptor, self._descriptor
        is_corked = self._cork(True)
        try:
            for block in span.iter_blocks():
                for header, offset, count in block:
                    try:
                        written = write(target, header)
                    except BlockingIOError:
                        written = 0
                    if written < len(header):
                        wait()
                        self._breathe.has_paused()
                        self._socket.sendall(header[written:])
                    try:
                        sent = sendfile(target, source, offset, count)
                    except BlockingIOError:
                        sent = -1
                    if self._counts:
                        self._socket.taken_bytes += written + max(sent, 0)
                    if sent != count:
                        self._send_piece(source, offset + max(sent, 0), count - max(sent, 0), wait)
                self._breathe()
        finally:
            if is_corked:
                self._cork(False)

    def _cork(self, holds: bool) -> bool:
        """Have TCP send full segments only, or what there is; whether that could be said."""
        with suppress(OSError):  # gone, or no TCP
            self._socket.setsockopt(socket.IPPROTO_TCP, _TCP_CORK, int(holds))
            return True
        return False

    def _send_piece(self, descriptor: int, offset: int, count: int, wait: Callable[[], None]) -> None:
        while True:
            try:
                sent = os.sendfile(self._descriptor, descriptor, offset, count)
            except BlockingIOError:
                wait()
                self._breathe.has_paused()
                continue
            if not sent:
                raise OSError(errno.EIO, f"a file that is sent ends {count} bytes early")
            offset += sent
            count -= sent
            if self._counts:
                self._socket.taken_bytes += sent
            if not count:
                break
        self._breathe()


def find_outlet(
    environ: dict[str, Any], start_response: Any, wait_writable: WaitWritable | None, runtime: Runtime
) -> Outlet | None:
    """Return an outlet when this answer goes out as the story of this module says, else None."""
    connection = environ.get("gunicorn.socket")
    response = getattr(start_response, "__self__", None)
    if wait_writable is None or connection is None or isinstance(connection, ssl.SSLSocket):
        return None
    kind = type(response)
    if kind is LaneAnswer:
        return Outlet(response, connection, wait_writable, runtime)
    if (kind.__module__, kind.__qualname__) != ("gunicorn.http.wsgi", "Response"):
        return None
    if not all(hasattr(response, name) for name in ("send_headers", "chunked", "sent")):
        return None
    # With a length given, or no body due, gunicorn cuts what is too much; such answers are not ours.
    if getattr(response, "response_length", None) is not None or environ.get("REQUEST_METHOD") == "HEAD":
        return None
    return Outlet(response, connection, wait_writable, runtime)
