"""Rows 10 and 11: indexing packs, with compiled kernels and without. Each contender is a process (bench/indexing).

Git indexes a push in a process of its own. We do so for large ones; small ones in the process that serves, so small
packs are shown without the start of ours as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import indexing
from bench.lines import DIRECT, GIT, Goal, Line, Times
from bench.world import Bench

LARGE_OBJECTS = 500_000
HUGE_ROUNDS = 1
SMALL_OBJECTS = 50_000
"""The start of a process counts in a pack of so many: those are shown without it, too. What has a goal is with it: a
pack of more than a thousand objects is indexed by a helper, which has to start."""
THIN_DISTANCE = 1000


def _packs(bench: Bench) -> list[tuple[str, Path]]:
    """The largest pack of each repository: of those from outside, as they lie there."""
    found = []
    for repository in bench.all():
        place = repository.source or bench.root / repository.name
        pack = indexing.find_pack(place)
        found.append((f"{repository.title}, {_count(pack):,} objects", pack))
    return found


def _count(pack: Path) -> int:
    with pack.open("rb") as file:
        return int.from_bytes(file.read(12)[8:], "big")


def _measure(bench: Bench, title: str, pack: Path, wanted: Sequence[tuple[str, str, str, Goal | None]]) -> None:
    """Each `wanted` is what, our contender, the peer's, the goal. CPU seconds; several threads also by the clock."""
    threads = os.cpu_count() or 1
    contenders = {contender.name: contender for contender in indexing.contenders(threads)}
    names = list(dict.fromkeys(name for _, ours, peer, _ in wanted for name in (peer, ours)))
    rounds = HUGE_ROUNDS if _count(pack) > LARGE_OBJECTS else bench.plan.rounds
    place = bench.place()
    place.mkdir()
    taken: dict[str, list[indexing.Run]] = {name: [] for name in names}
    expected = b""
    unequal: set[str] = set()
    for number in range(rounds):
        if number and not bench.has_time():
            break
        for name in names:
            index = place / "made.idx"
            taken[name].append(indexing.run_once(contenders[name], pack, index))
            made = index.read_bytes()
            expected = expected or made
            if made != expected:
                unequal.add(name)
            index.unlink()
            (place / "made.rev").unlink(missing_ok=True)
    shutil.rmtree(place)
    bench.say(f"row {bench.row}: {title}")
    is_small = _count(pack) <= SMALL_OBJECTS
    for what, ours, peer, goal in wanted:
        figures: list[tuple[Line, Callable[[indexing.Run], float]]] = [
            (bench.line(what, title, "CPU s", goal), lambda run: run.cpu)
        ]
        if is_small:
            running = bench.line(f"{what}, in a process that runs", title, "CPU s")
            figures.append((running, lambda run: run.cpu if run.started_cpu is None else run.started_cpu))
        if threads > 1 and "threads" in ours:
            figures.append((bench.line(what, title, "s by the clock"), lambda run: run.wall))
        for line, figure in figures:
            for column, name in ((DIRECT, ours), (GIT, peer)):
                for run in taken[name]:
                    line.add(column, figure(run))
                if name in unequal:
                    line.failures[column] = "the index is not git's"


def row_10(bench: Bench) -> None:
    """Large packs, with detection of collision attacks and without; the index must be git's."""
    threads = os.cpu_count() or 1
    wanted: list[tuple[str, str, str, Goal | None]] = [
        ("indexing, 1 thread", "govc, 1 thread", "git, 1 thread", Times(1.8)),
        (f"indexing, {threads} threads", f"govc, {threads} threads", f"git, {threads} threads", Times(1.8)),
        ("indexing, 1 thread, detection off", "govc, 1 thread, detection off", "git, 1 thread", Times(3.5)),
    ]
    for title, pack in _packs(bench):
        _measure(bench, title, pack, wanted)


def row_11(bench: Bench) -> None:
    """Pure Python, which has no detection; and thin packs, completed."""
    wanted = [("indexing in pure Python", "govc, no compiler (no detection)", "git, 1 thread", Times(1))]
    for title, pack in _packs(bench):
        if _count(pack) <= LARGE_OBJECTS:
            _measure(bench, title, pack, wanted)
    for repository in bench.all():
        _measure_thin(bench, repository.title, bench.root / repository.name)


def _measure_thin(bench: Bench, title: str, place: Path) -> None:
    commits = bench.git("rev-list", "--first-parent", "-n", str(THIN_DISTANCE + 1), "HEAD", cwd=place).stdout.split()
    revisions = f"{commits[0]}\n^{commits[-1]}\n".encode()
    thin = bench.git.output_bytes("pack-objects", "--revs", "--thin", "--stdout", "-q", cwd=place, input=revisions)
    line = bench.line(f"thin pack, {len(commits) - 1:,} commits, in pure Python", title, "CPU s", Times(1))
    folder = bench.place()
    folder.mkdir()

    def git() -> float:
        # As a receiver does: into a repository that has the bases, in a quarantine of its own.
        quarantine = folder / "objects"
        (quarantine / "pack").mkdir(parents=True)
        environment = os.environ | {
            "GIT_OBJECT_DIRECTORY": str(quarantine),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(place / "objects"),
        }
        command = ["git", "-C", str(place), "index-pack", "--stdin", "--fix-thin", "--threads=1"]
        spent = _cpu(lambda: subprocess.run(command, input=thin, env=environment, check=True, capture_output=True))
        shutil.rmtree(quarantine)
        return spent

    def ours() -> float:
        pack, index = folder / "thin.pack", folder / "thin.idx"
        pack.write_bytes(thin)
        command = indexing.child_command("govc-thin", pack, index, place / "objects", "off")
        environment = os.environ | indexing.child_environment() | {"GOVC_KERNELS": "python"}
        spent = _cpu(lambda: subprocess.run(command, env=environment, check=True))
        index.unlink()
        pack.unlink()
        return spent

    for number in range(bench.plan.rounds):
        if number and not bench.has_time():
            break
        line.add(GIT, git())
        line.add(DIRECT, ours())
    shutil.rmtree(folder)


def _cpu(run: Callable[[], object]) -> float:
    before = os.times()
    run()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
