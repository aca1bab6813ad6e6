"""Requests that come again: the same words mean the same, and what has changed since is asked anew."""

import logging
import re
import socket
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.wire import fetch, info_refs, ls_refs
from govc.cache import bodies
from govc.repo.runtime import Runtime
from govc.web import again
from govc.web.again import KNOWN_MAX, WORDS_BYTES_MAX, may_be_known, words_of
from govc.web.gunicorn_worker import GovcWorker
from govc.web.lane import read_request
from govc.web.log_lines import configure
from govc.web.redaction import RedactingFilter
from tests.waiting import wait_until
from tests.web.lane_server import LINES as lines
from tests.web.lane_server import clone, without_id

GET = b"GET /a.git/info/refs?service=git-upload-pack HTTP/1.1\r\n"
ID = b"X-Request-Id: "


@given(st.lists(st.lists(lines, max_size=4), min_size=2, max_size=8), st.booleans())
def test_property_the_same_words_say_the_same(heads, posts):
    """And of what may be kept, the id is the one that was cut out."""
    first, body = (b"POST /a.git/git-upload-pack HTTP/1.1\r\n", b"0014command=ls-refs\n0000") if posts else (GET, b"")
    known = {}
    for head in heads:
        data = first + b"".join(line + b"\r\n" for line in head) + b"\r\n" + body
        words, request = words_of("peer", data), read_request(data)
        if request is None:
            assert words.key not in known
            continue
        if words.key in known:
            assert without_id(request) == known[words.key]
            assert request.variables.get("HTTP_X_REQUEST_ID", "") == words.request_id
        if may_be_known(request, words, data):
            known[words.key] = without_id(request)


def test_the_id_is_cut_out_wherever_it_stands():
    one = words_of("p", GET + ID + b"one\r\nHost: x\r\n\r\n")
    two = words_of("p", GET + b"Host: x\r\n" + ID + b"two\r\n\r\n")
    assert one.key == two.key
    assert (one.request_id, two.request_id) == ("one", "two")
    assert words_of("q", GET + ID + b"one\r\nHost: x\r\n\r\n").key != one.key
    assert words_of("p", GET + b"Host: x\r\n\r\n").key != one.key


def test_nothing_behind_the_head_is_cut_out():
    data = GET + b"Host: x\r\n\r\n" + GET + ID + b"two\r\n\r\n"
    assert words_of("p", data).key == ("p", False, data)


@pytest.mark.parametrize(
    "fields",
    [
        b"Authorization: Basic eDp5\r\n",
        b"Cookie: a=b\r\n",
        b"Proxy-Authorization: Basic eDp5\r\n",
        b"x-request-id: abc\r\n",  # not cut out, so it counts as part of the words
    ],
)
def test_of_some_requests_nothing_is_kept(fields):
    def kept(data):
        return may_be_known(read_request(data), words_of("p", data), data)

    assert kept(GET + b"Host: x\r\n\r\n")
    assert not kept(GET + fields + b"\r\n")
    assert not kept(GET + b"Host: x\r\n\r\n" + GET)
    assert words_of("p", GET + b"X-A: " + b"b" * WORDS_BYTES_MAX) is None


def test_of_long_requests_only_fetches_have_words():
    long = b"\r\n" + b"b" * again.PLAIN_BYTES_MAX
    assert words_of("p", b"POST /a.git/git-receive-pack HTTP/1.1\r\n" + long) is None
    words = words_of("p", b"POST /a.git/git-upload-pack HTTP/1.1\r\n" + long)
    assert words != words_of("p", b"POST /a.git/git-upload-pack HTTP/1.1\r\n" + long + b"b")
    assert len(words.key[2]) == 32


