"""Bearer tokens that an issuer has signed (JWT): RS256, ES256 and EdDSA, and nothing else.

The key decides which algorithm may be used with it, so "none", HMAC under a public key, and a curve's key under RSA's
name are refused before any signature is looked at. Checked are the signature, issuer, audience, expiry (which must be
there), not-before and issued-at; leeway is for clocks that disagree. What was good is remembered for a short while,
as long as it hasn't expired and the keys are the same: a signature costs as much CPU as a whole answer from memory.

Source: RFC 7515, 7518, 7519, 8037, 8725 (what goes wrong with JWT), 9864.
"""

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from joserfc import jws, jwt
from joserfc.errors import BadSignatureError, ClaimError, JoseError, UnsupportedAlgorithmError

from govc.auth.claims import ClaimNames, principal_of
from govc.auth.gate import ExpiringCache
from govc.auth.jwks import KeySet, KeySource, PublicKey
from govc.auth.principal import LoginFailed, Principal

METHOD = "jwt"
TOKEN_BYTES_MAX = 16 << 10
CANDIDATES_MAX = 8
REMEMBER_SECONDS = 60.0
REMEMBERED_MAX = 4096
ALGORITHMS = ("RS256", "ES256", "EdDSA", "Ed25519")


class _Registry(jws.JWSRegistry):
    """The algorithms that we take. Unknown names in a header are passed over, as RFC 7515 has it; "crit" is obeyed."""

    def get_alg(self, name: str) -> Any:
        """Return an algorithm without the warning that RFC 9864 renames EdDSA: it is as sound under its old name."""
        if self.allowed is None or name not in self.allowed:
            raise UnsupportedAlgorithmError("not taken")
        return self.algorithms[name]


_REGISTRY = _Registry(algorithms=ALGORITHMS, strict_check_header=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtRules:
    """Whose tokens are taken."""

    issuer: str
    audience: str
    leeway_seconds: int = 60
    claims: ClaimNames = field(default_factory=ClaimNames)


class _Proved(NamedTuple):
    """A token that was good, under these keys."""

    principal: Principal
    keys: KeySet
    expires_at: float


class JwtChecker:
    """Checks JWTs. May switch (see `UrlKeys`)."""

    def __init__(self, rules: JwtRules, keys: KeySource, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since 1970."""
        self._rules = rules
        self._keys = keys
        self._clock = clock
        self._secret = os.urandom(32)
        self._proved: ExpiringCache[bytes, _Proved] = ExpiringCache(REMEMBERED_MAX)
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=rules.leeway_seconds,
            iss={"essential": True, "value": rules.issuer},
            aud={"essential": True, "value": rules.audience},
            exp={"essential": True},
        )

    def check(self, token: str) -> Principal:
        """Return whom the token names. Raises LoginFailed."""
        if len(token) > TOKEN_BYTES_MAX:
            raise LoginFailed(METHOD, "token too long")
        digest = hmac.digest(self._secret, token.encode("utf-8", "surrogatepass"), hashlib.sha256)
        keys = self._keys.current()
        known = self._proved.get(digest)
        if known is not None and known.keys is keys and self._clock() < known.expires_at:
            return known.principal
        principal, expires_at = self._check_anew(token)
        self._proved.put(digest, _Proved(principal, keys, expires_at), REMEMBER_SECONDS)
        return principal

    def _check_anew(self, token: str) -> tuple[Principal, float]:
        """Return whom the token names, and until when."""
        try:
            claims = self._verified_claims(token)
            self._claims.validate(claims)
        except ClaimError as error:
            raise LoginFailed(METHOD, f"claim {error.claim!r}: {error.error}") from None
        except (JoseError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # The text of an error may quote the token.
            raise LoginFailed(METHOD, type(error).__name__) from None
        expires_at = claims["exp"]
        assert isinstance(expires_at, int | float)
        return principal_of(claims, self._rules.claims, METHOD), expires_at + self._rules.leeway_seconds

    def _verified_claims(self, token: str) -> dict[str, object]:
        header = jws.extract_compact(token.encode("ascii"), registry=_REGISTRY).headers()
        if not isinstance(header, dict):  # any JSON in which "alg" is: a list, a text
            raise LoginFailed(METHOD, "malformed header")
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if algorithm not in ALGORITHMS or not isinstance(kid, str):
            raise LoginFailed(METHOD, "algorithm not taken")
        candidates = self._keys.candidates(kid)
        fitting = [key for key in candidates if algorithm in key.algorithms]
        if not fitting:
            raise LoginFailed(METHOD, "no key for this algorithm" if candidates else "unknown key")
        for key in fitting[:CANDIDATES_MAX]:
            try:
                return _decode(token, key)
            except BadSignatureError:
                continue
        raise LoginFailed(METHOD, "wrong signature")


def _decode(token: str, key: PublicKey) -> dict[str, object]:
    registry = _Registry(algorithms=key.algorithms, strict_check_header=False)
    return jwt.decode(token, key.key, registry=registry).claims
