"""Many connections at once: the small edition of bench/connections.py, which does it with ten thousand."""

from __future__ import annotations

import logging
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.connections import Mix, measure
from compat import frontends
from govc.web import gunicorn_server

FEW = 250
"""Open files that an admin's shell may be left with; the server needs more, and takes them."""


def test_idle_slow_and_working_connections_are_all_served(tmp_path: Path) -> None:
    mix = Mix(idle=240, slow=60, working=40, seconds=3)
    outcome = measure(mix, tmp_path)
    assert outcome.errors == []
    assert outcome.connected == {"idle": 240, "slow": 60, "working": 40}
    assert outcome.answers >= 240 * 2 + 40 * 2
    assert len(outcome.ls_remote_times["in the crowd"]) >= 1


def limits_of(soft: int, hard: int, connections: int) -> tuple[int, int]:
    """What a process that began with these limits has after `raise_descriptor_limit`."""
    program = (
        "import resource, sys; from govc.web.gunicorn_server import raise_descriptor_limit as f;"
        "n = resource.RLIMIT_NOFILE; resource.setrlimit(n, (int(sys.argv[1]), int(sys.argv[2])));"
        "f(int(sys.argv[3])); print(*resource.getrlimit(n))"
    )
    words = [sys.executable, "-c", program, str(soft), str(hard), str(connections)]
    done = subprocess.run(words, cwd=frontends.PROJECT, capture_output=True, text=True, check=True)
    now = done.stdout.split()
    assert ("too few for worker_connections" in done.stderr) == (hard < connections + 6000)
    return int(now[0]), int(now[1])


def test_the_limit_of_open_files_is_raised_as_far_as_needed_and_allowed() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 12_000:
        pytest.skip(f"the hard limit of this machine is {hard}")
    assert limits_of(FEW, hard, 1000) == (8000, hard)
    assert limits_of(FEW, 4000, 1000) == (4000, 4000)
    # Hooks inherit it: no more than needed, and never less than before.
    assert limits_of(9000, hard, 1000) == (9000, hard)


def test_a_server_that_is_started_with_few_files_takes_more_connections(tmp_path: Path) -> None:
    """From a shell with a low soft limit, as most are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    root = tmp_path / "root"
    root.mkdir()
    # This process may have more files open than that by now: the limit counts beyond them.
    few = FEW + max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        with frontends.start("gunicorn", root, tmp_path) as running:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            host, port = running.url.removeprefix("http://").split(":")
            kept = []
            try:
                for _ in range(few * 2 + 100):  # more than two workers could have had
                    connection = socket.create_connection((host, int(port)), timeout=300)
                    kept.append(connection)
                    connection.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                for connection in kept:
                    assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            finally:
                for connection in kept:
                    connection.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_few_files_are_named(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, _limits: None)
    with caplog.at_level(logging.WARNING):
        gunicorn_server.raise_descriptor_limit(10_000)
    assert "may open 4096 files (ulimit -Hn, LimitNOFILE= of systemd)" in caplog.text
