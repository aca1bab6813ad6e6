"""The servers, each over the same folder on its own loopback port, started by us and ended by pid.

govc                `govc serve` (gunicorn, 2 workers), asked directly
govc behind nginx   the same behind conf/nginx.conf with its line for a Unix socket, as fcgiwrap has one; nginx sends
                    cached bodies itself
git                 nginx, fcgiwrap with 8 prefork children (four for each of nginx's two workers), git-http-backend

What one costs is CPU seconds of a control group of its own (cgroup v2): master, workers, helpers, nginx, fcgiwrap and
git's processes, however short they live.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.lines import BEHIND, DIRECT, GIT
from compat.frontends import (
    PROJECT,
    find_free_port,
    nginx_configuration,
    run_logged,
    server_environment,
    socket_place,
    wait_for_answer,
)
from compat.programs import need_program

WORKERS = 2
FCGI_CHILDREN = 8
REMOVE_SECONDS = 5
BACKENDS = ("/usr/lib/git-core/git-http-backend", "/usr/libexec/git-core/git-http-backend")

NGINX_CONFIGURATION = """\
worker_processes {workers};
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path tmp-body;
    proxy_temp_path tmp-proxy;
    fastcgi_temp_path tmp-fastcgi;
    uwsgi_temp_path tmp-uwsgi;
    scgi_temp_path tmp-scgi;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        location / {{
            fastcgi_pass unix:{socket};
            fastcgi_request_buffering off;
            fastcgi_max_temp_file_size 0;
            fastcgi_read_timeout 1h;
            fastcgi_send_timeout 1h;
            fastcgi_param SCRIPT_FILENAME {backend};
            fastcgi_param GIT_PROJECT_ROOT {root};
            fastcgi_param GIT_HTTP_EXPORT_ALL 1;
            fastcgi_param GIT_PROTOCOL $http_git_protocol;
            fastcgi_param PATH_INFO $uri;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param REMOTE_ADDR $remote_addr;
        }}
    }}
}}
"""


def find_cgroup() -> Path | None:
    """Our own folder of the unified hierarchy if we may make groups in it."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    tops = [fields[1] for fields in mounts if fields[2] == "cgroup2"]
    own = [x[3:] for x in Path("/proc/self/cgroup").read_text().splitlines() if x.startswith("0::")]
    if not tops or not own:
        return None
    folder = Path(tops[0] + own[0])
    return folder if os.access(folder / "cgroup.procs", os.W_OK) else None


@contextlib.contextmanager
def cpu_group(name: str) -> Iterator[Path | None]:
    """A control group for one server, which counts the CPU time of whatever ran in it; None without the right."""
    parent = find_cgroup()
    if parent is None:
        yield None
        return
    group = parent / f"govc-bench-{os.getpid()}-{name}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        deadline = time.monotonic() + REMOVE_SECONDS
        while group.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                group.rmdir()
            time.sleep(0.05)


def in_group(group: Path | None, command: list[str]) -> list[str]:
    """The command that enters the group and becomes the given one, before it has children."""
    if group is None:
        return command
    return ["/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group / "cgroup.procs"), *command]


@dataclass(frozen=True)
class Server:
    """A server that answers: its base URL, the processes that all its others descend from, its control group."""

    name: str
    url: str
    roots: tuple[psutil.Process, ...]
    group: Path | None

    def processes(self) -> list[psutil.Process]:
        """Every process of the server that lives now."""
        found: list[psutil.Process] = []
        for root in self.roots:
            found.append(root)
            with contextlib.suppress(psutil.NoSuchProcess):
                found += root.children(recursive=True)
        return found

    def cpu_seconds(self) -> float:
        """User and system time of all processes so far, those that ended included.

        Without a control group it is read from /proc, where fcgiwrap's CGI programs are missing: it ignores
        SIGCHLD, so nobody inherits their times.
        """
        if self.group is not None:
            fields = dict(line.split() for line in (self.group / "cpu.stat").read_text().splitlines())
            return int(fields["usage_usec"]) / 1e6
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total


def copy_program(place: Path) -> Path:
    """govc as it is now: its helper processes import it again, and must not meet what is edited meanwhile."""
    shutil.copytree(PROJECT / "govc", place / "govc", ignore=shutil.ignore_patterns("__pycache__"))
    return place


def _govc_command(root: Path, place: Path, bind: str, workers: int, options: Sequence[str], cache: Path) -> list[str]:
    program = copy_program(place / "program")
    command = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(program)]
    command += [sys.executable, "-m", "govc.cli", "serve", str(root), "--bind", bind]
    return [*command, "--workers", str(workers), "--export-all", "--cache-dir", str(cache), *options]


