import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import LimitExceeded, ObjectMissing
from govc.graph.closure import Closure, ClosureRequest, find_closure
from govc.graph.commits import CommitTable, History
from govc.graph.filter import NO_BLOBS, ObjectSelection
from govc.graph.interface import drain
from govc.graph.sparse import parse_sparse_patterns
from govc.objects.types import BLOB, COMMIT, TREE
from govc.protocol.oid import SHA256

from .builder import RepositoryBuilder


def closure_of(repo: RepositoryBuilder, history: History | None = None, **request: Any) -> Closure:
    history = history or History(CommitTable(repo))
    return drain(find_closure(history, ClosureRequest(**request)))


def names(repo: RepositoryBuilder, closure: Closure) -> set[bytes]:
    found = repo.names(closure.numbers)
    assert len(found) == len(set(found))
    counts = (closure.commit_count, closure.tag_count, closure.tree_count, closure.blob_count)
    assert len(found) == sum(counts)
    return set(found)


def random_repository(seed: int, *, skewed: bool = False, size: int = 12) -> tuple[RepositoryBuilder, list[bytes]]:
    """Few names and contents, so that renames, reverts and equal subtrees are frequent."""
    rng = random.Random(seed)
    repo = RepositoryBuilder()

    def tree(depth: int) -> dict[bytes, Any]:
        entries: dict[bytes, Any] = {}
        for name in rng.sample([b"a", b"b", b"c", b"d"], rng.randint(1, 4)):
            if depth and rng.random() < 0.5:
                entries[name] = tree(depth - 1)
            else:
                entries[name] = b"%d" % rng.randint(0, 6)
        return entries

    def changed(entries: dict[bytes, Any]) -> dict[bytes, Any]:
        entries = dict(entries)
        name = rng.choice(sorted(entries))
        if isinstance(entries[name], dict) and rng.random() < 0.7:
            entries[name] = changed(entries[name])
        elif rng.random() < 0.3:
            entries[rng.choice([b"a", b"b", b"e"])] = entries.pop(name)
        else:
            entries[name] = tree(1) if rng.random() < 0.3 else b"%d" % rng.randint(0, 99)
        return entries

    commits: list[bytes] = []
    trees: list[dict[bytes, Any]] = []
    for _ in range(size):
        parents = rng.sample(range(len(commits)), min(len(commits), rng.choice([0, 1, 1, 1, 1, 2, 3])))
        own = changed(trees[parents[0]]) if parents else tree(3)
        time = rng.randint(1, 1000) if skewed else None
        commits.append(repo.commit(own, [commits[p] for p in parents], time=time, text=str(len(commits))))
        trees.append(own)
    return repo, commits


seeds = st.integers(0, 1 << 30)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(seeds, st.booleans())
def test_closure_without_haves_is_everything_reachable(seed: int, skewed: bool) -> None:
    repo, commits = random_repository(seed, skewed=skewed)
    wants = random.Random(seed).sample(commits, 2)
    assert repo.reachable(wants) == names(repo, closure_of(repo, wants=tuple(wants)))


@settings(max_examples=200, derandomize=True, deadline=None)
@given(seeds, st.booleans(), st.booleans())
def test_closure_never_omits_what_the_client_lacks(seed: int, skewed: bool, shallow: bool) -> None:
    repo, commits = random_repository(seed, skewed=skewed)
    rng = random.Random(seed)
    wants, haves = rng.sample(commits, 2), rng.sample(commits, rng.randint(1, 3))
    cut = frozenset(rng.sample(commits, 3)) if shallow else frozenset()
    boundary = frozenset(rng.sample(commits, 1)) if shallow else frozenset()
    got = closure_of(repo, wants=tuple(wants), haves=tuple(haves), client_shallow=cut, boundary=boundary)
    sent = names(repo, got)
    wanted = repo.reachable(wants, cut | boundary)
    at_client = repo.reachable(haves, cut)
    assert wanted - at_client <= sent
    assert sent <= wanted
    assert set(repo.names(got.client_has)) <= at_client
    assert not set(got.client_has) & set(got.numbers)
    if not skewed:
        kept_commits = {n for n in repo.reachable(haves, cut | boundary) if repo.type_of(repo.find(n)) == COMMIT}
        assert {n for n in sent if repo.type_of(repo.find(n)) == COMMIT} == {
            n for n in wanted if repo.type_of(repo.find(n)) == COMMIT
        } - kept_commits


