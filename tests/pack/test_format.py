import pytest

from govc.errors import CorruptPack
from govc.pack.format import encode_pack_header, parse_pack_header


def test_a_header_states_its_count():
    assert b"PACK\0\0\0\2\0\0\1\0" == encode_pack_header(256)
    assert 256 == parse_pack_header(encode_pack_header(256) + b"following")


def test_version_3_is_read():
    assert 1 == parse_pack_header(b"PACK\0\0\0\3\0\0\0\1")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"PACK\0\0\0\2\0\0\0", "eof before pack header was fully read"),
        (b"PACX\0\0\0\2\0\0\0\0", "protocol error (pack signature mismatch detected)"),
        (b"PACK\0\0\0\4\0\0\0\0", "protocol error (pack version unsupported)"),
    ],
)
def test_a_bad_header_gets_the_words_of_git(data, text):
    with pytest.raises(CorruptPack) as caught:
        parse_pack_header(data)
    assert text == str(caught.value)
