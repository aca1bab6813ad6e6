"""What docs/operations.md promises: backups, versions, read-only mounts, shared groups, repositories that move.

The commands of the backup are taken from the page itself. More of these promises are shown where their subject is
tested: tests/repo/test_watching_folder.py (deleted, renamed, replaced), tests/repo/test_recovery.py (copies),
compat/test_configuration_disk.py (core.sharedRepository, beside git).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compat import frontends
from compat.conftest import Repo, Server, agree, remove_served
from compat.gitclient import Git
from compat.rawhttp import request
from tests.waiting import wait_until

Templates = Callable[[str, str], Path]

pytestmark = pytest.mark.xdist_group("operations")

BACKUP_TRIES = 20
"""A pack that is merged away while it is copied makes tar fail, as the page says: then once more."""

LISTING = "/info/refs?service=git-upload-pack"


def govc(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command of ours, as an admin gives it."""
    return subprocess.run(
        [sys.executable, "-m", "govc.cli", *map(str, arguments)],
        cwd=frontends.PROJECT,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=check,
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[frontends.Running, Path]]:
    """One gunicorn for what needs no other."""
    root = tmp_path_factory.mktemp("root")
    with frontends.start("gunicorn", root, tmp_path_factory.mktemp("scratch")) as running:
        yield running, root


@pytest.fixture
def server(here: tuple[frontends.Running, Path], git: Git, templates: Templates) -> Server:
    """A fresh view of it."""
    return Server(*here, git, templates)


def clone(git: Git, repo: Repo, into: str = "clone") -> Path:
    git("clone", "-q", repo.url, into)
    return git.cwd / into


def push(git: Git, repo: Repo, where: str = "clone", name: str = "file") -> str:
    """Commit and push; the new tip."""
    tip = git.commit_file(where, name, f"{os.urandom(8).hex()}\n")
    git("push", "-q", repo.url, "main", cwd=where)
    assert tip == repo.rev("main")
    return tip


