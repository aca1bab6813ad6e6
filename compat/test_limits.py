"""Area H: limits, and what must not get through. Beside git where git has the behaviour; else values are stated."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compat import hookkit, test_archive
from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.pushing import EMPTY_PACK, push_body, report_of
from compat.rawhttp import FLUSH, ZERO, discover, lines, make_pack, parse_report, pkt, receive, request, upload
from compat.test_raw_v2 import ask, command

Pair = Callable[..., tuple[Repo, Repo]]


@pytest.mark.rows("SEC-03")
def test_names_that_no_file_system_holds(pair: Pair) -> None:
    ours, theirs = pair()
    tip = ours.rev("main")
    for name in ("x" * 300, "/".join(["y" * 200] * 25), "z" * 250):
        body = push_body([f"{ZERO} {tip} refs/heads/{name}", f"{ZERO} {tip} refs/heads/fine{len(name)}"], b"")
        pack = bytes.fromhex("5041434b0000000200000000029d08823bd8a8eab510ad6ac75c823cfd3ed31e")
        reports = [parse_report(receive(repo.url, body + pack)) for repo in (ours, theirs)]
        assert [line[:3] for line in reports[0]] == [line[:3] for line in reports[1]]
        assert ours.refs() == theirs.refs()


def deep_tree(repo: Repo, depth: int) -> str:
    """A commit with a file below so many folders; its id."""
    script = f"blob\nmark :1\ndata 1\nx\ncommit refs/heads/deep{depth}\ncommitter C <c@d> 1 +0000\ndata 0\n"
    repo.run("fast-import", "--quiet", input=f"{script}M 644 :1 {'d/' * depth}f\n\n".encode())
    return repo.rev(f"deep{depth}")


def is_served(repo: Repo, tip: str) -> bool:
    """Whether a fetch of a commit brings a pack."""
    return b"PACK" in upload(repo.url, lines(f"want {tip} side-band-64k no-progress", FLUSH, "done")).body


@pytest.mark.rows("SEC-11", "CF-61")
def test_trees_nested_beyond_the_limit_are_refused(server: Server) -> None:
    """git's limit, core.maxTreeDepth, is 2048 folders; the git of these tests may have none."""
    repo = server.create_repo()
    repo.broken = True
    assert {depth: is_served(repo, deep_tree(repo, depth)) for depth in (2048, 2049, 5000)} == {
        2048: True,
        2049: False,
        5000: False,
    }


@pytest.mark.rows("CF-61", "SEC-11")
@pytest.mark.parametrize(("value", "deepest"), [("3", 3), ("0", 0), ("4k", 3000)])
def test_how_deep_trees_may_be_nested(server: Server, git: Git, value: str, deepest: int) -> None:
    """Fetches, archives and pushes go by core.maxTreeDepth, as git 2.55 does: rev-list and archive were compared."""
    maker = server.create_repo()
    repo = server.create_repo(config={"core.maxTreeDepth": value, "http.uploadarchive": "true"})
    for depth in (deepest, deepest + 1) if deepest < 2049 else (deepest,):
        tip = deep_tree(maker, depth)
        pack = make_pack(git, maker.path, [tip])
        report = report_of(receive(repo.url, push_body([f"{ZERO} {tip} refs/heads/pushed{depth}"], pack)))
        assert report[0] == b"unpack ok"
        assert (report[1] == b"ok refs/heads/pushed%d" % depth) == (depth == deepest)
        deep_tree(repo, depth)
        assert is_served(repo, tip) == (depth == deepest)
        archive = test_archive.ask(repo, test_archive.asking(f"deep{depth}"))
        assert (
            archive.fatal == b"" and archive.data.startswith(b"pax_global_header")
            if depth == deepest
            else archive.fatal
        )
    repo.broken = maker.broken = True


