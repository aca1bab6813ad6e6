"""Rows 12 and 13: reads through the library, beside libgit2 as it comes, and beside a tuned one where that differs.

bench/reads.py has the cases and what each side yields; the peer's column is libgit2's here. The repositories are as a
server's helper leaves them, with a filled index; one line asks a copy without it for histories of paths.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

from bench import reads
from bench.lines import DIRECT, GIT, Line
from bench.world import Bench, Repository


def row_12(bench: Bench) -> None:
    """Cached objects and history queries."""
    _fill(bench, 12)


def row_13(bench: Bench) -> None:
    """First reads."""
    _fill(bench, 13)


def _fill(bench: Bench, row: int) -> None:
    repositories = bench.all()
    for repository in (*repositories, bench.refs(bench.plan.refs)):
        if row == 12 and repository in repositories:
            with bench.fresh(repository.name) as copy:
                shutil.rmtree(bench.root / copy / "govc")
                site = reads.Site(bench.root / repository.name, plain=bench.root / copy)
                _measure(bench, row, site, repository, reads.MAKERS)
            continue
        site = reads.Site(bench.root / repository.name)
        makers: tuple[Callable[[reads.Site], list[reads.Case]], ...] = reads.MAKERS
        if repository not in repositories:
            makers = (reads.ref_cases,)
        _measure(bench, row, site, repository, makers)


def _measure(
    bench: Bench,
    row: int,
    site: reads.Site,
    repository: Repository,
    makers: Sequence[Callable[[reads.Site], list[reads.Case]]],
) -> None:
    for maker in makers:
        for case in maker(site):
            if case.row == row:
                rounds = bench.plan.rounds if bench.has_time() else 1
                _add(bench, reads.measure(case, repository.title, rounds, bench.say))


def _add(bench: Bench, measured: Line) -> None:
    """One line for each set-up of libgit2 that was asked."""
    for peer in (reads.LIBGIT2, reads.TUNED):
        if peer in measured.samples or peer in measured.failures:
            line = bench.line(f"{measured.what}, {peer}", measured.on, measured.unit, measured.goal)
            for name, column in ((DIRECT, DIRECT), (peer, GIT)):
                for value in measured.samples.get(name, []):
                    line.add(column, value)
                if name in measured.failures:
                    line.failures[column] = measured.failures[name]
