import pytest

from govc.objects.errors import MalformedObject
from govc.objects.tag import TagLinks, parse_tag_links
from govc.protocol.oid import SHA1, SHA256

HEX = b"ab" * 20


@pytest.mark.parametrize(("name", "number"), [(b"commit", 1), (b"tree", 2), (b"blob", 3), (b"tag", 4)])
def test_a_tag_may_name_any_type(name, number):
    data = b"object %s\ntype %s\ntag v1\ntagger T <t@t> 1 +0000\n\nm\n" % (HEX, name)
    assert TagLinks(b"\xab" * 20, number) == parse_tag_links(data, SHA1)


def test_sha256_tags_without_a_tagger_are_read():
    data = b"object %s\ntype commit\ntag \n" % (b"cd" * 32)
    assert TagLinks(b"\xcd" * 32, 1) == parse_tag_links(data, SHA256)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"object %s\n" % HEX,
        b"object %s\ntype commit\n" % HEX,
        b"object %s\ntype comet\ntag v1\n" % HEX,
        b"object %s0\ntype commit\ntag v1\n" % HEX,
        b"object zz%s\ntype commit\ntag v1\n" % HEX[2:],
    ],
)
def test_a_damaged_tag_is_refused(data):
    with pytest.raises(MalformedObject):
        parse_tag_links(data, SHA1)
