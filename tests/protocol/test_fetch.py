import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.fetch import (
    DEFAULT_COMMANDS,
    DEFAULT_KEYS,
    RUN_MAX,
    Command,
    _parse_head,
    encode_acknowledgments,
    encode_fatal,
    encode_packfile_header,
    encode_packfile_uris,
    encode_shallow_info,
    encode_wanted_refs,
    parse_command_request,
    parse_fetch_args,
)
from govc.protocol.fetch_request import FetchRequest, LineChecks
from govc.protocol.object_filter import TreeDepth
from govc.protocol.oid import SHA1
from govc.protocol.pktline import Control, iter_packets, no_tick, text_of
from tests.protocol.lines import body, hexed, oid


def request(*lines, **kwargs):
    return parse_command_request(body(*lines), "sha1", **kwargs)


def fetch(*args, **kwargs):
    return parse_fetch_args([arg.encode() for arg in args], SHA1, **kwargs)


def test_a_command_with_arguments_in_any_order_of_capabilities():
    lines = ("agent=git/2", "command=ls-refs", "object-format=sha1", "server-option=a", "server-option=b")
    capabilities = {b"agent": [b"git/2"], b"object-format": [b"sha1"], b"server-option": [b"a", b"b"]}
    got = request(*lines, "0001", "peel", "symrefs", "0000", "ignored", b"0003")
    assert Command(b"ls-refs", capabilities, [b"peel", b"symrefs"]) == got
    assert got.client_agent == b"git/2"


def test_a_command_may_end_without_a_delim():
    assert Command(b"ls-refs", {}, []) == request("command=ls-refs", "0000")


LINES = st.sampled_from(
    [
        "command=fetch",
        "command=fetch\n",
        "command=ls-refs",
        "agent=x\n",
        b"agent=x\x00y",
        "object-format=sha1",
        "object-format=sha256",
        "nonsense",
        "",
        "\n",
        "ERR no",
        b"ERR no\x00",
        "0001",
        "0000",
        "0002",
        b"0003",
        b"00",
        b"000G",
        f"want {'1' * 40}\n",
        f"have {'2' * 40}",
        "done\n",
        b"done\x00more\n",
        "x" * 300,
        b"001Bcommand=fetch and so on",
    ]
)


@given(st.lists(LINES, max_size=8).map(lambda lines: body(*lines)))
def test_property_requests_read_as_packet_by_packet(data):
    """And the second time, when the head is known, as the first."""

    def answer(parse):
        try:
            command = parse()
        except RemoteProtocolError as error:
            return str(error), error.offset
        if command is None or command.fault is None:
            return command
        return command.name, command.capabilities, command.args, str(command.fault), command.fault.offset

    def plainly():
        """Return the lines of the head, and behind it, as `iter_packets` and `text_of` read them."""
        packets = iter_packets(data)
        for packet in packets:
            if packet is Control.DELIM:
                break
        args = []
        with contextlib.suppress(RemoteProtocolError):
            for packet in packets:
                if isinstance(packet, Control) or text_of(packet).startswith(b"ERR "):
                    break
                args.append(text_of(packet))
        return args

    def unknown():
        return _parse_head(data, "sha1", DEFAULT_COMMANDS, DEFAULT_KEYS, no_tick) if data else None

    first, second = (
        answer(lambda: parse_command_request(data, "sha1")),
        answer(lambda: parse_command_request(data, "sha1")),
    )
    assert first == second == answer(unknown)
    if isinstance(first, Command) and first.args:
        assert first.args == plainly()


def test_a_head_without_an_end_is_not_read_to_its_end():
    looks = 0

    class Counted(bytes):
        def __getitem__(self, place):
            nonlocal looks
            looks += 1
            return super().__getitem__(place)

    with pytest.raises(RemoteProtocolError, match="unknown capability ''"):
        parse_command_request(Counted(b"0004" * 100_000), "sha1")
    assert looks < 1000


