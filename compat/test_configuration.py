"""Area G: settings of git that change what a server does, set to several values in two equal repositories.

The same requests go to both; what can be seen of the setting must agree. Settings that only make git faster or smaller
must change nothing that a client sees.
"""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.pushing import EMPTY_PACK, new_objects, push_body, report_of
from compat.rawhttp import (
    DELIM,
    FLUSH,
    V2,
    ZERO,
    demux,
    discover,
    lines,
    parse_advertisement,
    receive,
    request,
    upload,
)

Pair = Callable[..., tuple[Repo, Repo]]
Probe = Callable[[Repo], object]

FIXED_TIMES = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}
WITH_FSCK = {"receive.fsckObjects": "true"}


def routes(repo: Repo) -> object:
    """Which doors are open."""
    gets = ("/HEAD", "/info/refs", "/info/refs?service=git-upload-pack", "/info/refs?service=git-receive-pack")
    statuses = [request(repo.url, "GET", path).status for path in gets]
    return [*statuses, upload(repo.url, b"0000").status, receive(repo.url, b"0000").status]


def offers(repo: Repo) -> object:
    """Refs and capabilities of each service and version."""
    out: list[object] = []
    for service in "upload-pack", "receive-pack":
        refs, capabilities = parse_advertisement(discover(repo.url, service).packets)
        out += [refs, sorted(capabilities)]
    packets = discover(repo.url, "upload-pack", V2).packets
    # Older releases of git offer object-info always.
    passed_over = (b"agent=", b"session-id=", b"object-info")
    out.append(sorted(p for p in packets if isinstance(p, bytes) and not p.startswith(passed_over)))
    return out


def wants(repo: Repo) -> object:
    """Which objects may be asked for by id in protocol v0: a hidden tip, an ancestor, a blob of it."""
    names = ("refs/hidden/x", "main~2", "main:README")
    replies = [upload(repo.url, lines(f"want {repo.rev(name)} no-progress", FLUSH, "done")) for name in names]
    return [b"PACK" in reply.body for reply in replies]


def filters(repo: Repo) -> object:
    """Which filters are taken in protocol v2."""
    out = []
    for spec in "blob:none", "blob:limit=10", "tree:1", "tree:3", "object:type=commit", "combine:blob:none+tree:2":
        body = lines("command=fetch", DELIM, f"want {repo.rev('main')}", f"filter {spec}", "done", FLUSH)
        out.append(b"packfile" in upload(repo.url, body, V2).body)
    return out


def ref_in_want(repo: Repo) -> object:
    """Whether a ref may be wanted by name."""
    body = lines("command=fetch", DELIM, "want-ref refs/heads/main", "no-progress", "done", FLUSH)
    return b"wanted-refs" in upload(repo.url, body, V2).body


def unborn(repo: Repo) -> object:
    """What ls-refs says of an unborn HEAD."""
    repo.run("symbolic-ref", "HEAD", "refs/heads/nowhere")
    body = lines("command=ls-refs", DELIM, "symrefs", "unborn", "ref-prefix HEAD", FLUSH)
    return upload(repo.url, body, V2).body


def pushes(repo: Repo) -> object:
    """What becomes of deletions, forced updates and creations."""
    main, older, topic = repo.rev("main"), repo.rev("main~3"), repo.rev("topic")
    out = []
    for commands in (
        [f"{main} {older} refs/heads/main", f"{ZERO} {main} refs/heads/new"],
        [f"{topic} {ZERO} refs/heads/topic"],
        [f"{repo.rev('main')} {ZERO} refs/heads/main"],
    ):
        out.append(report_of(receive(repo.url, push_body(commands, EMPTY_PACK if ZERO not in commands[0] else b""))))
    return out


