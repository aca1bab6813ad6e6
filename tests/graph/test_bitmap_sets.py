"""Bitmaps of random histories: each set is what the commit reaches, read back from the file's bytes."""

import random
from array import array
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.graph import bitmap_sets
from govc.graph.bitmap_encoding import encode_bitmap_file
from govc.graph.bitmap_file import BitmapFile
from govc.graph.bitmap_order import BitOrder
from govc.graph.bitmap_selection import DENSE_COUNT, EACH_COUNT, TIPS_MAX, WINDOW_MAX, select_commits
from govc.graph.bitmap_sets import BitmapMaker, Bitmaps
from govc.graph.introduce import introduce
from govc.graph.segment import iter_encoded, parse_segment
from govc.graph.view import View
from govc.kernels import order as order_kernel
from tests.kernels.both import variants

from .builder import RepositoryBuilder
from .test_closure import random_repository
from .test_sweep_closure import view_of

CHECKSUM = b"\x07" * 20


@pytest.fixture(params=variants("order"), autouse=True)
def both_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("govc.graph.bitmap_order.match_oids", request.param.match_oids)
    monkeypatch.setattr("govc.graph.bitmap_order.invert", request.param.invert)
    assert order_kernel.match_oids is not None


def order_of(oids: Iterable[bytes], rng: random.Random) -> BitOrder:
    names = sorted(oids)
    bits = list(range(len(names)))
    rng.shuffle(bits)
    return BitOrder(b"".join(names), 20, array("I", bits), CHECKSUM)


def names_of(value: int, order: BitOrder) -> set[bytes]:
    assert value >> order.bit_count == 0
    places = [place for bit, place in enumerate(order.place_by_bit) if value >> bit & 1]
    return {bytes(order.oids[20 * place : 20 * place + 20]) for place in places}


def name_at(place: int, order: BitOrder) -> bytes:
    return bytes(order.oids[20 * place : 20 * place + 20])


def read_back(repo: RepositoryBuilder, made: Bitmaps, order: BitOrder, **options: Any) -> BitmapFile:
    data = b"".join(encode_bitmap_file(made, repo.algo, order.bit_count, CHECKSUM, **options))
    assert repo.algo.new(data[:-20]).digest() == data[-20:]
    file = BitmapFile(data, repo.algo, order.bit_count)
    assert file.index_checksum == CHECKSUM
    return file


