"""Lists of people, as the rules of the permission file write them: names, @groups, and three groups that are built
in.
"""

from collections.abc import Iterable
from dataclasses import dataclass

ANYONE = "@anyone"
USERS = "@users"
ADMINS = "@admins"
"""Who has the level admin on the repository: in rules of branches only."""

BUILT_IN_GROUPS = (ANYONE, USERS, ADMINS)


@dataclass(frozen=True, slots=True)
class Subjects:
    """A list of people as a rule writes it: names, @groups, and the built-in groups."""

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, words: Iterable[str]) -> "Subjects":
        """Take "ann" and "@developers"."""
        items = frozenset(words)
        groups = frozenset(word for word in items if word.startswith("@"))
        return cls(items - groups, groups)

    def rank(self, user: str | None, groups: frozenset[str]) -> int:
        """Say how closely this list speaks of somebody: 4 by name, 3 by group, 2 @users, 1 @anyone, 0 not at all."""
        if user is not None:
            if user in self.users:
                return 4
            if not self.groups.isdisjoint(groups):
                return 3
            if USERS in self.groups:
                return 2
        return 1 if ANYONE in self.groups else 0
