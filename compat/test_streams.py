"""Large answers and large pushes are streams: bounded memory, a slow reader waits alone, a leaver leaves nothing."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import FLUSH, demux, lines, post
from tests.waiting import SECONDS, wait_until

MEGABYTE = 1 << 20
BLOB_MEGABYTES = 100
PEAK_BYTES_MAX = 150 * MEGABYTE
"""What issue and documents promise, for all processes of the server together."""

HELPER = "govc.repo.helper_main"
PACKS_ONLY = {"GOVC_INTRODUCTIONS": "false"}
"""A server whose helpers make packs for clients, and fill no index meanwhile."""


def processes(server: Server) -> list[psutil.Process]:
    """Every process of the server, helpers included."""
    found = []
    for pid in server.running.pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found


def private_bytes(server: Server) -> int:
    """Private memory of the whole server now."""
    total = 0
    for process in processes(server):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().uss
    return total


def children_of(pid: int) -> list[int]:
    """The children of a process, from its own list: to look through all processes of a machine takes too long for one
    that lives a fifth of a second."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has just ended
            found += map(int, task.read_text().split())
    return found


def find_helper(server: Server) -> psutil.Process | None:
    """A helper process that is alive: a child of a worker."""
    for pid in server.running.pids:
        for worker in children_of(pid):
            for child in children_of(worker):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process = psutil.Process(child)
                    if HELPER in process.cmdline():
                        return process
    return None


