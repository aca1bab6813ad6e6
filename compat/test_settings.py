"""Area G, setting by setting: the same configuration in two equal repositories, one behind git, one behind us.

What can be seen over HTTP or on disk must agree; where git is older than a setting, or we are stricter, values are
stated.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compat import frontends
from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.pushing import push_body, report_of
from compat.rawhttp import FLUSH, V2, discover, lines, make_pack, parse_report, receive, request, upload

Pair = Callable[..., tuple[Repo, Repo]]
Settings = dict[str, str]


def case(row: str, **settings: str) -> Any:
    """One row and its settings; `__` stands for a dot."""
    config = {key.replace("__", "."): value for key, value in settings.items()}
    name = " ".join(f"{key}={value}" for key, value in config.items())
    return pytest.param(config, id=f"{row} {name}")


def words(url: str, service: str, headers: dict[str, str] | None = None) -> tuple[int, set[bytes]]:
    """Status, and the lines and capabilities of an advertisement, but for those that name the server."""
    reply = discover(url, service, headers)
    if reply.status != 200:
        return reply.status, set()
    found = {
        word
        for packet in reply.packets
        if isinstance(packet, bytes)
        for word in packet.replace(b"\0", b"\n").split(b"\n")
    }
    caps = {cap for word in found for cap in word.split(b" ")} | found
    if reply.packets.count(FLUSH) < (1 if headers else 2):
        return 500, set()  # git may die after its headers
    return 200, {cap for cap in caps if not cap.startswith((b"agent=", b"object-info")) and b" agent=" not in cap}


@pytest.mark.rows("CF-01", "CF-02", "CF-03", "CF-06", "CF-07", "CF-08", "CF-09", "CF-11", "CF-15", "CF-16", "CF-21")
@pytest.mark.rows("CF-26", "CF-27", "CF-43", "CF-46", "CF-88", "RP-04")
@pytest.mark.parametrize(
    "settings",
    [
        case("CF-01", http__getanyfile="false"),
        case("CF-01", http__getanyfile="true"),
        case("CF-02", http__uploadpack="false"),
        case("CF-02", http__uploadpack="yes"),
        case("CF-03", http__receivepack="false"),
        case("CF-03", http__receivepack="true"),
        case("CF-06", transfer__hideRefs="refs/tags"),
        case("CF-06", uploadpack__hideRefs="refs/heads/topic"),
        case("CF-06", receive__hideRefs="refs/heads"),
        case("CF-07", uploadpack__allowTipSHA1InWant="true"),
        case("CF-08", uploadpack__allowReachableSHA1InWant="true"),
        case("CF-09", uploadpack__allowAnySHA1InWant="true"),
        case("CF-09", uploadpack__allowAnySHA1InWant="false", uploadpack__allowTipSHA1InWant="true"),
        case("CF-11", uploadpack__allowFilter="true"),
        case("CF-15", uploadpack__allowRefInWant="true"),
        case("CF-16", uploadpack__allowSidebandAll="true"),
        case("CF-21", lsrefs__unborn="allow"),
        case("CF-21", lsrefs__unborn="ignore"),
        case("CF-26", receive__advertiseAtomic="false"),
        case("CF-27", receive__advertisePushOptions="true"),
        case("CF-43", repack__useDeltaBaseOffset="false"),
        case("CF-46", core__repositoryFormatVersion="1"),
        case("CF-46", core__repositoryFormatVersion="2"),
        case("CF-88", http__getanyfile="abc"),
        case("CF-88", http__receivepack="abc"),
        case("CF-88", uploadpack__allowFilter="abc"),
        case("CF-88", core__bare="abc"),
        case("CF-88", receive__denyDeletes="abc"),
        case("CF-88", transfer__fsckObjects="abc"),
    ],
)
def test_what_the_doors_show(pair: Pair, settings: Settings) -> None:
    ours, theirs = pair(config=settings, pushable="http.receivepack" not in settings)
    for repo in (ours, theirs):
        repo.broken = True  # git fsck dies of some of these values
    answers = []
    for repo in (ours, theirs):
        shown: list[object] = [request(repo.url, "GET", "/HEAD").status]
        for service, headers in (("upload-pack", None), ("upload-pack", V2), ("receive-pack", None)):
            status, found = words(repo.url, service, headers)
            # A server that gives up after its headers (git) and one before them (we) both show nothing.
            shown.append(found or status >= 400 or "nothing")
        answers.append(["nothing" if item in (True, "nothing") else item for item in shown])
    assert answers[0] == answers[1]


@pytest.mark.rows("CF-05", "SEC-05")
def test_the_request_buffer_is_bounded(server: Server) -> None:
    repo = server.create_repo(config={"http.maxRequestBuffer": "10k"})
    want = f"want {repo.rev('main')}"
    small = lines(want, FLUSH, *(f"have {n:040x}" for n in range(50)), "done")
    large = lines(want, FLUSH, *(f"have {n:040x}" for n in range(1000)), "done")
    assert b"PACK" in upload(repo.url, small).body
    assert upload(repo.url, large).status == 413
    repo.config("http.maxRequestBuffer", "1m")
    assert b"PACK" in upload(repo.url, large).body


@pytest.mark.rows("CF-12", "CF-13", "CF-14")
@pytest.mark.parametrize(
    "settings",
    [
        {"uploadpackfilter.allow": "false"},
        {"uploadpackfilter.allow": "false", "uploadpackfilter.tree.allow": "true"},
        {"uploadpackfilter.blob:none.allow": "false"},
        {"uploadpackfilter.combine.allow": "false"},
        {"uploadpackfilter.tree.maxDepth": "1"},
        {"uploadpackfilter.object:type.allow": "false"},
    ],
    ids=str,
)
def test_which_filters_are_served(pair: Pair, settings: Settings) -> None:
    ours, theirs = pair(config=settings | {"uploadpack.allowFilter": "true"})
    want = f"want {ours.rev('main')} filter side-band-64k no-progress"
    for spec in ("blob:none", "tree:0", "tree:3", "blob:limit=10", "object:type=tree", "combine:blob:none+tree:1"):
        body = lines(want, f"filter {spec}", FLUSH, "done")
        refused = [b"ERR " in upload(repo.url, body).body[:200] for repo in (ours, theirs)]
        assert refused[0] == refused[1], spec


def bad_pack(git: Git, repo: Repo) -> tuple[str, bytes]:
    """A commit of a tree that fsck calls an error (an entry named .GIT), and its pack; the repository lacks it."""
    maker = git.cwd / "maker.git"
    git("clone", "-q", "--bare", repo.path, maker)
    blob = git("hash-object", "-w", "--stdin", cwd=maker, input=b"x").stdout.strip()
    tree = b"100644 .GIT\0" + bytes.fromhex(blob)
    oid = git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", cwd=maker, input=tree).stdout.strip()
    commit = git("commit-tree", "-m", "bad", oid, cwd=maker).stdout.strip()
    return commit, make_pack(git, maker, [commit])


@pytest.mark.rows("CF-24", "CF-31", "CF-32", "CF-60", "FK-01")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"transfer.fsckObjects": "true"},
        {"receive.fsckObjects": "true"},
        {"transfer.fsckObjects": "true", "receive.fsckObjects": "false"},
        {"receive.fsckObjects": "true", "receive.fsck.hasDotgit": "ignore"},
        {"receive.fsckObjects": "true", "receive.fsck.hasDotgit": "warn"},
        {"receive.fsckObjects": "true", "fsck.hasDotgit": "ignore"},
        {"receive.fsckObjects": "true", "core.protectNTFS": "false", "core.protectHFS": "false"},
    ],
    ids=str,
)
def test_which_objects_are_taken(pair: Pair, git: Git, settings: Settings) -> None:
    ours, theirs = pair(config=settings)
    for repo in (ours, theirs):
        repo.broken = True  # git fsck has its own opinion of such a tree
    commit, pack = bad_pack(git, ours)
    body = push_body([f"{'0' * 40} {commit} refs/heads/bad"], pack)
    reports = [report_of(receive(repo.url, body)) for repo in (ours, theirs)]
    assert reports[0] == reports[1]
    assert ours.refs() == theirs.refs()


@pytest.mark.rows("FK-07", "FK-09")
@pytest.mark.parametrize("check", ["false", "true"])
@pytest.mark.parametrize("what", ["tree of garbage", "commit of garbage", "blob left out", "tree left out"])
def test_objects_must_be_whole_with_the_check_and_without(pair: Pair, git: Git, what: str, check: str) -> None:
    ours, theirs = pair(config={"receive.fsckObjects": check})
    maker = git.cwd / "maker.git"
    git("init", "-q", "--bare", maker)

    def write(kind: str, data: bytes) -> str:
        options = ["-w", "-t", kind, "--literally", "--stdin"]
        return git("hash-object", *options, cwd=maker, input=data).stdout.strip()

    blob = write("blob", what.encode())
    tree = write("tree", b"junk" if what == "tree of garbage" else b"100644 f\0" + bytes.fromhex(blob))
    who = "A <a@b> 1600000000 +0000"
    text = f"tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n"
    commit = write("commit", b"junk\n" if what == "commit of garbage" else text.encode())
    left_out = {"blob left out": blob, "tree left out": tree}.get(what)
    names = [oid for oid in (commit, tree, blob) if oid != left_out]
    pack = git.output_bytes("pack-objects", "-q", "--stdout", cwd=maker, input="\n".join(names).encode() + b"\n")
    body = push_body([f"{'0' * 40} {commit} refs/heads/bad"], pack)
    reports = [report_of(receive(repo.url, body)) for repo in (ours, theirs)]
    if check == "false" or left_out is None:
        assert [line.split(b" ")[:2] for line in reports[0]] == [line.split(b" ")[:2] for line in reports[1]]
    assert reports[0][1].startswith(b"ng refs/heads/bad ")
    assert "refs/heads/bad" not in ours.refs() and "refs/heads/bad" not in theirs.refs()
    assert ours.objects() == theirs.objects()


@pytest.mark.rows("RP-14")
def test_version_1_is_said_first_to_pushers_too(pair: Pair) -> None:
    ours, theirs = pair()
    shown = [discover(repo.url, "receive-pack", {"Git-Protocol": "version=1"}).packets for repo in (ours, theirs)]
    assert shown[0][:3] == shown[1][:3] == [b"# service=git-receive-pack\n", FLUSH, b"version 1\n"]


@pytest.mark.rows("SEC-11")
def test_trees_nested_beyond_the_limit_are_refused(server: Server, git: Git) -> None:
    """git's limit, core.maxTreeDepth, is 2048; the git of these tests may have none."""
    repo = server.create_repo()
    tips = {}
    for depth in (2000, 2100):
        commands = f"blob\nmark :1\ndata 1\nx\ncommit refs/heads/deep{depth}\ncommitter C <c@d> 1 +0000\ndata 0\n"
        commands += f"M 644 :1 {'/'.join(['d'] * depth)}/f\n\n"
        repo.run("fast-import", "--quiet", input=commands.encode())
        tips[depth] = repo.rev(f"deep{depth}")
    fine = upload(repo.url, lines(f"want {tips[2000]} side-band-64k no-progress", FLUSH, "done"))
    assert b"PACK" in fine.body
    refused = upload(repo.url, lines(f"want {tips[2100]} side-band-64k no-progress", FLUSH, "done"))
    assert b"PACK" not in refused.body
    repo.broken = True


