"""Area A by hand-made requests: routes, gates, statuses, headers, paths, bodies."""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from compat import hookkit
from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.pushing import EMPTY_PACK, new_objects, push_body, report_of
from compat.rawhttp import (
    FLUSH,
    RECEIVE,
    UPLOAD,
    V2,
    ZERO,
    Reply,
    demux,
    discover,
    lines,
    pack_objects,
    parse_advertisement,
    parse_report,
    post,
    raw_head,
    receive,
    request,
    send_raw,
    upload,
)

Twin = Callable[[Repo], str]
ADVERT = "application/x-git-upload-pack-advertisement"
NO_CACHE = {
    "expires": "Fri, 01 Jan 1980 00:00:00 GMT",
    "pragma": "no-cache",
    "cache-control": "no-cache, max-age=0, must-revalidate",
}


def wanted(repo: Repo, ref: str = "main") -> bytes:
    """A complete v0 clone request for one ref."""
    return lines(f"want {repo.rev(ref)} side-band-64k ofs-delta no-progress", FLUSH, "done")


def assert_never_cached(reply: Reply) -> None:
    """The triple of http-backend's hdr_nocache."""
    assert {name: reply.headers.get(name) for name in NO_CACHE} == NO_CACHE


@pytest.mark.every_frontend
@pytest.mark.parametrize("service", ["upload-pack", "receive-pack"])
@pytest.mark.rows("HB-01", "HB-02", "HB-30", "HB-32", "HB-65")
def test_discovery_has_git_types_and_is_never_cached(server: Server, service: str) -> None:
    reply = discover(server.create_repo().url, service)
    assert reply.status == 200
    assert f"application/x-git-{service}-advertisement" == reply.headers["content-type"]
    assert_never_cached(reply)
    assert f"# service=git-{service}\n".encode() == reply.packets[0]


@pytest.mark.every_frontend
@pytest.mark.rows("HB-31", "HB-32", "HB-49")
def test_answers_of_services_have_git_types_and_are_never_cached(server: Server) -> None:
    repo = server.create_repo()
    for service, body in (("upload-pack", wanted(repo)), ("receive-pack", b"0000")):
        reply = post(repo.url, service, body)
        assert reply.status == 200
        assert f"application/x-git-{service}-result" == reply.headers["content-type"]
        assert_never_cached(reply)
    reply = upload(repo.url, lines("want " + "1" * 40, FLUSH, "done"))
    assert reply.status == 200
    assert b"ERR upload-pack: not our ref " + b"1" * 40 in reply.body


@pytest.mark.every_frontend
@pytest.mark.rows("HB-13", "HB-20", "HB-32")
@pytest.mark.parametrize(
    "path",
    [
        "/config",
        "/refs/heads/main",
        "/packed-refs",
        "/description",
        "/hooks/update",
        "/logs/HEAD",
        "/git-daemon-export-ok",
        "/objects/info/commit-graph",
        "/objects/pack/multi-pack-index",
        "/whatever",
        "/objects/",
        "/",
        "/info/",
        "/index",
        "/objects/pack/pack-" + "1" * 40 + ".rev",
        "/objects/pack/pack-" + "1" * 40 + ".bitmap",
        "/objects/pack/pack-" + "1" * 40 + ".keep",
        "/objects/pack/pack-" + "1" * 40 + ".mtimes",
        "/objects/pack/other.pack",
        "/info/refs/x",
    ],
)
def test_nothing_else_is_reachable(server: Server, path: str) -> None:
    """A file lies at every one of these paths that can be one, so the 404 isn't for want of it."""
    repo = server.create_repo()
    file = repo.path / path[1:]
    made = not path.endswith("/") and not file.exists() and not path.startswith("/info/refs")
    if made:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret")
    reply = request(repo.url, "GET", path)
    if made:
        file.unlink()
    assert (reply.status, reply.body) == (404, b"")
    assert_never_cached(reply)


