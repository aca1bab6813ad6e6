"""Running the real git as a client, cut off from the configuration of whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compat import evidence

TIMEOUT_SECONDS = 300

CLIENT_CONFIGURATION = """\
[init]
\tdefaultBranch = main
[user]
\tname = Ada Example
\temail = ada@example.com
[gc]
\tauto = 0
[maintenance]
\tauto = false
[advice]
\tdetachedHead = false
[protocol "file"]
\tallow = always
[safe]
\tdirectory = *
"""


class GitFailed(AssertionError):
    """git ended with another status than 0."""


@dataclass(frozen=True)
class Result:
    """What one run of git left: its output and its exit status."""

    stdout: str
    stderr: str
    code: int


def client_environment(home: Path) -> dict[str, str]:
    """An environment in which git sees only the configuration above."""
    home.mkdir(exist_ok=True, parents=True)
    configuration = home / "gitconfig"
    if not configuration.exists():
        configuration.write_text(CLIENT_CONFIGURATION)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(configuration),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ADVICE": "0",
        "NO_PROXY": "*",
    }


@dataclass(frozen=True)
class Git:
    """`git(...)` runs a command in `cwd` and raises GitFailed with its output when it fails."""

    home: Path
    cwd: Path

    def __call__(
        self,
        *arguments: str | Path,
        cwd: Path | str | None = None,
        env: Mapping[str, str] | None = None,
        input: bytes | None = None,
        check: bool = True,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Result:
        where = self.cwd if cwd is None else self.cwd / cwd
        done = subprocess.run(
            ["git", *map(str, arguments)],
            cwd=where,
            env=client_environment(self.home) | dict(env or {}),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        result = Result(os.fsdecode(done.stdout), os.fsdecode(done.stderr), done.returncode)
        words = " ".join(map(str, arguments))
        evidence.note_run(f"git {words}", result.code, result.stderr)
        if check and done.returncode != 0:
            raise GitFailed(f"git {words}: status {done.returncode}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}")
        return result

    def output_bytes(self, *arguments: str | Path, cwd: Path | str | None = None, input: bytes = b"") -> bytes:
        """What a command writes to stdout, as bytes."""
        where = self.cwd if cwd is None else self.cwd / cwd
        return subprocess.run(
            ["git", *map(str, arguments)],
            cwd=where,
            env=client_environment(self.home),
            input=input,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout

    def fails(self, *arguments: str | Path, **options: object) -> str:
        """Run what must fail; its stderr and stdout in one text."""
        result = self(*arguments, check=False, **options)  # type: ignore[arg-type]
        if result.code == 0:
            raise AssertionError(f"git {' '.join(map(str, arguments))} succeeded:\n{result.stdout}\n{result.stderr}")
        return result.stderr + result.stdout

    def start(
        self, *arguments: str | Path, cwd: Path | str | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Run in the background; the caller waits for it."""
        return subprocess.Popen(
            ["git", *map(str, arguments)],
            cwd=self.cwd if cwd is None else self.cwd / cwd,
            env=client_environment(self.home) | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def refs(self, where: Path | str) -> dict[str, str]:
        """Every ref of a repository and the object it names."""
        lines = self("for-each-ref", "--format=%(objectname) %(refname)", cwd=where).stdout.splitlines()
        return {name: oid for oid, name in (line.split(" ", 1) for line in lines)}

    def rev(self, where: Path | str, name: str) -> str:
        """The object id a name stands for."""
        return self("rev-parse", "--verify", name, cwd=where).stdout.strip()

    def objects(self, where: Path | str) -> set[str]:
        """The ids of all objects that are there, reachable or not (alternates included)."""
        listing = self("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", cwd=where).stdout
        return set(listing.split())

    def fsck(self, where: Path | str) -> None:
        """Fails unless `git fsck --full --strict` is content."""
        self("fsck", "--full", "--strict", "--no-dangling", cwd=where)

    def commit_file(self, where: Path | str, name: str, content: str, message: str = "change") -> str:
        """Write a file in a work tree and commit it; the commit's id."""
        path = self.cwd / where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        self("add", "--", name, cwd=where)
        self("commit", "-q", "-m", message, cwd=where)
        return self.rev(where, "HEAD")
