import os
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import Corrupt, CorruptPack, LimitExceeded
from govc.objects.types import BLOB, COMMIT, TREE, hash_object
from govc.pack.delta import make_delta
from govc.pack.entry import encode_entry_header
from govc.pack.indexer import PHASE_INDEXING, PHASE_RESOLVING, index_pack
from govc.pack.limits import IndexLimits
from govc.protocol.oid import SHA1, SHA256
from tests.kernels.both import compiled

TEXT = b"".join(b"line %d\n" % n for n in range(200))
NOISE = random.Random(3).randbytes(3 << 20)


def engine_name(kernel):
    return "twins" if kernel is None else "compiled"


def blob_oid(content):
    return hash_object(SHA1, BLOB, content)


def version(number):
    return TEXT + b"version %d\n" % number


@pytest.fixture(params=[*([compiled("indexing")] if compiled("indexing") else []), None], ids=engine_name)
def index(request, tmp_path, monkeypatch):
    """Index the given bytes in a file, by the kernel and by its twins; returns the result. The file is `index.path`."""
    path = os.fspath(tmp_path / "incoming.pack")
    monkeypatch.setattr("govc.pack.indexer.find_compiled", lambda name: request.param)

    def run(data, algo=SHA1, **options):
        with open(path, "wb") as file:
            file.write(data)
        fd = os.open(path, os.O_RDWR)
        try:
            return index_pack(fd, algo, **options)
        finally:
            os.close(fd)

    run.path = path
    return run


def oids_of(indexed):
    return [indexed.oid_at(position) for position in range(indexed.count)]


def check_against_git(craft, folder, data, indexed, name="t"):
    (folder / f"{name}.pack").write_bytes(data)
    craft.git(folder, "index-pack", "--rev-index", f"{name}.pack")
    ours = folder / f"{name}-ours"
    indexed.write_index(f"{ours}.idx")
    indexed.write_reverse_index(f"{ours}.rev")
    assert (folder / f"{name}.idx").read_bytes() == (folder / f"{name}-ours.idx").read_bytes()
    assert (folder / f"{name}.rev").read_bytes() == (folder / f"{name}-ours.rev").read_bytes()


# -- real packs


def test_index_and_reverse_index_are_those_of_git(git_repository, index, tmp_path, craft):
    (pack,) = (git_repository / "objects/pack").glob("*.pack")
    data = pack.read_bytes()
    indexed = index(data)
    assert indexed.delta_count > 20
    assert (data[-20:], len(data), 0) == (
        indexed.pack_checksum,
        indexed.pack_size,
        indexed.thin_bases_appended,
    )
    check_against_git(craft, tmp_path, data, indexed)


def test_sha256_packs_are_indexed_as_by_git(git_repository_sha256, index, tmp_path):
    (pack,) = (git_repository_sha256 / "objects/pack").glob("*.pack")
    indexed = index(pack.read_bytes(), SHA256)
    indexed.write_index(os.fspath(tmp_path / "x.idx"))
    assert pack.with_suffix(".idx").read_bytes() == (tmp_path / "x.idx").read_bytes()


def test_types_are_those_that_git_tells(git_repository, index, craft):
    (pack,) = (git_repository / "objects/pack").glob("*.pack")
    indexed = index(pack.read_bytes())
    listing = craft.git(git_repository, "cat-file", "--batch-all-objects", "--batch-check").stdout.split()
    names = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}
    expected = {bytes.fromhex(listing[at].decode()): names[listing[at + 1]] for at in range(0, len(listing), 3)}
    assert expected == dict(zip(oids_of(indexed), indexed.types, strict=True))


def test_the_visitor_sees_every_commit_tree_and_tag(git_repository, index):
    (pack,) = (git_repository / "objects/pack").glob("*.pack")
    seen = {}
    indexed = index(pack.read_bytes(), visit=lambda oid, number, data: seen.setdefault(oid, (number, data)))
    assert {oid: n for oid, n in zip(oids_of(indexed), indexed.types, strict=True) if n != BLOB} == {
        oid: number for oid, (number, _) in seen.items()
    }
    assert all(hash_object(SHA1, number, data) == oid for oid, (number, data) in seen.items())


def test_progress_ends_with_everything_done(git_repository, index):
    (pack,) = (git_repository / "objects/pack").glob("*.pack")
    calls = []
    indexed = index(pack.read_bytes(), progress=lambda *call: calls.append(call))
    assert (PHASE_INDEXING, indexed.count, indexed.count) in calls
    assert (PHASE_RESOLVING, indexed.delta_count, indexed.delta_count) == calls[-1]


