"""Programs that behave badly: they don't read, don't end, leave children behind, can't be started."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from govc.repo import hook_runner
from govc.repo.helper import QUIET
from govc.repo.hook_runner import STATUS_TIMED_OUT, ProgramNotStarted, run
from tests.waiting import SECONDS, wait_until

ENVIRON = {"PATH": os.environ["PATH"]}


@pytest.fixture
def script(tmp_path: Path):
    """Write an executable script; return its arguments."""

    def write(text: str, *, start: str = "#!/bin/sh\n") -> list[str]:
        path = tmp_path / "script"
        path.write_text(start + text)
        path.chmod(0o755)
        return [str(path)]

    return write


AWAIT_GO = "until test -e go; do sleep 0.05; done\n"
"""A program that goes on once there is a file `go`."""


def drive(events, go=None):
    """Run to the end; return the output, the number of silences and the status. After the second silence comes `go`."""
    output, quiet = b"", 0
    try:
        while True:
            event = next(events)
            if event is QUIET:
                quiet += 1
                if quiet == 2 and go is not None:
                    go.touch()
            else:
                output += event
    except StopIteration as stop:
        return output, quiet, stop.value


def begin(arguments, tmp_path, *, quiet_seconds=SECONDS, **options):
    """Start a program. Unless a test asks for silences there are none: a busy machine takes its time to start one."""
    return run(arguments, cwd=str(tmp_path), environ=ENVIRON, quiet_seconds=quiet_seconds, **options)


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie doesn't)."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # gone, before or while it was read
        return False


def wait_gone(pid: int) -> None:
    wait_until(lambda: not is_alive(pid), f"process {pid} ends")


def test_output_input_status_and_folder(script, tmp_path):
    arguments = script('pwd; cat; echo "$1" >&2; exit 3\n')
    output, _, status = drive(begin([*arguments, "arg"], tmp_path, stdin=[b"one\n", b"", b"two\n"]))
    assert (f"{tmp_path}\none\ntwo\narg\n".encode(), 3) == (output, status)


def test_no_input_is_an_empty_one(script, tmp_path):
    assert (b"0\n", 0, 0) == drive(begin(script("cat | wc -c\n"), tmp_path))


@pytest.mark.rows("RP-86")
def test_input_that_nobody_reads_is_no_error(script, tmp_path):
    lines = (b"x" * 1000 for _ in range(10_000))
    assert (b"", 0, 0) == drive(begin(script("exit 0\n"), tmp_path, stdin=lines))
    lines = (b"x" * 1000 for _ in range(10_000))
    assert (b"hi\n", 0, 0) == drive(begin(script("exec <&-; sleep 0.05; echo hi\n"), tmp_path, stdin=lines))


def test_much_in_both_directions_does_not_lock_up(script, tmp_path):
    lines = (b"x" * 999 + b"\n" for _ in range(3000))
    output, _, status = drive(begin(script("cat\n"), tmp_path, stdin=lines))
    assert (3_000_000, 0) == (len(output), status)


def test_input_is_read_after_output_was_closed(script, tmp_path):
    arguments = script("exec >&- 2>&-; sleep 0.1; wc -c > count\n")
    lines = (b"x" * 1000 for _ in range(1000))
    assert (b"", 0, 0) == drive(begin(arguments, tmp_path, stdin=lines))
    assert "1000000" == (tmp_path / "count").read_text().strip()


@pytest.mark.rows("RP-25")
def test_silences_are_told(script, tmp_path):
    events = begin(script(f"echo a\n{AWAIT_GO}echo b\n"), tmp_path, quiet_seconds=0.1)
    output, quiet, _ = drive(events, tmp_path / "go")
    assert b"a\nb\n" == output
    assert quiet >= 2


def test_a_program_that_closed_its_output_is_waited_for(script, tmp_path):
    arguments = script(f"exec >&- 2>&-\n{AWAIT_GO}exit 7\n")
    _, quiet, status = drive(begin(arguments, tmp_path, quiet_seconds=0.1), tmp_path / "go")
    assert quiet >= 2
    assert 7 == status


@pytest.mark.rows("RP-87")
def test_a_background_child_that_holds_the_output_counts(script, tmp_path):
    """It speaks when the program has ended, however long that takes: a zombie until its output is closed."""
    runs = "test -e /proc/$$ && ! grep -qs ' Z ' /proc/$$/stat"
    text = f"(while {runs}; do sleep 0.05; done; echo late) & echo early; exit 2\n"
    output, _, status = drive(begin(script(text), tmp_path))
    assert (b"early\nlate\n", 2) == (output, status)


def test_a_detached_child_lives_on(script, tmp_path):
    arguments = script("sleep 30 >/dev/null 2>&1 </dev/null & echo $!\n")
    output, _, _ = drive(begin(arguments, tmp_path))
    pid = int(output)
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "])
def test_leaving_ends_the_whole_group(script, tmp_path, trap, monkeypatch):
    monkeypatch.setattr(hook_runner, "TERM_SECONDS", 0.3)
    events = begin(script(f"{trap}sleep 60 & echo $$ $!; wait; sleep 60\n"), tmp_path)
    leader, child = map(int, next(events).split())
    assert is_alive(leader)
    assert is_alive(child)
    events.close()
    wait_gone(leader)
    wait_gone(child)


@pytest.mark.parametrize(
    "text",
    ["sleep 60 & echo $$ $!; wait\n", "sleep 60 & echo $$ $!\n", "echo $$ $$; exec >&- 2>&-; sleep 60\n"],
)
def test_the_time_limit_ends_the_whole_group(script, tmp_path, text, monkeypatch):
    monkeypatch.setattr(hook_runner, "TERM_SECONDS", 0.3)
    output, _, status = drive(begin(script(text), tmp_path, seconds_max=0.3))
    assert STATUS_TIMED_OUT == status
    for pid in map(int, output.split()):
        wait_gone(pid)


def test_a_script_without_a_first_line_is_a_shells(script, tmp_path):
    assert (b"hello\n", 0, 0) == drive(begin(script("echo hello\n", start=""), tmp_path))


@pytest.mark.parametrize("what", ["absent", "folder", "no interpreter", "nul"])
def test_what_cannot_be_started_says_why(script, tmp_path, what):
    arguments = {
        "absent": [str(tmp_path / "absent")],
        "folder": [str(tmp_path)],
        "no interpreter": script("", start="#!/no/such/interpreter\n"),
        "nul": ["/bin/echo", "a\0b"],
    }[what]
    with pytest.raises(ProgramNotStarted):
        drive(begin(arguments, tmp_path))


def test_a_signal_is_a_negative_status(script, tmp_path):
    assert -signal.SIGKILL == drive(begin(script("kill -9 $$\n"), tmp_path))[2]


@pytest.fixture
def leaving() -> Iterator[None]:
    """A process that leaves by an exception when it is told to end, as a CGI program does."""

    def leave(number: int, _frame: object) -> None:
        hook_runner.startup.leave(partial(sys.exit, 128 + number))

    before = signal.signal(signal.SIGTERM, leave)
    yield
    signal.signal(signal.SIGTERM, before)


def test_who_is_told_to_end_while_a_program_starts_ends_that_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaving: None
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = hook_runner._start

    def told_to_end(*words: Any) -> subprocess.Popen[bytes]:
        started.append(start(*words))
        os.kill(os.getpid(), signal.SIGTERM)  # the program runs, and nobody has it yet
        return started[-1]

    monkeypatch.setattr(hook_runner, "_start", told_to_end)
    with pytest.raises(SystemExit, match="143"):
        list(hook_runner.run(["/bin/sh", "-c", "sleep 300"], cwd=str(tmp_path), environ={}))
    assert started[0].returncode in (-signal.SIGTERM, -signal.SIGKILL)


def test_who_is_told_to_end_at_another_time_leaves_at_once(tmp_path: Path, leaving: None) -> None:
    with pytest.raises(hook_runner.ProgramNotStarted):
        list(hook_runner.run([str(tmp_path / "nothing")], cwd=str(tmp_path), environ={}))
    with pytest.raises(SystemExit, match="143"):
        os.kill(os.getpid(), signal.SIGTERM)
