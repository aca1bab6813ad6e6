"""Ten thousand connections at once on one machine, two workers: idle ones, slow readers, and some that work.

    python -m bench.connections [--idle 6000 --slow 3000 --working 1000 --seconds 30] [--write]

    idle      have asked once and stay open (keep-alive); at the end each asks again
    slow      have asked for a clone of 8 MiB and read 4 KiB of it every second; some of them read to the end afterwards
    working   ask for the refs again and again, with a second between

Meanwhile a real `git ls-remote` runs every half second. An error is whatever a client would call one (refused, closed,
a wrong status, a body that isn't whole) and a line of the server's log that complains. Memory is the workers' unique
set (USS), before and after each kind came, so what they share (code, mappings) doesn't count, nor do the kernel's
socket buffers (/proc/net/sockstat has those).

The clients are one process of ours, on the same cores as the server: times here are those of a machine that is busy
twice over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import click
import psutil

from bench.report import machine
from compat.frontends import Running, server_environment, start_gunicorn
from compat.gitclient import Git

RESULTS = Path(__file__).with_name("CONNECTIONS.md")
BODY_BYTES = 8 << 20
SLOW_READ_BYTES = 4 << 10
SLOW_WINDOW_BYTES = 16 << 10
READ_TO_THE_END = 100
AT_ONCE = 64
ANSWER_SECONDS = 120
LS_REMOTE_PAUSE_SECONDS = 0.5
WORKING_PAUSE_SECONDS = 1.0
OWN_DESCRIPTORS = 200


@dataclass(frozen=True)
class Mix:
    """How many connections of each kind, and for how long all of them are there."""

    idle: int
    slow: int
    working: int
    seconds: float

    @property
    def total(self) -> int:
        return self.idle + self.slow + self.working


@dataclass
class Outcome:
    """What happened. Memory is in bytes, of all workers together; times are in seconds."""

    errors: list[str] = field(default_factory=list)
    per_connection: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    kernel: str = ""
    answers: int = 0
    working_times: list[float] = field(default_factory=list)
    ls_remote_times: dict[str, list[float]] = field(default_factory=dict)
    connected: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class Broken(Exception):
    """An answer that a client would not take."""


class Connection:
    """One client connection, by hand: asyncio's streams would take more memory than the server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, place: tuple[str, int]) -> None:
        self._loop = loop
        self._place = place
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._rest = b""

    def narrow(self) -> None:
        """Let the kernel keep little for us: then it is the server who has to wait."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_WINDOW_BYTES)

    async def open(self) -> None:
        await self._loop.sock_connect(self._socket, self._place)

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def read(self, size: int) -> bytes:
        data = await self._loop.sock_recv(self._socket, size)
        if not data:
            raise Broken("closed by the server")
        return data

    async def read_head(self) -> bytes:
        """Read the head of an answer; raise Broken unless it is a 200."""
        data = self._rest
        while b"\r\n\r\n" not in data:
            data += await self.read(65536)
        head, _, self._rest = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Broken(head.split(b"\r\n")[0].decode("latin-1"))
        return head

    async def read_sized(self) -> bytes:
        """Read an answer with a Content-Length."""
        head = (await self.read_head()).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        data = self._rest
        while len(data) < length:
            data += await self.read(65536)
        self._rest = data[length:]
        return data[:length]

    async def read_chunked(self, already: int) -> int:
        """Read a chunked body that began before to its end; return how many bytes of the stream came in all."""
        tail, count = self._rest[-16:], already + len(self._rest)
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            data = await self.read(1 << 20)
            count += len(data)
            tail = (tail + data)[-16:]
        return count

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def descriptors_for(count: int) -> Iterator[None]:
    """Raise our own limit of open files for as long as it takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OWN_DESCRIPTORS
    if hard < wanted:
        raise click.ClickException(f"{wanted} open files are needed, and the hard limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """The clients."""

    def __init__(self, running: Running, repository: str, tip: str, git: Git) -> None:
        parts = urlsplit(running.url)
        self._place = (parts.hostname or "", parts.port or 80)
        host = f"Host: {parts.netloc}\r\n".encode()
        path = f"/{repository}".encode()
        self._ask_refs = b"GET %s/info/refs?service=git-upload-pack HTTP/1.1\r\n%sGit-Protocol: version=2\r\n\r\n" % (
            path,
            host,
        )
        want = f"want {tip} side-band-64k ofs-delta no-progress\n".encode()
        body = b"%04x%s00000009done\n" % (len(want) + 4, want)
        head = b"Content-Type: application/x-git-upload-pack-request\r\nContent-Length: %d\r\n" % len(body)
        self._ask_pack = b"POST %s/git-upload-pack HTTP/1.1\r\n%s%s\r\n%s" % (path, host, head, body)
        self._url = f"{running.url}/{repository}"
        self._git = git
        self._master = psutil.Process(running.pids[0])
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._loop = asyncio.get_running_loop()
        self.outcome = Outcome()

    def _note(self, what: str, error: Exception) -> None:
        self.outcome.errors.append(f"{what}: {type(error).__name__} {error}")

    async def _guarded(self, what: str, work: Awaitable[None]) -> None:
        try:
            await asyncio.wait_for(work, ANSWER_SECONDS)
        except (TimeoutError, OSError, Broken) as error:
            self._note(what, error)

    def memory(self) -> int:
        """The workers' unique set, in bytes."""
        return sum(worker.memory_full_info().uss for worker in self._master.children())

    async def _make(self, what: str, count: int, begin: Callable[[Connection], Awaitable[None]]) -> list[Connection]:
        """Open so many connections, `AT_ONCE` at a time; those that can't be had are errors."""
        made: list[Connection] = []

        async def one() -> None:
            async with self._limit:
                connection = Connection(self._loop, self._place)
                try:
                    if what == "slow":
                        connection.narrow()
                    await asyncio.wait_for(begin(connection), ANSWER_SECONDS)
                    made.append(connection)
                except (TimeoutError, OSError, Broken) as error:
                    connection.close()
                    self._note(what, error)

        before = self.memory()
        await asyncio.gather(*(one() for _ in range(count)))
        after = self.memory()
        self.outcome.connected[what] = len(made)
        self.outcome.memory[what] = after
        if made:
            self.outcome.per_connection[what] = (after - before) / len(made)
        return made

    async def _ask(self, connection: Connection) -> None:
        await connection.send(self._ask_refs)
        if b"version 2" not in await connection.read_sized():
            raise Broken("no capabilities")
        self.outcome.answers += 1

    async def _begin_asking(self, connection: Connection) -> None:
        await connection.open()
        await self._ask(connection)

    async def _begin_cloning(self, connection: Connection) -> None:
        await connection.open()
        await connection.send(self._ask_pack)
        await connection.read_head()

    async def _read_slowly(self, connections: list[Connection], taken: dict[Connection, int], until: float) -> None:
        """Read a little of each every second."""

        async def read(connection: Connection) -> None:
            taken[connection] = taken.get(connection, 0) + len(await connection.read(SLOW_READ_BYTES))

        while time.monotonic() < until:
            began = time.monotonic()
            await asyncio.gather(*(self._guarded("slow", read(connection)) for connection in connections))
            await asyncio.sleep(max(0.0, 1 - (time.monotonic() - began)))

    async def _work(self, connection: Connection, until: float, delay: float) -> None:
        """Ask again and again, and once at least: this process may have been held up for longer than it was to last."""
        await asyncio.sleep(delay)
        while True:
            began = time.monotonic()
            await self._guarded("working", self._ask(connection))
            self.outcome.working_times.append(time.monotonic() - began)
            if time.monotonic() >= until:
                return
            await asyncio.sleep(WORKING_PAUSE_SECONDS)

    async def _ls_remote(self, when: str, is_over: Callable[[], bool]) -> None:
        """Run git's own ls-remote, again and again."""
        times = self.outcome.ls_remote_times.setdefault(when, [])
        while True:
            began = time.monotonic()
            done = await asyncio.to_thread(self._git, "ls-remote", self._url, check=False)
            if done.code != 0 or "refs/heads/main" not in done.stdout:
                self.outcome.errors.append(f"ls-remote: {done.code} {done.stderr}")
            times.append(time.monotonic() - began)
            if is_over():
                return
            await asyncio.sleep(LS_REMOTE_PAUSE_SECONDS)

    async def meet(self, mix: Mix) -> Outcome:
        """Let all of them come, stay and go."""
        began = time.monotonic()
        await self._ls_remote("alone", lambda: len(self.outcome.ls_remote_times["alone"]) >= 5)
        self.outcome.memory["nobody"] = self.memory()
        idle = await self._make("idle", mix.idle, self._begin_asking)
        slow = await self._make("slow", mix.slow, self._begin_cloning)
        working = await self._make("working", mix.working, self._begin_asking)
        until = time.monotonic() + mix.seconds
        taken: dict[Connection, int] = {}
        delays = [WORKING_PAUSE_SECONDS * number / max(1, len(working)) for number in range(len(working))]
        await asyncio.gather(
            self._read_slowly(slow, taken, until),
            *(self._work(connection, until, delay) for connection, delay in zip(working, delays, strict=True)),
            self._ls_remote("in the crowd", lambda: time.monotonic() >= until),
        )
        self.outcome.memory["everybody"] = self.memory()
        self.outcome.kernel = next(
            line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:")
        )
        await self._finish(idle, slow, taken)
        for connection in (*idle, *slow, *working):
            connection.close()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    async def _finish(self, idle: list[Connection], slow: list[Connection], taken: dict[Connection, int]) -> None:
        """Are the idle ones still there, and is what the slow ones get whole?"""

        async def ask(connection: Connection) -> None:
            async with self._limit:
                await self._guarded("idle", self._ask(connection))

        async def read_all(connection: Connection) -> None:
            count = await connection.read_chunked(taken.get(connection, 0))
            if count < BODY_BYTES:
                raise Broken(f"{count} bytes are too few")
            connection.close()

        await asyncio.gather(*(ask(connection) for connection in idle))
        for connection in slow[:READ_TO_THE_END]:
            await self._guarded("slow", read_all(connection))


def measure(mix: Mix, scratch: Path) -> Outcome:
    """Start a server and let them meet."""
    root = scratch / "root"
    git = Git(scratch / "home", scratch)
    git("init", "-q", "-b", "main", "work")
    (scratch / "work" / "noise").write_bytes(os.urandom(BODY_BYTES))
    git("add", ".", cwd="work")
    git("commit", "-qm", "noise", cwd="work")
    git("clone", "-q", "--bare", "work", root / "a.git")
    (root / "a.git" / "git-daemon-export-ok").touch()
    env = server_environment(scratch / "server-home", {})
    with descriptors_for(mix.total), start_gunicorn(root, env, scratch) as running:
        git("clone", "-q", f"{running.url}/a.git", "warm")

        async def meet() -> Outcome:
            return await Crowd(running, "a.git", git.rev("work", "HEAD"), git).meet(mix)

        outcome = asyncio.run(meet())
    assert running.log is not None
    complaints = [line for line in running.log.read_text().splitlines() if " ERROR " in line or "Traceback" in line]
    outcome.errors += [f"log: {line}" for line in complaints]
    return outcome


def _milliseconds(times: list[float]) -> str:
    if not times:
        return "none"
    ordered = sorted(times)
    worst = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"median {statistics.median(ordered) * 1000:.0f} ms, 99 % {worst * 1000:.0f} ms (n={len(ordered)})"


def report(mix: Mix, outcome: Outcome) -> str:
    """The results as Markdown."""
    rows = [
        ("connections", f"{mix.total:,}: {mix.idle:,} idle, {mix.slow:,} slow readers, {mix.working:,} working"),
        ("errors", f"{len(outcome.errors)}" + (f": {outcome.errors[0]}" if outcome.errors else "")),
        *(
            (f"private memory per connection, {kind}", f"{size / 1024:.1f} KiB")
            for kind, size in outcome.per_connection.items()
        ),
        *(
            (f"private memory of both workers, {when}", f"{size / (1 << 20):.0f} MiB")
            for when, size in outcome.memory.items()
            if when in ("nobody", "everybody")
        ),
        ("kernel (pages of 4 KiB in `mem`)", outcome.kernel),
        ("answers to working and idle connections", f"{outcome.answers:,}"),
        ("working: one answer", _milliseconds(outcome.working_times)),
        *(
            (f"git ls-remote, {when} (with git's own start)", _milliseconds(times))
            for when, times in outcome.ls_remote_times.items()
        ),
        ("the whole run", f"{outcome.seconds:.0f} s"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    command = (
        f"python -m bench.connections --idle {mix.idle} --slow {mix.slow} --working {mix.working} "
        f"--seconds {mix.seconds:g} --write"
    )
    head = f"`{command}`: two workers, clients on the same machine. {machine()}."
    return f"# Connections\n\n{head}\n\n| | |\n|---|---|\n{table}\n"


@click.command()
@click.option("--idle", default=6000, show_default=True)
@click.option("--slow", default=3000, show_default=True)
@click.option("--working", default=1000, show_default=True)
@click.option("--seconds", default=30.0, show_default=True, help="how long all of them are there")
@click.option("--write", is_flag=True, help=f"write {RESULTS.name}")
def main(idle: int, slow: int, working: int, seconds: float, write: bool) -> None:
    """Measure, and print what came of it."""
    mix = Mix(idle, slow, working, seconds)
    with tempfile.TemporaryDirectory(prefix="govc-connections-") as scratch:
        outcome = measure(mix, Path(scratch))
    text = report(mix, outcome)
    click.echo(text)
    for error in sorted(set(outcome.errors))[:20]:
        click.echo(error, err=True)
    if write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
