"""Conversions, compared with what `git cat-file --filters` writes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from govc.archive.attributes import Attributes
from govc.archive.convert import ATTRIBUTE_NAMES, LineEnds, convert_to_worktree
from govc.protocol.oid import SHA1

CONTENTS = [
    b"",
    b"one\ntwo\n",
    b"one\r\ntwo\n",
    b"one\r\ntwo\r\n",
    b"cr\ralone\n",
    b"nul\0byte\n",
    b"\x01\x02\x03\n" * 3,
    b"text" * 200 + b"\x01\n",
    b"last line ends in ctrl-z\n\x1a",
    "äöü\nß\n".encode(),
    b"\n",
    b"$Id$\n$Id: x $ $Id: a b $$Id$ $Id: $ $Id:$ $Id: open\n $ $Id",
    b"$Id: a$Id$",
]
ATTRIBUTES = [
    "",
    "text",
    "-text",
    "text=auto",
    "text eol=crlf",
    "text=auto eol=crlf",
    "eol=crlf",
    "eol=lf",
    "crlf",
    "crlf=input",
    "ident",
    "ident text",
    "working-tree-encoding=UTF-16LE",
    "working-tree-encoding=nonsense",
]
SETTINGS = [("false", ""), ("true", ""), ("input", "crlf"), ("false", "crlf"), ("false", "lf")]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("convert")
    subprocess.run(["git", "init", "-q", path], check=True)
    for number, content in enumerate(CONTENTS):
        (path / f"f{number}").write_bytes(content)
    run(path, "-c", "core.autocrlf=false", "add", ".")
    return path


def run(work: Path, *arguments: str) -> bytes:
    env = {"PATH": os.environ["PATH"], "HOME": str(work), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", *arguments], cwd=work, env=env, capture_output=True, check=True).stdout


@pytest.mark.parametrize("words", ATTRIBUTES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_content_is_gits(work: Path, words: str, settings: tuple[str, str]) -> None:
    (work / ".gitattributes").write_text(f"* {words}\n" if words else "")
    found = Attributes()
    found.provide("", f"* {words}\n".encode() if words else b"")
    options = ["-c", f"core.autocrlf={settings[0]}", *(["-c", f"core.eol={settings[1]}"] if settings[1] else [])]
    for number, content in enumerate(CONTENTS):
        ours = convert_to_worktree(
            content, found.of("x", ATTRIBUTE_NAMES), LineEnds(autocrlf=settings[0], eol=settings[1]), SHA1
        )
        assert ours == run(work, *options, "cat-file", "--filters", f":f{number}"), (number, words)
