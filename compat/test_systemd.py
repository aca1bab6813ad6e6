"""The systemd units as they stand, under a systemd that is process 1 of a machine within the machine.

The server runs in the unit's sandbox, hooks with it: what it may write and become is tried from a hook.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compat import frontends, machine_within
from compat.conftest import lacking
from compat.gitclient import Git
from compat.machine_within import PROXY_GROUP_ID, USER_ID, Within, wait_until
from compat.rawhttp import request

pytestmark = pytest.mark.xdist_group("systemd")

TRIES = """#!/bin/sh
id -un
umask
grep NoNewPrivs: /proc/self/status
for path in /etc/x /usr/x /opt/project/x /srv/x /var/cache/x /var/log/x; do
    touch "$path" 2>/dev/null && echo "wrote $path"
done
touch /var/cache/govc/x /var/log/govc/x /srv/git/x /tmp/only-here && echo wrote what is its own
ls /root >/dev/null 2>&1 && echo "saw /root"
mount -t tmpfs tmpfs /srv/git 2>/dev/null && echo mounted
cat >/dev/null
"""


@dataclass
class Machine:
    """The inner machine, its port, and how a client outside sees the served folder."""

    within: Within
    port: int

    @property
    def url(self) -> str:
        """Of the served folder."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def served(self) -> Path:
        """The served folder, from outside."""
        return self.within.served

    def add(self, git: Git, name: str, hook: str = "", *settings: str) -> Path:
        """A bare repository that anybody may push to."""
        path = self.served / name
        git("init", "-q", "--bare", *settings, path)
        git("-C", path, "config", "http.receivepack", "true")
        (path / "git-daemon-export-ok").touch()
        if hook:
            (path / "hooks/pre-receive").write_text(hook)
            (path / "hooks/pre-receive").chmod(0o755)
        for folder, _, names in os.walk(path):
            for each in (folder, *(f"{folder}/{name}" for name in names)):
                mode = os.lstat(each).st_mode
                os.chown(each, USER_ID, USER_ID)
                os.chmod(each, mode & 0o7777)  # chown takes the set-group-ID bit
        return path


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    reason = machine_within.why_not()
    if reason is not None:
        lacking(reason)
    port = frontends.find_free_port()
    scratch = tmp_path_factory.mktemp("within")
    with machine_within.boot(scratch, port) as within:
        yield Machine(within, port)
    shutil.rmtree(scratch)


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """With govc.service started: `start` returns once the server has said that it is ready."""
    machine.within.run("systemctl", "start", "govc.service")
    yield machine
    stop(machine.within)


def stop(within: Within) -> None:
    """Stop service and socket, and wait until they are."""
    units = ("govc.socket", "govc.service")
    within.run("systemctl", "stop", *units, check=False)
    wait_until(lambda: all(within.show(unit, "ActiveState") in ("inactive", "failed") for unit in units), within)


def push_one(machine: Machine, git: Git, name: str, folder: str) -> tuple[str, str]:
    """Clone, commit, push; the tip and what the pusher read."""
    git("clone", "-q", f"{machine.url}/{name}", folder)
    tip = git.commit_file(folder, "a.txt", f"{folder}\n")
    return tip, git("push", "origin", "HEAD:main", cwd=folder).stderr


def test_the_sandbox_lets_it_serve_and_nothing_else(service: Machine, git: Git) -> None:
    path = service.add(git, "sandbox.git", TRIES)
    tip, said = push_one(service, git, "sandbox.git", "sandbox")
    remote = [line.removeprefix("remote: ").strip() for line in said.splitlines() if line.startswith("remote: ")]
    assert remote == ["git", "0027", "NoNewPrivs:\t1", "wrote what is its own"], service.within.said()
    assert git("-C", path, "rev-parse", "main").stdout.strip() == tip
    assert not Path("/tmp/only-here").exists()
    for own in ("var/cache/govc", "var/log/govc"):
        assert (service.within.root / own).stat().st_uid == USER_ID


def test_logs_may_go_to_files(machine: Machine, git: Git) -> None:
    """As docs/operations.md has them: `log_file` and `audit_file` below /var/log/govc, which the unit makes."""
    within = machine.within
    config = within.root / "etc/govc/govc.toml"
    before = config.read_text()
    config.write_text(f'{before}log_file = "/var/log/govc/govc.log"\naudit_file = "/var/log/govc/audit.jsonl"\n')
    try:
        within.run("systemctl", "start", "govc.service")
        machine.add(git, "logged.git")
        push_one(machine, git, "logged.git", "logged")
        for name in ("govc.log", "audit.jsonl"):
            assert "logged.git" in (within.root / "var/log/govc" / name).read_text(), within.said()
    finally:
        stop(within)
        config.write_text(before)


