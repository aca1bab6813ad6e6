import random

from hypothesis import given, settings
from hypothesis import strategies as st

from govc.graph.commits import CommitTable, History
from govc.graph.interface import drain
from govc.graph.walk import all_reach, find_range, find_unreachable, is_ancestor

from .builder import RepositoryBuilder

Graph = tuple[RepositoryBuilder, History, list[int], dict[int, set[int]]]


def random_graph(seed: int, skewed: bool, size: int = 16) -> Graph:
    """Return a repository, its history, its commit numbers, and what each commit reaches (itself too)."""
    rng = random.Random(seed)
    repo = RepositoryBuilder()
    tree = repo.tree({b"f": b"x"})
    oids: list[bytes] = []
    reach: dict[int, set[int]] = {}
    for i in range(size):
        parents = rng.sample(oids, min(len(oids), rng.choice([0, 1, 1, 1, 2, 3])))
        oid = repo.commit(tree, parents, time=rng.randint(0, 40) if skewed else None, text=str(i))
        oids.append(oid)
        reach[repo.find(oid)] = {repo.find(oid)}.union(*(reach[repo.find(p)] for p in parents))
    return repo, History(CommitTable(repo)), [repo.find(oid) for oid in oids], reach


graphs = st.builds(random_graph, st.integers(0, 1 << 30), st.booleans())
laws = settings(max_examples=150, derandomize=True, deadline=None)


@laws
@given(graphs, st.randoms(use_true_random=False))
def test_a_range_never_lacks_a_commit(graph: Graph, rng: random.Random) -> None:
    _repo, history, commits, reach = graph
    wants, haves = rng.sample(commits, 2), rng.sample(commits, 2)
    got = drain(find_range(history, wants, haves))
    needed = set().union(*(reach[w] for w in wants)) - set().union(*(reach[h] for h in haves))
    assert needed <= set(got.commits) <= set().union(*(reach[w] for w in wants))
    assert len(set(got.commits)) == len(got.commits)
    assert got.have <= set().union(*(reach[h] for h in haves))
    assert not got.have & set(got.commits)


@laws
@given(st.integers(0, 1 << 30), st.randoms(use_true_random=False))
def test_a_range_is_exact_when_the_clocks_are_right(seed: int, rng: random.Random) -> None:
    _repo, history, commits, reach = random_graph(seed, skewed=False)
    wants, haves = rng.sample(commits, 2), rng.sample(commits, 2)
    got = drain(find_range(history, wants, haves))
    assert set().union(*(reach[w] for w in wants)) - set().union(*(reach[h] for h in haves)) == set(got.commits)


@laws
@given(graphs, st.randoms(use_true_random=False))
def test_ancestry_is_exact_whatever_the_clocks_say(graph: Graph, rng: random.Random) -> None:
    _repo, history, commits, reach = graph
    old, new = rng.choice(commits), rng.choice(commits)
    assert (old in reach[new]) == drain(is_ancestor(history, old, new))


@laws
@given(graphs, st.randoms(use_true_random=False))
def test_unreachable_wants_are_found_whatever_the_clocks_say(graph: Graph, rng: random.Random) -> None:
    _repo, history, commits, reach = graph
    wanted, tips = rng.sample(commits, 3), rng.sample(commits, 2)
    reached = set().union(*(reach[t] for t in tips))
    assert [w for w in wanted if w not in reached] == drain(find_unreachable(history, wanted, tips))


@laws
@given(graphs, st.randoms(use_true_random=False))
def test_all_reach_is_exact_without_a_bound_and_remembers_only_truth(graph: Graph, rng: random.Random) -> None:
    _repo, history, commits, reach = graph
    starts, goals = rng.sample(commits, 3), set(rng.sample(commits, 2))
    known: set[int] = set()
    expected = all(reach[s] & goals for s in starts)
    assert expected == drain(all_reach(history, starts, goals, 0, known))
    assert all(reach[k] & goals for k in known)
    assert expected == drain(all_reach(history, starts, goals, 0, known))


def test_a_missing_parent_on_the_have_side_is_no_error() -> None:
    repo = RepositoryBuilder()
    root = repo.commit({b"f": b"1"})
    have = repo.commit({b"f": b"2"}, [root])
    want = repo.commit({b"f": b"3"}, [have])
    repo.forget(root)
    got = drain(find_range(History(CommitTable(repo)), [repo.find(want)], [repo.find(have)]))
    assert [repo.find(want)] == list(got.commits)


def test_a_long_walk_ticks() -> None:
    repo = RepositoryBuilder()
    tree = repo.tree({b"a": b"1"})
    tip = repo.commit(tree)
    for _ in range(20_000):
        tip = repo.commit(tree, [tip])
    work = find_range(History(CommitTable(repo)), [repo.find(tip)], [])
    assert next(work) is None
