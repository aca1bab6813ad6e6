"""Row 17: a repository of a million objects, right after a restart; the page cache is warm, for both."""

from __future__ import annotations

import contextlib
import time

from bench.lines import DIRECT, GIT, AtMost
from bench.servers import start_govc
from bench.wire import ask, connect, drain, fetch, info_refs
from bench.world import Bench

BEHIND = 100


def row_17(bench: Bench) -> None:
    """The first listing of refs, and the first byte of the pack of the first fetch."""
    repository = bench.million()
    path = bench.root / repository.name
    commits = bench.git("rev-list", "--first-parent", "-n", str(BEHIND + 1), "HEAD", cwd=path).stdout.split()
    request = fetch(repository.name, [commits[0]], [commits[-1]])
    listing = bench.line("first answer after a restart: refs", repository.title, "ms", AtMost(50.0))
    first = bench.line("first byte of the pack of a fetch, 100 commits behind", repository.title, "ms", AtMost(1000.0))
    for _ in range(bench.plan.rounds):
        with start_govc(bench.root, bench.scratch) as server, contextlib.closing(connect(server)) as connection:
            began = time.perf_counter()
            ask(connection, info_refs(repository.name))
            listing.add(DIRECT, (time.perf_counter() - began) * 1e3)
        with start_govc(bench.root, bench.scratch) as server:
            first.add(DIRECT, drain(server, request).first_pack_seconds * 1e3)
        git = bench.server(GIT)
        with contextlib.closing(connect(git)) as connection:
            began = time.perf_counter()
            ask(connection, info_refs(repository.name))
            listing.add(GIT, (time.perf_counter() - began) * 1e3)
        first.add(GIT, drain(git, request).first_pack_seconds * 1e3)
    bench.say("row 17")
