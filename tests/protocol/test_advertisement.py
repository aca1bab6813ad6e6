from govc.protocol.advertisement import (
    LINES_PER_CHUNK,
    AdvertisedRef,
    encode_capability_advertisement,
    iter_advertisement,
    service_header,
)
from govc.protocol.oid import SHA1, SHA256
from govc.protocol.pktline import Control, decode_all
from tests.protocol.lines import hexed, oid


def lines(**kwargs):
    arguments = {"refs": [], "capabilities": b"caps", "algo": SHA1} | kwargs
    return decode_all(b"".join(iter_advertisement(arguments.pop("refs"), **arguments)))


def test_the_service_header_is_a_packet_and_a_flush():
    assert service_header(b"git-upload-pack") == b"001e# service=git-upload-pack\n0000"


def test_refs_peeled_lines_and_shallows_come_in_order():
    refs = [AdvertisedRef(b"HEAD", oid("a")), AdvertisedRef(b"refs/tags/v1", oid("b"), oid("a"))]
    assert [
        f"{hexed('a')} HEAD\0caps\n".encode(),
        f"{hexed('b')} refs/tags/v1\n".encode(),
        f"{hexed('a')} refs/tags/v1^{{}}\n".encode(),
        f"shallow {hexed('c')}\n".encode(),
        Control.FLUSH,
    ] == lines(refs=refs, shallows=[oid("c")])


def test_an_empty_repository_still_says_its_capabilities():
    assert lines(algo=SHA256) == [b"0" * 64 + b" capabilities^{}\0caps\n", Control.FLUSH]


def test_version_1_says_so_first():
    assert lines(version=1)[0] == b"version 1\n"


def test_a_have_may_be_the_first_line():
    assert [f"{hexed('d')} .have\0caps\n".encode(), Control.FLUSH] == lines(haves=[oid("d")])


def test_haves_follow_the_refs():
    got = lines(refs=[AdvertisedRef(b"refs/heads/a", oid("a"))], haves=[oid("d")])
    assert [f"{hexed('d')} .have\n".encode(), Control.FLUSH] == got[1:]


def test_many_refs_come_in_chunks():
    refs = [AdvertisedRef(b"refs/heads/%d" % i, oid("a")) for i in range(2 * LINES_PER_CHUNK + 5)]
    chunks = list(iter_advertisement(iter(refs), capabilities=b"", algo=SHA1))
    assert len(chunks) == 3
    assert len(refs) + 1 == len(decode_all(b"".join(chunks)))


def test_v2_has_capability_lines_only():
    assert encode_capability_advertisement([b"agent=g", b"fetch"]) == b"000eversion 2\n000cagent=g\n000afetch\n0000"
