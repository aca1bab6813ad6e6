"""The results as Markdown: one line per row, then every figure; medians with the least and the most."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from bench import servers
from bench.lines import BEHIND, DIRECT, GIT, OURS, Line, Times, format_number, format_samples
from bench.progress import Row
from bench.reasons import reasons_of
from bench.world import QUICK, Plan
from compat.programs import need_program

PROJECT = Path(__file__).resolve().parent.parent


def format_ratio(line: Line) -> str:
    """How many times better than the peer, of each contender of ours."""
    parts = []
    for name in OURS:
        ratio = line.ratio(name)
        if ratio is not None:
            parts.append(f"{format_number(ratio)}x")
    return " / ".join(parts)


def format_line(line: Line) -> str:
    """One line of a row's table."""
    cells = [line.what, line.on, line.unit, *(format_samples(line, name) for name in (DIRECT, BEHIND, GIT))]
    cells += [format_ratio(line), str(line.goal or ""), line.verdict()]
    return "| " + " | ".join(cells) + " |"


def _nearness(line: Line, name: str) -> float:
    """How far from its goal a figure is: below 1 is short."""
    goal = line.goal
    if isinstance(goal, Times):
        ratio = line.ratio(name)
        return ratio / goal.factor if ratio is not None else 0.0
    value = line.median(name)
    if value is None or goal is None:
        return 0.0
    if line.more_is_better:
        return value / goal.limit
    return goal.limit / value if value > 0 else float("inf")


def worst_figure(lines: Sequence[Line]) -> str:
    """The figure that is nearest to its goal from above, or furthest below it."""
    figures = [
        (_nearness(line, name), line, name)
        for line in lines
        if line.goal is not None
        for name in OURS
        if name in line.samples or name in line.failures
    ]
    if not figures:
        return ""
    _, line, name = min(figures, key=lambda figure: figure[0])
    if name in line.failures:
        return f"{line.what}, {line.on}, {name}: {line.failures[name]}"
    ratio = line.ratio(name)
    if isinstance(line.goal, Times):
        shown = "no peer" if ratio is None else f"{format_number(ratio)}x"
    else:
        shown = f"{format_number(line.median(name) or 0.0)} {line.unit}"
    return f"{line.what}, {line.on}, {name}: {shown} (goal {line.goal})"


