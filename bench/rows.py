"""The rows: what is asked of every server, in rounds that take the servers in turn.

A row is a function of (Bench, Server) that returns one number for each line it fills; it raises Refused
when the server can't. `Bench.run` repeats it, and keeps the numbers of all rounds by server and line.
"""

from __future__ import annotations

import http.client
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench import generate
from bench.measure import Client, Memory, Pacer, Refused, Request, Used, measure_rate, percentile, use
from bench.servers import Server
from compat.gitclient import Git, GitFailed

PUSHERS = 8
BATCH = 5
PUSHES_EACH = 3
BEHIND = (10, 100)
RATE_LINES = ("requests/s", "CPU µs/request")
COST_LINES = ("seconds", "server CPU s")
LATENCY_PUSHES = 2

Numbers = Sequence[float]
Row = Callable[[Server], Numbers]


@dataclass(frozen=True)
class Plan:
    """How long things take: the whole run, or the quick one."""

    rounds: int = 5
    rate_seconds: int = 2  # wrk takes whole seconds only
    row_seconds_max: float = 20  # a server that has used this much of a row gets no further round in it
    client_seconds_max: float = 90
    blob_megabytes: int = 500
    push_megabytes: int = 100
    commits: int = generate.COMMITS
    refs: int = generate.REFS


QUICK = Plan(rounds=2, rate_seconds=1, row_seconds_max=3, client_seconds_max=40, blob_megabytes=100, commits=1000)


@dataclass
class Line:
    """One line of a table: what is measured, in which unit; numbers or the reason of a 'no' by server."""

    title: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)


@dataclass
class Table:
    """A heading and its lines."""

    title: str
    lines: list[Line] = field(default_factory=list)


