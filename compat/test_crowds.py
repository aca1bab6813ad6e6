"""Limits through two real workers: what a real git is told, and that nothing which costs little is ever held up.

A place is held by a push whose pre-receive hook waits for a file, so no test depends on how fast anything is: each
waits for what the metrics say, and then for what must follow.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from compat import frontends
from compat.gitclient import Git
from compat.hookkit import install
from compat.rawhttp import (
    DELIM,
    FLUSH,
    V2,
    ZERO,
    Reply,
    discover,
    lines,
    make_pack,
    raw_head,
    receive,
    request,
    upload,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("limits")

SECONDS = 120


def through(fixture: str, *names: str) -> pytest.MarkDecorator:
    """Run a test with this world behind these front ends."""
    return pytest.mark.parametrize(fixture, names, indirect=True, scope="module")


WAITS = 'echo waits > "$0.waits"\nwhile [ ! -e "$0.go" ]; do sleep 0.05; done\n'


def address_of(user: str) -> str:
    return "10." + ".".join(str(byte) for byte in user.encode().ljust(3)[:3])


def from_(user: str) -> dict[str, str]:
    """The header by which a proxy says where somebody is."""
    return {"X-Forwarded-For": address_of(user)}


@dataclass
class World:
    """A server, its folder, and what was started against it."""

    running: frontends.Running
    folder: Path
    git: Git
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    count: int = 0

    @property
    def url(self) -> str:
        return self.running.url

    def create(self, name: str, files: dict[str, bytes] | None = None, config: dict[str, str] | None = None) -> str:
        """A repository with one commit; return its URL."""
        path = self.folder / "served" / name
        self.git("init", "-q", "--bare", path)
        (path / "git-daemon-export-ok").touch()
        for key, value in ({"http.receivepack": "true"} | (config or {})).items():
            self.git("config", key, value, cwd=path)
        work = self.work(files or {"file": b"content\n"})
        self.git("push", "-q", path, "HEAD:refs/heads/main", cwd=work)
        return f"{self.url}/{name}"

    def path(self, url: str) -> Path:
        return self.folder / "served" / url.rpartition("/")[2]

    def work(self, files: dict[str, bytes]) -> Path:
        """A fresh work tree with one commit."""
        self.count += 1
        work = self.folder / f"work{self.count}"
        self.git("init", "-q", work)
        for name, data in files.items():
            (work / name).write_bytes(data)
        self.git("add", ".", cwd=work)
        self.git("commit", "-qm", f"commit {self.count}", cwd=work)
        return work

    def start(self, *words: str | Path, user: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        """Start git as somebody: from an address of his own, which the proxy (trusted, on loopback) tells."""
        process = self.git.start("-c", f"http.extraHeader=X-Forwarded-For: {address_of(user)}", *words, cwd=cwd)
        self.started.append(process)
        return process

    def metric(self, name: str) -> float:
        text = request(self.url, "GET", "/-/metrics").body.decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def refusals(self, limit: str) -> float:
        return self.metric(f'govc_limit_refusals_total{{limit="{limit}"}}')

    @contextlib.contextmanager
    def refuses(self, limit: str) -> Iterator[None]:
        """What happens inside is refused by that limit, and by no other."""
        text = r"^govc_limit_refusals_total\{limit=\"([^\"]+)\"\} (\S+)$"

        def counts() -> dict[str, float]:
            body = request(self.url, "GET", "/-/metrics").body.decode()
            return {name: float(value) for name, value in re.findall(text, body, re.MULTILINE)}

        before = counts()
        yield
        wait_until(lambda: counts()[limit] > before[limit], f"{limit} refuses")
        assert {name for name, value in counts().items() if value > before[name]} == {limit}

    def working(self) -> int:
        return int(sum(self.metric(f'govc_operations{{operation="{name}"}}') for name in ("push", "clone", "fetch")))

    def waiting(self) -> int:
        return int(self.metric("govc_operations_waiting"))

    def workers(self) -> list[int]:
        master = self.running.pids[-1]  # with a proxy in front, gunicorn is the second
        return [child.pid for child in psutil.Process(master).children()]

    def has_no_quarantine(self, url: str) -> None:
        wait_until(lambda: not list(self.path(url).glob("objects/tmp_objdir-*")), "no quarantine is left")

    def be_idle(self) -> None:
        wait_until(lambda: not self.working() and not self.waiting(), "nothing is left")


@contextlib.contextmanager
def run_world(folder: Path, name: str, options: dict[str, object]) -> Iterator[World]:
    for part in ("served", "scratch", "tmp"):
        (folder / part).mkdir()
    git = Git(folder / "home", folder)
    env = frontends.server_environment(folder / "server-home", {"TMPDIR": str(folder / "tmp")})
    env |= {f"GOVC_{key.upper()}": str(value) for key, value in options.items()}
    start = frontends.start_nginx if name == "nginx" else frontends.start_gunicorn
    with start(folder / "served", env, folder / "scratch") as running:
        world = World(running, folder, git)
        try:
            yield world
        finally:
            for process in world.started:
                if process.poll() is None:
                    process.kill()
                process.communicate()


CROWD = {
    "operations_max": 2,
    "operations_queued_max": 1,
    "operations_queue_seconds": 600,
    "body_bytes_max": "4m",
}


@pytest.fixture(scope="module")
def crowd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two places, one of them for one client, and room for one to wait."""
    folder = tmp_path_factory.mktemp("crowd")
    with run_world(folder, request.param, CROWD) as world:
        yield world


