"""`python -m bench.growth`: how each cost grows, beside git, as pictures for docs/performance.md (docs/growth/*.svg).

Six axes: objects, refs, depth of history, packs, clients at once, repositories. Every point is the median of some
rounds; CPU seconds are the server's, all its processes counted (as in `python -m bench`). The figures are kept beside
the pictures, in figures.json, after every point, with the load of the machine. --axis runs some; --small stops one
power of ten earlier.

Needs matplotlib (`pip install 'govc[bench]'`), which nothing else does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import generate, report, servers
from bench.lines import DIRECT, GIT
from bench.measure import Memory, Rate, measure_rate, use
from bench.row_pushes import make_bodies
from bench.servers import Server
from bench.wire import Refused, Request, ask, ask_once, connect, drain, fetch, info_refs, ls_refs, push, push_once
from bench.world import fill_index
from compat.gitclient import Git
from govc.odb.store import ObjectStore
from govc.protocol.oid import SHA1
from tests.simulation.pushes import make_chain, make_pack

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "growth"
ROUNDS = 3
PAIR = (DIRECT, GIT)
ROOMY = "govc, repositories_max 20,000"
STYLES = {DIRECT: "-o", GIT: "--s", ROOMY: ":^"}
Axis = Callable[[int], Iterator[list["Curve"]]]
"""Yields all its curves after each point; up to ten to the given power where an axis goes that far."""


@dataclass
class Curve:
    """One cost: by contender, (x, median) in the order of x."""

    title: str
    unit: str
    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def add(self, contender: str, at: int, values: Sequence[float]) -> None:
        """One point."""
        self.points.setdefault(contender, []).append((at, statistics.median(values)))


@dataclass
class World:
    """The servers of one point, over a folder that holds what it is about."""

    git: Git
    root: Path
    scratch: Path
    running: list[Server]

    def each(self, curve: Curve, at: int, cost: Callable[[Server], float], rounds: int = ROUNDS) -> None:
        """Measure a cost of both, in turn; one value that takes long is enough."""
        values: dict[str, list[float]] = {}
        for _ in range(rounds):
            for server in self.running:
                found = values.setdefault(server.name, [])
                if not found or sum(found) < LONG_MS:
                    found.append(cost(server))
        for name, found in values.items():
            curve.add(name, at, found)


LONG_MS = 5_000.0


@contextlib.contextmanager
def world(build: Callable[[Git, Path], object]) -> Iterator[World]:
    """Both servers over a fresh folder that `build` has filled."""
    with tempfile.TemporaryDirectory(prefix="govc-growth-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        root, scratch = folder / "served", folder / "scratch"
        root.mkdir()
        scratch.mkdir()
        git = Git(folder / "home", folder)
        build(git, root)
        running = [stack.enter_context(servers.STARTERS[one](root, scratch)) for one in PAIR]
        yield World(git, root, scratch, running)


def cpu_ms(server: Server, work: Callable[[], object], times: int = 1) -> float:
    """CPU ms of one of them."""
    return use(server, lambda: [work() for _ in range(times)]).cpu / times * 1e3


WARM = 6


def warm(one: World, name: str, request: Request | None = None) -> None:
    """Both workers of each server have opened the repository, and have answered the request."""
    for server in one.running:
        for _ in range(WARM):
            ask_once(server, request or info_refs(name))


def commits_of(one: World, name: str, count: int) -> list[str]:
    """The newest commits."""
    done = one.git("rev-list", "--first-parent", "-n", str(count), "refs/heads/main", cwd=one.root / name)
    return done.stdout.split()


def measure_fetches(one: World, name: str, at: int, curves: dict[str, Curve]) -> None:
    """A clone that nobody had before, and fetches of ten commits, each asked for once."""
    warm(one, name)
    commits = commits_of(one, name, 40)
    queues = {server.name: list(range(ROUNDS * 5)) for server in one.running}

    def incremental(server: Server) -> float:
        numbers = [queues[server.name].pop() for _ in range(5)]
        requests = [fetch(name, [commits[n]], [commits[n + 10]]) for n in numbers]
        return use(server, lambda: [drain(server, request) for request in requests]).cpu / 5 * 1e3

    tips = {server.name: iter(commits) for server in one.running}
    if len(commits) > ROUNDS * 5 + 10:
        one.each(curves["fetch"], at, incremental)
    one.each(
        curves["clone"],
        at,
        lambda server: cpu_ms(server, lambda: drain(server, fetch(name, [next(tips[server.name])]))),
    )


def push_of(one: World, name: str) -> Callable[[Server], float]:
    """A cost: pushes of one commit each, listing included, into a copy for each server."""
    copies = {server.name: f"copy-{number}.git" for number, server in enumerate(one.running)}
    for copy in copies.values():
        generate.copy_linked(one.root / name, one.root / copy)
    tip = one.git.rev(one.root / name, "refs/heads/main")
    serial = iter(range(1_000))
    warmed: set[str] = set()

    def cost(server: Server) -> float:
        copy = copies[server.name]
        if server.name not in warmed:  # what a server does once for a repository is another figure
            warmed.add(server.name)
            for _ in range(6):
                ask_once(server, info_refs(copy, "git-receive-pack"))
            cost(server)
        bodies = make_bodies(tip, f"refs/heads/growth{next(serial)}", 5)
        with contextlib.closing(connect(server)) as connection:

            def work() -> None:
                for body in bodies:
                    ask_once(server, info_refs(copy, "git-receive-pack"))
                    push_once(connection, push(copy, body))

            return use(server, work, settle_seconds=0.4).cpu / len(bodies) * 1e3

    return cost


# The axes


def _wide(git: Git, path: Path, objects: int) -> Path:
    """Fifty commits that bring so many blobs, a hundred to a folder."""
    chance = random.Random(generate.SEED)
    generate.prepare_empty(git, path)
    each = max(1, objects // 50)

    def stream() -> Iterator[bytes]:
        for number in range(50):
            who = b"Ada Example <ada@example.com> %d +0100" % (generate.EPOCH + 60 * number)
            yield b"commit refs/heads/main\nauthor %b\ncommitter %b\ndata 2\nx\n" % (who, who)
            for n in range(number * each, number * each + each):
                content = b"%d %d\n" % (n, chance.getrandbits(64))
                yield b"M 100644 inline f%d/g%d/%d.txt\n" % (n // 10_000, n // 100 % 100, n)
                yield b"data %d\n%b\n" % (len(content), content)

    generate.fast_import(git, path, stream())
    git("repack", "-adbq", cwd=path, timeout=1800)
    return path


def by_objects(decades: int) -> Iterator[list[Curve]]:
    """Repositories of 10^3 to 10^6 objects in fifty commits."""
    curves = {"clone": Curve("clone, cold", "CPU ms"), "fetch": Curve("fetch, 10 commits of 50", "CPU ms")}
    for power in range(3, decades + 1):
        with world(lambda git, root, count=10**power: fill_index(_wide(git, root / "r.git", count))) as one:  # type: ignore[misc]
            measure_fetches(one, "r.git", 10**power, curves)
        say(f"10^{power} objects")
        yield list(curves.values())


def by_depth(decades: int) -> Iterator[list[Curve]]:
    """Histories of 10^2 to 10^5 commits, one file each."""
    curves = {
        "clone": Curve("clone, cold", "CPU ms"),
        "fetch": Curve("fetch, 10 commits", "CPU ms"),
        "shallow": Curve("clone --depth 1", "CPU ms"),
    }
    for power in range(2, decades):

        def build(git: Git, root: Path, count: int = 10**power) -> None:
            path = generate.build_million(git, root / "r.git", count)
            git("repack", "-adbq", cwd=path, timeout=1800)
            fill_index(path)

        with world(build) as one:
            measure_fetches(one, "r.git", 10**power, curves)
            tips = {server.name: iter(commits_of(one, "r.git", 40)) for server in one.running}
            one.each(
                curves["shallow"],
                10**power,
                lambda server, tips=tips: cpu_ms(  # type: ignore[misc]
                    server, lambda: drain(server, fetch("r.git", [next(tips[server.name])], (), "deepen 1"))
                ),
            )
        say(f"10^{power} commits")
        yield list(curves.values())


def by_refs(decades: int) -> Iterator[list[Curve]]:
    """10 to 10^6 packed refs."""
    whole, one_prefix = Curve("ls-refs, whole", "CPU ms"), Curve("ls-refs, one prefix", "CPU ms")
    pushing = Curve("push to one ref", "CPU ms")
    for power in range(1, decades + 1):

        def build(git: Git, root: Path, count: int = 10**power) -> None:
            history = generate.build_history(git, root / "history.git", 500)
            generate.build_refs(git, root / "r.git", history, count)
            fill_index(root / "r.git")

        with world(build) as one:
            warm(one, "r.git")
            at = 10**power
            for curve, request in ((whole, ls_refs("r.git")), (one_prefix, ls_refs("r.git", generate.MAIN))):
                warm(one, "r.git", request)
                times = 20 if at <= 10_000 else 3
                one.each(
                    curve,
                    at,
                    lambda server, request=request, times=times: cpu_ms(  # type: ignore[misc]
                        server, lambda: ask_once(server, request), times
                    ),
                )
            one.each(pushing, at, push_of(one, "r.git"), rounds=2)
        say(f"10^{power} refs")
        yield [whole, one_prefix, pushing]


def _add_packs(git: Git, path: Path, count: int) -> None:
    """So many packs of a commit each, as pushes leave them."""
    tip = git.rev(path, "refs/heads/main")
    store = ObjectStore.open(str(path / "objects"), SHA1)
    for commit in make_chain(tip, "pack", count):
        generate.store_pack(path, make_pack(commit.objects), store)
        tip = commit.oid
    git("update-ref", "refs/heads/main", tip, cwd=path)


def by_packs(decades: int) -> Iterator[list[Curve]]:
    """1 to 1,000 packs beside a large one."""
    curves = {"clone": Curve("clone, cold", "CPU ms"), "fetch": Curve("fetch, 10 commits", "CPU ms")}
    pushing = Curve("push of 1 commit", "CPU ms")
    for power in range(decades - 2):

        def build(git: Git, root: Path, count: int = 10**power) -> None:
            path = generate.build_history(git, root / "r.git", 1000)
            _add_packs(git, path, count)
            fill_index(path)

        with world(build) as one:
            measure_fetches(one, "r.git", 10**power, curves)
            one.each(pushing, 10**power, push_of(one, "r.git"), rounds=2)
        say(f"10^{power} packs")
        yield [*curves.values(), pushing]


def _steps(most: int) -> list[int]:
    """1, 3, 10, 30 and so on."""
    return [count for power in range(8) for count in (10**power, 3 * 10**power) if count <= most]


def by_clients(decades: int) -> Iterator[list[Curve]]:
    """1 to 1,000 connections that ask without pause."""
    rate = Curve("ls-refs", "requests/s")
    cost = Curve("ls-refs", "CPU µs/request")
    memory = Curve("private memory, all processes", "MiB")
    with world(lambda git, root: fill_index(generate.build_history(git, root / "r.git", 500))) as one:
        warm(one, "r.git")
        refused: set[str] = set()
        for count in _steps(10 ** (decades - 3)):
            for server in one.running:
                if server.name in refused:
                    continue
                rates: list[Rate] = []
                try:
                    with Memory(server, every_seconds=1) as seen:
                        for _ in range(ROUNDS):
                            rates.append(measure_rate(server, ls_refs("r.git"), 2, one.scratch, connections=count))
                except Refused as error:  # so many are too many: the curve ends here
                    say(f"{count} clients: {server.name}: {error}")
                    refused.add(server.name)
                    continue
                rate.add(server.name, count, [found.per_second for found in rates])
                cost.add(server.name, count, [found.cpu_us for found in rates])
                memory.add(server.name, count, [seen.sum_mib])
            say(f"{count} clients")
            yield [rate, cost, memory]


def _copy_small(source: Path, target: Path) -> None:
    """As generate.copy_linked, for thousands of small ones: folders without files are left out."""
    for folder, _, names in os.walk(source):
        parts = Path(folder).relative_to(source).parts
        if parts == ("govc",) or (not names and parts != ("refs",)):
            continue
        inner = target.joinpath(*parts)
        inner.mkdir(parents=True, exist_ok=True)
        copy = os.link if parts[:1] in (("objects",), ("govc",)) else shutil.copyfile
        for name in names:
            copy(f"{folder}/{name}", f"{inner}/{name}")


def _build_many(git: Git, root: Path, count: int) -> None:
    """So many repositories of the same small history, with filled indexes."""
    first = generate.build_history(git, root / "0.git", 320)
    shutil.rmtree(first / "hooks", ignore_errors=True)
    fill_index(first)
    for number in range(1, count):
        _copy_small(first, root / f"{number}.git")


ASKED_MAX = 3_000
"""More than a worker keeps open, so that who comes round again is opened anew."""
ASKED_MAX_GIT = 1_000
"""A process for each request has no memory of the others."""


def by_repositories(decades: int) -> Iterator[list[Curve]]:
    """1 to 10,000 repositories, asked one after the other, so that none is the last one again."""
    cost = Curve("ls-refs, each repository in turn", "CPU ms")
    memory = Curve("private memory, all processes", "MiB")
    for power in range(decades - 1):
        count = 10**power
        with (
            world(lambda git, root, count=count: _build_many(git, root, count)) as one,  # type: ignore[misc]
            servers.start_govc(one.root, one.scratch, options=("--repositories-max", "20000"), name=ROOMY) as roomy,
        ):
            asked: list[Request] = [ls_refs(f"{n % count}.git") for n in range(min(max(count, 200), ASKED_MAX))]
            for server in (*one.running, roomy):
                chosen = asked[:ASKED_MAX_GIT] if server.name == GIT else asked
                with contextlib.closing(connect(server)) as connection, Memory(server, every_seconds=1) as seen:

                    def work(connection=connection, chosen=chosen) -> None:  # type: ignore[no-untyped-def]
                        for request in chosen:
                            ask(connection, request)

                    work()
                    spent = use(server, work).cpu / len(chosen) * 1e3
                cost.add(server.name, count, [spent])
                memory.add(server.name, count, [seen.sum_mib])
        say(f"10^{power} repositories")
        yield [cost, memory]


AXES: dict[str, tuple[str, Axis]] = {
    "objects": ("objects", by_objects),
    "refs": ("refs", by_refs),
    "depth": ("commits", by_depth),
    "packs": ("packs", by_packs),
    "clients": ("clients at once", by_clients),
    "repositories": ("repositories", by_repositories),
}


# Pictures


def draw(name: str, label: str, curves: Sequence[Curve], folder: Path) -> None:
    """One picture per axis: a panel per unit, govc as lines, git dashed in the same colour."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "govc", "font.size": 9})
    from matplotlib import pyplot

    units = list(dict.fromkeys(curve.unit for curve in curves))
    figure, panels = pyplot.subplots(1, len(units), figsize=(4.6 * len(units), 3.2), squeeze=False)
    for panel, unit in zip(panels[0], units, strict=True):
        for number, curve in enumerate([curve for curve in curves if curve.unit == unit]):
            for contender, points in curve.points.items():
                panel.plot(
                    [x for x, _ in points],
                    [y for _, y in points],
                    STYLES[contender],
                    color=f"C{number}",
                    markersize=3,
                    label=f"{contender}: {curve.title}",
                )
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel(label)
        panel.set_ylabel(unit)
        panel.grid(True, which="major", linewidth=0.3)
        panel.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