REQUESTS = {"info/refs": info_refs("a.git"), "ls-refs": ls_refs("a.git"), "prefix": ls_refs("a.git", "refs/heads/")}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_a_change_is_seen_at_once(serve, request_):
    server = serve()
    oid = server.main.read_bytes().strip()
    head, body = server.ask_until_known(request_)
    assert b"HTTP/1.1 200 OK" in head and oid + b" refs/heads/main" in body
    (server.path / "refs/heads/other").write_bytes(oid + b"\n")
    assert oid + b" refs/heads/other" in server.ask(request_)[1]
    server.ask_until_known(request_)
    (server.path / "refs/heads/other").unlink()
    assert server.ask(request_) == (head, body)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path / "git-daemon-export-ok").unlink(),
        lambda path: (path / "config").write_text((path / "config").read_text() + "[http]\n\tuploadpack = false\n"),
        lambda path: path.rename(path.with_name("b.git")),
    ],
    ids=["export", "configuration", "renamed"],
)
def test_what_is_refused_now_is_refused(serve, change):
    server = serve()
    for request in REQUESTS.values():
        server.ask_until_known(request)
    change(server.path)
    for request in REQUESTS.values():
        server.ours.sendall(request.encode("x", keep=True))
        assert server.ours.recv(1 << 16).startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 404 "))


def test_permissions_are_asked_each_time(serve, tmp_path):
    rules = tmp_path / "p.toml"
    rules.write_text('[[rule]]\nrepositories = ["**"]\nread = ["@anyone"]\n')
    server = serve(permission_file=str(rules))
    request = REQUESTS["ls-refs"]
    server.ask_until_known(request)
    fresh = tmp_path / "new.toml"
    fresh.write_text('[[rule]]\nrepositories = ["**"]\nnone = ["@anyone"]\n')
    fresh.rename(rules)

    def is_refused():
        server.ours.sendall(request.encode("x", keep=True))
        return server.ours.recv(1 << 16).startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 404 "))

    wait_until(is_refused, "the file is read")


@pytest.mark.parametrize(
    ("request_", "received"), [(REQUESTS["info/refs"], 0), (REQUESTS["ls-refs"], len(REQUESTS["ls-refs"].body))]
)
def test_it_is_logged_and_counted_as_ever(serve, caplog, request_, received, monkeypatch):
    monkeypatch.setattr(logging.getLogger("govc"), "propagate", True)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    server = serve()
    with caplog.at_level(logging.INFO, "govc.access"):
        first = server.ask(request_, X_Request_Id="id-first")
        server.ask_until_known(request_, X_Request_Id="id-known")
        assert server.ask(request_, X_Request_Id="id-last") == first
        server.ask(request_)
        own = server.ask_until_known(request_)
        assert own == first

    def fields(request_id):
        (line,) = [r.getMessage() for r in caplog.records if r.name == "govc.access" and request_id in r.getMessage()]
        return {
            name: value
            for name, _, value in (field.partition("=") for field in line.split(" "))
            if name not in ("request", "seconds")
        }

    assert fields("request=id-first") == fields("request=id-last")
    made_up = [r.getMessage() for r in caplog.records if r.name == "govc.access"][-1]
    assert len(made_up.partition("request=")[2].partition(" ")[0]) == 16
    lines = [r for r in caplog.records if r.name == "govc.access"]
    text = server.application._metrics.encode().decode()
    route = "rpc" if received else "info-refs"
    assert f'govc_http_requests_total{{route="{route}",status="200"}} {len(lines)}.0' in text
    if received:
        assert f'govc_http_request_bytes_total{{route="rpc"}} {len(lines) * received}.0' in text


