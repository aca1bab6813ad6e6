"""The repositories that are measured, as code: a fixed seed, a fixed clock, so the same objects in every run.

    history   4,000 commits in one line, each changing one file two folders down: 20,000 objects, packed
    refs      the same objects under 47,000 refs in packed-refs, named as a code review system names them
    blobs     incompressible blobs of 4 MiB each, so many megabytes of them
    million   250,000 commits of one small file each, two folders down: a million objects
    pushed    the history, and 2,000 packs of one commit each, as small pushes leave them

Everything is written by `git fast-import`, which reads the stream while it is being made.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from compat.gitclient import Git, client_environment
from govc.odb.store import ObjectStore
from govc.pack.indexer import index_pack
from govc.protocol.oid import SHA1

SEED = 20_000
EPOCH = 1_700_000_000
COMMITS = 4_000
REFS = 47_000
REF_PREFIX = "refs/changes/07/"
BLOB_BYTES = 4 << 20
MAIN = "refs/heads/main"
WORDS = ("alpha", "beta", "gamma", "delta", "snapshot", "object", "pack", "index", "ref", "commit")
SERVED_CONFIGURATION = {
    "http.receivepack": "true",
    "gc.auto": "0",
    "receive.autogc": "false",
    "uploadpack.allowFilter": "true",
    "uploadpack.allowAnySHA1InWant": "true",
}


def prepare_empty(git: Git, path: Path) -> Path:
    """An empty bare repository that may be served and pushed to, with git's own clean-up turned off."""
    git("init", "-q", "--bare", path)
    for key, value in SERVED_CONFIGURATION.items():
        git("config", key, value, cwd=path)
    return path


def copy_linked(source: Path, target: Path) -> Path:
    """A copy whose objects and index are hard links (they are replaced, never changed); without govc's log."""

    def copy(file: str, to: str) -> str:
        inner = Path(file).relative_to(source).parts
        if inner[0] == "objects" or inner[:2] == ("govc", "introductions"):
            os.link(file, to)
        else:
            shutil.copy2(file, to)
        return to

    def leave_out(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name != "introductions"] if folder == str(source / "govc") else []

    shutil.copytree(source, target, copy_function=copy, ignore=leave_out)
    return target


def fast_import(git: Git, repository: Path, stream: Iterable[bytes], *options: str) -> None:
    """Feed a stream to `git fast-import` as it is made; it leaves a pack, however few the objects."""
    process = subprocess.Popen(
        ["git", "-c", "fastimport.unpackLimit=1", *options, "fast-import", "--quiet", "--force"],
        cwd=repository,
        env=client_environment(git.home),
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    with process.stdin:
        process.stdin.writelines(stream)
    if process.wait() != 0:
        raise RuntimeError(f"git fast-import ended with {process.returncode}")


def _data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)


def _commit(ref: str, number: int, path: str, content: bytes, *, parent: str = "") -> bytes:
    who = b"Ada Example <ada@example.com> %d +0100" % (EPOCH + 60 * number)
    head = b"commit %b\nauthor %b\ncommitter %b\n" % (ref.encode(), who, who)
    link = b"from %b\n" % parent.encode() if parent else b""
    return b"%b%b%bM 100644 inline %b\n%b\n" % (
        head,
        _data(b"commit %d\n" % number),
        link,
        path.encode(),
        _data(content),
    )


def _history(commits: int) -> Iterator[bytes]:
    """One file of 60 lines changes in every commit: one blob, three trees and a commit are new."""
    chance = random.Random(SEED)
    files: dict[str, list[str]] = {}
    for number in range(commits):
        path = f"src/room{chance.randrange(24):02}/file{chance.randrange(30):02}.txt"
        lines = files.setdefault(path, [" ".join(chance.choices(WORDS, k=9)) for _ in range(60)])
        lines[chance.randrange(60)] = " ".join(chance.choices(WORDS, k=8)) + f" {number}"
        yield _commit(MAIN, number, path, "\n".join(lines).encode() + b"\n")


def build_history(git: Git, path: Path, commits: int = COMMITS) -> Path:
    """The history repository, packed as `git gc` leaves it (with a bitmap)."""
    prepare_empty(git, path)
    fast_import(git, path, _history(commits))
    for number in range(1, 11):
        git("branch", f"topic-{number}", f"main~{number * 30}", cwd=path)
        git("tag", "-a", "-m", f"release {number}", f"v{number}", f"main~{number * 20}", cwd=path)
    git("repack", "-adfq", cwd=path)
    git("pack-refs", "--all", cwd=path)
    return path


