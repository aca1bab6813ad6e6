"""The front ends a scenario runs over, started and stopped as processes on loopback.

    gunicorn   `python -m govc.cli serve`: what most people run
    nginx      a real nginx with conf/nginx.conf in front of gunicorn, with its line for a Unix socket
    apache     a real Apache with conf/apache.conf in front of gunicorn
    cgi        `python -m govc.cli http-backend`, one process per request, behind compat/bridge.py
    oracle     `git http-backend` behind the same bridge: proves the suite; answers are compared with its own

Nothing here knows a scenario; `start(name, root)` is a context manager that yields the URL.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compat import evidence
from compat.programs import need_program
from govc.kernels.choice import VARIABLE

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 120
STOP_SECONDS = 120
"""For what doesn't end at all: who is killed has not emptied his log, which tests look at."""

_held_ports: list[socket.socket] = []


@dataclass
class Running:
    """A front end that answers."""

    name: str
    url: str
    pids: list[int] = field(default_factory=list)
    log: Path | None = None


def find_free_port() -> int:
    """A loopback port that is ours until this process ends, for a server that takes its address with SO_REUSEADDR.

    Our socket stays bound and never listens: the server may bind beside it, and the kernel gives the port to nobody
    else in the seconds until it does.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _held_ports.append(holder)
    port: int = holder.getsockname()[1]
    return port


def chosen_kernels() -> dict[str, str]:
    """What of this run's environment a server sees: GOVC_KERNELS=python has servers, too, ask nothing but the twins."""
    return {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}


def server_environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """What a server process sees: nothing of the user who runs the tests, but which kernels he asks for."""
    home.mkdir(exist_ok=True, parents=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "TMPDIR": tempfile.gettempdir(),
        "PYTHONPATH": str(PROJECT),
        "GIT_CONFIG_NOSYSTEM": "1",
        "XDG_CACHE_HOME": str(home / "cache"),
        **chosen_kernels(),
        **extra,
    }


def wait_for_answer(place: int | Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when something speaks HTTP on a loopback port, or on a Unix socket."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"server ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        if isinstance(place, int):
            connection = http.client.HTTPConnection("127.0.0.1", place, timeout=START_SECONDS)
        else:
            connection = UnixConnection(place)
        try:
            connection.request("GET", "/-/healthz")
            if connection.getresponse().status != 502:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    raise RuntimeError(f"server does not answer:\n{log.read_text()[-4000:]}")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, seconds: float = START_SECONDS) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path (http.client's own hook)."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process we started, and the group it leads."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def run_logged(command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output goes to a file, stopped at the end."""
    evidence.note_log(log)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)


@contextlib.contextmanager
def start_bridge(name: str, root: Path, program: list[str], env: Mapping[str, str], scratch: Path) -> Iterator[Running]:
    """The CGI bridge with a program behind it."""
    log = scratch / f"{name}.log"
    evidence.note_log(log)
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "compat.bridge", str(root), "--", *program],
            env=dict(env),
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Running(name, f"http://127.0.0.1:{port}", [process.pid], log)
    finally:
        stop(process)
        assert process.stdout is not None
        process.stdout.close()


@contextlib.contextmanager
def start_gunicorn(root: Path, env: Mapping[str, str], scratch: Path, options: Sequence[str] = ()) -> Iterator[Running]:
    """`govc serve` with two workers, on a port."""
    port = find_free_port()
    log = scratch / f"gunicorn-{port}.log"
    command = _serve_command(root, f"127.0.0.1:{port}", options)
    with run_logged(command, env, log) as process:
        wait_for_answer(port, process, log)
        yield Running("gunicorn", f"http://127.0.0.1:{port}", [process.pid], log)


def _serve_command(root: Path, bind: str, options: Sequence[str]) -> list[str]:
    command = [sys.executable, "-m", "govc.cli", "serve", str(root), "--bind", bind, "--workers", "2"]
    return [*command, "--remote-user-header", "X-Remote-User", *options]


@contextlib.contextmanager
def socket_place() -> Iterator[Path]:
    """A path for a Unix socket: it has to be a short one, which the tests' own folders don't give."""
    with tempfile.TemporaryDirectory(prefix="govc-") as folder:
        yield Path(folder) / "govc.sock"


@contextlib.contextmanager
def start_gunicorn_on_socket(
    root: Path, env: Mapping[str, str], scratch: Path, path: Path, options: Sequence[str] = ()
) -> Iterator[Running]:
    """`govc serve` with two workers, on a Unix socket."""
    log = scratch / f"gunicorn-{path.parent.name}.log"
    with run_logged(_serve_command(root, f"unix:{path}", options), env, log) as process:
        wait_for_answer(path, process, log)
        yield Running("gunicorn", f"unix:{path}", [process.pid], log)


