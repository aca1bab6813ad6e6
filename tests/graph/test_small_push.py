"""The few reads agree with the walk: whatever they call whole is whole, and the pushes of every day are called so."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.errors import ObjectMissing
from govc.graph import small_push
from govc.graph.commits import CommitTable, History
from govc.graph.connectivity import check_connectivity
from govc.graph.interface import drain
from govc.graph.small_push import is_plainly_whole
from govc.objects.types import BLOB, COMMIT, TREE
from govc.protocol.oid import SHA1

from .builder import RepositoryBuilder, Tree


def is_plain(repo: RepositoryBuilder, tips: Iterable[bytes], refs: Iterable[bytes], new_from: int) -> bool:
    """Objects numbered `new_from` and up came with the push, as far as they are still known."""
    came = {oid: kind for oid, kind, _data in repo.objects[new_from:] if oid in repo.numbers}

    def read(oid: bytes) -> tuple[int, bytes]:
        number = repo.find(oid)
        if number < 0:
            raise ObjectMissing(oid)
        return repo.read(number)

    return is_plainly_whole(list(tips), came, read, ref_tips=frozenset(refs), algo=SHA1)


def is_whole(repo: RepositoryBuilder, tips: Iterable[bytes], refs: Iterable[bytes], new_from: int) -> bool:
    history = History(CommitTable(repo))
    is_new = range(new_from, len(repo.objects)).__contains__
    return not drain(check_connectivity(history, list(tips), ref_tips=frozenset(refs), is_new=is_new))


def pushed() -> tuple[RepositoryBuilder, bytes, bytes, int]:
    """An old commit that a ref has, two new ones on top, and the first number of the push."""
    repo = RepositoryBuilder()
    old = repo.commit({b"same": {b"x": b"1"}, b"d": {b"y": b"2"}, b"f": b"3"})
    border = len(repo.objects)
    middle = repo.commit({b"same": {b"x": b"1"}, b"d": {b"y": b"20"}, b"f": b"3"}, [old])
    new = repo.commit({b"same": {b"x": b"1"}, b"d": {b"y": b"20", b"z": {b"w": b"4"}}, b"f": b"3"}, [middle])
    return repo, old, new, border


def test_a_push_on_top_of_a_ref_is_plain() -> None:
    repo, old, new, border = pushed()
    before = repo.reads
    assert is_plain(repo, [new], [old], border)
    assert repo.reads - before <= 12
    assert is_plain(repo, [old], [old], border)


def test_a_first_push_is_plain() -> None:
    repo, _old, new, _border = pushed()
    assert is_plain(repo, [new], [], 0)


def test_a_merge_is_plain() -> None:
    repo, old, new, border = pushed()
    other = repo.commit({b"same": {b"x": b"1"}, b"d": {b"y": b"2"}, b"f": b"30"}, [old])
    tree: Tree = {b"same": {b"x": b"1"}, b"d": {b"y": b"20", b"z": {b"w": b"4"}}, b"f": b"30"}
    assert is_plain(repo, [repo.commit(tree, [new, other])], [old], border)


def test_a_submodule_is_no_link() -> None:
    repo, old, _new, border = pushed()
    tree = repo.raw_tree([(b"160000", b"module", b"\1" * 20)])
    assert is_plain(repo, [repo.commit(tree, [old])], [old], border)


@pytest.mark.parametrize("kind", [COMMIT, TREE, BLOB])
def test_without_any_one_object_it_is_not(kind: int) -> None:
    repo, old, new, border = pushed()
    for oid, type_number, _data in list(repo.objects[border:]):
        if type_number == kind:
            number = repo.numbers.pop(oid)
            assert not is_plain(repo, [new], [old], border)
            repo.numbers[oid] = number


def test_a_leftover_commit_proves_nothing() -> None:
    repo, _old, new, border = pushed()
    assert not is_plain(repo, [new], [], border)


def test_a_leftover_tree_proves_nothing() -> None:
    """It is in the store, but no parent has it at that path: it may lack what it lists."""
    repo, old, _new, _border = pushed()
    leftover = repo.tree({b"lost": b"found"})
    repo.forget(repo.blob_oid(b"found"))
    border = len(repo.objects)
    tip = repo.commit(repo.raw_tree([(b"40000", b"t", leftover)]), [old])
    assert not is_plain(repo, [tip], [old], border)


def test_another_type_than_the_link_says_is_not_plain() -> None:
    repo, old, _new, border = pushed()
    blob = repo.blob(b"no tree")
    tree = repo.tree({b"a": b"b"})
    for entry in ((b"40000", b"t", blob), (b"100644", b"f", tree)):
        assert not is_plain(repo, [repo.commit(repo.raw_tree([entry]), [old])], [old], border)
    assert not is_plain(repo, [repo.commit(blob, [old])], [old], border)
    assert not is_plain(repo, [repo.commit(tree, [blob])], [old], border)
    assert not is_plain(repo, [repo.commit(tree, [blob])], [old, blob], border)
    assert not is_plain(repo, [tree], [old], border)


def test_what_can_not_be_parsed_is_not_plain() -> None:
    repo, old, _new, border = pushed()
    assert not is_plain(repo, [repo.add(COMMIT, b"nothing")], [old], border)
    assert not is_plain(repo, [repo.commit(repo.add(TREE, b"100644 cut short"), [old])], [old], border)


def twice(repo: RepositoryBuilder, name: bytes, levels: int, ring: int) -> bytes:
    """A root below which each tree lists two others, `ring` different ones at each level: a step along x or y leads
    from number i to i, or to i + 1."""
    row = [repo.tree({b"f": name + b"%d" % number}) for number in range(ring)]
    for _ in range(levels):
        row = [
            repo.raw_tree([(b"40000", b"x", row[number]), (b"40000", b"y", row[(number + 1) % ring])])
            for number in range(ring)
        ]
    return row[0]


def test_a_tree_that_is_met_along_many_paths_is_looked_at_once() -> None:
    """Parents of two, three and five trees at each level: along each way there are others of them."""
    repo = RepositoryBuilder()
    levels = 12
    olds = [repo.commit(twice(repo, name, levels, ring)) for name, ring in ((b"a", 2), (b"b", 3), (b"c", 5))]
    border = len(repo.objects)
    tip = repo.commit(twice(repo, b"new", levels, 1), olds)
    before = repo.reads
    assert is_plain(repo, [tip], olds, border)
    assert repo.reads - before <= 4 * (levels + 2)


def test_much_to_read_is_left_to_the_walk() -> None:
    repo = RepositoryBuilder()
    wide = {b"%040d" % number: b"1" for number in range(small_push.READ_BYTES_MAX // 150)}
    old = repo.commit(wide)
    border = len(repo.objects)
    one = repo.commit({**wide, b"z": b"2"}, [old])
    two = repo.commit({**wide, b"z": b"3"}, [one])
    assert is_plain(repo, [one], [old], border)
    before = repo.reads
    assert not is_plain(repo, [two], [old], border)
    assert repo.reads - before < 10


def test_a_merge_of_many_parents_is_left_to_the_walk() -> None:
    repo = RepositoryBuilder()
    olds = [repo.commit({b"d": {b"f": b"%d" % number}}) for number in range(6000)]
    border = len(repo.objects)
    tip = repo.commit({b"d": {b"f": b"new"}}, olds)
    before = repo.reads
    assert not is_plain(repo, [tip], olds, border)
    assert repo.reads - before <= small_push.READ_BYTES_MAX // 256 + 1


names = st.sampled_from([b"a", b"b", b"c"])
contents = st.sampled_from([b"1", b"2", b"3"])
trees: st.SearchStrategy[Tree] = st.recursive(
    st.dictionaries(names, contents, max_size=3),
    lambda inner: st.dictionaries(names, st.one_of(contents, inner), max_size=3),
    max_leaves=6,
)


@given(st.lists(trees, min_size=2, max_size=5), st.data())
def test_it_never_calls_whole_what_is_not(rows: list[Tree], data: st.DataObject) -> None:
    repo = RepositoryBuilder()
    commits: list[bytes] = []
    border = 0
    count_old = data.draw(st.integers(0, len(rows) - 1))
    for place, tree in enumerate(rows):
        if place == count_old:
            border = len(repo.objects)
        parents = data.draw(st.lists(st.sampled_from(commits), max_size=2, unique=True)) if commits else []
        commits.append(repo.commit(tree, parents))
    refs = data.draw(st.lists(st.sampled_from(commits[:count_old]), unique=True)) if count_old else []
    reached_by_refs = set(_reached(repo, refs))
    for oid in data.draw(st.lists(st.sampled_from([oid for oid, _, _ in repo.objects]), max_size=2, unique=True)):
        if oid not in reached_by_refs:  # what refs reach is complete by definition
            repo.forget(oid)
    tips = commits[-1:]
    if is_plain(repo, tips, refs, border):
        assert is_whole(repo, tips, refs, border)


def _reached(repo: RepositoryBuilder, tips: Iterable[bytes]) -> Iterable[bytes]:
    """Every object that the commits reach."""
    stack = list(tips)
    while stack:
        oid = stack.pop()
        yield oid
        stack += repo.links(oid)
