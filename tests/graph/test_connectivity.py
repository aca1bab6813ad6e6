import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import LimitExceeded
from govc.graph.commits import CommitTable, History
from govc.graph.connectivity import PROBLEMS_MAX, Problem, check_connectivity
from govc.graph.interface import drain
from govc.objects.types import BLOB, COMMIT, TREE

from .builder import RepositoryBuilder


def problems(
    repo: RepositoryBuilder,
    tips: Iterable[bytes],
    refs: Iterable[bytes] = (),
    *,
    new_from: int = 0,
    history: History | None = None,
) -> list[Problem]:
    """Objects numbered `new_from` and up came with the push."""
    return drain(
        check_connectivity(
            history or History(CommitTable(repo)),
            list(tips),
            ref_tips=frozenset(refs),
            is_new=lambda number: number >= new_from,
        )
    )


def pushed() -> tuple[RepositoryBuilder, bytes, bytes, int]:
    """An old commit that a ref has, a new one on top, and the first number of the push."""
    repo = RepositoryBuilder()
    old = repo.commit({b"same": {b"x": b"1"}, b"d": {b"y": b"2"}, b"f": b"3"})
    border = len(repo.objects)
    new = repo.commit({b"same": {b"x": b"1"}, b"d": {b"y": b"20", b"z": {b"w": b"4"}}, b"f": b"3"}, [old])
    return repo, old, new, border


def test_a_whole_push_has_no_problems() -> None:
    repo, old, new, border = pushed()
    assert [] == problems(repo, [new], [old], new_from=border)


@pytest.mark.parametrize("kind", [COMMIT, TREE, BLOB])
def test_every_object_of_the_push_is_needed(kind: int) -> None:
    repo, old, new, border = pushed()
    for oid, type_number, _data in list(repo.objects[border:]):
        if type_number == kind:
            number = repo.numbers.pop(oid)
            found = problems(repo, [new], [old], new_from=border)
            assert [oid] == [problem.oid for problem in found]
            assert "missing" == found[0].reason
            repo.numbers[oid] = number


def test_what_a_ref_reaches_is_trusted_and_not_read() -> None:
    repo, old, new, border = pushed()
    repo.forget(repo.blob(b"1"))
    before = repo.reads
    assert [] == problems(repo, [new], [old], new_from=border)
    assert repo.reads - before < 10


def test_a_leftover_commit_proves_nothing() -> None:
    """The parent is in the store, whole or not, but no ref reaches it."""
    repo, old, new, border = pushed()
    assert [] == problems(repo, [new], [], new_from=border)
    repo.forget(repo.blob(b"1"))
    assert [repo.blob_oid(b"1")] == [p.oid for p in problems(repo, [new], [], new_from=border)]
    assert [] == problems(repo, [new], [old], new_from=border)


def test_a_leftover_tree_proves_nothing() -> None:
    repo = RepositoryBuilder()
    leftover = repo.tree({b"x": b"1"})
    old = repo.commit({b"f": b"3"})
    repo.forget(repo.blob(b"1"))
    border = len(repo.objects)
    new = repo.commit(repo.raw_tree([(b"40000", b"d", leftover)]), [old])
    assert [(repo.blob_oid(b"1"), leftover)] == [
        (p.oid, p.needed_by) for p in problems(repo, [new], [old], new_from=border)
    ]


def test_an_old_commit_below_a_ref_is_complete() -> None:
    repo, old, new, border = pushed()
    tip = repo.commit({b"q": b"r"}, [old])
    repo.forget(repo.blob(b"1"))
    assert [] == problems(repo, [new], [repo.tag(tip)], new_from=border)


def test_links_of_the_wrong_type_are_found() -> None:
    repo = RepositoryBuilder()
    blob, tree = repo.blob(b"x"), repo.tree({b"f": b"x"})
    cases = {
        repo.commit(repo.raw_tree([(b"40000", b"d", blob)])): blob,
        repo.commit(repo.raw_tree([(b"100644", b"f", tree)])): tree,
        repo.commit(blob): blob,
        repo.commit(tree, [tree]): tree,
        repo.commit(tree, [blob]): blob,
        repo.commit(repo.raw_tree([(b"100644", b"a", blob), (b"40000", b"b", blob)])): blob,
    }
    for tip, culprit in cases.items():
        found = problems(repo, [tip])
        assert culprit in [p.oid for p in found], (repo.objects[repo.find(tip)], found)
        assert all("missing" != p.reason for p in found)