@dataclass
class Held:
    """Places that pushes hold."""

    hooks: list[Path]
    pushes: list[subprocess.Popen[bytes]]

    def let_go(self) -> None:
        for hook in self.hooks:
            Path(f"{hook}.go").touch()
        for push in self.pushes:
            _, errors = push.communicate(timeout=SECONDS)
            assert push.returncode == 0, errors


@contextlib.contextmanager
def held(world: World, *users: str) -> Iterator[Held]:
    """One place held by each of these users."""
    world.be_idle()
    got = Held([], [])
    for user in users:
        world.count += 1
        url = world.create(f"held{world.count}.git")
        got.hooks.append(install(world.path(url), "pre-receive", WAITS))
        got.pushes.append(world.start("push", url, "HEAD:refs/heads/new", user=user, cwd=world.work({"f": b"1"})))
    try:
        for hook in got.hooks:
            wait_until(Path(f"{hook}.waits").exists, "the hook waits")
        yield got
    finally:
        for hook in got.hooks:
            Path(f"{hook}.go").touch()
    world.be_idle()


def clone(world: World, url: str, user: str) -> Reply:
    """The request of a clone, by hand."""
    tip = world.git.rev(world.path(url), "refs/heads/main")
    body = lines("command=fetch", DELIM, "no-progress", f"want {tip}", "done", FLUSH)
    return upload(url, body, V2 | from_(user))


def push_body(world: World, url: str, name: str = "refs/heads/raw", count: int = 1) -> bytes:
    """The body of a push that makes refs of the commit which is there."""
    path = world.path(url)
    tip = world.git.rev(path, "refs/heads/main")
    commands = [f"{ZERO} {tip} {name}{number}\0report-status".encode() for number in range(count)]
    return lines(*commands, FLUSH) + make_pack(world.git, path, ["refs/heads/main"])


# Who may work


