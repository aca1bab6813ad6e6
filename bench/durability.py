"""What durability costs: `python -m bench.durability`, beside git-http-backend in the same run; writes DURABILITY.md.

Rows: small pushes per second and their syncs, one pusher and sixteen on refs of their own over two workers; recovery in
records per second; bytes of the log per push.

The pushers are threads with a socket each; requests are built beforehand, since git as a client costs more CPU than
either server. Syncs (fsync, fdatasync, syncfs) are counted by strace over all processes of the server, in a round of
its own, because strace slows what it looks at.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench import checkpoints, servers
from bench.row_pushes import make_bodies
from bench.wire import push_lanes
from compat.gitclient import Git
from govc.repo.recovery import log_folder
from govc.wal.reader import LogReader
from govc.wal.record import Kind
from tests.simulation.harness import Scene
from tests.simulation.pushes import Push, make_commit

RESULTS = Path(__file__).with_name("DURABILITY.md")
SYNCS = "fsync,fdatasync,syncfs,sync,sync_file_range"
MANY = 16


@dataclass(frozen=True)
class Plan:
    """How much of it."""

    pushes_one: int = 150
    pushes_each: int = 20
    rounds: int = 3
    records: int = 1000


class Target(NamedTuple):
    """A server, and the configuration of its repository."""

    name: str
    server: servers.Server
    configuration: tuple[tuple[str, str], ...] = ()


class Rate(NamedTuple):
    """Pushes per second by the clock, server's CPU milliseconds per push."""

    pushes: float
    cpu_ms: float


def push(target: Target, name: str, lanes: Sequence[Sequence[bytes]]) -> None:
    """Push each list through a connection of its own, all at once, without asking for refs."""
    push_lanes(target.server, name, lanes, lists=False)


@contextlib.contextmanager
def counting_syncs(server: servers.Server, place: Path) -> Iterator[Callable[[], int]]:
    """Count the syncs of all processes of a server: call what is yielded after the block."""
    output = place / f"strace-{time.monotonic_ns()}"
    processes = [str(process.pid) for process in server.processes()]
    command = ["strace", "-f", "-qq", "-e", f"trace={SYNCS}", "-o", str(output)]
    for pid in processes:
        command += ["-p", pid]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.5)
    try:
        yield lambda: sum("sync" in line and "resumed" not in line for line in output.read_text().splitlines())
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()


class Bench:
    """The targets over one folder."""

    def __init__(self, plan: Plan, git: Git, root: Path, scratch: Path, targets: Sequence[Target]) -> None:
        self.plan, self.git, self.root, self.scratch, self.targets = plan, git, root, scratch, targets
        self.count = 0

    def fresh(self, target: Target) -> tuple[str, str]:
        """A new repository for a target: its name and its first commit."""
        self.count += 1
        name = f"{self.count}.git"
        path = self.root / name
        self.git("init", "-q", "--bare", path)
        for key, value in (("http.receivepack", "true"), ("receive.autogc", "false"), *target.configuration):
            self.git("config", key, value, cwd=path)
        tree = self.git("mktree", cwd=path, input=b"").stdout.strip()
        first = self.git("commit-tree", tree, "-m", "first", cwd=path).stdout.strip()
        self.git("update-ref", "refs/heads/main", first, cwd=path)
        return name, first

    def bodies(self, first: str, pushers: int) -> list[list[bytes]]:
        """What each pusher pushes."""
        count = self.plan.pushes_one if pushers == 1 else self.plan.pushes_each
        return [make_bodies(first, f"refs/heads/p{number}", count) for number in range(pushers)]

    def rate(self, target: Target, pushers: int) -> Rate:
        """One round."""
        name, first = self.fresh(target)
        push(target, name, [make_bodies(first, "refs/heads/warm", 3)])
        bodies = self.bodies(first, pushers)
        count = sum(map(len, bodies))
        cpu, start = target.server.cpu_seconds(), time.perf_counter()
        push(target, name, bodies)
        seconds = time.perf_counter() - start
        return Rate(count / seconds, 1e3 * (target.server.cpu_seconds() - cpu) / count)

    def syncs(self, target: Target, pushers: int) -> float:
        """Syncs per push."""
        name, first = self.fresh(target)
        push(target, name, [make_bodies(first, "refs/heads/warm", 3)])
        bodies = self.bodies(first, pushers)
        with counting_syncs(target.server, self.scratch) as counted:
            push(target, name, bodies)
            time.sleep(0.3)
        return counted() / sum(map(len, bodies))

    def log_bytes(self, target: Target) -> tuple[float, float]:
        """Bytes of the log per push, and of the pack in it."""
        name, first = self.fresh(target)
        push(target, name, [make_bodies(first, "refs/heads/p", 50)])
        records = [
            located.record
            for located in LogReader(log_folder(str(self.root / name)).segments)
            if located.record.kind is Kind.CHANGE
        ]
        packs = sum(len(pack) for record in records for pack in record.draft.packs)
        return sum(record.size for record in records) / len(records), packs / len(records)


