"""Making a delta: the compiled answer of `govc.pack.delta.make_delta`, which is its twin.

The base is indexed by its blocks of sixteen bytes; a hash rolls over the target, each hit is compared and grown in both
directions, and the longest of a few candidates is taken. Linear time; valid for any input; not byte for byte what the
twin makes. `size_max`: a delta that would be larger is given up (None).
"""

from typing import TYPE_CHECKING

from govc.kernels.choice import find

__all__ = ["AVAILABLE", "make_delta"]

_module = find("deltify")

AVAILABLE = _module is not None
"""Whether the kernel was compiled."""

if TYPE_CHECKING:

    def make_delta(base: bytes, target: bytes, size_max: int) -> bytes | None:
        """Return a delta that makes `target` from `base`, None when it takes more than `size_max` bytes."""

elif AVAILABLE:
    make_delta = _module.make_delta
else:
    make_delta = None