def test_tiny_caches_change_nothing(git_repository, index):
    (pack,) = (git_repository / "objects/pack").glob("*.pack")
    data = pack.read_bytes()
    limits = IndexLimits(delta_cache_bytes=0, base_cache_bytes=0, stream_bytes_min=0)
    assert index(data) == index(data, limits=limits)


def test_an_empty_pack_has_an_empty_index(index, tmp_path, craft):
    data = craft.pack_of()
    check_against_git(craft, tmp_path, data, index(data))


def test_a_thin_pack_of_git_is_completed(git_repository, index, tmp_path, craft):
    git = craft.git
    thin = git(git_repository, "pack-objects", "--thin", "--revs", "--stdout", "-q", stdin=b"main\n^main~3\n").stdout

    def read(oid):
        name = git(git_repository, "cat-file", "-t", oid.hex()).stdout.strip()
        number = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}[name]
        return number, git(git_repository, "cat-file", name.decode(), oid.hex()).stdout

    with pytest.raises(CorruptPack, match="unresolved delta"):
        index(thin)
    indexed = index(thin, base_reader=read)
    assert indexed.thin_bases_appended > 0
    with open(index.path, "rb") as file:
        data = file.read()
    assert (indexed.pack_checksum, indexed.pack_size) == (data[-20:], len(data))
    check_against_git(craft, tmp_path, data, indexed)
    git(tmp_path, "verify-pack", "t.idx")
    git(tmp_path, "init", "-q", "--bare", "borrower.git")
    (tmp_path / "borrower.git/objects/info/alternates").write_text(f"{git_repository}/objects\n")
    completed = git(tmp_path / "borrower.git", "index-pack", "--stdin", "--fix-thin", stdin=thin).stdout
    assert f"pack\t{indexed.pack_checksum.hex()}\n".encode() == completed


# -- crafted packs


def test_a_ref_delta_may_come_before_its_base(craft, index, tmp_path):
    base, middle, top = version(0), version(1), version(2)
    data = craft.pack_of(
        craft.ref(blob_oid(middle), make_delta(middle, top)),
        craft.ref(blob_oid(base), make_delta(base, middle)),
        craft.whole(BLOB, base),
    )
    indexed = index(data)
    assert sorted(map(blob_oid, (base, middle, top))) == oids_of(indexed)
    check_against_git(craft, tmp_path, data, indexed)


def test_a_base_that_is_there_twice_is_used_once(craft, index, tmp_path):
    entries = [craft.whole(BLOB, TEXT)] * 2 + [craft.ref(blob_oid(TEXT), make_delta(TEXT, version(1)))] * 2
    indexed = index(craft.pack_of(*entries))
    assert sorted([blob_oid(TEXT)] * 2 + [blob_oid(version(1))] * 2) == oids_of(indexed)
    assert 4 == len(set(indexed.offsets))


@pytest.mark.parametrize(("base_cache_bytes", "delta_cache_bytes"), [(0, 0), (5000, 900), (1 << 24, 1 << 23)])
def test_long_chains_with_branches_are_resolved(craft, index, base_cache_bytes, delta_cache_bytes):
    entries = [craft.whole(BLOB, version(0))]
    expected = [blob_oid(version(0))]
    for number in range(1, 600):
        delta = make_delta(version(number - 1), version(number))
        side = version(number - 1) + b"side"
        entries.append(craft.ref(blob_oid(version(number - 1)), delta))
        entries.append(craft.ref(blob_oid(version(number - 1)), make_delta(version(number - 1), side)))
        entries.append(craft.ref(blob_oid(side), make_delta(side, side + b"leaf")))
        expected += map(blob_oid, (version(number), side, side + b"leaf"))
    data = craft.pack_of(*entries)
    limits = IndexLimits(base_cache_bytes=base_cache_bytes, delta_cache_bytes=delta_cache_bytes)
    assert sorted(expected) == oids_of(index(data, limits=limits))


def test_a_chain_of_twenty_thousand_is_no_recursion(craft, index):
    entries = [craft.whole(BLOB, b"x" * 20)]
    back = len(entries[0])
    for number in range(20_000):
        entries.append(craft.ofs(back, make_delta(b"x" * 20 if not number else b"x" * 19 + b"y", b"x" * 19 + b"y")))
        back = len(entries[-1])
    assert 20_000 == index(craft.pack_of(*entries)).delta_count


def test_large_blobs_are_streamed_through_the_window(craft, index, tmp_path):
    data = craft.pack_of(
        craft.whole(BLOB, NOISE),
        craft.whole(BLOB, bytes(5 << 20)),
        craft.whole(BLOB, b""),
        craft.whole(TREE, b""),
    )
    check_against_git(craft, tmp_path, data, index(data))


