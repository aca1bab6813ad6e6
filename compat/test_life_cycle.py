"""Reloading and stopping a real server while real clients use it; and mistakes in files, before and after.

Nothing here waits for a time to pass: each test waits for what it is about.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from compat import frontends
from compat.gitclient import Git
from compat.rawhttp import request
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("life-cycle")

SECONDS = 180
BODY_BYTES = 12 << 20  # more than the kernel keeps for a client that doesn't read
RELOADS = 2
LISTING = "/a.git/info/refs?service=git-upload-pack"


@dataclass
class World:
    running: frontends.Running
    root: Path
    git: Git

    @property
    def master(self) -> psutil.Process:
        return psutil.Process(self.running.pids[-1])

    @property
    def url(self) -> str:
        return f"{self.running.url}/a.git"

    def workers(self) -> set[int]:
        return {child.pid for child in self.master.children()}

    def log(self) -> str:
        assert self.running.log is not None
        return self.running.log.read_text()

    def wait_for_both(self) -> None:
        """Wait until both workers have started, and have the large repository open."""

        def have_both() -> bool:
            assert request(self.running.url, "GET", LISTING).status == 200
            return b"\ngovc_open_repositories 2.0\n" in request(self.running.url, "GET", "/-/metrics").body

        wait_until(have_both, "both workers serve")

    def reload(self) -> set[int]:
        """Send SIGHUP, and wait until both new workers serve; the old ones."""
        old, booted = self.workers(), self.log().count("Booting worker")
        self.master.send_signal(signal.SIGHUP)
        wait_until(lambda: self.log().count("Booting worker") >= booted + 2, "new workers")
        wait_until(lambda: len(self.workers() - old) == 2, "two new workers")
        return old


def make_repository(git: Git, root: Path) -> None:
    git("init", "-q", "-b", "main", "work")
    (git.cwd / "work" / "noise").write_bytes(os.urandom(BODY_BYTES))
    git("add", ".", cwd="work")
    git("commit", "-qm", "noise", cwd="work")
    git("clone", "-q", "--bare", "work", root / "a.git")
    git("config", "http.receivepack", "true", cwd=root / "a.git")
    git("init", "-q", "--bare", "-b", "main", root / "small.git")
    git("config", "http.receivepack", "true", cwd=root / "small.git")
    for name in ("a.git", "small.git"):
        (root / name / "git-daemon-export-ok").touch()


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[World]]:
    """A server of its own over a large and a small repository."""
    root = tmp_path / "root"
    git = Git(tmp_path / "home", tmp_path)
    make_repository(git, root)

    @contextlib.contextmanager
    def begin(name: str = "gunicorn", **settings: str) -> Iterator[World]:
        with frontends.start(name, root, tmp_path, settings) as running:
            yield World(running, root, git)

    return begin


class SlowClone:
    """A clone by hand, which stops reading after the first bytes."""

    def __init__(self, world: World) -> None:
        place = urlsplit(world.url)
        tip = world.git.rev("work", "HEAD")
        want = f"want {tip} side-band-64k ofs-delta no-progress\n".encode()
        body = b"%04x%s00000009done\n" % (len(want) + 4, want)
        head = (
            f"POST {place.path}/git-upload-pack HTTP/1.1\r\nHost: {place.netloc}\r\n"
            f"Content-Type: application/x-git-upload-pack-request\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        self._socket.settimeout(SECONDS)
        self._socket.connect((place.hostname or "", place.port or 80))
        self._socket.sendall(head.encode() + body)
        self._data = self._socket.recv(4096)
        assert self._data.startswith(b"HTTP/1.1 200 ")

    def finish(self) -> bool:
        """Read the rest; whether it is whole."""
        count, tail = len(self._data), b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            data = self._socket.recv(1 << 20)
            if not data:
                return False
            count += len(data)
            tail = (tail + data)[-16:]
        self._socket.close()
        return count > BODY_BYTES

    def close(self) -> None:
        self._socket.close()


def listens(pid: int, port: int) -> bool:
    """Whether a process (still) takes connections."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(pid).net_connections("tcp")
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in found)
    return False


