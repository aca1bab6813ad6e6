"""`govc doctor` says in one sentence why a repository is not served, and what it says is what the server does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compat import frontends
from compat.gitclient import Git
from compat.rawhttp import request

pytestmark = pytest.mark.xdist_group("doctor")

LISTING = "/info/refs?service=git-upload-pack"
SOMEBODY = 12345  # who doesn't own the repositories


def remove(name: str) -> Callable[[Path], None]:
    def change(repo: Path) -> None:
        path = repo / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(repo: Path) -> None:
        (repo / name).write_text(text)

    return change


def append(name: str, text: str) -> Callable[[Path], None]:
    def change(repo: Path) -> None:
        with (repo / name).open("a") as file:
            file.write(text)

    return change


def replace_by(text: str) -> Callable[[Path], None]:
    def change(repo: Path) -> None:
        shutil.rmtree(repo)
        repo.write_text(text)

    return change


def lead_nowhere(repo: Path) -> None:
    shutil.rmtree(repo)
    repo.symlink_to(repo.parent / "nowhere")


def give_away(repo: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(repo, SOMEBODY, -1)


def truncate_index(repo: Path) -> None:
    (index,) = repo.glob("objects/pack/*.idx")
    index.chmod(0o644)
    index.write_bytes(index.read_bytes()[:100])


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "gone": (shutil.rmtree, "there is nothing of that name in "),
    "not-exported": (remove("git-daemon-export-ok"), "not exported"),
    "no-head": (remove("HEAD"), "HEAD is missing"),
    "bad-head": (write("HEAD", "main\n"), "holds neither 'ref: refs/...' nor an object id"),
    "no-objects": (remove("objects"), "objects is missing"),
    "no-refs": (remove("refs"), "refs is missing"),
    "a-file": (replace_by("hello\n"), "invalid gitfile format"),
    "a-lost-file": (replace_by("gitdir: /nowhere/at/all\n"), "not a git repository: /nowhere/at/all"),
    "a-link": (lead_nowhere, "a symbolic link that leads nowhere"),
    "owner": (give_away, "dubious ownership"),
    "bad-config": (append("config", "[core\n"), "bad config line"),
    "new-format": (write("config", "[core]\n\trepositoryformatversion = 9\n\tbare = true\n"), "version <= 1, found 9"),
    "extension": (
        write("config", "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tmagic = true\n"),
        "unknown repository extension found: magic",
    ),
    "bad-boolean": (append("config", "[http]\n\tuploadpack = perhaps\n"), "perhaps"),
    "bad-packed-refs": (write("packed-refs", "nonsense\n"), "packed-refs"),
    "bad-alternates": (write("objects/info/alternates", "/nowhere\n"), ""),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[frontends.Running, Path]]:
    root = tmp_path_factory.mktemp("root")
    folder = tmp_path_factory.mktemp("scratch")
    git = Git(folder / "git-home", folder)
    git("init", "-q", "-b", "main", "work")
    git.commit_file("work", "file", "content\n")
    git("clone", "-q", "--bare", "work", root / "good.git")
    git("repack", "-adq", cwd=root / "good.git")
    (root / "good.git" / "git-daemon-export-ok").touch()
    with frontends.start("gunicorn", root, folder) as running:
        yield running, root


def doctor(root: Path, path: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "govc.cli", "doctor", str(path)],
        cwd=frontends.PROJECT,
        env=frontends.server_environment(root.parent / "doctor-home", {"GOVC_ROOT": str(root)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", CASES)
def test_it_says_what_the_server_does_and_why(served: tuple[frontends.Running, Path], name: str) -> None:
    running, root = served
    repo = root / f"{name}.git"
    shutil.copytree(root / "good.git", repo)
    change, words = CASES[name]
    change(repo)
    status = request(running.url, "GET", f"/{repo.name}{LISTING}").status
    code, said = doctor(root, repo)
    first = said.splitlines()[0]
    if status == 200:
        assert (code, first) == (0, f"Served: {repo}."), said
        assert words == ""
    else:
        assert code == 1
        assert words and words in first
        assert first.startswith("Not served: ") and first.endswith(f" Clients see HTTP status {status}.")
        assert "Traceback" not in said


def test_a_repository_that_no_url_leads_to(served: tuple[frontends.Running, Path], tmp_path: Path) -> None:
    _, root = served
    shutil.copytree(root / "good.git", tmp_path / "outside.git")
    assert f"No URL leads to it: it lies outside of {root}" in doctor(root, tmp_path / "outside.git")[1]
    assert "No URL" not in doctor(root, root / "good.git")[1]


def test_what_is_served_is_said_with_who_may_do_what(served: tuple[frontends.Running, Path]) -> None:
    code, said = doctor(served[1], served[1] / "good")
    assert code == 0
    assert "Anyone may fetch." in said and "Anyone may not push." in said
