"""How many bytes a repository's objects take on disk, without walking them each time.

Counted are the files in `objects/pack` and in the 256 folders of loose objects: what pushes bring and `git gc` takes
away. What it borrows from others (alternates), refs and our own log are not.

A folder whose modification time is the one of last time has the same names in it, and neither loose objects nor packs
change under their names. So the first answer costs a stat per file, and the following ones 257 stats and those of
folders that changed. A folder that was changed within the last seconds is looked at again next time, since a second
change in the same tick of the file system's clock would not show.

Threads may measure at once, and there is no lock: under gevent a thread of a pool that waits for one may wait for ever.
What is noted of a folder is its stamp with the size that belongs to it, whoever noted it last.
"""

import os
import time
from collections import OrderedDict
from contextlib import suppress

SETTLED_NS = 3_000_000_000


class DiskUse:
    """The use of one repository, as one process knows it."""

    def __init__(self, objects_dir: str) -> None:
        self._folders = [f"{objects_dir}/pack", *(f"{objects_dir}/{number:02x}" for number in range(256))]
        self._known: dict[str, tuple[tuple[int, int], int]] = {}

    def measure(self) -> int:
        """Return the bytes of the files. Blocks for as long as the stats take. Raises OSError."""
        return sum(map(self._measure_folder, self._folders))

    def _measure_folder(self, folder: str) -> int:
        now_ns = time.time_ns()  # from before the look: listing may take long
        try:
            status = os.stat(folder)
        except FileNotFoundError:
            self._known.pop(folder, None)
            return 0
        stamp = (status.st_ino, status.st_mtime_ns)
        known = self._known.get(folder)
        if known is not None and known[0] == stamp:
            return known[1]
        size = 0
        with suppress(FileNotFoundError), os.scandir(folder) as entries:  # plain git removes folders without objects
            for entry in entries:
                with suppress(FileNotFoundError):
                    size += entry.stat(follow_symlinks=False).st_size
        if now_ns - status.st_mtime_ns > SETTLED_NS:
            self._known[folder] = (stamp, size)
        else:
            self._known.pop(folder, None)
        return size


class DiskUses:
    """The use of many repositories; those that were asked for lately are known."""

    def __init__(self, count_max: int = 256) -> None:
        self._count_max = count_max
        self._uses: OrderedDict[str, DiskUse] = OrderedDict()

    def measure(self, objects_dir: str) -> int:
        """Return the bytes of one repository's objects. Blocks. Raises OSError."""
        use = self._uses.setdefault(objects_dir, DiskUse(objects_dir))
        with suppress(KeyError):  # another thread has just forgotten it
            self._uses.move_to_end(objects_dir)
            while len(self._uses) > self._count_max:
                self._uses.popitem(last=False)
        return use.measure()