def test_connections_that_are_kept_are_answered_by_a_worker_that_ends(start) -> None:  # type: ignore[no-untyped-def]
    """By way of the lane and of gunicorn, once the worker has closed its listener; ten idle seconds are the limit."""
    with start() as world:
        place = urlsplit(world.url)
        port = place.port or 80
        for _ in range(10):
            began = time.monotonic()
            kept = [http.client.HTTPConnection(place.hostname or "", port, timeout=SECONDS) for _ in range(8)]
            for connection in kept:
                connection.request("GET", LISTING)
                assert connection.getresponse().read()
            old = world.reload()
            wait_until(lambda old=old: not any(listens(pid, port) for pid in old), "old workers take nobody in")
            answers = []
            for number, connection in enumerate(kept):
                service = ("receive", "upload")[number % 2]
                headers = {"Content-Type": f"application/x-git-{service}-pack-request"}
                try:
                    connection.request("POST", f"/a.git/git-{service}-pack", b"0000", headers)
                    answers.append(connection.getresponse().status)
                except (OSError, http.client.HTTPException) as error:
                    answers.append(repr(error))
                connection.close()
            if time.monotonic() - began < 8:
                assert answers == [200] * 8
                return
        pytest.fail("the machine takes too long for everything")


def keep_going(world: World, number: int, is_over: threading.Event, done: list[str], failures: list[str]) -> None:
    """One client: lists, clones and pushes until told to stop."""
    folder = world.git.cwd / f"client{number}"
    git = Git(folder / "home", folder)
    url = f"{world.running.url}/small.git"
    try:
        git("init", "-q", "-b", "main", "work")
        count = 0
        while not is_over.is_set():
            count += 1
            git("ls-remote", url)
            git.commit_file("work", "file", f"{number} {count}\n")
            git("push", "-q", url, f"main:refs/heads/{number}/{count}", cwd="work")
            git("clone", "-q", "--no-checkout", url, f"clone{count}")
            shutil.rmtree(folder / f"clone{count}")
            done.append(f"refs/heads/{number}/{count}")
    except AssertionError as error:
        failures.append(str(error))


@pytest.mark.parametrize("frontend_name", ["gunicorn", "nginx"])
def test_no_request_fails_while_the_server_is_reloaded(start, frontend_name: str) -> None:  # type: ignore[no-untyped-def]
    with start(frontend_name) as world:
        is_over, done, failures = threading.Event(), [], []
        threads = [
            threading.Thread(target=keep_going, args=(world, number, is_over, done, failures)) for number in range(3)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(RELOADS):
                old, count = world.reload(), len(done)
                # Old ones end, and work goes on, before the next reload.
                wait_until(lambda old=old: not old & world.workers(), "old workers end")
                wait_until(lambda count=count: len(done) >= count + 3 or failures, "work goes on")
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert set(done) <= world.git.refs(world.root / "small.git").keys()
        # Not even a proxy has met a closed door.
        assert " 502 " not in world.log()
        assert "Traceback" not in world.log()
    # A server that ends in order has emptied its log.
    assert not (world.root / "small.git" / "govc" / "log").exists()
    world.git.fsck(world.root / "small.git")


def test_a_long_clone_outlives_a_reload_and_its_worker_does_not_count(start) -> None:  # type: ignore[no-untyped-def]
    with start(GOVC_GRACEFUL_SECONDS="6") as world:
        clone = SlowClone(world)
        old = world.reload()
        wait_until(lambda: len(old & world.workers()) == 1, "the other old worker ends")
        (busy,) = old & world.workers()
        # One that crashes meanwhile is replaced: the busy one serves nobody new.
        victim = next(iter(world.workers() - old))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(world.workers() - {busy, victim}) == 2, "two that serve")
        assert request(world.running.url, "GET", LISTING).status == 200
        # Longer than graceful_seconds leaves it (6 - 5 = 1): it is asked to go all the time.
        began = psutil.Process(busy).create_time()
        wait_until(lambda: time.time() - began > 8, "its grace is over")
        assert psutil.pid_exists(busy)
        assert clone.finish()
        wait_until(lambda: busy not in world.workers(), "it ends")
        assert "graceful timeout" not in world.log()


