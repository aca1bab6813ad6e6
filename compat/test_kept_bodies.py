"""Bodies outlive a server: what one sent before it was stopped, the next one over the same cache sends at once."""

import os
import re
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from compat.frontends import Running, server_environment, start_gunicorn, start_nginx
from compat.gitclient import Git

START: dict[str, Callable[[Path, dict[str, str], Path], AbstractContextManager[Running]]] = {
    "gunicorn": start_gunicorn,
    "nginx": start_nginx,
    "nginx over TCP": partial(start_nginx, over_tcp=True),
}


def counts(server: Running) -> dict[str, float]:
    """How often the cache of bodies did what, in all workers."""
    with urllib.request.urlopen(f"{server.url}/-/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r'^govc_body_cache_total\{result="(\w+)"\} (\S+)', text, re.MULTILINE)
    return {name: float(number) for name, number in found if float(number)}


def make_repository(place: Path) -> tuple[Git, Path, Path]:
    """A client, root/a.git with one large file, and the work tree that it was pushed from: clients/work."""
    for folder in ("root", "scratch", "clients"):
        (place / folder).mkdir()
    git = Git(place / "home", place / "clients")
    bare, work = place / "root" / "a.git", place / "clients" / "work"
    git("init", "-q", "--bare", "-b", "main", str(bare))
    (bare / "git-daemon-export-ok").touch()
    git("init", "-q", "-b", "main", str(work))
    (work / "large").write_bytes(os.urandom(1 << 20))
    git("add", ".", cwd=work)
    git("commit", "-qm", "large", cwd=work)
    git("push", "-q", str(bare), "main", cwd=work)
    return git, bare, work


@pytest.mark.parametrize("name", START)
def test_the_first_clone_after_a_restart_is_a_kept_body(name: str, tmp_path: Path) -> None:
    git, _bare, _work = make_repository(tmp_path)
    env = server_environment(tmp_path / "server-home", {"GOVC_CACHE_DIR": str(tmp_path / "cache")})
    with START[name](tmp_path / "root", env, tmp_path / "scratch") as server:
        git("clone", "-q", f"{server.url}/a.git", str(tmp_path / "clients" / "before"))
        assert counts(server) == {"miss": 1}
    with START[name](tmp_path / "root", env, tmp_path / "scratch") as server:
        git("clone", "-q", f"{server.url}/a.git", str(tmp_path / "clients" / "after"))
        assert counts(server) == {"hit": 1}
    git("fsck", "--full", "--strict", cwd=tmp_path / "clients" / "after")
    tips = [git.rev(tmp_path / "clients" / clone, "HEAD") for clone in ("work", "before", "after")]
    assert len(set(tips)) == 1


def test_a_repaired_pack_is_cloned_whole(tmp_path: Path) -> None:
    """Nothing is kept of the damaged one: git's client is told, and the first clone after the repair is good."""
    git, bare, work = make_repository(tmp_path)
    git("repack", "-adq", cwd=bare)
    (path,) = bare.glob("objects/pack/*.pack")
    good = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(good[:500_000] + bytes(64) + good[500_064:])
    env = server_environment(tmp_path / "server-home", {"GOVC_CACHE_DIR": str(tmp_path / "cache")})
    with START["gunicorn"](tmp_path / "root", env, tmp_path / "scratch") as server:
        for _ in range(2):
            words = git.fails("clone", "-q", f"{server.url}/a.git", "damaged")
            assert "aborting due to possible repository corruption on the remote side" in words
        spare = path.with_suffix(".new")
        spare.write_bytes(good)
        spare.rename(path)
        for name in ("first", "second"):
            git("clone", "-q", f"{server.url}/a.git", name)
            git("fsck", "--full", "--strict", cwd=tmp_path / "clients" / name)
        (work / "small").write_bytes(b"more")
        git("add", ".", cwd=work)
        git("commit", "-qm", "more", cwd=work)
        git("push", "-q", str(bare), "main", cwd=work)
        git("clone", "-q", f"{server.url}/a.git", "grown")
        git("fsck", "--full", "--strict", cwd=tmp_path / "clients" / "grown")
