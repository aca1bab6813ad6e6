"""What was sent before, what many want at once, and the first answer after a push; and govc behind its own nginx.

Clients here read and throw away (`drain`): `git clone` spends most of its time in its own index-pack, so no server
could be told from another by its clock. A reply counts when it ends as a whole one does, with the flush after the pack.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bench import generate
from bench.measure import Memory, Refused, Request, use
from bench.rows import Bench, Numbers, check_v2, ls_refs, packets
from bench.servers import WORKERS, Server, copy_program, cpu_group, find_program, in_group
from compat.frontends import (
    PROJECT,
    find_free_port,
    nginx_configuration,
    run_logged,
    server_environment,
    wait_for_answer,
)

BEHIND_NGINX = "govc behind nginx"
STORM_CLIENTS = 50
AGAIN_CLONES = 4
CHANGES = 10
MANY_REFS = (1_000, 47_000, 1_000_000)
CHANGED_REF = "refs/changes/07/00007/2"
BUFFER_BYTES = 1 << 20
TAIL_BYTES = 64


@contextlib.contextmanager
def start_govc_behind_nginx(root: Path, scratch: Path) -> Iterator[Server]:
    """`govc serve` behind conf/nginx.conf, which sends cached bodies itself."""
    backend_port, port = find_free_port(), find_free_port()
    log, place, cache = scratch / "govc-nginx.log", scratch / "govc-nginx", scratch / "govc-nginx-cache"
    place.mkdir()
    program = copy_program(scratch / "program-nginx")
    command = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(program)]
    command += [sys.executable, "-m", "govc.cli", "serve", str(root), "--bind", f"127.0.0.1:{backend_port}"]
    command += ["--workers", str(WORKERS), "--export-all", "--cache-dir", str(cache), "--accel-location", "/-/cache"]
    env = server_environment(scratch / "home", {"PYTHONPATH": str(program)})
    source = (PROJECT / "conf" / "nginx.conf").read_text()
    text = nginx_configuration(source, port=port, backend_port=backend_port, cache_dir=str(cache))
    text = text.replace("worker_processes auto;", f"worker_processes {WORKERS};")
    (place / "nginx.conf").write_text(text)
    nginx = [find_program("nginx"), "-p", str(place), "-c", "nginx.conf", "-e", "nginx-error.log"]
    nginx += ["-g", "daemon off; user root;" if os.getuid() == 0 else "daemon off;"]
    with cpu_group("govc-nginx") as group, run_logged(in_group(group, command), env, log) as process:
        wait_for_answer(backend_port, process, log)
        with run_logged(in_group(group, nginx), env, log) as front:
            wait_for_answer(port, front, log)
            roots = (psutil.Process(process.pid), psutil.Process(front.pid))
            yield Server(BEHIND_NGINX, f"http://127.0.0.1:{port}", roots, group)


def drain(server: Server, request: Request) -> int:
    """Send a request and read its answer to the end of the connection; how many bytes came. Refused unless whole."""
    place = urlsplit(server.url)
    fields = {"Host": place.netloc, "Connection": "close", "Content-Length": str(len(request.body)), **request.headers}
    head = f"{request.method} {request.path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items())
    buffer = bytearray(BUFFER_BYTES)
    total, tail, start = 0, b"", b""
    with socket.create_connection((str(place.hostname), place.port or 80), timeout=120) as connection:
        connection.sendall(head.encode() + b"\r\n" + request.body)
        while count := connection.recv_into(buffer):
            total += count
            start = start or bytes(buffer[: min(count, 12)])
            tail = (tail + bytes(buffer[max(0, count - TAIL_BYTES) : count]))[-TAIL_BYTES:]
    if start != b"HTTP/1.1 200":
        raise Refused(f"answered {start!r}")
    if not tail.removesuffix(b"\r\n0\r\n\r\n").endswith(b"0000"):
        raise Refused("the answer was cut short")
    return total


def clone_request(bench: Bench, name: str, *wants: str) -> Request:
    """All that a repository's refs reach, in version 0, as every server speaks it."""
    repository = bench.root / name
    oids = wants or tuple(dict.fromkeys(bench.git.refs(repository).values()))
    first, *others = oids
    lines = [f"want {first} side-band-64k ofs-delta no-progress\n", *(f"want {oid}\n" for oid in others)]
    body = packets(*lines, "0000", "done\n")
    return Request(f"/{name}/git-upload-pack", body, {"Content-Type": "application/x-git-upload-pack-request"})


def clone_again_rows(bench: Bench, name: str) -> None:
    """A full clone for the second time and later: what it costs per gigabyte, and how fast it goes to one client."""

    def row(server: Server) -> Numbers:
        request = clone_request(bench, name)
        drain(server, request)
        sizes: list[int] = []
        used = use(server, lambda: sizes.extend(drain(server, request) for _ in range(AGAIN_CLONES)))
        return used.cpu / (sum(sizes) / 1e9), sum(sizes) / 1e6 / used.wall

    bench.run(f"full clone of {name}, again", ("server CPU s/GB", "MB/s to one client"), row)


