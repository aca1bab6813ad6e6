"""That nothing has changed since the last request, by as few system calls as that takes.

Finding a repository and validating its snapshot asks about forty things of the file system, most of them about files
that are absent. A `Proof` holds the answers that the last full look gave, reduced to what implies the rest:

- a file that is there: its signature (`watch`), as always;
- a file that is absent: nothing, when its folder's signature is among those, since its appearing would change the
  folder; else that it still is;
- the path in the URL: that the folder it leads to is the same (device, inode) and has the same signature, which a
  marker for export, another owner, another mode or a `commondir` would change;
- `objects` and `refs`, which must be enterable: their signatures.

There is no proof, and every request looks in full, for what these don't cover: links and gitfiles on the way, a
repository of another owner, alternates, packs that can't be used, refs that are links, and for as long as any stamp
is younger than the clock's grain.
"""

import os
import stat as stat_modes
from collections.abc import Iterable
from typing import NamedTuple

from govc.kernels.guard import fault_count
from govc.kernels.stamps import Stamps
from govc.repo.discover import EXPORT_MARKER, FoundRepository
from govc.watch import StatSignature, WatchedFile, signature_of, watch_path


class PathStamps(NamedTuple):
    """The folders that discovery goes through, as they were before it went."""

    path: str
    watches: tuple[WatchedFile, ...]


class Proof:
    """See the story of this module. Made by `prove`."""

    __slots__ = ("_fault_count", "_stamps")

    def __init__(self, stamps: Stamps) -> None:
        self._stamps = stamps
        self._fault_count = fault_count()

    @property
    def stamps(self) -> Stamps:
        """What is asked."""
        return self._stamps

    def holds(self) -> bool:
        """Say whether everything is as it was."""
        # A mapped file that could not be read is perhaps one of ours.
        return fault_count() == self._fault_count and self._stamps.are_current()


def stamp_place(path: str) -> PathStamps | None:
    """Take the stamps of all that finding a repository looks at; for who wants to know only where it is, and will
    look at what is in it. None: can't be proved.
    """
    stamps = stamp_path(path)
    if stamps is None:
        return None
    try:
        watches = (*stamps.watches, *(watch_path(f"{path}/{name}") for name in ("refs", "HEAD")))
    except OSError:
        return None
    # Where one is absent it lies elsewhere (a linked worktree's), and elsewhere nothing is watched.
    return PathStamps(path, watches) if all(watch.signature for watch in watches) else None


def stamp_path(path: str) -> PathStamps | None:
    """Take the stamps of the folder at the path that a URL names, before it is looked at. None: can't be proved."""
    try:
        if not stat_modes.S_ISDIR(os.lstat(path).st_mode):
            return None
        return PathStamps(path, tuple(watch_path(name) for name in (path, f"{path}/objects")))
    except OSError:
        return None


def prove(stamps: PathStamps, found: FoundRepository, watched: Iterable[WatchedFile]) -> Proof | None:
    """Return a proof that a look at `stamps.path`, which found `found` and read `watched`, would end the same."""
    path = stamps.path
    if found.gitdir != path or found.gitfile is not None or os.path.realpath(path) != path:
        return None
    marker = f"{path}/{EXPORT_MARKER}"
    if os.path.islink(marker) or any(os.path.islink(f"{path}/{name}") for name in ("objects", "refs", "HEAD")):
        return None
    if os.lstat(path).st_uid != os.geteuid():
        return None
    present: dict[str, StatSignature] = {}
    absent: list[str] = []
    for watch in (*stamps.watches, *watched):
        if not watch.is_settled:
            return None
        if watch.signature is None:
            absent.append(watch.path)
        elif present.setdefault(watch.path, watch.signature) != watch.signature:
            return None
    if any(signature_of(watch.path) != watch.signature for watch in stamps.watches):
        return None
    names = (name for name in absent if os.path.dirname(name) not in present)
    return Proof(Stamps(present.items(), dict.fromkeys(names)))