def recovery_rate(records: int, place: Path) -> tuple[float, float]:
    """Seconds until the first answer after a power cut, with that many records to fold; records per second."""
    scene = Scene(place)
    server = scene.serve()
    for body_number in range(records):
        name = f"refs/heads/b{body_number % 100}"
        if body_number < 100:
            chains = RECOVERY_CHAINS.setdefault(name, [])
        chains = RECOVERY_CHAINS[name]
        parent = chains[-1] if chains else None
        commit = make_commit(parent or scene.first, f"{name} {body_number}", f"{body_number}\n".encode())
        report = server.push(Push(name, ((name, parent, commit.oid),), commit.objects))
        assert set(report.values()) == {"ok"}, report
        chains.append(commit.oid)
    del server
    scene.restart_machine()
    start = time.perf_counter()
    refs = scene.serve().refs()
    seconds = time.perf_counter() - start
    assert all(refs[name] == chain[-1] for name, chain in RECOVERY_CHAINS.items())
    return seconds, records / seconds


RECOVERY_CHAINS: dict[str, list[str]] = {}


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, and the extremes."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def measure(bench: Bench) -> list[str]:
    """All rows of pushes."""
    titles = [target.name for target in bench.targets]
    lines = ["| | " + " | ".join(titles) + " |", "|---|" + "---|" * len(titles)]
    for pushers in (1, MANY):
        rates: dict[str, list[Rate]] = {name: [] for name in titles}
        for _ in range(bench.plan.rounds):
            for target in bench.targets:
                rates[target.name].append(bench.rate(target, pushers))
        who = "1 pusher" if pushers == 1 else f"{pushers} pushers"
        lines.append(
            f"| pushes/s, {who} | "
            + " | ".join(spread([rate.pushes for rate in rates[name]]) for name in titles)
            + " |"
        )
        lines.append(
            f"| server CPU ms/push, {who} | "
            + " | ".join(spread([rate.cpu_ms for rate in rates[name]]) for name in titles)
            + " |"
        )
        syncs = [bench.syncs(target, pushers) for target in bench.targets]
        lines.append(f"| syncs per push, {who} (strace) | " + " | ".join(f"{value:.2f}" for value in syncs) + " |")
        print("\n".join(lines[-3:]), file=sys.stderr, flush=True)
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.durability", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    plan = Plan(pushes_one=60, pushes_each=10, rounds=2, records=300) if options.quick else Plan()
    scratch = Path(tempfile.mkdtemp(prefix="govc-durability-"))
    try:
        root, clients = scratch / "served", scratch / "clients"
        root.mkdir()
        clients.mkdir()
        git = Git(scratch / "client-home", clients)
        with servers.start_govc(root, scratch) as ours, servers.start_git(root, scratch) as theirs:
            targets = [
                Target("govc", ours),
                Target("git-http-backend", theirs),
                Target("git-http-backend, core.fsync=all", theirs, (("core.fsync", "all"),)),
            ]
            bench = Bench(plan, git, root, scratch, targets)
            lines = measure(bench)
            size, pack = bench.log_bytes(targets[0])
        seconds, rate = recovery_rate(plan.records, scratch / "recovery")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    text = "\n".join(
        [
            "# What durability costs",
            "",
            f"`python -m bench.durability{' --quick' if options.quick else ''}`: small pushes (one commit, three "
            f"objects) over two workers, {plan.rounds} rounds in turn, median (extremes). git's default syncs nothing "
            "for a small push; `core.fsync=all` is its nearest to our promise.",
            "",
            *lines,
            "",
            f"Log: {size:.0f} bytes per push, {pack:.0f} of them the pack. Recovery after a power cut: {plan.records} "
            f"records over 100 refs in {seconds:.2f} s until the first answer, {rate:.0f} records/s.",
            "",
            "## Checkpoints",
            "",
            "`python -m bench.checkpoints`: CPU of one checkpoint in its own process, without starting it "
            "(median, extremes), and the longest that "
            "somebody who takes the append lock every half millisecond waited meanwhile.",
            "",
            *checkpoints.rows(checkpoints.SIZES[:1] if options.quick else checkpoints.SIZES),
            "",
        ]
    )
    options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
