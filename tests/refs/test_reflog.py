from hypothesis import given, settings
from hypothesis import strategies as st

from govc.refs.reflog import LogUpdates, choose_log_updates, encode_ident, encode_reflog_line


def test_a_line_is_gits():
    line = encode_reflog_line(bytes(20), b"\xab" * 20, b"u <u@http.h>", 5, b" push\n now ")
    assert line == b"0" * 40 + b" " + b"ab" * 20 + b" u <u@http.h> 5 +0000\tpush now\n"


def test_odd_characters_leave_an_ident_whole():
    assert encode_ident(b"a<b>\n", b"a<b>\n@h") == b"ab <ab@h>"


@settings(max_examples=200, derandomize=True)
@given(st.binary(), st.binary(), st.binary())
def test_no_peer_can_break_a_line(name, email, message):
    line = encode_reflog_line(bytes(20), bytes(20), encode_ident(name, email), 0, message)
    assert line.count(b"\n") == 1
    head = line.split(b"\t")[0] if message.split() else line
    assert line.endswith(b"\n")
    assert b"\0" not in encode_ident(name, email)
    assert encode_ident(name, email).count(b"<") == 1
    assert head.startswith(b"0" * 40)


def test_what_the_setting_means():
    assert LogUpdates.NONE is choose_log_updates(None, None, is_bare=True)
    assert LogUpdates.BRANCHES is choose_log_updates(None, None, is_bare=False)
    assert LogUpdates.BRANCHES is choose_log_updates("true", True, is_bare=True)
    assert LogUpdates.NONE is choose_log_updates("false", False, is_bare=False)
    assert LogUpdates.ALWAYS is choose_log_updates("Always", None, is_bare=True)
