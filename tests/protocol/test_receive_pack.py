import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.protocol.errors import LocalProtocolError, RemoteProtocolError
from govc.protocol.oid import SHA1, SHA256
from govc.protocol.pktline import NEED_DATA
from govc.protocol.push_certificate import parse_certificate
from govc.protocol.receive_pack import (
    Command,
    CommandStatus,
    PushRequest,
    PushRequestParser,
    RefReport,
    encode_report,
)
from tests.protocol.feeding import check_three_ways, feed, split_at
from tests.protocol.lines import body, hexed, oid

CREATE = f"{hexed('0')} {hexed('a')} refs/heads/main"
DELETE = f"{hexed('b')} {hexed('0')} refs/heads/old"
ALL = "\0 report-status-v2 side-band-64k quiet atomic push-options object-format=sha1 agent=git/2"
CERTIFICATE = (
    "certificate version 0.1",
    "pusher A <a@b> 1 +0000",
    "nonce 1-n",
    "push-option o",
    "",
    CREATE,
    DELETE,
    "-----BEGIN PGP SIGNATURE-----",
    "abc",
    "-----END PGP SIGNATURE-----",
)


def make():
    return PushRequestParser(SHA1)


def parse(*lines, **kwargs):
    return feed(PushRequestParser(SHA1, **kwargs), [body(*lines)], count=1)[0]


def refusal(*lines, **kwargs):
    with pytest.raises(RemoteProtocolError) as caught:
        parse(*lines, **kwargs)
    return caught.value


def test_a_plain_push_is_read_in_three_ways():
    expected = PushRequest(
        commands=(
            Command(SHA1.zero, oid("a"), b"refs/heads/main"),
            Command(oid("b"), SHA1.zero, b"refs/heads/old"),
        ),
        capabilities={b"report-status": [b""]},
        shallows=(oid("c"),),
        report=1,
    )
    data = body(f"shallow {hexed('c')}", CREATE + "\0report-status", DELETE, "0000")
    check_three_ways(make, data, [expected])
    assert expected.wants_pack


def test_push_options_follow_the_commands():
    data = body(CREATE + ALL, "0000", "ci.skip", "a=b", "0000")
    request = parse(data)
    check_three_ways(make, data, [request])
    assert request.push_options == (b"ci.skip", b"a=b")
    assert (
        *(request.report, request.side_band, request.quiet, request.atomic),
        request.agent,
    ) == (2, True, True, True, b"git/2")


def test_agreed_push_options_may_be_none_at_all():
    assert parse(CREATE + ALL, "0000", "0000").push_options == ()
    assert parse(CREATE, "0000").push_options is None


def test_what_was_not_advertised_is_not_heard():
    request = parse(CREATE + ALL, "0000", allow_atomic=False, allow_push_options=False)
    assert not request.atomic
    assert request.push_options is None


def test_a_probe_has_no_commands():
    check_three_ways(make, b"0000", [PushRequest()])
    assert not PushRequest().wants_pack


def test_a_push_that_only_deletes_brings_no_pack():
    assert not parse(DELETE + "\0delete-refs", "0000").wants_pack


def test_sha256_commands_are_longer():
    parser = PushRequestParser(SHA256)
    line = "0" * 64 + " " + "f" * 64 + " refs/heads/x\0object-format=sha256"
    expected = (Command(SHA256.zero, b"\xff" * 32, b"refs/heads/x"),)
    assert expected == feed(parser, [body(line, "0000")], count=1)[0].commands


def test_commands_come_from_the_certificate():
    data = body("push-cert\0 report-status", *CERTIFICATE, "push-cert-end", "0000")
    request = parse(data)
    check_three_ways(make, data, [request])
    assert [command.refname for command in request.commands] == [b"refs/heads/main", b"refs/heads/old"]
    assert ("\n".join(CERTIFICATE) + "\n").encode() == request.certificate
    assert request.report == 1


def test_a_flush_inside_a_certificate_ends_it_too():
    assert len(parse("push-cert", *CERTIFICATE, "0000").commands) == 2


@pytest.mark.parametrize("end", ["0001", "0002"])
def test_any_special_packet_ends_the_commands_and_the_options(end):
    request = parse(CREATE + ALL, end, "ci.skip", end)
    assert len(request.commands) == 1
    assert request.push_options == (b"ci.skip",)


def test_a_certificate_is_taken_apart():
    text = ("\n".join(CERTIFICATE) + "\n").encode()
    certificate = parse_certificate(text)
    assert certificate.headers[b"nonce"] == [b"1-n"]
    assert certificate.headers[b"push-option"] == [b"o"]
    assert [CREATE.encode(), DELETE.encode()] == list(certificate.iter_command_lines())
    assert text == certificate.payload + certificate.signature
    assert certificate.signature.startswith(b"-----BEGIN PGP SIGNATURE-----\n")