def write_figures(path: Path, name: str, curves: Sequence[Curve], made: str) -> None:
    """Keep the figures of one axis beside the others'; `made`: when, with what, and how busy the machine was."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[name] = {
        "made": made,
        "curves": [
            {
                "title": curve.title,
                "unit": curve.unit,
                "points": {
                    who: [[x, float(f"{y:.3g}")] for x, y in points] for who, points in sorted(curve.points.items())
                },
            }
            for curve in curves
        ],
    }
    path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def read_figures(path: Path, name: str) -> list[Curve]:
    """The curves of one axis, as they were kept."""
    kept = json.loads(path.read_text())[name]["curves"]
    return [
        Curve(
            curve["title"], curve["unit"], {who: [(x, y) for x, y in curve["points"][who]] for who in curve["points"]}
        )
        for curve in kept
    ]


def say(text: str) -> None:
    """Progress."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, keep, draw."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--axis", action="append", choices=sorted(AXES))
    parser.add_argument("--small", action="store_true", help="one power of ten less")
    parser.add_argument("--draw", action="store_true", help="only draw what figures.json has")
    parser.add_argument("--output", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # servers are ended, too
    for name in options.axis or AXES:
        label, run = AXES[name]
        if options.draw:
            draw(name, label, read_figures(options.output / "figures.json", name), options.output)
            continue
        before, began = os.getloadavg(), time.monotonic()
        for curves in run(5 if options.small else 6):
            made = f"{time.strftime('%Y-%m-%d', time.gmtime())}, {(time.monotonic() - began) / 60:.1f} minutes"
            loads = report.format_loads(before, os.getloadavg())
            write_figures(options.output / "figures.json", name, curves, f"{made}, {report.machine()}, {loads}")
            draw(name, label, curves, options.output)


if __name__ == "__main__":
    main()