@pytest.mark.parametrize(
    ("probe", "key", "values"),
    [
        pytest.param(routes, "http.getanyfile", ("true", "false"), marks=pytest.mark.rows("CF-01")),
        pytest.param(routes, "http.uploadpack", ("true", "false"), marks=pytest.mark.rows("CF-02")),
        pytest.param(routes, "http.receivepack", ("true", "false"), marks=pytest.mark.rows("CF-03")),
        pytest.param(routes, "core.repositoryFormatVersion", ("0", "1", "9"), marks=pytest.mark.rows("CF-46")),
        pytest.param(routes, "extensions.nonesuch", ("true",), marks=pytest.mark.rows("CF-46")),
        pytest.param(wants, "uploadpack.allowTipSHA1InWant", ("true", "false"), marks=pytest.mark.rows("CF-07")),
        pytest.param(wants, "uploadpack.allowReachableSHA1InWant", ("true",), marks=pytest.mark.rows("CF-08")),
        pytest.param(wants, "uploadpack.allowAnySHA1InWant", ("true", "false"), marks=pytest.mark.rows("CF-09")),
        pytest.param(offers, "uploadpack.allowFilter", ("true", "false"), marks=pytest.mark.rows("CF-11")),
        pytest.param(ref_in_want, "uploadpack.allowRefInWant", ("true", "false"), marks=pytest.mark.rows("CF-15")),
        pytest.param(unborn, "lsrefs.unborn", ("advertise", "allow", "ignore"), marks=pytest.mark.rows("CF-21")),
        pytest.param(offers, "receive.advertiseAtomic", ("true", "false"), marks=pytest.mark.rows("CF-26")),
        pytest.param(offers, "receive.advertisePushOptions", ("true", "false"), marks=pytest.mark.rows("CF-27")),
        pytest.param(offers, "protocol.version", ("0", "1", "2"), marks=pytest.mark.rows("CF-76")),
        pytest.param(offers, "repack.useDeltaBaseOffset", ("true", "false"), marks=pytest.mark.rows("CF-43", "RP-04")),
        pytest.param(pushes, "receive.denyDeletes", ("true", "false"), marks=pytest.mark.rows("CF-36")),
        pytest.param(
            pushes,
            "receive.denyDeleteCurrent",
            ("true", "false", "warn", "ignore", "refuse", "updateInstead"),
            marks=pytest.mark.rows("CF-37"),
        ),
        pytest.param(pushes, "receive.denyNonFastForwards", ("true", "false"), marks=pytest.mark.rows("CF-39")),
        pytest.param(pushes, "receive.denyCurrentBranch", ("warn", "refuse"), marks=pytest.mark.rows("CF-38")),
    ],
)
def test_a_setting_works_as_with_git(pair: Pair, probe: Probe, key: str, values: tuple[str, ...]) -> None:
    for value in values:
        ours, theirs = pair()
        for repo in ours, theirs:
            hidden = repo.git("commit-tree", "-m", "x", "main^{tree}", cwd=repo.path, env=FIXED_TIMES).stdout.strip()
            repo.run("update-ref", "refs/hidden/x", hidden)
            repo.config("transfer.hideRefs", "refs/hidden")
            repo.config("uploadpack.allowFilter", "true")
            repo.broken = key.startswith(("core.", "extensions."))
        for repo in ours, theirs:
            repo.config(key, value)
        assert probe(theirs) == probe(ours), f"{key}={value}"


@pytest.mark.rows("CF-11", "CF-12", "CF-13", "CF-14")
@pytest.mark.parametrize(
    "config",
    [
        {"uploadpack.allowFilter": "true"},
        {"uploadpackfilter.allow": "false"},
        {"uploadpackfilter.allow": "false", "uploadpackfilter.blob:none.allow": "true"},
        {"uploadpackfilter.tree.allow": "false"},
        {"uploadpackfilter.tree.maxDepth": "2"},
        {"uploadpackfilter.combine.allow": "false"},
        {"uploadpackfilter.allow": "false", "uploadpackfilter.combine.allow": "true"},
    ],
)
def test_filters_are_let_in_as_with_git(pair: Pair, config: dict[str, str]) -> None:
    ours, theirs = pair(config={"uploadpack.allowFilter": "true"} | config)
    assert filters(theirs) == filters(ours)


@pytest.mark.rows("CF-10")
def test_the_keepalive_of_a_fetch_is_read(pair: Pair) -> None:
    for value in "0", "-1", "5":
        ours, theirs = pair(config={"uploadpack.keepAlive": value})
        body = lines(f"want {ours.rev('main')} side-band-64k no-progress", FLUSH, "done")
        assert demux(upload(theirs.url, body).packets).ended is demux(upload(ours.url, body).packets).ended is True


