"""What trees hold, and how a folder's entries changed through history.

`parse_entries`, `find_entry` and `list_files` read trees as `govc.objects.tree` does. The twin is
`govc.graph.treelist_py`, as it needs that; `govc.graph.treelist` chooses.

A `Folder` is the history of one folder: for each commit of a graph, in its order, what differs from the commit's
first parent there, as (cid, name, value). A **value** is a number for a mode and an oid (`Values`), 0 for nothing;
the mode is the one that git compares, so 100664 and 100644 are the same. From these differences the **column** of a
name follows in one pass: a commit has its first parent's value unless it is noted otherwise. That column decides
whether a path changed in a commit, of however many parents, by comparing two numbers, and a column of a folder's own
values is what the Folder one level down is made from. So each tree of a folder is read once, whatever number of paths
is asked for.

Folders grow as their graph grows (`cover`, which may be done in pieces), and columns grow with them (`extend`).

Source: git's tree-walk.c (canon_mode) and tree-diff.c.
"""

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from govc.kernels.choice import find
from govc.kernels.history import Graph
from govc.kernels.packread import PackReader

__all__ = ["AVAILABLE", "Folder", "ReadObject", "Values", "find_entry", "list_files", "parse_entries", "root_column"]

_module = find("treelist")

AVAILABLE = _module is not None
"""Whether the kernel was compiled."""

ReadObject = Callable[[bytes], tuple[int, bytes]]
"""Returns type (1-4) and content of an object that a reader doesn't have. Raises ObjectMissing, Corrupt."""

if TYPE_CHECKING:
    _T = TypeVar("_T", bound=tuple[int, bytes, bytes])

    def parse_entries(data: bytes, oid_size: int, kind: type[_T]) -> list[_T]:
        """Return the entries (mode, name, oid) in the order written. Raises Corrupt."""

    def find_entry(data: bytes, oid_size: int, name: bytes) -> tuple[int, bytes] | None:
        """Return mode and oid of the first entry of that name."""

    def list_files(
        reader: PackReader | None, fallback: ReadObject, root: bytes, kind: type[_T], depth_max: int, entries_max: int
    ) -> tuple[_T, ...]:
        """Return (mode, path, oid) of everything below a tree that is no tree itself, in the trees' order.

        Raises LimitExceeded beyond `depth_max` folders or `entries_max` entries, CorruptObject, ObjectMissing.
        """

    class Values:
        """Modes and oids, numbered from 1."""

        count: int
        byte_count: int

        def __init__(self, oid_size: int) -> None: ...
        def entry(self, value: int) -> tuple[int, bytes] | None:
            """Return mode and oid of a value, None for 0."""

    def root_column(graph: Graph, values: Values, column: array[int]) -> None:
        """Extend a column (array of "I") by the values of the root trees."""

    class Folder:
        """The history of one folder; see the story of this module."""

        covered: int
        byte_count: int

        def __init__(self, graph: Graph, values: Values) -> None: ...
        def cover(self, reader: PackReader | None, fallback: ReadObject, column: array[int] | None, until: int) -> bool:
            """Note the differences of at most `until` more commits (-1: of all); True when none is left.

            `column`: the folder's own values, None for the root; commits beyond its end are left for later.
            Raises as `list_files`; what was noted stays.
            """

        def extend(self, name: bytes, column: array[int]) -> None:
            """Extend the column (array of "I") of an entry by what is covered."""

elif AVAILABLE:
    Folder = _module.Folder
    Values = _module.Values
    find_entry = _module.find_entry
    list_files = _module.list_files
    parse_entries = _module.parse_entries
    root_column = _module.root_column
