"""Traces as a real collector gets them: OTLP over HTTP from a real server, one span a request and one a phase.

The collector is a small HTTP server in this process; what it is sent is parsed with OpenTelemetry's own classes.
"""

from __future__ import annotations

import http.server
import os
import threading
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from compat import frontends
from compat.gitclient import Git
from compat.rawhttp import request
from tests.waiting import wait_until

pytestmark = pytest.mark.xdist_group("traces")

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SECRETS = ("hunter2hunter2", "s3cr3tInThePath", b64encode(b"ann:hunter2hunter2").decode())


@dataclass
class Collector:
    """Takes spans; `is_up` False: answers 503."""

    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def spans(self) -> list[Span]:
        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {item.key: item.value.string_value for item in resource.resource.attributes}
                assert names["service.name"] == "govc"
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return found

    def trace(self, route: str, **attributes: str) -> list[tuple[Span, list[Span]]]:
        """The requests of a route, each with its phases."""
        spans = self.spans()
        roots = [
            span
            for span in spans
            if span.kind == Span.SPAN_KIND_SERVER
            and span.name.endswith(f" {route}")
            and attributes.items() <= values(span).items()
        ]
        return [(root, [span for span in spans if span.parent_span_id == root.span_id]) for root in roots]


def values(span: Span) -> dict[str, str]:
    return {item.key: item.value.string_value or str(item.value.int_value) for item in span.attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            made.headers.append({name.lower(): value for name, value in self.headers.items()})
            made.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class World:
    running: frontends.Running
    root: Path
    git: Git
    collector: Collector


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("traces")
    git, root = Git(folder / "home", folder), folder / "served"
    git("init", "-q", "--bare", "-b", "main", root / "a.git")
    git("config", "http.receivepack", "true", cwd=root / "a.git")
    # What is checked so is indexed in a helper process, when it is large.
    git("config", "receive.fsckObjects", "true", cwd=root / "a.git")
    (root / "a.git/git-daemon-export-ok").touch()
    hook = root / "a.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\ncat >/dev/null\n")
    hook.chmod(0o755)
    env = frontends.server_environment(
        folder / "server-home", {"OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=abc", "NO_PROXY": "127.0.0.1"}
    )
    (folder / "scratch").mkdir()
    options = ("--otlp-endpoint", collector.url)
    with frontends.start_gunicorn(root, env, folder / "scratch", options) as running:
        yield World(running, root, git, collector)
    # A server that ends sends what it still has.
    assert running.log is not None
    assert "Traceback" not in running.log.read_text()


def test_a_push_and_a_clone_have_a_span_for_each_phase(world: World) -> None:
    git, collector = world.git, world.collector
    work = world.root.parent / "work"
    git("init", "-q", "-b", "main", work)
    (work / "noise").write_bytes(os.urandom(600_000))
    git("add", ".", cwd=work)
    git("commit", "-qm", "noise", cwd=work)
    url = f"{world.running.url}/a.git"
    traced = f"http.extraHeader=traceparent: 00-{TRACE}-{PARENT}-01"
    git("-c", traced, "push", "-q", url, "main", cwd=work)
    git("clone", "-q", url, world.root.parent / "clone")
    wanted = {"validate", "receive", "index", "connectivity", "hooks", "log_sync"}
    wait_until(lambda: any(wanted <= {p.name for p in phases} for _, phases in collector.trace("rpc")))
    (push, phases) = next(t for t in collector.trace("rpc") if wanted <= {p.name for p in t[1]})
    assert push.name == "POST rpc"
    # The proxy's trace goes on, and the phases lie within the request, in order.
    assert (push.trace_id.hex(), push.parent_span_id.hex()) == (TRACE, PARENT)
    assert {phase.trace_id.hex() for phase in phases} == {TRACE}
    by_name = {phase.name: phase for phase in phases}
    for phase in phases:
        assert push.start_time_unix_nano <= phase.start_time_unix_nano + 1_000_000
        assert phase.end_time_unix_nano <= push.end_time_unix_nano + 1_000_000
    order = ("validate", "receive", "index", "connectivity", "hooks", "log_sync")
    starts = [by_name[name].start_time_unix_nano for name in order]
    assert starts == sorted(starts)
    assert values(push)["govc.repository"] == "/a.git"
    assert values(push)["http.response.status_code"] == "200"
    assert all(header["x-collector-key"] == "abc" for header in collector.headers)
    wanted = {"validate", "negotiate", "enumerate", "write"}
    wait_until(lambda: any(wanted <= {p.name for p in phases} for _, phases in collector.trace("rpc")))
    clone = next(root for root, phases in collector.trace("rpc") if wanted <= {p.name for p in phases})
    assert clone.trace_id.hex() != TRACE
    assert not clone.parent_span_id


def test_a_proxy_that_has_decided_against_a_trace_is_obeyed_and_refusals_are_marked(world: World) -> None:
    tail = "/a.git/info/refs?service=git-upload-pack"
    url, collector = world.running.url, world.collector
    no, yes = "1" * 32, "2" * 32
    for trace, flags in ((no, "00"), (yes, "01")):
        headers = {"traceparent": f"00-{trace}-{PARENT}-{flags}"}
        assert request(url, "GET", tail, headers=headers).status == 200
    # Nonsense is no parent.
    assert request(url, "GET", "/nothing/HEAD", headers={"traceparent": "00-zz"}).status == 404
    wait_until(lambda: collector.trace("head", **{"http.response.status_code": "404"}))
    wait_until(lambda: [1 for root, _ in collector.trace("info-refs") if root.trace_id.hex() == yes])
    assert not [1 for span in collector.spans() if span.trace_id.hex() == no]
    (refused, _), *_ = collector.trace("head", **{"http.response.status_code": "404"})
    assert values(refused)["govc.error"]


def test_no_secret_is_in_a_trace(world: World) -> None:
    url = world.running.url
    login = {"Authorization": f"Basic {b64encode(b'ann:hunter2hunter2').decode()}", "X-Request-Id": "with-secrets"}
    path = "/x/https://ann:s3cr3tInThePath@host/HEAD"
    assert request(url, "GET", path, headers=login).status in (404, 500)
    assert request(url, "GET", "/a.git/HEAD?token=s3cr3tInThePath", headers=login).status == 200
    mine = {"govc.request": "with-secrets"}
    wait_until(lambda: world.collector.trace("head", **mine) and world.collector.trace("none", **mine))
    sent = b"".join(world.collector.bodies)
    assert b"[secret]" in sent
    for secret in SECRETS:
        assert secret.encode() not in sent


def test_a_collector_that_is_away_holds_nobody_up(tmp_path: Path) -> None:
    root = tmp_path / "root"
    git = Git(tmp_path / "home", tmp_path)
    git("init", "-q", "--bare", root / "a.git")
    (root / "a.git/git-daemon-export-ok").touch()
    env = {"GOVC_OTLP_ENDPOINT": "http://ann:hunter2hunter2@127.0.0.1:1/v1/traces"}
    with frontends.start("gunicorn", root, tmp_path, env) as running:
        for _ in range(20):
            assert request(running.url, "GET", "/a.git/HEAD").status == 200
    # It ended in time, too, or `stop` had killed it.
    assert running.log is not None
    text = running.log.read_text()
    assert "hunter2hunter2" not in text
    assert "Traceback" not in text