def nginx_configuration(source: str, *, port: int, backend: str, cache_dir: str) -> str:
    """conf/nginx.conf with its two addresses and the cache's folder replaced, and nothing else.

    `backend`: as nginx names it, HOST:PORT, or unix:PATH, for which the comment is taken in and the other line out.
    """
    text = source
    tcp, unix = "        server 127.0.0.1:8000;\n", "#server unix:/run/govc.sock;"
    address = ((tcp, ""), (unix, f"server {backend};"))
    if not backend.startswith("unix:"):
        address = ((tcp, f"        server {backend};\n"), (unix, unix))
    for found, wanted in (
        ("alias /var/cache/govc/;", f"alias {cache_dir}/;"),
        ("listen 127.0.0.1:8080;", f"listen 127.0.0.1:{port};"),
        *address,
    ):
        if text.count(found) != 1:
            raise RuntimeError(f"conf/nginx.conf should say {found!r} exactly once")
        text = text.replace(found, wanted)
    return text


@contextlib.contextmanager
def start_nginx(
    root: Path,
    env: Mapping[str, str],
    scratch: Path,
    change: Callable[[str], str] = str,
    *,
    over_tcp: bool = False,
) -> Iterator[Running]:
    """nginx in front of gunicorn, which sends cached answers; `change` may edit conf/nginx.conf as an admin would.

    `over_tcp`: as that is shipped, instead of with its line for a Unix socket.
    """
    program = need_program("nginx")
    cache_dir = env.get("GOVC_CACHE_DIR") or f"{env['XDG_CACHE_HOME']}/govc"
    with contextlib.ExitStack() as stack:
        options = ("--accel-location", "/-/cache")
        if over_tcp:
            backend = stack.enter_context(start_gunicorn(root, env, scratch, options))
        else:
            path = stack.enter_context(socket_place())
            backend = stack.enter_context(start_gunicorn_on_socket(root, env, scratch, path, options))
        port = find_free_port()
        place = Path(tempfile.mkdtemp(dir=scratch, prefix="nginx-"))
        configuration = place / "nginx.conf"
        source = change((PROJECT / "conf" / "nginx.conf").read_text())
        configuration.write_text(
            nginx_configuration(source, port=port, backend=backend.url.removeprefix("http://"), cache_dir=cache_dir)
        )
        log = place / "nginx.log"
        command = [program, "-p", str(place), "-c", str(configuration), "-e", str(place / "nginx-error.log")]
        # Root's temporary folders are closed to nginx's default user.
        command += ["-g", "daemon off; user root;" if os.getuid() == 0 else "daemon off;"]
        with run_logged(command, env, log) as process:
            wait_for_answer(port, process, log)
            yield Running("nginx", f"http://127.0.0.1:{port}", [process.pid, *backend.pids], backend.log)


def apache_configuration(source: str, *, port: int, backend_port: int) -> str:
    """conf/apache.conf with its two addresses replaced, and nothing else."""
    text = source
    for found, wanted in (("Listen 127.0.0.1:8080", port), ('"http://127.0.0.1:8000/"', backend_port)):
        if text.count(found) != 1:
            raise RuntimeError(f"conf/apache.conf should say {found!r} exactly once")
        text = text.replace(found, re.sub(r":\d{4}", f":{wanted}", found))
    return text


@contextlib.contextmanager
def start_apache(
    root: Path,
    env: Mapping[str, str],
    scratch: Path,
    change: Callable[[str], str] = str,
    files: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Apache in front of gunicorn; `change` may edit conf/apache.conf as an admin would, `files` lie in its folder."""
    program = need_program("apache2")
    with start_gunicorn(root, env, scratch) as backend:
        port = find_free_port()
        # Started by root, Apache becomes www-data, who can't enter the tests' private folders.
        place = Path(tempfile.mkdtemp(prefix="apache-"))
        place.chmod(0o755)
        try:
            for name, text in (files or {}).items():
                (place / name).write_text(text)
            configuration = place / "apache.conf"
            source = change((PROJECT / "conf" / "apache.conf").read_text())
            backend_port = int(backend.url.rsplit(":", 1)[1])
            configuration.write_text(apache_configuration(source, port=port, backend_port=backend_port))
            log = scratch / f"apache-{port}.log"
            command = [program, "-d", str(place), "-f", str(configuration), "-D", "FOREGROUND"]
            with run_logged(command, env, log) as process:
                wait_for_answer(port, process, log)
                yield Running("apache", f"http://127.0.0.1:{port}", [process.pid, *backend.pids], backend.log)
        finally:
            shutil.rmtree(place)


@contextlib.contextmanager
def start(name: str, root: Path, scratch: Path, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Start the front end of that name over the folder `root`; `env` is added to the server's environment."""
    full = server_environment(scratch / "home", env or {})
    if name == "gunicorn":
        with start_gunicorn(root, full, scratch) as running:
            yield running
    elif name == "nginx":
        with start_nginx(root, full, scratch) as running:
            yield running
    elif name == "apache":
        with start_apache(root, full, scratch) as running:
            yield running
    elif name == "cgi":
        with start_bridge(name, root, [sys.executable, "-m", "govc.cli", "http-backend"], full, scratch) as running:
            yield running
    elif name == "oracle":
        with start_bridge(name, root, ["git", "http-backend"], full, scratch) as running:
            yield running
    else:
        raise ValueError(f"no front end is called {name}")
