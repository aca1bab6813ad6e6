"""Logins: headers, tokens and their files, passwords, permissions, signed tokens and their keys, settings."""

from __future__ import annotations

import base64
import functools
import json
from contextlib import suppress
from typing import Any

from govc.auth.authenticator import Authenticator
from govc.auth.claims import ClaimNames
from govc.auth.gate import Gate
from govc.auth.htpasswd import HashKind, parse_htpasswd
from govc.auth.introspection import IntrospectionChecker, IntrospectionRules
from govc.auth.jwks import choose_keys, parse_keys
from govc.auth.jwt import JwtChecker, JwtRules
from govc.auth.patterns import BadPattern, RefPattern, RepositoryPattern, repository_name
from govc.auth.permission_file import parse_permissions
from govc.auth.principal import BadAuthFile, LoginBusy, LoginFailed, Principal, is_user_name
from govc.auth.token_file import format_record, parse_tokens
from govc.auth.tokens import TokenChecker, hash_token, is_well_formed, token_id
from govc.auth.toml_lines import find_lines
from tests.auth import issuer
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target
from tests.fuzz.targets.web import TOKENS, text, token_of


class _File:
    def __init__(self, value: Any) -> None:
        self._value = value

    def get(self) -> Any:
        return self._value


class _Passwords:
    def check(self, user: str, password: bytes, client: str | None) -> Principal:
        assert is_user_name(user)
        raise LoginFailed("password", "wrong")


@functools.cache
def authenticator() -> Authenticator:
    line = json.dumps(
        {
            "id": token_id(TOKENS[0]),
            "hash": f"sha256:{hash_token(TOKENS[0]).hex()}",
            "user": "ann",
            "grants": [["**", "read"]],
            "created_at": 1,
            "expires_at": None,
        }
    )
    expired = json.loads(line) | {
        "id": token_id(TOKENS[1]),
        "hash": f"sha256:{hash_token(TOKENS[1]).hex()}",
        "expires_at": 4,
    }
    content = f"{line}\n{json.dumps(expired)}"
    tokens = TokenChecker(_File(parse_tokens(content.encode(), "tokens")), lambda: 5.0)  # type: ignore[arg-type]
    return Authenticator(passwords=_Passwords(), tokens=tokens, jwt=jwt_checker())  # type: ignore[arg-type]


class _Anybody:
    def check(self, token: str, client: str | None = None) -> Principal:
        return Principal(user="anybody", method="introspection")


@functools.cache
def other_doors() -> tuple[Authenticator, ...]:
    """With other ways of logging in: only bearer tokens, only passwords, all of them."""
    return (
        Authenticator(introspection=_Anybody()),  # type: ignore[arg-type]
        Authenticator(passwords=_Passwords()),  # type: ignore[arg-type]
        Authenticator(jwt=jwt_checker(), introspection=_Anybody()),  # type: ignore[arg-type]
    )


def make_login(draw: Draw) -> str | None:
    known = [token.encode() for token in (*TOKENS, token_of("a", "other"), token_of("c", "other"))]
    secrets = (*known, b"govc_short", b"secret", b"eyJhbGciOiJub25lIn0.e30.")
    user = draw.word(b"ann", b"oauth2", b"", b"a:b", b" x", b"\xff")
    credentials = base64.b64encode(draw.raw(user + b":" + draw.raw(draw.choice(secrets))))
    header = draw.choice(
        (
            b"Basic " + draw.raw(credentials),
            b"Bearer " + draw.raw(draw.choice(secrets)),
            draw.word(b"basic", b"Digest x", b"Basic  ", b"Bearer"),
            b"Basic " + b"A" * 30_000 if draw.chance(0.01) else b"",
        )
    )
    return None if draw.chance(0.02) else header.decode("latin-1")


