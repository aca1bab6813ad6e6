"""The command line.

    govc serve [DIR]        gunicorn with gevent workers over a folder of bare repositories
    govc http-backend       one request as a CGI program, in the place of git-http-backend
    govc init DIR           a bare repository
    govc doctor PATH        why is this repository served, or not?

What a command needs is imported when it runs: a CGI program must not pay for gunicorn, and the workers of
`serve` must import everything after gevent has patched the standard library. `_room` is the only way to do
that here.
"""

import dataclasses
import hashlib
import importlib
import ipaddress
import logging
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from typing import Any

import click

from govc import __version__
from govc.errors import GovcError
from govc.protocol.errors import RemoteProtocolError
from govc.protocol.oid import SHA1, HashAlgorithm, find_algorithm
from govc.service.context import RECEIVE_PACK, UPLOAD_PACK, RequestContext
from govc.settings import FIELDS, BadSetting, Settings, environment_name, format_settings, load_settings

EXPORT_MARKER = "git-daemon-export-ok"
FIRST_REPOSITORY = "hello.git"
DEFAULT_CONFIG = "govc.toml"

_DESCRIPTION = b"Unnamed repository; edit this file 'description' to name the repository.\n"
_EXCLUDE = b"# Patterns of files that git should not list, one a line.\n"
_README = b"# hello\n\nThe first repository of this govc server. Clone it, commit, push.\n"


def _room(name: str) -> Any:
    """Import a module of ours now."""
    return importlib.import_module(name)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="govc")
def main() -> None:
    """Serve bare Git repositories over HTTP."""


# Settings as flags


