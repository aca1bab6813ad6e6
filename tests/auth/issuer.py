"""An issuer of tokens for tests: keys, a key set, and tokens signed with them."""

import base64
import json
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

ISSUER = "https://issuer.example"
AUDIENCE = "git"
NOW = 1_800_000_000

_ALL = [*JWSRegistry.algorithms]


def make_key(kind: str, kid: str) -> Any:
    parameters = {"kid": kid}
    if kind == "RS256":
        return RSAKey.generate_key(2048, parameters)
    if kind == "ES256":
        return ECKey.generate_key("P-256", parameters)
    return OKPKey.generate_key("Ed25519", parameters)


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    values = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": NOW + 300, "iat": NOW, **changes}
    return {name: value for name, value in values.items() if value is not None}


def sign(key: Any, algorithm: str, kid: str | None = "", **changes: Any) -> str:
    """`kid` "": the key's own; None: no kid in the header."""
    header = {"alg": algorithm}
    if kid is not None:
        header["kid"] = kid or key.kid
    return jwt.encode(header, claims(**changes), key, algorithms=_ALL)


def encode_part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hmac_key(secret: bytes, kid: str) -> Any:
    return OctKey.import_key(secret, {"kid": kid})