def odd_commit(git: Git, repo: Repo, name: str = "maker.git") -> tuple[str, bytes]:
    """A commit without an email, and a pack with it."""
    git("clone", "-q", "--bare", repo.path, name)
    tree = repo.rev("main^{tree}")
    text = f"tree {tree}\nauthor A 1700000000 +0000\ncommitter C <c@example.com> 1700000000 +0000\n\nx\n"
    oid = git(
        "hash-object", "-t", "commit", "--literally", "-w", "--stdin", cwd=name, input=text.encode()
    ).stdout.strip()
    return oid, git.output_bytes("pack-objects", "-q", "--stdout", cwd=name, input=f"{oid}\n".encode())


@pytest.mark.rows("CF-24", "CF-31", "CF-32", "FK-01", "FK-02", "FK-06")
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"transfer.fsckObjects": "true"},
        {"transfer.fsckObjects": "true", "receive.fsckObjects": "false"},
        {"transfer.fsckObjects": "false", "receive.fsckObjects": "true"},
        WITH_FSCK | {"receive.fsck.missingEmail": "warn"},
        WITH_FSCK | {"receive.fsck.missingEmail": "ignore"},
        WITH_FSCK | {"fsck.missingEmail": "ignore"},
        WITH_FSCK | {"receive.fsck.skipList": "skip"},
        WITH_FSCK | {"receive.fsck.nonesuch": "warn"},
    ],
)
def test_pushed_objects_are_checked_as_with_git(pair: Pair, git: Git, config: dict[str, str]) -> None:
    ours, theirs = pair(config=config)
    oid, pack = odd_commit(git, ours)
    seen = []
    for repo in ours, theirs:
        repo.broken = True  # git fsck complains of the commit, rightly
        (repo.path / "skip").write_text(f"# let off\n\n{oid}\n")
        reply = receive(repo.url, push_body([f"{ZERO} {oid} refs/heads/odd"], pack))
        found = re.findall(rb"(?:error|warning): object [^\n]*", demux(reply.packets).progress)
        seen.append((report_of(reply), found))
    assert seen[1] == seen[0]


@pytest.mark.rows("CF-60", "FK-56")
def test_the_checks_of_names_are_not_weakened(pair: Pair, git: Git) -> None:
    ours, theirs = pair(config=WITH_FSCK | {"core.protectHFS": "false", "core.protectNTFS": "false"})
    blob = ours.rev("main:README")
    git("clone", "-q", "--bare", ours.path, "maker.git")
    for name in ".GIT", "git~1", ".g\u200cit":
        tree = git("mktree", cwd="maker.git", input=f"100644 blob {blob}\t{name}\n".encode()).stdout.strip()
        oid = git("commit-tree", "-m", "x", tree, cwd="maker.git").stdout.strip()
        pack = git.output_bytes("pack-objects", "-q", "--stdout", cwd="maker.git", input=f"{oid}\n{tree}\n".encode())
        body = push_body([f"{ZERO} {oid} refs/heads/odd"], pack)
        replies = [receive(repo.url, body) for repo in (ours, theirs)]
        assert report_of(replies[1]) == report_of(replies[0])
        assert report_of(replies[0])[1] == b"ng refs/heads/odd unpacker error"
        assert all(b"hasDotgit" in demux(reply.packets).progress for reply in replies)


@pytest.mark.rows("FK-07", "FK-09")
@pytest.mark.parametrize("config", [{}, WITH_FSCK])
@pytest.mark.parametrize("kind", ["garbage tree", "lacking blob"])
def test_objects_must_parse_and_lead_to_what_is_there(pair: Pair, git: Git, config: dict[str, str], kind: str) -> None:
    ours, theirs = pair(config=config)
    git("clone", "-q", "--bare", ours.path, "maker.git")
    data = b"garbage" if kind == "garbage tree" else b"100644 a\0" + b"\x11" * 20
    literal = ("hash-object", "-t", "tree", "--literally", "-w", "--stdin")
    tree = git(*literal, cwd="maker.git", input=data).stdout.strip()
    text = f"tree {tree}\nauthor A <a@b> 1700000000 +0000\ncommitter C <c@d> 1700000000 +0000\n\nx\n"
    oid = git("hash-object", "-t", "commit", "-w", "--stdin", cwd="maker.git", input=text.encode()).stdout.strip()
    pack = git.output_bytes("pack-objects", "-q", "--stdout", cwd="maker.git", input=f"{oid}\n{tree}\n".encode())
    before = ours.state()
    body = push_body([f"{ZERO} {oid} refs/heads/odd"], pack)
    replies = [report_of(receive(repo.url, body)) for repo in (ours, theirs)]
    assert replies[1][1:] == replies[0][1:]
    assert replies[0][1].startswith(b"ng refs/heads/odd ")
    assert before == ours.state()


