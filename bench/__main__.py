"""`python -m bench [NAME=PATH or PATH ...]`: all servers side by side, all rows, one Markdown file.

The generated repositories are always measured; those named on the command line get the rows of clone, fetch
and push too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import generate, indexing, report, rows, servers, storm
from compat.gitclient import Git

STARTERS = {**servers.STARTERS, storm.BEHIND_NGINX: storm.start_govc_behind_nginx}
RESULTS = Path(__file__).with_name("RESULTS.md")
HISTORY, REFS, BLOBS, PUSHED_BLOBS = "history.git", "refs.git", "blobs.git", "pushed-blobs.git"


def parse_repository(text: str) -> tuple[str, Path]:
    """NAME=PATH, or PATH whose last component is the name."""
    name, equals, path = text.rpartition("=")
    place = Path(path)
    if not place.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is not a folder")
    return (name if equals else place.resolve().name.removesuffix(".git")), place


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("repositories", nargs="*", type=parse_repository, metavar="NAME=PATH")
    parser.add_argument("--quick", action="store_true", help="below two minutes, rough numbers")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--server", action="append", choices=sorted(STARTERS), help="only these")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def build(git: Git, root: Path, plan: rows.Plan, real: Sequence[tuple[str, Path]]) -> str:
    """Fill the served folder; what is in it, in words."""
    history = generate.build_history(git, root / HISTORY, plan.commits)
    generate.build_refs(git, root / REFS, history, plan.refs)
    generate.build_blobs(git, root / BLOBS, plan.blob_megabytes)
    generate.build_blobs(git, root / PUSHED_BLOBS, plan.push_megabytes)
    words = [f"generated ({rows.count_objects(history)} objects)"]
    for name, source in real:
        copy = generate.build_real(git, root / f"real-{name}.git", source)
        words.append(f"{name} ({rows.count_objects(copy)} objects, {len(git.refs(copy)):,} refs)")
    return ", ".join(words)


def measure(bench: rows.Bench, real: Sequence[tuple[str, Path]]) -> None:
    """All rows; the ones that need most memory last."""
    rows.rate_rows(bench, HISTORY, REFS)
    bench.table("Generated history: clone, fetch, push")
    rows.fetch_rows(bench, HISTORY)
    rows.push_rows(bench, HISTORY)
    rows.large_push_row(bench, HISTORY)
    for name, _ in real:
        bench.table(f"{name}: clone, fetch, push")
        rows.fetch_rows(bench, f"real-{name}.git")
        rows.large_push_row(bench, f"real-{name}.git")
    storm.measure(bench, HISTORY, BLOBS, [f"real-{name}.git" for name, _ in real])
    rows.latency_rows(bench, HISTORY, PUSHED_BLOBS)
    rows.memory_rows(bench, BLOBS)


def measure_indexing(root: Path, plan: rows.Plan, names: Sequence[str]) -> str:
    """The largest pack of each repository, indexed by everybody; no server takes part."""
    sections = []
    threads = os.cpu_count() or 1
    for name in names:
        pack = indexing.find_pack(root / name)
        measured = indexing.measure(pack, threads, plan.rounds, say)
        sections.append(indexing.format_section(name.removesuffix(".git"), pack, measured, threads))
    return "\n".join(sections)


def _leave(number: int, _: object) -> None:
    """On SIGTERM too the servers are ended and the folders removed."""
    sys.exit(128 + number)


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, serve, measure, write."""
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, _leave)
    plan = rows.QUICK if options.quick else rows.Plan()
    names = [name for name in STARTERS if not options.server or name in options.server]
    start, loads_before = time.monotonic(), os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="govc-bench-") as folder, contextlib.ExitStack() as stack:
        scratch = Path(folder)
        root, clients = scratch / "served", scratch / "clients"
        root.mkdir()
        clients.mkdir()
        git = Git(scratch / "client-home", clients)
        repositories = build(git, root, plan, options.repositories)
        say(f"{repositories}: {time.monotonic() - start:.0f} s")
        running = [stack.enter_context(STARTERS[name](root, scratch)) for name in names]
        bench = rows.Bench(running, root, clients, git, plan, say)
        measure(bench, options.repositories)
        indexed = measure_indexing(root, plan, [HISTORY, *(f"real-{name}.git" for name, _ in options.repositories)])
    text = report.format_report(
        bench.tables,
        plan,
        names=names,
        command="python -m bench" + (" --quick" if options.quick else ""),
        repositories=repositories,
        loads=report.format_loads(loads_before, os.getloadavg()),
        seconds=time.monotonic() - start,
    )
    text += "\n" + indexed
    options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
