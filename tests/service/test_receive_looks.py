"""When a push looks at the repository, and when its objects leave the quarantine."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from govc.app import create_app
from govc.protocol.errors import RemoteProtocolError
from govc.repo.repository import Repository
from govc.repo.runtime import Runtime
from govc.service.unpacking import READ_BYTES, ReadAhead
from govc.settings import Settings
from tests.simulation.pushes import Push, make_commit

NAME = "refs/heads/topic"


def git(path: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", path, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A repository with one commit on main."""
    place = tmp_path / "served" / "r.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", place], check=True)
    git(place, "config", "http.receivepack", "true")
    return place


class Body:
    """A request's body that comes in pieces; `between` is called before the last one."""

    def __init__(self, data: bytes, piece_bytes: int, between: Callable[[], object] = lambda: None) -> None:
        self._pieces = [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]
        self._between = between

    def read(self, _size: int = -1) -> bytes:
        if len(self._pieces) == 1:
            self._between()
        return self._pieces.pop(0) if self._pieces else b""


class Server:
    def __init__(self, path: Path, runtime: Runtime | None = None) -> None:
        self.app = create_app(Settings(root=str(path.parent), export_all=True, metrics=False), runtime=runtime)

    def push(self, body: Body, size: int) -> bytes:
        return b"".join(self._pieces(body, size))

    def pieces(self, push: Push) -> list[bytes]:
        return self._pieces(Body(push.body, 1 << 30), len(push.body))

    def _pieces(self, body: Body, size: int) -> list[bytes]:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/r.git/git-receive-pack",
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "CONTENT_TYPE": "application/x-git-receive-pack-request",
            "CONTENT_LENGTH": str(size),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "x",
            "SERVER_PORT": "80",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": body,
            "wsgi.errors": sys.stderr,
        }
        return list(self.app(environ, lambda *_: None))

    def push_whole(self, push: Push) -> bytes:
        return self.push(Body(push.body, 1 << 30), len(push.body))


def begin(path: Path) -> tuple[Server, str]:
    """A server that has seen its first push, and that push's commit."""
    server = Server(path)
    first = make_commit(None, "first", b"first\n")
    assert b"ok refs/heads/main" in server.push_whole(Push("a", (("refs/heads/main", None, first.oid),), first.objects))
    return server, first.oid


