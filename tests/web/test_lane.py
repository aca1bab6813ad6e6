"""The fast lane takes only what it reads as gunicorn does."""

import socket
from contextlib import nullcontext

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create
from hypothesis import given
from hypothesis import strategies as st

from govc.cache.span import FileSpan
from govc.repo.runtime import PLAIN
from govc.service.last_chunk import LastChunk
from govc.web.access_log import Exchange
from govc.web.lane import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    JOIN_BYTES_MAX,
    PUSH_BYTES_MAX,
    encode_answer,
    encode_whole,
    make_environ,
    read_request,
)
from govc.web.lane_answer import LaneAnswer
from govc.web.lane_body import LaneBody
from govc.web.sending import find_outlet
from govc.web.streams import Stream, next_chunk

GET = b"GET /a/b.git/info/refs?service=git-upload-pack HTTP/1.1\r\n"
POST = b"POST /a/b.git/git-upload-pack HTTP/1.1\r\n"
PUSH = b"POST /a/b.git/git-receive-pack HTTP/1.1\r\n"
LS_REFS = b"0014command=ls-refs\n0000"
FETCH = b"0012command=fetch\n00010032have " + b"1" * 40 + b"\n0009done\n0000"
USUAL = (
    b"Host: example.com\r\nUser-Agent: git/2.39.5\r\nAccept: */*\r\nAccept-Encoding: deflate, gzip\r\n"
    b"Pragma: no-cache\r\nGit-Protocol: version=2\r\n"
)
TYPE = b"Content-Type: application/x-git-upload-pack-request\r\n"


def post(body=LS_REFS, fields=USUAL + TYPE, length=None):
    number = len(body) if length is None else length
    return POST + fields + b"Content-Length: %d\r\n\r\n" % number + body


def as_gunicorn_reads(data):
    """The environ that gunicorn makes of `data`, with its body, and what follows; None when it refuses."""
    config = Config()
    for name, value in (("forwarder_headers", ""), ("header_map", "drop"), ("limit_request_line", 8190)):
        config.set(name, value)
    parser = RequestParser(config, iter([data]), ("127.0.0.1", 1234))
    request = next(parser)
    environ = create(request, None, ("127.0.0.1", 1234), ("127.0.0.1", 80), config)[1]
    body = request.body.read()
    return environ, body, parser.unreader.take_buffered(), request.should_close()


def check_same(data):
    request = read_request(data)
    if request is None:
        return False
    environ, body, rest, closes = as_gunicorn_reads(data)
    ours = make_environ({"REMOTE_ADDR": "127.0.0.1", "SERVER_PROTOCOL": "HTTP/1.1"}, request, None)
    names = {name for name in {*environ, *ours} if name.startswith(("HTTP_", "CONTENT_"))}
    for name in (*names, "REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL"):
        assert ours.get(name) == environ.get(name), name
    assert (request.body, data[request.size :], closes) == (body, rest, not request.stays)
    assert not request.rest or request.is_push
    return True


