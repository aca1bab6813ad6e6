"""The files that plain git keeps beside packs to be fast: they may be there, be old, or be damaged; answers stay right.

Each scenario compares a clone from us with the objects that are in the repository, or with git's own answer.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import FLUSH, demux, lines, pack_objects, upload
from compat.test_fetch import grow
from compat.test_raw_v2 import ask, command
from govc.repo.maintenance import maintain_path

Twin = Callable[[Repo], str]
HASHES = pytest.mark.parametrize("object_format", ["sha1", "sha256"])


def reachable(repo: Repo) -> set[str]:
    """Every object that the refs reach, as git sees it."""
    return {line.split()[0] for line in repo.run("rev-list", "--objects", "--all").splitlines()}


def clone_is_whole(git: Git, repo: Repo, expected: set[str] | None = None) -> None:
    """A mirror has every ref and every object that the refs reach; `expected` where git can't be asked any more."""
    name = "mirror"
    git("clone", "-q", "--mirror", repo.url, name)
    if expected is None:
        expected = reachable(repo)
        assert git.refs(name) == repo.refs()
    assert git.objects(name) == expected
    git.fsck(name)
    shutil.rmtree(git.cwd / name)


def wanted(git: Git, url: str, repo: Repo, *more: str) -> set[str]:
    """The objects of a v0 fetch of main."""
    body = lines(f"want {repo.rev('main')} side-band-64k", *more, FLUSH, "done")
    return pack_objects(git, demux(upload(url, body).packets).data)


def several_packs(git: Git, repo: Repo) -> list[Path]:
    """Four packs and some loose objects; the packs, by size."""
    for number in range(3):
        grow(repo, 3 + number, ref=f"refs/heads/grown{number}")
        repo.run("repack", "-dq")
    grow(repo, 2, ref="refs/heads/loose")
    return sorted((repo.path / "objects/pack").glob("*.pack"), key=lambda path: path.stat().st_size)


def damage(path: Path, how: str) -> None:
    """Break a file in one of several ways."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    if how == "empty":
        data.clear()
    elif how == "cut":
        del data[len(data) // 2 :]
    elif how == "signature":
        data[0] ^= 0xFF
    elif how == "version":
        data[4] = 9
    elif how == "hash":
        data[5] = 9
    elif how == "chunks":
        data[12:44] = bytes(32)
    elif how == "middle":
        middle = len(data) // 2
        data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)


@pytest.mark.rows("FS-19", "FS-21", "CF-55", "FS-54")
@HASHES
def test_multi_pack_indexes_fresh_and_stale(server: Server, git: Git, object_format: str) -> None:
    repo = server.create_repo("small", object_format=object_format)
    packs = several_packs(git, repo)
    repo.run("multi-pack-index", "write")
    clone_is_whole(git, repo)
    # A pack that it doesn't know.
    grow(repo, 3, ref="refs/heads/after")
    repo.run("repack", "-dq")
    clone_is_whole(git, repo)
    # One that it knows is gone; its objects lie in another.
    repo.run("repack", "-aq")
    for suffix in (".pack", ".idx", ".rev"):
        packs[0].with_suffix(suffix).unlink(missing_ok=True)
    clone_is_whole(git, repo)
    (repo.path / "objects/pack/multi-pack-index").unlink()


@pytest.mark.rows("FS-19", "FS-23")
@pytest.mark.parametrize("how", ["empty", "cut", "signature", "version", "hash", "chunks", "middle"])
def test_a_damaged_multi_pack_index_is_no_harm(server: Server, git: Git, how: str) -> None:
    repo = server.create_repo("small")
    several_packs(git, repo)
    repo.run("multi-pack-index", "write", "--bitmap")
    expected = reachable(repo)
    for path in (repo.path / "objects/pack").glob("multi-pack-index*"):
        damage(path, how)
    clone_is_whole(git, repo, expected)
    for path in (repo.path / "objects/pack").glob("multi-pack-index*"):
        path.unlink()


@pytest.mark.rows("FS-19")
def test_a_pack_without_its_own_index_is_used_by_nobody(server: Server, git: Git, twin: Twin) -> None:
    """A multi-pack-index lists its objects, and yet git can't read them, and neither can we."""
    repo = server.create_repo("small")
    repo.broken = True
    packs = several_packs(git, repo)
    repo.run("multi-pack-index", "write")
    packs[-1].with_suffix(".idx").unlink()
    body = lines(f"want {repo.rev('grown0')} side-band-64k", FLUSH, "done")
    answers = [demux(upload(url, body).packets) for url in (repo.url, twin(repo))]
    assert [answer.ended for answer in answers] == [False, False]
    assert all(b"repository corruption" in answer.fatal for answer in answers)


