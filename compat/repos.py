"""Repositories as code: small languages for histories, written through `git fast-import`.

Every builder is deterministic (fixed clock and identity), so object ids are the same in every run.
`BUILDERS` maps the name of a template to the function that fills an empty bare repository.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

from compat.gitclient import Git

EPOCH = 1_700_000_000


class Stream:
    """A fast-import stream under construction; methods return marks."""

    def __init__(self, first_mark: int = 0) -> None:
        self.parts: list[bytes] = []
        self.mark = first_mark
        self.clock = EPOCH

    def tick(self) -> int:
        """The next second of the fixed clock, a minute later than the last."""
        self.clock += 60
        return self.clock

    def blob(self, data: bytes) -> int:
        """A blob of these bytes."""
        self.mark += 1
        self.parts.append(b"blob\nmark :%d\ndata %d\n%b\n" % (self.mark, len(data), data))
        return self.mark

    def commit(
        self,
        ref: str,
        files: Mapping[str, bytes] | None = None,
        *,
        parents: list[int | str] | None = None,
        message: str = "",
        gitlinks: Mapping[str, str] | None = None,
    ) -> int:
        """A commit on `ref`; without `parents` it continues the branch of this stream."""
        self.mark += 1
        text = (message or f"commit {self.mark}").encode()
        who = b"Ada Example <ada@example.com> %d +0100" % self.tick()
        out = [b"commit %b\nmark :%d\nauthor %b\ncommitter %b\n" % (ref.encode(), self.mark, who, who)]
        out.append(b"data %d\n%b\n" % (len(text), text))
        for position, parent in enumerate(parents or []):
            name = f":{parent}" if isinstance(parent, int) else parent
            out.append(b"%b %b\n" % (b"merge" if position else b"from", name.encode()))
        for path, data in (files or {}).items():
            out.append(b"M 100644 inline %b\ndata %d\n%b\n" % (path.encode(), len(data), data))
        for path, oid in (gitlinks or {}).items():
            out.append(b"M 160000 %b %b\n" % (oid.encode(), path.encode()))
        self.parts.append(b"".join(out) + b"\n")
        return self.mark

    def tag(self, name: str, mark: int) -> int:
        """An annotated tag of the object with that mark."""
        self.mark += 1
        text = f"release {name}\n".encode()
        who = b"Ada Example <ada@example.com> %d +0100" % self.tick()
        self.parts.append(
            b"tag %b\nmark :%d\nfrom :%d\ntagger %b\ndata %d\n%b\n"
            % (name.encode(), self.mark, mark, who, len(text), text)
        )
        return self.mark

    def reset(self, ref: str, mark: int | str) -> None:
        """Point a ref at a commit (marked or named)."""
        name = f":{mark}" if isinstance(mark, int) else mark
        self.parts.append(b"reset %b\nfrom %b\n\n" % (ref.encode(), name.encode()))

    def load(self, git: Git, repository: Path, *, limit: int | None = None) -> None:
        """Feed the stream to git; `limit` is fastimport.unpackLimit (objects below it become loose files)."""
        options = [] if limit is None else ["-c", f"fastimport.unpackLimit={limit}"]
        git(*options, "fast-import", "--quiet", "--force", cwd=repository, input=b"".join(self.parts))


def text(seed: int, lines: int) -> bytes:
    """Lines of words that compress and delta as source code does."""
    chance = random.Random(seed)
    words = ["alpha", "beta", "gamma", "delta", "snapshot", "object", "pack", "index", "ref", "commit"]
    return b"".join(" ".join(chance.choices(words, k=8)).encode() + b" %d\n" % n for n in range(lines))


def build_empty(git: Git, repository: Path) -> None:
    """Nothing at all."""


def build_small(git: Git, repository: Path) -> None:
    """Branches, merges, nested folders, tags of every kind; partly packed, partly loose."""
    stream = Stream()
    for n in range(20):
        files = {f"src/module{n % 5}.txt": text(n, 40), "README": text(0, 10) + b"%d\n" % n}
        files[f"docs/chapter{n % 3}/page.txt"] = text(100 + n, 20)
        stream.commit("refs/heads/main", files)
    fork = stream.mark
    tip = fork
    for n in range(5):
        tip = stream.commit("refs/heads/topic", {f"topic/{n}.txt": text(200 + n, 30)}, parents=[tip])
    stream.load(git, repository, limit=1)
    git("repack", "-adq", cwd=repository)
    git("pack-refs", "--all", cwd=repository)
    more = Stream()
    main = more.commit("refs/heads/main", {"src/module1.txt": text(31, 41)}, parents=["refs/heads/main^0"])
    merge = more.commit(
        "refs/heads/main", {"merged": b"yes\n"}, parents=[main, "refs/heads/topic^0"], message="merge topic"
    )
    more.reset("refs/tags/light", merge)
    tag = more.tag("v1", main)
    more.tag("v1-of-tag", tag)
    more.reset("refs/heads/feature/deep/name", "refs/heads/topic^0")
    more.load(git, repository)
    blob = git("rev-parse", "main:README", cwd=repository).stdout.strip()
    git("tag", "-a", "-m", "a blob", "tag-of-blob", blob, cwd=repository)
    git("tag", "-a", "-m", "a tree", "tag-of-tree", "main^{tree}", cwd=repository)
    git("update-ref", "refs/tags/blob", blob, cwd=repository)
    git("update-ref", "refs/notes/commits", "main", cwd=repository)


def build_linear(git: Git, repository: Path) -> None:
    """400 commits in one line, packed."""
    stream = Stream()
    for n in range(400):
        stream.commit("refs/heads/main", {f"dir{n % 7}/file{n % 31}.txt": text(n, 25)})
    stream.load(git, repository, limit=1)
    git("repack", "-adq", cwd=repository)


def build_merges(git: Git, repository: Path) -> None:
    """60 rounds of three branches and an octopus merge."""
    stream = Stream()
    tip = stream.commit("refs/heads/main", {"start": b"0\n"})
    for n in range(60):
        sides: list[int | str] = []
        for side in range(3):
            sides.append(
                stream.commit(f"refs/heads/side{side}", {f"s{side}/{n % 9}": text(n * 3 + side, 12)}, parents=[tip])
            )
        tip = stream.commit("refs/heads/main", {"round": b"%d\n" % n}, parents=[tip, *sides])
        if n % 10 == 0:
            stream.tag(f"round-{n}", tip)
    stream.load(git, repository, limit=1)


def build_many_refs(git: Git, repository: Path) -> None:
    """20,000 refs over 200 commits, half of them tags, every fifth tag annotated; packed."""
    stream = Stream()
    marks = [stream.commit("refs/heads/main", {f"f{n % 50}": b"%d\n" % n}) for n in range(200)]
    for n in range(10_000):
        stream.reset(f"refs/heads/group{n % 100}/branch-{n:05}", marks[n % 200])
    for n in range(10_000):
        if n % 5 == 0:
            stream.tag(f"release-{n:05}", marks[n % 200])
        else:
            stream.reset(f"refs/tags/release-{n:05}", marks[n % 200])
    stream.load(git, repository, limit=1)
    git("pack-refs", "--all", cwd=repository)


def build_gitlinks(git: Git, repository: Path) -> None:
    """A history with a submodule whose commit is not here."""
    stream = Stream()
    stream.commit(
        "refs/heads/main",
        {".gitmodules": b'[submodule "lib"]\n\tpath = lib\n\turl = ./lib\n'},
        gitlinks={"lib": "1" * 40},
    )
    stream.commit("refs/heads/main", {"x": b"x\n"}, gitlinks={"lib": "2" * 40})
    stream.load(git, repository)


def build_big_blobs(git: Git, repository: Path) -> None:
    """Three incompressible blobs of 3 MB and a compressible one of 20 MB."""
    chance = random.Random(7)
    stream = Stream()
    stream.commit("refs/heads/main", {f"random{n}.bin": chance.randbytes(3_000_000) for n in range(3)})
    stream.commit("refs/heads/main", {"zeros.bin": bytes(20_000_000)})
    stream.load(git, repository)


def build_shapes(git: Git, repository: Path) -> None:
    """Commits as old and odd programs wrote them: encodings, signatures, merge tags, missing names."""
    tree = git("mktree", cwd=repository, input=b"").stdout.strip()
    parent = ""
    bodies = [
        b"author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\nencoding ISO-8859-1\n\ncaf\xe9\n",
        b"author  <> 2 +0000\ncommitter  <> 2 -1200\n\nno name\n",
        b"author A <a@b> 3 +0000\ncommitter A <a@b> 3 +0000\n"
        b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END\n\nsigned\n",
        b"author A <a@b> 4 +0000\ncommitter A <a@b> 4 +0000\nmergetag object %b\n type commit\n tag x\n\nmergetag\n",
        b"author A <a@b> 5 +0000\ncommitter A <a@b> 5 +0000\nmystery header\n continued\n\nno newline at end",
    ]
    for body in bodies:
        links = f"tree {tree}\n" + (f"parent {parent}\n" if parent else "")
        data = links.encode() + body.replace(b"%b", parent.encode())
        parent = git("hash-object", "-t", "commit", "-w", "--stdin", cwd=repository, input=data).stdout.strip()
        git("update-ref", "refs/heads/main", parent, cwd=repository)
    many = [git("commit-tree", tree, "-m", f"p{n}", cwd=repository, input=b"").stdout.strip() for n in range(12)]
    parents = [word for oid in many for word in ("-p", oid)]
    octopus = git("commit-tree", tree, "-m", "octopus", *parents, "-p", parent, cwd=repository).stdout.strip()
    git("update-ref", "refs/heads/main", octopus, cwd=repository)


BUILDERS: dict[str, Callable[[Git, Path], None]] = {
    "empty": build_empty,
    "small": build_small,
    "linear": build_linear,
    "merges": build_merges,
    "many_refs": build_many_refs,
    "gitlinks": build_gitlinks,
    "big_blobs": build_big_blobs,
    "shapes": build_shapes,
}