@pytest.mark.parametrize(
    "data",
    [
        GET + USUAL + b"\r\n",
        GET + b"Host: x\r\n\r\n",
        GET + USUAL + b"Connection: Keep-Alive\r\nX-Forwarded-Proto: http\r\nX-Request-Id: 0123\r\n\r\n",
        GET + USUAL + b"X-Forwarded-Proto: https\r\n\r\n",
        GET + b"Host:x\r\nX-Empty:\r\nX-Blanks:  a \t b\t \r\n\r\n",
        GET + "Host: x\r\nX-Remote-User: Andr\xe9\r\n\r\n".encode("latin-1"),
        GET + USUAL + b"\r\n" + GET,
        post(),
        post() + post(),
        post(b"0014command=ls-refs\n" + b"x" * 5000),
        post(FETCH),
        post(FETCH) + post(),
        post(b"0012command=fetch\n00010032want " + b"1" * 40 + b"\n0009done\n0000"),
        post(FETCH, USUAL + TYPE + b"Connection: close\r\n"),
        GET + USUAL + b"Connection: Close\r\n\r\n",
        PUSH + USUAL + b"Content-Length: 24\r\n\r\n" + LS_REFS,
        PUSH + USUAL + b"Content-Length: 24\r\n\r\n" + LS_REFS + GET,
        PUSH + b"Host: x\r\nContent-Length: 0\r\n\r\n",
        PUSH + USUAL + b"Content-Length: %d\r\n\r\n" % PUSH_BYTES_MAX + b"x" * PUSH_BYTES_MAX,
    ],
)
def test_what_the_usual_client_sends_is_for_the_lane(data):
    assert check_same(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GET,
        GET + USUAL,
        GET + USUAL + b"\r",
        b"GET /a/info/refs HTTP/1.1\r\n" + USUAL + b"\r\n",
        b"GET /a/HEAD HTTP/1.1\r\n" + USUAL + b"\r\n",
        b"HEAD" + GET[3:] + USUAL + b"\r\n",
        b"get" + GET[3:] + USUAL + b"\r\n",
        GET.replace(b"1.1", b"1.0") + USUAL + b"\r\n",
        GET.replace(b"b.git", b"b%2egit") + USUAL + b"\r\n",
        GET.replace(b"/a/b.git", b"http://h/a") + USUAL + b"\r\n",
        GET.replace(b"GET /", b"GET  /") + USUAL + b"\r\n",
        GET.replace(b"\r\n", b"\n") + USUAL + b"\r\n",
        GET.replace(b"pack ", b"pack&x=1 ") + USUAL + b"\r\n",
        GET + USUAL + b"Transfer-Encoding: chunked\r\n\r\n",
        GET + USUAL + b"Content-Length: 5\r\n\r\nhello",
        GET + USUAL + b"Host: other\r\n\r\n",
        GET + USUAL + b"X_Remote_User: root\r\n\r\n",
        GET + USUAL + b"X-A: b\r\n folded\r\n\r\n",
        GET + USUAL + b"X-A : b\r\n\r\n",
        GET + USUAL + b"X-A: b\x00c\r\n\r\n",
        GET + USUAL + b"X-A: b\rc\r\n\r\n",
        GET + USUAL + b"X-A: b\n\r\n",
        GET + USUAL + b": b\r\n\r\n",
        GET + USUAL + b"Connection: close, TE\r\n\r\n",
        GET + USUAL + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        GET + USUAL + b"X-Forwarded-Proto: HTTPS\r\n\r\n",
        GET + USUAL + b"X-Forwarded-Proto: https, http\r\n\r\n",
        GET + USUAL + b"X-Forwarded-Ssl: on\r\n\r\n",
        GET + b"X-A: " + b"b" * HEAD_BYTES_MAX + b"\r\n\r\n",
        post(fields=USUAL + b"Expect: 100-continue\r\n"),
        post(fields=USUAL + b"Content-Encoding: gzip\r\n"),
        post(fields=USUAL + b"Transfer-Encoding: chunked\r\n"),
        post(fields=USUAL + b"Content-Length: 24\r\n"),
        post(FETCH + b"x" * BODY_BYTES_MAX),
        post(b"0032want " + b"1" * 40 + b"\n00000009done\n"),
        post(length=len(LS_REFS) + 1),
        post(b"0014command=ls-refs\n" + b"x" * BODY_BYTES_MAX),
        POST + USUAL + b"\r\n" + LS_REFS,
        POST + USUAL + b"Content-Length: +24\r\n\r\n" + LS_REFS,
        POST + USUAL + b"Content-Length: 0x18\r\n\r\n" + LS_REFS,
        POST + USUAL + b"Content-Length: 24, 24\r\n\r\n" + LS_REFS,
        PUSH + USUAL + b"\r\n" + LS_REFS,
        PUSH + USUAL + b"Content-Length: 24",
        PUSH + USUAL + b"Content-Length: %d\r\n\r\n" % (PUSH_BYTES_MAX + 1) + b"x" * (PUSH_BYTES_MAX + 1),
        PUSH + USUAL + b"Content-Length: 24\r\nExpect: 100-continue\r\n\r\n" + LS_REFS,
        PUSH + USUAL + b"Content-Length: 24\r\nContent-Encoding: gzip\r\n\r\n" + LS_REFS,
        PUSH + USUAL + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET" + PUSH[4:] + USUAL + b"Content-Length: 24\r\n\r\n" + LS_REFS,
    ],
)
def test_anything_else_is_not(data):
    assert read_request(data) is None


