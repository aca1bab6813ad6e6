"""Are many files what they were when they were read? One call, one stat each, without the GIL.

A `Stamps` holds what a picture of a repository depends on: files that were there with their signatures (`watch` says
what these are and when they may be trusted), and files that were absent. It is what every request and every call of
the library begins with, so what Python adds to a stat (a result object, an exception for what is absent) is most of
its cost. The first difference ends it.

Absent means what it means to `watch`: there is nothing at the path, or it is out of our reach. Any other error of stat
counts as a difference.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from govc.kernels.choice import choose

__all__ = ["Signature", "Stamps"]

Signature = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, mtime and ctime in nanoseconds: a `watch.StatSignature`."""

if TYPE_CHECKING:

    class Stamps:
        """Files by path, as they were; `present` and `absent` are what it was made of."""

        present: tuple[tuple[str, Signature], ...]
        absent: tuple[str, ...]

        def __init__(self, present: Iterable[tuple[str, Signature]], absent: Iterable[str]) -> None: ...
        def __len__(self) -> int: ...
        def are_current(self) -> bool:
            """Tell whether every file is what it was."""

        def changed(self) -> frozenset[str]:
            """Return the paths of those that were there and aren't what they were, all of them."""

else:
    _module = choose("stamps")
    Stamps = _module.Stamps