@dataclass
class Bench:
    """What the rows share: the servers, their folder, a place for the clients, and the tables so far."""

    servers: list[Server]
    root: Path
    scratch: Path
    git: Git
    plan: Plan
    say: Callable[[str], None]
    tables: list[Table] = field(default_factory=list)
    serial: int = 0

    @property
    def client(self) -> Client:
        """The git that is timed."""
        return Client(self.git.home, self.plan.client_seconds_max)

    def table(self, title: str) -> None:
        """Begin a table."""
        self.tables.append(Table(title))

    def place(self) -> Path:
        """A path in the clients' folder that is not there yet."""
        self.serial += 1
        return self.scratch / f"client-{self.serial}"

    def run(self, title: str, units: Sequence[str], row: Row, *, rounds: int = 0) -> None:
        """Fill one line per unit."""
        lines = [Line(title, unit) for unit in units]
        self.tables[-1].lines += lines
        spent = dict.fromkeys((server.name for server in self.servers), 0.0)
        for number in range(rounds or self.plan.rounds):
            for server in self.servers:
                name = server.name
                too_long = number and spent[name] >= self.plan.row_seconds_max
                if name in lines[0].refusals or too_long:
                    continue
                start = time.monotonic()
                try:
                    for line, value in zip(lines, row(server), strict=True):
                        line.values.setdefault(name, []).append(value)
                except (Refused, OSError, http.client.HTTPException, GitFailed, subprocess.SubprocessError) as error:
                    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                    for line in lines:
                        line.refusals[name] = reason
                spent[name] += time.monotonic() - start
        self.say(f"{title}: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items()))


def packets(*lines: str) -> bytes:
    """Pkt-lines; "0000" and "0001" stand for themselves."""
    return "".join(x if x in ("0000", "0001") else f"{len(x) + 4:04x}{x}" for x in lines).encode()


def info_refs(name: str) -> Request:
    """What a client of version 0 asks first."""
    return Request(f"/{name}/info/refs?service=git-upload-pack")


def ls_refs(name: str, *prefixes: str) -> Request:
    """`git ls-remote` in version 2."""
    arguments = ["peel\n", "symrefs\n", *(f"ref-prefix {prefix}\n" for prefix in prefixes)]
    body = packets("command=ls-refs\n", "agent=bench\n", "object-format=sha1", "0001", *arguments, "0000")
    kind = "application/x-git-upload-pack-"
    headers = {"Git-Protocol": "version=2", "Content-Type": kind + "request", "Accept": kind + "result"}
    return Request(f"/{name}/git-upload-pack", body, headers)


def check_v2(server: Server) -> None:
    """Refused if a server answers version 2 as if it were version 0."""
    if server.name == "dulwich":
        raise Refused("speaks no protocol version 2")


def rate_rows(bench: Bench, small: str, many: str) -> None:
    """Requests per second and what one costs, for the answers that name refs."""
    refs = f"{bench.plan.refs:,} refs"
    asked = {
        "info/refs v0, 21 refs": info_refs(small),
        f"info/refs v0, {refs}": info_refs(many),
        "ls-refs v2, 21 refs": ls_refs(small),
        f"ls-refs v2, {refs}": ls_refs(many),
        f"ls-refs v2, {refs}, prefix of 470": ls_refs(many, generate.REF_PREFIX),
        f"ls-refs v2, {refs}, prefix of one": ls_refs(many, generate.MAIN),
    }

    def row(server: Server, request: Request) -> Numbers:
        if request.body:
            check_v2(server)
        return measure_rate(server, request, bench.plan.rate_seconds, bench.scratch)

    bench.table("Refs: requests per second under load, and their CPU time")
    for title, request in asked.items():
        bench.run(title, RATE_LINES, lambda server, request=request: row(server, request))  # type: ignore[misc]


def fetch_rows(bench: Bench, name: str) -> None:
    """Clone, clone of depth 1, and fetches of a few commits; the result is checked."""
    served = bench.root / name
    head = bench.git("symbolic-ref", "HEAD", cwd=served).stdout.strip()
    tip = bench.git.rev(served, head)

    def clone(server: Server, *options: str) -> Numbers:
        place = bench.place()
        try:
            used = use(
                server,
                lambda: bench.client("clone", "-q", "--bare", *options, f"{server.url}/{name}", place),
            )
            if bench.git.rev(place, head) != tip:
                raise Refused("the clone has another tip")
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return used

    bench.run("full clone", COST_LINES, clone)
    bench.run("clone --depth 1", COST_LINES, lambda server: clone(server, "--depth", "1"))
    for behind in BEHIND:
        template = _client_behind(bench, served, head, behind)
        if template is not None:
            bench.run(
                f"fetch, {behind} commits behind",
                COST_LINES,
                lambda server, template=template: _fetches(bench, server, name, template, head),  # type: ignore[misc]
            )


def _client_behind(bench: Bench, served: Path, head: str, behind: int) -> Path | None:
    """A client's repository as it was so many commits ago; None if the history is shorter."""
    oid = bench.git("rev-parse", "--verify", "-q", f"{head}~{behind}", cwd=served, check=False).stdout.strip()
    if not oid:
        return None
    place = generate.prepare_empty(bench.git, bench.place())
    source = f"file://{served}"
    bench.git("fetch", "-q", "--no-tags", source, f"{oid}:{head}", cwd=place, timeout=600)
    return place


def _fetches(bench: Bench, server: Server, name: str, template: Path, head: str) -> Numbers:
    places = [generate.copy_linked(template, bench.place()) for _ in range(BATCH)]

    def work() -> None:
        for place in places:
            bench.client("fetch", "-q", "--no-tags", f"{server.url}/{name}", f"+{head}:{head}", cwd=place)

    try:
        used = use(server, work)
    finally:
        for place in places:
            shutil.rmtree(place)
    return used.wall / BATCH, used.cpu / BATCH


def push_rows(bench: Bench, name: str) -> None:
    """One commit at a time by one client, and by eight at once on branches of their own."""
    served = bench.root / name
    source = bench.place()
    rounds = bench.plan.rounds
    chains = generate.build_pusher(bench.git, source, served, PUSHERS + 1, rounds * BATCH)
    targets = {s.name: f"pushed-{s.name}.git" for s in bench.servers}
    for target in targets.values():
        generate.copy_linked(served, bench.root / target)
    left = {(server.name, branch): iter(chain) for server in bench.servers for branch, chain in enumerate(chains)}

    def push(server: Server, branch: int, times: int) -> None:
        for _ in range(times):
            oid = next(left[server.name, branch])
            url = f"{server.url}/{targets[server.name]}"
            bench.client("push", "-q", url, f"{oid}:refs/heads/p{branch}", cwd=source)

    def one(server: Server) -> Numbers:
        used = use(server, lambda: push(server, PUSHERS, BATCH))
        return used.wall / BATCH, used.cpu / BATCH

    def eight(server: Server) -> Numbers:
        with ThreadPoolExecutor(PUSHERS) as pool:
            used = use(server, lambda: list(pool.map(lambda branch: push(server, branch, PUSHES_EACH), range(PUSHERS))))
        pushes = PUSHERS * PUSHES_EACH
        return pushes / used.wall, used.cpu / pushes

    bench.run("push of 1 commit, 1 client", COST_LINES, one)
    bench.run(f"push of 1 commit, {PUSHERS} clients", ("pushes/s", "server CPU s"), eight)


def _push_whole(bench: Bench, server: Server, name: str) -> Used:
    """Push everything into an empty repository; it is checked, and removed."""
    target = generate.prepare_empty(bench.git, bench.root / f"empty-{server.name}.git")
    try:
        used = use(
            server,
            lambda: bench.client(
                "push",
                "-q",
                f"{server.url}/{target.name}",
                "refs/heads/*:refs/heads/*",
                "refs/tags/*:refs/tags/*",
                cwd=bench.root / name,
            ),
        )
        if bench.git.refs(target) != bench.git.refs(bench.root / name):
            raise Refused("the refs differ afterwards")
    finally:
        shutil.rmtree(target)
    return used


def large_push_row(bench: Bench, name: str) -> None:
    """The whole repository into an empty one."""
    bench.run("push of everything", COST_LINES, lambda server: _push_whole(bench, server, name))


def latency_rows(bench: Bench, small: str, blobs: str) -> None:
    """What a client that lists refs notices of another's large push."""
    plan = bench.plan

    def paced(server: Server, work: Callable[[], object]) -> tuple[float, float]:
        check_v2(server)
        pacer = Pacer(server, ls_refs(small))
        with pacer.running():
            work()
        return percentile(pacer.milliseconds, 0.5), percentile(pacer.milliseconds, 0.99)

    def pushing(server: Server) -> Callable[[], object]:
        return lambda: [_push_whole(bench, server, blobs) for _ in range(LATENCY_PUSHES)]

    def row(server: Server) -> Numbers:
        idle = paced(server, lambda: time.sleep(3))
        busy = paced(server, pushing(server))
        return *idle, *busy, busy[1] - idle[1]

    bench.table(
        f"Latency of ls-refs (50 per second, 4 connections) while another client pushes {plan.push_megabytes} MB"
    )
    bench.run("ls-refs", ("p50 idle ms", "p99 idle ms", "p50 pushing ms", "p99 pushing ms", "p99 more, ms"), row)


def memory_rows(bench: Bench, blobs: str) -> None:
    """Private memory of the whole server during a large clone and a large push, once each."""
    size = f"{bench.plan.blob_megabytes} MB"
    units = ("peak private MiB, all processes", "largest process MiB", "seconds", "server CPU s")

    def clone(server: Server) -> Numbers:
        place = bench.place()
        try:
            with Memory(server) as memory:
                used = use(server, lambda: bench.client("clone", "-q", "--bare", f"{server.url}/{blobs}", place))
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return memory.sum_mib, memory.largest_mib, *used

    def push(server: Server) -> Numbers:
        with Memory(server) as memory:
            used = _push_whole(bench, server, blobs)
        return memory.sum_mib, memory.largest_mib, *used

    def idle(server: Server) -> Numbers:
        with Memory(server) as memory:
            time.sleep(0.5)
        return memory.sum_mib, memory.largest_mib

    bench.table("Private memory (USS), incompressible blobs")
    bench.run("at rest, after all rows above", units[:2], idle, rounds=1)
    bench.run(f"clone of {size}", units, clone, rounds=1)
    bench.run(f"push of {size}", units, push, rounds=1)


def count_objects(repository: Path) -> str:
    """How many objects the packs of a repository hold."""
    listing = subprocess.run(
        ["git", "count-objects", "-v"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    return f"{sum(int(x.split()[1]) for x in listing.splitlines() if x.startswith(('count', 'in-pack'))):,}"
