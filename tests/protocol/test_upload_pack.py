import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.fetch_request import INFINITE_DEPTH, AckMode, FetchRequest, LineChecks, Step
from govc.protocol.object_filter import BlobNone
from govc.protocol.oid import SHA1, SHA256
from govc.protocol.pktline import TICK_BYTES
from govc.protocol.upload_pack import NAK, Negotiator, encode_shallow_lines, parse_upload_pack_request
from tests.protocol.lines import body, hexed, oid

WANT = f"want {hexed('a')}"
MODES = " multi_ack_detailed no-done side-band-64k thin-pack ofs-delta no-progress include-tag agent=git/2"


def parse(*lines, **kwargs):
    return parse_upload_pack_request(body(*lines), SHA1, **kwargs)


def refusal(*lines):
    with pytest.raises(RemoteProtocolError) as caught:
        request = parse(*lines)
        request.check_consistent()
        raise request.fault
    return caught.value.text


def test_a_clone_becomes_a_request():
    expected = FetchRequest(
        wants=(oid("a"), oid("b")),
        done=True,
        thin_pack=True,
        ofs_delta=True,
        no_progress=True,
        include_tag=True,
        side_band=65520,
        ack_mode=AckMode.DETAILED,
        no_done=True,
        steps=(Step.DONE,),
        client_agent=b"git/2",
    )
    got = parse(WANT + MODES, f"want {hexed('b')}", WANT, "0000", "done")
    assert expected == got
    assert hash(expected) == hash(got)


def test_wanting_nothing_is_no_request():
    assert parse("0000") is None
    assert parse("0000", "done") is None
    assert parse("deepen 1", "0000").deepens  # who asks for a boundary gets one, though it is empty


def test_haves_up_to_the_first_flush_count():
    request = parse(WANT, "0000", f"have {hexed('b')}", f"have {hexed('c')}", "0000", "whatever")
    assert (oid("b"), oid("c"), Step.FLUSH) == request.steps
    assert (oid("b"), oid("c")) == request.haves
    assert not request.done


def test_lines_before_the_flush_come_in_any_order_and_without_lf():
    raw = body(f"shallow {hexed('c')}", "deepen-not v1", f"{WANT} filter deepen-relative side-band multi_ack foo")
    lfless = b"0014filter blob:none" + b"0016deepen-since 1000" + b"\n"
    request = parse(raw, lfless, "0000")
    assert (oid("c"),) == request.shallows
    assert request.deepen_not == (b"v1",)
    assert request.deepen_since == 1000
    assert BlobNone() == request.filter
    assert request.deepen_relative
    assert request.side_band == 1000
    assert AckMode.MULTI is request.ack_mode
    assert request.deepens


def test_the_body_may_end_after_the_deepen_block():
    request = parse(WANT, "deepen 1", "0000")
    assert request.steps == ()
    assert not request.done
    assert request.depth == 1


def test_shallow_lines_without_deepen_do_not_deepen():
    assert not parse(WANT, f"shallow {hexed('c')}", "0000", "done").deepens


@pytest.mark.parametrize(
    ("text", "depth"),
    [("3", 3), ("0x10", 16), ("010", 8), ("2147483647", INFINITE_DEPTH), ("99999999999", INFINITE_DEPTH)],
)
def test_depths_are_read_as_strtol_reads_them(text, depth):
    assert depth == parse(WANT, f"deepen {text}", "0000").depth


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["want zz"], "git upload-pack: protocol error, expected to get object ID, not 'want zz'"),
        (["foo"], "git upload-pack: protocol error, expected to get object ID, not 'foo'"),
        ([WANT, "shallow zz"], "invalid shallow line: shallow zz"),
        ([WANT, "deepen 0"], "Invalid deepen: deepen 0"),
        ([WANT, "deepen -1"], "Invalid deepen: deepen -1"),
        ([WANT, "deepen x"], "Invalid deepen: deepen x"),
        ([WANT, "deepen-since x"], "Invalid deepen-since: deepen-since x"),
        ([WANT, "filter blob:none"], "git upload-pack: filtering capability not negotiated"),
        (
            [WANT + " filter", "filter blob:none", "filter blob:none"],
            "multiple filter-specs cannot be combined",
        ),
        (
            [WANT, "deepen 1", "deepen-since 4"],
            "git upload-pack: deepen and deepen-since (or deepen-not) cannot be used together",
        ),
        ([WANT, "0000", "have zz"], "git upload-pack: expected SHA1 object, got 'zz'"),
        ([WANT, "0000", "foo"], "git upload-pack: expected SHA1 list, got 'foo'"),
        (["ERR hi"], "remote error: hi"),
        ([WANT, "0000", "ERR hi"], "remote error: hi"),
    ],
)
def test_what_git_dies_of_is_refused_with_its_text(lines, text):
    assert text == refusal(*lines, "0000")


@pytest.mark.parametrize("lines", [[], [WANT], [WANT, "0000", f"have {hexed('b')}", b"00"]])
def test_a_body_cut_short_is_a_hang_up(lines):
    assert refusal(*lines) == "the remote end hung up unexpectedly"


def test_a_body_cut_short_in_its_first_have_is_one_without_haves():
    request = parse(WANT, "0000", b"0032have")
    assert (request.steps, request.fault) == ((), None)


