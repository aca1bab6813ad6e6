"""Hooks row by row: the same push to two equal repositories with the same hooks, one behind govc, one behind git.

Compared are what each hook was given (arguments, standard input, environment, folder, order), what the pusher was told,
and what became of refs and objects.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.hookkit import AWAIT, EVENTS, Call, calls, install, push_slowly, record, wait_for
from compat.pushing import CAPS, EMPTY_PACK, new_objects, push_body, report_of
from compat.rawhttp import FLUSH, ZERO, demux, lines, parse_report, receive

Pair = Callable[..., tuple[Repo, Repo]]

User = dict[str, str]


@pytest.fixture
def user(server: Server) -> User:
    """The header that names the pusher; nginx and Apache, as they are configured, believe nobody's."""
    return {} if server.name in ("nginx", "apache") else {"X-Remote-User": "ada"}


# What a hook may be told that has no meaning for it: where programs and folders lie, and what the web server is.
NOISE = re.compile(
    r"PATH|XDG_.*|PWD|OLDPWD|SHLVL|_|HOME|GIT_EXEC_PATH|GIT_PROJECT_ROOT|PYTHON.*|LC_.*|TMPDIR|PROMETHEUS.*"
)
SERVERS_OWN = re.compile(
    r"HTTP_X_.*|HTTP_ACCEPT_ENCODING|HTTP_CONNECTION|HTTP_HOST|HTTP_CONTENT_.*|SERVER_.*|GATEWAY_INTERFACE|REMOTE_PORT"
    r"|SCRIPT_NAME|PATH_INFO|GUNICORN.*|HTTP_EXPECT"
)


def both(pair: Pair, *, config: dict[str, str] | None = None, body: str = "") -> tuple[Repo, Repo]:
    """Two equal repositories with recorders for every event."""
    ours, theirs = pair(config=config)
    for repo in ours, theirs:
        for event in EVENTS:
            record(repo.path, event, body)
    return ours, theirs


def essence(call: Call, repo: Repo) -> tuple[object, ...]:
    """What a call is, without what differs between two servers and two folders."""
    variables = {
        name: re.sub(
            r"tmp_objdir-incoming-\w+", "tmp_objdir", value.replace("/./", "/").replace(str(repo.path), "REPO")
        )
        for name, value in call.environment.items()
        if not NOISE.fullmatch(name) and not SERVERS_OWN.fullmatch(name)
    }
    return call.event, call.arguments, call.stdin, call.folder.replace(str(repo.path), "REPO"), variables


def compare_calls(ours: Repo, theirs: Repo) -> list[Call]:
    """Both repositories' hooks were given the same. Ours."""
    mine, other = calls(ours.path), calls(theirs.path)
    assert [essence(call, theirs) for call in other] == [essence(call, ours) for call in mine]
    return mine


def push_both(ours: Repo, theirs: Repo, body: bytes, user: User | None = None) -> list[bytes]:
    """Push the same bytes; reports and refs must agree. Our report."""
    mine, other = receive(ours.url, body, user), receive(theirs.url, body, user)
    assert report_of(other) == report_of(mine)
    assert theirs.refs() == ours.refs()
    return report_of(mine)


@pytest.mark.every_frontend
@pytest.mark.rows(
    *("RP-34", "RP-40", "RP-67", "RP-68", "RP-75", "RP-76", "RP-77", "RP-78", "RP-82", "HB-68", "HB-69", "RP-24")
)
@pytest.mark.parametrize("options", [None, (), ("ci.skip", "a=b c", "umläut")])
def test_hooks_get_what_git_gives_them(pair: Pair, git: Git, user: User, options: tuple[str, ...] | None) -> None:
    ours, theirs = both(pair, config={"receive.advertisePushOptions": "true"}, body='echo "to $0"; echo err >&2')
    old, new, pack = new_objects(git, ours)
    caps = CAPS if options is None else CAPS + " push-options"
    tail = b"" if options is None else lines(*[option.encode() for option in options], FLUSH)
    commands = [f"{old} {new} refs/heads/main", f"{'1' * 40} {new} refs/heads/stale", f"{ZERO} {new} refs/heads/new"]
    body = push_body(commands, pack, caps=caps, tail=tail)
    mine, other = receive(ours.url, body, user), receive(theirs.url, body, user)
    assert report_of(other) == report_of(mine)
    found = compare_calls(ours, theirs)
    assert ["pre-receive", "update", "update", "update", "post-receive", "post-update"] == [c.event for c in found]
    assert f"{old} {new} refs/heads/main\n{ZERO} {new} refs/heads/new\n" == found[4].stdin
    assert ("refs/heads/main", "refs/heads/new") == found[5].arguments
    assert user.get("X-Remote-User") == found[0].environment.get("REMOTE_USER")
    assert str(len(options or ())) == found[0].environment["GIT_PUSH_OPTION_COUNT"]
    assert "GIT_QUARANTINE_PATH" in found[0].environment
    assert not [c.event for c in found[1:] if "GIT_QUARANTINE_PATH" in c.environment]
    for reply in mine, other:
        said = re.findall(rb"to \S*hooks/(\S+)\nerr\n", demux(reply.packets).progress)
        assert [c.event.encode() for c in found] == said


