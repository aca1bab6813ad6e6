"""What a server may offer beside the pack: bundles, promisor remotes, sizes, session ids, agents.

The git of these tests may be older than some of it; what it doesn't know is compared with stated values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from compat import frontends
from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import FLUSH, V2, discover, lines, pack_objects, upload
from compat.test_raw_v2 import ask, command

Twin = Callable[[Repo], str]


def version(git: Git) -> tuple[int, ...]:
    """The git of these tests, as (2, 39)."""
    return tuple(map(int, re.findall(r"\d+", git("version").stdout)[:2]))


def capability(url: str, name: str) -> list[bytes]:
    """The lines of a v2 advertisement that begin with a name."""
    packets = discover(url, headers=V2).packets
    return [line.rstrip(b"\n") for line in packets if isinstance(line, bytes) and line.startswith(name.encode())]


BUNDLES = [
    ("bundle.version", "1"),
    ("bundle.mode", "all"),
    ("bundle.heuristic", "creationToken"),
    ("bundle.One.uri", "https://bundles.example/one.bundle"),
    ("bundle.One.creationToken", "1"),
    ("bundle.two.uri", "two.bundle"),
    ("bundle.empty.uri", ""),
    ("bundle.ünï.uri", "x=y z"),
]


@pytest.mark.every_frontend
@pytest.mark.rows("V2-49", "V2-50", "CF-18", "CF-20", "SEC-48")
def test_bundle_uris(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo()
    for key, value in BUNDLES:
        repo.config(key, value)
    assert capability(repo.url, "bundle-uri") == []
    repo.config("uploadpack.advertiseBundleURIs", "true")
    assert capability(repo.url, "bundle-uri") == [b"bundle-uri"]
    reply = ask(repo.url, command("bundle-uri"))
    expected = [key.replace("creationToken", "creationtoken") + "=" + value for key, value in BUNDLES if value]
    assert reply.packets == [*(line.encode() for line in expected), FLUSH]
    if version(git) >= (2, 40):
        assert ask(twin(repo), command("bundle-uri")).packets == reply.packets


@pytest.mark.rows("V2-49", "V2-48")
def test_bundle_uri_takes_no_arguments_and_its_switch_must_be_on(server: Server) -> None:
    repo = server.create_repo(config={"uploadpack.advertiseBundleURIs": "true"})
    assert ask(repo.url, command("bundle-uri")).body == b"0000"
    refused = ask(repo.url, command("bundle-uri", "x")).packets
    assert refused == [b"ERR bundle-uri: unexpected argument: 'x'"]
    for value in ("false", "nonsense"):
        repo.config("uploadpack.advertiseBundleURIs", value)
        assert ask(repo.url, command("bundle-uri")).packets == [b"ERR invalid command 'bundle-uri'"]


@pytest.mark.rows("V2-50")
def test_bundles_of_the_servers_own_configuration(private_server: Callable[..., Any]) -> None:
    count = {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "bundle.all.uri", "GIT_CONFIG_VALUE_0": "https://x.example/b"}
    switch = {"GIT_CONFIG_KEY_1": "uploadpack.advertisebundleuris", "GIT_CONFIG_VALUE_1": "1"}
    server = private_server(count | switch)
    repo = server.create_repo(config={"bundle.own.uri": "own"})
    expected = [b"bundle.own.uri=own", b"bundle.all.uri=https://x.example/b", FLUSH]
    assert ask(repo.url, command("bundle-uri")).packets == expected


@pytest.mark.rows("V2-49", "V2-51")
def test_a_client_fetches_the_bundle_first(server: Server, git: Git) -> None:
    repo = server.create_repo("linear")
    bundle = git.cwd / "all.bundle"
    repo.run("bundle", "create", "-q", str(bundle), "main")
    for key, value in (("version", "1"), ("mode", "all"), ("one.uri", f"file://{bundle}")):
        repo.config(f"bundle.{key}", value)
    repo.config("uploadpack.advertiseBundleURIs", "true")
    git("-c", "transfer.bundleURI=true", "clone", "-q", repo.url, "clone")
    assert git.rev("clone", "HEAD") == repo.rev("main")
    if version(git) >= (2, 40):
        assert "refs/bundles/heads/main" in git.refs("clone")


@pytest.mark.rows("V2-52", "CF-78", "SEC-48")
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, []),
        ({"promisor.advertise": "true"}, [b"promisor-remote=name=lop,url=https://lop.example/r%3bx%2cy%25"]),
        (
            {"promisor.advertise": "true", "promisor.sendFields": "token, partialclonefilter , nosuch"},
            [
                b"promisor-remote=name=lop,url=https://lop.example/r%3bx%2cy%25"
                b",partialCloneFilter=blob:limit=5k,token=s%20t"
            ],
        ),
        (
            {
                "promisor.advertise": "true",
                "remote.b c.promisor": "true",
                "remote.b c.url": "u",
                "remote.nourl.promisor": "true",
                "remote.not.url": "x",
            },
            [b"promisor-remote=name=lop,url=https://lop.example/r%3bx%2cy%25;name=b%20c,url=u"],
        ),
    ],
)
def test_promisor_remotes(server: Server, git: Git, twin: Twin, config: dict[str, str], expected: list[bytes]) -> None:
    repo = server.create_repo()
    repo.config("remote.lop.promisor", "true")
    repo.config("remote.lop.url", "https://lop.example/r;x,y%")
    repo.config("remote.lop.partialCloneFilter", "blob:limit=5k")
    repo.config("remote.lop.token", "s t")
    for key, value in config.items():
        repo.config(key, value)
    assert capability(repo.url, "promisor-remote") == expected
    if version(git) >= (2, 52):
        assert capability(twin(repo), "promisor-remote") == expected


@pytest.mark.rows("V2-53", "U0-65")
def test_a_client_that_accepts_the_promisor_gets_the_rest(server: Server, git: Git) -> None:
    origin = server.create_repo(config={"uploadpack.allowFilter": "true"})
    partial = git.cwd / "partial.git"
    git("clone", "-q", "--bare", "--filter=blob:none", origin.url, partial)
    target = server.root / "partial-served.git"
    partial.rename(target)
    (target / "git-daemon-export-ok").touch()
    repo = server.adopt(target, {"promisor.advertise": "true"})
    repo.broken = True
    keys = ("object-format=sha1", "agent=compat/1", "promisor-remote=origin")
    want = f"want {repo.rev('main')}"
    reply = ask(repo.url, command("fetch", want, "no-progress", "done", keys=keys))
    assert b"PACK" in reply.body
    origin_blobs = origin.objects()
    assert (
        len(origin_blobs) > len(git("rev-list", "--objects", "--all", "--missing=allow-any", cwd=target).stdout) / 200
    )
    repo.config("promisor.advertise", "false")
    refused = ask(repo.url, command("fetch", want, "done", keys=keys)).packets
    assert refused == [b"ERR unknown capability 'promisor-remote=origin'"]


@pytest.mark.rows("V2-47", "V2-48", "CF-23", "SEC-26")
def test_object_info(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo(config={"transfer.advertiseObjectInfo": "true"})
    assert capability(repo.url, "object-info") == [b"object-info"]
    oid = repo.rev("main")
    size = repo.run("cat-file", "-s", oid)
    bodies = [
        command("object-info", "size", f"oid {oid}", f"oid {'1' * 40}"),
        command("object-info", f"oid {oid}"),
        command("object-info", "size"),
        command("object-info", "size", "oid zz"),
        command("object-info", "nosuch", f"oid {oid}", "size"),
    ]
    answers = [ask(repo.url, body).packets for body in bodies]
    assert answers[0] == [b"size", f"{oid} {size}".encode(), b"1" * 40 + b" ", FLUSH]
    for body, answer in zip(bodies, answers, strict=True):
        if b"size" in body or version(git) >= (2, 50):  # 2.39 always tells sizes
            assert ask(twin(repo), body).packets == answer
    repo.config("transfer.advertiseObjectInfo", "false")
    assert capability(repo.url, "object-info") == []
    assert ask(repo.url, bodies[0]).packets == [b"ERR invalid command 'object-info'"]


@pytest.mark.rows("U0-19", "V2-11", "RP-07", "CF-22", "U0-21")
def test_session_ids_go_both_ways(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo()
    assert b"session-id" not in discover(repo.url).body + discover(repo.url, headers=V2).body
    repo.config("transfer.advertiseSID", "true")
    shape = re.compile(rb"[ \n]session-id=[!-~]{8,}(?=[ \n])")
    for url in (repo.url, twin(repo)):
        for service, headers in (("upload-pack", {}), ("upload-pack", V2), ("receive-pack", {})):
            body = b"".join(p for p in discover(url, service, headers).packets if isinstance(p, bytes))
            assert shape.search(b"\n" + body.replace(b"session-id", b"\nsession-id") + b"\n"), (url, service)
    assert discover(repo.url).body != discover(repo.url).body
    keys = ("object-format=sha1", "agent=x", "session-id=mine")
    assert b"refs/heads/main" in ask(repo.url, command("ls-refs", keys=keys)).body
    git("-c", "transfer.advertiseSID=true", "clone", "-q", repo.url, "clone")
    git.commit_file("clone", "x", "y")
    git("-c", "transfer.advertiseSID=true", "push", "-q", "origin", "main", cwd="clone")
    want = f"want {repo.rev('topic')} no-progress session-id=s agent=a object-format=sha1"
    assert b"PACK" in upload(repo.url, lines(want, FLUSH, "done")).body
    repo.config("transfer.advertiseSID", "false")
    assert ask(repo.url, command("ls-refs", keys=keys)).packets == [b"ERR unknown capability 'session-id=mine'"]


@pytest.mark.rows("V2-03", "U0-18", "RP-08")
def test_the_agent_names_program_version_and_system(server: Server) -> None:
    repo = server.create_repo()
    (line,) = capability(repo.url, "agent=")
    assert re.fullmatch(rb"agent=git/govc-[0-9.]+-Linux", line)
    for service in ("upload-pack", "receive-pack"):
        assert b" " + line in discover(repo.url, service).body


@pytest.mark.rows("HB-74", "U0-18")
def test_the_environment_may_name_the_agent(
    private_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    env = {"GIT_USER_AGENT": "our agent/1 é"}
    server = private_server(env)
    repo = server.create_repo()
    with frontends.start("oracle", server.root, tmp_path_factory.mktemp("oracle-agent"), env) as oracle:
        other = repo.url.replace(server.url, oracle.url, 1)
        found = [re.search(rb"agent=(our[^\n]*)\n", discover(url).body) for url in (repo.url, other)]
    assert found[0] is not None and found[1] is not None
    assert found[0][1] == found[1][1]


@pytest.mark.rows("HB-61", "CF-75")
def test_safe_bare_repository_is_no_concern_of_a_server(private_server: Callable[..., Any], git: Git) -> None:
    pair = {"GIT_CONFIG_KEY_0": "safe.bareRepository", "GIT_CONFIG_VALUE_0": "explicit"}
    server = private_server({"GIT_CONFIG_COUNT": "1"} | pair)
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    assert git.rev("clone", "HEAD") == repo.rev("main")


@pytest.mark.rows("CF-90", "CF-76", "CF-77", "CF-83", "CF-85", "CF-66", "CF-62", "CF-63")
def test_settings_of_clients_change_nothing(server: Server, git: Git) -> None:
    """What only a client, a work tree or a writer of packs looks at may say anything."""
    plain = server.create_repo()
    odd = server.create_repo(
        config={
            "protocol.version": "0",
            "protocol.allow": "never",
            "protocol.http.allow": "never",
            "transfer.credentialsInUrl": "die",
            "transfer.bundleURI": "true",
            "http.proxy": "nowhere:1",
            "http.sslVerify": "true",
            "http.postBuffer": "1",
            "push.default": "nothing",
            "fetch.fsckObjects": "true",
            "sideband.allowControlCharacters": "false",
            "user.name": "Someone",
            "user.email": "someone@example.com",
            "init.defaultBranch": "other",
            "pack.useSparse": "false",
            "feature.experimental": "true",
            "core.precomposeUnicode": "true",
            "core.createObject": "rename",
        }
    )
    assert discover(plain.url, headers=V2).body == discover(odd.url, headers=V2).body
    assert discover(plain.url).body == discover(odd.url).body
    git("clone", "-q", odd.url, "clone")
    git.commit_file("clone", "a", "b")
    git("push", "-q", "origin", "main", cwd="clone")
    assert git.rev("clone", "main") == odd.rev("main")


def uri_answer(git: Git, url: str, body: bytes) -> tuple[list[object], set[str], bytes]:
    """The packets before the pack without their band, the pack's objects, and what band 3 said."""
    head: list[object] = []
    pack, fatal = b"", b""
    packets = ask(url, body).packets
    start = packets.index(b"\1packfile\n") if b"\1packfile\n" in packets else len(packets)
    for number, packet in enumerate(packets):
        if not isinstance(packet, bytes):
            head.append(packet)
        elif packet[:1] == b"\3":
            fatal += packet[1:]
        elif packet[:1] == b"\1" and number > start:
            pack += packet[1:]
        elif packet[:1] == b"\1" and packet != b"\1":
            head.append(packet[1:])
    return head, pack_objects(git, pack) if pack else set(), fatal


