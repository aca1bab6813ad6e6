"""gitattributes, compared with `git check-attr` over generated files and paths."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.archive.attributes import Attributes, parse_attributes

NAMES = ("export-ignore", "text", "eol", "diff", "merge", "own")
PATTERNS = st.sampled_from(
    [
        "*",
        "*.c",
        "a",
        "a/",
        "/a",
        "a/b",
        "a/*",
        "a/**",
        "**/b",
        "a/**/c.c",
        "[ab]",
        "?.c",
        "b.c",
        "/*.c",
        "\\a",
        "[!a].c",
    ]
)
WORDS = st.sampled_from(
    [
        "own",
        "-own",
        "!own",
        "own=v",
        "text",
        "-text",
        "binary",
        "-binary",
        "!binary",
        "mac",
        "eol=lf",
        "diff=x",
        "merge",
    ]
)
LINES = st.lists(st.builds(lambda p, w: f"{p} {' '.join(w)}", PATTERNS, st.lists(WORDS, min_size=1, max_size=3)))
PATHS = ["a", "b.c", "a/b", "a/b.c", "a/c/b", "a/x/y/c.c", "x/a", "x/a/b", "x/b.c", "b/", "a/b/"]


def make(files: dict[str, str]) -> Attributes:
    attributes = Attributes()
    for folder, text in files.items():
        attributes.provide(folder, text.encode())
    return attributes


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attributes")
    subprocess.run(["git", "init", "-q", path], check=True)
    (path / "a").mkdir()
    return path


def from_git(work: Path, path: str) -> dict[str, str]:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
    }
    done = subprocess.run(
        ["git", "check-attr", *NAMES, "--", path], cwd=work, env=env, capture_output=True, text=True, check=True
    )
    return {line.split(": ")[1]: line.split(": ")[2] for line in done.stdout.splitlines()}


@given(root=LINES, below=LINES)
def test_property_values_are_gits(work: Path, root: list[str], below: list[str]) -> None:
    files = {"": "\n".join(["[attr]mac own=macro -text", *root]) + "\n", "a/": "\n".join(below) + "\n"}
    (work / ".gitattributes").write_text(files[""])
    (work / "a/.gitattributes").write_text(files["a/"])
    words = {True: "set", False: "unset", None: "unspecified"}
    for path in PATHS[:: 1 + len(root) % 3]:
        ours = make(files).of(path, NAMES)
        assert {name: words.get(value, value) for name, value in ours.items()} == from_git(work, path)  # type: ignore[arg-type]


def test_lines_that_make_no_sense_are_passed_over() -> None:
    text = '!neg a\n"open a\n*.c -\nok a\n# b a\n' + "x" * 3000 + " a\n[attr]-bad a\n"
    files = {"": text, "d/": "[attr]own b\n"}
    assert make(files).of("ok", ("a",)) == {"a": True}
    assert make(files).of("neg", ("a",)) == {"a": None}
    assert make(files).of("d/x", ("b", "own")) == {"b": None, "own": None}


def test_macros_that_name_each_other_end() -> None:
    files = {"": "[attr]m n\n[attr]n m x\n* m\n"}
    assert make(files).of("p", ("m", "n", "x")) == {"m": True, "n": True, "x": True}


def test_hostile_patterns_take_no_time() -> None:
    files = {"": ("*a" * 500 + "b x\n") * 20}
    assert make(files).of("a" * 2000, ("x",)) == {"x": None}


def test_a_quoted_pattern_is_unquoted() -> None:
    file = parse_attributes(b'"a b\\t\\303\\251" x\n')
    assert file.lines[0].pattern is not None
    assert file.lines[0].pattern.matches("a b\té", "")
