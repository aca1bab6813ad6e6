"""One repository on a simulated disk: processes that push to it, and what must hold after they were stopped.

A process is the whole server: the WSGI application of `create_app`, called without a socket; in a forked child when it
is to be stopped, here when it is to look. A push is acknowledged when the last byte of its report has been produced;
the process notes it in the trace then.

What must hold after a crash, once a new process has answered its first request (`Checker`):

- Every acknowledged push is there whole; each one that was on its way is there wholly or not at all; what was refused
  isn't.
- Every object that a ref reaches is there.
- A further push works, to a new ref and to an old one, and what was there before still is.
"""

import contextlib
import gc
import io
import itertools
import logging
import os
import subprocess
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from govc.app import create_app
from govc.odb.store import ObjectStore
from govc.protocol.oid import SHA1
from govc.repo.creation import create_first_commit, create_repository
from govc.wal import boot
from govc.wal.errors import IN_DOUBT
from tests.simulation.disk import SimulatedDisk
from tests.simulation.machine import Machine, Run
from tests.simulation.outcomes import Outcome, materialise
from tests.simulation.pushes import Commit, Push, make_commit, parse_report
from tests.simulation.trace import Call

REPOSITORY = "r.git"
CONFIG = "[core]\n\tlogallrefupdates = true\n[receive]\n\tautogc = false\n"

LEFTOVERS = (".lock", ".keep", "packed-refs.new")
FLAWS_MAX = 20
"""A run that finds more ends early."""

Refs = dict[str, str]


class Broken(AssertionError):
    """Something that must hold doesn't; the text says what, in which outcome, after which calls."""


@dataclass
class Flaw:
    """One kind of thing that doesn't hold: how often, and the first example."""

    example: str
    count: int = 0


@dataclass
class Answer:
    """What the first process after a crash found: its refs, and how its own push went."""

    refs: Refs
    missing: list[str]
    report: dict[str, str]
    refs_after: Refs
    locks: list[str]


class Scene:
    """A served folder with one repository, made without git; `main` has one commit, `first`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.root = folder / "served"
        self.root.mkdir(parents=True)
        self.path = self.root / REPOSITORY
        create_repository(str(self.path), SHA1, export=True, allow_push=True)
        self.first = create_first_commit(str(self.path), SHA1, now_seconds=1_700_000_000).hex()
        with open(self.path / "config", "a") as file:
            file.write(CONFIG)
        self._folder = folder
        self._settings = {"export_all": True, "helper_processes_max": 0, "metrics": False, **settings}
        self.boot = ""
        self.restart_machine()

    def restart_machine(self) -> None:
        """From now on processes see another boot id."""
        self.boot = str(uuid.uuid4())

    # Processes

    def serve(self) -> "Server":
        """The server, in this process."""
        place = self._folder / f"boot-{self.boot}"
        place.write_text(f"{self.boot}\n")
        boot._PATH = str(place)
        return Server(create_app(root=str(self.root), **self._settings))

    def pusher(self, *pushes: Push, closes: bool = False) -> Callable[[SimulatedDisk], list[dict[str, str]]]:
        """A process that makes these pushes, one after the other; `closes`: and ends as it should."""

        def process(simulated: SimulatedDisk) -> list[dict[str, str]]:
            server = self.serve()
            reports = []
            for push in pushes:
                simulated.note(("began", push.name))
                report = server.push(push)
                simulated.note((outcome_of(report), push.name))
                reports.append(report)
            if closes:
                server.close()
            return reports

        return process

    def look(self, commit: Commit) -> Answer:
        """What the first process after a crash does: list, read everything, push, list again."""
        server = self.serve()
        refs = server.refs()
        missing = find_missing(str(self.path / "objects"), refs)
        changes: list[tuple[str, str | None, str | None]] = [("refs/heads/after/new", None, commit.oid)]
        if "refs/heads/main" in refs:
            changes.append(("refs/heads/main", refs["refs/heads/main"], commit.oid))
        report = server.push(Push("after", tuple(changes), commit.objects))
        return Answer(refs, missing, report, server.refs(), find_locks(self.path))


class Server:
    """The WSGI application, called without a socket."""

    def __init__(self, application: Any) -> None:
        self._application = application

    def close(self) -> None:
        """End as a server should."""
        self._application.close()

    def _request(self, method: str, path: str, query: str = "", body: bytes = b"") -> tuple[str, bytes]:
        status = []
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": f"/{REPOSITORY}/{path}",
            "QUERY_STRING": query,
            "CONTENT_TYPE": "application/x-git-receive-pack-request" if body else "",
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        chunks = self._application(environ, lambda text, headers, error=None: status.append(text))
        try:
            data = b"".join(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return status[0], data

    def push(self, push: Push) -> dict[str, str]:
        """Push; the report."""
        status, data = self._request("POST", "git-receive-pack", body=push.body)
        return parse_report(data) if status.startswith("200") else {"http": status}

    def refs(self) -> Refs:
        """The refs as a client of version 0 sees them. Raises Broken when there is no answer."""
        status, data = self._request("GET", "info/refs", "service=git-receive-pack")
        if not status.startswith("200"):
            raise Broken(f"refs: {status} {data[:300]!r}")
        refs: Refs = {}
        while data:
            length = int(data[:4], 16)
            line = data[4:length].partition(b"\0")[0].decode().strip() if length else ""
            data = data[length or 4 :]
            oid, _, name = line.partition(" ")
            if name.startswith("refs/"):
                refs[name] = oid
        return refs


@contextlib.contextmanager
def logged_lines() -> Iterator[list[str]]:
    """What is logged while the block runs, and shown nowhere else."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    logger = logging.getLogger("govc")
    handler, propagates = Handler(), logger.propagate
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


