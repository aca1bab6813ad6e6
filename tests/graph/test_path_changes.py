"""Which commits change which paths: the kernel and its twin against what trees plainly say, and the file's form."""

import random
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from govc.errors import Corrupt, LimitExceeded, ObjectMissing
from govc.graph.path_changes import LIMITS, find_changes
from govc.graph.path_file import BadPaths, PathColumns, PathFile, iter_encoded, parse_paths, read_count
from govc.kernels.history import Graph
from govc.objects.commit import parse_commit_links
from govc.objects.tree import parse_tree
from govc.protocol.oid import SHA1, SHA256
from tests.graph.builder import RepositoryBuilder
from tests.graph.packed import packed_store
from tests.kernels.both import needs_compiled
from tests.library.histories import random_history

ENGINES = [pytest.param(True, marks=needs_compiled, id="compiled"), pytest.param(False, id="twin")]


def reading(repo: RepositoryBuilder) -> Any:
    def read(oid: bytes) -> tuple[int, bytes]:
        number = repo.find(oid)
        if number < 0:
            raise ObjectMissing(oid)
        return repo.read(number)

    return read


def graph_of(repo: RepositoryBuilder, commits: list[bytes]) -> Graph:
    graph = Graph(repo.algo.oid_size)
    for oid in commits:
        graph.load(None, oid, lambda name: parse_commit_links(repo.read(repo.find(name))[1], repo.algo), {}, ())
    return graph


def contents(repo: RepositoryBuilder, tree: bytes, prefix: bytes = b"") -> dict[bytes, tuple[int, bytes]]:
    found = {} if prefix else {b"": (0o40000, tree)}
    for mode, name, oid in parse_tree(repo.read(repo.find(tree))[1], repo.algo):
        found[prefix + name] = (mode, oid)
        if mode == 0o40000:
            found |= contents(repo, oid, prefix + name + b"/")
    return found


def plain_changes(repo: RepositoryBuilder, graph: Graph) -> dict[bytes, list[tuple[int, int]]]:
    """What the definition says, from whole listings."""
    listings = [contents(repo, graph.tree(cid)) for cid in range(len(graph))]
    found: dict[bytes, list[tuple[int, int]]] = {}
    for cid, now in enumerate(listings):
        first, *others = [listings[parent] for parent in graph.parents(cid)] or [{}]
        for path in now.keys() | first.keys():
            if now.get(path) != first.get(path):
                same = [n for n, other in enumerate(others, 1) if other.get(path) == now.get(path)]
                found.setdefault(path, []).append((cid, same[0] if same else 0))
    return found


def unfolded(file: PathFile) -> dict[bytes, list[tuple[int, int]]]:
    return {name: list(zip(places, parents, strict=True)) for name, places, parents in file.iter_known()}


@pytest.mark.parametrize("compiled", ENGINES)
@pytest.mark.parametrize("seed", range(6))
def test_changes_are_those_that_whole_listings_show(tmp_path: Path, seed: int, compiled: bool) -> None:
    repo, commits = random_history(seed, size=40, algo=SHA256 if seed == 5 else SHA1)
    store = packed_store(repo, tmp_path, packs=2, seed=seed)
    graph = graph_of(repo, commits)
    packs = store.pack_reader() if compiled else None
    cids = array("I", range(len(graph)))
    expected = plain_changes(repo, graph)
    large, *columns = find_changes(packs, reading(repo), graph, cids)
    file = PathFile((b"".join(graph.oids(cids)), large, *columns))
    assert unfolded(file) == expected and not large
    # Half of it first, then the rest behind it: the same.
    half = len(cids) // 2
    large, *columns = find_changes(packs, reading(repo), graph, cids[:half])
    first = PathFile((b"".join(graph.oids(cids[:half])), large, *columns))
    _, *columns = find_changes(packs, reading(repo), graph, cids[half:], half, first.iter_known())
    assert unfolded(PathFile((b"".join(graph.oids(cids)), b"", *columns))) == expected


