"""From settings to the things that check logins and permissions; and, before anything starts, whether they can be made.

The optional libraries are imported here, when something that needs them is configured.
"""

import importlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any

from govc.auth.authenticator import Authenticator
from govc.auth.htpasswd import parse_htpasswd
from govc.auth.key_items import parse_key_items
from govc.auth.passwords import PasswordChecker, PasswordLimits
from govc.auth.permission_file import parse_permissions
from govc.auth.permissions import LoginPermissions, Policy
from govc.auth.principal import BadAuthFile, Level
from govc.auth.token_file import parse_tokens
from govc.auth.tokens import TokenChecker
from govc.auth.watched import OnRead, WatchedValue, ignore_reads
from govc.settings import BadSetting, Settings
from govc.watch import read_regular

SECRET_BYTES_MAX = 4096

_LIBRARIES = {
    "htpasswd_file": ("bcrypt", "argon2"),
    "jwt_keys": ("joserfc", "requests"),
    "introspection_url": ("authlib", "requests"),
}
"""What a setting needs from `pip install govc[auth]`."""


def _blame(name: str, error: BadAuthFile) -> BadSetting:
    source = f"{error.path} line {error.line}" if error.line else error.path
    return BadSetting(name, source, error.reason)


def check_settings(settings: Settings) -> None:
    """Find what would fail later. Imports none of the optional libraries, so it may run before gevent patches anything.

    Raises BadSetting, which names file and line.
    """
    for name, libraries in _LIBRARIES.items():
        for library in libraries:
            if getattr(settings, name) is not None and importlib.util.find_spec(library) is None:
                raise BadSetting(name, "settings", f"needs the package {library}: pip install 'govc[auth]'")
    make_policy(settings)
    for name, parse, may_be_absent in (
        ("htpasswd_file", parse_htpasswd, False),
        ("token_file", parse_tokens, True),
        ("jwt_keys", parse_key_items, False),
    ):
        path = getattr(settings, name)
        if path is not None and "://" not in path:
            _watch(name, path, parse, absent={} if may_be_absent else None)
    if settings.introspection_url is not None:
        _read_secret(settings)


def _watch(
    name: str, path: str, parse: Callable[[bytes, str], Any], absent: Any = None, on_read: OnRead = ignore_reads
) -> Any:
    try:
        return WatchedValue(name, path, parse, absent=absent, on_read=on_read)
    except BadAuthFile as error:
        raise _blame(name, error) from error


def _read_secret(settings: Settings) -> str:
    name, path = "introspection_secret_file", settings.introspection_secret_file or ""
    try:
        content = read_regular(path, SECRET_BYTES_MAX)
    except OSError as error:
        raise BadSetting(name, path, error.strerror or "can't be read") from error
    secret = (content or b"").decode("utf-8", "replace").strip()
    if not secret:
        raise BadSetting(name, path, "there is no such file, or it is empty")
    return secret


def checks_logins(settings: Settings) -> bool:
    """Say whether we check logins ourselves."""
    ways = (settings.htpasswd_file, settings.token_file, settings.jwt_keys, settings.introspection_url)
    return any(way is not None for way in ways)


def make_policy(settings: Settings, on_read: OnRead = ignore_reads) -> Callable[[], Policy] | None:
    """Return what gives the policy of this moment; None: git's own rules are all there is. Raises BadSetting."""
    if settings.permission_file is not None:
        file: WatchedValue[Policy] = _watch(
            "permission_file", settings.permission_file, parse_permissions, on_read=on_read
        )
        return file.get
    if checks_logins(settings):
        fixed = LoginPermissions(Level.READ if settings.anonymous_read else Level.NONE)
        return lambda: fixed
    return None


def make_authenticator(
    settings: Settings,
    call_blocking: Callable[..., Any],
    *,
    on_read: OnRead = ignore_reads,
    clock: Callable[[], float] = time.time,
) -> Authenticator | None:
    """Return what checks logins; None where somebody else does. Raises BadSetting."""
    if not checks_logins(settings):
        return None
    tokens = None
    if settings.token_file is not None:
        tokens = TokenChecker(_watch("token_file", settings.token_file, parse_tokens, {}, on_read), clock)
    try:
        return Authenticator(
            realm=settings.login_realm,
            passwords=_make_passwords(settings, call_blocking, on_read),
            tokens=tokens,
            jwt=_make_jwt(settings, on_read, clock),
            introspection=_make_introspection(settings, clock),
        )
    except ImportError as error:
        raise BadSetting("htpasswd_file, jwt_keys", "settings", f"{error}: pip install 'govc[auth]'") from error


def _room(name: str) -> Any:
    return importlib.import_module(f"govc.auth.{name}")


def _make_passwords(settings: Settings, call_blocking: Callable[..., Any], on_read: OnRead) -> PasswordChecker | None:
    if settings.htpasswd_file is None:
        return None
    limits = PasswordLimits(
        running_max=settings.password_checks_max,
        waiting_max=settings.password_queue_max,
        remember_seconds=settings.password_remember_seconds,
    )
    file = _watch("htpasswd_file", settings.htpasswd_file, parse_htpasswd, on_read=on_read)
    return PasswordChecker(file, _room("hashes").verify_password, call_blocking, limits)


def _make_jwt(settings: Settings, on_read: OnRead, clock: Callable[[], float]) -> Any:
    if settings.jwt_keys is None:
        return None
    jwt, jwks, claims = _room("jwt"), _room("jwks"), _room("claims")
    if "://" in settings.jwt_keys:
        keys = jwks.UrlKeys(settings.jwt_keys, settings.jwt_keys_seconds, on_read=on_read)
    else:
        try:
            keys = jwks.FileKeys(settings.jwt_keys, on_read)
        except BadAuthFile as error:
            raise _blame("jwt_keys", error) from error
    rules = jwt.JwtRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        leeway_seconds=settings.jwt_leeway_seconds,
        claims=claims.ClaimNames(user=settings.jwt_user_claim, groups=settings.jwt_groups_claim),
    )
    return jwt.JwtChecker(rules, keys, clock)


def _make_introspection(settings: Settings, clock: Callable[[], float]) -> Any:
    if settings.introspection_url is None:
        return None
    room, claims, gate = _room("introspection"), _room("claims"), _room("gate")
    rules = room.IntrospectionRules(
        url=settings.introspection_url,
        client_id=settings.introspection_client_id,
        client_secret=_read_secret(settings),
        audience=settings.introspection_audience,
        issuer=settings.introspection_issuer,
        remember_seconds=settings.introspection_remember_seconds,
        claims=claims.ClaimNames(user=settings.introspection_user_claim, groups=settings.introspection_groups_claim),
    )
    places = gate.Gate(
        running_max=room.QUESTIONS_MAX,
        waiting_max=room.WAITING_MAX,
        wait_seconds=room.TIMEOUT_SECONDS,
    )
    return room.IntrospectionChecker(rules, room.AskIssuer(rules), places, clock)
