"""Old and new clients against `govc serve`: `python -m compat.clients --dulwich 0.19.16 --git PATH ...`

Each client clones, clones shallowly, fetches, pushes and deletes a branch; what came of it is judged with git, from
outside. A client that fails is tried against git http-backend, too: what fails there as well is its own matter. The
table goes to compat/CLIENTS.md.

    --git PROGRAM       a git of any release, by the path of its program
    --dulwich VERSION   pip installs it into a folder of its own
    --pygit2 VERSION    the same; the wheel brings its libgit2
    --isomorphic VERSION   the same with npm
    --jgit CLASSPATH    JGit's jar and those that it needs
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compat import frontends
from compat.gitclient import Git, client_environment
from compat.repos import BUILDERS

OUTCOME_FILE = Path(__file__).with_name("CLIENTS.md")
DRIVERS = Path(__file__).with_name("drivers")
ACTIONS = ("clone", "shallow", "fetch", "push", "delete")
STEP_SECONDS_MAX = 180


@dataclass
class Client:
    """One release of one client: `command` is what stands before ACTION URL FOLDER."""

    name: str
    version: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)

    def run(self, home: Path, action: str, url: str, folder: Path) -> str:
        """Do one thing; "" or why not."""
        env = client_environment(home) | self.env
        words = [*self.command, action, url, str(folder)]
        try:
            done = subprocess.run(words, env=env, cwd=home, capture_output=True, timeout=STEP_SECONDS_MAX, check=False)
        except subprocess.TimeoutExpired:
            return "no end"
        if done.returncode == 0:
            return ""
        lines = (done.stderr + done.stdout).decode(errors="replace").strip().splitlines()
        told = [line for line in lines if re.search("rror|fatal|xception", line)] or lines or ["no word"]
        return told[-1].strip()


class GitClient(Client):
    """git itself, driven by its commands."""

    def run(self, home: Path, action: str, url: str, folder: Path) -> str:
        """Do one thing; "" or why not."""
        steps = {
            "clone": [["clone", url, str(folder)]],
            "shallow": [["clone", "--depth", "2", url, str(folder)]],
            "fetch": [["fetch", "origin"]],
            "push": [["commit", "-q", "--allow-empty", "-m", "x"], ["push", "origin", "main"]],
            "delete": [["push", "origin", ":topic"]],
        }[action]
        for arguments in steps:
            env = client_environment(home) | self.env
            where = folder if folder.exists() else home
            done = subprocess.run(
                [*self.command, *arguments],
                env=env,
                cwd=where,
                capture_output=True,
                timeout=STEP_SECONDS_MAX,
                check=False,
            )
            if done.returncode != 0:
                lines = done.stderr.decode(errors="replace").strip().splitlines()
                return lines[-1].strip() if lines else "no word"
        return ""


# Getting clients


def find_git(program: str, _place: Path) -> Client:
    """A git; its own programs are found beside it."""
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    who = {f"GIT_{role}_{part}": "a@b" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    return GitClient("git", version, [program], who)


def install_python(name: str, version: str, place: Path) -> Client:
    """A library from PyPI."""
    folder = place / f"{name}-{version}"
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--target", str(folder), f"{name}=={version}"]
    if version.startswith("0."):
        pip.append("urllib3<2")  # what such a release of dulwich was written for
    subprocess.run(pip, check=True)
    env = {"PYTHONPATH": str(folder), "PYTHONWARNINGS": "ignore"}
    shown = version
    if name == "pygit2":
        asking = [sys.executable, "-c", "import pygit2; print(pygit2.LIBGIT2_VERSION)"]
        libgit2 = subprocess.run(
            asking, env=os.environ | env, capture_output=True, text=True, check=True
        ).stdout.strip()
        shown = f"{version} (libgit2 {libgit2})"
    return Client(name, shown, [sys.executable, str(DRIVERS / f"with_{name}.py")], env)


def install_isomorphic(version: str, place: Path) -> Client:
    """isomorphic-git from npm."""
    folder = place / f"isomorphic-{version}"
    folder.mkdir()
    shutil.copy(DRIVERS / "with_isomorphic_git.js", folder)
    npm = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(folder),
        f"isomorphic-git@{version}",
    ]
    subprocess.run(npm, check=True, stdout=subprocess.DEVNULL)
    package = json.loads((folder / "node_modules/isomorphic-git/package.json").read_text())
    return Client("isomorphic-git", package["version"], ["node", str(folder / "with_isomorphic_git.js")])


def compile_jgit(classpath: str, place: Path) -> Client:
    """JGit from jars; its version is in the jar's manifest."""
    jar = next(path for path in classpath.split(":") if "org.eclipse.jgit" in path)
    folder = place / f"jgit-{len(list(place.iterdir()))}"
    folder.mkdir()
    subprocess.run(
        ["javac", "-cp", classpath, "-d", str(folder), str(DRIVERS / "WithJGit.java")], check=True, capture_output=True
    )
    manifest = subprocess.run(["unzip", "-p", jar, "META-INF/MANIFEST.MF"], capture_output=True, text=True, check=True)
    found = re.search(r"Bundle-Version: (\S+)", manifest.stdout)
    version = found[1] if found else "?"
    return Client("JGit", version, ["java", "-cp", f"{folder}:{classpath}", f"-Duser.home={folder}", "WithJGit"])


# Driving them


@dataclass
class World:
    """A served folder with one repository, and a judge."""

    url: str
    repository: Path
    git: Git

    def head(self, name: str = "main", where: Path | None = None) -> str:
        """What a branch is."""
        return self.git("rev-parse", name, cwd=where or self.repository, check=False).stdout.strip()


