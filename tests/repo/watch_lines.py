"""What a line of the table in docs/architecture.md ("A snapshot") is in a test, and what one looks at in a snapshot.

A line is a generator: between two `yield (look, expected)` it changes something on disk. `test_watching` runs each in
several worlds, `test_proof` by the real clock.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from govc.repo.snapshot import Snapshot
from tests.repo.worlds import Site

Look = Callable[[Snapshot], Any]
Steps = Iterator[tuple[Look, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    run: Callable[[Site], Steps]
    gitdir: str
    settles: bool


LINES: dict[str, Line] = {}


def line(
    name: str, *, gitdir: str = "r.git", settles: bool = True
) -> Callable[[Callable[[Site], Steps]], Callable[[Site], Steps]]:
    """Register a line. `settles` False: it is read every time, on purpose."""

    def register(run: Callable[[Site], Steps]) -> Callable[[Site], Steps]:
        assert name not in LINES
        LINES[name] = Line(run=run, gitdir=gitdir, settles=settles)
        return run

    return register


def head(snapshot: Snapshot) -> bytes | None:
    return snapshot.table.head.symref_target or snapshot.table.head.oid


def refs(snapshot: Snapshot) -> dict[str, bytes]:
    return {ref.name.decode(): ref.oid for ref in snapshot.table.iter_refs()}


def ref(name: str) -> Look:
    return lambda snapshot: snapshot.table.resolve(name.encode())


def target(name: str) -> Look:
    return lambda snapshot: getattr(snapshot.table.get(name.encode()), "symref_target", None)


def value(snapshot: Snapshot) -> str | None:
    return snapshot.config.get("probe.value")


def pack_names(snapshot: Snapshot) -> set[str]:
    return {os.path.basename(pack.path) for pack in snapshot.store.packs}


def packs_on_disk(repo: Path) -> set[str]:
    return {path.name for path in (repo / "objects/pack").glob("*.pack")}


def tips(snapshot: Snapshot) -> set[bytes]:
    return set(snapshot.alternate_tips)


def has(*oids: bytes) -> Look:
    return lambda snapshot: [snapshot.store.find(oid) >= 0 for oid in oids]


def line_of(oid: bytes) -> str:
    return f"{oid.hex()}\n"


def set_value(number: int) -> str:
    return f"[probe]\n\tvalue = {number}\n"