def is_ok(report: dict[str, str]) -> bool:
    """Whether all of a push was acknowledged."""
    return bool(report) and set(report.values()) == {"ok"}


def outcome_of(report: dict[str, str]) -> str:
    """What a pusher knows: its push is kept, or never happened, or it was told that nobody knows yet."""
    if is_ok(report):
        return "acknowledged"
    return "doubtful" if any(IN_DOUBT in text for text in report.values()) else "refused"


def find_missing(objects_dir: str, refs: Refs) -> list[str]:
    """Objects that refs reach and that can't be read."""
    store = ObjectStore.open(objects_dir, SHA1)
    left = {(oid, name) for name, oid in refs.items()}
    seen: set[str] = set()
    missing = []
    while left:
        oid, name = left.pop()
        if oid in seen:
            continue
        seen.add(oid)
        number = store.find(bytes.fromhex(oid))
        if number < 0:
            missing.append(f"{name}: {oid}")
            continue
        kind, content = store.read(number)
        left.update((found, name) for found in _links_of(int(kind), content))
    return missing


def _links_of(kind: int, content: bytes) -> Iterator[str]:
    if kind == 1:
        for line in content.partition(b"\n\n")[0].splitlines():
            if line.startswith((b"tree ", b"parent ")):
                yield line.split()[1].decode()
    elif kind == 2:
        position = 0
        while position < len(content):
            position = content.index(b"\0", position) + 1
            yield content[position : position + 20].hex()
            position += 20


def find_locks(path: Path) -> list[str]:
    """What would stand in plain git's way: locks, `.keep` files, a packed-refs.new."""
    found = []
    for folder, names, files in os.walk(path):
        if folder == str(path) and "govc" in names:
            names.remove("govc")
        found += [os.path.relpath(f"{folder}/{name}", path) for name in files if name.endswith(LEFTOVERS)]
    return found


def fsck(path: Path) -> str:
    """What `git fsck` has to complain about, "" for nothing."""
    done = subprocess.run(
        ["git", "fsck", "--full", "--strict", "--no-dangling"],
        cwd=path,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(path)},
        check=False,
    )
    text = (done.stdout + done.stderr).decode(errors="replace")
    return "" if done.returncode == 0 and "error" not in text else text or f"status {done.returncode}"


# What may be there


@dataclass
class Expectation:
    """From the notes of a trace: what was acknowledged, refused, and on its way."""

    base: Refs
    pushes: dict[str, Push]
    acknowledged: list[str] = field(default_factory=list)
    on_the_way: list[str] = field(default_factory=list)

    def hear(self, call: Call) -> None:
        """Take in a call of the trace."""
        if call.kind != "note":
            return
        what, name = call.what
        if what == "began":
            self.on_the_way.append(name)
        elif what != "doubtful":
            self.on_the_way.remove(name)
            if what == "acknowledged":
                self.acknowledged.append(name)

    def allowed(self) -> list[Refs]:
        """Every set of refs that may be there."""
        found = []
        for count in range(len(self.on_the_way) + 1):
            for chosen in itertools.combinations(self.on_the_way, count):
                refs = dict(self.base)
                for name in (*self.acknowledged, *chosen):
                    apply_push(refs, self.pushes[name])
                found.append(refs)
        return found


