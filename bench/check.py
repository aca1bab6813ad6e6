"""`python -m bench.check`: has anything become slower? Compared with what is recorded in bench/check.json.

Each operation runs in this process, in two ways. Its Python calls are counted, which no neighbour and no machine
changes; and its CPU time is put in proportion to a fixed piece of work that is done right before and after it
(integers, dicts, SHA-1 and zlib), the least of some rounds. What seems slower than its tolerance is measured again;
what stays so is named, and the status is 1. `--record` writes the file anew; a change that costs on purpose records
what it costs. Processors differ in what a system call takes beside a calculation: on another one than that of the file
CPU time may differ by more before it is named, calls as little as ever.

Instruction counts would be better; virtual machines mostly don't have them, and a guard that can't run guards nothing.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import itertools
import json
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from bench import generate, indexing, report
from bench.inprocess import Application
from bench.row_pushes import make_bodies
from bench.wire import Request, fetch, info_refs, is_acknowledged, ls_refs, push
from bench.world import fill_index
from compat.gitclient import Git
from govc import Repository
from govc.pack.indexer import index_pack
from govc.protocol.oid import SHA1

RECORDED = Path(__file__).with_name("check.json")
CALLS_TOLERANCE = 1.1
CPU_TOLERANCE = 1.5
CPU_TOLERANCE_ELSEWHERE = 2.0
"""On another processor: a small push takes 1.5 to 1.6 times the units on one whose system calls are dearer."""
PROCESSOR = "processor"
ROUNDS = 7
AGAIN = 3
"""So often what seems slower is measured again: a neighbour who came in between is no regression."""
COMMITS = 1_000
REFS = 10_000


@dataclass(frozen=True)
class Operation:
    """`run` does it once; so many times are timed together."""

    name: str
    run: Callable[[], object]
    times: int


@dataclass(frozen=True)
class Figures:
    """Python calls of one run; its CPU time, in units of the fixed work."""

    calls: int
    cpu: float


def fixed_work() -> None:
    """About a millisecond that never changes."""
    table: dict[int, bytes] = {}
    for number in range(2_000):
        table[number * 7919 % 4096] = number.to_bytes(20, "big")
    data = b"".join(table.values())
    for _ in range(4):
        hashlib.sha1(data, usedforsecurity=False).digest()
    zlib.decompress(zlib.compress(data[:8192], 1))


def cpu_of(work: Callable[[], object], times: int) -> float:
    """CPU s of this process for one of them."""
    before = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - before) / times


def count_calls(work: Callable[[], object]) -> int:
    """Python functions that are called by it, generators' steps included; not what a collection of garbage calls, which
    falls into whatever comes next.
    """
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    collects = gc.isenabled()
    gc.disable()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        if collects:
            gc.enable()
    return count


def measure(operation: Operation) -> Figures:
    """Both figures."""
    operation.run()
    calls = min(count_calls(operation.run) for _ in range(3))
    shares = []
    for _ in range(ROUNDS):
        unit = cpu_of(fixed_work, 20)
        spent = cpu_of(operation.run, operation.times)
        shares.append(spent / min(unit, cpu_of(fixed_work, 20)))
    return Figures(calls, min(shares))


def measure_until_fast(operation: Operation, recorded: Figures | None, cpu_tolerance: float = CPU_TOLERANCE) -> Figures:
    """The least of the first measurement and, as long as it seems slower than what is recorded, of some more."""
    found = measure(operation)
    for _ in range(AGAIN):
        if recorded is None or not compare({operation.name: found}, {operation.name: recorded}, cpu_tolerance):
            break
        again = measure(operation)
        found = Figures(min(found.calls, again.calls), min(found.cpu, again.cpu))
    return found


def read_all(repository: Repository, oids: Sequence[bytes]) -> None:
    """Read them."""
    for oid in oids:
        repository.objects[oid]


def reading(history: Path, many: Path) -> Iterator[Operation]:
    """What the library is asked."""
    repository, refs = Repository(history), Repository(many)
    oids = list(repository.objects)[:1000]
    log = repository.log().oids
    pairs = list(itertools.pairwise(log[:: len(log) // 10]))
    yield Operation("1,000 cached objects", lambda: read_all(repository, oids), 50)
    yield Operation("opening, and 1,000 first reads", lambda: read_all(Repository(history), oids), 5)
    yield Operation("full log", lambda: [commit.oid for commit in repository.log()], 100)
    yield Operation("merge bases", lambda: [repository.merge_base(a, b) for a, b in pairs], 100)
    yield Operation("listing of 10,000 refs", lambda: refs.refs.list(), 1000)
    yield Operation("all files of a tree", lambda: repository.files(), 500)


def operations(git: Git, root: Path) -> Iterator[Operation]:
    """What is watched."""
    history = generate.build_history(git, root / "history.git", COMMITS)
    many = generate.build_refs(git, root / "refs.git", history, REFS)
    fill_index(history)
    pushed = generate.copy_linked(history, root / "pushed.git")
    application = Application(root)

    def asking(request: Request) -> Callable[[], object]:
        return lambda: application.ask(request)

    yield Operation("info/refs, small", asking(info_refs(history.name)), 200)
    yield Operation("ls-refs, small", asking(ls_refs(history.name)), 200)
    yield Operation("ls-refs, 10,000 refs", asking(ls_refs(many.name)), 50)
    yield Operation("ls-refs, 10,000 refs, one prefix", asking(ls_refs(many.name, generate.MAIN)), 200)
    commits = git("rev-list", "main", cwd=history).stdout.split()
    yield Operation("fetch, 1 commit", asking(fetch(history.name, commits[:1], [commits[1]])), 50)
    others = itertools.cycle(
        [fetch(history.name, [new], [old]) for new, old in itertools.combinations(commits[:60], 2)]
    )
    yield Operation("fetch of some commits, asked for the first time", lambda: application.ask(next(others)), 50)
    yield Operation("fetch, 100 commits", asking(fetch(history.name, commits[:1], [commits[100]])), 20)
    yield Operation("clone", asking(fetch(history.name, commits[:1])), 10)
    yield Operation("clone --depth 1", asking(fetch(history.name, commits[:1], (), "deepen 1")), 10)
    yield Operation("clone --filter=blob:none", asking(fetch(history.name, commits[:1], (), "filter blob:none")), 10)
    bodies = itertools.chain.from_iterable(
        make_bodies(commits[0], f"refs/heads/b{number}", 20) for number in itertools.count()
    )
    listing = info_refs(pushed.name, "git-receive-pack")

    def push_one() -> None:
        application.ask(listing)
        answer = application.ask(push(pushed.name, next(bodies)))
        assert is_acknowledged(answer), answer[:200]

    yield Operation("push of 1 commit", push_one, 10)
    descriptor = os.open(indexing.find_pack(history), os.O_RDONLY)
    yield Operation("indexing a pack", lambda: index_pack(descriptor, SHA1), 2)
    os.close(descriptor)
    yield from reading(history, many)


def read_recorded(path: Path) -> tuple[str, dict[str, Figures]]:
    """The processor on which it was recorded, and what is recorded, by operation."""
    found = json.loads(path.read_text()) if path.exists() else {}
    processor = found.pop(PROCESSOR, "")
    return processor, {name: Figures(figures["calls"], figures["cpu"]) for name, figures in found.items()}


def write_recorded(path: Path, processor: str, figures: dict[str, Figures]) -> None:
    """Write it, so that a difference reads well."""
    lines = {name: {"calls": found.calls, "cpu": float(f"{found.cpu:.3g}")} for name, found in figures.items()}
    path.write_text(json.dumps({PROCESSOR: processor} | lines, indent=1) + "\n")


def compare(now: dict[str, Figures], recorded: dict[str, Figures], cpu_tolerance: float = CPU_TOLERANCE) -> list[str]:
    """What got slower, one sentence each; what is recorded and wasn't measured counts too."""
    slower = []
    for name, before in recorded.items():
        found = now.get(name)
        if found is None:
            slower.append(f"{name}: not measured any more")
            continue
        if found.calls > before.calls * CALLS_TOLERANCE + 2:
            slower.append(f"{name}: {found.calls} Python calls, recorded are {before.calls}")
        if found.cpu > before.cpu * cpu_tolerance:
            slower.append(f"{name}: {found.cpu:.3g} times the fixed work's CPU, recorded are {before.cpu:.3g}")
    return slower


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare, say."""
    parser = argparse.ArgumentParser(prog="python -m bench.check", description=__doc__)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--file", type=Path, default=RECORDED)
    options = parser.parse_args(arguments)
    processor = report.processor()
    where, recorded = read_recorded(options.file)
    tolerance = CPU_TOLERANCE if where == processor else CPU_TOLERANCE_ELSEWHERE
    if where != processor and not options.record:
        print(f"recorded on another processor ({where}): CPU time counts as slower from {tolerance} times on")
    now: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="govc-check-") as folder:
        root = Path(folder) / "served"
        root.mkdir()
        for operation in operations(Git(Path(folder) / "home", Path(folder)), root):
            before = recorded.get(operation.name)
            found = now[operation.name] = measure_until_fast(operation, None if options.record else before, tolerance)
            beside = f"(recorded: {before.calls}, {before.cpu:.3g})" if before is not None else "(new)"
            print(f"{operation.name:36} {found.calls:7} calls  {found.cpu:8.3g} units  {beside}", flush=True)
    if options.record:
        write_recorded(options.file, processor, now)
        return 0
    slower = compare(now, recorded, tolerance)
    print("\n".join(slower) if slower else "nothing got slower")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