def run_login(header: str | None) -> None:
    """Only the one good token gets anybody in; what is refused isn't told to the log in the client's words."""
    for other in other_doors():
        assert other.challenges
        with suppress(LoginFailed):
            other.authenticate(header, None)
    try:
        principal = authenticator().authenticate(header, "192.0.2.1")
    except LoginFailed as error:
        assert TOKENS[0] not in str(error) and "secret" not in str(error)
        raise
    if principal.user is not None:
        assert principal.user == "ann" and principal.token_id == token_id(TOKENS[0])


def make_token_text(draw: Draw) -> str:
    return draw.raw(draw.choice(TOKENS).encode()).decode("latin-1")


def run_token_text(token: str) -> None:
    assert not is_well_formed(token) or len(token) == len(TOKENS[0])
    hash_token(token)
    token_id(token)


def json_value(draw: Draw, depth: int = 0) -> Any:
    kind = draw.randrange(9)
    if kind == 0 and depth < 3:
        return [json_value(draw, depth + 1) for _ in range(draw.randrange(3))]
    if kind == 1 and depth < 3:
        return {text(draw, b"a"): json_value(draw, depth + 1) for _ in range(draw.randrange(3))}
    return draw.choice(
        (None, True, False, 0, -1, 1 << 70, 1.5, float("inf"), float("nan"), "", "ann", "\ud800", "x" * 300)
    )


def token_record(draw: Draw) -> dict[str, Any]:
    return {
        "id": draw.pick("A" * 10, "B", "\u0660" * 10, 5),
        "hash": draw.pick("sha256:" + "0" * 64, "md5:x", None, "sha256:" + "G" * 64),
        "user": draw.pick("ann", "", " x", json_value(draw)),
        "grants": draw.pick(
            [["team/**", "read"]], [], [["", "read"]], [["a", "admin"]], [[1, 2]], [["[", "write"]], json_value(draw)
        ),
        "created_at": draw.pick(1, -1, True, json_value(draw)),
        "expires_at": draw.pick(None, 5, "x", json_value(draw)),
        "description": draw.pick("", 5, "x", json_value(draw)),
    }


def make_token_file(draw: Draw) -> bytes:
    lines = []
    for _ in range(draw.randrange(3)):
        record = token_record(draw)
        if draw.broken():
            record.pop(draw.choice(list(record)))
        if draw.broken():
            record["unknown"] = 1
        lines.append(draw.raw(json.dumps(record).encode()))
    lines.append(
        draw.word(b"", b"# comment", b"[" * 100_000 if draw.chance(0.02) else b"[]", b'{"created_at": ' + b"9" * 5000)
    )
    return b"\n".join(draw.shuffle_some(lines))


def run_token_file(content: bytes) -> None:
    """Records survive being written and read."""
    records = parse_tokens(content, "tokens")
    again = parse_tokens("\n".join(map(format_record, records.values())).encode(), "again")
    assert again == records


def make_htpasswd(draw: Draw) -> bytes:
    bcrypt = b"$2y$05$" + b"a" * 53
    argon2 = b"$argon2id$v=19$m=47104,t=1,p=1$" + b"A" * 22 + b"$" + b"B" * 43
    hashes = (
        bcrypt,
        argon2,
        b"$2y$31$" + b"a" * 53,
        b"$apr1$x$y",
        b"{SHA}x",
        b"plain",
        argon2.replace(b"47104", b"9999999"),
    )
    lines = [
        draw.word(b"ann", b"bob", b"c d", b"# x", b"") + draw.pick(b":", b"") + draw.word(*hashes)
        for _ in range(draw.randrange(4))
    ]
    return draw.raw(draw.pick(b"\n", b"\r\n", b"\xe2\x80\xa8").join(draw.shuffle_some(lines)))


def run_htpasswd(content: bytes) -> None:
    file = parse_htpasswd(content, "htpasswd")
    assert all(entry.kind in HashKind for entry in file.entries.values())
    stand_in = file.stand_in_for("nobody")
    assert (stand_in is None) == (not file.entries) and stand_in is file.stand_in_for("nobody")
    file.stand_in_for("\ud800")


