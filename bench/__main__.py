"""`python -m bench [NAME=PATH or PATH ...]`: every row of the table, beside its peers, into one Markdown file.

The generated repositories are always measured; those named on the command line (or in BENCH_REPOS, separated by blanks)
are measured too. --rows 1,4 runs some. --keep FOLDER keeps the repositories that are made, for the next run, and what
each row gave: a run that was cut, or had rows that failed, goes on where it stopped. With --resume it does so though
the version is another one, and rows that are named are measured again beside those that are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from bench import report, row_clones, row_fetches, row_packs, row_pushes, row_reads, row_refs, row_restart, row_worker
from bench.bytecode import compile_tree
from bench.progress import FILE, Progress, Row, today
from bench.world import QUICK, Bench, Plan, describe
from compat.gitclient import Git
from govc.kernels import choice

RESULTS = Path(__file__).with_name("RESULTS.md")

ROWS: dict[int, tuple[str, Callable[[Bench], None]]] = {
    1: ("info/refs and ls-refs, small repository", row_refs.row_1),
    2: ("info/refs and ls-refs, many refs", row_refs.row_2),
    3: ("first reply after a push, many refs", row_refs.row_3),
    4: ("full clone, again", row_clones.row_4),
    5: ("full clone, first after a restart, first after a push", row_clones.row_5),
    6: ("identical clones at once, cold", row_clones.row_6),
    7: ("incremental fetch", row_fetches.row_7),
    8: ("shallow and partial clones, lazy fetch", row_fetches.row_8),
    9: ("small push, synced", row_pushes.row_9),
    10: ("large packs: indexing", row_packs.row_10),
    11: ("indexing with no compiler", row_packs.row_11),
    12: ("reads through the library: cached, history", row_reads.row_12),
    13: ("reads through the library: first reads", row_reads.row_13),
    14: ("private memory", row_worker.row_14),
    15: ("what others notice of large transfers", row_worker.row_15),
    16: ("repack after many small pushes", row_pushes.row_16),
    17: ("many objects, after a restart", row_restart.row_17),
}


def parse_repository(text: str) -> tuple[str, Path]:
    """NAME=PATH, or PATH whose last component is the name."""
    name, equals, path = text.rpartition("=")
    place = Path(path)
    if not place.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is not a folder")
    return (name if equals else place.resolve().name.removesuffix(".git")), place


def read_factor(text: str) -> float:
    """A number of times, from 1 to 100."""
    factor = float(text)
    if not 1 <= factor <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 100")
    return factor


def parse_rows(text: str) -> list[int]:
    """1,4 or 1-9."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        found += range(int(first), int(last if dash else first) + 1)
    if unknown := set(found) - set(ROWS):
        raise argparse.ArgumentTypeError(f"no such row: {sorted(unknown)}")
    return found


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("repositories", nargs="*", type=parse_repository, metavar="NAME=PATH")
    parser.add_argument("--rows", type=parse_rows, default=list(ROWS))
    parser.add_argument("--quick", action="store_true", help="a few minutes, rough numbers, small repositories")
    parser.add_argument(
        "--patience", type=read_factor, default=1.0, help="so many times as long may lines and rows take: more spread"
    )
    parser.add_argument("--keep", type=Path, help="where the repositories that are made are kept")
    parser.add_argument("--resume", action="store_true", help="rows that are kept hold, whichever version gave them")
    parser.add_argument("--output", type=Path)
    return parser.parse_args(arguments)


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


class TookTooLong(Exception):
    """A row that would keep the others from being measured."""