@pytest.mark.rows("V2-42", "CF-17", "V2-32", "V2-41")
@pytest.mark.parametrize("protocols", ["https", "http,https", "ftp", "https,"])
def test_packfile_uris(server: Server, git: Git, twin: Twin, protocols: str) -> None:
    repo = server.create_repo("small", config={"uploadpack.allowSidebandAll": "true"})
    for pack in list(repo.path.glob("objects/pack/*.pack")):  # git forgets the URIs of blobs that lie in packs
        data = pack.read_bytes()
        for suffix in (".pack", ".idx", ".rev", ".bitmap"):
            pack.with_suffix(suffix).unlink(missing_ok=True)
        repo.run("unpack-objects", "-q", input=data)
    blobs = [line.split()[0] for line in repo.run("ls-tree", "-r", "--format=%(objectname)", "main").splitlines()]
    other = repo.run("hash-object", "-w", "--stdin", input=b"in no tree")
    uris = [f"{blobs[0]} {'ab' * 20} https://cdn.example/x y", f"{blobs[1]} {'cd' * 20} http://cdn.example/2"]
    for uri in (*uris, f"{other} {'ef' * 20} https://cdn.example/no"):
        repo.run("config", "--add", "uploadpack.blobPackfileUri", uri)
    assert b"packfile-uris" in capability(repo.url, "fetch=")[0]
    want = f"want {repo.rev('main')}"
    for items in (
        (want, f"packfile-uris {protocols}", "sideband-all", "no-progress", "done"),
        (want, "sideband-all", "no-progress", "done"),
        (want, "deepen 1", f"packfile-uris {protocols}", "sideband-all", "no-progress", "done"),
    ):
        ours, theirs = (uri_answer(git, url, command("fetch", *items)) for url in (repo.url, twin(repo)))
        assert sorted(map(str, ours[0])) == sorted(map(str, theirs[0]))
        assert ours[1] == theirs[1]
        if any(item.startswith("packfile-uris http") for item in items):
            assert ours[0][-5:-2] if "http," in protocols else ours[0][-4:-2]
            assert blobs[0] not in ours[1]


