"""govc serve: gunicorn with gevent workers over a folder of bare repositories."""

import ipaddress
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import click

from govc.auth.assembly import check_settings, checks_logins
from govc.cli import room
from govc.cli.listening import find_socket_problem, listens_on_unix
from govc.cli.settings_flags import load_chosen, setting_options
from govc.protocol.oid import SHA1
from govc.repo.creation import create_first_commit, create_repository
from govc.settings import BadSetting, Settings, format_settings
from govc.web.identity import UNIX_SOCKET
from govc.web.redaction import RedactingFilter

FIRST_REPOSITORY = "hello.git"


@click.command()
@click.argument("directory", required=False)
@click.option("--config", help="a govc.toml")
@click.option("--print-config", is_flag=True, help="print all settings, with their reasons, and stop")
@click.option("--first-repository", is_flag=True, help=f"make {FIRST_REPOSITORY} when DIRECTORY is empty")
@setting_options
def serve(directory: str | None, config: str | None, print_config: bool, first_repository: bool, **flags: Any) -> None:
    """Serve the bare repositories in DIRECTORY, else GIT_PROJECT_ROOT."""
    settings = load_chosen(config, directory, flags)
    if print_config:
        click.echo(format_settings(settings), nl=False)
        return
    if settings.root is None:
        raise click.UsageError("name the folder that holds the repositories, or set GIT_PROJECT_ROOT")
    if first_repository:
        os.makedirs(settings.root, exist_ok=True)
        _make_first_repository(settings)
    if not os.path.isdir(settings.root):
        raise click.ClickException(f"no such folder: {settings.root}")
    try:
        check_settings(settings)
    except BadSetting as error:
        raise click.ClickException(str(error)) from error
    if problem := find_socket_problem(settings.bind):
        raise click.ClickException(problem)
    if checks_logins(settings) and not (_is_loopback(settings.bind) or settings.bind.startswith("unix:")):
        click.echo("Passwords and tokens cross the network as they are, unless a proxy with TLS is in front.", err=True)
    _run_server(settings)


def _is_loopback(bind: str) -> bool:
    if bind.startswith("unix:"):
        return False
    host = bind.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _make_first_repository(settings: Settings) -> None:
    root = settings.root
    assert root is not None
    path = os.path.join(root, FIRST_REPOSITORY)
    if not os.listdir(root):
        takes_pushes = _is_loopback(settings.bind)
        create_repository(path, SHA1, export=True, allow_push=takes_pushes)
        create_first_commit(path, SHA1, now_seconds=int(time.time()))
        what = (
            "it takes pushes from anyone on this machine (its own http.receivepack=true)"
            if takes_pushes
            else "it takes no anonymous pushes, since the server is not bound to loopback"
        )
        click.echo(f"Made {FIRST_REPOSITORY}: {what}.")
    if os.path.isdir(path) and not settings.bind.startswith("unix:"):
        click.echo(f"Try: git clone http://{settings.bind}/{FIRST_REPOSITORY}")
    sys.stdout.flush()


def _find_problem(settings: Settings) -> str:
    try:
        check_settings(settings)
    except BadSetting as error:
        return str(error)
    return ""


def _make_practise(settings: Settings) -> Callable[[Any], None]:
    """Return what takes a worker's first steps: by an application that serves a folder of its own, and as ours does."""
    app_room, room_ = room("govc.app"), room("govc.web.practising")

    def make_application(root: str, cache_dir: str) -> Any:
        return app_room.create_app(
            Settings(
                root=root,
                cache_dir=cache_dir,
                export_all=True,
                metrics=False,
                helper_processes_max=0,
                introductions=False,
                sendfile=settings.sendfile,
                accel_location=settings.accel_location,
            )
        )

    return lambda worker: room_.practise(worker, make_application)


def _run_server(settings: Settings) -> None:
    try:
        room("govc.web.log_lines").configure(
            RedactingFilter(), log_format=settings.log_format, log_file=settings.log_file
        )
    except OSError as error:
        raise click.ClickException(f"log_file: {settings.log_file}: {error.strerror}") from error
    if listens_on_unix(settings.bind) and UNIX_SOCKET not in settings.trusted_proxies:
        logging.getLogger("govc.web").warning(
            "trusted_proxies has no 'unix', and this is a Unix socket: no proxy on it is believed, neither who a user "
            "is nor from where, so nobody is logged in by a header and all are one client"
        )
    metrics_folder = None
    if settings.workers > 1 and settings.metrics and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        # Before anything imports the library: it looks once.
        metrics_folder = tempfile.mkdtemp(prefix="govc-metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder
    server_room = room("govc.web.gunicorn_server")
    app_room = room("govc.app")  # here, before the fork: workers share what was imported
    server_room.raise_descriptor_limit(settings.worker_connections)
    options = server_room.make_options(
        bind=settings.bind,
        workers=settings.workers,
        worker_connections=settings.worker_connections,
        keepalive_seconds=settings.keepalive_seconds,
        stall_seconds=settings.stall_seconds,
        graceful_seconds=settings.graceful_seconds,
        header_bytes_max=settings.header_bytes_max,
        headers_max=settings.headers_max,
    )
    server = server_room.GovcServer(
        lambda: app_room.create_app(settings),
        options,
        metrics_folder=metrics_folder,
        reload_seconds=settings.reload_seconds,
        find_problem=lambda: _find_problem(settings),
        practise=_make_practise(settings) if settings.practise else None,
    )
    server.run()
