"""The door: URLs, headers, bodies, the fast lane, and what gets into a log line."""

from __future__ import annotations

import base64
import copy
import functools
import gzip
import io
import json
import logging
import os
import sys
import zlib
from contextlib import suppress
from typing import Any

from govc.auth.principal import is_user_name
from govc.auth.tokens import ID_CHARS, PREFIX, SECRET_CHARS, _checksum
from govc.errors import GovcError, LimitExceeded
from govc.protocol.errors import RemoteProtocolError
from govc.service.dumb import find_file
from govc.web.bodies import INFLATED_RATIO_MAX, REQUEST_BYTES_FLOOR, open_body, parse_content_length, read_bounded_body
from govc.web.cgi import encode_head, make_environ
from govc.web.identity import TrustedProxies, header_variable, identify
from govc.web.json_lines import CURRENT, JsonFormatter
from govc.web.lane import read_request
from govc.web.log_lines import LineFormatter
from govc.web.redaction import RedactingFilter, redact
from govc.web.request import find_parameter, hook_variables, parse_protocol_version, request_path
from govc.web.routes import RouteKind, find_route
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target


def text(draw: Draw, *usual: bytes) -> str:
    """What WSGI makes of bytes: one latin-1 character each."""
    return draw.word(*usual).decode("latin-1")


# URLs


def make_url(draw: Draw) -> tuple[str, str]:
    parts = (
        b"a.git",
        b"sub",
        b"..",
        b".",
        b"",
        b"...",
        b"%2e%2e",
        b"\xc0\xae\xc0\xae",
        b"a\\b",
        b"x\0y",
        b"~u",
        b"\xff",
    )
    tails = (
        b"/info/refs",
        b"/HEAD",
        b"/git-upload-pack",
        b"/objects/info/packs",
        b"/objects/00/" + b"1" * 38,
        b"/objects/pack/pack-" + b"a" * 40 + b".pack",
        b"/objects/pack/pack-" + b"a" * 64 + b".idx",
        b"/objects/../HEAD",
        b"/objects/info/http-alternates",
        b"/config",
        b"/objects/AB/" + b"1" * 38,
    )
    path = b"/" + b"/".join(
        draw.choice(parts[:2]) if draw.chance(0.6) else draw.word(*parts) for _ in range(draw.randrange(4))
    )
    path = draw.raw(path + draw.word(*tails)) + (b"x" * 5000 if draw.chance(0.01) else b"")
    query = b"&".join(
        draw.word(b"service=git-upload-pack", b"service=git%2dupload-pack", b"a=b", b"service", b"+=+", b"%=%zz")
        for _ in range(draw.randrange(3))
    )
    return path.decode("latin-1"), query.decode("latin-1")


def run_url(data: tuple[str, str]) -> None:
    """What is routed stays below the root: no part of the path goes up, none is empty, none holds a NUL."""
    path, query = data
    find_parameter(query, b"service")
    parse_protocol_version(query)
    raw = request_path({"PATH_INFO": path}, root_is_set=True)
    if path:
        request_path({"PATH_TRANSLATED": path}, root_is_set=False)
    with suppress(GovcError):
        request_path({}, root_is_set=len(path) % 2 == 0)
        raise AssertionError("no path is a path")
    for value, version in (
        ("version=1", 1),
        ("a:version=2", 2),
        ("version=1:version=2", 2),
        (None, 0),
        ("version=3", 0),
    ):
        assert parse_protocol_version(value) == version
    assert find_file(_SNAPSHOT, "config", "config") is None and find_file(_SNAPSHOT, "pack", path) is None
    names = raw[1:].split(b"/")
    assert not {b".", b".."} & set(names) and b"" not in names[:-1] and b"\0" not in raw
    route = find_route(raw)
    if route is None:
        return
    assert raw == route.repository + b"/" + route.tail
    if route.kind in (RouteKind.LOOSE, RouteKind.PACK, RouteKind.IDX):
        found = find_file(_SNAPSHOT, route.kind.value, route.tail.decode("ascii"))
        assert found is not None and os.path.normpath(found) == found and found.startswith("/repo/objects/")


