"""`python -m bench [NAME=PATH or PATH ...]`: every row of the table, beside its peers, into one Markdown file.

The generated repositories are always measured; those named on the command line (or in BENCH_REPOS, separated by blanks)
are measured too. --rows 1,4 runs some. --keep FOLDER keeps the repositories that are made, for the next run.
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
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import report, row_clones, row_fetches, row_packs, row_pushes, row_reads, row_refs, row_restart, row_worker
from bench.world import QUICK, Bench, Plan, describe
from compat.gitclient import Git
from govc.kernels import choice

RESULTS = Path(__file__).with_name("RESULTS.md")

ROWS: dict[int, tuple[str, Callable[[Bench], None]]] = {
    1: ("info/refs and ls-refs, small repository", row_refs.row_1),
    2: ("info/refs and ls-refs, 47,000 refs", row_refs.row_2),
    3: ("first reply after a push, many refs", row_refs.row_3),
    4: ("full clone, again", row_clones.row_4),
    5: ("full clone, first after a restart, first after a push", row_clones.row_5),
    6: ("50 identical clones at once, cold", row_clones.row_6),
    7: ("incremental fetch", row_fetches.row_7),
    8: ("shallow and partial clones, lazy fetch", row_fetches.row_8),
    9: ("small push, synced", row_pushes.row_9),
    10: ("large packs: indexing", row_packs.row_10),
    11: ("indexing with no compiler", row_packs.row_11),
    12: ("reads through the library: cached, history", row_reads.row_12),
    13: ("reads through the library: first reads", row_reads.row_13),
    14: ("private memory", row_worker.row_14),
    15: ("what others notice of large transfers", row_worker.row_15),
    16: ("repack of 2,000 small pushes", row_pushes.row_16),
    17: ("a million objects, after a restart", row_restart.row_17),
}


def parse_repository(text: str) -> tuple[str, Path]:
    """NAME=PATH, or PATH whose last component is the name."""
    name, equals, path = text.rpartition("=")
    place = Path(path)
    if not place.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is not a folder")
    return (name if equals else place.resolve().name.removesuffix(".git")), place


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
    parser.add_argument("--keep", type=Path, help="where the repositories that are made are kept")
    parser.add_argument("--output", type=Path)
    return parser.parse_args(arguments)


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def run_rows(bench: Bench, rows: Sequence[int], write: Callable[[dict[int, str]], object]) -> dict[int, str]:
    """Run them; what failed, and why. What there is so far is written after each, lest an ended run be for nothing."""
    failed: dict[int, str] = {}
    for row in rows:
        bench.row = row
        began = time.monotonic()
        try:
            ROWS[row][1](bench)
        except Exception as error:
            failed[row] = f"failed: {describe(error)}"
            say("".join(traceback.format_exception(error)))
        say(f"row {row} done in {time.monotonic() - began:.0f} s")
        write(failed)
    return failed


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
    plan = QUICK if options.quick else Plan()
    sources = options.repositories or [parse_repository(x) for x in os.environ.get("BENCH_REPOS", "").split()]
    start, loads_before = time.monotonic(), os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="govc-bench-", dir=options.keep) as folder:
        scratch = Path(folder)
        kept = options.keep.resolve() if options.keep else scratch / "kept"
        for place in (scratch / "served", scratch / "clients", kept):
            place.mkdir(exist_ok=True, parents=True)
        git = Git(scratch / "client-home", scratch / "clients")
        bench = Bench(plan, git, scratch / "served", scratch / "clients", kept, sources, say)
        words = "".join(f" {name}=..." for name, _ in sources)
        rows = "" if options.rows == list(ROWS) else f" --rows {','.join(map(str, options.rows))}"
        # Some rows alone are no table: they are only printed, unless somebody names a file.
        output = options.output or (None if rows else RESULTS)
        with contextlib.closing(bench):
            repositories = describe_repositories(bench)

            def write(failed: dict[int, str]) -> str:
                text = report.format_report(
                    bench.lines,
                    plan,
                    titles={row: title for row, (title, _) in ROWS.items() if row in options.rows},
                    failed=failed,
                    command="python -m bench" + (" --quick" if options.quick else "") + rows + words,
                    repositories=repositories,
                    loads=report.format_loads(loads_before, os.getloadavg()),
                    seconds=time.monotonic() - start,
                    kernels=describe_kernels(),
                )
                if output is not None:
                    output.write_text(text)
                return text

            print(write(run_rows(bench, options.rows, write)))


if __name__ == "__main__":
    main()
