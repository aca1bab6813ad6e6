import itertools
import os
import shutil
from array import array
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.odb.modes import FileModes
from govc.odb.packs import PackFile
from govc.odb.repack import (
    CHAIN_MAX,
    _CopyChoice,
    _find_split,
    choose_packs_to_merge,
    merge_packs,
    remove_merged_packs,
)
from govc.odb.store import ObjectStore
from govc.pack.writer import write_pack
from govc.protocol.oid import SHA1


@pytest.fixture
def pushed(make_repository, git, tmp_path):
    """A repository as pushes leave it: a pack each, thin ones completed, so with second copies of bases."""
    source = make_repository("source.git", commits=60)
    git(tmp_path, "init", "-q", "--bare", "r.git")
    path = tmp_path / "r.git"
    commits = git(source, "rev-list", "--reverse", "main").decode().split()
    previous = ""
    for tip in commits[9::10]:
        revisions = f"{tip}\n{previous}".encode()
        data = git(source, "pack-objects", "--revs", "--thin", "--stdout", "-q", "--delta-base-offset", stdin=revisions)
        git(path, "index-pack", "--stdin", "--fix-thin", stdin=data)
        git(path, "update-ref", "refs/heads/main", tip)
        previous = f"^{tip}\n"
    return path


def open_store(path) -> ObjectStore:
    return ObjectStore.open(str(path / "objects"), SHA1)


def test_merged_pack_has_each_object_once_and_the_old_ones_can_go(pushed, git, cat_all):
    expected = cat_all(pushed)
    store = open_store(pushed)
    old = store.packs
    assert len(old) == 6
    assert sum(pack.count for pack in old) > len(expected)
    size_before = sum(pack.size for pack in old)
    ticks = []
    merged_path = merge_packs(store, old, str(pushed / "objects"), FileModes(), tick=lambda: ticks.append(1))
    assert ticks
    merged = PackFile.open(merged_path, SHA1)
    assert sorted(expected) == list(merged.index.iter_oids())
    assert merged.size <= size_before
    assert {pack.path for pack in old} == set(remove_merged_packs(old, merged_path, SHA1))
    stem = os.path.basename(merged_path).removesuffix(".pack")
    assert {f"{stem}{suffix}" for suffix in (".idx", ".pack", ".rev")} == set(os.listdir(pushed / "objects/pack"))
    git(pushed, "fsck", "--full", "--strict")
    git(pushed, "verify-pack", merged_path.replace(".pack", ".idx"))
    assert expected == cat_all(pushed)
    assert {oid: content for oid, (_, content) in expected.items()} == {oid: store.read_oid(oid)[1] for oid in expected}
    assert store.refresh()
    assert store.vanished


def test_objects_found_by_some_name_at_every_moment(pushed, cat_all, monkeypatch):
    """After each single removal every object is in a pack that a new reader would open."""
    expected = cat_all(pushed)
    store = open_store(pushed)
    merged_path = merge_packs(store, store.packs, str(pushed / "objects"), FileModes())
    true_unlink = os.unlink
    removed = []

    def unlink(path):
        true_unlink(path)
        removed.append(str(path))
        reader = open_store(pushed)
        assert all(reader.contains(oid, rescan=False) for oid in list(expected)[::7])

    monkeypatch.setattr("govc.odb.repack.os.unlink", unlink)
    remove_merged_packs(store.packs, merged_path, SHA1)
    for pack in store.packs:
        stem = pack.path.removesuffix(".pack")
        assert f"{stem}.idx" == next(path for path in removed if path.startswith(stem))


@pytest.mark.parametrize("suffix", [".keep", ".promisor", ".mtimes"])
def test_protected_packs_are_neither_chosen_nor_removed(suffix, pushed):
    store = open_store(pushed)
    merged_path = merge_packs(store, store.packs, str(pushed / "objects"), FileModes())
    protected = store.packs[2].path.replace(".pack", suffix)
    with open(protected, "w"):
        pass
    gone = remove_merged_packs(store.packs, merged_path, SHA1)
    assert store.packs[2].path not in gone
    assert 5 == len(gone)
    store = open_store(pushed)
    chosen = choose_packs_to_merge(store.packs, str(pushed / "objects"))
    assert protected.replace(suffix, ".pack") not in [pack.path for pack in chosen]


def test_precious_objects_forbid_removal(pushed):
    store = open_store(pushed)
    merged_path = merge_packs(store, store.packs, str(pushed / "objects"), FileModes())
    assert [] == remove_merged_packs(store.packs, merged_path, SHA1, precious_objects=True)
    assert 7 == len(open_store(pushed).packs)


