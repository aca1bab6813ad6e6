"""Rows 14 and 15: private memory of a worker, and what others notice of large transfers.

Clients here are curl, a process of its own: this one only keeps time.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import generate
from bench.lines import DIRECT, GIT, AtMost
from bench.measure import Memory, Pacer, percentile, settle
from bench.row_clones import clone_request
from bench.servers import Server, start_govc
from bench.wire import RECEIVE_PACK, Refused, Request, drain, fetch, is_acknowledged, ls_refs, push_body
from bench.world import Bench, Repository

IDLE_SECONDS = 6
PUSHED_REF = "refs/heads/large"


def run_curl(server: Server, request: Request, body: Path) -> None:
    """Send a request whose body is in a file and throw the answer away; Refused unless it is 200 and no refusal."""
    command = ["curl", "-sS", "-f", "-X", request.method, "--data-binary", f"@{body}", server.url + request.path]
    for name, value in {"Expect": "", **request.headers}.items():
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run([*command, "-o", str(body) + ".answer"], capture_output=True, text=True, check=False)
    answer = Path(str(body) + ".answer")
    with answer.open("rb") as file:
        start = file.read(4096)
    answer.unlink()
    if done.returncode or b"ERR " in start[:10]:
        raise Refused(f"curl: {done.stderr.strip()} {start[:100]!r}")


class Pushed:
    """A large push, as a file: all of a repository of blobs, to a ref that isn't there."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench = bench
        source = bench.kept / bench.blobs(bench.plan.push_megabytes).name
        tip = bench.git.rev(source, generate.MAIN)
        pack = max(source.glob("objects/pack/*.pack"), key=lambda path: path.stat().st_size).read_bytes()
        self.request = Request(f"/{name}/git-receive-pack", b"", {"Content-Type": RECEIVE_PACK + "request"})
        self.body = bench.place()
        self.body.write_bytes(push_body(PUSHED_REF, None, tip, pack))

    def send(self, server: Server) -> None:
        """Push it."""
        command = ["curl", "-sS", "-f", "--data-binary", f"@{self.body}", "-H", "Expect:"]
        command += ["-H", f"Content-Type: {RECEIVE_PACK}request", server.url + self.request.path]
        done = subprocess.run(command, capture_output=True, check=False)
        if not is_acknowledged(done.stdout):
            raise Refused(f"push: {done.stderr[:100]!r} {done.stdout[:200]!r}")

    def close(self) -> None:
        """Remove the file."""
        self.body.unlink()


def _subjects(bench: Bench) -> list[Repository]:
    """The gigabyte of blobs, and the largest repository from outside."""
    real = sorted(bench.real(), key=lambda repository: _pack_bytes(bench.root / repository.name))
    return [bench.blobs(bench.plan.gigabyte_megabytes), *real[-1:]]


def _pack_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("objects/pack/*.pack"))


@contextlib.contextmanager
def _server_of(bench: Bench, name: str) -> Iterator[Server]:
    """One worker of ours with a cache of its own; git as it always is."""
    if name == GIT:
        yield bench.server(GIT)
        return
    with start_govc(bench.root, bench.scratch, workers=1) as server:
        yield server


def row_14(bench: Bench) -> None:
    """All processes of a server with one worker: clone, fetch, push of 100 MB, and what stays."""
    for repository in _subjects(bench):
        title = repository.title
        units = ("private MiB", "peak private MiB", "peak private MiB", "peak private MiB")
        whats = ("at rest, afterwards", "a clone", "a fetch", f"a push of {bench.plan.push_megabytes} MB")
        limits = (100.0, 150.0, 150.0, 150.0)
        lines = [
            bench.line(what, title, unit, AtMost(limit)) for what, unit, limit in zip(whats, units, limits, strict=True)
        ]
        for name in (DIRECT, GIT):
            with bench.fresh(repository.name) as copy, _server_of(bench, name) as server:
                commits = bench.git("rev-list", "--first-parent", "-n", "11", "HEAD", cwd=bench.root / copy)
                tip, *_, old = commits.stdout.split()
                pushed = Pushed(bench, copy)
                try:
                    steps: list[Callable[[], object]] = [
                        lambda server=server, copy=copy: drain(server, clone_request(bench, copy)),  # type: ignore[misc]
                        lambda server=server, copy=copy, tip=tip, old=old: drain(  # type: ignore[misc]
                            server, fetch(copy, [tip], [old])
                        ),
                        lambda server=server, pushed=pushed: pushed.send(server),  # type: ignore[misc]
                    ]
                    for line, step in zip(lines[1:], steps, strict=True):
                        with Memory(server) as memory:
                            step()
                        line.add(name, memory.sum_mib)
                        settle(server)
                    with Memory(server) as memory:
                        time.sleep(0.5)
                    lines[0].add(name, memory.sum_mib)
                finally:
                    pushed.close()
        bench.say(f"row 14: {title}")


def row_15(bench: Bench) -> None:
    """ls-refs of a small repository, fifty times a second, on the same server."""
    small = ls_refs(bench.history().name)
    server = bench.server(DIRECT)
    half = bench.plan.gigabyte_megabytes // 2

    def paced(work: Callable[[], object]) -> float:
        pacer = Pacer(server, small)
        with pacer.running():
            work()
        return percentile(pacer.milliseconds, 0.99)

    pushing = f"ls-remote, p99, while {bench.plan.push_megabytes} MB are pushed"
    cloning = "ls-remote, p99, while a cold clone is made and sent"
    subjects = [(pushing, bench.history()), (cloning, bench.blobs(half))]
    subjects += [(cloning, repository) for repository in _subjects(bench)[1:]]
    for what, subject in subjects:
        on = subject.title
        lines = [
            bench.line(what, on, "ms"),
            bench.line(what + ": more than idle", on, "ms", AtMost(15.0)),
        ]
        for _ in range(bench.plan.rounds):
            idle = paced(lambda: time.sleep(IDLE_SECONDS))
            with bench.fresh(subject.name) as copy:
                busy = _busy(bench, server, copy, what == pushing, paced)
            lines[0].add(DIRECT, busy)
            lines[1].add(DIRECT, busy - idle)
            settle(server)
        bench.say(f"row 15: {what}, {on}")


def _busy(
    bench: Bench, server: Server, copy: str, is_push: bool, paced: Callable[[Callable[[], object]], float]
) -> float:
    if is_push:
        pushed = Pushed(bench, copy)
        try:
            return paced(lambda: pushed.send(server))
        finally:
            pushed.close()
    request = clone_request(bench, copy)
    body = bench.place()
    body.write_bytes(request.body)
    try:
        return paced(lambda: run_curl(server, request, body))
    finally:
        body.unlink()
