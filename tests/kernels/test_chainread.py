"""Single objects through their chains, beside `odb.resolve`: chains of all shapes, damage, files cut short."""

import itertools
import os
import random
import struct
import zlib
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import Corrupt, CorruptPack, LimitExceeded
from govc.kernels.chainread import ChainReader
from govc.kernels.guard import fault_count
from govc.kernels.packread import PackTable
from govc.objects.types import BLOB, OFS_DELTA, REF_DELTA, hash_object
from govc.odb.cache import BaseCache
from govc.odb.packs import PackFile
from govc.odb.resolve import Resolver
from govc.pack.entry import encode_entry_header, encode_ofs
from govc.pack.index_writer import encode_index_v2
from govc.protocol.oid import SHA1
from tests.kernels.both import needs_compiled

pytestmark = needs_compiled

PAGE = os.sysconf("SC_PAGESIZE")
KINDS = ("", "commit", "tree", "blob", "tag")
OBJECT_MAX = 64 << 20


class Raw(NamedTuple):
    kind: str
    data: bytes


class Whole(NamedTuple):
    data: bytes


class Delta(NamedTuple):
    """On the entry with that place, by offset or by name; `data` is what it makes."""

    base: int
    delta: bytes
    data: bytes
    by_name: bool = False


def sized(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


Instruction = bytes | tuple[int, int]
"""Bytes of its own (up to 127), or an offset and a size (up to 65536) in the base."""


def delta_on(
    entries: Sequence[Whole | Delta], base: int, instructions: Sequence[Instruction], *, by_name: bool = False
) -> Delta:
    source = entries[base].data
    made, out = bytearray(), bytearray()
    for item in instructions:
        if isinstance(item, bytes):
            out += bytes([len(item)]) + item
            made += item
            continue
        offset, size = item
        made += source[offset : offset + size]
        number = offset | (size & 0xFFFF) << 32
        places = [at for at in range(7) if number >> 8 * at & 255]
        out += bytes([128 | sum(1 << at for at in places), *(number >> 8 * at & 255 for at in places)])
    return Delta(base, sized(len(source)) + sized(len(made)) + out, bytes(made), by_name)


def pack_of(
    folder: Path, entries: Sequence[Whole | Delta], spoil: Callable[[bytearray, list[int]], object] | None = None
) -> PackFile:
    """A pack of blobs, and its index."""
    folder.mkdir(parents=True, exist_ok=True)
    body = bytearray(b"PACK" + struct.pack(">II", 2, len(entries)))
    starts: list[int] = []
    names = [hash_object(SHA1, BLOB, entry.data) for entry in entries]
    for entry in entries:
        starts.append(len(body))
        if isinstance(entry, Whole):
            body += encode_entry_header(BLOB, len(entry.data)) + zlib.compress(entry.data, 1)
        else:
            kind = REF_DELTA if entry.by_name else OFS_DELTA
            link = names[entry.base] if entry.by_name else encode_ofs(starts[-1] - starts[entry.base])
            body += encode_entry_header(kind, len(entry.delta)) + link + zlib.compress(entry.delta, 1)
    if spoil is not None:
        spoil(body, starts)
    trailer = SHA1.new(body).digest()
    rows = sorted(zip(names, starts, strict=True))
    (folder / "p.pack").write_bytes(body + trailer)
    oids = b"".join(name for name, _ in rows)
    crcs, offsets = array("I", bytes(4 * len(rows))), array("Q", [at for _, at in rows])
    (folder / "p.idx").write_bytes(b"".join(encode_index_v2(SHA1, oids, crcs, offsets, trailer)))
    return PackFile.open(str(folder / "p.pack"), SHA1)


def reader_of(
    pack: PackFile, cache_bytes: int = 1 << 20, *, is_mapped: bool = True, largest: int = OBJECT_MAX
) -> ChainReader:
    source = pack.kernel_source()
    assert source is not None
    return ChainReader(
        PackTable([source], 20), cache_bytes, largest, lambda _: pack.map_content() if is_mapped else None
    )


def outcome(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (Corrupt, LimitExceeded) as error:
        return type(error)


def compare(
    pack: PackFile, readers: Sequence[ChainReader], order: Sequence[int], largest: int = OBJECT_MAX
) -> list[Any]:
    """Read by all readers and by the twin, in that order; the same content, or the same kind of refusal."""
    resolver = Resolver(SHA1, BaseCache(0), object_bytes_max=largest)
    seen = []
    for position in order:
        twin = outcome(lambda p=position: resolver.read(pack, pack.index.offset_at(p)))  # type: ignore[misc]
        for reader in readers:
            assert outcome(lambda r=reader, p=position: r.read(p)) == twin  # type: ignore[misc]
            raw = reader.find_raw(pack.index.oid_at(position), Raw, KINDS)
            if not isinstance(twin, tuple):
                assert raw is None
            elif raw is not None:
                assert isinstance(raw, Raw) and raw == (KINDS[twin[0]], twin[1])
        seen.append(twin)
    return seen


def random_entries(rng: random.Random, count: int) -> list[Whole | Delta]:
    """Chains and trees of deltas that copy, move, repeat and drop pieces of what they stand on."""
    entries: list[Whole | Delta] = []
    for number in range(count):
        own = b"%08d" % number + rng.randbytes(rng.randrange(20))
        if not entries or rng.random() < 0.1:
            entries.append(Whole(own + rng.randbytes(rng.choice((0, 30, 3000, 90_000)))))
            continue
        base = rng.randrange(max(0, number - 3), number)
        size = len(entries[base].data)
        items: list[Instruction] = [own]
        for _ in range(rng.randrange(8)):
            start = rng.randrange(size)
            items.append((start, min(rng.randrange(1, 65537), size - start)))
            if rng.random() < 0.5:
                items.append(rng.randbytes(rng.randrange(1, 60)))
        while sum(len(item) if isinstance(item, bytes) else item[1] for item in items) > 200_000:
            items.pop()
        entries.append(delta_on(entries, base, items, by_name=rng.random() < 0.2))
    return entries


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 40))
def test_chains_of_all_shapes_are_read_as_the_twin_reads_them(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    rng = random.Random(seed)
    pack = pack_of(tmp_path_factory.mktemp("p"), random_entries(rng, count))
    readers = [reader_of(pack, 0), reader_of(pack, 20_000), reader_of(pack, 8 << 20), reader_of(pack, is_mapped=False)]
    seen = compare(pack, readers, [*rng.choices(range(count), k=count), *range(count)])
    assert all(isinstance(content, tuple) for content in seen)
    assert all(readers[2].find_raw(pack.index.oid_at(p), Raw, KINDS) is not None for p in range(count))
    # `load`, which kernels call, goes by the same map and cache.
    assert [readers[2].type_and_size(p)[1] for p in range(count)] == [len(content[1]) for content in seen[count:]]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 40), st.sampled_from([0, 5000, 1 << 40]))