def test_pack_with_an_object_that_was_not_merged_stays(pushed, caplog):
    store = open_store(pushed)
    merged_path = merge_packs(store, store.packs[1:], str(pushed / "objects"), FileModes())
    assert store.packs[0].path not in remove_merged_packs(store.packs, merged_path, SHA1)
    assert "not in the merged pack" in caplog.text


def test_pack_replaced_by_another_file_stays(pushed):
    store = open_store(pushed)
    merged_path = merge_packs(store, store.packs, str(pushed / "objects"), FileModes())
    replaced = store.packs[3].path
    shutil.copy(replaced, f"{replaced}.new")
    os.rename(f"{replaced}.new", replaced)
    assert replaced not in remove_merged_packs(store.packs, merged_path, SHA1)


def test_no_pack_goes_when_git_has_removed_the_merged_one_meanwhile(pushed, git, cat_all):
    expected = cat_all(pushed)
    store = open_store(pushed)
    merged_path = merge_packs(store, store.packs, str(pushed / "objects"), FileModes())
    git(pushed, "repack", "-adfq", "--depth=3")
    assert not os.path.exists(merged_path)
    assert [] == remove_merged_packs(store.packs, merged_path, SHA1)
    assert expected == cat_all(pushed)


def test_multi_pack_index_that_names_a_removed_pack_goes_first(pushed, git, cat_all):
    git(pushed, "multi-pack-index", "write")
    expected = cat_all(pushed)
    store = open_store(pushed)
    merged_path = merge_packs(store, store.packs, str(pushed / "objects"), FileModes())
    remove_merged_packs(store.packs, merged_path, SHA1)
    assert not (pushed / "objects/pack/multi-pack-index").exists()
    assert expected == cat_all(pushed)


