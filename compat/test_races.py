"""Several at once: clients on one ref, readers while writers write, git's housekeeping beside the server."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import (
    FLUSH,
    demux,
    lines,
    make_pack,
    pack_objects,
    parse_report,
    post,
    raw_head,
    request,
    upload,
)
from compat.test_fetch import grow

PATIENT = {"core.filesRefLockTimeout": "60000", "core.packedRefsTimeout": "60000"}
"""Where all have to succeed: by default git gives a lock's holder a tenth of a second, and packed-refs' a second; on a
busy machine he may not even run in that time."""


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit status and messages of a client in the background."""
    out, errors = process.communicate(timeout=300)
    return process.returncode, (out + errors).decode(errors="replace")


def clones(git: Git, repo: Repo, count: int) -> list[str]:
    """Work trees, each with a commit of its own."""
    names = [f"c{n}" for n in range(count)]
    for name in names:
        git("clone", "-q", repo.url, name)
        git.commit_file(name, f"{name}.txt", name)
    return names


@pytest.mark.every_frontend
@pytest.mark.rows("RP-93", "RP-56", "SEC-47")
def test_of_many_pushes_to_one_branch_exactly_one_wins(server: Server, git: Git) -> None:
    repo = server.create_repo()
    names = clones(git, repo, 5)
    ends = [finish(process) for process in [git.start("push", "origin", "main", cwd=name) for name in names]]
    won = [name for name, (code, _) in zip(names, ends, strict=True) if code == 0]
    assert len(won) == 1
    assert git.rev(won[0], "HEAD") == repo.rev("main")
    for code, words in ends:
        assert code == 0 or "rejected" in words


@pytest.mark.every_frontend
@pytest.mark.rows("RP-92", "FS-35", "SEC-47")
def test_pushes_to_different_branches_all_succeed(server: Server, git: Git) -> None:
    repo = server.create_repo(config=PATIENT)
    names = clones(git, repo, 8)
    running = [git.start("push", "-q", "origin", f"main:refs/heads/a/b/{name}", cwd=name) for name in names]
    assert [finish(process) for process in running] == [(0, "")] * 8
    assert [git.rev(name, "HEAD") for name in names] == [repo.rev(f"a/b/{name}") for name in names]
    running = [git.start("push", "-q", "origin", f":refs/heads/a/b/{name}", cwd=name) for name in names]
    assert [finish(process) for process in running] == [(0, "")] * 8
    assert [name for name in repo.refs() if name.startswith("refs/heads/a/")] == []


@pytest.mark.every_frontend
@pytest.mark.rows("SEC-39", "RP-36")
def test_clones_while_pushing_are_always_whole(server: Server, git: Git) -> None:
    repo = server.create_repo("linear")
    git("clone", "-q", repo.url, "pusher")
    for n in range(12):
        tip = git.commit_file("pusher", f"n{n}/file.txt", f"{n}\n")
        push = git.start("push", "-q", "origin", "main", cwd="pusher")
        clone = git.start("clone", "-q", "--bare", repo.url, f"reader{n}.git")
        assert finish(push) == (0, "")
        assert finish(clone) == (0, "")
        git("rev-list", "--objects", "--all", cwd=f"reader{n}.git")
        assert tip == git("ls-remote", repo.url, "refs/heads/main").stdout.split()[0]


@pytest.mark.every_frontend
@pytest.mark.rows("FS-17", "FS-18", "FS-33", "FS-77", "HB-75")
def test_housekeeping_of_git_beside_clones_and_pushes(server: Server, git: Git) -> None:
    repo = server.create_repo("linear", config=PATIENT)
    git("clone", "-q", repo.url, "pusher")
    chores = (
        ["repack", "-adq"],
        ["pack-refs", "--all"],
        ["gc", "-q"],
        ["repack", "-dq"],
        ["multi-pack-index", "write"],
        ["commit-graph", "write", "--reachable"],
    )
    for n, chore in enumerate(chores * 2):
        tip = git.commit_file("pusher", "n.txt", f"{n}\n")
        work = git.start(*chore, cwd=repo.path)
        push = git.start("push", "-q", "origin", "main", f"main:refs/heads/round{n}", cwd="pusher")
        reader = git.start("clone", "-q", "--bare", repo.url, f"reader{n}.git")
        assert finish(push) == (0, "")
        assert finish(reader) == (0, "")
        finish(work)
        assert tip == repo.rev("main") == repo.rev(f"round{n}")
        git.fsck(f"reader{n}.git")


@pytest.mark.rows("FS-33")
def test_listing_refs_while_they_are_packed_misses_none(server: Server, git: Git) -> None:
    repo = server.create_repo()
    expected = git("ls-remote", repo.url).stdout
    for n in range(15):
        repo.run("update-ref", "refs/heads/topic", repo.rev("topic"))
        chore = git.start("pack-refs", "--all", cwd=repo.path)
        assert expected == git("ls-remote", repo.url).stdout, f"round {n}"
        finish(chore)


