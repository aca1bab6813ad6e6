"""The three servers, each over the same folder on its own loopback port, started by us and ended by pid.

    govc              `govc serve` (gunicorn, 2 workers)
    git-http-backend  nginx, fcgiwrap with 8 prefork children, git
    dulwich           its own WSGI application under gunicorn's gevent workers, 2 of them
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from compat.frontends import find_free_port, run_logged, server_environment, wait_for_answer

WORKERS = 2
FCGI_CHILDREN = 8
BACKENDS = ("/usr/lib/git-core/git-http-backend", "/usr/libexec/git-core/git-http-backend")

NGINX_CONFIGURATION = """\
worker_processes {workers};
pid nginx.pid;
events {{ worker_connections 1024; }}
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


@dataclass(frozen=True)
class Server:
    """A server that answers: its base URL and the processes that all its others descend from."""

    name: str
    url: str
    roots: tuple[psutil.Process, ...]

    def processes(self) -> list[psutil.Process]:
        """Every process of the server that lives now."""
        found: list[psutil.Process] = []
        for root in self.roots:
            found.append(root)
            with contextlib.suppress(psutil.NoSuchProcess):
                found += root.children(recursive=True)
        return found

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree so far, processes that ended and were waited for included."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total


@contextlib.contextmanager
def start_govc(root: Path, scratch: Path) -> Iterator[Server]:
    """`govc serve`, everything else at its default."""
    port, log = find_free_port(), scratch / "govc.log"
    command = [sys.executable, "-m", "govc.cli", "serve", str(root), "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", str(WORKERS), "--export-all"]
    with run_logged(command, server_environment(scratch / "home", {}), log) as process:
        wait_for_answer(port, process, log)
        yield Server("govc", f"http://127.0.0.1:{port}", (psutil.Process(process.pid),))


def find_program(name: str) -> str:
    """The path of a program, those of the system's administrator included."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not found:
        raise RuntimeError(f"{name} is not installed: run compat/install.sh")
    return found


@contextlib.contextmanager
def start_git(root: Path, scratch: Path) -> Iterator[Server]:
    """git-http-backend as its manual page advises for nginx, with a body that streams."""
    port, log, place = find_free_port(), scratch / "nginx.log", scratch / "nginx"
    place.mkdir()
    socket = place / "fcgi.sock"
    backend = next(path for path in BACKENDS if os.access(path, os.X_OK))
    text = NGINX_CONFIGURATION.format(workers=WORKERS, port=port, socket=socket, backend=backend, root=root)
    (place / "nginx.conf").write_text(text)
    nginx = [find_program("nginx"), "-p", str(place), "-c", "nginx.conf", "-e", "nginx-error.log"]
    # Root's temporary folders are closed to nginx's default user.
    nginx += ["-g", "daemon off; user root;" if os.getuid() == 0 else "daemon off;"]
    fcgi = [find_program("fcgiwrap"), "-c", str(FCGI_CHILDREN), "-s", f"unix:{socket}"]
    env = server_environment(scratch / "home", {})
    with run_logged(fcgi, env, log) as wrapper:
        while not socket.exists():
            time.sleep(0.02)
        with run_logged(nginx, env, log) as process:
            wait_for_answer(port, process, log)
            roots = (psutil.Process(process.pid), psutil.Process(wrapper.pid))
            yield Server("git-http-backend", f"http://127.0.0.1:{port}", roots)


@contextlib.contextmanager
def start_dulwich(root: Path, scratch: Path) -> Iterator[Server]:
    """Dulwich's application under the same gunicorn, with the same class and number of workers."""
    port, log = find_free_port(), scratch / "dulwich.log"
    command = [sys.executable, "-m", "gunicorn", "bench.dulwich_app:application"]
    command += ["--bind", f"127.0.0.1:{port}", "--worker-class", "gevent", "--workers", str(WORKERS)]
    command += ["--timeout", "600", "--keep-alive", "75", "--log-level", "error"]
    env = server_environment(scratch / "home", {"BENCH_ROOT": str(root)})
    with run_logged(command, env, log) as process:
        wait_for_answer(port, process, log)
        yield Server("dulwich", f"http://127.0.0.1:{port}", (psutil.Process(process.pid),))


STARTERS = {"govc": start_govc, "git-http-backend": start_git, "dulwich": start_dulwich}
