"""Shallow clones and what people do with them afterwards (gitprotocol-pack "Shallow", -v2 "shallow-info")."""

from __future__ import annotations

import random

import pytest

from compat.conftest import Server, agree
from compat.gitclient import Git
from compat.test_fetch import grow
from govc.kernels import thin
from tests.repo.test_thinning import make_history
from tests.waiting import wait_until

versions = pytest.mark.parametrize("version", ["0", "1", "2"])


def count(git: Git, where: str, revision: str = "HEAD") -> int:
    """Commits reachable in a (shallow) repository."""
    return int(git("rev-list", "--count", revision, cwd=where).stdout)


@versions
@pytest.mark.every_frontend
@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.rows("U0-37", "U0-39", "U0-40", "V2-33", "V2-34")
def test_depth_clone_has_that_many_commits(server: Server, git: Git, version: str, depth: int) -> None:
    repo = server.create_repo("linear")
    git("-c", f"protocol.version={version}", "clone", "-q", f"--depth={depth}", repo.url, "clone")
    git.fsck("clone")
    assert depth == count(git, "clone")
    assert repo.rev("main") == git.rev("clone", "HEAD")


@versions
@pytest.mark.rows("U0-37", "V2-34")
def test_depth_clone_of_merges_has_gits_boundary(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo("merges")
    git(
        "-c",
        f"protocol.version={version}",
        "clone",
        "-q",
        "--depth=4",
        "--no-single-branch",
        repo.url,
        "clone",
    )
    git("clone", "-q", "--depth=4", "--no-single-branch", f"file://{repo.path}", "reference")
    git.fsck("clone")
    listing = ["rev-list", "--all", "--objects"]
    theirs = git(*listing, cwd="reference").stdout.split("\n")
    assert sorted(theirs) == sorted(git(*listing, cwd="clone").stdout.split("\n"))
    shallow = [(git.cwd / name / ".git/shallow").read_text().split() for name in ("reference", "clone")]
    assert sorted(shallow[0]) == sorted(shallow[1])


@versions
@pytest.mark.every_frontend
@pytest.mark.rows("U0-41", "V2-33")
def test_plain_fetch_into_a_shallow_clone_keeps_the_boundary(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo("linear")
    git("clone", "-q", "--depth=3", repo.url, "clone")
    grow(repo, 4)
    git("-c", f"protocol.version={version}", "fetch", "-q", cwd="clone")
    git.fsck("clone")
    assert count(git, "clone", "origin/main") == 7


@versions
@pytest.mark.every_frontend
@pytest.mark.rows("U0-46", "U0-48", "V2-34")
def test_deepening_moves_the_boundary(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo("linear")
    git("clone", "-q", "--depth=3", repo.url, "clone")
    git("-c", f"protocol.version={version}", "fetch", "-q", "--deepen=5", cwd="clone")
    assert count(git, "clone", "origin/main") == 8
    git("-c", f"protocol.version={version}", "fetch", "-q", "--depth=20", cwd="clone")
    assert count(git, "clone", "origin/main") == 20
    git("-c", f"protocol.version={version}", "fetch", "-q", "--depth=2", cwd="clone")
    assert count(git, "clone", "origin/main") == 2
    git.fsck("clone")


@versions
@pytest.mark.every_frontend
@pytest.mark.rows("U0-38", "U0-48")
def test_unshallow_brings_the_whole_history(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo("merges")
    git("clone", "-q", "--depth=3", "--no-single-branch", repo.url, "clone")
    git("-c", f"protocol.version={version}", "fetch", "-q", "--unshallow", cwd="clone")
    assert not (git.cwd / "clone/.git/shallow").exists()
    git.fsck("clone")
    agree(git, "clone", repo)


@versions
@pytest.mark.rows("U0-43", "V2-34")
def test_shallow_since_a_date(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo("linear")
    when = repo.run("log", "-1", "--format=%ct", "main~9")
    git("-c", f"protocol.version={version}", "clone", "-q", f"--shallow-since={when}", repo.url, "clone")
    git.fsck("clone")
    assert count(git, "clone") == 10


@versions
@pytest.mark.rows("U0-47")
def test_shallow_since_the_future_is_refused_with_gits_words(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo("linear")
    words = git.fails("-c", f"protocol.version={version}", "clone", "--shallow-since=2040-01-01", repo.url, "clone")
    assert "fatal: " in words
    assert "Traceback" not in words


@versions
@pytest.mark.rows("U0-44", "V2-34")
def test_shallow_exclude_a_tag(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo("linear")
    repo.run("tag", "old", "main~6")
    git("-c", f"protocol.version={version}", "clone", "-q", "--shallow-exclude=old", repo.url, "clone")
    git.fsck("clone")
    assert count(git, "clone") == 6


@versions
@pytest.mark.rows("U0-08", "U0-71", "V2-35")
def test_a_shallow_server_tells_its_boundary(server: Server, git: Git, version: str) -> None:
    source = server.create_repo("linear")
    shallow = server.root / "shallow-server.git"
    git("clone", "-q", "--bare", "--depth=5", source.url, shallow)
    (shallow / "git-daemon-export-ok").touch()
    repo = server.adopt(shallow)
    git("-c", f"protocol.version={version}", "clone", "-q", repo.url, "clone")
    git.fsck("clone")
    assert count(git, "clone") == 5


@versions
@pytest.mark.rows("U0-37")
def test_depth_fetch_of_several_branches_into_an_empty_repository(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo()
    git("init", "-q", "clone")
    options = ["fetch", "-q", "--depth=1", repo.url, "+refs/heads/*:refs/remotes/origin/*"]
    git("-c", f"protocol.version={version}", *options, cwd="clone")
    git.fsck("clone")
    agree(git, "clone", repo, tags=False)


@versions
@pytest.mark.rows("U0-41", "U0-46", "U0-38", "V2-33")
def test_what_was_made_ready_for_who_has_the_rest_is_sent_to_nobody_who_is_shallow(
    server: Server, git: Git, version: str
) -> None:
    """The newest commits have entries that stand on versions below where these clients' histories end."""
    path = server.root / f"ready-{version}.git"  # each its own: a name is looked at once a minute
    commits = make_history(path, int(version), 400)
    (path / "git-daemon-export-ok").touch()
    repo = server.adopt(path)
    git("clone", "-q", "--bare", repo.url, "first")
    if thin.AVAILABLE:
        wait_until(lambda: list(path.glob("govc/introductions/*.thin")))
    rng = random.Random(version)

    def fetch(where: str, *options: str) -> None:
        branches = (f"b{number}" for number in rng.sample(range(len(commits) - 60, len(commits)), 2))
        specs = [f"+refs/heads/{name}:refs/remotes/origin/{name}" for name in branches]
        git("-c", f"protocol.version={version}", "fetch", "-q", "--no-tags", *options, repo.url, *specs, cwd=where)
        git.fsck(where)
        git("rev-list", "--objects", "--all", cwd=where)

    for number in range(4):
        where = f"clone{number}"
        git("init", "-q", where)
        fetch(where, f"--depth={rng.randint(1, 4)}")
        for options in ([], ["--deepen=2"], [], ["--depth=3"], []):
            fetch(where, *options)
        assert (git.cwd / where / ".git/shallow").exists()
        fetch(where, "--unshallow")
        listing = ("rev-list", "--objects", "--no-object-names", *git.refs(where).values())
        assert sorted(git(*listing, cwd=where).stdout.split()) == sorted(repo.run(*listing).split())


@versions
@pytest.mark.rows("RP-52")
def test_push_from_a_shallow_clone_back_to_its_origin(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo("linear")
    git("clone", "-q", "--depth=2", repo.url, "clone")
    tip = git.commit_file("clone", "new.txt", "new\n")
    git("-c", f"protocol.version={version}", "push", "-q", cwd="clone")
    assert tip == repo.rev("main")


@pytest.mark.rows("CF-42", "RP-51")
def test_push_from_a_shallow_clone_to_a_stranger_is_refused(server: Server, git: Git) -> None:
    repo, stranger = server.create_repo("linear"), server.create_repo("empty")
    git("clone", "-q", "--depth=2", repo.url, "clone")
    words = git.fails("push", stranger.url, "main", cwd="clone")
    assert "shallow update not allowed" in words
    assert ({}, set()) == stranger.state()
