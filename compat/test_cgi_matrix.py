"""The CGI program through the matrix of the variables that git http-backend reads, beside it, over the same folder.

Every variable takes each of its values while the others are usual, and then some hundred draws take several at once.
The answers are compared as the differential fuzzer compares them; identities in the reflog by what a push leaves there.
"""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from compat.differential.answers import look_at
from compat.differential.differences import judge
from compat.differential.world import Request
from compat.gitclient import Git, client_environment
from compat.rawhttp import Reply
from compat.test_cgi_environment import Templates, parse, run
from govc.cli.http_backend import http_backend

ROOT = "ROOT"
WANT_NOTHING = b"0000"

VALUES: dict[str, tuple[str | None, ...]] = {
    "GIT_PROJECT_ROOT": (ROOT, "ROOT/", "ROOT/sub", "", None, "ROOT/nothing"),
    "GIT_HTTP_EXPORT_ALL": (None, "", "1", "0"),
    "PATH_INFO": (
        "/a.git/info/refs",
        "/a.git/HEAD",
        "/sub/b.git/HEAD",
        "/a.git/git-upload-pack",
        "/nothing/HEAD",
        "",
        None,
    ),
    "PATH_TRANSLATED": (None, "ROOT/a.git/HEAD", "ROOT/sub/b.git/HEAD", "ROOT/a.git/../a.git/HEAD", ""),
    "REMOTE_USER": (None, "ada", "", "a b <c>"),
    "REMOTE_ADDR": ("127.0.0.1", "", None, "::1", "x\ty"),
    "REQUEST_METHOD": ("GET", "POST", "HEAD", "PUT", "get", ""),
    "QUERY_STRING": (
        "service=git-upload-pack",
        "service=git-receive-pack",
        "service=git-nothing",
        "service=git%2dupload-pack&x=%zz",
        "service=git-upload-pack&service=git-receive-pack",
        "",
        None,
    ),
    "CONTENT_TYPE": ("application/x-git-upload-pack-request", "text/plain", "", None),
    "CONTENT_LENGTH": ("LENGTH", "", None, "0"),
    "HTTP_CONTENT_ENCODING": (None, "", "identity", "gzip", "x-gzip", "deflate"),
    "GIT_COMMITTER_NAME": (None, "Ada", ""),
    "GIT_COMMITTER_EMAIL": (None, "ada@example.com", ""),
    "GIT_NAMESPACE": (None, "", "guest", "a/b"),
    "GIT_PROTOCOL": (None, "version=2", "version=1", "", "x"),
    "HTTP_GIT_PROTOCOL": (None, "version=2", "version=1", "version=2:version=1"),
    "GIT_HTTP_MAX_REQUEST_BUFFER": (None, "", "1", "10M", "nonsense"),
}
"""The first value of each is the usual one; None: not set."""

USUAL = {name: values[0] for name, values in VALUES.items()}


def matrix() -> list[dict[str, str | None]]:
    """Each value alone, for a discovery, a file and a POST; then draws."""
    rows = []
    for base in (
        USUAL,
        USUAL | {"PATH_INFO": "/a.git/HEAD", "QUERY_STRING": ""},
        USUAL | {"PATH_INFO": "/a.git/git-upload-pack", "REQUEST_METHOD": "POST", "QUERY_STRING": ""},
    ):
        rows += [base | {name: value} for name, values in VALUES.items() for value in values]
    rng = random.Random(5)
    for _ in range(120):
        changed = rng.sample(sorted(VALUES), rng.choice((2, 2, 3, 4)))
        rows.append(USUAL | {name: rng.choice(VALUES[name]) for name in changed})
    return [dict(row) for row in {tuple(row.items()): None for row in rows}]