PERMISSION_LINES = (
    b"[groups]",
    b'developers = ["ann", "bob"]',
    b'"odd name" = []',
    b"[[rule]]",
    b'repositories = ["team/**"]',
    b'read = ["@users"]',
    b'write = ["@developers", "ann"]',
    b'admin = ["ann"]',
    b'none = ["@anyone"]',
    b"[[branch]]",
    b'refs = ["refs/heads/main"]',
    b"force = false",
    b"signed = true",
    b'only = ["@admins"]',
    b'exempt = ["@developers"]',
    b"# comment",
    b"x = 1",
    b"a.b.c = 1",
    b"[rule]",
    b'read = ["""a\nb""", \'x\', # c\n "y"]',
    b"force = {a = 1}",
    b"n = " + b"9" * 5000,
    b"d = 2021-13-45",
    b"t = 25:00:00",
    b"f = nan",
    b"h = 0x_1",
    b"read = " + b"[" * 400 + b"]" * 400,
    b'"\\u00e9" = 1',
    b"'lit' = 1",
    b"groups = 5",
    b"users = []",
    b'"@x" = []',
    b"refs = []",
    b'admin = ["@anyone"]',
    b'exempt = ["@anyone"]',
    b"delete = 5",
    b'refs = ["main"]',
    b'refs = ["refs/heads/["]',
    b'only = ["@nobody"]',
    b'none = [" x"]',
    b'developers = ["@nested"]',
)


def make_permissions(draw: Draw) -> bytes:
    usual = (
        b'[groups]\ndevelopers = ["ann"]\n\n[[rule]]\nrepositories = ["team/**"]\nread = ["@users"]\n'
        b'write = ["@developers"]\n\n[[branch]]\nrepositories = ["team/**"]\nrefs = ["refs/heads/*"]\nforce = false\n'
        b'only = ["@developers"]\nexempt = ["@admins"]\n'
    )
    if draw.chance(0.5):
        lines = usual.split(b"\n")
        for _ in range(draw.randrange(3)):
            lines.insert(draw.randrange(len(lines) + 1), draw.choice(PERMISSION_LINES))
        return draw.raw(b"\n".join(draw.shuffle_some(lines)))
    return draw.pick(b"\n", b"\r\n").join(draw.raw(draw.choice(PERMISSION_LINES)) for _ in range(draw.randrange(9)))


def run_permissions(content: bytes) -> None:
    policy = parse_permissions(content, "permissions.toml")
    for principal in (Principal(), Principal(user="ann"), Principal(user="x", groups=frozenset({"developers"}))):
        for names in (("team/a",), ("other",), ("team/a", "other")):
            level = policy.level(principal, names)
            policy.branch_rules(principal, names, level)
            policy.deciding_rule(principal, names[0])
    find_lines(content.decode())


def make_pattern(draw: Draw) -> tuple[str, str]:
    pieces = (
        b"team",
        b"*",
        b"**",
        b"app.git",
        b".git",
        b"[a-z]",
        b"..",
        b"",
        b"\\",
        b"[",
        b"?",
        b"**.git",
        b"a" * 4100,
    )
    pattern = b"/".join(draw.word(*pieces) for _ in range(draw.randrange(1, 4)))
    path = b"/".join(draw.word(b"team", b"app.git", b".git", b"", b"x") for _ in range(draw.randrange(1, 4)))
    return draw.pick("", "/", "refs/") + pattern.decode("utf-8", "surrogateescape"), path.decode(
        "utf-8", "surrogateescape"
    )


def run_pattern(data: tuple[str, str]) -> None:
    pattern, path = data
    name = repository_name(path)
    assert (repository_name(name) == name and repository_name(f"/{path}.git/.git/") == name) or path.strip("/") == ""
    for make in (RepositoryPattern, RefPattern):
        try:
            made = make(pattern)
        except BadPattern:
            continue
        made.matches(name)
        assert (made == make(pattern) and hash(made) == hash(make(pattern)) and pattern in repr(made)) or "'" in repr(
            made
        )


