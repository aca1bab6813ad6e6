"""Maps of files that survive what happens to the file: a page that can't be read is a page of zeros, and is told.

A file that somebody cuts short, or a disk that gives up, under a mapping is a SIGBUS at the next touch: it ends the
worker with all its connections, whichever repository the file belonged to. With the compiled kernel the touch goes on
over zeros instead, and the fault is counted. Zeros are no answer, so who uses maps looks at the count:

    before = fault_count()
    ... read maps, make something of it ...
    if torn_since(before): throw it away

`fault_count` costs nothing to speak of; only when it moved is there something to look for. Whoever then opens the file
again finds out by its checks whether it is still good. In pure Python there is no guard, and a cut
file ends the process.

Only maps made here are guarded: a SIGBUS anywhere else is what it always was.

Pages of a map that were read count as this process's memory for as long as it stays mapped, though they are the page
cache's. `drop_pages` ends that after something that read much of large files: who reads there again finds them in the
page cache, sixteen pages at a fault.
"""

import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import ref

from govc.kernels.choice import choose

__all__ = ["FileMap", "drop_pages", "fault_count", "map_file", "torn_since"]

if TYPE_CHECKING:
    from govc.kernels.guard_py import fault_count, fault_of, forget, watch
else:
    _chosen = choose("guard")
    fault_count, fault_of = _chosen.fault_count, _chosen.fault_of
    forget, watch = _chosen.forget, _chosen.watch

LARGE_BYTES = 1 << 20
"""Maps of files from this size on have their pages dropped."""

_DONTNEED: int | None = getattr(mmap, "MADV_DONTNEED", None)

_paths: dict[int, str] = {}
_large: "dict[int, ref[FileMap]]" = {}
"""By id, until they end. A WeakSet can't be walked while another thread adds to it."""


class FileMap(mmap.mmap):
    """A file's content, read only. `path` is for messages and for `torn_since`; `signature` (as `stamps` takes it) is
    what the file was when it was mapped, for who asks whether it still is.
    """

    path = ""
    signature = (0, 0, 0, 0, 0)
    _slot = -1

    @property
    def is_guarded(self) -> bool:
        """Whether a page that can't be read is survived: not without a compiler, nor when there are too many maps."""
        return self._slot >= 0

    def __del__(self) -> None:
        """Leave the guard before the mapping goes."""
        _large.pop(id(self), None)
        if self._slot >= 0:
            del _paths[self._slot]
            forget(self._slot)


def map_file(path: str, descriptor: int, size: int) -> FileMap:
    """Map the first `size` bytes (at least one) of an open file. OSError, ValueError when it has fewer."""
    mapping = FileMap(descriptor, size, access=mmap.ACCESS_READ)
    mapping.path = path
    status = os.fstat(descriptor)
    mapping.signature = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    slot = watch(mapping)
    if slot >= 0:
        _paths[slot] = path
        mapping._slot = slot
    if size >= LARGE_BYTES:
        _large[id(mapping)] = ref(mapping)
    return mapping


def drop_pages(maps: Iterable[object] | None = None) -> None:
    """Have no page of these maps (of all that are alive) in this process until it is read again. Others are left out.

    A page that could not be read is zeros ever after, as before.
    """
    if _DONTNEED is None:
        return
    for mapping in (known() for known in list(_large.values())) if maps is None else maps:
        if isinstance(mapping, FileMap) and id(mapping) in _large:
            with suppress(OSError, ValueError):  # a kernel that won't, a map that was closed
                mapping.madvise(_DONTNEED)


def torn_since(count: int) -> list[str]:
    """Return the paths of living maps in which a page could not be read since `fault_count` was `count`."""
    if fault_count() == count:
        return []
    return sorted({path for slot, path in _paths.copy().items() if fault_of(slot) > count})
