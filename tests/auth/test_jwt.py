import contextlib
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import RSAKey

from govc.auth.claims import ClaimNames
from govc.auth.jwks import FileKeys, choose_keys, parse_keys
from govc.auth.jwt import TOKEN_BYTES_MAX, JwtChecker, JwtRules
from govc.auth.principal import BadAuthFile, LoginFailed

from .issuer import AUDIENCE, ISSUER, NOW, claims, encode_part, hmac_key, key_set, make_key, sign

KINDS = ("RS256", "ES256", "EdDSA")
KEYS = {kind: make_key(kind, f"key-{kind}") for kind in KINDS}
STRANGERS = {kind: make_key(kind, f"key-{kind}") for kind in KINDS}

pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # in `sign`, which is the issuer's part


class FixedKeys:
    def __init__(self, content):
        self.keys = parse_keys(content, "keys")

    def current(self):
        return self.keys

    def candidates(self, kid):
        return choose_keys(self.keys, kid)


def checker(content=None, **more):
    values = {"issuer": ISSUER, "audience": AUDIENCE, "leeway_seconds": 60, **more}
    return JwtChecker(JwtRules(**values), FixedKeys(content or key_set(*KEYS.values())), lambda: NOW + 0.5)


def outcome(token, **more):
    try:
        return checker(**more).check(token).user
    except LoginFailed as error:
        return error.reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_of_each_kind_names_its_user(kind):
    found = checker(claims=ClaimNames(groups="roles")).check(sign(KEYS[kind], kind, roles=["a"]))
    assert ("ann", frozenset("a"), "jwt") == (found.user, found.groups, found.method)


def test_ed25519_under_its_new_name():
    assert outcome(sign(KEYS["EdDSA"], "Ed25519")) == "ann"


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_by_another_key_of_the_same_name_is_refused(kind):
    assert outcome(sign(STRANGERS[kind], kind)) == "wrong signature"
    assert outcome(sign(STRANGERS[kind], kind, kid=None)) == "wrong signature"


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_kid_every_key_that_fits_is_tried(kind):
    content = key_set(STRANGERS[kind], *KEYS.values())
    assert outcome(sign(KEYS[kind], kind, kid=None), content=content) == "ann"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": NOW - 61}, "claim 'exp': expired_token"),
        ({"exp": NOW - 59}, None),
        ({"exp": None}, "claim 'exp': missing_claim"),
        ({"exp": "2099"}, "claim 'exp': invalid_claim"),
        ({"exp": True}, "claim 'exp': invalid_claim"),
        ({"nbf": NOW + 62}, "claim 'nbf': invalid_claim"),
        ({"nbf": NOW + 59}, None),
        ({"iat": NOW + 62}, "claim 'iat': invalid_claim"),
        ({"iss": "https://issuer.example/"}, "claim 'iss': invalid_claim"),
        ({"iss": None}, "claim 'iss': missing_claim"),
        ({"iss": [ISSUER]}, "claim 'iss': invalid_claim"),
        ({"aud": "other"}, "claim 'aud': invalid_claim"),
        ({"aud": None}, "claim 'aud': missing_claim"),
        ({"aud": []}, "claim 'aud': invalid_claim"),
        ({"aud": ["other", AUDIENCE]}, None),
        ({"aud": {"git": 1}}, "claim 'aud': invalid_claim"),
        ({"sub": None}, "the claim 'sub' holds no user's name"),
        ({"sub": "a\nb"}, "the claim 'sub' holds no user's name"),
    ],
)
def test_claims_are_checked(changes, reason):
    assert (reason or "ann") == outcome(sign(KEYS["ES256"], "ES256", **changes))


def test_no_leeway_is_none():
    assert outcome(sign(KEYS["ES256"], "ES256", exp=NOW), leeway_seconds=0) == "claim 'exp': expired_token"
    assert outcome(sign(KEYS["ES256"], "ES256", exp=NOW + 1), leeway_seconds=0) == "ann"


