"""Listing whole trees: the same as git's own, or nothing at all."""

import os
import subprocess
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.kernels.treewalk import list_trees
from govc.odb.store import ObjectStore
from govc.protocol.oid import SHA1
from tests.graph.packed import packed_store
from tests.graph.test_closure import random_repository
from tests.kernels.both import needs_compiled

pytestmark = needs_compiled


def listed(store: ObjectStore, roots: list[bytes], *, with_blobs: bool = True) -> tuple[set[bytes], set[bytes]] | None:
    reader = store.pack_reader()
    assert reader is not None
    found = list_trees(reader, array("q", map(store.find, roots)), with_blobs)
    if found is None:
        return None
    numbers = [array("q", part).tolist() for part in found]
    assert all(len(part) == len(set(part)) for part in numbers)
    trees, blobs = ({store.oid_of(number) for number in part} for part in numbers)
    return trees, blobs


def git(path: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", "-C", str(path), *arguments], input=stdin, env=environ, check=True, capture_output=True
    ).stdout


def repository(tmp_path: Path, entries: bytes) -> tuple[Path, bytes]:
    """A repository with one tree of these mktree lines; its folder and the name of the tree."""
    path = tmp_path / "r.git"
    git(tmp_path, "init", "-q", "--bare", str(path))
    git(path, "hash-object", "-w", "--stdin", stdin=b"content")
    inner = git(path, "mktree", stdin=b"100644 blob 6b584e8ece562ebffc15d38808cd6b98fc3d97ea\tx\n").decode().strip()
    root = git(path, "mktree", "--missing", stdin=entries.replace(b"INNER", inner.encode())).decode().strip()
    return path, bytes.fromhex(root)


CONTENT = b"6b584e8ece562ebffc15d38808cd6b98fc3d97ea"
LINES = (
    b"100644 blob " + CONTENT + b"\ta\n",
    b"100755 blob " + CONTENT + b"\tb\n",
    b"120000 blob " + CONTENT + b"\tc\n",
    b"160000 commit " + b"1" * 40 + b"\td\n",
    b"040000 tree INNER\te\n",
    b"040000 tree INNER\tf\n",
)


@pytest.mark.parametrize("packs", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_it_lists_what_the_twin_lists(tmp_path: Path, seed: int, packs: int) -> None:
    repo, commits = random_repository(seed, size=15)
    store = packed_store(repo, tmp_path, packs=packs, seed=seed)
    roots = [bytes.fromhex(repo.objects[repo.find(oid)][2][5:45].decode()) for oid in commits]
    expected: tuple[set[bytes], set[bytes]] = set(), set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        expected[0].add(name)
        data = repo.objects[repo.find(name)][2]
        while data:
            mode, _, data = data.partition(b" ")
            _, _, data = data.partition(b"\0")
            child, data = data[:20], data[20:]
            if mode == b"40000":
                waiting.append(child)
            elif mode != b"160000":
                expected[1].add(child)
    assert listed(store, roots) == expected
    assert listed(store, roots, with_blobs=False) == (expected[0], set())


def test_links_modes_and_submodules(tmp_path: Path) -> None:
    path, root = repository(tmp_path, b"".join(LINES))
    names = git(path, "rev-list", "--objects", "--no-object-names", root.hex())
    git(path, "pack-objects", "-q", "objects/pack/pack", stdin=names)
    git(path, "prune-packed")
    found = listed(ObjectStore.open(str(path / "objects"), SHA1), [root])
    assert found is not None
    assert sorted(oid.hex() for part in found for oid in part) == sorted(names.decode().split())
    assert len(found[1]) == 1


@pytest.mark.parametrize("root_is_packed", [True, False])
def test_what_is_loose_is_for_the_twin(tmp_path: Path, root_is_packed: bool) -> None:
    path, root = repository(tmp_path, b"".join(LINES))
    if root_is_packed:
        git(path, "pack-objects", "-q", "objects/pack/pack", stdin=root.hex().encode() + b"\n")
        git(path, "prune-packed")
    assert listed(ObjectStore.open(str(path / "objects"), SHA1), [root]) is None


@settings(max_examples=25, deadline=None)
@given(data=st.binary(max_size=80))
def test_what_is_no_tree_is_for_the_twin(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    tmp_path = tmp_path_factory.mktemp("broken")
    path = tmp_path / "r.git"
    git(tmp_path, "init", "-q", "--bare", str(path))
    content = b"40000 " + data
    root = git(path, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=content).decode().strip()
    git(path, "pack-objects", "-q", "objects/pack/pack", stdin=root.encode() + b"\n")
    git(path, "prune-packed")
    assert listed(ObjectStore.open(str(path / "objects"), SHA1), [bytes.fromhex(root)]) is None