def _setting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add one flag per field of Settings (`root` is the argument DIR)."""
    for knob in reversed(FIELDS):
        if knob.name == "root":
            continue
        flag = f"--{knob.name.replace('_', '-')}"
        unit = f", in {knob.metadata['unit']}" if knob.metadata["unit"] else ""
        text = f"{knob.metadata['reason']}{unit} [{environment_name(knob.name)}]"
        if "bool" in str(knob.type):
            option = click.option(f"{flag}/--no-{flag[2:]}", knob.name, default=None, help=text)
        else:
            option = click.option(flag, knob.name, default=None, help=text)
        command = option(command)
    return command


def _load(config: str | None, root: str | None, flags: dict[str, Any]) -> Settings:
    if config is None and "GOVC_CONFIG" not in os.environ and os.path.exists(DEFAULT_CONFIG):
        config = DEFAULT_CONFIG
    try:
        return load_settings(os.environ, file_path=config, flags={**flags, "root": root})
    except BadSetting as error:
        raise click.ClickException(str(error)) from error


# govc serve


@main.command()
@click.argument("directory", required=False)
@click.option("--config", help="a govc.toml")
@click.option("--print-config", is_flag=True, help="print all settings, with their reasons, and stop")
@click.option("--first-repository", is_flag=True, help=f"make {FIRST_REPOSITORY} when DIRECTORY is empty")
@_setting_options
def serve(directory: str | None, config: str | None, print_config: bool, first_repository: bool, **flags: Any) -> None:
    """Serve the bare repositories in DIRECTORY, else GIT_PROJECT_ROOT."""
    settings = _load(config, directory, flags)
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


def _configure_logging() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("govc")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False


def _run_server(settings: Settings) -> None:
    _configure_logging()
    metrics_folder = None
    if settings.workers > 1 and settings.metrics and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        # Before anything imports the library: it looks once.
        metrics_folder = tempfile.mkdtemp(prefix="govc-metrics-")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder
    server_room = _room("govc.web.gunicorn_server")
    options = server_room.make_options(
        bind=settings.bind,
        workers=settings.workers,
        worker_connections=settings.worker_connections,
        keepalive_seconds=settings.keepalive_seconds,
        stall_seconds=settings.stall_seconds,
        graceful_seconds=settings.graceful_seconds,
    )
    server = server_room.GovcServer(
        lambda: _room("govc.app").create_app(settings), options, metrics_folder=metrics_folder
    )
    server.run()


# govc http-backend


@main.command("http-backend")
def http_backend() -> None:
    """Answer one CGI request, as git-http-backend does."""
    logging.basicConfig(level=logging.WARNING, format="govc http-backend: %(message)s")
    try:
        application = _room("govc.app").create_app(load_settings(os.environ), metrics=False, helper_processes_max=0)
    except BadSetting as error:
        click.echo(f"govc http-backend: {error}", err=True)
        click.echo("Status: 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", nl=False)
        return
    # Unbuffered: a request that comes slowly must be seen as it comes.
    with (
        open(0, "rb", buffering=0, closefd=False) as body,
        open(1, "wb", buffering=0, closefd=False) as answer,
    ):
        status = _room("govc.web.cgi").run_cgi(
            application, variables=os.environ, request_body=body, answer=answer, errors=sys.stderr
        )
    sys.exit(status)


# govc init


@main.command()
@click.argument("directory")
@click.option("--object-format", type=click.Choice(["sha1", "sha256"]), default="sha1", show_default=True)
@click.option("--export", is_flag=True, help=f"serve it: makes {EXPORT_MARKER}")
@click.option("--allow-push", is_flag=True, help="let anyone push: http.receivepack=true")
def init(directory: str, object_format: str, export: bool, allow_push: bool) -> None:
    """Make a bare repository in DIRECTORY."""
    algo = find_algorithm(object_format)
    assert algo is not None
    try:
        create_repository(directory, algo, export=export, allow_push=allow_push)
    except FileExistsError as error:
        raise click.ClickException(f"{directory}: there is something already") from error
    except OSError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Made an empty bare repository in {os.path.abspath(directory)}")


def create_repository(path: str, algo: HashAlgorithm, *, export: bool, allow_push: bool) -> None:
    """Make an empty bare repository as `git init --bare` does; branch "main".

    Raises FileExistsError when the folder exists and isn't empty, OSError otherwise.
    """
    if os.path.isdir(path) and os.listdir(path):
        raise FileExistsError(path)
    for folder in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info", "hooks"):
        os.makedirs(os.path.join(path, folder), exist_ok=True)
    version = 0 if algo is SHA1 else 1
    config = f"[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = true\n"
    if algo is not SHA1:
        config += f"[extensions]\n\tobjectformat = {algo.name}\n"
    if allow_push:
        config += "[http]\n\treceivepack = true\n"
    _write_new(os.path.join(path, "config"), config.encode())
    _write_new(os.path.join(path, "description"), _DESCRIPTION)
    _write_new(os.path.join(path, "info", "exclude"), _EXCLUDE)
    if export:
        _write_new(os.path.join(path, EXPORT_MARKER), b"")
    # Last: without HEAD it is no repository yet.
    _write_new(os.path.join(path, "HEAD"), b"ref: refs/heads/main\n")


def create_first_commit(path: str, algo: HashAlgorithm, *, now_seconds: int) -> bytes:
    """Put one commit with a README.md on the branch main of an empty repository; return its oid."""
    blob = _write_loose(path, algo, b"blob", _README)
    tree = _write_loose(path, algo, b"tree", b"100644 README.md\0" + blob)
    who = f"govc <govc@localhost> {now_seconds} +0000"
    text = f"tree {tree.hex()}\nauthor {who}\ncommitter {who}\n\nFirst commit\n"
    commit = _write_loose(path, algo, b"commit", text.encode())
    _write_new(os.path.join(path, "refs", "heads", "main"), commit.hex().encode() + b"\n")
    return commit


def _write_loose(path: str, algo: HashAlgorithm, type_name: bytes, content: bytes) -> bytes:
    data = b"%s %d\0%s" % (type_name, len(content), content)
    oid = hashlib.new(algo.name, data, usedforsecurity=False).digest()
    folder = os.path.join(path, "objects", oid.hex()[:2])
    os.makedirs(folder, exist_ok=True)
    _write_new(os.path.join(folder, oid.hex()[2:]), zlib.compress(data), mode=0o444)
    return oid


def _write_new(path: str, data: bytes, *, mode: int = 0o666) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


# govc doctor


@main.command()
@click.argument("path")
@click.option("--config", help="a govc.toml")
def doctor(path: str, config: str | None) -> None:
    """Say why the repository in PATH is served, or not."""
    settings = dataclasses.replace(_load(config, None, {}), root=None)
    sentences, is_served = diagnose(_room("govc.app").create_backend(settings), path)
    for sentence in sentences:
        click.echo(sentence)
    sys.exit(0 if is_served else 1)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
def maintain(paths: tuple[str, ...]) -> None:
    """Merge packs, pack loose refs and remove leftovers in the repositories PATHS, as the server does by itself."""
    room = _room("govc.repo.maintenance")
    failed = False
    for path in paths:
        try:
            report = room.maintain_path(path, os.environ)
        except (GovcError, OSError) as error:
            click.echo(f"{path}: {error}", err=True)
            failed = True
            continue
        click.echo(
            f"{path}: {report.skipped}"
            if report.skipped
            else f"{path}: {report.packs_merged} packs merged, {report.refs_packed} refs packed, "
            f"{report.leftovers_removed} leftovers removed"
        )
    sys.exit(1 if failed else 0)


def diagnose(backend: Any, path: str) -> tuple[list[str], bool]:
    """Return sentences about the repository in `path`, and whether it is served at all."""
    context = RequestContext(service=UPLOAD_PACK, request_id="doctor")
    try:
        handle = backend.open(os.path.abspath(path), context=context)
        handle.advertise(context)
    except (GovcError, RemoteProtocolError) as error:
        sentences = [f"Not served: {error}. Clients see HTTP status {error.http_status}."]
        if "export" in str(error):
            sentences.append(f"To serve it, make the file {EXPORT_MARKER} in it, or set GIT_HTTP_EXPORT_ALL for all.")
        return sentences, False
    sentences = [f"Served: {os.path.abspath(path)}."]
    for user, who in ((None, "anyone"), ("user", "authenticated users")):
        for service, verb in ((UPLOAD_PACK, "fetch"), (RECEIVE_PACK, "push")):
            allowed = handle.service_enabled(service, user)
            sentences.append(f"{who.capitalize()} may {'' if allowed else 'not '}{verb}.")
    if not handle.getanyfile_enabled():
        sentences.append("Dumb HTTP is off (http.getanyfile=false).")
    return sentences, True


if __name__ == "__main__":
    main()
