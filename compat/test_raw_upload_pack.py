"""Area B row by row: hand-made v0 and v1 requests, answered by govc and by git http-backend.

Compared are the status, the packets before the pack, and the set of objects in it; the pack's bytes may
differ.
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from compat.answers import Claims, assert_objects_agree
from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import (
    FLUSH,
    ZERO,
    Reply,
    Special,
    demux,
    discover,
    lines,
    pack_objects,
    parse_advertisement,
    parse_packets,
    split_pack_lines,
    upload,
)
from compat.test_fetch import grow

Twin = Callable[[Repo], str]
BANDED = " side-band-64k ofs-delta no-progress"


@dataclass(frozen=True)
class Answer:
    """What a fetch answer says, without the accidents of how its pack was made."""

    status: int
    head: list[bytes | Special]
    objects: set[str]
    fatal: bool


def read_answer(git: Git, reply: Reply, *, banded: bool = True, bases: str | None = None) -> Answer:
    """Take an answer apart."""
    if banded:
        parts = demux(reply.packets)
        head, pack, fatal = parts.head, parts.data, bool(parts.fatal)
        while head and head[-1] == b"":
            head.pop()
    else:
        head, pack = split_pack_lines(reply.body)
        fatal = False
    objects = pack_objects(git, pack, bases=bases) if pack else set()
    assert bases is not None or not pack or int.from_bytes(pack[8:12], "big") == len(objects), "each object once"
    return Answer(reply.status, head, objects, fatal)


def compare(
    git: Git,
    repo: Repo,
    twin: Twin,
    body: bytes,
    *,
    banded: bool = True,
    thin: bool = False,
    claims: Claims | None = None,
) -> Answer:
    """The answers of both servers, which must agree; ours. With `claims`, the objects agree as answers.py says."""
    bases = str(repo.path) if thin else None
    ours = read_answer(git, upload(repo.url, body), banded=banded, bases=bases)
    theirs = read_answer(git, upload(twin(repo), body), banded=banded, bases=bases)
    assert theirs.status == ours.status
    assert theirs.head == ours.head
    assert theirs.fatal == ours.fatal
    if thin:
        return ours  # what --fix-thin appends depends on which deltas were made
    if claims is None:
        assert theirs.objects == ours.objects
    else:
        assert_objects_agree(git, repo, claims, theirs=theirs.objects, ours=ours.objects)
    return ours


def assert_dies_alike(repo: Repo, twin: Twin, body: bytes) -> None:
    """Both servers refuse: no pack, and the very same ERR line when git sends one."""
    ours, theirs = upload(repo.url, body), upload(twin(repo), body)
    assert b"PACK" not in ours.body and b"PACK" not in theirs.body
    assert b"Traceback" not in ours.body
    said = [packet for packet in parse_packets(theirs.body) if isinstance(packet, bytes) and packet.startswith(b"ERR ")]
    heard = [packet for packet in parse_packets(ours.body) if isinstance(packet, bytes) and packet.startswith(b"ERR ")]
    if said:
        assert [line.rstrip(b"\n") for line in said] == [line.rstrip(b"\n") for line in heard]


@pytest.mark.parametrize("template", ["small", "merges", "gitlinks", "many_refs"])
@pytest.mark.parametrize("version", ["0", "1"])
@pytest.mark.rows("U0-04", "U0-05", "U0-09", "U0-10", "U0-11", "U0-15", "U0-17", "U0-18")
def test_the_advertisement_is_gits(server: Server, twin: Twin, template: str, version: str) -> None:
    repo = server.create_repo(template)
    headers = {"Git-Protocol": f"version={version}"}
    ours, theirs = (discover(url, headers=headers) for url in (repo.url, twin(repo)))
    assert parse_advertisement(theirs.packets) == parse_advertisement(ours.packets)
    assert ours.headers["content-type"] == theirs.headers["content-type"]


@pytest.mark.different_on_purpose
@pytest.mark.parametrize("version", ["0", "1"])
@pytest.mark.rows("U0-06")
def test_an_empty_repository_still_says_what_the_server_can(server: Server, twin: Twin, version: str) -> None:
    """Releases of git since 2.44 do; 2.39 says nothing at all, and so is no model here."""
    headers = {"Git-Protocol": f"version={version}"}
    ours = parse_advertisement(discover(server.create_repo("empty").url, headers=headers).packets)
    full = parse_advertisement(discover(twin(server.create_repo()), headers=headers).packets)[1]
    greeting = [b"version 1"] if version == "1" else []
    assert [*greeting, ZERO.encode() + b" capabilities^{}"] == ours[0]
    assert [word for word in full if not word.startswith(b"symref=")] == ours[1]


@pytest.mark.rows("U0-07", "U0-08", "U0-12", "U0-13", "U0-14", "U0-15", "U0-16")
@pytest.mark.parametrize(
    "setting",
    [
        ("uploadpack.allowFilter", "true"),
        ("uploadpack.allowTipSHA1InWant", "true"),
        ("uploadpack.allowReachableSHA1InWant", "true"),
        ("uploadpack.allowAnySHA1InWant", "true"),
        ("uploadpack.hideRefs", "refs/heads/topic"),
        ("transfer.hideRefs", "refs/tags"),
        ("transfer.hideRefs", "refs/heads/top"),
    ],
)
def test_settings_change_the_advertisement_as_in_git(server: Server, twin: Twin, setting: tuple[str, str]) -> None:
    repo = server.create_repo(config=dict([setting]))
    ours, theirs = (parse_advertisement(discover(url).packets) for url in (repo.url, twin(repo)))
    assert theirs == ours


@pytest.mark.rows("U0-07", "U0-15")
@pytest.mark.parametrize("head", ["ref: refs/heads/nothing\n", "ref: refs/heads/topic\n", "detached"])
def test_states_of_head(server: Server, twin: Twin, head: str) -> None:
    repo = server.create_repo()
    text = repo.rev("main~2") + "\n" if head == "detached" else head
    (repo.path / "HEAD").write_text(text)
    ours, theirs = (parse_advertisement(discover(url).packets) for url in (repo.url, twin(repo)))
    assert theirs == ours


@pytest.mark.different_on_purpose
@pytest.mark.rows("U0-07", "U0-15")
def test_a_head_detached_at_a_missing_object_is_left_out(server: Server, twin: Twin) -> None:
    """git 2.39 advertises the id that nobody can fetch."""
    repo = server.create_repo()
    lines_before, capabilities_before = parse_advertisement(discover(twin(repo)).packets)
    repo.broken = True
    (repo.path / "HEAD").write_text("1" * 40 + "\n")
    ours = parse_advertisement(discover(repo.url).packets)
    assert [line for line in lines_before if not line.endswith(b" HEAD")] == ours[0]
    assert [word for word in capabilities_before if not word.startswith(b"symref=")] == ours[1]


@pytest.mark.different_on_purpose
@pytest.mark.rows("U0-07", "FS-34")
def test_broken_refs_are_left_out(server: Server, twin: Twin) -> None:
    """git 2.39 advertises some of them with the id zero."""
    repo = server.create_repo()
    healthy, capabilities = parse_advertisement(discover(twin(repo)).packets)
    repo.broken = True
    main = repo.rev("main")
    for name, text in (
        ("garbage", "garbage\n"),
        ("empty", ""),
        ("gone", "1" * 40 + "\n"),
        ("long", main + "00\n"),
        ("loop", "ref: refs/heads/loop\n"),
        ("nolf", main),
        ("blank", main + " \n"),
    ):
        (repo.path / "refs/heads" / name).write_text(text)
    head, *refs = healthy
    refs += [f"{main} refs/heads/{name}".encode() for name in ("nolf", "blank")]
    ours = parse_advertisement(discover(repo.url).packets)
    assert ([head, *sorted(refs, key=by_name)], capabilities) == ours


def by_name(line: bytes) -> bytes:
    """The refname in an advertised line, by which the lines are in order; `X^{}` stays behind `X`."""
    return line.split(b" ", 1)[1].removesuffix(b"^{}")


@pytest.mark.every_frontend
@pytest.mark.rows("U0-32", "U0-54", "U0-57", "U0-64")
def test_a_clone_request(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo()
    ours = compare(git, repo, twin, lines(f"want {repo.rev('main')}{BANDED}", FLUSH, "done"))
    assert ours.head == [b"NAK\n"]
    assert set(repo.run("rev-list", "--objects", "--no-object-names", "main").split()) == ours.objects


@pytest.mark.rows("U0-03", "U0-02", "U0-20", "U0-21")
def test_lines_without_lf_upper_case_lengths_and_unknown_capabilities(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo()
    oid = repo.rev("main")
    for first in (
        f"want {oid}{BANDED}",
        f"want {oid}{BANDED} foo bar=baz agent=x/1 session-id=9",
        f"want {oid} {BANDED}",
    ):
        compare(git, repo, twin, lines(first.encode(), FLUSH, b"done"))
    lower = lines(f"want {oid}{BANDED} x=1", FLUSH, "done")
    upper = lower[:4].upper() + lower[4:]
    assert upper[:4] == b"005A"
    compare(git, repo, twin, upper)


@pytest.mark.rows("U0-55", "U0-56", "U0-57", "U0-61")
@pytest.mark.parametrize(
    "capabilities",
    [
        "",
        " ofs-delta",
        " side-band no-progress",
        " side-band-64k no-progress",
        " side-band side-band-64k no-progress",
    ],
)
def test_bands_and_no_bands(server: Server, git: Git, twin: Twin, capabilities: str) -> None:
    repo = server.create_repo("linear")
    repo.run("repack", "-adfq")
    body = lines(f"want {repo.rev('main')}{capabilities}", FLUSH, "done")
    banded = "side-band" in capabilities
    ours = compare(git, repo, twin, body, banded=banded)
    assert ours.objects
    reply = upload(repo.url, body)
    if banded:
        limit = 65519 if "64k" in capabilities else 999
        assert max(len(packet) for packet in reply.packets if isinstance(packet, bytes)) <= limit
        assert reply.body.endswith(b"0000")
        pack = demux(reply.packets).data
    else:
        pack = split_pack_lines(reply.body)[1]
    if "ofs-delta" not in capabilities:
        assert entry_kinds(pack)[6] == 0


def entry_kinds(pack: bytes) -> Counter[int]:
    """How many entries of each type a pack has (6: ofs-delta, 7: ref-delta)."""
    position, count = 12, int.from_bytes(pack[8:12], "big")
    kinds: Counter[int] = Counter()
    for _ in range(count):
        kind = pack[position] >> 4 & 7
        kinds[kind] += 1
        while pack[position] & 0x80:
            position += 1
        position += 1
        if kind == 7:
            position += 20
        elif kind == 6:
            while pack[position] & 0x80:
                position += 1
            position += 1
        inflater = zlib.decompressobj()
        inflater.decompress(pack[position:])
        position = len(pack) - len(inflater.unused_data)
    assert len(pack) - 20 == position
    return kinds


@pytest.mark.rows(
    "U0-23",
    "U0-24",
    "U0-01",
    "U0-36",
    "U0-37",
    "U0-35",
    "U0-42",
    "U0-45",
    "U0-49",
    "U0-69",
    "SEC-01",
    "SEC-02",
)
@pytest.mark.parametrize(
    "body",
    [
        lines("want zz", FLUSH, "done"),
        lines("want " + "1" * 40, FLUSH, "done"),
        lines("want", FLUSH),
        lines("hello", FLUSH),
        b"0003",
        b"zzzz",
        b"0000junk",
        b"0001",
        b"0002",
        b"0004",
        b"fff1" + bytes(100),
        b"00",
        b"0032want ",
        lines("want {main}", FLUSH, "have zz", "done"),
        lines("want {main}", FLUSH, "hello", "done"),
        lines("want {main}", "deepen 0", FLUSH),
        lines("want {main}", "deepen -1", FLUSH),
        lines("want {main}", "deepen x", FLUSH),
        lines("want {main}", "shallow zz", FLUSH),
        lines("want {main}", "shallow {blob}", FLUSH, "done"),
        lines("want {main}", "filter blob:none", FLUSH, "done"),
        lines("want {main}", "deepen-not nosuch", FLUSH),
        lines("want {main} side-band-64k", "deepen 1", "deepen-since 1", FLUSH, "done"),
        lines("ERR client is unhappy"),
        lines("want {main}", "deepen-since x", FLUSH),
        lines("want {main}"),
        lines("want {main}", FLUSH, "have " + "1" * 39, "done"),
        b"0004" + lines("want {main}", "deepen-since 9999999999", FLUSH),
    ],
)
def test_malformed_requests_die_as_in_git(server: Server, twin: Twin, body: bytes) -> None:
    repo = server.create_repo()
    blob = repo.rev("main:README")
    for name, oid in ((b"{main}", repo.rev("main")), (b"{blob}", blob)):
        while (place := body.find(name)) >= 0:
            start = body.rfind(b"00", 0, body.rfind(b" ", 0, place))
            length = int(body[start : start + 4], 16) + 40 - len(name)
            body = body[:start] + b"%04x" % length + body[start + 4 : place] + oid.encode() + body[place + len(name) :]
    assert_dies_alike(repo, twin, body)
    assert discover(repo.url).status == 200


@pytest.mark.rows("U0-26")
def test_no_wants_end_quietly(server: Server, twin: Twin) -> None:
    repo = server.create_repo()
    for body in (b"0000", lines(FLUSH, "done")):
        assert [upload(repo.url, body).status, upload(twin(repo), body).body] == [200, b""]
        assert upload(repo.url, body).body == b""


@pytest.mark.rows("U0-25", "SEC-23", "U0-68")
@pytest.mark.parametrize(
    "setting",
    [
        None,
        "uploadpack.allowTipSHA1InWant",
        "uploadpack.allowReachableSHA1InWant",
        "uploadpack.allowAnySHA1InWant",
    ],
)
@pytest.mark.parametrize(
    "target",
    [
        "main",
        "main~3",
        "lost",
        "hidden",
        "hidden~1",
        "refs/tags/v1",
        "main:README",
        "lost:README",
        "main^{tree}",
    ],
)
def test_what_may_be_wanted(server: Server, git: Git, twin: Twin, setting: str | None, target: str) -> None:
    repo = server.create_repo(config={"transfer.hideRefs": "refs/hidden"} | ({setting: "true"} if setting else {}))
    lost = grow(repo, 2, ref="refs/heads/lost")
    repo.run("update-ref", "-d", "refs/heads/lost")
    hidden = grow(repo, 3, ref="refs/hidden/h")
    name = target.replace("lost", lost).replace("hidden", hidden)
    body = lines(f"want {repo.rev(name)}{BANDED}", FLUSH, "done")
    ours, theirs = upload(repo.url, body), upload(twin(repo), body)
    assert (b"PACK" in theirs.body) == (b"PACK" in ours.body)
    if b"PACK" not in theirs.body:
        assert theirs.body.rstrip(b"\n")[4:].rstrip() == ours.body.rstrip(b"\n")[4:].rstrip()
    else:
        assert read_answer(git, theirs).objects == read_answer(git, ours).objects


@pytest.mark.rows("U0-27", "U0-28", "U0-29", "U0-30", "U0-31", "U0-32", "U0-33", "U0-34", "U0-35")
@pytest.mark.parametrize("mode", ["", " multi_ack", " multi_ack_detailed", " multi_ack_detailed no-done"])
@pytest.mark.parametrize(
    ("thin", "ending"), [("", "flush"), ("", "done"), ("", "eof"), ("", "flush-done"), (" thin-pack", "done")]
)
@pytest.mark.parametrize(
    "haves",
    [
        [],
        ["main~5"],
        ["unknown", "main~5", "unknown"],
        ["main~1", "main~5", "main~7", "topic"],
        ["unknown"] * 3,
        ["main:README", "v1"],
        ["main"],
        ["main~9", "flush", "main~2", "unknown"],
        ["unknown", "flush", "unknown"],
    ],
)
def test_negotiation_says_what_git_says(
    server: Server, git: Git, twin: Twin, mode: str, thin: str, ending: str, haves: list[str]
) -> None:
    repo = server.create_repo()
    items: list[str | bytes | Special] = [f"want {repo.rev('main')}{mode}{thin}{BANDED}", FLUSH]
    for n, have in enumerate(haves):
        if have == "flush":
            items.append(FLUSH)
        else:
            items.append("have " + (f"{n + 1:040x}" if have == "unknown" else repo.rev(have)))
    endings: dict[str, list[str | bytes | Special]] = {
        "flush": [FLUSH],
        "done": ["done"],
        "eof": [],
        "flush-done": [FLUSH, "done"],
    }
    items += endings[ending]
    compare(git, repo, twin, lines(*items), thin=bool(thin), claims=Claims.of(items))


@pytest.mark.rows("U0-27", "U0-34")
@pytest.mark.parametrize("haves", [["main", "main"], ["main", "main~1", "main~2"], ["main~1", "main"], ["main~4", "v"]])
def test_without_multi_ack_what_says_nothing_new_is_acknowledged_again(
    server: Server, git: Git, twin: Twin, haves: list[str]
) -> None:
    """As long as the haves amount to one commit, git answers each of them."""
    repo = server.create_repo("linear")
    repo.run("update-ref", "refs/heads/v", "main~2")
    items: list[str | bytes | Special] = [f"want {repo.rev('main')}{BANDED}", FLUSH]
    items += [f"have {repo.rev(have)}" for have in haves]
    compare(git, repo, twin, lines(*items, "done"), claims=Claims.of(items))


@pytest.mark.rows("U0-29", "U0-33", "U0-39", "U0-41", "U0-46", "U0-48")
@pytest.mark.parametrize("template", ["linear", "merges"])
@pytest.mark.parametrize(
    ("shallow", "haves"),
    [
        (["deepen 2"], ["main~3", "unknown"]),
        (["deepen 5"], ["main~3", "unknown"]),
        (["deepen 2"], ["main~1"]),
        (["shallow {main~2}"], ["main~3", "unknown"]),
        (["shallow {main~2}"], ["main~2", "unknown"]),
        (["shallow {main~2}", "deepen 4"], ["main~2", "unknown"]),
        (["shallow {main~2}", "deepen 4"], ["main~5", "unknown"]),
        (["shallow {main~2}", "deepen 2147483647"], ["main~4", "unknown"]),
        (["deepen-not old"], ["main~6", "unknown"]),
    ],
)
def test_whether_a_fetch_is_ready_is_asked_within_the_boundary(
    server: Server, git: Git, twin: Twin, template: str, shallow: list[str], haves: list[str]
) -> None:
    repo = server.create_repo(template)
    repo.run("update-ref", "refs/heads/old", "main~5")
    items: list[str | bytes | Special] = [f"want {repo.rev('main')} multi_ack_detailed no-done{BANDED}"]
    items += [line.replace("{main~2}", repo.rev("main~2")) for line in shallow]
    items.append(FLUSH)
    items += ["have " + ("f" * 40 if have == "unknown" else repo.rev(have)) for have in haves]
    ours, theirs = (read_shallow(git, upload(url, lines(*items, FLUSH))) for url in (repo.url, twin(repo)))
    assert (theirs.status, theirs.head, theirs.fatal) == (ours.status, ours.head, ours.fatal)


@pytest.mark.rows("U0-22", "U0-39", "U0-37", "U0-38", "U0-41", "U0-42", "U0-43", "U0-44", "U0-46", "U0-48")
@pytest.mark.parametrize("template", ["linear", "merges"])
@pytest.mark.parametrize(
    "shallow",
    [
        ["deepen 1"],
        ["deepen 3"],
        ["deepen 2147483647"],
        ["deepen 0x2"],
        ["deepen 010"],
        ["shallow {main~3}"],
        ["shallow {main~3}", "deepen 1"],
        ["shallow {main~3}", "deepen 6"],
        ["shallow {main~3}", "deepen 2147483647"],
        ["deepen-since {time}"],
        ["deepen-not refs/heads/old"],
        ["deepen-not old"],
        ["shallow {main~3}", "deepen 2", "deepen-relative"],
        ["shallow " + "1" * 40],
        ["shallow " + "1" * 40, "deepen 2"],
        ["deepen-since 1"],
        ["deepen-not old", "deepen-since {time}"],
    ],
)
@pytest.mark.parametrize("haves", [[], ["main~2"], ["main~2", "main~3"]])
def test_shallow_requests(
    server: Server, git: Git, twin: Twin, template: str, shallow: list[str], haves: list[str]
) -> None:
    repo = server.create_repo(template)
    repo.run("update-ref", "refs/heads/old", "main~5")
    words = {"{main~3}": repo.rev("main~3"), "{time}": repo.run("log", "-1", "--format=%ct", "main~4")}
    items: list[str | bytes | Special] = []
    capabilities = " multi_ack_detailed deepen-since deepen-not" + (
        " deepen-relative" if "deepen-relative" in shallow else ""
    )
    items.append(f"want {repo.rev('main')}{capabilities}{BANDED}")
    for line in shallow:
        if line == "deepen-relative":
            continue
        for word, value in words.items():
            line = line.replace(word, value)
        items.append(line)
    items.append(FLUSH)
    items += [f"have {repo.rev(have)}" for have in haves]
    ours, theirs = (read_shallow(git, upload(url, lines(*items, "done"))) for url in (repo.url, twin(repo)))
    assert (theirs.status, theirs.head, theirs.fatal) == (ours.status, ours.head, ours.fatal)
    assert_objects_agree(git, repo, Claims.of(items), theirs=theirs.objects, ours=ours.objects)


def read_shallow(git: Git, reply: Reply) -> Answer:
    """An answer with its shallow lines first, in order of name: git's own order is that of a hash table."""
    answer = read_answer(git, reply)
    head = [packet.rstrip(b"\n") if isinstance(packet, bytes) else packet for packet in answer.head]
    boundary = [p for p in head if isinstance(p, bytes) and p.startswith((b"shallow ", b"unshallow "))]
    rest = [packet for packet in head if packet not in boundary]
    return Answer(answer.status, [*sorted(boundary), *rest], answer.objects, answer.fatal)