def test_a_delta_on_a_streamed_blob_is_resolved(craft, index):
    target = NOISE[: 2 << 20] + b"end"
    entry = craft.whole(BLOB, NOISE)
    indexed = index(craft.pack_of(entry, craft.ofs(len(entry), make_delta(NOISE, target))))
    assert sorted([blob_oid(NOISE), blob_oid(target)]) == oids_of(indexed)


def test_several_missing_bases_are_appended_once_each(craft, index, tmp_path):
    stored = {blob_oid(version(n)): (BLOB, version(n)) for n in (0, 10)}
    data = craft.pack_of(
        craft.ref(blob_oid(version(1)), make_delta(version(1), version(2))),
        craft.ref(blob_oid(version(0)), make_delta(version(0), version(1))),
        craft.ref(blob_oid(version(0)), make_delta(version(0), version(3))),
        craft.ref(blob_oid(version(10)), make_delta(version(10), version(11))),
    )
    indexed = index(data, base_reader=stored.get)
    assert (4, 6, 2) == (indexed.object_count_received, indexed.count, indexed.thin_bases_appended)
    with open(index.path, "rb") as file:
        check_against_git(craft, tmp_path, file.read(), indexed)


def test_a_base_that_is_not_what_its_name_says_is_refused(craft, index):
    data = craft.pack_of(craft.ref(blob_oid(TEXT), make_delta(TEXT, b"x")))
    with pytest.raises(CorruptPack, match="is corrupt"):
        index(data, base_reader=lambda _: (BLOB, b"other"))


# -- hostile packs


def test_a_delta_cycle_is_left_unresolved(craft, index):
    one, two = blob_oid(version(1)), blob_oid(version(2))
    data = craft.pack_of(
        craft.ref(one, make_delta(version(1), version(2))), craft.ref(two, make_delta(version(2), version(1)))
    )
    with pytest.raises(CorruptPack, match="pack has 2 unresolved deltas"):
        index(data, base_reader=lambda _: None)


def test_a_delta_on_itself_is_left_unresolved(craft, index):
    with pytest.raises(CorruptPack, match=r"pack has 1 unresolved delta$"):
        index(craft.pack_of(craft.ref(blob_oid(TEXT), make_delta(TEXT, TEXT))))


def test_an_offset_between_two_entries_is_left_unresolved(craft, index):
    with pytest.raises(CorruptPack, match="unresolved"):
        index(craft.pack_of(craft.whole(BLOB, TEXT), craft.ofs(3, make_delta(TEXT, TEXT))))


@pytest.mark.parametrize("distance", [13, 1 << 20, 1 << 50])
def test_an_offset_before_the_first_entry_is_refused(craft, index, distance):
    with pytest.raises(CorruptPack, match="out of bound"):
        index(craft.pack_of(craft.ofs(distance, make_delta(TEXT, TEXT))))


def test_an_offset_of_zero_is_refused(craft, index):
    entry = encode_entry_header(6, 4) + b"\0" + zlib.compress(b"\4\4\x90\4")
    with pytest.raises(CorruptPack, match="out of bound"):
        index(craft.pack_of(craft.whole(BLOB, TEXT), entry))


@pytest.mark.parametrize(("type_number", "stated"), [(BLOB, 4), (BLOB, 6), (COMMIT, 0), (7, 4)])
def test_an_entry_of_another_size_than_stated_is_refused(craft, index, type_number, stated):
    base = blob_oid(TEXT) if type_number == 7 else b""
    entry = encode_entry_header(type_number, stated) + base + zlib.compress(b"12345")
    with pytest.raises(CorruptPack, match="inflated size"):
        index(craft.pack_of(entry))


@pytest.mark.parametrize("stated", [10, 1 << 19])
def test_a_zlib_bomb_is_stopped_at_its_stated_size(craft, index, stated):
    entry = encode_entry_header(BLOB, stated) + zlib.compress(bytes(50 << 20))
    with pytest.raises(CorruptPack, match="inflated size"):
        index(craft.pack_of(entry))


def test_a_delta_bomb_is_stopped_by_the_result_limit(craft, index):
    entries, content = [craft.whole(BLOB, bytes(1 << 16))], bytes(1 << 16)
    back = len(entries[0])
    for _ in range(10):
        delta = make_delta(content, content + content)
        entries.append(craft.ofs(back, delta))
        back = len(entries[-1])
        content += content
    with pytest.raises(LimitExceeded, match="delta result bytes"):
        index(craft.pack_of(*entries), limits=IndexLimits(delta_result_bytes_max=1 << 20))