def test_an_empty_request_is_none():
    assert request() is None
    assert request("0000") is None


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["command=fetch", "foo", "0000"], "unknown capability 'foo'"),
        (["command=fetch", "session-id=x", "0000"], "unknown capability 'session-id=x'"),
        (
            ["command=fetch", "command=ls-refs", "0000"],
            "command 'ls-refs' requested after already requesting command 'fetch'",
        ),
        (["command=foo", "0000"], "invalid command 'foo'"),
        (["command=object-info", "0000"], "invalid command 'object-info'"),
        (["command=ls-refs=3", "0000"], "invalid command 'ls-refs=3'"),
        (["agent=x", "0000"], "no command requested"),
        (["0001", "0000"], "no command requested"),
        (["0002"], "unexpected response end packet"),
        (
            ["command=ls-refs", "object-format=sha256", "0000"],
            "mismatched object format: server sha1; client sha256",
        ),
        (["command=ls-refs", "object-format=sha9", "0000"], "unknown object format 'sha9'"),
        (["command=ls-refs", "object-format", "0000"], "object-format capability requires an argument"),
        (["command=ls-refs", "0001", "peel", "0001", "0000"], "expected flush after ls-refs arguments"),
        (["command=fetch", "0001", "0002"], "expected flush after fetch arguments"),
        (["command=ls-refs"], "the remote end hung up unexpectedly"),
        (["command=ls-refs", "0001", "peel"], "the remote end hung up unexpectedly"),
        (["ERR no"], "remote error: no"),
        (["command=ls-refs", "0001", "ERR no", "0000"], "remote error: no"),
    ],
)
def test_bad_requests_are_refused_with_gits_text(lines, text):
    with pytest.raises(RemoteProtocolError) as caught:
        raise request(*lines).fault
    assert text == caught.value.text


def test_a_missing_object_format_means_sha1():
    with pytest.raises(RemoteProtocolError, match="mismatched object format: server sha256; client sha1"):
        parse_command_request(body("command=ls-refs", "0000"), "sha256")


def test_advertised_commands_and_keys_are_taken():
    got = request("command=object-info", "session-id=x", "0000", commands={b"object-info"}, keys={b"session-id"})
    assert got.name == b"object-info"


def test_fetch_arguments_become_the_same_request_as_in_v0():
    expected = FetchRequest(
        wants=(oid("a"),),
        haves=(oid("b"), oid("c")),
        done=True,
        shallows=(oid("d"),),
        depth=3,
        deepen_relative=True,
        filter=TreeDepth(0),
        thin_pack=True,
        ofs_delta=True,
        no_progress=True,
        include_tag=True,
        side_band=65520,
        want_refs=(b"refs/heads/x",),
        wait_for_done=True,
        sideband_all=True,
        packfile_uris=(b"https", b"http"),
    )
    got = fetch(
        *(f"want {hexed('a')}", f"want {hexed('a')}", f"have {hexed('b')}", f"have {hexed('c')}", "done"),
        *(f"shallow {hexed('d')}", "deepen 3", "deepen-relative", "filter tree:0", "thin-pack", "ofs-delta"),
        *("no-progress", "include-tag", "want-ref refs/heads/x", "wait-for-done", "sideband-all"),
        "packfile-uris https,http",
        allow_filter=True,
        allow_ref_in_want=True,
        allow_sideband_all=True,
        allow_packfile_uris=True,
    )
    assert expected == got
    assert (
        fetch("deepen-since 5").deepen_since,
        fetch("deepen-not v1", "deepen-not v2").deepen_not,
    ) == (5, (b"v1", b"v2"))


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["want zz"], "git upload-pack: protocol error, expected to get oid, not 'want zz'"),
        (["have zz"], "git upload-pack: expected SHA1 object, got 'zz'"),
        (["foo"], "unexpected line: 'foo'"),
        (["deepen-relative x"], "unexpected line: 'deepen-relative x'"),
        (["filter blob:none"], "unexpected line: 'filter blob:none'"),
        (["want-ref x"], "unexpected line: 'want-ref x'"),
        (["sideband-all"], "unexpected line: 'sideband-all'"),
        (["packfile-uris x"], "unexpected line: 'packfile-uris x'"),
        (
            ["deepen 1", "deepen-not x"],
            "git upload-pack: deepen and deepen-since (or deepen-not) cannot be used together",
        ),
    ],
)
def test_bad_arguments_are_refused_with_gits_text(args, text):
    with pytest.raises(RemoteProtocolError) as caught:
        fetch(*args).check_consistent()
    assert text == caught.value.text


