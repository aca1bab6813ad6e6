import random
from pathlib import Path

import pytest

from govc.graph.closure import ClosureRequest, find_closure
from govc.graph.commits import CommitTable, History
from govc.graph.interface import Ticker, drain
from govc.graph.shallow import (
    INFINITE_DEPTH,
    NoCommitsSelected,
    ShallowUpdate,
    deepen,
    deepen_by_range,
    deepen_relative,
    server_boundary,
)

from .builder import RepositoryBuilder
from .oracle import GitOracle


def line(length: int) -> tuple[RepositoryBuilder, History, list[bytes]]:
    repo = RepositoryBuilder()
    commits: list[bytes] = []
    for i in range(length):
        commits.append(repo.commit({b"f": b"%d" % i}, commits[-1:]))
    return repo, History(CommitTable(repo)), commits


def random_history(seed: int, size: int = 14, skew: int = 0) -> tuple[RepositoryBuilder, list[bytes]]:
    rng = random.Random(seed)
    repo = RepositoryBuilder()
    commits: list[bytes] = []
    for i in range(size):
        recent = commits[-5:]
        parents = rng.sample(recent, min(len(recent), rng.choice([0, 1, 1, 1, 2, 2, 3]))) if commits else []
        commits.append(repo.commit({b"f": b"%d" % i}, parents, time=repo.tick() - rng.randint(0, skew)))
    return repo, commits


def as_sets(update: ShallowUpdate) -> tuple[set[bytes], set[bytes]]:
    assert len(set(update.shallow)) == len(update.shallow)
    return set(update.shallow), set(update.unshallow)


@pytest.mark.parametrize("seed", range(12))
def test_depth_lines_are_those_of_git(seed: int, tmp_path: Path) -> None:
    repo, commits = random_history(seed)
    rng = random.Random(seed)
    git = GitOracle(repo, tmp_path / "r.git", commits)
    history = History(CommitTable(repo))
    for depth in (1, 2, 3, 5, INFINITE_DEPTH):
        wants = rng.sample(commits, 2)
        client = rng.sample(commits, rng.randint(0, 3))
        expected = git.shallow_lines(wants, client, [b"deepen %d" % depth])
        assert expected == as_sets(drain(deepen(history, wants, depth, client)))


@pytest.mark.parametrize("seed", range(12))
def test_relative_lines_are_those_of_git(seed: int, tmp_path: Path) -> None:
    repo, commits = random_history(seed)
    rng = random.Random(seed)
    tips = rng.sample(commits, 2)
    git = GitOracle(repo, tmp_path / "r.git", tips)
    history = History(CommitTable(repo))
    for depth in (1, 2, 4):
        client = rng.sample(commits, rng.randint(1, 3))
        expected = git.shallow_lines(tips, client, [b"deepen %d" % depth], b" deepen-relative")
        assert expected == as_sets(drain(deepen_relative(history, tips, depth, client)))


@pytest.mark.parametrize("seed", range(16))
def test_range_lines_are_those_of_git(seed: int, tmp_path: Path) -> None:
    repo, commits = random_history(seed)
    rng = random.Random(seed)
    git = GitOracle(repo, tmp_path / "r.git", commits)
    history = History(CommitTable(repo))
    for _ in range(4):
        wants = rng.sample(commits, 2)
        client = rng.sample(commits, rng.randint(0, 3))
        since = repo.now - rng.randint(-1, len(commits)) if rng.random() < 0.6 else None
        excluded = rng.sample(range(len(commits)), 1) if since is None or rng.random() < 0.4 else []
        words = [] if since is None else [b"deepen-since %d" % since]
        words += [b"deepen-not refs/heads/b%d" % i for i in excluded]
        expected = git.shallow_lines(wants, client, words)
        work = deepen_by_range(history, wants, client, since=since, exclude=[commits[i] for i in excluded])
        if expected is None:
            with pytest.raises(NoCommitsSelected):
                drain(work)
        else:
            assert expected == as_sets(drain(work))


