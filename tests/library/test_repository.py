"""Opening, freshness, threads, memory, and what is never done: writing."""

import os
import random
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from govc import Repository
from govc.errors import CorruptObject, LimitExceeded, ObjectMissing, RepositoryNotFound
from govc.library.errors import RefNotFound, RepositoryClosed, RevisionNotFound
from govc.library.reading import Picture
from govc.objects.types import BLOB, COMMIT, hash_object
from govc.protocol.oid import SHA1
from tests.graph.builder import RepositoryBuilder
from tests.graph.oracle import GitOracle
from tests.library.histories import NOBODY, hexes, on_disk, opened, random_history


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[RepositoryBuilder, list[bytes], GitOracle, Repository]]:
    repo, commits = random_history(7, size=30)
    git = on_disk(repo, tmp_path / "r.git", commits[-3:], seed=7)
    with opened(tmp_path / "r.git") as repository:
        yield repo, commits, git, repository


World = tuple[RepositoryBuilder, list[bytes], GitOracle, Repository]


def tree_of(folder: str) -> dict[str, tuple[int, int]]:
    found = {}
    for root, _, files in os.walk(folder):
        for name in (root, *(f"{root}/{file}" for file in files)):
            status = os.lstat(name)
            found[name] = (status.st_mtime_ns, status.st_size)
    return found


def test_reading_writes_nothing(world: World) -> None:
    _, commits, git, repository = world
    before = tree_of(git.path)
    assert len(repository.log("b0")) and repository.log("b0", paths=[b"a"]) is not None
    assert repository.merge_bases(commits[3], commits[5]) is not None
    assert repository.files("b0") and len(repository.objects) and repository.refs.list()
    repository.ref(b"refs/heads/b0")
    with pytest.raises(RefNotFound):
        repository.ref(b"refs/heads/none")
    repository.close()
    assert tree_of(git.path) == before


def test_the_next_call_sees_what_git_did(world: World) -> None:
    _, commits, git, repository = world
    held = repository.snapshot()
    old = held.ref(b"refs/heads/b0").oid
    for step in range(4):
        git.run("update-ref", "refs/heads/b0", commits[step].hex())
        if step == 2:
            git.run("pack-refs", "--all", "--prune")
        assert repository.ref(b"refs/heads/b0").oid == commits[step]
        assert repository.ref(b"refs/heads/b0").oid == commits[step]
        assert repository.resolve("b0") == commits[step]
        assert [c.hex for c in repository.log("b0")] == hexes(git.run("rev-list", "b0").stdout)
    git.run("update-ref", "-d", "refs/heads/b0")
    with pytest.raises(RefNotFound):
        repository.ref(b"refs/heads/b0")
    assert held.ref(b"refs/heads/b0").oid == old == held.resolve("b0")


def test_new_commits_and_new_packs_are_found(world: World) -> None:
    repo, commits, git, repository = world
    assert repository.log("b0", paths=[b"a"]) is not None
    oid = commits[-1]
    for number in range(5):
        blob = git.run("hash-object", "-w", "--stdin", stdin=b"new %d\n" % number).stdout.strip().decode()
        tree = git.run("mktree", stdin=f"100644 blob {blob}\ta\n".encode()).stdout.strip().decode()
        made = git.run(
            "-c", "user.name=x", "-c", "user.email=x@y", "commit-tree", tree, "-p", oid.hex(), "-m", str(number)
        ).stdout.strip()  # fmt: skip
        oid = bytes.fromhex(made.decode())
        git.run("update-ref", "refs/heads/b0", oid.hex())
        if number == 3:
            git.run("repack", "-adq")
        assert [c.hex for c in repository.log("b0")] == hexes(git.run("rev-list", "b0").stdout)
        asked = hexes(git.run("rev-list", "b0", "--", "a").stdout)
        assert [c.hex for c in repository.log("b0", paths=[b"a"])] == asked
        assert repository.blob("b0", b"a") == b"new %d\n" % number
        assert repository.objects[bytes.fromhex(blob)].data == b"new %d\n" % number
    assert len(repository.objects) == len(
        hexes(git.run("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").stdout)
    )
    assert repo