def test_total_expansion_is_limited(craft, index):
    limits = IndexLimits(expansion_bytes_base=10, expansion_ratio_max=2)
    with pytest.raises(LimitExceeded, match="pack expansion bytes"):
        index(craft.pack_of(craft.whole(BLOB, bytes(5000))), limits=limits)
    base = craft.whole(BLOB, NOISE[:5000])
    deltas = [craft.ref(blob_oid(NOISE[:5000]), make_delta(NOISE[:5000], NOISE[:5000]))] * 20
    with pytest.raises(LimitExceeded, match="pack expansion bytes"):
        index(craft.pack_of(base, *deltas), limits=limits)


def test_an_object_over_the_limit_is_refused(craft, index):
    with pytest.raises(LimitExceeded, match="object bytes"):
        index(craft.pack_of(craft.whole(BLOB, b"12345")), limits=IndexLimits(object_bytes_max=4))


@pytest.mark.parametrize("count", [3, 1000, 0xFFFFFFFF])
def test_more_entries_than_there_are_is_early_eof(craft, index, count):
    entries = [craft.whole(BLOB, TEXT), craft.whole(BLOB, version(1))]
    with pytest.raises(CorruptPack, match="early EOF"):
        index(craft.pack_of(*entries, count=count))


def test_fewer_entries_than_there_are_is_junk(craft, index):
    with pytest.raises(CorruptPack, match="pack has junk at the end"):
        index(craft.pack_of(craft.whole(BLOB, TEXT), craft.whole(BLOB, b""), count=1))


def test_junk_after_the_trailer_is_refused(craft, index):
    with pytest.raises(CorruptPack, match="junk at the end"):
        index(craft.pack_of(craft.whole(BLOB, TEXT)) + b"\0")


def test_a_wrong_trailer_is_refused(craft, index):
    data = bytearray(craft.pack_of(craft.whole(BLOB, TEXT)))
    data[-1] ^= 1
    with pytest.raises(CorruptPack, match=r"SHA1 mismatch"):
        index(bytes(data))


def test_a_pack_cut_anywhere_is_refused(craft, index):
    data = craft.pack_of(craft.whole(BLOB, b"abc"), craft.ofs(12, make_delta(b"abc", b"abcd")))
    for size in range(len(data)):
        with pytest.raises(CorruptPack):
            index(data[:size])


@pytest.mark.parametrize(
    ("delta", "text"),
    [(b"\5\5\x90\5", "base of 5"), (b"\4\4\x91\1\4", "outside"), (b"\4\4\0", "opcode 0"), (b"", "header")],
)
def test_a_lying_delta_in_a_pack_is_refused(craft, index, delta, text):
    entry = craft.whole(BLOB, b"abcd")
    with pytest.raises(CorruptPack, match=text):
        index(craft.pack_of(entry, craft.ofs(len(entry), delta)))


def test_a_collision_with_an_existing_object_is_refused(craft, index):
    stored = {blob_oid(content): (BLOB, content) for content in (TEXT, version(1), NOISE)}
    data = craft.pack_of(
        craft.whole(BLOB, TEXT),
        craft.ref(blob_oid(TEXT), make_delta(TEXT, version(1))),
        craft.whole(BLOB, NOISE),
        craft.whole(BLOB, b"new"),
    )
    indexed = index(data, known=stored.__contains__, existing_reader=stored.get)
    assert sorted(stored) == [indexed.oid_at(position) for position in indexed.known_positions]
    for oid, (_, content) in stored.items():
        for lie in (
            (TREE, content),
            (BLOB, content[:-1]),
            (BLOB, content + b"x"),
            (BLOB, b"?" * len(content)),
        ):
            with pytest.raises(CorruptPack, match=f"SHA1 COLLISION FOUND WITH {oid.hex()} !"):
                index(data, known=stored.__contains__, existing_reader={**stored, oid: lie}.get)


@settings(derandomize=True, max_examples=150)
@given(st.data())
def test_a_damaged_pack_raises_only_what_it_should(tmp_path_factory, craft, data):
    entry = craft.whole(BLOB, TEXT)
    body = bytearray(
        craft.pack_of(
            entry,
            craft.ofs(len(entry), make_delta(TEXT, version(1))),
            craft.ref(blob_oid(version(1)), make_delta(version(1), version(2))),
        )[:-20]
    )
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pack"
    path.write_bytes(bytes(body) + SHA1.new(bytes(body)).digest())
    with open(path, "rb") as file:
        try:
            assert 3 == index_pack(file.fileno(), SHA1).count
        except (Corrupt, LimitExceeded) as error:
            assert error.public_text