@needs_compiled
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 30), st.integers(1, 12), st.integers(1, 6), st.integers(0, 2))
def test_both_call_the_same_commits_large(tmp_path: Path, seed: int, each: int, length: int, depth: int) -> None:
    repo, commits = random_history(seed, size=15)
    store = packed_store(repo, tmp_path / f"{seed}-{each}-{length}-{depth}", seed=seed)
    graph = graph_of(repo, commits)
    cids = array("I", range(len(graph)))
    limits = LIMITS._replace(changes_each=each, path_bytes=length, depth=depth)
    found = find_changes(store.pack_reader(), reading(repo), graph, cids, 7, (), limits)
    assert found == find_changes(None, reading(repo), graph, cids, 7, (), limits)
    large = array("I", found[0])
    plain: dict[int, list[bytes]] = {}
    for path, places in plain_changes(repo, graph).items():
        for place, _parent in places:
            plain.setdefault(place, []).append(path)
    too_much = [
        cid
        for cid, paths in plain.items()
        if len(paths) > each or any(len(path) > length or path.count(b"/") > depth for path in paths)
    ]
    assert [place - 7 for place in large] == sorted(too_much)


@pytest.mark.parametrize("compiled", ENGINES)
def test_what_is_too_much_altogether_missing_or_damaged_raises(tmp_path: Path, compiled: bool) -> None:
    repo = RepositoryBuilder()
    whole = repo.commit({b"a": {b"b": b"1"}})
    lost = repo.commit({b"a": {b"b": b"2"}}, [whole])
    ragged = repo.commit(repo.add(2, b"100644 a"), [whole])
    other = RepositoryBuilder()
    missing = repo.tree({b"b": b"2"})
    for oid, type_number, data in repo.objects:
        if oid != missing:
            other.add(type_number, data)
    packs = packed_store(other, tmp_path).pack_reader() if compiled else None
    for tip, error in ((lost, ObjectMissing), (ragged, Corrupt)):
        graph = graph_of(repo, [tip])
        with pytest.raises(error):
            find_changes(packs, reading(other), graph, array("I", [0, 1]))
    graph = graph_of(repo, [whole])
    for limits in (LIMITS._replace(changes=2), LIMITS._replace(name_bytes=3)):
        with pytest.raises(LimitExceeded):
            find_changes(packs, reading(repo), graph, array("I", [0]), 0, (), limits)
    with pytest.raises(IndexError):
        find_changes(packs, reading(repo), graph, array("I", [1]))


def some_file(algo: Any = SHA1) -> tuple[PathColumns, bytes]:
    repo, commits = random_history(2, size=12, algo=algo)
    graph = graph_of(repo, commits)
    cids = array("I", range(len(graph)))
    columns = find_changes(None, reading(repo), graph, cids, 0, (), LIMITS._replace(changes_each=4))
    made = PathColumns(b"".join(graph.oids(cids)), *columns)
    return made, b"".join(iter_encoded(made, algo))


@pytest.mark.parametrize("algo", [SHA1, SHA256])
def test_a_file_says_what_was_written(algo: Any) -> None:
    made, text = some_file(algo)
    file = parse_paths(text, algo)
    assert unfolded(file) == unfolded(PathFile(made))
    assert (bytes(file.commit_oids), file.large.tobytes()) == (made.commit_oids, made.large) and len(file.large)
    names = [name for name, _places, _parents in file.iter_known()]
    assert names == sorted(names) and [file.find(name) for name in names] == list(range(len(names)))
    assert [file.find(name) for name in (b"nothing", b"a/nothing", b"~", b"a.")] == [-1] * 4
    assert read_count(text[:32], algo) == len(made.commit_oids) // algo.oid_size
    assert len(text) % 8 == algo.oid_size % 8


def test_a_damaged_file_is_refused() -> None:
    _, text = some_file()
    rng = random.Random(1)
    for at in (*range(32), *(rng.randrange(len(text)) for _ in range(60))):
        damaged = bytearray(text)
        damaged[at] ^= 1 << rng.randrange(8)
        with pytest.raises(BadPaths):
            parse_paths(bytes(damaged), SHA1)
    for cut in (0, 10, 31, len(text) - 1):
        with pytest.raises(BadPaths):
            parse_paths(text[:cut], SHA1)
    for other in (text + b"x", b""):
        with pytest.raises(BadPaths):
            parse_paths(other, SHA1)
    with pytest.raises(BadPaths):
        parse_paths(text, SHA256)
    with pytest.raises(BadPaths):
        read_count(text[:31], SHA1)


def test_columns_of_different_lengths_are_no_file() -> None:
    made, _ = some_file()
    with pytest.raises(ValueError, match="lengths"):
        list(iter_encoded(made._replace(parents=made.parents + b"x"), SHA1))
