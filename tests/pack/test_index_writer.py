import io
from array import array

import pytest
from dulwich.object_format import SHA1 as DULWICH_SHA1
from dulwich.pack import load_pack_index_file

from govc.pack.index_writer import encode_index_v2, encode_reverse_index
from govc.pack.tables import sort_by_offset
from govc.protocol.oid import SHA1, SHA256

OIDS = [bytes([first]) * 20 for first in (0, 1, 1, 0x80, 0xFF)]
OFFSETS = array("Q", [12, (1 << 31) - 1, 1 << 31, 40, 1 << 40])
CRCS = array("I", [0, 1, 0xFFFFFFFF, 3, 4])


def test_another_reader_finds_what_was_written():
    data = b"".join(encode_index_v2(SHA1, b"".join(OIDS), CRCS, OFFSETS, b"c" * 20))
    with load_pack_index_file("x.idx", io.BytesIO(data), DULWICH_SHA1) as index:
        index.check()
        assert list(zip(OIDS, OFFSETS, CRCS, strict=True)) == list(index.iterentries())
        assert b"c" * 20 == index.get_pack_checksum()


def test_an_empty_index_has_its_frame():
    data = b"".join(encode_index_v2(SHA256, b"", array("I"), array("Q"), b"c" * 32))
    assert b"\xfftOc\0\0\0\2" + bytes(1024) + b"c" * 32 == data[:-32]
    assert SHA256.new(data[:-32]).digest() == data[-32:]


def test_columns_of_different_lengths_are_a_bug():
    with pytest.raises(ValueError, match="columns"):
        encode_index_v2(SHA1, b"".join(OIDS), CRCS[1:], OFFSETS, b"c" * 20)


def test_a_reverse_index_lists_positions_in_the_order_of_the_pack():
    data = b"".join(encode_reverse_index(SHA1, sort_by_offset(OFFSETS), b"c" * 20))
    expected = b"RIDX\0\0\0\1\0\0\0\1" + b"".join(n.to_bytes(4, "big") for n in (0, 3, 1, 2, 4)) + b"c" * 20
    assert expected + SHA1.new(expected).digest() == data
