import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.protocol.oid import SHA1
from govc.protocol.proc_receive import FAILED_TO_REPORT, ProcReceive, matches_any, parse_pattern
from govc.protocol.receive_pack import Command, RefReport
from tests.protocol.lines import body, oid

ZERO = SHA1.zero
COMMANDS = (
    Command(ZERO, oid("a"), b"refs/for/main/topic"),
    Command(oid("b"), oid("c"), b"refs/for/next"),
)
VERSION = body("version=1", "0000")


def converse(*said, commands=COMMANDS, options=None, atomic=False, close=True):
    """Let a hook say what it says, and return the conversation and what was written to it after the greeting."""
    talk = ProcReceive(SHA1, commands, push_options=options, atomic=atomic)
    written = b"".join(talk.receive_data(piece) for piece in said)
    if close and not talk.is_over:
        talk.close()
    return talk, written


@pytest.mark.rows("RP-80")
@pytest.mark.parametrize(
    ("options", "atomic", "expected"),
    [
        (None, False, "version=1"),
        ((b"x",), False, "version=1\0push-options"),
        ((), True, "version=1\0atomic push-options"),
        (None, True, "version=1\0atomic"),
    ],
)
def test_the_greeting_names_what_was_agreed(options, atomic, expected):
    talk = ProcReceive(SHA1, COMMANDS, push_options=options, atomic=atomic)
    assert body(expected, "0000") == talk.first_bytes()


@pytest.mark.rows("RP-80")
def test_commands_follow_the_version_and_options_only_for_who_wants_them():
    def packets(*lines):
        return b"".join(b"%04x%b" % (len(line) + 4, line.encode()) for line in lines)

    lines = [f"{'0' * 40} {'a' * 40} refs/for/main/topic", f"{'b' * 40} {'c' * 40} refs/for/next"]
    assert packets(*lines) + b"0000" == converse(VERSION, options=(b"x", b"y"))[1]
    wanted = body("version=1\0push-options", "0000")
    assert packets(*lines) + b"0000" + packets("x", "y") + b"0000" == converse(wanted, options=(b"x", b"y"))[1]


@pytest.mark.rows("RP-21", "RP-80")
def test_results_carry_options_and_may_be_several():
    said = body(
        "ok refs/for/main/topic",
        "option refname refs/heads/a",
        f"option old-oid {'d' * 40}",
        "ok refs/for/main/topic",
        f"option new-oid {'e' * 40}",
        "option forced-update",
        "ng refs/for/next not today",
        "0000",
    )
    talk, _ = converse(VERSION, said)
    first, second = talk.outcomes
    assert [RefReport(refname=b"refs/heads/a", old=oid("d")), RefReport(new=oid("e"), forced=True)] == first.reports
    assert (True, None) == (first.is_reported, first.error)
    assert "not today" == second.error
    assert (True, "") == (talk.is_failed, talk.problem)
    assert Command(oid("d"), oid("a"), b"refs/heads/a") == first.reports[0].command_for(COMMANDS[0])


@pytest.mark.rows("RP-80")
def test_a_command_may_fall_through():
    talk, _ = converse(VERSION, body("ok refs/for/main/topic", "option fall-through", "ok refs/for/next", "0000"))
    assert [True, False] == [outcome.falls_through for outcome in talk.outcomes]
    assert not talk.is_failed


@pytest.mark.rows("RP-81")
@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ([], "fail to negotiate version with proc-receive hook"),
        ([body("version=1")], "fail to negotiate version with proc-receive hook"),
        ([body("version=2", "0000")], "proc-receive version '2' is not supported"),
        ([VERSION], "proc-receive exited abnormally"),
        ([VERSION, b"zzzz"], "protocol error: bad line length character: zzzz (at byte 18)"),
        (
            [VERSION, body("ok", "ok refs/for/main/topic", "ok refs/for/next", "0000")],
            "proc-receive reported incomplete status line: 'ok'",
        ),
        (
            [VERSION, body("option x", "option y", "ok refs/for/main/topic", "ok refs/for/next", "0000")],
            "proc-receive reported 'option' without a matching 'ok/ng' directive",
        ),
        (
            [VERSION, body("xx refs/for/next", "ok refs/for/main/topic", "ok refs/for/next", "0000")],
            "proc-receive reported bad status 'xx' on ref 'refs/for/next'",
        ),
        (
            [VERSION, body("ok refs/heads/x", "ok refs/for/main/topic", "ok refs/for/next", "0000")],
            "proc-receive reported status on unknown ref: refs/heads/x",
        ),
        (
            [VERSION, body("ok refs/for/next", "option fall-through", "ok refs/for/next", "0000")],
            "proc-receive reported status on unexpected ref: refs/for/next",
        ),
    ],
)
def test_faults_are_told_in_gits_words(said, problem):
    talk, _ = converse(*said)
    assert (problem, True) == (talk.problem, talk.is_failed)


@pytest.mark.rows("RP-81")
def test_a_ref_without_a_status_is_failed():
    talk, _ = converse(VERSION, body("ok refs/for/next", "0000"))
    assert [FAILED_TO_REPORT, None] == [outcome.error for outcome in talk.outcomes]


def test_an_option_after_ng_has_no_report():
    said = body("ok refs/for/next", "option forced-update", "ng refs/for/next no", "option forced-update", "0000")
    talk, _ = converse(VERSION, said)
    assert [RefReport(forced=True)] == talk.outcomes[1].reports
    assert "proc-receive reported 'option' without a matching 'ok/ng' directive" == talk.problem


@pytest.mark.rows("RP-80")
@pytest.mark.parametrize(
    ("value", "matched"),
    [
        (b"refs/for", {"add", "mod", "del"}),
        (b"refs/for/", {"add", "mod", "del"}),
        (b"a:refs/for", {"add"}),
        (b"dm:refs/for", {"mod", "del"}),
        (b"adm!:refs/heads", {"add", "mod", "del"}),
        (b"!:refs/heads", set()),
        (b"a!:refs/for", {"other"}),
        (b":refs/for", set()),
        (b"refs/fo", set()),
    ],
)
def test_patterns_choose_commands(value, matched):
    commands = {
        "add": Command(ZERO, oid("a"), b"refs/for/x"),
        "mod": Command(oid("b"), oid("a"), b"refs/for/x"),
        "del": Command(oid("b"), ZERO, b"refs/for"),
        "other": Command(ZERO, oid("b"), b"refs/heads/x"),
    }
    assert matched == {name for name, command in commands.items() if matches_any([parse_pattern(value)], command)}


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_arbitrary_hooks_end_in_a_verdict(pieces):
    talk, _ = converse(*pieces)
    assert talk.is_over
    assert talk.is_failed