def test_lines_are_looked_at_as_they_come():
    seen = []

    class Checks(LineChecks):
        def want(self, oid):
            seen.append(oid)

        def filter(self, object_filter):
            raise RemoteProtocolError("not here")

    with pytest.raises(RemoteProtocolError, match="not here"):
        fetch(f"want {hexed('a')}", "filter blob:none", f"want {hexed('b')}", "x", allow_filter=True, checks=Checks())
    assert seen == [oid("a")]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["want a", "want b", "want c", "want short", "want zz", "want A", "done", "deepen x", "have a"]
        ),
        max_size=8,
    ),
    st.sampled_from(["", "a", "b"]),
)
def test_wants_that_are_looked_at_together_are_told_as_one_by_one(words, missing):
    """Same request, or same first fault, whether or not the checks take many at once."""

    class OneByOne(LineChecks):
        def want(self, one):
            if missing and one == oid(missing):
                raise RemoteProtocolError(f"not our ref {missing}")

    class Together(OneByOne):
        def wants(self, oids):
            return not missing or oid(missing) not in oids

    lines = [
        f"{word[:-1]}{hexed(word[-1])}" if len(word.split()[-1]) == 1 and word[-1] in "abcA" else word for word in words
    ]
    outcomes = []
    for checks in (OneByOne(), Together()):
        try:
            outcomes.append(fetch(*lines, checks=checks))
        except RemoteProtocolError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def test_more_wants_than_are_looked_at_together():
    runs = []

    class Checks(LineChecks):
        def wants(self, oids):
            runs.append(len(oids))
            return True

    lines = [f"want {number:040x}" for number in range(RUN_MAX + 3)]
    assert len(fetch(*lines, checks=Checks()).wants) == RUN_MAX + 3
    assert runs == [RUN_MAX, 3]


def test_a_line_ends_at_a_nul():
    found = request("command=fetch\0x", "object-format=sha1\0", "0001", "done\0x", "deepen 1\0x", "0000")
    assert (found.name, found.args) == (b"fetch", [b"done", b"deepen 1"])


def test_a_fault_behind_the_arguments_waits_for_theirs():
    found = request("command=fetch", "object-format=sha1", "0001", f"want {hexed('a')}", "0001")
    assert found.args == [f"want {hexed('a')}".encode()]
    assert found.fault.text == "expected flush after fetch arguments"


def test_a_want_ref_or_a_list_of_uri_protocols_comes_once():
    with pytest.raises(RemoteProtocolError, match="duplicate want-ref refs/x"):
        fetch("want-ref refs/x", "want-ref refs/x", allow_ref_in_want=True)
    with pytest.raises(RemoteProtocolError, match="multiple packfile-uris lines forbidden"):
        fetch("packfile-uris a", "packfile-uris b", allow_packfile_uris=True)


def test_acknowledgments_end_in_a_flush_unless_ready():
    assert body("acknowledgments", "NAK", "0000") == encode_acknowledgments([], ready=False)
    assert body("acknowledgments", f"ACK {hexed('a')}", "0000") == encode_acknowledgments([oid("a")], ready=False)
    assert body("acknowledgments", f"ACK {hexed('a')}", "ready", "0001") == encode_acknowledgments(
        [oid("a")], ready=True
    )


def test_sections_end_in_a_delim():
    assert body("wanted-refs", f"{hexed('a')} refs/x", "0001") == encode_wanted_refs([(oid("a"), b"refs/x")])
    assert f"0034shallow {hexed('a')}0036unshallow {hexed('b')}0001".encode() == encode_shallow_info(
        [oid("a")], [oid("b")]
    )
    assert encode_shallow_info([], []) == b"0001"
    assert body("packfile-uris", "ab http://x", "0001") == encode_packfile_uris([(b"ab", b"http://x")])
    assert encode_packfile_header() == b"000dpackfile\n"


def test_sideband_all_gives_every_line_a_band_byte_and_controls_none():
    assert encode_acknowledgments([oid("a")], ready=True, sideband_all=True) == (
        f"0015\1acknowledgments\n0032\1ACK {hexed('a')}\n000b\1ready\n0001".encode()
    )
    assert encode_packfile_header(sideband_all=True) == b"000e\1packfile\n"
    assert encode_fatal("no", sideband_all=True) == b"0007\3no"
    assert encode_fatal("no") == b"000aERR no"


words = st.sampled_from(["command=fetch", "0000", "0001", "0002", "agent=x", "object-format=sha1", "peel", b"00"])


@settings(derandomize=True, max_examples=200)
@given(st.lists(words, max_size=8), st.binary(max_size=8))
def test_arbitrary_bodies_raise_only_remote_protocol_error(lines, junk):
    with contextlib.suppress(RemoteProtocolError):
        request(*lines, junk)


@settings(derandomize=True, max_examples=200)
@given(st.lists(st.one_of(st.binary(max_size=12), st.sampled_from([b"want ", b"deepen \xff", b"filter a", b"done"]))))
def test_arbitrary_arguments_raise_only_remote_protocol_error(args):
    with contextlib.suppress(RemoteProtocolError):
        parse_fetch_args(args, SHA1, allow_filter=True)