def test_its_line_is_the_same_without_a_record(serve, capfd):
    """As `govc serve` logs: to standard error, in our form."""
    logger = logging.getLogger("govc")
    before = logger.handlers, logger.level, logger.propagate
    try:
        configure(RedactingFilter())
        server = serve()
        request_ = REQUESTS["ls-refs"]
        server.ask(request_, X_Request_Id="id-first")
        server.ask_until_known(request_, X_Request_Id="id-known")
        server.ask(request_, X_Request_Id="govc_0123456789abcdefghij")
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])  # which has the loggers below forget what they were told to let through
    lines = [line for line in capfd.readouterr().err.splitlines() if " govc.access " in line]
    shape = re.compile(r"[0-9-]{10} [0-9:]{8},[0-9]{3} INFO govc\.access request=(\S+) (.*) seconds=[0-9]+\.[0-9]{6}")
    found = [shape.fullmatch(line) for line in lines]
    assert all(found), lines
    assert found[0][1] == "id-first"
    assert found[-1][1] == "govc_0123456789[secret]"
    assert {match[2] for match in found} == {found[0][2]}
    assert " status=200 bytes=" in lines[0]
    assert "/a.git/git-upload-pack" in lines[0]


def test_who_says_close_gets_it(serve):
    server = serve()
    closing = REQUESTS["info/refs"].encode("x", keep=True).replace(b"keep-alive", b"close")

    def ask():
        asked, answer = server.asked, b""
        with server.connect() as connection:
            connection.sendall(closing)
            while piece := connection.recv(1 << 16):
                answer += piece
        assert b"\r\nConnection: close\r\n" in answer
        return server.asked == asked

    wait_until(ask, "it is known")


class Pieces:
    """A connection on which a request arrives in pieces."""

    family = socket.AF_UNIX

    def __init__(self, *pieces):
        self.left = list(pieces)
        self.sent = b""

    def recv(self, size):
        data, self.left[:1] = self.left[0][:size], [self.left[0][size:]] if len(self.left[0]) > size else []
        return data

    def sendall(self, data, _flags=0):
        self.sent += data

    def send(self, data):
        self.sent += data
        return len(data)


@pytest.mark.parametrize("connection", [b"close", b"keep-alive"])
def test_the_rest_of_a_refused_push_is_read_before_the_connection_ends(serve, connection):
    """To close it with bytes unread would reset it, and who still sends would not read why."""
    head = b"POST /none.git/git-receive-pack HTTP/1.1\r\nConnection: " + connection + b"\r\nContent-Length: 300\r\n\r\n"
    client = Pieces(head + b"x" * 100, b"y" * 150, b"z" * 50, b"")
    listener = SimpleNamespace(getsockname=lambda: ("127.0.0.1", 80))
    serve().worker._answer_requests(listener, client, ("127.0.0.1", 1), None)
    assert client.sent.startswith(b"HTTP/1.1 404 ")
    assert client.sent.count(b"HTTP/1.1") == 1
    assert client.left == ([b""] if connection == b"close" else [])


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        (b"git.example:8080", ("git.example", "8080", "http")),
        (b"git.example", ("git.example", "80", "http")),
        (b"[::1]:81", ("[::1]", "81", "http")),
        (b"[::1]", ("[::1]", "80", "http")),
        (b"git.example\r\nX-Forwarded-Proto: https", ("git.example", "443", "https")),
        (b"", ("/run/govc/govc.sock", "", "http")),
    ],
)
def test_a_push_over_a_unix_socket_keeps_the_lane(serve, host, wanted):
    """Hooks are told by what name and port the client called, which the socket has not."""
    server, seen = serve(), []

    def application(environ, start):
        seen.append(environ)
        start("404 Not Found", [("Content-Length", "0")])
        return []

    server.worker.wsgi = application
    head = b"POST /a.git/git-receive-pack HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 4\r\n\r\n"
    listener = SimpleNamespace(getsockname=lambda: "/run/govc/govc.sock")
    server.worker._answer_requests(listener, Pieces(head + b"0000", b""), "", None)
    (environ,) = seen
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["wsgi.url_scheme"]) == wanted
    assert environ["REMOTE_ADDR"] == ""
    assert "RAW_URI" not in environ  # which gunicorn's own environs have


