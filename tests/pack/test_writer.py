import os
import random
import zlib
from array import array
from collections import namedtuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import CorruptPack
from govc.objects.types import BLOB, OFS_DELTA, REF_DELTA, hash_object
from govc.pack.delta import apply_delta, make_delta
from govc.pack.entry import parse_entry_header
from govc.pack.indexer import index_pack
from govc.pack.writer import write_pack
from govc.protocol.oid import SHA1, SHA256

Entry = namedtuple("Entry", "pack offset end type_number size header_size base_number crc")
LOOSE_FROM = 1 << 40
NOISE = random.Random(5).randbytes(400_000)


class MemoryPack:
    """A pack in memory, indexed by the code under test next door."""

    def __init__(self, data, algo, folder, first_number):
        self.data, self.algo, self.first_number = data, algo, first_number
        path = folder / "source.pack"
        path.write_bytes(data)
        with open(path, "rb") as file:
            self.indexed = index_pack(file.fileno(), algo)
        self.sorted_offsets = sorted(self.indexed.offsets)
        self.sorted_offsets.append(len(data) - algo.oid_size)
        self.reads = []

    def read_at(self, offset, length):
        self.reads.append(length)
        return self.data[offset : offset + length]

    def position_of(self, offset):
        return self.indexed.offsets.index(offset)

    def entry(self, position):
        offset = self.indexed.offsets[position]
        end = self.sorted_offsets[self.sorted_offsets.index(offset) + 1]
        header = parse_entry_header(self.data, offset, self.algo)
        base = -1
        if header.type_number == OFS_DELTA:
            base = self.first_number + self.position_of(offset - header.base_distance)
        elif header.type_number == REF_DELTA:
            oids = [self.indexed.oid_at(at) for at in range(self.indexed.count)]
            base = self.first_number + oids.index(header.base_oid)
        crc = self.indexed.crcs[position]
        return Entry(self, offset, end, header.type_number, header.size, header.data_offset - offset, base, crc)


class Source:
    def __init__(self, algo, packs=(), loose=()):
        self.algo, self.packs, self.loose = algo, packs, loose

    def _pack_of(self, number):
        return next(p for p in self.packs if p.first_number <= number < p.first_number + p.indexed.count)

    def entry(self, number):
        if number >= LOOSE_FROM:
            return None
        pack = self._pack_of(number)
        return pack.entry(number - pack.first_number)

    def read(self, number):
        if number >= LOOSE_FROM:
            return self.loose[number - LOOSE_FROM]
        entry = self.entry(number)
        inflated = zlib.decompress(entry.pack.data[entry.offset + entry.header_size : entry.end])
        if entry.base_number < 0:
            return entry.type_number, inflated
        type_number, base = self.read(entry.base_number)
        return type_number, apply_delta(base, inflated, result_bytes_max=1 << 30)

    def oid_of(self, number):
        if number >= LOOSE_FROM:
            return hash_object(self.algo, *self.loose[number - LOOSE_FROM])
        pack = self._pack_of(number)
        return pack.indexed.oid_at(number - pack.first_number)


def write(source, numbers, **options):
    options.setdefault("ofs_delta", True)
    return b"".join(write_pack(source, array("Q", numbers), **options))


def index_bytes(data, folder, algo=SHA1, **options):
    path = folder / "written.pack"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDWR)
    try:
        return index_pack(fd, algo, **options)
    finally:
        os.close(fd)


def oids_of(indexed):
    return [indexed.oid_at(at) for at in range(indexed.count)]


def stored_types(data, indexed, algo=SHA1):
    return [parse_entry_header(data, offset, algo).type_number for offset in sorted(indexed.offsets)]


def version(number):
    return b"".join(b"line %d\n" % n for n in range(100)) + b"version %d\n" % number


def name(content):
    return hash_object(SHA1, BLOB, content)


@pytest.fixture(scope="module")
def git_source(git_repository, tmp_path_factory):
    (pack,) = (git_repository / "objects/pack").glob("*.pack")
    return Source(SHA1, [MemoryPack(pack.read_bytes(), SHA1, tmp_path_factory.mktemp("w"), 1000)])