@pytest.mark.parametrize("seed", range(12))
def test_commits_of_wrong_clocks_hide_nothing_from_deepen_since(seed: int, tmp_path: Path) -> None:
    repo, commits = random_history(seed, skew=9)
    git = GitOracle(repo, tmp_path / "r.git", commits)
    history = History(CommitTable(repo))
    for age in (2, 5, 8):
        since = repo.now - age
        expected = git.shallow_lines(commits[-3:], [], [b"deepen-since %d" % since])
        if expected is not None:
            assert expected == as_sets(drain(deepen_by_range(history, commits[-3:], [], since=since)))


def test_tags_as_wants_are_peeled() -> None:
    repo, history, commits = line(3)
    tag = repo.tag(repo.tag(commits[2]), "outer")
    assert [commits[1]] == drain(deepen(history, [tag], 2, [])).shallow


def test_a_root_at_exactly_the_depth_is_told_as_shallow() -> None:
    _repo, history, commits = line(1)
    assert [commits[0]] == drain(deepen(history, commits, 1, [])).shallow


def test_infinite_depth_unshallows_what_the_client_named() -> None:
    _repo, history, commits = line(4)
    update = drain(deepen(history, commits[-1:], INFINITE_DEPTH, [commits[2], b"\x07" * 20]))
    assert ShallowUpdate([], [commits[2]], [commits[1]], [commits[2]]) == update


def test_a_ref_whose_tag_leads_nowhere_is_passed_over_as_by_git(tmp_path: Path) -> None:
    repo, history, commits = line(6)
    lost = repo.commit({b"lost": b"x"})
    tips = [repo.tag(lost), commits[-1]]
    repo.forget(lost)
    git = GitOracle(repo, tmp_path / "r.git", tips)
    client = [commits[4]]
    expected = git.shallow_lines(commits[-1:], client, [b"deepen 2"], b" deepen-relative")
    assert expected == ({commits[2]}, {commits[4]})
    assert expected == as_sets(drain(deepen_relative(history, tips, 2, client)))


def test_many_refs_are_peeled_with_ticks_between(monkeypatch: pytest.MonkeyPatch) -> None:
    repo, history, commits = line(40)
    monkeypatch.setattr(Ticker, "due", lambda _ticker: True)
    peels = 0
    work = deepen_relative(history, commits, 1, [commits[0]])
    find = repo.find

    def count(oid: bytes) -> int:
        nonlocal peels
        peels += 1
        return find(oid)

    monkeypatch.setattr(repo, "find", count)
    steps = []
    for _tick in work:
        steps.append(peels)
        peels = 0
    assert max(steps) <= 4


def test_nothing_selected_is_gits_error() -> None:
    repo, history, commits = line(2)
    with pytest.raises(NoCommitsSelected, match="no commits selected for shallow requests"):
        drain(deepen_by_range(history, commits[-1:], [], since=repo.now + 100))


def test_a_shallow_server_tells_its_boundary() -> None:
    repo, _history, commits = line(5)
    repo.forget(commits[1])
    history = History(CommitTable(repo), shallow=[repo.find(commits[2])])
    assert [commits[2]] == drain(server_boundary(history, commits[-1:], [])).shallow
    assert [commits[2]] == drain(deepen_by_range(history, commits[-1:], [], since=1)).shallow


def test_a_closure_after_deepening_brings_the_missing_history() -> None:
    """The client has two commits; three more levels arrive, and what it has is not sent again."""
    repo, history, commits = line(8)
    client_shallow = [commits[6]]
    update = drain(deepen(history, commits[-1:], 5, client_shallow))
    assert ([commits[3]], [commits[6]]) == (update.shallow, update.unshallow)
    request = ClosureRequest(
        wants=(commits[7], *update.more_wants),
        haves=(commits[7], *update.more_haves),
        client_shallow=frozenset(client_shallow),
        boundary=frozenset(update.shallow),
    )
    got = drain(find_closure(history, request))
    assert [commits[5], commits[4], commits[3]] == repo.names(got.numbers)[: got.commit_count]


def test_fifty_thousand_levels_are_walked_without_recursion() -> None:
    repo = RepositoryBuilder()
    tree = repo.tree({b"a": b"1"})
    tips = [repo.commit(tree)]
    for _ in range(50_000):
        tips = [repo.commit(tree, tips)]
    update = drain(deepen(History(CommitTable(repo)), tips, 60_000, []))
    assert ([], []) == (update.shallow, update.unshallow)
