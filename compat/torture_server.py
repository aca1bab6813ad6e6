"""A `govc serve` that is killed and started again, always at the same address, and knows when that was."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from compat.frontends import PROJECT, find_free_port, stop, wait_for_answer

CALM_SECONDS = 1.0
"""How long after a kill or a start a client may still meet a broken connection."""


class AnyServer(Protocol):
    """What clients need to know of a server."""

    url: str

    @property
    def disturbances(self) -> int:
        """How often something was killed or started so far."""

    def was_disturbed(self, before: int) -> bool:
        """Whether a request since then may have failed for that reason."""


class KilledServer:
    """Two workers, one port. `wrapper` is a command that runs the server's."""

    def __init__(
        self,
        root: Path,
        scratch: Path,
        env: Mapping[str, str],
        options: Sequence[str] = (),
        wrapper: Sequence[str] = (),
    ) -> None:
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = scratch / "server.log"
        self.counts: dict[str, int] = {"server kills": 0, "worker kills": 0}
        self._command = [
            *wrapper,
            sys.executable,
            "-m",
            "govc.cli",
            "serve",
            str(root),
            "--bind",
            f"127.0.0.1:{self.port}",
        ]
        self._command += ["--workers", "2", *options]
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._disturbances = 0
        self._last = 0.0
        self._is_down = True

    @property
    def disturbances(self) -> int:
        """How often something was killed or started so far."""
        return self._disturbances

    def was_disturbed(self, before: int) -> bool:
        """Whether something was killed or down since `disturbances` was `before`, or a moment earlier."""
        with self._lock:
            return self._is_down or self._disturbances != before or time.monotonic() - self._last < CALM_SECONDS

    def _disturb(self, is_down: bool) -> None:
        with self._lock:
            self._disturbances += 1
            self._last = time.monotonic()
            self._is_down = is_down

    def start(self) -> None:
        """Start, and wait until it answers."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_for_answer(self.port, self._process, self.log)
        self._disturb(is_down=False)

    def ensure_up(self) -> None:
        """Start it if it doesn't run."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        with self._lock:
            self._last = time.monotonic()

    def kill_all(self) -> None:
        """SIGKILL for the master, its workers and their helpers at once."""
        process = self._process
        assert process is not None
        self._disturb(is_down=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.counts["server kills"] += 1

    def kill_worker(self, chance: random.Random) -> None:
        """SIGKILL for one worker; the master starts another."""
        process = self._process
        assert process is not None
        workers = psutil.Process(process.pid).children()
        if not workers:
            return
        self._disturb(is_down=False)
        with contextlib.suppress(psutil.NoSuchProcess):
            chance.choice(workers).kill()
            self.counts["worker kills"] += 1
        self._disturb(is_down=False)  # also for who began between the first and the kill, and ends long after it

    def stop(self) -> None:
        """SIGTERM: a clean end."""
        if self._process is not None and self._process.poll() is None:
            stop(self._process)
        self._process = None
