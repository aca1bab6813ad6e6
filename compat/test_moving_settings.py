"""docs/moving.md, "Where settings go": the variables that git-http-backend had count for `govc serve` as they stand.

Where both can be asked the same, git-http-backend is asked, too.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compat import frontends
from compat.conftest import Server
from compat.gitclient import Git
from compat.rawhttp import UPLOAD, request

pytestmark = pytest.mark.xdist_group("moving")

Templates = Callable[[str, str], Path]

VARIABLES = {
    "GIT_HTTP_EXPORT_ALL": "",  # set is enough
    "GIT_COMMITTER_NAME": "The Server",
    "GIT_COMMITTER_EMAIL": "server@example.org",
    "GIT_NAMESPACE": "tenant",
}


@contextlib.contextmanager
def serve_as_it_was(root: Path, folder: Path, variables: dict[str, str]) -> Iterator[frontends.Running]:
    """`govc serve` that is told nothing but what git-http-backend was told."""
    port = frontends.find_free_port()
    env = frontends.server_environment(folder / "home", {"GIT_PROJECT_ROOT": str(root), **variables})
    log = folder / "log"
    command = [sys.executable, "-m", "govc.cli", "serve", "--bind", f"127.0.0.1:{port}"]
    with frontends.run_logged(command, env, log) as process:
        frontends.wait_for_answer(port, process, log)
        yield frontends.Running("gunicorn", f"http://127.0.0.1:{port}", [process.pid], log)


@pytest.mark.parametrize("name", ["oracle", "govc"])
def test_the_variables_count_as_they_did(name: str, tmp_path: Path, git: Git, templates: Templates) -> None:
    root = tmp_path / "root"
    root.mkdir()
    start = frontends.start("oracle", root, tmp_path, VARIABLES) if name == "oracle" else None
    with start or serve_as_it_was(root, tmp_path, VARIABLES) as running:
        server = Server(running, root, git, templates)
        repo = server.create_repo("empty", exported=False, config={"core.logAllRefUpdates": "always"})
        hook = repo.path / "hooks" / "post-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text('#!/bin/sh\necho "$GIT_COMMITTER_NAME <$GIT_COMMITTER_EMAIL>" >seen\n')
        hook.chmod(0o755)
        git("init", "-q", "-b", "main", "work")
        tip = git.commit_file("work", "file", "content\n")
        git("push", "-q", repo.url, "main", cwd="work")
        # One tenant's main, as the server's GIT_NAMESPACE has it.
        assert repo.refs() == {"refs/namespaces/tenant/refs/heads/main": tip}
        assert git("ls-remote", repo.url, "refs/heads/main").stdout.split() == [tip, "refs/heads/main"]
        reflog = (repo.path / "logs/refs/namespaces/tenant/refs/heads/main").read_text()
        assert "The Server <server@example.org>" in reflog
        assert (repo.path / "seen").read_text() == "The Server <server@example.org>\n"


def test_a_fetch_request_that_is_too_large_for_the_variable_is_refused(
    tmp_path: Path, git: Git, templates: Templates
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    variables = {"GIT_HTTP_EXPORT_ALL": "", "GIT_HTTP_MAX_REQUEST_BUFFER": "16k"}
    with serve_as_it_was(root, tmp_path, variables) as running:
        repo = Server(running, root, git, templates).create_repo(exported=False)
        headers = {"Content-Type": UPLOAD}
        for size, is_refused in ((15 << 10, False), (17 << 10, True)):
            body = b"0000" * (size // 4)
            reply = request(repo.url, "POST", "/git-upload-pack", body=body, headers=headers)
            assert (reply.status, b"ERR limit exceeded: maxRequestBuffer" in reply.body) == (200, is_refused)


def test_the_address_is_the_one_that_a_trusted_proxy_names(tmp_path: Path, git: Git, templates: Templates) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for trusted, address in (("127.0.0.0/8", "192.0.2.7"), ("192.0.2.0/24", "127.0.0.1")):
        variables = {"GIT_HTTP_EXPORT_ALL": "", "GOVC_TRUSTED_PROXIES": trusted}
        with serve_as_it_was(root, tmp_path, variables) as running:
            server = Server(running, root, git, templates)
            repo = server.create_repo("empty", config={"core.logAllRefUpdates": "true"})
            git("init", "-q", "-b", "main", "work")
            git.commit_file("work", "file", f"{trusted}\n")
            header = "http.extraHeader=X-Forwarded-For: 192.0.2.7"
            git("-c", header, "push", "-q", repo.url, "main", cwd="work")
            assert f"anonymous <anonymous@http.{address}>" in (repo.path / "logs/refs/heads/main").read_text()
