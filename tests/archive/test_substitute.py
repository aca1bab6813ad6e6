"""What stands in `$Format:...$`, beside `git log --format`; what git 2.39 doesn't know is stated."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from govc.archive.dates import format_date
from govc.archive.mailmap import Mailmap
from govc.archive.substitute import CommitFacts, Decoration, Substitution

MAILMAP = b"""\
# who is who
Proper Author <author@new.example> <author@old.example>
<committer@new.example> <COMMITTER@old.example>
Named <named@new.example> Some Name <shared@old.example>
Others <shared@old.example>
no line at all
<unclosed
"""
PEOPLE = [
    ("A U Thor", "author@old.example", "C O Mitter", "committer@old.example"),
    ("Some Name", "shared@old.example", "some name", "SHARED@old.example"),
    ("Another", "shared@old.example", "Nobody", "nobody@x.example"),
]
MESSAGES = [
    "subject\n",
    "subject\n\nbody of it\n\nSigned-off-by: A <a@b>\nReviewed-by: B <b@c>\nsigned-off-by: C\n",
    "subject\n\nKey: value\n  goes on\n\ton and on\nOther-Key:no blank\nBroken key: x\n",
    "subject\n\nfree text\nacked-by: X\nSigned-off-by: Y\nmore: Z\n",
    "subject\n\none\ntwo\nthree\nfour\nfive\nsix\nSigned-off-by: Y\n",
    "subject\n\n(cherry picked from commit 0123)\nwords\n",
    "subject\n\nbody\n\nKey: value\n\n\n",
    "subject\nKey: in the subject\n",
    "\u00e9t\u00e9 \u4f60\u597d a long subject with e\u0301 accents\n\nKey: v\n# a comment\nKey2: w\n",
    "subject\n\nbody: yes\nno trailer\n  indented\nKey: v\n",
]
PADDED = [f"{kind}({arguments})" for kind in ("%<", "%>", "%>>", "%><") for arguments in ("12", "5", "5,trunc", "60")]
PADDED += ["%<(5,ltrunc)", "%<(6,mtrunc)", "%>(7,mtrunc)", "%<|(20)", "%>|(30)", "%><|(31)", "%>>|(9)", "%<(1,trunc)"]
PADDED += ["%<(0)", "%<()", "%<(x)", "%<(-3)", "%<(16385)", "%<( 8 )", "%<|(-60)"]
FORMATS = [
    *(f"|  {padding}%s|%an" for padding in PADDED),
    "a%n     %>>(3)%an|%<(4)%<(9)%s|%<(9)%%|%<(9)%q|%<(9)%n|%<(9)%Cred%an%Creset|%<(3)%+s",
    "%aN %aE %aL|%cN %cE %cL|%an %ae %al",
    *(f"[%(trailers{options})]" for options in (
        "", ":only", ":only=no", ":only=false", ":unfold", ":key=key", ":key=Signed-off-by:", ":key=Key,key=acked-by",
        ":key=Key,only=no", ":valueonly", ":keyonly", ":separator=; ", ":separator=%x2C%n", ":key_value_separator= = ",
        ":only,unfold,separator=%x00", ":nosuch", ":only=maybe", ":key=", ":key", ":", ":key=key,valueonly,separator=,",
        ":separator=", ":key=nosuch",
    )),
    "%(trailers) %(trailers:key=Key)%-(trailers:key=nosuch)",
    "%d|%D",
]  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = tmp_path_factory.mktemp("formats")
    env = {"PATH": os.environ["PATH"], "HOME": str(path), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
    subprocess.run(["git", "init", "-q", "-b", "main", path], env=env, check=True)
    (path / ".mailmap").write_bytes(MAILMAP)
    return path, env


def commit(path: Path, env: dict[str, str], message: str, people: tuple[str, str, str, str]) -> bytes:
    keys = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")
    who = dict(zip(keys, people, strict=True)) | {"GIT_AUTHOR_DATE": "1500000000 +0545"}
    tree = subprocess.run(["git", "write-tree"], cwd=path, env=env, capture_output=True, check=True).stdout.strip()
    made = subprocess.run(
        ["git", "commit-tree", tree], cwd=path, env=env | who, input=message.encode(), capture_output=True, check=True
    )
    return made.stdout.strip()


def test_formats_are_expanded_as_git_does(repository: tuple[Path, dict[str, str]]) -> None:
    path, env = repository
    different = []
    for number, message in enumerate(MESSAGES):
        oid = commit(path, env, message, PEOPLE[number % len(PEOPLE)])
        data = subprocess.run(
            ["git", "cat-file", "commit", oid], cwd=path, env=env, capture_output=True, check=True
        ).stdout
        ours = Substitution(
            CommitFacts(
                oid=bytes.fromhex(oid.decode()), data=data, shorten=lambda o: o.hex()[:7].encode(),
                mailmap=Mailmap([MAILMAP]),
            )
        )  # fmt: skip
        # In one run, each on a line of its own, which is where columns are counted from.
        shown = subprocess.run(
            ["git", "log", "-1", "--no-decorate", "--format=" + "\x01\n".join(FORMATS), oid],
            cwd=path, env=env, capture_output=True, check=True,
        ).stdout[:-1].split(b"\x01\n")  # fmt: skip
        assert len(shown) == len(FORMATS)
        for format_, theirs in zip(FORMATS, shown, strict=True):
            mine = ours.expand(format_.encode())
            if mine != theirs:
                different.append(f"{message!r} {format_!r}\n  ours   {mine!r}\n  theirs {theirs!r}")
    assert not different, "\n".join(different)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%(decorate)", " (HEAD -> main, tag: v1, other)"),
        ("%(decorate:prefix=[,suffix=])", "[HEAD -> main, tag: v1, other]"),
        ("%(decorate:separator= ; )", " (HEAD -> main ; tag: v1 ; other)"),
        ("%(decorate:separator=%x2C,tag=,pointer=%x3D)", " (HEAD=main,v1,other)"),
        ("%(decorate:prefix=,suffix=)", "HEAD -> main, tag: v1, other"),
        ("%(decorate:nosuch=x)", "%(decorate:nosuch=x)"),
        ("%(decorate:tag)", "%(decorate:tag)"),
        ("%d|%D", " (HEAD -> main, tag: v1, other)|HEAD -> main, tag: v1, other"),
    ],
)
def test_decorations(text: str, expected: str) -> None:
    """%(decorate) is newer than the git of these tests (2.43): the values are those of its manual."""
    names = (Decoration(b"main", is_head=True), Decoration(b"v1", is_tag=True), Decoration(b"other"))
    data = b"tree %b\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nm\n" % (b"1" * 40)
    facts = {"oid": b"\1" * 20, "data": data, "shorten": lambda oid: oid.hex()[:7].encode()}
    assert Substitution(CommitFacts(**facts, decorations=names)).expand(text.encode()).decode() == expected
    if "nosuch" not in text and "tag)" not in text:
        assert Substitution(CommitFacts(**facts)).expand(text.encode()).strip(b"|") == b""


NOW = 1_700_000_000  # Tue Nov 14 22:13:20 2023 UTC
DAY = 86400


@pytest.mark.parametrize(
    ("seconds", "zone", "text"),
    [
        (NOW - 90, 0, "2 minutes ago"),
        (NOW - 20 * 3600, 0, "20 hours ago"),
        (NOW - 1 * DAY, 0, "Mon 22:13"),
        (NOW - 4 * DAY, 0, "Fri 22:13"),
        (NOW - 4 * DAY, 545, "Sat 03:58 +0545"),
        (NOW - 5 * DAY, 0, "Thu Nov 9 22:13"),
        (NOW - 5 * DAY, -1200, "Thu Nov 9 10:13"),
        (NOW - 30 * DAY, 0, "Sun Oct 15 22:13"),
        (NOW + 3 * DAY, 0, "Fri Nov 17 22:13"),
        (NOW - 400 * DAY, 0, "Oct 10 2022"),
        (NOW + 60 * DAY, 0, "Jan 13 2024"),
    ],
)
def test_dates_for_people(
    repository: tuple[Path, dict[str, str]],
    seconds: int,
    zone: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """git is told what time it is by its own tests' variable."""
    path, env = repository
    monkeypatch.setenv("TZ", "UTC")
    assert format_date(seconds, zone, "h", NOW) == text
    when = {"GIT_TEST_DATE_NOW": str(NOW), "TZ": "UTC"}
    sign = "-" if zone < 0 else "+"
    shown = subprocess.run(
        ["git", "rev-list", "-1", "--format=%ah", commit_at(path, env, f"{seconds} {sign}{abs(zone):04}")],
        cwd=path, env=env | when, capture_output=True, check=True,
    )  # fmt: skip
    assert shown.stdout.decode().splitlines()[1] == text


def commit_at(path: Path, env: dict[str, str], date: str) -> bytes:
    who = {f"GIT_{role}_{part}": "x@y" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    tree = subprocess.run(["git", "write-tree"], cwd=path, env=env, capture_output=True, check=True).stdout.strip()
    made = subprocess.run(
        ["git", "commit-tree", "-m", "x", tree], cwd=path, env=env | who | {"GIT_AUTHOR_DATE": date},
        capture_output=True, check=True,
    )  # fmt: skip
    return made.stdout.strip()
