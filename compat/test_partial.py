"""Partial clones: filters, the lazy fetches that follow, and the server's say in it."""

from __future__ import annotations

import pytest

from compat.conftest import Server
from compat.gitclient import Git
from compat.test_fetch import grow

versions = pytest.mark.parametrize("version", ["0", "1", "2"])
OPEN = {"uploadpack.allowFilter": "true", "uploadpack.allowAnySHA1InWant": "true"}


def missing(git: Git, where: str) -> set[str]:
    """Ids that a partial clone knows of and lacks."""
    listing = git("rev-list", "--objects", "--all", "--missing=print", cwd=where).stdout
    return {line[1:] for line in listing.splitlines() if line.startswith("?")}


@versions
@pytest.mark.every_frontend
@pytest.mark.parametrize(
    "spec",
    [
        "blob:none",
        "blob:limit=600",
        "blob:limit=1k",
        "tree:0",
        "tree:1",
        "tree:2",
        "object:type=commit",
        "object:type=tree",
        "combine:tree:2+blob:limit=600",
        "combine:blob:none+tree:3",
    ],
)
@pytest.mark.rows("U0-16", "U0-50", "V2-36")
def test_filtered_clone_lacks_what_gits_own_lacks(server: Server, git: Git, version: str, spec: str) -> None:
    repo = server.create_repo(config=OPEN)
    options = ["clone", "-q", "--no-checkout", f"--filter={spec}"]
    git("-c", f"protocol.version={version}", *options, repo.url, "clone")
    git("-c", f"protocol.version={version}", *options, f"file://{repo.path}", "reference")
    assert git.objects("reference") == git.objects("clone")


@versions
@pytest.mark.every_frontend
@pytest.mark.rows("U0-51", "V2-23")
def test_checkout_of_a_partial_clone_fetches_what_it_needs(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo(config=OPEN)
    git("-c", f"protocol.version={version}", "clone", "-q", "--filter=blob:none", repo.url, "clone")
    assert repo.run("show", "main:README") == git("cat-file", "-p", "HEAD:README", cwd="clone").stdout.strip()
    assert missing(git, "clone")
    old = repo.rev("main~8:README")
    said = git("-c", f"protocol.version={version}", "cat-file", "-p", old, cwd="clone").stdout
    assert repo.run("cat-file", "-p", old) == said.strip()
    git.fsck("clone")


@versions
@pytest.mark.rows("U0-51")
def test_a_treeless_clone_can_diff_and_log(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo(config=OPEN)
    git("-c", f"protocol.version={version}", "clone", "-q", "--filter=tree:0", repo.url, "clone")
    shown = git("log", "-p", "-3", cwd="clone").stdout
    assert git("log", "-p", "-3", "main", cwd=repo.path).stdout == shown
    git.fsck("clone")


@versions
@pytest.mark.rows("U0-51", "V2-36")
def test_fetching_into_a_partial_clone(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo(config=OPEN)
    git(
        "-c",
        f"protocol.version={version}",
        "clone",
        "-q",
        "--filter=blob:none",
        "--no-checkout",
        repo.url,
        "clone",
    )
    tip = grow(repo, 5)
    git("-c", f"protocol.version={version}", "fetch", "-q", cwd="clone")
    assert tip == git.rev("clone", "origin/main")
    assert repo.rev("main:grown/4.txt") in missing(git, "clone")
    git.fsck("clone")


@versions
@pytest.mark.rows("U0-50")
def test_sparse_filter_by_object(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo(config=OPEN)
    patterns = repo.run("hash-object", "-w", "--stdin", input=b"/src/\n")
    repo.run("update-ref", "refs/tags/patterns", patterns)
    options = ["clone", "-q", "--no-checkout", f"--filter=sparse:oid={patterns}"]
    git("-c", f"protocol.version={version}", *options, repo.url, "clone")
    git("-c", f"protocol.version={version}", *options, f"file://{repo.path}", "reference")
    assert git.objects("reference") == git.objects("clone")


@pytest.mark.rows("U0-16", "V2-37")
def test_without_permission_the_clone_is_whole(server: Server, git: Git) -> None:
    repo = server.create_repo()
    words = git("clone", "--filter=blob:none", repo.url, "clone").stderr
    assert "filtering not recognized by server" in words
    assert set() == missing(git, "clone")


@versions
@pytest.mark.rows("CF-12", "CF-13", "U0-52", "U0-53")
def test_banned_filters_are_refused_by_name(server: Server, git: Git, version: str) -> None:
    config = OPEN | {"uploadpackfilter.blob:none.allow": "false", "uploadpackfilter.tree.maxDepth": "2"}
    repo = server.create_repo(config=config)
    words = git.fails("-c", f"protocol.version={version}", "clone", "--filter=blob:none", repo.url, "one")
    assert "filter 'blob:none' not supported" in words
    words = git.fails("-c", f"protocol.version={version}", "clone", "--filter=tree:3", repo.url, "two")
    assert "tree filter allows max depth 2, but got 3" in words
    git(
        "-c",
        f"protocol.version={version}",
        "clone",
        "-q",
        "--no-checkout",
        "--filter=tree:2",
        repo.url,
        "three",
    )


@pytest.mark.rows("U0-50")
def test_shallow_and_partial_together(server: Server, git: Git) -> None:
    repo = server.create_repo("linear", config=OPEN)
    git("clone", "-q", "--depth=2", "--filter=blob:none", repo.url, "clone")
    git.fsck("clone")
    git("fetch", "-q", "--unshallow", cwd="clone")
    git.fsck("clone")
    assert git("rev-list", "--count", "HEAD", cwd="clone").stdout.strip() == "400"


@pytest.mark.rows("RP-38")
def test_push_from_a_partial_clone(server: Server, git: Git) -> None:
    repo = server.create_repo(config=OPEN)
    git("clone", "-q", "--filter=blob:none", repo.url, "clone")
    tip = git.commit_file("clone", "new/file.txt", "new\n")
    git("push", "-q", "origin", "HEAD:refs/heads/new", cwd="clone")
    assert tip == repo.rev("refs/heads/new")


@pytest.mark.rows("U0-65")
def test_a_partial_clone_that_is_served_fetches_nothing_by_itself(server: Server, git: Git) -> None:
    source = server.create_repo(config=OPEN)
    path = server.root / "partial-server.git"
    git("clone", "-q", "--bare", "--filter=blob:none", source.url, path)
    (path / "git-daemon-export-ok").touch()
    repo = server.adopt(path, OPEN)
    before = set(path.glob("objects/pack/*"))
    git("clone", "-q", "--no-checkout", "--filter=blob:none", repo.url, "clone")
    assert "Traceback" not in git.fails("clone", repo.url, "whole")
    assert before == set(path.glob("objects/pack/*"))
