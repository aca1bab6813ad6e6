"""The file of users and password hashes: Apache's htpasswd, one `user:hash` a line.

    $2y$ $2b$ $2a$      bcrypt, as `htpasswd -B` makes them; cost 4 to 16
    $argon2id$ ...      argon2 in its PHC form, as `govc password` makes them

What is weaker (MD5 "$apr1$", SHA-1, crypt, plain text) is refused with its line: it would not hold if the file leaked.
Blank lines and lines that begin with # are skipped.

Source: Apache's htpasswd and "Password Formats"; the PHC string format.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from govc.auth.principal import BadAuthFile, is_user_name
from govc.auth.watched import decode_text

BCRYPT_COST_MAX = 16
"""About four seconds of CPU; more would be a way to stop the server."""

ARGON2_KIB_MAX = 1 << 20
ARGON2_PASSES_MAX = 64

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_ARGON2 = re.compile(
    r"\$argon2(?:id|i|d)\$v=19\$m=(\d{1,7}),t=(\d{1,4}),p=(\d{1,3})\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}"
)
_WEAK = (("$apr1$", "MD5"), ("{SHA}", "SHA-1"), ("$5$", "SHA-256 crypt"), ("$6$", "SHA-512 crypt"))


class HashKind(Enum):
    """How a password was hashed."""

    BCRYPT = "bcrypt"
    ARGON2 = "argon2"


@dataclass(frozen=True, slots=True)
class Entry:
    """The hash of one user's password."""

    kind: HashKind
    text: str


@dataclass(frozen=True, slots=True)
class PasswordFile:
    """All users of a file. `secret` is derived from its content, so nobody outside can compute it."""

    entries: Mapping[str, Entry]
    secret: bytes
    order: tuple[Entry, ...]

    def stand_in_for(self, user: str) -> Entry | None:
        """Return the entry against which an unknown user's password is checked, in vain: somebody's, always the same
        one for the same name and in every worker, so that the time it takes is that of a user who exists.
        """
        if not self.order:
            return None
        digest = hashlib.blake2b(user.encode("utf-8", "surrogatepass"), key=self.secret, digest_size=8).digest()
        return self.order[int.from_bytes(digest, "big") % len(self.order)]


def parse_htpasswd(content: bytes, path: str) -> PasswordFile:
    """Return the users of a file's content. Raises BadAuthFile."""
    entries: dict[str, Entry] = {}
    for number, line in enumerate(decode_text(content, path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, colon, text = line.partition(":")
        if not colon:
            raise BadAuthFile(path, number, "wants USER:HASH")
        if not is_user_name(user):
            raise BadAuthFile(path, number, "what stands before the colon can't be a user's name")
        if user in entries:
            raise BadAuthFile(path, number, f"the user {user!r} is there twice")
        entries[user] = _parse_hash(text.strip(), path, number, user)
    return PasswordFile(entries, hashlib.blake2b(content, digest_size=32).digest(), tuple(entries.values()))


def _parse_hash(text: str, path: str, line: int, user: str) -> Entry:
    """Return an entry; no part of the hash gets into an error."""
    bcrypt = _BCRYPT.fullmatch(text)
    if bcrypt is not None:
        if not 4 <= int(bcrypt[1]) <= BCRYPT_COST_MAX:
            raise BadAuthFile(
                path, line, f"user {user!r}: bcrypt of cost {bcrypt[1]}; 4 to {BCRYPT_COST_MAX} are taken"
            )
        return Entry(HashKind.BCRYPT, text)
    argon2 = _ARGON2.fullmatch(text)
    if argon2 is not None:
        memory, passes, lanes = (int(argon2[group]) for group in (1, 2, 3))
        if not (8 * lanes <= memory <= ARGON2_KIB_MAX and 1 <= passes <= ARGON2_PASSES_MAX and 1 <= lanes <= 64):
            raise BadAuthFile(path, line, f"user {user!r}: argon2 parameters that are too much or make no sense")
        return Entry(HashKind.ARGON2, text)
    kind = next((name for prefix, name in _WEAK if text.startswith(prefix)), "unknown or damaged")
    raise BadAuthFile(
        path, line, f"user {user!r}: {kind} hash; bcrypt ('htpasswd -B') and argon2 ('govc password') are taken"
    )
