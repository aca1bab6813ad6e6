"""Was anything made of a file that could not be read? (kernels.guard has the story of how we know.)

An index that is cut short under its mapping reads as zeros: objects are missing, parents are wrong. So whoever makes
an answer out of a store asks before each piece leaves, and the trailer of a pack is such a piece.
"""

import os
from collections.abc import Iterable, Sequence

from govc.errors import CorruptPack
from govc.kernels.guard import fault_count, torn_since


class TornWatch:
    """What is made from now on out of the files in `places` (objects folders, common directories)."""

    def __init__(self, places: Sequence[str]) -> None:
        self._places = tuple(places)
        self._count = fault_count()

    def check(self) -> None:
        """Raise CorruptPack when a mapped file there could not be read since."""
        if fault_count() != self._count and (torn := torn_files(self._places, self._count)):
            raise CorruptPack(f"can't be read any more: {', '.join(os.path.basename(path) for path in torn)}")


def torn_files(places: Iterable[str], count: int) -> list[str]:
    """Return the mapped files below `places` of which a page could not be read since `fault_count` was `count`."""
    prefixes = tuple(f"{place}/" for place in places)
    return [path for path in torn_since(count) if path.startswith(prefixes)]
