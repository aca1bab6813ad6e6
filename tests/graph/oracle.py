"""Real git as the judge: a builder's objects written as loose objects, then asked about with the git program."""

import os
import subprocess
import zlib
from collections.abc import Iterable
from pathlib import Path

from govc.objects.types import TYPE_NAMES

from .builder import RepositoryBuilder

_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "LC_ALL": "C",
}


class GitOracle:
    def __init__(self, repo: RepositoryBuilder, folder: Path, tips: Iterable[bytes] = ()) -> None:
        self.path = str(folder)
        subprocess.run(["git", "init", "-q", "--bare", self.path], env=_ENVIRONMENT, check=True)
        for oid, type_number, data in repo.objects:
            if oid in repo.numbers:
                target = folder / "objects" / oid.hex()[:2]
                target.mkdir(exist_ok=True)
                header = b"%s %d\0" % (TYPE_NAMES[type_number], len(data))
                (target / oid.hex()[2:]).write_bytes(zlib.compress(header + data, 1))
        for i, tip in enumerate(tips):
            (folder / "refs/heads" / f"b{i}").write_text(tip.hex() + "\n")

    def run(self, *words: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["git", "-C", self.path, *words], input=stdin, env=_ENVIRONMENT, check=check, capture_output=True
        )

    def objects(self, *words: str) -> set[bytes]:
        lines = self.run("rev-list", "--objects", "--no-object-names", *words).stdout.split()
        return {bytes.fromhex(line.decode()) for line in lines}

    def shallow_lines(
        self, wants: Iterable[bytes], client_shallow: Iterable[bytes], deepen: list[bytes], extra: bytes = b""
    ) -> tuple[set[bytes], set[bytes]] | None:
        """What upload-pack answers to a deepening request: (shallow, unshallow), or None for a fatal error."""
        lines = []
        for i, want in enumerate(wants):
            lines.append(b"want %s%s\n" % (want.hex().encode(), b"" if i else extra))
        lines += [b"shallow %s\n" % oid.hex().encode() for oid in client_shallow]
        lines += [line + b"\n" for line in deepen]
        request = b"".join(b"%04x%s" % (len(line) + 4, line) for line in lines) + b"0000"
        answer = self.run(
            "-c", "uploadpack.allowAnySHA1InWant=true", "upload-pack", "--stateless-rpc", self.path,
            stdin=request, check=False,
        ).stdout  # fmt: skip
        found: dict[bytes, set[bytes]] = {b"shallow": set(), b"unshallow": set()}
        at = 0
        while answer[at : at + 4] != b"0000":
            if not answer[at:]:
                return None
            size = int(answer[at : at + 4], 16)
            word, _, rest = answer[at + 4 : at + size].partition(b" ")
            if word not in found:
                return None
            found[word].add(bytes.fromhex(rest.strip().decode()))
            at += size
        return found[b"shallow"], found[b"unshallow"]
