"""Files that the kernel sends, cut into packets (`govc.web.sending`): all bytes, over sockets that take little."""

import os
import select
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from govc.cache.span import READ_BYTES, FramedSpan
from govc.repo.runtime import PLAIN
from govc.web.sending import Outlet

PAYLOAD = 65515


class _Response:
    """As much of gunicorn's as an outlet asks for."""

    chunked = False
    sent = 0

    def send_headers(self) -> None:
        """They are not looked at here."""


class _Connection:
    """A connection that doesn't wait, but for `sendall`, as gevent's does; one that counts, as on a Unix socket."""

    taken_bytes = 0

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self.family = connection.family
        self.fileno, self.setsockopt = connection.fileno, connection.setsockopt

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        while data:
            try:
                sent = self._socket.send(data)
                self.taken_bytes += sent
                data = data[sent:]
            except BlockingIOError:
                wait_writable(self)


def wait_writable(connection: Any) -> None:
    select.select([], [connection.fileno()], [])


def header(size: int) -> bytes:
    return b"%04x\x01" % (size + 5)


def make_span(path: Path, start: int, end: int, payload_max: int) -> FramedSpan:
    descriptor = os.open(path, os.O_RDONLY)
    return FramedSpan(descriptor, start, end, payload_max, header, PLAIN.call_blocking, None)


def packets(content: bytes, payload_max: int) -> bytes:
    cut = (content[at : at + payload_max] for at in range(0, len(content), payload_max))
    return b"".join(header(len(piece)) + piece for piece in cut)


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Any:
    if request.param == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours.setblocking(False)
        yield ours, theirs


@pytest.mark.parametrize(
    ("start", "size", "payload_max"),
    [
        (0, 0, PAYLOAD),
        (12, 1, PAYLOAD),
        (12, PAYLOAD, PAYLOAD),
        (12, PAYLOAD + 1, PAYLOAD),
        (7, READ_BYTES // PAYLOAD * PAYLOAD, PAYLOAD),
        (7, READ_BYTES * 3 + 17, PAYLOAD),
        (0, 5000, 995),
        (0, READ_BYTES + 1, 2 * READ_BYTES),
    ],
)
def test_packets_are_sent_whole_and_in_order(
    pair: Any, start: int, size: int, payload_max: int, tmp_path: Path
) -> None:
    ours, theirs = pair
    content = os.urandom(start + size + 9)
    (tmp_path / "file").write_bytes(content)
    span = make_span(tmp_path / "file", start, start + size, payload_max)
    wanted = packets(content[start : start + size], payload_max)
    received: list[bytes] = []

    def read() -> None:
        while data := theirs.recv(3000):
            received.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    response, connection = _Response(), _Connection(ours)
    Outlet(response, connection, wait_writable, PLAIN).send(span)
    ours.shutdown(socket.SHUT_WR)
    reader.join()
    assert b"".join(received) == wanted
    assert response.sent == connection.taken_bytes == len(wanted) == len(span)
    assert b"".join(span.iter_bytes()) == wanted
    os.close(span.descriptor)


def test_a_file_that_ends_early_is_an_error(pair: Any, tmp_path: Path) -> None:
    ours, theirs = pair
    (tmp_path / "file").write_bytes(bytes(100))
    span = make_span(tmp_path / "file", 0, 200, PAYLOAD)
    with pytest.raises(OSError, match="100 bytes early"):
        Outlet(_Response(), _Connection(ours), wait_writable, PLAIN).send(span)
    theirs.close()
    os.close(span.descriptor)
