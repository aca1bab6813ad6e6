"""Mapped files that are cut short under a running server harm their own repository, and only while they are cut."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import FLUSH, demux, lines, upload
from compat.test_storm import wait_until

COMMITS = 1500
"""Enough for an index that is mapped (64 KB)."""


def build(git: Git, path: Path) -> None:
    git("init", "-q", "--bare", "-b", "main", path)
    stream = (
        f"commit refs/heads/main\ncommitter a <a@b> {1700000000 + n} +0000\ndata 0\n"
        f"M 100644 inline f{n % 50}\ndata {len(str(n))}\n{n}\n"
        for n in range(COMMITS)
    )
    git("-c", "fastimport.unpackLimit=1", "fast-import", "--quiet", cwd=path, input="".join(stream).encode())
    git("commit-graph", "write", "--reachable", cwd=path)


@pytest.fixture
def server(private_server: Callable[..., Server]) -> Server:
    """No cached bodies: every answer is to be made from the files."""
    return private_server(env={"GOVC_CACHE_BYTES_MAX": "0"})


@pytest.fixture
def large(server: Server, git: Git) -> Repo:
    path = server.root / "large.git"
    build(git, path)
    (path / "git-daemon-export-ok").touch()
    return server.adopt(path, {"http.receivepack": "true"})


def workers(server: Server) -> set[int]:
    return {child.pid for pid in server.running.pids for child in psutil.Process(pid).children()}


@contextlib.contextmanager
def cut_short(path: Path, size: int) -> Iterator[None]:
    """The file loses what is beyond `size`, in place, and gets it back."""
    content, mode = path.read_bytes(), path.stat().st_mode
    assert len(content) > (64 << 10)
    path.chmod(0o600)
    os.truncate(path, size)
    try:
        yield
    finally:
        path.write_bytes(content)
        path.chmod(mode)


def ask(repo: Repo, want: str) -> tuple[bool, bytes]:
    """A fetch of everything: whether a pack came whole, and what was said of it."""
    reply = upload(repo.url, lines(f"want {want} side-band-64k ofs-delta no-progress", FLUSH, "done"))
    if reply.status != 200:
        return False, reply.body
    bands = demux(reply.packets)
    return bands.ended and not bands.fatal, bands.fatal


@pytest.mark.parametrize("size", [0, 8192])
@pytest.mark.parametrize("what", ["objects/pack/*.idx", "objects/info/commit-graph", "govc/introductions/*.segment"])
def test_a_file_is_cut_under_its_map(server: Server, large: Repo, git: Git, what: str, size: int) -> None:
    other = server.create_repo()
    tip, others_tip = large.rev("main"), other.rev("main")
    git("push", "-q", large.url, f"{tip}:refs/heads/again", cwd=large.path)
    wait_until(lambda: list(large.path.glob(what)))
    for _ in range(8):  # until both workers have it open
        assert (True, b"") == ask(large, tip)
    before = workers(server)
    (path,) = large.path.glob(what)
    with cut_short(path, size):
        broken = sum(not is_whole for is_whole, _ in (ask(large, tip) for _ in range(12)))
        if what.endswith(".idx"):
            assert broken == 12
            may_break = 0
        else:  # what these say follows from the objects: at most one answer of each worker breaks off
            may_break = len(before) - broken
            assert may_break >= 0
        for _ in range(4):
            listed = git("ls-remote", large.url, check=False)
            # Refs that may lie in a damaged pack are an error, never left out: a mirror would prune them.
            assert listed.code != 0 if what.endswith(".idx") else tip in listed.stdout
            assert (True, b"") == ask(other, others_tip)
    assert before == workers(server)
    # Who sent what was kept hasn't looked yet: it is a clone that breaks off then.
    for number in range(4):
        while git("clone", "-q", "--bare", large.url, f"whole-{number}.git", check=False).code:
            may_break -= 1
            assert may_break >= 0
        git("fsck", "--full", cwd=git.cwd / f"whole-{number}.git")


def test_without_a_guard_a_repository_is_out_of_service_after_two_crashes(
    private_server: Callable[..., Server], git: Git
) -> None:
    """In pure Python a cut file ends the worker; but not again and again."""
    server = private_server(env={"GOVC_CACHE_BYTES_MAX": "0", "GOVC_KERNELS": "python"})
    path = server.root / "large.git"
    build(git, path)
    (path / "git-daemon-export-ok").touch()
    large, other = server.adopt(path), server.create_repo()
    tip, others_tip = large.rev("main"), other.rev("main")
    (index,) = path.glob("objects/pack/*.idx")

    def crashes() -> int:
        assert server.running.log is not None
        return server.running.log.read_text().count(f"a worker crashed; in use were: {path}")

    def ask_quietly() -> None:
        with contextlib.suppress(OSError, ValueError):  # the connection breaks off with its worker
            ask(large, tip)

    for number in (1, 2):
        while crashes() < number:
            for _ in range(4):  # so that each worker has it open
                ask_quietly()
            with cut_short(index, 0):
                for _ in range(4):
                    ask_quietly()
            wait_until(lambda: len(workers(server)) == 2)
    refused = [upload(large.url, b"0000") for _ in range(8)]
    assert {503} == {reply.status for reply in refused}
    assert (True, b"") == ask(other, others_tip)
    assert "503" in git("ls-remote", large.url, check=False).stderr
    before, crashed = workers(server), crashes()
    with cut_short(index, 0):
        assert {503} == {upload(large.url, b"0000").status for _ in range(8)}
    assert (before, crashed) == (workers(server), crashes())