@pytest.mark.rows("FS-20")
def test_a_chain_of_multi_pack_indexes(server: Server, git: Git) -> None:
    repo = server.create_repo("small")
    several_packs(git, repo)
    written = repo.git("multi-pack-index", "write", "--incremental", cwd=repo.path, check=False)
    folder = repo.path / "objects/pack/multi-pack-index.d"
    if written.code != 0:  # git before 2.46 knows no chains: what lies there is as strange to us as it is to it
        folder.mkdir()
        (folder / "multi-pack-index-chain").write_text("0" * 40 + "\n")
    assert folder.is_dir()
    clone_is_whole(git, repo)
    shutil.rmtree(folder)


@pytest.mark.rows("FS-22", "FS-23", "CF-65", "CF-70")
@pytest.mark.parametrize(
    "chore",
    [
        ["repack", "-adbq"],
        ["-c", "pack.writeBitmapLookupTable=true", "repack", "-adbq"],
        ["-c", "pack.writeBitmapHashCache=false", "repack", "-adbq"],
        ["multi-pack-index", "write", "--bitmap"],
        ["repack", "-dq", "--write-midx", "--write-bitmap-index"],
    ],
    ids=" ".join,
)
def test_bitmaps(server: Server, git: Git, twin: Twin, chore: list[str]) -> None:
    repo = server.create_repo("small")
    several_packs(git, repo)
    repo.run(*chore)
    assert list((repo.path / "objects/pack").glob("*.bitmap"))
    clone_is_whole(git, repo)
    assert wanted(git, repo.url, repo) == wanted(git, twin(repo), repo)
    grow(repo, 3)
    clone_is_whole(git, repo)
    for bitmap in (repo.path / "objects/pack").glob("*.bitmap"):
        damage(bitmap, "cut")
    clone_is_whole(git, repo)
    for bitmap in (repo.path / "objects/pack").glob("*.bitmap"):
        bitmap.unlink()


@pytest.mark.rows("FS-22", "FS-23", "CF-73", "FS-54")
@HASHES
@pytest.mark.parametrize("packs", ["one pack", "several packs"])
def test_git_http_backend_clones_by_our_bitmaps(
    server: Server, git: Git, twin: Twin, object_format: str, packs: str
) -> None:
    repo = server.create_repo("linear", object_format=object_format)
    repo.run("repack", "-adq")
    if packs == "several packs":
        grow(repo, 200)
        repo.run("repack", "-dq")
    for bitmap in (repo.path / "objects/pack").glob("*.bitmap"):
        bitmap.unlink()

    def reused(name: str) -> int:
        done = git("clone", "--mirror", "--progress", twin(repo), name)
        git.fsck(name)
        assert git.refs(name) == repo.refs()
        (count,) = re.findall(r"pack-reused (\d+)", done.stderr)
        return int(count)

    assert reused("before") == 0
    assert maintain_path(str(repo.path), {"GIT_CONFIG_NOSYSTEM": "1"}).commits_bitmapped > 100
    (bitmap,) = (repo.path / "objects/pack").glob("*.bitmap")
    assert bitmap.name.startswith("multi-pack-index-") == (packs == "several packs")
    assert reused("after") > 100
    clone_is_whole(git, repo)
    grow(repo, 3)
    clone_is_whole(git, repo)
    git("clone", "-q", "--mirror", twin(repo), "later")
    git.fsck("later")


