"""What starts and keeps a server: the systemd units, the container file, logrotate's configuration.

The units are judged by systemd-analyze and the socket is handed over by systemd-socket-activate here; test_systemd.py
runs them under a systemd. A container engine isn't at hand in a test: of the container file the command line and what
it installs are tried.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compat import frontends
from compat.conftest import Server, program_or_skip
from compat.gitclient import Git
from compat.rawhttp import request
from tests.waiting import wait_until

CONF = frontends.PROJECT / "conf"
EXPOSURE_MAX = 2.0
"""Of systemd's 0 (nothing is open) to 10; what is left open is explained in the unit."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Both units, with a program and folders that exist here."""
    for name in ("govc.service", "govc.socket"):
        text = (CONF / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/local/bin/govc", sys.executable))
    return tmp_path


def test_systemd_understands_the_units(units: Path) -> None:
    analyze = program_or_skip("systemd-analyze")
    done = subprocess.run(
        [analyze, "verify", "--man=no", f"{units}/govc.service", f"{units}/govc.socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # It does notice what it doesn't know.
    broken = units / "broken.service"
    broken.write_text((units / "govc.service").read_text().replace("NoNewPrivileges=true", "NoNewPrivileges=perhaps"))
    done = subprocess.run([analyze, "verify", "--man=no", broken], capture_output=True, text=True, check=False)
    assert "broken.service" in done.stderr


def test_the_service_is_hardened(units: Path) -> None:
    done = subprocess.run(
        [program_or_skip("systemd-analyze"), "security", "--offline=true", "--json=short", f"{units}/govc.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    wanted = ("NoNewPrivileges=", "ProtectSystem=", "PrivateTmp=", "PrivateDevices=", "SystemCallArchitectures=")
    assert [name for name in wanted if not rows[name]["set"]] == []
    assert rows["CapabilityBoundingSet=~CAP_SYS_ADMIN"]["set"]
    threshold = f"--threshold={EXPOSURE_MAX * 10:.0f}"
    command = [program_or_skip("systemd-analyze"), "security", "--offline=true", threshold, f"{units}/govc.service"]
    limit = subprocess.run(command, capture_output=True, check=False)
    assert limit.returncode == 0


def test_a_socket_that_systemd_holds_is_served(tmp_path: Path, git: Git, templates: Callable[[str, str], Path]) -> None:
    port = frontends.find_free_port()
    root, log = tmp_path / "root", tmp_path / "log"
    root.mkdir()
    env = frontends.server_environment(tmp_path / "home", {})
    variables = [f"--setenv={name}" for name in env]
    command = [program_or_skip("systemd-socket-activate"), "-l", f"127.0.0.1:{port}", *variables]
    # Where the server would bind otherwise, somebody else may be.
    program = [sys.executable, "-m", "govc.cli", "serve", str(root), "--bind", "127.0.0.1:1"]
    with frontends.run_logged([*command, *program], env, log) as process:
        frontends.wait_for_answer(port, process, log)
        running = frontends.Running("gunicorn", f"http://127.0.0.1:{port}", [process.pid], log)
        repo = Server(running, root, git, templates).create_repo()
        git("clone", "-q", repo.url, "clone")
        tip = git.commit_file("clone", "a.txt", "a\n")
        git("push", "-q", cwd="clone")
        assert tip == repo.rev("main")


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[frontends.Running]:
    """A server whose log is appended to a file."""
    root = tmp_path / "root"
    root.mkdir()
    with frontends.start("gunicorn", root, tmp_path) as running:
        yield running


def test_a_log_in_a_file_is_rotated_under_a_running_server(logged: frontends.Running, tmp_path: Path) -> None:
    log = logged.log
    assert log is not None
    for number in range(5):
        assert request(logged.url, "GET", f"/before{number}/HEAD").status == 404
    # A line is written after its answer, which its client may have read by then.
    wait_until(lambda: all(f"/before{number}/" in log.read_text() for number in range(5)), "the log has them")
    text = (CONF / "logrotate.conf").read_text()
    assert text.count("/var/log/govc/govc.log {") == 1
    configuration = tmp_path / "logrotate.conf"
    configuration.write_text(text.replace("/var/log/govc/govc.log {", f"{log} {{"))
    configuration.chmod(0o644)
    subprocess.run([program_or_skip("logrotate"), "-f", "-s", tmp_path / "state", configuration], check=True)
    assert "before4" in log.with_name(log.name + ".1").read_text()
    request(logged.url, "GET", "/after/HEAD")
    wait_until(lambda: "/after" in log.read_text(), "the log goes on")
    assert "before" not in log.read_text()
    assert "\0" not in log.read_text()


def test_what_the_container_file_copies_and_runs_is_there() -> None:
    text = (CONF / "Containerfile").read_text()
    entry = re.search(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    assert entry is not None
    program, *arguments = json.loads(entry[1])
    assert program == "/opt/govc/bin/govc"
    done = subprocess.run(
        [sys.executable, "-m", "govc.cli", *arguments, "--print-config"],
        cwd=frontends.PROJECT,
        env={"PATH": os.environ["PATH"], "GOVC_CACHE_DIR": "/var/cache/govc"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'bind = "0.0.0.0:8000"' in done.stdout
    assert "'/src[auth]'" in text
    assert "auth =" in (frontends.PROJECT / "setup.cfg").read_text()