# Signed tokens, and what an issuer answers


@functools.cache
def keys() -> dict[str, Any]:
    return {kind: issuer.make_key(kind, kind) for kind in ("ES256", "EdDSA", "RS256")}


class _Keys:
    def __init__(self) -> None:
        self._keys = parse_keys(issuer.key_set(*keys().values()), "keys")

    def current(self) -> Any:
        return self._keys

    def candidates(self, kid: str) -> Any:
        return choose_keys(self._keys, kid)


@functools.cache
def jwt_checker() -> JwtChecker:
    rules = JwtRules(issuer=issuer.ISSUER, audience=issuer.AUDIENCE, claims=ClaimNames(groups="groups"))
    return JwtChecker(rules, _Keys(), lambda: issuer.NOW)


@functools.cache
def signed(kind: str, changes: str) -> str:
    return issuer.sign(keys()[kind], kind, None if kind == "RS256" else "", **json.loads(changes))


CLAIMS = (
    "{}",
    '{"exp": 5}',
    '{"exp": null}',
    '{"exp": "x"}',
    '{"exp": 1e400}',
    '{"exp": NaN}',
    '{"sub": 5}',
    '{"sub": " x"}',
    '{"aud": ["git", 5]}',
    '{"aud": {}}',
    '{"iss": []}',
    '{"nbf": 9e99}',
    '{"iat": "y"}',
    '{"groups": "a b"}',
    '{"groups": ["a", 5]}',
    '{"groups": 5}',
)


def make_jwt(draw: Draw) -> str:
    if draw.chance(0.5):
        token = signed(draw.choice(("ES256", "EdDSA")), draw.choice(CLAIMS))
    else:
        header = {"alg": draw.pick("ES256", "none", "HS256", "RS256", 5), "kid": draw.pick("ES256", "x", 5, None)}
        if draw.broken():
            header[draw.choice(("crit", "jwk", "b64", "x5u"))] = json_value(draw)
        parts = [
            issuer.encode_part(header),
            issuer.encode_part(json_value(draw)),
            issuer.encode_part(draw.randbytes(64)),
        ]
        token = ".".join(draw.shuffle_some(parts))
    if draw.chance(0.01):
        token += "." + "A" * 20_000
    return draw.raw(token.encode()).decode("latin-1")


def run_jwt(token: str) -> None:
    """Nobody gets in but by a token that the issuer signed, for us, for a user, and for a time."""
    principal = jwt_checker().check(token)
    assert principal.user == "ann" and token.rpartition(".")[0] in _good_tokens()


@functools.cache
def _good_tokens() -> frozenset[str]:
    changes = ("{}", '{"aud": ["git", 5]}', '{"groups": "a b"}')
    return frozenset(signed(kind, change).rpartition(".")[0] for kind in ("ES256", "EdDSA") for change in changes)