def run_forked(env: dict[str, str], folder: Path, body: bytes) -> Reply:
    """One request to the CGI program, in a copy of this process: nothing has to be imported again."""
    (folder / "input").write_bytes(body)
    clean = client_environment(folder / "home")
    answer = http_backend.callback
    assert answer is not None
    child = os.fork()
    if child == 0:
        try:
            os.environ.clear()
            os.environ.update(clean | env)
            for number, name in enumerate(("input", "output", "errors")):
                flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                os.dup2(os.open(folder / name, flags, 0o600), number)
            sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
            answer()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return parse((folder / "output").read_bytes())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, templates: Templates) -> Path:
    """a.git, exported, with a namespace; sub/b.git, not exported."""
    folder = tmp_path_factory.mktemp("matrix") / "root"
    for name in ("a.git", "sub/b.git"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-R", templates("small", "sha1"), path], check=True)
    (folder / "a.git/git-daemon-export-ok").touch()
    namespaced = "refs/namespaces/guest/refs/heads/main"
    subprocess.run(["git", "update-ref", namespaced, "main"], cwd=folder / "a.git", check=True)
    return folder


def is_ours_alone(env: dict[str, str]) -> bool:
    """What differs on purpose: git fails on a GET that says gzip."""
    return "gzip" in env.get("HTTP_CONTENT_ENCODING", "") and env["REQUEST_METHOD"] != "POST"


@pytest.mark.rows("HB-51", "HB-52", "HB-44", "HB-46", "HB-63")
@pytest.mark.parametrize("part", range(8))
def test_every_variable_means_what_it_means_to_git(root: Path, tmp_path: Path, part: int) -> None:
    different = []
    for row in matrix()[part::8]:
        encoding = row["HTTP_CONTENT_ENCODING"] or ""
        body = b""
        if row["REQUEST_METHOD"] == "POST":
            body = gzip.compress(WANT_NOTHING, mtime=0) if "gzip" in encoding else WANT_NOTHING
        env = {name: value.replace(ROOT, str(root)) for name, value in row.items() if value is not None}
        if env.get("CONTENT_LENGTH") == "LENGTH":
            env["CONTENT_LENGTH"] = str(len(body))
        env |= {"SERVER_PROTOCOL": "HTTP/1.1", "GATEWAY_INTERFACE": "CGI/1.1"}
        ours = run_forked(env, tmp_path, body)
        theirs = run(["git", "http-backend"], env, tmp_path / "home", body)
        request = Request(env, body, "discovery" if env.get("PATH_INFO", "").endswith("info/refs") else "fetch v0")
        seen = look_at(request, ours), look_at(request, theirs)
        if is_ours_alone(env):
            continue
        if judge(request, *seen) is None:
            different.append(f"{env}\n  ours   {seen[0]}\n  theirs {seen[1]}")
    assert not different, "\n".join(different)


@pytest.mark.rows("HB-68", "SEC-34")
@pytest.mark.parametrize(
    "identity",
    [
        {"REMOTE_USER": "ada", "REMOTE_ADDR": "127.0.0.1"},
        {"REMOTE_USER": "ada"},
        {"REMOTE_USER": "ada", "REMOTE_ADDR": "::1", "GIT_COMMITTER_NAME": "Committer"},
        {"REMOTE_USER": "ada", "REMOTE_ADDR": "h", "GIT_COMMITTER_EMAIL": "c@d"},
        {"REMOTE_USER": "", "REMOTE_ADDR": "", "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "B"},
        {"REMOTE_USER": "a <b> c", "REMOTE_ADDR": "x y"},
    ],
    ids=str,
)
def test_a_push_names_the_same_committer(root: Path, tmp_path: Path, git: Git, identity: dict[str, str]) -> None:
    """What the reflog says of who pushed, the time aside."""
    written = []
    for program in (["git", "http-backend"], [sys.executable, "-m", "govc.cli", "http-backend"]):
        folder = tmp_path / f"root{len(written)}"
        subprocess.run(["cp", "-R", root, folder], check=True)
        git("config", "core.logAllRefUpdates", "true", cwd=folder / "a.git")
        git("config", "http.receivepack", "true", cwd=folder / "a.git")
        tip = git("rev-parse", "main", cwd=folder / "a.git").stdout.strip()
        line = f"{'0' * 40} {tip} refs/heads/fresh\0report-status".encode()
        pack = git.output_bytes("pack-objects", "--stdout", cwd=folder / "a.git")
        body = b"%04x%b0000%b" % (len(line) + 4, line, pack)
        env = {
            "GIT_PROJECT_ROOT": str(folder),
            "PATH_INFO": "/a.git/git-receive-pack",
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": "application/x-git-receive-pack-request",
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_PROTOCOL": "HTTP/1.1",
        }
        answer = run(program, env | identity, tmp_path / "home", body)
        assert b"ok refs/heads/fresh" in answer.body
        text = (folder / "a.git/logs/refs/heads/fresh").read_text()
        written.append(text[82 : text.rindex(">") + 1])
    assert written[0] == written[1]
