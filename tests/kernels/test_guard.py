"""A file that is cut under its map: zeros and a count, not the end of the process; what is not ours still ends it."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from govc.kernels.guard import fault_count, map_file, torn_since
from tests.kernels.both import compiled, needs_compiled

PAGE = os.sysconf("SC_PAGESIZE")
CUT = """
    import os, sys
    from govc.kernels.guard import map_file
    with open(sys.argv[1], "rb") as file:
        mapping = map_file(sys.argv[1], file.fileno(), os.fstat(file.fileno()).st_size)
    os.truncate(sys.argv[1], 10)
    print(mapping[-1])
"""
STRANGER = """
    import mmap, os, sys
    from govc.kernels.guard import map_file
    with open(sys.argv[1], "rb") as file:
        ours = map_file(sys.argv[1], file.fileno(), 10)
        strangers = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    os.truncate(sys.argv[1], 10)
    print(strangers[-1])
"""
KILLED = """
    import os, signal
    from govc.kernels.guard import map_file
    with open(os.sys.argv[1], "rb") as file:
        ours = map_file(os.sys.argv[1], file.fileno(), 10)
    os.kill(os.getpid(), signal.SIGBUS)
    print("alive")
"""


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "file"
    place.write_bytes(b"x" * (4 * PAGE))
    return str(place)


def mapped(path):
    with open(path, "rb") as file:
        return map_file(path, file.fileno(), os.fstat(file.fileno()).st_size)


def run(script, path, **variables):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), path],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_compiled
def test_a_page_that_is_gone_reads_as_zeros_and_is_told(path, tmp_path):
    assert compiled("guard") is not None
    other = tmp_path / "other"
    other.write_bytes(b"y" * PAGE)
    mapping, untouched = mapped(path), mapped(str(other))
    before = fault_count()
    assert (b"x", []) == (mapping[-1:], torn_since(before))
    os.truncate(path, PAGE)
    assert b"x" == mapping[PAGE - 1 : PAGE]
    assert before == fault_count()
    assert bytes(PAGE) == mapping[PAGE : 2 * PAGE]
    assert (before + 1, [path]) == (fault_count(), torn_since(before))
    assert b"\0" == mapping[-1:]
    assert before + 2 == fault_count()
    assert [path] == torn_since(before + 1)
    assert [] == torn_since(before + 2)
    assert b"y" == untouched[-1:]
    del mapping
    assert [] == torn_since(before)


@needs_compiled
def test_a_file_that_is_whole_again_is_mapped_anew(path):
    mapping = mapped(path)
    os.truncate(path, 0)
    assert 0 == mapping[0]
    with open(path, "r+b") as file:
        file.write(b"z" * PAGE)
    before = fault_count()
    again = mapped(path)
    assert (b"z" * PAGE, before) == (again[:], fault_count())


@needs_compiled
def test_slots_are_used_again(path):
    before = fault_count()
    for _ in range(70_000):  # more than there are slots
        mapped(path)
    mapping = mapped(path)
    os.truncate(path, 0)
    assert 0 == mapping[0]
    assert [path] == torn_since(before)


@needs_compiled
def test_the_process_goes_on_over_zeros(path):
    assert "0\n" == run(CUT, path).stdout


def test_in_pure_python_it_ends(path):
    assert -signal.SIGBUS == run(CUT, path, GOVC_KERNELS="python").returncode


@pytest.mark.parametrize("script", [STRANGER, KILLED])
def test_what_is_not_ours_ends_the_process_as_ever(path, script):
    ended = run(script, path)
    assert (-signal.SIGBUS, "") == (ended.returncode, ended.stdout)


def test_a_map_longer_than_its_file_is_refused(path):
    with open(path, "rb") as file, pytest.raises(ValueError, match="greater than file size"):
        map_file(path, file.fileno(), 5 * PAGE)