@pytest.mark.rows("CF-25", "CF-34", "CF-35", "RP-28", "RP-32")
@pytest.mark.parametrize(
    "config",
    [
        {"transfer.unpackLimit": "1"},
        {"receive.unpackLimit": "1", "transfer.unpackLimit": "10000"},
        {"receive.maxInputSize": "100"},
        {"receive.maxInputSize": "1g"},
        {"receive.maxInputSize": "0"},
    ],
)
def test_sizes_of_pushes(pair: Pair, git: Git, config: dict[str, str]) -> None:
    # How received objects are kept is our own affair (RP-28); that they are there is not.
    ours, theirs = pair(config=config)
    old, new, pack = new_objects(git, ours)
    body = push_body([f"{old} {new} refs/heads/main"], pack)
    replies = [report_of(receive(repo.url, body)) for repo in (ours, theirs)]
    assert replies[1][1:] == replies[0][1:]
    assert (replies[1][0] == b"unpack ok") == (replies[0][0] == b"unpack ok")
    assert theirs.state() == ours.state()


def logs(repo: Repo) -> dict[str, list[str]]:
    """All reflogs, without times."""
    folder = repo.path / "logs"
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []
    return {
        str(path.relative_to(folder)): [
            re.sub(r" \d+ [+-]\d{4}\t", "\t", line) for line in path.read_text().splitlines()
        ]
        for path in files
    }


@pytest.mark.rows("CF-49", "RP-90", "RP-91")
@pytest.mark.parametrize("value", [None, "true", "always", "false"])
@pytest.mark.parametrize("bare", ["true", "false"])
def test_reflogs_are_kept_as_with_git(pair: Pair, value: str | None, bare: str) -> None:
    config = {"core.bare": bare, "receive.denyCurrentBranch": "ignore"}
    ours, theirs = pair(config=config | ({"core.logAllRefUpdates": value} if value is not None else {}))
    main, older = ours.rev("main"), ours.rev("main~1")
    commands = [f"{main} {older} refs/heads/main", f"{ZERO} {main} refs/tags/new", f"{ZERO} {main} refs/other/new"]
    body = push_body(commands, EMPTY_PACK)
    assert report_of(receive(theirs.url, body)) == report_of(receive(ours.url, body))
    assert logs(theirs) == logs(ours)


def modes(folder: Path) -> dict[str, str]:
    """Permissions of refs and of the folders of objects and refs."""
    names = ("refs/heads/deep", "refs/heads/deep/new", "refs/heads/deep/er", "refs/heads/deep/er/new", "objects/pack")
    return {name: stat.filemode((folder / name).stat().st_mode) for name in names}


@pytest.mark.rows("CF-50", "RP-96")
@pytest.mark.parametrize("value", ["false", "group", "all", "0640", "0660", "1", "2"])
def test_shared_repositories_stay_shared(pair: Pair, value: str) -> None:
    ours, theirs = pair()
    for repo in ours, theirs:
        repo.config("core.sharedRepository", value)
    main = ours.rev("main")
    body = push_body([f"{ZERO} {main} refs/heads/deep/new", f"{ZERO} {main} refs/heads/deep/er/new"], EMPTY_PACK)
    assert report_of(receive(theirs.url, body)) == report_of(receive(ours.url, body))
    assert modes(theirs.path) == modes(ours.path)