@pytest.mark.every_frontend
@pytest.mark.rows("HB-17", "HB-19")
@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/HEAD", "GET, HEAD"),
        ("POST", "/info/refs", "GET, HEAD"),
        ("DELETE", "/objects/info/packs", "GET, HEAD"),
        ("GET", "/git-upload-pack", "POST"),
        ("HEAD", "/git-receive-pack", "POST"),
        ("PUT", "/git-upload-pack", "POST"),
    ],
)
def test_the_wrong_method_is_answered_405_with_allow(server: Server, method: str, path: str, allow: str) -> None:
    repo = server.create_repo()
    for base in (repo.url, f"{server.url}/nosuch.git"):
        reply = request(base, method, path)
        assert (405, allow) == (reply.status, reply.headers["allow"])
        assert reply.reason == "Method Not Allowed"
        assert_never_cached(reply)


@pytest.mark.every_frontend
@pytest.mark.rows("HB-16")
def test_head_is_get_without_a_body(server: Server) -> None:
    repo = server.create_repo()
    for path in ("/info/refs", "/HEAD", "/info/refs?service=git-upload-pack"):
        get, head = request(repo.url, "GET", path), request(repo.url, "HEAD", path)
        assert (head.status, head.body) == (200, b"")
        said = [
            {
                name: value
                for name, value in reply.headers.items()
                if name not in ("date", "content-length", "x-request-id")
            }
            for reply in (get, head)
        ]
        for headers in said:  # how a body is framed says nothing where there is none
            headers.pop("transfer-encoding", None)
        assert said[0] == said[1]


@pytest.mark.every_frontend
@pytest.mark.rows("HB-23")
@pytest.mark.parametrize(
    "service", ["foo", "", "upload-pack", "git-", "git-foo", "git-upload-pack%00", "git-upload-packx"]
)
def test_unknown_services_are_forbidden(server: Server, service: str) -> None:
    repo = server.create_repo()
    reply = request(repo.url, "GET", f"/info/refs?service={service}")
    if service == "git-upload-pack%00":
        assert reply.status in (200, 400, 403)
        return
    assert (reply.status, reply.reason) == (403, "Forbidden")
    assert_never_cached(reply)


@pytest.mark.rows("HB-67")
def test_the_query_is_decoded_and_its_last_value_wins(server: Server) -> None:
    repo = server.create_repo()
    for query in (
        "x=1&service=git-upload-pack",
        "service=foo&service=git-upload-pack",
        "service=git%2Dupload%2Dpack&",
        "x=a+b%20c&service=git-upload-pack",
    ):
        assert request(repo.url, "GET", f"/info/refs?{query}").headers["content-type"] == ADVERT
    assert request(repo.url, "GET", "/info/refs?service=git-upload-pack&service=foo").status == 403
    assert request(repo.url, "GET", "/info/refs?service=git-upload-pack+").status == 403


@pytest.mark.every_frontend
@pytest.mark.rows("HB-21", "HB-22", "HB-32", "SEC-20")
def test_repositories_that_are_missing_or_not_exported_are_404(server: Server) -> None:
    hidden = server.create_repo(exported=False)
    for base in (f"{server.url}/nosuch.git", hidden.url):
        replies = [
            discover(base),
            discover(base, "receive-pack"),
            request(base, "GET", "/HEAD"),
            request(base, "GET", "/info/refs"),
            upload(base, b"0000"),
            receive(base, b"0000"),
            request(base, "GET", "/objects/info/packs"),
        ]
        assert [(reply.status, reply.reason, reply.body) for reply in replies] == [(404, "Not Found", b"")] * 7
        for reply in replies:
            assert_never_cached(reply)


@pytest.mark.rows("HB-24", "HB-26", "HB-28")
@pytest.mark.parametrize("user", [None, "grace"])
@pytest.mark.parametrize("value", [None, "true", "false"])
def test_the_gate_of_receive_pack(server: Server, value: str | None, user: str | None) -> None:
    repo = server.create_repo(pushable=False)
    if value is not None:
        repo.config("http.receivepack", value)
    if user is not None and server.name == "nginx":
        pytest.skip("the user's name is the proxy's to give")
    headers = {} if user is None else {"X-Remote-User": user}
    open_door = value == "true" or (value is None and user is not None)
    expected = 200 if open_door else 403
    assert expected == discover(repo.url, "receive-pack", headers).status
    reply = receive(repo.url, b"0000", headers)
    assert expected == reply.status
    if not open_door:
        assert_never_cached(reply)


