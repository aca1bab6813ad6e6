"""What the rows share: the repositories, the servers over them, a place for clients, and the lines so far.

Rounds take the contenders in turn, so that what else happens on the machine meets all of them. A row that raises is a
line that says so; the others go on.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from bench import generate
from bench.lines import BEHIND, DIRECT, GIT, Goal, Line
from bench.servers import STARTERS, Server
from bench.wire import Refused
from compat.gitclient import Git, GitFailed
from govc.repo.introducing import IntroduceTask, fill_introductions
from govc.repo.runtime import PLAIN
from govc.service.backend import Backend
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.settings import Settings

FAILURES = (Refused, OSError, http.client.HTTPException, GitFailed, subprocess.SubprocessError, AssertionError)


@dataclass(frozen=True)
class Plan:
    """How long things take: the whole run, or the quick one."""

    rounds: int = 3
    rate_seconds: int = 2  # wrk takes whole seconds only
    row_seconds_max: float = 15  # a contender that has used this much of a line gets no further round in it
    row_rounds_seconds: float = 90  # after so much of a row every line gets one round only
    row_seconds: int = 600  # a row that takes longer is ended, and the next one begins
    commits: int = generate.COMMITS
    refs: int = generate.REFS
    many_refs: tuple[int, ...] = (1_000, generate.REFS, 1_000_000)
    storm_clients: int = 50
    gigabyte_megabytes: int = 1000
    push_megabytes: int = 100
    pushes_one: int = 100
    pushes_each: int = 10
    pushes_kept: int = 2000
    million_commits: int = 250_000

    def with_patience(self, times: float) -> Plan:
        """The same with so much longer limits: more lines get several rounds, and a spread."""
        return replace(
            self,
            row_seconds_max=self.row_seconds_max * times,
            row_rounds_seconds=self.row_rounds_seconds * times,
            row_seconds=int(self.row_seconds * times),
        )


QUICK = Plan(
    rounds=1,
    rate_seconds=1,
    row_seconds_max=3,
    commits=1000,
    many_refs=(1_000, 10_000),
    refs=10_000,
    storm_clients=8,
    gigabyte_megabytes=100,
    push_megabytes=20,
    pushes_one=20,
    pushes_each=3,
    pushes_kept=100,
    million_commits=2_500,
)


@dataclass(frozen=True)
class Repository:
    """What the table calls a repository, the served folder's name, and where it came from, if from outside."""

    title: str
    name: str
    source: Path | None = None


