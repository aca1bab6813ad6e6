import hashlib
import struct
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import CorruptPack
from govc.pack.index import PackIndex
from govc.pack.index_writer import encode_index_v2
from govc.protocol.oid import SHA1, SHA256, HashAlgorithm

CHECKSUM = bytes(range(20))


def make_v2(oids: list[bytes], offsets: list[int], algo: HashAlgorithm = SHA1) -> bytes:
    crcs = array("I", range(len(oids)))
    checksum = CHECKSUM.ljust(algo.oid_size, b"\0")
    return b"".join(encode_index_v2(algo, b"".join(oids), crcs, array("Q", offsets), checksum))


def make_v1(oids: list[bytes], offsets: list[int]) -> bytes:
    fanout = struct.pack(">256I", *(sum(oid[0] <= byte for oid in oids) for byte in range(256)))
    rows = b"".join(struct.pack(">I", at) + oid for oid, at in zip(oids, offsets, strict=True))
    body = fanout + rows + CHECKSUM
    return body + hashlib.sha1(body).digest()


def some_oids(count: int, size: int = 20) -> list[bytes]:
    return sorted(hashlib.sha256(b"%d" % i).digest()[:size] for i in range(count))


# Few first bytes and short differences, so that buckets are full and neighbours alike.
OIDS = st.lists(st.binary(min_size=2, max_size=2).map(lambda head: head + bytes(18)), unique=True).map(sorted)


@settings(max_examples=100)
@given(OIDS, st.binary(min_size=2, max_size=2))
def test_every_oid_is_found_at_its_rank_and_no_other(oids, probe):
    for index in (make_v2(oids, list(range(12, 12 + len(oids)))), make_v1(oids, list(range(12, 12 + len(oids))))):
        table = PackIndex(index, SHA1)
        assert len(oids) == table.count
        assert oids == list(table.iter_oids())
        assert list(range(len(oids))) == [table.find(oid) for oid in oids]
        assert oids == [table.oid_at(position) for position in range(len(oids))]
        absent = probe + b"\1" * 18
        assert -1 == table.find(absent)
        table.verify()


@settings(max_examples=100)
@given(st.lists(st.integers(12, 2**62), max_size=30, unique=True))
def test_offsets_of_any_size_come_back(offsets):
    if offsets:
        offsets[0] = 12  # the first entry of a pack lies there
    table = PackIndex(make_v2(some_oids(len(offsets)), offsets), SHA1)
    assert offsets == [table.offset_at(position) for position in range(len(offsets))]
    assert array("Q", offsets) == table.offsets()


@pytest.mark.rows("FS-10")
def test_offsets_around_2_gib_and_4_gib_come_back():
    offsets = [12, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40]
    assert offsets == PackIndex(make_v2(some_oids(6), offsets), SHA1).offsets().tolist()


@pytest.mark.rows("FS-11")
def test_version_1_has_offsets_of_32_bits_and_no_crcs():
    table = PackIndex(make_v1(some_oids(3), [12, 2**31, 2**32 - 1]), SHA1)
    assert 1 == table.version
    assert [12, 2**31, 2**32 - 1] == table.offsets().tolist() == [table.offset_at(i) for i in range(3)]
    assert table.crc_at(0) is None


def test_crcs_and_checksum_of_the_pack_come_back():
    table = PackIndex(make_v2(some_oids(3), [12, 13, 14]), SHA1)
    assert [0, 1, 2] == [table.crc_at(position) for position in range(3)]
    assert CHECKSUM == table.pack_checksum


def test_sha256_index_comes_back():
    oids = some_oids(300, 32)
    table = PackIndex(make_v2(oids, list(range(12, 312)), SHA256), SHA256)
    assert oids == list(table.iter_oids())
    assert list(range(300)) == [table.find(oid) for oid in oids]
    table.verify()


@pytest.mark.parametrize("count", [4095, 4096, 4097, 8193])
def test_chunked_reading_loses_nothing_at_the_edges(count):
    oids = some_oids(count)
    assert oids == list(PackIndex(make_v2(oids, list(range(12, 12 + count))), SHA1).iter_oids())


