"""The Authorization header to a `Principal`.

    Basic USER:PASSWORD     the htpasswd file
    Basic ANYTHING:govc_…   one of our access tokens (git has no other field to put it in)
    Basic oauth2:TOKEN      a bearer token, for clients that know Basic only
    Bearer TOKEN            an access token of ours, a JWT, or an opaque one

No header: nobody in particular. A header that proves nothing is an error even where nobody would have been enough: an
expired token must be heard of. RFC 7617 and 6750 have the grammar.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Protocol

from govc.auth.passwords import PasswordChecker
from govc.auth.principal import ANONYMOUS, LoginFailed, Principal, is_user_name
from govc.auth.tokens import TokenChecker, looks_like_token

HEADER_CHARS_MAX = 24 << 10
BEARER_USER = "oauth2"


class JwtLike(Protocol):
    """Checks JWTs (`jwt.JwtChecker`, whose libraries are optional)."""

    def check(self, token: str) -> Principal:
        """Return whom the token names, or raise LoginFailed."""


class IntrospectionLike(Protocol):
    """Asks about tokens (`introspection.IntrospectionChecker`)."""

    def check(self, token: str, client: str | None) -> Principal:
        """Return whom the token names, or raise LoginFailed or LoginBusy."""


def _looks_like_jwt(token: str) -> bool:
    return token.startswith("eyJ") and token.count(".") == 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """The ways of logging in that are configured; at least one is."""

    realm: str = "Git"
    passwords: PasswordChecker | None = None
    tokens: TokenChecker | None = None
    jwt: JwtLike | None = None
    introspection: IntrospectionLike | None = None

    @property
    def challenges(self) -> tuple[str, ...]:
        """The values of WWW-Authenticate. Basic is always among them: it is what git can answer."""
        basic = f'Basic realm="{self.realm}", charset="UTF-8"'
        if self.jwt is None and self.introspection is None:
            return (basic,)
        return basic, f'Bearer realm="{self.realm}"'

    def authenticate(self, header: str | None, client: str | None) -> Principal:
        """Return who it is; `header` as WSGI has it, `client` the address. May switch.

        Raises LoginFailed, LoginBusy.
        """
        if header is None or not header.strip():
            return ANONYMOUS
        if len(header) > HEADER_CHARS_MAX:
            raise LoginFailed("none", "header too long")
        scheme, _, credentials = header.strip().partition(" ")
        if scheme.lower() == "basic":
            return self._check_basic(credentials.strip(), client)
        if scheme.lower() == "bearer":
            return self._check_bearer(credentials.strip(), client)
        raise LoginFailed("none", "a scheme that isn't offered")

    def _check_basic(self, credentials: str, client: str | None) -> Principal:
        try:
            decoded = base64.b64decode(credentials.encode("latin-1"), validate=True)
            name, colon, password = decoded.partition(b":")
            user = name.decode("utf-8")
        except (binascii.Error, ValueError):
            raise LoginFailed("password", "malformed header") from None
        if not colon:
            raise LoginFailed("password", "malformed header")
        text = password.decode("utf-8", "replace")
        if self.tokens is not None and looks_like_token(text):
            return self.tokens.check(text)
        if user == BEARER_USER and (self.jwt is not None or self.introspection is not None):
            return self._check_bearer(text, client)
        if self.passwords is None:
            raise LoginFailed("password", "no passwords are taken here")
        if not is_user_name(user):
            # No file holds such a name. Everybody may know that.
            raise LoginFailed("password", "not a user's name")
        return self.passwords.check(user, password, client)

    def _check_bearer(self, token: str, client: str | None) -> Principal:
        if self.tokens is not None and looks_like_token(token):
            return self.tokens.check(token)
        if self.jwt is not None and (_looks_like_jwt(token) or self.introspection is None):
            return self.jwt.check(token)
        if self.introspection is not None:
            return self.introspection.check(token, client)
        raise LoginFailed("none", "no bearer tokens are taken here")
