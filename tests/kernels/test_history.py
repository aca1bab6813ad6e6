"""Columns of commits and the walks over them, against the plain truth; the kernel and its twin give the same."""

import random
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import CorruptObject, ObjectMissing
from govc.objects.commit import parse_commit_links
from govc.objects.types import COMMIT
from govc.protocol.oid import SHA1
from tests.graph.builder import RepositoryBuilder
from tests.kernels.both import both, variants
from tests.library.histories import random_history

seeds = st.integers(0, 1 << 30)
clocks = st.sampled_from(["good", "ties", "skewed"])


@pytest.fixture(params=variants("history"))
def kernel(request: Any) -> Any:
    return request.param


def read_from(repo: RepositoryBuilder) -> Any:
    def read(oid: bytes) -> Any:
        number = repo.find(oid)
        if number < 0:
            raise ObjectMissing(oid)
        kind, data = repo.read(number)
        if kind != COMMIT:
            raise CorruptObject(oid, "is not a commit")
        return parse_commit_links(data, SHA1)

    return read


def graph_of(kernel: Any, repo: RepositoryBuilder, tips: list[bytes], replaced: Any = None) -> Any:
    graph = kernel.Graph(20)
    for tip in tips:
        graph.load(None, tip, read_from(repo), replaced or {}, ())
    return graph


def cids(graph: Any, oids: Any) -> "array[int]":
    return array("I", [graph.find(oid) for oid in oids])


def reach(repo: RepositoryBuilder, oids: Any) -> set[bytes]:
    seen: set[bytes] = set()
    waiting = list(oids)
    while waiting:
        oid = waiting.pop()
        if oid not in seen:
            seen.add(oid)
            waiting += repo.links(oid)[1:]
    return seen


@settings(max_examples=60)
@given(seeds, clocks)
def test_both_answer_alike_and_right(seed: int, clock: str) -> None:
    repo, commits = random_history(seed, clock=clock, size=22)
    rng = random.Random(seed)
    tips = rng.sample(commits, len(commits))
    graphs = [graph_of(kernel, repo, tips) for kernel in both("history")]
    for graph in graphs:
        assert len(graph) == graph.count == len(commits) == len(set(graph.oids(array("I", range(len(graph))))))
        for oid in commits:
            cid = graph.find(oid)
            links = parse_commit_links(repo.read(repo.find(oid))[1], SHA1)
            assert graph.oid(cid) == oid and graph.tree(cid) == links.tree and graph.time(cid) == links.time
            assert tuple(graph.oids(array("I", graph.parents(cid)))) == links.parents
            assert all(parent < cid for parent in graph.parents(cid))
    for _ in range(4):
        wanted, excluded = rng.sample(commits, rng.randint(1, 3)), rng.sample(commits, rng.randint(0, 2))
        for kind in range(3):
            for first_parent in (False, True):
                found = [g.oids(g.order(cids(g, wanted), cids(g, excluded), kind, first_parent, -1)) for g in graphs]
                assert all(one == found[0] for one in found)
                if not first_parent:
                    assert set(found[0]) == reach(repo, wanted) - reach(repo, excluded)
                    assert len(set(found[0])) == len(found[0])
        one, other = rng.sample(commits, 2)
        ours, theirs = reach(repo, [one]), reach(repo, [other])
        both_reach = ours & theirs
        best = {oid for oid in both_reach if not any(oid in reach(repo, repo.links(x)[1:]) for x in both_reach)}
        for graph in graphs:
            a, b = cids(graph, (one, other))
            assert graph.ahead_behind(a, b) == (len(ours - theirs), len(theirs - ours))
            assert set(graph.oids(graph.merge_bases(a, array("I", [b, b])))) == best
            assert graph.is_ancestor(a, b) == (one in theirs)
            expected = bytes(one in reach(repo, [tip]) for tip in commits)
            assert graph.reached_by(a, cids(graph, commits)) == expected


