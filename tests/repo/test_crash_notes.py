"""Crashes and who was in use then: after two, a repository is out of service for an hour, and nobody else is."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from govc.repo.crash_notes import CRASHES_MAX, MEMORY_SECONDS, SLOT_COUNT, CrashNotes, OutOfService

DIES = """
    import ctypes, os, signal, sys
    from govc.repo.crash_notes import CrashNotes
    notes = CrashNotes(sys.argv[1])
    notes.begin()
    bad, twice, ended = notes.enter("/srv/bad.git"), notes.enter("/srv/bad.git"), notes.enter("/srv/good.git")
    del ended
    os.kill(os.getpid(), int(sys.argv[2])) if sys.argv[2] != "clean" else notes.close()
"""

ON_A_FULL_DISK = """
    import errno, os, sys
    from govc.repo.crash_notes import CrashNotes
    def allocate(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.posix_fallocate = allocate
    notes = CrashNotes(sys.argv[1])
    notes.begin()
    sys.exit("noted" if notes.enter("/srv/a.git") is not None else 0)
"""


def run(program, folder):
    command = [sys.executable, "-c", textwrap.dedent(program), str(folder)]
    return subprocess.run(command, env={**os.environ, "PYTHONFAULTHANDLER": ""}, capture_output=True, check=False)


def die(folder, how):
    command = [sys.executable, "-c", textwrap.dedent(DIES), str(folder), str(how if how == "clean" else int(how))]
    return subprocess.run(command, env={**os.environ, "PYTHONFAULTHANDLER": ""}, capture_output=True, check=False)


@pytest.fixture
def notes(tmp_path):
    """Notes that gather and check, all at one moment; they note nothing themselves, as pytest has the traces of this
    process.
    """
    now = time.time()
    return CrashNotes(str(tmp_path), clock=lambda: now)


def left(tmp_path):
    return {name.partition("-")[0] for name in os.listdir(tmp_path / "crashes")}


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL])
def test_two_crashes_and_it_is_out_of_service(notes, tmp_path, number, caplog):
    for count in range(1, CRASHES_MAX + 1):
        notes.check("/srv/bad.git")
        assert -number == die(tmp_path, number).returncode
        notes.gather()
        assert "a worker crashed; in use were: /srv/bad.git\nFatal Python error" in caplog.text
        assert count == len((tmp_path / "crashes" / notes._mark_path(digest("/srv/bad.git"))).read_text().split())
    with pytest.raises(OutOfService, match=r"/srv/bad[.]git: out of service for another 60 min.*: 2 workers") as info:
        notes.check("/srv/bad.git")
    assert (503, False) == (info.value.http_status, "/srv" in info.value.public_text)
    notes.check("/srv/good.git")
    assert not any(name.startswith("worker-") for name in os.listdir(tmp_path / "crashes"))


def digest(gitdir):
    from govc.repo.crash_notes import _digest

    return _digest(gitdir)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, "clean"])
def test_who_is_killed_or_ends_has_not_crashed(notes, tmp_path, how):
    for _ in range(CRASHES_MAX):
        done = die(tmp_path, how)
        assert b"" == done.stderr
        notes.gather()
    notes.check("/srv/bad.git")
    assert [] == os.listdir(tmp_path / "crashes")


def test_what_is_long_ago_is_forgotten(tmp_path):
    begun = now = time.time()
    notes = CrashNotes(str(tmp_path), clock=lambda: now)
    for _ in range(CRASHES_MAX):
        die(tmp_path, signal.SIGSEGV)
        notes.gather()
    with pytest.raises(OutOfService):
        notes.check("/srv/bad.git")
    now = begun + MEMORY_SECONDS + 1
    notes.check("/srv/bad.git")
    os.utime(notes._mark_path(digest("/srv/bad.git")), (begun, begun))
    notes.gather()
    assert [] == os.listdir(tmp_path / "crashes")


def test_a_living_worker_is_left_alone(notes, tmp_path):
    lives = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from govc.repo.crash_notes import CrashNotes; notes = CrashNotes(sys.argv[1]); notes.begin();"
            "use = notes.enter('/srv/bad.git'); print('ready', flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONFAULTHANDLER": ""},
    )
    assert lives.stdout is not None and b"ready\n" == lives.stdout.readline()
    notes.gather()
    (now,) = (tmp_path / "crashes").glob("*.now")
    assert b"/srv/bad.git" in now.read_bytes()
    lives.communicate()
    notes.gather()
    assert [] == os.listdir(tmp_path / "crashes")


def test_a_worker_that_begins_while_another_gathers_is_left_alone(tmp_path):
    """Workers start at once: the notes of one were removed by another between their making and their lock."""
    script = """
        import fcntl, os, sys
        from govc.repo import crash_notes
        flock = fcntl.flock

        def gather_before(file, kind):
            fcntl.flock = flock
            crash_notes.CrashNotes(sys.argv[1]).gather()
            flock(file, kind)

        notes = crash_notes.CrashNotes(sys.argv[1])
        fcntl.flock = gather_before
        notes.begin()
        assert fcntl.flock is flock
        use = notes.enter("/srv/bad.git")
        print(sorted(name.rpartition(".")[2] for name in os.listdir(notes.folder)))
        notes.close()
        print(os.listdir(notes.folder))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    environ = {**os.environ, "PYTHONFAULTHANDLER": ""}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert ("['now', 'trace']\n[]\n", "") == (done.stdout, done.stderr)


def test_slots_come_back_and_too_many_are_not_noted(tmp_path):
    script = f"""
        import sys
        from govc.repo.crash_notes import CrashNotes
        notes = CrashNotes(sys.argv[1])
        assert notes.enter("/early") is None
        notes.begin()
        for _ in range(3):
            uses = [notes.enter(f"/srv/{{number}}.git") for number in range({SLOT_COUNT} + 5)]
            assert 5 == uses.count(None)
            del uses
        assert notes.enter("/x" * 4000) is not None
        notes.close()
        assert notes.enter("/late") is None
        print("done")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    environ = {**os.environ, "PYTHONFAULTHANDLER": ""}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert ("done\n", "") == (done.stdout, done.stderr)


def test_a_folder_of_somebody_else_is_not_used(tmp_path, caplog):
    (tmp_path / "crashes").mkdir(mode=0o777)
    (tmp_path / "crashes").chmod(0o777)
    done = die(tmp_path, "clean")
    assert b"crashes are not noted: not a folder that is ours alone" in done.stderr
    assert [] == os.listdir(tmp_path / "crashes")


def test_on_a_full_disk_nothing_is_noted(tmp_path):
    """A page of a hole that the disk has no room for is SIGBUS: it ended each worker as it began."""
    done = run(ON_A_FULL_DISK, tmp_path)
    assert (0, b"") == (done.returncode, done.stdout)
    assert b"crashes are not noted: No space left on device" in done.stderr
    assert os.listdir(tmp_path / "crashes") == []
