"""Public repositories, cloned, fetched from, pushed whole: `python -m compat.real_repositories A.git B.git`.

Each argument is a local repository. What its refs reach is copied once and served
twice: by `govc serve`, and by `git http-backend` behind compat/bridge.py. Every step runs over both, is
checked (fsck of the result, refs equal to the server's) and timed; the table goes to compat/RESULTS.md.
Times are the client's wall clock, of which most is the client's own indexing.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compat import frontends
from compat.gitclient import Git

RESULTS = Path(__file__).with_name("RESULTS.md")
STEP_SECONDS_MAX = 3600
STEPS = ("clone", "depth 1", "blob:none", "fetch", "push")


@dataclass
class Row:
    """One repository's line: objects, refs, seconds by (front end, step), and what went wrong."""

    name: str
    objects: int = 0
    refs: int = 0
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def prepare(git: Git, source: Path, served: Path) -> None:
    """A complete bare copy with all refs, exported and filterable."""
    git("init", "-q", "--bare", served, timeout=STEP_SECONDS_MAX)
    options = ["-c", "fetch.fsckObjects=false", "fetch", "-q", "--no-auto-gc"]
    git(
        *options,
        f"file://{source}",
        "+refs/*:refs/*",
        cwd=served,
        timeout=STEP_SECONDS_MAX,
    )
    git("pack-refs", "--all", cwd=served)
    for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        git("config", key, "true", cwd=served)
    (served / "git-daemon-export-ok").touch()
    head = git("symbolic-ref", "HEAD", cwd=source, check=False).stdout.strip() or "refs/heads/main"
    names = [name for name in git.refs(served) if name.startswith("refs/heads/")]
    git("symbolic-ref", "HEAD", head if head in names else names[0], cwd=served)


def older_state(git: Git, served: Path, older: Path) -> None:
    """A bare repository as a mirror was a hundred commits ago: what an incremental fetch starts from."""
    git("init", "-q", "--bare", older)
    past = git("rev-list", "--first-parent", "--max-count=1", "--skip=100", "HEAD", cwd=served).stdout.strip()
    past = past or git("rev-list", "--max-parents=0", "HEAD", cwd=served).stdout.split()[0]
    git("fetch", "-q", f"file://{served}", f"{past}:refs/heads/past", cwd=older, timeout=STEP_SECONDS_MAX)


def check_fsck(git: Git, where: str, problems: list[str], label: str) -> None:
    """Note what fsck says of connectivity: old public histories have blemishes that --strict would list."""
    result = git("fsck", "--connectivity-only", "--no-dangling", cwd=where, check=False, timeout=STEP_SECONDS_MAX)
    if result.code != 0:
        problems.append(f"{label}: fsck: {result.stderr.strip()[:200]}")


def timed(row: Row, server: str, step: str, work: Callable[[], object]) -> bool:
    """Run a step, keep its seconds; False and a note when it failed."""
    start = time.monotonic()
    try:
        work()
    except (AssertionError, subprocess.TimeoutExpired) as error:
        row.problems.append(f"{server} {step}: {str(error)[-300:]}".replace("\n", " "))
        return False
    row.seconds[server, step] = time.monotonic() - start
    return True


