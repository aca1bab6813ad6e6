"""The immutable picture of one repository that a request is answered from.

A reader takes the current snapshot and holds it to the end of the request: no locks, and nothing in it changes but for
caches of things that can't change (what was peeled, commits that were parsed, answers that were encoded). Which files
prove that a snapshot is still true is `repository`'s affair.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from govc.config.config import Config
from govc.errors import ObjectMissing
from govc.graph.commits import CommitTable, History, find_numbers, follow_tags, never
from govc.graph.view import View
from govc.objects.types import TAG
from govc.odb.store import ObjectStore
from govc.protocol.oid import HashAlgorithm
from govc.refs.backend_state import RefState
from govc.refs.table import RefTable
from govc.repo.introductions import Introductions
from govc.repo.layout import RepositoryLayout

_HISTORY = "history"


def always(_oid: bytes) -> bool:
    """The `may_be_missing` of a partial clone: any object may be promised."""
    return True


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Snapshot:
    """One repository at one moment.

    `shallow` are the oids of the repository's own shallow boundary; `grafts` maps commit oid to parent oids
    (info/grafts); `is_partial` says that promised objects may be absent; `alternate_tips` are the refs of
    repositories whose objects we borrow; `pack_count` is how many packs the store had (it only grows);
    `introductions` is what is known of its commits, None where history is cut, grafted or partial; `derived` holds
    encoded answers, by whatever key their maker likes, and dies with the snapshot; `lasting` goes on to the next
    snapshot as long as packed refs, objects and configuration are the same, and its users check that they are.
    """

    layout: RepositoryLayout
    config: Config
    refs: RefState
    store: ObjectStore
    commits: CommitTable
    shallow: frozenset[bytes] = frozenset()
    grafts: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    is_partial: bool = False
    alternate_tips: tuple[bytes, ...] = ()
    pack_count: int = 0
    introductions: Introductions | None = None
    derived: dict[Any, Any] = field(default_factory=dict)
    lasting: dict[Any, Any] = field(default_factory=dict)

    @property
    def algo(self) -> HashAlgorithm:
        """The hash that names this repository's objects."""
        return self.layout.algo

    @property
    def table(self) -> RefTable:
        """The refs."""
        return self.refs.table

    @property
    def may_be_missing(self) -> Callable[[bytes], bool]:
        """Which absent objects are no corruption."""
        return always if self.is_partial else never

    @property
    def commit_view(self) -> View | None:
        """What the introductions index knows of the commits; None where there is none."""
        return self.introductions.view if self.introductions is not None else None

    def history(self) -> History:
        """Return the commit graph with this repository's own shallow boundary and grafts."""
        if not self.shallow and not self.grafts:  # nothing to look up, which may have come since
            known: History | None = self.derived.get(_HISTORY)
            if known is None:
                known = self.derived[_HISTORY] = make_history(self.commits, (), {}, is_partial=self.is_partial)
            return known
        return make_history(self.commits, self.shallow, self.grafts, is_partial=self.is_partial)

    def peel(self, oid: bytes) -> bytes | None:
        """Return what a tag finally names; None when the object is no tag. Raises ObjectMissing."""
        number = self.store.find(oid)
        if number < 0:
            raise ObjectMissing(oid)
        if self.store.type_of(number) != TAG:
            return None
        target = follow_tags(self.store, number, self.may_be_missing)[1]
        return self.store.oid_of(target) if target >= 0 else None


def make_history(
    commits: CommitTable,
    shallow: Collection[bytes],
    grafts: Mapping[bytes, tuple[bytes, ...]],
    *,
    is_partial: bool,
) -> History:
    """Return a history over `commits` with shallow lines and grafts given by oid."""
    reader = commits.reader
    replaced = {
        number: tuple(find_numbers(reader, parents))
        for oid, parents in grafts.items()
        if (number := reader.find(oid)) >= 0
    }
    return History(
        commits,
        shallow=find_numbers(reader, shallow),
        grafts=replaced,
        may_be_missing=always if is_partial else never,
    )
