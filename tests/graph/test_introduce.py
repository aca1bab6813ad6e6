"""What commits introduce: the kernel beside its twin, merging, the file format."""

import random
from array import array
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from govc.errors import CorruptObject, LimitExceeded, ObjectMissing
from govc.graph.introduce import introduce, make_segment, merge
from govc.graph.name_hash import hash_path
from govc.graph.segment import NONE, BadSegment, Introduced, iter_encoded, parse_segment
from govc.graph.view import arrange
from govc.kernels.introduce import AVAILABLE
from govc.objects.commit import parse_commit_links
from govc.objects.tree import is_tree, parse_tree
from govc.protocol.oid import SHA1, SHA256
from tests.kernels.both import needs_compiled

from .builder import RepositoryBuilder
from .packed import packed_store
from .test_closure import random_repository

seeds = st.integers(0, 1 << 30)


def nothing(_oid: bytes) -> bool:
    return False


@needs_compiled
@settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seeds, st.integers(1, 3))
def test_the_kernel_makes_the_columns_of_its_twin(tmp_path: Path, seed: int, packs: int) -> None:
    assert AVAILABLE
    repo, commits = random_repository(seed, skewed=True, size=15)
    store = packed_store(repo, tmp_path / str(seed) / str(packs), packs=packs, seed=seed)
    rng = random.Random(seed)
    known = repo.reachable(rng.sample(commits, 2)) if rng.random() < 0.5 else set()
    expected = introduce(repo, commits, known.__contains__)
    assert expected == make_segment(store, store.pack_reader(), commits, known.__contains__)
    assert expected == make_segment(store, None, commits, known.__contains__)


@settings(max_examples=20, derandomize=True, deadline=None)
@given(seeds)
def test_the_hash_of_an_object_is_that_of_a_path_where_it_is(seed: int) -> None:
    repo, commits = random_repository(seed, size=10)
    paths: dict[bytes, set[bytes]] = {}

    def walk(tree: bytes, path: bytes) -> None:
        paths.setdefault(tree, set()).add(path)
        for entry in parse_tree(repo.read(repo.find(tree))[1], repo.algo):
            below = path + b"/" + entry.name if path else entry.name
            if is_tree(entry.mode):
                walk(entry.oid, below)
            else:
                paths.setdefault(entry.oid, set()).add(below)

    for commit in commits:
        walk(parse_commit_links(repo.read(repo.find(commit))[1], repo.algo).tree, b"")
    half = introduce(repo, commits[: len(commits) // 2], nothing)
    known = {half.commit_oids[at : at + 20] for at in range(0, len(half.commit_oids), 20)}
    made = merge([half, introduce(repo, commits, known.__contains__)], 20)
    hashes = array("I", made.name_hashes)
    for rank, name_hash in enumerate(hashes):
        oid = made.object_oids[20 * rank : 20 * rank + 20]
        assert name_hash in {hash_path(path) for path in paths[oid]}


@needs_compiled
def test_the_kernel_asks_for_what_lies_in_no_pack(tmp_path: Path) -> None:
    repo, commits = random_repository(3, size=10)
    half = RepositoryBuilder()
    half.objects = repo.objects[::2]
    store = packed_store(half, tmp_path, seed=3)
    reader = store.pack_reader()
    assert reader is not None
    # The builder stands for the loose objects: it has everything.
    assert introduce(repo, commits, nothing) == make_segment(repo, reader, commits, nothing)


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_compiled), False])
def test_what_is_missing_or_malformed_raises(tmp_path: Path, compiled: bool) -> None:
    repo = RepositoryBuilder()
    lost = repo.commit({b"a": b"lost"})
    repo.forget(repo.blob_oid(b"lost"))
    ragged = repo.commit(repo.add(2, b"100644 a"))
    no_commit = repo.add(1, b"nonsense")
    other = RepositoryBuilder()
    other.objects = [row for row in repo.objects if row[2] != b"lost"]
    store = packed_store(other, tmp_path)
    reader = store.pack_reader() if compiled else None
    for tip, error in ((lost, ObjectMissing), (ragged, CorruptObject), (no_commit, CorruptObject)):
        with pytest.raises(error):
            make_segment(store, reader, [tip], nothing)


@pytest.mark.parametrize("compiled", [pytest.param(True, marks=needs_compiled), False])
def test_there_are_limits(tmp_path: Path, compiled: bool) -> None:
    repo, commits = random_repository(2, size=10)
    store = packed_store(repo, tmp_path)
    reader = store.pack_reader() if compiled else None
    with pytest.raises(LimitExceeded):
        make_segment(store, reader, commits, nothing, commits_max=5)
    with pytest.raises(LimitExceeded):
        make_segment(store, reader, commits, nothing, entries_max=5)