def clone_after_push_row(bench: Bench, name: str) -> None:
    """The first full clone after a push that adds one commit, in a copy for each server."""

    def row(server: Server) -> Numbers:
        copy = _fresh_copy(bench, name, server)
        try:
            drain(server, clone_request(bench, copy))
            _add_commit(bench, copy, generate.MAIN)
            request = clone_request(bench, copy)
            used = use(server, lambda: drain(server, request))
            return used.cpu, used.wall
        finally:
            shutil.rmtree(bench.root / copy)

    bench.run(f"full clone of {name}, first after a push", ("server CPU s", "seconds"), row)


def storm_rows(bench: Bench, name: str) -> None:
    """Fifty clients ask at once for what nobody asked for before: each round in a copy of the repository."""

    def row(server: Server) -> Numbers:
        copy = _fresh_copy(bench, name, server)
        request = clone_request(bench, copy)
        try:
            with Memory(server) as memory, ThreadPoolExecutor(STORM_CLIENTS) as pool:
                used = use(server, lambda: list(pool.map(lambda _: drain(server, request), range(STORM_CLIENTS))))
            return used.wall, used.cpu, memory.sum_mib
        finally:
            shutil.rmtree(bench.root / copy)

    units = ("seconds until the last has all", "server CPU s", "peak private MiB, all processes")
    bench.run(f"{STORM_CLIENTS} clones of {name} at once, cold", units, row)
    single = ("seconds", "server CPU s")

    def one(server: Server) -> Numbers:
        copy = _fresh_copy(bench, name, server)
        try:
            used = use(server, lambda: drain(server, clone_request(bench, copy)))
            return used.wall, used.cpu
        finally:
            shutil.rmtree(bench.root / copy)

    bench.run(f"one clone of {name}, cold", single, one)


def after_push_rows(bench: Bench, history: str, counts: Sequence[int] = MANY_REFS) -> None:
    """`ls-refs` with one prefix, right after one of many packed refs has changed, beside an unchanged repository.

    The push is plain git's `update-ref` in the repository: what its own server costs is another row's affair. Each
    change is followed by requests over fresh connections, so that both workers see it.
    """
    bench.table("The first ls-refs with one prefix after one packed ref has changed: CPU of the answer")
    for count in counts:
        name = f"many-{count}.git"
        generate.build_refs(bench.git, bench.root / name, bench.root / history, count)
        commits = bench.git("rev-list", "-n", str(CHANGES + 2), "main", cwd=bench.root / name).stdout.split()
        request = ls_refs(name, CHANGED_REF)

        def row(server: Server, name: str = name, commits: list[str] = commits, request: Request = request) -> Numbers:
            check_v2(server)
            ask_each_worker(server, request)
            time.sleep(0.1)
            idle = use(server, lambda: [ask_each_worker(server, request) for _ in range(CHANGES)]).cpu
            spent = 0.0
            for oid in commits[:CHANGES]:
                bench.git("update-ref", CHANGED_REF, oid, cwd=bench.root / name)
                spent += use(server, lambda: ask_each_worker(server, request)).cpu
            asked = CHANGES * ASKED_EACH
            return idle / asked * 1e3, spent / asked * 1e3, (spent - idle) / asked * 1e3

        units = ("unchanged: CPU ms/request", "changed: CPU ms/request", "more, ms")
        bench.run(f"{count:,} refs", units, row, rounds=min(3, bench.plan.rounds))
        shutil.rmtree(bench.root / name)


ASKED_EACH = 2 * WORKERS


def ask_each_worker(server: Server, request: Request) -> None:
    """Ask over connections of their own, all open at once, so that they are not all one worker's."""
    place = urlsplit(server.url)
    connections = [socket.create_connection((str(place.hostname), place.port or 80)) for _ in range(ASKED_EACH)]
    fields = {"Host": place.netloc, "Connection": "close", "Content-Length": str(len(request.body)), **request.headers}
    head = f"{request.method} {request.path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items())
    try:
        for connection in connections:
            connection.sendall(head.encode() + b"\r\n" + request.body)
        for connection in connections:
            answer = b""
            while piece := connection.recv(BUFFER_BYTES):
                answer += piece
            if not answer.startswith(b"HTTP/1.1 200") or CHANGED_REF.encode() not in answer:
                raise Refused("no listing")
    finally:
        for connection in connections:
            connection.close()


def _fresh_copy(bench: Bench, name: str, server: Server) -> str:
    bench.serial += 1
    copy = f"copy-{server.name.replace(' ', '-')}-{bench.serial}.git"
    generate.copy_linked(bench.root / name, bench.root / copy)
    return copy


def _add_commit(bench: Bench, name: str, ref: str) -> None:
    """One commit more, by plain git, in new files only (the copy's packs are links)."""
    place = bench.root / name
    tree = bench.git.rev(place, f"{ref}^{{tree}}")
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    done = subprocess.run(
        ["git", *identity, "commit-tree", "-p", ref, "-m", "one more", tree],
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    loose = place / ref
    loose.parent.mkdir(parents=True, exist_ok=True)
    loose.unlink(missing_ok=True)
    loose.write_text(done.stdout)


def measure(bench: Bench, history: str, blobs: str, real: Sequence[str]) -> None:
    """All rows of this file."""
    after_push_rows(bench, history)
    bench.table("Clones: again, after a push, and many at once")
    for name in (blobs, *real):
        clone_again_rows(bench, name)
    for name in (history, *real):
        clone_after_push_row(bench, name)
        storm_rows(bench, name)
