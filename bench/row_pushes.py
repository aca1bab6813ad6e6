"""Rows 9 and 16: small pushes, and what becomes of two thousand of them.

A push is what git does: the listing of refs for git-receive-pack, then the request, over one connection. govc's are
synced before they are answered, the peer's are not at all. Requests are built beforehand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import generate
from bench.lines import DIRECT, GIT, AtMost, Times
from bench.measure import use
from bench.servers import Server
from bench.wire import ask_once, info_refs, push_body, push_lanes
from bench.world import Bench
from tests.simulation.pushes import make_commit, make_pack

MANY = 16
PUSHES_MANY_REFS = 5
WARM = 4


def make_bodies(first: str, ref: str, count: int) -> list[bytes]:
    """Requests that move one ref from commit to commit; before the first it isn't there."""
    parent, old, bodies = first, None, []
    for number in range(count):
        commit = make_commit(parent, f"{ref} {number}", f"{ref} {number}\n".encode())
        bodies.append(push_body(ref, old, commit.oid, make_pack(commit.objects)))
        parent = old = commit.oid
    return bodies


def _measure(bench: Bench, title: str, name: str, pushers: int, each: int, cpu: float, rate: float | None) -> None:
    who = "1 pusher" if pushers == 1 else f"{pushers} pushers"
    lines = [
        bench.line(f"push of 1 commit, {who}", title, "CPU ms/push", Times(cpu)),
        bench.line(f"push of 1 commit, {who}", title, "pushes/s", Times(rate) if rate else None, more_is_better=True),
    ]

    def work(server: Server) -> Sequence[float]:
        with bench.fresh(name) as copy:
            first = bench.git.rev(bench.root / copy, "HEAD")
            # What a server does once for a repository (each worker, here) is in rows 3 and 5.
            for _ in range(WARM):
                ask_once(server, info_refs(copy, "git-receive-pack"))
            push_lanes(server, copy, [make_bodies(first, f"refs/heads/warm{number}", 1) for number in range(WARM)])
            lanes = [make_bodies(first, f"refs/heads/p{number}", each) for number in range(pushers)]
            used = use(server, lambda: push_lanes(server, copy, lanes), settle_seconds=0.4)
        count = sum(map(len, lanes))
        return used.cpu / count * 1e3, count / used.wall

    bench.rounds(lines, work)


def row_9(bench: Bench) -> None:
    """One pusher and sixteen, on refs of their own; and into a repository of many refs."""
    plan = bench.plan
    first, *others = bench.all()
    for repository in (first, *others[-1:]):
        _measure(bench, repository.title, repository.name, 1, plan.pushes_one, 10, 5)
        _measure(bench, repository.title, repository.name, MANY, plan.pushes_each, 10, 5)
    many = bench.refs(plan.refs)
    _measure(bench, many.title, many.name, 1, PUSHES_MANY_REFS, 200, None)


def _pack_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("objects/pack/*.pack"))


def _run(command: Sequence[str | Path]) -> float:
    """CPU s of a process with its children."""
    process = subprocess.Popen([*map(os.fspath, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise AssertionError(f"{command[0]}: status {process.returncode}")
    return used.ru_utime + used.ru_stime


def row_16(bench: Bench) -> None:
    """`govc maintain` beside `git repack -adb`, on copies of the same folder."""
    count = bench.plan.pushes_kept
    history = bench.kept / bench.history().name
    name = f"pushed-{bench.plan.commits}-{count}.git"
    kept = bench.prepared(name, lambda path: generate.build_pushed(bench.git, path, history, count), fill=False)
    title = f"generated, {count:,} pushes"
    cpu = bench.line("merging small pushes", title, "CPU s", Times(1))
    size = bench.line("merging small pushes", title, "bytes of packs")
    share = bench.line("merging small pushes", title, "times the bytes of git's", AtMost(1.1))
    packs = bench.line("merging small pushes", title, "packs left", AtMost(50))
    for _ in range(min(2, bench.plan.rounds)):
        for contender in (DIRECT, GIT):
            path = generate.copy_linked(kept, bench.place())
            ours = [sys.executable, "-m", "govc.cli", "maintain", path]
            began = time.monotonic()
            cpu.add(contender, _run(ours if contender == DIRECT else ["git", "-C", path, "repack", "-adbq"]))
            bench.say(f"row 16: {contender}: {time.monotonic() - began:.1f} s")
            size.add(contender, _pack_bytes(path))
            packs.add(contender, len(list(path.glob("objects/pack/*.pack"))))
            bench.git("fsck", "--connectivity-only", cwd=path, timeout=600)
            shutil.rmtree(path)
        share.add(DIRECT, size.samples[DIRECT][-1] / size.samples[GIT][-1])