def test_haves_without_an_ending_are_kept_as_they_are():
    assert parse(WANT, "0000", f"have {hexed('b')}").steps == (bytes.fromhex(hexed("b")),)


def test_a_filter_that_was_not_advertised_was_not_negotiated():
    with pytest.raises(RemoteProtocolError, match="not negotiated"):
        parse(WANT + " filter", "filter blob:none", "0000", allow_filter=False)


def test_sha256_oids_are_longer():
    request = parse_upload_pack_request(body("want " + "e" * 64, "0000", "done"), SHA256)
    assert request.wants == (b"\xee" * 32,)


def test_the_shallow_reply_has_no_lf():
    assert f"0034shallow {hexed('a')}0036unshallow {hexed('b')}0000".encode() == encode_shallow_lines(
        [oid("a")], [oid("b")]
    )


@settings(derandomize=True, max_examples=200)
@given(
    st.lists(
        st.sampled_from([WANT, "0000", "done", "deepen 1", "deepen", "filter x", "have", WANT + " filter", b"00"])
    ),
    st.binary(max_size=10),
)
def test_arbitrary_bodies_raise_only_remote_protocol_error(lines, junk):
    with contextlib.suppress(RemoteProtocolError):
        parse(*lines, junk)


def no():
    return False


def yes():
    return True


def never_asked():
    raise AssertionError("asked whether it is ready")


def test_without_multi_ack_what_amounts_to_one_commit_is_acknowledged():
    negotiator = Negotiator(AckMode.NONE)
    assert negotiator.have(oid("1"), False, never_asked) == b""
    assert negotiator.flush(never_asked) == (NAK, False)
    assert body(f"ACK {hexed('2')}") == negotiator.have(oid("2"), True, never_asked)
    assert body(f"ACK {hexed('4')}") == negotiator.have(oid("4"), True, never_asked, is_alone=True)
    assert negotiator.have(oid("3"), True, never_asked, is_alone=False) == b""
    assert negotiator.flush(never_asked) == (b"", False)
    assert negotiator.done() == b""


def test_done_without_common_is_a_nak_in_every_mode():
    for mode in AckMode:
        assert Negotiator(mode).done() == NAK


def test_multi_ack_continues_and_once_ready_acknowledges_unknown_haves():
    negotiator = Negotiator(AckMode.MULTI)
    assert negotiator.have(oid("1"), False, never_asked) == b""
    assert body(f"ACK {hexed('2')} continue") == negotiator.have(oid("2"), True, never_asked)
    assert negotiator.have(oid("3"), False, no) == b""
    assert body(f"ACK {hexed('4')} continue") == negotiator.have(oid("4"), True, never_asked)
    assert body(f"ACK {hexed('5')} continue") == negotiator.have(oid("5"), False, yes)
    assert body(f"ACK {hexed('6')} continue") == negotiator.have(oid("6"), False, never_asked)
    assert negotiator.flush(never_asked) == (NAK, False)
    assert body(f"ACK {hexed('4')}") == negotiator.done()


def test_detailed_says_ready_on_an_unknown_have_and_no_done_sends_the_pack():
    negotiator = Negotiator(AckMode.DETAILED, no_done=True)
    assert body(f"ACK {hexed('1')} common") == negotiator.have(oid("1"), True, never_asked)
    assert body(f"ACK {hexed('2')} ready") == negotiator.have(oid("2"), False, yes)
    assert (NAK + body(f"ACK {hexed('1')}"), True) == negotiator.flush(never_asked)


def test_detailed_says_ready_at_the_flush_of_an_all_common_round():
    negotiator = Negotiator(AckMode.DETAILED, no_done=True)
    negotiator.have(oid("1"), True, never_asked)
    expected = body(f"ACK {hexed('1')} ready") + NAK + body(f"ACK {hexed('1')}")
    assert (expected, True) == negotiator.flush(yes)


def test_without_no_done_a_ready_flush_ends_the_reply():
    negotiator = Negotiator(AckMode.DETAILED)
    negotiator.have(oid("1"), True, never_asked)
    assert (body(f"ACK {hexed('1')} ready") + NAK, False) == negotiator.flush(yes)
    assert body(f"ACK {hexed('1')}") == negotiator.done()


def test_not_ready_is_asked_again_only_after_another_common_have():
    negotiator = Negotiator(AckMode.DETAILED)
    negotiator.have(oid("1"), True, never_asked)
    assert negotiator.have(oid("2"), False, no) == b""
    assert negotiator.have(oid("3"), False, never_asked) == b""
    assert negotiator.flush(never_asked) == (NAK, False)
    assert negotiator.flush(never_asked) == (NAK, False)
    negotiator.have(oid("4"), True, never_asked)
    assert body(f"ACK {hexed('5')} ready") == negotiator.have(oid("5"), False, yes)


class Ticking(LineChecks):
    ticks = 0

    def tick(self):
        self.ticks += 1


def test_haves_of_many_lines_let_others_run():
    checks = Ticking()
    haves = [f"have {hexed('c')}"] * 2000
    assert len(parse(WANT, "0000", *haves, "done", checks=checks).haves) == 2000
    assert checks.ticks == 2000 * 50 // TICK_BYTES