@pytest.mark.rows("CF-35", "CF-36", "CF-37", "CF-39", "CF-38")
@pytest.mark.parametrize(
    "settings",
    [
        {"receive.maxInputSize": "100"},
        {"receive.maxInputSize": "1m"},
        {"receive.denyDeletes": "true"},
        {"receive.denyDeletes": "false"},
        {"receive.denyDeleteCurrent": "ignore"},
        {"receive.denyDeleteCurrent": "warn"},
        {"receive.denyDeleteCurrent": "refuse"},
        {"receive.denyDeleteCurrent": "false"},
        {"receive.denyNonFastForwards": "true"},
        {"core.bare": "false", "receive.denyCurrentBranch": "refuse"},
        {"core.bare": "false", "receive.denyCurrentBranch": "warn"},
        {"core.bare": "false", "receive.denyCurrentBranch": "false"},
    ],
    ids=str,
)
def test_which_updates_are_taken(pair: Pair, git: Git, settings: Settings) -> None:
    ours, theirs = pair(config=settings)
    git("clone", "-q", "--bare", ours.path, "maker.git")
    old, older, topic = ours.rev("main"), ours.rev("main~2"), ours.rev("topic")
    new = git("commit-tree", "-m", "n" * 500, "-p", old, f"{old}^{{tree}}", cwd="maker.git").stdout.strip()
    pack = make_pack(git, git.cwd / "maker.git", [new, f"^{old}"])
    for commands in (
        [f"{old} {new} refs/heads/main", f"{topic} {older} refs/heads/topic"],
        [f"{ours.rev('refs/tags/light')} {'0' * 40} refs/tags/light"],
        [f"{new} {'0' * 40} refs/heads/main", f"{older} {'0' * 40} refs/heads/topic"],
    ):
        body = push_body(commands, b"" if all("0" * 40 in line.split()[1] for line in commands) else pack)
        reports = [report_of(receive(repo.url, body)) for repo in (ours, theirs)]
        assert [line.split(b"(")[0] for line in reports[0]] == [line.split(b"(")[0] for line in reports[1]]
        assert ours.refs() == theirs.refs()


