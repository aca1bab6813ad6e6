"""The values: who asks (`Principal`), how much somebody may do (`Level`), and how logging in can fail."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from govc.auth.patterns import RepositoryPattern
from govc.errors import GovcError

USER_CHARS_MAX = 255


class Level(IntEnum):
    """What somebody may do with a repository; each level holds those below it."""

    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3


LEVELS = {level.name.lower(): level for level in Level}
"""The words of the permission file and of `govc token`."""


class Grant(NamedTuple):
    """What an access token is limited to: these repositories, up to this level."""

    pattern: RepositoryPattern
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks.

    `user` None: nobody in particular. `groups` are those that a bearer token's claims name; the permission file adds
    its own. `method` is one of METHODS. `grants` limit what the person may do by this way of logging in; None: no
    limit. `token_id` is the public part of an access token, for logs.
    """

    user: str | None = None
    groups: frozenset[str] = frozenset()
    method: str = "none"
    grants: tuple[Grant, ...] | None = None
    token_id: str = ""

    def limit_for(self, names: Sequence[str]) -> Level:
        """Return the most that this login may do with a repository that has all these names."""
        if self.grants is None:
            return Level.ADMIN
        return min((self._limit_for_one(name) for name in names), default=Level.NONE)

    def _limit_for_one(self, name: str) -> Level:
        levels = (grant.level for grant in self.grants or () if grant.pattern.matches(name))
        return max(levels, default=Level.NONE)


METHODS = ("none", "proxy", "password", "token", "jwt", "introspection")
"""How somebody logged in; a closed set, since it labels metrics."""

ANONYMOUS = Principal()


def is_user_name(name: str) -> bool:
    """Say whether a name may be a user's: printable (logs, reflogs and hooks show it), not long, no edge blanks."""
    return 0 < len(name) <= USER_CHARS_MAX and name.isprintable() and name == name.strip()


class LoginFailed(GovcError):
    """Credentials that prove nothing. `str(error)` is for the log and never holds what a client sent; the client
    learns 401 only.
    """

    http_status = 401

    def __init__(self, method: str, reason: str) -> None:
        super().__init__(f"login failed ({method}): {reason}")
        self.method = method
        self.reason = reason

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return "authentication failed"


class LoginBusy(GovcError):
    """Credentials that can't be checked now: too many others wait, or the issuer doesn't answer. Answered 503, so that
    no client throws a good password away.
    """

    http_status = 503

    def __init__(self, method: str, reason: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(f"login not checked ({method}): {reason}")
        self.method = method
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return "authentication is busy"


class AccessDenied(GovcError):
    """Permission is missing: 403, or 404 when the principal may not even know that there is such a repository.

    For somebody who has not logged in, and could, the web layer turns it into 401 with a challenge.
    """

    def __init__(self, name: str, user: str | None, *, wanted: Level, has: Level) -> None:
        who = "nobody" if user is None else repr(user)
        super().__init__(f"{who} has {has.name.lower()} on {name!r} and wanted {wanted.name.lower()}")
        self.http_status = 403 if has >= Level.READ else 404

    @property
    def public_text(self) -> str:
        """What a peer may read."""
        return "permission denied" if self.http_status == 403 else "repository not found"


class BadAuthFile(GovcError):
    """A file of ours that can't be taken as it is. `line` counts from 1; 0: the file as a whole."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(f"{path} line {line}: {reason}" if line else f"{path}: {reason}")
        self.path = path
        self.line = line
        self.reason = reason