@settings(max_examples=100, derandomize=True, deadline=None)
@given(seeds, st.integers(0, 4))
def test_tree_depth_filter_sends_what_lies_above_the_depth(seed: int, depth: int) -> None:
    repo, commits = random_repository(seed)
    got = closure_of(repo, wants=(commits[-1],), selection=ObjectSelection(tree_depth=depth))
    expected = set()
    for commit in repo.reachable([commits[-1]]):
        if repo.type_of(repo.find(commit)) == COMMIT:
            expected.add(commit)
            level = {repo.links(commit)[0]}
            for _ in range(depth):
                expected |= level
                level = {
                    child
                    for oid in level
                    for child in (repo.links(oid) if repo.type_of(repo.find(oid)) == TREE else ())
                }
    assert expected == names(repo, got)


@pytest.mark.parametrize(
    "selection",
    [
        ObjectSelection(tree_depth=1),
        ObjectSelection(tree_depth=2),
        ObjectSelection(tree_depth=4),
        ObjectSelection(sparse=(parse_sparse_patterns(b"*\n"),)),
    ],
)
def test_what_a_tree_brought_is_sent_where_that_tree_comes_back_later(selection: ObjectSelection) -> None:
    """The tree is compared with its parent's once: with what it was when it came, not with what came in between."""
    repo = RepositoryBuilder()
    brought: dict[bytes, Any] = {b"dir": {b"new": b"1", b"other": b"2"}, b"top": b"3"}
    between: dict[bytes, Any] = {b"dir": {b"new": b"1", b"other": b"4"}, b"top": b"5"}
    commits = [repo.commit({b"dir": {b"old": b"0"}})]
    for tree in (brought, between, brought):
        commits.append(repo.commit(tree, [commits[-1]]))
    got = names(repo, closure_of(repo, wants=(commits[-1],), selection=selection))
    depth = selection.tree_depth if selection.tree_depth is not None else 99
    roots = {repo.links(commit)[0] for commit in commits}
    below = {child for root in roots for child in repo.links(root)}
    blobs = {child for tree in below if repo.type_of(repo.find(tree)) == TREE for child in repo.links(tree)}
    assert got == set(commits) | roots | (below if depth > 1 else set()) | (blobs if depth > 2 else set())


def simple() -> tuple[RepositoryBuilder, list[bytes]]:
    repo = RepositoryBuilder()
    first = repo.commit({b"keep": {b"x": b"1", b"y": b"2"}, b"f": b"one"})
    second = repo.commit({b"keep": {b"x": b"1", b"y": b"2"}, b"f": b"two"}, [first])
    third = repo.commit({b"moved": {b"x": b"1", b"y": b"2"}, b"f": b"two"}, [second])
    return repo, [first, second, third]


def test_a_renamed_directory_is_not_sent_again() -> None:
    repo, (first, _second, third) = simple()
    got = closure_of(repo, wants=(third,), haves=(first,))
    assert (2, 2, 1) == (got.commit_count, got.tree_count, got.blob_count)
    assert repo.find(repo.blob(b"one")) in got.client_has


def test_commits_come_first_and_newest_first() -> None:
    repo, (first, second, third) = simple()
    got = closure_of(repo, wants=(third,))
    assert [third, second, first] == repo.names(got.numbers)[:3]


def test_a_want_that_is_had_sends_nothing() -> None:
    repo, (first, _second, third) = simple()
    assert [] == list(closure_of(repo, wants=(first,), haves=(third,)).numbers)


def test_blob_none_leaves_blobs_out_except_those_wanted_by_name() -> None:
    repo, (_first, _second, third) = simple()
    one = repo.blob(b"one")
    got = closure_of(repo, wants=(third, one), selection=NO_BLOBS)
    assert {one} == {n for n in names(repo, got) if repo.type_of(repo.find(n)) == BLOB}
    assert frozenset() == got.client_has


def test_blob_limit_leaves_blobs_of_that_size_out() -> None:
    repo = RepositoryBuilder()
    commit = repo.commit({b"small": b"123", b"big": b"1234"})
    sent = names(repo, closure_of(repo, wants=(commit,), selection=ObjectSelection(blob_limit=4)))
    assert repo.blob(b"123") in sent
    assert repo.blob(b"1234") not in sent


def test_tree_zero_sends_a_wanted_tree_and_nothing_below() -> None:
    repo, (_first, _second, third) = simple()
    root = repo.links(third)[0]
    got = closure_of(repo, wants=(root,), selection=ObjectSelection(tree_depth=0))
    assert [root] == repo.names(got.numbers)


