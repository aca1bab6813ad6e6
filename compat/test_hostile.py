"""Input made to hurt: a clear error within bounded time; refs and objects stay; the server goes on.

"Bounded" is the client's timeout: a scenario that hangs fails by it. The memory of the server's processes
is watched.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import (
    FLUSH,
    RECEIVE,
    UPLOAD,
    V2,
    ZERO,
    Reply,
    discover,
    lines,
    parse_report,
    raw_head,
    receive,
    request,
    send_raw,
    upload,
)
from compat.test_streams import processes

CAPS = " report-status side-band-64k"
HANG_SECONDS = 180
CPU_SECONDS_MAX = 40
"""What one hostile request may cost. Not by the clock: other work on the machine makes that as long as it likes."""
MEMORY_GROWTH_BYTES_MAX = 400_000_000
BOMB_GROWTH_BYTES_MAX = 150_000_000
"""Less than 200 MB of zeros."""


def entry_header(kind: int, size: int) -> bytes:
    """A pack entry's type and size (gitformat-pack)."""
    first = kind << 4 | size & 15
    size >>= 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    out.append(first)
    return bytes(out)


def varint(value: int) -> bytes:
    """A delta's size, least significant seven bits first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def ofs(distance: int) -> bytes:
    """The distance to an ofs-delta's base."""
    out = [distance & 127]
    while distance := distance >> 7:
        distance -= 1
        out.append(distance & 127 | 128)
    return bytes(reversed(out))


def pack(*entries: bytes, count: int | None = None) -> bytes:
    """A pack of ready-made entries; `count` lies."""
    body = b"PACK\0\0\0\2" + (len(entries) if count is None else count).to_bytes(4, "big") + b"".join(entries)
    return body + hashlib.sha1(body).digest()


def blob(data: bytes, *, size: int | None = None, kind: int = 3) -> bytes:
    """A blob entry whose stated size may lie."""
    return entry_header(kind, len(data) if size is None else size) + zlib.compress(data, 9)


def ofs_delta(distance: int, delta: bytes, *, size: int | None = None) -> bytes:
    """An ofs-delta entry."""
    return entry_header(6, len(delta) if size is None else size) + ofs(distance) + zlib.compress(delta, 9)


def ref_delta(base: str, delta: bytes) -> bytes:
    """A ref-delta entry."""
    return entry_header(7, len(delta)) + bytes.fromhex(base) + zlib.compress(delta, 9)


def blob_id(data: bytes) -> str:
    """What git calls a blob of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


BASE = b"hello world\n" * 10
COPY_ALL = varint(len(BASE)) + varint(len(BASE)) + bytes([0x90, len(BASE)])
ZEROS = bytes(30_000_000)
BOMB_BASE = bytes(65536)
# 65536 bytes copied 8000 times: half a gigabyte out of a few kilobytes.
BOMB_DELTA = varint(65536) + varint(65536 * 8000) + b"\x80" * 8000


def looped() -> bytes:
    """Two ref-deltas that name each other's result, which nobody can make."""
    return pack(ref_delta("1" * 40, COPY_ALL), ref_delta("2" * 40, COPY_ALL))


