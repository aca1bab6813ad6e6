"""receive.denyCurrentBranch=updateInstead without a hook: the work tree follows the push when it is clean, as with git.

Equal repositories with work trees, one behind git, one behind us; after each push the trees, the indexes (as git lists
them) and the reports must agree, and `git status` must find nothing to say of ours.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from compat.conftest import Repo, Server, remove_served
from compat.gitclient import Git
from compat.pushing import EMPTY_PACK, push_body, report_of
from compat.rawhttp import receive

Change = Callable[[Path, Git], object]
ROWS = pytest.mark.rows("RP-43", "RP-44", "CF-38", "CF-47")

FIXED_TIMES = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
FILES = {
    "plain": "one\n",
    "folder/deep/file": "two\n",
    "folder/other": "three\n",
    "gone/away": "four\n",
    "becomes-folder": "five\n",
    "becomes-file/inside": "six\n",
    "script": "#!/bin/sh\n",
    "to-link": "seven\n",
}


def build(git: Git, place: Path, object_format: str = "sha1") -> tuple[str, str]:
    """A repository with a work tree at its second commit of three; the ids of `main` and of what will be pushed."""
    git("init", "-q", "-b", "main", f"--object-format={object_format}", place)
    for name, text in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (place / "link").symlink_to("plain")
    git("add", ".", cwd=place)
    git("commit", "-q", "-m", "old", cwd=place, env=FIXED_TIMES)
    old = git.rev(place, "HEAD")
    (place / "plain").write_text("ONE\n")
    git("rm", "-q", "gone/away", "becomes-folder", "becomes-file/inside", "to-link", cwd=place)
    (place / "becomes-folder").mkdir()
    (place / "becomes-folder/inside").write_text("five\n")
    (place / "becomes-file").write_text("six\n")
    (place / "to-link").symlink_to("folder/other")
    (place / "script").chmod(0o755)
    (place / "link").unlink()
    (place / "link").write_text("no link any more\n")
    (place / ".gitattributes").write_text("*.crlf text eol=crlf\n")
    (place / "text.crlf").write_bytes(b"a\r\nb\r\n")
    (place / "new/er").mkdir(parents=True)
    (place / "new/er/file").write_text("eight\n")
    git("add", ".", cwd=place)
    git("update-index", "--add", "--cacheinfo", f"160000,{old},module", cwd=place)
    git("commit", "-q", "-m", "new", cwd=place, env=FIXED_TIMES)
    new = git.rev(place, "HEAD")
    git("reset", "-q", "--hard", old, cwd=place)
    (place / ".git/git-daemon-export-ok").touch()
    git("config", "http.receivepack", "true", cwd=place)
    git("config", "receive.denyCurrentBranch", "updateInstead", cwd=place)
    return old, new


def files_of(place: Path) -> dict[str, tuple[str, bytes]]:
    """What lies in a work tree."""
    found = {}
    for folder, names, files in os.walk(place):
        if ".git" in names:
            names.remove(".git")
        for name in [*files, *(n for n in names if os.path.islink(os.path.join(folder, n)))]:
            path = os.path.join(folder, name)
            mode = stat.filemode(os.lstat(path).st_mode)
            content = os.readlink(path).encode() if os.path.islink(path) else Path(path).read_bytes()
            found[os.path.relpath(path, place)] = (mode, content)
    return found


def nothing(_place: Path, _git: Git) -> None:
    """Leave it clean."""


CHANGES: dict[str, Change] = {
    "clean": nothing,
    "touched only": lambda place, _: os.utime(place / "plain", (1, 1)),
    "unstaged": lambda place, _: (place / "folder/other").write_text("mine\n"),
    "removed": lambda place, _: (place / "plain").unlink(),
    "a mode": lambda place, _: (place / "plain").chmod(0o755),
    "staged": lambda place, git: ((place / "folder/other").write_text("mine\n"), git("add", ".", cwd=place)),
    "staged, new": lambda place, git: ((place / "mine").write_text("mine\n"), git("add", "mine", cwd=place)),
    "untracked elsewhere": lambda place, _: (place / "mine").write_text("mine\n"),
    "untracked in the way": lambda place, _: (
        (place / "new/er").mkdir(parents=True),
        (place / "new/er/file").write_text("x"),
    ),
    "untracked above": lambda place, _: (place / "new").write_text("x"),
    "untracked below": lambda place, _: (place / "becomes-file/mine").write_text("x"),
    "a locked index": lambda place, _: (place / ".git/index.lock").touch(),
    "index of version 4": lambda place, git: git("update-index", "--index-version", "4", cwd=place),
    "index of version 3": lambda place, git: git("update-index", "--skip-worktree", "script", cwd=place),
    "skipped and changed": lambda place, git: (
        git("update-index", "--skip-worktree", "plain", cwd=place),
        (place / "plain").write_text("mine\n"),
    ),
    "assumed valid and changed": lambda place, git: (
        git("update-index", "--assume-unchanged", "plain", cwd=place),
        (place / "plain").write_text("mine\n"),
    ),
    "skipped and changed, but not by the push": lambda place, git: (
        git("update-index", "--skip-worktree", "folder/other", cwd=place),
        (place / "folder/other").write_text("mine\n"),
    ),
    "no index": lambda place, _: (place / ".git/index").unlink(),
    "a parent that is a link": lambda place, _: (
        (place / "folder").rename(place / "moved"),
        (place / "folder").symlink_to("moved"),
    ),
}


@ROWS
@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_clean_work_tree_follows_and_another_does_not(server: Server, oracle_url: str, git: Git, name: str) -> None:
    seen = []
    for side, base in (("ours", server.url), ("theirs", oracle_url)):
        place = server.root / f"instead-{side}"
        old, new = build(git, place)
        CHANGES[name](place, git)
        url = f"{base}/{place.name}"
        report = report_of(receive(url, push_body([f"{old} {new} refs/heads/main"], EMPTY_PACK)))
        (place / ".git/index.lock").unlink(missing_ok=True)
        listed = git("ls-files", "-s", cwd=place).stdout
        status = git("status", "--porcelain", cwd=place).stdout
        seen.append((report, files_of(place), listed, status, git.rev(place, "main")))
        git.fsck(place / ".git")
        remove_served(place)
    for ours, theirs in zip(*seen, strict=True):
        assert ours == theirs


@ROWS
def test_a_linked_worktree_of_a_bare_repository_follows(server: Server, git: Git) -> None:
    repo: Repo = server.create_repo(config={"receive.denyCurrentBranch": "updateInstead"})
    tree = server.root / "linked-tree"
    repo.run("worktree", "add", "-q", tree, "main")
    main, older = repo.rev("main"), repo.rev("main~1")
    for old, new in ((main, older), (older, main)):
        report = report_of(receive(repo.url, push_body([f"{old} {new} refs/heads/main"], EMPTY_PACK)))
        assert report == [b"unpack ok", b"ok refs/heads/main"]
        assert git("status", "--porcelain", cwd=tree).stdout == ""
        assert git.rev(tree, "HEAD") == new
    repo.run("worktree", "remove", tree)


@ROWS
def test_an_unborn_branch_and_sha256(server: Server, oracle_url: str, git: Git) -> None:
    for object_format in ("sha1", "sha256"):
        source = git.cwd / f"source-{object_format}"
        _, new = build(git, source, object_format)
        place = server.root / f"unborn-{object_format}"
        git("init", "-q", "-b", "main", f"--object-format={object_format}", place)
        (place / ".git/git-daemon-export-ok").touch()
        for key, value in (("http.receivepack", "true"), ("receive.denyCurrentBranch", "updateInstead")):
            git("config", key, value, cwd=place)
        git("push", "-q", f"{server.url}/{place.name}", f"{new}:refs/heads/main", cwd=source)
        assert git("status", "--porcelain", cwd=place).stdout == ""
        assert (place / "text.crlf").read_bytes() == b"a\r\nb\r\n"
        remove_served(place)


@ROWS
def test_a_filter_is_left_to_a_hook(server: Server, git: Git) -> None:
    place = server.root / "filtered"
    old, _ = build(git, place)
    (place / ".gitattributes").write_text("*.big filter=lfs\n")
    (place / "x.big").write_text("pointer\n")
    git("add", ".", cwd=place)
    git("commit", "-q", "-m", "filtered", cwd=place)
    new = git.rev(place, "HEAD")
    git("reset", "-q", "--hard", old, cwd=place)
    before = files_of(place)
    report = report_of(receive(f"{server.url}/filtered", push_body([f"{old} {new} refs/heads/main"], EMPTY_PACK)))
    assert report == [b"unpack ok", b"ng refs/heads/main Could not update working tree to new HEAD"]
    assert files_of(place) == before and git.rev(place, "main") == old
    remove_served(place)
