"""Requests that a client could send, and neighbours of them that none does.

Fields go through a `Draw` (tests.fuzz.draw): mostly they are right. Object ids are those of the repository, so that
requests get through; packs are made here, of a blob, a tree and a commit on an existing tip.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

from compat.differential.world import REPOSITORIES, Request, World
from govc.objects.types import BLOB, COMMIT, TREE, hash_object
from govc.pack.entry import encode_entry_header
from govc.protocol.oid import SHA1
from tests.fuzz.draw import Draw

GIT_PROTOCOLS = ("version=2", "version=1", "version=0", "version=9", "version=1:version=2", "x", "version=2:y=z", "")
SERVICES = ("git-upload-pack", "git-receive-pack", "git-upload-archive", "upload-pack", "git-x", "")
ZERO = "0" * 40

V0_CAPABILITIES = (
    "multi_ack_detailed no-done side-band-64k thin-pack ofs-delta",
    "multi_ack side-band include-tag",
    "side-band-64k no-progress filter",
    "ofs-delta",
    "",
)


def packet(draw: Draw, line: str | bytes) -> bytes:
    data = draw.raw(line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line)[:65000]
    data += b"\n" if draw.chance(0.9) else b""
    return b"%04x" % draw.number(len(data) + 4, 16) + data


def special(draw: Draw, right: bytes = b"0000") -> bytes:
    return draw.pick(right, b"0000", b"0001", b"0002", b"0003", b"", b"00")


def text(draw: Draw, *usual: str) -> str:
    """A value that an environment can hold."""
    word = draw.word(*(each.encode() for each in usual))
    return word.replace(b"\0", b"").decode("utf-8", "surrogateescape")


def oid_of(draw: Draw, world: World, repository: str) -> str:
    """An object of the repository (a tip, mostly), another one, or none."""
    oids = world.oids[repository]
    kind = draw.randrange(10)
    if not oids or kind == 0:
        return draw.choice((ZERO, "f" * 40, "1" * 40))
    return draw.choice(oids[:12]) if kind < 7 else draw.choice(oids)


def base(draw: Draw, method: str, path: str, query: str = "") -> dict[str, str]:
    variables = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": draw.pick("HTTP/1.1", "HTTP/1.0"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "SCRIPT_NAME": "",
        "REQUEST_METHOD": draw.pick(method, "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "get"),
        "PATH_INFO": path,
        "QUERY_STRING": query,
    }
    if draw.chance(0.3):
        variables["REMOTE_USER"] = "ada"
    return variables


def repository_of(draw: Draw) -> str:
    names = list(REPOSITORIES)
    return draw.choice(names[:3]) if draw.chance(0.8) else draw.choice(names)


def path_of(draw: Draw, repository: str, tail: str) -> str:
    """The path, sometimes in a roundabout way or of what isn't there."""
    prefix = draw.pick(f"/{repository}", f"/{repository.removesuffix('.git')}", f"/./{repository}", f"//{repository}")
    if draw.chance(0.03):
        prefix = draw.choice(
            ("", "/nothing.git", f"/{repository}/../{repository}", f"/{repository}/", "/~ada/x.git", "/sub")
        )
    path = prefix + tail
    if draw.chance(0.03):
        path = draw.spoil(path.encode()).replace(b"\0", b"").decode("utf-8", "surrogateescape")
    return path


def make_discovery(draw: Draw, world: World) -> Request:
    repository = repository_of(draw)
    service = draw.pick(draw.choice(SERVICES[:2]), *SERVICES)
    query = draw.pick(
        f"service={service}", "", f"service={service}&x=y", f"a=b&service={service}", f"service%3d{service}"
    )
    variables = base(draw, "GET", path_of(draw, repository, "/info/refs"), query)
    if draw.chance(0.6):
        variables["HTTP_GIT_PROTOCOL"] = draw.choice(GIT_PROTOCOLS)
    return Request(variables, kind="discovery")


def make_dumb(draw: Draw, world: World) -> Request:
    repository = repository_of(draw)
    tails = ["/HEAD", "/info/refs", "/objects/info/packs", "/objects/info/alternates", "/objects/info/http-alternates"]
    tails += ["/config", "/packed-refs", "/refs/heads/main", "/description", "/hooks/pre-receive"]
    if world.files[repository] and draw.chance(0.6):
        tail = "/" + draw.choice(world.files[repository])
    else:
        tail = draw.choice(tails)
    if draw.chance(0.1):
        tail = draw.choice(("/objects/00/" + "1" * 38, f"/objects/pack/pack-{'a' * 40}.pack", tail.upper(), tail + "/"))
    variables = base(draw, "GET", path_of(draw, repository, tail))
    if draw.chance(0.1):
        variables["HTTP_RANGE"] = text(draw, "bytes=0-9", "bytes=5-", "bytes=-3", "bytes=99999999-")
    return Request(variables, kind="dumb")