@through("crowd", "gunicorn", "nginx")
def test_a_full_server_answers_what_costs_little(crowd: World) -> None:
    """Listings, health, metrics and clones that were made before are answered; one more operation waits."""
    cached = crowd.create(f"cached{crowd.count}.git", {"random": os.urandom(1 << 20)})
    crowd.git("clone", "-q", cached, crowd.folder / f"first{crowd.count}")
    other, another = crowd.create(f"other{crowd.count}.git"), crowd.create(f"another{crowd.count}.git")
    with held(crowd, "ann", "bob") as places:
        assert crowd.working() == 2
        assert request(crowd.url, "GET", "/-/healthz").status == 200
        assert crowd.git("ls-remote", other).stdout
        for number in range(4):
            crowd.git("clone", "-q", cached, crowd.folder / f"again{crowd.count}-{number}")
        assert crowd.working() == 2
        waiting = crowd.start("clone", "-q", other, crowd.folder / f"late{crowd.count}", user="eve")
        wait_until(lambda: crowd.waiting() == 1, "one waits")
        with crowd.refuses("operations_max"):
            told = crowd.git.fails("clone", another, crowd.folder / "never", cwd=crowd.folder)
        assert "HTTP 503" in told or "error: 503" in told, told
        reply = clone(crowd, another, "zoe")
        assert (reply.status, reply.headers["retry-after"]) == (503, "600")
        assert reply.body == b"The server has as much to do as it can take on at once. Please try again.\n"
        assert waiting.poll() is None
        places.let_go()
        _, errors = waiting.communicate(timeout=SECONDS)
        assert waiting.returncode == 0, errors


@through("crowd", "gunicorn", "nginx")
def test_a_full_server_refuses_a_push_before_it_reads_the_pack(crowd: World) -> None:
    url = crowd.create(f"pushed{crowd.count}.git")
    with held(crowd, "ann", "bob"):
        waiting = crowd.start("clone", "-q", url, crowd.folder / f"late{crowd.count}", user="eve")
        wait_until(lambda: crowd.waiting() == 1, "one waits")
        work = crowd.work({"large": os.urandom(3 << 20)})
        told = crowd.git.fails("push", url, "HEAD:refs/heads/large", cwd=work)
        assert "HTTP 503" in told, told
        assert crowd.path(url).joinpath("refs/heads/large").exists() is False
        crowd.has_no_quarantine(url)
        assert waiting.poll() is None
    waiting.communicate(timeout=SECONDS)
    crowd.git("push", "-q", url, "HEAD:refs/heads/large", cwd=work)


@through("crowd", "gunicorn")
def test_one_client_leaves_room_for_others(crowd: World) -> None:
    url = crowd.create(f"one{crowd.count}.git")
    with held(crowd, "ann"):
        # Of two places ann may have one, and she may have the only one in the queue.
        waiting = crowd.start("clone", "-q", url, crowd.folder / f"late{crowd.count}", user="ann")
        wait_until(lambda: crowd.waiting() == 1, "one waits")
        other = crowd.create(f"two{crowd.count}.git")
        with crowd.refuses("operations_per_client_max"):
            assert clone(crowd, other, "ann").status == 503
    waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 0


@through("crowd", "gunicorn")
def test_identical_clones_wait_as_one(crowd: World) -> None:
    """A storm of jobs that want the same needs one place in the queue, and one production."""
    url = crowd.create(f"storm{crowd.count}.git", {"random": os.urandom(1 << 20)})
    follow = 'govc_body_cache_total{result="follow"}'
    with held(crowd, "ann", "bob") as places:
        before = crowd.metric(follow)
        jobs = [
            crowd.start("clone", "-q", url, crowd.folder / f"job{crowd.count}-{number}", user="eve")
            for number in range(4)
        ]
        wait_until(lambda: crowd.metric(follow) == before + 3, "three follow")
        # A production is known to others before it lines up.
        wait_until(lambda: crowd.waiting() == 1, "one waits for all")
        places.let_go()
        for job in jobs:
            _, errors = job.communicate(timeout=SECONDS)
            assert job.returncode == 0, errors


