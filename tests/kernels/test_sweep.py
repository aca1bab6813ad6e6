"""Sweeps over segments of random histories, against the plain truth; the kernel and its twin."""

import random
import struct
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.graph.introduce import introduce
from govc.graph.segment import BadSegment, Segment, iter_encoded, parse_segment
from govc.kernels.sweep import NO_LIMIT
from govc.objects.types import BLOB, COMMIT, TREE
from govc.odb.store import ObjectStore
from govc.protocol.oid import SHA1, SHA256
from tests.graph.builder import RepositoryBuilder
from tests.graph.packed import packed_store, write_packs
from tests.graph.test_closure import random_repository
from tests.kernels.both import both, compiled, needs_compiled, variants

seeds = st.integers(0, 1 << 30)


@pytest.fixture(params=variants("sweep"))
def kernel(request):
    return request.param


def segments_of(repo: RepositoryBuilder, commits: list[bytes], count: int, seed: int) -> list[Segment]:
    """Cut a history into segments as pushes would: each of some more tips, on top of the ones before."""
    rng = random.Random(seed)
    known: set[bytes] = set()
    segments = []
    for step in range(count):
        tips = commits if step == count - 1 else rng.sample(commits, max(1, len(commits) // 4))
        made = introduce(repo, tips, known.__contains__)
        if made.times:
            segments.append(parse_segment(b"".join(iter_encoded(made, repo.algo)), repo.algo))
            size = repo.algo.oid_size
            known.update(made.commit_oids[at : at + size] for at in range(0, len(made.commit_oids), size))
    return segments


def sweep_over(kernel: Any, segments: list[Segment], algo: Any = SHA1) -> Any:
    sweep = kernel.Sweep(algo.oid_size)
    for segment in segments:
        sweep = kernel.Sweep(algo.oid_size, sweep, segment.sweep_columns)
    return sweep


def cids(sweep: Any, oids: Any) -> "array[int]":
    return array("I", [sweep.cid_of(oid) for oid in oids])


@settings(max_examples=40, derandomize=True, deadline=None)
@given(seeds, st.integers(1, 4), st.booleans())
def test_what_a_range_brings_is_exactly_what_the_client_lacks(seed: int, count: int, skewed: bool) -> None:
    repo, commits = random_repository(seed, skewed=skewed, size=20)
    rng = random.Random(seed)
    wants, haves = rng.sample(commits, 2), rng.sample(commits, rng.randint(0, 3))
    segments = segments_of(repo, commits, count, seed)
    lacks = repo.reachable(wants) - repo.reachable(haves)
    at_client = repo.reachable(haves)
    for kernel in both("sweep"):
        sweep = sweep_over(kernel, segments)
        painting = sweep.paint(cids(sweep, wants), cids(sweep, haves), array("I"))
        trees, blobs = painting.collect(True, True, NO_LIMIT)
        found = [sweep.commit_oid(cid) for cid in painting.range]
        found += [sweep.object_oid(vid) for vid in [*trees, *blobs]]
        assert len(found) == len(set(found))
        assert lacks == set(found)
        assert {TREE} >= {repo.type_of(repo.find(sweep.object_oid(vid))) for vid in trees}
        assert {BLOB} >= {repo.type_of(repo.find(sweep.object_oid(vid))) for vid in blobs}
        for oid, kind, _data in repo.objects:
            assert painting.has_name(oid) == (oid in at_client)
            is_commit = kind == COMMIT
            assert painting.place_commits(sweep.find_commits(oid)) == bytes(
                [(1 if oid in lacks else 2) if is_commit else 0]
            )


@needs_compiled
def test_a_peer_is_asked_by_number(kernel, tmp_path):
    repo, commits = random_repository(9, size=20)
    store = packed_store(repo, tmp_path, packs=2, seed=9)
    table = store.pack_table()
    assert table is not None
    sweep = sweep_over(kernel, segments_of(repo, commits, 3, 9))
    painting = sweep.paint(cids(sweep, commits[-1:]), cids(sweep, commits[3:5]), array("I"))
    others = [table.find(oid) for oid, _kind, _data in repo.objects][::5]
    has = painting.peer_of(table, iter(others))
    at_client = repo.reachable(commits[3:5])
    said = {oid for oid, _kind, _data in repo.objects if has(table.find(oid))}
    assert at_client | set(map(table.oid_of, others)) == said


@settings(max_examples=20, derandomize=True, deadline=None)
@given(seeds, st.integers(1, 3))
def test_a_cut_commit_hides_what_is_below_it(seed: int, count: int) -> None:
    repo, commits = random_repository(seed, size=20)
    rng = random.Random(seed)
    wants, haves = rng.sample(commits, 2), rng.sample(commits, rng.randint(0, 2))
    cut = frozenset(rng.sample(commits, 3))
    segments = segments_of(repo, commits, count, seed)
    only_commits = {oid for oid, kind, _data in repo.objects if kind == COMMIT}
    expected = (repo.reachable(wants, cut) - repo.reachable(haves, cut)) & only_commits
    for kernel in both("sweep"):
        sweep = sweep_over(kernel, segments)
        painting = sweep.paint(cids(sweep, wants), cids(sweep, haves), cids(sweep, cut))
        assert expected == {sweep.commit_oid(cid) for cid in painting.range}
        assert expected & cut == {sweep.commit_oid(cid) for cid in painting.cut}


@settings(max_examples=20, derandomize=True, deadline=None)
@given(seeds, st.integers(1, 3))
def test_reach_asks_for_young_commits_in_between(seed: int, count: int) -> None:
    repo, commits = random_repository(seed, skewed=True, size=16)
    rng = random.Random(seed)
    starts, goals, oldest = rng.sample(commits, 2), rng.sample(commits, 2), rng.randint(0, 1000)
    segments = segments_of(repo, commits, count, seed)

    def reaches(oid: bytes) -> bool:
        if oid in goals:
            return True
        parents = [link for link in repo.links(oid) if repo.type_of(repo.find(link)) == COMMIT]
        return any(parent in goals or (time_of(parent) >= oldest and reaches(parent)) for parent in parents)

    def time_of(oid: bytes) -> int:
        return int(repo.read(repo.find(oid))[1].split(b"committer ")[1].split()[2])

    for kernel in both("sweep"):
        sweep = sweep_over(kernel, segments)
        assert all(map(reaches, starts)) == sweep.reach(cids(sweep, starts), cids(sweep, goals), oldest)


def test_numbers_are_those_of_the_finder(kernel):
    repo, commits = random_repository(5, size=20)
    sweep = sweep_over(kernel, segments_of(repo, commits, 3, 5))
    ids = array("I", range(sweep.object_count))
    assert [repo.find(sweep.object_oid(vid)) for vid in ids] == sweep.object_numbers(ids, repo).tolist()
    ids = array("I", range(sweep.commit_count))
    assert [repo.find(sweep.commit_oid(cid)) for cid in ids] == sweep.commit_numbers(ids, repo).tolist()


@needs_compiled
@pytest.mark.parametrize("packs", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_many_numbers_are_those_that_are_found_one_by_one(tmp_path, seed, packs):
    repo, commits = random_repository(seed, size=20)
    sweep = sweep_over(compiled("sweep"), segments_of(repo, commits, 1 + seed % 3, seed))
    kept = [number for number in range(len(repo.objects)) if random.Random(seed + number).random() < 0.9]
    write_packs(repo, tmp_path, [kept[start::packs] for start in range(packs)], seed=seed)
    table = ObjectStore.open(str(tmp_path), repo.algo).pack_table()
    for few in (1, 3):  # the few are found one by one
        ids = array("I", random.Random(seed).sample(range(sweep.commit_count), sweep.commit_count // few))
        expected = [table.find(sweep.commit_oid(cid)) for cid in ids]
        assert expected == sweep.commit_numbers(ids, table).tolist()
        assert few > 1 or -1 in expected
        ids = array("I", random.Random(seed).sample(range(sweep.object_count), sweep.object_count // few))
        assert [table.find(sweep.object_oid(vid)) for vid in ids] == sweep.object_numbers(ids, table).tolist()


@needs_compiled
def test_numbers_that_are_known_hold_for_a_table_that_has_grown_and_for_no_other(tmp_path):
    repo, commits = random_repository(3, size=20)
    segments = segments_of(repo, commits, 2, 3)
    sweep = sweep_over(compiled("sweep"), segments)
    everything = array("I", range(sweep.object_count)), array("I", range(sweep.commit_count))
    numbers = list(range(len(repo.objects)))
    write_packs(repo, tmp_path, [numbers[::3], numbers[1::3]], seed=3)
    store = ObjectStore.open(str(tmp_path), repo.algo)

    def check(table):
        found = sweep.object_numbers(everything[0], table), sweep.commit_numbers(everything[1], table)
        assert found[0].tolist() == [table.find(sweep.object_oid(vid)) for vid in everything[0]]
        assert found[1].tolist() == [table.find(sweep.commit_oid(cid)) for cid in everything[1]]
        return found[0].count(-1) + found[1].count(-1)

    lacks = check(store.pack_table())
    write_packs(repo, tmp_path, [numbers[2::3]], seed=4)
    store.refresh()
    assert lacks > 0 == check(store.pack_table())
    other = tmp_path / "other"
    other.mkdir()
    write_packs(repo, other, [numbers[::-1][1::2], numbers[::-1][::2]], seed=5)
    assert check(ObjectStore.open(str(other), repo.algo).pack_table()) == 0
    assert check(store.pack_table()) == 0, "and back again"


@needs_compiled
@pytest.mark.parametrize("first_asked", range(3))
def test_numbers_that_are_known_are_those_that_all_tables_of_one_origin_share(tmp_path, first_asked):
    """Two requests can hold what one table grew into: each has a pack that the other lacks, under the same numbers."""
    repo, commits = random_repository(3, size=20)
    sweep = sweep_over(compiled("sweep"), segments_of(repo, commits, 1, 3))
    everything = array("I", range(sweep.object_count)), array("I", range(sweep.commit_count))
    numbers = list(range(len(repo.objects)))
    shares = [[n for n in numbers if n % 6 > 1], numbers[::6], numbers[1::6]]
    write_packs(repo, tmp_path, shares, seed=3)
    packs = sorted(ObjectStore.open(str(tmp_path), repo.algo).packs, key=lambda pack: -pack.count)
    large, *small = [pack.kernel_source() for pack in packs]
    make = compiled("packread").PackTable
    large = (*large[:4], 0, large[5])
    tables = [make([large], repo.algo.oid_size)]
    for source in small:
        tables.append(make([large, (*source[:4], packs[0].count, source[5])], repo.algo.oid_size, tables[0]))
    for table in tables[first_asked:] + tables[:first_asked]:
        found = sweep.object_numbers(everything[0], table), sweep.commit_numbers(everything[1], table)
        assert found[0].tolist() == [table.find(sweep.object_oid(vid)) for vid in everything[0]]
        assert found[1].tolist() == [table.find(sweep.commit_oid(cid)) for cid in everything[1]]


def test_kinds_are_those_of_the_objects(kernel):
    repo, commits = random_repository(7, size=20)
    sweep = sweep_over(kernel, segments_of(repo, commits, 3, 7))
    unknown = repo.blob(b"nobody introduces it")
    names = [oid for oid, _kind, _data in repo.objects]
    kinds = dict(zip(names, sweep.kinds_of(b"".join(names)), strict=True))
    assert kinds == {oid: 0 if oid == unknown else kind for oid, kind, _data in repo.objects}
    assert {0, COMMIT, TREE, BLOB} == set(kinds.values())
    assert b"" == sweep.kinds_of(b"")


def test_a_blob_limit_leaves_out_larger_ones(kernel):
    repo = RepositoryBuilder()
    commit = repo.commit({b"small": b"1", b"large": b"1" * 100})
    sweep = sweep_over(kernel, segments_of(repo, [commit], 1, 0))
    painting = sweep.paint(cids(sweep, [commit]), array("I"), array("I"))
    blobs = painting.collect(True, True, 100)[1]
    assert [repo.blob_oid(b"1")] == [sweep.object_oid(vid) for vid in blobs]


def test_what_is_not_known_has_no_rank(kernel):
    sweep = kernel.Sweep(20)
    assert (-1, -1) == (sweep.cid_of(bytes(20)), sweep.vid_of(b"too short"))
    with pytest.raises(IndexError):
        sweep.commit_oid(0)


def test_a_segment_needs_what_it_stands_on(kernel):
    repo, commits = random_repository(1, size=12)
    second = segments_of(repo, commits, 2, 1)[-1]
    assert second.foreign_count
    with pytest.raises(ValueError, match="parent"):
        kernel.Sweep(20, kernel.Sweep(20), second.sweep_columns)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(seeds)
def test_a_file_that_lies_is_refused_or_harmless(seed: int) -> None:
    """Any number in it may be any other one: no sweep leaves its columns."""
    repo, commits = random_repository(seed % 50, size=8)
    rng = random.Random(seed)
    made = introduce(repo, commits, lambda _oid: False)
    data = bytearray(b"".join(iter_encoded(made, SHA1)))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(64, len(data) - 24) & ~3
        value = rng.choice([0, 1, rng.randint(0, 300), 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
        data[at : at + 4] = struct.pack("<I", value)
    data[-20:] = SHA1.new(bytes(data[:-20])).digest()
    outcomes = set()
    for kernel in both("sweep"):
        try:
            segment = parse_segment(bytes(data), SHA1)
            sweep = kernel.Sweep(20, kernel.Sweep(20), segment.sweep_columns)
        except (BadSegment, ValueError) as error:
            outcomes.add(type(error).__name__)
            continue
        everything = array("I", range(sweep.commit_count))
        painting = sweep.paint(everything, array("I"), array("I"))
        painting.collect(True, True, NO_LIMIT)
        half = array("I", everything[: len(everything) // 2])
        painting = sweep.paint(everything, half, array("I"))
        painting.collect(True, True, NO_LIMIT)
        sweep.reach(everything, half, 0)
        outcomes.add("swept")
    assert 1 == len(outcomes)


def test_names_of_32_bytes(kernel):
    repo = RepositoryBuilder(SHA256)
    first = repo.commit({b"a": b"1"})
    second = repo.commit({b"a": b"2", b"d": {b"b": b"1"}}, [first])
    sweep = sweep_over(kernel, segments_of(repo, [first, second], 2, 3), SHA256)
    painting = sweep.paint(cids(sweep, [second]), cids(sweep, [first]), array("I"))
    trees, blobs = painting.collect(True, True, NO_LIMIT)
    found = {sweep.object_oid(vid) for vid in [*trees, *blobs]}
    assert repo.reachable([second]) - repo.reachable([first]) == found | {second}
