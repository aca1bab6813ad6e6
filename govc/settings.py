"""Every knob, once: its name, unit, default and reason.

A value comes from, later wins:

    1. the default below
    2. govc.toml (`--config`, else GOVC_CONFIG, else `govc.toml` in the current folder for `govc serve`)
    3. git-http-backend's own environment: GIT_PROJECT_ROOT, GIT_HTTP_EXPORT_ALL (set is enough),
       GIT_HTTP_MAX_REQUEST_BUFFER, GIT_NAMESPACE, GIT_PROTOCOL
    4. GOVC_<FIELD>
    5. flags: `max_request_buffer` is --max-request-buffer

Sizes take k, m and g, as in git's configuration. An error names the field and where its value came from. What
belongs to one repository (who may push, hidden refs, hooks) is not here: that stays in git's own
configuration.
"""

import dataclasses
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MIB = 1 << 20
GIB = 1 << 30
HEADER_BYTES_MOST = 8190
SOCKET_PATH_BYTES_MAX = 107

_SIZE = re.compile(r"([0-9]+)([kmg]?)", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_REALM = re.compile(r"[ !#-\[\]-~]{1,64}")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("", "0", "false", "no", "off")
_UNSET = ""


class BadSetting(Exception):
    """A value that a field can't take; says which field and where the value came from."""

    def __init__(self, name: str, source: str, reason: str) -> None:
        super().__init__(f"setting '{name}' (from {source}): {reason}")
        self.name = name
        self.source = source
        self.reason = reason


def _knob(default: Any, reason: str, *, unit: str = "", git_name: str = "", least: int = 0) -> Any:
    return field(default=default, metadata={"reason": reason, "unit": unit, "git_name": git_name, "least": least})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a server. The text beside each field is its reason; `govc serve --print-config` shows
    it."""

    root: str | None = _knob(
        None,
        "folder that holds the repositories; unset: PATH_TRANSLATED of the web server",
        git_name="GIT_PROJECT_ROOT",
    )
    export_all: bool = _knob(
        False,
        "serve repositories that have no git-daemon-export-ok file too",
        git_name="GIT_HTTP_EXPORT_ALL",
    )
    create_on_push: bool = _knob(
        False,
        "a push to a name under which there is nothing makes the repository, for those who may push there; what a "
        "permission file or http.receivepack says of names that don't exist yet counts, so look at it first",
    )
    namespace: str = _knob("", "serve this namespace of every repository", git_name="GIT_NAMESPACE")
    git_protocol: str = _knob("", "protocol that wins over the client's Git-Protocol header", git_name="GIT_PROTOCOL")
    bind: str = _knob(
        "127.0.0.1:8000",
        "HOST:PORT or unix:PATH, open to our user and group; loopback, since the proxy is beside us",
    )
    workers: int = _knob(2, "one per core that may be busy with Git", unit="processes", least=1)
    practise: bool = _knob(
        True,
        "a new worker answers a few requests of its own before it accepts any, so that nobody's is its first",
    )
    worker_connections: int = _knob(
        10000, "11 KiB each when idle; the proxy keeps many open", unit="connections", least=1
    )
    keepalive_seconds: int = _knob(
        75, "longer than nginx keeps its side, so that it never meets a closed one", unit="seconds"
    )
    stall_seconds: int = _knob(
        600, "a worker whose hub stands still for so long is restarted; 0: never", unit="seconds"
    )
    graceful_seconds: int = _knob(
        60, "what a running request gets to finish on restart, less 5 for ending what still runs", unit="seconds"
    )
    reload_seconds: int = _knob(
        3600,
        "what a request gets to finish in an old worker on reload (SIGHUP), while new ones serve: clones are long",
        unit="seconds",
    )
    remote_user_header: str | None = _knob(
        None, "header in which a trusted proxy names the user; unset: REMOTE_USER of the web server"
    )
    trusted_proxies: tuple[str, ...] = _knob(
        ("127.0.0.0/8", "::1/128", "unix"), "networks whose headers are believed; 'unix' is a Unix socket"
    )
    permission_file: str | None = _knob(
        None, "TOML file of who may do what with which repository; with one, nobody has what it doesn't give"
    )
    htpasswd_file: str | None = _knob(
        None, "file of users and password hashes (bcrypt, argon2) for HTTP Basic; read again when it changes"
    )
    token_file: str | None = _knob(None, "file of access tokens, which `govc token` makes, lists and revokes")
    anonymous_read: bool = _knob(
        False, "let anyone fetch where logins are checked here and no permission file says who may"
    )
    login_realm: str = _knob("Git", "what clients show when they ask for a password")
    password_checks_max: int = _knob(
        2, "passwords hashed at once per worker: each takes a core for a tenth of a second", unit="checks", least=1
    )
    password_queue_max: int = _knob(
        64, "passwords that wait for that, by turns of clients; more are answered 503", unit="checks"
    )
    password_remember_seconds: int = _knob(
        60, "a password that proved right isn't hashed again for so long: git sends it each time", unit="seconds"
    )
    jwt_keys: str | None = _knob(None, "file or https URL of the keys (JWKS) of the issuer of bearer tokens (JWT)")
    jwt_keys_seconds: int = _knob(
        600,
        "keys at a URL are read again after so long, and when a token names an unknown one",
        unit="seconds",
        least=1,
    )
    jwt_issuer: str = _knob("", "the `iss` that a token must have")
    jwt_audience: str = _knob("", "the `aud` that a token must have: tokens for other services open nothing here")
    jwt_leeway_seconds: int = _knob(60, "by how much the issuer's clock may differ from ours", unit="seconds")
    jwt_user_claim: str = _knob("sub", "claim that names the user; choose one that users can't set themselves")
    jwt_groups_claim: str = _knob("", "claim that lists groups, for the permission file; unset: none")
    introspection_url: str | None = _knob(None, "https URL where an issuer says whether an opaque bearer token is good")
    introspection_client_id: str = _knob("", "who we are to that issuer")
    introspection_secret_file: str | None = _knob(None, "file that holds our secret there, and nothing else")
    introspection_audience: str = _knob("", "the `aud` that the issuer's answer must have; unset: any")
    introspection_issuer: str = _knob("", "the `iss` that the issuer's answer must have; unset: any")
    introspection_user_claim: str = _knob("username", "field of the answer that names the user")
    introspection_groups_claim: str = _knob("", "field of the answer that lists groups; unset: none")
    introspection_remember_seconds: int = _knob(
        60, "how long a token that was good isn't asked about again; its revocation waits as long", unit="seconds"
    )
    metrics: bool = _knob(True, "answer /-/metrics")
    log_format: str = _knob("text", "form of log lines: text, for people, or json, one object a line, for collectors")
    log_file: str | None = _knob(
        None, "file that log lines are appended to, opened again when it was renamed; unset: standard error"
    )
    audit_file: str | None = _knob(
        None, "file that every push and fetch is noted in, JSON lines, opened again when it was renamed; unset: none"
    )
    audit_required: bool = _knob(False, "refuse pushes while the audit file can't be written")
    otlp_endpoint: str | None = _knob(
        None,
        "URL that traces of requests are sent to (OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces); takes the "
        "extra govc[otel], whose OTEL_EXPORTER_OTLP_HEADERS and OTEL_SERVICE_NAME count; unset: no traces",
    )
    trace_percent: int = _knob(
        100, "share of requests that are traced where the proxy's traceparent hasn't decided", unit="percent"
    )
    max_request_buffer: int | None = _knob(
        None,
        "largest fetch request; unset: http.maxRequestBuffer of the repository, else 10 MiB",
        unit="bytes",
        git_name="GIT_HTTP_MAX_REQUEST_BUFFER",
    )
    object_bytes_max: int = _knob(
        16 * GIB, "largest object in a push, inflated; blobs are streamed", unit="bytes", least=1
    )
    delta_result_bytes_max: int = _knob(
        512 * MIB, "largest object that a delta may make: it is held in memory", unit="bytes", least=1
    )
    object_cache_bytes: int = _knob(16 * MIB, "contents of objects kept per worker", unit="bytes")
    introductions: bool = _knob(
        True, "fill the index that fetches are answered from (govc/introductions in each repository) in the background"
    )
    cache_dir: str | None = _knob(
        None,
        "private folder of fetch answers that were sent before, shared by the workers, safe to delete at any time; "
        "unset: govc below XDG_CACHE_HOME, else govc-cache-UID below TMPDIR or /var/tmp (which is on a disk)",
    )
    cache_bytes_max: int = _knob(
        2 * GIB, "what these answers may take on disk; 0: none is kept or shared", unit="bytes"
    )
    sendfile: bool = _knob(True, "let the kernel send cached answers where the server allows it (gunicorn with gevent)")
    accel_location: str | None = _knob(
        None,
        "internal location of nginx that maps to cache_dir: trusted proxies get X-Accel-Redirect to it and send whole "
        "cached answers themselves; conf/nginx.conf has one",
    )
    repositories_max: int = _knob(256, "repositories kept open per worker", unit="repositories", least=1)
    durability: str = _knob(
        "sync",
        "what acknowledged means: sync (on disk), batch (a power cut may take the pushes of the last "
        "durability_batch_ms), none (it may take what the kernel has not written yet: for throwaway CI)",
    )
    durability_batch_ms: int = _knob(100, "with durability=batch: the log is synced this often", unit="milliseconds")
    log_gather_ms: int = _knob(
        30,
        "a sync of the log waits at most so long for small pushes that are on their way, if there are any",
        unit="milliseconds",
    )
    log_bytes_max: int = _knob(
        GIB, "records that no checkpoint covers, per repository; then pushes are refused", unit="bytes", least=1 << 20
    )
    log_archive_dir: str | None = _knob(None, "folder where retired parts of logs are kept; unset: they are removed")
    checkpoint_bytes: int = _knob(8 * MIB, "a checkpoint is made when the log has grown so much", unit="bytes", least=1)
    checkpoint_seconds: int = _knob(
        300, "a checkpoint is made so long after a push, and an idle log is retired", unit="seconds", least=1
    )
    helper_processes_max: int = _knob(
        2, "processes per worker for long work (packs); 0: all is done in the worker", unit="processes"
    )
    sha1_collision_detection: bool = _knob(
        True, "refuse pushed objects that are part of a collision attack on SHA-1, as git does; takes compiled kernels"
    )
    index_threads: int = _knob(
        0,
        "share the indexing of one large push; 0: half the cores, so that others are served meanwhile",
        unit="threads",
    )
    helper_threshold_bytes: int = _knob(
        256 * 1024,
        "a pushed pack above this size is indexed in a helper process, unless it has few objects (1,000, of 256 MiB at "
        "most) and threads of the worker can do it: compiled kernels, no receive.fsckObjects",
        unit="bytes",
    )
    hook_seconds_max: int = _knob(
        3600,
        "a hook that takes longer is ended, and counts as failed; generous, since hooks deploy; 0: never",
        unit="seconds",
    )
    rate_per_address: int = _knob(
        0,
        "requests from one address (of IPv6: one /64), of all workers together; a git command makes about three, and "
        "an office is one address; 0: no limit",
        unit="requests per minute",
    )
    rate_per_user: int = _knob(
        0, "requests of one user who has logged in, of all workers together; 0: no limit", unit="requests per minute"
    )
    rate_burst_seconds: int = _knob(
        60, "who has been quiet may ask at once for what so many seconds allow", unit="seconds", least=1
    )
    operations_max: int = _knob(
        0,
        "packs and archives being made and pushes being taken in at once, on the whole server; listings of refs, "
        "answers from the cache and shared ones don't count; 0: no limit",
        unit="operations",
    )
    operations_per_repository_max: int = _knob(
        0, "the same in one repository, so that one can't keep all others waiting; 0: no limit", unit="operations"
    )
    operations_per_client_max: int = _knob(
        0,
        "the same of one user, or one address without a login; 0: three quarters of operations_max",
        unit="operations",
    )
    operations_queued_max: int = _knob(
        256, "operations that wait for their turn, on the whole server; more are answered 503", unit="operations"
    )
    operations_queue_seconds: int = _knob(
        30,
        "who has waited so long for his turn is answered 503; below the minute after which proxies give up",
        unit="seconds",
        least=1,
    )
    body_bytes_max: int = _knob(
        0, "largest body of any request, as it is sent; beyond it the answer is 413; 0: no limit", unit="bytes"
    )
    pack_bytes_max: int = _knob(
        0, "largest pack of a push, beside receive.maxInputSize of the repository; 0: no limit", unit="bytes"
    )
    push_refs_max: int = _knob(
        0, "refs that one push may change; a first `push --mirror` brings all; 0: no limit", unit="refs"
    )
    refs_max: int = _knob(0, "refs that a repository may have; each costs every listing; 0: no limit", unit="refs")
    haves_max: int = _knob(
        0,
        "haves in one fetch request; max_request_buffer bounds them already, to 200,000 by default; 0: no other limit",
        unit="haves",
    )
    repository_bytes_max: int = _knob(
        0,
        "quota: bytes on disk of a repository's objects; govc.quota in its own configuration wins; 0: none",
        unit="bytes",
    )
    header_bytes_max: int = _knob(
        8190,
        "longest line of a request's head; longer ones are answered 414 or 431: paths of 4096 bytes and tokens fit",
        unit="bytes",
        least=512,
    )
    headers_max: int = _knob(100, "header fields of a request; more are answered 431", unit="fields", least=10)
    client_idle_seconds: int = _knob(
        600,
        "a client that we wait for and that moves no byte for so long is ended: no clone or push that lives is so "
        "silent; 0: never",
        unit="seconds",
    )
    client_bytes_per_second_min: int = _knob(
        100,
        "a client that is slower on average over client_slow_seconds of our waiting is ended: a modem is fifty times "
        "as fast; 0: never",
        unit="bytes per second",
    )
    client_slow_seconds: int = _knob(
        300, "over how much waiting that average is taken: a connection may be bad for a while", unit="seconds", least=1
    )
    shed_cpu_percent: int = _knob(
        0,
        "clones and archives are answered 503 while somebody waits for a CPU for so much of the time (pressure stall "
        "information, else load), fetches and pushes half-way from there to 100; 0: never",
        unit="percent",
    )
    shed_memory_percent: int = _knob(
        97, "the same while so much of the memory of machine or control group is in use; 0: never", unit="percent"
    )
    shed_stall_percent: int = _knob(
        50,
        "the same while somebody waits for memory for so much of the time (pressure stall information); 0: never",
        unit="percent",
    )


FIELDS: tuple["dataclasses.Field[Any]", ...] = dataclasses.fields(Settings)


def environment_name(name: str) -> str:
    """Return the variable of a field: "bind" is GOVC_BIND."""
    return f"GOVC_{name.upper()}"


def parse_size(text: str) -> int | None:
    """Return the bytes that "512", "10k", "4m" or "1g" stand for, or None."""
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) * _UNITS[match[2].lower()] if match else None


def _parse_bool(text: str) -> bool | None:
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    return False if lowered in _FALSE else None


def _convert(knob: "dataclasses.Field[Any]", value: Any, source: str) -> Any:
    """Return `value` as the field's type. Text is parsed; what TOML already typed is checked."""
    kind = str(knob.type)
    if "bool" in kind:
        parsed: Any = _parse_bool(value) if isinstance(value, str) else value
        return _checked(knob, parsed if isinstance(parsed, bool) else None, source, value, "true or false")
    if "int" in kind:
        if "None" in kind and value == _UNSET:
            return None
        parsed = parse_size(value) if isinstance(value, str) else value
        good = isinstance(parsed, int) and not isinstance(parsed, bool) and parsed >= knob.metadata["least"]
        wanted = f"a whole number of at least {knob.metadata['least']}"
        return _checked(knob, parsed if good else None, source, value, wanted)
    if "tuple" in kind:
        items = value.split(",") if isinstance(value, str) else value
        good = isinstance(items, list | tuple) and all(isinstance(item, str) for item in items)
        names = tuple(item.strip() for item in items if item.strip()) if good else None
        return _checked(knob, names, source, value, "a list of names")
    if "None" in kind and value == _UNSET:
        return None
    return _checked(knob, value if isinstance(value, str) else None, source, value, "text")


def _checked(knob: "dataclasses.Field[Any]", result: Any, source: str, value: Any, wanted: str) -> Any:
    if result is None:
        raise BadSetting(knob.name, source, f"wants {wanted}, not {value!r}")
    return result


def _check_meaning(settings: Settings, sources: Mapping[str, str]) -> None:
    """Check what a type alone doesn't say."""

    def fail(name: str, reason: str) -> BadSetting:
        return BadSetting(name, sources.get(name, "default"), reason)

    for network in settings.trusted_proxies:
        if network == "unix":
            continue
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            raise fail("trusted_proxies", str(error)) from error
    if settings.durability not in ("sync", "batch", "none"):
        raise fail("durability", f"wants sync, batch or none, not {settings.durability!r}")
    if settings.log_format not in ("text", "json"):
        raise fail("log_format", f"wants text or json, not {settings.log_format!r}")
    if settings.otlp_endpoint is not None and not settings.otlp_endpoint.startswith(("http://", "https://")):
        raise fail("otlp_endpoint", f"wants an http or https URL, not {settings.otlp_endpoint!r}")
    if settings.create_on_push and settings.root is None:
        raise fail("create_on_push", "wants a root, below which repositories are made")
    if settings.trace_percent > 100:
        raise fail("trace_percent", f"wants 0 to 100, not {settings.trace_percent}")
    if settings.audit_required and settings.audit_file is None:
        raise fail("audit_required", "wants an audit_file")
    for name in ("shed_cpu_percent", "shed_memory_percent", "shed_stall_percent"):
        if getattr(settings, name) > 100:
            raise fail(name, "wants at most 100")
    if settings.header_bytes_max > HEADER_BYTES_MOST:
        raise fail("header_bytes_max", f"wants at most {HEADER_BYTES_MOST}: what gunicorn reads")
    header = settings.remote_user_header
    if header is not None and not _HEADER_NAME.fullmatch(header):
        raise fail("remote_user_header", f"not the name of a header: {header!r}")
    _check_logins(settings, fail)
    if not settings.bind.startswith("unix:") and not settings.bind.rpartition(":")[2].isdigit():
        raise fail("bind", f"wants HOST:PORT or unix:PATH, not {settings.bind!r}")
    if settings.bind in ("unix:", "unix://"):
        raise fail("bind", "wants a path behind unix:")
    if len(os.fsencode(settings.bind)) > len("unix:") + SOCKET_PATH_BYTES_MAX and settings.bind.startswith("unix:"):
        raise fail("bind", f"wants a path of at most {SOCKET_PATH_BYTES_MAX} bytes")


def _check_logins(settings: Settings, fail: Callable[[str, str], BadSetting]) -> None:
    """Check how the settings of logins fit together."""
    for name in ("jwt_keys", "introspection_url"):
        value = getattr(settings, name)
        if value is not None and "://" in value and not _is_safe_url(value):
            raise fail(name, f"wants https: what it answers decides who gets in (http is for loopback only): {value!r}")
    if settings.introspection_url is not None and "://" not in settings.introspection_url:
        raise fail("introspection_url", "wants a URL")
    needs = {
        "jwt_keys": ("jwt_issuer", "jwt_audience", "jwt_user_claim"),
        "introspection_url": ("introspection_client_id", "introspection_secret_file", "introspection_user_claim"),
    }
    for name, others in needs.items():
        for other in others:
            if getattr(settings, name) is not None and not getattr(settings, other):
                raise fail(other, f"must be set, since {name} is")
    if not _REALM.fullmatch(settings.login_realm):
        raise fail("login_realm", "wants printable ASCII without quotes and backslashes")


def _is_safe_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.username is not None or not host:
            return False
        if parts.scheme == "https":
            return True
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def read_settings_file(path: str) -> dict[str, Any]:
    """Return the fields that a govc.toml sets. Raises `BadSetting` for what is not TOML or not a field."""
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except (OSError, ValueError) as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise BadSetting("config", path, str(error)) from error
    except RecursionError as error:
        raise BadSetting("config", path, "nested too deeply") from error
    known = {knob.name for knob in FIELDS}
    for name in values:
        if name not in known:
            raise BadSetting(name, path, "there is no such setting")
    return values


def _environment_values(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    for knob in FIELDS:
        git_name: str = knob.metadata["git_name"]
        if git_name in environ:
            value: Any = True if knob.name == "export_all" else environ[git_name]
            if value == _UNSET and knob.name == "max_request_buffer":  # git dies of it, for an empty root it doesn't
                raise BadSetting(knob.name, git_name, "wants a number of bytes, not ''")
            if value != _UNSET:
                found[knob.name] = (value, git_name)
        own_name = environment_name(knob.name)
        if own_name in environ:
            found[knob.name] = (environ[own_name], own_name)
    return found


def load_settings(
    environ: Mapping[str, str], *, file_path: str | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Put the settings together from a file, the environment and flags (a flag that is None is not given).

    Raises `BadSetting`.
    """
    given: dict[str, tuple[Any, str]] = {}
    path = file_path or environ.get("GOVC_CONFIG")
    if path:
        given.update({name: (value, path) for name, value in read_settings_file(path).items()})
    given.update(_environment_values(environ))
    for name, value in (flags or {}).items():
        if value is not None:
            given[name] = (value, f"--{name.replace('_', '-')}")
    converted = {knob.name: _convert(knob, *given[knob.name]) for knob in FIELDS if knob.name in given}
    settings = Settings(**converted)
    _check_meaning(settings, {name: source for name, (_, source) in given.items()})
    if settings.root is not None:
        settings = dataclasses.replace(settings, root=os.path.abspath(settings.root))
    return settings


def override(settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    """Return settings with some fields replaced, checked. Raises `BadSetting`."""
    for name in overrides:
        if name not in Settings.__slots__:
            raise BadSetting(name, "create_app", "there is no such setting")
    changed = dataclasses.replace(settings, **overrides)
    _check_meaning(changed, dict.fromkeys(overrides, "create_app"))
    return changed


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    quoted = str(value).encode("utf-8", "replace").decode("utf-8").replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in quoted) + '"'


def format_settings(settings: Settings) -> str:
    """Return the settings as a govc.toml with the reason, unit and variable of each field."""
    lines = []
    for knob in FIELDS:
        value = getattr(settings, knob.name)
        names = " ".join(filter(None, (knob.metadata["git_name"], environment_name(knob.name))))
        unit = f" ({knob.metadata['unit']})" if knob.metadata["unit"] else ""
        lines.append(f"# {knob.metadata['reason']}{unit}; {names}")
        unset = value is None
        lines.append(f"# {knob.name} is not set" if unset else f"{knob.name} = {_toml_value(value)}")
        lines.append("")
    return "\n".join(lines)