def push_new_refs(git: Git, repo: Repo) -> None:
    """A branch, a tag and another ref, of new objects."""
    git("clone", "-q", repo.path, "pusher")
    git.commit_file("pusher", "new", "x")
    git("push", "-q", repo.url, "main:refs/heads/new", "main:refs/tags/new", "main:refs/other/new", cwd="pusher")
    git("push", "-q", repo.url, "main", cwd="pusher")


@pytest.mark.rows("CF-47", "CF-49", "RP-90", "RP-91")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"core.logAllRefUpdates": "true"},
        {"core.logAllRefUpdates": "always"},
        {"core.logAllRefUpdates": "false", "core.bare": "false", "receive.denyCurrentBranch": "ignore"},
        {"core.bare": "false", "receive.denyCurrentBranch": "ignore"},
    ],
    ids=str,
)
def test_which_reflogs_are_kept(pair: Pair, git: Git, settings: Settings) -> None:
    kept = []
    for repo in pair(config=settings):
        push_new_refs(git, repo)
        (git.cwd / "pusher").rename(git.cwd / f"pusher-{repo.path.name}")
        logs = repo.path / "logs"
        kept.append(
            sorted(
                (str(path.relative_to(logs)), len(path.read_text().splitlines()))
                for path in logs.rglob("*")
                if path.is_file()
            )
        )
    assert kept[0] == kept[1]