def build_refs(git: Git, path: Path, history: Path, refs: int = REFS) -> Path:
    """The history's objects under many refs, in packed-refs only."""
    copy_linked(history, path)
    commits = git("rev-list", "main", cwd=path).stdout.split()
    names = {f"refs/changes/{n % 100:02}/{n:05}/{1 + n % 3}": commits[n % len(commits)] for n in range(refs)}
    lines = [f"{oid} {name}\n" for name, oid in sorted({MAIN: commits[0], **names}.items())]
    (path / "packed-refs").unlink()
    (path / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + "".join(lines))
    return path


def build_blobs(git: Git, path: Path, megabytes: int) -> Path:
    """Commits of blobs that no compression makes smaller."""
    chance = random.Random(SEED)
    prepare_empty(git, path)
    blobs = range((megabytes << 20) // BLOB_BYTES)
    stream = (_commit(MAIN, n, f"random{n}.bin", chance.randbytes(BLOB_BYTES)) for n in blobs)
    fast_import(git, path, stream, "-c", "core.compression=0", "-c", "core.bigFileThreshold=1m")
    return path


def build_pusher(git: Git, path: Path, source: Path, branches: int, commits: int) -> list[list[str]]:
    """A client's copy of `source` with so many new commits on each of some branches: their ids, in order."""
    copy_linked(source, path)
    tip = git.rev(path, MAIN)
    chance = random.Random(SEED)

    def stream() -> Iterator[bytes]:
        for branch in range(branches):
            for n in range(commits):
                path = f"src/room{chance.randrange(24):02}/file{chance.randrange(30):02}.txt"
                content = "\n".join(" ".join(chance.choices(WORDS, k=9)) for _ in range(60)) + f"\n{branch} {n}\n"
                parent = "" if n else tip
                yield _commit(f"refs/heads/p{branch}", n, path, content.encode(), parent=parent)

    fast_import(git, path, stream())
    listing = [git("rev-list", "--reverse", f"{tip}..p{b}", cwd=path).stdout.split() for b in range(branches)]
    return listing


def build_million(git: Git, path: Path, commits: int) -> Path:
    """Four objects a commit: the blob, the trees of its folder and of the root, the commit."""

    def stream() -> Iterator[bytes]:
        for number in range(commits):
            path = f"room{number % 50:02}/file{number // 50 % 40:02}.txt"
            yield _commit(MAIN, number, path, b"%d\n" % number)

    prepare_empty(git, path)
    fast_import(git, path, stream())
    return path


def build_pushed(git: Git, path: Path, history: Path, pushes: int) -> Path:
    """The history, and so many packs above it, each what a client sends for one commit, completed."""
    copy_linked(history, path)
    source = path.with_name(path.name + ".client")
    (chain,) = build_pusher(git, source, history, 1, pushes)
    tip = git.rev(source, MAIN)
    store = ObjectStore.open(str(source / "objects"), SHA1)
    for oid in chain:
        store_pack(path, pack_commit(git, source, oid, tip), store)
        tip = oid
    git("update-ref", MAIN, tip, cwd=path)
    shutil.rmtree(source)
    return path


def pack_commit(git: Git, place: Path, oid: str, parent: str) -> bytes:
    """What git push sends for one commit."""
    revisions = f"{oid}\n^{parent}\n".encode()
    return git.output_bytes("pack-objects", "--revs", "--thin", "--stdout", "-q", cwd=place, input=revisions)


def store_pack(repository: Path, thin: bytes, store: ObjectStore) -> None:
    """Complete a pack over what `store` has, and put it into a repository with its index."""
    with tempfile.NamedTemporaryFile(dir=repository / "objects" / "pack") as file:
        file.write(thin)
        file.flush()
        indexed = index_pack(file.fileno(), SHA1, base_reader=store.read_oid)
        stem = repository / "objects" / "pack" / f"pack-{indexed.pack_checksum.hex()}"
        os.link(file.name, stem.with_suffix(".pack"))
    indexed.write_index(str(stem.with_suffix(".idx")))


def build_real(git: Git, path: Path, source: Path) -> Path:
    """A complete packed copy of what the branches and tags of somebody's repository reach."""
    prepare_empty(git, path)
    specs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    git("fetch", "-q", "--no-auto-gc", f"file://{source.resolve()}", *specs, cwd=path, timeout=1800)
    git("repack", "-adq", cwd=path, timeout=1800)
    git("pack-refs", "--all", cwd=path)
    head = git("symbolic-ref", "HEAD", cwd=source, check=False).stdout.strip()
    names = [name for name in git.refs(path) if name.startswith("refs/heads/")]
    git("symbolic-ref", "HEAD", head if head in names else names[0], cwd=path)
    return path