@contextlib.contextmanager
def start_govc(
    root: Path,
    scratch: Path,
    *,
    workers: int = WORKERS,
    options: Sequence[str] = (),
    name: str = DIRECT,
    cache: Path | None = None,
    path: Path | None = None,
) -> Iterator[Server]:
    """`govc serve` with a cache of its own, empty unless it is named, and everything else at its default.

    `path`: of a Unix socket to listen on, instead of a port.
    """
    place = Path(tempfile.mkdtemp(prefix="govc-", dir=scratch))
    port, log = find_free_port(), place / "govc.log"
    bind = f"127.0.0.1:{port}" if path is None else f"unix:{path}"
    command = _govc_command(root, place, bind, workers, options, cache or place / "cache")
    env = server_environment(scratch / "home", {"PYTHONPATH": str(place / "program")})
    with cpu_group(place.name) as group, run_logged(in_group(group, command), env, log) as process:
        wait_for_answer(port if path is None else path, process, log)
        url = f"http://{bind}" if path is None else bind
        yield Server(name, url, (psutil.Process(process.pid),), group)


@contextlib.contextmanager
def start_govc_behind_nginx(
    root: Path, scratch: Path, *, workers: int = WORKERS, cache: Path | None = None
) -> Iterator[Server]:
    """`govc serve` behind conf/nginx.conf with its line for a Unix socket."""
    port, place = find_free_port(), Path(tempfile.mkdtemp(prefix="nginx-", dir=scratch))
    cache = cache or place / "cache"
    options = ("--accel-location", "/-/cache")
    with (
        socket_place() as path,
        start_govc(root, scratch, workers=workers, options=options, name=BEHIND, cache=cache, path=path) as backend,
    ):
        source = (PROJECT / "conf" / "nginx.conf").read_text()
        text = nginx_configuration(source, port=port, backend=backend.url, cache_dir=str(cache))
        text = text.replace("worker_processes auto;", f"worker_processes {workers};")
        (place / "nginx.conf").write_text(text)
        nginx = [need_program("nginx"), "-p", str(place), "-c", "nginx.conf", "-e", "nginx-error.log"]
        # Root's temporary folders are closed to nginx's default user.
        nginx += ["-g", "daemon off; user root;" if os.getuid() == 0 else "daemon off;"]
        log = place / "nginx.log"
        env = server_environment(scratch / "home", {})
        with run_logged(in_group(backend.group, nginx), env, log) as front:
            wait_for_answer(port, front, log)
            yield Server(BEHIND, f"http://127.0.0.1:{port}", (*backend.roots, psutil.Process(front.pid)), backend.group)


@contextlib.contextmanager
def start_git(root: Path, scratch: Path) -> Iterator[Server]:
    """git-http-backend as its manual page advises for nginx, with a body that streams."""
    place = Path(tempfile.mkdtemp(prefix="git-", dir=scratch))
    port, log = find_free_port(), place / "nginx.log"
    socket = place / "fcgi.sock"
    backend = next(path for path in BACKENDS if os.access(path, os.X_OK))
    text = NGINX_CONFIGURATION.format(workers=WORKERS, port=port, socket=socket, backend=backend, root=root)
    (place / "nginx.conf").write_text(text)
    nginx = [need_program("nginx"), "-p", str(place), "-c", "nginx.conf", "-e", "nginx-error.log"]
    # Root's temporary folders are closed to nginx's default user.
    nginx += ["-g", "daemon off; user root;" if os.getuid() == 0 else "daemon off;"]
    fcgi = [need_program("fcgiwrap"), "-c", str(FCGI_CHILDREN), "-s", f"unix:{socket}"]
    env = server_environment(scratch / "home", {})
    with cpu_group(place.name) as group, run_logged(in_group(group, fcgi), env, log) as wrapper:
        try:
            while not socket.exists():
                time.sleep(0.02)
            with run_logged(in_group(group, nginx), env, log) as process:
                wait_for_answer(port, process, log)
                roots = (psutil.Process(process.pid), psutil.Process(wrapper.pid))
                yield Server(GIT, f"http://127.0.0.1:{port}", roots, group)
        finally:
            # Its children outlive a parent that is told to end; the whole session is ours.
            os.killpg(wrapper.pid, signal.SIGTERM)


STARTERS: dict[str, Callable[[Path, Path], contextlib.AbstractContextManager[Server]]] = {
    DIRECT: start_govc,
    BEHIND: start_govc_behind_nginx,
    GIT: start_git,
}
