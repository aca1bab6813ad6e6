from govc.protocol.capabilities import (
    ReceivePackFeatures,
    UploadPackFeatures,
    V2Features,
    parse_capability_list,
    sanitize_agent,
)
from govc.protocol.oid import SHA1, SHA256

ALWAYS = (
    b"multi_ack thin-pack side-band side-band-64k ofs-delta shallow deepen-since deepen-not deepen-relative "
    b"no-progress include-tag multi_ack_detailed"
)


def test_lists_keep_values_and_their_order():
    expected = {b"a": [b""], b"symref": [b"HEAD:x", b"A:y"], b"agent": [b"git/2=3"]}
    assert expected == parse_capability_list(b" a symref=HEAD:x symref=A:y  agent=git/2=3")
    assert parse_capability_list(b"") == {}


def test_agents_are_printable_without_blanks():
    assert sanitize_agent(" govc/1 \n") == b"govc/1"
    assert sanitize_agent("a b\tc\x7f\u00e9") == b"a.b.c..."


def test_upload_pack_says_what_the_real_server_says_in_its_order():
    plain = UploadPackFeatures(algo=SHA1, agent=b"git/2", head_target=b"refs/heads/main")
    assert plain.encode() == (ALWAYS + b" no-done symref=HEAD:refs/heads/main object-format=sha1 agent=git/2")
    full = UploadPackFeatures(
        algo=SHA256,
        agent=b"git/2",
        head_target=b"refs/heads/main",
        allow_tip_sha1_in_want=True,
        allow_reachable_sha1_in_want=True,
        filter=True,
        session_id=b"s",
    )
    assert full.encode() == (
        ALWAYS + b" allow-tip-sha1-in-want allow-reachable-sha1-in-want no-done symref=HEAD:refs/heads/main"
        b" filter session-id=s object-format=sha256 agent=git/2"
    )


def test_receive_pack_says_what_the_real_server_says_in_its_order():
    always = b"report-status report-status-v2 delete-refs side-band-64k quiet"
    plain = ReceivePackFeatures(algo=SHA1, agent=b"g")
    assert always + b" atomic ofs-delta object-format=sha1 agent=g" == plain.encode()
    full = ReceivePackFeatures(algo=SHA1, agent=b"g", push_cert_nonce=b"1-n", push_options=True, session_id=b"s")
    assert (
        always + b" atomic ofs-delta push-cert=1-n push-options session-id=s object-format=sha1 agent=g"
    ) == full.encode()
    bare = ReceivePackFeatures(algo=SHA1, agent=b"g", atomic=False, ofs_delta=False)
    assert always + b" object-format=sha1 agent=g" == bare.encode()


def test_v2_lines_come_in_the_order_of_the_real_server():
    plain = V2Features(algo=SHA1, agent=b"g")
    assert [
        *(b"agent=g", b"ls-refs=unborn", b"fetch=shallow wait-for-done", b"server-option"),
        b"object-format=sha1",
    ] == plain.encode_lines()
    assert frozenset({b"ls-refs", b"fetch"}) == plain.commands
    full = V2Features(
        algo=SHA1,
        agent=b"g",
        unborn=False,
        filter=True,
        ref_in_want=True,
        sideband_all=True,
        packfile_uris=True,
        session_id=b"s",
        object_info=True,
        bundle_uri=True,
        promisor_remote=b"name=x",
    )
    assert [
        *(b"agent=g", b"ls-refs"),
        b"fetch=shallow wait-for-done filter ref-in-want sideband-all packfile-uris",
        *(b"server-option", b"object-format=sha1", b"session-id=s", b"object-info", b"bundle-uri"),
        b"promisor-remote=name=x",
    ] == full.encode_lines()
    assert {b"object-info", b"bundle-uri"} == full.commands - plain.commands
    assert {b"session-id", b"promisor-remote"} == full.request_keys - plain.request_keys
