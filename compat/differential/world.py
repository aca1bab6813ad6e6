"""Two equal folders of repositories, one served by govc and one by git http-backend."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compat.gitclient import Git, Result
from compat.rawhttp import Reply
from compat.repos import BUILDERS
from govc.app import create_app
from govc.settings import Settings
from govc.web.cgi import make_environ

ANSWER_SECONDS_MAX = 60

SETTINGS = {
    "gc.auto": "0",
    "receive.autogc": "false",
    "maintenance.auto": "false",
    "receive.unpackLimit": "1",  # both keep what they receive as packs
}

REPOSITORIES: dict[str, tuple[str, dict[str, str], bool]] = {
    "plain.git": ("small", {"http.receivepack": "true"}, True),
    "open.git": (
        "small",
        {
            "http.receivepack": "true",
            "uploadpack.allowFilter": "true",
            "uploadpack.allowAnySHA1InWant": "true",
            "uploadpack.allowRefInWant": "true",
            "uploadpack.advertiseSidebandAll": "true",
            "receive.advertisePushOptions": "true",
        },
        True,
    ),
    "strict.git": (
        "small",
        {
            "http.receivepack": "true",
            "receive.fsckObjects": "true",
            "receive.denyNonFastForwards": "true",
            "receive.denyDeletes": "true",
            "receive.advertiseAtomic": "false",
            "transfer.hideRefs": "refs/heads/topic",
            "uploadpack.hideRefs": "refs/notes",
        },
        True,
    ),
    "sub/empty.git": ("empty", {"http.receivepack": "true", "http.getanyfile": "false"}, True),
    "closed.git": ("small", {"http.uploadpack": "false"}, True),
    "hidden.git": ("small", {"http.receivepack": "true"}, False),
}
"""Name below the root: how it is built (compat.repos), its configuration, whether it is exported."""


@dataclass(frozen=True)
class DatedGit(Git):
    """git at a fixed time, so that every world has the same objects."""

    def __call__(self, *arguments: str | Path, env: Mapping[str, str] | None = None, **options: Any) -> Result:
        """Run git, see `Git`."""
        when = "1700000000 +0000"
        dated = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when} | dict(env or {})
        return super().__call__(*arguments, env=dated, **options)


@dataclass(frozen=True)
class Request:
    """One request as CGI variables and a body."""

    variables: Mapping[str, str]
    body: bytes = b""
    kind: str = ""

    @property
    def path(self) -> str:
        """The path in the URL."""
        return self.variables.get("PATH_INFO", "")

    @property
    def repository(self) -> str:
        """The name of the repository that the path begins with, "" for none of ours."""
        return next((name for name in REPOSITORIES if self.path.startswith(f"/{name}/")), "")


@dataclass
class World:
    """Both folders and both servers; `folder` is empty at first."""

    folder: Path
    newer: str | None = None
    """The program of a newer git."""

    def __post_init__(self) -> None:
        home = self.folder / "home"
        home.mkdir(parents=True)
        self.git = DatedGit(home, self.folder)
        self.pristine = self.folder / "pristine"
        for name, (builder, configuration, is_exported) in REPOSITORIES.items():
            path = self.pristine / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self.git("init", "-q", "--bare", path)
            BUILDERS[builder](self.git, path)
            for key, value in (SETTINGS | configuration).items():
                self.git("config", key, value, cwd=path)
            if is_exported:
                (path / "git-daemon-export-ok").touch()
        self.oids = {name: self._list_oids(self.pristine / name) for name in REPOSITORIES}
        self.files = {name: self._list_files(self.pristine / name) for name in REPOSITORIES}
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "XDG_CACHE_HOME": str(home / "cache"),
        }
        os.environ.update(self.environ)
        self.ours = self.theirs = self.folder / "none"
        self._resets = 0
        self.has_crashed = False
        self._app: Any = None
        self.reset()

    def _list_oids(self, path: Path) -> list[str]:
        """Every object, the tips of refs first."""
        tips = list(self.git.refs(path).values())
        return list(dict.fromkeys([*tips, *sorted(self.git.objects(path))]))

    def _list_files(self, path: Path) -> list[str]:
        """The objects and packs that lie there as files."""
        found = sorted(file.relative_to(path).as_posix() for file in (path / "objects").rglob("*") if file.is_file())
        return [name for name in found if "info" not in name]

    def reset(self) -> None:
        """Begin again with what there was, in new folders: in the old ones something may still be working."""
        if self._app is not None:
            self._app.close()
        for root in (self.ours, self.theirs):
            shutil.rmtree(root, ignore_errors=True)
        self._resets += 1
        self.ours, self.theirs = (self.folder / f"{name}-{self._resets}" for name in ("ours", "theirs"))
        for root in (self.ours, self.theirs):
            shutil.copytree(self.pristine, root, symlinks=True, copy_function=shutil.copy2)
        settings = Settings(root=str(self.ours), durability="none", cache_dir=str(self.folder / "cache"), metrics=False)
        self._app = create_app(settings)

    def close(self) -> None:
        """End the server."""
        self._app.close()

    def ask_ours(self, request: Request) -> Reply:
        """The answer of govc."""
        head: list[Any] = []
        environ = make_environ(dict(request.variables), io.BytesIO(request.body), sys.stderr)
        chunks = self._app(environ, lambda status, headers, *rest: head.extend((status, headers)))
        body, cut = b"", False
        try:
            for chunk in chunks:
                body += bytes(chunk)
        except Exception:
            cut = True
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        status, headers = head
        return Reply(int(status[:3]), status[4:], {name.lower(): value for name, value in headers}, body, cut)

    def ask_theirs(self, request: Request) -> Reply:
        """The answer of git http-backend; no answer at all is a 500, as web servers have it.

        `has_crashed` tells whether one of git's programs was ended by a signal.
        """
        return self._ask_git("git", self.theirs, request)

    def ask_newer(self, request: Request, root: Path) -> Reply:
        """The answer of the newer git, over the folder `root`."""
        assert self.newer is not None
        return self._ask_git(self.newer, root, request)

    def copy_theirs(self) -> Path:
        """A copy of git's folder as it is now, for one question."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.theirs, copy, symlinks=True)
        return copy

    def _ask_git(self, program: str, root: Path, request: Request) -> Reply:
        environ = self.environ | {"GIT_PROJECT_ROOT": str(root)} | dict(request.variables)
        done = subprocess.run(
            [program, "http-backend"], env=environ, input=request.body, capture_output=True, timeout=ANSWER_SECONDS_MAX
        )
        self.has_crashed = b"died of signal" in done.stderr
        head, found, body = done.stdout.partition(b"\r\n\r\n")
        headers = {}
        for line in head.split(b"\r\n") if found else ():
            name, _, value = line.decode("latin-1").partition(": ")
            headers[name.lower()] = value
        status = headers.pop("status", "200 OK" if found else "500 Internal Server Error")
        return Reply(int(status[:3]), status[4:], headers, body, done.returncode != 0)

    def refs_of(self, root: Path, name: str) -> dict[str, str]:
        """The refs of a repository, read without any program."""
        path = root / name
        found = {}
        packed = path / "packed-refs"
        if packed.exists():
            for line in packed.read_text("latin-1").splitlines():
                if line[:1] not in "#^":
                    found[line[41:]] = line[:40]
        for file in (path / "refs").rglob("*"):
            if file.is_file() and not file.name.endswith(".lock"):
                found[file.relative_to(path).as_posix()] = file.read_text("latin-1").strip()
        return found