def test_a_version_knows_the_one_before_it() -> None:
    repo = RepositoryBuilder()
    first = repo.commit({b"a": b"1", b"b": b"x"})
    second = repo.commit({b"a": b"2", b"b": b"x"}, [first])
    segment = parse_segment(b"".join(iter_encoded(introduce(repo, [second], nothing), SHA1)), SHA1)
    previous = segment.previous.cast("I")
    names = [segment.object_oid(rank) for rank in range(segment.object_count)]
    before = {names[rank]: names[old] for rank, old in enumerate(previous) if old != NONE}
    assert repo.blob_oid(b"1") == before[repo.blob_oid(b"2")]
    assert repo.blob_oid(b"x") not in before


@settings(max_examples=20, derandomize=True, deadline=None)
@given(seeds, st.integers(2, 4))
def test_merged_segments_say_the_same(seed: int, count: int) -> None:
    repo, commits = random_repository(seed, size=16)
    rng = random.Random(seed)
    known: set[bytes] = set()
    parts: list[Introduced] = []
    for step in range(count):
        tips = commits if step == count - 1 else rng.sample(commits, 4)
        made = introduce(repo, tips, known.__contains__)
        # Now and then two workers do the same work.
        if rng.random() < 0.7:
            known |= {made.commit_oids[at : at + 20] for at in range(0, len(made.commit_oids), 20)}
        parts.append(made)
    merged = merge(parts, 20)
    whole = introduce(repo, commits, nothing)
    for one, other in ((merged, whole), (whole, merged)):
        view, troubles = arrange(SHA1, [parse_segment(b"".join(iter_encoded(one, SHA1)), SHA1)])
        assert not troubles
        for at in range(0, len(other.commit_oids), 20):
            oid = other.commit_oids[at : at + 20]
            assert view.commit(oid) is not None
    assert introduced_by(merged) == introduced_by(whole)


def introduced_by(made: Introduced) -> dict[bytes, set[bytes]]:
    """Commit to the objects that it introduces, by name."""
    segment = parse_segment(b"".join(iter_encoded(made, SHA1)), SHA1)
    starts, intros = segment.intro_starts.cast("I"), segment.intros.cast("I")
    return {
        made.commit_oids[20 * place : 20 * place + 20]: {
            segment.object_oid(rank) for rank in intros[starts[place] : starts[place + 1]]
        }
        for place in range(segment.commit_count)
    }


def test_segments_are_arranged_whatever_their_order() -> None:
    repo, commits = random_repository(7, size=12)
    first = introduce(repo, commits[:4], nothing)
    names = {first.commit_oids[at : at + 20] for at in range(0, len(first.commit_oids), 20)}
    second = introduce(repo, commits, names.__contains__)
    segments = [parse_segment(b"".join(iter_encoded(made, SHA1)), SHA1) for made in (second, first)]
    view, troubles = arrange(SHA1, segments)
    assert not troubles
    assert all(map(view.knows, commits))
    alone, troubles = arrange(SHA1, segments[:1])
    assert (True, 1) == (alone.is_empty, len(troubles))


def test_a_view_knows_commits_by_heart() -> None:
    repo = RepositoryBuilder()
    first = repo.commit({b"a": b"1"}, time=1000)
    second = repo.commit({b"a": b"2"}, [first], time=2000)
    view, _ = arrange(SHA1, [parse_segment(b"".join(iter_encoded(introduce(repo, [second], nothing), SHA1)), SHA1)])
    assert (2000, repo.tree({b"a": b"2"}), (first,)) == view.commit(second)
    assert view.commit(bytes(20)) is None


class TestFile:
    @pytest.fixture
    def data(self) -> bytes:
        repo, commits = random_repository(11, size=8)
        return b"".join(iter_encoded(introduce(repo, commits, nothing), SHA1))

    def test_any_damaged_byte_shows(self, data: bytes) -> None:
        for at in range(0, len(data), 7):
            damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            with pytest.raises(BadSegment):
                parse_segment(damaged, SHA1)

    @pytest.mark.parametrize("size", [0, 10, 63, 84, -1, -20])
    def test_a_cut_one_is_refused(self, data: bytes, size: int) -> None:
        with pytest.raises(BadSegment):
            parse_segment(data[:size], SHA1)

    def test_one_with_more_behind_it_is_refused(self, data: bytes) -> None:
        with pytest.raises(BadSegment):
            parse_segment(data + b"x", SHA1)

    @pytest.mark.parametrize("version", [1, 3])
    def test_another_version_and_another_hash_are_refused(self, data: bytes, version: int) -> None:
        other = bytearray(data)
        other[4] = version
        other[-20:] = SHA1.new(bytes(other[:-20])).digest()
        with pytest.raises(BadSegment, match="version"):
            parse_segment(bytes(other), SHA1)
        with pytest.raises(BadSegment):
            parse_segment(data, SHA256)
