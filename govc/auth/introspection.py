"""Opaque bearer tokens: the issuer is asked whether one is good (OAuth 2.0 Token Introspection).

An answer is kept for a short while, under a keyed digest of the token: a good one not beyond its own expiry, a bad
one shorter. Equal questions fly together and only so many are asked at once. When the issuer doesn't answer, the
client gets 503, not 401: its token may be good, and git would forget it.

Source: RFC 7662, RFC 6749 2.3.1.
"""

import hashlib
import hmac
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from authlib.integrations.requests_client import OAuth2Session

from govc.auth.claims import ClaimNames, principal_of
from govc.auth.gate import Busy, ExpiringCache, Flights, Gate
from govc.auth.principal import LoginBusy, LoginFailed, Principal

METHOD = "introspection"
TOKEN_BYTES_MAX = 16 << 10
TIMEOUT_SECONDS = 5.0
REFUSED_SECONDS = 10.0
REMEMBERED_MAX = 4096
ANSWER_BYTES_MAX = 64 << 10
QUESTIONS_MAX = 16
WAITING_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class IntrospectionRules:
    """Whom to ask, as whom, and what a good answer says. `audience` and `issuer` "": any."""

    url: str
    client_id: str
    client_secret: str
    audience: str = ""
    issuer: str = ""
    remember_seconds: float = 60.0
    claims: ClaimNames = field(default_factory=lambda: ClaimNames(user="username"))


Ask = Callable[[str], Mapping[str, Any]]
"""A token to the issuer's answer. Raises OSError or ValueError when there is none."""


class AskIssuer:
    """Asks over HTTP. A session per question, since sessions aren't made to be shared. May switch."""

    def __init__(self, rules: IntrospectionRules) -> None:
        self._rules = rules

    def __call__(self, token: str) -> Mapping[str, Any]:
        """Return the answer."""
        with OAuth2Session(self._rules.client_id, self._rules.client_secret) as session:
            response = session.introspect_token(
                self._rules.url,
                token=token,
                token_type_hint="access_token",
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,
            )
        if response.status_code != 200:
            raise OSError(f"status {response.status_code}")
        if len(response.content) > ANSWER_BYTES_MAX:
            raise OSError("answer too large")
        answer = response.json()
        if not isinstance(answer, dict):
            raise ValueError("the answer is no JSON object")
        return answer


class IntrospectionChecker:
    """Checks opaque tokens. May switch."""

    def __init__(self, rules: IntrospectionRules, ask: Ask, gate: Gate, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970."""
        self._rules = rules
        self._ask = ask
        self._gate = gate
        self._clock = clock
        self._key = os.urandom(32)
        self._known: ExpiringCache[bytes, Principal | LoginFailed] = ExpiringCache(REMEMBERED_MAX, clock)
        self._flights: Flights[bytes, Principal | LoginFailed] = Flights(2 * TIMEOUT_SECONDS)

    def check(self, token: str, client: str | None) -> Principal:
        """Return whom the token names. Raises LoginFailed, LoginBusy."""
        if len(token) > TOKEN_BYTES_MAX or not token.isascii() or not token.isprintable():
            raise LoginFailed(METHOD, "not a token")
        digest = hmac.digest(self._key, token.encode("ascii"), hashlib.sha256)
        found = self._known.get(digest)
        if found is None:
            try:
                found = self._flights.run(digest, lambda: self._find(token, client))
            except Busy as error:
                raise LoginBusy(METHOD, str(error)) from error
            except (OSError, ValueError) as error:
                # The text of an error may hold the request.
                raise LoginBusy(METHOD, f"no answer from the issuer: {type(error).__name__}") from None
            if isinstance(found, LoginFailed):
                self._known.put(digest, found, min(REFUSED_SECONDS, self._rules.remember_seconds))
        if isinstance(found, LoginFailed):
            raise LoginFailed(METHOD, found.reason)
        return found

    def _find(self, token: str, client: str | None) -> Principal | LoginFailed:
        with self._gate.enter(client):
            answer = self._ask(token)
        try:
            principal = self._judge(answer)
        except LoginFailed as failure:
            return failure
        seconds = self._rules.remember_seconds
        expires_at = answer.get("exp")
        if isinstance(expires_at, int | float):
            seconds = min(seconds, expires_at - self._clock())
        self._known.put(hmac.digest(self._key, token.encode("ascii"), hashlib.sha256), principal, seconds)
        return principal

    def _judge(self, answer: Mapping[str, Any]) -> Principal:
        if answer.get("active") is not True:
            raise LoginFailed(METHOD, "not active")
        now = self._clock()
        for name, is_past in (("exp", True), ("nbf", False)):
            value = answer.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # NaN is never past
                raise LoginFailed(METHOD, f"claim {name!r} is no time")
            if (value <= now) if is_past else (value > now):
                raise LoginFailed(METHOD, "expired" if is_past else "not valid yet")
        audience = answer.get("aud")
        audiences = [audience] if isinstance(audience, str) else audience
        if self._rules.audience and not (isinstance(audiences, list) and self._rules.audience in audiences):
            raise LoginFailed(METHOD, "for another audience")
        if self._rules.issuer and answer.get("iss") != self._rules.issuer:
            raise LoginFailed(METHOD, "from another issuer")
        return principal_of(answer, self._rules.claims, METHOD)