def test_no_algorithm_is_refused():
    for algorithm in ("none", "None", "NONE", "", None, ["RS256"], 1):
        header = {"alg": algorithm, "kid": "key-RS256"}
        for signature in ("", "AAAA"):
            token = f"{encode_part(header)}.{encode_part(claims())}.{signature}"
            assert outcome(token) != "ann"
    assert outcome(f"{encode_part({'kid': 'key-RS256'})}.{encode_part(claims())}.") != "ann"


@pytest.mark.parametrize("kind", KINDS)
def test_a_public_key_is_no_shared_secret(kind):
    # The classic confusion: HMAC under the public key's own bytes, in every form that they come in.
    public = KEYS[kind]
    for secret in (
        public.as_pem(private=False),
        public.as_der(private=False),
        json.dumps(public.as_dict(private=False)).encode(),
    ):
        for algorithm in ("HS256", "HS384", "HS512"):
            assert outcome(sign(hmac_key(b"x" * 64, f"key-{kind}"), algorithm)) == "algorithm not taken"
            header, payload = encode_part({"alg": algorithm, "kid": f"key-{kind}"}), encode_part(claims())
            digest = hmac.digest(secret, f"{header}.{payload}".encode(), hashlib.sha256)
            assert outcome(f"{header}.{payload}.{encode_part(digest)}") == "algorithm not taken"


def test_a_shared_secret_in_the_key_set_is_not_used():
    secret = hmac_key(b"s" * 32, "shared")
    content = json.dumps({"keys": [secret.as_dict(), KEYS["ES256"].as_dict(private=False)]}).encode()
    assert outcome(sign(secret, "HS256"), content=content) == "algorithm not taken"
    assert [key.kid for key in parse_keys(content, "keys")] == ["key-ES256"]


def test_the_key_decides_the_algorithm():
    for kind in KINDS:
        for other in KINDS:
            if kind != other:
                assert outcome(sign(KEYS[kind], kind, kid=f"key-{other}")) == "no key for this algorithm"
    assert outcome(sign(KEYS["RS256"], "PS256")) == "algorithm not taken"
    assert outcome(sign(KEYS["RS256"], "RS512")) == "algorithm not taken"


def test_a_key_that_says_its_algorithm_is_used_for_that_only():
    value = json.loads(key_set(KEYS["RS256"]))
    value["keys"][0]["alg"] = "PS256"
    value["keys"].append(KEYS["ES256"].as_dict(private=False))
    assert outcome(sign(KEYS["RS256"], "RS256"), content=json.dumps(value).encode()) == "unknown key"


def test_an_unknown_kid_is_refused():
    assert outcome(sign(KEYS["ES256"], "ES256", kid="another")) == "unknown key"
    assert outcome(sign(KEYS["ES256"], "ES256", kid="../../etc/passwd")) == "unknown key"


def test_keys_inside_a_token_are_not_believed():
    stranger = STRANGERS["ES256"]
    for extra in ({"jwk": stranger.as_dict(private=False)}, {"jku": "https://evil.example/keys"}, {"x5u": "https://e"}):
        signed = sign(stranger, "ES256").split(".")
        header = encode_part({"alg": "ES256", "kid": "key-ES256", **extra})
        assert outcome(f"{header}.{signed[1]}.{signed[2]}") != "ann"


def test_a_critical_extension_that_we_do_not_know_is_refused():
    # Signed by hand: the library refuses to make one.
    key = KEYS["ES256"]
    header = encode_part({"alg": "ES256", "kid": key.kid, "crit": ["urn:x"], "urn:x": 1})
    signed = f"{header}.{encode_part(claims())}"
    signature = jws.JWSRegistry.algorithms["ES256"].sign(signed.encode(), key)
    assert outcome(f"{signed}.{encode_part(signature)}") not in ("ann", "wrong signature")
    plain = f"{encode_part({'alg': 'ES256', 'kid': key.kid})}.{encode_part(claims())}"
    signature = jws.JWSRegistry.algorithms["ES256"].sign(plain.encode(), key)
    assert outcome(f"{plain}.{encode_part(signature)}") == "ann"