@pytest.mark.parametrize("ofs_delta", [True, False])
def test_a_whole_pack_is_written_so_that_git_verifies_it(git_source, tmp_path, craft, ofs_delta):
    pack = git_source.packs[0]
    data = write(git_source, range(1000, 1000 + pack.indexed.count), ofs_delta=ofs_delta)
    indexed = index_bytes(data, tmp_path)
    assert (pack.indexed.oids_sorted, pack.indexed.types) == (indexed.oids_sorted, indexed.types)
    assert pack.indexed.delta_count == indexed.delta_count
    unwanted = REF_DELTA if ofs_delta else OFS_DELTA
    assert unwanted not in stored_types(data, indexed)
    (tmp_path / "t.pack").write_bytes(data)
    craft.git(tmp_path, "index-pack", "--strict", "t.pack")
    craft.git(tmp_path, "verify-pack", "t.idx")


def test_a_git_pack_copied_whole_is_the_same_bytes(git_source):
    pack = git_source.packs[0]
    assert pack.data == write(git_source, range(1000, 1000 + pack.indexed.count))


def test_sha256_packs_are_written(git_repository_sha256, tmp_path):
    (path,) = (git_repository_sha256 / "objects/pack").glob("*.pack")
    source = Source(SHA256, [MemoryPack(path.read_bytes(), SHA256, tmp_path, 0)])
    assert path.read_bytes() == write(source, range(source.packs[0].indexed.count))


@settings(derandomize=True, max_examples=60)
@given(st.data())
def test_any_selection_comes_out_complete(git_source, tmp_path_factory, data):
    count = git_source.packs[0].indexed.count
    numbers = data.draw(st.lists(st.integers(1000, 999 + count), max_size=40))
    chunk_bytes = data.draw(st.sampled_from([1, 100, 1 << 16]))
    written = write(git_source, numbers, ofs_delta=data.draw(st.booleans()), chunk_bytes=chunk_bytes)
    indexed = index_bytes(written, tmp_path_factory.getbasetemp())
    assert sorted(map(git_source.oid_of, set(numbers))) == oids_of(indexed)


@settings(derandomize=True, max_examples=40)
@given(st.data())
def test_any_thin_selection_is_completed_by_what_the_peer_has(git_source, tmp_path_factory, data):
    count = git_source.packs[0].indexed.count
    numbers = data.draw(st.sets(st.integers(1000, 999 + count), min_size=1, max_size=40))
    has = data.draw(st.sets(st.integers(1000, 999 + count))) - numbers
    peer = {git_source.oid_of(number): git_source.read(number) for number in has}
    written = write(git_source, numbers, thin_bases=has.__contains__)
    indexed = index_bytes(written, tmp_path_factory.getbasetemp(), base_reader=peer.get)
    assert set(map(git_source.oid_of, numbers)) == set(oids_of(indexed)) - set(peer)


def chain(craft, folder):
    """Two versions as deltas on the first, the base coming last and named by oid."""
    entries = [
        craft.ref(name(version(1)), make_delta(version(1), version(2))),
        craft.ref(name(version(0)), make_delta(version(0), version(1))),
        craft.whole(BLOB, version(0)),
    ]
    pack = MemoryPack(craft.pack_of(*entries), SHA1, folder, 0)
    numbers = {oid: number for number, oid in enumerate(oids_of(pack.indexed))}
    return Source(SHA1, [pack]), [numbers[name(version(n))] for n in range(3)]


def test_a_base_that_comes_later_is_named_by_oid(craft, tmp_path):
    source, numbers = chain(craft, tmp_path)
    data = write(source, numbers)
    indexed = index_bytes(data, tmp_path)
    assert [REF_DELTA, REF_DELTA, BLOB] == stored_types(data, indexed)
    assert source.packs[0].indexed.oids_sorted == indexed.oids_sorted


