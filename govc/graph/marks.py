"""A small value per object number, without a Python object for each.

Packed objects have dense numbers from 0, so an array indexed by number is a few megabytes for a million objects, where
a dictionary or a set would be a hundred. Loose objects have numbers far above; they are few, and go to a dictionary.
"""

from array import array

_DENSE_MAX = 1 << 28


class NumberMarks:
    """A mark per object number: ABSENT, HAD, or TREE or BLOB for what is to be sent as one.

    One byte each for the dense low range, a dictionary above it.
    """

    __slots__ = ("_dense", "_sparse")

    def __init__(self) -> None:
        self._dense = bytearray()
        self._sparse: dict[int, int] = {}

    def get(self, number: int) -> int:
        """Return the mark of a number, 0 when it has none."""
        if number < len(self._dense):
            return self._dense[number]
        return self._sparse.get(number, 0)

    def set(self, number: int, mark: int) -> None:
        """Set the mark of a number, 1 to 255."""
        if number < len(self._dense):
            self._dense[number] = mark
        elif number < _DENSE_MAX:
            self._dense.extend(bytes(max(number + 1 - len(self._dense), len(self._dense) // 2, 4096)))
            self._dense[number] = mark
        else:
            self._sparse[number] = mark


class NumberSlots:
    """A slot (0 and up) per object number; -1 for a number that has none. Four bytes each in the dense range."""

    __slots__ = ("_count", "_dense", "_sparse")

    def __init__(self) -> None:
        self._dense = array("I")  # the slot plus one
        self._sparse: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, number: int) -> int:
        """Return the slot of a number, -1 when it has none."""
        if number < len(self._dense):
            return self._dense[number] - 1
        return self._sparse.get(number, -1)

    def set(self, number: int, slot: int) -> None:
        """Give a number its slot, once."""
        self._count += 1
        if number >= _DENSE_MAX:
            self._sparse[number] = slot
            return
        if number >= len(self._dense):
            more = max(number + 1 - len(self._dense), len(self._dense) // 2, 1024)
            self._dense.frombytes(bytes(self._dense.itemsize * more))
        self._dense[number] = slot + 1