@pytest.mark.filterwarnings("ignore:Key size should be")
def test_a_weak_rsa_key_is_left_out():
    weak = RSAKey.generate_key(1024, {"kid": "weak"})
    assert outcome(sign(weak, "RS256"), content=key_set(weak, KEYS["ES256"])) == "unknown key"


def test_too_long_a_token_is_not_looked_at():
    assert outcome(sign(KEYS["ES256"], "ES256", more="x" * TOKEN_BYTES_MAX)) == "token too long"


@given(
    st.text(max_size=200) | st.builds(".".join, st.lists(st.text("eyJabc-_=1", max_size=40), min_size=3, max_size=3))
)
def test_property_arbitrary_text_is_refused_without_being_quoted(token):
    try:
        checker().check(token)
    except LoginFailed as error:
        assert len(token) < 8 or token not in str(error)
    else:
        raise AssertionError("accepted")


TOKEN = sign(KEYS["ES256"], "ES256")


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("Aa0_-"))
def test_property_a_changed_token_is_refused(position, char):
    changed = TOKEN[:position] + char + TOKEN[position + 1 :]
    # The last character of a base64 part holds bits that mean nothing.
    last_of_part = position + 1 == len(TOKEN) or TOKEN[position + 1] == "."
    if changed != TOKEN and not last_of_part:
        assert outcome(changed) != "ann"


# What was good is remembered


def test_a_good_token_is_verified_once_until_it_expires_or_the_keys_change(monkeypatch):
    now = [float(NOW)]
    keys = FixedKeys(key_set(KEYS["ES256"]))
    reader = JwtChecker(JwtRules(issuer=ISSUER, audience=AUDIENCE, leeway_seconds=60), keys, lambda: now[0])
    verified = []
    verify = JwtChecker._verified_claims
    monkeypatch.setattr(JwtChecker, "_verified_claims", lambda self, token: verified.append(1) or verify(self, token))
    token = sign(KEYS["ES256"], "ES256", exp=NOW + 10)
    for _ in range(3):
        assert reader.check(token).user == "ann"
    assert len(verified) == 1
    now[0] = NOW + 69.9
    assert reader.check(token).user == "ann"
    now[0] = NOW + 70.0
    with pytest.raises(LoginFailed, match="expired"):
        reader.check(token)
    now[0] = float(NOW)
    keys.keys = parse_keys(key_set(KEYS["RS256"]), "keys")
    with pytest.raises(LoginFailed, match="unknown key"):
        reader.check(token)
    with pytest.raises(LoginFailed):
        reader.check(token + "x")


# The key set


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(KEYS["ES256"]))
    rules = JwtRules(issuer=ISSUER, audience=AUDIENCE)
    reader = JwtChecker(rules, FileKeys(str(path)), lambda: NOW)
    assert reader.check(sign(KEYS["ES256"], "ES256")).user == "ann"
    path.write_bytes(key_set(KEYS["RS256"]))
    with pytest.raises(LoginFailed, match="unknown key"):
        reader.check(sign(KEYS["ES256"], "ES256"))
    path.write_text("broken")
    assert reader.check(sign(KEYS["RS256"], "RS256")).user == "ann"


@given(
    st.binary(max_size=100)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["keys", "kty", "kid", "n", "e", "crv", "x", "y", "use", "key_ops", "alg"]),
                inner | st.sampled_from(["RSA", "EC", "OKP", "P-256", "sig"]),
                max_size=6,
            )
        ),
        max_leaves=20,
    ).map(lambda value: json.dumps({"keys": [value]} if not isinstance(value, list) else {"keys": value}).encode())
)
def test_property_arbitrary_key_sets_are_keys_or_one_error(content):
    with contextlib.suppress(BadAuthFile):
        parse_keys(content, "keys")


@pytest.mark.parametrize("header", [["alg"], "alg", ["alg", "RS256"], "RS256 alg"])
def test_a_header_that_is_no_object_is_refused(header):
    assert outcome(f"{encode_part(header)}.{encode_part({})}.AA") == "malformed header"
