"""`create_on_push` with the real git: off unless asked for, made by those who may, by two at once, and nowhere else."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compat import frontends
from compat.gitclient import Git
from compat.rawhttp import RECEIVE, request

pytestmark = pytest.mark.xdist_group("create-on-push")

RULES = """
[groups]
team = ["ann"]

[[rule]]
repositories = ["team/**"]
write = ["@team"]
read = ["@users"]

[[rule]]
repositories = ["open/**"]
write = ["@users"]
"""
DISCOVERY = "/info/refs?service=git-receive-pack"


@dataclass
class World:
    running: frontends.Running
    root: Path
    folder: Path

    def git(self, name: str = "work") -> Git:
        folder = self.folder / name
        git = Git(folder / "home", folder)
        if not (folder / "work").exists():
            git("init", "-q", "-b", "main", "work")
            git.commit_file("work", "file", f"{name}\n")
        return git

    def push(self, git: Git, path: str, user: str | None, *arguments: str) -> str:
        """Push main; what git says when it fails, "" when it doesn't."""
        header = ("-c", f"http.extraHeader=X-Remote-User: {user}") if user else ()
        done = git(*header, "push", "-q", *arguments, self.running.url + path, "main", cwd="work", check=False)
        return done.stderr if done.code else ""


def serve(folder: Path, **settings: str) -> Iterator[World]:
    root = folder / "root"
    root.mkdir()
    (folder / "outside").mkdir()
    (root / "elsewhere").symlink_to(folder / "outside")
    with frontends.start("gunicorn", root, folder, settings) as running:
        yield World(running, root, folder)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield from serve(tmp_path, GOVC_CREATE_ON_PUSH="true", GOVC_AUDIT_FILE=str(tmp_path / "audit"))


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "p.toml").write_text(RULES)
    yield from serve(tmp_path, GOVC_CREATE_ON_PUSH="true", GOVC_PERMISSION_FILE=str(tmp_path / "p.toml"))


def made(world: World) -> list[str]:
    return sorted(str(path.parent.relative_to(world.root)) for path in world.root.rglob("HEAD"))


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    for world in serve(tmp_path):
        assert "not found" in world.push(world.git(), "/new.git", "ann")
        assert made(world) == []


def test_a_push_by_somebody_makes_it_and_one_by_nobody_does_not(world: World) -> None:
    git = world.git()
    assert "403" in world.push(git, "/new.git", None)
    assert made(world) == []
    assert world.push(git, "/new.git", "ann") == ""
    assert world.push(git, "/team/deep/app", "ann") == ""
    assert made(world) == ["new.git", "team/deep/app.git"]
    # It is an ordinary one from then on, for whoever serves it.
    git("clone", "-q", f"{world.running.url}/team/deep/app.git", "clone")
    assert git.rev("clone", "HEAD") == git.rev("work", "HEAD")
    git.fsck(world.root / "team/deep/app.git")
    git.commit_file("work", "file", "more\n")
    assert world.push(git, "/new.git", "ann") == ""
    events = [json.loads(line) for line in (world.folder / "audit").read_text().splitlines()]
    created = [(event["user"], Path(event["repository"]).name) for event in events if event["event"] == "created"]
    assert created == [("ann", "new.git"), ("ann", "app.git")]


def test_asking_makes_nothing(world: World) -> None:
    git = world.git()
    user = {"X-Remote-User": "ann"}
    assert world.push(git, "/new.git", "ann", "--dry-run") == ""
    assert request(world.running.url, "GET", f"/new.git{DISCOVERY}", headers=user).status == 200
    # A fetch doesn't know of it.
    assert request(world.running.url, "GET", "/new.git/info/refs?service=git-upload-pack", headers=user).status == 404
    assert request(world.running.url, "GET", "/new.git/HEAD", headers=user).status == 404
    assert made(world) == []


TRICKS = (
    *("/elsewhere/x.git", "/.hidden.git", "/x/.git", "/-/x.git", "/%2e%2e/x.git", "/a%00b.git", "/a%5cb.git"),
    *("/new.git/in.git", "/../x.git", "//x.git", "/a/./x.git", "/a%0ab.git", "/elsewhere", "/new.git.git"),
)


def test_tricks_make_nothing(world: World) -> None:
    assert world.push(world.git(), "/new.git", "ann") == ""
    for path in TRICKS:
        for method, tail, headers in (("GET", DISCOVERY, {}), ("POST", "/git-receive-pack", {"Content-Type": RECEIVE})):
            headers = {"X-Remote-User": "ann", **headers}
            answer = request(world.running.url, method, path + tail, body=b"0000", headers=headers)
            assert answer.status in (400, 404, 500), path
    assert made(world) == ["new.git"]
    assert os.listdir(world.folder / "outside") == []
    assert sorted(os.listdir(world.root)) == ["elsewhere", "new.git"]


def test_the_permission_file_says_who(ruled: World) -> None:
    git = ruled.git()
    assert ruled.push(git, "/team/app.git", "ann") == ""
    # bob may read there, and sees that by 403; of other names he learns nothing.
    assert "403" in ruled.push(git, "/team/other.git", "bob")
    assert "not found" in ruled.push(git, "/else/other.git", "bob")
    assert "not found" in ruled.push(git, "/else/other.git", "ann")
    assert ruled.push(git, "/open/app.git", "bob") == ""
    assert made(ruled) == ["open/app.git", "team/app.git"]
    # Another name for the same place asks for the same right.
    assert "403" in ruled.push(git, "/team/other", "bob")


def test_two_workers_make_one(world: World) -> None:
    gits = [world.git(f"client{number}") for number in range(6)]
    said: list[str] = []

    def push(number: int) -> None:
        git = gits[number]
        header = "http.extraHeader=X-Remote-User: ann"
        url = f"{world.running.url}/crowd/new.git"
        done = git("-c", header, "push", "-q", url, f"main:refs/heads/b{number}", cwd="work", check=False)
        said.append(done.stderr if done.code else "")

    threads = [threading.Thread(target=push, args=(number,)) for number in range(len(gits))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [""] * len(gits)
    assert made(world) == ["crowd/new.git"]
    refs = gits[0].refs(world.root / "crowd/new.git")
    assert {f"refs/heads/b{n}": git.rev("work", "HEAD") for n, git in enumerate(gits)} == refs
    assert os.listdir(world.root / "crowd") == ["new.git"]


def test_what_cannot_be_made_is_said_and_leaves_nothing(world: World, tmp_path: Path) -> None:
    git = world.git()
    (world.root / "team").write_text("no folder\n")
    assert "not found" in world.push(git, "/team/app.git", "ann")
    assert made(world) == []
    assert world.running.log is not None
    assert "Traceback" not in world.running.log.read_text()