def test_a_stop_after_a_reload_ends_the_old_workers_too(start) -> None:  # type: ignore[no-untyped-def]
    with start(GOVC_GRACEFUL_SECONDS="8") as world:  # and not reload_seconds, which is an hour
        clone = SlowClone(world)
        old = world.reload()
        wait_until(lambda: len(old & world.workers()) == 1, "the other old worker ends")
        processes = [psutil.Process(pid) for pid in world.workers()]
        master = world.master
        master.terminate()
        wait_until(lambda: not master.is_running() or master.status() == psutil.STATUS_ZOMBIE, "the master ends")
        wait_until(lambda: not any(map(is_at_work, processes)), "no worker is left")
        assert not clone.finish()
        clone.close()


def test_a_clone_that_is_under_way_is_finished_by_a_server_that_stops(start) -> None:  # type: ignore[no-untyped-def]
    with start() as world:
        clone = SlowClone(world)
        world.master.terminate()
        place = urlsplit(world.url)
        # Nobody is let in any more ...
        wait_until(lambda: not can_connect(place.hostname or "", place.port or 80), "the door closes")
        # ... and who is in gets all.
        assert clone.finish()
        wait_until(lambda: "Shutting down: Master" in world.log(), "the end")


def is_at_work(process: psutil.Process) -> bool:
    """Whether a process runs; one that is dead and waits to be counted doesn't."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def can_connect(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def test_signals_that_meet_workers_while_they_start_are_not_lost(start) -> None:  # type: ignore[no-untyped-def]
    with start() as world:
        for number in range(4):
            booted = world.log().count("Booting worker")
            world.master.send_signal(signal.SIGUSR1)
            world.master.send_signal(signal.SIGHUP)
            # The moment at which they have been forked, and not more.
            wait_until(lambda number=number: world.log().count("Hang up") > number, "the signal")
            wait_until(lambda booted=booted: world.log().count("Booting worker") > booted, "a new worker")
        wait_until(lambda: len(world.workers()) == 2, "only two workers are left")
        assert request(world.running.url, "GET", LISTING).status == 200
        assert "was sent SIG" not in world.log().replace("was sent SIGTERM", "")


def test_a_mistake_in_a_file_ends_no_server_that_runs(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rules = tmp_path / "p.toml"
    good = '[[rule]]\nrepositories = ["**"]\nread = ["@anyone"]\n'
    rules.write_text(good)
    with start(GOVC_PERMISSION_FILE=str(rules)) as world:
        world.wait_for_both()
        rules.write_text(good + "nonsense = 1\n")
        workers = world.workers()
        world.master.send_signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded" in world.log(), "the mistake is named")
        assert "p.toml line 4" in world.log().partition("not reloaded")[2].splitlines()[0]
        assert workers == world.workers()
        # A worker that crashes now can't be replaced, and is no reason for the other to end.
        victim = next(iter(workers))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: "1 of 2 workers run; no other can start" in world.log(), "it is said")
        for _ in range(4):
            assert request(world.running.url, "GET", LISTING).status == 200
        rules.write_text(good)
        wait_until(lambda: len(world.workers() - {victim}) == 2, "another one, as soon as it can")
        assert world.log().count("no other can start") == 1


@pytest.mark.parametrize(
    ("setting", "text", "said"),
    [
        ("permission_file", "[[rule]]\nx = 1\n", "file line 2)"),
        ("htpasswd_file", "ann:$2y$05$ok\nnonsense\n", "file line"),
        ("token_file", "nonsense\n", "file line 1)"),
        ("config", "workers = 2\nwirkers = 3\n", "wirkers"),
        ("config", "workers = \n", "line 1"),
        ("config", "workers = 0\n", "workers"),
    ],
)
def test_a_mistake_is_named_before_anything_starts(tmp_path: Path, setting: str, text: str, said: str) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    flag = "--" + setting.replace("_", "-")
    command = [sys.executable, "-m", "govc.cli", "serve", str(tmp_path), "--bind", "127.0.0.1:0", flag, str(file)]
    env = frontends.server_environment(tmp_path / "home", {})
    done = subprocess.run(command, cwd=frontends.PROJECT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr and str(file) in done.stderr
    assert "Traceback" not in done.stderr and "Listening" not in done.stderr
