"""Every question of the library over random histories, with git's own answer beside it."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from govc import Repository
from govc.library.errors import RevisionNotFound
from govc.protocol.oid import SHA256
from tests.graph.oracle import GitOracle
from tests.library.histories import hexes, on_disk, opened, random_history

PATHS = ("a", "b", "c", "dir", "a/b", "dir/a", "a/b/c", "a.b", "b/dir", "last", "dir/c/a")
ORDERS = {"default": (), "date": ("--date-order",), "topo": ("--topo-order",)}
CLOCKS = ("good", "ties", "skewed")


class World:
    """One history on disk, opened by the library."""

    def __init__(self, seed: int, clock: str, folder: Path) -> None:
        self.random = random.Random(seed)
        self.repo, self.commits = random_history(seed, clock=clock, size=40)
        self.git: GitOracle = on_disk(self.repo, folder, self.commits[-4:], seed=seed, packed=seed % 3 > 0)
        self.has_commit_graph = bool(seed % 2)
        if self.has_commit_graph:
            self.git.run("commit-graph", "write", "--reachable")
        self.repository: Repository = opened(folder)

    def some(self, count: int) -> list[bytes]:
        return self.random.sample(self.commits, count)

    def rev_list(self, *words: str) -> list[str]:
        return hexes(self.git.run("rev-list", *words).stdout)


@pytest.fixture(
    params=[(seed, clock) for seed in range(3) for clock in CLOCKS], ids=lambda p: f"{p[1]}-{p[0]}", scope="module"
)
def world(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    seed, clock = request.param
    world = World(seed, clock, tmp_path_factory.mktemp("world") / "r.git")
    with world.repository:
        yield world


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("first_parent", [False, True])
def test_a_log_has_the_commits_and_the_order_of_rev_list(world: World, order: str, first_parent: bool) -> None:
    for _ in range(6):
        tips = world.some(world.random.randint(1, 3))
        words = [*ORDERS[order], *(["--first-parent"] if first_parent else []), *(tip.hex() for tip in tips)]
        log = world.repository.log(*tips, order=order, first_parent=first_parent)
        asked = world.rev_list(*words)
        if first_parent and order != "default" and not world.has_commit_graph:
            # Without the file git lets second parents delay a commit, though it doesn't follow them.
            assert sorted(commit.hex for commit in log) == sorted(asked)
        else:
            assert [commit.hex for commit in log] == asked
        assert [oid.hex() for oid in log.oids] == [commit.hex for commit in log]
        limited = world.repository.log(*tips, order=order, first_parent=first_parent, limit=3)
        assert limited.oids == log.oids[:3] == log[:3].oids


@pytest.mark.parametrize("order", ORDERS)
def test_a_range_is_exactly_what_one_side_reaches_and_the_other_does_not(world: World, order: str) -> None:
    for _ in range(8):
        tips, excluded = world.some(2), world.some(world.random.randint(1, 2))
        got = [commit.hex for commit in world.repository.log(*tips, exclude=excluded, order=order)]
        reached = set(world.rev_list(*(tip.hex() for tip in tips)))
        assert set(got) == reached - set(world.rev_list(*(oid.hex() for oid in excluded)))
        asked = world.rev_list(*ORDERS[order], *(t.hex() for t in tips), *(f"^{e.hex()}" for e in excluded))
        # Where clocks are wrong git may show a few that the excluded side reaches.
        assert [oid for oid in asked if oid in set(got)] == got
        if "good" in str(world.git.path):
            assert asked == got


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("first_parent", [False, True])
def test_the_history_of_a_path_is_that_of_git(world: World, order: str, first_parent: bool) -> None:
    options = [*ORDERS[order], *(["--first-parent"] if first_parent else [])]
    for path in PATHS:
        tips = world.some(world.random.randint(1, 2))
        asked = world.rev_list(*options, *(tip.hex() for tip in tips), "--", path)
        log = world.repository.log(*tips, order=order, first_parent=first_parent, paths=[path.encode()])
        if first_parent and order != "default" and not world.has_commit_graph:
            assert sorted(commit.hex for commit in log) == sorted(asked), path
        else:
            assert [commit.hex for commit in log] == asked, path
    two = world.random.sample(PATHS, 2)
    tip = world.commits[-1]
    asked = world.rev_list(*options, tip.hex(), "--", *two)
    log = world.repository.log(tip, order=order, first_parent=first_parent, paths=[path.encode() for path in two])
    assert sorted(commit.hex for commit in log) == sorted(asked), two


def test_everything_is_a_path_too(world: World) -> None:
    tip = world.commits[-1]
    assert [c.hex for c in world.repository.log(tip, paths=[b""])] == world.rev_list(tip.hex(), "--", ".")


def test_the_history_of_a_path_in_a_range(world: World) -> None:
    if "skewed" in world.git.path:
        pytest.skip("git's own range may hold more there")
    for path in PATHS[:6]:
        tip, bottom = world.commits[-1], world.some(1)[0]
        asked = world.rev_list(tip.hex(), f"^{bottom.hex()}", "--", path)
        got = [c.hex for c in world.repository.log(tip, exclude=[bottom], paths=[path.encode()])]
        assert got == asked, (path, bottom.hex())


def test_merge_bases_are_those_of_git(world: World) -> None:
    for _ in range(12):
        one, *others = world.some(world.random.choice([2, 2, 2, 3]))
        asked = world.git.run("merge-base", "--all", *(oid.hex() for oid in (one, *others)), check=False).stdout
        got = world.repository.merge_bases(one, *others)
        assert sorted(commit.hex for commit in got) == sorted(hexes(asked))
        assert [commit.time for commit in got] == sorted((commit.time for commit in got), reverse=True)
        first = world.repository.merge_base(one, *others)
        assert first == (got[0] if got else None)


def test_ahead_and_behind_are_counted(world: World) -> None:
    reach = {oid: set(world.rev_list(oid.hex())) for oid in world.commits}
    for _ in range(20):
        one, other = world.some(2)
        expected = (len(reach[one] - reach[other]), len(reach[other] - reach[one]))
        assert world.repository.ahead_behind(one, other) == expected
        assert world.repository.is_ancestor(one, other) == (one.hex() in reach[other])
    assert world.repository.ahead_behind(one, one) == (0, 0)
    assert world.repository.is_ancestor(one, one)


def test_refs_that_contain_a_commit(world: World) -> None:
    for oid in world.some(8):
        asked = world.git.run("for-each-ref", "--format=%(refname)", "--contains", oid.hex(), "refs/heads/").stdout
        assert [name.decode() for name in world.repository.contains(oid)] == hexes(asked)


def test_a_commit_tells_what_cat_file_tells(world: World) -> None:
    for oid in world.some(5):
        commit = world.repository.commit(oid)
        text = world.git.run("cat-file", "commit", oid.hex()).stdout
        assert commit.raw == text
        assert commit.tree_oid.hex().encode() in text.split(b"\n")[0]
        assert commit.parent_oids == tuple(parent.oid for parent in commit.parents) == tuple(world.repo.links(oid)[1:])
        assert commit.committer == (b"A", b"a@b", commit.time, 0)
        assert commit.author.when.timestamp() == commit.time
        assert commit.message == text.partition(b"\n\n")[2]
        assert commit == world.repository[oid] and hash(commit) == hash(world.repository[oid])


def test_trees_are_those_of_ls_tree(world: World) -> None:
    for oid in world.some(4):
        asked = world.git.run("ls-tree", "-r", "-z", oid.hex()).stdout.split(b"\0")[:-1]
        files = world.repository.files(oid)
        assert [b"%06o blob %b\t%b" % (f.mode, f.oid.hex().encode(), f.path) for f in files] == asked
        flat = world.git.run("ls-tree", "-z", "--format=%(objectmode) %(objectname) %(path)", oid.hex()).stdout
        entries = world.repository.tree(oid)
        assert [b"%06o %b %b" % (e.mode, e.oid.hex().encode(), e.name) for e in entries] == flat.split(b"\0")[:-1]
        for file in files:
            assert world.repository.blob(oid, file.path) == world.repository.objects[file.oid].data
            entry = world.repository.entry(oid, file.path)
            assert entry is not None and entry.oid == file.oid and entry.name == file.path.rpartition(b"/")[2]
            folder, _, _ = file.path.rpartition(b"/")
            assert file.path[len(folder) + bool(folder) :] in [f.path for f in world.repository.files(oid, folder)]


EXPRESSIONS = (
    "{0} {0}~1 {0}~2^1 {0}^2 {0}^3 {0}^{{tree}} {0}^0 {0}:a {0}:dir/a {0}^{{blob}} {0}~100 {0}^{{nonsense}} {1} "
    "b1 heads/b1 refs/heads/b1~1 nothing v1 v1^{{}} v1^{{commit}} v1^{{tag}} v1~1 v1:a HEAD"
)


def test_an_expression_is_what_rev_parse_says(world: World) -> None:
    world.git.run(
        "-c", "user.name=x", "-c", "user.email=x@y", "tag", "-f", "-a", "-m", "x", "v1", world.commits[-2].hex()
    )
    oid = world.some(1)[0].hex()
    for text in EXPRESSIONS.format(oid, oid[:10]).split():
        asked = world.git.run("rev-parse", "--verify", "-q", text, check=False).stdout.decode().strip()
        if asked:
            assert world.repository.resolve(text).hex() == asked, text
        else:
            with pytest.raises(RevisionNotFound):
                world.repository.resolve(text)


def test_refs_are_those_of_for_each_ref(world: World) -> None:
    asked = (
        world.git.run("for-each-ref", "--format=%(objectname) %(refname) %(*objectname)").stdout.decode().split("\n")
    )
    listed = [
        f"{r.oid.hex()} {r.name.decode()} {r.peeled.hex() if r.peeled else ''}" for r in world.repository.refs.list()
    ]
    assert listed == asked[:-1]
    assert [ref.name for ref in world.repository.refs.list(b"refs/heads/b1")] == [b"refs/heads/b1"]
    for name in world.repository.refs:
        assert world.repository.ref(name) == world.repository.refs[name] == world.repository.snapshot().ref(name)
        assert name in world.repository.refs


def test_objects_are_counted_and_read_as_git_does(world: World) -> None:
    lines = world.git.run("cat-file", "--batch-all-objects", "--batch-check").stdout.decode().splitlines()
    objects = world.repository.objects
    assert len(objects) == len(lines) == len(set(objects))
    for line in lines:
        oid, kind, size = line.split()
        name = bytes.fromhex(oid)
        assert objects.header(name) == (kind, int(size)) and name in objects
        raw = objects[name]
        assert (raw.kind, len(raw.data)) == (kind, int(size)) and objects[name] is raw
        assert b"".join(objects.stream(name, 3)) == raw.data


def test_sha256(tmp_path: Path) -> None:
    repo, commits = random_history(5, algo=SHA256)
    git = on_disk(repo, tmp_path / "r.git", commits[-3:], seed=5)
    with opened(tmp_path / "r.git") as repository:
        assert [c.hex for c in repository.log("b0")] == hexes(git.run("rev-list", "b0").stdout)
        assert [c.hex for c in repository.log("b2", paths=[b"a"])] == hexes(git.run("rev-list", "b2", "--", "a").stdout)
        assert len(repository.objects) == len(repo.objects)
        assert repository.resolve(commits[0].hex()[:12]) == commits[0]