@pytest.mark.parametrize(
    ("peer", "believed", "wanted"),
    [("127.0.0.1", "127.0.0.1", "https"), ("192.0.2.1", "127.0.0.1", "http"), ("192.0.2.1", "*", "https")],
)
def test_who_gunicorn_believes_may_say_that_tls_was_spoken(serve, peer, believed, wanted):
    server, seen = serve(), []
    server.worker.cfg.forwarded_allow_ips = [believed]

    def application(environ, start):
        seen.append(environ)
        start("404 Not Found", [("Content-Length", "0")])
        return []

    server.worker.wsgi = application
    listener = SimpleNamespace(getsockname=lambda: ("127.0.0.1", 80))
    client = Pieces(GET + b"Host: x\r\nX-Forwarded-Proto: https\r\n\r\n", b"")
    server.worker._answer_requests(listener, client, (peer, 1), None)
    (environ,) = seen
    assert environ["wsgi.url_scheme"] == wanted
    assert "RAW_URI" not in environ  # which gunicorn's own environs have


@pytest.mark.parametrize("settings", [{"rate_per_address": 1 << 20}, {"audit_file": "audit"}])
def test_where_each_request_counts_each_is_asked_in_full(serve, tmp_path, settings):
    if "audit_file" in settings:
        settings = {"audit_file": str(tmp_path / "audit")}
    else:
        settings = {**settings, "cache_dir": str(tmp_path / "cache")}
    server = serve(**settings)
    request = REQUESTS["ls-refs"]
    server.ask(request)
    wait_until(lambda: server.ask(request) and server.application._backend._proved, "it is proved")
    asked = server.asked
    server.ask(request)
    server.ask(request)
    assert server.asked == asked + 2


# Clones


@pytest.fixture
def cloned(serve, tmp_path, monkeypatch):
    """A server whose clones are kept however small they are, and the request of one."""
    monkeypatch.setattr(bodies, "WORTH_BYTES", 1)
    server = serve(cache_dir=str(tmp_path / "cache"))
    return server, fetch("a.git", [server.main.read_text().strip()])


def clone_until_known(server, request, **fields):
    answers = []

    def is_known():
        asked = server.asked
        answers.append(clone(server, request, **fields))
        return server.asked == asked

    wait_until(is_known, "it is known")
    assert answers == answers[:1] * len(answers)
    return answers[0]


def test_a_clone_that_comes_again_is_sent_from_its_file(cloned):
    server, request = cloned
    head, body = clone_until_known(server, request, X_Request_Id="one")
    assert b"HTTP/1.1 200 OK" in head and b"PACK" in body
    asked = server.asked
    assert clone(server, request, X_Request_Id="two") == (head, body)
    assert server.asked == asked


def test_a_body_that_is_gone_is_made_again(cloned, tmp_path):
    server, request = cloned
    first = clone_until_known(server, request)
    for path in (tmp_path / "cache").rglob("*.body"):
        path.unlink()
    asked, heads = server.asked, server.heads
    assert clone(server, request) == first
    assert (server.asked, server.heads) == (asked, heads + 1)
    assert clone_until_known(server, request) == first


def test_a_clone_that_is_refused_now_is_refused(cloned):
    server, request = cloned
    clone_until_known(server, request)
    config = server.path / "config"
    config.write_text(config.read_text() + "[http]\n\tuploadpack = false\n")
    server.ours.sendall(request.encode("x", keep=True))
    assert server.ours.recv(1 << 16).startswith(b"HTTP/1.1 403 ")


def test_a_long_request_is_known_by_its_digest(cloned):
    server, request = cloned
    oid = server.main.read_text().strip()
    long = fetch("a.git", [oid] * 100)
    assert len(long.body) > again.PLAIN_BYTES_MAX
    assert clone_until_known(server, long) == clone(server, request)
    assert all(len(key[2]) <= again.PLAIN_BYTES_MAX for key in server.worker._known)