def test_many_are_read_as_one_by_one_until_it_is_enough(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, enough: int
) -> None:
    rng = random.Random(seed)
    pack = pack_of(tmp_path_factory.mktemp("p"), random_entries(rng, count))
    positions = rng.choices(range(count), k=2 * count)
    names: list[Any] = [pack.index.oid_at(position) for position in positions]
    single = reader_of(pack)
    expected = [single.find_raw(name, Raw, KINDS) for name in names]
    names += [bytes(20), b"x", None]
    found = reader_of(pack, 20_000).find_many_raw(names, Raw, KINDS, enough)
    assert found[-3:] == [None] * 3
    read = sorted((pack.index.offset_at(p), len(raw.data)) for p, raw in zip(positions, found, strict=False) if raw)
    assert all(raw in (None, one) for raw, one in zip(found, expected, strict=False))
    # In the order of the pack, and until it is enough: the last of them passes it.
    assert sum(size for _, size in read[:-1]) <= enough
    skipped = [pack.index.offset_at(p) for p, raw in zip(positions, found, strict=False) if raw is None]
    assert not skipped or (sum(size for _, size in read) > enough and min(skipped) >= read[-1][0])
    assert reader_of(pack).find_many_raw([], Raw, KINDS, enough) == []


def test_what_is_asked_for_wrongly_is_not_answered(tmp_path: Path) -> None:
    pack = pack_of(tmp_path, [Whole(b"x" * 100)])
    reader = reader_of(pack)
    name = pack.index.oid_at(0)
    for wrong in (name[:19], name + b"x", b"", bytes(20), bytearray(name), None, name.hex()):
        assert reader.find_raw(wrong, Raw, KINDS) is None
    assert reader.find_raw(name, dict, KINDS) is None  # type: ignore[type-var]
    for number in (-1, 1, 1 << 40):
        with pytest.raises(IndexError):
            reader.read(number)


def long_chain(count: int, base: bytes, own: Callable[[int], bytes]) -> list[Whole | Delta]:
    entries: list[Whole | Delta] = [Whole(base)]
    for number in range(count):
        size = len(entries[-1].data)
        items: list[Instruction] = [own(number), *((at, min(60_000, size - at)) for at in range(0, size, 60_000))]
        entries.append(delta_on(entries, len(entries) - 1, items))
    return entries