class _Snapshot:
    class layout:
        objects_dir = "/repo/objects"


_SNAPSHOT: Any = _Snapshot()


def make_environ_input(draw: Draw) -> dict[str, Any]:
    environ: dict[str, Any] = {"wsgi.input": None, "REQUEST_METHOD": text(draw, b"GET")}
    names = (
        "HTTP_AUTHORIZATION",
        "HTTP_PROXY",
        "HTTP_X_REMOTE_USER",
        "REMOTE_USER",
        "REMOTE_ADDR",
        "HTTP_X_FORWARDED_FOR",
        "HTTP_GIT_PROTOCOL",
        "GIT_COMMITTER_NAME",
        "SERVER_NAME",
        "LD_PRELOAD",
        "PATH",
        "HTTP_",
        "HTTP_a",
        "QUERY_STRING",
    )
    values = (
        b"ann",
        b"10.0.0.1",
        b"::1",
        b"(null)",
        b"",
        b"192.0.2.1, 10.0.0.1",
        b"a\0b",
        b"::ffff:10.0.0.9",
        b"fe80::1%x",
    )
    for name in draw.sample(names, draw.randrange(len(names))):
        environ[name] = text(draw, *values)
    return environ


PROXIES = TrustedProxies(["10.0.0.0/8", "::1", "unix"])


def run_environ(environ: dict[str, Any]) -> None:
    """A name from a header counts from trusted peers only; hooks get CGI variables, without credentials."""
    header = header_variable("X-Remote-User")
    identity = identify(environ, header=header, proxies=PROXIES)
    if identity.remote_user is not None:
        assert PROXIES.contains(environ.get("REMOTE_ADDR")) and is_user_name(identity.remote_user)
    plain = identify(environ, header=None, proxies=PROXIES)
    assert (plain.remote_user is None) == (not environ.get("REMOTE_USER"))
    variables = hook_variables(
        environ,
        remote_user=identity.remote_user,
        remote_addr=identity.remote_addr,
        git_protocol="version=2",
        auth_type="Basic" if identity.remote_user else None,
    )
    assert not {"HTTP_AUTHORIZATION", "HTTP_PROXY", "LD_PRELOAD", "PATH", "wsgi.input"} & set(variables)
    assert all("\0" not in value and os.fsencode(value) is not None for value in variables.values())
    made = make_environ(
        {name: os.fsdecode(value.encode("latin-1")) for name, value in environ.items() if isinstance(value, str)},
        io.BytesIO(),
        None,
    )
    assert all(value == made[name] for name, value in environ.items() if isinstance(value, str))


def make_head(draw: Draw) -> list[tuple[str, str]]:
    return [
        (draw.choice(("Content-Type", "Cache-Control")), text(draw, b"text/plain", b"public, max-age=1"))
        for _ in range(2)
    ]


# Bodies


def make_body(draw: Draw) -> dict[str, Any]:
    content = draw.choice((b"", b"0000", b"x" * 9000, bytes(100_000), draw.randbytes(500)))
    body = content
    environ: dict[str, Any] = {}
    if draw.chance(0.6):
        body = gzip.compress(content, draw.choice((1, 9)))
        if draw.chance(0.1):
            body += gzip.compress(b"second member")
        if draw.chance(0.1):
            body = zlib.compress(content)
        body = draw.raw(body)
        body = body[: draw.randrange(len(body) + 1)] if draw.broken() else body
        environ["HTTP_CONTENT_ENCODING"] = draw.pick("gzip", "x-gzip", "deflate", "GZIP")
    if draw.chance(0.8):
        length = b"%d" % draw.number(len(body), 64)
        environ["CONTENT_LENGTH"] = draw.pick(length, b"", b"-1", b"1e3", b" 5", b"0x5", b"\xb2", b"9" * 25).decode(
            "latin-1"
        )
    if draw.chance(0.3):
        environ["wsgi.input_terminated"] = True
    environ["wsgi.input"] = io.BytesIO(body + draw.pick(b"", b"GET / HTTP/1.1"))
    environ["limit"] = draw.choice((0, 100, 10_000, 1 << 20))
    environ["pieces"] = draw.choice((1, 7, 1 << 16))
    return environ