@pytest.mark.every_frontend
@pytest.mark.rows("HB-24", "HB-27", "HB-28")
def test_configuration_is_read_with_every_request(server: Server) -> None:
    repo = server.create_repo()
    for value, status in (("false", 403), ("true", 200), ("no", 403), ("1", 200)):
        repo.config("http.uploadpack", value)
        assert [status, status] == [discover(repo.url).status, upload(repo.url, b"0000").status]
        assert request(repo.url, "GET", "/HEAD").status == 200
    main, pack = repo.rev("main"), next(repo.path.glob("objects/pack/*.pack")).stem
    (repo.path / "objects/info/alternates").write_text("")
    (repo.path / "objects/info/http-alternates").write_text("")
    paths = ["/HEAD", "/info/refs", f"/objects/{main[:2]}/{main[2:]}", f"/objects/pack/{pack}.pack"]
    paths += [f"/objects/pack/{pack}.idx", *(f"/objects/info/{name}" for name in ("packs", "alternates"))]
    for value, status in (("false", 403), ("true", 200)):
        repo.config("http.getanyfile", value)
        for path in (*paths, "/objects/info/http-alternates"):
            assert (path, status) == (path, request(repo.url, "GET", path).status)
        assert discover(repo.url).status == 200
        assert b"PACK" in upload(repo.url, wanted(repo)).body


@pytest.mark.every_frontend
@pytest.mark.rows("HB-29")
@pytest.mark.parametrize(
    "kind", [None, "text/plain", UPLOAD + "; charset=utf-8", RECEIVE, "Application/x-git-upload-pack-request"]
)
def test_another_content_type_is_unsupported(server: Server, twin: Twin, kind: str | None) -> None:
    repo = server.create_repo()
    headers = {} if kind is None else {"Content-Type": kind}
    reply = request(repo.url, "POST", "/git-upload-pack", body=b"0000", headers=headers)
    assert (reply.status, reply.reason) == (415, "Unsupported Media Type")
    assert_never_cached(reply)
    assert UPLOAD.encode() in reply.body
    if kind is not None:
        assert kind.encode() in reply.body
    theirs = request(twin(repo), "POST", "/git-upload-pack", body=b"0000", headers=headers)
    assert (theirs.status, theirs.headers.get("content-type")) == (415, reply.headers.get("content-type"))
    if kind is not None:
        assert theirs.body == reply.body


@pytest.mark.every_frontend
@pytest.mark.rows("HB-42", "RP-17")
def test_the_probe_of_four_bytes_is_answered(server: Server) -> None:
    repo = server.create_repo()
    before = repo.state()
    for service in ("upload-pack", "receive-pack"):
        reply = post(repo.url, service, b"0000")
        assert reply.status == 200
        assert len(reply.body) <= 4
    assert before == repo.state()


@pytest.mark.every_frontend
@pytest.mark.rows("HB-37", "HB-41")
@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
@pytest.mark.parametrize("chunked", [False, True])
def test_gzip_and_chunked_bodies_are_decoded(server: Server, git: Git, coding: str, chunked: bool) -> None:
    repo = server.create_repo()
    packed = gzip.compress(wanted(repo))
    body = [packed[:7], packed[7:20], packed[20:]] if chunked else packed
    reply = post(repo.url, "upload-pack", body, {"Content-Encoding": coding})
    assert reply.status == 200
    assert repo.rev("main") in pack_objects(git, demux(reply.packets).data)


@pytest.mark.every_frontend
@pytest.mark.rows("HB-41", "U0-03")
def test_chunks_of_a_single_byte_are_as_good(server: Server, git: Git) -> None:
    repo = server.create_repo()
    body = wanted(repo)
    reply = post(repo.url, "upload-pack", [body[n : n + 1] for n in range(len(body))])
    assert repo.rev("main") in pack_objects(git, demux(reply.packets).data)


