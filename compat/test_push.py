"""Pushes that succeed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.repos import Stream
from compat.test_fetch import grow
from tests.waiting import wait_until

versions = pytest.mark.parametrize("version", ["0", "1", "2"])


def clone(git: Git, repo: Repo, into: str = "clone") -> str:
    """A work tree to push from."""
    git("clone", "-q", repo.url, into)
    return into


@versions
@pytest.mark.every_frontend
@pytest.mark.rows("HB-04", "RP-20", "RP-30", "V2-55", "RP-01", "RP-02", "RP-08")
def test_a_small_push_updates_the_branch(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo()
    clone(git, repo)
    for n in range(3):
        tip = git.commit_file("clone", f"n{n}.txt", f"{n}\n")
        git("-c", f"protocol.version={version}", "push", "-q", cwd="clone")
        assert tip == repo.rev("main")


@versions
@pytest.mark.every_frontend
@pytest.mark.rows("RP-09", "U0-06")
def test_first_push_into_an_empty_repository(server: Server, git: Git, version: str) -> None:
    source, repo = server.create_repo("merges"), server.create_repo("empty")
    git("-c", f"protocol.version={version}", "push", "-q", "--mirror", repo.url, cwd=source.path)
    assert source.refs() == repo.refs()
    assert source.objects() == repo.objects()


@pytest.mark.every_frontend
@pytest.mark.rows("RP-18", "RP-19", "RP-49")
def test_create_update_force_and_delete_in_one_push(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    tip = git.commit_file("clone", "a.txt", "a\n")
    git(
        "push",
        "-q",
        "origin",
        "main",
        "main:refs/heads/new/deep",
        "+main~3:refs/heads/topic",
        ":refs/heads/feature/deep/name",
        "main~1:refs/tags/pushed",
        cwd="clone",
    )
    refs = repo.refs()
    assert tip == refs["refs/heads/main"] == refs["refs/heads/new/deep"]
    assert git.rev("clone", "main~3") == refs["refs/heads/topic"]
    assert "refs/heads/feature/deep/name" not in refs
    assert git.rev("clone", "main~1") == refs["refs/tags/pushed"]


@pytest.mark.every_frontend
@pytest.mark.rows("RP-18", "RP-66")
def test_deleting_packed_refs_leaves_no_trace(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"core.logAllRefUpdates": "true"})
    repo.run("pack-refs", "--all")
    clone(git, repo)
    git("push", "-q", "origin", ":topic", ":v1-of-tag", cwd="clone")
    refs = repo.refs()
    assert "refs/heads/topic" not in refs and "refs/tags/v1-of-tag" not in refs
    assert "topic" not in (repo.path / "packed-refs").read_text()
    assert not (repo.path / "logs/refs/heads/topic").exists()


@pytest.mark.rows("FS-32")
def test_packed_refs_that_we_write_are_in_gits_form(server: Server, git: Git) -> None:
    repo = server.create_repo()
    repo.run("pack-refs", "--all")
    before = (repo.path / "packed-refs").read_text().splitlines()
    clone(git, repo)
    git("push", "-q", "origin", ":refs/tags/light", cwd="clone")
    after = (repo.path / "packed-refs").read_text().splitlines()
    assert after[0].rstrip() == "# pack-refs with: peeled fully-peeled sorted"
    assert [line for line in before[1:] if not line.endswith("refs/tags/light")] == after[1:]


@pytest.mark.every_frontend
@pytest.mark.rows("HB-41", "HB-42")
def test_a_push_larger_than_the_post_buffer_is_chunked(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    (git.cwd / "clone/big.bin").write_bytes(random.Random(1).randbytes(5_000_000))
    git("add", "big.bin", cwd="clone")
    git("commit", "-q", "-m", "big", cwd="clone")
    git("-c", "http.postBuffer=65536", "push", "-q", cwd="clone")
    assert git.rev("clone", "HEAD") == repo.rev("main")


@pytest.mark.rows("HB-37", "HB-41")
def test_a_push_of_forty_megabytes(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    chance = random.Random(2)
    for n in range(4):
        (git.cwd / f"clone/big{n}.bin").write_bytes(chance.randbytes(10_000_000))
    git("add", ".", cwd="clone")
    git("commit", "-q", "-m", "big", cwd="clone")
    git("push", "-q", cwd="clone")
    assert git.rev("clone", "HEAD") == repo.rev("main")


@pytest.mark.every_frontend
@pytest.mark.rows("RP-03", "RP-60")
def test_an_atomic_push_updates_all(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    tip = git.commit_file("clone", "a.txt", "a\n")
    git("push", "-q", "--atomic", "origin", "main", "main:b1", "main:b2", ":topic", cwd="clone")
    refs = repo.refs()
    assert [tip] * 3 == [refs[f"refs/heads/{name}"] for name in ("main", "b1", "b2")]
    assert "refs/heads/topic" not in refs


@pytest.mark.rows("RP-06")
def test_push_options_are_accepted_when_switched_on(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"receive.advertisePushOptions": "true"})
    clone(git, repo)
    tip = git.commit_file("clone", "a.txt", "a\n")
    git("push", "-q", "-o", "ci.skip", "-o", "two words=2", cwd="clone")
    assert tip == repo.rev("main")


@pytest.mark.rows("RP-86", "RP-92")
def test_two_thousand_new_branches_in_one_push(server: Server, git: Git) -> None:
    repo = server.create_repo("linear")
    git("clone", "-q", "--bare", repo.url, "clone.git")
    tip = git.rev("clone.git", "main")
    commands = "".join(f"create refs/heads/many/b{n:04} {tip}\n" for n in range(2000))
    git("update-ref", "--stdin", cwd="clone.git", input=commands.encode())
    git("push", "-q", "--all", repo.url, cwd="clone.git")
    assert git.refs("clone.git") == repo.refs()


@pytest.mark.rows("RP-57")
def test_a_blocking_branch_may_be_deleted_in_the_same_push(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    git("push", "-q", "origin", ":topic", "main:topic/below", cwd="clone")
    assert git.rev("clone", "main") == repo.rev("topic/below")
    git("push", "-q", "origin", ":topic/below", "main:topic", cwd="clone")
    assert git.rev("clone", "main") == repo.rev("topic")


@pytest.mark.rows("RP-64")
def test_deleting_an_absent_ref_is_a_warning(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    before = repo.state()
    words = git("push", "origin", ":refs/heads/nosuch", cwd="clone", check=False)
    assert "Traceback" not in words.stderr
    assert before == repo.state()


@pytest.mark.rows("RP-98", "RP-56")
def test_force_with_lease(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    git("commit", "-q", "--amend", "-m", "other", cwd="clone")
    git("push", "-q", "--force-with-lease", cwd="clone")
    assert git.rev("clone", "HEAD") == repo.rev("main")
    moved = grow(repo, 1)
    git("commit", "-q", "--amend", "-m", "a third", cwd="clone")
    assert "stale info" in git.fails("push", f"--force-with-lease=main:{'1' * 40}", "origin", "main", cwd="clone")
    assert git.fails("push", "--force-with-lease", "origin", "main", cwd="clone")
    assert moved == repo.rev("main")


@pytest.mark.rows("RP-10", "FS-29", "FS-30")
def test_push_to_a_fork_writes_nothing_into_its_alternate(server: Server, git: Git) -> None:
    repo = server.create_repo()
    path = server.root / "fork.git"
    git("clone", "-q", "--bare", "--shared", repo.path, path)
    (path / "git-daemon-export-ok").touch()
    fork = server.adopt(path, {"http.receivepack": "true"})
    before = repo.state()
    clone(git, fork)
    tip = git.commit_file("clone", "a.txt", "a\n")
    git("push", "-q", cwd="clone")
    assert tip == fork.rev("main")
    assert before == repo.state()


@pytest.mark.rows("RP-28")
def test_received_objects_become_a_pack(server: Server, git: Git) -> None:
    repo = server.create_repo("empty")
    stream = Stream()
    for n in range(300):
        stream.commit("refs/heads/main", {f"f{n}": b"%d\n" % n})
    git("init", "-q", "--bare", "source.git")
    stream.load(git, git.cwd / "source.git")
    git("push", "-q", repo.url, "main", cwd="source.git")
    packs = list(repo.path.glob("objects/pack/*.pack"))
    loose = [name for _, _, files in os.walk(repo.path / "objects") for name in files if len(name) == 38]
    assert (len(packs), len(loose)) == (1, 0)
    assert packs[0].with_suffix(".idx").exists()


@pytest.mark.rows("RP-88")
def test_many_small_pushes_keep_the_number_of_packs_bounded(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    for n in range(70):
        git.commit_file("clone", "n.txt", f"{n}\n")
        git("push", "-q", cwd="clone")
    assert git.rev("clone", "HEAD") == repo.rev("main")
    # A helper puts them together, for whom no push waits.
    wait_until(lambda: len(list(repo.path.glob("objects/pack/*.pack"))) <= 55, "few packs are left")


@pytest.mark.rows("HB-68", "RP-90", "FS-44")
def test_the_reflog_names_the_pusher(server: Server, git: Git) -> None:
    if server.name in ("nginx", "apache"):
        pytest.skip("the user's name is the proxy's to give")
    repo = server.create_repo(config={"core.logAllRefUpdates": "true"})
    clone(git, repo)
    git.commit_file("clone", "a.txt", "a\n")
    git("-c", "http.extraHeader=X-Remote-User: grace", "push", "-q", cwd="clone")
    git.commit_file("clone", "b.txt", "b\n")
    git("push", "-q", cwd="clone")
    log = (repo.path / "logs/refs/heads/main").read_text().splitlines()
    assert "grace <grace@http.127.0.0.1>" in log[-2]
    assert log[-2].endswith("\tpush")
    assert "anonymous <anonymous@http.127.0.0.1>" in log[-1]


@pytest.mark.rows("HB-25", "HB-78")
def test_an_authenticated_user_may_push_without_further_configuration(server: Server, git: Git) -> None:
    if server.name in ("nginx", "apache"):
        pytest.skip("the user's name is the proxy's to give")
    repo = server.create_repo(pushable=False)
    clone(git, repo)
    tip = git.commit_file("clone", "a.txt", "a\n")
    git("-c", "http.extraHeader=X-Remote-User: grace", "push", "-q", cwd="clone")
    assert tip == repo.rev("main")


@pytest.mark.rows("RP-23", "RP-24")
def test_quiet_push_is_silent_and_porcelain_lists_refs(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    git.commit_file("clone", "a.txt", "a\n")
    result = git("push", "--porcelain", "origin", "main", "main:new", cwd="clone")
    assert "*\trefs/heads/main:refs/heads/new\t[new branch]" in result.stdout
    git.commit_file("clone", "b.txt", "b\n")
    quiet = git("push", "-q", cwd="clone")
    assert (quiet.stdout, quiet.stderr) == ("", "")


@pytest.mark.rows("RP-48", "RP-49")
def test_forced_push_is_accepted_by_default(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    git("reset", "-q", "--hard", "HEAD~3", cwd="clone")
    tip = git.commit_file("clone", "other.txt", "x\n")
    git("push", "-q", "--force", cwd="clone")
    assert tip == repo.rev("main")


@pytest.mark.rows("V2-30")
def test_push_negotiate(server: Server, git: Git) -> None:
    repo = server.create_repo("linear")
    clone(git, repo)
    tip = git.commit_file("clone", "a.txt", "a\n")
    git("-c", "push.negotiate=true", "push", "-q", cwd="clone")
    assert tip == repo.rev("main")


@pytest.mark.rows("FS-73", "RP-38")
def test_pushing_submodule_links_and_tags_of_anything(server: Server, git: Git) -> None:
    links, small, repo = server.create_repo("gitlinks"), server.create_repo(), server.create_repo("empty")
    git("push", "-q", repo.url, "main:links", cwd=links.path)
    git("push", "-q", repo.url, "refs/tags/*:refs/tags/*", "refs/heads/*:refs/heads/*", cwd=small.path)
    assert small.refs()["refs/tags/blob"] == repo.refs()["refs/tags/blob"]


@pytest.mark.rows("FS-74")
def test_pushing_odd_commits(server: Server, git: Git) -> None:
    source, repo = server.create_repo("shapes"), server.create_repo("empty")
    source.broken = repo.broken = True
    git("push", "-q", "--mirror", repo.url, cwd=source.path)
    assert source.refs() == repo.refs()


@pytest.mark.rows("RP-96", "FS-65")
def test_group_shared_repositories_stay_shared(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"core.sharedRepository": "group"})
    clone(git, repo)
    git.commit_file("clone", "a.txt", "a\n")
    git("push", "-q", "origin", "main", "main:shared/new", cwd="clone")
    assert (repo.path / "refs/heads/shared/new").stat().st_mode & 0o060 == 0o060
    assert (repo.path / "refs/heads/shared").stat().st_mode & 0o2070 == 0o2070
    for path in repo.path.glob("objects/pack/*.pack"):
        assert path.stat().st_mode & 0o222 == 0


@pytest.mark.rows("FS-21", "FS-15", "FS-16")
def test_side_files_of_git_survive_a_push(server: Server, git: Git) -> None:
    repo = server.create_repo("linear")
    repo.run("repack", "-adq", "--write-bitmap-index")
    repo.run("multi-pack-index", "write")
    repo.run("commit-graph", "write", "--reachable")
    pack = next(repo.path.glob("objects/pack/*.pack"))
    pack.with_suffix(".unknown").write_text("junk")
    pack.with_suffix(".keep").write_text("mine")
    before = {path.name: path.read_bytes() for path in repo.path.glob("objects/pack/*")}
    clone(git, repo)
    git.commit_file("clone", "a.txt", "a\n")
    git("push", "-q", cwd="clone")
    after = {path.name: path.read_bytes() for path in repo.path.glob("objects/pack/*")}
    assert before == {name: after.get(name) for name in before}
    git("clone", "-q", repo.url, "again")
    assert git.rev("clone", "HEAD") == git.rev("again", "HEAD")
    repo.run("multi-pack-index", "verify")
    pack.with_suffix(".keep").unlink()


@pytest.mark.rows("RP-89")
def test_update_server_info_is_kept_for_static_servers(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"receive.updateServerInfo": "true"})
    clone(git, repo)
    tip = git.commit_file("clone", "a.txt", "a\n")
    git("push", "-q", cwd="clone")
    assert f"{tip}\trefs/heads/main" in (repo.path / "info/refs").read_text().splitlines()
    files = [repo.path / name for name in ("info/refs", "objects/info/packs")]
    written = [sorted(path.read_text().splitlines()) for path in files]
    repo.run("update-server-info", "--force")  # git's order of packs is that of addresses in memory
    assert [sorted(path.read_text().splitlines()) for path in files] == written


@pytest.mark.rows("FS-68")
def test_push_into_a_non_bare_repository_by_another_branch(server: Server, git: Git) -> None:
    source = server.create_repo()
    work = server.root / "worktree-repo"
    git("clone", "-q", source.path, work)
    (work / ".git/git-daemon-export-ok").touch()
    repo = server.adopt(work, {"http.receivepack": "true"})
    git("clone", "-q", repo.url, "clone")
    git.commit_file("clone", "a.txt", "a\n")
    git("push", "-q", "origin", "main:side", cwd="clone")
    assert git.rev("clone", "main") == repo.rev("side")


def test_pushed_state_is_what_a_fresh_clone_sees(server: Server, git: Git, tmp_path: Path) -> None:
    repo = server.create_repo("merges")
    clone(git, repo)
    for n in range(5):
        git.commit_file("clone", f"a{n}.txt", f"{n}\n")
        git("push", "-q", "origin", "main", f"main:refs/heads/n{n}", cwd="clone")
        git("clone", "-q", "--mirror", repo.url, f"fresh{n}")
        assert repo.refs() == git.refs(f"fresh{n}")