def test_a_clone_is_logged_as_ever(cloned, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("govc"), "propagate", True)
    server, request = cloned
    with caplog.at_level(logging.INFO, "govc.access"):
        _, body = clone_until_known(server, request)
        clone(server, request, X_Request_Id="the-last")

    def line():
        return [r.getMessage() for r in caplog.records if r.name == "govc.access"][-1]

    size = f"bytes={len(body)} "
    wait_until(lambda: size in line(), "it is logged")
    assert f'route=rpc repository="/a.git" path="/a.git/git-upload-pack" status=200 {size}' in line()


def test_a_proxy_that_found_no_file_is_asked_in_full(cloned):
    server, request = cloned
    clone_until_known(server, request)
    asked = server.asked
    for _ in range(3):
        clone(server, request, X_Govc_No_Accel="1")
    assert server.asked == asked + 3


def test_nginx_is_told_of_the_file_at_once(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(bodies, "WORTH_BYTES", 1)
    server = serve(cache_dir=str(tmp_path / "cache"), accel_location="/-/cache/")
    request = fetch("a.git", [server.main.read_text().strip()])

    def ask():
        server.ours.sendall(request.encode("x", keep=True))
        return server.ours.recv(1 << 16)

    asked = -1

    def is_known():
        nonlocal asked
        before, asked = asked, server.asked
        return b"X-Accel-Redirect: /-/cache/bodies-" in ask() and before == asked == server.asked

    wait_until(is_known, "it is known")
    head, _, body = ask().partition(b"\r\n\r\n")
    # nginx keeps a connection whose answer is told to be empty, and closes one that it would have to read to its end.
    assert b"\r\nContent-Length: 0" in head
    assert b"Transfer-Encoding" not in head
    assert body == b""


def test_only_so_many_are_kept(monkeypatch):
    worker = object.__new__(GovcWorker)
    worker._known = {}
    for number in range(KNOWN_MAX + 1):
        worker._learn(again.Words(("p", False, b"%d" % number), ""), True, None)
    assert len(worker._known) == 1


@pytest.fixture
def turns(monkeypatch):
    """How often the worker's loop let others run: at each place where it may."""
    count = []
    monkeypatch.setattr("govc.repo.runtime.PAUSE_AFTER_SECONDS", -1.0)
    monkeypatch.setattr("govc.web.gunicorn_worker.GEVENT", Runtime(pause=lambda: count.append(1)))
    return count


def test_a_client_whose_next_request_is_always_there_lets_others_run(serve, turns):
    server = serve()
    requests = [GET + b"Host: x\r\nX-Number: %d\r\n\r\n" % number for number in range(40)]  # none is known
    client = Pieces(b"".join(requests[:20]), *requests[20:], b"")
    listener = SimpleNamespace(getsockname=lambda: ("127.0.0.1", 80))
    server.worker._answer_requests(listener, client, ("127.0.0.1", 1), None)
    assert client.sent.count(b"HTTP/1.1 200 OK") == 40
    assert len(turns) == 39


def test_who_waits_between_requests_has_given_others_their_turn(serve, turns):
    """Their turns are seen by whom the worker served: no pause is spent on it."""
    server = serve()

    class Waiting(Pieces):
        def recv(self, size):
            server.worker._had_turn = object()
            return super().recv(size)

    requests = [GET + b"Host: x\r\nX-Number: %d\r\n\r\n" % number for number in range(10)]
    listener = SimpleNamespace(getsockname=lambda: ("127.0.0.1", 80))
    server.worker._answer_requests(listener, Waiting(*requests, b""), ("127.0.0.1", 1), None)
    assert turns == []


def test_the_rest_of_a_refused_push_lets_others_run(serve, turns):
    head = b"POST /none.git/git-receive-pack HTTP/1.1\r\nContent-Length: 3000\r\n\r\n"
    client = Pieces(head, *[b"x" * 100] * 30, b"")
    listener = SimpleNamespace(getsockname=lambda: ("127.0.0.1", 80))
    serve().worker._answer_requests(listener, client, ("127.0.0.1", 1), None)
    assert client.left == []
    assert len(turns) >= 30
