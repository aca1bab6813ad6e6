"""The CGI program driven through its environment, beside `git http-backend` with the very same variables."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pytest

from compat.frontends import PROJECT, chosen_kernels
from compat.gitclient import Git, client_environment
from compat.rawhttp import Reply, parse_advertisement, parse_packets

Templates = Callable[[str, str], Path]


def run(
    program: list[str], env: Mapping[str, str], home: Path, body: bytes = b"", *, without: Collection[str] = ()
) -> Reply:
    """One request; an empty answer is a 500, as web servers have it. `without` names variables that aren't set."""
    clean = client_environment(home) | {"PYTHONPATH": str(PROJECT)} | chosen_kernels()
    clean = {name: value for name, value in clean.items() if name not in without}
    done = subprocess.run(program, env=clean | dict(env), input=body, capture_output=True, check=False, timeout=300)
    return parse(done.stdout)


def parse(answer: bytes) -> Reply:
    """What a CGI program said; an empty answer is a 500."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    headers = {}
    for line in head.split(b"\r\n"):
        name, _, value = line.decode("latin-1").partition(": ")
        headers[name.lower()] = value
    status = headers.pop("status", "200 OK" if head else "500 Internal Server Error")
    return Reply(int(status[:3]), status[4:], headers, rest)


def both(
    env: Mapping[str, str], home: Path, body: bytes = b"", *, without: Collection[str] = ()
) -> tuple[Reply, Reply]:
    """Our answer and git's."""
    ours = run([sys.executable, "-m", "govc.cli", "http-backend"], env, home, body, without=without)
    return ours, run(["git", "http-backend"], env, home, body, without=without)


