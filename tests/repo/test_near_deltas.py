"""Deltas that are made while an answer is written."""

import random
import zlib
from array import array
from pathlib import Path

import pytest

from govc.graph.introduce import introduce
from govc.graph.segment import iter_encoded, parse_segment
from govc.graph.view import View
from govc.kernels.packcopy import ForwardDelta
from govc.odb.store import ObjectStore
from govc.pack.copying import CopiedPack
from govc.pack.delta import apply_delta
from govc.repo import near_deltas
from govc.repo.near_deltas import ENTRY_BYTES, MadeDeltas, NearDeltas
from tests.graph.builder import RepositoryBuilder
from tests.graph.packed import write_packs
from tests.graph.test_closure import random_repository
from tests.kernels.both import needs_compiled
from tests.kernels.test_packcopy import bytes_of, unpack
from tests.kernels.test_sweep import segments_of


def version(number: int) -> bytes:
    return random.Random(1).randbytes(4000) + b"version %d" % number


@needs_compiled
def test_what_would_be_expanded_stands_on_a_version_that_the_client_has(tmp_path: Path) -> None:
    repo = RepositoryBuilder()
    commits: list[bytes] = []
    for number in range(4):
        commits.append(repo.commit({b"a": version(number)}, commits[-1:]))
    view = View(repo.algo)
    view = view.extended(
        parse_segment(b"".join(iter_encoded(introduce(repo, commits[-1:], view.knows), repo.algo)), repo.algo)
    )
    write_packs(repo, tmp_path / "store", [range(len(repo.objects))])
    store = ObjectStore.open(str(tmp_path / "store"), repo.algo)
    table, reader = store.pack_table(), store.pack_reader()
    assert table is not None
    assert reader is not None
    haves = array("I", [view.sweep.cid_of(commits[1])])
    painting = view.sweep.paint(array("I", [view.sweep.cid_of(commits[3])]), haves, array("I"))
    near = NearDeltas(view, table, reader, painting)
    newest, older = (repo.blob_oid(version(number)) for number in (3, 2))
    # The newest one comes first, and stands on what the client has; the older one on that, or on the newest.
    for oid, bases in ((newest, [version(1)]), (older, [version(1), version(3)])):
        found = near(table.find(oid))
        assert found is not None
        base = repo.read(repo.find(found.base_oid))[1]
        assert base in bases
        delta = zlib.decompress(found.stream)
        assert found.size == len(delta)
        assert repo.read(repo.find(oid))[1] == apply_delta(base, delta, result_bytes_max=1 << 20)
    first = repo.blob_oid(version(0))
    assert NearDeltas(view, table, reader, painting)(table.find(first)) is None


@pytest.mark.parametrize("count", [1, 3])
def test_earlier_versions_are_the_same_by_rank_and_by_name(count: int) -> None:
    repo, commits = random_repository(4, size=30)
    view = View(repo.algo)
    for segment in segments_of(repo, commits, count, 4):
        view = view.extended(segment)
    steps = 0
    for vid in range(view.sweep.object_count):
        oid = view.before(view.sweep.object_oid(vid))
        assert view.vid_before(vid) == (-1 if oid is None else view.sweep.vid_of(oid))
        steps += oid is not None
        known = view.size_of(vid)
        if known >= 0:
            assert known == len(repo.read(repo.find(view.sweep.object_oid(vid)))[1])
        assert known >= 0 or count > 1
    assert steps > 5


@needs_compiled
def test_the_copier_asks_where_nobody_has_the_base(tmp_path: Path) -> None:
    repo = RepositoryBuilder()
    oids = [repo.blob(version(number)) for number in range(12)]
    write_packs(repo, tmp_path / "store", [range(12)], seed=3)
    store = ObjectStore.open(str(tmp_path / "store"), repo.algo)
    table, reader = store.pack_table(), store.pack_reader()
    assert table is not None
    assert reader is not None
    chosen = set(oids[6:])
    asked: list[int] = []

    def refuse(number: int) -> None:
        asked.append(number)

    numbers = array("q", sorted(map(table.find, chosen)))
    pack = bytes_of(CopiedPack(store, reader, numbers, array("q"), make_delta=refuse))
    assert chosen == unpack(pack, repo, tmp_path, "expanded")
    deltas_on_others = set()
    for number in numbers:
        entry = store.entry(number)
        if entry is not None and entry.base_number >= 0 and entry.base_number not in numbers:
            deltas_on_others.add(number)
    assert deltas_on_others
    assert deltas_on_others == set(asked)