@pytest.mark.rows("CF-50", "RP-96", "FS-65")
@pytest.mark.parametrize("value", ["false", "group", "all", "0640", "0660", "umask", "2"])
def test_modes_of_shared_repositories(pair: Pair, git: Git, value: str) -> None:
    seen = []
    for repo in pair(config={"core.sharedRepository": value, "receive.unpackLimit": "1"}):
        before = set(repo.path.rglob("*"))
        push_new_refs(git, repo)
        (git.cwd / "pusher").rename(git.cwd / f"pusher-{repo.path.name}")
        new = [path for path in set(repo.path.rglob("*")) - before if "govc" not in path.parts]
        modes = {}
        for path in new:
            name = str(path.relative_to(repo.path))
            kind = name if name.startswith("refs/") else f"{path.parent.name}/*{path.suffix}"
            modes[kind] = oct(stat.S_IMODE(path.stat().st_mode))
        modes.pop("pack/*.rev", None)  # git writes none by default before 2.41
        seen.append(modes)
    assert seen[0] == seen[1]


@pytest.mark.rows("CF-41", "RP-89")
def test_server_info(pair: Pair, git: Git) -> None:
    for value in ("false", "true"):
        written = []
        for repo in pair(config={"receive.updateServerInfo": value}):
            push_new_refs(git, repo)
            (git.cwd / "pusher").rename(git.cwd / f"pusher-{repo.path.name}")
            info = repo.path / "info/refs"  # one may lie there from repacking
            written.append(info.read_text() if info.exists() else None)
        shown = [text and {line.split("\t")[1] for line in text.splitlines()} for text in written]
        assert shown[0] == shown[1]
        assert ("refs/heads/new" in (shown[0] or ())) == (value == "true")


@pytest.mark.rows("CF-58", "RP-92", "FS-66")
def test_lock_time_outs(server: Server, git: Git) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    git.commit_file("clone", "a", "b")
    lock = repo.path / "refs/heads/main.lock"
    spent = {}
    for timeout in ("0", "600"):
        repo.config("core.filesRefLockTimeout", timeout)
        lock.touch()
        started = time.monotonic()
        said = git.fails("push", "origin", "main", cwd="clone")
        spent[timeout] = time.monotonic() - started
        assert "main.lock': File exists" in said
    assert spent["600"] > spent["0"] + 0.3
    repo.config("core.filesRefLockTimeout", "-1")
    timer = threading.Timer(1.5, lock.unlink)
    timer.start()
    git("push", "-q", "origin", "main", cwd="clone")
    timer.join()
    assert repo.rev("main") == git.rev("clone", "main")


