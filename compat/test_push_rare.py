"""Pushes that few people make: to symbolic refs, of refs whose objects are gone, onto objects that nothing reaches.

The same bytes go to git http-backend; reports, refs and what is said must agree.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

import pytest

from compat.conftest import Repo
from compat.gitclient import Git
from compat.pushing import EMPTY_PACK, new_objects, push_body, report_of
from compat.rawhttp import ZERO, demux, receive

Pair = Callable[..., tuple[Repo, Repo]]
WEEKS_SECONDS = 7 * 86400
FIXED_TIMES = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}


def push_to_both(ours: Repo, theirs: Repo, commands: list[str], pack: bytes) -> list[bytes]:
    """Push to both; report, refs, the ends of symbolic refs and texts agree. Our report."""
    body = push_body(commands, pack)
    replies = [receive(repo.url, body) for repo in (ours, theirs)]
    assert report_of(replies[0]) == report_of(replies[1])
    assert ours.refs() == theirs.refs()
    shown = [repo.run("for-each-ref", "--format=%(refname) %(symref)") for repo in (ours, theirs)]
    assert shown[0] == shown[1]
    said = [re.findall(rb"(?:warning|error): [^\n]*", demux(reply.packets).progress) for reply in replies]
    assert said[0] == said[1]
    return report_of(replies[0])


@pytest.mark.rows("RP-63")
@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (["OLD NEW refs/heads/alias"], [b"ok refs/heads/alias"]),
        (["OLD NEW refs/heads/alias", "OLD NEW refs/heads/main"], [b"ok refs/heads/alias", b"ok refs/heads/main"]),
        (
            ["OLD NEW refs/heads/alias", "OLD OLDER refs/heads/main"],
            [b"ng refs/heads/alias inconsistent aliased update", b"ng refs/heads/main inconsistent aliased update"],
        ),
        (["OLDER NEW refs/heads/main", "OLDER NEW refs/heads/alias"], None),
        (["OLD NEW HEAD", "OLD OLDER refs/heads/main"], None),
        (["OLD NEW HEAD", "OLD NEW refs/heads/main"], None),
        (["OLD NEW refs/heads/far"], [b"ok refs/heads/far"]),
        (["ZERO NEW refs/heads/dangling"], [b"ok refs/heads/dangling"]),
        (["ZERO NEW refs/heads/dangling", "ZERO NEW refs/heads/nowhere"], None),
        (["OLD ZERO refs/heads/alias"], None),
    ],
    ids=str,
)
def test_a_push_to_a_symbolic_ref_moves_what_it_names(
    pair: Pair, git: Git, commands: list[str], expected: list[bytes] | None
) -> None:
    ours, theirs = pair(config={"receive.denyDeleteCurrent": "ignore"})
    old, new, pack = new_objects(git, ours)
    for repo in ours, theirs:
        repo.run("symbolic-ref", "refs/heads/alias", "refs/heads/main")
        repo.run("symbolic-ref", "refs/heads/far", "refs/heads/alias")
        repo.run("symbolic-ref", "refs/heads/dangling", "refs/heads/nowhere")
        repo.broken = True  # git fsck complains of what dangles
    words = {"OLD": old, "NEW": new, "ZERO": ZERO, "OLDER": ours.rev("main~1")}
    lines = [" ".join(words.get(word, word) for word in command.split()) for command in commands]
    only_deletes = all("ZERO" == command.split()[1] for command in commands)
    report = push_to_both(ours, theirs, lines, b"" if only_deletes else pack)
    assert expected is None or report == [b"unpack ok", *expected]


@pytest.mark.rows("RP-63")
def test_aliases_that_disagree_are_refused_for_that_whatever_else_is_wrong(pair: Pair, git: Git) -> None:
    ours, theirs = pair()
    old, new, pack = new_objects(git, ours)
    for repo in ours, theirs:
        repo.run("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    commands = [f"{old} {'1' * 40} refs/heads/main", f"{old} {new} refs/heads/alias"]
    reports = [report_of(receive(repo.url, push_body(commands, pack))) for repo in (ours, theirs)]
    refused = [f"ng refs/heads/{name} inconsistent aliased update".encode() for name in ("main", "alias")]
    assert reports == [[b"unpack ok", *refused]] * 2
    assert ours.refs() == theirs.refs()


@pytest.mark.rows("RP-65", "RP-64")
def test_a_ref_whose_object_is_gone_can_be_deleted(pair: Pair, git: Git) -> None:
    ours, theirs = pair()
    for repo in ours, theirs:
        gone = repo.git("commit-tree", "-m", "x", "main^{tree}", cwd=repo.path, env=FIXED_TIMES)
        lost = gone.stdout.strip()
        repo.run("update-ref", "refs/heads/lost", lost)
        path = repo.path / f"objects/{lost[:2]}/{lost[2:]}"
        path.chmod(0o644)
        path.unlink()
        repo.broken = True
    text = (ours.path / "refs/heads/lost").read_text()
    report = push_to_both(ours, theirs, [f"{text.strip()} {ZERO} refs/heads/lost"], b"")
    assert report == [b"unpack ok", b"ok refs/heads/lost"]
    assert not (ours.path / "refs/heads/lost").exists()


@pytest.mark.rows("SEC-40", "FS-04")
def test_what_a_push_stands_on_is_young_again(pair: Pair, git: Git) -> None:
    """Unreachable objects of a month ago are pushed once more; a prune of what is older than two weeks spares them."""
    ours, theirs = pair(config={"receive.unpackLimit": "1000"})
    old, new, pack = new_objects(git, ours)
    for repo in ours, theirs:
        repo.git("unpack-objects", "-q", cwd=repo.path, input=pack)
        for path in (repo.path / "objects").glob("??/*"):
            os.utime(path, (time.time() - 4 * WEEKS_SECONDS,) * 2)
        assert report_of(receive(repo.url, push_body([f"{old} {new} refs/heads/main"], pack)))[0] == b"unpack ok"
        repo.run("update-ref", "refs/heads/main", old)
        repo.run("prune", "--expire=2.weeks.ago")
        assert repo.run("cat-file", "-t", new) == "commit"
    assert ours.objects() == theirs.objects()


@pytest.mark.rows("RP-19", "RP-45")
def test_a_ref_to_what_nobody_has(pair: Pair) -> None:
    ours, theirs = pair()
    body = push_body([f"{ZERO} {'1' * 40} refs/heads/new"], EMPTY_PACK)
    reports = [report_of(receive(repo.url, body)) for repo in (ours, theirs)]
    assert reports[0] == reports[1] == [b"unpack ok", b"ng refs/heads/new missing necessary objects"]
