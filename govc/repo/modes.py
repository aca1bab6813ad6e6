"""core.sharedRepository, in the two forms in which the storage rooms take it."""

import os
import stat
from collections.abc import Callable

from govc import disk
from govc.odb.modes import FileModes
from govc.repo.layout import SharedPermissions


class RefModes:
    """Permissions of new refs, reflogs and their folders (`refs.lock.FileModes`)."""

    def __init__(self, shared: SharedPermissions) -> None:
        self._shared = shared

    def adjust_file(self, path: str) -> None:
        """Give a new file the permissions of a shared repository."""
        self._adjust(path, self._shared.file_mode)

    def adjust_dir(self, path: str) -> None:
        """Give a new folder the permissions of a shared repository."""
        self._adjust(path, self._shared.directory_mode)

    def _adjust(self, path: str, mode_of: Callable[[int], int]) -> None:
        if not self._shared.bits:
            return
        old = stat.S_IMODE(os.stat(path).st_mode)
        new = mode_of(old)
        if new != old:
            disk.chmod(path, new)


def object_modes(shared: SharedPermissions) -> FileModes:
    """Return the permissions of new objects and packs."""
    return FileModes(-shared.bits if shared.is_exact else shared.bits)