def run_body(environ: dict[str, Any]) -> None:
    """A bounded body is what a streamed one is, and never more than the limit allows."""
    limit = environ["limit"]
    parse_content_length(environ.get("CONTENT_LENGTH"))
    whole: bytes | None
    try:
        whole = read_bounded_body(environ, limit)
    except LimitExceeded:
        whole = None
    if whole is not None:
        assert len(whole) <= max(limit, REQUEST_BYTES_FLOOR) * (
            INFLATED_RATIO_MAX if "HTTP_CONTENT_ENCODING" in environ else 1
        )
    environ["wsgi.input"].seek(0)
    reader = open_body(environ)
    assert reader.read(0) == b""
    pieces, size = [], environ["pieces"] if whole is not None and len(whole) < 2000 else 1 << 16
    while piece := reader.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    assert whole is None or whole == b"".join(pieces)


# The fast lane


@functools.cache
def gunicorn_parser() -> Any:
    from gunicorn.config import Config

    config = Config()
    for name, value in (("forwarder_headers", ""), ("header_map", "drop"), ("limit_request_line", 8190)):
        config.set(name, value)
    return config


def make_lane(draw: Draw) -> bytes:
    line = draw.pick(b"GET", b"POST", b"HEAD", b"get") + b" "
    target = b"/a/b.git" + draw.pick(
        b"/info/refs?service=git-upload-pack", b"/git-upload-pack", b"/HEAD", b"//info/refs?service=git-x"
    )
    body = b""
    fields = [
        b"Host: x",
        b"Git-Protocol: " + draw.word(b"version=2"),
        draw.word(b"X-A: b", b"Connection: keep-alive", b"Connection: close", b"X_Y: z", b"Transfer-Encoding: chunked"),
        draw.word(
            b"Accept: */*", b"Host: y", b" folded", b"Content-Length: 5", b"X-Forwarded-Proto: https", b"A:\tb\t"
        ),
    ]
    if draw.chance(0.5):
        line, target = b"POST ", b"/a/b.git/git-upload-pack"
        body = b"0014command=ls-refs\n0000"
        fields.append(b"Content-Length: " + draw.pick(b"%d" % len(body), b"0", b"99999", b"+24", b"24 ", b"024"))
    fields = draw.shuffle_some([draw.raw(field) for field in fields])
    end = draw.pick(b"\r\n", b"\n", b"\r")
    data = (
        line
        + draw.raw(target)
        + draw.pick(b" HTTP/1.1", b" HTTP/1.0", b"", b"  HTTP/1.1")
        + end
        + end.join(fields)
        + end
        + end
    )
    return data + body + draw.pick(b"", b"GET / HTTP/1.1\r\n\r\n", b"x")


def run_lane(data: bytes) -> None:
    """What the fast lane takes, gunicorn reads the same."""
    request = read_request(data)
    if request is None:
        return
    from gunicorn.http.parser import RequestParser
    from gunicorn.http.wsgi import create

    config = gunicorn_parser()
    parser = RequestParser(config, iter([data]), ("127.0.0.1", 1))
    read = next(parser)
    environ = create(read, None, ("127.0.0.1", 1), ("127.0.0.1", 80), config)[1]
    assert (request.method, request.path, request.query) == (
        environ["REQUEST_METHOD"],
        environ["PATH_INFO"],
        environ["QUERY_STRING"],
    )
    names = {name for name in environ if name.startswith(("HTTP_", "CONTENT_"))} | set(request.variables)
    assert all(request.variables.get(name) == environ.get(name) for name in names)
    assert request.body == read.body.read() and read.should_close() is not request.stays


# Logins


def token_of(name: str, secret: str) -> str:
    """A token whose checksum is right; the same each time, so that inputs repeat."""
    body = PREFIX + name * ID_CHARS + (secret * SECRET_CHARS)[:SECRET_CHARS]
    return body + _checksum(body)


TOKENS = [token_of("a", "kT3x9Qe7Lw"), token_of("b", "Zp4Rv8Hn2c")]