@pytest.mark.rows("CF-58", "RP-92")
@pytest.mark.parametrize("key", ["core.filesRefLockTimeout", "core.packedRefsTimeout"])
def test_locks_are_waited_for_as_long_as_set(pair: Pair, key: str) -> None:
    ours, theirs = pair()
    topic = ours.rev("topic")
    seen = []
    for repo in ours, theirs:
        repo.run("pack-refs", "--all")
        lock = repo.path / ("refs/heads/topic.lock" if "files" in key else "packed-refs.lock")
        lock.touch()
        for value, least, most in ("0", 0.0, 1.2), ("1500", 1.4, 4.0):
            repo.config(key, value)
            started = time.monotonic()
            reply = receive(repo.url, push_body([f"{topic} {ZERO} refs/heads/topic"], b""))
            assert least <= time.monotonic() - started <= most
            seen.append(report_of(reply))
        lock.unlink()
    assert [line[:2] for report in seen[2:] for line in report] == [line[:2] for report in seen[:2] for line in report]
    assert topic == ours.rev("topic")


@pytest.mark.rows("CF-54", "CF-55", "CF-59", "CF-64", "CF-65", "CF-66", "CF-68", "CF-69", "CF-90", "CF-91")
def test_settings_of_speed_and_of_clients_change_nothing_that_is_seen(server: Server, git: Git) -> None:
    odd = {
        "core.commitGraph": "false",
        "core.multiPackIndex": "false",
        "core.fsync": "none",
        "core.fsyncMethod": "writeout-only",
        "commitGraph.generationVersion": "1",
        "pack.window": "0",
        "pack.depth": "1",
        "pack.threads": "1",
        "pack.windowMemory": "1k",
        "pack.deltaCacheSize": "1",
        "pack.useBitmaps": "false",
        "pack.allowPackReuse": "false",
        "pack.useSparse": "false",
        "pack.indexVersion": "1",
        "pack.writeReverseIndex": "false",
        "pack.packSizeLimit": "1m",
        "http.postBuffer": "1",
        "push.default": "nothing",
        "fetch.fsckObjects": "true",
        "transfer.credentialsInUrl": "die",
        "core.autocrlf": "true",
        "core.editor": "false",
        "protocol.allow": "never",
    }
    repo = server.create_repo("linear", config=odd)
    git("clone", "-q", repo.url, "clone")
    assert repo.rev("main") == git.rev("clone", "HEAD")
    git.fsck("clone")
    git.commit_file("clone", "a.txt", "1\n")
    git("push", "-q", "origin", "main", cwd="clone")
    assert git.rev("clone", "HEAD") == repo.rev("main")


@pytest.mark.rows("CF-84")
def test_included_files_count(pair: Pair) -> None:
    ours, theirs = pair()
    for repo in ours, theirs:
        (repo.path / "more").write_text("[receive]\n\tdenyNonFastForwards = true\n")
        (repo.path / "even-more").write_text("[receive]\n\tdenyDeletes = true\n")
        repo.config("include.path", "more")
        repo.config(f"includeIf.gitdir:{repo.path}/.path", "even-more")
    assert pushes(theirs) == pushes(ours)


@pytest.mark.rows("CF-88")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("receive.unpackLimit", "abc"),
        ("transfer.unpackLimit", "1x"),
        ("receive.denyDeletes", "maybe"),
        ("receive.denyCurrentBranch", "perhaps"),
        ("receive.denyNonFastForwards", "2x"),
        ("receive.maxInputSize", "many"),
        ("receive.keepAlive", "long"),
        ("receive.fsckObjects", "some"),
        ("receive.autogc", "never"),
        ("receive.updateServerInfo", "later"),
        ("receive.shallowUpdate", "x"),
        ("receive.advertiseAtomic", "x"),
        ("receive.certNonceSlop", "x"),
        ("http.receivepack", "x"),
    ],
)
def test_a_bad_value_is_fatal(pair: Pair, key: str, value: str) -> None:
    ours, theirs = pair()
    body = push_body([f"{ZERO} {ours.rev('main')} refs/heads/new"], EMPTY_PACK)
    for repo in ours, theirs:
        with (repo.path / "config").open("a") as file:
            section, name = key.split(".")
            file.write(f"[{section}]\n\t{name} = {value}\n")
        reply = receive(repo.url, body)
        assert b"ok refs" not in reply.body
        assert reply.status == 500 or reply.body == b""
        assert "refs/heads/new" not in repo.refs()
