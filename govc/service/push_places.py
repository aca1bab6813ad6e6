"""Where paths in URLs lead, for pushes: each finds other refs and packs than the one before, in one place.

What is kept is the way (`repo.proof.stamp_place`: the folders that were looked into), and holds as long as the stamps
on it do. Only settled ones are kept; so a place that is known was checked as it is.
"""

from typing import NamedTuple

from govc.repo.discover import FoundRepository
from govc.repo.pool import RepositoryPool
from govc.repo.proof import PathStamps, Proof, prove
from govc.repo.repository import Repository


class Place(NamedTuple):
    """Where a path in a URL leads, and what shows that it still does."""

    proof: Proof
    found: FoundRepository
    repository: Repository


class PushPlaces:
    """Places by path; all are forgotten when there are too many."""

    def __init__(self, pool: RepositoryPool, places_max: int) -> None:
        self._pool = pool
        self._places_max = places_max
        self._places: dict[str, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def find(self, path_info: str) -> Place | None:
        """Return where that path leads, if it is known and nothing on the way has changed."""
        place = self._places.get(path_info)
        if place is None:
            return None
        if place.proof.holds() and self._pool.note_use(place.repository):
            return place
        self._places.pop(path_info, None)  # another thread may have been quicker
        return None

    def keep(self, path_info: str, stamps: PathStamps, found: FoundRepository, repository: Repository) -> None:
        """Remember where a path leads, if its stamps, which were taken before it was looked at, prove that."""
        proof = prove(stamps, found, ()) if all(watch.is_settled for watch in stamps.watches) else None
        if proof is None:
            return
        if len(self._places) >= self._places_max:
            self._places.clear()
        self._places[path_info] = Place(proof, found, repository)

    def clear(self) -> None:
        """Forget all."""
        self._places.clear()