PACKS = {
    "unknown type 0": pack(entry_header(0, 3) + zlib.compress(b"abc")),
    "unknown type 5": pack(entry_header(5, 3) + zlib.compress(b"abc")),
    "size too small": pack(blob(b"abcdef", size=3)),
    "size too large": pack(blob(b"abc", size=6)),
    "size absurd": pack(blob(b"abc", size=1 << 62)),
    "size of 100 bytes": pack(b"\xb0" + b"\x80" * 100 + b"\1" + zlib.compress(b"abc")),
    "no zlib": pack(entry_header(3, 5) + b"hello"),
    "count too high": pack(blob(b"a"), count=1000),
    "count absurd": pack(blob(b"a"), count=0xFFFFFFFF),
    "count zero": pack(blob(b"a"), count=0),
    "junk after the trailer": pack(blob(b"a")) + b"x" * 50,
    "same object twice with another size": pack(blob(b"a"), blob(b"a"), count=5),
    "ofs zero": pack(ofs_delta(0, COPY_ALL)),
    "ofs before the pack": pack(blob(BASE), ofs_delta(100_000, COPY_ALL)),
    "ofs into the middle": pack(blob(BASE), ofs_delta(5, COPY_ALL)),
    "ofs huge": pack(blob(BASE), entry_header(6, 3) + b"\xff" * 30 + b"\0" + zlib.compress(b"abc")),
    "delta of nothing": pack(ref_delta("1" * 40, COPY_ALL)),
    "delta loop": looped(),
    "delta of a wrong base size": pack(blob(BASE), ofs_delta(len(blob(BASE)), varint(7) + COPY_ALL[1:])),
    "delta copies beyond the base": pack(
        blob(BASE), ofs_delta(len(blob(BASE)), varint(120) + varint(255) + bytes([0x91, 100, 255]))
    ),
    "delta makes too little": pack(
        blob(BASE), ofs_delta(len(blob(BASE)), varint(120) + varint(500) + bytes([0x90, 120]))
    ),
    "delta makes too much": pack(blob(BASE), ofs_delta(len(blob(BASE)), varint(120) + varint(5) + bytes([0x90, 120]))),
    "delta opcode zero": pack(blob(BASE), ofs_delta(len(blob(BASE)), varint(120) + varint(1) + b"\0")),
    "delta cut": pack(blob(BASE), ofs_delta(len(blob(BASE)), varint(120) + varint(9) + b"\x09abc")),
    "delta empty": pack(blob(BASE), ofs_delta(len(blob(BASE)), b"")),
    "zlib bomb behind a small size": pack(entry_header(3, 10) + zlib.compress(ZEROS, 9)),
    "delta stated as a terabyte": pack(
        blob(BASE), ofs_delta(len(blob(BASE)), varint(120) + varint(1 << 40) + bytes([0x90, 120]))
    ),
    "a tree that is none": pack(blob(b"not a tree", kind=2)),
    "a commit that is none": pack(blob(b"tree zz\n", kind=1)),
    "a tag that is none": pack(blob(b"object 12\n", kind=4)),
}


@pytest.fixture
def watched(server: Server) -> Iterator[Server]:
    """The server: at the end it has neither grown nor computed without measure, and still answers."""
    memory_before, cpu_before = memory(server), cpu_seconds(server)
    yield server
    assert cpu_seconds(server) - cpu_before < CPU_SECONDS_MAX
    for repo in server.repos:
        if not repo.broken:
            assert discover(repo.url).status == 200
    assert memory(server) - memory_before < MEMORY_GROWTH_BYTES_MAX