def test_a_shallow_repository_ends_where_it_is_cut(world: World) -> None:
    _, commits, git, repository = world
    full = len(repository.log("b0"))
    cut = repository.log("b0")[2]
    (Path(git.path) / "shallow").write_text(cut.hex + "\n")
    log = repository.log("b0")
    assert len(log) < full and repository.snapshot().is_shallow
    assert [c.hex for c in log] == hexes(git.run("rev-list", "b0").stdout)
    assert repository.commit(cut).parents == ()
    for path in ("a", "b", "dir"):
        asked = hexes(git.run("rev-list", "b0", "--", path).stdout)
        assert [c.hex for c in repository.log("b0", paths=[path.encode()])] == asked
    (Path(git.path) / "shallow").unlink()
    assert len(repository.log("b0")) == full
    assert commits


def test_grafts_count(world: World) -> None:
    _, commits, git, repository = world
    (Path(git.path) / "info").mkdir(exist_ok=True)
    (Path(git.path) / "info/grafts").write_text(f"{commits[-1].hex()} {commits[0].hex()}\n")
    assert repository.commit(commits[-1]).parent_oids == (commits[0],)
    asked = hexes(git.run("rev-list", commits[-1].hex()).stdout)
    assert [c.hex for c in repository.log(commits[-1])] == asked


def test_alternates_lend_their_objects(world: World, tmp_path: Path) -> None:
    _, commits, git, _ = world
    fork = GitOracle(RepositoryBuilder(), tmp_path / "fork.git", [commits[-1]])
    (tmp_path / "fork.git/objects/info/alternates").write_text(f"{git.path}/objects\n")
    with opened(tmp_path / "fork.git") as repository:
        assert [c.hex for c in repository.log("b0")] == hexes(fork.run("rev-list", "b0").stdout)
        assert commits[0] in repository.objects


def test_a_linked_worktree_is_opened_by_its_folder(world: World, tmp_path: Path) -> None:
    _, commits, git, _ = world
    git.run("worktree", "add", "-q", "--detach", str(tmp_path / "tree"), commits[4].hex())
    with opened(tmp_path / "tree") as repository:
        assert repository.head.is_detached and repository.commit().oid == commits[4]
        assert repository.ref(b"refs/heads/b0").oid == repository.resolve("b0")


def test_what_is_not_there_is_said(world: World, tmp_path: Path) -> None:
    _, commits, _, repository = world
    with pytest.raises(ObjectMissing):
        repository.objects[bytes(20)]
    with pytest.raises(ObjectMissing):
        repository.objects[b"short"]
    with pytest.raises(TypeError):
        repository.objects["digits"]  # type: ignore[index]
    assert repository.objects.get(bytes(20), None) is None and bytes(20) not in repository.objects
    with pytest.raises(ObjectMissing):
        repository.log(bytes(20))
    with pytest.raises(ValueError, match="20 bytes"):
        repository.log(b"main")
    with pytest.raises(RevisionNotFound, match=r"no ref"):
        repository.resolve("nothing")
    tree = repository.resolve("b0^{tree}")
    with pytest.raises(RevisionNotFound, match="leads to a tree"):
        repository.log(tree)
    with pytest.raises(RevisionNotFound, match="no tree lies there"):
        repository.tree("b0", b"not/there")
    with pytest.raises(RevisionNotFound, match="nothing lies there"):
        repository.blob("b0", b"not/there")
    with pytest.raises(RevisionNotFound, match="not a blob"):
        repository.blob(commits[0])
    assert repository.entry("b0", b"not/there") is None
    with pytest.raises(ValueError, match="order"):
        repository.log("b0", order="sideways")
    with pytest.raises(RepositoryNotFound):
        Repository(tmp_path / "nowhere")
    with pytest.raises(LimitExceeded):
        opened(tmp_path / "r.git", cache_bytes=1000)