def test_first_of_two_equal_oids_is_found():
    oids = [b"\1" * 20, b"\2" * 20, b"\2" * 20, b"\2" * 20, b"\3" * 20]
    table = PackIndex(make_v2(oids, [12, 13, 14, 15, 16]), SHA1)
    assert 1 == table.find(b"\2" * 20)
    table.verify()


@pytest.mark.parametrize("position", [-1, 3, 2**40])
def test_positions_outside_raise_index_error(position):
    for data in (make_v2(some_oids(3), [12, 13, 14]), make_v1(some_oids(3), [12, 13, 14])):
        table = PackIndex(data, SHA1)
        for look in (table.oid_at, table.offset_at, table.crc_at):
            with pytest.raises(IndexError):
                look(position)


@pytest.mark.parametrize("make", [make_v1, make_v2])
def test_every_cut_and_every_addition_is_refused(make):
    data = make(some_oids(5), [12, 13, 14, 15, 16])
    PackIndex(data, SHA1)
    for size in range(len(data)):
        with pytest.raises(CorruptPack):
            PackIndex(data[:size], SHA1)
    for extra in (1, 4, 7, 41, 8 * 5):
        with pytest.raises(CorruptPack):
            PackIndex(data + bytes(extra), SHA1)


def test_falling_fanout_is_refused():
    data = bytearray(make_v2(some_oids(5), [12, 13, 14, 15, 16]))
    data[8 + 4 * 10 : 8 + 4 * 11] = struct.pack(">I", 2**32 - 1)
    with pytest.raises(CorruptPack, match="non-monotonic"):
        PackIndex(data, SHA1)


@pytest.mark.parametrize("version", [0, 1, 3, 2**32 - 1])
def test_other_versions_are_refused(version):
    data = bytearray(make_v2(some_oids(2), [12, 13]))
    data[4:8] = struct.pack(">I", version)
    with pytest.raises(CorruptPack, match="version"):
        PackIndex(data, SHA1)


def test_large_offset_that_is_not_there_is_refused():
    data = bytearray(make_v2(some_oids(2), [12, 13]))
    start = 8 + 1024 + 2 * 24
    data[start : start + 4] = struct.pack(">I", 0x80000005)
    table = PackIndex(data, SHA1)
    with pytest.raises(CorruptPack):
        table.offset_at(0)
    with pytest.raises(CorruptPack):
        table.offsets()
    assert 13 == table.offset_at(1)


def test_verify_meets_any_changed_byte():
    data = make_v2(some_oids(4), [12, 13, 14, 15])
    for at in range(8 + 1024, len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(CorruptPack):
            PackIndex(changed, SHA1).verify()


def test_verify_meets_oids_out_of_order_and_in_the_wrong_bucket():
    oids = [b"\1" * 20, b"\1" * 19 + b"\0"]
    with pytest.raises(CorruptPack, match="order"):
        PackIndex(make_v2(oids, [12, 13]), SHA1).verify()
    data = bytearray(make_v2([b"\1" * 20, b"\2" * 20], [12, 13]))
    data[8 + 4 : 8 + 8] = struct.pack(">I", 2)  # both below 1
    data[-20:] = hashlib.sha1(data[:-20]).digest()
    with pytest.raises(CorruptPack, match="fanout"):
        PackIndex(data, SHA1).verify()


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 1300))
def test_damage_raises_only_corrupt_pack(junk, at):
    data = bytearray(make_v2(some_oids(6), [12, 2**33, 14, 15, 16, 17]))
    data[at : at + len(junk)] = junk
    try:
        table = PackIndex(data, SHA1)
        for oid in some_oids(8):
            table.find(oid)
        list(table.iter_oids())
        table.offsets()
        table.verify()
    except CorruptPack:
        return


def test_empty_index_holds_nothing():
    table = PackIndex(make_v2([], []), SHA1)
    assert (0, [], -1) == (table.count, list(table.iter_oids()), table.find(bytes(20)))
    table.verify()