@through("crowd", "gunicorn", "nginx")
def test_who_hangs_up_gives_everything_back(crowd: World) -> None:
    """In the queue, and in the middle of a push."""
    url = crowd.create(f"gone{crowd.count}.git", {"random": os.urandom(1 << 20)})
    body = push_body(crowd, url)
    head = raw_head(url, "receive-pack", f"Content-Length: {len(body)}\r\nX-Forwarded-For: {address_of('eve')}")
    small = crowd.create(f"small{crowd.count}.git")
    with held(crowd, "ann", "bob"):
        # A small push: nginx looks after its client only once it has handed everything on.
        with connect(small) as connection:
            rest = push_body(crowd, small)
            framing = f"Content-Length: {len(rest)}\r\nX-Forwarded-For: {address_of('eve')}"
            connection.sendall(raw_head(small, "receive-pack", framing) + rest)
            wait_until(lambda: crowd.waiting() == 1, "one waits")
        wait_until(lambda: crowd.waiting() == 0, "nobody waits")
    with connect(url) as connection:
        connection.sendall(head + body[: 1 << 19])
        wait_until(lambda: crowd.working() == 1, "the push is taken in")
    crowd.be_idle()


@through("crowd", "gunicorn")
def test_killed_workers_give_everything_back(crowd: World) -> None:
    url = crowd.create(f"killed{crowd.count}.git", {"random": os.urandom(1 << 20)})
    body = push_body(crowd, url)
    crowd.be_idle()
    with contextlib.ExitStack() as stack:
        for user in ("ann", "bob"):
            connection = stack.enter_context(connect(url))
            framing = f"Content-Length: {len(body)}\r\nX-Forwarded-For: {address_of(user)}"
            connection.sendall(raw_head(url, "receive-pack", framing) + body[: 1 << 19])
        wait_until(lambda: crowd.working() == 2, "both places are taken")
        assert crowd.running.log is not None
        for pid in crowd.workers():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: request_answers(crowd), "the server answers again")
        with held(crowd, "zoe", "eve"):
            assert crowd.working() == 2


@through("crowd", "gunicorn", "nginx")
def test_a_body_that_is_too_large(crowd: World) -> None:
    """Chunked, as git pushes, it is found out on the way; told in advance, at once."""
    url = crowd.create(f"body{crowd.count}.git")
    with crowd.refuses("body_bytes_max"):
        assert "HTTP 413" in push(crowd, url, {f"f{n}": os.urandom(1_000_000) for n in range(6)})
    with crowd.refuses("body_bytes_max"):
        assert receive(url, bytes(5 << 20)).status == 413
    crowd.has_no_quarantine(url)


def request_answers(world: World) -> bool:
    try:
        return request(world.url, "GET", "/-/healthz").status == 200
    except OSError:
        return False


