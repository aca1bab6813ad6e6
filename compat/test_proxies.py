"""What both proxies must do alike: HTTP/2 over TLS, as their configurations show it, and pushes of more than 1 GiB."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from compat import frontends
from compat.conftest import Server, agree, program_or_skip
from compat.gitclient import Git

pytestmark = pytest.mark.xdist_group("proxies")

Templates = Callable[[str, str], Path]

PROXIES = ("nginx", "apache")
NOISE_BYTES = 3 << 20  # of noise, above git's usual http.postBuffer of 1 MiB
LARGE_BYTES = (1 << 30) + (64 << 20)
LARGE_VARIABLE = "GOVC_LARGE_PUSHES"


def take_in_tls(port: int, certificate: Path) -> Callable[[str], str]:
    """The configuration with the "#" taken away from its block about TLS, another port, and our own certificate."""

    def change(text: str) -> str:
        block = re.search(r"^ *# TLS and HTTP/2: .*\n((?: *#.*\n)+)", text, re.MULTILINE)
        assert block is not None
        lines = re.sub(r"^( *)#", r"\1", block[1], flags=re.MULTILINE)
        lines = lines.replace(":8443", f":{port}")
        lines = re.sub(r"/etc/ssl/\w+/govc\.pem", str(certificate), lines)
        return text.replace(block[1], lines)

    return change


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, with its key, that we signed ourselves."""
    folder = tmp_path_factory.mktemp("tls")
    command = [
        program_or_skip("openssl"),
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return both


@contextlib.contextmanager
def start_proxy(
    name: str, root: Path, scratch: Path, change: Callable[[str], str] = str
) -> Iterator[frontends.Running]:
    program_or_skip({"nginx": "nginx", "apache": "apache2"}[name])
    env = frontends.server_environment(scratch / "home", {})
    begin = frontends.start_nginx if name == "nginx" else frontends.start_apache
    with begin(root, env, scratch, change) as running:
        yield running


@pytest.mark.parametrize("name", PROXIES)
def test_http_2_at_the_proxy(name: str, tmp_path: Path, git: Git, templates: Templates, certificate: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    port = frontends.find_free_port()
    with start_proxy(name, root, tmp_path, take_in_tls(port, certificate)) as running:
        server = Server(replace(running, url=f"https://127.0.0.1:{port}"), root, git, templates)
        repo = server.create_repo("linear")
        env = {"GIT_SSL_CAINFO": str(certificate), "GIT_TRACE_CURL_NO_DATA": "1"}

        def run(*words: str, cwd: str | None = None) -> str:
            """git over HTTP/2; what its library says of the connection."""
            trace = git.cwd / "trace"
            trace.unlink(missing_ok=True)
            git("-c", "http.version=HTTP/2", *words, cwd=cwd, env={**env, "GIT_TRACE_CURL": str(trace)})
            said = trace.read_text()
            assert re.search("Recv header: HTTP/2 200", said), said
            assert not re.search(r"Recv header: HTTP/1\.1", said), said
            return said

        # Protocols v0 and v2; a listing, a clone, a fetch that goes on.
        for version in ("0", "2"):
            run("-c", f"protocol.version={version}", "clone", "-q", repo.url, f"clone{version}")
            agree(git, f"clone{version}", repo)
        # A small push, and one whose length nobody knows before.
        tip = git.commit_file("clone2", "a.txt", "a\n")
        run("push", "-q", cwd="clone2")
        assert tip == repo.rev("main")
        (git.cwd / "clone2" / "noise").write_bytes(os.urandom(NOISE_BYTES))
        git("add", "noise", cwd="clone2")
        git("commit", "-q", "-m", "noise", cwd="clone2")
        run("push", "-q", cwd="clone2")
        assert git.rev("clone2", "HEAD") == repo.rev("main")
        run("fetch", "-q", cwd="clone0")
        assert git.rev("clone0", "origin/main") == repo.rev("main")
        # Without a certificate that is known nobody talks.
        assert "certificate" in git.fails("ls-remote", repo.url)
        git.fsck(repo.path)


@pytest.mark.skipif(
    not os.environ.get(LARGE_VARIABLE),
    reason=f"takes minutes and 4 GiB of disk: {LARGE_VARIABLE}=1 runs it; docs/operations.md has the last run",
)
@pytest.mark.parametrize("name", PROXIES)
def test_a_push_of_more_than_a_gibibyte(name: str, tmp_path: Path, git: Git, templates: Templates) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with start_proxy(name, root, tmp_path) as running:
        server = Server(running, root, git, templates)
        repo = server.create_repo("empty")
        git("init", "-q", "-b", "main", "work")
        with (git.cwd / "work" / "large").open("wb") as file:
            file.truncate(LARGE_BYTES)
        # Stored, not compressed: as many bytes on the way as in the file, and no minutes of zlib.
        stored = ("-c", "core.compression=0", "-c", "pack.compression=0", "-c", "core.bigFileThreshold=1m")
        git(*stored, "add", "large", cwd="work")
        git("commit", "-q", "-m", "large", cwd="work")
        git(*stored, "push", "-q", repo.url, "main", cwd="work")
        assert git.rev("work", "HEAD") == repo.rev("main")
        assert repo.run("cat-file", "-s", "main:large") == str(LARGE_BYTES)
        (pack,) = repo.path.glob("objects/pack/*.pack")
        assert pack.stat().st_size > LARGE_BYTES
        git("clone", "-q", "--bare", repo.url, "back.git")
        assert git("cat-file", "-s", "main:large", cwd="back.git").stdout.strip() == str(LARGE_BYTES)
