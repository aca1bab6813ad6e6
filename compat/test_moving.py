"""docs/moving.md: its four configurations, as they stand on the page, over one repository: there and back again."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compat import frontends
from compat.conftest import Repo, Server, agree, program_or_skip
from compat.gitclient import Git

pytestmark = pytest.mark.xdist_group("moving")

NGINX = """
daemon off; pid nginx.pid; error_log error.log; %s
events {}
http {
    access_log off;
    client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    server { listen 127.0.0.1:%d; %s }
}
"""
APACHE_MODULES = ("mpm_event", "authz_core", "env", "alias", "cgid", "headers", "proxy", "proxy_http")


def blocks(language: str) -> list[str]:
    """Before and after."""
    text = (frontends.PROJECT / "docs" / "moving.md").read_text()
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(found) == 2
    return found


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that Apache's user may enter, with the repositories in `root`."""
    folder = Path(tempfile.mkdtemp(prefix="moving-"))
    folder.chmod(0o755)
    (folder / "root").mkdir()
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def run_fcgiwrap(place: Path, env: dict[str, str]) -> Iterator[None]:
    socket = place / "fcgiwrap.socket"
    with frontends.run_logged(
        [program_or_skip("fcgiwrap"), "-s", f"unix:{socket}"], env, place / "fcgiwrap.log"
    ) as process:
        deadline = time.monotonic() + frontends.START_SECONDS
        while not socket.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        yield
    socket.unlink(missing_ok=True)


def command_for(kind: str, block: str, place: Path, port: int) -> list[str]:
    """Write a configuration of the page's block and what has to be around it; the command that runs it."""
    configuration = place / f"{kind}.conf"
    if kind == "nginx":
        configuration.write_text(NGINX % ("user root;" if os.getuid() == 0 else "", port, block))
        return [program_or_skip("nginx"), "-p", str(place), "-c", str(configuration), "-e", str(place / "error.log")]
    lines = [f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in APACHE_MODULES]
    lines += [f"Listen 127.0.0.1:{port}", "ServerName localhost", "User www-data", "Group www-data"]
    lines += ["PidFile apache.pid", "DefaultRuntimeDir .", "ScriptSock cgid.sock", "ErrorLog error.log", block]
    configuration.write_text("\n".join(lines))
    return [program_or_skip("apache2"), "-d", str(place), "-f", str(configuration), "-D", "FOREGROUND"]


@contextlib.contextmanager
def serve(kind: str, block: str, place: Path, env: dict[str, str]) -> Iterator[str]:
    """The URL of the folder behind a block of the page, with what the block wants behind it."""
    port = frontends.find_free_port()
    with contextlib.ExitStack() as stack:
        if ":8000" in block:
            govc = stack.enter_context(frontends.start_gunicorn(place / "root", env, place))
            block = block.replace("127.0.0.1:8000", govc.url.removeprefix("http://"))
        elif kind == "nginx":
            stack.enter_context(run_fcgiwrap(place, env))
        block = block.replace("/srv/git", f"{place}/root").replace("/run/fcgiwrap.socket", f"{place}/fcgiwrap.socket")
        command = command_for(kind, block, place, port)
        process = stack.enter_context(frontends.run_logged(command, env, place / f"{kind}.log"))
        frontends.wait_for_answer(port, process, place / f"{kind}.log")
        yield f"http://127.0.0.1:{port}/git"


@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_there_and_back(kind: str, place: Path, git: Git, templates: Callable[[str, str], Path]) -> None:
    before, after = blocks(kind)
    root = place / "root"
    path = Server(frontends.Running("", ""), root, git, templates).create_repo(exported=False).path
    Repo(path, "", git).config("core.sharedRepository", "group")
    if os.getuid() == 0:  # Apache becomes www-data.
        subprocess.run(["chown", "-R", "www-data:www-data", root], check=True)
        subprocess.run(["chmod", "-R", "g+rwX", root], check=True)
        subprocess.run(["find", root, "-type", "d", "-exec", "chmod", "g+s", "{}", "+"], check=True)
    names = set(os.listdir(path)) | {"logs"}
    env = frontends.server_environment(place / "home", {"GIT_HTTP_EXPORT_ALL": ""})
    (place / "home" / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    for n, block in enumerate((before, after, before)):
        with serve(kind, block, place, env) as url:
            repo = Repo(path, f"{url}/{path.name}", git)
            git("clone", "-q", repo.url, f"clone{n}")
            agree(git, f"clone{n}", repo)
            (git.cwd / f"clone{n}" / "noise").write_bytes(os.urandom(2 << 20))  # above http.postBuffer
            git("add", "noise", cwd=f"clone{n}")
            tip = git.commit_file(f"clone{n}", "file", f"{n}\n")
            git("push", "-q", cwd=f"clone{n}")
            assert tip == repo.rev("main")
        if block is after:
            assert (path / "govc").exists()
            subprocess.run(
                [sys.executable, "-m", "govc.cli", "retire", "--all", str(root)],
                cwd=frontends.PROJECT,
                env=env,
                check=True,
            )
            assert set(os.listdir(path)) <= names
    git.fsck(path)
