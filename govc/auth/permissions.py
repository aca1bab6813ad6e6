"""The policy: who has which level on which repository.

Rules are read from the top. The first rule that covers the repository AND speaks of the person decides; nothing
decides for somebody of whom no rule speaks, who has nothing. Inside one rule, what is said about a name counts before
what is said about groups, these before `@users` (everybody who has logged in), and these before `@anyone`; among
equals `none` counts first, else the highest level.

A repository that has several names for a request (it lies inside another one) has the lowest level of all of them.

Everything here is a value: pure, immutable, safe to share. The one thing that changes is a bounded memory of answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from govc.auth.branches import NO_RULES, BoundRule, BranchRule, BranchRules
from govc.auth.patterns import RepositoryPattern
from govc.auth.principal import Level, Principal
from govc.auth.subjects import ADMINS, Subjects

ANSWERS_KEPT_MAX = 8192
NAME_KEPT_CHARS_MAX = 256


@dataclass(frozen=True, slots=True)
class Rule:
    """One [[rule]]: these repositories, and who has which level on them. `line` is where it is written."""

    patterns: tuple[RepositoryPattern, ...]
    levels: Mapping[Level, Subjects]
    line: int = 0

    def covers(self, name: str) -> bool:
        """Say whether the rule is about this repository."""
        return any(pattern.matches(name) for pattern in self.patterns)

    def level_for(self, user: str | None, groups: frozenset[str]) -> Level | None:
        """Return what the rule says about somebody, None when it doesn't speak of them."""
        best: tuple[int, bool, Level] | None = None
        for level, subjects in self.levels.items():
            rank = subjects.rank(user, groups)
            if rank:
                found = (rank, level is Level.NONE, level)
                best = found if best is None else max(best, found)
        return best[2] if best is not None else None


@dataclass(frozen=True, slots=True)
class Permissions:
    """A whole permission file. `groups` are the members of each group, without their "@"."""

    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    branches: tuple[BranchRule, ...] = ()
    _groups_of: dict[str, frozenset[str]] = field(init=False, repr=False, compare=False, default_factory=dict)
    _answers: dict[tuple[str | None, frozenset[str], str], Level] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        found: dict[str, set[str]] = {}
        for group, members in self.groups.items():
            for member in members:
                found.setdefault(member, set()).add(f"@{group}")
        self._groups_of.update({user: frozenset(groups) for user, groups in found.items()})

    def groups_of(self, principal: Principal) -> frozenset[str]:
        """Return the groups of somebody, with their "@": the file's, and those that a bearer token named."""
        if principal.user is None:
            return frozenset()
        own = self._groups_of.get(principal.user, frozenset())
        # Only groups that the file names: "admins" in a claim must not become the built-in @admins.
        return own | {f"@{group}" for group in principal.groups if group in self.groups} if principal.groups else own

    def level(self, principal: Principal, names: Sequence[str]) -> Level:
        """Return what somebody may do with a repository that has all these names, by this login."""
        groups = self.groups_of(principal)
        lowest = min((self._level_for_one(principal.user, groups, name) for name in names), default=Level.NONE)
        return min(lowest, principal.limit_for(names))

    def _level_for_one(self, user: str | None, groups: frozenset[str], name: str) -> Level:
        if len(name) > NAME_KEPT_CHARS_MAX:
            return self._find_level(user, groups, name)
        key = (user, groups, name)
        known = self._answers.get(key)
        if known is None:
            if len(self._answers) >= ANSWERS_KEPT_MAX:
                self._answers.clear()  # Names are strangers' choice.
            known = self._answers[key] = self._find_level(user, groups, name)
        return known

    def _find_level(self, user: str | None, groups: frozenset[str], name: str) -> Level:
        for rule in self.rules:
            # Cheapest first: most rules don't speak of somebody at all.
            level = rule.level_for(user, groups)
            if level is not None and rule.covers(name):
                return level
        return Level.NONE

    def deciding_rule(self, principal: Principal, name: str) -> Rule | None:
        """Return the rule that decides about somebody and a repository, None when none does: for people who ask why."""
        groups = self.groups_of(principal)
        for rule in self.rules:
            if rule.level_for(principal.user, groups) is not None and rule.covers(name):
                return rule
        return None

    def branch_rules(self, principal: Principal, names: Sequence[str], level: Level) -> BranchRules:
        """Return the rules of branches that bind somebody's push to a repository that has all these names."""
        groups = self.groups_of(principal) | ({ADMINS} if level >= Level.ADMIN else frozenset())
        bound = []
        for rule in self.branches:
            if not any(pattern.matches(name) for pattern in rule.patterns for name in names):
                continue
            if rule.exempt.rank(principal.user, groups):
                continue
            is_allowed = rule.only is None or bool(rule.only.rank(principal.user, groups))
            bound.append(BoundRule(rule, is_allowed))
        return BranchRules(tuple(bound))


@dataclass(frozen=True, slots=True)
class LoginPermissions:
    """What holds without a permission file where we check logins ourselves: whoever has logged in may do what the
    repository's own settings say, and others may read, or nothing.
    """

    anonymous: Level = Level.NONE

    def level(self, principal: Principal, names: Sequence[str]) -> Level:
        """Return what somebody may do, by this login."""
        level = self.anonymous if principal.user is None else Level.WRITE
        return min(level, principal.limit_for(names))

    def branch_rules(self, _principal: Principal, _names: Sequence[str], _level: Level) -> BranchRules:
        """Return no rules."""
        return NO_RULES


Policy = Permissions | LoginPermissions
