"""What a partial clone leaves out: an object filter as the graph applies it.

Every filter of rev-list is one or more of four conditions, and `combine:` is their conjunction, so a filter
is a value with four fields and combining two is taking the stricter of each. Objects that were wanted by name
are sent whatever it says (git's "user given" objects), and that is the closure's business.

    blob:none        types without BLOB
    blob:limit=n     blobs of n bytes and more are left out
    tree:n           trees and blobs at level n and deeper are left out (a root tree is at level 0)
    object:type=t    one type
    sparse:oid=x     blobs that the patterns in that blob don't choose are left out

Source: git rev-list(1) "--filter", list-objects-filter.c.
"""

from dataclasses import dataclass

from govc.graph.interface import ObjectReader
from govc.graph.sparse import SparsePatterns
from govc.objects.types import BLOB, COMMIT, TAG, TREE

ALL_TYPES = frozenset({COMMIT, TREE, BLOB, TAG})


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSelection:
    """The objects that pass a filter.

    `blob_limit` in bytes: smaller blobs pass. `tree_depth` in levels: shallower trees and blobs pass.
    """

    types: frozenset[int] = ALL_TYPES
    blob_limit: int | None = None
    tree_depth: int | None = None
    sparse: tuple[SparsePatterns, ...] = ()

    @property
    def depends_on_path(self) -> bool:
        """Whether the same object may pass at one path and not at another."""
        return bool(self.sparse) or (self.tree_depth is not None and self.tree_depth > 0)

    @property
    def needs_trees(self) -> bool:
        """Whether trees must be read at all."""
        return self.tree_depth != 0 and bool(self.types & {TREE, BLOB})

    @property
    def needs_blobs(self) -> bool:
        """Whether any blob may pass."""
        return self.tree_depth != 0 and BLOB in self.types and self.blob_limit != 0

    def and_also(self, other: "ObjectSelection") -> "ObjectSelection":
        """Return the selection of what passes both: the `combine:` filter."""
        return ObjectSelection(
            types=self.types & other.types,
            blob_limit=_smaller(self.blob_limit, other.blob_limit),
            tree_depth=_smaller(self.tree_depth, other.tree_depth),
            sparse=tuple(dict.fromkeys(self.sparse + other.sparse)),
        )

    def passes_blob(self, reader: ObjectReader, number: int) -> bool:
        """Return whether a blob passes by its type and size alone."""
        if BLOB not in self.types:
            return False
        return self.blob_limit is None or reader.size_of(number) < self.blob_limit


def _smaller(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


ALL = ObjectSelection()
"""No filter."""

NO_BLOBS = ObjectSelection(types=ALL_TYPES - {BLOB})
"""`blob:none`."""
