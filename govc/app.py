"""The composition root: the one place that sees every room, because it puts them together.

from govc.app import create_app
application = create_app(root="/srv/git", export_all=True)
"""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Any

from govc.auth.assembly import make_authenticator, make_policy
from govc.auth.permissions import Policy
from govc.cache.bodies import count_nothing
from govc.cache.folder import CacheUnusable, default_cache_dir, make_boot_folder
from govc.limits.assembly import Limits, make_limits
from govc.limits.watch import NO_WATCH
from govc.repo.repository import Repository
from govc.repo.runtime import PLAIN, Runtime
from govc.service.audit import NO_AUDIT, AuditLog
from govc.service.audit import count_nothing as count_no_audit
from govc.service.backend import Backend, count_no_log
from govc.settings import BadSetting, Settings, load_settings, override
from govc.web.health import Health
from govc.web.metrics import Metrics
from govc.web.redaction import redact
from govc.web.slow_clients import SlowClients
from govc.web.trace_context import Tracing
from govc.web.wsgi_app import Application, WebOptions

_LOG = logging.getLogger(__name__)

LIMITS_PREFIX = "limits-1-"
"""The folder beside the cache of bodies by which workers count together."""


def choose_runtime() -> Runtime:
    """Return how this process waits: with gevent when it runs the sockets, plainly otherwise.

    gevent is not imported to find out: a CGI program lives for one request and would pay for it every time.
    """
    room = _gevent_room()
    runtime: Runtime = room.GEVENT if room is not None else PLAIN
    return runtime


def _gevent_room() -> Any:
    """Return the room that knows gevent when it runs this process's sockets, else None."""
    if "gevent.monkey" not in sys.modules:
        return None
    room: Any = importlib.import_module("govc.web.gevent_runtime")
    return room if room.is_active() else None


def choose_hashing(settings: Settings, runtime: Runtime) -> Callable[..., Any]:
    """Return where passwords are hashed: in threads of their own under gevent, else right here."""
    if runtime is PLAIN or settings.htpasswd_file is None or "gevent.monkey" not in sys.modules:
        return runtime.call_blocking
    make: Callable[[int], Callable[..., Any]] = importlib.import_module("govc.web.gevent_hashing").make_hashing_pool
    return make(settings.password_checks_max)


def make_tracing(settings: Settings) -> Tracing | None:
    """Return what sends traces; None when nobody wants them. OpenTelemetry is imported only then. Raises BadSetting."""
    if settings.otlp_endpoint is None:
        return None
    try:
        room: Any = importlib.import_module("govc.web.tracing")
    except ImportError as error:
        raise BadSetting("otlp_endpoint", "settings", f"wants the extra govc[otel]: {error}") from error
    tracing: Tracing = room.OtlpTracing(settings.otlp_endpoint, settings.trace_percent)
    return tracing


def create_backend(
    settings: Settings,
    runtime: Runtime | None = None,
    policy: Callable[[], Policy] | None = None,
    *,
    metrics: Metrics | None = None,
    limits: Limits | None = None,
) -> Backend:
    """Return the services over the repositories that the settings name; without a policy for whoever calls."""
    count = metrics.count_body if metrics is not None else count_nothing
    how = runtime if runtime is not None else choose_runtime()
    count_log = metrics.count_log if metrics is not None else count_no_log
    audit = NO_AUDIT
    if settings.audit_file is not None:
        audit = AuditLog(
            settings.audit_file,
            required=settings.audit_required,
            clean=redact,
            count=metrics.count_audit if metrics is not None else count_no_audit,
        )
    return Backend(
        settings,
        how,
        policy=policy,
        count_body=count,
        count_log=count_log,
        audit=audit,
        note_pool=metrics.note_pool if metrics is not None else None,
        count_helpers=metrics.count_helpers if metrics is not None else None,
        watch_sync=metrics.note_sync if metrics is not None else None,
        note_log_size=metrics.note_log_size if metrics is not None else None,
        admission=limits.admission if limits is not None else None,
        limit_watch=limits.watch if limits is not None else NO_WATCH,
    )


def find_shared_path(settings: Settings, name: str) -> str | None:
    """Return the path of a file by which the workers of this server count together; None when there can be none.

    Servers of the same user over different folders count apart.
    """
    cache_dir = settings.cache_dir if settings.cache_dir is not None else default_cache_dir(os.environ)
    try:
        folder = make_boot_folder(cache_dir, LIMITS_PREFIX, group_reads=bool(settings.accel_location))
    except CacheUnusable as error:
        _LOG.warning("limits are counted by each worker for itself: %s", error)
        return None
    served = os.fsencode(settings.root or "")
    return f"{folder}/{blake2b(served, digest_size=8).hexdigest()}.{name}"


def open_repository(path: str) -> Repository:
    """Return the repository whose git folder is `path` (absolute): for the command line and for scripts."""
    return create_backend(Settings()).pool.get(path)


def create_app(settings: Settings | None = None, *, runtime: Runtime | None = None, **overrides: Any) -> Application:
    """Return the WSGI callable. Without settings they come from the environment; `overrides` are fields of
    Settings. Variables that git heeds (HOME, GIT_CONFIG_*) count as they are now, not as they are set later.

    Raises `BadSetting`.
    """
    chosen = settings if settings is not None else load_settings(os.environ)
    if overrides:
        chosen = override(chosen, overrides)
    options = WebOptions(
        root_is_set=chosen.root is not None,
        remote_user_header=chosen.remote_user_header,
        trusted_proxies=chosen.trusted_proxies,
        git_protocol=chosen.git_protocol or None,
        namespace=os.fsencode(chosen.namespace),
        metrics=chosen.metrics,
        sendfile=chosen.sendfile,
        accel_location=chosen.accel_location,
        body_bytes_max=chosen.body_bytes_max,
    )
    runtime = runtime if runtime is not None else choose_runtime()
    room = _gevent_room()
    metrics = Metrics(room.call_soon if room is not None else None) if chosen.metrics else None
    limits = make_limits(chosen, partial(find_shared_path, chosen), metrics.limits if metrics is not None else NO_WATCH)
    health = Health(chosen.root, runtime.call_blocking)

    def on_read(kind: str, accepted: bool) -> None:
        health.note_file(kind, accepted)
        if metrics is not None:
            metrics.note_file(kind, accepted)

    return Application(
        create_backend(chosen, runtime, make_policy(chosen, on_read), metrics=metrics, limits=limits),
        options,
        metrics=metrics,
        authenticator=make_authenticator(chosen, choose_hashing(chosen, runtime), on_read=on_read),
        runtime=runtime,
        health=health,
        rates=limits.rates,
        slow_clients=SlowClients(limits.pace, watch=limits.watch) if limits.pace is not None else None,
        limit_watch=limits.watch,
        wait_writable=room.wait_writable if room is not None else None,
        tracing=make_tracing(chosen),
    )
