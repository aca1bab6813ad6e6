"""What two real workers say of themselves: what dashboard and alerts ask for, JSON logs, the audit log."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from compat import frontends
from compat.gitclient import Git
from compat.rawhttp import request
from tests.waiting import SECONDS, wait_until

pytestmark = pytest.mark.xdist_group("observe")

CONF = frontends.PROJECT / "conf"
USER = "X-Remote-User: ann"


@dataclass
class World:
    running: frontends.Running
    folder: Path
    git: Git

    @property
    def url(self) -> str:
        return f"{self.running.url}/a.git"

    def metrics(self) -> dict[str, float]:
        """Every sample, by its name and labels as they stand."""
        text = request(self.running.url, "GET", "/-/metrics").body.decode()
        return {name: float(value) for name, value in re.findall(r"^(govc_\S+) (\S+)$", text, re.MULTILINE)}

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.running.pids[0]).children()

    def counting(self) -> set[int]:
        """The processes that have counted something."""
        return {int(path.stem.rpartition("_")[2]) for path in self.folder.glob("tmp/govc-metrics-*/histogram_*.db")}

    def have_each_count(self) -> None:
        """Have every worker count what it has noted so far: who is asked for the counts does that first."""
        place = urlsplit(self.running.url)
        left = {worker.pid for worker in self.workers()}

        def ask() -> bool:
            with contextlib.closing(http.client.HTTPConnection(place.netloc, timeout=SECONDS)) as connection:
                connection.connect()
                own = connection.sock.getsockname()[1]
                connection.request("GET", "/-/metrics")
                assert connection.getresponse().status == 200
                for worker in self.workers():
                    if any(link.raddr and link.raddr.port == own for link in worker.net_connections("tcp")):
                        left.discard(worker.pid)
            return not left

        wait_until(ask, "each worker is asked")

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text("ascii").splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("observe")
    git = Git(folder / "home", folder)
    root = folder / "served"
    git("init", "-q", "--bare", "-b", "main", root / "a.git")
    (root / "a.git/git-daemon-export-ok").touch()
    for name in ("tmp", "scratch"):
        (folder / name).mkdir()
    (folder / "tokens").touch()
    (folder / "p.toml").write_text('[[rule]]\nrepositories = ["**"]\nread = ["@anyone"]\nwrite = ["ann"]\n')
    settings = {
        "log-format": "json",
        "log-file": folder / "govc.log",
        "audit-file": folder / "audit.jsonl",
        "permission-file": folder / "p.toml",
        "token-file": folder / "tokens",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    env = frontends.server_environment(folder / "server-home", {"TMPDIR": str(folder / "tmp")})
    with frontends.start_gunicorn(root, env, folder / "scratch", options) as running:
        made = World(running, folder, git)
        work = folder / "work"
        git("init", "-q", work)
        (work / "file").write_text("content\n")
        git("add", ".", cwd=work)
        git("commit", "-qm", "first", cwd=work)
        git("-c", f"http.extraHeader={USER}", "push", "-q", made.url, "HEAD:refs/heads/main", cwd=work)
        git("clone", "-q", made.url, folder / "clone")
        wrong = {"Authorization": "Basic " + b64encode(b"eve:wrong").decode()}
        assert request(made.url, "GET", "/info/refs?service=git-upload-pack", headers=wrong).status == 401
        wait_until(lambda: has_asked_often(made) and len(made.counting()) >= 2, "both workers answer")
        yield made


def has_asked_often(world: World) -> bool:
    """Several at once, so that not all of it can be the work of one worker for ever."""

    def ask(_number: int) -> bool:
        return request(world.url, "GET", "/info/refs?service=git-upload-pack").status == 200

    with ThreadPoolExecutor(8) as pool:
        return all(pool.map(ask, range(8)))


def has_open(process: psutil.Process, path: Path) -> bool:
    try:
        return str(path) in {file.path for file in process.open_files()}
    except psutil.NoSuchProcess:
        return False


def asked_for(text: str) -> set[str]:
    """The names of metrics in questions."""
    return set(re.findall(r"\bgovc_[a-z_]+", text))


def expressions() -> dict[str, str]:
    """The questions of the alerts and of the dashboard, by their names."""
    found = {}
    rules = (CONF / "alerts.yml").read_text()
    for rule in rules.split("- alert: ")[1:]:
        name, _, rest = rule.partition("\n")
        body = re.search(r"^        expr: (.*?)^        (?:for|labels):", rest, re.MULTILINE | re.DOTALL)
        assert body is not None, name
        found[name] = body[1]
    board = json.loads((CONF / "grafana-dashboard.json").read_text())
    for panel in board["panels"]:
        found[panel["title"]] = " ".join(target["expr"] for target in panel["targets"])
    assert len(found) == rules.count("- alert:") + len(board["panels"])
    return found


def test_dashboard_and_alerts_ask_for_what_two_workers_say(world: World) -> None:
    known = {name.partition("{")[0] for name in world.metrics()}
    for where, expression in expressions().items():
        names = asked_for(expression)
        assert names or where == "GovcDown", where
        assert names <= known, (where, names - known)


def test_what_the_questions_select_by_are_labels_that_exist(world: World) -> None:
    labels: dict[str, set[str]] = {}
    for sample in world.metrics():
        name, _, rest = sample.partition("{")
        labels.setdefault(name, {"instance"}).update(re.findall(r"(\w+)=", rest))
    for where, expression in expressions().items():
        for name, selector in re.findall(r"(govc_[a-z_]+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)=", selector)) <= labels[name], (where, name)


def test_counts_add_up_over_both_workers_and_outlive_one(world: World) -> None:
    name = 'govc_http_requests_total{route="head",status="200"}'
    count = 'govc_http_request_seconds_count{route="head"}'
    before = world.metrics()
    for _ in range(20):
        assert request(world.url, "GET", "/HEAD").status == 200
    # A request is counted when all of its answer has gone, which its client may know sooner.
    wait_until(lambda: world.metrics()[count] - before.get(count, 0) >= 20)
    after = world.metrics()
    assert after[name] - before.get(name, 0) == after[count] - before.get(count, 0) == 20
    wait_until(
        lambda: (
            request(world.url, "GET", "/info/refs?service=git-upload-pack").status == 200
            and world.metrics()["govc_open_repositories"] == 2
        )
    )
    victim = world.workers()[0]
    victim.kill()
    wait_until(lambda: victim.pid not in {worker.pid for worker in world.workers()} and len(world.workers()) == 2)
    wait_until(lambda: world.metrics()["govc_open_repositories"] <= 1)
    assert world.metrics()[name] == after[name]


def test_phases_add_up_over_both_workers_and_helper_processes(world: World) -> None:
    def count(phase: str) -> float:
        return world.metrics().get(f'govc_phase_seconds_count{{phase="{phase}"}}', 0)

    world.have_each_count()
    validated, indexed = count("validate"), count("index")
    for _ in range(20):
        assert request(world.url, "GET", "/HEAD").status == 200
    wait_until(lambda: count("validate") - validated >= 20)
    assert count("validate") - validated == 20
    # A large push whose objects are checked is indexed in a helper process.
    git, work = world.git, world.folder / "large"
    git("config", "receive.fsckObjects", "true", cwd=world.folder / "served/a.git")
    git("init", "-q", work)
    (work / "noise").write_bytes(os.urandom(600_000))
    git("add", ".", cwd=work)
    git("commit", "-qm", "noise", cwd=work)
    git("-c", f"http.extraHeader={USER}", "push", "-q", world.url, "HEAD:refs/heads/large", cwd=work)
    wait_until(lambda: count("index") - indexed == 1)
    for phase in ("receive", "validate", "negotiate", "enumerate", "write", "index", "connectivity", "log_sync"):
        wait_until(lambda phase=phase: count(phase) > 0, phase)  # counted some moments later
    after = world.metrics()
    for phase in ("receive", "validate", "negotiate", "enumerate", "write", "index", "connectivity", "log_sync"):
        assert after[f'govc_phase_seconds_sum{{phase="{phase}"}}'] > 0, phase
    assert count("hooks") == 0
    wait_until(
        lambda: world.metrics()["govc_log_sync_duration_seconds_count"] == world.metrics()["govc_log_syncs_total"]
    )
    assert after["govc_log_size_bytes"] > 0


def test_push_and_clone_are_in_the_audit_log(world: World) -> None:
    tip = world.git.rev(world.folder / "work", "HEAD")
    pushes = [line for line in world.lines("audit.jsonl") if line["event"] == "push"]
    pushes = [push for push in pushes if push["refs"][0]["ref"] == "refs/heads/main"]
    fetches = [line for line in world.lines("audit.jsonl") if line["event"] == "fetch"]
    assert [(push["user"], push["address"]) for push in pushes] == [("ann", "127.0.0.1")]
    assert pushes[0]["refs"] == [{"ref": "refs/heads/main", "old": "0" * 40, "new": tip, "result": "ok"}]
    assert [(fetch["user"], fetch["wants"], fetch["complete"]) for fetch in fetches] == [(None, 1, True)]
    requests = {line.get("request"): line for line in world.lines("govc.log")}
    assert requests[fetches[0]["request"]]["bytes"] == fetches[0]["bytes"]
    assert requests[pushes[0]["request"]]["bytes_in"] > 0


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_the_log_is_opened_again_on_a_signal(world: World, number: signal.Signals) -> None:
    path = world.folder / "govc.log"
    before = {worker.pid for worker in world.workers()}
    # Both serve: a signal that meets a worker while it starts is another story.
    wait_until(
        lambda: (
            request(world.url, "GET", "/info/refs?service=git-upload-pack").status == 200 and before <= world.counting()
        )
    )
    old = path.rename(world.folder / f"govc.log.{number}")
    os.kill(world.running.pids[0], number)
    wait_until(path.exists)
    if number == signal.SIGHUP:
        wait_until(lambda: not before & {worker.pid for worker in world.workers()} and len(world.workers()) == 2)
    wait_until(lambda: not any(has_open(worker, old) for worker in world.workers()))  # each opens it by itself
    size = old.stat().st_size
    # A route that nothing above has asked for: a line is written after its answer, which may be in the new file.
    for _ in range(8):
        assert request(world.url, "GET", "/HEAD").status == 200
    wait_until(lambda: len([line for line in world.lines("govc.log") if line.get("route") == "head"]) == 8)
    assert old.stat().st_size == size


def test_ready_until_the_folder_goes_away(world: World) -> None:
    root = world.folder / "served"
    assert request(world.running.url, "GET", "/-/readyz").body == b"ok\n"
    away = root.rename(world.folder / "away")
    try:
        answer = request(world.running.url, "GET", "/-/readyz")
        assert answer.status == 503 and b"can't be read" in answer.body
        assert request(world.running.url, "GET", "/-/healthz").status == 200
    finally:
        away.rename(root)
    assert world.running.log is not None and "Traceback" not in world.running.log.read_text()
    assert request(world.running.url, "GET", "/-/readyz").status == 200
