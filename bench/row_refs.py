"""Rows 1 to 3: listings of refs, and the first one after a push."""

from __future__ import annotations

import contextlib
import http.client
import statistics
from collections.abc import Callable

from bench import generate
from bench.lines import OURS, AtMost, Line, Times
from bench.measure import measure_rate, process_seconds, settle, use
from bench.servers import WORKERS, Server
from bench.wire import Request, ask, connect, info_refs, ls_refs, push, push_body, push_once
from bench.world import Bench
from tests.simulation.pushes import make_commit, make_pack

CHANGED_REF = "refs/changes/07/00007/2"
CHANGES = 10
CONNECTIONS_MAX = 64
ASKED_EACH = 2 * WORKERS
ANY = "any worker, behind nginx"


def rate_lines(bench: Bench, what: str, on: str, request: Request, cpu: float, rate: float | None) -> None:
    """Requests per second, and the CPU time of one, under load."""
    lines = [
        bench.line(what, on, "requests/s", Times(rate) if rate else None, more_is_better=True),
        bench.line(what, on, "CPU µs/request", Times(cpu)),
    ]
    bench.rounds(lines, lambda server: measure_rate(server, request, bench.plan.rate_seconds, bench.scratch))


def row_1(bench: Bench) -> None:
    """Small repositories: the generated one, and the first of the others."""
    for repository in bench.all()[:2]:
        rate_lines(bench, "info/refs", repository.title, info_refs(repository.name), 30, 10)
        rate_lines(bench, "ls-refs", repository.title, ls_refs(repository.name), 30, 10)


def row_2(bench: Bench) -> None:
    """Many refs: all, one folder, and one."""
    many = bench.refs(bench.plan.refs)
    rate_lines(bench, "info/refs, whole", many.title, info_refs(many.name), 15, None)
    rate_lines(bench, "ls-refs, whole", many.title, ls_refs(many.name), 15, None)
    rate_lines(bench, "ls-refs, prefix of many", many.title, ls_refs(many.name, generate.REF_PREFIX), 30, None)
    rate_lines(bench, "ls-refs, prefix of one", many.title, ls_refs(many.name, generate.MAIN), 30, None)


def _push_bodies(first: str) -> list[bytes]:
    bodies, parent = [], first
    for number in range(CHANGES + 1):
        commit = make_commit(parent, f"n{number}", b"%d\n" % number)
        bodies.append(push_body(CHANGED_REF, parent, commit.oid, make_pack(commit.objects)))
        parent = commit.oid
    return bodies


def _find_worker(server: Server, connection: http.client.HTTPConnection, request: Request) -> int:
    """The process that answers on a connection: the one whose clock goes on."""
    pids = [process.pid for process in server.processes()]
    before = {pid: process_seconds(pid) for pid in pids}
    for _ in range(10):
        ask(connection, request)
    return max(pids, key=lambda pid: process_seconds(pid) - before[pid])


def _two_workers(
    stack: contextlib.ExitStack, server: Server, request: Request
) -> list[tuple[int, http.client.HTTPConnection]]:
    found: dict[int, http.client.HTTPConnection] = {}
    for _ in range(CONNECTIONS_MAX):
        connection = stack.enter_context(contextlib.closing(connect(server)))
        found.setdefault(_find_worker(server, connection, request), connection)
        if len(found) == WORKERS:
            break
    return list(found.items())


