"""Announcements of changes: what is told, to whom, and when nothing can be promised."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from govc.kernels import notices_py
from govc.kernels.notices import FILE, FOLDER, ITSELF
from tests.kernels.both import compiled, needs_compiled

pytestmark = needs_compiled


@pytest.fixture
def kernel() -> Any:
    return compiled("notices")


@pytest.fixture
def notice(kernel: Any) -> Iterator[Any]:
    made = kernel.Notice()
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    (made / "there").write_text("text")
    (tmp_path / "beside").write_text("text")
    return made


def write(path: Path) -> None:
    with path.open("r+") as file:
        file.write("TEXT")


CHANGES = {
    "created": lambda folder: (folder / "new").touch(),
    "folder created": lambda folder: (folder / "new").mkdir(),
    "deleted": lambda folder: (folder / "there").unlink(),
    "moved in": lambda folder: (folder.parent / "beside").rename(folder / "beside"),
    "moved out": lambda folder: (folder / "there").rename(folder.parent / "there"),
    "replaced": lambda folder: (folder.parent / "beside").replace(folder / "there"),
    "written": lambda folder: write(folder / "there"),
    "cut": lambda folder: os.truncate(folder / "there", 1),
    "linked in": lambda folder: os.link(folder.parent / "beside", folder / "beside"),
    "mode of a file": lambda folder: (folder / "there").chmod(0o600),
    "times of a file": lambda folder: os.utime(folder / "there", (1, 1)),
    "own mode": lambda folder: folder.chmod(0o700),
    "moved itself": lambda folder: folder.rename(folder.parent / "elsewhere"),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_what_happens_in_a_folder_is_told(notice: Any, folder: Path, change: str) -> None:
    assert notice.watch(str(folder), FOLDER)
    assert notice.is_quiet()
    CHANGES[change](folder)
    assert not notice.is_quiet() and not notice.is_quiet()


FILE_CHANGES = {
    **{name: CHANGES[name] for name in ("deleted", "moved out", "replaced", "written", "cut", "mode of a file")},
    "by another name": lambda folder: write(folder.parent / "other name"),
    "given a name": lambda folder: os.link(folder / "there", folder.parent / "one more"),
    "robbed of a name": lambda folder: (folder.parent / "other name").unlink(),
}


@pytest.mark.parametrize("change", sorted(FILE_CHANGES))
def test_what_happens_to_a_file_is_told(notice: Any, folder: Path, change: str) -> None:
    os.link(folder / "there", folder.parent / "other name")
    assert notice.watch(str(folder / "there"), FILE)
    (folder / "new").touch()
    assert notice.is_quiet()
    FILE_CHANGES[change](folder)
    assert not notice.is_quiet()


@pytest.mark.parametrize("change", ["own mode", "moved itself"])
def test_of_a_folder_itself_only_its_own_changes_are_told(notice: Any, folder: Path, change: str) -> None:
    assert notice.watch(str(folder), ITSELF)
    for other in ("created", "written", "mode of a file", "moved in", "deleted"):
        CHANGES[other](folder)
    assert notice.is_quiet()
    CHANGES[change](folder)
    assert not notice.is_quiet()


def test_a_folder_that_is_removed_is_told(notice: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert notice.watch(str(tmp_path / "empty"), ITSELF)
    (tmp_path / "empty").rmdir()
    assert not notice.is_quiet()


def test_names_that_were_not_asked_for_are_passed_over(notice: Any, folder: Path) -> None:
    assert notice.watch(str(folder), FOLDER, {b"HEAD", b"HEAD.lock"})
    (folder / "FETCH_HEAD").touch()
    write(folder / "there")
    assert notice.is_quiet()
    (folder / "HEAD.lock").touch()
    assert not notice.is_quiet()


def test_reading_is_no_change(notice: Any, folder: Path) -> None:
    assert notice.watch(str(folder), FOLDER) and notice.watch(str(folder / "there"), FILE)
    assert (folder / "there").read_text() == "text" and os.listdir(folder) and os.stat(folder)
    assert notice.is_quiet()


def test_two_that_watch_one_place_are_both_told_what_each_asked_for(kernel: Any, folder: Path) -> None:
    everything, one_name, itself, gone = (kernel.Notice() for _ in range(4))
    gc.collect()  # what other tests have left is let go of here, and not in between
    before = kernel.watch_count()
    assert itself.watch(str(folder), ITSELF) and one_name.watch(str(folder), FOLDER, {b"there"})
    assert gone.watch(str(folder), FOLDER) and everything.watch(str(folder), FOLDER)
    assert kernel.watch_count() == before + 1
    gone.close()
    (folder / "new").touch()
    assert not gone.is_quiet() and not everything.is_quiet() and one_name.is_quiet() and itself.is_quiet()
    everything.close()
    write(folder / "there")
    assert not one_name.is_quiet() and itself.is_quiet()
    one_name.close()
    folder.rename(folder.parent / "elsewhere")
    assert not itself.is_quiet()
    del itself
    assert kernel.watch_count() == before


def test_what_cannot_be_watched_is_never_quiet(kernel: Any, folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    for path, kind in (("absent", FILE), ("there", FOLDER), ("../link", FOLDER), ("there\0", FILE)):
        notice = kernel.Notice()
        assert notice.watch(str(folder), FOLDER) and notice.is_quiet()
        assert not notice.watch(f"{folder}/{path}", kind)
        assert not notice.is_quiet() and not notice.watch(str(folder), FOLDER)


def test_lost_announcements_end_everything(notice: Any, folder: Path) -> None:
    (folder / "other").touch()
    assert notice.watch(str(folder), FOLDER, {b"nothing"})
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for _ in range(most // 2 + 1):  # two names by turns: equal events in a row are one
        os.utime(folder / "there", (1, 1))
        os.utime(folder / "other", (1, 1))
    assert not notice.is_quiet()


def test_a_child_is_told_nothing_and_takes_nothing(notice: Any, folder: Path) -> None:
    assert notice.watch(str(folder), FOLDER)
    child = os.fork()
    if child == 0:
        CHANGES["created"](folder)
        answers = [notice.is_quiet() for _ in range(3)]
        notice.close()
        os._exit(any(answers))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not notice.is_quiet()


SCRIPT = """
import os, resource, subprocess, sys
from govc.kernels.notices import Notice, watch_count
root = sys.argv[1]
def descriptors(): return sorted(os.listdir("/proc/self/fd"))
"""


def run(body: str, folder: Path, *before: str) -> "subprocess.CompletedProcess[str]":
    command = [*before, sys.executable, "-c", SCRIPT + body, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_all_share_three_descriptors_and_give_watches_back(folder: Path) -> None:
    body = """
