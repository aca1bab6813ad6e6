"""Area G: settings of git that change what a client sees, in two equal repositories, one behind git, one behind us.

The same requests go to both; what can be seen of the setting must agree. Where git is older than a setting, values are
stated. What settings change on the disk: test_configuration_disk.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compat import frontends
from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.pushing import EMPTY_PACK, push_body, report_of
from compat.rawhttp import (
    DELIM,
    FLUSH,
    V2,
    ZERO,
    discover,
    lines,
    make_pack,
    parse_advertisement,
    receive,
    request,
    upload,
)

Pair = Callable[..., tuple[Repo, Repo]]
Probe = Callable[[Repo], object]
Settings = dict[str, str]

FIXED_TIMES = {"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}


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
    """Which filters are taken, in protocol v2 and in v0."""
    out = []
    specs = ("blob:none", "blob:limit=10", "tree:0", "tree:1", "tree:3", "object:type=commit", "object:type=tree")
    for spec in *specs, "combine:blob:none+tree:1", "combine:blob:none+tree:2":
        body = lines("command=fetch", DELIM, f"want {repo.rev('main')}", f"filter {spec}", "done", FLUSH)
        out.append(b"packfile" in upload(repo.url, body, V2).body)
        want = f"want {repo.rev('main')} filter side-band-64k no-progress"
        out.append(b"ERR " in upload(repo.url, lines(want, f"filter {spec}", FLUSH, "done")).body[:200])
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


@pytest.mark.rows("CF-02", "CF-06", "CF-09", "CF-16", "CF-46", "CF-88")
@pytest.mark.parametrize(
    "settings",
    [
        case("CF-02", http__uploadpack="yes"),
        case("CF-06", transfer__hideRefs="refs/tags"),
        case("CF-06", uploadpack__hideRefs="refs/heads/topic"),
        case("CF-06", receive__hideRefs="refs/heads"),
        case("CF-09", uploadpack__allowAnySHA1InWant="false", uploadpack__allowTipSHA1InWant="true"),
        case("CF-16", uploadpack__allowSidebandAll="true"),
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


@pytest.mark.rows("CF-11", "CF-12", "CF-13", "CF-14")
@pytest.mark.parametrize(
    "config",
    [
        {"uploadpack.allowFilter": "true"},
        {"uploadpackfilter.allow": "false"},
        {"uploadpackfilter.allow": "false", "uploadpackfilter.blob:none.allow": "true"},
        {"uploadpackfilter.tree.allow": "false"},
        {"uploadpackfilter.tree.maxDepth": "1"},
        {"uploadpackfilter.tree.maxDepth": "2"},
        {"uploadpackfilter.allow": "false", "uploadpackfilter.tree.allow": "true"},
        {"uploadpackfilter.blob:none.allow": "false"},
        {"uploadpackfilter.object:type.allow": "false"},
        {"uploadpackfilter.combine.allow": "false"},
        {"uploadpackfilter.allow": "false", "uploadpackfilter.combine.allow": "true"},
    ],
    ids=str,
)
def test_filters_are_let_in_as_with_git(pair: Pair, config: dict[str, str]) -> None:
    ours, theirs = pair(config={"uploadpack.allowFilter": "true"} | config)
    assert filters(theirs) == filters(ours)


@pytest.mark.rows("CF-05", "SEC-05")
def test_the_request_buffer_is_bounded(server: Server) -> None:
    repo = server.create_repo(config={"http.maxRequestBuffer": "10k"})
    want = f"want {repo.rev('main')}"
    small = lines(want, FLUSH, *(f"have {n:040x}" for n in range(50)), "done")
    large = lines(want, FLUSH, *(f"have {n:040x}" for n in range(1000)), "done")
    assert b"PACK" in upload(repo.url, small).body
    reply = upload(repo.url, large)
    assert reply.status == 200  # as git, which dies behind it
    assert reply.body == b"0039ERR limit exceeded: maxRequestBuffer: more than 10240"
    repo.config("http.maxRequestBuffer", "1m")
    assert b"PACK" in upload(repo.url, large).body


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


@pytest.mark.rows("CF-04")
def test_the_door_of_archives(server: Server) -> None:
    for value, expected in (("true", 200), ("false", 403), (None, 403)):
        repo = server.create_repo(config={} if value is None else {"http.uploadarchive": value})
        types = {"Content-Type": "application/x-git-upload-archive-request"}
        body = lines("argument --list", FLUSH)
        assert request(repo.url, "POST", "/git-upload-archive", body=body, headers=types).status == expected


@pytest.mark.rows("RP-14")
def test_version_1_is_said_first_to_pushers_too(pair: Pair) -> None:
    ours, theirs = pair()
    shown = [discover(repo.url, "receive-pack", {"Git-Protocol": "version=1"}).packets for repo in (ours, theirs)]
    assert shown[0][:3] == shown[1][:3] == [b"# service=git-receive-pack\n", FLUSH, b"version 1\n"]


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


@pytest.mark.rows("CF-74", "HB-59", "SEC-22")
@pytest.mark.parametrize(
    ("value", "served"),
    [
        (["*"], True),
        (["PATH"], True),
        (["/elsewhere"], False),
        ([""], False),
        ([], False),
        (["*", ""], False),
        (["/elsewhere", "", "PATH"], True),
        (["PARENT/*"], True),
        (["PARENT"], False),
    ],
)
def test_safe_directories(
    private_server: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    value: list[str],
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
    places = [item.replace("PATH", str(repo.path)).replace("PARENT", str(repo.path.parent)) for item in value]
    file.write_text("[safe]\n" + "".join(f'\tdirectory = "{place}"\n' for place in places))
    os.chown(repo.path, 12345, 12345)
    if value == ["PARENT/*"]:  # which git knows since 2.46
        assert discover(repo.url).status == 200
        os.chown(repo.path, 0, 0)
        return
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