def test_type_filter_keeps_wanted_commits() -> None:
    repo, (_first, _second, third) = simple()
    got = closure_of(repo, wants=(third,), selection=ObjectSelection(types=frozenset({BLOB})))
    assert {third, repo.blob(b"1"), repo.blob(b"2"), repo.blob(b"one"), repo.blob(b"two")} == names(repo, got)


def test_sparse_filter_sends_chosen_blobs_and_all_trees() -> None:
    repo, (_first, _second, third) = simple()
    selection = ObjectSelection(sparse=(parse_sparse_patterns(b"/moved/\n!x\n"),))
    got = closure_of(repo, wants=(third,), selection=selection)
    assert {repo.blob(b"2")} == {n for n in names(repo, got) if repo.type_of(repo.find(n)) == BLOB}
    assert got.tree_count == sum(repo.type_of(repo.find(n)) == TREE for n in repo.reachable([third]))


def test_tags_ride_along_when_their_target_is_sent() -> None:
    repo, (first, _second, third) = simple()
    inner = repo.tag(third)
    outer = repo.tag(inner, "v2")
    old = repo.tag(first, "v0")
    got = closure_of(repo, wants=(third,), haves=(first,), include_tags={outer: third, old: first})
    assert {inner, outer} == set(repo.names(got.numbers)[got.commit_count :][: got.tag_count])


def test_a_tag_chain_is_sent_whole_and_a_had_tag_is_not() -> None:
    repo, (_first, _second, third) = simple()
    tag = third
    for _ in range(2000):
        tag = repo.tag(tag)
    assert 2000 == closure_of(repo, wants=(tag,)).tag_count
    assert 0 == len(closure_of(repo, wants=(tag,), haves=(tag,)).numbers)


def test_gitlinks_are_not_followed() -> None:
    repo = RepositoryBuilder()
    tree = repo.raw_tree([(b"160000", b"sub", b"\x01" * 20)])
    assert 2 == len(closure_of(repo, wants=(repo.commit(tree),)).numbers)


def test_trees_nested_too_deep_are_refused() -> None:
    repo = RepositoryBuilder()
    tree = repo.raw_tree([(b"100644", b"f", repo.blob(b"x"))])
    for _ in range(2048):
        tree = repo.raw_tree([(b"40000", b"d", tree)])
    commit = repo.commit(tree)
    assert 2049 == closure_of(repo, wants=(commit,)).tree_count
    deeper = repo.commit(repo.raw_tree([(b"40000", b"d", tree)]))
    with pytest.raises(LimitExceeded):
        closure_of(repo, wants=(deeper,))


def test_missing_objects_raise_unless_they_are_promised() -> None:
    repo, (_first, _second, third) = simple()
    gone = repo.blob(b"one")
    repo.forget(gone)
    with pytest.raises(ObjectMissing):
        closure_of(repo, wants=(third,))
    history = History(CommitTable(repo), may_be_missing=lambda oid: oid == gone)
    assert gone not in names(repo, closure_of(repo, history, wants=(third,)))


def test_a_server_that_is_shallow_is_not_walked_past() -> None:
    repo, (first, second, third) = simple()
    repo.forget(first)
    history = History(CommitTable(repo), shallow=[repo.find(second)])
    assert 2 == closure_of(repo, history, wants=(third,)).commit_count


def test_sha256_repositories_work() -> None:
    repo = RepositoryBuilder(SHA256)
    first = repo.commit({b"a": {b"b": b"1"}})
    second = repo.commit({b"a": {b"b": b"2"}}, [first])
    assert repo.reachable([second]) == names(repo, closure_of(repo, wants=(second,)))
    assert 4 == len(closure_of(repo, wants=(second,), haves=(first,)).numbers)


def test_a_long_linear_history_is_walked_without_recursion() -> None:
    repo = RepositoryBuilder()
    tree = repo.tree({b"a": b"1"})
    parents: Iterable[bytes] = ()
    for _ in range(50_000):
        tip = repo.commit(tree, parents)
        parents = (tip,)
    history = History(CommitTable(repo))
    assert 50_000 == closure_of(repo, history, wants=(tip,)).commit_count


def test_haves_of_trees_and_blobs_are_taken_into_account() -> None:
    repo, (first, _second, _third) = simple()
    got = closure_of(repo, wants=(first,), haves=(repo.tree({b"x": b"1", b"y": b"2"}), repo.blob(b"one")))
    assert [COMMIT, TREE] == [repo.type_of(number) for number in got.numbers]