def test_no_split_of_a_request_is_read_differently():
    for data in (GET + USUAL + b"\r\n", post()):
        assert all(read_request(data[:end]) is None for end in range(len(data)))


def test_of_a_push_the_head_is_enough():
    """What is still to come of its body is read from the connection; what is behind it stays there."""
    head = PUSH + USUAL + b"Content-Length: 24\r\n\r\n"
    for end in range(len(head)):
        assert read_request(head[:end]) is None
    for come in range(25):
        request = read_request(head + LS_REFS[:come])
        assert (request.body, request.rest, request.size) == (LS_REFS[:come], 24 - come, len(head) + come)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(LS_REFS[come:] + GET)
            body = LaneBody(ours, request.body, request.rest)
            assert b"".join(iter(lambda body=body: body.read(7), b"")) == LS_REFS
            assert body.is_read and ours.recv(1000) == GET


@pytest.mark.parametrize(("come", "is_whole"), [(b"", False), (b"0123", False), (b"0123456789", True)])
def test_what_nobody_read_of_a_body_is_dropped_before_the_next_request(come, is_whole):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        body = LaneBody(ours, b"begun", 10)
        assert body.read(2) == b"be"
        theirs.sendall(come + (GET if is_whole else b""))
        theirs.shutdown(socket.SHUT_WR)
        assert body.drop_rest(lambda: None) is body.is_read is is_whole
        assert ours.recv(1000) == (GET if is_whole else b"")


pieces = st.sampled_from(
    [
        GET,
        POST,
        PUSH,
        USUAL,
        TYPE,
        LS_REFS,
        FETCH,
        b"Connection: close\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"Content-Length: 24\r\n",
        b"Content-Length: 024\r\n",
        b"Content-Length: 24 \r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Host: x\r\n",
        b"X-A:\r\n",
        b"X-A: \xff\x80\r\n",
        b"TE: trailers\r\n",
        b"Keep-Alive: 5\r\n",
        b"?service=git-upload-pack",
        b"//",
        b"#",
    ]
)


@given(st.lists(pieces, max_size=8), st.sampled_from([GET, POST, PUSH]), st.data())
def test_property_what_the_lane_takes_gunicorn_reads_the_same(parts, first, data):
    text = first + USUAL + b"".join(parts) + b"\r\n" + LS_REFS
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(st.binary(max_size=2)) + text[at + data.draw(st.integers(0, 2)) :]
    check_same(text)


def decode(pieces):
    head, _, rest = b"".join(pieces).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    return lines[0], dict(line.split(": ", 1) for line in lines[1:]), rest


@pytest.mark.parametrize("size", [0, 5, JOIN_BYTES_MAX, JOIN_BYTES_MAX + 1])
def test_answers(size):
    body = b"x" * size
    status, fields, rest = decode(
        encode_answer("200 OK", [("Content-Length", str(size)), ("A", "b")], [body], "now", stays=True)
    )
    assert (status, rest) == ("HTTP/1.1 200 OK", body)
    assert fields == {
        "Server": "gunicorn",
        "Date": "now",
        "Connection": "keep-alive",
        "Content-Length": str(size),
        "A": "b",
    }
    status, fields, rest = decode(encode_answer("200 OK", [], [body[:3], body[3:]], "now", stays=False))
    assert fields["Connection"] == "close"
    assert (fields.get("Content-Length"), rest) == ((str(size), body) if size else (None, b"0\r\n\r\n"))
    assert fields.get("Transfer-Encoding") == (None if size else "chunked")


