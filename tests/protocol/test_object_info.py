from govc.protocol.object_info import ObjectInfoRequest, iter_object_info, parse_object_info
from govc.protocol.oid import SHA1
from tests.protocol.lines import hexed, oid

SIZES = {oid("a"): 165}


def reply(*args):
    request = parse_object_info([arg.encode() for arg in args])
    return b"".join(iter_object_info(request, SHA1, SIZES.get))


def test_arguments_become_a_request():
    expected = ObjectInfoRequest(size=True, oid_texts=(b"x",), unexpected_lines=(b"foo",))
    assert expected == parse_object_info([b"oid x", b"size", b"foo"])


def test_sizes_are_told_and_unknown_objects_have_a_blank():
    expected = f"0008size0030{hexed('a')} 165002d{hexed('b')} 0000"
    assert expected.encode() == reply("size", f"oid {hexed('a')}", f"oid {hexed('b')}")


def test_without_size_the_oids_are_echoed():
    assert f"002c{hexed('b')}0000".encode() == reply(f"oid {hexed('b')}")


def test_bad_lines_are_answered_with_err_packets_in_place():
    assert reply("size", "oid zz", "foo") == (
        b"002bERR object-info: unexpected line: 'foo'0008size"
        b"0042ERR object-info: protocol error, expected to get oid, not 'zz'0000"
    )
