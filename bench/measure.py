"""The instruments: clients that are timed, the server's CPU seconds and private memory, latencies in steady pacing.

CPU seconds are those of a server's control group (cgroup v2). Where we may make none they come from /proc, utime +
stime + cutime + cstime over the tree, exact to a hundredth of a second per living process; so short things are
done several times per sample. Private memory is USS, what would be free if the process ended, read every 50 ms.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.servers import Server
from bench.wire import Refused, Request, ask, at_once, connect

SETTLE_SECONDS = 0.1
SETTLE_SECONDS_MAX = 10.0
QUIET_SECONDS = 0.05
QUIET_SHARE = 0.04
SAMPLE_SECONDS = 0.05
WRK_CONNECTIONS = 8
OWN_CONNECTIONS = 4
SLOW_SECONDS = 0.08
CACHED_SECONDS = 1
MIB = 1 << 20


class Used(NamedTuple):
    """What one thing cost: seconds by the clock, and CPU seconds of the server."""

    wall: float
    cpu: float


def time_of(work: Callable[[], object]) -> float:
    """Seconds by the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def use(server: Server, work: Callable[[], object], *, settle_seconds: float = SETTLE_SECONDS) -> Used:
    """Do it, and say what it cost; waits, so that what goes on after the answer is counted too."""
    before = server.cpu_seconds()
    wall = time_of(work)
    time.sleep(settle_seconds)
    settle(server)
    return Used(wall, server.cpu_seconds() - before)


def settle(server: Server) -> None:
    """Return when the server has nothing to do any more, or goes on for long."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    before = server.cpu_seconds()
    while time.monotonic() < deadline:
        time.sleep(QUIET_SECONDS)
        now = server.cpu_seconds()
        if now - before < QUIET_SHARE * QUIET_SECONDS:
            return
        before = now


def process_seconds(pid: int) -> float:
    """CPU seconds of one process so far, to the nanosecond, without its children."""
    return time.clock_gettime((~pid << 3) | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel


class Rate(NamedTuple):
    """What a loaded server does: requests per second, CPU microseconds of the server for one."""

    per_second: float
    cpu_us: float


def measure_rate(
    server: Server, request: Request, seconds: int, scratch: Path, *, connections: int = WRK_CONNECTIONS
) -> Rate:
    """Load a server with one request, by wrk, or by a fixed number of requests when they take long."""
    connection = connect(server)
    with contextlib.closing(connection):
        took = time_of(lambda: ask(connection, request))
        if took < CACHED_SECONDS:  # the first request may have filled a cache
            took = time_of(lambda: ask(connection, request))
    counted: list[int] = []
    wrk = shutil.which("wrk")
    if wrk is None or took > SLOW_SECONDS:
        used = use(server, lambda: counted.append(_load_self(server, request, seconds)))
    else:
        used = use(server, lambda: counted.append(_load_wrk(wrk, server, request, seconds, scratch, connections)))
    return Rate(counted[0] / used.wall, used.cpu / counted[0] * 1e6)


def _load_self(server: Server, request: Request, seconds: int) -> int:
    """Four connections ask for `seconds`, each at least once; the number of answers."""
    deadline = time.monotonic() + seconds

    def loop(_: int) -> int:
        done = 0
        with contextlib.closing(connect(server)) as connection:
            while not done or time.monotonic() < deadline:
                ask(connection, request)
                done += 1
        return done

    return sum(at_once(loop, range(OWN_CONNECTIONS)))


def _lua(text: str) -> str:
    return '"' + "".join(f"\\{byte:03}" for byte in text.encode()) + '"'


def _load_wrk(wrk: str, server: Server, request: Request, seconds: int, scratch: Path, connections: int) -> int:
    """One thread of wrk; the number of answers."""
    script = scratch / "wrk.lua"
    lines = [f'wrk.method = "{request.method}"']
    lines += [f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in request.headers.items()]
    if request.body:
        lines.append(f"wrk.body = {_lua(request.body.decode())}")
    script.write_text("\n".join(lines) + "\n")
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
    output = subprocess.run([*command, server.url + request.path], capture_output=True, text=True, check=True).stdout
    if complaint := re.search(r"Non-2xx.*|Socket errors.*", output):
        raise Refused(complaint[0])
    found = re.search(r"(\d+) requests in", output)
    if found is None or found[1] == "0":
        raise Refused("no answer")
    return int(found[1])


class Memory:
    """Peak private memory of a server while the `with` block runs: the sum, and the largest process."""

    def __init__(self, server: Server, *, every_seconds: float = SAMPLE_SECONDS) -> None:
        self._server = server
        self._every_seconds = every_seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sum_mib = 0.0
        self.largest_mib = 0.0

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        has_ended = False
        while not has_ended:
            has_ended = self._end.wait(self._every_seconds)  # what is over sooner than a sample is seen at its end
            sizes = [0.0]
            for process in self._server.processes():
                with contextlib.suppress(psutil.Error, OSError):
                    sizes.append(process.memory_full_info().uss / MIB)
            self.sum_mib = max(self.sum_mib, sum(sizes))
            self.largest_mib = max(self.largest_mib, max(sizes))


class Pacer:
    """Asks one request over several keep-alive connections, each on a fixed timetable; keeps the latencies.

    A latency counts from the moment the timetable names, so an answer that comes late also delays, and
    lengthens, the ones after it: nobody waits politely until a server that stands still is ready.
    """

    CONNECTIONS = 4
    PERIOD_SECONDS = 0.08

    def __init__(self, server: Server, request: Request) -> None:
        self._server = server
        self._request = request
        self._end = threading.Event()
        self._failures: list[str] = []
        self.milliseconds: list[float] = []

    def _run(self, lane: int, ready: threading.Barrier) -> None:
        try:
            with contextlib.closing(connect(self._server)) as connection:
                ask(connection, self._request)
                ready.wait()
                due = time.perf_counter() + lane * self.PERIOD_SECONDS / self.CONNECTIONS
                while not self._end.wait(max(0.0, due - time.perf_counter())):
                    ask(connection, self._request)
                    self.milliseconds.append((time.perf_counter() - due) * 1e3)
                    due += self.PERIOD_SECONDS
        except (OSError, http.client.HTTPException, Refused) as error:
            ready.abort()
            self._failures.append(str(error) or type(error).__name__)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Ask while the block runs; Refused at the end if a request failed."""
        ready = threading.Barrier(self.CONNECTIONS)
        lanes = [threading.Thread(target=self._run, args=(n, ready)) for n in range(self.CONNECTIONS)]
        for lane in lanes:
            lane.start()
        try:
            yield
        finally:
            self._end.set()
            for lane in lanes:
                lane.join()
        if self._failures:
            raise Refused(f"ls-refs failed: {self._failures[0]}")


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of them lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
