"""govc behind a real Apache: conf/apache.conf as it stands, and with its lines about users taken in.

`GOVC_COMPAT_FRONTENDS=apache` runs every other scenario over it as well.
"""

from __future__ import annotations

import base64
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from compat import frontends
from compat.conftest import Repo, Server, agree
from compat.gitclient import Git
from compat.programs import find_program
from compat.rawhttp import RECEIVE, V2, request

# One Apache for all of them.
pytestmark = [
    pytest.mark.xdist_group("apache"),
    pytest.mark.skipif(
        find_program("apache2") is None,
        reason="apache2 is not installed: run compat/install.sh",
    ),
]

LARGE_BYTES = 3 << 20  # of noise, above git's usual http.postBuffer of 1 MiB


def take_in_users(text: str) -> str:
    """conf/apache.conf with the comment signs taken off the block about users, and metrics for another machine."""
    block = re.search(r"^#<If .*?^#</If>\n", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    text = text.replace("    Require local\n", "    Require ip 192.0.2.1\n")
    return text.replace(block[0], re.sub(r"^#", "", block[0], flags=re.MULTILINE))


@pytest.fixture(scope="module")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[frontends.Running, Path]]:
    """Apache in front of gunicorn; ann may log in."""
    root, scratch = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("scratch")
    env = frontends.server_environment(scratch / "home", {})
    users = {"htpasswd": "ann:{SHA}fEqNCco3Yq9h5ZUglD3CZJT4lBs=\n"}  # 123456
    with frontends.start_apache(root, env, scratch, take_in_users, users) as running:
        yield running, root


@pytest.fixture
def behind(apache: tuple[frontends.Running, Path], git: Git, templates: Callable[[str, str], Path]) -> Iterator[Server]:
    """A fresh view of it."""
    here = Server(*apache, git, templates)
    yield here
    here.check()


def log_in(repo: Repo) -> str:
    """The repository's URL with ann's name and password."""
    return repo.url.replace("http://", "http://ann:123456@")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[frontends.Running, Path]]:
    """conf/apache.conf as it stands."""
    root, scratch = tmp_path_factory.mktemp("plain-root"), tmp_path_factory.mktemp("plain-scratch")
    with frontends.start("apache", root, scratch) as running:
        yield running, root


@pytest.mark.parametrize("version", ["0", "2"])
def test_clones_and_small_pushes(
    plain: tuple[frontends.Running, Path], git: Git, templates: Callable[[str, str], Path], version: str
) -> None:
    server = Server(*plain, git, templates)
    repo = server.create_repo()
    git("-c", f"protocol.version={version}", "clone", "-q", repo.url, "clone")
    agree(git, "clone", repo)
    tip = git.commit_file("clone", "a.txt", "a\n")
    git("-c", f"protocol.version={version}", "push", "-q", cwd="clone")
    assert tip == repo.rev("main")
    # As it stands, nobody has a name, whatever a client says.
    repo.config("core.logAllRefUpdates", "true")
    for header in ("X-Remote-User: eve", "X_Remote_User: eve", "Remote-User: eve"):
        git.commit_file("clone", "a.txt", header)
        git("-c", f"http.extraHeader={header}", "push", "-q", cwd="clone")
        assert "anonymous <anonymous@" in (repo.path / "logs/refs/heads/main").read_text().splitlines()[-1]
    server.check()


def test_protocol_v2_reaches_govc(behind: Server) -> None:
    repo = behind.create_repo()
    path = "/info/refs?service=git-upload-pack"
    assert b"version 2" in request(repo.url, "GET", path, headers=V2).body[:60]
    assert b"version 2" not in request(repo.url, "GET", path).body[:60]


def test_a_chunked_push_passes_through_in_pieces(behind: Server, git: Git) -> None:
    repo = behind.create_repo()
    git("clone", "-q", log_in(repo), "clone")
    (git.cwd / "clone" / "noise").write_bytes(os.urandom(LARGE_BYTES))
    tip = git.commit_file("clone", "a.txt", "a\n")
    git("add", "noise", cwd="clone")
    git("commit", "-q", "--amend", "-m", "noise", cwd="clone")
    assert tip != (tip := git.rev("clone", "HEAD"))
    trace = git.cwd / "trace"
    git("push", "-q", cwd="clone", env={"GIT_TRACE_CURL": str(trace), "GIT_TRACE_CURL_NO_DATA": "1"})
    assert "transfer-encoding: chunked" in trace.read_text().lower()
    assert tip == repo.rev("main")
    git("clone", "-q", repo.url, "again")
    assert tip == git.rev("again", "HEAD")


