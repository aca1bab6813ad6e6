"""One row of the drop-in table broken on purpose: what `mutations` tries, as the lists of both draws hold it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """How a row is broken: `old` becomes `new` in `file`. `test` has to notice; `select` is pytest's -k."""

    row: str
    what: str
    file: str
    old: str
    new: str
    test: str
    select: str = ""