def test_after_close_nothing_is_answered(world: World) -> None:
    _, commits, _, repository = world
    log = repository.log("b0")
    repository.close()
    repository.close()
    with pytest.raises(RepositoryClosed):
        repository.log("b0")
    with pytest.raises(RepositoryClosed):
        repository.objects[commits[0]]
    with pytest.raises(RepositoryClosed):
        repository.ref(b"refs/heads/b0")
    assert len(log.oids) == len(log)


def test_damaged_objects_are_named(tmp_path: Path) -> None:
    repo = RepositoryBuilder()
    bad_tree = repo.add(2, b"100644 cut off")
    on_bad = repo.commit(bad_tree)
    good = repo.commit({b"a": b"1"})
    odd = repo.add(
        COMMIT, b"tree %s\nparent %s\n\nno author\n" % (repo.links(good)[0].hex().encode(), good.hex().encode())
    )
    not_one = repo.add(COMMIT, b"nonsense\n")
    child = repo.commit({b"a": b"2"}, [on_bad])
    on_disk(repo, tmp_path / "r.git", [good, odd, child])
    with opened(tmp_path / "r.git") as repository:
        assert repository.log(odd).oids == [odd, good]
        assert repository.commit(odd).time == 0
        for question in (repository.tree, repository.files):
            with pytest.raises(CorruptObject, match=bad_tree.hex()):
                question(on_bad)
        with pytest.raises(CorruptObject, match=not_one.hex()):
            repository.log(not_one)
        assert repository.log(good, paths=[b"a"]).oids == [good]
        with pytest.raises(CorruptObject, match=bad_tree.hex()):
            repository.log(child, paths=[b"a"])


def test_a_damaged_commit_graph_is_left_alone(world: World) -> None:
    _, _, git, repository = world
    git.run("commit-graph", "write", "--reachable")
    path = Path(git.path) / "objects/info/commit-graph"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(data)
    with opened(Path(git.path)) as fresh:
        assert fresh.log("b0").oids == repository.log("b0").oids


def test_many_threads_ask_one_repository(world: World) -> None:
    repo, commits, git, _ = world
    expected = {oid: hexes(git.run("rev-list", oid.hex()).stdout) for oid in commits}
    paths = {oid: hexes(git.run("rev-list", oid.hex(), "--", "a").stdout) for oid in commits}
    with opened(Path(git.path), cache_bytes=1 << 20) as repository:
        start = threading.Barrier(8)

        def ask(seed: int) -> None:
            rng = random.Random(seed)
            start.wait()
            for _ in range(25):
                oid = rng.choice(commits)
                assert [c.hex for c in repository.log(oid)] == expected[oid]
                assert [c.hex for c in repository.log(oid, paths=[b"a"])] == paths[oid]
                name, kind, data = rng.choice(repo.objects)
                assert repository.objects[name].data == data and kind
                assert repository.ref(b"refs/heads/b0").oid in repository.objects

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))


def test_the_cache_keeps_to_its_budget(tmp_path: Path) -> None:
    """Twelve megabytes of objects through a budget of two: the process grows by no more than that and some slack."""
    code = """
import resource, sys
from govc import Repository
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
repository = Repository(sys.argv[1], environ={}, cache_bytes=2 << 20)
oids = list(repository.objects)
for oid in oids[:20]:
    repository.objects[oid]
before = rss()
for _ in range(3):
    for oid in oids:
        repository.objects[oid]
statistics = repository.statistics()
assert statistics.objects.used_bytes <= statistics.objects.budget_bytes <= 2 << 20, statistics
print(rss() - before)
"""
    folder = tmp_path / "r.git"
    GitOracle(RepositoryBuilder(), folder)
    rng = random.Random(1)
    for _ in range(1500):
        data = rng.randbytes(8000)
        oid = hash_object(SHA1, BLOB, data).hex()
        (folder / "objects" / oid[:2]).mkdir(exist_ok=True)
        (folder / "objects" / oid[:2] / oid[2:]).write_bytes(zlib.compress(b"blob %d\0" % len(data) + data, 1))
    ran = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 2 * (2 << 20), ran.stdout


