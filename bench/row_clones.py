"""Rows 4 to 6: full clones, again, for the first time, and many at once. Clients read and throw away.

The peer's repositories have bitmaps, ours a filled index; where a clone is "the first", no body of it is in any cache.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.lines import BEHIND, DIRECT, AtLeast, AtMost, Times
from bench.measure import Memory, settle, use
from bench.servers import Server, start_govc, start_govc_behind_nginx
from bench.wire import Request, ask_once, connect, drain, drain_at_once, fetch, push, push_body, push_once
from bench.world import Bench, Repository
from tests.simulation.pushes import make_commit, make_pack

AGAIN = 4


def clone_request(bench: Bench, name: str) -> Request:
    """All that branches and tags reach."""
    return fetch(name, sorted(set(bench.git.refs(bench.root / name).values())))


def _subjects(bench: Bench) -> list[Repository]:
    return [*bench.all(), bench.blobs(bench.plan.gigabyte_megabytes // 2)]


def row_4(bench: Bench) -> None:
    """The same clone again: per gigabyte, and how fast it goes to one client."""
    for repository in _subjects(bench):
        request = clone_request(bench, repository.name)
        lines = [
            bench.line("full clone, again", repository.title, "CPU s/GB", Times(60)),
            bench.line(
                "full clone, again", repository.title, "MB/s to one client", AtLeast(1000.0), more_is_better=True
            ),
        ]

        def work(server: Server, request: Request = request) -> Sequence[float]:
            times = AGAIN
            if server.name in (DIRECT, BEHIND):
                drain(server, request)
                size = drain(server, request).size
                times = max(AGAIN, min(100, int(2e8 / size)))  # enough bytes for a clock
            sizes: list[int] = []
            used = use(server, lambda: sizes.extend(drain(server, request).size for _ in range(times)))
            return used.cpu / (sum(sizes) / 1e9), sum(sizes) / 1e6 / used.wall

        bench.rounds(lines, work)


def row_5(bench: Bench) -> None:
    """After a restart (with what is kept over one, and with an empty cache), and after a push that adds a commit."""
    for repository in bench.all():
        request = clone_request(bench, repository.name)
        line = bench.line("full clone, first after a restart, its body kept", repository.title, "CPU s", Times(8))
        caches: dict[str, Path] = {}
        bench.rounds([line], lambda server, request=request, kept=caches: [_first_kept(bench, server, request, kept)])  # type: ignore[misc]
        line = bench.line(
            "full clone, first after a restart, the cache emptied too", repository.title, "CPU s", Times(8)
        )
        bench.rounds([line], lambda server, request=request: [_first(bench, server, request)])  # type: ignore[misc]
    for repository in bench.all():
        line = bench.line("full clone, first after a push", repository.title, "CPU s", Times(8))
        bench.rounds([line], _after_push(bench, repository))


STARTERS = {DIRECT: start_govc, BEHIND: start_govc_behind_nginx}


def _first(bench: Bench, server: Server, request: Request, cache: Path | None = None) -> float:
    """CPU s of the first answer of a server that was just started; the peer has no other state than the disk's."""
    if server.name not in STARTERS:
        return use(server, lambda: drain(server, request)).cpu
    with STARTERS[server.name](bench.root, bench.scratch, cache=cache) as restarted:
        settle(restarted)  # it answers while its other worker still starts, which is no part of an answer
        return use(restarted, lambda: drain(restarted, request)).cpu


def _first_kept(bench: Bench, server: Server, request: Request, caches: dict[str, Path]) -> float:
    """The same, of a server that had sent that body before it was stopped, and starts over the cache that it left."""
    if server.name in STARTERS and server.name not in caches:
        cache = caches[server.name] = bench.place()
        with STARTERS[server.name](bench.root, bench.scratch, cache=cache) as before:
            for _ in range(AGAIN):  # what is large is kept when it is asked for again, in either worker
                drain(before, request)
    return _first(bench, server, request, caches.get(server.name))


def _after_push(bench: Bench, repository: Repository) -> Callable[[Server], list[float]]:
    def work(server: Server) -> list[float]:
        with bench.fresh(repository.name) as copy:
            path = bench.root / copy
            ref = bench.git("symbolic-ref", "HEAD", cwd=path).stdout.strip()
            drain(server, clone_request(bench, copy))
            tip = bench.git.rev(path, ref)
            commit = make_commit(tip, "one more", b"one more\n")
            with contextlib.closing(connect(server)) as connection:
                push_once(connection, push(copy, push_body(ref, tip, commit.oid, make_pack(commit.objects))))
            use(server, lambda: None, settle_seconds=0.5)
            request = clone_request(bench, copy)
            return [use(server, lambda: drain(server, request)).cpu]

    return work


def row_6(bench: Bench) -> None:
    """Many clients ask at once for what nobody asked for before."""
    clients = bench.plan.storm_clients
    for repository in bench.all():
        what = f"{clients} clones at once, cold"
        lines = [
            bench.line(what, repository.title, "CPU s", Times(50)),
            bench.line(what, repository.title, "peak private MiB, all processes", AtMost(150.0)),
            bench.line(what, repository.title, "s until the last has all"),
        ]

        def work(server: Server, repository: Repository = repository) -> Sequence[float]:
            with bench.fresh(repository.name) as copy:
                request = clone_request(bench, copy)
                ask_once(server, Request(f"/{copy}/info/refs?service=git-upload-pack"))
                with Memory(server) as memory:
                    used = use(server, lambda: drain_at_once(server, request, clients))
                return used.cpu, memory.sum_mib, used.wall

        bench.rounds(lines, work)
        _count_productions(bench, repository)
        one = bench.line("one clone, cold", repository.title, "CPU s")

        def single(server: Server, repository: Repository = repository) -> Sequence[float]:
            with bench.fresh(repository.name) as copy:
                request = clone_request(bench, copy)
                return [use(server, lambda: drain(server, request)).cpu]

        bench.rounds([one], single)


def _count_productions(bench: Bench, repository: Repository) -> None:
    """How often the body was made for all of them, as the server itself counts it."""
    clients = bench.plan.storm_clients
    line = bench.line(f"productions for {clients} clones at once", repository.title, "productions", AtMost(1))

    def work(server: Server) -> Sequence[float]:
        with bench.fresh(repository.name) as copy:
            before = _productions(server)
            drain_at_once(server, clone_request(bench, copy), clients)
            return [_productions(server) - before]

    bench.rounds([line], work, servers=[bench.server(DIRECT)], rounds=1)


def _productions(server: Server) -> float:
    text = ask_once(server, Request("/-/metrics")).decode()
    found = re.findall(r'^govc_body_cache_total\{result="(?:miss|direct)"\} (\S+)', text, re.MULTILINE)
    return sum(map(float, found))