before = descriptors()
notices = [Notice() for _ in range(300)]
assert all(notice.watch(root, 0) for notice in notices)
assert len(descriptors()) == len(before) + 3 and watch_count() == 1
notices.pop().close()
assert all(notice.is_quiet() for notice in notices)
del notices
assert watch_count() == 0 and len(descriptors()) == len(before) + 3
notice = Notice()
assert notice.watch(root, 0) and notice.is_quiet() and watch_count() == 1
os.close(os.open(root + "/new", os.O_CREAT))
assert not notice.is_quiet()
if os.fork() == 0:
    os._exit(descriptors() != before)
assert os.wait()[1] == 0
"""
    done = run(body, folder)
    assert done.returncode == 0, done.stderr


def test_without_descriptors_nothing_is_watched(folder: Path) -> None:
    body = """
highest = max(map(int, descriptors()))
for free in range(3):
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    notice = Notice()
    assert not notice.watch(root, 0) and not notice.is_quiet()
resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 9, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
assert not notice.watch(root, 0)
assert Notice().watch(root, 0)
"""
    done = run(body, folder)
    assert done.returncode == 0, done.stderr


def test_descriptors_that_somebody_closed_are_noticed(folder: Path) -> None:
    body = """
notice = Notice()
assert notice.watch(root, 0) and notice.is_quiet()
os.closerange(3, 99)
mine = os.open(root, os.O_RDONLY), os.open(root, os.O_RDONLY), os.open(root, os.O_RDONLY)
assert not notice.is_quiet()
notice.close()
assert all(os.fstat(number) for number in mine)
"""
    done = run(body, folder)
    assert done.returncode == 0, done.stderr


def test_there_is_an_end_to_watching(folder: Path) -> None:
    for number in range(9000):
        os.mkdir(f"{folder}/{number}")
    body = """
notice = Notice()
count = 0
while notice.watch(f"{root}/{count}", 0): count += 1
assert 1 < count <= 8192, count
assert not notice.is_quiet()
notice.close()
assert watch_count() == 0
"""
    done = run(body, folder)
    assert done.returncode == 0, done.stderr


def test_mounting_ends_everything(folder: Path) -> None:
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not have a mount namespace of his own")
    body = """
target = root + "/target"
os.mkdir(target)
for command in (["mount", "-t", "tmpfs", "none", target], ["umount", target]):
    one, two = Notice(), Notice()
    assert one.watch(root, 2) and two.watch(root, 0)
    assert one.is_quiet() and two.is_quiet()
    subprocess.run(command, check=True)
    assert not one.is_quiet() and not two.is_quiet(), command
    three = Notice()
    assert three.watch(root, 0) and three.is_quiet()
"""
    done = run(body, folder, "unshare", "-m")
    assert done.returncode == 0, done.stderr


def test_the_twin_promises_nothing(folder: Path) -> None:
    notice = notices_py.Notice()
    assert not notice.watch(str(folder), FOLDER) and not notice.is_quiet()
    notice.close()
    assert notices_py.watch_count() == 0
