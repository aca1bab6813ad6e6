"""Trees and the histories of folders: the kernel and its twin against what trees plainly say."""

import random
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import Corrupt, CorruptObject, LimitExceeded, ObjectMissing
from govc.graph import treelist_py
from govc.kernels import history
from govc.library.values import FileEntry, TreeEntry
from govc.objects.commit import parse_commit_links
from govc.objects.errors import MalformedObject
from govc.objects.tree import parse_tree
from govc.protocol.oid import SHA1
from tests.graph.builder import RepositoryBuilder
from tests.graph.packed import packed_store
from tests.kernels.both import compiled
from tests.library.histories import random_history

KERNELS = [treelist_py] if compiled("treelist") is None or not history.Graph.__module__.endswith("_c") else [
    treelist_py, compiled("treelist")
]  # fmt: skip


@pytest.fixture(params=[pytest.param(k, id=k.__name__.rpartition(".")[2]) for k in KERNELS])
def kernel(request: Any) -> Any:
    return request.param


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=80), st.lists(st.tuples(st.sampled_from([b"100644", b"40000", b"0", b"777777"]), st.binary(min_size=1, max_size=5).filter(lambda n: b"\0" not in n)), max_size=4).map(lambda rows: b"".join(m + b" " + n + b"\0" + bytes(20) for m, n in rows))), st.integers(0, 30))  # fmt: skip  # noqa: E501
def test_entries_are_those_of_the_parser_and_so_are_refusals(data: bytes, cut: int) -> None:
    for text in (data, data[: len(data) - cut] if cut < len(data) else data):
        try:
            expected: list[Any] | None = list(map(tuple, parse_tree(text, SHA1)))
        except MalformedObject:
            expected = None
        for kernel in KERNELS:
            if expected is None:
                with pytest.raises(Corrupt):
                    kernel.parse_entries(text, 20, TreeEntry)
                continue
            found = kernel.parse_entries(text, 20, TreeEntry)
            assert list(map(tuple, found)) == expected and all(type(entry) is TreeEntry for entry in found)
            for mode, name, oid in expected:
                first = next(e for e in expected if e[1] == name)
                assert kernel.find_entry(text, 20, name) == (first[0], first[2]) and mode and oid
            assert kernel.find_entry(text, 20, b"not there") is None


def value_at(repo: RepositoryBuilder, root: bytes, path: bytes) -> tuple[int, bytes] | None:
    found: tuple[int, bytes] | None = (0o40000, root)
    for name in path.split(b"/"):
        if found is None or found[0] != 0o40000:
            return None
        entries = parse_tree(repo.read(repo.find(found[1]))[1], SHA1)
        found = next(((e.mode, e.oid) for e in entries if e.name == name), None)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_column_says_what_lies_at_a_path(kernel: Any, seed: int, tmp_path: Path) -> None:
    repo, commits = random_history(seed, size=40, clock="ties")
    store = packed_store(repo, tmp_path, packs=2, seed=seed)
    reader = store.pack_reader()

    def read(oid: bytes) -> tuple[int, bytes]:
        return repo.read(repo.find(oid))

    graph = history.Graph(20)
    rng = random.Random(seed)
    values = kernel.Values(20)
    root, folder = kernel.Folder(graph, values), kernel.Folder(graph, values)
    whole, above = array("I"), array("I")
    columns: dict[bytes, array[int]] = {path: array("I") for path in (b"a", b"dir", b"a/b", b"a/a", b"a/none", b"b")}
    for tip in (*rng.sample(commits, 3), *commits):
        graph.load(None, tip, lambda oid: parse_commit_links(read(oid)[1], SHA1), {}, ())
        kernel.root_column(graph, values, whole)
        while not root.cover(reader, read, None, 3):
            pass
        root.extend(b"a", above)
        assert folder.cover(reader, read, above, -1)
        for path, column in columns.items():
            parent, _, name = path.rpartition(b"/")
            (folder if parent else root).extend(name, column)
            assert len(column) == len(graph) == root.covered == folder.covered
    for cid in range(len(graph)):
        tree = graph.tree(cid)
        assert values.entry(whole[cid]) == (0o40000, tree)
        for path, column in columns.items():
            assert values.entry(column[cid]) == value_at(repo, tree, path), path
    assert values.byte_count and root.byte_count


def test_files_are_listed_with_their_paths(kernel: Any, tmp_path: Path) -> None:
    repo, commits = random_history(11, size=10)
    store = packed_store(repo, tmp_path)
    reader, expected = store.pack_reader(), []

    def read(oid: bytes) -> tuple[int, bytes]:
        if repo.find(oid) < 0:
            raise ObjectMissing(oid)
        return repo.read(repo.find(oid))

    def walk(oid: bytes, prefix: bytes) -> None:
        for mode, name, child in parse_tree(read(oid)[1], SHA1):
            if mode == 0o40000:
                walk(child, prefix + name + b"/")
            else:
                expected.append(FileEntry(mode, prefix + name, child))

    root = repo.links(commits[-1])[0]
    walk(root, b"")
    assert kernel.list_files(reader, read, root, FileEntry, 10, 1000) == tuple(expected)
    with pytest.raises(LimitExceeded):
        kernel.list_files(reader, read, root, FileEntry, 10, len(expected) - 1)
    deep = repo.tree({b"1": {b"2": {b"3": {b"4": b"x"}}}})
    with pytest.raises(LimitExceeded):
        kernel.list_files(reader, read, deep, FileEntry, 2, 1000)
    with pytest.raises(CorruptObject):
        kernel.list_files(reader, read, commits[0], FileEntry, 2, 1000)
    with pytest.raises(ObjectMissing):
        kernel.list_files(reader, read, bytes(20), FileEntry, 2, 1000)