def overlapping_view(repo: RepositoryBuilder, tips: list[bytes], rng: random.Random) -> View:
    """A view whose second segment has commits of the first one, too, as two processes may leave them."""
    view = View(repo.algo)
    for some in (rng.sample(tips, len(tips) // 2), tips):
        made = introduce(repo, some, lambda _oid: False)
        view = view.extended(parse_segment(b"".join(iter_encoded(made, repo.algo)), repo.algo))
    return view


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    seed=st.integers(0, 1 << 30), skewed=st.booleans(), overlaps=st.booleans(), lost_count=st.sampled_from([0, 0, 2])
)
def test_property_each_set_is_what_the_commit_reaches(seed: int, skewed: bool, overlaps: bool, lost_count: int) -> None:
    repo, commits = random_repository(seed, skewed=skewed, size=30)
    rng = random.Random(seed)
    tag = repo.tag(rng.choice(commits), "one")
    repo.tag(tag, "of a tag", type_number=4)
    repo.tag(repo.blob(b"key"), "of a blob", type_number=3)
    everything = {repo.oid_of(number) for number in range(len(repo.objects))}
    lost = set(rng.sample(sorted(repo.reachable(commits)), lost_count))
    order = order_of(everything - lost, rng)
    view = overlapping_view(repo, commits, rng) if overlaps else view_of(repo, commits, seed)
    chosen: list[int] = []

    def choose(newest_first: Any, tips: Any, **_options: Any) -> set[int]:
        chosen.extend(rng.sample(list(newest_first), rng.randint(1, len(newest_first))))
        return set(chosen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitmap_sets, "select_commits", choose)
        # So few are kept that most are decoded again, chain by chain.
        patch.setattr(bitmap_sets, "XOR_CANDIDATES", 2)
        patch.setattr(bitmap_sets, "SETS_BYTES_MAX", 0)
        made = BitmapMaker(view, order).make(commits, (), lambda place: repo.type_of(repo.find(name_at(place, order))))
    file = read_back(repo, made, order)
    found = {name_at(place, order): names_of(file.reachable(place), order) for place in file.places()}
    reached = {view.sweep.commit_oid(cid): repo.reachable([view.sweep.commit_oid(cid)]) for cid in chosen}
    assert found == {oid: names for oid, names in reached.items() if not names & lost}
    for type_number in (1, 2, 3, 4):
        of_type = {oid for oid in everything - lost if repo.type_of(repo.find(oid)) == type_number}
        assert names_of(file.types[type_number], order) == of_type


def test_a_lookup_table_leads_to_each_entry() -> None:
    repo, commits = random_repository(5, size=30)
    rng = random.Random(5)
    order = order_of(map(repo.oid_of, range(len(repo.objects))), rng)
    made = BitmapMaker(view_of(repo, commits, 1), order).make(commits, (), lambda _place: 4)
    hashes = array("I", range(order.bit_count))
    data = b"".join(
        encode_bitmap_file(made, repo.algo, order.bit_count, CHECKSUM, name_hashes=hashes, has_lookup_table=True)
    )
    assert data[6:8] == (0x1 | 0x4 | 0x10).to_bytes(2, "big")
    end = len(data) - 20 - 4 * order.bit_count
    assert data[end:-20] == b"".join(number.to_bytes(4, "big") for number in hashes)
    table = data[end - 16 * len(made.entries) : end]
    rows = [table[at : at + 16] for at in range(0, len(table), 16)]
    places = [int.from_bytes(row[:4], "big") for row in rows]
    assert places == sorted(places) == sorted(entry.place for entry in made.entries)
    by_place = {entry.place: number for number, entry in enumerate(made.entries)}
    based = 0
    for row, place in zip(rows, places, strict=True):
        entry = made.entries[by_place[place]]
        at = int.from_bytes(row[4:12], "big")
        expected = place.to_bytes(4, "big") + bytes([entry.xor_offset, 0]) + entry.words
        assert data[at : at + len(expected)] == expected
        base = int.from_bytes(row[12:], "big")
        if entry.xor_offset:
            based += 1
            assert places[base] == made.entries[by_place[place] - entry.xor_offset].place
        else:
            assert base == 0xFFFFFFFF
    assert based > 5


def test_what_is_chosen_is_dense_at_the_end_and_sparse_below() -> None:
    newest_first = range(100_000)
    chosen = sorted(select_commits(newest_first, [], preferred=(), merges=()))
    assert chosen[: EACH_COUNT + 1] == list(range(EACH_COUNT + 1))
    gaps = [second - first for first, second in pairwise(chosen)]
    dense = [gap for first, gap in zip(chosen, gaps, strict=False) if EACH_COUNT < first < DENSE_COUNT - EACH_COUNT]
    assert max(dense) == EACH_COUNT + 1
    assert max(gaps) == WINDOW_MAX + 1
    assert chosen[-1] > 100_000 - 2 * WINDOW_MAX
    assert len(chosen) < 400
    assert select_commits(range(99), [], preferred=(), merges=()) == set(range(99))


def test_a_window_prefers_what_was_asked_for_then_tips_then_merges() -> None:
    before, last = sorted(select_commits(range(5_000), [], preferred=(), merges=()))[-10:-8]
    first = before + 1

    def chosen_of_one_window(**liked: Any) -> int:
        options = {"tips": [], "preferred": (), "merges": ()} | liked
        (one,) = select_commits(range(5_000), options.pop("tips"), **options) & set(range(first, last + 1))
        return one

    assert chosen_of_one_window() == last
    assert chosen_of_one_window(merges={first + 3, first + 9}) == first + 9
    many = [-commit for commit in range(TIPS_MAX)]  # all places for tips are taken
    assert chosen_of_one_window(merges={first + 9}, tips=[*many, first + 5]) == first + 5
    assert chosen_of_one_window(preferred={first + 1, first + 2}, tips=[*many, first + 5]) == first + 1
    assert {7_000_000} <= select_commits(range(5_000), [7_000_000], preferred=(), merges=())
