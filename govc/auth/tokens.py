"""Access tokens: what they look like and how one is checked.

    govc_ IIIIIIIIII SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS CCCCCC      56 characters of 0-9 A-Z a-z after the prefix
          10: id     40: secret, 238 random bits               6: CRC-32 of all before it, base 62

The prefix lets secret scanners find a token that leaked; the checksum lets them, and us, know one from a look-alike
without asking anybody. The id is public: it finds the record and stands in logs. The file holds SHA-256 of the whole
token; so many random bits need no slow hash.

A token is checked by its id and one comparison that takes the same time wherever it fails; an id that isn't there is
compared too.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from govc.auth.principal import Grant, LoginFailed, Principal
from govc.auth.watched import WatchedValue

METHOD = "token"
PREFIX = "govc_"
ID_CHARS = 10
SECRET_CHARS = 40
CHECKSUM_CHARS = 6

TOKEN_PATTERN = re.compile(r"govc_[0-9A-Za-z]{56}")
"""What a scanner looks for."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """What is kept of a token. Times in seconds since 1970; `expires_at` None: never."""

    id: str
    hash: bytes
    user: str
    grants: tuple[Grant, ...]
    created_at: int
    expires_at: int | None
    description: str = ""


def make_token() -> str:
    """Return a new token."""
    body = PREFIX + "".join(secrets.choice(_DIGITS) for _ in range(ID_CHARS + SECRET_CHARS))
    return body + _checksum(body)


def looks_like_token(text: str) -> bool:
    """Say whether this is meant as one of our tokens."""
    return text.startswith(PREFIX)


def token_id(token: str) -> str:
    """Return the public part."""
    return token[len(PREFIX) : len(PREFIX) + ID_CHARS]


def hash_token(token: str) -> bytes:
    """Return what the file keeps."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def is_well_formed(token: str) -> bool:
    """Say whether form and checksum are a token's."""
    return TOKEN_PATTERN.fullmatch(token) is not None and _checksum(token[:-CHECKSUM_CHARS]) == token[-CHECKSUM_CHARS:]


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode("ascii"))
    digits = []
    for _ in range(CHECKSUM_CHARS):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


class TokenChecker:
    """Checks tokens against the file as it is now: a token that was revoked is refused by the next request."""

    def __init__(self, file: WatchedValue[Mapping[str, TokenRecord]], clock: Callable[[], float]) -> None:
        """`clock` gives seconds since 1970."""
        self._file = file
        self._clock = clock

    def check(self, token: str) -> Principal:
        """Return whose token it is, with its limits. Raises LoginFailed."""
        if not is_well_formed(token):
            # Public knowledge: whoever made up a token can compute the checksum.
            raise LoginFailed(METHOD, "malformed")
        record = self._file.get().get(token_id(token))
        matches = hmac.compare_digest(hash_token(token), record.hash if record is not None else _NO_HASH)
        if record is None or not matches:
            raise LoginFailed(METHOD, "no such token")
        if record.expires_at is not None and self._clock() >= record.expires_at:
            raise LoginFailed(METHOD, f"token {record.id} of {record.user!r} has expired")
        return Principal(user=record.user, method=METHOD, grants=record.grants, token_id=record.id)
