"""The compiled passes and their twins: the same result for every pack, the same words for every damaged one."""

import os
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import CorruptPack, GovcError
from govc.objects.types import BLOB, TREE, hash_object
from govc.pack import compiled as compiled_room
from govc.pack import indexer
from govc.pack.delta import make_delta
from govc.pack.indexer import index_pack
from govc.pack.limits import IndexLimits
from govc.protocol.oid import SHA1
from tests.kernels.attacks import SHA_MBLES, SHATTERED
from tests.kernels.both import compiled, needs_compiled

pytestmark = needs_compiled

KERNEL = compiled("indexing")
LIMITS = IndexLimits(
    object_bytes_max=1 << 20, delta_result_bytes_max=1 << 19, expansion_bytes_base=1 << 22, expansion_ratio_max=10
)


def outcome(path, monkeypatch, kernel, **options):
    with monkeypatch.context() as patch:
        patch.setattr(indexer, "find_compiled", lambda name: kernel)
        fd = os.open(path, os.O_RDWR)
        try:
            return index_pack(fd, SHA1, **{"limits": LIMITS} | options)
        except GovcError as error:
            return f"{type(error).__name__}: {error}"
        finally:
            os.close(fd)


def both_outcomes(tmp_path, monkeypatch, data, **options):
    outcomes = []
    for kernel in (KERNEL, None):
        path = tmp_path / "x.pack"
        path.write_bytes(data)
        outcomes.append((outcome(path, monkeypatch, kernel, **options), path.read_bytes()))
    return outcomes


@pytest.fixture(scope="module")
def entries(craft):
    """A pack's worth of entries: whole objects, chains of both kinds of deltas, something large."""
    rng = random.Random(11)
    text = b"".join(b"line %d\n" % rng.randrange(1000) for _ in range(100))
    made = [craft.whole(BLOB, text), craft.whole(TREE, b""), craft.whole(BLOB, rng.randbytes(300_000))]
    previous = text
    for number in range(6):
        target = previous + b"version %d\n" % number
        delta = make_delta(previous, target)
        if number % 3 == 2:
            made.append(craft.ref(hash_object(SHA1, BLOB, previous), delta))
        else:
            at = 0 if number == 0 else len(made) - 1
            made.append(craft.ofs(sum(map(len, made[at:])), delta))
        previous = target
    return made


def test_the_crafted_pack_is_indexed_alike(tmp_path, monkeypatch, craft, entries):
    ours, twins = both_outcomes(tmp_path, monkeypatch, craft.pack_of(*entries))
    assert 9 == ours[0].count
    assert twins == ours


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_pack_is_refused_in_the_same_words(tmp_path_factory, craft, entries, data):
    damaged = [bytearray(entry) for entry in entries]
    for _ in range(data.draw(st.integers(1, 2))):
        entry = damaged[data.draw(st.integers(0, len(damaged) - 1))]
        near = data.draw(st.sampled_from((8, 40, len(entry))))
        entry[data.draw(st.integers(0, min(near, len(entry)) - 1))] = data.draw(st.integers(0, 255))
    body = craft.pack_of(*map(bytes, damaged))
    if data.draw(st.booleans()):
        body = body[: data.draw(st.integers(12, len(body)))]
    folder = tmp_path_factory.mktemp("damaged")
    with pytest.MonkeyPatch.context() as monkeypatch:
        ours, twins = both_outcomes(folder, monkeypatch, body)
    assert twins[0] == ours[0]


def test_a_thin_pack_is_completed_alike(tmp_path, monkeypatch, craft):
    texts = [b"base %d\n" % n * 50 for n in range(5)]
    stored = {hash_object(SHA1, BLOB, text): (BLOB, text) for text in texts}
    second = texts[0] + b"1"
    made = [craft.ref(hash_object(SHA1, BLOB, text), make_delta(text, text + b"1")) for text in texts]
    made.append(craft.ref(hash_object(SHA1, BLOB, second), make_delta(second, second + b"2")))
    ours, twins = both_outcomes(tmp_path, monkeypatch, craft.pack_of(*made), base_reader=stored.get)
    assert (11, 5) == (ours[0].count, ours[0].thin_bases_appended)
    assert twins == ours


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("deflate", [True, False])
def test_threads_and_inflaters_change_nothing(git_repository, tmp_path, monkeypatch, threads, deflate):
    (pack,) = (git_repository / "objects/pack").glob("*.pack")
    monkeypatch.setattr(compiled_room, "_BESIDE_PACK_BYTES_MIN", 0)
    monkeypatch.setattr(compiled_room, "_BUDGET_BYTES", 10_000)
    path = tmp_path / "x.pack"
    path.write_bytes(pack.read_bytes())
    expected = outcome(path, monkeypatch, None)
    KERNEL.use_deflate(deflate)
    tiny = IndexLimits(base_cache_bytes=0)
    for limits in (LIMITS, tiny):
        assert expected == outcome(path, monkeypatch, KERNEL, threads=threads, limits=limits)
    KERNEL.use_deflate(True)


