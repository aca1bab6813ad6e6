"""Which objects do commits introduce? The compiled answer of `govc.graph.introduce`, which has the story and the twin.

It reads through a `PackReader`, and what lies in no pack through a callback.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from govc.kernels.choice import find
from govc.kernels.packread import PackReader

__all__ = ["AVAILABLE", "introduce"]

_module = find("introduce")

AVAILABLE = _module is not None
"""Whether the kernel was compiled."""

Columns = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes]

if TYPE_CHECKING:

    def introduce(
        reader: PackReader,
        tips: bytes,
        known: Callable[[bytes], bool],
        fallback: Callable[[bytes], tuple[int, bytes] | None],
        entries_max: int,
        commits_max: int,
    ) -> Columns:
        """Return the columns of `graph.introduce.Introduced`, in its order. Raises as that does."""

elif AVAILABLE:
    introduce = _module.introduce
else:
    introduce = None
