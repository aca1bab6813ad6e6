"""Rows 12 and 13: reads through the library, beside libgit2 as it comes, and beside a tuned one where that differs.

bench/reads.py has the cases and what each side yields; the peer's column is libgit2's here.
"""

from __future__ import annotations

from collections.abc import Callable

from bench import reads
from bench.lines import DIRECT, GIT, Line
from bench.world import Bench


def row_12(bench: Bench) -> None:
    """Cached objects and history queries."""
    _fill(bench, 12)


def row_13(bench: Bench) -> None:
    """First reads."""
    _fill(bench, 13)


def _fill(bench: Bench, row: int) -> None:
    repositories = bench.all()
    for repository in (*repositories, bench.refs(bench.plan.refs)):
        site = reads.Site(bench.root / repository.name)
        makers: tuple[Callable[[reads.Site], list[reads.Case]], ...] = reads.MAKERS
        if repository not in repositories:
            makers = (reads.ref_cases,)
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