@settings(max_examples=60)
@given(seeds, clocks)
def test_both_follow_paths_alike(seed: int, clock: str) -> None:
    repo, commits = random_history(seed, clock=clock, size=25)
    rng = random.Random(seed)
    values = {oid: rng.choice([0, 1, 1, 2]) for oid in commits}
    others = {oid: rng.choice([0, 1]) for oid in commits}
    graphs = [graph_of(kernel, repo, commits) for kernel in both("history")]
    for _ in range(4):
        wanted, excluded = rng.sample(commits, rng.randint(1, 2)), rng.sample(commits, rng.randint(0, 2))
        for kind in range(3):
            found = []
            for g in graphs:
                names = g.oids(array("I", range(len(g))))
                columns = [array("I", [table[oid] for oid in names]) for table in (values, others)]
                first_parent = bool(seed % 2)
                found.append(g.oids(g.order(cids(g, wanted), cids(g, excluded), kind, first_parent, -1, columns)))
            assert all(one == found[0] for one in found)
            assert set(found[0]) <= reach(repo, wanted) - reach(repo, excluded)


def changes_of(graph: Any, column: "array[int]") -> Any:
    """What a column says, as changes; places are the cids the other way round."""
    places, parents = array("I"), bytearray()
    for cid in range(len(graph)):
        first, *others = graph.parents(cid) or [None]
        if column[cid] != (column[first] if first is not None else 0):
            places.append(len(graph) - cid)
            same = [number for number, other in enumerate(others, 1) if column[other] == column[cid]]
            parents.append(same[0] if same else 0)
    cid_of = array("I", [0xFFFFFFFF, *range(len(graph) - 1, -1, -1)])
    return places, bytes(parents), cid_of


@settings(max_examples=60)
@given(seeds, clocks, st.integers(-1, 6))
def test_changes_say_what_a_column_says(seed: int, clock: str, limit: int) -> None:
    repo, commits = random_history(seed, clock=clock, size=25)
    rng = random.Random(seed)
    values = {oid: rng.choice([0, 1, 1, 1, 2]) for oid in commits}
    none = array("I")
    for kernel in both("history"):
        graph = graph_of(kernel, repo, commits)
        column = array("I", [values[oid] for oid in graph.oids(array("I", range(len(graph))))])
        places, parents, cid_of = changes_of(graph, column)
        cut = rng.randint(0, len(places))
        changes = [(places[:cut], parents[:cut], cid_of), (places[cut:], parents[cut:], cid_of)]
        wanted = cids(graph, rng.sample(commits, rng.randint(1, 3)))
        for kind in range(3):
            for first_parent in (False, True):
                expected = graph.order(wanted, none, kind, first_parent, limit, [column])
                assert graph.order(wanted, none, kind, first_parent, limit, None, changes) == expected
    with pytest.raises(ValueError, match="neither"):
        graph.order(wanted, wanted, 0, False, -1, None, changes)


def test_changes_at_no_place_are_refused(kernel: Any) -> None:
    repo, commits = random_history(5)
    graph = graph_of(kernel, repo, commits)
    tips, none, cid_of = array("I", [len(graph) - 1]), array("I"), array("I", [0, 1])
    with pytest.raises(IndexError):
        graph.order(tips, none, 0, False, -1, None, [(array("I", [2]), b"\0", cid_of)])
    for parents in (b"", b"\0\0"):
        with pytest.raises(ValueError):
            graph.order(tips, none, 0, False, -1, None, [(array("I", [1]), parents, cid_of)])
    assert not graph.order(tips, none, 0, False, -1, None, [])


def test_many_are_found_at_once(kernel: Any) -> None:
    repo, commits = random_history(7)
    graph = graph_of(kernel, repo, commits[:10])
    names = [commits[3], bytes(20), commits[-1], commits[0], commits[3]]
    found, others = graph.find_many(b"".join(names))
    assert list(found) == [cid if (cid := graph.find(name)) >= 0 else 0xFFFFFFFF for name in names]
    assert list(others) == sorted(set(range(len(graph))) - set(found))
    assert graph.find_many(b"") == (array("I"), array("I", range(len(graph))))
    assert kernel.Graph(20).find_many(b"".join(names)) == (array("I", [0xFFFFFFFF] * 5), array("I"))