@pytest.mark.rows("FS-24", "FS-25", "FS-27", "CF-54", "FS-54")
@HASHES
@pytest.mark.parametrize(
    "options",
    [[], ["--changed-paths"], ["--split"], ["--split=no-merge"]],
    ids=lambda options: " ".join(options) or "plain",
)
def test_commit_graphs(server: Server, git: Git, twin: Twin, options: list[str], object_format: str) -> None:
    repo = server.create_repo("merges", object_format=object_format)
    for number in range(3):
        repo.run("commit-graph", "write", "--reachable", *options)
        grow(repo, 4, ref=f"refs/heads/grown{number}")
    assert (repo.path / "objects/info").glob("commit-graph*")
    clone_is_whole(git, repo)
    repo.run("commit-graph", "verify")


@pytest.mark.rows("FS-24", "FS-25")
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("how", ["empty", "cut", "signature", "version", "hash", "chunks", "middle"])
def test_a_damaged_commit_graph_is_no_harm(server: Server, git: Git, how: str, split: bool) -> None:
    repo = server.create_repo("merges")
    repo.run("commit-graph", "write", "--reachable", *(["--split"] if split else []))
    expected = reachable(repo)
    for path in (repo.path / "objects/info").rglob("*graph*"):
        if path.is_file() and not path.name.endswith("-chain"):
            damage(path, how)
    clone_is_whole(git, repo, expected)
    for path in (repo.path / "objects/info").rglob("*graph*"):
        if path.is_file():
            path.unlink()


@pytest.mark.rows("FS-25")
def test_a_chain_that_names_what_is_not_there(server: Server, git: Git) -> None:
    repo = server.create_repo("merges")
    repo.run("commit-graph", "write", "--reachable", "--split=no-merge")
    grow(repo, 5)
    repo.run("commit-graph", "write", "--reachable", "--split=no-merge")
    chain = repo.path / "objects/info/commit-graphs/commit-graph-chain"
    names = chain.read_text().split()
    assert len(names) == 2
    (chain.parent / f"graph-{names[0]}.graph").unlink()
    clone_is_whole(git, repo)
    chain.chmod(0o644)
    chain.write_text("nonsense\n../../../HEAD\n")
    clone_is_whole(git, repo)
    shutil.rmtree(chain.parent)


@pytest.mark.rows("FS-28")
def test_a_commit_graph_that_names_commits_which_are_gone(server: Server, git: Git) -> None:
    repo = server.create_repo("merges")
    lost = grow(repo, 4, ref="refs/heads/lost")
    repo.run("commit-graph", "write", "--reachable")
    repo.run("update-ref", "-d", "refs/heads/lost")
    repo.run("-c", "gc.writeCommitGraph=false", "gc", "-q", "--prune=now")
    tip = lost if isinstance(lost, str) else lost[-1]
    assert repo.git("cat-file", "-e", tip, cwd=repo.path, check=False).code != 0
    clone_is_whole(git, repo)
    absent = ask(repo.url, command("fetch", f"want {tip}", "done")).packets
    assert absent == [f"ERR upload-pack: not our ref {tip}".encode()]
    # The parents come back in another shape: what the graph says of them must not be believed.
    grow(repo, 2)
    clone_is_whole(git, repo)
    repo.run("commit-graph", "write", "--reachable")


