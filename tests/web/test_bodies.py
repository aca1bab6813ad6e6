import gzip
import io
import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import LimitExceeded
from govc.web.bodies import (
    REQUEST_BYTES_FLOOR,
    BodyError,
    GzipBody,
    open_body,
    parse_content_length,
    read_bounded_body,
)


class OneByteStream(io.BytesIO):
    """Gives one byte per read."""

    def read(self, size=-1):
        return super().read(min(size, 1))


class BrokenStream(io.BytesIO):
    def read(self, size=-1):
        raise ValueError("whatever a server raises")


def environ_of(sent, *, length=None, terminated=False, encoding=None, stream=io.BytesIO):
    environ = {"wsgi.input": stream(sent)}
    if length is not None:
        environ["CONTENT_LENGTH"] = str(length)
    if terminated:
        environ["wsgi.input_terminated"] = True
    if encoding:
        environ["HTTP_CONTENT_ENCODING"] = encoding
    return environ


def drain(body, size=1 << 20):
    return b"".join(iter(lambda: body.read(size), b""))


@settings(max_examples=100, derandomize=True)
@given(st.binary(max_size=300), st.integers(1, 70), st.sampled_from([None, "gzip", "x-gzip"]), st.booleans())
def test_a_body_is_the_same_whole_byte_by_byte_and_with_bytes_following(content, size, encoding, chunked):
    sent = gzip.compress(content, mtime=0) if encoding else content
    for stream in (io.BytesIO, OneByteStream):
        if chunked:
            environ = environ_of(sent, terminated=True, encoding=encoding, stream=stream)
        else:
            environ = environ_of(sent + b"NEXT", length=len(sent), encoding=encoding, stream=stream)
        assert content == drain(open_body(environ), size)
        assert content == read_bounded_body({**environ, "wsgi.input": stream(sent + b"")}, 1 << 20)
        if not chunked and encoding is None:
            assert io.BytesIO.read(environ["wsgi.input"], 9) == b"NEXT"


def test_a_read_never_returns_more_than_was_asked_for():
    body = open_body(environ_of(gzip.compress(bytes(1 << 20)), terminated=True, encoding="gzip"))
    sizes = [len(body.read(1000)) for _ in range(10)]
    assert sizes == [1000] * 10


def test_a_short_body_is_an_error():
    body = open_body(environ_of(b"abc", length=5))
    assert body.read(10) == b"abc"
    with pytest.raises(BodyError, match="2 bytes early"):
        body.read(10)


def test_no_length_and_no_end_is_no_body():
    assert open_body(environ_of(b"never read")).read(10) == b""


def test_an_empty_length_means_unknown():
    environ = environ_of(b"abc", length="", terminated=True)
    assert drain(open_body(environ)) == b"abc"


@pytest.mark.parametrize("value", ["-1", "1x", " 1", "1.0", "9" * 19, "9" * 5000, "٣", "0x10"])
def test_an_unusable_length_is_an_error(value):
    with pytest.raises(BodyError):
        parse_content_length(value)


@pytest.mark.parametrize("cut", [1, 8, 9, 15, 30])
def test_truncated_gzip_is_an_error(cut):
    sent = gzip.compress(os.urandom(100))[:-cut]
    with pytest.raises(BodyError, match="ends early"):
        drain(open_body(environ_of(sent, length=len(sent), encoding="gzip")))


def test_an_empty_gzip_body_is_an_error():
    with pytest.raises(BodyError):
        drain(open_body(environ_of(b"", length=0, encoding="gzip")))


@pytest.mark.parametrize(
    "sent", [b"not gzip at all", zlib.compress(b"zlib"), gzip.compress(b"x", mtime=0)[:-8] + bytes(8)]
)
def test_what_is_no_gzip_is_an_error(sent):
    with pytest.raises(BodyError, match="not valid gzip"):
        drain(open_body(environ_of(sent, length=len(sent), encoding="gzip")))


def test_only_the_first_gzip_member_counts():
    sent = gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0)
    assert drain(open_body(environ_of(sent, length=len(sent), encoding="gzip"))) == b"one"


@pytest.mark.parametrize("encoding", ["deflate", "GZIP", "gzip, gzip", " gzip"])
def test_other_encodings_are_passed_through(encoding):
    assert drain(open_body(environ_of(b"abc", length=3, encoding=encoding))) == b"abc"


def test_any_exception_of_the_stream_is_a_broken_body():
    with pytest.raises(BodyError, match="broke off"):
        open_body(environ_of(b"", length=3, stream=BrokenStream)).read(3)


def test_a_fetch_request_has_a_limit_with_a_floor_where_its_length_is_unknown():
    exact = b"x" * REQUEST_BYTES_FLOOR
    assert exact == read_bounded_body(environ_of(exact, terminated=True), 0)
    assert exact == read_bounded_body(environ_of(exact, length=len(exact)), len(exact))
    for environ in environ_of(exact + b"y", terminated=True), environ_of(b"y", length=1):
        with pytest.raises(LimitExceeded) as caught:
            read_bounded_body(environ, 0)
        assert caught.value.http_status == 413


def test_the_limit_counts_compressed_bytes():
    content = os.urandom(REQUEST_BYTES_FLOOR).hex().encode()
    sent = gzip.compress(content, mtime=0)
    assert len(sent) > REQUEST_BYTES_FLOOR
    assert content == read_bounded_body(environ_of(sent, length=len(sent), encoding="gzip"), len(sent))
    with pytest.raises(LimitExceeded):
        read_bounded_body(environ_of(sent, length=len(sent), encoding="gzip"), len(sent) - 1)


def test_a_gzip_bomb_is_stopped_before_it_is_held():
    sent = gzip.compress(bytes(50 << 20))
    with pytest.raises(LimitExceeded):
        read_bounded_body(environ_of(sent, length=len(sent), encoding="gzip"), 1 << 20)


def test_reading_after_the_end_stays_at_the_end():
    body = GzipBody(open_body(environ_of(gzip.compress(b"", mtime=0), terminated=True)))
    assert [body.read(5), body.read(0), body.read(5)] == [b"", b"", b""]
