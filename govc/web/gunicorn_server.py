"""gunicorn with gevent workers, run from inside: what `govc serve` starts.

The application is made in each worker, after the fork and after gevent has patched the standard library. What it is
made of is imported by the master, which has no use for it, so that workers share its memory. So it is imported before
gevent patches: our modules may say `time.sleep`, and must not keep the function, nor make a lock then
(tests/web/test_preload.py). A reload doesn't bring new code. Why each option: see `make_options`.
"""

import gc
import logging
import os
import resource
import shutil
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from prometheus_client.multiprocess import mark_process_dead

from govc.memory import bound_heaps
from govc.web.gunicorn_master import BOOTED, GovcArbiter
from govc.web.log_lines import LineFormatter
from govc.web.redaction import RedactingFilter

HEADER_LINE_BYTES_MAX = 8190
HEADERS_MAX = 100

SOCKET_UMASK = 0o117
"""A Unix socket is for the owner and the group: whoever may connect is a proxy that is believed, by default."""

ENDING_SECONDS = 5
"""A worker gives its requests so much less time than gunicorn gives the worker: it must be the worker that ends what is
still running (its hooks, its helpers, its quarantines), before the master kills it. One second to notice, one to look
again, two for gevent to end the greenlets, one to spare."""


DESCRIPTORS_PER_CONNECTION = 2
"""Its socket, and the cached answer that it is sent from."""

DESCRIPTORS_BESIDE = 6000
"""Packs (`PoolLimits`), logs, pipes to hooks and helpers, what libraries hold."""


def raise_descriptor_limit(worker_connections: int) -> None:
    """Let a worker have the files that its connections may need, as far as the hard limit goes; say when that is less.

    The usual soft limit of 1,024 is about programs that use select(); ours don't. It isn't raised beyond what may be
    needed, since hooks inherit it, and some programs close every number up to it when they start.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = worker_connections * DESCRIPTORS_PER_CONNECTION + DESCRIPTORS_BESIDE
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, wanted)
    if soft < min(wanted, hard):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    if hard < worker_connections + DESCRIPTORS_BESIDE:
        logging.getLogger("govc.web").warning(
            "a worker may open %d files (ulimit -Hn, LimitNOFILE= of systemd): too few for worker_connections=%d, "
            "which may need %d; connections beyond wait",
            hard,
            worker_connections,
            wanted,
        )


def shorten_grace(worker: Any, reload_seconds: int = 0) -> None:
    """Let a new worker be done before its master loses patience, and say when it ends (hook `post_worker_init`).

    `reload_seconds`: what it gives its requests when the server goes on without it, if that is more. Only under
    `GovcArbiter`: gunicorn's own master counts such a worker among those that serve.
    """
    seconds = max(0, worker.cfg.graceful_timeout - ENDING_SECONDS)
    worker.stop_seconds = seconds
    worker.cfg.set("graceful_timeout", max(seconds, reload_seconds))
    watch_ending = getattr(worker.wsgi, "watch_ending", None)
    if watch_ending is not None:
        watch_ending(lambda: not worker.alive)


def make_options(
    *,
    bind: str,
    workers: int,
    worker_connections: int,
    keepalive_seconds: int,
    stall_seconds: int,
    graceful_seconds: int,
    header_bytes_max: int = HEADER_LINE_BYTES_MAX,
    headers_max: int = HEADERS_MAX,
) -> dict[str, Any]:
    """Return gunicorn's options."""
    return {
        "bind": bind,
        "workers": workers,
        "worker_class": "govc.web.gunicorn_worker.GovcWorker",
        "worker_connections": worker_connections,
        "keepalive": keepalive_seconds,
        # A gevent worker beats from its own greenlet: this is about a hub that stands still, not about long
        # requests.
        "timeout": stall_seconds,
        "graceful_timeout": graceful_seconds,
        "backlog": 2048,
        "umask": SOCKET_UMASK,  # of a Unix socket and of gunicorn's own temporary file; the process keeps its own
        # Paths of up to PATH_MAX are answered by us (404), not by gunicorn (400).
        "limit_request_line": header_bytes_max,
        "limit_request_field_size": header_bytes_max,
        "limit_request_fields": headers_max,
        # No header of a client may become SCRIPT_NAME or PATH_INFO, and X_Remote_User is not X-Remote-User.
        "forwarder_headers": "",
        "header_map": "drop",
        # The line per request is ours ("govc.access").
        "accesslog": None,
        "errorlog": "-",
        "loglevel": "info",
        "logger_class": RedactingLogger,
        "control_socket_disable": True,
        "proc_name": "govc",
    }


