"""Which connections a worker closes, and how long it waits: without a server."""

import socket
from types import SimpleNamespace

import gevent
import gevent.socket
import pytest
from gunicorn.config import Config
from gunicorn.http.body import Body

from govc.repo.runtime import Runtime
from govc.web import gunicorn_worker
from govc.web.counted_socket import CountedSocket
from govc.web.gunicorn_master import STOPPING
from govc.web.gunicorn_worker import IDLE_SECONDS_AT_RELOAD, IDLE_SECONDS_AT_STOP, GovcWorker
from tests.waiting import SECONDS


class FakeClient:
    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def now(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(gunicorn_worker, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return clock


@pytest.fixture
def worker():
    made = object.__new__(GovcWorker)
    made._idle, made._ending_since, made.stop_seconds = {}, None, 55
    values = {"graceful_timeout": 3600}
    made.cfg = SimpleNamespace(values=values, set=values.__setitem__)
    yield made
    STOPPING[0] = 0


def test_who_was_just_answered_may_ask_again_of_a_worker_that_ends(worker, now):
    long_idle, just_answered = FakeClient(), FakeClient()
    worker._idle = {long_idle: now[0] - IDLE_SECONDS_AT_RELOAD - 0.1, just_answered: now[0] - 0.1}
    worker._close_idle(IDLE_SECONDS_AT_RELOAD)
    assert (long_idle.closed, just_answered.closed) == (True, False)
    now[0] += IDLE_SECONDS_AT_RELOAD
    worker._close_idle(IDLE_SECONDS_AT_RELOAD)
    assert just_answered.closed


def test_when_the_server_stops_nobody_waits_for_idle_connections(worker):
    assert worker._idle_seconds_at_end() == IDLE_SECONDS_AT_RELOAD
    STOPPING[0] = 1
    assert worker._idle_seconds_at_end() == IDLE_SECONDS_AT_STOP


def test_a_worker_of_an_earlier_reload_has_the_grace_of_a_stop_from_the_stop_on(worker, now):
    worker._limit_ending()
    now[0] += 100
    worker._limit_ending()
    assert worker.cfg.values["graceful_timeout"] == 3600
    STOPPING[0] = 1
    worker._limit_ending()
    assert worker.cfg.values["graceful_timeout"] == 155  # since it was told to end
    now[0] += 10
    worker._limit_ending()
    assert worker.cfg.values["graceful_timeout"] == 155


def test_an_ordinary_stop_has_the_grace_of_a_stop(worker, now):
    STOPPING[0] = 1
    worker._limit_ending()
    assert worker.cfg.values["graceful_timeout"] == 55


LANE = b"GET /a.git/info/refs?service=git-upload-pack"
OTHERWISE = b"GET /a.git/HEAD?x"


@pytest.fixture
def ask():
    """Have a worker answer one request on a Unix socket; the environ that the application was given."""

    def serve(request, *, addr="", host=b"Host: x:8080\r\n", keepalive=75):
        made, seen = object.__new__(GovcWorker), []
        made.cfg = Config()
        made.cfg.set("keepalive", keepalive)
        made.log = SimpleNamespace(access=lambda *_: None, debug=lambda *_: None)
        made._known, made._idle, made._names, made._date, made._date_at = {}, {}, {}, "", 0
        made.nr, made.max_requests, made.alive = 0, 1 << 60, True

        def application(environ, start):
            seen.append(environ)
            start("404 Not Found", [("Content-Length", "0")])
            return []

        made.wsgi = application
        ours, proxy = gevent.socket.socketpair()
        with proxy:
            proxy.sendall(request + b" HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n")
            made.handle(SimpleNamespace(getsockname=lambda: "/run/govc.sock"), ours, addr)
            assert proxy.recv(4096).startswith(b"HTTP/1.1 404 ")
        (environ,) = seen
        assert ("RAW_URI" in environ) is (request != LANE or not keepalive)  # which gunicorn's own environs have
        return environ

    return serve


@pytest.mark.parametrize("keepalive", [75, 0])
@pytest.mark.parametrize("request_line", [LANE, OTHERWISE])
@pytest.mark.parametrize("addr", ["", "127.0.0.1", "/tmp/a\nb", b"\0\xff"])
def test_whoever_binds_his_end_of_a_unix_socket_chooses_no_address(ask, addr, request_line, keepalive):
    assert ask(request_line, addr=addr, keepalive=keepalive)["REMOTE_ADDR"] == ""


@pytest.mark.parametrize("keepalive", [75, 0])
def test_a_unix_socket_is_counted_by_either_way(ask, keepalive):
    assert isinstance(ask(OTHERWISE, keepalive=keepalive)["gunicorn.socket"], CountedSocket)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        (b"Host: git.example:8080\r\n", ("git.example", "8080")),
        (b"Host: git.example\r\n", ("git.example", "80")),
        (b"Host: git.example\r\nX-Forwarded-Proto: https\r\n", ("git.example", "443")),
        (b"Host: [::1]:81\r\n", ("[::1]", "81")),
        (b"Host: [::1]\r\n", ("[::1]", "80")),
        (b"Host: git.example:\xb2\r\n", ("git.example:\xb2", "80")),  # a digit for str.isdigit, and no port
        (b"", ("/run/govc.sock", "")),
    ],
)
def test_gunicorn_s_own_environ_has_the_name_that_was_called(ask, host, wanted):
    environ = ask(OTHERWISE, host=host)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == wanted


def test_an_unread_body_is_dropped_in_large_pieces_and_lets_others_run(monkeypatch):
    """gunicorn drops it by single KiB, and copies for each of them what else has come."""
    turns, sizes = [], []
    monkeypatch.setattr("govc.repo.runtime.PAUSE_AFTER_SECONDS", -1.0)
    monkeypatch.setattr(gunicorn_worker, "GEVENT", Runtime(pause=lambda: turns.append(1)))
    read = Body.read
    monkeypatch.setattr(Body, "read", lambda body, size=None: sizes.append(size) or read(body, size))
    made = object.__new__(GovcWorker)
    made.cfg = Config()
    made.log = SimpleNamespace(access=lambda *_: None, debug=lambda *_: None)
    made._known, made._idle, made._names, made._date, made._date_at = {}, {}, {}, "", 0
    made.nr, made.max_requests, made.alive = 0, 1 << 60, True

    def application(_environ, start):
        start("404 Not Found", [("Content-Length", "0")])
        return []

    made.wsgi = application
    ours, theirs = gevent.socket.socketpair()
    body = b"x" * (1 << 20)
    sender = gevent.spawn(
        theirs.sendall, b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    handler = gevent.spawn(made.handle, SimpleNamespace(getsockname=lambda: ("127.0.0.1", 80)), ours, ("127.0.0.1", 1))
    with theirs:
        sender.get(timeout=SECONDS)
        assert theirs.recv(4096).startswith(b"HTTP/1.1 404 ")
        theirs.shutdown(socket.SHUT_WR)
        handler.get(timeout=SECONDS)
    assert len(turns) == len(body) >> 16
    assert sizes.count(1024) == 1  # gunicorn's own look, which finds nothing