def test_malformed_objects_are_found() -> None:
    repo = RepositoryBuilder()
    bad_tree, bad_commit = repo.add(TREE, b"100644 x"), repo.add(COMMIT, b"tree x\n")
    for tip in (repo.commit(bad_tree), bad_tree, bad_commit, repo.commit({b"a": b"b"}, [bad_commit])):
        assert [] != problems(repo, [tip])


def test_tips_of_every_type_are_checked() -> None:
    repo = RepositoryBuilder()
    tree = repo.tree({b"f": b"x"})
    tag = repo.tag(tree)
    assert [] == problems(repo, [tree, tag, repo.blob(b"x")])
    repo.forget(repo.blob(b"x"))
    assert 1 == len(problems(repo, [tree]))
    assert 1 == len(problems(repo, [tag]))
    repo.forget(tree)
    assert [(tree, tag)] == [(p.oid, p.needed_by) for p in problems(repo, [tag])]
    assert [b"\x01" * 20] == [p.oid for p in problems(repo, [b"\x01" * 20])]


def test_promised_objects_count_as_present() -> None:
    repo, old, new, border = pushed()
    gone = repo.blob(b"20")
    repo.forget(gone)
    history = History(CommitTable(repo), may_be_missing=lambda oid: oid == gone)
    assert [] == problems(repo, [new], [old], new_from=border, history=history)


def test_shallow_commits_need_no_parents() -> None:
    repo, old, new, border = pushed()
    repo.forget(old)
    assert [old] == [p.oid for p in problems(repo, [new], new_from=border)]
    history = History(CommitTable(repo)).cut([repo.find(new)])
    assert [] == problems(repo, [new], new_from=border, history=history)


def test_submodules_are_not_followed() -> None:
    repo = RepositoryBuilder()
    assert [] == problems(repo, [repo.commit(repo.raw_tree([(b"160000", b"sub", b"\x01" * 20)]))])


def test_the_list_of_problems_is_bounded() -> None:
    repo = RepositoryBuilder()
    tree = repo.raw_tree((b"100644", b"%05d" % i, b"%020d" % i) for i in range(500))
    assert PROBLEMS_MAX == len(problems(repo, [repo.commit(tree)]))


def test_trees_nested_too_deep_are_refused() -> None:
    repo = RepositoryBuilder()
    tree = repo.tree({b"f": b"x"})
    for _ in range(5000):
        tree = repo.raw_tree([(b"40000", b"d", tree)])
    with pytest.raises(LimitExceeded):
        problems(repo, [repo.commit(tree)])


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.integers(0, 1 << 30))
def test_a_hole_is_found_exactly_when_the_push_reaches_it(seed: int) -> None:
    """Refs are complete; one object that no ref reaches is taken away."""
    rng = random.Random(seed)
    repo = RepositoryBuilder()
    commits: list[bytes] = []
    for i in range(10):
        tree = {b"%d" % rng.randint(0, 3): {b"%d" % rng.randint(0, 2): b"%d" % rng.randint(0, 9)} for _ in range(3)}
        parents = rng.sample(commits, min(len(commits), rng.choice([0, 1, 1, 2])))
        commits.append(repo.commit(tree, parents, time=rng.randint(1, 30), text=str(i)))
    refs, tips = rng.sample(commits, 2), rng.sample(commits, 2)
    complete = repo.reachable(refs)
    needed = repo.reachable(tips) - complete
    border = rng.choice([0, len(repo.objects), rng.randrange(len(repo.objects))])
    assert [] == problems(repo, tips, refs, new_from=border)
    others = sorted({oid for oid, _type, _data in repo.objects} - complete)
    if others:
        hole = rng.choice(others)
        number = repo.numbers.pop(hole)
        found = {problem.oid for problem in problems(repo, tips, refs, new_from=border)}
        assert ({hole} if hole in needed else set()) == found
        repo.numbers[hole] = number