def run_steps(git: Git, row: Row, server: str, url: str, served: Path, root: Path) -> None:
    """All steps over one front end."""
    long: dict[str, Any] = {"timeout": STEP_SECONDS_MAX}
    expected = git.refs(served)
    if timed(row, server, "clone", lambda: git("clone", "-q", "--mirror", url, "full.git", **long)):
        check_fsck(git, "full.git", row.problems, f"{server} clone")
        if git.refs("full.git") != expected:
            row.problems.append(f"{server} clone: refs differ")
    if timed(row, server, "depth 1", lambda: git("clone", "-q", "--bare", "--depth=1", url, "shallow.git", **long)):
        check_fsck(git, "shallow.git", row.problems, f"{server} depth 1")
    if timed(
        row,
        server,
        "blob:none",
        lambda: git("clone", "-q", "--bare", "--filter=blob:none", url, "partial.git", **long),
    ):
        check_fsck(git, "partial.git", row.problems, f"{server} blob:none")
    older_state(git, served, git.cwd / "older.git")
    if timed(
        row,
        server,
        "fetch",
        lambda: git("fetch", "-q", url, "+refs/heads/*:refs/heads/*", cwd="older.git", **long),
    ):
        check_fsck(git, "older.git", row.problems, f"{server} fetch")
    target = root / "target.git"
    git("init", "-q", "--bare", target)
    git("config", "http.receivepack", "true", cwd=target)
    git("config", "core.logAllRefUpdates", "false", cwd=target)
    (target / "git-daemon-export-ok").touch()
    place = url.rsplit("/", 1)[0] + "/target.git"
    if timed(row, server, "push", lambda: git("push", "-q", "--mirror", place, cwd=served, **long)):
        check_fsck(git, str(target), row.problems, f"{server} push")
        if git.refs(target) != expected:
            row.problems.append(f"{server} push: refs differ")
    for path in (
        target,
        *[git.cwd / name for name in ("full.git", "shallow.git", "partial.git", "older.git")],
    ):
        shutil.rmtree(path, ignore_errors=True)


def measure(source: Path, name: str, servers: list[str], scratch: Path) -> Row:
    """The whole line of one repository."""
    row = Row(name)
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        root, work = Path(place) / "root", Path(place) / "work"
        root.mkdir()
        work.mkdir()
        git = Git(Path(place) / "home", work)
        served = root / "served.git"
        prepare(git, source.resolve(), served)
        row.refs = len(git.refs(served))
        counted = dict(line.split(": ") for line in git("count-objects", "-v", cwd=served).stdout.splitlines())
        row.objects = int(counted["in-pack"]) + int(counted["count"])
        for server in servers:
            logs = Path(place) / server
            logs.mkdir()
            with frontends.start(server, root, logs) as running:
                run_steps(git, row, server, f"{running.url}/served.git", served, root)
            print(
                f"{name}: {server}: "
                + ", ".join(f"{step} {row.seconds.get((server, step), float('nan')):.1f} s" for step in STEPS),
                flush=True,
            )
    return row


def render(rows: list[Row], servers: list[str]) -> str:
    """The page of results."""
    version = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    out = [
        "# Public repositories over govc, beside git-http-backend",
        "",
        "Made by `make real-repos`. Each cell: seconds of the client's wall clock, govc / git-http-backend,",
        "one run each; the client's own work (indexing what it received) is inside both. Checked after each",
        "step: `git fsck --connectivity-only` of the result, and equal refs.",
        "The fetch starts 100 first-parent commits back; the push goes whole into an empty repository.",
        "",
        f"{version}, Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        "| repository | objects | refs | " + " | ".join(STEPS) + " | outcome |",
        "|---|---|---|" + "---|" * (len(STEPS) + 1),
    ]
    for row in rows:
        cells = [
            " / ".join(
                f"{row.seconds[server, step]:.1f}" if (server, step) in row.seconds else "failed" for server in servers
            )
            for step in STEPS
        ]
        outcome = "all agree" if not row.problems else "; ".join(row.problems)
        out.append(
            f"| {row.name} | {row.objects:,} | {row.refs:,} | "
            + " | ".join(cells)
            + f" | {outcome.replace('|', '/')} |"
        )
    return "\n".join(out) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", help="NAME=PATH or PATH of local repositories")
    parser.add_argument("--servers", default="gunicorn,oracle", help="front ends to run over (default: %(default)s)")
    parser.add_argument("--scratch", default=tempfile.gettempdir(), help="where copies are made")
    parser.add_argument("--output", default=str(RESULTS))
    arguments = parser.parse_args()
    servers = arguments.servers.split(",")
    rows: list[Row] = []
    for argument in arguments.repositories:
        name, equals, path = argument.partition("=")
        source = Path(path if equals else argument)
        rows.append(
            measure(source, name if equals else source.name.removesuffix(".git"), servers, Path(arguments.scratch))
        )
        Path(arguments.output).write_text(render(rows, servers))
    failed = [row.name for row in rows if row.problems]
    raise SystemExit(f"problems with {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