def drive(client: Client, world: World, home: Path) -> dict[str, str]:
    """All actions: "" for what went well, else what was wrong."""
    found: dict[str, str] = {}
    clone, shallow = home / "clone", home / "shallow"
    git = world.git

    def judge(action: str, folder: Path, check: Callable[[], str]) -> None:
        said = client.run(home, action, world.url, folder)
        found[action] = said or check()

    def is_whole(folder: Path) -> str:
        done = git("fsck", "--full", cwd=folder, check=False)
        return "" if done.code == 0 else f"git fsck: {done.stderr.strip()[:100]}"

    def equal(wanted: str, is_now: str, what: str) -> str:
        return "" if wanted == is_now else f"{what} is {is_now[:12]}, not {wanted[:12]}"

    judge("clone", clone, lambda: equal(world.head(), world.head("HEAD", clone), "HEAD") or is_whole(clone))
    if found["clone"]:
        return dict.fromkeys(ACTIONS, "no clone") | found
    right = []
    for number, options in enumerate(([], ["--no-single-branch"])):  # more branches bring more of a branch's past
        git("clone", "-q", "--depth", "2", *options, f"file://{world.repository}", home / f"judge{number}")
        right.append(git("rev-list", "HEAD", cwd=home / f"judge{number}").stdout)

    git("init", "-q", home / "judge2")  # libgit2 asks for every ref
    every = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    git("fetch", "-q", "--depth", "2", "-u", f"file://{world.repository}", *every, cwd=home / "judge2")
    right.append(git("rev-list", "main", cwd=home / "judge2").stdout)

    def is_shallow() -> str:
        here = git("rev-list", "HEAD", cwd=shallow).stdout
        return is_whole(shallow) if here in right else f"{len(here.split())} commits came"

    judge("shallow", shallow, is_shallow)
    tree = world.head("main^{tree}")
    tip = git("commit-tree", "-m", "beside", "-p", "main", tree, cwd=world.repository).stdout.strip()
    git("update-ref", "refs/heads/main", tip, cwd=world.repository)
    judge("fetch", clone, lambda: equal(tip, world.head("refs/remotes/origin/main", clone), "origin/main"))
    git("reset", "-q", "--hard", "refs/remotes/origin/main", cwd=clone, check=False)
    judge("push", clone, lambda: equal(world.head("main", clone), world.head(), "main") or is_whole(world.repository))
    if not found["push"]:
        found["push"] = "nothing was pushed" if world.head() == tip else ""
    judge("delete", clone, lambda: "topic is still there" if "refs/heads/topic" in git.refs(world.repository) else "")
    return found


def try_against(front: str, client: Client, place: Path) -> dict[str, str]:
    """Drive a client against a front end with a fresh repository."""
    scratch = Path(tempfile.mkdtemp(dir=place))
    root, home = scratch / "served", scratch / "home"
    for folder in (root, home):
        folder.mkdir()
    git = Git(scratch / "judge", scratch)
    repository = root / "r.git"
    git("init", "-q", "--bare", repository)
    BUILDERS["small"](git, repository)
    git("config", "http.receivepack", "true", cwd=repository)
    (repository / "git-daemon-export-ok").touch()
    with frontends.start(front, root, scratch) as running:
        return drive(client, World(f"{running.url}/r.git", repository, git), home)


def describe(client: Client, ours: dict[str, str], theirs: dict[str, str]) -> str:
    """A line of the table."""
    cells = []
    for action in ACTIONS:
        if not ours[action]:
            cells.append("yes")
        elif theirs.get(action):
            cells.append("not with git either")
        else:
            cells.append(f"NO: {ours[action][:80]}")
    return f"| {client.name} | {client.version} | " + " | ".join(cells) + " |"


HEAD = """\
# Clients, old and new

Driven against `govc serve` by `python -m compat.clients`, each in the oldest and newest releases that could be had.
"yes": what came of it was right, judged with git from outside. "not with git either": the client fails in the same
way against git http-backend, for reasons of its own (a release before shallow clones, for example).

"""


def main(words: Sequence[str]) -> None:
    """Drive the clients; status 1 when one fails with us only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("git", "dulwich", "pygit2", "isomorphic", "jgit"):
        parser.add_argument(f"--{option}", action="append", default=[])
    chosen = parser.parse_args(words)
    lines = []
    with tempfile.TemporaryDirectory(prefix="govc-clients-") as folder:
        place = Path(folder)
        clients = [find_git(program, place) for program in chosen.git]
        clients += [install_python("pygit2", version, place) for version in chosen.pygit2]
        clients += [install_python("dulwich", version, place) for version in chosen.dulwich]
        clients += [compile_jgit(classpath, place) for classpath in chosen.jgit]
        clients += [install_isomorphic(version, place) for version in chosen.isomorphic]
        for client in clients:
            ours = try_against("gunicorn", client, place)
            theirs = try_against("oracle", client, place) if any(ours.values()) else {}
            lines.append(describe(client, ours, theirs))
            print(lines[-1], {action: said for action, said in ours.items() if said}, flush=True)
    table = ["| client | release | " + " | ".join(ACTIONS) + " |", "|---|---|" + "---|" * len(ACTIONS), *lines]
    OUTCOME_FILE.write_text(HEAD + "\n".join(table) + "\n")
    sys.exit(1 if any("NO: " in line for line in lines) else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
