import email.utils
import gzip
import logging
import os
import time

import pytest

from govc.errors import RepositoryRefused
from govc.protocol.errors import RemoteProtocolError
from govc.service.last_chunk import LastChunk
from tests.descriptors import count_open
from tests.web.fakes import Client, FakeBackend, make_environ

NEVER_CACHED = {
    "Expires": "Fri, 01 Jan 1980 00:00:00 GMT",
    "Pragma": "no-cache",
    "Cache-Control": "no-cache, max-age=0, must-revalidate",
}
RECEIVE_TYPE = "application/x-git-receive-pack-request"
PACK = "objects/pack/pack-" + "0" * 40 + ".pack"


def is_never_cached(answer):
    return NEVER_CACHED.items() <= answer.headers.items()


@pytest.fixture
def client():
    return Client()


@pytest.mark.parametrize("service", ["upload-pack", "receive-pack"])
def test_smart_discovery(client, service):
    answer = client.get(f"/a.git/info/refs?service=git-{service}")
    assert (answer.status, answer.body) == (200, b"advertisement")
    assert f"application/x-git-{service}-advertisement" == answer.headers["Content-Type"]
    assert answer.headers["Content-Length"] == "13"
    assert is_never_cached(answer)


@pytest.mark.parametrize("service", ["upload-pack", "receive-pack"])
def test_rpc_streams_what_the_service_yields(client, service):
    answer = client.rpc(service, b"hello")
    assert (answer.status, answer.body) == (200, b"firstsecond")
    assert f"application/x-git-{service}-result" == answer.headers["Content-Type"]
    assert "Content-Length" not in answer.headers
    assert is_never_cached(answer)
    assert client.backend.handle.bodies == [b"hello"]
    assert client.backend.handle.closed == 1


@pytest.mark.parametrize("service", ["upload-pack", "receive-pack"])
def test_gzipped_rpc(client, service):
    client.rpc(service, gzip.compress(b"hello"), HTTP_CONTENT_ENCODING="gzip")
    assert client.backend.handle.bodies == [b"hello"]


@pytest.mark.parametrize("service", ["foo", "", "upload-pack", "git-", "git-upload-archive"])
def test_an_unknown_service_is_forbidden(client, service):
    answer = client.get(f"/a.git/info/refs?service={service}")
    assert (answer.status, answer.body) == (403, b"")
    assert is_never_cached(answer)


def test_archives_are_a_service_with_a_bounded_request(client):
    answer = client.rpc("upload-archive", b"0000")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/x-git-upload-archive-result"
    assert client.rpc("upload-archive", bytes(9 << 20)).body.startswith(b"003bERR limit exceeded: maxRequestBuffer")
    client.backend.handle.allowed["upload-archive"] = False
    assert client.rpc("upload-archive", b"0000").status == 403


@pytest.mark.parametrize("service", ["upload-pack", "receive-pack"])
def test_a_disabled_service_is_forbidden_on_discovery_and_post(client, service):
    client.backend.handle.allowed[service] = False
    assert client.get(f"/a.git/info/refs?service=git-{service}").status == 403
    assert client.rpc(service, CONTENT_TYPE="wrong").status == 403


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-git-upload-pack-request; charset=utf-8",
        "Application/x-git-upload-pack-request",
    ],
)
def test_another_content_type_is_415_with_a_sentence(client, content_type):
    answer = client.rpc("upload-pack", CONTENT_TYPE=content_type)
    assert answer.status == 415
    assert (answer.headers.get("Content-Type"), answer.headers["X-Content-Type-Options"]) == (None, "nosniff")
    assert is_never_cached(answer)
    assert b"application/x-git-upload-pack-request" in answer.body
    assert content_type.encode() in answer.body
    assert client.backend.handle.bodies == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/a.git/HEAD", "GET, HEAD"),
        ("POST", "/a.git/info/refs?service=git-upload-pack", "GET, HEAD"),
        ("GET", "/nosuch/git-upload-pack", "POST"),
        ("HEAD", "/a.git/git-receive-pack", "POST"),
    ],
)
def test_a_wrong_method_is_405_before_the_repository_is_looked_up(client, method, path, allow):
    answer = client.request(method, path)
    assert (405, allow, b"") == (answer.status, answer.headers["Allow"], answer.body)
    assert is_never_cached(answer)
    assert client.backend.opened == []


@pytest.mark.parametrize("protocol", ["HTTP/1.0", None])
def test_a_wrong_method_of_an_old_client_is_400(client, protocol):
    answer = client.request("PUT", "/a.git/HEAD", SERVER_PROTOCOL=protocol)
    assert (answer.status, "Allow" in answer.headers) == (400, False)