def _measure_workers(server: Server, name: str, bodies: list[bytes]) -> dict[str, tuple[float, float]]:
    """Median CPU ms of an answer, unchanged and changed, by who answers."""
    request = ls_refs(name, CHANGED_REF)
    out: dict[str, tuple[float, float]] = {}
    with contextlib.ExitStack() as stack:
        lanes = _two_workers(stack, server, request)
        (pusher_pid, pusher), others = lanes[0], lanes[1:]
        asked = {"the worker that pushed": (pusher_pid, pusher)}
        if others:
            asked["another worker"] = others[0]
        push_once(pusher, push(name, bodies[0]))
        settle(server)
        times: dict[str, tuple[list[float], list[float]]] = {who: ([], []) for who in asked}
        for body in bodies[1:]:
            push_once(pusher, push(name, body))
            for round_number in (1, 0):
                for who, (pid, connection) in asked.items():
                    before = process_seconds(pid)
                    answer = ask(connection, request)
                    times[who][round_number].append((process_seconds(pid) - before) * 1e3)
                    assert CHANGED_REF.encode() in answer
                settle(server)
        for who, (unchanged, changed) in times.items():
            out[who] = statistics.median(unchanged), statistics.median(changed)
    return out


def row_3(bench: Bench) -> None:
    """One ref of many packed ones is pushed; what one prefix costs right after, beside the same server unchanged."""
    servers = [bench.server(name) for name in OURS]
    changed: dict[tuple[int, str], Line] = {}
    for count in bench.plan.many_refs:
        many = bench.refs(count)
        copies = {server.name: bench.copy(many.name) for server in servers}
        first = bench.git.rev(bench.root / many.name, CHANGED_REF)
        goal = AtMost(2.0)
        for who in ("the worker that pushed", "another worker"):
            what = f"ls-refs with one prefix after a push, {who}"
            changed[count, who] = bench.line(what, many.title, "CPU ms")
            bench.line(what, many.title, "CPU ms more than unchanged", goal)
        direct = bench.lines[-4:]

        def work(
            server: Server, copies: dict[str, str] = copies, first: str = first, direct: list[Line] = direct
        ) -> list[float]:
            name = copies[server.name]
            bodies = _push_bodies(bench.git("rev-parse", CHANGED_REF, cwd=bench.root / name).stdout.strip() or first)
            found = _measure_workers(server, name, bodies)
            values = []
            for line in direct[::2]:
                who = line.what.rpartition(", ")[2]
                if who not in found:
                    raise AssertionError("one worker took all connections")
                unchanged, after = found[who]
                values += [after, after - unchanged]
            return values

        bench.rounds(direct, work, servers=[bench.server(OURS[0])])
        what = f"ls-refs with one prefix after a push, {ANY}"
        changed[count, ANY] = bench.line(what, many.title, "CPU ms")
        more = bench.line(what, many.title, "CPU ms more than unchanged", goal)
        work_behind = _behind(bench, copies[OURS[1]])
        bench.rounds([changed[count, ANY], more], work_behind, servers=[bench.server(OURS[1])])
    least, *_, most = bench.plan.many_refs
    for who, name in (("the worker that pushed", OURS[0]), ("another worker", OURS[0]), (ANY, OURS[1])):
        line = bench.line(f"the same, {most:,} refs beside {least:,}, {who}", "generated", "times the CPU", AtMost(2.0))
        pair = changed[least, who], changed[most, who]
        for small, large in zip(*(one.samples.get(name, []) for one in pair), strict=False):
            line.add(name, large / small)


def _behind(bench: Bench, name: str) -> Callable[[Server], list[float]]:
    """Through a proxy nobody can choose a worker: all of them are asked."""

    def work(server: Server) -> list[float]:
        request = ls_refs(name, CHANGED_REF)
        bodies = _push_bodies(bench.git.rev(bench.root / name, CHANGED_REF))
        changed, more = [], []
        with contextlib.ExitStack() as stack:
            lanes = [stack.enter_context(contextlib.closing(connect(server))) for _ in range(ASKED_EACH)]

            def ask_all() -> None:
                for lane in lanes:
                    ask(lane, request)

            ask_all()
            for body in bodies[:5]:
                push_once(lanes[0], push(name, body))
                settle(server)
                after = use(server, ask_all).cpu
                unchanged = use(server, ask_all).cpu
                changed.append(after / ASKED_EACH * 1e3)
                more.append((after - unchanged) / ASKED_EACH * 1e3)
        return [statistics.median(changed), statistics.median(more)]

    return work
