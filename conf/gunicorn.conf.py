"""gunicorn's configuration, for those who run it themselves:

    GIT_PROJECT_ROOT=/srv/git gunicorn -c conf/gunicorn.conf.py govc.wsgi:application

`govc serve` sets the same, and has a master of its own besides (docs/operations.md, "Reloading and stopping"). What is
set here counts, not what govc.toml says of it (docs/operations.md, "Limits"). For metrics with several workers set
PROMETHEUS_MULTIPROC_DIR to an empty folder.
"""

import os
from typing import Any

bind = os.environ.get("GOVC_BIND", "127.0.0.1:8000")
# Of a Unix socket: for the owner and the group. Who may connect is believed like a proxy.
umask = 0o117
workers = int(os.environ.get("GOVC_WORKERS", "2"))
# The gevent worker, with a fast lane for listings of refs in front of its parser ("gevent" works as well).
worker_class = "govc.web.gunicorn_worker.GovcWorker"
worker_connections = 10000
backlog = 2048

# Longer than nginx keeps its idle connections, so that nginx never meets a closed one.
keepalive = 75
# About a hub that stands still, not about long requests.
timeout = 600
graceful_timeout = 60

# A path of up to 4096 bytes, percent-encoded, is ours to answer.
limit_request_line = 8190
# No header of a client may become SCRIPT_NAME or PATH_INFO, and X_Remote_User is not X-Remote-User.
forwarder_headers = ""
header_map = "drop"

# Nothing of ours is steered through a socket in the home folder.
control_socket_disable = True

# Our own lines and gunicorn's go where log_file says, in the form that log_format says, without what looks like a
# secret.
accesslog = None
errorlog = "-"
logger_class = "govc.web.gunicorn_server.RedactingLogger"


def _configure_log() -> None:
    """Send lines where the settings say. A mistake in them ends the start; on a reload it is named, no more."""
    import logging

    from govc.settings import BadSetting, load_settings
    from govc.web.log_lines import configure
    from govc.web.redaction import RedactingFilter

    try:
        settings = load_settings(os.environ)
        configure(RedactingFilter(), log_format=settings.log_format, log_file=settings.log_file)
    except (BadSetting, OSError) as error:
        if not logging.getLogger("govc").handlers:
            raise SystemExit(f"govc: {error}") from error
        logging.getLogger("govc").error("the log stays as it was: %s", error)


_configure_log()


def on_starting(server: Any) -> None:
    """Don't start with a mistake in the settings or in a file of logins or permissions: say where it is."""
    from govc.auth.assembly import check_settings
    from govc.settings import BadSetting, load_settings
    from govc.web.gunicorn_server import raise_descriptor_limit

    try:
        check_settings(load_settings(os.environ))
    except BadSetting as error:
        raise SystemExit(f"govc: {error}") from error
    raise_descriptor_limit(worker_connections)


def post_worker_init(worker: Any) -> None:
    """Let a worker end what runs for its requests (hooks, helpers) before the master kills it."""
    from govc.web.gunicorn_server import shorten_grace

    shorten_grace(worker)


def child_exit(server: Any, worker: Any) -> None:
    """Forget what a dead worker counted as momentary."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)
