"""The results as Markdown: one table per heading, a column per server, medians with the least and the most."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from bench import rows, servers

PROJECT = Path(__file__).resolve().parent.parent
P99_GOAL_MS = 25
MEMORY_GOAL_MIB = 150


def format_number(value: float) -> str:
    """Three digits that matter; thousands with commas."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def format_cell(line: rows.Line, name: str, rounds: int) -> str:
    """Median (least to most); the number of rounds when it is not the usual one; or "no" and why."""
    values = line.values.get(name, [])
    reason = line.refusals.get(name)
    if reason or not values:
        return f"no: {reason or 'not measured'}".replace("|", "/")[:120]
    text = format_number(statistics.median(values))
    if len(values) == 1:
        return text
    spread = f" ({format_number(min(values))} to {format_number(max(values))}"
    return text + spread + (")" if len(values) == rounds else f"; n={len(values)})")


def format_table(table: rows.Table, names: Sequence[str], rounds: int) -> str:
    """One Markdown table."""
    out = [f"## {table.title}\n", "| | unit | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for line in table.lines:
        cells = [line.title, line.unit, *(format_cell(line, name, rounds) for name in names)]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def median_of(tables: Sequence[rows.Table], title: str, unit: str, name: str) -> float | None:
    """The median of a line for a server; None when there is none."""
    for table in tables:
        for line in table.lines:
            if line.title == title and line.unit == unit and line.values.get(name):
                return statistics.median(line.values[name])
    return None


def format_goals(tables: Sequence[rows.Table], plan: rows.Plan) -> str:
    """govc's goals and whether this run met them."""
    goals: list[tuple[str, str, str, float, str]] = [
        ("p99 of ls-refs grows at most", "ls-refs", "p99 more, ms", P99_GOAL_MS, "ms"),
    ]
    for verb in ("clone", "push"):
        title = f"{verb} of {plan.blob_megabytes} MB"
        unit = "peak private MiB, all processes"
        goals.append((f"peak private memory in a {title} below", title, unit, MEMORY_GOAL_MIB, "MiB"))
    out = ["## Goals of govc\n", "| goal | measured | met |", "|---|---|---|"]
    for text, title, unit, limit, short in goals:
        value = median_of(tables, title, unit, "govc")
        met = "not measured" if value is None else "yes" if value <= limit else "no"
        shown = "" if value is None else f"{format_number(value)} {short}"
        out.append(f"| {text} {limit} {short} | {shown} | {met} |")
    return "\n".join(out) + "\n"


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    except OSError:
        return ""
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def versions() -> str:
    """The programs that took part."""
    nginx = _first_line(servers.find_program("nginx"), "-v").rpartition("nginx/")[2]
    wrk = re.search(r"wrk (?:debian/)?(\S+)", _first_line("wrk", "-v"))
    described = _first_line("git", "describe", "--always", "--dirty")
    commit = f" ({described})" if re.fullmatch(r"\S+", described) else ""
    parts = [f"govc {metadata.version('govc')}{commit}", f"Python {platform.python_version()}"]
    parts += [f"{name} {metadata.version(name)}" for name in ("gunicorn", "gevent", "dulwich", "psutil")]
    parts += [_first_line("git", "--version"), f"nginx {nginx}"]
    parts.append(_fcgiwrap_version())
    parts.append(f"wrk {wrk[1]}" if wrk else "own keep-alive client instead of wrk")
    return ", ".join(part for part in parts if part)


def _fcgiwrap_version() -> str:
    done = subprocess.run([servers.find_program("fcgiwrap"), "-h"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\S+)", done.stdout + done.stderr)
    return f"fcgiwrap {found[1]}" if found else "fcgiwrap"


def machine() -> str:
    """Cores, processor, kernel, memory: nothing that names the machine."""
    model = ""
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            model = text.partition(":")[2].strip()
            break
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{os.cpu_count()} cores ({model}), {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"


def format_loads(before: tuple[float, float, float], after: tuple[float, float, float]) -> str:
    """The load averages at both ends: other work on the machine shows in the first."""
    return f"load average {before[0]:.1f} before, {after[0]:.1f} after"


def format_report(
    tables: Sequence[rows.Table],
    plan: rows.Plan,
    *,
    names: Sequence[str],
    command: str,
    repositories: str,
    loads: str,
    seconds: float,
) -> str:
    """The whole file."""
    quick = " A quick run: few and short rounds, smaller blobs." if plan == rows.QUICK else ""
    cpu = "by control groups" if servers.find_cgroup() else "by /proc, which lacks fcgiwrap's CGI programs"
    head = f"""\
# govc beside git-http-backend and dulwich

Written by `{command}` on {time.strftime("%Y-%m-%d", time.gmtime())} in {seconds / 60:.1f} minutes.{quick}

- Machine: {machine()}; {loads}. Clients, load generator and servers share it, over loopback.
- Versions: {versions()}.
- Repositories: {repositories}.
- Servers, all running at the same time, asked in turn: `govc serve DIR --workers {servers.WORKERS} --export-all`;
  nginx with {servers.WORKERS} workers, fcgiwrap with {servers.FCGI_CHILDREN} children and git-http-backend; dulwich's
  WSGI application under gunicorn with {servers.WORKERS} gevent workers.
- Median of {plan.rounds} rounds (least to most); n where a server was given fewer, because a row took it more than
  {plan.row_seconds_max:.0f} s. "no": the server can't, or the client gave up after {plan.client_seconds_max:.0f} s.
- CPU is user and system time of every process of the server, ended children included ({cpu}). Wall clock
  includes the git client. "pushing" is {rows.LATENCY_PUSHES} pushes in a row, each into an empty repository.
"""
    parts = [head, format_goals(tables, plan), *(format_table(t, names, plan.rounds) for t in tables)]
    return "\n".join(parts)
