"""Rows 12 and 13: reads through the library, beside libgit2."""

from __future__ import annotations

from bench.wire import Refused
from bench.world import Bench


def row_12(bench: Bench) -> None:
    """Cached objects and history queries."""
    raise Refused("the library's rows are not there yet")


def row_13(bench: Bench) -> None:
    """First reads."""
    raise Refused("the library's rows are not there yet")