# How often


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Four requests at once and one a minute, per address; five per user."""
    options = {"rate_per_address": 1, "rate_per_user": 1, "rate_burst_seconds": 240}
    folder = tmp_path_factory.mktemp("paced")
    with run_world(folder, "gunicorn", options) as world:
        world.create("a.git")
        yield world


def count_until_429(ask: Callable[[], Reply]) -> tuple[int, Reply]:
    """How many were answered before one was refused, and that one."""
    for number in range(1000):
        reply = ask()
        if reply.status == 429:
            return number, reply
        assert reply.status == 200
    raise AssertionError("nothing was refused")


def test_an_address_may_ask_so_often_whichever_worker_it_asks(paced: World) -> None:
    url = f"{paced.url}/a.git"
    started = time.monotonic()
    with paced.refuses("rate_per_address"):
        # A new connection each: which worker takes it is not ours to say.
        count, refused = count_until_429(lambda: discover(url, headers=from_("ann")))
    assert 4 <= count <= 4 + (time.monotonic() - started) / 60 + 1
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert refused.headers["content-type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(rb"Too many requests from your address\. Please try again in \d+ seconds?\.\n", refused.body)
    assert discover(url, headers=from_("bob")).status == 200
    for path in ("/-/healthz", "/-/readyz", "/-/metrics"):
        assert [request(paced.url, "GET", path, headers=from_("ann")).status for _ in range(10)] == [200] * 10
    # What was let in may go on.
    listing = lines("command=ls-refs", FLUSH)
    count, _ = count_until_429(lambda: upload(url, listing, V2 | from_("ann")))
    assert count >= 4


def test_what_git_says_to_its_user(paced: World) -> None:
    url = f"{paced.url}/a.git"
    count_until_429(lambda: discover(url, headers=from_("eve")))
    told = paced.git.fails("-c", f"http.extraHeader=X-Forwarded-For: {address_of('eve')}", "ls-remote", url)
    assert re.search(
        r"^remote: Too many requests from your address\. Please try again in \d+ second", told, re.MULTILINE
    )
    assert "The requested URL returned error: 429" in told


def test_a_user_is_one_wherever_he_is(paced: World) -> None:
    url = f"{paced.url}/a.git"
    asked = iter(range(1000))

    def ask() -> Reply:
        return discover(url, headers={"X-Remote-User": "una", "X-Forwarded-For": f"172.16.0.{next(asked)}"})

    with paced.refuses("rate_per_user"):
        _, refused = count_until_429(ask)
    assert refused.body.startswith(b"Too many requests in your name.")


# How much


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Small sizes of everything, one repository or another the first to meet each."""
    options = {
        "pack_bytes_max": "2m",
        "object_bytes_max": "1m",
        "push_refs_max": 8,
        "refs_max": 10,
        "haves_max": 3,
        "header_bytes_max": 2048,
        "headers_max": 40,
    }
    with run_world(tmp_path_factory.mktemp("sized"), "gunicorn", options) as world:
        yield world


def push(world: World, url: str, files: dict[str, bytes], *names: str) -> str:
    """Push a fresh commit that must be refused; return what git says."""
    work = world.work(files)
    return world.git.fails("push", url, *(f"HEAD:refs/heads/{name}" for name in names or ("new",)), cwd=work)


def test_a_pack_that_is_too_large(sized: World) -> None:
    url = sized.create("pack.git")
    with sized.refuses("pack_bytes_max"):
        told = push(sized, url, {f"f{n}": os.urandom(900_000) for n in range(3)})
    assert "remote: fatal: pack exceeds maximum allowed size (2.00 MiB)" in told or "(2097152 bytes)" in told
    assert "(unpacker error)" in told
    sized.git("config", "receive.maxInputSize", "100k", cwd=sized.path(url))
    with sized.refuses("receive.maxInputSize"):
        assert "pack exceeds maximum allowed size (100.00 KiB)" in push(sized, url, {"f": os.urandom(200_000)})


def test_an_object_that_is_too_large(sized: World) -> None:
    url = sized.create("object.git")
    for data in (os.urandom(1_500_000), bytes(4 << 20)):
        with sized.refuses("object_bytes_max"):
            assert "limit exceeded: object bytes: more than 1048576" in push(sized, url, {"f": data})


def test_too_many_refs_at_once(sized: World) -> None:
    url = sized.create("at-once.git")
    with sized.refuses("push_refs_max"):
        told = push(sized, url, {"f": b"1"}, *(f"n{number}" for number in range(9)))
    assert told.count("(too many refs in one push: at most 8)") == 9
    assert list(sized.git.refs(sized.path(url))) == ["refs/heads/main"]


def test_too_many_refs_in_a_repository(sized: World) -> None:
    url = sized.create("refs.git")
    work = sized.work({"f": b"1"})
    sized.git("push", "-q", url, *(f"HEAD:refs/heads/n{number}" for number in range(7)), cwd=work)
    sized.git("pack-refs", "--all", cwd=sized.path(url))
    with sized.refuses("refs_max"):
        told = sized.git.fails("push", url, *(f"HEAD:refs/heads/m{number}" for number in range(4)), cwd=work)
    assert told.count("(too many refs: this repository may have 10)") == 2
    assert len(sized.git.refs(sized.path(url))) == 10
    with sized.refuses("refs_max"):
        told = sized.git.fails("push", "--atomic", url, "HEAD:refs/heads/one-more", ":refs/heads/none", cwd=work)
    # Who makes room may use it.
    sized.git("push", "-q", url, "HEAD:refs/heads/one-more", ":refs/heads/n1", cwd=work)
    assert len(sized.git.refs(sized.path(url))) == 10