@needs_compiled
def test_what_was_made_for_one_answer_serves_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = RepositoryBuilder()
    commits: list[bytes] = []
    for number in range(3):
        commits.append(repo.commit({b"a": version(number)}, commits[-1:]))
    made = introduce(repo, commits[-1:], View(repo.algo).knows)
    view = View(repo.algo).extended(parse_segment(b"".join(iter_encoded(made, repo.algo)), repo.algo))
    write_packs(repo, tmp_path / "store", [range(len(repo.objects))])
    store = ObjectStore.open(str(tmp_path / "store"), repo.algo)
    table, reader = store.pack_table(), store.pack_reader()
    assert table is not None
    assert reader is not None
    cids = array("I", [view.sweep.cid_of(commits[2])]), array("I", [view.sweep.cid_of(commits[0])]), array("I")
    painting, kept = view.sweep.paint(*cids), MadeDeltas()
    number = table.find(repo.blob_oid(version(2)))
    first = NearDeltas(view, table, reader, painting, kept, "a")(number)
    assert first is not None

    def refuse(*_: object) -> None:
        raise AssertionError("made twice")

    monkeypatch.setattr(near_deltas, "make_delta", refuse)
    assert NearDeltas(view, table, reader, painting, kept, "a")(number) == first
    with pytest.raises(AssertionError, match="made twice"):
        NearDeltas(view, table, reader, painting, kept, "another repository")(number)


@needs_compiled
def test_what_was_made_on_a_base_that_is_loose_by_now_is_none(tmp_path: Path) -> None:
    """A loose object may be among what is sent; by name only what isn't sent may be a base."""
    repo = RepositoryBuilder()
    commits: list[bytes] = []
    for number in range(3):
        commits.append(repo.commit({b"a": version(number)}, commits[-1:]))
    made = introduce(repo, commits[-1:], View(repo.algo).knows)
    view = View(repo.algo).extended(parse_segment(b"".join(iter_encoded(made, repo.algo)), repo.algo))
    cids = array("I", [view.sweep.cid_of(commits[2])]), array("I", [view.sweep.cid_of(commits[0])]), array("I")
    painting, kept = view.sweep.paint(*cids), MadeDeltas()
    target, base = repo.blob_oid(version(2)), repo.blob_oid(version(0))
    everything = range(len(repo.objects))
    found = []
    for name, chosen in (
        ("packed", everything),
        ("loose", [place for place in everything if place != repo.find(base)]),
        ("packed again", everything),
    ):
        write_packs(repo, tmp_path / name, [chosen], seed=len(name))
        store = ObjectStore.open(str(tmp_path / name), repo.algo)
        table, reader = store.pack_table(), store.pack_reader()
        assert table is not None
        assert reader is not None
        found.append(NearDeltas(view, table, reader, painting, kept, "a")(table.find(target)))
    packed, loose, again = found
    assert packed is not None
    assert packed.base_oid == base
    assert loose is None, "a name that may be sent as an object, too"
    assert again is packed


def test_what_was_made_is_bounded_and_the_oldest_goes_first() -> None:
    made = MadeDeltas(1000 * (ENTRY_BYTES + 100))
    for number in range(3000):
        made.put(("a", b"%d" % number, b"base"), ForwardDelta(b"base", 1, bytes(100)))
        made.put(("a", b"%d" % number, b"base"), ForwardDelta(b"base", 1, bytes(100)))  # counts once
    kept = [number for number in range(3000) if made.get(("a", b"%d" % number, b"base")) is not False]
    assert 900 <= len(kept) <= 1000
    assert kept == list(range(kept[0], 3000))
    made.put(("a", b"none", b"base"), None)
    assert made.get(("a", b"none", b"base")) is None
