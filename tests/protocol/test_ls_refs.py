import pytest

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.ls_refs import PREFIX_COUNT_MAX, LsRefsRequest, encode_ref_line, parse_ls_refs
from tests.protocol.lines import body, hexed, oid


def test_arguments_become_a_request():
    args = [b"peel", b"symrefs", b"unborn", b"ref-prefix refs/heads/", b"ref-prefix HEAD"]
    expected = LsRefsRequest(peel=True, symrefs=True, unborn=True, prefixes=(b"refs/heads/", b"HEAD"))
    assert expected == parse_ls_refs(args)
    assert LsRefsRequest() == parse_ls_refs([])


def test_an_unknown_argument_is_fatal():
    with pytest.raises(RemoteProtocolError, match="unexpected line: 'foo'"):
        parse_ls_refs([b"peel", b"foo"])


def test_too_many_prefixes_drop_the_filter():
    args = [b"ref-prefix refs/%d" % i for i in range(PREFIX_COUNT_MAX)]
    assert len(parse_ls_refs(args[:-1]).prefixes) == PREFIX_COUNT_MAX - 1
    assert parse_ls_refs(args).prefixes == ()


def test_lines_carry_what_was_asked_for():
    assert body(f"{hexed('a')} refs/heads/x") == encode_ref_line(b"refs/heads/x", oid("a"))
    assert body(f"{hexed('a')} HEAD symref-target:refs/heads/x") == encode_ref_line(
        b"HEAD", oid("a"), symref_target=b"refs/heads/x"
    )
    assert body(f"{hexed('a')} t peeled:{hexed('b')}") == encode_ref_line(b"t", oid("a"), peeled=oid("b"))
    assert body("unborn HEAD symref-target:refs/heads/main") == encode_ref_line(
        b"HEAD", None, symref_target=b"refs/heads/main"
    )
