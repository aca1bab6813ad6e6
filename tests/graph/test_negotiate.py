import pytest

from govc.errors import ObjectMissing
from govc.graph.commits import CommitTable, History
from govc.graph.interface import drain
from govc.graph.negotiate import Negotiation

from .builder import RepositoryBuilder


def forked() -> tuple[RepositoryBuilder, History, list[bytes]]:
    """root - left, root - right."""
    repo = RepositoryBuilder()
    root = repo.commit({b"f": b"0"})
    base = repo.commit({b"f": b"1"}, [root])
    left = repo.commit({b"f": b"2"}, [base])
    right = repo.commit({b"f": b"3"}, [base])
    return repo, History(CommitTable(repo)), [root, base, left, right]


def test_ready_only_when_every_want_reaches_a_have() -> None:
    repo, history, (_root, base, left, right) = forked()
    lonely = repo.commit({b"x": b"y"})
    both = Negotiation(history, [left, right])
    assert not drain(both.is_ready())
    assert both.add_have(base)
    assert drain(both.is_ready())
    other = Negotiation(history, [left, lonely])
    assert other.add_have(base)
    assert not drain(other.is_ready())


def test_parents_of_a_have_are_common_and_no_news() -> None:
    _repo, history, (root, base, left, _right) = forked()
    talk = Negotiation(history, [left])
    assert talk.add_have(base)
    assert talk.add_have(root)
    assert talk.add_have(base)
    assert [base] == talk.common


def test_a_have_beside_the_want_makes_ready_through_its_parent() -> None:
    _repo, history, (_root, _base, left, right) = forked()
    talk = Negotiation(history, [left])
    assert talk.add_have(right)
    # `base` is common by way of `right`, but older than the oldest have: git prunes only what it would walk on from.
    assert drain(talk.is_ready())


def test_unknown_haves_are_harmless() -> None:
    _repo, history, commits = forked()
    talk = Negotiation(history, commits[-1:])
    assert not talk.add_have(b"\x05" * 20)
    assert [] == talk.common


def test_haves_of_any_type_are_acknowledged() -> None:
    repo, history, commits = forked()
    blob, tag = repo.blob(b"2"), repo.tag(commits[0])
    talk = Negotiation(history, commits[-1:])
    assert talk.add_have(blob) and talk.add_have(tag) and talk.add_have(tag)
    assert [blob, tag] == talk.common
    assert not drain(talk.is_ready())


def test_wants_that_are_no_commits_hold_nothing_back() -> None:
    repo, history, commits = forked()
    talk = Negotiation(history, [repo.blob(b"2"), repo.tag(commits[2])])
    assert talk.add_have(commits[2])
    assert drain(talk.is_ready())


def test_a_want_that_is_missing_raises_when_it_counts() -> None:
    _repo, history, commits = forked()
    talk = Negotiation(history, [b"\x05" * 20])
    assert talk.add_have(commits[0])
    with pytest.raises(ObjectMissing):
        drain(talk.is_ready())