def apply_push(refs: Refs, push: Push) -> None:
    """What a push makes of refs."""
    for ref, _, new in push.changes:
        if new is None:
            refs.pop(ref, None)
        else:
            refs[ref] = new


@dataclass
class Checker:
    """Checks outcomes of one scene, and counts. `conclude` raises what was found."""

    scene: Scene
    flaws: dict[str, Flaw] = field(default_factory=dict)
    fsck_every: int = 50
    checked: int = 0
    fsck_count: int = 0
    seen: set[tuple[bytes, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        gc.collect()
        gc.freeze()  # what is there already need not be looked at after each check
        self._commit = make_commit(self.scene.first, "after", b"after\n")

    def check(self, outcome: Outcome, expectation: Expectation, context: Callable[[], str]) -> bool:
        """Put the outcome on the disk, recover, look. False when an equal one was checked before."""
        allowed = expectation.allowed()
        mark = (outcome.fingerprint(), f"{outcome.is_cut} {allowed}")
        if mark in self.seen:
            return False
        self.seen.add(mark)
        materialise(outcome, str(self.scene.path))
        self.judge(allowed, lambda: f"{outcome.label}; {context()}")
        return True

    def judge(self, allowed: list[Refs], context: Callable[[], str]) -> None:
        """Recover what lies there, and look."""
        self.checked += 1
        with logged_lines() as logged:
            try:
                answer = self.scene.look(self._commit)
            except Exception as error:
                lines = [*logged, traceback.format_exc(), context()]
                self._note(f"{type(error).__name__}: {error}", "\n".join(lines))
                return
            finally:
                gc.collect()  # closes what the server held, before another one's folder takes this one's place
        problems = self._problems(answer, allowed)
        if problems:
            self._note(problems[0].partition(":")[0], "\n".join([*problems, *logged, context()]))

    def _note(self, kind: str, example: str) -> None:
        self.flaws.setdefault(kind, Flaw(example)).count += 1
        if sum(flaw.count for flaw in self.flaws.values()) >= FLAWS_MAX:
            self.conclude()

    def conclude(self) -> None:
        """Raise Broken when something didn't hold."""
        if self.flaws:
            kinds = [f"{flaw.count} times: {kind}" for kind, flaw in self.flaws.items()]
            examples = [flaw.example for flaw in self.flaws.values()]
            raise Broken("\n\n".join([f"of {self.checked} states:", *kinds, *examples]))

    def _problems(self, answer: Answer, allowed: list[Refs]) -> list[str]:
        problems = []
        if answer.refs not in allowed:
            problems.append(f"wrong refs: {show(answer.refs)}, may be {[show(refs) for refs in allowed]}")
        if answer.missing:
            problems.append(f"missing objects: {answer.missing}")
        if not is_ok(answer.report):
            problems.append(f"a push afterwards: {answer.report}")
        expected = dict(answer.refs) | {"refs/heads/after/new": self._commit.oid}
        if "refs/heads/main" in expected:
            expected["refs/heads/main"] = self._commit.oid
        if is_ok(answer.report) and answer.refs_after != expected:
            problems.append(f"wrong refs after a push: {show(answer.refs_after)}, wanted {show(expected)}")
        if answer.locks:
            problems.append(f"left behind: {answer.locks}")
        if not problems and self.checked % self.fsck_every == 1:
            self.fsck_count += 1
            found = fsck(self.scene.path)
            if found:
                problems.append(f"git fsck: {found}")
        return problems


def show(refs: Refs) -> str:
    """Refs in few letters."""
    return "{" + ", ".join(f"{name.removeprefix('refs/')}: {oid[:7]}" for name, oid in sorted(refs.items())) + "}"


__all__ = ["Broken", "Checker", "Expectation", "Machine", "Run", "Scene", "fsck", "is_ok", "show"]
