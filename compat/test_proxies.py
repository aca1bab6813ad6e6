"""What both proxies must do alike, with their files as they are shipped: TLS, with HTTP/2 or without, as these say, and
pushes of more than 1 GiB.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from compat import frontends
from compat.conftest import Server, agree, program_or_skip
from compat.gitclient import Git

pytestmark = pytest.mark.xdist_group("proxies")

Templates = Callable[[str, str], Path]

PROXIES = ("nginx", "apache")
NOISE_BYTES = 3 << 20  # of noise, above git's usual http.postBuffer of 1 MiB
PUSH_SECONDS = 60
LARGE_BYTES = (1 << 30) + (64 << 20)
LARGE_VARIABLE = "GOVC_LARGE_PUSHES"


HTTP_2 = {
    "nginx": lambda text: text.replace(" ssl;", " ssl http2;"),
    "apache": lambda text: text.replace(
        "LoadModule ssl_module",
        "LoadModule http2_module /usr/lib/apache2/modules/mod_http2.so\nProtocols h2 http/1.1\nLoadModule ssl_module",
    ),
}
"""HTTP/2, as a comment in each configuration says."""


def take_in_tls(port: int, certificate: Path) -> Callable[[str], str]:
    """The configuration with the "#" taken away from its block about TLS, another port, and our own certificate."""

    def change(text: str) -> str:
        block = re.search(r"^ *# TLS: take the .*\n((?: *# .*\n)*)((?: *#(?! ).*\n|# {4}.*\n)+)", text, re.MULTILINE)
        assert block is not None
        lines = re.sub(r"^( *)#", r"\1", block[2], flags=re.MULTILINE)
        lines = lines.replace(":8443", f":{port}")
        lines = re.sub(r"/etc/ssl/\w+/govc\.pem", str(certificate), lines)
        return text.replace(block[2], lines)

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
    # nginx over TCP, as its file is shipped; all other tests of it take in the file's line for a Unix socket.
    begin = partial(frontends.start_nginx, over_tcp=True) if name == "nginx" else frontends.start_apache
    with begin(root, env, scratch, change) as running:
        yield running


def _waits_in_a_pipe(process: psutil.Process) -> bool:
    return "pipe_read" in Path(f"/proc/{process.pid}/wchan").read_text()


def waits_for_itself(git_process: psutil.Process) -> bool:
    """Whether a push stands still in the client: git-remote-https reads from its own send-pack, which reads, too.

    Whoever waits for a server is in poll(); whoever waits for a pack has a child that makes it.
    """
    remotes = [child for child in git_process.children(recursive=True) if child.name().startswith("git-remote-http")]
    for remote in remotes:
        senders = remote.children()
        if senders and not any(sender.children() for sender in senders):
            return all(map(_waits_in_a_pipe, (remote, *senders)))
    return False


def libcurl_asks_again() -> bool:
    """Whether git's libcurl is one that asks for more behind the end of a body over HTTP/2."""
    try:
        library = ctypes.CDLL("libcurl-gnutls.so.4")
    except OSError:
        return False
    library.curl_version.restype = ctypes.c_char_p
    found = re.match(rb"libcurl\S*?/(\d+)\.(\d+)", library.curl_version())
    return found is not None and (7, 84) <= (int(found[1]), int(found[2])) <= (8, 4)


def push_in_time(git: Git, *words: str, cwd: str, env: dict[str, str], may_wait: bool) -> None:
    """A push that says why when it stands still. docs/operations.md, "TLS and HTTP/2", tells of the client's reason,
    which is none for others than `may_wait`.
    """
    process = git.start(*words, cwd=cwd, env=env)
    try:
        _, said = process.communicate(timeout=PUSH_SECONDS)
        assert process.returncode == 0, said
    except subprocess.TimeoutExpired:
        parent = psutil.Process(process.pid)
        is_theirs = may_wait and waits_for_itself(parent)
        for one in (*parent.children(recursive=True), parent):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.communicate()
        if is_theirs:
            pytest.xfail("git waits for itself: its libcurl (7.84 to 8.4) asked for more behind the end of the body")
        pytest.fail(f"the push was not over in {PUSH_SECONDS} s, and it isn't git that waits for itself")


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("name", PROXIES)
def test_tls_at_the_proxy(
    name: str, version: str, tmp_path: Path, git: Git, templates: Templates, certificate: Path
) -> None:
    """As the configuration has it git speaks HTTP/1.1 by itself; with HTTP/2 switched on, that."""
    root = tmp_path / "root"
    root.mkdir()
    port = frontends.find_free_port()
    take_in = take_in_tls(port, certificate)

    def change(text: str) -> str:
        return HTTP_2[name](take_in(text)) if version == "HTTP/2" else take_in(text)

    with start_proxy(name, root, tmp_path, change) as running:
        server = Server(replace(running, url=f"https://127.0.0.1:{port}"), root, git, templates)
        repo = server.create_repo("linear")
        trace = git.cwd / "trace"
        env = {"GIT_SSL_CAINFO": str(certificate), "GIT_TRACE_CURL_NO_DATA": "1", "GIT_TRACE_CURL": str(trace)}

        def run(*words: str, cwd: str | None = None, is_chunked: bool = False) -> None:
            """git, and what its library says of the connection."""
            trace.unlink(missing_ok=True)
            if words[0] == "push" and cwd is not None:
                may_wait = is_chunked and version == "HTTP/2" and libcurl_asks_again()
                push_in_time(git, *words, cwd=cwd, env=env, may_wait=may_wait)
            else:
                git(*words, cwd=cwd, env=env)
            said = set(re.findall(r"Recv header: (HTTP/\S+) 200", trace.read_text()))
            assert said == {version}, trace.read_text()

        # Protocols v0 and v2; a listing, a clone, a fetch that goes on.
        for protocol in ("0", "2"):
            run("-c", f"protocol.version={protocol}", "clone", "-q", repo.url, f"clone{protocol}")
            agree(git, f"clone{protocol}", repo)
        # A small push, and one whose length nobody knows before.
        tip = git.commit_file("clone2", "a.txt", "a\n")
        run("push", "-q", cwd="clone2")
        assert tip == repo.rev("main")
        (git.cwd / "clone2" / "noise").write_bytes(os.urandom(NOISE_BYTES))
        git("add", "noise", cwd="clone2")
        git("commit", "-q", "-m", "noise", cwd="clone2")
        run("push", "-q", cwd="clone2", is_chunked=True)
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
