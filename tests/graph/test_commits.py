import pytest

from govc.errors import CorruptObject, ObjectMissing
from govc.graph import commits
from govc.graph.commits import CommitTable, History, find_numbers, follow_tags
from govc.objects.types import BLOB, COMMIT

from .builder import RepositoryBuilder


def test_a_commit_is_read_once() -> None:
    repo = RepositoryBuilder()
    first = repo.commit({b"f": b"1"}, time=77)
    second = repo.commit({b"f": b"2"}, [first])
    table = CommitTable(repo)
    for _ in range(3):
        assert (repo.find(first),) == table.parents(repo.find(second))
        assert 77 == table.time(repo.find(first))
        assert repo.links(first)[0] == table.tree_oid(repo.find(first))
    assert 2 == len(table) == repo.reads


def test_a_missing_parent_raises_and_is_found_once_it_has_come() -> None:
    repo = RepositoryBuilder()
    first = repo.commit({b"f": b"1"})
    other = repo.commit({b"f": b"0"})
    second = repo.commit({b"f": b"2"}, [other, first])
    number = repo.find(first)
    repo.forget(first)
    table = CommitTable(repo)
    with pytest.raises(ObjectMissing) as caught:
        table.parents(repo.find(second))
    assert first == caught.value.oid
    assert (repo.find(other),) == History(table).known_parents(repo.find(second))
    assert [first] == History(table).missing_parents(repo.find(second))
    repo.numbers[first] = number
    assert (repo.find(other), number) == table.parents(repo.find(second))


def test_a_promised_parent_is_left_out() -> None:
    repo = RepositoryBuilder()
    first = repo.commit({b"f": b"1"})
    second = repo.commit({b"f": b"2"}, [first])
    repo.forget(first)
    history = History(CommitTable(repo), may_be_missing=lambda oid: oid == first)
    assert () == history.parents(repo.find(second))
    assert [] == history.missing_parents(repo.find(second))


def test_shallow_and_grafts_belong_to_the_history_and_not_to_the_table() -> None:
    repo = RepositoryBuilder()
    a, b = repo.commit({b"f": b"1"}), repo.commit({b"f": b"2"})
    c = repo.commit({b"f": b"3"}, [a])
    na, nb, nc = (repo.find(oid) for oid in (a, b, c))
    table = CommitTable(repo)
    grafted = History(table, grafts={nc: (nb,)})
    assert (nb,) == grafted.parents(nc)
    cut = grafted.cut([nc])
    assert () == cut.parents(nc)
    assert (na,) == cut.restored([nc]).parents(nc) == table.parents(nc)
    assert (nb,) == grafted.parents(nc)


def test_something_else_than_a_commit_is_refused() -> None:
    repo = RepositoryBuilder()
    with pytest.raises(CorruptObject, match="is a blob, not a commit"):
        CommitTable(repo).time(repo.find(repo.blob(b"x")))
    with pytest.raises(CorruptObject):
        CommitTable(repo).time(repo.find(repo.add(COMMIT, b"nonsense")))


def test_tags_are_followed_to_what_they_name() -> None:
    repo = RepositoryBuilder()
    blob = repo.blob(b"x")
    inner = repo.tag(blob)
    outer = repo.tag(inner, "outer")
    tags = [repo.find(outer), repo.find(inner)]
    assert (tags, repo.find(blob), BLOB) == follow_tags(repo, repo.find(outer))
    repo.forget(blob)
    with pytest.raises(ObjectMissing):
        follow_tags(repo, repo.find(outer))
    assert (tags, -1, BLOB) == follow_tags(repo, repo.find(outer), lambda _oid: True)


def test_a_tag_that_names_no_tag_is_read_once() -> None:
    repo = RepositoryBuilder()
    inner = repo.tag(repo.blob(b"x"))
    outer = repo.tag(inner, "outer")
    table = CommitTable(repo)
    for _ in range(3):
        assert [repo.find(inner)] == list(History(table).tags_passed(repo.find(inner)))
    assert 1 == repo.reads
    for _ in range(2):
        assert [repo.find(outer), repo.find(inner)] == list(History(table).tags_passed(repo.find(outer)))


def test_a_tag_whose_target_is_absent_is_looked_at_each_time() -> None:
    repo = RepositoryBuilder()
    blob = repo.blob(b"x")
    tag = repo.find(repo.tag(blob))
    repo.forget(blob)
    table = CommitTable(repo)
    for _ in range(2):
        assert [tag] == list(History(table, may_be_missing=lambda _oid: True).tags_passed(tag))
        with pytest.raises(ObjectMissing):
            History(table).tags_passed(tag)


def test_only_so_many_tags_are_known_by_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "SINGLE_TAGS_MAX", 2)
    repo = RepositoryBuilder()
    blob = repo.blob(b"x")
    tags = [repo.find(repo.tag(blob, f"v{number}")) for number in range(4)]
    table = CommitTable(repo)
    for _ in range(2):
        assert tags == [passed for tag in tags for passed in History(table).tags_passed(tag)]
    assert tags[:2] == sorted(table.single_tags)


def test_unknown_names_have_no_numbers() -> None:
    repo = RepositoryBuilder()
    blob = repo.blob(b"x")
    assert [repo.find(blob)] == find_numbers(repo, [b"\x01" * 20, blob])