def test_a_message_is_what_follows_the_headers(kernel: Any) -> None:
    repo, commits = random_history(6)
    graph = graph_of(kernel, repo, [commits[-1]])

    class Content:
        data = b""

    class Kind(kernel.Handle):  # type: ignore[name-defined, misc]
        __slots__ = ()

        def odd_message(self) -> bytes:
            return b"odd"

    content = Content()
    handle = kernel.make_handle(Kind, graph, {graph.oid(0): content}, 0)
    for text in (
        b"tree x\n\n",
        b"tree x\ny z\n\na\n\nb\n",
        b"tree x\n",
        b"tree ",
        b"",
        b"\n\nx",
        b"a\n\nb",
        b"tree \n\n\n",
    ):
        content.data = text
        assert handle.message == (text.partition(b"\n\n")[2] if text.startswith(b"tree ") else b"odd"), text
    with pytest.raises(ValueError, match="usual"):
        kernel.make_handle(kernel.Handle, graph, {graph.oid(0): content}, 0).odd_message()


def test_what_replaces_parents_is_followed(kernel: Any) -> None:
    repo, commits = random_history(3)
    graph = graph_of(kernel, repo, [commits[-1]], {commits[-1]: (commits[2],)})
    assert graph.oids(array("I", graph.parents(graph.find(commits[-1])))) == [commits[2]]
    assert len(graph) == 1 + len(reach(repo, [commits[2]]))


def test_nothing_is_added_when_loading_fails(kernel: Any) -> None:
    repo, commits = random_history(4)
    graph = graph_of(kernel, repo, [commits[5]])
    before = len(graph)
    repo.forget(next(oid for oid in commits if graph.find(oid) < 0 and oid != commits[-1]))
    with pytest.raises(ObjectMissing):
        for oid in commits:
            graph.load(None, oid, read_from(repo), {}, ())
    assert before <= len(graph) < len(commits)
    tree = repo.links(commits[0])[0]
    with pytest.raises(CorruptObject):
        graph.load(None, tree, read_from(repo), {}, ())
    assert graph.find(tree) == -1 and graph.find(b"short") == -1


def test_numbers_that_were_never_given_are_refused(kernel: Any) -> None:
    repo, commits = random_history(5)
    graph = graph_of(kernel, repo, [commits[-1]])
    beyond, none = array("I", [len(graph)]), array("I")
    for question in (
        lambda: graph.oid(len(graph)),
        lambda: graph.parents(-1),
        lambda: graph.oids(beyond),
        lambda: graph.order(beyond, none, 0, False, -1),
        lambda: graph.order(array("I", [0]), beyond, 0, False, -1),
        lambda: graph.merge_bases(0, beyond),
        lambda: graph.ahead_behind(0, len(graph)),
        lambda: graph.is_ancestor(len(graph), 0),
        lambda: graph.reached_by(0, beyond),
        lambda: kernel.make_handle(kernel.Handle, graph, None, len(graph)),
        lambda: kernel.iter_handles(kernel.Handle, graph, None, beyond),
    ):
        with pytest.raises(IndexError):
            question()
    with pytest.raises(ValueError, match="too short"):
        graph.order(array("I", [len(graph) - 1]), none, 0, False, -1, [array("I", [0])])
    assert list(graph.order(none, none, 0, False, -1)) == []
    assert list(graph.order(array("I", [0]), none, 0, False, 0)) == []


def test_a_handle_is_a_commit_by_number(kernel: Any) -> None:
    repo, commits = random_history(6)
    graph = graph_of(kernel, repo, [commits[-1]])
    found = graph.order(cids(graph, [commits[-1]]), array("I"), 0, False, -1)

    class Kind(kernel.Handle):  # type: ignore[name-defined, misc]
        __slots__ = ()

    handles = list(kernel.iter_handles(Kind, graph, "source", found))
    assert [handle.oid for handle in handles] == graph.oids(found)
    assert all(type(handle) is Kind and handle.source == "source" and handle.graph is graph for handle in handles)
    one = kernel.make_handle(Kind, graph, None, found[0])
    assert (one.tree_oid, one.time, one.cid) == (graph.tree(found[0]), graph.time(found[0]), found[0])
