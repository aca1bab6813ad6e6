"""The end of hooks: clients that leave, limits that are reached, servers that shut down. No process may be left."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.hookkit import AWAIT, install, is_alive, start_push, wait_for, wait_until_gone
from compat.pushing import CAPS, EMPTY_PACK, new_objects, push_body, report_of
from compat.rawhttp import ZERO, demux, receive
from tests.waiting import wait_until

# A hook that has started a program which doesn't want to end.
STUBBORN = "trap '' TERM; sleep 300 & echo $$ $! > pids; echo started; wait"


def pids(repo: Repo) -> list[int]:
    """The processes of the stubborn hook, once it runs."""
    return [int(word) for word in wait_for(repo.path / "pids").split()]


def push_of(git: Git, repo: Repo) -> bytes:
    """A push with objects; keepalives come every second."""
    repo.config("receive.keepAlive", "1")
    old, new, pack = new_objects(git, repo)
    return push_body([f"{old} {new} refs/heads/main"], pack)


@pytest.mark.every_frontend
@pytest.mark.rows("RP-33", "RP-100")
@pytest.mark.parametrize("event", ["pre-receive", "update", "reference-transaction"])
def test_a_client_that_leaves_takes_the_hook_with_it(server: Server, git: Git, event: str) -> None:
    repo = server.create_repo()
    body = push_of(git, repo)
    install(repo.path, event, STUBBORN)
    before = repo.state() if event == "pre-receive" else (repo.refs(), None)
    connection = start_push(repo.url, body)
    running = pids(repo)
    assert all(map(is_alive, running))
    connection.close()
    for pid in running:
        wait_until_gone(pid)
    wait_until(lambda: not repo.leftovers(), "nothing is left")
    assert before == (repo.state() if event == "pre-receive" else (repo.refs(), None))


@pytest.mark.every_frontend
@pytest.mark.rows("RP-77", "RP-41")
def test_what_was_accepted_is_finished_without_the_client(server: Server, git: Git) -> None:
    if server.name == "cgi":
        pytest.skip("a CGI program is ended by its web server once the client is gone (so with git)")
    repo = server.create_repo()
    body = push_of(git, repo)
    install(repo.path, "post-receive", "echo begun > begun; sleep 3; cat > lines; echo $$ > ended")
    connection = start_push(repo.url, body)
    wait_for(repo.path / "begun")
    connection.close()
    wait_for(repo.path / "ended")
    assert "refs/heads/main" in (repo.path / "lines").read_text()


@pytest.mark.every_frontend
def test_a_hook_has_a_time_limit(private_server: Callable[..., Server], git: Git) -> None:
    """On a busy machine it may be over before the hook's first word: then it is pushed again."""
    server = private_server({"GOVC_HOOK_SECONDS_MAX": "3"})
    repo = server.create_repo()
    repo.config("receive.keepAlive", "1")
    old, new, pack = new_objects(git, repo)
    install(repo.path, "pre-receive", STUBBORN)
    before = repo.state()
    ended = b"error: hook 'pre-receive' took longer than 3 seconds and was ended\n"

    def is_heard() -> bool:
        reply = receive(repo.url, push_body([f"{old} {new} refs/heads/main"], pack))
        assert [b"unpack ok", b"ng refs/heads/main pre-receive hook declined"] == report_of(reply)
        said = demux(reply.packets).progress.split(b"%)\n")[-1].split(b"done.\n")[-1]
        assert said in (ended, b"started\n" + ended)
        return said != ended

    wait_until(is_heard, "the hook says something")
    for pid in pids(repo):
        wait_until_gone(pid)
    assert before == repo.state()
    # Late hooks are ended too, and change nothing.
    (repo.path / "hooks/pre-receive").unlink()
    (repo.path / "pids").unlink()
    install(repo.path, "post-receive", STUBBORN)
    names = (f"refs/heads/new{number}" for number in itertools.count())

    def has_begun() -> bool:
        name = next(names)
        reply = receive(repo.url, push_body([f"{ZERO} {new} {name}"], pack))
        assert [b"unpack ok", f"ok {name}".encode()] == report_of(reply)
        return (repo.path / "pids").exists() and (repo.path / "pids").read_text() != ""

    wait_until(has_begun, "the hook begins")
    for pid in pids(repo):
        wait_until_gone(pid)


@pytest.mark.every_frontend
@pytest.mark.parametrize("event", ["pre-receive", "post-receive"])
def test_a_server_that_shuts_down_leaves_no_hook(private_server: Callable[..., Server], git: Git, event: str) -> None:
    server = private_server({"GOVC_GRACEFUL_SECONDS": "5"})
    repo = server.create_repo()
    body = push_of(git, repo)
    install(repo.path, event, STUBBORN)
    with start_push(repo.url, body):
        running = pids(repo)
        for pid in reversed(server.running.pids):
            os.kill(pid, signal.SIGTERM)
        for pid in running:
            wait_until_gone(pid)


def test_a_pushers_hook_does_not_hold_a_place(server: Server, git: Git) -> None:
    """Many hooks at once: none waits for another, and the server answers others meanwhile."""
    repos = [server.create_repo() for _ in range(8)]
    connections = []
    for repo in repos:
        install(repo.path, "reference-transaction", AWAIT + "test $1 != prepared || { echo x > begun; await go; }")
        body = push_body([f"{ZERO} {repo.rev('main')} refs/heads/new"], EMPTY_PACK, caps=CAPS)
        connections.append(start_push(repo.url, body))
    for repo in repos:
        wait_for(repo.path / "begun")  # before any of them may end
    git("ls-remote", repos[0].url)
    for repo, connection in zip(repos, connections, strict=True):
        (repo.path / "go").touch()
        answer = b""
        while b"ok refs/heads/new" not in answer:
            piece = connection.recv(65536)
            assert piece
            answer += piece
        connection.close()
        assert repo.rev("main") == repo.rev("new")


def test_the_lists_of_processes_are_read_right(tmp_path: Path) -> None:
    assert is_alive(os.getpid())
    child = os.fork()
    if child == 0:
        os._exit(0)
    wait_until_gone(child)
    os.waitpid(child, 0)