@pytest.mark.rows("CF-64", "CF-65", "CF-66", "CF-67", "CF-69", "CF-53")
@pytest.mark.parametrize(
    "settings",
    [
        {"pack.window": "0", "pack.depth": "1", "pack.threads": "7", "pack.windowMemory": "1k"},
        {"pack.deltaCacheSize": "1", "pack.deltaCacheLimit": "1", "core.packedGitLimit": "1m"},
        {"pack.useBitmaps": "false", "pack.allowPackReuse": "false"},
        {"pack.useSparse": "false", "pack.island": "refs/heads/", "repack.useDeltaIslands": "true"},
        {"pack.packSizeLimit": "1m", "core.packedGitWindowSize": "4k", "core.deltaBaseCacheLimit": "1k"},
    ],
    ids=str,
)
def test_settings_of_speed_change_no_object(pair: Pair, git: Git, settings: Settings) -> None:
    clones = []
    for repo in pair(config=settings):
        name = f"clone-{repo.path.name}"
        git("clone", "-q", "--bare", repo.url, name)
        clones.append(git.objects(name))
        assert len(list((git.cwd / name / "objects/pack").glob("*.pack"))) == 1
    assert clones[0] == clones[1]


@pytest.mark.rows("CF-74", "HB-59", "SEC-22")
@pytest.mark.parametrize(
    ("value", "served"), [("*", True), ("PATH", True), ("/elsewhere", False), ("", False), (None, False)]
)
def test_safe_directories(
    private_server: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    value: str | None,
    served: bool,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a repository away")
    file = tmp_path / "shared.config"
    file.touch()
    env = {"GIT_CONFIG_GLOBAL": str(file)}
    server = private_server(env)
    repo = server.create_repo()
    repo.run("config", "safe.directory", "*")  # the repository's own word counts for nothing
    if value is not None:
        file.write_text(f'[safe]\n\tdirectory = "{value.replace("PATH", str(repo.path))}"\n')
    os.chown(repo.path, 12345, 12345)
    with frontends.start("oracle", server.root, tmp_path_factory.mktemp("oracle-safe"), env) as oracle:
        other = repo.url.replace(server.url, oracle.url, 1)
        assert [discover(url).status for url in (repo.url, other)] == [200 if served else 500] * 2
    os.chown(repo.path, 0, 0)


@pytest.mark.rows("CF-89", "HB-50")
@pytest.mark.parametrize("text", ["[core\n", "[x]\n= y\n", '[core]\n\tx = "open\n', "[a]\n\tb = \\q\n"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_syntax_errors_are_fatal_in_every_scope(
    private_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, text: str, scope: str
) -> None:
    file = tmp_path / "shared.config"
    file.write_text(text if scope == "global" else "")
    env = {"GIT_CONFIG_GLOBAL": str(file)}
    server = private_server(env)
    repo = server.create_repo()
    if scope == "local":
        with (repo.path / "config").open("a") as config:
            config.write(text)
    with frontends.start("oracle", server.root, tmp_path_factory.mktemp("oracle-syntax"), env) as oracle:
        other = repo.url.replace(server.url, oracle.url, 1)
        for path in ("/info/refs?service=git-upload-pack", "/info/refs?service=git-receive-pack", "/HEAD"):
            answers = [request(url, "GET", path) for url in (repo.url, other)]
            assert [(answer.status, answer.body) for answer in answers] == [(500, b"")] * 2


@pytest.mark.rows("CF-04")
def test_the_door_of_archives(server: Server) -> None:
    for value, expected in (("true", 200), ("false", 403), (None, 403)):
        repo = server.create_repo(config={} if value is None else {"http.uploadarchive": value})
        types = {"Content-Type": "application/x-git-upload-archive-request"}
        body = lines("argument --list", FLUSH)
        assert request(repo.url, "POST", "/git-upload-archive", body=body, headers=types).status == expected


@pytest.mark.rows("SEC-03")
def test_names_that_no_file_system_holds(pair: Pair) -> None:
    ours, theirs = pair()
    tip = ours.rev("main")
    for name in ("x" * 300, "/".join(["y" * 200] * 25), "z" * 250):
        body = push_body([f"{'0' * 40} {tip} refs/heads/{name}", f"{'0' * 40} {tip} refs/heads/fine{len(name)}"], b"")
        pack = bytes.fromhex("5041434b0000000200000000029d08823bd8a8eab510ad6ac75c823cfd3ed31e")
        reports = [parse_report(receive(repo.url, body + pack)) for repo in (ours, theirs)]
        assert [line[:3] for line in reports[0]] == [line[:3] for line in reports[1]]
        assert ours.refs() == theirs.refs()


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
    body = push_body([f"{repo.rev('main')} {'0' * 40} refs/heads/topic"], b"")
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
