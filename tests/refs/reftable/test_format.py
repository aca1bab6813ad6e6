import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.errors import CorruptRefs
from govc.protocol.oid import SHA1, SHA256
from govc.refs.reftable.format import (
    Footer,
    Header,
    LogEntry,
    decode_log_value,
    decode_varint,
    encode_footer,
    encode_header,
    encode_log_key,
    encode_log_value,
    encode_varint,
    footer_size,
    parse_footer,
    parse_header,
    parse_log_key,
)

VARINTS = [(0, "00"), (1, "01"), (127, "7f"), (128, "8000"), (255, "807f"), (16511, "ff7f"), (16512, "808000")]
"""By the decoder in the specification."""


@pytest.mark.parametrize(("value", "text"), VARINTS)
def test_varints_are_those_of_the_specification(value, text):
    assert bytes.fromhex(text) == encode_varint(value)
    assert (value, len(text) // 2) == decode_varint(bytes.fromhex(text), 0, len(text) // 2)


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=3))
def test_a_varint_comes_back_whatever_follows(value, tail):
    data = encode_varint(value)
    assert decode_varint(data + tail, 0, len(data + tail)) == (value, len(data))
    with pytest.raises(CorruptRefs):
        decode_varint(data[:-1], 0, len(data) - 1)


def test_a_varint_is_bounded():
    with pytest.raises(CorruptRefs):
        decode_varint(b"\xff" * 50, 0, 50)


@pytest.mark.parametrize(("algo", "version", "size"), [(SHA1, 1, 68), (SHA1, 2, 72), (SHA256, 2, 72)])
def test_header_and_footer_come_back(algo, version, size):
    header = Header(version, 4096, 7, 1 << 40, algo)
    data = encode_header(header)
    assert header == parse_header(data + b"more")
    footer = Footer(100, 200, 5, 300, 400, 500)
    tail = encode_footer(header, footer)
    assert size == len(tail) == footer_size(version)
    assert footer == parse_footer(tail, data, 1000)
    for position in range(len(tail)):
        broken = bytearray(tail)
        broken[position] ^= 1
        with pytest.raises(CorruptRefs):
            parse_footer(bytes(broken), data, 1000)
    with pytest.raises(CorruptRefs):
        parse_footer(tail, data, 500 + size)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"REFT",
        b"REFX" + bytes(24),
        b"REFT\x03" + bytes(23),
        b"REFT\x02" + bytes(19) + b"md5 ",
        b"REFT\x01\0\x10\0" + (2).to_bytes(8, "big") + (1).to_bytes(8, "big"),
    ],
)
def test_other_headers_are_refused(data):
    with pytest.raises(CorruptRefs):
        parse_header(data)


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name), st.integers(0, (1 << 64) - 1))
def test_log_keys_come_back_and_newer_ones_sort_first(name, index):
    assert parse_log_key(encode_log_key(name, index)) == (name, index)
    if index:
        assert encode_log_key(name, index) < encode_log_key(name, index - 1)


@given(
    st.builds(
        LogEntry,
        st.binary(min_size=20, max_size=20),
        st.binary(min_size=20, max_size=20),
        st.binary(max_size=40),
        st.binary(max_size=40),
        st.integers(0, 1 << 40),
        st.integers(-32768, 32767),
        st.binary(max_size=300),
    )
)
def test_log_entries_come_back(entry):
    kind, data = encode_log_value(entry)
    assert decode_log_value(data, 0, len(data), kind, SHA1) == (entry, len(data))
    for end in range(0, len(data), 7):
        with pytest.raises(CorruptRefs):
            decode_log_value(data[:end], 0, end, kind, SHA1)
