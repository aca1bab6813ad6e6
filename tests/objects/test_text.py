"""Headers, identities and messages of commits and tags."""

from datetime import timedelta

import pytest

from govc.objects.text import Identity, parse_identity, parse_text


def test_headers_continue_on_lines_that_begin_with_a_blank() -> None:
    text = parse_text(b"tree 1\nparent 2\nparent 3\ngpgsig -----BEGIN\n a\n \n b\nencoding x\n\nsubject\n\nbody\n")
    assert text.get(b"gpgsig") == b"-----BEGIN\na\n\nb"
    assert text.get_all(b"parent") == (b"2", b"3") and text.get(b"none") is None
    assert text.headers[-1] == (b"encoding", b"x") and text.message == b"subject\n\nbody\n"


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\n\n", b"x", b" leading", b"tree 1\n", b"\nonly a message", b"a b\n\n", b"\0\n \n"]
)
def test_nothing_is_refused(data: bytes) -> None:
    text = parse_text(data)
    assert text.message in data
    assert parse_identity(data) is not None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"A U Thor <a@b> 1700000000 +0130", Identity(b"A U Thor", b"a@b", 1_700_000_000, 90)),
        (b"A <a@b> 1 -0800", Identity(b"A", b"a@b", 1, -480)),
        (b"<> 5", Identity(b"", b"", 5, 0)),
        (b"nobody", Identity(b"nobody", b"", 0, 0)),
        (b"A <a@b>", Identity(b"A", b"a@b", 0, 0)),
        (b"A <a@b> x +0100", Identity(b"A", b"a@b", 0, 0)),
    ],
)
def test_identities(value: bytes, expected: Identity) -> None:
    assert parse_identity(value) == expected


def test_a_time_in_its_own_zone() -> None:
    when = parse_identity(b"A <a@b> 0 +0530").when
    assert when.isoformat() == "1970-01-01T05:30:00+05:30" and when.utcoffset() == timedelta(minutes=330)
    assert Identity(b"", b"", 10**17, 10**6).when.year == 9999
