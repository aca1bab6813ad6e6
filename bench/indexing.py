"""`python -m bench.indexing NAME=PACK ...`: indexing of packs, side by side with what others use.

Each contender is a process of its own that indexes the same file; its CPU seconds are user and system time of the
process, as the kernel counted them when it ended. Python's start is in them. Rounds take the contenders
in turn. Every index must equal git's, byte for byte. Ratios are git's median by the contender's median, with as many
threads.

libgit2 is used through its C interface, as pygit2 brings it (pygit2 itself has none); both know one
thread only. libgit2's hash looks for collision attacks, dulwich's does not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.bytecode import TREE, compile_tree

RESULTS = Path(__file__).with_name("INDEXING.md")


@dataclass(frozen=True)
class Contender:
    """How a pack is indexed: `command` is what runs, by pack and index; `peer` is the contender it is compared with."""

    name: str
    command: Callable[[Path, Path], Sequence[str | Path]]
    peer: str
    environment: dict[str, str] = field(default_factory=dict)
    rounds_share: float = 1.0


@dataclass
class Measured:
    """The rounds of one contender."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)
    is_equal: bool = True


def _git(threads: int) -> Callable[[Path, Path], Sequence[str | Path]]:
    return lambda pack, index: ["git", "index-pack", f"--threads={threads}", "-o", index, pack]


def child_command(kind: str, *arguments: str | Path) -> list[str | Path]:
    """One of our processes, started as helpers of the server are; its environment is `child_environment`."""
    return [sys.executable, "-S", "-c", "from bench.index_child import main; main()", kind, *arguments]


def child_environment() -> dict[str, str]:
    """What finds this very govc, and the other contenders' libraries."""
    return {"PYTHONPATH": os.pathsep.join([os.fspath(TREE), *filter(None, sys.path)])}


def _child(kind: str, *arguments: str) -> Callable[[Path, Path], Sequence[str | Path]]:
    return lambda pack, index: child_command(kind, pack, index, *arguments)


def contenders(threads: int) -> list[Contender]:
    """Everybody who takes part."""
    pure = {"GOVC_KERNELS": "python"}
    many = f"git, {threads} threads"
    return [
        Contender("git, 1 thread", _git(1), "git, 1 thread"),
        Contender(many, _git(threads), many),
        Contender("govc, 1 thread", _child("govc", "1", "on", "512"), "git, 1 thread"),
        Contender(f"govc, {threads} threads", _child("govc", str(threads), "on", "512"), many),
        Contender("govc, 1 thread, detection off", _child("govc", "1", "off", "512"), "git, 1 thread"),
        Contender(f"govc, {threads} threads, detection off", _child("govc", str(threads), "off", "512"), many),
        Contender("govc, 1 thread, without AVX-512", _child("govc", "1", "on", "256"), "git, 1 thread"),
        Contender("govc, 1 thread, without AVX and SHA", _child("govc", "1", "on", "128"), "git, 1 thread"),
        Contender("govc, 1 thread, zlib", _child("govc", "1", "on", "512", "zlib"), "git, 1 thread"),
        Contender("govc, no compiler (no detection)", _child("govc", "1", "off", "0"), "git, 1 thread", pure),
        Contender("libgit2", _child("libgit2"), "git, 1 thread"),
        Contender("dulwich", _child("dulwich"), "git, 1 thread"),
    ]


# Measuring


@dataclass(frozen=True)
class Run:
    """One indexing: seconds of the whole process, and its peak memory; of ours also CPU seconds without its start."""

    cpu: float
    wall: float
    peak_mib: float
    started_cpu: float | None


def run_once(contender: Contender, pack: Path, index: Path) -> Run:
    """Index a pack."""
    start = time.perf_counter()
    process = subprocess.Popen(
        list(map(os.fspath, contender.command(pack, index))),
        stdout=subprocess.PIPE,
        env=os.environ | child_environment() | contender.environment,
    )
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{contender.name}: status {process.returncode}")
    is_ours = contender.name.startswith("govc")
    return Run(used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024, float(said) if is_ours else None)


def measure(pack: Path, threads: int, rounds: int, say: Callable[[str], None]) -> dict[str, Measured]:
    """All contenders in turn, round by round."""
    measured: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="govc-bench-") as folder:
        expected = Path(folder) / "expected.idx"
        for round_number in range(rounds):
            for contender in contenders(threads):
                index = Path(folder) / "made.idx"
                run = run_once(contender, pack, index)
                if not expected.exists():
                    index.rename(expected)
                    index = expected
                result = measured.setdefault(contender.name, Measured())
                result.cpu.append(run.cpu)
                result.wall.append(run.wall)
                result.peak_mib.append(run.peak_mib)
                result.is_equal &= index.read_bytes() == expected.read_bytes()
                if index is not expected:
                    index.unlink()
                say(f"{pack.name} round {round_number + 1}: {contender.name}: {run.cpu:.2f} s CPU, {run.wall:.2f} s")
    return measured


def format_section(name: str, pack: Path, measured: dict[str, Measured], threads: int) -> str:
    """One table."""
    count = int.from_bytes(pack.read_bytes()[8:12], "big")
    size = pack.stat().st_size / (1 << 20)
    out = [
        f"## Indexing {name}: {count:,} objects, {size:.0f} MiB\n",
        "| | CPU s | wall s | git / it, CPU | git / it, wall | peak MiB | index is git's |",
        "|---|---|---|---|---|---|---|",
    ]
    for contender in contenders(threads):
        one, peer = measured[contender.name], measured[contender.peer]
        cpu, wall = statistics.median(one.cpu), statistics.median(one.wall)
        cells = [
            contender.name,
            f"{cpu:.2f} ({min(one.cpu):.2f} to {max(one.cpu):.2f})",
            f"{wall:.2f} ({min(one.wall):.2f} to {max(one.wall):.2f})",
            f"{statistics.median(peer.cpu) / cpu:.2f}",
            f"{statistics.median(peer.wall) / wall:.2f}",
            f"{max(one.peak_mib):.0f}",
            "yes" if one.is_equal else "NO",
        ]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def find_pack(place: Path) -> Path:
    """A pack file, or the largest one of a repository."""
    if place.is_file():
        return place
    return max(place.glob("**/objects/pack/*.pack"), key=lambda path: path.stat().st_size)


def main(arguments: Sequence[str]) -> None:
    """Measure the packs that are named, and write the results."""
    from bench import report
    from govc.kernels.indexing import describe

    parser = argparse.ArgumentParser(prog="python -m bench.indexing", description=__doc__)
    parser.add_argument("packs", nargs="+", metavar="NAME=PACK-OR-REPOSITORY")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    compile_tree()
    before = os.getloadavg()
    sections = []
    for text in options.packs:
        name, _, path = text.rpartition("=")
        pack = find_pack(Path(path))
        measured = measure(pack, options.threads, options.rounds, lambda line: print(line, file=sys.stderr, flush=True))
        sections.append(format_section(name or pack.stem, pack, measured, options.threads))
    head = f"""\
# Indexing packs: govc beside git, libgit2 and dulwich

Written by `python -m bench.indexing` on {time.strftime("%Y-%m-%d", time.gmtime())}.

- Machine: {report.machine()}; {report.format_loads(before, os.getloadavg())}. govc has {describe()}.
- Versions: {report.versions()}, pygit2 {report.metadata.version("pygit2")}.
- Median of {options.rounds} rounds (least to most). Detection of SHA-1 collision attacks is on where nothing else is
  said; git's and libgit2's hashes always have it, dulwich's does not.
"""
    text = "\n".join([head, *sections])
    options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