def test_an_unsigned_certificate_is_all_payload():
    certificate = parse_certificate(b"a b\n\n" + CREATE.encode())
    assert certificate.signature == b""
    assert [CREATE.encode()] == list(certificate.iter_command_lines())
    assert list(parse_certificate(b"a b\n\n").iter_command_lines()) == []


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["foo", "0000"], "protocol error: expected old/new/ref, got 'foo'"),
        (["", "0000"], "protocol error: expected old/new/ref, got ''"),
        (
            [CREATE.replace(" ", "_"), "0000"],
            f"protocol error: expected old/new/ref, got '{CREATE.replace(' ', '_')}'",
        ),
        (["shallow zz", "0000"], "protocol error: expected shallow sha, got 'zz'"),
        ([CREATE + "\0object-format=sha256", "0000"], "error: unsupported object format 'sha256'"),
        (["push-cert", "a", "0001"], "malformed push certificate a\\n"),
        (
            [CREATE, "push-cert", *CERTIFICATE, "push-cert-end", "0000"],
            "protocol error: got both push certificate and unsigned commands",
        ),
        (["push-cert", "a", "push-cert-end", "0000"], "malformed push certificate a\\n"),
        (["ERR no", "0000"], "remote error: no"),
        ([b"0003"], "protocol error: bad line length 3"),
    ],
)
def test_bad_pushes_are_refused_with_gits_text(lines, text):
    assert text == refusal(*lines).text


def test_a_missing_object_format_means_sha1():
    parser = PushRequestParser(SHA256)
    parser.receive_data(body("0" * 64 + " " + "f" * 64 + " refs/heads/x\0report-status", "0000"))
    with pytest.raises(RemoteProtocolError, match="unsupported object format 'sha1'"):
        parser.next_event()


def test_commands_are_bounded():
    data = body(CREATE, CREATE, "0000")
    assert len(parse(data, command_bytes_max=len(data)).commands) == 2
    assert refusal(data, command_bytes_max=len(data) - 1).http_status == 413
    certificate = body("push-cert", *(["x" * 1000] * 50))
    assert refusal(certificate, command_bytes_max=10_000).http_status == 413


@pytest.mark.parametrize("data", [b"", b"00", body(CREATE), body(CREATE + ALL, "0000")])
def test_a_body_cut_short_is_a_hang_up(data):
    parser = make()
    parser.receive_data(data)
    assert NEED_DATA is parser.next_event()
    with pytest.raises(LocalProtocolError):
        parser.take_rest()
    with pytest.raises(RemoteProtocolError, match="the remote end hung up unexpectedly"):
        parser.close()


pieces = st.sampled_from(
    [
        CREATE,
        DELETE,
        CREATE + ALL,
        "0000",
        "0001",
        "push-cert",
        "push-cert-end",
        "",
        "x",
        f"shallow {hexed('c')}",
        b"00",
    ]
)


@settings(derandomize=True, max_examples=200)
@given(st.lists(pieces, max_size=8), st.lists(st.integers(0, 2000), max_size=5))
def test_any_split_has_the_same_outcome_and_only_remote_errors(lines, cuts):
    data = body(*lines)
    outcomes = []
    for split in ([data], split_at(data, cuts)):
        parser = make()
        try:
            event = NEED_DATA
            for piece in split:
                parser.receive_data(piece)
                if event is NEED_DATA:
                    event = parser.next_event()
            parser.close()
            outcomes.append((event, parser.take_rest()))
        except RemoteProtocolError as error:
            outcomes.append((error.text, b""))
    assert outcomes[0] == outcomes[1]


def test_the_report_lists_statuses_in_order():
    statuses = [CommandStatus(refname=b"refs/a"), CommandStatus(refname=b"refs/b", error="non-fast-forward")]
    expected = body("unpack ok", "ok refs/a", "ng refs/b non-fast-forward", "0000")
    assert expected == encode_report("ok", statuses, 1)
    assert expected == encode_report("ok", statuses, 2)


def test_version_2_tells_what_really_happened():
    options = (
        RefReport(refname=b"refs/x", old=oid("a"), new=oid("b"), forced=True),
        RefReport(refname=b"refs/y"),
    )
    status = CommandStatus(refname=b"refs/for/a", options=options)
    assert body(
        *("unpack ok", "ok refs/for/a", "option refname refs/x", f"option old-oid {hexed('a')}"),
        *(f"option new-oid {hexed('b')}", "option forced-update", "ok refs/for/a", "option refname refs/y"),
        "0000",
    ) == encode_report("ok", [status], 2)
    assert body("unpack ok", "ok refs/for/a", "0000") == encode_report("ok", [status], 1)


def test_a_reason_cannot_forge_a_line():
    status = CommandStatus(refname=b"refs/a", error="no\nok refs/a")
    assert body("unpack a b", "ng refs/a no ok refs/a", "0000") == encode_report("a\nb", [status], 1)