def memory(server: Server) -> int:
    """Resident bytes of its processes now."""
    total = 0
    for process in processes(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def cpu_seconds(server: Server) -> float:
    """What its processes have computed up to now, those included that have ended."""
    total = 0.0
    for process in processes(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def push_pack(repo: Repo, data: bytes, target: str) -> Reply:
    """Push a pack and create a branch at `target`; the reply."""
    return receive(repo.url, lines(f"{ZERO} {target} refs/tags/evil\0{CAPS}".encode(), FLUSH) + data)


@pytest.mark.rows(
    "SEC-06", "SEC-08", "SEC-09", "SEC-10", "SEC-13", "SEC-15", "RP-26", "RP-27", "FS-06", "FS-07", "FK-41"
)
@pytest.mark.parametrize("name", sorted(PACKS))
def test_broken_packs_are_refused(watched: Server, name: str) -> None:
    repo = watched.create_repo()
    before = repo.state()
    reply = push_pack(repo, PACKS[name], "3" * 40)
    assert reply.status == 200
    report = parse_report(reply)
    # Without the check only what unpacking needs is looked at; then the ref's own object is missing.
    is_framed = name.endswith("that is none")
    program = b"index-pack" if "count" in name and "zero" not in name else b"unpack-objects"
    assert report == [
        b"unpack ok" if is_framed else b"unpack %b abnormal exit" % program,
        b"ng refs/tags/evil " + (b"missing necessary objects" if is_framed else b"unpacker error"),
    ]
    assert b"Traceback" not in reply.body
    assert before == repo.state()


@pytest.mark.different_on_purpose
@pytest.mark.rows("SEC-06", "SEC-07", "SEC-46")
def test_a_delta_bomb_is_refused_or_digested_in_bounded_memory(watched: Server) -> None:
    repo = watched.create_repo()
    before = repo.state()
    base = blob(BOMB_BASE)
    entries = [base]
    distance = len(base)
    for _ in range(20):
        entry = ofs_delta(distance, BOMB_DELTA)
        entries.append(entry)
        distance += len(entry)
    reply = push_pack(repo, pack(*entries), "3" * 40)
    assert b"ok refs/tags/evil" not in reply.body
    assert before == repo.state()


@pytest.mark.different_on_purpose
@pytest.mark.rows("HB-40", "HB-46", "SEC-46")
@pytest.mark.parametrize("kind", ["haves", "shallows", "zeros", "wants", "commands", "prefixes"])
def test_gzip_bombs_end_soon(watched: Server, kind: str) -> None:
    repo = watched.create_repo()
    before = repo.state()
    main = repo.rev("main")
    million = 400_000
    body, service, headers = {
        "haves": (
            lines(f"want {main}", FLUSH) + lines(f"have {'1' * 40}") * million + lines("done"),
            "upload-pack",
            {},
        ),
        "shallows": (
            lines(f"want {main}") + lines(f"shallow {'1' * 40}") * million + b"0000",
            "upload-pack",
            {},
        ),
        "zeros": (bytes(200_000_000), "upload-pack", {}),
        "wants": (lines(f"want {main}") * million + b"0000" + lines("done"), "upload-pack", {}),
        "commands": (
            lines(f"{ZERO} {main} refs/heads/b\0 report-status".encode())
            + lines(f"{ZERO} {main} refs/heads/b") * million,
            "receive-pack",
            {},
        ),
        "prefixes": (
            lines("command=ls-refs", b"")[:-4] + b"0001" + lines("ref-prefix " + "x" * 100) * million + b"0000",
            "upload-pack",
            V2,
        ),
    }[kind]
    bomb = gzip.compress(body, 1)
    forget_peaks(watched)
    before_bytes = peak_bytes(watched)
    types = {"Content-Type": f"application/x-git-{service}-request", "Content-Encoding": "gzip"}
    reply = request(repo.url, "POST", f"/git-{service}", body=bomb, headers=types | headers)
    if kind == "zeros":
        assert peak_bytes(watched) - before_bytes < BOMB_GROWTH_BYTES_MAX
    assert b"Traceback" not in reply.body
    assert before == repo.state()


def lasting_processes(server: Server) -> list[psutil.Process]:
    """The server's processes that are there now."""
    found = [psutil.Process(pid) for pid in server.running.pids]
    return found + [child for process in found for child in process.children(recursive=True)]


def forget_peaks(server: Server) -> None:
    """Let the kernel count the largest memory of each process from now on (proc(5), clear_refs)."""
    for process in lasting_processes(server):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a helper of before, which has just ended
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_bytes(server: Server) -> int:
    """The largest resident memory of each process since then, together."""
    total = 0
    for process in lasting_processes(server):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            match = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            total += int(match[1]) * 1024 if match is not None else 0
    return total


@pytest.mark.every_frontend
@pytest.mark.rows("SEC-01", "SEC-02", "HB-45", "HB-50")
@pytest.mark.parametrize(
    "body",
    [
        b"\0" * 1000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"ffff" + b"a" * 70000,
        b"0000" * 50000,
        b"0004" * 50000,
        b"0001" * 1000,
        b"0005",
        b"00zz",
        b"-001",
        b"+004",
        b" 004",
    ],
)
@pytest.mark.parametrize("service", ["upload-pack", "receive-pack"])
def test_garbage_is_answered(watched: Server, service: str, body: bytes) -> None:
    repo = watched.create_repo()
    before = repo.state()
    for headers in ({}, V2):
        types = {"Content-Type": f"application/x-git-{service}-request"}
        reply = request(repo.url, "POST", f"/git-{service}", body=body, headers=types | headers)
        assert b"Traceback" not in reply.body and b"PACK" not in reply.body
        assert reply.status in (200, 400, 500)
    assert before == repo.state()


@pytest.mark.rows("SEC-02", "HB-43", "HB-45")
@pytest.mark.parametrize("kind", [UPLOAD, RECEIVE])
@pytest.mark.parametrize("framing", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
def test_a_body_cut_by_the_client_ends_the_request(watched: Server, kind: str, framing: str) -> None:
    repo = watched.create_repo()
    before = repo.state()
    path = repo.url.split("/", 3)[3]
    service = "git-upload-pack" if kind == UPLOAD else "git-receive-pack"
    head = f"POST /{path}/{service} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n"
    part = (
        lines(f"want {repo.rev('main')}")
        if kind == UPLOAD
        else lines(f"{ZERO} {repo.rev('main')} refs/heads/cut\0{CAPS}".encode())
    )
    data = part if "Length" in framing else b"%x\r\n%b\r\n" % (len(part), part)
    answer = send_raw(repo.url, head.encode() + data, timeout=HANG_SECONDS)
    assert b"Traceback" not in answer and b"ok refs/heads/cut" not in answer
    assert before == repo.state()


@pytest.mark.rows("SEC-02")
@pytest.mark.parametrize(
    "chunk",
    [b"zz\r\nabc\r\n", b"-5\r\nabc\r\n", b"ffffffffffffffffffff\r\nabc", b"5\r\nabcdefghij\r\n0\r\n\r\n"],
)
def test_bad_chunks_are_refused(watched: Server, chunk: bytes) -> None:
    repo = watched.create_repo()
    head = raw_head(repo.url, "upload-pack", "Transfer-Encoding: chunked")
    answer = send_raw(repo.url, head + chunk, timeout=HANG_SECONDS)
    assert b"Traceback" not in answer and b"PACK" not in answer
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"200")


@pytest.mark.rows("SEC-12")
def test_a_tag_chain_of_two_thousand_and_a_tree_of_five_hundred_levels(watched: Server, git: Git) -> None:
    repo = watched.create_repo()
    oid, kind = repo.rev("main"), "commit"
    entries = []
    for n in range(2000):
        data = f"object {oid}\ntype {kind}\ntag t{n}\ntagger A <a@b> 1 +0000\n\nx\n".encode()
        entries.append(blob(data, kind=4))
        oid, kind = hashlib.sha1(b"tag %d\0" % len(data) + data).hexdigest(), "tag"
    tree = b""
    for _ in range(500):
        entries.append(blob(tree, kind=2))
        below = hashlib.sha1(b"tree %d\0" % len(tree) + tree).digest()
        tree = b"40000 d\0" + below
    entries.append(blob(tree, kind=2))
    top = hashlib.sha1(b"tree %d\0" % len(tree) + tree).hexdigest()
    commit = f"tree {top}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\ndeep\n".encode()
    entries.append(blob(commit, kind=1))
    tip = hashlib.sha1(b"commit %d\0" % len(commit) + commit).hexdigest()
    body = lines(
        f"{ZERO} {oid} refs/tags/chain\0{CAPS}".encode(), f"{ZERO} {tip} refs/heads/deep".encode(), FLUSH
    ) + pack(*entries)
    assert parse_report(receive(repo.url, body)) == [
        b"unpack ok",
        b"ok refs/tags/chain",
        b"ok refs/heads/deep",
    ]
    git("clone", "-q", "--mirror", repo.url, "clone")
    assert repo.refs() == git.refs("clone")


@pytest.mark.rows("FS-08", "SEC-10")
def test_a_delta_chain_of_five_thousand_is_resolved_iteratively(watched: Server) -> None:
    repo = watched.create_repo()
    data = bytes(range(200))
    entries, distance, last = [blob(data)], 0, data
    distance = len(entries[0])
    for n in range(5000):
        delta = varint(len(last)) + varint(200) + bytes([0x90, 196]) + b"\4" + n.to_bytes(4, "big")
        last = last[:196] + n.to_bytes(4, "big")
        entries.append(ofs_delta(distance, delta))
        distance = len(entries[-1])
    reply = push_pack(repo, pack(*entries), blob_id(last))
    report = parse_report(reply)
    # git itself takes chains this long; refusing them would be wrong, stalling worse.
    assert report == [b"unpack ok", b"ok refs/tags/evil"]


@pytest.mark.rows("SEC-12")
def test_a_long_history_is_cloned_and_deepened(watched: Server, git: Git) -> None:
    repo = watched.create_repo("empty")
    stream = [b"reset refs/heads/main\n"]
    for n in range(30_000):
        stream.append(b"commit refs/heads/main\ncommitter A <a@b> %d +0000\ndata 1\nx\n" % (1_600_000_000 + n))
    repo.git("fast-import", "--quiet", cwd=repo.path, input=b"".join(stream))
    git("clone", "-q", "--bare", repo.url, "clone")
    assert repo.rev("main") == git.rev("clone", "main")
    git("clone", "-q", "--bare", "--depth=20000", repo.url, "deep")
    assert git("rev-list", "--count", "main", cwd="deep").stdout.strip() == "20000"


@pytest.mark.rows("SEC-19", "HB-53")
def test_headers_and_lines_of_absurd_length(watched: Server) -> None:
    repo = watched.create_repo()
    path = repo.url.split("/", 3)[3]
    for data in (
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + path.encode() + b"/HEAD HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\r\n" * 100,
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        assert b"Traceback" not in send_raw(repo.url, data, timeout=HANG_SECONDS)
    headers = {"Git-Protocol": "version=2:" + "x" * 4000}
    assert discover(repo.url, headers=headers).status in (200, 400, 431)


@pytest.mark.rows("FS-02", "U0-63")
@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "junk"])
def test_a_damaged_loose_object_is_an_error_for_the_client(watched: Server, git: Git, harm: str) -> None:
    repo = watched.create_repo()
    repo.broken = True
    tip = repo.rev("main")
    path = repo.path / "objects" / tip[:2] / tip[2:]
    data = path.read_bytes()
    path.chmod(0o644)
    damaged = {
        "flip": data[:20] + bytes([data[20] ^ 255]) + data[21:],
        "truncate": data[:-9],
        "empty": b"",
        "junk": b"junk" * 9,
    }
    path.write_bytes(damaged[harm])
    words = git.fails("clone", repo.url, "clone")
    assert "Traceback" not in words


@pytest.mark.rows("U0-63", "FS-12")
@pytest.mark.parametrize("suffix", [".pack", ".idx"])
@pytest.mark.parametrize("harm", ["truncate", "header", "empty", "middle"])
def test_a_damaged_pack_is_an_error_for_the_client(watched: Server, git: Git, suffix: str, harm: str) -> None:
    repo = watched.create_repo("linear")
    repo.broken = True
    path = next(repo.path.glob(f"objects/pack/*{suffix}"))
    path.chmod(0o644)
    data = path.read_bytes()
    half = len(data) // 2
    damaged = {
        "truncate": data[:half],
        "header": b"XXXX" + data[4:],
        "empty": b"",
        "middle": data[:half] + bytes(64) + data[half + 64 :],
    }
    path.write_bytes(damaged[harm])
    result = git("clone", repo.url, "clone", check=False)
    assert "Traceback" not in result.stderr
    if (suffix, harm) == (".idx", "middle") and result.code == 0:
        git.fsck("clone")  # the harm may lie where nobody needs to look
    else:
        assert result.code != 0


@pytest.mark.rows("HB-59", "SEC-21", "HB-58")
@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"garbage",
        b"ref: ../../../etc/passwd\n",
        b"ref: refs/heads/../../config\n",
        b"\xff" * 100,
        b"ref: " + b"x" * 10000,
    ],
)
def test_a_hostile_head_file(watched: Server, head: bytes) -> None:
    repo = watched.create_repo()
    repo.broken = True
    (repo.path / "HEAD").write_bytes(head)
    for path in ("/info/refs?service=git-upload-pack", "/HEAD", "/info/refs"):
        reply = request(repo.url, "GET", path)
        assert b"Traceback" not in reply.body and b"root:" not in reply.body


@pytest.mark.different_on_purpose
@pytest.mark.rows("SEC-10", "SEC-31")
def test_a_tree_wide_and_deep_by_repetition_is_walked_once(watched: Server, git: Git) -> None:
    repo = watched.create_repo()
    data = b"leaf"
    entries = [blob(data)]
    below = hashlib.sha1(b"blob 4\0leaf").digest()
    mode = b"100644"
    tree = b""
    for _ in range(30):
        tree = b"".join(mode + b" %02d\0" % n + below for n in range(10))
        entries.append(blob(tree, kind=2))
        below = hashlib.sha1(b"tree %d\0" % len(tree) + tree).digest()
        mode = b"40000"
    commit = f"tree {below.hex()}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nbomb\n".encode()
    entries.append(blob(commit, kind=1))
    tip = hashlib.sha1(b"commit %d\0" % len(commit) + commit).hexdigest()
    body = lines(f"{ZERO} {tip} refs/heads/bomb\0{CAPS}".encode(), FLUSH) + pack(*entries)
    assert parse_report(receive(repo.url, body)) == [b"unpack ok", b"ok refs/heads/bomb"]
    fetch = lines(f"want {tip} side-band-64k", FLUSH, "done")
    assert b"PACK" in upload(repo.url, fetch).body