@pytest.mark.parametrize("path", ["/a.git/config", "/a.git", "/", "/-/nothing", "/a.git/refs/heads/main"])
def test_an_unknown_route_is_404_before_the_repository_is_looked_up(client, path):
    answer = client.get(path)
    assert (answer.status, answer.body) == (404, b"")
    assert is_never_cached(answer)
    assert client.backend.opened == []


def test_no_repository_is_404(client):
    for path in ("/b.git/HEAD", "/b.git/info/refs?service=git-upload-pack", "/b.git/info/refs"):
        answer = client.get(path)
        assert (answer.status, answer.body) == (404, b"")


@pytest.mark.parametrize("path", ["/a.git/../HEAD", "/a.git//HEAD", "/./nothing", "//info/refs"])
def test_an_aliased_path_is_500_before_anything_else(client, path):
    answer = client.get(path)
    assert (answer.status, answer.body) == (500, b"")
    assert is_never_cached(answer)
    assert client.backend.opened == []


def test_nested_and_odd_repository_paths_reach_the_backend(client):
    raw = "/a/é x.git/b".encode()
    client.get((raw + b"/HEAD").decode("latin-1"))
    client.get((b"/\xff" + b"/HEAD").decode("latin-1"))
    assert ["/a/é x.git/b", os.fsdecode(b"/\xff")] == [path for path, _ in client.backend.opened]


def test_a_refused_repository_is_an_empty_500_that_names_no_path(client):
    client.backend.failure = RepositoryRefused("/srv/secret/a.git", "dubious ownership")
    answer = client.get("/a.git/HEAD")
    assert (answer.status, answer.body) == (500, b"")
    assert "secret" not in str(answer.headers)


def test_a_bug_is_an_empty_500(client, caplog):
    client.backend.failure = KeyError("bug")
    answer = client.get("/a.git/HEAD")
    assert (answer.status, answer.body) == (500, b"")
    assert answer.headers["X-Request-Id"] in caplog.text
    assert "KeyError" in caplog.text


@pytest.mark.parametrize("service", ["upload-pack", "receive-pack"])
def test_a_failure_before_the_first_byte_has_its_status(client, service):
    client.backend.handle.failure = RemoteProtocolError("bad", http_status=400)
    answer = client.rpc(service)
    assert (answer.status, answer.body) == (400, b"")
    assert client.backend.handle.closed == 1


def test_a_failure_after_the_first_byte_cuts_the_stream(client, caplog):
    handle = client.backend.handle
    handle.failure, handle.fail_after = ValueError("late"), 2
    started, chunks = client.start(
        make_environ("POST", "/a.git/git-upload-pack", b"x", CONTENT_TYPE="application/x-git-upload-pack-request")
    )
    assert started[0] == "200 OK"
    assert next(iter(chunks)) == b"first"
    with pytest.raises(ValueError, match="late"):
        next(iter(chunks))
    chunks.close()
    assert "broke off" in caplog.text


def test_a_client_that_goes_away_closes_the_service_even_before_the_first_chunk(client, caplog):
    caplog.set_level(logging.INFO, "govc.access")
    environ = make_environ("POST", "/a.git/git-upload-pack", b"x")
    environ["CONTENT_TYPE"] = "application/x-git-upload-pack-request"
    _, chunks = client.start(environ)
    chunks.close()
    chunks.close()
    assert client.backend.handle.closed == 1
    assert caplog.text.count("client went away") == 1


def test_an_empty_answer_is_200(client):
    client.backend.handle.chunks = []
    answer = client.rpc("receive-pack")
    assert (answer.status, answer.body) == (200, b"")


def test_a_truncated_push_is_400_when_nothing_was_sent(client):
    assert client.rpc("receive-pack", b"abc", CONTENT_LENGTH="10").status == 400


def test_a_fetch_request_beyond_the_limit_is_refused_behind_the_headers_as_in_git(client):
    client.backend.handle.max_bytes = 10000
    assert client.rpc("upload-pack", bytes(10000)).status == 200
    answer = client.rpc("upload-pack", bytes(10001))
    assert (answer.status, answer.body[4:]) == (200, b"ERR limit exceeded: maxRequestBuffer: more than 10000")
    assert client.rpc("receive-pack", bytes(10001)).status == 200