@pytest.mark.parametrize("size", [1, 5, JOIN_BYTES_MAX, JOIN_BYTES_MAX + 1])
@pytest.mark.parametrize("stays", [True, False])
def test_what_is_said_again_is_said_as_before(size, stays):
    for headers in ([("A", "b")], [("A", "c"), ("Content-Length", str(size))], []):
        for date in ("now", "then"):
            for length in (size, size + 1):
                body = b"x" * length
                again = encode_whole(headers, body, date, stays=stays)
                assert again == encode_answer("200 OK", headers, [body], date, stays=stays)


class Connection:
    """Takes bytes, and remembers in how many writes."""

    def __init__(self):
        self.writes = []
        self.flags = []

    def sendall(self, data, flags=0):
        self.writes.append(data)
        self.flags.append(flags)

    def send(self, data):
        self.sendall(data)
        return len(data)


def answered(chunks, headers=(), *, holds_first=True):
    connection = Connection()
    answer = LaneAnswer(connection, "now", stays=True, holds_first=holds_first)
    answer.start("200 OK", list(headers))
    answer.send(chunks)
    return connection.writes


def test_one_chunk_leaves_in_one_write():
    (data,) = answered([b"body"])
    assert data.endswith(b"Content-Length: 4\r\n\r\nbody")
    (data,) = answered([])
    assert data.endswith(b"\r\n\r\n0\r\n\r\n")
    (data,) = answered([b"body"], [("Content-Length", "4")])
    assert data.endswith(b"Content-Length: 4\r\n\r\nbody")


def test_what_a_connection_does_not_take_at_once_follows():
    class Short(Connection):
        def send(self, data):
            return super().send(data[:10]) if data else 0

    connection = Short()
    answer = LaneAnswer(connection, "now", stays=True)
    answer.start("200 OK", [])
    answer.send([b"body"])
    assert [len(piece) for piece in connection.writes[:-1]] == [10]
    assert b"".join(connection.writes) == answered([b"body"])[0]


def test_several_chunks_leave_as_they_come():
    writes = answered([b"one", b"three", b"x"])
    assert decode(writes)[2] == b"3\r\none\r\n5\r\nthree\r\n1\r\nx\r\n0\r\n\r\n"
    assert len(writes) == 4


def test_an_answer_of_known_length_is_not_cut_into_chunks():
    writes = answered([b"one", b"three"], [("Content-Length", "8")])
    head, _, body = b"".join(writes).partition(b"\r\n\r\n")
    assert body == b"onethree"
    assert b"Content-Length: 8" in head and b"chunked" not in head


def test_the_first_chunk_of_a_push_waits_for_no_other():
    writes = []

    def chunks():
        yield b"one"
        assert decode(connection.writes)[2] == b"3\r\none\r\n"
        assert connection.flags == [0]  # with MSG_MORE it would wait in the kernel
        yield b"two"

    connection = Connection()
    connection.writes = writes
    answer = LaneAnswer(connection, "now", stays=True, holds_first=False)
    answer.start("200 OK", [])
    answer.send(chunks())
    assert decode(writes)[2] == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    (data,) = answered([b"body"], [("Content-Length", "4")], holds_first=False)
    assert data.endswith(b"Content-Length: 4\r\n\r\nbody")