@dataclass
class Bench:
    """One run."""

    plan: Plan
    git: Git
    root: Path
    scratch: Path
    kept: Path
    sources: Sequence[tuple[str, Path]]
    say: Callable[[str], None]
    lines: list[Line] = field(default_factory=list)
    serial: int = 0
    row: int = 0
    began: float = 0.0
    _filled: set[str] = field(default_factory=set)
    _servers: dict[str, Server] = field(default_factory=dict)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    # Servers

    def server(self, name: str) -> Server:
        """A server that runs until the end of the run; started when it is first asked for."""
        if name not in self._servers:
            self._servers[name] = self._stack.enter_context(STARTERS[name](self.root, self.scratch))
        return self._servers[name]

    def servers(self) -> list[Server]:
        """All three."""
        return [self.server(name) for name in (DIRECT, BEHIND, GIT)]

    def close(self) -> None:
        """End the servers; who asks for one after that gets another."""
        self._servers.clear()
        self._stack.close()

    def kill(self) -> None:
        """End their processes at once, so that whoever waits for an answer gets none."""
        for server in self._servers.values():
            for process in server.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    # Repositories

    def prepared(self, name: str, build: Callable[[Path], object], *, fill: bool = True) -> Path:
        """A repository as `build` makes it, once for all runs that keep their repositories, with a filled index."""
        place = self.kept / name
        if not place.exists():
            began = time.monotonic()
            making = self.kept / f"{name}.making"
            shutil.rmtree(making, ignore_errors=True)
            build(making)
            if fill:
                fill_index(making)
            making.rename(place)
            self.say(f"made {name}: {time.monotonic() - began:.0f} s")
        elif fill and name not in self._filled:
            fill_index(place)  # nothing to do, unless the index has another format since
        self._filled.add(name)
        return place

    def served(self, name: str, build: Callable[[Path], object], *, fill: bool = True) -> str:
        """The same, in the served folder."""
        if not (self.root / name).exists():
            generate.copy_linked(self.prepared(name, build, fill=fill), self.root / name)
        return name

    def history(self, *, bitmap: bool = True) -> Repository:
        """The generated history, with or without a bitmap."""
        name = f"history-{self.plan.commits}.git"
        self.served(name, lambda path: generate.build_history(self.git, path, self.plan.commits))
        if not bitmap:
            name = self._without_bitmap(name)
        return Repository("generated", name)

    def _without_bitmap(self, name: str) -> str:
        """A copy of a prepared repository for plain git, without one."""

        def build(path: Path) -> None:
            shutil.copytree(self.kept / name, path, copy_function=os.link)
            for file in path.glob("objects/pack/*.bitmap"):
                file.unlink()

        return self.served(f"plain-{name.removeprefix('real-')}", build, fill=False)

    def refs(self, count: int) -> Repository:
        """The same objects below so many refs."""
        name = f"refs-{self.plan.commits}-{count}.git"
        history = self.kept / self.history().name
        self.served(name, lambda path: generate.build_refs(self.git, path, history, count))
        return Repository(f"{count:,} refs", name)

    def blobs(self, megabytes: int) -> Repository:
        """Incompressible blobs."""
        name = f"blobs-{megabytes}.git"

        def build(path: Path) -> None:
            generate.build_blobs(self.git, path, megabytes)
            self.git("repack", "-adbq", "--window=0", cwd=path, timeout=600)  # no delta could help

        self.served(name, build)
        return Repository(f"{megabytes} MB of blobs", name)

    def million(self) -> Repository:
        """A million objects."""
        commits = self.plan.million_commits
        name = f"million-{commits}.git"
        self.served(name, lambda path: generate.build_million(self.git, path, commits))
        return Repository(f"{4 * commits:,} objects", name)

    def real(self, *, bitmap: bool = True) -> list[Repository]:
        """The repositories from outside: branches and tags, packed, with or without a bitmap."""
        found = []
        for title, source in self.sources:
            name = f"real-{title}.git"
            self.served(name, lambda path, source=source: generate.build_real(self.git, path, source))  # type: ignore[misc]
            found.append(Repository(title, name if bitmap else self._without_bitmap(name), source))
        return found

    def all(self) -> list[Repository]:
        """The generated history and those from outside."""
        return [self.history(), *self.real()]

    def copy(self, name: str) -> str:
        """A fresh copy of a served repository, which nobody has been asked about yet."""
        self.serial += 1
        copy = f"copy-{self.serial}.git"
        generate.copy_linked(self.root / name, self.root / copy)
        return copy

    @contextlib.contextmanager
    def fresh(self, name: str) -> Iterator[str]:
        """The same, removed at the end."""
        copy = self.copy(name)
        try:
            yield copy
        finally:
            shutil.rmtree(self.root / copy, ignore_errors=True)

    def place(self) -> Path:
        """A path in the clients' folder that is not there yet."""
        self.serial += 1
        return self.scratch / f"client-{self.serial}"

    # Lines

    def begin(self, row: int) -> None:
        """From here on lines are of that row."""
        self.row, self.lines, self.began = row, [], time.monotonic()

    def has_time(self) -> bool:
        """Whether the row may still measure more than once."""
        return time.monotonic() - self.began < self.plan.row_rounds_seconds

    def line(self, what: str, on: str, unit: str, goal: Goal | None = None, *, more_is_better: bool = False) -> Line:
        """One more line of the row that runs."""
        line = Line(self.row, what, on, unit, goal, more_is_better)
        self.lines.append(line)
        return line

    def rounds(
        self,
        lines: Sequence[Line],
        work: Callable[[Server], Sequence[float]],
        *,
        servers: Sequence[Server] | None = None,
        rounds: int = 0,
    ) -> None:
        """Fill lines side by side: `work` returns a number for each of them; it may raise Refused."""
        spent: dict[str, float] = {}
        for number in range(rounds or self.plan.rounds):
            for server in servers or self.servers():
                name = server.name
                is_enough = spent.get(name, 0.0) >= self.plan.row_seconds_max or not self.has_time()
                if name in lines[0].failures or (number and is_enough):
                    continue
                began = time.monotonic()
                try:
                    for line, value in zip(lines, work(server), strict=True):
                        line.add(name, value)
                except FAILURES as error:
                    reason = describe(error)
                    for line in lines:
                        line.failures[name] = reason
                spent[name] = spent.get(name, 0.0) + time.monotonic() - began
        shown = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items())
        self.say(f"row {self.row}: {lines[0].what}, {lines[0].on}: {shown}")


def describe(error: BaseException) -> str:
    """One line of it."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def fill_index(path: Path) -> None:
    """Fill the introductions index, as a server's helper does soon after it has met a repository."""
    backend = Backend(
        Settings(root=str(path.parent), export_all=True, helper_processes_max=0, introductions=False), PLAIN
    )
    handle = backend.open(f"/{path.name}", context=RequestContext(service=UPLOAD_PACK, protocol_version=2))
    fill_introductions(IntroduceTask.of(handle.snapshot))
