"""Branch protection: which ref updates of a push the permission file forbids, whoever may write otherwise.

A rule covers refs by full name; every rule that covers a ref counts. What a rule doesn't allow is forbidden: it
exists to protect, so `force`, `delete` are off unless it says true. `only` names who may update the refs at all,
`signed` asks for a signed push whose signature is good, `exempt` names whom the rule doesn't bind.

This room knows rules; whether an update goes forward, and whether a push is signed, it asks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from govc.auth.patterns import RefPattern, RepositoryPattern
from govc.auth.subjects import Subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchRule:
    """One [[branch]] of the permission file; `only` None: everybody who may write. `line` is where it is written."""

    patterns: tuple[RepositoryPattern, ...]
    refs: tuple[RefPattern, ...]
    force: bool = False
    delete: bool = False
    signed: bool = False
    only: Subjects | None = None
    exempt: Subjects
    line: int = 0


class BoundRule(NamedTuple):
    """A rule as it binds one person."""

    rule: BranchRule
    is_allowed: bool


class UpdateFacts(NamedTuple):
    """What a rule must know of a ref update. `goes_forward` is asked only when it matters: it walks history."""

    deletes: bool
    creates: bool
    goes_forward: Callable[[], bool]
    is_signed: bool


@dataclass(frozen=True, slots=True)
class BranchRules:
    """The rules that bind one push: a value, given to whoever judges its commands."""

    bound: tuple[BoundRule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.bound)

    def refusal(self, refnames: tuple[str, ...], facts: UpdateFacts) -> str | None:
        """Return why an update of a ref is forbidden, as the `ng` line says it, or None.

        `refnames`: all names of what is updated (a symbolic ref has its target's name too).
        """
        for rule, is_allowed in self.bound:
            if any(pattern.matches(name) for pattern in rule.refs for name in refnames):
                reason = _refusal(rule, is_allowed, facts)
                if reason is not None:
                    return reason
        return None


NO_RULES = BranchRules()


def _refusal(rule: BranchRule, is_allowed: bool, facts: UpdateFacts) -> str | None:
    if not is_allowed:
        return "protected ref: not yours to update"
    if rule.signed and not facts.is_signed:
        return "protected ref: the push must be signed (git push --signed)"
    if facts.deletes:
        return None if rule.delete else "protected ref: deletion not allowed"
    if facts.creates or rule.force or facts.goes_forward():
        return None
    return "protected ref: non-fast-forward not allowed"