@pytest.mark.rows("RP-18", "RP-64", "RP-78", "RP-77")
def test_a_push_that_only_deletes_has_no_quarantine(pair: Pair, git: Git) -> None:
    ours, theirs = both(pair)
    topic, main = ours.rev("topic"), ours.rev("main")
    push_both(
        ours, theirs, push_body([f"{topic} {ZERO} refs/heads/topic", f"{'1' * 40} {ZERO} refs/heads/absent"], b"")
    )
    found = compare_calls(ours, theirs)
    assert "GIT_QUARANTINE_PATH" not in found[0].environment
    assert f"{topic} {ZERO} refs/heads/topic\n{'1' * 40} {ZERO} refs/heads/absent\n" == found[0].stdin
    assert ("post-receive", f"{topic} {ZERO} refs/heads/topic\n") == (found[-2].event, found[-2].stdin)
    assert ("refs/heads/topic",) == found[-1].arguments
    # With nothing done at all, nobody is told.
    count = len(found)
    push_both(ours, theirs, push_body([f"{ZERO} {main} refs/heads/main"], EMPTY_PACK))
    assert ["pre-receive", "update"] == [c.event for c in compare_calls(ours, theirs)[count:]]


@pytest.mark.every_frontend
@pytest.mark.rows("RP-33", "RP-55")
@pytest.mark.parametrize("atomic", ["", " atomic"])
def test_pre_receive_refuses_everything(pair: Pair, git: Git, atomic: str) -> None:
    ours, theirs = both(pair)
    for repo in ours, theirs:
        record(repo.path, "pre-receive", "echo no way; exit 7")
    old, new, pack = new_objects(git, ours)
    before = ours.state()
    commands = [f"{old} {new} refs/heads/main", f"{ZERO} {new} refs/heads/new"]
    report = push_both(ours, theirs, push_body(commands, pack, caps=CAPS + atomic))
    assert [b"unpack ok"] + [
        b"ng refs/heads/%b pre-receive hook declined" % name for name in (b"main", b"new")
    ] == report
    assert ["pre-receive"] == [c.event for c in compare_calls(ours, theirs)]
    assert before == ours.state()
    assert [] == ours.leftovers()


@pytest.mark.every_frontend
@pytest.mark.rows("RP-54", "RP-59", "RP-60")
@pytest.mark.parametrize("atomic", ["", " atomic"])
def test_update_refuses_one_command(pair: Pair, git: Git, atomic: str) -> None:
    ours, theirs = both(pair)
    for repo in ours, theirs:
        record(repo.path, "update", 'test "$1" != refs/heads/b')
    main = ours.rev("main")
    commands = [f"{ZERO} {main} refs/heads/{name}" for name in "abc"]
    report = push_both(ours, theirs, push_body(commands, EMPTY_PACK, caps=CAPS + atomic))
    assert b"ng refs/heads/b hook declined" in report
    assert (b"ng refs/heads/c atomic push failure" if atomic else b"ok refs/heads/c") in report
    found = compare_calls(ours, theirs)
    assert (["update"] * 2 if atomic else ["update"] * 3) == [c.event for c in found if c.event == "update"]


@pytest.mark.rows("RP-77")
def test_failing_late_hooks_change_nothing(pair: Pair, git: Git) -> None:
    ours, theirs = both(pair)
    for repo in ours, theirs:
        for event in "post-receive", "post-update":
            record(repo.path, event, "exit 1")
    report = push_both(ours, theirs, push_body([f"{ZERO} {ours.rev('main')} refs/heads/new"], EMPTY_PACK))
    assert [b"unpack ok", b"ok refs/heads/new"] == report
    assert 4 == len(compare_calls(ours, theirs))