@pytest.mark.parametrize("value", ["x", "-5"])
def test_an_unusable_content_length_is_told_behind_the_headers_as_in_git(client, value):
    answer = client.rpc("upload-pack", CONTENT_LENGTH=value)
    assert (answer.status, answer.body[4:]) == (200, b"ERR unusable Content-Length")
    assert client.backend.handle.bodies == []


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("info/refs", "text/plain", b"0" * 40 + b"\trefs/heads/main\n"),
        ("objects/info/packs", "text/plain; charset=utf-8", b"P pack-x.pack\n\n"),
    ],
)
def test_dumb_lists(client, path, content_type, body):
    answer = client.get(f"/a.git/{path}")
    assert (200, content_type, body) == (answer.status, answer.headers["Content-Type"], answer.body)
    assert is_never_cached(answer)


def test_head_has_no_cache_headers(client):
    answer = client.get("/a.git/HEAD")
    assert answer.body == b"ref: refs/heads/main\n"
    assert answer.headers == {"Content-Type": "text/plain", "Content-Length": "21"}


@pytest.mark.parametrize(
    ("kind", "relative", "content_type", "forever"),
    [
        ("loose", "objects/ab/" + "0" * 38, "application/x-git-loose-object", True),
        ("pack", PACK, "application/x-git-packed-objects", True),
        ("idx", PACK[:-4] + "idx", "application/x-git-packed-objects-toc", True),
        ("alternates", "objects/info/alternates", "text/plain", False),
        ("http-alternates", "objects/info/http-alternates", "text/plain", False),
    ],
)
def test_files_are_sent_with_length_and_date(client, tmp_path, kind, relative, content_type, forever):
    content = os.urandom((1 << 20) + 5)
    path = tmp_path / "file"
    path.write_bytes(content)
    os.utime(path, (0, 1_000_000_000))
    client.backend.handle.files[kind, relative] = str(path)
    answer = client.get(f"/a.git/{relative}", HTTP_RANGE="bytes=10-")
    assert (200, content) == (answer.status, answer.body)
    assert content_type == answer.headers["Content-Type"]
    assert str(len(content)) == answer.headers["Content-Length"]
    assert answer.headers["Last-Modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert forever is not is_never_cached(answer)
    if forever:
        assert answer.headers["Cache-Control"] == "public, max-age=31536000"
        expires = email.utils.parsedate_to_datetime(answer.headers["Expires"]).timestamp()
        assert expires > time.time() + 364 * 86400


def test_absent_and_irregular_files_are_404(client, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (None, tmp_path / "absent", tmp_path, tmp_path / "pipe"):
        if place is not None:
            client.backend.handle.files["pack", PACK] = str(place)
        answer = client.get(f"/a.git/{PACK}")
        assert (answer.status, answer.body) == (404, b"")


def test_a_file_that_nobody_reads_is_closed(client, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    client.backend.handle.files["pack", PACK] = str(path)
    _, chunks = client.start(make_environ("GET", f"/a.git/{PACK}"))
    assert count_open(path) == 1
    chunks.close()
    assert client.request("HEAD", f"/a.git/{PACK}").body == b""
    assert count_open(path) == 0


@pytest.mark.parametrize("chunks", [[b"a", LastChunk(b"b")], [LastChunk(b"b")]])
def test_a_server_of_another_kind_gets_nothing_but_bytes(client, chunks):
    """`wsgiref` asserts it, and answered pushes with 500."""
    client.backend.handle.receive_pack = lambda context, body: iter(chunks)
    _, answer = client.start(make_environ("POST", "/a.git/git-receive-pack", CONTENT_TYPE=RECEIVE_TYPE))
    assert [type(chunk) for chunk in answer] == [bytes] * len(chunks)
    answer.close()


def test_getanyfile_false_forbids_dumb_routes_only(client):
    client.backend.handle.getanyfile = False
    for path in ("HEAD", "info/refs", "objects/info/packs", PACK):
        assert client.get(f"/a.git/{path}").status == 403
    assert client.get("/a.git/info/refs?service=git-upload-pack").status == 200


@pytest.mark.parametrize("path", ["HEAD", "info/refs", "info/refs?service=git-upload-pack", "objects/info/packs"])
def test_head_method_is_get_without_a_body(client, path):
    get, head = client.get(f"/a.git/{path}"), client.request("HEAD", f"/a.git/{path}")
    assert (get.status, get.headers, b"") == (head.status, head.headers, head.body)


@pytest.mark.parametrize(
    ("options", "environ", "version"),
    [
        ({}, {}, 0),
        ({}, {"HTTP_GIT_PROTOCOL": "version=2"}, 2),
        ({}, {"HTTP_GIT_PROTOCOL": "version=2", "GIT_PROTOCOL": "version=0"}, 0),
        ({"git_protocol": "version=1"}, {"HTTP_GIT_PROTOCOL": "version=2"}, 1),
        ({"git_protocol": "version=1"}, {"GIT_PROTOCOL": "version=2"}, 2),
    ],
)
def test_the_servers_protocol_beats_the_clients(options, environ, version):
    client = Client(**options)
    client.get("/a.git/info/refs?service=git-upload-pack", **environ)
    assert version == client.backend.handle.contexts[0].protocol_version


def test_the_service_is_told_of_version_2_and_no_service_line_precedes_it(client):
    """receive-pack knows no version 2; like git we leave the line out even so, and answer in version 0 (HB-66)."""
    reply = client.get("/a.git/info/refs?service=git-receive-pack", HTTP_GIT_PROTOCOL="version=2")
    assert client.backend.handle.contexts[0].protocol_version == 2
    assert b"# service=" not in reply.body


def test_the_service_sees_who_asks_and_the_cgi_variables():
    client = Client(remote_user_header="X-Remote-User", namespace=b"a/b")
    client.rpc("receive-pack", REMOTE_ADDR="127.0.0.1", HTTP_X_REMOTE_USER="ann", HTTP_X_FORWARDED_FOR="203.0.113.9")
    context = client.backend.handle.contexts[0]
    assert (
        context.service,
        context.remote_user,
        context.remote_addr,
        context.namespace,
    ) == ("receive-pack", "ann", "203.0.113.9", b"a/b")
    assert tuple(context.environ[name] for name in ("REMOTE_USER", "REMOTE_ADDR", "PATH_INFO")) == (
        "ann",
        "203.0.113.9",
        "/a.git/git-receive-pack",
    )


def test_a_request_id_is_taken_from_a_trusted_proxy_only(client):
    for addr in ("127.0.0.1", "192.0.2.1"):
        client.get("/a.git/HEAD", REMOTE_ADDR=addr, HTTP_X_REQUEST_ID="from-outside")
    client.get("/a.git/HEAD", REMOTE_ADDR="127.0.0.1", HTTP_X_REQUEST_ID="a b\n")
    ids = [context.request_id for _, context in client.backend.opened]
    assert [one == "from-outside" for one in ids] == [True, False, False]
    assert len(set(ids)) == 3 and all(ids)


def test_one_line_per_request_that_no_client_can_forge(client, caplog):
    caplog.set_level(logging.INFO, "govc.access")
    client.get("/a.git/HEAD")
    client.get('/a\n"b.git/HEAD')
    client.rpc("upload-pack")
    lines = [record.getMessage() for record in caplog.records if record.name == "govc.access"]
    assert len(lines) == 3
    assert all("\n" not in line for line in lines)
    assert 'route=head repository="/a.git" path="/a.git/HEAD" status=200 bytes=21' in lines[0]
    assert "status=404" in lines[1]
    assert "route=rpc" in lines[2] and "bytes=11" in lines[2]


def test_without_a_root_the_web_server_names_the_place():
    backend = FakeBackend()
    client = Client(backend, root_is_set=False)
    backend.repositories["/srv/a.git"] = backend.handle
    assert client.get("/x/HEAD", PATH_TRANSLATED="/srv/a.git/HEAD").status == 200
    assert client.get("/a.git/HEAD").status == 500


@pytest.mark.parametrize("name", ["healthz", "readyz"])
def test_health(client, name):
    assert (client.get(f"/-/{name}").status, client.get(f"/-/{name}").body) == (200, b"ok\n")
    assert (
        client.request("HEAD", f"/-/{name}").status,
        client.request("HEAD", f"/-/{name}").body,
    ) == (200, b"")
    assert client.request("POST", f"/-/{name}").status == 405
    assert client.backend.opened == []


def test_metrics_count_requests_by_route_and_status(client):
    client.get("/a.git/HEAD")
    client.get("/b.git/HEAD")
    client.get("/nothing")
    client.rpc("upload-pack")
    text = client.get("/-/metrics").body.decode()
    assert 'govc_http_requests_total{route="head",status="200"} 1.0' in text
    assert 'govc_http_requests_total{route="head",status="404"} 1.0' in text
    assert 'govc_http_requests_total{route="none",status="404"} 1.0' in text
    assert 'govc_http_response_bytes_total{route="rpc"} 11.0' in text
    assert Client(metrics=False).get("/-/metrics").status == 404


def test_metrics_have_times_by_route_and_bytes_that_were_read(client):
    client.rpc("upload-pack", b"0" * 7)
    client.rpc("receive-pack", b"0" * 5)
    client.get("/a.git/HEAD")
    text = client.get("/-/metrics").body.decode()
    assert 'govc_http_request_bytes_total{route="rpc"} 12.0' in text
    assert 'govc_http_request_seconds_count{route="rpc"} 2.0' in text
    assert 'govc_http_request_seconds_bucket{le="+Inf",route="head"} 1.0' in text
