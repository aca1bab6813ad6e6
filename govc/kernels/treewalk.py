"""What lies in whole trees, by object number, without the GIL: the objects of a commit whose history isn't sent.

    list_trees(reader, roots, with_blobs)  →  (trees, blobs): int64 each, every object once, the roots among the trees

None when that can't be said from packs alone: an object is loose or absent, or something is no tree. The walk in Python
(`graph.sweep_closure`), which is the twin, does it then, and says what is wrong. Submodules are passed over, as is a
mode that is no file, link or directory.

Source: git's tree-walk.c (decode_tree_entry).
"""

from array import array
from typing import TYPE_CHECKING

from govc.kernels.choice import find
from govc.kernels.packread import PackReader

__all__ = ["AVAILABLE", "list_trees"]

_module = find("treewalk")

AVAILABLE = _module is not None
"""Whether the kernel was compiled."""

if TYPE_CHECKING:

    def list_trees(reader: PackReader, roots: "array[int]", with_blobs: bool) -> tuple[bytes, bytes] | None:
        """Return what `roots` (array of q) and all below them are; None when packs alone don't say."""

elif AVAILABLE:
    list_trees = _module.list_trees
else:

    def list_trees(_reader, _roots, _with_blobs):
        """Not compiled."""
        return None
