"""The index file: git reads what we write, we read what git writes, and damage is told."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.protocol.oid import SHA1, SHA256
from govc.worktree.index_file import CorruptIndex, IndexEntry, encode_index, parse_index

ALGOS = {"sha1": SHA1, "sha256": SHA256}


def git(path: Path, *arguments: str) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(path), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", *arguments], cwd=path, env=env, check=True, capture_output=True, text=True).stdout


def make(path: Path, object_format: str, version: str) -> bytes:
    git(path, "init", "-q", f"--object-format={object_format}")
    for name in ("a", "a.txt", "folder/" + "x" * 40, "folder/" + "x" * 41, "folder/yy/z", "n" * 200):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    (path / "link").symlink_to("a")
    git(path, "add", ".")
    git(path, "update-index", "--assume-unchanged", "a.txt")
    if version != "2":
        git(path, "update-index", "--skip-worktree", "folder/yy/z")
        (path / "later").write_text("x")
        git(path, "add", "-N", "later")
    git(path, "update-index", "--index-version", version)
    return (path / ".git/index").read_bytes()


@pytest.mark.rows("RP-44")
@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_git_and_we_read_each_others(tmp_path: Path, object_format: str, version: str) -> None:
    data = make(tmp_path, object_format, version)
    entries = parse_index(data, ALGOS[object_format])
    listed = git(tmp_path, "ls-files", "-s").splitlines()
    assert [f"{entry.mode:06o} {entry.oid.hex()} {entry.stage}\t{entry.path.decode()}" for entry in entries] == listed
    flags, debug = git(tmp_path, "ls-files", "-v", "-t"), git(tmp_path, "ls-files", "--debug")
    ours = encode_index(entries, ALGOS[object_format])
    assert parse_index(ours, ALGOS[object_format]) == entries
    (tmp_path / ".git/index").write_bytes(ours)
    assert git(tmp_path, "ls-files", "-v", "-t") == flags
    assert git(tmp_path, "ls-files", "--debug") == debug
    git(tmp_path, "fsck")


@pytest.mark.parametrize("version", ["2", "4"])
def test_damage_is_told(tmp_path: Path, version: str) -> None:
    data = make(tmp_path, "sha1", version)
    for cut in range(0, len(data), 37):
        with pytest.raises(CorruptIndex):
            parse_index(data[:cut], SHA1)
    assert parse_index(data[:-20] + bytes(20), SHA1) == parse_index(data, SHA1)  # index.skipHash
    split = data[:-20] + b"link" + (4).to_bytes(4, "big") + b"abcd"
    with pytest.raises(CorruptIndex, match="link"):
        parse_index(split + SHA1.new(split).digest(), SHA1)


@settings(derandomize=True, max_examples=200)
@given(st.binary(max_size=300), st.integers(2, 4), st.integers(0, 5))
def test_arbitrary_bytes_are_entries_or_corrupt(body: bytes, version: int, count: int) -> None:
    data = b"DIRC" + version.to_bytes(4, "big") + count.to_bytes(4, "big") + body
    try:
        entries = parse_index(data + SHA1.new(data).digest(), SHA1)
    except CorruptIndex:
        return
    assert len(entries) == count


@settings(derandomize=True)
@given(st.lists(st.binary(min_size=1, max_size=30).filter(lambda path: b"\0" not in path), unique=True, max_size=8))
def test_property_what_was_encoded_comes_back(paths: list[bytes]) -> None:
    entries = [IndexEntry(path=path, oid=b"o" * 20, stat=(*range(6), 0o100644, 7, 8, 9)) for path in sorted(paths)]
    assert parse_index(encode_index(reversed(entries), SHA1), SHA1) == entries