@pytest.mark.rows("FS-26")
@pytest.mark.parametrize("kind", ["shallow", "grafts", "replace"])
def test_a_commit_graph_is_not_believed_where_parents_are_others(
    server: Server, git: Git, twin: Twin, kind: str
) -> None:
    repo = server.create_repo("linear")
    repo.broken = True
    for bitmap in repo.path.glob("objects/pack/*.bitmap"):
        bitmap.unlink()
    repo.run("commit-graph", "write", "--reachable")
    clone_is_whole(git, repo)
    cut = repo.rev("main~3")
    if kind == "shallow":
        (repo.path / "shallow").write_text(f"{cut}\n")
    elif kind == "grafts":
        (repo.path / "info").mkdir(exist_ok=True)
        (repo.path / "info/grafts").write_text(f"{cut}\n")
    else:
        repo.run("replace", "--graft", cut)
    ours, theirs = (wanted(git, url, repo) for url in (repo.url, twin(repo)))
    assert ours == theirs
    assert (len(ours) < 300) == (kind != "replace")


@pytest.mark.rows("FS-14", "FS-15")
def test_cruft_packs_are_packs(server: Server, git: Git) -> None:
    repo = server.create_repo("linear")
    lost = repo.run("commit-tree", "-m", "nobody's", f"{repo.rev('main')}^{{tree}}", "-p", "main")
    repo.run("repack", "--cruft", "-dq")
    assert list((repo.path / "objects/pack").glob("*.mtimes"))
    git("init", "-q", "clone")
    git("fetch", "-q", repo.url, lost, cwd="clone")
    assert git.rev("clone", "FETCH_HEAD") == lost
    git.fsck("clone")
    for path in (repo.path / "objects/pack").glob("*.mtimes"):
        path.chmod(0o644)
        path.write_bytes(b"junk")
    clone_is_whole(git, repo)
    for path in (repo.path / "objects/pack").glob("*.mtimes"):
        path.unlink()


@pytest.mark.rows("FS-13", "CF-68", "RP-29")
@pytest.mark.parametrize("value", [None, "true", "false"])
def test_reverse_indexes_are_written_and_read_by_git(server: Server, git: Git, value: str | None) -> None:
    repo = server.create_repo("small", config={} if value is None else {"pack.writeReverseIndex": value})
    git("clone", "-q", repo.url, "clone")
    for number in range(120):
        git.commit_file("clone", f"f{number}", str(number))
    before = set((repo.path / "objects/pack").glob("*.pack"))
    git("push", "-q", "origin", "main", cwd="clone")
    (pack,) = set((repo.path / "objects/pack").glob("*.pack")) - before
    own = pack.with_suffix(".rev")
    if value != "false":
        copy = git.cwd / "copy.pack"
        shutil.copy(pack, copy)
        git("index-pack", "--rev-index", copy)
        assert own.read_bytes() == copy.with_suffix(".rev").read_bytes()
    else:
        assert not own.exists()
    for path in (repo.path / "objects/pack").glob("*.rev"):
        damage(path, "middle")
    clone_is_whole(git, repo)
    for path in (repo.path / "objects/pack").glob("*.rev"):
        path.unlink()


@pytest.mark.rows("FS-53", "CF-79", "RP-39")
def test_a_partial_clone_is_served(server: Server, git: Git) -> None:
    origin = server.create_repo("linear", config={"uploadpack.allowFilter": "true"})
    path = server.root / f"partial-{origin.path.name}"
    git("clone", "-q", "--bare", "--filter=blob:none", origin.url, path)
    assert list((path / "objects/pack").glob("*.promisor"))
    (path / "git-daemon-export-ok").touch()
    repo = server.adopt(path, {"http.receivepack": "true", "uploadpack.allowFilter": "true"})
    git("clone", "-q", "--bare", "--filter=blob:none", repo.url, "again")
    assert repo.refs() == git.refs("again")
    # A push that stands on objects which are only promised.
    git("clone", "-q", origin.url, "work")
    tip = git.commit_file("work", "new", "x")
    git("push", "-q", repo.url, "main", cwd="work")
    assert repo.refs()["refs/heads/main"] == tip
    assert re.search("filter", repo.run("config", "--list"))
