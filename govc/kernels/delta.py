"""Deltas: a target as copies out of a base and inserted bytes.

    base size, target size    little-endian groups of 7 bits
    1ooo oooo  offset bytes for bits 0-3, size bytes for bits 4-6; size 0 means 0x10000     copy from the base
    0nnn nnnn  n bytes                                                                      insert them
    0000 0000                                                                               reserved: refused

`apply_delta` believes nothing: both sizes are checked before a byte is produced, every copy lies inside the
base, and nothing grows beyond the stated size.

Source: gitformat-pack "Deltified representation".
"""

from govc.kernels.choice import choose

__all__ = ["apply_delta"]

TYPE_CHECKING = False

if TYPE_CHECKING:
    from govc.kernels.delta_py import apply_delta
else:
    apply_delta = choose("delta").apply_delta
