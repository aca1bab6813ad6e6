"""Hooks that have to do with refs themselves: reference-transaction, proc-receive, push-to-checkout.

What the oracle's git is too old for (the `preparing` state, one transaction for all commands) is stated.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.hookkit import calls, install, record
from compat.pushing import CAPS, EMPTY_PACK, new_objects, push_body, report_of
from compat.rawhttp import FLUSH, ZERO, demux, lines, parse_report, receive

Pair = Callable[..., tuple[Repo, Repo]]

# A proc-receive hook that says what its file `answers` holds, one packet a line, "0000" for a flush. It writes down
# what it was told.
PROC_RECEIVE = f"""#!{sys.executable}
import os, sys
def read():
    out = []
    while True:
        size = sys.stdin.buffer.read(4)
        if len(size) < 4:
            sys.exit(0)
        if size == b"0000":
            return out
        out.append(sys.stdin.buffer.read(int(size, 16) - 4))
def write(*lines):
    for line in lines:
        data = b"0000" if line == "0000" else b"%04x" % (len(line) + 4) + line.encode()
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
greeting = read()
answers = open("answers").read().split("\\n")
with open("told", "ab") as file:
    file.write(repr(greeting).encode() + b"\\n")
    if answers[0] == "die":
        sys.exit(1)
    write(answers[0].replace("\\\\0", "\\0") , "0000")
    file.write(repr(read()).encode() + b"\\n")
    if "push-options" in answers[0]:
        file.write(repr(read()).encode() + b"\\n")
print("from the hook", file=sys.stderr, flush=True)
if os.path.exists("update"):
    os.system("sh ./update")