def backup_script() -> str:
    text = (frontends.PROJECT / "docs" / "operations.md").read_text()
    found = re.search(r"^```bash\n(# Backup.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def back_up(repo: Path, target: Path) -> None:
    """The page's own commands."""
    for _ in range(BACKUP_TRIES):
        done = subprocess.run(
            ["bash", "-c", backup_script()],
            env={"PATH": os.environ["PATH"], "FROM": str(repo), "TO": str(target)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
    raise AssertionError(done.stderr)


@pytest.mark.parametrize("backend", ["files", "packed"])
def test_a_copy_made_while_pushes_run_is_whole(server: Server, git: Git, backend: str) -> None:
    repo = server.create_repo()
    clone(git, repo)
    ended, failures, pushed = threading.Event(), [], []

    def keep_pushing() -> None:
        try:
            while not ended.is_set():
                tip = git.commit_file("clone", "file", f"{len(pushed)}\n")
                git("push", "-q", repo.url, "main", f"main:refs/heads/b{len(pushed)}", cwd="clone")
                pushed.append(tip)
                if backend == "packed":
                    repo.run("pack-refs", "--all")
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=keep_pushing)
    thread.start()
    try:
        for n in range(4):
            known = list(pushed)
            target = server.root / f"copy-{backend}-{n}.git"
            back_up(repo.path, target)
            git.fsck(target)
            copy = server.adopt(target)
            # What was acknowledged before the backup began is in it.
            assert set(known) <= set(git("rev-list", "--all", cwd=target).stdout.split())
            assert len(known) <= len([name for name in copy.refs() if name.startswith("refs/heads/b")])
            assert not (target / "govc").exists()
            git("clone", "-q", copy.url, f"restored{n}")
    finally:
        ended.set()
        thread.join()
    assert failures == []
    assert pushed
    tip = git.commit_file("restored3", "after", "x\n")
    git("push", "-q", copy.url, "main", cwd="restored3")
    assert tip == copy.rev("main")


@pytest.mark.parametrize("way", ["--adopt", "--discard"])
def test_a_copy_with_its_log_is_served_and_takes_pushes_when_told_how(server: Server, git: Git, way: str) -> None:
    repo = server.create_repo()
    clone(git, repo)
    tip = push(git, repo)
    copy = server.fork(repo)
    assert (copy.path / "govc" / "log").exists()
    agree(git, clone(git, copy, "copied"), copy)
    git.commit_file("copied", "more", "x\n")
    assert "[remote rejected]" in git.fails("push", "origin", "main", cwd="copied")
    assert tip == copy.rev("main")
    govc("recover", way, copy.path)
    assert tip == copy.rev("main")
    push(git, copy, "copied")
    git.fsck(copy.path)
    # The one that was copied goes on as before.
    push(git, repo)


def test_a_repository_restored_over_itself_under_a_running_server(server: Server, git: Git, tmp_path: Path) -> None:
    repo = server.create_repo()
    clone(git, repo)
    old = push(git, repo)
    back_up(repo.path, tmp_path / "backup.git")
    push(git, repo)
    # As the page says: beside it, then renamed into place.
    shutil.copytree(tmp_path / "backup.git", repo.path.with_suffix(".restored"), symlinks=True)
    repo.path.rename(repo.path.with_suffix(".old"))
    repo.path.with_suffix(".restored").rename(repo.path)
    for n in range(4):  # Both workers.
        assert old == git("ls-remote", repo.url, "refs/heads/main").stdout.split()[0], n
    git("clone", "-q", repo.url, "after")
    push(git, repo, "after")
    git.fsck(repo.path)
    remove_served(repo.path.with_suffix(".old"))


def test_a_deleted_repository_is_gone_and_a_new_one_of_its_name_is_another(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    push(git, repo)
    remove_served(repo.path)
    for _ in range(4):
        assert request(repo.url, "GET", LISTING).status == 404
    new = server.create_repo("empty", name=repo.path.name)
    assert git("ls-remote", new.url).stdout == ""
    push(git, new)


def test_a_renamed_repository_keeps_its_log(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    push(git, repo)
    new = repo.path.with_name("renamed-" + repo.path.name)
    repo.path.rename(new)
    assert request(repo.url, "GET", LISTING).status == 404
    push(git, server.adopt(new))
    govc("log", "verify", new)


@contextlib.contextmanager
def mounted_read_only(folder: Path) -> Iterator[None]:
    """A folder as a read-only mount of itself."""
    done = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        # A helper of the server may outlive it for a moment.
        wait_until(lambda: subprocess.run(["umount", folder], check=False).returncode == 0, "it is unmounted")


def test_a_read_only_mount_is_served(tmp_path: Path, git: Git, templates: Templates) -> None:
    root = tmp_path / "root"
    root.mkdir()
    repo = Server(frontends.Running("", ""), root, git, templates).create_repo("merges")
    with mounted_read_only(root), frontends.start("gunicorn", root, tmp_path) as running:
        there = Server(running, root, git, templates).adopt(repo.path)
        clone(git, there)
        agree(git, "clone", there)
        git.commit_file("clone", "file", "x\n")
        words = git.fails("push", "origin", "main", cwd="clone")
        assert "remote" in words
        assert "Traceback" not in words
        git("fetch", "-q", cwd="clone")
        assert request(there.url, "GET", LISTING).status == 200
    assert not (repo.path / "govc").exists()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def check_modes(own: Path, shared: Path, mask: int) -> None:
    """What a push made in a repository of one user, and in one of a group."""
    assert mode(own / "refs/heads/deep/new") == 0o666 & ~mask
    assert mode(own / "refs/heads/deep") & 0o777 == 0o777 & ~mask
    assert mode(own / "govc") & 0o777 == 0o700
    assert mode(shared / "refs/heads/deep/new") & 0o060 == 0o060
    assert mode(shared / "refs/heads/deep") & 0o2070 == 0o2070
    assert mode(shared / "govc") & 0o070 == 0o070
    for file in (shared / "govc" / "log").iterdir():
        assert mode(file) & 0o060 == 0o060
    packs = list(shared.glob("objects/pack/*.pack"))
    assert packs
    assert {mode(pack) & 0o040 for pack in packs} == {0o040}


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_the_umask_and_shared_repositories(tmp_path: Path, git: Git, templates: Templates, mask: int) -> None:
    root = tmp_path / "root"
    root.mkdir()
    before = os.umask(mask)
    try:
        with frontends.start("gunicorn", root, tmp_path) as running:
            server = Server(running, root, git, templates)
            own = server.create_repo("empty")
            shared = server.create_repo("empty", config={"core.sharedRepository": "group"})
            git("clone", "-q", own.url, "clone")
            for repo in own, shared:
                git.commit_file("clone", "file", f"{repo.path}\n")
                git("push", "-q", repo.url, "main:refs/heads/deep/new", cwd="clone")
            check_modes(own.path, shared.path, mask)
    finally:
        os.umask(before)


GROUP, OTHER_USER = 54321, 12345


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_another_user_of_the_group_goes_on_with_plain_git_and_the_server_after_him(git: Git) -> None:
    """What the server wrote is the group's to change, and what somebody of the group wrote is the server's."""
    place = Path(tempfile.mkdtemp(prefix="group-"))
    try:
        place.chmod(0o755)
        root, home = place / "root", place / "home"
        root.mkdir()
        home.mkdir()
        os.chown(home, OTHER_USER, GROUP)
        (home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n[user]\n\tname = o\n\temail = o@x\n")
        git("init", "-q", "--bare", "--shared=group", "-b", "main", root / "a.git")
        for folder, _, files in os.walk(root / "a.git"):
            os.chown(folder, 0, GROUP)
            os.chmod(folder, 0o2775)
            for name in files:
                os.chown(f"{folder}/{name}", 0, GROUP)
        git("config", "http.receivepack", "true", cwd=root / "a.git")
        (root / "a.git" / "git-daemon-export-ok").touch()

        def other(*words: str, cwd: Path) -> str:
            """git as somebody else of the group."""
            command = ["git", *words]
            env = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
            done = subprocess.run(
                command,
                cwd=cwd,
                env=env,
                user=OTHER_USER,
                group=GROUP,
                extra_groups=[],
                umask=0o022,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        before = os.umask(0o077)  # the server's own mask must not matter
        try:
            with frontends.start("gunicorn", root, place) as running:
                os.umask(0o022)
                url = f"{running.url}/a.git"
                git("init", "-q", "-b", "main", "work")
                for n in range(3):
                    git.commit_file("work", "file", f"{n}\n")
                    git("push", "-q", url, f"main:refs/heads/deep/{n}", "main", cwd="work")
                # He pushes into folders and onto refs that the server made, repacks its packs and prunes its refs.
                other("clone", "-q", str(root / "a.git"), str(home / "his"), cwd=home)
                other("commit", "-q", "--allow-empty", "-m", "his", cwd=home / "his")
                other(
                    "push",
                    "-q",
                    "origin",
                    "HEAD:main",
                    "HEAD:refs/heads/deep/his",
                    ":refs/heads/deep/0",
                    cwd=home / "his",
                )
                other("gc", "-q", "--prune=now", cwd=root / "a.git")
                his = other("rev-parse", "HEAD", cwd=home / "his")
                # The server goes on where he stopped, and he where it does.
                git("pull", "-q", "--ff-only", url, "main", cwd="work")
                assert his == git.rev("work", "HEAD")
                tip = git.commit_file("work", "file", "again\n")
                git("push", "-q", url, "main", "main:refs/heads/deep/his", ":refs/heads/deep/1", cwd="work")
                other("pull", "-q", "--ff-only", "origin", "main", cwd=home / "his")
                assert tip == other("rev-parse", "HEAD", cwd=home / "his")
            git("-c", "safe.directory=*", "fsck", "--strict", cwd=root / "a.git")
            assert sorted(git.refs(root / "a.git")) == ["refs/heads/deep/2", "refs/heads/deep/his", "refs/heads/main"]
            # After its end the log is his to look after, too.
            other("gc", "-q", cwd=root / "a.git")
        finally:
            os.umask(before)
    finally:
        shutil.rmtree(place)


def test_there_and_back_again(tmp_path: Path, git: Git, templates: Templates) -> None:
    """git-http-backend, govc, git-http-backend, govc: the page "Moving from git-http-backend" and a restart."""
    root = tmp_path / "root"
    root.mkdir()
    path = Server(frontends.Running("", ""), root, git, templates).create_repo().path
    names = set(os.listdir(path)) | {"logs"}
    for n, name in enumerate(["oracle", "gunicorn", "gunicorn", "oracle", "gunicorn"]):
        with frontends.start(name, root, tmp_path) as running:
            repo = Server(running, root, git, templates).adopt(path)
            if n == 0:
                clone(git, repo)
            push(git, repo)
            agree(git, clone(git, repo, f"clone{n}"), repo)
            if name == "gunicorn":
                refused = govc("retire", "--all", root, check=False)
                assert refused.returncode == 1
                assert "stop the server first" in refused.stderr
        if n == 1:  # An upgrade is a restart; a server that was stopped in order has emptied its log.
            assert not (path / "govc" / "log").exists()
            govc("log", "verify", path)
        if n == 2:
            govc("retire", "--all", root)
            assert set(os.listdir(path)) <= names
    git.fsck(path)


def test_a_log_of_a_newer_govc_is_left_alone(server: Server, git: Git) -> None:
    repo = server.create_repo()
    clone(git, repo)
    tip = push(git, repo)
    copy = server.fork(repo)
    segment = next((copy.path / "govc" / "log").iterdir())
    (copy.path / "govc" / "state").unlink()
    data = bytearray(segment.read_bytes())
    data[8:10] = (2).to_bytes(2, "big")
    data[112:144] = hashlib.sha256(data[:112]).digest()
    segment.write_bytes(data)
    saved = {file: file.read_bytes() for file in (copy.path / "govc" / "log").iterdir()}
    clone(git, copy, "copied")
    git.commit_file("copied", "more", "x\n")
    assert "[remote rejected]" in git.fails("push", "origin", "main", cwd="copied")
    assert tip == copy.rev("main")
    assert saved == {file: file.read_bytes() for file in (copy.path / "govc" / "log").iterdir()}
    done = govc("recover", "--adopt", copy.path, check=False)
    assert done.returncode == 1
    assert "of a newer govc: upgrade, or go back with that version" in done.stderr