@pytest.mark.parametrize("content_bytes", [10, 2 * READ_BYTES], ids=["small", "large"])
def test_what_is_pruned_while_a_push_comes_is_missed(path: Path, content_bytes: int) -> None:
    """The server knew the parent and has its pack open still; git has deleted it by the time that all has come."""
    server, _ = begin(path)
    gone = make_commit(None, "gone", b"gone\n")
    assert b"ok " in server.push_whole(Push("b", (("refs/heads/gone", None, gone.oid),), gone.objects))
    git(path, "update-ref", "-d", "refs/heads/gone")
    new = make_commit(gone.oid, "new", random.Random(1).randbytes(content_bytes))
    data = Push("c", ((NAME, None, new.oid),), new.objects).body

    answer = server.push(Body(data, len(data) // 3 + 1, lambda: git(path, "repack", "-adq")), len(data))
    assert f"ng {NAME} missing necessary objects".encode() in answer
    git(path, "fsck", "--strict")


def test_a_hook_that_is_put_there_while_a_push_comes_judges_it(path: Path) -> None:
    server, first = begin(path)
    new = make_commit(first, "new", random.Random(1).randbytes(2 * READ_BYTES))
    data = Push("b", ((NAME, None, new.oid),), new.objects).body

    def put() -> None:
        hook = path / "hooks/pre-receive"
        hook.write_text("#!/bin/sh\necho not today\nexit 1\n")
        hook.chmod(0o755)

    answer = server.push(Body(data, len(data) // 3 + 1, put), len(data))
    assert f"ng {NAME} pre-receive hook declined".encode() in answer
    assert NAME not in git(path, "for-each-ref")


@pytest.mark.parametrize(("content_bytes", "looks"), [(10, 1), (READ_BYTES + 1000, 2)], ids=["small", "large"])
def test_a_small_push_looks_once(path: Path, content_bytes: int, looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    server, first = begin(path)
    taken: list[Repository] = []
    take = Repository.snapshot
    # What comes after the answer looks for itself.
    monkeypatch.setattr("govc.repo.index_keeper.IndexKeeper.note_push", lambda *_: None)
    monkeypatch.setattr(Repository, "snapshot", lambda self: taken.append(self) or take(self))
    new = make_commit(first, "new", random.Random(1).randbytes(content_bytes))
    assert f"ok {NAME}".encode() in server.push_whole(Push("b", ((NAME, None, new.oid),), new.objects))
    assert looks == len(taken)
    git(path, "fsck", "--strict")


def packs(path: Path) -> set[str]:
    return {file.name for file in (path / "objects/pack").iterdir()}


@pytest.mark.parametrize("has_hook", [False, True])
def test_objects_of_a_push_that_a_rule_refuses_stay_in_quarantine_unless_a_hook_has_to_see_them(
    path: Path, has_hook: bool
) -> None:
    server, first = begin(path)
    git(path, "config", "receive.denyNonFastForwards", "true")
    if has_hook:
        hook = path / "hooks/update"
        hook.write_text("#!/bin/sh\nexit 0\n")
        hook.chmod(0o755)
    before = packs(path)
    other = make_commit(None, "other", b"other\n")
    answer = server.push_whole(Push("b", (("refs/heads/main", first, other.oid),), other.objects))
    assert b"ng refs/heads/main non-fast-forward" in answer
    assert has_hook == (packs(path) != before)
    assert not [name for name in packs(path) if name.endswith(".keep")]
    assert not list((path / "objects").glob("tmp_objdir-*"))
    assert first == git(path, "rev-parse", "main")


def test_a_body_is_read_ahead_to_a_size_or_its_end() -> None:
    ahead = ReadAhead(b"ab", Body(b"cdefgh", 2))
    ahead.fill(4)
    assert not ahead.has_ended
    assert [b"ab", b"cd", b"ef", b"gh", b"", b""] == [ahead.read(9) for _ in range(6)]
    ahead = ReadAhead(b"", Body(b"cd", 2))
    ahead.fill(9)
    assert ahead.has_ended
    assert [b"cd", b""] == [ahead.read(9), ahead.read(9)]


def test_a_body_that_breaks_off_does_so_where_it_is_read() -> None:
    class Broken:
        def read(self, _size: int, /) -> bytes:
            raise RemoteProtocolError("gone")

    ahead = ReadAhead(b"ab", Broken())
    ahead.fill(9)
    assert not ahead.has_ended
    assert ahead.read(9) == b"ab"
    with pytest.raises(RemoteProtocolError):
        ahead.read(9)


def folders_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the quarantine folders that are made from now on."""
    made: list[str] = []
    true_mkdir = os.mkdir

    def mkdir(path: str, *arguments: Any, **more: Any) -> None:
        if "tmp_objdir" in os.fspath(path):
            made.append(path)
        true_mkdir(path, *arguments, **more)

    monkeypatch.setattr(os, "mkdir", mkdir)
    return made


@pytest.mark.parametrize("refused", [False, True])
def test_small_push_that_no_hook_looks_at_makes_no_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    server, first = begin(path)
    before = set(os.listdir(path / "objects/pack"))
    made = folders_made(monkeypatch)
    second = make_commit(first, "second", b"second\n")
    objects = second.objects[:-1] if refused else second.objects
    assert refused != (b"ok " + NAME.encode() in server.push_whole(Push("b", ((NAME, None, second.oid),), objects)))
    assert [] == made
    after = set(os.listdir(path / "objects/pack")) - before
    assert ([] if refused else [".idx", ".pack"]) == sorted(Path(name).suffix for name in after)
    git(path, "fsck", "--strict")


def test_push_that_a_hook_looks_at_has_its_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, first = begin(path)
    hook = path / "hooks/pre-receive"
    hook.write_text('#!/bin/sh\nls "$GIT_QUARANTINE_PATH/pack" >looked\n')
    hook.chmod(0o755)
    made = folders_made(monkeypatch)
    second = make_commit(first, "second", b"second\n")
    assert b"ok " + NAME.encode() in server.push_whole(Push("b", ((NAME, None, second.oid),), second.objects))
    assert made
    assert ".pack" in (path / "looked").read_text()
    assert [] == [name for name in os.listdir(path / "objects") if name.startswith("tmp_")]


def test_report_and_end_leave_in_one_piece(path: Path) -> None:
    server, first = begin(path)
    second = make_commit(first, "second", b"second\n")
    push = Push("b", ((NAME, None, second.oid),), second.objects)
    pieces = server.pieces(push)
    assert 1 == len(pieces)
    assert b"ok " + NAME.encode() in pieces[0]
