"""A file that is cut under its map: zeros and a count, not the end of the process; what is not ours still ends it."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from govc.kernels.guard import LARGE_BYTES, FileMap, drop_pages, fault_count, map_file, torn_since
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


def resident_kib(mapping: FileMap) -> int:
    """How much of a map of a file is in this process."""
    found = -1
    with open("/proc/self/smaps") as file:
        for line in file:
            if mapping.path in line:
                found = 0
            elif found == 0 and line.startswith("Rss:"):
                return int(line.split()[1])
    raise AssertionError("no such map")


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="only Linux tells what of a map is resident")
def test_pages_are_dropped_and_read_again(tmp_path):
    large, small = tmp_path / "large", tmp_path / "small"
    content = os.urandom(LARGE_BYTES)
    large.write_bytes(content)
    small.write_bytes(content[:-1])
    maps = [mapped(str(large)), mapped(str(small))]
    assert [bytes(mapping) for mapping in maps] == [content, content[:-1]]
    assert [resident_kib(mapping) for mapping in maps] == [1024, 1024]
    drop_pages([maps[1], b"what was read and not mapped"])
    assert resident_kib(maps[1]) == 1024  # too small to be worth it
    drop_pages([maps[0]])
    assert resident_kib(maps[0]) == 0
    assert bytes(maps[0]) == content
    drop_pages()
    assert [resident_kib(mapping) for mapping in maps] == [0, 1024]
    maps[0].close()
    drop_pages()
    assert bytes(maps[1]) == content[:-1]


@needs_compiled
def test_a_page_that_was_torn_is_zeros_after_pages_were_dropped(tmp_path):
    place = tmp_path / "file"
    place.write_bytes(b"x" * (LARGE_BYTES + PAGE))
    mapping = mapped(str(place))
    os.truncate(place, LARGE_BYTES)
    before = fault_count()
    assert mapping[LARGE_BYTES] == 0
    assert fault_count() == before + 1
    drop_pages([mapping])
    assert mapping[LARGE_BYTES] == 0
    assert mapping[0] == ord("x")
    assert torn_since(before) == [str(place)]


def test_pages_are_dropped_while_other_threads_map(tmp_path):
    """In the server a thread drops while others open packs: here one comes in between any two lines."""
    path = tmp_path / "large"
    path.write_bytes(bytes(LARGE_BYTES))
    with path.open("rb") as file:
        mapped = [map_file(str(path), file.fileno(), LARGE_BYTES)]

        def come_between(_frame, event, _argument):
            if event == "line" and len(mapped) < 50:
                mapped.append(map_file(str(path), file.fileno(), LARGE_BYTES))
            return come_between

        before = sys.gettrace()
        sys.settrace(come_between)
        try:
            drop_pages()
        finally:
            sys.settrace(before)
    assert len(mapped) > 2
