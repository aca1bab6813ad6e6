"""What a failed scenario shows beside its assertion, so that a failure that comes once in a hundred runs is understood
from its output alone: what each server wrote while the test ran, and which runs of git ended with another status
than 0, with what they said.

The front ends and the client note here what they do; conftest asks when a test fails.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

LOG_BYTES = 6000
RUNS = 12
SAID_CHARACTERS = 1500

_logs: dict[Path, int] = {}
"""Every server's log, and how long it was when the test began."""

_runs: deque[str] = deque(maxlen=RUNS)


def begin() -> None:
    """A test begins: what was written before is not its own."""
    _runs.clear()
    for log in [log for log in _logs if not log.exists()]:
        del _logs[log]
    for log in _logs:
        _logs[log] = log.stat().st_size


def note_log(log: Path) -> None:
    """A server writes there from now on."""
    _logs.setdefault(log, log.stat().st_size if log.exists() else 0)


def note_run(words: str, code: int, said: str) -> None:
    """A client's run has ended."""
    if code:
        _runs.append(f"$ {words}\nstatus {code}\n{said[-SAID_CHARACTERS:]}")


def sections() -> list[tuple[str, str]]:
    """Titles and texts, for the report of a failed test."""
    found = [("git runs that failed", "\n".join(_runs))] if _runs else []
    for log, start in _logs.items():
        try:
            with log.open("rb") as file:
                file.seek(max(start, log.stat().st_size - LOG_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            continue
        if text:
            found.append((f"server log {log.name}", text))
    return found
