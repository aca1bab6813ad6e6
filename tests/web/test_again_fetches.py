"""Fetches whose head is known: answered as in full, and what has changed since is asked anew."""

import gc
import itertools
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.wire import fetch, ls_refs
from govc.protocol.oid import SHA1
from govc.repo.creation import create_repository
from govc.web import again
from govc.web.access_log import Exchange
from govc.web.again import fetch_head_of, may_be_known, words_of
from govc.web.lane import read_request
from govc.web.redaction import redact
from tests.waiting import wait_until
from tests.web.lane_server import LINES as lines
from tests.web.lane_server import clone, without_id

GET = b"GET /a.git/info/refs?service=git-upload-pack HTTP/1.1\r\n"

bodies_of_fetches = st.sampled_from(
    [b"0011command=fetch0001000cdone0000", b"0011command=fetch0000", b"0014command=ls-refs\n0000"]
)
lengths = st.sampled_from(
    [b"Content-Length: %d", b"Content-Length: 0%d", b"content-length: %d", b"X: Content-Length: %d"]
)


@given(st.lists(st.tuples(st.lists(st.one_of(lines, lengths), max_size=4), bodies_of_fetches), min_size=2, max_size=8))
def test_property_the_same_heads_of_fetches_differ_in_body_alone(requests):
    known = {}
    for fields, body in requests:
        fields = [field % len(body) if field.endswith(b"%d") else field for field in fields]
        data = b"POST /a.git/git-upload-pack HTTP/1.1\r\n" + b"".join(x + b"\r\n" for x in fields) + b"\r\n" + body
        head, request = fetch_head_of("peer", data), read_request(data)
        if head is None:
            continue
        assert head.body == body and b"command=fetch" in body
        if request is None:
            assert head.words.key not in known
            continue
        assert request.body == body and request.size == len(data)
        less = without_id(request)._replace(body=b"")
        less.variables.pop("CONTENT_LENGTH")
        if head.words.key in known:
            assert less == known[head.words.key]
            assert request.variables.get("HTTP_X_REQUEST_ID", "") == head.words.request_id
        if may_be_known(request, words_of("peer", data), data):
            known[head.words.key] = less


def test_of_fetches_alone_the_head_is_looked_at():
    data = fetch("a.git", ["1" * 40]).encode("x", keep=True)
    assert fetch_head_of("p", data).body == fetch("a.git", ["1" * 40]).body
    assert fetch_head_of("p", data).words != fetch_head_of("q", data).words
    assert (
        fetch_head_of("p", data).words
        == fetch_head_of("p", fetch("a.git", ["2" * 40, "3" * 40]).encode("x", keep=True)).words
    )
    for other in (
        data + b"0",
        data[:-1],
        data.replace(b"fetch", b"other"),
        ls_refs("a.git").encode("x"),
        GET + b"\r\n",
    ):
        assert fetch_head_of("p", other) is None
    assert fetch_head_of("p", b"X: " + b"x" * again.PLAIN_BYTES_MAX + data) is None


@pytest.fixture
def fetched(serve):
    """A server that knows the head of a fetch, and the tip of main."""
    server = serve()
    oid = server.main.read_text().strip()

    def is_known():
        heads = server.heads
        assert b"PACK" in clone(server, fetch("a.git", [oid], (), f"deepen {heads + 1}"))[1]
        return server.heads > heads

    wait_until(is_known, "the head is known")
    return server, oid


def test_a_fetch_in_a_known_head_is_answered_as_in_full(fetched):
    server, oid = fetched
    for request in (
        fetch("a.git", [oid]),
        fetch("a.git", [oid], [oid]),
        fetch("a.git", [oid], ["2" * 40]),
        fetch("a.git", ["2" * 40]),  # not our ref
        fetch("a.git", [oid], (), "nonsense"),
    ):
        answers = []
        for fields in ({}, {"X_Odd": "1"}):
            data = request.encode("x", keep=False)
            for name, value in fields.items():
                data = data.replace(b"\r\n", f"\r\n{name}: {value}\r\n".encode().replace(b"_", b"-"), 1)
            with server.connect() as connection:
                connection.sendall(data)
                answer = b""
                while piece := connection.recv(1 << 16):
                    answer += piece
            head, _, body = answer.partition(b"\r\n\r\n")
            answers.append(([line for line in head.split(b"\r\n") if not line.startswith(b"Date: ")], body))
        assert answers[0] == answers[1]
    numbers = itertools.count(1)

    def is_known():
        heads = server.heads
        assert clone(server, fetch("a.git", [oid], [f"{next(numbers):040x}"]))[1].count(b"PACK") == 1
        return server.heads == heads + 1

    wait_until(is_known, "the head is still known")  # on a busy machine its proof may have become too old meanwhile


def test_a_known_head_sees_changes(fetched):
    server, oid = fetched
    config = server.path / "config"
    text = config.read_text()
    config.write_text(text + "[http]\n\tmaxRequestBuffer = 100\n")
    server.ours.sendall(fetch("a.git", [oid], ["4" * 40]).encode("x", keep=True))
    assert b"100" in server.ours.recv(1 << 16)
    config.write_text(text + "[http]\n\tuploadpack = false\n")
    server.ours.sendall(fetch("a.git", [oid], ["5" * 40]).encode("x", keep=True))
    assert server.ours.recv(1 << 16).startswith(b"HTTP/1.1 403 ")