@pytest.mark.rows("RP-97")
def test_pre_receive_hears_of_refused_commands_too(pair: Pair, git: Git) -> None:
    ours, theirs = both(pair, config={"transfer.hideRefs": "refs/hidden"})
    main = ours.rev("main")
    commands = [f"{ZERO} {main} refs/hidden/x", f"{ZERO} {main} refs/heads/new"]
    push_both(ours, theirs, push_body(commands, EMPTY_PACK))
    assert "refs/hidden/x" in compare_calls(ours, theirs)[0].stdin
    push_both(ours, theirs, push_body(commands[:1], EMPTY_PACK))
    assert "pre-receive" == compare_calls(ours, theirs)[-1].event


@pytest.mark.rows("RP-34", "RP-35", "RP-37")
def test_the_quarantine_is_read_and_written_by_git(pair: Pair, git: Git) -> None:
    script = (
        'while read old new name; do git cat-file -t "$new"; git rev-list --count "$new" --not --all; done\n'
        "echo from the hook | git hash-object -w --stdin\n"
        "git update-ref refs/heads/from-hook HEAD; echo status $?\n"
    )
    ours, theirs = pair()
    for repo in ours, theirs:
        install(repo.path, "pre-receive", script)
    old, new, pack = new_objects(git, ours, 3)
    body = push_body([f"{old} {new} refs/heads/main"], pack, caps=CAPS + " quiet")
    said = [demux(receive(repo.url, body).packets).progress for repo in (ours, theirs)]
    assert said[1] == said[0]
    assert said[0].startswith(b"commit\n3\n")
    assert b"ref updates forbidden inside quarantine environment" in said[0]
    written = said[0].split(b"\n")[2].decode()
    assert written in ours.objects()
    assert theirs.objects() == ours.objects()
    assert "refs/heads/from-hook" not in ours.refs()


@pytest.mark.rows("RP-23", "RP-34", "RP-36")
def test_update_and_later_hooks_find_the_objects_in_the_repository(pair: Pair, git: Git) -> None:
    ours, theirs = pair()
    for repo in ours, theirs:
        install(
            repo.path, "update", 'git cat-file -t "$3"; find . -name "tmp_objdir*"; git update-ref refs/heads/u "$3"'
        )
        install(repo.path, "post-receive", 'while read o n r; do git log --format=%H -1 "$r"; done')
    old, new, pack = new_objects(git, ours)
    body = push_body([f"{old} {new} refs/heads/main"], pack, caps=CAPS + " quiet")
    said = [demux(receive(repo.url, body).packets).progress for repo in (ours, theirs)]
    assert said[1] == said[0] == f"commit\n{new}\n".encode()
    assert new == ours.rev("u") == theirs.rev("u")


@pytest.mark.rows("RP-83", "CF-82")
@pytest.mark.parametrize("advice", ["true", "false"])
def test_a_hook_that_is_not_executable_is_none(pair: Pair, git: Git, advice: str) -> None:
    ours, theirs = pair(config={"advice.ignoredHook": advice})
    for repo in ours, theirs:
        install(repo.path, "pre-receive", "exit 1").chmod(0o644)
        install(repo.path, "update", "echo update runs")
    body = push_body([f"{ZERO} {ours.rev('main')} refs/heads/new"], EMPTY_PACK)
    mine, other = receive(ours.url, body), receive(theirs.url, body)
    assert [b"unpack ok", b"ok refs/heads/new"] == report_of(mine) == report_of(other)
    # The hint is for the admin: the pusher sees it neither here nor there.
    assert b"update runs\n" == demux(mine.packets).progress == demux(other.packets).progress


@pytest.mark.rows("RP-83")
@pytest.mark.parametrize("kind", ["no-interpreter", "no-first-line", "folder", "broken-link"])
def test_hooks_that_are_no_programs(pair: Pair, git: Git, kind: str) -> None:
    ours, theirs = pair()
    for repo in ours, theirs:
        path = install(repo.path, "pre-receive", "echo I run\n")
        if kind == "no-interpreter":
            path.write_text("#!/no/such/program\n")
        elif kind == "no-first-line":
            path.write_text("echo I run\n")
        else:
            path.unlink()
            path.mkdir() if kind == "folder" else path.symlink_to("nowhere")
    body = push_body([f"{ZERO} {ours.rev('main')} refs/heads/new"], EMPTY_PACK)
    report = push_both(ours, theirs, body)
    runs = kind in ("no-first-line", "broken-link")
    assert (b"ok refs/heads/new" if runs else b"ng refs/heads/new pre-receive hook declined") == report[1]


