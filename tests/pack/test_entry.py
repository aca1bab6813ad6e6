import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import CorruptPack
from govc.pack.entry import (
    ENTRY_HEADER_BYTES_MAX,
    EntryHeader,
    encode_entry_header,
    encode_ofs,
    parse_entry_header,
)
from govc.protocol.oid import SHA1, SHA256


@settings(derandomize=True, max_examples=200)
@given(st.sampled_from([1, 2, 3, 4]), st.integers(0, (1 << 64) - 1), st.binary(max_size=5))
def test_type_and_size_come_back(type_number, size, following):
    data = b"xy" + encode_entry_header(type_number, size)
    assert EntryHeader(type_number, size, len(data), 0, b"") == parse_entry_header(data + following, 2, SHA1)


@settings(derandomize=True, max_examples=200)
@given(st.integers(1, (1 << 63) - 1))
def test_a_distance_comes_back(distance):
    data = encode_entry_header(6, 300) + encode_ofs(distance)
    assert EntryHeader(6, 300, len(data), distance, b"") == parse_entry_header(data, 0, SHA1)
    assert ENTRY_HEADER_BYTES_MAX >= len(data)


@pytest.mark.parametrize(
    ("distance", "encoded"), [(1, "01"), (127, "7f"), (128, "8000"), (16511, "ff7f"), (16512, "808000")]
)
def test_each_further_group_of_a_distance_adds_one(distance, encoded):
    assert encoded == encode_ofs(distance).hex()


@pytest.mark.parametrize("algo", [SHA1, SHA256])
def test_a_ref_delta_names_its_base(algo):
    oid = bytes(range(algo.oid_size))
    data = encode_entry_header(7, 5) + oid
    assert EntryHeader(7, 5, len(data), 0, oid) == parse_entry_header(data, 0, algo)


@pytest.mark.parametrize("type_number", [0, 5])
def test_reserved_types_are_refused(type_number):
    with pytest.raises(CorruptPack, match=f"unknown object type {type_number}"):
        parse_entry_header(encode_entry_header(type_number, 5) + bytes(50), 0, SHA1)


@pytest.mark.parametrize(
    "data",
    [
        encode_entry_header(1, 1 << 40),
        encode_entry_header(6, 20) + encode_ofs(1 << 40),
        encode_entry_header(7, 20) + bytes(20),
    ],
)
def test_every_cut_header_is_truncated(data):
    parse_entry_header(data, 0, SHA1)
    for size in range(len(data)):
        with pytest.raises(CorruptPack, match="truncated"):
            parse_entry_header(data[:size], 0, SHA1)


@pytest.mark.parametrize(
    "data", [b"\xff" * 48, b"\xe0" + b"\x80" * 40, b"\x60\x00", b"\x60" + b"\xff" * 40, b"\x60\x80\x80"]
)
def test_numbers_out_of_range_are_refused(data):
    with pytest.raises(CorruptPack):
        parse_entry_header(data, 0, SHA1)


def test_a_distance_of_nothing_is_not_written():
    with pytest.raises(ValueError, match="precedes"):
        encode_ofs(0)
