"""Files that a piece of a snapshot was read from, asked all in one call.

Each request asks some ten files that hardly ever change (configuration that is there or isn't, shallow, grafts). One by
one in Python that costs more than everything else that is asked of them.
"""

import os
from collections.abc import Iterable

from govc.kernels.stamps import Stamps
from govc.watch import StatFunction, WatchedFile, are_current


class WatchedFiles:
    """Some files as they were when they were read."""

    __slots__ = ("_stamps", "files")

    def __init__(self, files: Iterable[WatchedFile]) -> None:
        self.files = tuple(files)
        self._stamps: Stamps | None = None

    def are_current(self, stat: StatFunction = os.stat) -> bool:
        """Say whether every one of them is still what it was; no while a stamp is unsettled."""
        if stat is not os.stat:
            return are_current(self.files, stat)
        if self._stamps is None:
            if not all(file.is_settled for file in self.files):
                return False
            present = [(file.path, file.signature) for file in self.files if file.signature is not None]
            self._stamps = Stamps(present, [file.path for file in self.files if file.signature is None])
        return self._stamps.are_current()
