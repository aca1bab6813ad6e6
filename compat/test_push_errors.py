"""Pushes that are refused: git's own words, and nothing changed."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git


def clone(git: Git, repo: Repo, into: str = "clone") -> None:
    """A work tree with one commit to push."""
    git("clone", "-q", repo.url, into)
    git.commit_file(into, "a.txt", "a\n")


@pytest.mark.every_frontend
@pytest.mark.rows("HB-02", "HB-25", "HB-26")
def test_anonymous_push_is_forbidden_by_default(server: Server, git: Git) -> None:
    repo = server.create_repo(pushable=False)
    clone(git, repo)
    before = repo.state()
    assert "403" in git.fails("push", "origin", "main", cwd="clone")
    assert before == repo.state()


@pytest.mark.rows("HB-26")
def test_receivepack_false_closes_the_door_to_everybody(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"http.receivepack": "false"})
    clone(git, repo)
    assert "403" in git.fails("-c", "http.extraHeader=X-Remote-User: grace", "push", "origin", "main", cwd="clone")


@pytest.mark.rows("RP-46", "RP-47", "RP-48", "RP-59")
@pytest.mark.every_frontend
def test_deny_settings_refuse_single_refs(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"receive.denyNonFastForwards": "true"})
    clone(git, repo)
    tip = git.rev("clone", "main")
    words = git.fails("push", "origin", ":main", "main~4:refs/heads/extra", "+main~3:topic", cwd="clone")
    assert "(deletion of the current branch prohibited)" in words
    assert "(non-fast-forward)" in words
    assert git.rev("clone", "main~4") == repo.rev("extra")
    repo.config("receive.denyDeletes", "true")
    assert "(deletion prohibited)" in git.fails("push", "origin", ":extra", cwd="clone")
    git("push", "-q", "origin", "main", cwd="clone")
    assert tip == repo.rev("main")
    git("push", "-q", "origin", ":refs/tags/light", cwd="clone")


@pytest.mark.rows("RP-47")
@pytest.mark.parametrize("value", ["ignore", "warn"])
def test_deleting_the_current_branch_can_be_allowed(server: Server, git: Git, value: str) -> None:
    repo = server.create_repo(config={"receive.denyDeleteCurrent": value})
    clone(git, repo)
    git("push", "origin", ":main", cwd="clone")
    assert "refs/heads/main" not in repo.refs()


@pytest.mark.rows("RP-42")
def test_names_outside_refs_are_funny(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    before = repo.state()
    assert "funny refname" in git.fails("push", "origin", "main:refs/one", cwd="clone")
    assert before[0] == repo.refs()


@pytest.mark.every_frontend
@pytest.mark.rows("RP-60", "RP-03")
def test_an_atomic_push_fails_whole(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"receive.denyNonFastForwards": "true"})
    clone(git, repo)
    before = repo.refs()
    words = git.fails("push", "--atomic", "origin", "main", "+main~3:topic", cwd="clone")
    assert "atomic push fail" in words or "atomic transaction failed" in words
    assert before == repo.refs()


@pytest.mark.rows("RP-03")
def test_atomic_can_be_switched_off(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"receive.advertiseAtomic": "false"})
    clone(git, repo)
    assert "does not support --atomic" in git.fails("push", "--atomic", "origin", "main", cwd="clone")


@pytest.mark.rows("RP-06")
def test_push_options_are_off_by_default(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    assert "does not support push options" in git.fails("push", "-o", "x", "origin", "main", cwd="clone")


@pytest.mark.rows("RP-13", "RP-50")
def test_hidden_refs_can_not_be_pushed(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"receive.hideRefs": "refs/heads/secret"})
    clone(git, repo)
    words = git.fails("push", "origin", "main:refs/heads/secret/x", cwd="clone")
    assert "deny updating a hidden ref" in words
    assert "refs/heads/secret/x" not in repo.refs()


@pytest.mark.rows("RP-57")
def test_a_branch_below_a_branch_is_a_conflict(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    words = git.fails("push", "origin", "main:topic/below", "main:fine", cwd="clone")
    assert "! [remote rejected] main -> topic/below" in words
    refs = repo.refs()
    assert "refs/heads/fine" in refs and "refs/heads/topic/below" not in refs


@pytest.mark.rows("FS-66")
def test_a_lock_left_by_someone_is_respected(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    lock = repo.path / "refs/heads/main.lock"
    lock.touch()
    before = repo.refs()
    words = git.fails("push", "origin", "main", "main:fine", cwd="clone")
    assert "! [remote rejected] main -> main" in words
    assert lock.exists()
    lock.unlink()
    assert before["refs/heads/main"] == repo.rev("main")
    git("push", "-q", "origin", "main", cwd="clone")
    assert git.rev("clone", "main") == repo.rev("main")


@pytest.mark.rows("RP-43")
def test_the_checked_out_branch_is_protected(server: Server, git: Git) -> None:
    source = server.create_repo()
    work = server.root / "checked-out"
    git("clone", "-q", source.path, work)
    (work / ".git/git-daemon-export-ok").touch()
    repo = server.adopt(work, {"http.receivepack": "true"})
    clone(git, repo)
    words = git.fails("push", "origin", "main", cwd="clone")
    assert "(branch is currently checked out)" in words
    assert "receive.denyCurrentBranch" in words
    repo.config("receive.denyCurrentBranch", "ignore")
    git("push", "-q", "origin", "main", cwd="clone")
    assert git.rev("clone", "main") == repo.rev("main")


@pytest.mark.rows("RP-43")
def test_a_branch_checked_out_in_a_linked_worktree_is_protected(server: Server, git: Git, tmp_path: Path) -> None:
    repo = server.create_repo()
    repo.run("worktree", "add", "-q", str(tmp_path / "linked"), "topic")
    clone(git, repo)
    words = git.fails("push", "origin", "+main:topic", cwd="clone")
    assert "(branch is currently checked out)" in words


@pytest.mark.rows("RP-16", "V2-09")
def test_histories_of_another_hash_are_refused(server: Server, git: Git) -> None:
    repo = server.create_repo("empty", object_format="sha256")
    small = server.create_repo()
    words = git.fails("push", repo.url, "main", cwd=small.path)
    assert "Traceback" not in words
    assert repo.refs() == {}


@pytest.mark.rows("RP-32")
def test_input_size_limit(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"receive.maxInputSize": "20k"})
    clone(git, repo)
    before = repo.state()
    (git.cwd / "clone/big.bin").write_bytes(random.Random(3).randbytes(100_000))
    git("add", "big.bin", cwd="clone")
    git("commit", "-q", "-m", "big", cwd="clone")
    words = git.fails("push", "origin", "main", cwd="clone")
    assert "! [remote rejected] main -> main" in words or "exceeds maximum allowed size" in words
    assert before == repo.state()


@pytest.mark.rows("RP-94", "SEC-29", "SEC-30")
@pytest.mark.parametrize("name", [".git", ".GIT", "git~1", "..", "."])
def test_fsck_objects_refuses_dangerous_trees(server: Server, git: Git, name: str) -> None:
    repo = server.create_repo(config={"receive.fsckObjects": "true"})
    clone(git, repo)
    before = repo.state()
    blob = git.rev("clone", "HEAD:a.txt")
    raw = b"100644 " + name.encode() + b"\0" + bytes.fromhex(blob)
    tree = git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", cwd="clone", input=raw).stdout.strip()
    commit = git("commit-tree", "-m", "evil", tree, cwd="clone").stdout.strip()
    words = git.fails("push", "origin", f"{commit}:refs/heads/evil", cwd="clone")
    assert "! [remote rejected]" in words
    assert before == repo.state()


@pytest.mark.rows("SEC-37")
def test_an_unwritable_objects_folder_is_an_unpack_error(server: Server, git: Git) -> None:
    repo = server.create_repo()
    repo.broken = True
    clone(git, repo)
    before = repo.refs()
    objects = repo.path / "objects"
    hidden = repo.path / "objects-away"
    git("clone", "-q", "--bare", repo.path, "reference.git")
    for folder in objects.glob("pack/*"):
        assert folder.exists()
    packs = repo.path / "objects" / "pack"
    packs.rename(hidden)
    packs.write_text("no folder")  # root may write anywhere; a file in the folder's place stops even root
    words = git.fails("push", "origin", "main", cwd="clone")
    packs.unlink()
    hidden.rename(packs)
    assert "! [remote rejected] main -> main " in words
    assert (before, []) == (repo.refs(), repo.leftovers())


def limit_files(programs: list[psutil.Process], size: int) -> None:
    """Have them write no larger file. A helper may have ended meanwhile."""
    for program in programs:
        with contextlib.suppress(psutil.NoSuchProcess):
            program.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))


@pytest.mark.rows("SEC-37")
def test_a_disk_that_is_full_is_an_unpack_error(private_server: Callable[..., Server], git: Git) -> None:
    """The system lets the server write no file beyond 300 kB: nothing of the push is left, and the next is taken."""
    server = private_server({})
    repo = server.create_repo()
    clone(git, repo)
    (git.cwd / "clone/big.bin").write_bytes(random.Random(4).randbytes(1_000_000))
    git("add", "big.bin", cwd="clone")
    git("commit", "-q", "-m", "big", cwd="clone")
    before = repo.state()
    programs = [psutil.Process(pid) for pid in server.running.pids]
    programs += [child for program in programs for child in program.children(recursive=True)]
    limit_files(programs, 300_000)
    words = git.fails("push", "origin", "main", cwd="clone")
    assert re.search(r"error: remote unpack failed: \w+", words), words
    assert "! [remote rejected] main -> main (unpacker error)" in words
    assert (before, []) == (repo.state(), repo.leftovers())
    limit_files(programs, psutil.RLIM_INFINITY)
    git("push", "-q", "origin", "main", cwd="clone")
    assert git.rev("clone", "main") == repo.rev("main")