@pytest.mark.parametrize("version", [0, 2])
def test_too_many_haves(sized: World, version: int) -> None:
    url = sized.create(f"haves{version}.git")
    tip = sized.git.rev(sized.path(url), "refs/heads/main")
    haves = [f"have {number:040x}" for number in range(4)]
    for count, is_refused in ((3, False), (4, True)):
        if version == 2:
            reply = upload(url, lines("command=fetch", DELIM, f"want {tip}", *haves[:count], FLUSH), V2)
        else:
            reply = upload(url, lines(f"want {tip}", FLUSH, *haves[:count], "done"))
        assert (b"ERR limit exceeded: haves_max: more than 3 (4)" in reply.body) == is_refused


def test_heads_that_are_too_large(sized: World) -> None:
    url = sized.create("head.git")
    fits = {"X-Long": "x" * 1900}
    assert discover(url, headers=fits).status == 200
    for headers in ({"X-Long": "x" * 2100}, {f"X-{number}": "x" for number in range(50)}):
        with sized.refuses("header_bytes_max"):
            assert discover(url, headers=headers).status == 431
    with sized.refuses("header_bytes_max"):
        assert request(sized.url, "GET", "/" + "a" * 2100 + "/info/refs?service=git-upload-pack").status == 414


def test_a_quota(sized: World) -> None:
    """Bytes on disk, of packs and loose objects; refused where it would be exceeded, and at once where it is."""
    url = sized.create("quota.git", {"f": os.urandom(300_000)}, {"govc.quota": "1m"})
    path = sized.path(url)
    work = sized.work({"f": os.urandom(500_000)})
    sized.git("push", "-q", url, "HEAD:refs/heads/half", cwd=work)
    with sized.refuses("repository_bytes_max"):
        told = push(sized, url, {"f": os.urandom(500_000)})
    assert re.search(r"remote: fatal: quota exceeded: 7\d\d\.\d\d KiB of 1024\.00 KiB used, and", told), told
    assert "(unpacker error)" in told
    # Loose objects that plain git puts there count at the next push.
    sized.git("hash-object", "-w", "--stdin", cwd=path, input=os.urandom(400_000))
    with sized.refuses("repository_bytes_max"):
        told = push(sized, url, {"f": b"little"})
    assert re.search(r"\(quota exceeded: 1\.\d\d MiB of 1024\.00 KiB used\)", told), told
    # Deleting is how room is made; git gc then makes it.
    sized.git("push", "-q", url, ":refs/heads/half", cwd=work)
    sized.git("reflog", "expire", "--expire=now", "--all", cwd=path)
    sized.git("gc", "-q", "--prune=now", cwd=path)
    sized.git("push", "-q", url, "HEAD:refs/heads/half", cwd=work)


# How slowly


@pytest.fixture(scope="module")
def impatient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server that ends a client after two seconds of silence."""
    options = {"client_idle_seconds": 2, "client_bytes_per_second_min": 0}
    if request.param == "nginx":
        options["cache_bytes_max"] = 0  # a body that is kept is nginx's to send, and its send_timeout counts
    with run_world(tmp_path_factory.mktemp("impatient"), request.param, options) as world:
        yield world


@pytest.fixture(scope="module")
def hasty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server that ends a client who moves less than a megabyte a second for three seconds."""
    options = {"client_idle_seconds": 0, "client_bytes_per_second_min": 1 << 20, "client_slow_seconds": 3}
    with run_world(tmp_path_factory.mktemp("hasty"), request.param, options) as world:
        yield world