@contextlib.contextmanager
def limited(bench: Bench) -> Iterator[None]:
    """End the servers, and so the row, when it has taken all the time that a row may."""

    def end(_number: int, _frame: object) -> None:
        bench.kill()
        raise TookTooLong(f"ended after {bench.plan.row_seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(bench.plan.row_seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_row(bench: Bench, number: int) -> Row:
    """Run one, with servers of its own; what raises is said, and what it gave before is kept."""
    bench.begin(number)
    row = Row(bench.lines, report.version(), today(), 0.0, os.getloadavg()[0])
    began, used = time.monotonic(), sum(os.times()[:4])
    try:
        with limited(bench):
            ROWS[number][1](bench)
    except Exception as error:
        row.failed = f"failed: {describe(error)}"
        say("".join(traceback.format_exception(error)))
    try:
        bench.close()
    except Exception as error:
        say("".join(traceback.format_exception(error)))
    row.seconds = time.monotonic() - began
    say(f"row {number} done in {row.seconds:.0f} s, with {sum(os.times()[:4]) - used:.0f} s of CPU")
    return row


def describe_repositories(bench: Bench) -> str:
    """What was measured, in words."""
    words = []
    for repository in bench.all():
        path = bench.root / repository.name
        counted = bench.git("count-objects", "-v", cwd=path).stdout.splitlines()
        objects = sum(int(line.split()[1]) for line in counted if line.startswith(("count", "in-pack")))
        words.append(f"{repository.title} ({objects:,} objects, {len(bench.git.refs(path)):,} refs)")
    return ", ".join(words)


def describe_kernels() -> str:
    """Whether they are compiled."""
    pure = [found.question for found in choice.describe() if found.kind != choice.COMPILED]
    return f"{', '.join(pure)} IN PURE PYTHON" if pure else "all compiled"


def _leave(number: int, _: object) -> None:
    """On SIGTERM too the servers are ended and the folders removed."""
    sys.exit(128 + number)


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, serve, measure, write."""
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, _leave)
    plan = (QUICK if options.quick else Plan()).with_patience(options.patience)
    sources = options.repositories or [parse_repository(x) for x in os.environ.get("BENCH_REPOS", "").split()]
    compile_tree()
    loads_before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="govc-bench-", dir=options.keep) as folder:
        scratch = Path(folder)
        kept = options.keep.resolve() if options.keep else scratch / "kept"
        for place in (scratch / "served", scratch / "clients", kept):
            place.mkdir(exist_ok=True, parents=True)
        git = Git(scratch / "client-home", scratch / "clients")
        bench = Bench(plan, git, scratch / "served", scratch / "clients", kept, sources, say)
        words = "".join(f" {name}=..." for name, _ in sources)
        patience = f" --patience {options.patience:g}" if options.patience != 1 else ""
        chosen = "" if options.rows == list(ROWS) else f" --rows {','.join(map(str, options.rows))}"
        # Some rows alone are no table: they are only printed, unless somebody names a file, or resumes a whole one.
        output = options.output or (None if chosen and not options.resume else RESULTS)
        identity = {"plan": asdict(plan), "repositories": [name for name, _ in sources]}
        place = kept / FILE if options.resume or not chosen else scratch / FILE
        progress = Progress.begin(place, identity, report.version(), set(options.rows), resumes=options.resume)
        if chosen:
            for number in options.rows:
                progress.rows.pop(number, None)
        if progress.rows:
            say(f"rows {', '.join(map(str, sorted(progress.rows)))} are kept from before")
        titles = {row: title for row, (title, _) in ROWS.items() if row in options.rows or row in progress.rows}
        with contextlib.closing(bench):
            repositories = describe_repositories(bench)
            for number in options.rows:
                if number not in progress.rows:
                    progress.add(number, run_row(bench, number))
                text = report.format_report(
                    progress.rows,
                    plan,
                    titles=titles,
                    command="python -m bench" + (" --quick" if options.quick else "") + patience + chosen + words,
                    repositories=repositories,
                    loads=report.format_loads(loads_before, os.getloadavg()),
                    kernels=describe_kernels(),
                )
                if output is not None:
                    output.write_text(text)
            print(text)


if __name__ == "__main__":
    main()