@pytest.mark.rows("HB-39", "HB-45", "SEC-02")
def test_a_truncated_gzip_push_changes_nothing(server: Server, git: Git) -> None:
    """The whole of it, with something behind the first gzip member, is a push like any other."""
    repo = server.create_repo()
    before = repo.state()
    old, new, pack = new_objects(git, repo, 20)
    whole = gzip.compress(push_body([f"{old} {new} refs/heads/main"], pack, caps=" report-status"))
    for size in (5, 30, len(whole) // 2, len(whole) - 60):
        reply = receive(repo.url, whole[:size], {"Content-Encoding": "gzip"})
        assert b"ok refs/heads/main" not in reply.body
        assert b"Traceback" not in reply.body
        assert before == repo.state()
    reply = receive(repo.url, whole + b"not looked at", {"Content-Encoding": "gzip"})
    assert parse_report(reply) == [b"unpack ok", b"ok refs/heads/main"]
    assert new == repo.rev("main")


@pytest.mark.rows("HB-39", "HB-49")
@pytest.mark.parametrize("harm", ["cut", "not gzip"])
def test_a_fetch_that_is_no_gzip_fails_behind_the_headers_of_a_success(server: Server, twin: Twin, harm: str) -> None:
    repo = server.create_repo()
    body = gzip.compress(wanted(repo))[:-9] if harm == "cut" else wanted(repo)
    ours, theirs = (upload(url, body, {"Content-Encoding": "gzip"}) for url in (repo.url, twin(repo)))
    assert (ours.status, ours.headers["content-type"]) == (theirs.status, theirs.headers["content-type"])
    assert [packet[:4] for packet in ours.packets if isinstance(packet, bytes)] == [b"ERR "]


@pytest.mark.rows("HB-38")
def test_an_unknown_content_encoding_fails(server: Server) -> None:
    repo = server.create_repo()
    reply = upload(repo.url, b"\x78\x9c\x03\x00\x00\x00\x00\x01", {"Content-Encoding": "deflate"})
    assert b"PACK" not in reply.body
    assert b"Traceback" not in reply.body


@pytest.mark.every_frontend
@pytest.mark.rows("HB-43")
def test_a_kept_connection_answers_several_requests(server: Server) -> None:
    repo = server.create_repo()
    path = repo.url.split("/", 3)[3]
    body = wanted(repo)
    head = raw_head(repo.url, "upload-pack", f"Content-Length: {len(body)}")
    end = f"GET /{path}/HEAD HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    answer = send_raw(repo.url, (head + body) * 2 + end, close=False)
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert b"ref: refs/heads/main" in answer


@pytest.mark.rows("HB-44")
@pytest.mark.parametrize("length", ["abc", "-1", "99999999999999999999999999"])
def test_an_absurd_content_length_is_refused(server: Server, length: str) -> None:
    repo = server.create_repo()
    before = repo.state()
    answer = send_raw(repo.url, raw_head(repo.url, "receive-pack", f"Content-Length: {length}") + b"0000", timeout=300)
    assert b"Traceback" not in answer
    assert before == repo.state()
    assert discover(repo.url).status == 200


@pytest.mark.rows("CF-89", "HB-50")
def test_a_broken_configuration_file_is_a_500_without_a_body(server: Server) -> None:
    repo = server.create_repo()
    repo.broken = True
    (repo.path / "config").write_text("[core\nnonsense")
    for reply in (discover(repo.url), request(repo.url, "GET", "/HEAD"), upload(repo.url, b"0000")):
        assert (reply.status, reply.body) == (500, b"")
        assert_never_cached(reply)


@pytest.mark.every_frontend
@pytest.mark.rows("HB-53", "SEC-19")
@pytest.mark.parametrize(
    "trick",
    [
        "/../{0}/HEAD",
        "/x/../{0}/HEAD",
        "/%2e%2e/{0}/HEAD",
        "/x/%2e%2e/{0}/HEAD",
        "/./{0}/HEAD",
        "//{0}/HEAD",
        "/{0}/../{0}/HEAD",
        "/{0}%00/HEAD",
        "/{0}/..%2f{0}/HEAD",
        "/{0}/%5c..%5c/HEAD",
        "/..%252f/HEAD",
        "/{0}/.git/../HEAD",
        "/~root/{0}/HEAD",
    ],
)
def test_paths_that_climb_are_not_followed(server: Server, tmp_path: Path, trick: str) -> None:
    repo = server.create_repo()
    path = trick.format(repo.path.name)
    reply = request(server.url, "GET", path)
    assert b"Traceback" not in reply.body
    # nginx and other fronts clean a path before they pass it on; then it names the repository plainly.
    if server.name in ("nginx", "apache") and reply.status == 200:
        assert reply.body == b"ref: refs/heads/main\n"
    else:
        assert reply.status in (400, 403, 404, 500)
        assert reply.body == b"" or b"ref:" not in reply.body


@pytest.mark.rows("HB-53")
def test_nothing_above_the_root_is_served(server: Server, tmp_path: Path, git: Git) -> None:
    repo = server.create_repo()
    outside = server.root.parent / "outside.git"
    git("clone", "-q", "--bare", repo.path, outside)
    (outside / "git-daemon-export-ok").touch()
    for dots in ("..", "%2e%2e", ".%2e", "x/../..", "x%2f..%2f.."):
        reply = request(server.url, "GET", f"/{dots}/outside.git/HEAD")
        assert reply.status != 200


@pytest.mark.rows("HB-57")
def test_a_path_longer_than_a_path_may_be_is_refused(server: Server) -> None:
    reply = request(server.url, "GET", "/" + "a" * 5000 + ".git/HEAD")
    assert reply.status in (400, 404, 414)


@pytest.mark.rows("HB-58")
@pytest.mark.parametrize("part", ["refs", "objects", "HEAD"])
def test_a_folder_without_its_parts_is_no_repository(server: Server, part: str) -> None:
    repo = server.create_repo()
    repo.broken = True
    (repo.path / part).rename(repo.path / f"{part}.away")
    assert discover(repo.url).status == 404
    (repo.path / f"{part}.away").rename(repo.path / part)
    assert discover(repo.url).status == 200


@pytest.mark.every_frontend
@pytest.mark.rows("HB-62", "HB-64", "HB-65", "HB-66")
@pytest.mark.parametrize(
    ("value", "first"),
    [
        ("version=2", b"version 2\n"),
        ("version=1", b"version 1\n"),
        ("version=0", b""),
        ("version=9", b""),
        ("", b""),
        ("version=1:version=2:foo=bar", b"version 2\n"),
        ("version=2:version=1", b"version 2\n"),
        ("foo:version=1", b"version 1\n"),
    ],
)
def test_the_highest_known_version_wins(server: Server, value: str, first: bytes) -> None:
    repo = server.create_repo()
    packets = [
        packet for packet in discover(repo.url, headers={"Git-Protocol": value}).packets if isinstance(packet, bytes)
    ]
    if first == b"version 2\n":  # which has no line before it
        assert first == packets[0]
        return
    assert packets.pop(0) == b"# service=git-upload-pack\n"
    if first:
        assert first == packets[0]
    else:
        assert b"HEAD\0" in packets[0]


@pytest.mark.rows("HB-66", "V2-55")
def test_receive_pack_has_no_version_2(server: Server, twin: Twin) -> None:
    repo = server.create_repo()
    reply, theirs = (discover(url, "receive-pack", V2) for url in (repo.url, twin(repo)))
    assert parse_advertisement(reply.packets)[0] == parse_advertisement(theirs.packets)[0]
    assert len(reply.packets) == len(theirs.packets)  # neither has the service line
    refs, capabilities = parse_advertisement(reply.packets)
    assert f"{repo.rev('main')} refs/heads/main".encode() in refs
    assert b"report-status-v2" in capabilities


@pytest.mark.rows("CF-74", "HB-59", "SEC-21")
def test_a_repository_of_another_user_is_refused(server: Server) -> None:
    repo = server.create_repo()
    if os.getuid() != 0:
        pytest.skip("only root can give a repository away")
    os.chown(repo.path, 12345, 12345)
    reply = discover(repo.url)
    os.chown(repo.path, 0, 0)
    assert reply.status == 500
    assert discover(repo.url).status == 200


@pytest.mark.rows("CF-05", "HB-46")
def test_a_fetch_request_beyond_the_limit_fails_and_hurts_nobody(server: Server, twin: Twin) -> None:
    repo = server.create_repo(config={"http.maxRequestBuffer": "10k"})
    haves = "".join(f"0032have {n:040x}\n" for n in range(1000)).encode()
    body = lines(f"want {repo.rev('main')}", FLUSH) + haves + lines("done")
    reply, theirs = upload(repo.url, body), upload(twin(repo), body)
    assert (reply.status, reply.headers["content-type"]) == (theirs.status, theirs.headers["content-type"])
    assert b"PACK" not in theirs.body
    assert reply.packets == [b"ERR limit exceeded: maxRequestBuffer: more than 10240"]
    assert discover(repo.url).status == 200


@pytest.mark.rows("HB-75")
def test_headers_without_meaning_are_ignored(server: Server) -> None:
    repo = server.create_repo()
    headers = {
        "Cookie": "a=b; c=" + "d" * 500,
        "Accept": "image/png",
        "Accept-Language": "xx",
        "User-Agent": "x",
    }
    assert discover(repo.url, headers=headers).status == 200


@pytest.mark.rows("HB-18")
def test_http_1_0_is_served_and_wrong_methods_get_400(server: Server) -> None:
    repo = server.create_repo()
    path = repo.url.split("/", 3)[3]
    assert b"ref: refs/heads/main" in send_raw(repo.url, f"GET /{path}/HEAD HTTP/1.0\r\n\r\n".encode(), close=False)
    answer = send_raw(repo.url, f"PUT /{path}/HEAD HTTP/1.0\r\nContent-Length: 0\r\n\r\n".encode(), close=False)
    assert answer.split(b" ", 2)[1] in (b"400", b"405")


@pytest.mark.rows("HB-50", "HB-23")
def test_answers_never_show_a_traceback(server: Server) -> None:
    repo = server.create_repo()
    paths = [
        "/info/refs?service=%ff",
        "/info/refs?%",
        "/HEAD?a=%zz",
        "/objects/zz/" + "z" * 38,
        "/git-upload-pack?x",
        "/%ff%fe/HEAD",
    ]
    for method, path in itertools.product(("GET", "POST", "OPTIONS", "TRACE", "PATCH"), paths):
        reply = request(repo.url, method, path)
        assert b"Traceback" not in reply.body
        assert 100 < reply.status < 600


@pytest.mark.rows("HB-63", "HB-72")
def test_configuration_and_protocol_from_the_servers_environment(private_server, git: Git) -> None:  # type: ignore[no-untyped-def]
    env = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "http.receivepack",
        "GIT_CONFIG_VALUE_0": "true",
        "GIT_HTTP_EXPORT_ALL": "",
        "GIT_PROTOCOL": "version=0",
    }
    server = private_server(env)
    repo = server.create_repo(exported=False, pushable=False)
    assert discover(repo.url, "receive-pack").status == 200
    assert b"# service" in discover(repo.url, headers=V2).body