@pytest.fixture
def root(tmp_path: Path, templates: Templates) -> Path:
    """A folder with two repositories: a.git, exported, and sub/b.git, not."""
    folder = tmp_path / "root"
    for name in ("a.git", "sub/b.git"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-R", templates("small", "sha1"), path], check=True)
    (folder / "a.git/git-daemon-export-ok").touch()
    # Several places where a name may lead; HEAD says which one it was.
    for place in ("guess/.git", "guess", "guess.git/.git", "guess.git", "guess2.git/.git", "guess2.git", "guess3.git"):
        make_repository(folder / place)
    make_repository(folder / ".../c.git")
    (tmp_path / "link").symlink_to(folder)
    return folder


def make_repository(path: Path) -> None:
    """An empty one, exported, whose HEAD names the place it is at."""
    for part in ("objects", "refs"):
        (path / part).mkdir(parents=True)
    (path / "HEAD").write_text(f"ref: refs/heads/{path.parent.name}-{path.name}\n".replace("/.", "/x"))
    (path / "refs/heads").mkdir()
    (path / "git-daemon-export-ok").touch()


GET = {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", "QUERY_STRING": "", "GATEWAY_INTERFACE": "CGI/1.1"}


@pytest.mark.rows("HB-51", "HB-52", "HB-18", "HB-22", "HB-83", "HB-44", "HB-53", "HB-67", "HB-54", "HB-84")
@pytest.mark.parametrize(
    "variables",
    [
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/a.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT/", "PATH_INFO": "/a.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/a.git/info/refs"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/a/info/refs", "QUERY_STRING": "service=git-upload-pack"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/a.git/info/refs", "QUERY_STRING": "x=1&service=git%2Dupload-pack"},
        {"GIT_PROJECT_ROOT": "ROOT"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": ""},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "a.git/HEAD"},
        {"GIT_PROJECT_ROOT": "", "PATH_TRANSLATED": "ROOT/a.git/HEAD"},
        {"PATH_TRANSLATED": "ROOT/a.git/HEAD"},
        {"PATH_TRANSLATED": "ROOT/nosuch.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_TRANSLATED": "ROOT/a.git/HEAD", "PATH_INFO": "/nosuch.git/HEAD"},
        {},
        {"GIT_PROJECT_ROOT": "ROOT/nosuch", "PATH_INFO": "/a.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/sub/b.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/sub/b.git/HEAD", "GIT_HTTP_EXPORT_ALL": ""},
        {"GIT_PROJECT_ROOT": "ROOT/sub", "PATH_INFO": "/b.git/HEAD", "GIT_HTTP_EXPORT_ALL": "1"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/a.git/HEAD", "REQUEST_METHOD": "HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/a.git/HEAD", "REQUEST_METHOD": "PUT"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/a.git/HEAD", "REQUEST_METHOD": "PUT", "SERVER_PROTOCOL": ""},
        {
            "GIT_PROJECT_ROOT": "ROOT",
            "PATH_INFO": "/a.git/HEAD",
            "SCRIPT_NAME": "/git",
            "REQUEST_URI": "/git/a.git/HEAD",
        },
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/a.git/../a.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/./a.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "//a.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/..a.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/.../a.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/.../c/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/guess/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/guess.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/guess2/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/guess3/HEAD"},
        {"GIT_PROJECT_ROOT": "LINK", "PATH_INFO": "/a.git/HEAD"},
        {"GIT_PROJECT_ROOT": "ROOT", "PATH_INFO": "/a.git/info/refs", "QUERY_STRING": "service=git-receive-pack"},
        {
            "GIT_PROJECT_ROOT": "ROOT",
            "PATH_INFO": "/a.git/info/refs",
            "QUERY_STRING": "service=git-receive-pack",
            "REMOTE_USER": "ada",
        },
        {
            "GIT_PROJECT_ROOT": "ROOT",
            "PATH_INFO": "/a.git/info/refs",
            "QUERY_STRING": "service=git-receive-pack",
            "REMOTE_USER": "",
        },
    ],
    ids=lambda variables: " ".join(f"{name}={value}" for name, value in variables.items())[:100],
)
def test_where_the_repository_is(root: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    places = {"ROOT": str(root), "LINK": str(tmp_path / "link")}
    env = GET | {name: value.replace(value[:4], places.get(value[:4], value[:4])) for name, value in variables.items()}
    ours, theirs = both(env, tmp_path / "home")
    assert ours.status == theirs.status
    assert ours.headers.get("content-type") == theirs.headers.get("content-type")
    assert ours.headers.get("allow") == theirs.headers.get("allow")
    if b"\0" in theirs.body:
        assert parse_advertisement(parse_packets(ours.body))[0] == parse_advertisement(parse_packets(theirs.body))[0]
    elif theirs.status != 500 and env["REQUEST_METHOD"] == "GET":  # git leaves it to the web server to cut HEAD's
        assert ours.body == theirs.body


@pytest.mark.rows("HB-63", "HB-62", "HB-64")
@pytest.mark.parametrize(
    ("variables", "is_v2"),
    [
        ({"GIT_PROTOCOL": "version=0", "HTTP_GIT_PROTOCOL": "version=2"}, False),
        ({"GIT_PROTOCOL": "version=2", "HTTP_GIT_PROTOCOL": "version=0"}, True),
        ({"HTTP_GIT_PROTOCOL": "version=2"}, True),
        ({"HTTP_GIT_PROTOCOL": "version=1:version=2:foo=bar"}, True),
        ({"HTTP_GIT_PROTOCOL": "version=9"}, False),
        ({"GIT_PROTOCOL": ""}, False),
    ],
)
def test_which_protocol(root: Path, tmp_path: Path, variables: dict[str, str], is_v2: bool) -> None:
    where = {"GIT_PROJECT_ROOT": str(root), "PATH_INFO": "/a.git/info/refs", "QUERY_STRING": "service=git-upload-pack"}
    for answer in both(GET | where | variables, tmp_path / "home"):
        assert (b"version 2\n" in answer.body) == is_v2


@pytest.mark.rows("HB-72", "HB-28")
@pytest.mark.parametrize(
    "variables",
    [
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.receivepack", "GIT_CONFIG_VALUE_0": "true"},
        {"GIT_CONFIG_PARAMETERS": "'http.receivepack'='true'"},
        {"GIT_CONFIG_GLOBAL": "FILE"},
        {"GIT_CONFIG_GLOBAL": "/dev/null"},
        {"GIT_CONFIG_SYSTEM": "FILE", "GIT_CONFIG_NOSYSTEM": "0"},
        {"GIT_CONFIG_SYSTEM": "FILE", "GIT_CONFIG_NOSYSTEM": "1"},
        {"HOME": "HOME"},
        {"HOME": "HOME", "GIT_CONFIG_GLOBAL": "/dev/null"},
        {"XDG_CONFIG_HOME": "HOME"},
        {"XDG_CONFIG_HOME": "HOME", "HOME": "HOME/elsewhere"},
        {"GIT_CONFIG_COUNT": "x"},
        {"GIT_CONFIG_COUNT": "1"},
    ],
    ids=str,
)
def test_configuration_of_the_environment(root: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    file = tmp_path / "some.config"
    file.write_text("[http]\n\treceivepack = true\n[safe]\n\tdirectory = *\n")
    query = "service=git-receive-pack"
    where = {"GIT_PROJECT_ROOT": str(root), "PATH_INFO": "/a.git/info/refs", "QUERY_STRING": query}
    (tmp_path / "own/git").mkdir(parents=True)
    for name in (".gitconfig", "git/config"):
        (tmp_path / "own" / name).write_text(file.read_text())
    folder = str(tmp_path / "own")
    filled = {name: value.replace("FILE", str(file)).replace("HOME", folder) for name, value in variables.items()}
    without = set() if "GIT_CONFIG_GLOBAL" in variables else {"GIT_CONFIG_GLOBAL"}
    ours, theirs = both(GET | where | filled, tmp_path / "home", without=without if "HOME" in str(variables) else set())
    assert ours.status == theirs.status
    if variables in ({"HOME": "HOME"}, {"XDG_CONFIG_HOME": "HOME", "HOME": "HOME/elsewhere"}):
        assert ours.status == 200


@pytest.mark.rows("HB-73", "FS-29")
def test_alternates_of_the_environment(root: Path, tmp_path: Path, git: Git) -> None:
    """Objects that only the folder in GIT_ALTERNATE_OBJECT_DIRECTORIES has: git serves them, and so do we."""
    moved = tmp_path / "elsewhere"
    (root / "a.git/objects").rename(moved)
    (root / "a.git/objects").mkdir()
    where = {"GIT_PROJECT_ROOT": str(root), "PATH_INFO": "/a.git/info/refs", "QUERY_STRING": "service=git-upload-pack"}
    without, _ = both(GET | where, tmp_path / "home")
    assert b"refs/heads/main" not in without.body
    env = GET | where | {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(moved)}
    ours, theirs = both(env, tmp_path / "home")
    assert parse_advertisement(parse_packets(ours.body))[0] == parse_advertisement(parse_packets(theirs.body))[0]
    assert b"refs/heads/main" in ours.body


@pytest.mark.rows("HB-46", "HB-37", "HB-39", "HB-44")
@pytest.mark.parametrize(
    ("variables", "body"),
    [
        ({"CONTENT_LENGTH": "4"}, b"0000"),
        ({"CONTENT_LENGTH": "4"}, b"0000 and more that is not read"),
        ({"CONTENT_LENGTH": ""}, b"0000"),
        ({}, b"0000"),
        ({"CONTENT_LENGTH": "4", "HTTP_CONTENT_ENCODING": "identity"}, b"0000"),
        ({"CONTENT_LENGTH": "not a number"}, b"0000"),
        ({"CONTENT_LENGTH": "99999999999999999999"}, b"0000"),
        ({"CONTENT_LENGTH": "4", "CONTENT_TYPE": "text/plain"}, b"0000"),
    ],
)
def test_bodies(root: Path, tmp_path: Path, variables: dict[str, str], body: bytes) -> None:
    env = GET | {
        "GIT_PROJECT_ROOT": str(root),
        "PATH_INFO": "/a.git/git-upload-pack",
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/x-git-upload-pack-request",
    }
    ours, theirs = both(env | variables, tmp_path / "home", body)
    if b"Status: 500" in theirs.body:  # git dies after its headers, and prints others behind them
        assert (ours.status, ours.body[4:]) == (theirs.status, b"ERR unusable Content-Length")
    else:
        assert (ours.status, ours.body) == (theirs.status, theirs.body)


@pytest.mark.rows("HB-46", "CF-05", "SEC-05")
@pytest.mark.parametrize(
    ("buffer", "configured", "haves", "length"),
    [
        (None, "10k", 1000, True),
        ("1m", "10k", 1000, True),
        ("9k", "1m", 1000, False),
        ("9k", "1m", 170, False),
        ("1", None, 100, False),
        ("1", "1m", 170, False),
        ("1", "1m", 100, True),
        (None, "5k", 100, True),
    ],
)
def test_how_large_a_fetch_request_may_be(
    root: Path, tmp_path: Path, git: Git, buffer: str | None, configured: str | None, haves: int, length: bool
) -> None:
    """5,000, 8,500 and 50,000 bytes; the variable wins, and without a Content-Length 8 KiB are always allowed."""
    if configured is not None:
        git("config", "http.maxRequestBuffer", configured, cwd=root / "a.git")
    tip = git("rev-parse", "main", cwd=root / "a.git").stdout.strip()
    text = f"0032want {tip}\n0000" + "".join(f"0032have {n:040x}\n" for n in range(haves)) + "0009done\n"
    body = text.encode()
    env = GET | {
        "GIT_PROJECT_ROOT": str(root),
        "PATH_INFO": "/a.git/git-upload-pack",
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/x-git-upload-pack-request",
    }
    env |= {"CONTENT_LENGTH": str(len(body))} if length else {}
    env |= {} if buffer is None else {"GIT_HTTP_MAX_REQUEST_BUFFER": buffer}
    ours, theirs = both(env, tmp_path / "home", body)
    assert (b"PACK" in ours.body) == (b"PACK" in theirs.body)
