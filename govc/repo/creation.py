"""Making a bare repository, as `git init --bare` does, and its first commit.

Source: git-init(1), gitrepository-layout(5).
"""

import hashlib
import os
import zlib

from govc.protocol.oid import SHA1, HashAlgorithm
from govc.refs.backend import FILES, REFTABLE
from govc.refs.reftable.database import HEAD_STUB
from govc.refs.reftable.symref import create_reftable

EXPORT_MARKER = "git-daemon-export-ok"

_DESCRIPTION = b"Unnamed repository; edit this file 'description' to name the repository.\n"
_EXCLUDE = b"# Patterns of files that git should not list, one a line.\n"
_README = b"# hello\n\nThe first repository of this govc server. Clone it, commit, push.\n"


def create_repository(
    path: str,
    algo: HashAlgorithm,
    *,
    export: bool,
    allow_push: bool,
    ref_storage: str = FILES,
    branch: str = "main",
) -> None:
    """Make an empty bare repository as `git init --bare` does. `ref_storage`: files or reftable.

    Raises FileExistsError when the folder exists and isn't empty, OSError otherwise.
    """
    if os.path.isdir(path) and os.listdir(path):
        raise FileExistsError(path)
    for folder in ("objects/info", "objects/pack", "info", "hooks"):
        os.makedirs(os.path.join(path, folder), exist_ok=True)
    version = 0 if algo is SHA1 and ref_storage == FILES else 1
    config = f"[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = true\n"
    if version:
        config += "[extensions]\n"
    if algo is not SHA1:
        config += f"\tobjectformat = {algo.name}\n"
    if ref_storage != FILES:
        config += f"\trefstorage = {ref_storage}\n"
    if allow_push:
        config += "[http]\n\treceivepack = true\n"
    _write_new(os.path.join(path, "config"), config.encode())
    _write_new(os.path.join(path, "description"), _DESCRIPTION)
    _write_new(os.path.join(path, "info", "exclude"), _EXCLUDE)
    if export:
        _write_new(os.path.join(path, EXPORT_MARKER), b"")
    # HEAD comes last: without it, it is no repository yet.
    if ref_storage == REFTABLE:
        create_reftable(path, algo, b"refs/heads/" + os.fsencode(branch))
        _write_new(os.path.join(path, "HEAD"), HEAD_STUB)
        return
    for folder in ("refs/heads", "refs/tags"):
        os.makedirs(os.path.join(path, folder), exist_ok=True)
    _write_new(os.path.join(path, "HEAD"), b"ref: refs/heads/" + os.fsencode(branch) + b"\n")


def create_first_commit(path: str, algo: HashAlgorithm, *, now_seconds: int) -> bytes:
    """Put one commit with a README.md on the branch main of an empty repository; return its oid."""
    blob = _write_loose(path, algo, b"blob", _README)
    tree = _write_loose(path, algo, b"tree", b"100644 README.md\0" + blob)
    who = f"govc <govc@localhost> {now_seconds} +0000"
    text = f"tree {tree.hex()}\nauthor {who}\ncommitter {who}\n\nFirst commit\n"
    commit = _write_loose(path, algo, b"commit", text.encode())
    _write_new(os.path.join(path, "refs", "heads", "main"), commit.hex().encode() + b"\n")
    return commit


def _write_loose(path: str, algo: HashAlgorithm, type_name: bytes, content: bytes) -> bytes:
    data = b"%s %d\0%s" % (type_name, len(content), content)
    oid = hashlib.new(algo.name, data, usedforsecurity=False).digest()
    folder = os.path.join(path, "objects", oid.hex()[:2])
    os.makedirs(folder, exist_ok=True)
    _write_new(os.path.join(folder, oid.hex()[2:]), zlib.compress(data), mode=0o444)
    return oid


def _write_new(path: str, data: bytes, *, mode: int = 0o666) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