@pytest.mark.rows("SEC-33", "RP-67")
@pytest.mark.parametrize(
    "sent",
    [b"", b"one\n", b"two\n\n", b"a\nb", b"a\nb\n", b"nul\0left out", b"$(touch x);`id`", b"k=\xff\xfe"],
)
def test_push_options_reach_hooks_as_with_git(pair: Pair, sent: bytes) -> None:
    """One line feed at the end goes, text ends at a NUL, and nothing is ever interpreted."""
    ours, theirs = pair(config={"receive.advertisePushOptions": "true"})
    seen = []
    for repo in ours, theirs:
        hookkit.install(repo.path, "pre-receive", "env -0 > environment\n")
        section = pkt(sent) + pkt(b"last") + b"0000"
        tip = repo.rev("main")
        caps = " report-status push-options"
        body = push_body([f"{ZERO} {tip} refs/heads/new"], EMPTY_PACK, caps=caps, tail=section)
        assert report_of(receive(repo.url, body)) == [b"unpack ok", b"ok refs/heads/new"]
        variables = (repo.path / "environment").read_bytes().split(b"\0")
        seen.append(sorted(line for line in variables if line.startswith(b"GIT_PUSH_OPTION")))
        (repo.path / "environment").unlink()
    assert seen[0] == seen[1]
    assert seen[0][1] == b"GIT_PUSH_OPTION_1=last"
    assert b"GIT_PUSH_OPTION_COUNT=2" in seen[0]


@pytest.mark.rows("SEC-04", "V2-59", "RP-92")
def test_there_is_no_cap_on_refs_and_commands(server: Server) -> None:
    """200,000 refs are listed in both protocols, as git lists them, and one push creates 5,000 more."""
    repo = server.create_repo()
    tip = repo.rev("main")
    repo.run("pack-refs", "--all")
    names = [f"refs/pull/{number:06d}/head" for number in range(200_000)]
    head, *rest = (repo.path / "packed-refs").read_text().splitlines(keepends=True)
    packed = [line for line in rest if not line.startswith("^")]
    kept = {line.split()[1]: line for line in packed if "refs/tags/" not in line}
    kept |= {name: f"{tip} {name}\n" for name in names}
    (repo.path / "packed-refs").write_text(
        "# pack-refs with: peeled fully-peeled sorted \n" + "".join(kept[n] for n in sorted(kept))
    )
    assert head.startswith("#")
    expected = repo.run("for-each-ref", "--format=%(objectname) %(refname)").encode().splitlines()
    assert len(expected) > 200_000
    listed = [
        p.rstrip(b"\n") for p in ask(repo.url, command("ls-refs", "ref-prefix refs/")).packets if isinstance(p, bytes)
    ]
    assert listed == expected
    first = discover(repo.url).packets
    assert [p.rstrip(b"\n") for p in first if isinstance(p, bytes)][2:] == expected
    commands = [f"{ZERO} {tip} refs/many/{number:05d}" for number in range(5_000)]
    report = report_of(receive(repo.url, push_body(commands, EMPTY_PACK)))
    assert report == [b"unpack ok", *(b"ok refs/many/%05d" % number for number in range(5_000))]
    after = repo.run("for-each-ref", "--format=%(refname)", "refs/many").split()
    assert after == [f"refs/many/{number:05d}" for number in range(5_000)]


@pytest.mark.rows("SEC-44")
def test_reading_has_no_side_effect(server: Server, git: Git) -> None:
    """Every GET, a clone and an ls-remote leave each file of git's as it is; a form of a web page can't push.

    What we keep for speed below govc/ may be filled by a clone.
    """
    repo = server.create_repo()

    def state() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.stat().st_size)
            for path in repo.path.rglob("*")
            if path.is_file() and "govc" not in path.parts
        }

    before = state()
    for path in ("/HEAD", "/info/refs", "/objects/info/packs", "/info/refs?service=git-receive-pack"):
        assert request(repo.url, "GET", path).status == 200
    git("clone", "-q", repo.url, "clone")
    git("ls-remote", repo.url)
    assert state() == before
    body = push_body([f"{repo.rev('main')} {ZERO} refs/heads/topic"], b"")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = request(repo.url, "POST", "/git-receive-pack", body=body, headers={"Content-Type": kind})
        assert answer.status == 415
    assert state() == before


