"""A worker's first steps (`govc.web.practising`), and the repository that they are about (`govc.repo.practice`)."""

import gc
import logging
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest

from compat.frontends import server_environment, start_gunicorn
from compat.gitclient import Git
from govc.errors import GovcError
from govc.kernels import treewalk
from govc.protocol.oid import SHA1
from govc.repo.introductions import Introductions
from govc.repo.practice import BLOB_BYTES, BRANCH, COMMITS, STEP, make_practice
from govc.web import practising
from tests.waiting import wait_until


@pytest.fixture
def git(tmp_path: Path) -> Git:
    (tmp_path / "clients").mkdir()
    return Git(tmp_path / "home", tmp_path / "clients")


def test_git_finds_the_repository_whole(tmp_path: Path, git: Git) -> None:
    made = make_practice(str(tmp_path / "made.git"))
    git("fsck", "--strict", "--full", cwd=tmp_path / "made.git")
    git("clone", "-q", str(tmp_path / "made.git"), str(tmp_path / "clone"))
    assert git.rev(tmp_path / "clone", "HEAD") == made.commits[-1].hex()
    assert (tmp_path / "clone" / "large").stat().st_size == BLOB_BYTES
    assert (tmp_path / "clone" / "folder" / "small").read_text() == f"version {COMMITS - 1}\n"
    refs = git.refs(tmp_path / "made.git")
    assert refs.pop(BRANCH.decode()) == made.commits[-1].hex()
    assert set(refs.values()) == {oid.hex() for oid in made.commits[::STEP]}


def test_its_index_covers_it(tmp_path: Path) -> None:
    made = make_practice(str(tmp_path / "made.git"))
    index = Introductions(made.gitdir, SHA1)
    index.refresh()
    assert all(index.find_commit(oid) is not None for oid in made.commits)
    assert (index.ready is not None) == treewalk.AVAILABLE, "the twins send what packs hold"


def test_a_server_answers_as_if_nothing_had_been(tmp_path: Path, git: Git) -> None:
    root, scratch, temporary = (tmp_path / name for name in ("root", "scratch", "temporary"))
    for folder in (root, scratch, temporary):
        folder.mkdir()
    git("init", "-q", "--bare", str(root / "a.git"))
    env = server_environment(tmp_path / "home", {"TMPDIR": str(temporary), "GOVC_LOG_FORMAT": "json"})
    with start_gunicorn(root, env, scratch, ("--export-all",)) as running:
        with urllib.request.urlopen(f"{running.url}/a.git/info/refs?service=git-upload-pack") as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{running.url}/{practising.NAME}/info/refs?service=git-upload-pack")
        with urllib.request.urlopen(f"{running.url}/-/metrics") as answer:
            metrics = answer.read().decode()
        assert running.log is not None
        # Another worker may still be at it.
        wait_until(lambda: not list(temporary.glob("govc-practice-*")), "the end of practising")
        for pid in re.findall("Booting worker with pid: ([0-9]+)", running.log.read_text()):
            wait_until(lambda pid=pid: holds_nothing_of_it(pid), "what was practised on is let go of")
    assert not re.search(r"^govc_body_cache_total\{.*\} [^0]", metrics, re.MULTILINE)
    lines = running.log.read_text()
    assert "practis" not in lines.replace(f"/{practising.NAME}", "")


def holds_nothing_of_it(pid: str) -> bool:
    """Whether a worker holds nothing of what it has practised on."""
    held = []
    for descriptor in Path("/proc", pid, "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            held.append(str(descriptor.readlink()))
    return not any("govc-practice-" in path for path in held)


def test_what_killed_workers_have_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(practising.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gc, "freeze", lambda: None)
    left, busy, other, strange = (
        tmp_path / name for name in ("govc-practice-left", "govc-practice-busy", "other", "govc-practice-link")
    )
    for folder in (left, busy, other):
        (folder / "root").mkdir(parents=True)
    strange.symlink_to(other)
    long_ago = time.time() - 2 * practising.LEFT_SECONDS
    for path in (left, other, strange):
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)

    def fail(_root: str, _cache: str) -> object:
        raise GovcError("not now")

    practising.practise(_Worker(), fail)
    assert {path.name for path in tmp_path.iterdir()} == {busy.name, other.name, strange.name}
    assert (other / "root").is_dir()


def test_who_connects_before_us_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = practising.socket.create_connection
    strangers = []

    def connect_second(address: tuple[str, int]) -> socket.socket:
        strangers.append(connect(address))
        return connect(address)

    monkeypatch.setattr(practising.socket, "create_connection", connect_second)

    def handle(_listener: object, client: socket.socket, _address: object) -> None:
        assert client.recv(100) == b"GET / HTTP/1.1\r\n\r\n"
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        client.close()

    practising.exchange(handle, [b"GET / HTTP/1.1\r\n\r\n"] * 2)
    for stranger in strangers:
        with stranger:
            assert stranger.recv(100) == b""
    assert len(strangers) == 2


class _Worker:
    """As much of a worker as `practise` asks for."""

    def practise(self, _application: object, exchange: object) -> None:
        raise AssertionError("there is no application")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), GovcError("no"), TypeError("ours")])
def test_what_fails_is_said_and_leaves_nothing(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(practising.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gc, "freeze", lambda: None)
    level = logging.getLogger("govc").level

    def fail(_root: str, _cache: str) -> object:
        raise error

    practising.practise(_Worker(), fail)
    assert "without having practised" in caplog.text
    assert ("Traceback" in caplog.text) is isinstance(error, TypeError)
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger("govc").level == level


@pytest.mark.parametrize("answer", [b"HTTP/1.1 500 Internal Server Error\r\n\r\n", b""])
def test_an_answer_that_is_none_is_an_error(answer: bytes) -> None:
    def handle(_listener: object, client: socket.socket, _address: object) -> None:
        client.recv(100)
        client.sendall(answer)
        client.close()

    with pytest.raises(OSError, match="practising was answered"):
        practising.exchange(handle, [b"GET / HTTP/1.1\r\n\r\n"])


def test_an_answer_that_is_cut_short_is_over_before_what_is_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it holds would be held as long as the worker lives: files of a folder that is gone."""
    ended: list[bool] = []
    at_the_freeze: list[list[bool]] = []
    monkeypatch.setattr(practising.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(practising, "SECONDS_MAX", 0.05)
    monkeypatch.setattr(practising, "make_practice", lambda _path: None)
    monkeypatch.setattr(practising, "iter_requests", lambda _practice: iter([b"GET / HTTP/1.1\r\n\r\n"]))
    monkeypatch.setattr(gc, "freeze", lambda: at_the_freeze.append(ended.copy()))

    def handle(_listener: object, client: socket.socket, _address: object) -> None:
        try:
            while client.recv(100):
                continue
        finally:
            client.close()
            ended.append(True)

    class Worker:
        def practise(self, _application: object, exchange: Callable[[object], None]) -> None:
            exchange(handle)

    practising.practise(Worker(), lambda _root, _cache: BytesIO())
    assert at_the_freeze == [[True]]