# Logs


def make_log_text(draw: Draw) -> tuple[str, list[str]]:
    """A line that somebody wrote, and the secrets in it."""
    token = draw.choice(TOKENS)
    jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLW9mLWFubg"
    password = "hunter2-" + "".join(draw.choice("abcXYZ019") for _ in range(8))
    basic = base64.b64encode(f"ann:{password}".encode()).decode()
    forms = (
        (f"/a.git/{token}/info", token[15:]),
        (f"token={token}&x", token[15:]),
        (f"Authorization: Bearer {jwt}", jwt[30:]),
        (f"jwt {jwt}", jwt[30:]),
        (f"'HTTP_AUTHORIZATION': 'Basic {basic}'", basic),
        (f"authorization: BASIC  {basic}", basic),
        (f"fetching https://ann:{password}@host/a.git", password),
        (f"Bearer%20{jwt}", jwt[30:]),
        (f"Invalid request from ip=127.0.0.1: Invalid HTTP Header: 'X {password}'", password),
    )
    chosen = [draw.choice(forms) for _ in range(draw.choice((1, 1, 2)))]
    noise = draw.word(b" ", b"\n", b"\r\nERROR forged", b"\x1b[2J", b"\xe2\x80\xa8").decode("utf-8", "replace")
    line = noise.join(form for form, _ in chosen) + noise
    return line, [secret for _, secret in chosen]


class _Fields:
    def __init__(self, text: str) -> None:
        self._text = text

    def log_fields(self) -> dict[str, Any]:
        return {"error": self._text, "status": 200}


def run_log_text(data: tuple[str, list[str]]) -> None:
    """Secrets are cut out, in plain lines, in JSON and in tracebacks; a JSON line is one line."""
    line, secrets = data
    said = [redact(line)]
    try:
        raise GovcError(line)
    except GovcError:
        error = sys.exc_info()
    for formatter in (LineFormatter(), JsonFormatter()):
        for arguments in ((line, (), None), ("%s", (line,), None), ("failed", (), error)):
            record = logging.LogRecord("govc.x", logging.INFO, __file__, 1, *arguments)
            if isinstance(formatter, JsonFormatter):
                said.append(formatter.format(copy.copy(record)))  # it needs no filter
            RedactingFilter().filter(record)
            said.append(formatter.format(record))
            if isinstance(formatter, JsonFormatter):
                assert "\n" not in said[-1] and json.loads(said[-1])["logger"] == "govc.x"
                CURRENT.set(_Fields(line))
                said.append(formatter.format(record))
                CURRENT.set(None)
                assert "\n" not in said[-1]
    for secret in secrets:
        assert not any(secret in text for text in said), (secret, said)


TARGETS = (
    Target(
        name="url",
        covers=(
            "govc.web.request:check_path,request_path,find_parameter,parse_protocol_version",
            "govc.web.routes",
            "govc.service.dumb:find_file",
        ),
        make=make_url,
        run=run_url,
        allowed=(GovcError,),
        weight=10,
    ),
    Target(
        name="environ",
        covers=("govc.web.identity", "govc.web.request:hook_variables", "govc.web.cgi:make_environ"),
        make=make_environ_input,
        run=run_environ,
        weight=3,
    ),
    Target(
        name="cgi-head",
        covers=("govc.web.cgi:encode_head",),
        make=make_head,
        run=lambda headers: encode_head("404 x", headers),
        weight=0.5,
    ),
    Target(
        name="body",
        covers=("govc.web.bodies",),
        make=make_body,
        run=run_body,
        allowed=(RemoteProtocolError, LimitExceeded),
        weight=1,
    ),
    Target(
        name="lane",
        covers=("govc.web.lane:read_request,_read_fields,_variable_of",),
        make=make_lane,
        run=run_lane,
        weight=3,
    ),
    Target(
        name="log-lines",
        covers=("govc.web.redaction", "govc.web.log_lines:LineFormatter", "govc.web.json_lines:JsonFormatter"),
        make=make_log_text,
        run=run_log_text,
        weight=0.3,
    ),
)