@pytest.mark.parametrize("before", [(), (b"abc",), (b"abc", b"de")])
@pytest.mark.parametrize("holds_first", [True, False])
def test_the_last_chunk_leaves_with_the_end_before_its_maker_is_done(before, holds_first):
    connection = Connection()

    def chunks():
        yield from before
        yield LastChunk(b"last")
        seen.append(decode(connection.writes)[2])

    seen = []
    answer = LaneAnswer(connection, "now", stays=True, holds_first=holds_first)
    answer.start("200 OK", [])
    answer.send(chunks())
    whole = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*before, b"last")) + b"0\r\n\r\n"
    assert seen == [whole if before else b"last"]
    assert decode(connection.writes)[2] == seen[0]


def test_an_answer_that_breaks_off_has_no_end_and_what_was_made_is_sent():
    def broken(count):
        yield from (b"abc",) * count
        raise ValueError("broken")

    for count in (1, 2):
        connection = Connection()
        answer = LaneAnswer(connection, "now", stays=True)
        answer.start("200 OK", [])
        with pytest.raises(ValueError, match="broken"):
            answer.send(broken(count))
        assert decode(connection.writes)[2] == b"3\r\nabc\r\n" * count


class Watched(Connection):
    """Knows for each write whether it is watched how fast the client takes it: it is the watch, too."""

    broken_limit = ""

    def __init__(self):
        super().__init__()
        self.is_watched = False
        self.watched = []

    def sendall(self, data, flags=0):
        super().sendall(data, flags)
        self.watched.append(self.is_watched)

    def begins(self):
        self.is_watched = True

    def ends(self):
        self.is_watched = False

    end_request = ends


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("breaks_off", [False, True])
def test_whatever_is_written_is_watched_and_nothing_else(count, breaks_off):
    connection = Watched()

    def chunks():
        try:
            for _ in range(count):
                assert not connection.is_watched
                yield b"abc"
            assert not connection.is_watched
            if breaks_off:
                raise ValueError("broken")
        finally:
            made.append(connection.is_watched)

    made = []
    exchange = Exchange(request_id="", method="POST", path="/")
    exchange.waits = connection
    answer = LaneAnswer(connection, "now", stays=True)
    answer.start("200 OK", [])
    iterator = chunks()
    stream = Stream(next_chunk(iterator), iterator, exchange, None)
    with pytest.raises(ValueError, match="broken") if breaks_off else nullcontext():
        answer.send(stream)
    stream.close()
    assert connection.watched == [True] * len(connection.writes)
    assert made == [False]
    assert not connection.is_watched


def test_who_stops_reading_does_not_count_as_slow_while_an_answer_is_cleaned_up():
    connection = Watched()

    def chunks():
        try:
            yield b"abc"
        finally:
            seen.append(connection.is_watched)

    seen = []
    exchange = Exchange(request_id="", method="POST", path="/")
    exchange.waits = connection
    iterator = chunks()
    stream = Stream(next_chunk(iterator), iterator, exchange, None)
    assert next(stream) == b"abc"
    assert connection.is_watched
    stream.close()
    assert seen == [False]


def test_a_span_goes_out_between_chunks(tmp_path):
    """By sendfile, which is given the connection; everything in order, and in chunks."""
    (tmp_path / "f").write_bytes(b"0123456789")
    ours, theirs = socket.socketpair()
    with ours, theirs, open(tmp_path / "f", "rb") as file:
        answer = LaneAnswer(ours, "now", stays=True)
        answer.start("200 OK", [])
        span = FileSpan(file.fileno(), 2, 5, lambda function, *arguments: function(*arguments))
        outlet = find_outlet({"gunicorn.socket": ours, "REQUEST_METHOD": "POST"}, answer.start, lambda _: None, PLAIN)

        def chunks():
            yield b"head"
            outlet.send(span)
            yield b"tail"

        answer.send(chunks())
        ours.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: theirs.recv(1000), b""))
    assert decode([received])[2] == b"4\r\nhead\r\n5\r\n23456\r\n4\r\ntail\r\n0\r\n\r\n"
    assert answer.sent == 5