def test_importing_it_starts_nothing() -> None:
    code = (
        "import sys, govc; assert not [m for m in sys.modules if m.startswith('govc.')], 'govc is not cheap';"
        "from govc import Repository; import threading;"
        "bad = [m for m in ('gevent', 'werkzeug', 'gunicorn', 'click', 'prometheus_client') if m in sys.modules];"
        "assert not bad, bad; assert threading.active_count() == 1"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    with pytest.raises(ImportError):
        from govc import Nonsense  # type: ignore[attr-defined] # noqa: F401


def test_a_picture_is_a_reading_of_one_moment(world: World) -> None:
    _, commits, git, repository = world
    while (picture := repository.snapshot()) is not repository.snapshot():
        time.sleep(0.01)  # a stamp of just now vouches for nothing
    assert isinstance(picture, Picture) and picture.snapshot() is picture
    assert repository.open(git.path).refs.list() == picture.refs.list()
    git.run("update-ref", "refs/heads/more", commits[0].hex())
    assert b"refs/heads/more" not in picture.refs and b"refs/heads/more" in repository.refs
    assert NOBODY == {}


def test_size_and_pieces_come_from_another_copy_where_one_is_damaged(tmp_path: Path) -> None:
    """As the whole content does, and as git has it."""
    folder = tmp_path / "two.git"
    run_in = partial(subprocess.run, cwd=folder, check=True, capture_output=True)
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)
    hexes = [
        run_in(["git", "hash-object", "-w", "--stdin", "-t", "blob"], input=content).stdout.decode().strip()
        for content in (b"first" * 1000, b"second")
    ]
    packs = []
    for words in (hexes[:1], hexes):
        made = run_in(["git", "pack-objects", "-q", "objects/pack/pack"], input="\n".join([*words, ""]).encode())
        packs.append(folder / "objects" / "pack" / f"pack-{made.stdout.decode().strip()}.pack")
    run_in(["git", "prune-packed"])
    oid = bytes.fromhex(hexes[0])
    for pack in packs:
        whole = pack.read_bytes()
        pack.chmod(0o644)
        pack.write_bytes(whole[:12] + b"\xff" * (len(whole) - 32) + whole[-20:])
        with Repository.open(folder) as repository:
            assert repository.objects.header(oid) == ("blob", 5000)
            assert b"".join(repository.objects.stream(oid, 1024)) == b"first" * 1000
        pack.write_bytes(whole)


def test_the_log_of_a_path_after_commits_that_it_knew_were_pruned(tmp_path: Path) -> None:
    folder = tmp_path / "pruned.git"
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)

    def git(*words: str, given: str = "") -> str:
        names = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        command = ["git", "-C", str(folder), *words]
        run = subprocess.run(
            command, check=True, capture_output=True, text=True, input=given, env={**os.environ, **names}
        )
        return run.stdout.strip()

    def commit(text: str, *parents: str) -> str:
        blob = git("hash-object", "-w", "--stdin", given=text)
        inner = git("mktree", given=f"100644 blob {blob}\tf\n")
        tree = git("mktree", given=f"040000 tree {inner}\td\n")
        return git("commit-tree", tree, *(word for parent in parents for word in ("-p", parent)), "-m", text)

    first = commit("a")
    git("update-ref", "refs/heads/main", commit("b", first))
    with Repository.open(folder) as repository:
        assert len(repository.log("main")) == 2
        git("update-ref", "refs/heads/main", commit("c", first))
        git("gc", "-q", "--prune=now")
        asked = git("rev-list", "main", "--", "d/f").split()
        assert [found.hex for found in repository.log("main", paths=[b"d/f"])] == asked