class RedactingLogger(Logger):  # type: ignore[misc]
    """gunicorn's log in the form of ours, and without secrets: it quotes what it can't parse.

    Its own form shows the process, which our records don't know (`log_lines`); a line that can't be formatted comes
    out as an error of logging, with all that the filter would have cut. Where our own log is configured, its lines go
    where ours go.
    """

    def setup(self, cfg: Any) -> None:
        """Set up as always, then give the handlers our form and our filter."""
        super().setup(cfg)
        if ours := logging.getLogger("govc").handlers:
            self.error_log.handlers = list(ours)
        for handler in self.error_log.handlers:
            if handler not in ours:
                handler.addFilter(RedactingFilter())
                handler.setFormatter(LineFormatter())


class GovcServer(BaseApplication):  # type: ignore[misc]
    """A gunicorn application whose WSGI callable `load_application` makes, once per worker."""

    def __init__(
        self,
        load_application: Callable[[], Any],
        options: dict[str, Any],
        *,
        when_ready: Callable[[Any], None] | None = None,
        metrics_folder: str | None = None,
        reload_seconds: int = 0,
        find_problem: Callable[[], str] = lambda: "",
        practise: Callable[[Any], None] | None = None,
    ) -> None:
        """`find_problem` says why a worker could not start now, "" when it could; `reload_seconds`: `shorten_grace`.

        `practise` takes a new worker's first steps, before it accepts anybody.
        """
        self.find_problem = find_problem
        self._reload_seconds = reload_seconds
        self._practise = practise
        self._load_application = load_application
        self._options = options
        self._when_ready = when_ready
        self._metrics_folder = metrics_folder
        self._application: Any = None
        super().__init__()

    def load_config(self) -> None:
        """Hand the options to gunicorn (its own hook)."""
        for name, value in self._options.items():
            self.cfg.set(name, value)
        reload_seconds, practise = self._reload_seconds, self._practise

        def post_worker_init(worker: Any) -> None:
            shorten_grace(worker, reload_seconds)
            if practise is not None:
                practise(worker)
            BOOTED[0] = 1

        self.cfg.set("post_worker_init", post_worker_init)
        if self._when_ready is not None:
            self.cfg.set("when_ready", self._when_ready)

        def worker_exit(_server: Any, _worker: Any) -> None:
            application, self._application = self._application, None
            if application is not None:
                application.close()

        self.cfg.set("worker_exit", worker_exit)
        own = self._metrics_folder
        folder = own or os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder:
            # gunicorn looks at the number of parameters of a hook.
            def child_exit(_server: Any, worker: Any) -> None:
                mark_process_dead(worker.pid, folder)  # type: ignore[no-untyped-call]

            self.cfg.set("child_exit", child_exit)
        if own is not None:

            def on_exit(_server: Any) -> None:
                shutil.rmtree(own, ignore_errors=True)

            self.cfg.set("on_exit", on_exit)

    def run(self) -> None:
        """Serve until told to stop (gunicorn's own hook)."""
        bound_heaps()
        gc.collect()
        gc.freeze()  # a collection would write to every object of these, and so unshare them
        try:
            GovcArbiter(self).run()
        except RuntimeError as error:
            raise SystemExit(f"govc: {error}") from error

    def load(self) -> Any:
        """Make the application (gunicorn's own hook, called in the worker)."""
        self._application = self._load_application()
        self._application.start()
        return self._application