def test_a_group_shared_repository_stays_one(service: Machine, git: Git) -> None:
    path = service.add(git, "shared.git", "", "--shared=group")
    push_one(service, git, "shared.git", "shared")
    folder = path / "refs/heads"
    assert oct(folder.stat().st_mode & 0o7777) == oct(0o2775)
    (pack,) = (path / "objects/pack").glob("*.pack")
    assert pack.stat().st_mode & 0o040


def test_a_reload_keeps_the_process_and_a_kill_brings_a_new_one(service: Machine, git: Git) -> None:
    within = service.within
    path = service.add(git, "life.git")
    tip, _ = push_one(service, git, "life.git", "life")
    first = within.show("govc.service", "MainPID")
    within.run("systemctl", "reload", "govc.service")
    assert request(service.url, "GET", "/life.git/HEAD").status == 200
    assert within.show("govc.service", "MainPID") == first
    within.run("kill", "-KILL", first)
    wait_until(
        lambda: (
            within.show("govc.service", "MainPID") not in (first, "0")
            and within.show("govc.service", "ActiveState") == "active"
        ),
        within,
    )
    assert within.show("govc.service", "NRestarts") == "1"
    assert tip in git("ls-remote", f"{service.url}/life.git").stdout
    assert not list(path.rglob("*.lock"))


def test_it_stops_in_order(service: Machine, git: Git) -> None:
    path = service.add(git, "stop.git")
    push_one(service, git, "stop.git", "stop")
    assert (path / "govc/log").exists()
    service.within.run("systemctl", "stop", "govc.service")
    assert service.within.show("govc.service", "Result") == "success"
    assert not (path / "govc/log").exists()  # the last checkpoint has retired it


def test_the_socket_starts_the_service(machine: Machine, git: Git) -> None:
    within = machine.within
    machine.add(git, "socket.git")
    # Not beside a service that runs: conf/govc.socket says so.
    within.run("systemctl", "start", "govc.service")
    within.run("systemctl", "start", "govc.socket", check=False)
    assert within.show("govc.socket", "ActiveState") != "active"
    stop(within)
    within.run("systemctl", "start", "govc.socket")
    assert within.show("govc.service", "ActiveState") == "inactive"
    assert request(machine.url, "GET", "/socket.git/HEAD").status == 200
    assert within.show("govc.service", "ActiveState") == "active"
    # While the service restarts, connections wait.
    within.run("systemctl", "restart", "--no-block", "govc.service")
    assert request(machine.url, "GET", "/socket.git/HEAD").status == 200
    stop(within)


def ask_on_the_socket(machine: Machine, path: str) -> int:
    """The status of an answer on a socket of the inner machine."""
    with contextlib.closing(frontends.UnixConnection(machine.within.root / path[1:])) as connection:
        connection.request("GET", "/-/readyz")
        return connection.getresponse().status


def socket_lines() -> str:
    """The lines of conf/govc.socket for a Unix socket, taken in, for `systemctl edit govc.socket`."""
    text = (frontends.PROJECT / "conf/govc.socket").read_text()
    lines = re.findall(r"^#((?:ListenStream|Socket\w+)=.*)$", text, re.MULTILINE)
    assert lines[0] == "ListenStream=/run/govc.sock"
    assert len(lines) == 4
    return "\n".join(["[Socket]", "ListenStream=", *lines, ""])


OWN = "[Service]\nRuntimeDirectory=govc\nEnvironment=GOVC_BIND=unix:/run/govc/govc.sock\n"


@pytest.mark.parametrize(
    ("unit", "text", "place", "group"),
    [
        ("govc.socket", socket_lines(), "/run/govc.sock", PROXY_GROUP_ID),
        ("govc.service", OWN, "/run/govc/govc.sock", USER_ID),
    ],
    ids=["systemd", "govc"],
)
def test_the_unix_socket_is_for_its_group(machine: Machine, unit: str, text: str, place: str, group: int) -> None:
    """Who holds it: systemd, as conf/govc.socket has it, for the proxy's group; or govc itself, for its own."""
    within = machine.within
    changed = within.root / f"etc/systemd/system/{unit}.d/zz.conf"
    changed.parent.mkdir(exist_ok=True)
    changed.write_text(text)
    within.run("systemctl", "daemon-reload")
    try:
        within.run("systemctl", "start", unit)
        assert ask_on_the_socket(machine, place) == 200
        status = (within.root / place[1:]).stat()
        assert (oct(status.st_mode & 0o777), status.st_uid, status.st_gid) == ("0o660", USER_ID, group)
        first = within.show("govc.service", "MainPID")
        within.run("kill", "-KILL", first)
        wait_until(
            lambda: (
                within.show("govc.service", "MainPID") not in (first, "0")
                and within.show("govc.service", "ActiveState") == "active"
            ),
            within,
        )
        assert ask_on_the_socket(machine, place) == 200
    finally:
        stop(within)
        changed.unlink()
        within.run("systemctl", "daemon-reload")