@pytest.mark.every_frontend
@pytest.mark.rows("RP-84", "CF-48")
@pytest.mark.parametrize("where", ["relative", "absolute", "includes"])
def test_hooks_may_lie_elsewhere(pair: Pair, git: Git, where: str) -> None:
    ours, theirs = pair()
    for repo in ours, theirs:
        install(repo.path, "pre-receive", "exit 1")
        install(repo.path, "pre-receive", "echo elsewhere $0", folder="other/hooks")
        if where == "includes":
            (repo.path / "more").write_text(f"[core]\n\thooksPath = {repo.path}/other/hooks\n")
            repo.config("include.path", "more")
        else:
            repo.config("core.hooksPath", "other/hooks" if where == "relative" else f"{repo.path}/other/hooks")
    body = push_body([f"{ZERO} {ours.rev('main')} refs/heads/new"], EMPTY_PACK)
    replies = [receive(repo.url, body) for repo in (ours, theirs)]
    assert report_of(replies[1]) == report_of(replies[0]) == [b"unpack ok", b"ok refs/heads/new"]
    assert all(b"elsewhere" in demux(reply.packets).progress for reply in replies)


@pytest.mark.rows("RP-84", "CF-48")
def test_the_home_folder_is_expanded_in_the_path_of_hooks(
    private_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory, git: Git
) -> None:
    home = tmp_path_factory.mktemp("hooks-home")
    server = private_server({"HOME": str(home)})
    repo = server.create_repo(config={"core.hooksPath": "~/central"})
    install(home, "pre-receive", "echo central; exit 1", folder="central")
    reply = receive(repo.url, push_body([f"{ZERO} {repo.rev('main')} refs/heads/new"], EMPTY_PACK))
    assert b"central\n" in demux(reply.packets).progress
    assert [b"unpack ok", b"ng refs/heads/new pre-receive hook declined"] == parse_report(reply)


@pytest.mark.rows("RP-85", "CF-81")
def test_hooks_of_the_configuration_run_before_the_file(server: Server) -> None:
    # Newer than the oracle's git (2.54): the values stated are those of its manual.
    repo = server.create_repo()
    for name, command in (("first", "echo first; cat"), ("second", "echo second $#"), ("off", "exit 1")):
        repo.config(f"hook.{name}.command", command)
        repo.config(f"hook.{name}.event", "pre-receive")
    repo.config("hook.off.enabled", "false")
    repo.config("hook.told.command", "echo told")
    repo.config("hook.told.event", "update")
    install(repo.path, "pre-receive", "echo file")
    main = repo.rev("main")
    body = push_body([f"{ZERO} {main} refs/heads/new"], EMPTY_PACK)
    progress = demux(receive(repo.url, body).packets).progress
    line = f"{ZERO} {main} refs/heads/new\n"
    expected = f"first\n{line}second 0\nfile\ntold refs/heads/new {ZERO} {main}\n"
    assert expected.encode() == progress
    repo.config("hook.second.command", "exit 3")
    body = push_body([f"{ZERO} {main} refs/heads/other"], EMPTY_PACK)
    assert b"ng refs/heads/other pre-receive hook declined" in parse_report(receive(repo.url, body))
    repo.config("hook.bare.event", "pre-receive")
    assert 500 == receive(repo.url, body).status


@pytest.mark.every_frontend
@pytest.mark.rows("RP-86")
def test_hooks_need_not_read(pair: Pair, git: Git) -> None:
    ours, theirs = pair()
    for repo in ours, theirs:
        install(repo.path, "pre-receive", "exit 0")
        install(repo.path, "post-receive", "exec <&-; echo done")
    main = ours.rev("main")
    commands = [f"{ZERO} {main} refs/heads/many/{number:05d}-{'x' * 60}" for number in range(3000)]
    report = report_of(receive(ours.url, push_body(commands, EMPTY_PACK)))
    assert 3001 == len(report)
    assert all(line.startswith((b"ok ", b"unpack ok")) for line in report)
    few = push_body(commands[:300], EMPTY_PACK)  # git makes 3,000 refs in a minute
    assert 301 == len(report_of(receive(theirs.url, few)))


@pytest.mark.every_frontend
@pytest.mark.rows("RP-24", "RP-25", "CF-33")
def test_output_comes_at_once_and_silence_is_filled(pair: Pair, git: Git) -> None:
    ours, theirs = pair(config={"receive.keepAlive": "1"})
    for repo in ours, theirs:
        install(repo.path, "pre-receive", AWAIT + "echo one; await go; echo two; await heard; echo three >&2")
    body = push_body([f"{ZERO} {ours.rev('main')} refs/heads/new"], EMPTY_PACK)
    for repo in ours, theirs:
        # The hook goes on once its first word and what fills two silences have come, and again once its second has:
        # held back, they never would.
        said: list[bytes] = []
        for piece in push_slowly(repo.url, body):
            said.append(piece.data if piece.band == 2 else b"alive" if not piece.data else b"report")
            if said[-3:] == [b"one\n", b"alive", b"alive"]:
                (repo.path / "go").touch()
            elif said[-1] == b"two\n":
                (repo.path / "heard").touch()
        assert said[said.index(b"one\n") :].index(b"two\n") >= 3
        assert b"three\n" in said
        assert (repo.path / "go").exists() and (repo.path / "heard").exists()


