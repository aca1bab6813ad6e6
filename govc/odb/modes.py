"""Permissions of what we create below objects/: the umask's, or those of a shared repository.

Source: git-config "core.sharedRepository"; the rules of adjusting are those that git's files show.
"""

import os
import stat
from typing import NamedTuple

from govc import disk

_WRITE_BITS = 0o222
_READ_BITS = 0o444


class FileModes(NamedTuple):
    """How core.sharedRepository changes a mode.

    `shared` is 0 for umask, positive bits to add (0o660 for group, 0o664 for all), or negative the exact bits
    (-0o640 for 0640).
    """

    shared: int = 0

    def shared_mode(self, mode: int) -> int:
        """Return `mode` (with its file type bits) as the repository wants it."""
        if not self.shared:
            return mode
        tweak = abs(self.shared)
        if not mode & stat.S_IWUSR:
            tweak &= ~_WRITE_BITS
        if mode & stat.S_IXUSR or stat.S_ISDIR(mode):
            tweak |= (tweak & _READ_BITS) >> 2
        mode = (mode & ~0o777) | tweak if self.shared < 0 else mode | tweak
        if stat.S_ISDIR(mode) and mode & 0o060:
            mode |= stat.S_ISGID  # new files shall belong to the group of the repository
        return mode

    def adjust(self, path: str) -> None:
        """Change what lies at `path` to the mode of a shared repository; nothing to do in another."""
        if not self.shared:
            return
        old = os.lstat(path).st_mode
        new = self.shared_mode(old)
        if new != old:
            disk.chmod(path, stat.S_IMODE(new))

    def make_directory(self, path: str) -> None:
        """Create a directory unless it is there."""
        try:
            disk.mkdir(path)
        except FileExistsError:
            return
        self.adjust(path)
