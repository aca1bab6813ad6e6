"""Rows 7 and 8: incremental fetches, shallow and partial clones, lazy fetches; each answer is asked for once, mostly.

Rounds ask for neighbouring commits, so that no answer comes from the cache of bodies, but for the lines that say
"the same again": jobs of one commit ask for the same, and all but the first are sent what was kept. The bytes are
compared with the smaller of git's answers to the same request, with and without a bitmap.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.lines import GIT, AtMost, Times
from bench.measure import use
from bench.servers import Server
from bench.wire import Request, at_once, drain, fetch
from bench.world import Bench, Repository

DISTANCES = (1, 10, 100, 1000)
BLOBS_WANTED = 500
BATCH = 8
WARM = 4
"""Requests to each server before any is measured, each twice and all at once: so many don't all go to one worker, and
both have opened the repository. (One by one they mostly went to both; where they didn't, a batch of fetches had the
opening in it.)"""


def _first_parents(bench: Bench, name: str, count: int) -> list[str]:
    done = bench.git("rev-list", "--first-parent", "-n", str(count), "HEAD", cwd=bench.root / name)
    return done.stdout.split()


def _measure(bench: Bench, what: str, repository: Repository, requests: Sequence[Request], plain: str) -> None:
    """A line of CPU time; with `plain`, the same repository without a bitmap, a line of bytes, too."""
    cpu = bench.line(what, repository.title, "CPU ms", Times(10))
    lines = [cpu]
    if plain:
        lines.append(bench.line(what, repository.title, "bytes"))
    left: dict[str, list[Request]] = {}
    warm, requests = requests[:WARM], requests[WARM:]
    for server in bench.servers():
        at_once(partial(drain, server), [*warm, *warm])

    def work(server: Server) -> Sequence[float]:
        queue = left.setdefault(server.name, list(requests))
        batch, left[server.name] = queue[:BATCH], queue[BATCH:]
        sizes: list[int] = []
        used = use(server, lambda: sizes.extend(drain(server, request).size for request in batch))
        return [used.cpu / len(batch) * 1e3, sum(sizes) / len(batch)][: len(lines)]

    bench.rounds(lines, work, rounds=len(requests) // BATCH)
    if plain:
        _compare_sizes(bench, what, repository, requests[:BATCH], plain)


def _compare_sizes(bench: Bench, what: str, repository: Repository, requests: Sequence[Request], plain: str) -> None:
    """The largest ratio of some requests: the goal says never."""
    line = bench.line(
        what, repository.title, f"bytes, times git's smaller answer, most of {len(requests)}", AtMost(1.25)
    )
    git = bench.server(GIT)
    smaller = []
    for request in requests:
        other = Request(f"/{plain}/git-upload-pack", request.body, request.headers)
        smaller.append(min(drain(git, one).size for one in (request, other)))

    def work(server: Server) -> Sequence[float]:
        sizes = [drain(server, request).size for request in requests]
        return [max(size / least for size, least in zip(sizes, smaller, strict=True))]

    bench.rounds([line], work, servers=bench.servers()[:2], rounds=1)


def row_7(bench: Bench) -> None:
    """So many commits behind."""
    plain = {repository.title: repository.name for repository in bench.real(bitmap=False)}
    plain[bench.history().title] = bench.history(bitmap=False).name
    for repository in bench.all():
        commits = _first_parents(bench, repository.name, max(DISTANCES) + WARM + BATCH * bench.plan.rounds + 1)
        for distance in DISTANCES:
            starts = range(min(WARM + BATCH * bench.plan.rounds, len(commits) - distance))
            requests = [fetch(repository.name, [commits[n]], [commits[n + distance]]) for n in starts]
            if len(requests) >= WARM + BATCH:
                title = f"fetch, {distance:,} commit{'s' if distance > 1 else ''} behind"
                _measure(bench, title, repository, requests, plain[repository.title])


def row_8(bench: Bench) -> None:
    """Clones that leave something out, and what they fetch later."""
    for repository in bench.all():
        name = repository.name
        commits = _first_parents(bench, name, WARM + BATCH * bench.plan.rounds)
        for what, argument in (("clone --depth 1", "deepen 1"), ("clone --filter=blob:none", "filter blob:none")):
            requests = [fetch(name, [oid], (), argument) for oid in commits]
            _measure(bench, what, repository, requests, "")
            _measure(bench, f"{what}, the same again", repository, [requests[0]] * len(requests), "")
        lazy = []
        for oid in commits:
            tree = bench.git("ls-tree", "-r", oid, cwd=bench.root / name).stdout.splitlines()
            blobs = list(dict.fromkeys(line.split()[2] for line in tree if line.split()[1] == "blob"))
            lazy.append(fetch(name, blobs[len(lazy) : BLOBS_WANTED + len(lazy)], (), "filter blob:none"))
        count = min(BLOBS_WANTED, len(blobs) - len(lazy) + 1)
        _measure(bench, f"lazy fetch of {count} blobs", repository, lazy, "")
