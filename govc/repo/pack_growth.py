"""What a pack needs beside one that was sent before, when what is wanted has only grown.

A clone after a push wants all that a clone before it wanted, and a little more. Where that is so, the old pack's
entries stay as they are and those of the added objects follow them: they are what an incremental fetch would send to
somebody who has what the old pack brought. Everything is decided from the commit graph:

    old wants      each is wanted still, or is a commit that the new wants reach
    new wants      each was wanted before, or peels to a commit, through one tag at most
    riding tags    none that may have come along before is gone, or wanted by name now; a new one comes along with a
                   commit that is added, or its commit is not sent at all

So the old pack holds nothing that the new one must not, no object comes twice, and none is missing: the sweep is exact
where history isn't cut, and only there is anything said here. None means that the pack is to be made anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from govc.errors import Corrupt, ObjectMissing
from govc.graph.closure import Closure
from govc.graph.commits import follow_tags
from govc.graph.filter import ALL
from govc.graph.view import View
from govc.kernels.sweep import IN_RANGE
from govc.objects.types import COMMIT
from govc.repo.pack_plan import PackPlan
from govc.repo.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class WantsBefore:
    """What an older pack was made for: the wants, and the tags beside them that might ride along."""

    wants: frozenset[bytes]
    tags: frozenset[bytes]


def candidate_tags(plan: PackPlan) -> Mapping[bytes, bytes]:
    """Return the tags that may ride along and are not wanted anyway."""
    wanted = set(plan.wants)
    if wanted.isdisjoint(plan.include_tags):
        return plan.include_tags
    return {tag: target for tag, target in plan.include_tags.items() if tag not in wanted}


def can_grow(plan: PackPlan) -> bool:
    """Tell whether a pack for such a plan can be made out of an older one at all: it is a clone of everything."""
    return not (plan.haves or plan.client_shallow or plan.boundary) and plan.selection == ALL and plan.ofs_delta


def plan_addition(snapshot: Snapshot, plan: PackPlan, before: WantsBefore) -> PackPlan | None:
    """Return the plan of what is to be added, None where it can't be told from the names alone."""
    tags = candidate_tags(plan)
    wants = frozenset(plan.wants)
    if not before.tags <= tags.keys():  # one is gone, or is wanted by name
        return None
    fresh, gone = wants - before.wants, before.wants - wants
    store = snapshot.store
    try:
        for oid in gone:
            number = store.find(oid)
            if number < 0 or store.type_of(number) != COMMIT:
                return None
        for oid in fresh:
            number = store.find(oid)
            if number < 0:
                return None
            passed, _, type_number = follow_tags(store, number)
            if len(passed) > 1 or type_number != COMMIT:
                return None
        haves = tuple(dict.fromkeys(_peeled(snapshot, before.wants)))
    except (ObjectMissing, Corrupt):
        return None
    return replace(plan, wants=tuple(sorted(fresh)), haves=haves, include_tags=tags, thin=True, progress=False)


def _peeled(snapshot: Snapshot, oids: Iterable[bytes]) -> Iterable[bytes]:
    knows = snapshot.commit_view.knows if snapshot.commit_view is not None else frozenset[bytes]().__contains__
    for oid in oids:
        yield oid if knows(oid) else snapshot.table.peeled(oid, snapshot.peel) or oid


def reaches_all(snapshot: Snapshot, view: View, before: WantsBefore, plan: PackPlan) -> bool:
    """Tell whether the new wants reach every commit that isn't wanted any more."""
    gone = before.wants - frozenset(plan.wants)
    starts = view.cids(gone)
    if not gone:
        return True
    if len(starts) != len(gone):
        return False
    return not view.sweep.paint(starts, view.cids(_peeled(snapshot, plan.wants)), view.cids(())).range


def brings_all_tags(snapshot: Snapshot, view: View, before: WantsBefore, plan: PackPlan, added: Closure) -> bool:
    """Tell whether the tags among what is added are those that come along with the new pack and not with the old."""
    store = snapshot.store
    numbers = added.numbers[added.commit_count : added.commit_count + added.tag_count]
    names = set(map(store.oid_of, numbers))
    if not names.isdisjoint(before.tags) or not names.isdisjoint(before.wants):
        return False
    if any(len(follow_tags(store, number)[0]) > 1 for number in numbers):
        return False
    late = {tag: to for tag, to in candidate_tags(plan).items() if tag not in before.tags and tag not in names}
    if not late:
        return True
    targets = view.cids(late.values())
    if len(targets) != len(late):
        return False
    painting = view.sweep.paint(targets, view.cids(_peeled(snapshot, plan.wants)), view.cids(()))
    return set(painting.place_commits(view.sweep.find_commits(b"".join(late.values())))) == {IN_RANGE}