def read_to_the_end(connection: socket.socket) -> bytes:
    """What comes until the other side ends the connection, one way or another."""
    out = []
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            out.append(piece)
    return b"".join(out)


def connect(url: str, receive_bytes: int = 0) -> socket.socket:
    place = urlsplit(url)
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(SECONDS)
    connection.connect((place.hostname or "", place.port or 80))
    return connection


def has_ended(world: World) -> Callable[[], bool]:
    """Say whether somebody was ended for his silence since this was called."""
    before = world.refusals("client_idle_seconds")
    return lambda: world.refusals("client_idle_seconds") > before


@through("impatient", "gunicorn", "nginx")
def test_a_body_that_stops_coming(impatient: World) -> None:
    url = impatient.create(f"stopped{impatient.count}.git")
    body = push_body(impatient, url)
    with impatient.refuses("client_idle_seconds"), connect(url) as connection:
        connection.sendall(raw_head(url, "receive-pack", f"Content-Length: {len(body)}") + body[:-10])
        answer = read_to_the_end(connection)
    assert b"unpack ok" not in answer
    log = impatient.running.log
    assert log is not None
    # He is counted first; then his request ends, and says so.
    wait_until(lambda: "ended: the client was too slow (client_idle_seconds)" in log.read_text(), "the log says why")
    impatient.has_no_quarantine(url)


@through("hasty", "gunicorn")
def test_a_body_that_trickles(hasty: World) -> None:
    url = hasty.create(f"trickles{hasty.count}.git")
    body = push_body(hasty, url)
    with hasty.refuses("client_bytes_per_second_min"), connect(url) as connection:
        connection.sendall(raw_head(url, "receive-pack", f"Content-Length: {len(body) + 10**6}") + body[:-10])
        connection.settimeout(0.05)
        deadline = time.monotonic() + SECONDS
        ended = False
        while not ended:
            assert time.monotonic() < deadline
            try:
                connection.sendall(b"x")
                ended = not connection.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True


@through("impatient", "gunicorn", "nginx")
def test_an_answer_that_nobody_reads(impatient: World) -> None:
    """Sent by the kernel from a file, or through nginx, which stops to read it when its client does."""
    url = impatient.create(f"unread{impatient.count}.git", {"random": os.urandom(32 << 20)})
    tip = impatient.git.rev(impatient.path(url), "refs/heads/main")
    body = lines("command=fetch", DELIM, "no-progress", f"want {tip}", "done", FLUSH)
    framing = f"Git-Protocol: version=2\r\nContent-Length: {len(body)}"
    with impatient.refuses("client_idle_seconds"), connect(url, receive_bytes=4096) as connection:
        ended = has_ended(impatient)
        connection.sendall(raw_head(url, "upload-pack", framing) + body)
        wait_until(ended, "it is ended")


@through("impatient", "gunicorn")
def test_an_answer_of_one_piece_that_nobody_reads(impatient: World) -> None:
    """Listings that the fast lane sends, until they fit into no buffer."""
    url = impatient.create(f"listed{impatient.count}.git")
    tip = impatient.git.rev(impatient.path(url), "refs/heads/main")
    updates = "".join(f"create refs/heads/n{number} {tip}\n" for number in range(5000))
    impatient.git("update-ref", "--stdin", cwd=impatient.path(url), input=updates.encode())
    impatient.git("pack-refs", "--all", cwd=impatient.path(url))
    path = urlsplit(url).path
    one = f"GET {path}/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with impatient.refuses("client_idle_seconds"), connect(url, receive_bytes=4096) as connection:

        def ask() -> None:
            with contextlib.suppress(OSError):
                connection.sendall(one * 200)

        ended = has_ended(impatient)
        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(ended, "it is ended")
        asking.join(SECONDS)
        assert not asking.is_alive()