@pytest.mark.every_frontend
@pytest.mark.rows("RP-40", "RP-41", "RP-87")
def test_the_report_comes_before_post_receive(pair: Pair, git: Git) -> None:
    ours, theirs = pair()
    for repo in ours, theirs:
        install(repo.path, "post-receive", AWAIT + "await reported; echo late; (await said; echo later) &")
    body = push_body([f"{ZERO} {ours.rev('main')} refs/heads/new"], EMPTY_PACK)
    for repo in ours, theirs:
        # Each goes on once what was before it has come.
        seen: list[bytes] = []
        for piece in push_slowly(repo.url, body):
            if b"ok refs/heads/new" in piece.data:
                seen.append(b"report")
                (repo.path / "reported").touch()
            elif piece.data in (b"late\n", b"later\n"):
                seen.append(piece.data)
                (repo.path / "said").touch()
        assert seen == [b"report", b"late\n", b"later\n"]


@pytest.mark.rows("RP-24")
def test_without_a_side_band_output_is_not_mixed_in(pair: Pair, git: Git) -> None:
    ours, theirs = pair()
    for repo in ours, theirs:
        install(repo.path, "pre-receive", "echo said")
    body = push_body([f"{ZERO} {ours.rev('main')} refs/heads/new"], EMPTY_PACK, caps=" report-status")
    mine, other = receive(ours.url, body), receive(theirs.url, body)
    assert other.body == mine.body
    assert b"said" not in mine.body


@pytest.mark.rows("RP-78", "RP-77")
def test_what_a_late_hook_does_with_git_is_seen_at_once(server: Server, git: Git) -> None:
    repo = server.create_repo()
    install(
        repo.path,
        "post-receive",
        "export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x@y\n"
        "while read old new name; do git update-ref refs/mirror/${name#refs/} $new; git commit-tree -m x $new^{tree} |"
        " xargs git update-ref refs/heads/made; done",
    )
    git("clone", "-q", repo.url, "clone")
    git.commit_file("clone", "a.txt", "1\n")
    git("push", "-q", "origin", "main", cwd="clone", env={"GIT_COMMITTER_NAME": "x"})
    found = dict(line.split("\t")[::-1] for line in git("ls-remote", repo.url).stdout.splitlines())
    assert git.rev("clone", "HEAD") == found["refs/mirror/heads/main"]
    assert repo.rev("made") == found["refs/heads/made"]


@pytest.mark.rows("RP-88", "RP-89", "CF-41")
def test_server_info_follows_the_late_hooks(pair: Pair, git: Git) -> None:
    ours, theirs = pair(config={"receive.updateServerInfo": "true"})
    for repo in ours, theirs:
        install(repo.path, "post-receive", "git update-ref refs/heads/hooked HEAD; test -f info/refs && echo there")
    body = push_body([f"{ZERO} {ours.rev('main')} refs/heads/new"], EMPTY_PACK)
    replies = [receive(repo.url, body) for repo in (ours, theirs)]
    assert report_of(replies[1]) == report_of(replies[0])
    assert demux(replies[1].packets).progress == demux(replies[0].packets).progress
    text = wait_for(ours.path / "info/refs")
    assert wait_for(theirs.path / "info/refs") == text
    assert "refs/heads/hooked" in text


def test_a_hook_has_time_for_others(pair: Pair, git: Git) -> None:
    """While a hook sleeps, the same server answers others."""
    ours, _ = pair()
    install(ours.path, "pre-receive", AWAIT + "echo $$ > begun; await go; test -e go && echo x > went")
    body = push_body([f"{ZERO} {ours.rev('main')} refs/heads/new"], EMPTY_PACK)
    pieces = push_slowly(ours.url, body)
    thread = threading.Thread(target=lambda: list(pieces))
    thread.start()
    wait_for(ours.path / "begun")
    for _ in range(10):  # some of them in the worker that runs the hook
        git("ls-remote", ours.url)
    (ours.path / "go").touch()
    thread.join()
    assert (ours.path / "went").exists(), "the hook has waited in vain"
    assert ours.rev("new") == ours.rev("main")
