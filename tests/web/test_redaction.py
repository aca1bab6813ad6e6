import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.auth.tokens import make_token, token_id
from govc.web.redaction import CleanRecord, RedactingFilter, redact

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"


@given(st.text(max_size=20), st.text(max_size=20))
def test_property_our_tokens_are_cut_out_of_anything(before, after):
    token = make_token()
    line = redact(f"{before}{token}{after}")
    assert token[20:] not in line
    assert token_id(token) in line  # the public part stays, or nobody could tell which


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"x {JWT}: bad", "x [secret]: bad"),
        ("Authorization: Basic YW5uOnNlY3JldA==", "Authorization: Basic [secret]"),
        ("{'HTTP_AUTHORIZATION': 'Bearer abcdef123'}", "{'HTTP_AUTHORIZATION': 'Bearer [secret]'}"),
        ("bearer%20abcdef123 x", "bearer%20[secret] x"),
        ("BEARER abcdef123 bAsIc YW5uOnNlY3JldA==", "BEARER [secret] bAsIc [secret]"),
        ("path=/bAsIc+YW5uOnNlY3JldA==", "path=/bAsIc+[secret]"),
        ("https://ann:secret@host/x https://host/y", "https://ann:[secret]@host/x https://host/y"),
        ("http://:pw@h", "http://:[secret]@h"),
        ("a basic path /basic/x.git of https://host:80/x", "a basic path /basic/x.git of https://host:80/x"),
        (
            "Invalid request from ip=1.2.3.4: Invalid HTTP Header: 'X y'",
            "Invalid request from ip=1.2.3.4: Invalid HTTP Header: [peer's words]",
        ),
        ("nothing to see", "nothing to see"),
    ],
)
def test_what_is_cut_and_what_stays(line, expected):
    assert redact(line) == expected


def test_a_long_line_is_cut_in_time():
    for piece in ("Bearer ", "eyJ", "eyJ.", "://a:", "govc_", "Basic%20"):
        assert len(redact(piece * 20_000)) <= len(piece) * 20_000 + 200_000


def test_tracebacks_are_redacted_too():
    token = make_token()
    try:
        raise ValueError(f"no good: {token}")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed: %s", (token,), sys.exc_info())
    assert RedactingFilter().filter(record)
    line = logging.Formatter().format(record)
    assert token not in line and "ValueError: no good: govc_" in line


def test_a_record_that_was_redacted_before_passes_as_it_is():
    like = logging.LogRecord("govc.access", logging.INFO, "x", 0, "", None, None)
    record = CleanRecord(like, "Basic c2VjcmV0c2VjcmV0 %s")
    assert RedactingFilter().filter(record)
    assert record.getMessage() == "Basic c2VjcmV0c2VjcmV0 %s"
    assert (record.name, record.levelname) == ("govc.access", "INFO")
    assert abs(record.created - like.created) < 60 and 0 <= record.msecs < 1000