@pytest.mark.rows("SEC-18")
def test_links_below_refs_leak_nothing(pair: Pair) -> None:
    ours, theirs = pair()
    secret = ours.path.parent / "secret"
    secret.write_text("ref: refs/heads/main\nvery secret\n")
    for repo in (ours, theirs):
        repo.broken = True
        (repo.path / "refs/heads/p").symlink_to("/etc/passwd")
        (repo.path / "refs/heads/q").symlink_to(secret)
        (repo.path / "refs/heads/r").symlink_to("refs/heads/main")
    shown = [discover(repo.url).body for repo in (ours, theirs)]
    for body in shown:
        assert b"root" not in body and b"secret" not in body
    assert b"refs/heads/q" not in shown[0] and b"refs/heads/p" not in shown[0]
    assert (b" refs/heads/r\n" in shown[0]) == (b" refs/heads/r\n" in shown[1])
    for repo in (ours, theirs):
        for name in "pqr":
            (repo.path / f"refs/heads/{name}").unlink()
    secret.unlink()


@pytest.mark.rows("SEC-34")
def test_odd_user_names_leave_reflogs_whole(pair: Pair, git: Git) -> None:
    logs = []
    for repo in pair(config={"core.logAllRefUpdates": "true"}):
        git("clone", "-q", repo.path, "pusher")
        for number, user in enumerate(("a<b>c", 'quoted"', "a:b;", "<>")):
            git.commit_file("pusher", "n", str(number))
            header = f"http.extraHeader=X-Remote-User: {user}"
            git("-c", header, "push", "-q", repo.url, "main", cwd="pusher", check=False)
        lines_ = (repo.path / "logs/refs/heads/main").read_text().splitlines()
        logs.append([line.split(" ", 2)[2].rsplit("> ", 1)[0] for line in lines_])
        assert len(repo.run("reflog", "show", "main").splitlines()) == len(lines_)
        (git.cwd / "pusher").rename(git.cwd / f"pusher-{repo.path.name}")
    assert logs[0] == logs[1]


@pytest.mark.rows("SEC-43")
def test_errors_do_not_say_where_a_repository_lies(server: Server, git: Git) -> None:
    """Statuses, ERR packets, reports and bodies of what goes wrong; band 2 may, as with git."""
    repo = server.create_repo(config={"uploadpack.allowFilter": "true"})
    repo.broken = True
    main, blob = repo.rev("main"), repo.rev("main:merged")
    loose = f"/objects/{blob[:2]}/{blob[2:]}"
    (repo.path / loose[1:]).chmod(0o644)
    (repo.path / loose[1:]).write_bytes(b"junk")
    lock = repo.path / "refs/heads/main.lock"
    lock.touch()
    replies = [
        request(repo.url, "GET", "/nothing"),
        request(f"{repo.url}x", "GET", "/HEAD"),
        request(repo.url, "GET", f"/objects/{'0' * 2}/{'1' * 38}"),
        request(repo.url, "PUT", "/HEAD"),
        request(repo.url, "POST", "/git-upload-pack", body=b"0000", headers={"Content-Type": "x"}),
        request(repo.url, "GET", "/info/refs?service=git-nosuch"),
        upload(repo.url, lines(f"want {'1' * 40}", FLUSH, "done")),
        upload(repo.url, lines("want zz", FLUSH)),
        upload(repo.url, lines(f"want {main} filter", "filter sparse:oid=nosuch", FLUSH, "done")),
        ask(repo.url, command("nosuch")),
        ask(repo.url, command("fetch", f"want {'1' * 40}", "done")),
        receive(repo.url, push_body([f"{ZERO} {main} refs/heads/x"], b"junk")),
        receive(repo.url, push_body([f"{ZERO} {'1' * 40} refs/heads/x"], EMPTY_PACK)),
        receive(repo.url, push_body([f"{main} {repo.rev('topic')} refs/heads/main"], EMPTY_PACK)),
        upload(repo.url, lines(f"want {main} side-band-64k", FLUSH, "done")),
    ]
    (repo.path / "config").write_text("[core\n")
    replies += [discover(repo.url), request(repo.url, "GET", "/HEAD"), receive(repo.url, b"0000")]
    (repo.path / "HEAD").unlink()
    replies.append(discover(repo.url))
    lock.unlink()
    said = []
    for reply in replies:
        text = reply.body + repr((reply.reason, reply.headers)).encode()
        if reply.status == 200 and reply.body.startswith(b"00"):
            packets = [packet for packet in reply.packets if isinstance(packet, bytes)]
            text = b"".join(packet for packet in packets if packet[:1] != b"\2")
        said.append(text)
    assert [text for text in said if str(server.root).encode() in text] == []
    assert [reply.status for reply in replies].count(200) == 9
