"""What decides a pack, and what is said while it is made.

Source: builtin/pack-objects.c for the progress texts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from govc.graph.closure import ClosureRequest
from govc.graph.filter import ALL, ObjectSelection
from govc.graph.trees import TREE_DEPTH_MAX
from govc.repo.helper import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """Everything that decides a pack's content and form. Oids are raw; the value is picklable.

    `client_shallow`: commits whose parents the client lacks. `boundary`: commits whose parents are not sent.
    `include_tags`: tag oid -> peeled oid, candidates that ride along when their target is sent.
    """

    wants: tuple[bytes, ...]
    haves: tuple[bytes, ...] = ()
    client_shallow: frozenset[bytes] = frozenset()
    boundary: frozenset[bytes] = frozenset()
    selection: ObjectSelection = ALL
    include_tags: Mapping[bytes, bytes] = field(default_factory=dict)
    thin: bool = False
    ofs_delta: bool = False
    progress: bool = True
    tree_depth_max: int = TREE_DEPTH_MAX

    def closure_request(self) -> ClosureRequest:
        """Return the question to the graph."""
        return ClosureRequest(
            wants=self.wants,
            haves=self.haves,
            client_shallow=self.client_shallow,
            boundary=self.boundary,
            selection=self.selection,
            include_tags=self.include_tags,
            tree_depth_max=self.tree_depth_max,
        )


def tell_counts(plan: PackPlan, count: int) -> Iterator[Progress]:
    """Yield git's lines of the enumeration, when they are wanted."""
    if plan.progress:
        yield Progress(f"Enumerating objects: {count}, done.\n")
        if count:
            yield Progress(f"Counting objects: 100% ({count}/{count}), done.\n")


def tell_total(plan: PackPlan, count: int) -> Iterator[Progress]:
    """Yield git's closing line, when it is wanted."""
    if plan.progress:
        yield Progress(f"Total {count} (delta 0), reused {count} (delta 0), pack-reused {count}\n")