def test_a_known_head_sees_that_its_repository_is_another_one(fetched, tmp_path):
    server, oid = fetched
    request = fetch("a.git", [oid]).encode("x", keep=False)

    def status():
        with server.connect() as connection:
            connection.sendall(request)
            answer = b""
            while piece := connection.recv(1 << 16):
                answer += piece
        return answer[9:12], b"PACK" in answer

    def becomes_known():
        heads = server.heads
        assert status() == (b"200", True)
        return server.heads > heads

    wait_until(becomes_known, "the head of who closes is known")
    marker = server.path / "git-daemon-export-ok"
    marker.unlink()
    assert status() == (b"404", False)
    marker.touch()
    assert status() == (b"200", True)
    other, aside = tmp_path / "other.git", tmp_path / "aside.git"
    create_repository(str(other), SHA1, export=True, allow_push=False)
    server.path.rename(aside)
    assert status() == (b"404", False)
    other.rename(server.path)
    assert status() == (b"200", False)
    server.path.rename(other)
    aside.rename(server.path)
    assert status() == (b"200", True)


def test_a_body_beyond_the_limit_is_refused_in_a_known_head(serve):
    server = serve(body_bytes_max=400)
    oid = server.main.read_text().strip()
    wait_until(lambda: clone(server, fetch("a.git", [oid])) and server.heads, "the head is known")
    heads = server.heads
    server.ours.sendall(fetch("a.git", [oid], [f"{number:040}" for number in range(9)]).encode("x", keep=True))
    assert server.ours.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
    assert server.heads == heads


def test_permissions_are_asked_for_a_known_head(serve, tmp_path):
    rules = tmp_path / "p.toml"
    rules.write_text('[[rule]]\nrepositories = ["**"]\nread = ["@anyone"]\n')
    server = serve(permission_file=str(rules))
    request = fetch("a.git", [server.main.read_text().strip()])
    wait_until(lambda: clone(server, request) and server.heads, "the head is known")
    fresh = tmp_path / "new.toml"
    fresh.write_text('[[rule]]\nrepositories = ["**"]\nnone = ["@anyone"]\n')
    fresh.rename(rules)

    def is_refused():
        with server.connect() as connection:
            connection.sendall(request.encode("x"))
            return connection.recv(1 << 16).startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 404 "))

    wait_until(is_refused, "the file is read")


def test_a_fetch_in_a_known_head_is_logged_and_counted_as_ever(fetched, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("govc"), "propagate", True)
    server, oid = fetched
    request = fetch("a.git", [oid], [oid])
    names = ("one", "two", "three")

    def lines_of(name):
        texts = [record.getMessage() for record in caplog.records if record.name == "govc.access"]
        return [text.split(" seconds=")[0] for text in texts if f"request={name} " in text]

    with caplog.at_level(logging.INFO, "govc.access"):
        heads = server.heads
        for name in names:
            clone(server, request, X_Request_Id=name)
        assert server.heads > heads
        wait_until(lambda: all(map(lines_of, names)), "all are written down")
    first = lines_of("one")
    assert [[line.replace(name, "one", 1) for line in lines_of(name)] for name in names] == [first] * 3


@pytest.mark.parametrize("settings", [{"rate_per_address": 1 << 20}])
def test_no_head_is_known_where_requests_are_counted(serve, tmp_path, settings):
    server = serve(**settings, cache_dir=str(tmp_path / "cache"))
    oid = server.main.read_text().strip()
    wait_until(lambda: clone(server, fetch("a.git", [oid])) and server.application._backend._proved, "it is proved")
    for number in range(3):
        clone(server, fetch("a.git", [oid], [f"{number:040}"]))
    assert not server.heads


@pytest.mark.parametrize(("status", "error"), [(200, ""), (503, ""), (200, "broke off")])
def test_a_line_of_what_is_known_is_the_line_as_ever(status, error):
    """Also where there is a secret in it; what ended otherwise is told in full."""
    given = {"request_id": "r", "method": "POST", "path": "/a b.git/git-upload-pack", "remote_user": "ann"}
    ever = Exchange(**given, repository="/https://ann:hunter22@h/a.git", status=status, bytes_sent=7, error=error)
    known = Exchange(**given, repository=ever.repository, status=status, bytes_sent=7, error=error)
    known.known_middle = redact(ever.middle(200))
    assert known.line(0.25) == ever.line(0.25)
    assert "hunter22" not in ever.line(0.25)


def list_exchanges():
    return [one for one in gc.get_objects() if type(one) is Exchange]


def test_nothing_that_an_answer_was_made_from_outlives_it(fetched):
    """A cycle would keep it until the next collection, which is rare: packs that plain git has replaced stayed open."""
    server, oid = fetched
    gc.collect()
    others = list_exchanges()  # of servers that other tests started
    gc.disable()
    try:
        for fields in (b"", b"X-Odd: 1\r\n"):
            data = fetch("a.git", [oid], [], "deepen 1").encode("x", keep=False)
            with server.connect() as connection:
                connection.sendall(data.replace(b"\r\n", b"\r\n" + fields, 1))
                answer = b""
                while piece := connection.recv(1 << 16):
                    answer += piece
            assert b"PACK" in answer
        ours = [one for one in list_exchanges() if not any(one is other for other in others)]
        wait_until(lambda: all(one.finished for one in ours), "both have ended")
        assert [one for one in ours if one.teach is not None] == []
    finally:
        gc.enable()
