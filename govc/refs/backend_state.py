"""What both backends of refs have in common: the state that reading gives, and which refs belong to one worktree.

Source: git-worktree "REFS".
"""

from dataclasses import dataclass
from typing import Final

from govc.refs.table import RefTable

PEELED_KEPT_MAX = 200_000
"""The memory of peeled tags is handed on to the next table up to this many entries."""

PER_WORKTREE: Final = (b"refs/bisect/", b"refs/worktree/", b"refs/rewritten/")


@dataclass(frozen=True, slots=True, eq=False)
class RefState:
    """The refs at one moment. A backend adds what tells whether they still are the refs."""

    table: RefTable


@dataclass(frozen=True, slots=True)
class RefMark:
    """By what the refs of a moment are known again.

    Files: `base` is by what packed-refs is known, `loose` are the refs that had a file beside it. While the base is the
    same, no other refs can have other values than those that are loose now or were then. Reftable: `base` is the list
    of tables; what has changed since is in tables that aren't in it.
    """

    base: bytes
    loose: tuple[bytes, ...] = ()


def is_per_worktree(name: bytes) -> bool:
    """Say whether a ref (or HEAD) belongs to one worktree; the others are shared by all."""
    return name == b"HEAD" or name.startswith(PER_WORKTREE)