@pytest.mark.rows("HB-72")
def test_the_servers_own_git_configuration_counts(private_server: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "server-gitconfig"
    path.write_text("[http]\n\treceivepack = true\n[uploadpack]\n\tallowFilter = true\n")
    server = private_server({"GIT_CONFIG_GLOBAL": str(path)})
    repo = server.create_repo(pushable=False)
    assert discover(repo.url, "receive-pack").status == 200
    assert b"filter" in parse_advertisement(discover(repo.url).packets)[1]


@pytest.mark.rows("SEC-45")
def test_git_variables_of_the_servers_environment_do_not_redirect_requests(
    private_server: Callable[..., Server], tmp_path: Path
) -> None:
    """Nor do they reach a hook, whose folder and GIT_DIR are the repository's."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    server = private_server({"GIT_DIR": str(other), "GIT_INDEX_FILE": str(other / "i"), "GIT_WORK_TREE": str(other)})
    repo = server.create_repo()
    assert b"ref: refs/heads/main" in request(repo.url, "GET", "/HEAD").body
    assert discover(repo.url).status == 200
    for event in hookkit.EVENTS:
        hookkit.record(repo.path, event)
    body = push_body([f"{ZERO} {repo.rev('main')} refs/heads/new"], EMPTY_PACK)
    assert report_of(receive(repo.url, body)) == [b"unpack ok", b"ok refs/heads/new"]
    called = hookkit.calls(repo.path)
    assert [call.event for call in called] == list(hookkit.EVENTS)
    for call in called:
        assert (call.environment["GIT_DIR"], call.folder) == (".", str(repo.path))
        assert not {"GIT_INDEX_FILE", "GIT_WORK_TREE"} & set(call.environment)  # git hands them on


def test_health_is_told_apart_from_repositories(server: Server) -> None:
    if server.name not in ("gunicorn", "nginx"):
        pytest.skip("only the long-running server has health pages")
    assert request(server.url, "GET", "/-/healthz").status == 200
    ready = request(server.url, "GET", "/-/readyz")
    assert ready.status in (200, 503)