@contextlib.contextmanager
def looking(look: Callable[[], bool], pause: float) -> Iterator[None]:
    """Look again and again in a thread while the block runs, until there is nothing more to look for."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(pause) and look():
            continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextlib.contextmanager
def frozen_helper(server: Server) -> Iterator[list[psutil.Process]]:
    """The helper that comes next, standing still; it is gone at the end."""
    caught: list[psutil.Process] = []

    def look() -> bool:
        helper = find_helper(server)
        if helper is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                helper.suspend()
                caught.append(helper)
        return not caught

    try:
        with looking(look, 0.002):
            yield caught
    finally:
        for helper in caught:
            with contextlib.suppress(psutil.NoSuchProcess):
                helper.kill()


@contextlib.contextmanager
def peak(server: Server) -> Iterator[list[int]]:
    """The largest private memory while the block runs, as the only item of a list."""
    seen = [0]

    def look() -> bool:
        seen[0] = max(seen[0], private_bytes(server))
        return True

    with looking(look, 0.02):
        yield seen


def big_repo(server: Server, git: Git) -> Repo:
    """Ten megabytes of noise, ten times over, stored as they are."""
    repo = server.create_repo("empty")
    git("init", "-q", "-b", "main", "noise")
    for key in ("core.compression", "pack.compression"):
        git("config", key, "0", cwd="noise")
    git("config", "core.bigFileThreshold", "1m", cwd="noise")
    chance = random.Random(5)
    for n in range(10):
        (git.cwd / f"noise/{n}.bin").write_bytes(chance.randbytes(BLOB_MEGABYTES * MEGABYTE // 10))
    git("add", ".", cwd="noise")
    git("commit", "-q", "-m", "noise", cwd="noise")
    return repo


@pytest.mark.slow
@pytest.mark.rows("HB-47", "HB-48", "SEC-46")
def test_a_large_push_and_a_large_clone_stay_in_bounded_memory(private_server: Callable[..., Server], git: Git) -> None:
    server = private_server({})  # one that a thousand other repositories have not warmed
    repo = big_repo(server, git)
    with peak(server) as pushing:
        git("push", "-q", repo.url, "main", cwd="noise")
    with peak(server) as cloning:
        git("clone", "-q", "--bare", repo.url, "copy")
    assert repo.rev("main") == git.rev("copy", "main")
    assert 0 < pushing[0] < PEAK_BYTES_MAX
    assert 0 < cloning[0] < PEAK_BYTES_MAX


@pytest.mark.slow
@pytest.mark.rows("FS-72", "CF-52", "HB-86", "FK-10")
def test_one_blob_larger_than_the_memory_bound_streams_every_way(
    private_server: Callable[..., Server], git: Git
) -> None:
    """A push, a clone and an archive of a single blob. The push is checked, for which blobs are not read."""
    server = private_server({})
    config = {"core.bigFileThreshold": "1m", "http.uploadarchive": "true", "receive.fsckObjects": "true"}
    repo = server.create_repo("empty", config=config)
    git("init", "-q", "-b", "main", "huge")
    for key, value in (("core.compression", "0"), ("pack.compression", "0"), ("core.bigFileThreshold", "1m")):
        git("config", key, value, cwd="huge")
    noise = random.Random(6).randbytes(MEGABYTE)
    content = b"".join(noise[n:] + noise[:n] for n in range(PEAK_BYTES_MAX // MEGABYTE + 10))
    (git.cwd / "huge/one.bin").write_bytes(content)
    git("add", ".", cwd="huge")
    git("commit", "-q", "-m", "huge", cwd="huge")
    with peak(server) as pushing:
        git("push", "-q", repo.url, "main", cwd="huge")
    assert 0 < pushing[0] < PEAK_BYTES_MAX
    with peak(server) as cloning:
        git("clone", "-q", "--bare", repo.url, "copy")
    assert 0 < cloning[0] < PEAK_BYTES_MAX
    assert repo.rev("main") == git.rev("copy", "main")
    with peak(server) as archiving:
        reply = post(repo.url, "upload-archive", lines("argument --format=tar", "argument main", FLUSH))
    assert 0 < archiving[0] < PEAK_BYTES_MAX
    assert demux(reply.packets).data == git.output_bytes("archive", "main", cwd=repo.path)


def start_clone(repo: Repo) -> socket.socket:
    """Ask for everything over a socket with small buffers, and read nothing yet."""
    place = urlsplit(repo.url)
    assert place.hostname is not None and place.port is not None
    body = lines(f"want {repo.rev('main')} side-band-64k ofs-delta", FLUSH, "done")
    head = (
        f"POST {place.path}/git-upload-pack HTTP/1.1\r\nHost: {place.netloc}\r\n"
        "Content-Type: application/x-git-upload-pack-request\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    connection.settimeout(SECONDS)
    connection.connect((place.hostname, place.port))
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.slow
@pytest.mark.rows("HB-77", "HB-48")
def test_a_slow_reader_holds_back_the_producer_and_nobody_else(server: Server, git: Git) -> None:
    repo = big_repo(server, git)
    git("push", "-q", repo.url, "main", cwd="noise")
    before = private_bytes(server)
    connections = [start_clone(repo) for _ in range(8)]
    try:
        for connection in connections:
            assert b"200" in connection.recv(4096)
        time.sleep(1.0)  # long enough to produce everything, if nothing held it back
        assert private_bytes(server) - before < 60 * MEGABYTE
        assert repo.rev("main") in git("ls-remote", repo.url).stdout
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.slow
@pytest.mark.rows("HB-77")
def test_a_client_that_leaves_takes_its_helper_with_it(private_server: Callable[..., Server]) -> None:
    server = private_server(PACKS_ONLY)
    repo = server.create_repo("linear")
    # More objects than are made inline, so that a helper makes the pack.
    lines_of_history = []
    for n in range(4000):
        lines_of_history.append(
            f"commit refs/heads/wide\ncommitter a <a@b> {1700000000 + n} +0000\ndata 0\n"
            f"M 100644 inline f{n}\ndata 4096\n{os.urandom(2048).hex()}\n"
        )
    repo.run("fast-import", "--quiet", input="".join(lines_of_history).encode())
    repo.run("update-ref", "refs/heads/main", "refs/heads/wide")
    with frozen_helper(server) as caught:  # so that it doesn't end by itself
        connection = start_clone(repo)
        wait_until(lambda: caught, "a helper")
        connection.close()
        wait_until(lambda: not caught[0].is_running(), "the helper is ended")


@pytest.mark.slow
@pytest.mark.rows("RP-100", "RP-33")
def test_a_push_that_breaks_off_leaves_no_file(server: Server, git: Git) -> None:
    repo = server.create_repo()
    before = repo.state()
    place = urlsplit(repo.url)
    connection = http.client.HTTPConnection(place.netloc, timeout=SECONDS)
    connection.putrequest("POST", f"{place.path}/git-receive-pack")
    connection.putheader("Content-Type", "application/x-git-receive-pack-request")
    connection.putheader("Content-Length", str(50 * MEGABYTE))
    connection.endheaders()
    command = lines(f"{'0' * 40} {repo.rev('main')} refs/heads/new\0 report-status", FLUSH)
    connection.send(command + b"PACK\0\0\0\2\0\0\1\0" + os.urandom(5 * MEGABYTE))
    connection.close()
    wait_until(lambda: not repo.leftovers(), "nothing is left")
    assert before == repo.state()
