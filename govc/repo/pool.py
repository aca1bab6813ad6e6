"""Which repositories are open in this process, and within what budget.

The least recently used ones are dropped when there are more than `repositories_max`, or when their packs hold more than
`descriptors_max` open files. A repository that a request still uses lives on until that request ends; dropping one
loses nothing but time. A folder that was deleted, renamed or replaced at the same path is noticed by its inode.

Threads of a WSGI server may share a pool: what changes it takes a lock, and nobody waits for a disk under it.
"""

import _thread
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from govc.errors import GovcError
from govc.repo.repository import Repository, Surroundings, identity_of


class PoolStatistics(NamedTuple):
    """How full the pool is, for metrics."""

    repositories: int
    descriptors: int
    opened: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """Upper bounds per process. Two descriptors per pack."""

    repositories_max: int = 256
    descriptors_max: int = 4096


class RepositoryPool:
    """The open repositories by path of their git folder."""

    def __init__(
        self,
        surroundings: Surroundings,
        limits: PoolLimits,
        *,
        admit: Callable[[str], None] = lambda _gitdir: None,
    ) -> None:
        """`admit` raises for a folder that must not be opened."""
        self._admit = admit
        self._around = surroundings
        self._limits = limits
        self._open: OrderedDict[str, Repository] = OrderedDict()
        self._opened = 0
        self._dropped = 0
        # Of each repository as of its last use: nobody adds up all packs of all repositories at each request.
        self._counts: dict[str, int] = {}
        self._descriptors = 0
        self._lock = _thread.RLock()  # of all the above; the kernel's, as threads of a pool may wait for it

    def get(self, gitdir: str) -> Repository:
        """Return the repository at `gitdir` (absolute).

        Raises RepositoryNotFound when the folder is gone, and what `admit` raises.
        """
        gitdir = os.path.realpath(gitdir)
        known = self._open.get(gitdir)
        if known is not None and identity_of(gitdir) == known.identity and self.note_use(known):
            return known
        self._admit(gitdir)
        repository = Repository(gitdir, self._around)
        with self._lock:
            known = self._open.get(gitdir)
            if known is not None and known.identity == repository.identity:
                repository = known  # another thread was quicker: with two, each would have a log of its own
            else:
                self._open[gitdir] = repository
                self._opened += 1
            self._open.move_to_end(gitdir)
        return repository

    def admit_again(self) -> None:
        """Drop what must not be open any more."""
        for gitdir in list(self._open):
            try:
                self._admit(gitdir)
            except GovcError:
                self._drop(gitdir)

    def opened(self) -> list[Repository]:
        """Return the repositories that are open now."""
        return list(self._open.values())

    def note_use(self, repository: Repository) -> bool:
        """Count a use that didn't go through `get`; say whether it is open here. Each request asks: no lock."""
        if self._open.get(repository.gitdir) is not repository:
            return False
        try:
            self._open.move_to_end(repository.gitdir)
        except KeyError:  # another thread has just dropped it
            return False
        return True

    def trim(self, used: Repository) -> None:
        """Drop what is over the limits, least recently used first; the last one used always stays.

        `used`: the one that may have opened packs since.
        """
        with self._lock:
            if self._open.get(used.gitdir) is used:
                count = used.descriptor_count
                self._descriptors += count - self._counts.get(used.gitdir, 0)
                self._counts[used.gitdir] = count
            while len(self._open) > 1 and (
                len(self._open) > self._limits.repositories_max or self._descriptors > self._limits.descriptors_max
            ):
                gitdir, _ = self._open.popitem(last=False)
                self._note_dropped(gitdir)

    def _drop(self, gitdir: str) -> None:
        with self._lock:
            if self._open.pop(gitdir, None) is not None:
                self._note_dropped(gitdir)

    def _note_dropped(self, gitdir: str) -> None:
        self._descriptors -= self._counts.pop(gitdir, 0)
        self._dropped += 1

    def statistics(self) -> PoolStatistics:
        """Return the sizes for metrics."""
        return PoolStatistics(len(self._open), self._descriptors, self._opened, self._dropped)
