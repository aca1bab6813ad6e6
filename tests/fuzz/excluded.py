"""Branches that no input decides, and that the count of `coverage_of` therefore leaves out; docs/fuzzing.md lists them.

Each entry names a line by its text. One of its ways on is left out, whether it was taken or not.
"""

from __future__ import annotations

from typing import NamedTuple

BYTE_ORDER = "the machine's byte order decides"
RACE = "the file became shorter while it was read"


class Excluded(NamedTuple):
    """A line of a module, without its indentation, and why one of its branches doesn't count."""

    module: str
    text: str
    reason: str


EXCLUDED = (
    Excluded("govc.graph.ewah", 'if sys.byteorder == "little":', BYTE_ORDER),
    Excluded("govc.graph.ewah", 'if sys.byteorder == "big":', BYTE_ORDER),
    Excluded("govc.graph.path_file", 'if sys.byteorder != "little":', BYTE_ORDER),
    Excluded("govc.graph.segment", 'if sys.byteorder != "little":', BYTE_ORDER),
    Excluded("govc.odb.packs", 'if sys.byteorder == "little":', BYTE_ORDER),
    Excluded("govc.pack.index", 'if sys.byteorder == "little":', BYTE_ORDER),
    Excluded("govc.pack.inflate", "if not piece:", RACE),
    Excluded("govc.pack.scanner", "if not fresh:", RACE),
    Excluded("govc.refs.reftable.table", "while len(data) < end - start and (", RACE),
)


def texts_of(module: str) -> set[str]:
    """The lines of a module that have a branch which doesn't count."""
    return {entry.text for entry in EXCLUDED if entry.module == module}