write(*[line for line in answers[1:] if line])
"""


def offer(repo: Repo, *answers: str, patterns: tuple[str, ...] = ("refs/for",), update: str = "") -> None:
    """Install a proc-receive hook that gives these answers."""
    install(repo.path, "proc-receive", PROC_RECEIVE, start="")
    (repo.path / "answers").write_text("\n".join(answers))
    if update:
        (repo.path / "update").write_text(update)
    for pattern in patterns:
        repo.run("config", "--add", "receive.procReceiveRefs", pattern)


def told(repo: Repo) -> str:
    """What the hook was told."""
    path = repo.path / "told"
    return path.read_text() if path.exists() else ""


def push_for_review(
    pair: Pair,
    *answers: str,
    commands: tuple[str, ...] = ("{zero} {main} refs/for/main/topic", "{main} {older} refs/heads/main"),
    caps: str = CAPS,
    config: dict[str, str] | None = None,
    patterns: tuple[str, ...] = ("refs/for",),
    tail: bytes = b"",
    update: str = "",
    events: tuple[str, ...] = ("post-receive",),
) -> tuple[Repo, list[bytes], str]:
    """Push the same to both; what hooks were told, the report and the refs must agree. Ours, its report and output."""
    ours, theirs = pair(config=config)
    values = {"zero": ZERO, "main": ours.rev("main"), "older": ours.rev("main~1")}
    wanted = [command.format(**values) for command in commands]
    replies = []
    for repo in ours, theirs:
        offer(repo, *[answer.format(**values) for answer in answers], patterns=patterns, update=update)
        for event in events:
            record(repo.path, event)
        replies.append(receive(repo.url, push_body(wanted, EMPTY_PACK, caps=caps, tail=tail)))
    assert report_of(replies[1]) == report_of(replies[0])
    assert told(theirs) == told(ours)
    assert theirs.refs() == ours.refs()
    mine, other = calls(ours.path), calls(theirs.path)
    assert [(c.event, c.arguments, c.stdin) for c in other] == [(c.event, c.arguments, c.stdin) for c in mine]
    said = [demux(reply.packets).progress.decode() for reply in replies]
    assert sorted(said[1].splitlines()) == sorted(said[0].splitlines())
    return ours, report_of(replies[0]), said[0]


V2 = CAPS + " report-status-v2"


@pytest.mark.every_frontend
@pytest.mark.rows("RP-21", "RP-80", "CF-40")
def test_proc_receive_carries_out_its_commands(pair: Pair) -> None:
    ours, report, said = push_for_review(
        pair,
        "version=1",
        "ok refs/for/main/topic",
        "option refname refs/pull/1/head",
        "option new-oid {main}",
        "ok refs/for/main/topic",
        "option refname refs/pull/2/head",
        "option old-oid {main}",
        "option new-oid {older}",
        "option forced-update",
        "0000",
        caps=V2,
        events=("pre-receive", "update", "post-receive", "post-update"),
        update="git update-ref refs/pull/1/head HEAD; git update-ref refs/pull/2/head HEAD~1",
    )
    assert [b"unpack ok", b"ok refs/for/main/topic", b"option refname refs/pull/1/head"] == report[:3]
    assert b"option forced-update" in report
    assert "from the hook\n" in said
    assert {"refs/pull/1/head", "refs/pull/2/head"} <= set(ours.refs())
    assert "refs/for/main/topic" not in ours.refs()
    late = {c.event: c for c in calls(ours.path)}
    assert "refs/pull/2/head" in late["post-receive"].stdin
    assert ("refs/for/main/topic", "refs/heads/main") == late["post-update"].arguments


@pytest.mark.rows("RP-80", "RP-67")
@pytest.mark.parametrize("caps", [CAPS, V2, CAPS + " atomic", CAPS + " push-options", CAPS + " push-options atomic"])
@pytest.mark.parametrize("version", ["version=1", "version=1\\0push-options"])
def test_the_conversation_is_gits(pair: Pair, caps: str, version: str) -> None:
    has_options = "push-options" in caps
    push_for_review(
        pair,
        version,
        "ok refs/for/main/topic",
        "0000",
        caps=caps,
        config={"receive.advertisePushOptions": "true"},
        tail=lines(b"one", b"two=2", FLUSH) if has_options else b"",
    )


@pytest.mark.rows("RP-80", "RP-81")
@pytest.mark.parametrize("atomic", ["", " atomic"])
@pytest.mark.parametrize(
    "answers",
    [
        ("die",),
        ("version=2",),
        ("version=1",),
        ("version=1", "0000"),
        ("version=1", "ng refs/for/main/topic not today", "0000"),
        ("version=1", "ng refs/for/main/topic", "0000"),
        ("version=1", "ok refs/for/main/topic", "option fall-through", "0000"),
        ("version=1", "ok refs/for/main/other", "0000"),
        ("version=1", "ok refs/heads/main", "ok refs/for/main/topic", "0000"),
        ("version=1", "ok", "ok refs/for/main/topic", "0000"),
        ("version=1", "xx refs/for/main/topic", "0000"),
        ("version=1", "option refname refs/x", "ok refs/for/main/topic", "0000"),
        ("version=1", "ok refs/for/main/topic"),
    ],
)
def test_faults_of_proc_receive(pair: Pair, answers: tuple[str, ...], atomic: str) -> None:
    push_for_review(pair, *answers, caps=V2 + atomic)


@pytest.mark.rows("RP-80", "CF-40")
@pytest.mark.parametrize(
    "patterns",
    [
        ("a:refs/heads",),
        ("m:refs/heads", "refs/for"),
        ("d:refs/heads",),
        ("ad!:refs/heads",),
        ("refs/for/main/topic/",),
    ],
)
def test_patterns_of_proc_receive(pair: Pair, patterns: tuple[str, ...]) -> None:
    commands = (
        "{zero} {main} refs/for/main/topic",
        "{main} {older} refs/heads/main",
        "{zero} {main} refs/heads/added",
    )
    answers = [f"ok {command.rpartition(' ')[2]}" for command in commands]
    push_for_review(pair, "version=1", *answers, "0000", commands=commands, patterns=patterns)


@pytest.mark.rows("RP-81")
def test_without_the_hook_its_commands_fail(pair: Pair) -> None:
    ours, theirs = pair(config={"receive.procReceiveRefs": "refs/for"})
    main = ours.rev("main")
    body = push_body([f"{ZERO} {main} refs/for/x", f"{ZERO} {main} refs/heads/x"], EMPTY_PACK)
    replies = [receive(repo.url, body) for repo in (ours, theirs)]
    assert report_of(replies[1]) == report_of(replies[0])
    assert b"ng refs/for/x fail to run proc-receive hook" in report_of(replies[0])
    assert demux(replies[1].packets).progress == demux(replies[0].packets).progress


# reference-transaction


def transaction_calls(repo: Repo) -> list[tuple[str, frozenset[str]]]:
    """(state, lines) of each call, without HEAD, which is only logged (newer releases of git leave it out, too)."""
    found = ((c.arguments[0], c.stdin) for c in calls(repo.path) if c.event == "reference-transaction")
    return [
        (state, frozenset(line for line in text.splitlines() if not line.endswith(" HEAD"))) for state, text in found
    ]


@pytest.mark.every_frontend
@pytest.mark.rows("RP-79")
@pytest.mark.parametrize("atomic", ["", " atomic"])
def test_reference_transaction_is_told_of_each_state(pair: Pair, git: Git, atomic: str) -> None:
    ours, theirs = pair()
    old, new, pack = new_objects(git, ours)
    topic = ours.rev("topic")
    for repo in ours, theirs:
        repo.run("pack-refs", "--all")
        record(repo.path, "reference-transaction", "echo nobody sees this")
    commands = [f"{old} {new} refs/heads/main", f"{ZERO} {new} refs/heads/new", f"{topic} {ZERO} refs/heads/topic"]
    body = push_body(commands, pack, caps=CAPS + " quiet" + atomic)
    replies = [receive(repo.url, body) for repo in (ours, theirs)]
    assert report_of(replies[1]) == report_of(replies[0])
    assert b"" == demux(replies[0].packets).progress == demux(replies[1].packets).progress
    wanted = frozenset(commands)
    assert [("preparing", wanted), ("prepared", wanted), ("committed", wanted)] == transaction_calls(ours)
    theirs_seen = {state: frozenset() for state in ("prepared", "committed")}
    for state, seen in transaction_calls(theirs):
        theirs_seen[state] |= {line for line in seen if line.split()[0] != line.split()[1]}
    assert theirs_seen["committed"] >= wanted


@pytest.mark.rows("RP-79")
@pytest.mark.parametrize("state", ["preparing", "prepared"])
@pytest.mark.parametrize("atomic", ["", " atomic"])
def test_reference_transaction_may_refuse(server: Server, state: str, atomic: str) -> None:
    # git dies here without a report; we report.
    repo = server.create_repo()
    record(repo.path, "reference-transaction", f'test "$1" != {state}')
    main, before = repo.rev("main"), repo.refs()
    body = push_body([f"{ZERO} {main} refs/heads/a", f"{ZERO} {main} refs/heads/b"], EMPTY_PACK, caps=CAPS + atomic)
    reply = receive(repo.url, body)
    reason = b"reference-transaction hook declined"
    assert [b"unpack ok", b"ng refs/heads/a " + reason, b"ng refs/heads/b " + reason] == parse_report(reply)
    said = f"error: in '{state}' phase, update aborted by the reference-transaction hook\n"
    assert said.encode() == demux(reply.packets).progress
    assert (["preparing", "prepared"] if state == "prepared" else ["preparing"]) + ["aborted"] == [
        name for name, _ in transaction_calls(repo)
    ]
    assert before == repo.refs()


@pytest.mark.rows("RP-79")
def test_reference_transaction_sees_the_old_values_still(pair: Pair) -> None:
    ours, theirs = pair()
    main, older = ours.rev("main"), ours.rev("main~1")
    for repo in ours, theirs:
        install(repo.path, "reference-transaction", 'git rev-parse refs/heads/main >> "seen-$1"')
    body = push_body([f"{main} {older} refs/heads/main"], EMPTY_PACK)
    assert report_of(receive(theirs.url, body)) == report_of(receive(ours.url, body))
    for repo in ours, theirs:
        assert main == (repo.path / "seen-prepared").read_text().strip()
        assert older == (repo.path / "seen-committed").read_text().strip()


# Work trees


@pytest.mark.rows("RP-43", "RP-44", "CF-38", "CF-47")
@pytest.mark.parametrize("kind", ["own", "linked"])
def test_push_to_checkout_updates_a_work_tree(server: Server, oracle_url: str, git: Git, kind: str) -> None:
    seen = []
    for side in "ours", "theirs":
        repo = server.create_repo(name=f"{side}.git" if kind == "linked" else side)
        worktree = server.root / f"{side}-tree"
        if kind == "linked":
            repo.run("worktree", "add", "-q", worktree, "main")
        else:
            (repo.path / ".git").mkdir()
            for item in repo.path.iterdir():
                if item.name != ".git":
                    item.rename(repo.path / ".git" / item.name)
            repo.run("config", "core.bare", "false")
            repo.run("reset", "-q", "--hard")
            worktree = repo.path
        gitdir = repo.path if kind == "linked" else repo.path / ".git"
        repo.config("receive.denyCurrentBranch", "updateInstead")
        record(gitdir, "push-to-checkout", 'git read-tree -u -m HEAD "$1"')
        url = repo.url if side == "ours" else repo.url.replace(server.url, oracle_url, 1)
        main, older = repo.rev("main"), repo.rev("main~1")
        report = report_of(receive(url, push_body([f"{main} {older} refs/heads/main"], EMPTY_PACK)))
        [call] = calls(gitdir)
        variables = {
            name: os.path.normpath(call.environment[name]).replace(side, "SIDE")
            for name in ("GIT_DIR", "GIT_WORK_TREE")
        }
        status = git("status", "--porcelain", "-uno", cwd=worktree).stdout
        seen.append((report, call.arguments, variables, status))
        # A hook that says no keeps the ref where it is.
        record(gitdir, "push-to-checkout", "exit 1")
        report = report_of(receive(url, push_body([f"{older} {main} refs/heads/main"], EMPTY_PACK)))
        seen[-1] += (report, repo.rev("main"))
        if kind == "linked":
            repo.run("worktree", "remove", "--force", worktree)
    assert seen[1] == seen[0]
    assert b"ok refs/heads/main" in seen[0][0]
    assert b"ng refs/heads/main push-to-checkout hook declined" in seen[0][4]