def with_body(draw: Draw, world: World, repository: str, service: str, body: bytes, kind: str) -> Request:
    """A POST; the body gzipped now and then, its length and type mostly right."""
    variables = base(draw, "POST", path_of(draw, repository, f"/git-{service}"))
    if draw.chance(0.25):
        body = draw.pick(gzip.compress(body, 6, mtime=0), zlib.compress(body))
        variables["HTTP_CONTENT_ENCODING"] = draw.pick("gzip", "x-gzip", "deflate", "identity")
    right = f"application/x-git-{service}-request"
    variables["CONTENT_TYPE"] = draw.pick(right, "", right + "; charset=utf-8", right.upper(), "text/plain")
    if draw.chance(0.9):
        # A length beyond the body makes git wait for ever for more.
        length = len(body) if not draw.broken() else draw.choice((0, len(body), len(body) // 2, max(len(body) - 1, 0)))
        variables["CONTENT_LENGTH"] = str(length)
    return Request(variables, body, kind)


def deepen_lines(draw: Draw, world: World, repository: str) -> list[Callable[[], str]]:
    return [
        lambda: f"deepen {draw.pick('1', '2', '100', '2147483647', '0', '-1', 'x', '0x2')}",
        lambda: f"deepen-since {draw.pick('1700000600', '1', '2000000000', 'x')}",
        lambda: f"deepen-not {draw.pick('refs/heads/topic', 'v1', 'nothing')}",
        lambda: f"shallow {oid_of(draw, world, repository)}",
    ]


FILTERS = (
    "blob:none",
    "tree:0",
    "blob:limit=10",
    "blob:limit=1k",
    "object:type=commit",
    "sparse:oid=main",
    "x",
    "tree:x",
)


def make_fetch_v0(draw: Draw, world: World) -> Request:
    repository = repository_of(draw)
    lines = []
    for number in range(draw.choice((0, 1, 1, 1, 2, 3))):
        words = " " + text(draw, *V0_CAPABILITIES) if number == 0 else ""
        lines.append(packet(draw, f"want {oid_of(draw, world, repository)}{words}"))
    if draw.chance(0.3):
        lines.append(packet(draw, draw.choice(deepen_lines(draw, world, repository))()))
    if draw.chance(0.1):
        lines.append(packet(draw, f"filter {draw.choice(FILTERS)}"))
    lines = [*draw.shuffle_some(lines), special(draw)]
    for _ in range(draw.choice((0, 0, 1, 2))):
        lines += [packet(draw, f"have {oid_of(draw, world, repository)}") for _ in range(draw.choice((1, 2, 5)))]
        lines.append(draw.pick(b"0000", special(draw)) if draw.chance(0.5) else b"")
    lines.append(packet(draw, "done") if draw.chance(0.8) else draw.choice((b"0000", b"")))
    body = b"".join(lines)
    body = draw.spoil(body) if draw.chance(0.03) else body
    request = with_body(draw, world, repository, "upload-pack", body, "fetch v0")
    if draw.chance(0.2):
        request = Request(dict(request.variables) | {"HTTP_GIT_PROTOCOL": "version=1"}, request.body, request.kind)
    return request


def make_fetch_v2(draw: Draw, world: World) -> Request:
    repository = repository_of(draw)
    command = draw.pick(draw.choice(("fetch", "fetch", "fetch", "ls-refs")), "object-info", "bundle-uri", "push", "")
    head = [packet(draw, f"command={command}")]
    if draw.chance(0.8):
        head.append(packet(draw, f"agent=git/{draw.pick('2.39.5', '2', '')}"))
    if draw.chance(0.8):
        head.append(packet(draw, f"object-format={draw.pick('sha1', 'sha256', 'md5')}"))
    if draw.chance(0.1):
        head.append(packet(draw, draw.choice(("server-option=x", "unknown=1", "session-id=1", "agent"))))
    arguments: list[Callable[[], str]] = [
        lambda: f"want {oid_of(draw, world, repository)}",
        lambda: f"want {oid_of(draw, world, repository)}",
        lambda: f"have {oid_of(draw, world, repository)}",
        lambda: draw.choice(
            ("done", "done", "thin-pack", "ofs-delta", "no-progress", "include-tag", "deepen-relative")
        ),
        lambda: draw.choice(
            ("wait-for-done", "sideband-all", f"filter {draw.choice(FILTERS)}", "want-ref refs/heads/main")
        ),
        *deepen_lines(draw, world, repository),
    ]
    if command == "ls-refs":
        arguments = [
            lambda: draw.choice(("peel", "symrefs", "unborn")),
            lambda: f"ref-prefix {draw.choice(('refs/heads/', 'refs/tags/v', 'HEAD', 'refs/x', ''))}",
            lambda: text(draw, "peel", "symrefs"),
        ]
    lines = [*draw.shuffle_some(head), special(draw, b"0001")]
    lines += draw.shuffle_some([packet(draw, line) for line in draw.some(arguments, 0, 7)])
    body = b"".join([*lines, special(draw)])
    body = draw.spoil(body) if draw.chance(0.03) else body
    request = with_body(draw, world, repository, "upload-pack", body, "fetch v2")
    return Request(
        dict(request.variables) | {"HTTP_GIT_PROTOCOL": draw.pick("version=2", "version=1")}, request.body, request.kind
    )


def make_pack(draw: Draw, tip: str) -> tuple[str, bytes]:
    """A pack of a commit on `tip`, its tree and its blob; the commit's name."""
    blob = b"content %d\n" % draw.randrange(1000)
    tree = b"100644 file\0" + hash_object(SHA1, BLOB, blob)
    if draw.broken():
        tree = draw.choice((b"100644 .git\0", b"0100644 file\0", b"777 file\0", b"100644 a/b\0")) + tree[12:]
    lines = [f"tree {hash_object(SHA1, TREE, tree).hex()}"]
    lines += [f"parent {tip}"] if tip != ZERO else []
    who = draw.pick("A <a@b> 1700000000 +0000", "A <a@b 1700000000 +0000", "A <a@b> 01 +0000", "<a@b> 1 +0000")
    lines += [f"author {who}", f"committer {who}", "", "message", ""]
    commit = "\n".join(lines).encode()
    objects = draw.shuffle_some([(COMMIT, commit), (TREE, tree), (BLOB, blob)])
    entries = b"".join(
        draw.raw(encode_entry_header(kind, draw.number(len(content), 30)) + zlib.compress(content))
        for kind, content in objects
    )
    pack = b"PACK\0\0\0\2" + draw.number(len(objects), 32).to_bytes(4, "big") + entries
    return hash_object(SHA1, COMMIT, commit).hex(), pack + draw.raw(SHA1.new(pack).digest())


def make_push(draw: Draw, world: World) -> Request:
    repository = repository_of(draw)
    refs = world.refs_of(world.ours, repository)
    name = (
        draw.choice(list(refs))
        if refs and draw.chance(0.5)
        else text(draw, "refs/heads/new", "refs/heads/a/b", "refs/tags/t")
    )
    old = refs.get(name, ZERO)
    tip = draw.choice(world.oids[repository][:3]) if world.oids[repository] else ZERO
    new, pack = make_pack(draw, old if old != ZERO and draw.chance(0.5) else tip)
    kind = draw.randrange(6)
    if kind == 0 and old != ZERO:
        new, pack = ZERO, b""
    elif kind == 1:
        new = oid_of(draw, world, repository)
        pack = b"PACK\0\0\0\2\0\0\0\0" + SHA1.new(b"PACK\0\0\0\2\0\0\0\0").digest()
    capabilities = draw.pick(
        "report-status side-band-64k object-format=sha1 agent=git/2.39.5",
        "report-status-v2 atomic quiet",
        "report-status",
        "side-band-64k",
        "report-status push-options",
        "report-status object-format=sha256",
        "",
    )
    commands = [f"{draw.pick(old, ZERO, 'f' * 40)} {new} {name}"]
    if draw.chance(0.2):
        other = draw.choice(
            ("refs/heads/second", "refs/heads/new/below", "HEAD", "refs/tags/v1", "refs/notes/x", "main")
        )
        commands.append(f"{refs.get(other, ZERO)} {new} {other}")
    lines = []
    for number, command in enumerate(commands):
        lines.append(
            packet(
                draw,
                command.encode("utf-8", "surrogateescape") + (b"\0" + capabilities.encode() if not number else b""),
            )
        )
    if draw.chance(0.05):
        lines = [packet(draw, f"shallow {oid_of(draw, world, repository)}"), *lines]
    body = b"".join([*draw.shuffle_some(lines), special(draw)])
    if "push-options" in capabilities and repository == "open.git":
        body += packet(draw, "ci.skip") + b"0000"
    body = draw.pick(body + pack, body, b"0000")
    request = with_body(draw, world, repository, "receive-pack", body, "push")
    if draw.chance(0.1):
        request = Request(
            dict(request.variables) | {"HTTP_GIT_PROTOCOL": draw.choice(GIT_PROTOCOLS)}, request.body, request.kind
        )
    return request


MAKERS = (make_discovery, make_dumb, make_fetch_v0, make_fetch_v0, make_fetch_v2, make_fetch_v2, make_push)


def make_request(draw: Draw, world: World) -> Request:
    """Any of them."""
    return draw.choice(MAKERS)(draw, world)
