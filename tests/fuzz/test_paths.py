"""No spelling of a path, and no link that a repository may hold, shows what lies outside of the served folder."""

import hmac
import io
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest

from govc.app import create_app
from govc.auth import tokens
from govc.auth.principal import LoginFailed
from govc.auth.tokens import TokenChecker, TokenRecord, hash_token, make_token, token_id
from govc.settings import Settings
from govc.web.cgi import make_environ

SECRET = b"this-lies-outside"

UP = ("..", "%2e%2e", ".%2e", "%252e%252e", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae", "..%00", "..%20", "...", "%e2%80%a5")
BETWEEN = ("/", "%2f", "%252f", "\\", "%5c", "%c0%af", "//", "/./", "%00/", ";/", "/%2e/")
PREFIXES = (
    "/",
    "/a.git/",
    "/a.git/objects/",
    "/a.git/objects/pack/",
    "/a.git/objects/info/",
    "/~/",
    "/a.git/refs/heads/",
)
TARGETS = ("outside/secret", "outside/hidden.git/info/refs", "outside/hidden.git/HEAD")


def spellings(outside: Path) -> Iterator[str]:
    """Percent-encoded paths that mean something outside, if anything does."""
    for prefix, up, between, target in itertools.product(PREFIXES, UP, BETWEEN, TARGETS):
        for depth in range(1, 5):
            yield prefix + between.join([up] * depth + target.split("/"))
    for target in TARGETS:
        absolute = f"{outside.parent}/{target}"
        for form in (absolute, f"/{absolute}", quote(absolute, safe=""), f"/a.git/{absolute}", f"/file://{absolute}"):
            yield form
            yield f"/a.git/objects/{form}"
            yield form.replace("/", "\\")
    for inner in (
        "config",
        "hooks/update",
        "packed-refs",
        "logs/HEAD",
        "objects/../config",
        "objects/pack/../../config",
    ):
        yield f"/a.git/{inner}"
        yield f"/a.git/{quote(inner, safe='')}"
        yield f"/a.git/./{inner}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """The application over a folder with a.git; beside that folder a file and a repository that aren't served."""
    outside = tmp_path / "outside"
    (tmp_path / "root").mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    for path in (tmp_path / "root/a.git", outside / "hidden.git"):
        subprocess.run(["git", "init", "-q", "--bare", path], check=True)
        (path / "git-daemon-export-ok").touch()
    subprocess.run(["git", "config", "x.y", SECRET], cwd=tmp_path / "root/a.git", check=True)
    (outside / "hidden.git/HEAD").write_bytes(b"ref: refs/heads/" + SECRET)
    app: Any = create_app(
        Settings(root=str(tmp_path / "root"), durability="none", cache_dir=str(tmp_path / "cache"), metrics=False)
    )
    yield app, tmp_path
    app.close()


def ask(app: Any, path: bytes, query: str = "") -> tuple[int, bytes]:
    variables = {"REQUEST_METHOD": "GET", "PATH_INFO": os.fsdecode(path), "QUERY_STRING": query}
    status: list[str] = []
    environ = make_environ(variables, io.BytesIO(), sys.stderr)
    chunks = app(environ, lambda line, headers, *rest: status.append(line))
    try:
        return int(status[0][:3]), b"".join(map(bytes, chunks))
    finally:
        getattr(chunks, "close", lambda: None)()


OPENED: list[str] = []
_WATCHED = {"open", "os.listdir", "os.scandir"}


def _note(event: str, arguments: tuple[Any, ...], watched: set[str] = _WATCHED) -> None:
    """An audit hook stays to the end of the process, longer than this module's names."""
    if event in watched and isinstance(arguments[0], (str, bytes)):
        OPENED.append(os.fsdecode(arguments[0]))


def test_no_spelling_of_a_path_leaves_the_served_folder(served: tuple[Any, Path]) -> None:
    """Each as a server passes it on: decoded once. Nothing outside is even opened."""
    app, folder = served
    assert ask(app, b"/a.git/info/refs")[0] == 200
    sys.addaudithook(_note)
    OPENED.clear()
    count = 0
    for spelling in dict.fromkeys(spellings(folder / "outside")):
        for path in {unquote_to_bytes(spelling), spelling.encode()}:
            status, body = ask(app, path)
            assert status in (400, 403, 404, 500), (status, path)
            assert SECRET not in body, path
            count += 1
    opened = {path for path in OPENED if os.path.realpath(path.replace("\0", "")).startswith(str(folder / "outside"))}
    assert not opened
    assert count > 9000


@pytest.mark.parametrize(
    "link",
    ["refs/heads/stolen", "refs/tags/stolen", "packed-refs", "HEAD", "objects/info/packs", "shallow", "info/refs"],
)
def test_a_link_in_a_repository_shows_nothing_of_the_file_that_it_leads_to(served: tuple[Any, Path], link: str) -> None:
    app, folder = served
    path = folder / "root/a.git" / link
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(folder / "outside/secret")
    for name in ("HEAD", "info/refs", "objects/info/packs", link):
        for query in ("", "service=git-upload-pack"):
            assert SECRET not in ask(app, f"/a.git/{name}".encode(), query)[1]


def test_a_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By construction: every well-formed token, known or not, is hashed and goes through hmac.compare_digest once."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return original(one, other)

    original = hmac.compare_digest
    monkeypatch.setattr(tokens.hmac, "compare_digest", compare)
    known, other = make_token(), make_token()
    record = TokenRecord(
        id=token_id(known), hash=hash_token(known), user="ada", grants=(), created_at=0, expires_at=None
    )
    records = {record.id: record}
    checker = TokenChecker(_Fixed(records), lambda: 0.0)  # type: ignore[arg-type]
    assert checker.check(known).user == "ada"
    with pytest.raises(LoginFailed, match="no such token"):
        checker.check(other)
    assert [one for one, _ in compared] == [hash_token(known), hash_token(other)]
    assert all(len(one) == len(right) for one, right in compared)


class _Fixed:
    """A file that doesn't change."""

    def __init__(self, value: object) -> None:
        self._value = value

    def get(self) -> object:
        """Its value."""
        return self._value
