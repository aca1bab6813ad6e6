"""`govc serve --bind unix:PATH`: who may connect, who is asking, and what is left when it is killed.

That everything else is the same there is what all tests of the front end "nginx" say: it is the way of conf/nginx.conf.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compat import frontends
from compat.conftest import Server
from compat.gitclient import Git
from tests.waiting import wait_until

Templates = Callable[[str, str], Path]
REPORTER = '#!/bin/sh\necho "$SERVER_NAME|$SERVER_PORT|$REMOTE_ADDR" >&2\ncat >/dev/null\n'


@pytest.fixture
def place() -> Iterator[Path]:
    with frontends.socket_place() as path:
        yield path


def start(tmp_path: Path, place: Path, *options: str) -> contextlib.AbstractContextManager[frontends.Running]:
    (tmp_path / "root").mkdir(exist_ok=True)
    env = frontends.server_environment(tmp_path / "home", {})
    return frontends.start_gunicorn_on_socket(tmp_path / "root", env, tmp_path, place, options)


def status_of(place: Path, path: str, **fields: str) -> int:
    with contextlib.closing(frontends.UnixConnection(place)) as connection:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in fields.items()})
        return connection.getresponse().status


def lines_of(running: frontends.Running, path: str) -> list[str]:
    assert running.log is not None
    return [line for line in running.log.read_text().splitlines() if f'path="{path}"' in line]


def test_the_socket_is_for_owner_and_group_whatever_the_umask(tmp_path: Path, place: Path) -> None:
    with start(tmp_path, place):
        assert oct(place.stat().st_mode & 0o777) == oct(0o660)
    assert not place.exists()


def test_what_a_killed_server_left_is_in_nobodys_way(tmp_path: Path, place: Path) -> None:
    with start(tmp_path, place) as running:
        os.killpg(running.pids[0], signal.SIGKILL)
    assert place.is_socket()
    with start(tmp_path, place):
        assert status_of(place, "/-/healthz") == 200


def refused_start(tmp_path: Path, path: str) -> str:
    """What a server says that can't begin on this path."""
    done = subprocess.run(
        [sys.executable, "-m", "govc.cli", "serve", "root", "--bind", f"unix:{path}"],
        cwd=tmp_path,
        env=frontends.server_environment(tmp_path / "home", {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_a_second_server_does_not_take_the_path_over(tmp_path: Path, place: Path) -> None:
    with start(tmp_path, place):
        assert "the socket is in use" in refused_start(tmp_path, str(place))
        assert status_of(place, "/-/healthz") == 200
    assert not place.exists()


def test_a_stop_is_in_order_though_another_one_has_the_path(tmp_path: Path, place: Path) -> None:
    """As when an admin has removed it and started another server: the workers get their time, and that one its path."""
    with start(tmp_path, place) as running:
        place.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(place))
    with other:
        assert place.is_socket()
        assert running.log is not None
        said = running.log.read_text()
        assert "Traceback" not in said
        assert "Parent changed" not in said
        assert said.count("Worker exiting") == 2


def test_a_reload_keeps_the_socket(tmp_path: Path, place: Path) -> None:
    with start(tmp_path, place) as running:
        assert running.log is not None
        log, before = running.log, place.stat().st_ino
        os.kill(running.pids[0], signal.SIGHUP)
        wait_until(lambda: log.read_text().count("Worker exiting") == 2, "the old workers have gone")
        assert status_of(place, "/-/readyz") == 200
        assert place.stat().st_ino == before


def test_the_proxy_says_who_asks(tmp_path: Path, place: Path) -> None:
    """And is believed by default, as one on loopback is; without a word of its own there is no address."""
    with start(tmp_path, place, "--rate-per-address", "1", "--rate-burst-seconds", "60") as running:
        for number, (fields, wanted) in enumerate(
            [
                ({"X_Forwarded_For": "192.0.2.7"}, "192.0.2.7"),
                ({"X_Forwarded_For": "192.0.2.7, 192.0.2.8"}, "192.0.2.8"),
                ({}, "-"),
            ]
        ):
            path = f"/none{number}.git/HEAD"
            assert status_of(place, path, **fields) == 404
            wait_until(lambda path=path: lines_of(running, path), "it is logged")  # type: ignore[misc]
            assert f" remote={wanted} " in lines_of(running, path)[0]
        # Each address has its own rate.
        assert status_of(place, "/again.git/HEAD", X_Forwarded_For="192.0.2.7") == 429
        assert status_of(place, "/again.git/HEAD", X_Forwarded_For="192.0.2.9") == 404
        assert status_of(place, "/again.git/HEAD") == 429  # as have all without one
        assert running.log is not None
        assert "trusted_proxies has no" not in running.log.read_text()


def test_a_proxy_that_is_not_trusted_says_nothing(tmp_path: Path, place: Path) -> None:
    """It is no way around a rate either: all are one client."""
    options = ("--rate-per-address", "1", "--rate-burst-seconds", "60", "--remote-user-header", "X-Remote-User")
    with start(tmp_path, place, "--trusted-proxies", "127.0.0.1/32", *options) as running:
        assert running.log is not None
        assert "trusted_proxies has no 'unix'" in running.log.read_text()
        assert status_of(place, "/none.git/HEAD", X_Forwarded_For="192.0.2.7") == 404
        wait_until(lambda: lines_of(running, "/none.git/HEAD"), "it is logged")
        assert " remote=- " in lines_of(running, "/none.git/HEAD")[0]
        assert status_of(place, "/again.git/HEAD", X_Forwarded_For="192.0.2.8") == 429


def test_whoever_binds_his_end_chooses_no_address(tmp_path: Path, place: Path) -> None:
    """Nor a line of the log."""
    with start(tmp_path, place) as running:
        connection = frontends.UnixConnection(place)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.bind(str(place.parent / "127.0.0.1\nx"))
        connection.sock.connect(str(place))
        connection.request("GET", "/none.git/HEAD")
        assert connection.getresponse().status == 404
        connection.close()
        wait_until(lambda: lines_of(running, "/none.git/HEAD"), "it is logged")
        assert " remote=- " in lines_of(running, "/none.git/HEAD")[0]


def test_hooks_behind_nginx_are_told_what_the_client_called(tmp_path: Path, git: Git, templates: Templates) -> None:
    (tmp_path / "root").mkdir()
    with frontends.start("nginx", tmp_path / "root", tmp_path) as running:
        repo = Server(running, tmp_path / "root", git, templates).create_repo()
        hook = repo.path / "hooks/pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(REPORTER)
        hook.chmod(0o755)
        git("clone", "-q", repo.url, "clone")
        git.commit_file("clone", "a.txt", "a\n")
        said = git("push", cwd="clone").stderr
        port = running.url.rpartition(":")[2]
        assert re.findall(r"^remote: (\S+?) *$", said, re.MULTILINE) == [f"127.0.0.1|{port}|127.0.0.1"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_where_there_can_be_no_socket_the_start_says_so(tmp_path: Path, kind: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "file").write_text("x")
    path, wanted = {"folder": ("none/s", "no folder for the socket"), "file": ("file", "not a socket")}[kind]
    assert wanted in refused_start(tmp_path, path)
    assert (tmp_path / "file").read_text() == "x"
