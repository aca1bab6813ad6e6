"""Which commits change which paths? The compiled answer of `govc.graph.path_changes`, which has the story and the twin.

It reads through a `PackReader`, and what lies in no pack through a callback.
"""

from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from govc.kernels.choice import find
from govc.kernels.history import Graph
from govc.kernels.packread import PackReader
from govc.kernels.treelist import ReadObject

__all__ = ["AVAILABLE", "Columns", "find_changes", "find_name"]

_module = find("pathchanges")

AVAILABLE = _module is not None
"""Whether the kernel was compiled."""

Columns = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
"""Large commits, name starts, names, change starts, places, parents: columns of `graph.path_file`."""

if TYPE_CHECKING:

    def find_changes(
        reader: PackReader,
        fallback: ReadObject,
        graph: Graph,
        cids: array[int],
        first_place: int,
        known: Iterable[tuple[bytes, Any, Any]],
        limits: Any,
    ) -> Columns:
        """Return what the commits of a graph change, at places from `first_place` on, behind what is known already:

        for each path its name, places and parents. `limits`: a `graph.path_changes.ChangeLimits`. Raises as that does.
        """

    def find_name(starts: Any, names: Any, name: bytes) -> int:
        """Return the rank of a name among ascending ones, -1 when it isn't there.

        `starts`: where each begins in `names` (uint32), and one more. Raises ValueError when that lies.
        """

elif AVAILABLE:
    find_changes = _module.find_changes
    find_name = _module.find_name
else:
    find_changes = find_name = None