@pytest.mark.rows("U0-40")
def test_a_depth_request_may_end_after_its_shallow_lines(server: Server, twin: Twin) -> None:
    repo = server.create_repo("linear")
    body = lines(f"want {repo.rev('main')}{BANDED}", "deepen 2", FLUSH)
    ours, theirs = upload(repo.url, body), upload(twin(repo), body)
    assert (theirs.status, theirs.packets) == (ours.status, ours.packets)


@pytest.mark.rows("U0-62")
@pytest.mark.parametrize("capability", ["", " include-tag"])
def test_include_tag(server: Server, git: Git, twin: Twin, capability: str) -> None:
    repo = server.create_repo()
    ours = compare(git, repo, twin, lines(f"want {repo.rev('main')}{BANDED}{capability}", FLUSH, "done"))
    assert (capability != "") == (repo.rev("refs/tags/v1") in ours.objects)


@pytest.mark.rows("U0-49", "U0-50", "U0-51", "U0-52")
@pytest.mark.parametrize(
    "spec",
    [
        "blob:none",
        "blob:limit=0",
        "blob:limit=500",
        "blob:limit=1k",
        "tree:0",
        "tree:1",
        "tree:3",
        "object:type=blob",
        "object:type=tag",
        "combine:blob:none+tree:2",
        "combine:tree:1+blob%3Alimit=10",
        "sparse:path=x",
        "nonsense",
        "blob:limit=x",
        "tree:x",
        "auto",
        "combine:",
        "sparse:oid=main:README",
        "sparse:oid=nosuch",
    ],
)
def test_filters(server: Server, git: Git, twin: Twin, spec: str) -> None:
    repo = server.create_repo(config={"uploadpack.allowFilter": "true", "uploadpack.allowAnySHA1InWant": "true"})
    wants = [repo.rev("main"), repo.rev("v1"), repo.rev("main~4:README")]
    body = lines(
        f"want {wants[0]}{BANDED} filter",
        f"want {wants[1]}",
        f"want {wants[2]}",
        f"filter {spec}",
        FLUSH,
        "done",
    )
    ours, theirs = upload(repo.url, body), upload(twin(repo), body)
    assert (b"PACK" in theirs.body) == (b"PACK" in ours.body)
    if b"PACK" in ours.body:
        assert read_answer(git, theirs).objects == read_answer(git, ours).objects
    assert b"Traceback" not in ours.body