@pytest.mark.rows("U0-25", "HB-75")
def test_a_branch_that_moved_after_the_advertisement_is_still_served(server: Server, git: Git) -> None:
    repo = server.create_repo()
    old = repo.rev("main")
    grow(repo, 2)
    body = lines(f"want {old} side-band-64k no-progress", FLUSH, "done")
    assert old in pack_objects(git, demux(upload(repo.url, body).packets).data)


@pytest.mark.rows("FS-77")
def test_plain_git_pushes_over_the_file_system_beside_us(server: Server, git: Git) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "one")
    git("clone", "-q", f"file://{repo.path}", "two")
    for n in range(6):
        here, there = ("one", "two") if n % 2 else ("two", "one")
        tip = git.commit_file(here, "n.txt", f"{n}\n")
        git("push", "-q", cwd=here)
        git("pull", "-q", "--ff-only", cwd=there)
        assert tip == git.rev(there, "HEAD")


@pytest.mark.rows("FS-77", "RP-93")
def test_plain_git_and_we_race_for_one_branch(server: Server, git: Git) -> None:
    repo = server.create_repo()
    for n in range(4):
        for name, url in ((f"http{n}", repo.url), (f"file{n}", f"file://{repo.path}")):
            git("clone", "-q", url, name)
            git.commit_file(name, f"{name}.txt", name)
        ends = [
            finish(process)
            for process in [git.start("push", "origin", "main", cwd=f"{kind}{n}") for kind in ("http", "file")]
        ]
        assert [code for code, _ in ends].count(0) == 1


@pytest.mark.rows("FS-17", "HB-28")
def test_a_repository_that_is_replaced_is_seen_as_the_new_one(server: Server, git: Git) -> None:
    repo, other = server.create_repo(), server.create_repo("linear")
    assert repo.rev("main") == git("ls-remote", repo.url, "refs/heads/main").stdout.split()[0]
    away = repo.path.with_name("away-" + repo.path.name)
    repo.path.rename(away)
    assert request(repo.url, "GET", "/info/refs?service=git-upload-pack").status == 404
    other.path.rename(repo.path)
    git("clone", "-q", repo.url, "clone")
    assert repo.rev("main") == git.rev("clone", "HEAD")
    repo.path.rename(other.path)
    away.rename(repo.path)
    git("clone", "-q", repo.url, "clone2")
    assert repo.rev("main") == git.rev("clone2", "HEAD")


@pytest.mark.different_on_purpose  # git http-backend waits for ever for the rest, and has to be killed
@pytest.mark.rows("RP-100", "RP-33", "HB-45")
def test_a_push_that_is_killed_leaves_nothing(server: Server, git: Git) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    before = repo.state()
    git.commit_file("clone", "x.txt", "x")
    half = b"00a0" + b"0" * 40 + b" " + git.rev("clone", "HEAD").encode() + b" refs/heads/half\0 report-status"
    half = b"%04x" % len(half) + half[4:] + b"0000PACK\0\0\0\2\0\0\0\5" + bytes(range(200))
    place = urlsplit(repo.url)
    for framing in ("Content-Length: 900000", "Transfer-Encoding: chunked"):
        body = half if "Length" in framing else b"%x\r\n%b\r\n" % (len(half), half)
        with socket.create_connection((place.hostname or "", place.port or 80), timeout=300) as connection:
            connection.sendall(raw_head(repo.url, "receive-pack", framing) + body)
    assert before == repo.state()
    git("push", "-q", cwd="clone")
    assert git.rev("clone", "HEAD") == repo.rev("main")


@pytest.mark.rows("RP-35", "RP-36", "FS-17")
def test_a_push_on_top_of_what_was_pruned_meanwhile_is_refused(server: Server, git: Git) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "work")
    base = git.commit_file("work", "base.txt", "base")
    git("push", "-q", "origin", "HEAD:refs/heads/doomed", cwd="work")
    tip = git.commit_file("work", "top.txt", "top")
    pack = make_pack(git, git.cwd / "work", [tip, f"^{base}"])
    commands = lines(f"{'0' * 40} {tip} refs/heads/new\0 report-status", FLUSH)

    def body() -> Iterator[bytes]:
        yield commands + pack[:20]
        repo.run("update-ref", "-d", "refs/heads/doomed")
        repo.run("repack", "-adq")  # drops what no ref reaches, and leaves the quarantine alone
        yield pack[20:]

    reply = post(repo.url, "receive-pack", body())
    assert parse_report(reply) == [b"unpack ok", b"ng refs/heads/new missing necessary objects"]
    assert "refs/heads/new" not in repo.refs()
    git.fsck(repo.path)


@pytest.mark.rows("RP-28")
def test_a_push_of_nothing_but_a_name_leaves_no_pack(server: Server, git: Git) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "work")
    before = sorted((repo.path / "objects/pack").iterdir())
    git("push", "-q", "origin", "HEAD:refs/heads/another", cwd="work")
    assert repo.rev("another") == repo.rev("main")
    assert before == sorted((repo.path / "objects/pack").iterdir())