@pytest.mark.parametrize(
    ("sent", "at_peer", "expected"),
    [
        ([2], [], [BLOB]),
        ([2], [1], [REF_DELTA]),
        ([2], [0], [BLOB]),
        ([1, 2], [], [REF_DELTA, BLOB]),
        ([1, 2], [0], [REF_DELTA, REF_DELTA]),
        ([0, 2], [], [BLOB, BLOB]),
    ],
)
def test_a_delta_is_reused_only_when_its_base_is_sent_or_at_the_peer(craft, tmp_path, sent, at_peer, expected):
    source, numbers = chain(craft, tmp_path)
    has = {numbers[n] for n in at_peer}
    data = write(source, [numbers[n] for n in sent], thin_bases=has.__contains__)
    peer = {source.oid_of(number): source.read(number) for number in has}
    assert expected == stored_types(data, index_bytes(data, tmp_path, base_reader=peer.get))[: len(sent)]


def test_entries_that_stand_on_each_other_are_expanded(craft, tmp_path):
    # A store whose base numbers run in a circle, as duplicates can make them look.
    source, numbers = chain(craft, tmp_path)
    zero, one, two = numbers
    plain = source.entry
    source.entry = lambda number: plain(number)._replace(base_number=two) if number == one else plain(number)
    source.read = lambda number: (BLOB, version(numbers.index(number)))
    data = write(source, numbers)
    assert source.packs[0].indexed.oids_sorted == index_bytes(data, tmp_path).oids_sorted
    assert zero in numbers


def test_loose_objects_come_last_and_whole(craft, tmp_path):
    source, numbers = chain(craft, tmp_path)
    source.loose = [(BLOB, b"loose"), (BLOB, NOISE)]
    data = write(source, [LOOSE_FROM + 1, LOOSE_FROM, *numbers], compression_level=9)
    indexed = index_bytes(data, tmp_path)
    assert [REF_DELTA, REF_DELTA, BLOB, BLOB, BLOB] == stored_types(data, indexed)
    assert {name(b"loose"), name(NOISE)} < set(oids_of(indexed))


def test_several_packs_keep_their_order(craft, tmp_path):
    first, numbers = chain(craft, tmp_path)
    other = MemoryPack(craft.pack_of(craft.whole(BLOB, b"a"), craft.whole(BLOB, b"b")), SHA1, tmp_path, 50)
    source = Source(SHA1, [first.packs[0], other])
    indexed = index_bytes(write(source, [51, *numbers, 50]), tmp_path)
    assert sorted([*map(source.oid_of, numbers), name(b"a"), name(b"b")]) == oids_of(indexed)


def test_a_large_entry_is_never_read_whole(craft, tmp_path):
    pack = MemoryPack(craft.pack_of(craft.whole(BLOB, NOISE)), SHA1, tmp_path, 0)
    chunks = list(write_pack(Source(SHA1, [pack]), array("Q", [0]), ofs_delta=True, chunk_bytes=50_000))
    assert pack.data == b"".join(chunks)
    assert max(map(len, chunks)) <= 100_000
    assert max(pack.reads) <= 50_000


def test_nothing_to_send_is_an_empty_pack(tmp_path):
    assert 0 == index_bytes(write(Source(SHA1), []), tmp_path).count


def test_ticks_are_empty_chunks_and_come_only_when_asked_for(git_source):
    numbers = array("Q", range(1000, 1010))
    with_ticks = list(write_pack(git_source, numbers, ofs_delta=True, ticks=True))
    without = list(write_pack(git_source, numbers, ofs_delta=True))
    assert (True, False) == (b"" in with_ticks, b"" in without)
    assert b"".join(without) == b"".join(with_ticks)


@pytest.mark.parametrize("change", [{"type_number": 2}, {"size": 1}, {"header_size": 1}])
def test_an_entry_that_is_not_as_described_is_corrupt(craft, tmp_path, change):
    source, numbers = chain(craft, tmp_path)
    plain = source.entry
    source.entry = lambda number: plain(number)._replace(**change)
    with pytest.raises(CorruptPack, match="has changed"):
        write(source, numbers[:1])


def test_a_pack_that_was_cut_is_corrupt(craft, tmp_path):
    pack = MemoryPack(craft.pack_of(craft.whole(BLOB, NOISE)), SHA1, tmp_path, 0)
    pack.data = pack.data[:100_000]
    with pytest.raises(CorruptPack, match="early EOF"):
        write(Source(SHA1, [pack]), [0])
