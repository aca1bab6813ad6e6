"""A worker's loop without a worker, and what its tests ask it."""

import socket
import threading
from types import SimpleNamespace

from hypothesis import strategies as st

from govc.app import create_app
from govc.protocol.oid import SHA1
from govc.repo.creation import create_first_commit, create_repository
from govc.web.gunicorn_worker import GovcWorker
from tests.waiting import SECONDS, wait_until

ID = b"X-Request-Id: "

LINES = st.sampled_from(
    [
        b"Host: x",
        b"Git-Protocol: version=2",
        ID + b"abc",
        ID + b"def.0-1_2",
        ID + b"",
        ID + b"a b",
        ID + b"a" * 65,
        b"x-request-id: abc",
        b"X-A: " + ID + b"abc",
        b"X-A: b\r\n " + ID + b"abc",
        b"Connection: close",
        b"Content-Length: 24",
        b"",
    ]
)


def without_id(request):
    return request._replace(
        variables={name: value for name, value in request.variables.items() if name != "HTTP_X_REQUEST_ID"}, size=0
    )


class Server:
    """A worker's loop over one end of a connection; we have the other one."""

    def __init__(self, folder, **settings):
        self.path = folder / "served" / "a.git"
        self.path.parent.mkdir()
        create_repository(str(self.path), SHA1, export=True, allow_push=False)
        create_first_commit(str(self.path), SHA1, now_seconds=1_700_000_000)
        self.main = self.path / "refs/heads/main"
        # A helper that fills the index changes the repository whenever it comes to it, in the middle of a test.
        settings = {"introductions": False, **settings}
        if "cache_dir" not in settings:
            settings["cache_bytes_max"] = 0
        self.application = create_app(root=str(self.path.parent), **settings)
        self.asked = 0
        self.heads = 0
        worker = self.worker = object.__new__(GovcWorker)
        worker.wsgi = self
        worker._known, worker._idle, worker._names, worker._date, worker._date_at = {}, {}, {}, "", 0
        worker.nr, worker.max_requests, worker.alive = 0, 1 << 60, True
        worker.cfg = SimpleNamespace(
            limit_request_field_size=8190, limit_request_fields=100, workers=1, forwarded_allow_ips=["127.0.0.1"]
        )
        self._threads = []
        self.ours = self.connect()

    def connect(self):
        """Return our end of another connection."""
        ours, theirs = socket.socketpair()
        ours.settimeout(SECONDS)
        listener = SimpleNamespace(getsockname=lambda: ("127.0.0.1", 80))

        def serve():
            with theirs:
                self.worker._answer_requests(listener, theirs, ("127.0.0.1", 1), None)

        self._threads.append(threading.Thread(target=serve))
        self._threads[-1].start()
        return ours

    def answer_again(self, known, request_id):
        return self.application.answer_again(known, request_id)

    def stream_again(self, known, request_id, answer):
        return self.application.stream_again(known, request_id, answer)

    def fetch_again(self, known, request_id, lesson, answer):
        """Count those that are answered by their heads."""
        chunks = self.application.fetch_again(known, request_id, lesson, answer)
        self.heads += chunks is not None
        return chunks

    def __call__(self, environ, start):
        self.asked += 1
        return self.application(environ, start)

    def ask(self, request, **fields):
        """The answer's head without its date, and its body."""
        self.ours.sendall(encode(request, fields))
        answer = b""
        while not (answer.endswith(b"0000") and b"\r\n\r\n" in answer):
            piece = self.ours.recv(1 << 16)
            assert piece, answer
            answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        return [line for line in head.split(b"\r\n") if not line.startswith(b"Date: ")], body

    def ask_until_known(self, request, **fields):
        """Ask until the answer comes from what was found out before; all answers are the same."""
        answers = []

        def is_known():
            asked = self.asked
            answers.append(self.ask(request, **fields))
            return self.asked == asked

        wait_until(is_known, "it is known")
        assert answers == answers[:1] * len(answers)
        return answers[0]

    def close(self):
        self.ours.close()
        for thread in self._threads:
            thread.join()
        self.application.close()


def encode(request, fields):
    """The request's bytes, with more fields in its head."""
    data = request.encode("x", keep=True)
    for name, value in fields.items():
        data = data.replace(b"\r\n", f"\r\n{name.replace('_', '-')}: {value}\r\n".encode(), 1)
    return data


def plain(answer):
    """Head and body, whichever way it was told how long the body is."""
    head, body = answer
    if b"Transfer-Encoding: chunked" in head:
        whole, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            whole, rest = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        body = whole
    return [line for line in head if not line.startswith((b"Transfer-Encoding", b"Content-Length"))], body


def clone(server, request, **fields):
    server.ours.sendall(encode(request, fields))
    answer = b""
    while not answer.endswith((b"0000\r\n0\r\n\r\n", b"0000")):
        piece = server.ours.recv(1 << 16)
        assert piece, answer
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if any(line.startswith(b"Content-Length") for line in lines):
        assert b"Content-Length: %d" % len(body) in lines
    return plain(([line for line in lines if not line.startswith(b"Date: ")], body))