def test_what_exists_is_found_and_compared_alike(git_repository, tmp_path, monkeypatch):
    (pack,) = (git_repository / "objects/pack").glob("*.pack")
    contents = {}
    path = tmp_path / "x.pack"
    path.write_bytes(pack.read_bytes())
    indexed = outcome(path, monkeypatch, None, visit=lambda oid, number, data: contents.setdefault(oid, (number, data)))
    known = [oid for oid in contents if oid[0] & 1]
    assert known
    options = {"known": known.__contains__, "existing_reader": contents.get}
    ours = outcome(path, monkeypatch, KERNEL, **options)
    assert outcome(path, monkeypatch, None, **options) == ours
    assert sorted(known) == [indexed.oid_at(position) for position in ours.known_positions]
    for oid in known:
        other = contents | {oid: (contents[oid][0], contents[oid][1] + b"!")}
        refusal = outcome(path, monkeypatch, KERNEL, **options | {"existing_reader": other.get})
        assert f"CorruptPack: SHA1 COLLISION FOUND WITH {oid.hex()} !" == refusal


def test_the_visitor_sees_the_same(git_repository, tmp_path, monkeypatch):
    (pack,) = (git_repository / "objects/pack").glob("*.pack")
    path = tmp_path / "x.pack"
    path.write_bytes(pack.read_bytes())
    seen = ([], [])
    for kernel, calls in zip((KERNEL, None), seen, strict=True):
        outcome(path, monkeypatch, kernel, visit=lambda *call, calls=calls: calls.append(call))
    assert sorted(seen[0]) == sorted(seen[1])
    assert len(seen[0]) > 50


@pytest.mark.rows("SEC-14")
@pytest.mark.parametrize("attack", [*SHATTERED, *SHA_MBLES])
@pytest.mark.parametrize("stream_bytes_min", [1 << 20, 0])
def test_a_published_attack_is_refused_in_gits_words(tmp_path, monkeypatch, craft, attack, stream_bytes_min):
    # The published attacks are on files: an object begins with its header, so the kernel is told to leave that out.
    monkeypatch.setattr("govc.pack.indexer.find_compiled", lambda name: KERNEL)
    padding = bytes(300_000) if stream_bytes_min == 0 else b""
    path = tmp_path / "x.pack"
    path.write_bytes(
        craft.pack_of(*[craft.whole(BLOB, b"%d" % n) for n in range(20)], craft.whole(BLOB, attack + padding))
    )
    options = {"limits": IndexLimits(stream_bytes_min=stream_bytes_min)}
    KERNEL.use_headers(False)
    try:
        refusal = outcome(path, monkeypatch, KERNEL, **options)
        undetected = outcome(path, monkeypatch, KERNEL, detects=False, **options)
    finally:
        KERNEL.use_headers(True)
    name = SHA1.new(attack + padding).digest()
    assert f"CorruptPack: SHA-1 appears to be part of a collision attack: {name.hex()}" == refusal
    assert name in [undetected.oid_at(position) for position in range(undetected.count)]
    assert 21 == outcome(path, monkeypatch, KERNEL, **options).count


@pytest.mark.rows("SEC-14")
def test_an_attack_that_a_delta_makes_is_refused(tmp_path, monkeypatch, craft):
    base = craft.whole(BLOB, SHATTERED[0][:192])
    delta = craft.ofs(len(base), make_delta(SHATTERED[0][:192], SHATTERED[0]))
    path = tmp_path / "x.pack"
    path.write_bytes(craft.pack_of(base, delta))
    KERNEL.use_headers(False)
    try:
        refusal = outcome(path, monkeypatch, KERNEL)
    finally:
        KERNEL.use_headers(True)
    assert refusal.startswith("CorruptPack: SHA-1 appears to be part of a collision attack: ")


def test_giving_up_stops_all_threads(git_repository, tmp_path, monkeypatch):
    (pack,) = (git_repository / "objects/pack").glob("*.pack")
    monkeypatch.setattr(compiled_room, "_BESIDE_PACK_BYTES_MIN", 0)
    monkeypatch.setattr(compiled_room, "_BUDGET_BYTES", 1)
    path = tmp_path / "x.pack"
    path.write_bytes(pack.read_bytes())

    def give_up(phase, done, total):
        if phase == indexer.PHASE_RESOLVING:
            raise CorruptPack("nobody waits any more")

    assert "CorruptPack: nobody waits any more" == outcome(path, monkeypatch, KERNEL, threads=3, progress=give_up)


def test_a_large_object_of_many_pieces_is_indexed_alike(tmp_path, monkeypatch, craft):
    data = random.Random(5).randbytes(3 << 20)
    large = craft.whole(BLOB, data)
    limits = IndexLimits(stream_bytes_min=1 << 20)
    for level in (0, 9):
        entry = large[: -len(zlib.compress(data))] + zlib.compress(data, level)
        target = data[:-1] + b"x"
        delta = craft.ofs(len(entry), make_delta(data, target))
        ours, twins = both_outcomes(tmp_path, monkeypatch, craft.pack_of(entry, delta), limits=limits)
        assert 2 == ours[0].count
        assert twins == ours