OTHER_KEYS = (
    {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
    {"kty": "EC", "crv": "P-384", "x": "A" * 64, "y": "A" * 64},
    {"kty": "oct", "k": "AAAA"},
    {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "alg": "EdDSA"},
    {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "alg": "Ed25519"},
    {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "alg": "RS256"},
    {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "kid": 5},
)
"""Keys that can check nothing that we take, and one that can."""


def make_key_set(draw: Draw) -> bytes:
    value = json.loads(issuer.key_set(*keys().values()))
    value["keys"] += draw.choice(((), OTHER_KEYS))
    for item in value["keys"]:
        for name in list(item):
            if draw.broken():
                item[name] = draw.choice((json_value(draw), "AQAB", "", "A" * 40, 5))
        if draw.broken():
            item[draw.choice(("use", "key_ops", "alg", "kid", "d", "x5c"))] = json_value(draw)
    if draw.broken():
        value["keys"].append(json_value(draw))
    if draw.broken():
        value = draw.choice((value["keys"], {"keys": {}}, {"keys": []}, json_value(draw)))
    return draw.pick(json.dumps(value).encode(), b"[" * 100_000, draw.spoil(json.dumps(value).encode()), b"9" * 5000)


def run_key_set(content: bytes) -> None:
    for key in parse_keys(content, "keys"):
        assert key.algorithms and isinstance(key.kid, str)


def make_answer(draw: Draw) -> dict[str, Any]:
    answer = {
        "active": draw.pick(True, False, 1, None),
        "username": draw.pick("ann", "", 5, " x"),
        "exp": draw.pick(2000, 5, None, "x", True, float("inf"), float("nan"), 1 << 80),
        "nbf": draw.pick(1, 5000, None, "x", []),
        "aud": draw.pick("git", ["git"], [], 5, None, {"git": 1}),
        "iss": draw.pick("issuer", 5),
        "groups": json_value(draw),
        "client_id": "x",
    }
    for name in list(answer):
        if draw.broken():
            del answer[name]
    return answer


def run_answer(answer: dict[str, Any]) -> None:
    rules = IntrospectionRules(
        url="https://x",
        client_id="a",
        client_secret="b",
        audience="git",
        issuer="issuer",
        claims=ClaimNames(user="username", groups="groups"),
    )
    gate = Gate(running_max=1, waiting_max=1, wait_seconds=1)
    checker = IntrospectionChecker(rules, lambda token: answer, gate, lambda: 1000.0)
    with suppress(LoginFailed):
        checker.check("a\nb", None)
        raise AssertionError("that is no token")
    principal = checker.check("token", None)
    assert checker.check("token", None).user == principal.user
    assert principal.user == "ann" and answer["active"] is True
    expires = answer.get("exp")
    assert expires is None or expires > 1000


BAD_FILE = (BadAuthFile,)

TARGETS = (
    Target(
        name="login",
        covers=("govc.auth.authenticator", "govc.auth.tokens"),
        make=make_login,
        run=run_login,
        allowed=(LoginFailed,),
        weight=2,
    ),
    Target(
        name="token",
        covers=("govc.auth.tokens:is_well_formed,hash_token,token_id",),
        make=make_token_text,
        run=run_token_text,
        weight=8,
    ),
    Target(
        name="token-file",
        covers=("govc.auth.token_file:parse_tokens,_reason,_parse_record,_parse_seconds,_parse_grants,format_record",),
        make=make_token_file,
        run=run_token_file,
        allowed=BAD_FILE,
        weight=1.5,
    ),
    Target(
        name="htpasswd",
        covers=("govc.auth.htpasswd",),
        make=make_htpasswd,
        run=run_htpasswd,
        allowed=BAD_FILE,
        weight=6,
    ),
    Target(
        name="permission-file",
        covers=("govc.auth.permission_file", "govc.auth.toml_lines"),
        make=make_permissions,
        run=run_permissions,
        allowed=BAD_FILE,
        weight=0.2,
    ),
    Target(name="pattern", covers=("govc.auth.patterns",), make=make_pattern, run=run_pattern, weight=1.5),
    Target(
        name="jwt",
        covers=("govc.auth.jwt", "govc.auth.claims"),
        make=make_jwt,
        run=run_jwt,
        allowed=(LoginFailed,),
        weight=0.2,
    ),
    Target(
        name="key-set",
        covers=("govc.auth.jwks:parse_keys,_parse_key,_algorithms,choose_keys", "govc.auth.key_items"),
        make=make_key_set,
        run=run_key_set,
        allowed=BAD_FILE,
        weight=0.1,
    ),
    Target(
        name="introspection",
        covers=("govc.auth.introspection:IntrospectionChecker",),
        make=make_answer,
        run=run_answer,
        allowed=(LoginFailed, LoginBusy),
        weight=1,
    ),
)
