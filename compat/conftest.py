"""Fixtures: a running front end, fresh repositories in the folder it serves, and git as its client.

Environment:
    GOVC_COMPAT_FRONTENDS    comma-separated front ends (default: gunicorn,nginx,cgi). Scenarios marked
                             `every_frontend` run over all of them, the others over the first. `oracle` is
                             git http-backend itself, which proves the scenarios rather than govc.
    GOVC_KERNELS             python: the servers, too, ask no compiled kernel
    GOVC_REQUIRE_CLIENTS     when set, a missing client (java, node, ...) fails instead of skipping
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import pytest

from compat import evidence, frontends
from compat.gitclient import Git
from compat.programs import find_program
from compat.repos import BUILDERS
from tests.waiting import wait_until


def chosen_frontends() -> list[str]:
    """The front ends of this run."""
    return os.environ.get("GOVC_COMPAT_FRONTENDS", "gunicorn,nginx,cgi").split(",")


def pytest_configure(config: pytest.Config) -> None:
    """Our own markers."""
    config.addinivalue_line("markers", "every_frontend: runs over all front ends, not only the first")
    config.addinivalue_line("markers", "different_on_purpose: govc answers better than git http-backend here")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each scenario its front ends."""
    if "frontend" in metafunc.fixturenames:
        names = chosen_frontends()
        if metafunc.definition.get_closest_marker("every_frontend") is None:
            names = names[:1]
        metafunc.parametrize("frontend", names, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where govc is better on purpose, the oracle is expected to fail and is left out."""
    if chosen_frontends() == ["oracle"]:
        for item in items:
            if item.get_closest_marker("different_on_purpose"):
                item.add_marker(pytest.mark.skip(reason="git http-backend does worse here"))


def lacking(reason: str) -> NoReturn:
    """Skip the scenario, or fail it when everything is demanded."""
    if os.environ.get("GOVC_REQUIRE_CLIENTS"):
        pytest.fail(reason)
    pytest.skip(reason)


def program_or_skip(name: str) -> str:
    """The path of a program that a scenario needs."""
    found = find_program(name)
    if found is None:
        lacking(f"{name} is not installed: run compat/install.sh")
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What servers and clients do from here on is this test's."""
    evidence.begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its servers and clients said."""
    report = yield
    if report.failed:
        report.sections += evidence.sections()
    return report


def _copy_if_there(source: str, target: str) -> str:
    """Copy a file, unless it has gone since its folder was listed."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target)
    return target


def remove_served(path: Path) -> None:
    """Remove a repository that a server may be at work in: a moment after a push it writes below govc/.

    Out of sight first: nothing is made in it any more then, and its name is free for the next.
    """
    with contextlib.suppress(FileNotFoundError):
        away = path.rename(path.with_name(f"away-{time.monotonic_ns():x}"))
        shutil.rmtree(away, ignore_errors=True)


@dataclass
class Repo:
    """One repository in the served folder."""

    path: Path
    url: str
    git: Git
    broken: bool = False

    def run(self, *arguments: str, input: bytes | None = None, check: bool = True) -> str:
        """git inside the repository itself, as an admin would."""
        return self.git(*arguments, cwd=self.path, input=input, check=check).stdout.strip()

    def refs(self) -> dict[str, str]:
        """All refs, as git reads them from disk."""
        return self.git.refs(self.path)

    def rev(self, name: str) -> str:
        """An object id."""
        return self.git.rev(self.path, name)

    def config(self, key: str, value: str) -> None:
        """Set one configuration value."""
        self.run("config", key, value)

    def objects(self) -> set[str]:
        """All object ids."""
        return self.git.objects(self.path)

    def state(self) -> tuple[dict[str, str], set[str]]:
        """Refs and objects: what a refused request must leave alone."""
        return self.refs(), self.objects()

    def leftovers(self) -> list[str]:
        """Temporary files and locks that nobody should leave behind."""
        out = []
        for folder, names, files in os.walk(self.path):
            if Path(folder).name in ("hooks", "govc"):
                names.clear()
                continue
            out += [
                f"{folder}/{name}" for name in [*names, *files] if re.search(r"^tmp_|\.lock$|^incoming|\.keep$", name)
            ]
        return out


@dataclass
class Server:
    """A front end over a folder, and what was created in it."""

    running: frontends.Running
    root: Path
    git: Git
    templates: Callable[[str, str], Path]
    repos: list[Repo] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The front end's name."""
        return self.running.name

    @property
    def url(self) -> str:
        """The URL of the folder."""
        return self.running.url

    def create_repo(
        self,
        template: str = "small",
        *,
        name: str | None = None,
        config: Mapping[str, str] | None = None,
        object_format: str = "sha1",
        exported: bool = True,
        pushable: bool = True,
    ) -> Repo:
        """A fresh repository from a template, exported and open for pushes unless told otherwise."""
        name = name or f"r{len(list(self.root.iterdir()))}-{time.monotonic_ns():x}.git"
        path = self.root / name
        shutil.copytree(self.templates(template, object_format), path, symlinks=True)
        if exported:
            (path / "git-daemon-export-ok").touch()
        return self.adopt(path, {"http.receivepack": "true"} | dict(config or {}) if pushable else config)

    def adopt(self, path: Path, config: Mapping[str, str] | None = None) -> Repo:
        """A repository that lies in the served folder already."""
        url = f"{self.url}/{quote(os.fsencode(path.relative_to(self.root)))}"
        repo = Repo(path, url, self.git)
        for key, value in (config or {}).items():
            repo.config(key, value)
        self.repos.append(repo)
        return repo

    def fork(self, repo: Repo) -> Repo:
        """A byte for byte copy in the served folder, but for what comes and goes while a server is at work."""
        path = repo.path.with_name(f"copy-{time.monotonic_ns():x}.git")
        shutil.copytree(repo.path, path, symlinks=True, copy_function=_copy_if_there)
        return self.adopt(path)

    def check(self) -> None:
        """What holds after every scenario: git fsck is content and nothing temporary is left."""
        for repo in self.repos:
            if repo.broken:
                continue
            self.git.fsck(repo.path)
            wait_until(lambda repo=repo: not repo.leftovers(), f"nothing temporary is left in {repo.path}")


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Template repositories, each built once per session when first asked for."""
    folder = tmp_path_factory.mktemp("templates")
    git = Git(folder / "home", folder)
    built: dict[tuple[str, str], Path] = {}

    def template(name: str, object_format: str) -> Path:
        key = name, object_format
        if key not in built:
            path = folder / f"{name}-{object_format}.git"
            git("init", "-q", "--bare", f"--object-format={object_format}", path)
            BUILDERS[name](git, path)
            shutil.rmtree(path / "hooks", ignore_errors=True)
            built[key] = path
        return built[key]

    return template


@pytest.fixture(scope="session")
def served_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one folder all default front ends serve."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def frontend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, served_root: Path
) -> Iterator[frontends.Running]:
    """A running front end, kept for the session."""
    scratch = tmp_path_factory.mktemp(f"frontend-{request.param}")
    with frontends.start(request.param, served_root, scratch) as running:
        yield running


@pytest.fixture(scope="session")
def oracle_url(tmp_path_factory: pytest.TempPathFactory, served_root: Path) -> Iterator[str]:
    """git http-backend over the same folder."""
    with frontends.start("oracle", served_root, tmp_path_factory.mktemp("oracle")) as running:
        yield running.url


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """git as a client, at work in the test's own folder."""
    work = tmp_path / "work"
    work.mkdir()
    return Git(tmp_path / "client-home", work)


@pytest.fixture
def server(
    frontend: frontends.Running, served_root: Path, git: Git, templates: Callable[[str, str], Path]
) -> Iterator[Server]:
    """The front end with a fresh view: repositories created through it are checked and removed afterwards."""
    here = Server(frontend, served_root, git, templates)
    yield here
    try:
        here.check()
    finally:
        for repo in here.repos:
            remove_served(repo.path)


@pytest.fixture
def pair(server: Server, oracle_url: str) -> Callable[..., tuple[Repo, Repo]]:
    """Two equal repositories; the second is reached through the oracle."""

    def create(template: str = "small", **options: object) -> tuple[Repo, Repo]:
        ours = server.create_repo(template, **options)  # type: ignore[arg-type]
        theirs = server.fork(ours)
        theirs.url = theirs.url.replace(server.url, oracle_url, 1)
        return ours, theirs

    return create


@pytest.fixture
def twin(server: Server, oracle_url: str) -> Callable[[Repo], str]:
    """The oracle's URL of the same repository: `twin(repo)`."""
    return lambda repo: repo.url.replace(server.url, oracle_url, 1)


@pytest.fixture
def private_server(
    request: pytest.FixtureRequest,
    frontend: frontends.Running,
    tmp_path: Path,
    git: Git,
    templates: Callable[[str, str], Path],
) -> Iterator[Callable[..., Server]]:
    """Starts a front end of its own with an environment of its own: `private_server(env={...})`."""
    with contextlib.ExitStack() as stack:

        def begin(env: Mapping[str, str] | None = None) -> Server:
            root = tmp_path / "private-root"
            root.mkdir(exist_ok=True)
            scratch = tmp_path / "private-scratch"
            scratch.mkdir(exist_ok=True)
            running = stack.enter_context(frontends.start(frontend.name, root, scratch, env))
            return Server(running, root, git, templates)

        yield begin


def agree(git: Git, clone: Path | str, repo: Repo, *, tags: bool = True) -> None:
    """A clone's remote branches (and tags) are the server's."""
    theirs = repo.refs()
    ours = git.refs(clone)
    prefix = "refs/remotes/origin/"
    branches = {"refs/heads/" + k[len(prefix) :]: v for k, v in ours.items() if k.startswith(prefix)}
    branches.pop("refs/heads/HEAD", None)
    assert {k: v for k, v in theirs.items() if k.startswith("refs/heads/")} == branches
    if tags:
        kept = "refs/tags/"
        assert {k: v for k, v in theirs.items() if k.startswith(kept)} == {
            k: v for k, v in ours.items() if k.startswith(kept)
        }
