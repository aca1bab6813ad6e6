"""The key of a fetch's body: everything that decides its bytes or who may see it.

    what is asked    the pack plan (wants, common haves, shallow lines, filter, tags that may ride along, options), the
                     framing, and what is said before and after the pack (acknowledgments, shallow lines, wanted refs)
    of what          the repository (path, device, inode), its hash, its own shallow lines and grafts
    by whom          namespace, hidden refs, and `RequestContext.visibility`: what else decides what this caller sees

The plan is made after the request was checked against what its caller may see, so a caller gets to a body only by
asking for what he would be given without it. Not in the key: the snapshot. An object's name stands for its content,
and what wants reach is fixed by their names; a push that moves other refs leaves the key as it is, and a repack, too.

A repository that borrows promised objects (a partial clone) has no key: what is absent today may be there tomorrow.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from govc import __version__
from govc.cache.key import digest_of
from govc.repo.packing import PackPlan
from govc.repo.repository import identity_of
from govc.repo.snapshot import Snapshot
from govc.service.context import RequestContext
from govc.service.growing import line_plan

_NO_TAGS: Mapping[bytes, bytes] = {}


def body_key(snapshot: Snapshot, context: RequestContext, plan: PackPlan, framing: Any) -> bytes | None:
    """Return the key, None for what must not be shared. Raises RepositoryNotFound when the folder is gone."""
    if snapshot.is_partial:
        return None
    # Tags that are wanted anyway change nothing; the order of wants and haves neither.
    wants = set(plan.wants)
    tags = plan.include_tags
    if not wants.isdisjoint(tags):
        tags = {tag: target for tag, target in tags.items() if tag not in wants}
    bare = replace(plan, wants=tuple(sorted(wants)), haves=tuple(sorted(set(plan.haves))), include_tags=_NO_TAGS)
    return digest_of(
        (
            __version__,
            _repository_digest(snapshot),
            (context.namespace, _hidden_refs(snapshot), context.visibility),
            framing,
            bare,
            _tags_digest(snapshot, context, plan, tags),
        )
    )


def body_line(snapshot: Snapshot, context: RequestContext, plan: PackPlan, side_band: int) -> str:
    """Return the line of bodies that may grow out of each other, "" for a body that can't: what the key holds without
    wants, tags, and what is said around the pack.
    """
    common = line_plan(plan) if side_band else None
    if common is None or snapshot.introductions is None:
        return ""
    seen = (context.namespace, _hidden_refs(snapshot), context.visibility)
    return digest_of((__version__, "line", _repository_digest(snapshot), seen, side_band, common)).hex()


def _repository_digest(snapshot: Snapshot) -> bytes:
    gitdir = snapshot.layout.gitdir
    identity = identity_of(gitdir)
    key = ("repository digest", identity)
    known: bytes | None = snapshot.derived.get(key)
    if known is None:
        known = digest_of((gitdir, identity, snapshot.algo.name, snapshot.shallow, snapshot.grafts))
        snapshot.derived[key] = known
    return known


def _hidden_refs(snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
    keys = ("transfer.hiderefs", "uploadpack.hiderefs")
    return tuple((entry.key, entry.value or "") for entry in snapshot.config.entries if entry.key in keys)


def _tags_digest(snapshot: Snapshot, context: RequestContext, plan: PackPlan, tags: Mapping[bytes, bytes]) -> bytes:
    """Digest the tags that may ride along; of all that are shown, which is the usual case, once per snapshot."""
    if not tags:
        return b""
    if tags is not plan.include_tags:
        return digest_of(tags)
    key = ("tags digest", context.namespace)
    kept = snapshot.derived.get(key)
    if kept is not None and kept[0] is tags:
        known: bytes = kept[1]
        return known
    known = digest_of(tags)
    snapshot.derived[key] = (tags, known)
    return known