def format_summary(rows: Mapping[int, Row], titles: Mapping[int, str]) -> str:
    """One line per row."""
    out = ["| row | work | goals met | worst figure | why it falls short | took |", "|---" * 6 + "|"]
    for number, title in titles.items():
        row = rows.get(number)
        if row is None:
            out.append(f"| {number} | {title} | not measured |  |  |  |")
            continue
        own = [line for line in row.lines if line.goal is not None]
        state = f"{[line.verdict() for line in own].count('met')} of {len(own)}" if own else "not measured"
        if row.failed:
            state += "; the row ended early"
        reason = "; ".join([*filter(None, [row.failed]), *reasons_of(own)])
        took = f"{row.seconds:.0f} s, load {row.load:.1f}"
        cells = [str(number), title, state, worst_figure(own), reason, took]
        out.append("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(out) + "\n"


def format_rows(lines: Sequence[Line], titles: Mapping[int, str]) -> str:
    """Every figure."""
    out = []
    for row, title in titles.items():
        own = [line for line in lines if line.row == row]
        if not own:
            continue
        out += [f"## {row}. {title}\n", "| what | on | unit | govc | govc behind nginx | git | times better | goal | |"]
        out += ["|---" * 9 + "|", *map(format_line, own), ""]
    return "\n".join(out)


# Where and with what


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    except OSError:
        return ""
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def version() -> str:
    """govc's own, with the commit where that is known; what measuring writes makes no other version."""
    described = _first_line("git", "describe", "--always")
    if not re.fullmatch(r"\S+", described):
        return metadata.version("govc")
    is_changed = _first_line("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/*.md")
    return f"{metadata.version('govc')} ({described}{'-dirty' if is_changed else ''})"


def versions() -> str:
    """The programs that took part."""
    nginx = _first_line(need_program("nginx"), "-v").rpartition("nginx/")[2]
    wrk = re.search(r"wrk (?:debian/)?(\S+)", _first_line("wrk", "-v"))
    parts = [f"govc {version()}", f"Python {platform.python_version()}"]
    parts += [f"{name} {metadata.version(name)}" for name in ("gunicorn", "gevent", "pygit2", "dulwich", "psutil")]
    parts += [_first_line("git", "--version"), f"nginx {nginx}"]
    parts.append(_fcgiwrap_version())
    parts.append(f"wrk {wrk[1]}" if wrk else "own keep-alive client instead of wrk")
    return ", ".join(part for part in parts if part)


def _fcgiwrap_version() -> str:
    done = subprocess.run([need_program("fcgiwrap"), "-h"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\S+)", done.stdout + done.stderr)
    return f"fcgiwrap {found[1]}" if found else "fcgiwrap"


def processor() -> str:
    """The processor's name, as it says it."""
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return ""


def machine() -> str:
    """Cores, processor, kernel, memory: nothing that names the machine."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{os.cpu_count()} cores ({processor()}), {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"


def format_loads(before: tuple[float, float, float], after: tuple[float, float, float]) -> str:
    """The load averages at both ends: other work on the machine shows in the first."""
    return f"load average {before[0]:.1f} before, {after[0]:.1f} after"


def format_parts(rows: Mapping[int, Row]) -> str:
    """A sentence when not all rows are of one version and one day."""
    parts: dict[tuple[str, str], list[str]] = {}
    for number, row in sorted(rows.items()):
        parts.setdefault((row.version, row.day), []).append(str(number))
    if len(parts) < 2:
        return ""
    words = (f"{', '.join(numbers)} by {version} on {day}" for (version, day), numbers in parts.items())
    return f"- **Not one run**: rows {'; rows '.join(words)}.\n"


def format_report(
    rows: Mapping[int, Row],
    plan: Plan,
    *,
    titles: Mapping[int, str],
    command: str,
    repositories: str,
    loads: str,
    kernels: str,
) -> str:
    """The whole file."""
    quick = " A quick run: few and short rounds, small repositories." if plan.commits == QUICK.commits else ""
    cpu = "by control groups" if servers.find_cgroup() else "by /proc, WHICH LACKS GIT'S CGI PROGRAMS"
    minutes = sum(row.seconds for row in rows.values()) / 60
    head = f"""\
# govc beside git

Written by `{command}` on {time.strftime("%Y-%m-%d", time.gmtime())} in {minutes:.1f} minutes.{quick}

- Machine: {machine()}; {loads}. Clients, load generator and servers share it, over loopback.
- Versions: {versions()}. Kernels: {kernels}.
{format_parts(rows)}- Repositories: {repositories}.
- Servers of rows 1 to 9, started anew for each row and asked in turn: `govc serve DIR --workers {servers.WORKERS}
  --export-all`, directly and behind conf/nginx.conf with its line for a Unix socket, as fcgiwrap has one; and
  git-http-backend below fcgiwrap ({servers.FCGI_CHILDREN} children) and nginx. Each nginx has
  {servers.WORKERS} workers. Both columns of govc are compared with the same peer.
- The column "git" is libgit2 in rows 12 and 13 (which one stands in the first column), `git index-pack` in rows 10 and
  11, and `git repack -adb` in row 16.
- Figures are medians of {plan.rounds} round{"s" if plan.rounds > 1 else ""} (least to most); of fewer where a contender
  took more than {plan.row_seconds_max:.0f} s for a line, or the row more than {plan.row_rounds_seconds:.0f} s. CPU is
  user and system time of every process of a server, helpers, nginx, and CGI programs that ended included ({cpu}); what
  clients use is in no figure.
- "times better" are ratios of medians: govc / govc behind nginx. "met" needs both. "took": the seconds of a row, and
  the machine's load average before it, which the rows before it are part of.
"""
    lines = [line for _, row in sorted(rows.items()) for line in row.lines]
    return "\n".join([head, format_summary(rows, titles), format_rows(lines, titles)])
