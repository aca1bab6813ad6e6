"""What a ref transaction wants, before anything is locked: updates, texts of refusal, conflicts among them.

A ref can't be a file and a folder at once: `refs/heads/a` and `refs/heads/a/b` exclude one another. Within
one push the blocker may be deleted; both can't be locked at once, so such a push is two transactions,
deletions first (`split_by_conflict`).

Source: git's refs.c (refs_verify_refname_available, ref_transaction_error_msg).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from govc.errors import RefUpdateRefused

ANY: Final = None
"""As `old`: whatever the ref is now."""

REASON_CONFLICT = "refname conflict"
REASON_EXISTS = "reference already exists"
REASON_ABSENT = "reference does not exist"
REASON_STALE = "incorrect old value provided"
REASON_FAILED = "failed to update ref"
REASON_DUPLICATE = "failed to update refs"
REASON_ALIASED = "inconsistent aliased update"
REASON_FUNNY = "funny refname"
REASON_BROKEN_SYMREF = "broken symref"
REASON_HOOK = "reference-transaction hook declined"


ABBREVIATION = 7
"""Digits of an abbreviated oid in texts for people."""


class RefUpdate(NamedTuple):
    """One wanted change.

    `old`: the value it must have, all zeros when it must not exist, or ANY. `new`: all zeros to delete.
    """

    name: bytes
    old: bytes | None
    new: bytes


def shown(name: bytes) -> str:
    """Return a refname as text."""
    return name.decode("utf-8", "surrogateescape")


def refuse(name: bytes, reason: str, detail: str) -> RefUpdateRefused:
    """Return the refusal of one update; `detail` gets git's `cannot lock ref` in front."""
    return RefUpdateRefused(name, reason, f"cannot lock ref '{shown(name)}': {detail}")


def explain_aliased(update: RefUpdate, other: RefUpdate, target: bytes) -> str:
    """Return what git says of a symref and its target that one push sets to different values; "" for two symrefs."""
    alias, direct = (other, update) if update.name == target else (update, other)
    if direct.name != target or update.old is None or other.old is None:
        return ""
    values = [oid.hex()[:ABBREVIATION] for one in (alias, direct) for oid in (one.old or b"", one.new)]
    return (
        f"refusing inconsistent update between symref '{shown(alias.name)}' ({values[0]}..{values[1]}) and its target "
        f"'{shown(target)}' ({values[2]}..{values[3]})"
    )


def iter_parents(name: bytes) -> Iterator[bytes]:
    """Yield the refnames that a ref of this name excludes by being above it: refs/heads, refs/heads/a, ..."""
    end = name.find(b"/", len(b"refs/"))
    while end >= 0:
        yield name[:end]
        end = name.find(b"/", end + 1)


def find_conflicts(names: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return, for each of the names that lies below another of them, that other name."""
    known = set(names)
    found: dict[bytes, bytes] = {}
    for name in known:
        blocker = next((parent for parent in iter_parents(name) if parent in known), None)
        if blocker is not None:
            found[name] = blocker
    return found


def split_by_conflict(updates: Sequence[RefUpdate], zero: bytes) -> tuple[tuple[RefUpdate, ...], ...]:
    """Return the updates as one transaction, or as two: deletions first when they make room for creations."""
    deletions = tuple(u for u in updates if u.new == zero)
    rest = tuple(u for u in updates if u.new != zero)
    if not deletions or not rest:
        return (tuple(updates),) if updates else ()
    deleted = {u.name for u in deletions}
    for below, above in find_conflicts(u.name for u in updates).items():
        if (below in deleted) != (above in deleted):
            return deletions, rest
    return (tuple(updates),)