def test_a_compressed_request_passes_through(behind: Server, git: Git) -> None:
    repo = behind.create_repo("linear")
    git("clone", "-q", repo.url, "clone")
    repo.run("commit-tree", "main^{tree}", "-p", "main", "-m", "more")
    repo.run("update-ref", "refs/heads/main", repo.run("commit-tree", "main^{tree}", "-p", "main", "-m", "more"))
    for n in range(40):  # So many haves that git compresses them.
        git("commit", "-q", "--allow-empty", "-m", f"{n}", cwd="clone")
    trace = git.cwd / "trace"
    options = ("-c", "protocol.version=0", "fetch", "-q")
    git(*options, cwd="clone", env={"GIT_TRACE_CURL": str(trace), "GIT_TRACE_CURL_NO_DATA": "1"})
    assert re.search("=> Send header: content-encoding: gzip", trace.read_text(), re.IGNORECASE)
    assert repo.rev("main") == git.rev("clone", "origin/main")


def test_who_logged_in_is_in_the_reflog_and_no_client_can_name_itself(behind: Server, git: Git) -> None:
    repo = behind.create_repo(config={"core.logAllRefUpdates": "true"})
    git("clone", "-q", repo.url, "clone")
    before = repo.rev("main")
    git.commit_file("clone", "a.txt", "a\n")
    words = git.fails("-c", "http.extraHeader=X-Remote-User: eve", "push", repo.url, "main", cwd="clone")
    assert "could not read Username" in words
    assert before == repo.rev("main")
    for header in ("X-Remote-User: eve", "X_Remote_User: eve", "Connection: X-Remote-User"):
        git.commit_file("clone", "a.txt", header)
        git("-c", f"http.extraHeader={header}", "push", "-q", log_in(repo), "main", cwd="clone", check=False)
    log = (repo.path / "logs/refs/heads/main").read_text().splitlines()
    assert "ann <ann@http.127.0.0.1>" in log[0]
    assert "eve" not in "".join(log)


def test_a_repository_that_takes_no_anonymous_pushes_takes_ann_s(behind: Server, git: Git) -> None:
    repo = behind.create_repo(pushable=False)
    git("clone", "-q", log_in(repo), "clone")
    tip = git.commit_file("clone", "a.txt", "a\n")
    git("push", "-q", cwd="clone")
    assert tip == repo.rev("main")


def test_paths_that_climb_lead_nowhere(behind: Server) -> None:
    repo = behind.create_repo()
    tail = "/info/refs?service=git-upload-pack"
    assert request(repo.url, "GET", tail).status == 200
    for path in (f"/x/..%2f{repo.path.name}", f"/%2e%2e/{repo.path.name}", f"/{repo.path.name}%00"):
        answer = request(behind.url, "GET", path + tail)
        assert answer.status >= 400
        assert b"refs/heads" not in answer.body


def test_metrics_are_for_this_machine(plain: tuple[frontends.Running, Path], behind: Server) -> None:
    assert request(plain[0].url, "GET", "/-/metrics").status == 200
    assert request(behind.url, "GET", "/-/healthz").status == 200
    # Here the address that may is another one.
    for path in ("/-/metrics", "/%2d/metrics", "/x/../-/metrics", "//-/metrics"):
        answer = request(behind.url, "GET", path)
        assert answer.status == 403
        assert b"govc_" not in answer.body


def test_a_client_that_goes_away_in_a_push_leaves_nothing(behind: Server, git: Git) -> None:
    repo = behind.create_repo()
    git("clone", "-q", log_in(repo), "clone")
    before = repo.state()
    place = urlsplit(repo.url)
    half = b"0000PACK\0\0\0\2\0\0\0\5" + bytes(range(200))
    head = f"POST {place.path}/git-receive-pack HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {RECEIVE}\r\n"
    login = base64.b64encode(b"ann:123456").decode()
    head += f"Authorization: Basic {login}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((place.hostname or "", place.port or 80), timeout=300) as connection:
        connection.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(half), half))
    assert before == repo.state()
    tip = git.commit_file("clone", "a.txt", "a\n")
    git("push", "-q", cwd="clone")
    assert tip == repo.rev("main")