def test_giving_up_at_any_tick_leaves_nothing(pushed):
    class Enough(Exception):
        pass

    before = sorted(os.listdir(pushed / "objects/pack"))
    store = open_store(pushed)
    total = []
    merge_packs(store, store.packs, str(pushed / "objects"), FileModes(), tick=lambda: total.append(1))
    for name in set(os.listdir(pushed / "objects/pack")) - set(before):
        os.unlink(pushed / "objects/pack" / name)
    for last in range(0, len(total), max(1, len(total) // 10)):
        left = [last]

        def tick(left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Enough

        with pytest.raises(Enough):
            merge_packs(store, store.packs, str(pushed / "objects"), FileModes(), tick=tick)
        assert before == sorted(os.listdir(pushed / "objects/pack"))


def test_merging_one_pack_again_gives_the_same_objects(make_repository, git, cat_all):
    path = make_repository(commits=30)
    git(path, "-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq", "--depth=200")
    expected = cat_all(path)
    store = open_store(path)
    merged = PackFile.open(merge_packs(store, store.packs, str(path / "objects"), FileModes()), SHA1)
    assert sorted(expected) == list(merged.index.iter_oids())


def test_copies_that_are_deltas_of_each_other_do_not_become_a_cycle(make_repository, git, tmp_path, cat_all):
    source = make_repository("source.git", commits=40)
    store = open_store(source)
    git(tmp_path, "init", "-q", "--bare", "r.git")
    for options in (["--window=10"], ["--window=60", "--depth=3"], ["--window=60", "--depth=200"]):
        git(source, "repack", "-adfq", *options)
        [pack] = (source / "objects/pack").glob("*.pack")
        git(tmp_path / "r.git", "index-pack", "--stdin", stdin=pack.read_bytes())
    store = open_store(source)
    # The same objects again, whole.
    for number in range(0, store.packs[0].count, 5):
        data = b"".join(write_pack(store, array("Q", [number]), ofs_delta=True))
        git(tmp_path / "r.git", "index-pack", "--stdin", stdin=data)
    both = open_store(tmp_path / "r.git")
    assert len(both.packs) > 3
    for packs in (both.packs, both.packs[::-1]):
        merged_path = merge_packs(both, packs, str(tmp_path / "r.git/objects"), FileModes())
        git(tmp_path / "r.git", "verify-pack", merged_path.replace(".pack", ".idx"))
    assert cat_all(source) == cat_all(tmp_path / "r.git")


@settings(max_examples=200)
@given(st.lists(st.integers(1, 10_000), max_size=30).map(sorted), st.integers(2, 4))
def test_what_remains_is_a_geometric_progression(counts, factor):
    split = _find_split(counts, factor)
    after = sorted([sum(counts[:split]), *counts[split:]]) if split > 1 else counts
    assert all(larger >= factor * smaller for smaller, larger in itertools.pairwise(after))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([], 0), ([5], 0), ([1, 2, 4], 0), ([1, 1], 2), ([1, 1, 100], 2), ([1, 1, 3], 3), ([10, 11, 1000, 1001], 4)],
)
def test_smallest_share_is_merged_that_makes_a_progression(counts, expected):
    assert expected == _find_split(counts, 2)


def test_packs_of_alternates_are_not_chosen(pushed, git, tmp_path):
    git(tmp_path, "clone", "-q", "--bare", "--shared", str(pushed), "fork.git")
    store = open_store(tmp_path / "fork.git")
    assert len(store.packs) == 6
    assert () == choose_packs_to_merge(store.packs, str(tmp_path / "fork.git/objects"))
    assert len(choose_packs_to_merge(open_store(pushed).packs, str(pushed / "objects"))) > 1


def entry_of(base, length=40):
    """What the choice looks at: a delta on `base`, or (-1) a whole entry."""
    return SimpleNamespace(base_number=base, offset=100, end=100 + length)


def chain_lengths(entries, copies, chosen):
    """How many deltas each object stands on; a circle is an assertion."""
    lengths = {}
    for number in entries.keys() - {copy for each in copies.values() for copy in each[1:]}:
        at, seen = number, []
        while (base := entries[chosen.get(at, at)].base_number) >= 0:
            assert at not in seen
            seen.append(at)
            at = base
        lengths[number] = len(seen)
    return lengths


def test_deltas_stay_rather_than_the_whole_copies_that_completed_the_next_push(pushed, git):
    """Every base that a thin pack was completed with lies in the push before as a delta."""
    store = open_store(pushed)
    kinds = {}
    for pack in store.packs:
        for position, oid in enumerate(pack.index.iter_oids()):
            kinds.setdefault(oid, set()).add(store.entry(pack.first_number + position).base_number >= 0)
    twice = {oid for oid, kind in kinds.items() if kind == {True, False}}
    assert twice
    merged_path = merge_packs(store, store.packs, str(pushed / "objects"), FileModes())
    listed = git(pushed, "verify-pack", "-v", merged_path.replace(".pack", ".idx")).decode().splitlines()
    deltas = {bytes.fromhex(line.split()[0]) for line in listed if len(line.split()) == 7}
    assert twice <= deltas
    size = os.path.getsize(merged_path)
    git(pushed, "repack", "-adq")
    assert size <= 1.1 * sum(pack.size for pack in open_store(pushed).packs)


def test_chains_end_where_a_whole_copy_is():
    """Object 10n has a delta on the one before and, as copy 10n + 1, a whole entry."""
    count = 4 * CHAIN_MAX
    entries = {10 * n: entry_of(10 * n - 10 if n else -1) for n in range(count)}
    entries |= {10 * n + 1: entry_of(-1, 400) for n in range(count)}
    copies = {10 * n: [10 * n, 10 * n + 1] for n in reversed(range(count))}
    chosen = _CopyChoice(entries.get, copies).choose(lambda: None)
    lengths = chain_lengths(entries, copies, chosen)
    assert CHAIN_MAX == max(lengths.values())
    assert count // (CHAIN_MAX + 1) + 1 == sum(not length for length in lengths.values())


def test_smaller_of_two_deltas_is_chosen():
    entries = {1: entry_of(-1), 2: entry_of(1, 90), 3: entry_of(1, 30), 4: entry_of(-1, 10)}
    assert {2: 3} == _CopyChoice(entries.get, {2: [2, 3, 4]}).choose(lambda: None)


@given(st.data())
def test_no_circle_is_left_where_each_has_a_whole_copy(data):
    count = data.draw(st.integers(1, 12))
    numbers = range(0, 100 * count, 100)
    entries, copies = {}, {}
    for number in numbers:
        bases = data.draw(st.lists(st.sampled_from([-1, *numbers]), max_size=3))
        kinds = data.draw(st.permutations([-1, *(base for base in bases if base != number)]))
        entries |= {number + rank: entry_of(base, 10 + rank) for rank, base in enumerate(kinds)}
        if len(kinds) > 1:
            copies[number] = [number + rank for rank in range(len(kinds))]
    chain_lengths(entries, copies, _CopyChoice(entries.get, copies).choose(lambda: None))


def test_deltas_on_each_other_without_a_whole_copy_are_left_to_the_writer():
    entries = {1: entry_of(2), 2: entry_of(1), 3: entry_of(1)}
    assert {} == _CopyChoice(entries.get, {1: [1], 2: [2], 3: [3]}).choose(lambda: None)