def test_a_chain_that_is_too_deep_is_read_all_the_same(tmp_path: Path) -> None:
    pack = pack_of(tmp_path, long_chain(4200, b"base", lambda number: b"%d" % number))
    deepest = max(range(pack.count), key=pack.index.offset_at)
    reader = reader_of(pack, 0)
    assert reader.find_raw(pack.index.oid_at(deepest), Raw, KINDS) is None
    compare(pack, [reader], [deepest, pack.index.find(hash_object(SHA1, BLOB, b"base"))])


def test_a_chain_that_holds_too_much_is_read_all_the_same(tmp_path: Path) -> None:
    rng = random.Random(3)
    entries: list[Whole | Delta] = [Whole(b"base")]
    for _ in range(3):
        entries.append(delta_on(entries, len(entries) - 1, [rng.randbytes(127) for _ in range(24_000)]))
    pack = pack_of(tmp_path, entries)
    reader = reader_of(pack, 0)
    last = pack.index.find(hash_object(SHA1, BLOB, entries[-1].data))
    assert reader.find_raw(pack.index.oid_at(last), Raw, KINDS) is None
    compare(pack, [reader], [last])


@pytest.mark.parametrize("count", [1000, 70_000])
def test_runs_that_get_short_or_many_are_made_the_other_way(tmp_path: Path, count: int) -> None:
    """The lower delta picks single bytes; the upper ones copy them in long runs, more than once."""
    rng = random.Random(count)
    entries: list[Whole | Delta] = [Whole(rng.randbytes(60_000))]
    entries.append(delta_on(entries, 0, [(rng.randrange(60_000), 1) for _ in range(count)]))
    whole = [(at, min(60_000, count - at)) for at in range(0, count, 60_000)]
    entries.append(delta_on(entries, 1, [*whole * (1_000_000 // count), b"end"]))
    entries.append(delta_on(entries, 2, [(1, 50_000), b"middle", (0, 60_000 if count > 60_000 else count)]))
    pack = pack_of(tmp_path, entries)
    compare(pack, [reader_of(pack), reader_of(pack, 0)], range(pack.count))


@pytest.mark.parametrize("cache_bytes", [0, 60_000, 8 << 20])
def test_what_several_stand_on_is_made_once_and_serves_them_all(tmp_path: Path, cache_bytes: int) -> None:
    """Two deltas of short runs below a tree of others: from the second object on there is one to be kept as made."""
    rng = random.Random(cache_bytes)
    entries: list[Whole | Delta] = [Whole(rng.randbytes(40_000))]
    for _ in range(2):
        size = len(entries[-1].data)
        picked: list[Instruction] = [(rng.randrange(size - 200), rng.randrange(1, 150)) for _ in range(500)]
        entries.append(delta_on(entries, len(entries) - 1, [*picked, rng.randbytes(100)]))
    for number in range(20):
        base = rng.randrange(2, len(entries))
        size = len(entries[base].data)
        cuts = sorted(rng.sample(range(1, size), 300))
        runs: list[Instruction] = [(one, min(other - one, 60_000)) for one, other in itertools.pairwise([0, *cuts])]
        entries.append(delta_on(entries, base, [b"%d" % number, *runs]))
    pack = pack_of(tmp_path, entries)
    reader = reader_of(pack, cache_bytes)
    order = [*rng.sample(range(pack.count), pack.count), *rng.sample(range(pack.count), pack.count)]
    seen = compare(pack, [reader], order)
    assert all(isinstance(content, tuple) for content in seen)
    assert all(reader.find_raw(pack.index.oid_at(p), Raw, KINDS) is not None for p in order)
    assert [reader.type_and_size(p)[1] for p in order] == [len(content[1]) for content in seen]


def test_no_object_is_larger_than_allowed(tmp_path: Path) -> None:
    pack = pack_of(tmp_path, long_chain(3, bytes(5000), lambda number: b"%060d" % number))
    seen = compare(pack, [reader_of(pack, largest=5100)], range(pack.count), largest=5100)
    assert sorted(outcome is LimitExceeded for outcome in seen) == [False, False, True, True]


def flipped(seed: int) -> Callable[[bytearray, list[int]], None]:
    def spoil(body: bytearray, starts: list[int]) -> None:
        rng = random.Random(seed)
        for _ in range(3):
            at = rng.randrange(starts[0], len(body))
            body[at] ^= 1 << rng.randrange(8)

    return spoil


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32))
def test_damage_is_refused_where_the_twin_refuses_it(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = random.Random(seed)
    pack = pack_of(tmp_path_factory.mktemp("p"), random_entries(rng, 12), flipped(seed))
    resolver = Resolver(SHA1, BaseCache(0), object_bytes_max=OBJECT_MAX)
    readers = [reader_of(pack, 0), reader_of(pack)]
    for position in range(pack.count):
        twin = outcome(lambda p=position: resolver.read(pack, pack.index.offset_at(p)))  # type: ignore[misc]
        for reader in readers:
            ours = outcome(lambda r=reader, p=position: r.read(p))  # type: ignore[misc]
            assert ours == twin or not (isinstance(ours, tuple) or isinstance(twin, tuple))


BAD_DELTAS = {
    "no instructions": sized(100) + sized(50),
    "copies from beyond": sized(100) + sized(50) + bytes([0x91, 90, 50]),
    "makes too much": sized(100) + sized(50) + bytes([0x90, 60]),
    "makes too little": sized(100) + sized(50) + bytes([0x90, 40]),
    "an instruction of zero": sized(100) + sized(50) + bytes([0, 0x90, 50]),
    "cut in an instruction": sized(100) + sized(50) + bytes([0x90, 50, 0xFF]),
    "cut in its own bytes": sized(100) + sized(50) + bytes([50]) + bytes(20),
    "another base": sized(99) + sized(50) + bytes([0x90, 50]),
    "cut in a size": b"\xff",
}


@pytest.mark.parametrize("delta", BAD_DELTAS.values(), ids=BAD_DELTAS)
@pytest.mark.parametrize("above", [0, 1, 3])
def test_a_bad_delta_anywhere_in_a_chain_is_refused(tmp_path: Path, delta: bytes, above: int) -> None:
    base = random.Random(1).randbytes(100)
    entries: list[Whole | Delta] = [Whole(base), Delta(0, delta, base[:50])]
    for number in range(above):
        entries.append(delta_on(entries, len(entries) - 1, [b"%d" % number, (0, 50)]))
    pack = pack_of(tmp_path, entries)
    for position in sorted(range(pack.count), key=pack.index.offset_at)[1:]:
        for reader in (reader_of(pack), reader_of(pack, 0)):
            assert reader.find_raw(pack.index.oid_at(position), Raw, KINDS) is None
            with pytest.raises(CorruptPack):
                reader.read(position)


def test_a_circle_of_deltas_ends(tmp_path: Path) -> None:
    base = random.Random(1).randbytes(100)
    entries: list[Whole | Delta] = [
        Whole(b"beside"),
        Delta(2, sized(100) + sized(100) + bytes([0x90, 100]), base, True),
    ]
    entries.append(Delta(1, sized(100) + sized(100) + bytes([0x90, 100]), base + b"x", True))
    pack = pack_of(tmp_path, entries)
    reader = reader_of(pack)
    for entry in entries[1:]:
        with pytest.raises(CorruptPack, match="cycle"):
            reader.read(pack.index.find(hash_object(SHA1, BLOB, entry.data)))


@pytest.mark.parametrize("has_read", [False, True])
def test_a_pack_that_is_cut_short_under_its_map_is_an_error(tmp_path: Path, has_read: bool) -> None:
    rng = random.Random(5)
    entries = [Whole(rng.randbytes(PAGE)) for _ in range(64)]
    pack = pack_of(tmp_path, entries)
    reader = reader_of(pack)
    by_offset = sorted(range(pack.count), key=pack.index.offset_at)
    assert reader.find_raw(pack.index.oid_at(by_offset[0]), Raw, KINDS) == ("blob", entries[0].data)
    if has_read:
        for position, entry in zip(by_offset, entries, strict=True):
            assert reader.read(position) == (BLOB, entry.data)
    kept = 20
    os.truncate(tmp_path / "p.pack", pack.index.offset_at(by_offset[kept]))
    faults = fault_count()
    for rank, position in enumerate(by_offset):
        got = outcome(lambda p=position: reader.read(p))  # type: ignore[misc]
        assert got == (BLOB, entries[rank].data) or (rank >= kept and got is CorruptPack)
        if not has_read:
            assert (rank < kept) == isinstance(got, tuple)
    assert has_read or fault_count() > faults
    assert reader_of(pack).find_raw(pack.index.oid_at(by_offset[-1]), Raw, KINDS) is None


def test_a_pack_that_became_shorter_before_it_was_mapped_is_read_by_its_descriptor(tmp_path: Path) -> None:
    pack = pack_of(tmp_path, [Whole(b"first"), Whole(random.Random(2).randbytes(5000))])
    first, last = sorted(range(pack.count), key=pack.index.offset_at)
    os.truncate(tmp_path / "p.pack", pack.index.offset_at(last))
    reader = reader_of(pack)
    assert pack.map_content() is None and reader.read(first) == (BLOB, b"first")
    with pytest.raises(CorruptPack):
        reader.read(last)
