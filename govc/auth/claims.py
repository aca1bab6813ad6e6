"""Whose token is it? The claims of a token that somebody else vouches for, mapped to a user and groups.

The names of the claims are settings: issuers differ. `preferred_username` or `email` may be changed by their owner at
some issuers, `sub` never; that is why it is the default. A groups claim is a list of names, or one text with blanks
between them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from govc.auth.principal import LoginFailed, Principal, is_user_name

GROUPS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames:
    """Which claims hold what; `groups` "": none does."""

    user: str = "sub"
    groups: str = ""


def principal_of(claims: Mapping[str, Any], names: ClaimNames, method: str) -> Principal:
    """Return whom the claims name. Raises LoginFailed."""
    user = claims.get(names.user)
    if not isinstance(user, str) or not is_user_name(user):
        raise LoginFailed(method, f"the claim {names.user!r} holds no user's name")
    return Principal(user=user, groups=_groups(claims.get(names.groups), names, method), method=method)


def _groups(value: Any, names: ClaimNames, method: str) -> frozenset[str]:
    if not names.groups or value is None:
        return frozenset()
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words) or len(words) > GROUPS_MAX:
        raise LoginFailed(method, f"the claim {names.groups!r} holds no list of groups")
    return frozenset(words)