@pytest.mark.rows("U0-49", "U0-16")
@pytest.mark.parametrize("allowed", ["true", "false"])
@pytest.mark.parametrize("filters", [0, 1, 2])
@pytest.mark.parametrize("negotiated", [" filter", ""])
def test_a_filter_must_be_negotiated_and_comes_once(
    server: Server, twin: Twin, negotiated: str, filters: int, allowed: str
) -> None:
    repo = server.create_repo(config={"uploadpack.allowFilter": allowed})
    words = [f"want {repo.rev('main')}{BANDED}{negotiated}", *["filter blob:none"] * filters, FLUSH, "done"]
    answers = [upload(url, lines(*words)).body for url in (repo.url, twin(repo))]
    served = [b"PACK" in answer for answer in answers]
    assert served[0] == served[1]
    assert served[0] == (not filters or (allowed == "true" and bool(negotiated) and filters == 1))


@pytest.mark.rows("U0-64")
def test_nothing_to_send_is_an_empty_pack(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo()
    body = lines(f"want {repo.rev('main')}{BANDED}", FLUSH, f"have {repo.rev('main')}", "done")
    assert set() == compare(git, repo, twin, body).objects
    pack = demux(upload(repo.url, body).packets).data
    assert (pack[:12], len(pack)) == (b"PACK\0\0\0\2\0\0\0\0", 32)


def push_a_delta(git: Git, repo: Repo) -> None:
    """Repack, and push a small change of a file, which is kept as a delta on the old version of it, in one pack."""
    repo.run("repack", "-adfq", "--depth=50")
    git("clone", "-q", repo.url, "delta-pusher")
    path = git.cwd / "delta-pusher/dir0/file0.txt"
    git.commit_file("delta-pusher", "dir0/file0.txt", path.read_text() + "one more line\n")
    git("push", "-q", cwd="delta-pusher")
    repo.run("repack", "-adq")


@pytest.mark.rows("U0-60")
def test_thin_packs_come_only_when_asked_for(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo("linear")
    push_a_delta(git, repo)
    head = f"want {repo.rev('main')}{BANDED}"
    rest = lines(FLUSH, f"have {repo.rev('main~40')}", "done")
    plain = read_answer(git, upload(repo.url, lines(head) + rest))
    whole = set(repo.run("rev-list", "--objects", "--no-object-names", "main", "^main~40").split())
    assert whole == plain.objects
    for url in (repo.url, twin(repo)):
        reply = upload(url, lines(head + " thin-pack") + rest)
        assert whole <= read_answer(git, reply, bases=str(repo.path)).objects
        git("init", "-q", "--bare", "alone.git")
        pack = demux(reply.packets).data
        alone = git("index-pack", "--stdin", cwd="alone.git", input=pack, check=False)
        assert (alone.code, "unresolved delta" in alone.stderr) == (128, True)
        shutil.rmtree(git.cwd / "alone.git")


@pytest.mark.rows("U0-20")
def test_many_wants_and_gzip(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo("many_refs")
    refs = [oid for name, oid in repo.refs().items() if name.startswith("refs/tags/")][:5000]
    body = lines(f"want {refs[0]}{BANDED} include-tag", *[f"want {oid}" for oid in refs[1:]], FLUSH, "done")
    reply = upload(repo.url, gzip.compress(body), {"Content-Encoding": "gzip"})
    assert set(refs) <= read_answer(git, reply).objects