@pytest.mark.rows("V2-42", "CF-17")
def test_packfile_uris_need_a_side_band_and_stand_once(server: Server, git: Git) -> None:
    repo = server.create_repo("small", config={"uploadpack.allowSidebandAll": "true"})
    blob = repo.run("ls-tree", "-r", "--format=%(objectname)", "main").split()[0]
    repo.config("uploadpack.blobPackfileUri", f"{blob} {'ab' * 20} https://cdn.example/x")
    want = f"want {repo.rev('main')}"
    plain = ask(repo.url, command("fetch", want, "packfile-uris https", "no-progress", "done")).body
    assert b"cdn.example" not in plain
    twice = ask(repo.url, command("fetch", want, "packfile-uris https", "packfile-uris http", "done")).packets
    assert twice == [b"ERR multiple packfile-uris lines forbidden"]
    repo.config("uploadpack.blobPackfileUri", "nonsense")
    bad = ask(repo.url, command("fetch", want, "done")).packets
    assert bad[0] != b"packfile\n"


@pytest.mark.rows("V2-42")
def test_a_client_downloads_what_lies_elsewhere(server: Server, git: Git) -> None:
    """A stock client gets the pack behind the URI by itself: here from the dumb route of another repository."""
    repo = server.create_repo("small", config={"uploadpack.allowSidebandAll": "true"})
    blob = repo.run("ls-tree", "-r", "--format=%(objectname)", "main").split()[0]
    store = server.create_repo("empty")
    pack = repo.git.output_bytes("pack-objects", "--stdout", cwd=repo.path, input=f"{blob}\n".encode())
    name = store.git("index-pack", "--stdin", cwd=store.path, input=pack).stdout.split()[-1]
    uri = f"{store.url}/objects/pack/pack-{name}.pack"
    repo.config("uploadpack.blobPackfileUri", f"{blob} {name} {uri}")
    options = ["-c", "protocol.version=2", "-c", "fetch.uriprotocols=http"]
    git(*options, "clone", "-q", repo.url, "clone", env={"GIT_TEST_SIDEBAND_ALL": "1"})
    git.fsck("clone")
    assert blob in git.objects("clone")
    kept = {path.stem for path in (git.cwd / "clone/.git/objects/pack").glob("*.pack")}
    assert f"pack-{name}" in kept
