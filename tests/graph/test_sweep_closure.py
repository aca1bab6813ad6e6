"""Closures by sweeps beside the walking closure and the plain truth."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.graph.closure import Closure, ClosureRequest, find_closure
from govc.graph.commits import CommitTable, History
from govc.graph.filter import ALL_TYPES, NO_BLOBS, ObjectSelection
from govc.graph.interface import drain
from govc.graph.introduce import introduce
from govc.graph.segment import iter_encoded, parse_segment
from govc.graph.sweep_closure import sweep_closure
from govc.graph.view import View
from govc.objects.types import BLOB, COMMIT, TAG, TREE

from ..kernels.both import needs_compiled
from .builder import RepositoryBuilder
from .packed import packed_store
from .test_closure import random_repository

seeds = st.integers(0, 1 << 30)
SELECTIONS = (
    NO_BLOBS,
    ObjectSelection(blob_limit=2),
    ObjectSelection(tree_depth=0),
    ObjectSelection(types=frozenset({TREE})),
    ObjectSelection(types=frozenset({COMMIT})),
    ObjectSelection(types=frozenset({TAG})),
    ObjectSelection(types=ALL_TYPES - {TREE}),
    ObjectSelection(blob_limit=0),
)


def view_of(repo: RepositoryBuilder, tips: list[bytes], seed: int) -> View:
    """A view in up to three segments."""
    rng = random.Random(seed)
    view = View(repo.algo)
    for step in range(rng.randint(0, 2), -1, -1):
        made = introduce(repo, rng.sample(tips, len(tips) // 2) if step else tips, view.knows)
        if made.times:
            view = view.extended(parse_segment(b"".join(iter_encoded(made, repo.algo)), repo.algo))
    return view


def sweep(repo: RepositoryBuilder, view: View, request: ClosureRequest) -> Closure:
    swept = drain(sweep_closure(History(CommitTable(repo)), view, request, repo))
    assert swept is not None
    found = swept.closure
    assert len(found.numbers) == len(set(found.numbers))
    counts = (found.commit_count, found.tag_count, found.tree_count, found.blob_count)
    assert len(found.numbers) == sum(counts)
    return found


@settings(max_examples=40, derandomize=True, deadline=None)
@given(seeds, st.booleans())
def test_without_cuts_the_closure_is_exact(seed: int, skewed: bool) -> None:
    repo, commits = random_repository(seed, skewed=skewed, size=16)
    rng = random.Random(seed)
    wants, haves = rng.sample(commits, 2), rng.sample(commits, rng.randint(0, 3))
    view = view_of(repo, commits, seed)
    got = sweep(repo, view, ClosureRequest(wants=tuple(wants), haves=tuple(haves)))
    at_client = repo.reachable(haves)
    assert repo.reachable(wants) - at_client == set(repo.names(got.numbers))
    has = {oid for number, (oid, _kind, _data) in enumerate(repo.objects) if number in got.client_has}
    assert has == at_client


@settings(max_examples=50, derandomize=True, deadline=None)
@given(seeds)
def test_with_cuts_nothing_is_omitted_that_the_client_lacks(seed: int) -> None:
    repo, commits = random_repository(seed, size=14)
    rng = random.Random(seed)
    wants, haves = rng.sample(commits, 2), rng.sample(commits, rng.randint(0, 3))
    cut = frozenset(rng.sample(commits, rng.randint(0, 3)))
    boundary = frozenset(rng.sample(commits, rng.randint(0, 2)))
    request = ClosureRequest(wants=tuple(wants), haves=tuple(haves), client_shallow=cut, boundary=boundary)
    got = sweep(repo, view_of(repo, commits, seed), request)
    sent = set(repo.names(got.numbers))
    wanted, at_client = repo.reachable(wants, cut | boundary), repo.reachable(haves, cut)
    assert wanted - at_client <= sent
    assert sent <= wanted
    for number, (oid, _kind, _data) in enumerate(repo.objects):
        if number in got.client_has:
            assert oid in at_client
            assert oid not in sent
    walked = drain(find_closure(History(CommitTable(repo)), request))
    kinds = {number: repo.type_of(number) for number in got.numbers}
    commits_sent = {number for number, kind in kinds.items() if kind == COMMIT}
    assert commits_sent == {number for number in walked.numbers if repo.type_of(number) == COMMIT}


@settings(max_examples=50, derandomize=True, deadline=None)
@given(seeds, st.sampled_from(SELECTIONS))
def test_filters_leave_out_what_the_walking_closure_leaves_out(seed: int, selection: ObjectSelection) -> None:
    repo, commits = random_repository(seed, size=12)
    rng = random.Random(seed)
    wants: list[bytes] = rng.sample(commits, 2)
    wants.append(repo.tag(rng.choice(commits)))
    others = [oid for oid, kind, _data in repo.objects if kind in (TREE, BLOB)]
    wants += rng.sample(others, rng.randint(0, 2))
    haves = rng.sample(commits, rng.randint(0, 2))
    request = ClosureRequest(wants=tuple(wants), haves=tuple(haves), selection=selection)
    got = sweep(repo, view_of(repo, commits, seed), request)
    walked = drain(find_closure(History(CommitTable(repo)), request))
    sent, expected = set(repo.names(got.numbers)), set(repo.names(walked.numbers))
    # The walking one may send what the client has, never the other way round.
    assert expected - repo.reachable(haves) <= sent | set(wants) & repo.reachable(haves)
    assert sent <= expected
    assert not list(filter(got.client_has.__contains__, range(len(repo.objects))))


@settings(max_examples=20, derandomize=True, deadline=None)
@given(seeds)
def test_tags_ride_along_with_what_they_name(seed: int) -> None:
    repo, commits = random_repository(seed, size=10)
    rng = random.Random(seed)
    targets = [*rng.sample(commits, 4), *rng.sample([o for o, k, _ in repo.objects if k in (TREE, BLOB)], 3)]
    inner = {repo.tag(target, f"v{i}"): target for i, target in enumerate(targets)}
    outer = {repo.tag(tag, "outer"): target for tag, target in list(inner.items())[:2]}
    wants, haves = rng.sample(commits, 2), rng.sample(commits, rng.randint(0, 2))
    request = ClosureRequest(wants=tuple(wants), haves=tuple(haves), include_tags={**inner, **outer})
    got = set(repo.names(sweep(repo, view_of(repo, commits, seed), request).numbers))
    sent = repo.reachable(wants) - repo.reachable(haves)
    tags = {tag for tag, target in {**inner, **outer}.items() if target in sent}
    tags |= {tag for out in outer if out in tags for tag in repo.links(out)}
    assert sent | tags == got


def test_two_folders_that_changed_places_at_a_boundary() -> None:
    """What they share came with the commit that is cut; both must be expanded although the sweep found them."""
    repo = RepositoryBuilder()
    one = {b"same": b"s", b"x": b"1"}
    other = {b"same": b"s", b"x": b"2"}
    root = repo.commit({b"p": one, b"q": other})
    tip = repo.commit({b"p": other, b"q": one}, [root])
    request = ClosureRequest(wants=(tip,), boundary=frozenset({root}))
    for segments in (0, 1, 2):
        got = sweep(repo, view_of(repo, [root, tip], segments), request)
        assert repo.reachable([tip]) == set(repo.names(got.numbers))


def test_what_the_view_does_not_know_takes_the_other_way() -> None:
    repo, commits = random_repository(4, size=6)
    view = view_of(repo, commits, 4)
    unknown = repo.commit({b"new": b"1"}, [commits[0]])
    assert drain(sweep_closure(History(CommitTable(repo)), view, ClosureRequest(wants=(unknown,)), repo)) is None
    by_path = ObjectSelection(tree_depth=2)
    request = ClosureRequest(wants=(commits[0],), selection=by_path)
    assert drain(sweep_closure(History(CommitTable(repo)), view, request, repo)) is None


def test_a_tag_that_rides_along_is_read_once() -> None:
    repo = RepositoryBuilder()
    commit = repo.commit({b"f": b"1"})
    tag = repo.tag(commit)
    table, view = CommitTable(repo), view_of(repo, [commit, commit], 0)
    request = ClosureRequest(wants=(commit,), include_tags={tag: commit})
    reads = []
    for _ in range(2):
        swept = drain(sweep_closure(History(table), view, request, repo))
        assert swept is not None and repo.find(tag) in swept.closure.numbers
        reads.append(repo.reads)
    assert reads[0] == reads[1]


@settings(max_examples=20, derandomize=True, deadline=None)
@given(seeds)
def test_blobs_and_tags_that_are_wanted_by_name_are_sent_once(seed: int) -> None:
    repo, commits = random_repository(seed, size=10)
    rng = random.Random(seed)
    blobs = [oid for oid, kind, _ in repo.objects if kind == BLOB]
    tags = {repo.tag(target, f"v{i}"): target for i, target in enumerate([*commits[:3], rng.choice(blobs)])}
    wants = [*rng.sample(commits, 2), *rng.sample(blobs, rng.randint(0, min(6, len(blobs)))), *tags]
    request = ClosureRequest(wants=tuple(wants), include_tags=tags)
    got = sweep(repo, view_of(repo, commits, seed), request)
    assert set(repo.names(got.numbers)) == repo.reachable(wants)


@needs_compiled
@pytest.mark.parametrize("packs", [1, 3])
@pytest.mark.parametrize("seed", range(10))
def test_wants_of_all_kinds_are_peeled_from_packs(tmp_path: Path, seed: int, packs: int) -> None:
    """Commits, tags on them and on tags, trees and blobs: some known to the view, some not, some in two packs."""
    repo, commits = random_repository(seed, size=10)
    rng = random.Random(seed)
    view = view_of(repo, commits, seed)
    others = [oid for oid, kind, _ in repo.objects if kind in (TREE, BLOB)]
    targets = [*rng.sample(commits, 3), *rng.sample(others, 3)]
    tags = {repo.tag(target, f"v{i}"): target for i, target in enumerate(targets)}
    tags |= {repo.tag(tag, "outer"): target for tag, target in list(tags.items())[::2]}
    lone = [repo.blob(b"nobody introduces it"), repo.tag(commits[0], "not among the refs")]
    wants = [*commits[-2:], *rng.sample(others, 4), *tags, *lone]
    rng.shuffle(wants)
    store = packed_store(repo, tmp_path, packs=packs, seed=seed)
    table = store.pack_table()
    assert table is not None
    request = ClosureRequest(wants=tuple(wants), include_tags=tags)
    swept = drain(sweep_closure(History(CommitTable(store)), view, request, table))
    assert swept is not None
    assert sorted(map(store.oid_of, swept.closure.numbers)) == sorted(repo.reachable(wants))
