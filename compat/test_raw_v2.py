"""Area C row by row: hand-made v2 requests, answered by govc and by git http-backend."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from compat.answers import Claims, assert_objects_agree
from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import (
    DELIM,
    FLUSH,
    V2,
    Reply,
    Special,
    demux,
    discover,
    lines,
    pack_objects,
    parse_packets,
    upload,
)
from compat.test_fetch import grow
from compat.test_raw_upload_pack import entry_kinds, push_a_delta

Twin = Callable[[Repo], str]
Item = str | bytes | Special


def command(name: str, *arguments: Item, keys: tuple[str, ...] = ("object-format=sha1", "agent=compat/1")) -> bytes:
    """One v2 request."""
    middle: list[Item] = [DELIM, *arguments] if arguments else []
    return lines(f"command={name}", *keys, *middle, FLUSH)


def ask(url: str, body: bytes) -> Reply:
    """POST a v2 request."""
    return upload(url, body, V2)


@dataclass(frozen=True)
class Answer:
    """A v2 fetch answer: the packets before the pack, with ACK and shallow lines sorted, and the objects."""

    status: int
    head: list[bytes | Special]
    objects: set[str]
    fatal: bytes


def read_answer(git: Git, reply: Reply, *, bases: str | None = None) -> Answer:
    """Take a v2 answer apart; runs of shallow lines are sorted, since git's order there is a hash table's."""
    parts = demux(reply.packets, v2=True)
    head = [packet.rstrip(b"\n") if isinstance(packet, bytes) else packet for packet in parts.head]
    sortable = (b"shallow ", b"unshallow ")
    start = next((n for n, p in enumerate(head) if isinstance(p, bytes) and p.startswith(sortable)), len(head))
    end = start
    while end < len(head) and isinstance(head[end], bytes) and head[end].startswith(sortable):  # type: ignore[union-attr]
        end += 1
    head[start:end] = sorted(head[start:end])  # type: ignore[type-var]
    objects = pack_objects(git, parts.data, bases=bases) if parts.data else set()
    return Answer(reply.status, head, objects, parts.fatal)


def compare(git: Git, repo: Repo, twin: Twin, body: bytes, *, claims: Claims | None = None) -> Answer:
    """Both answers agree; ours. With `claims`, the objects agree as answers.py says."""
    ours, theirs = (read_answer(git, ask(url, body)) for url in (repo.url, twin(repo)))
    assert (theirs.status, theirs.head, theirs.fatal) == (ours.status, ours.head, ours.fatal)
    if claims is None:
        assert theirs.objects == ours.objects
    else:
        assert_objects_agree(git, repo, claims, theirs=theirs.objects, ours=ours.objects)
    return ours


def capabilities(reply: Reply) -> list[bytes]:
    """The lines of a v2 advertisement, in order, without the names of the server and of the session."""
    found = [packet.rstrip(b"\n") for packet in reply.packets if isinstance(packet, bytes)]
    assert reply.packets[-1] is FLUSH
    return [line.split(b"=")[0] if line.startswith((b"agent=", b"session-id=")) else line for line in found]


@pytest.mark.every_frontend
@pytest.mark.rows("V2-01", "V2-02", "V2-18", "V2-21")
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"uploadpack.allowFilter": "true"},
        {"uploadpack.allowRefInWant": "true"},
        {"lsrefs.unborn": "allow"},
        {"lsrefs.unborn": "ignore"},
        {"transfer.advertiseSID": "true"},
        {
            "uploadpack.allowFilter": "true",
            "uploadpack.allowRefInWant": "true",
            "uploadpack.allowSidebandAll": "true",
        },
    ],
)
def test_capabilities_are_gits(server: Server, twin: Twin, config: dict[str, str]) -> None:
    repo = server.create_repo(config=config)
    ours, theirs = (capabilities(discover(url, headers=V2)) for url in (repo.url, twin(repo)))
    assert [line for line in theirs if line != b"object-info"] == [line for line in ours if line != b"object-info"]


@pytest.mark.rows("V2-12", "V2-13", "V2-14", "V2-15", "V2-17", "V2-20", "V2-05", "V2-57")
@pytest.mark.parametrize("template", ["small", "empty", "merges"])
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("peel",),
        ("symrefs",),
        ("peel", "symrefs"),
        ("unborn",),
        ("symrefs", "unborn"),
        ("ref-prefix refs/heads/",),
        ("ref-prefix HEAD",),
        ("ref-prefix refs/tags/v", "ref-prefix refs/tags/v1", "peel"),
        ("ref-prefix refs/heads/m", "ref-prefix refs/heads/"),
        ("ref-prefix nosuch",),
        ("ref-prefix ",),
        ("ref-prefix HEAD", "symrefs", "unborn", "peel"),
        ("ref-prefix refs/heads/top",),
    ],
)
def test_ls_refs(server: Server, twin: Twin, template: str, arguments: tuple[str, ...]) -> None:
    repo = server.create_repo(template, config={"transfer.hideRefs": "refs/heads/side1"})
    if template == "small":
        repo.run("symbolic-ref", "refs/heads/alias", "refs/heads/topic")
    body = command("ls-refs", *arguments)
    ours, theirs = ask(repo.url, body), ask(twin(repo), body)
    assert (theirs.status, theirs.packets) == (ours.status, ours.packets)


@pytest.mark.rows("V2-12", "V2-59")
def test_ls_refs_over_twenty_thousand_refs(server: Server, twin: Twin) -> None:
    repo = server.create_repo("many_refs")
    repo.run("update-ref", "refs/heads/group5/loose", "main")
    repo.run("update-ref", "refs/tags/release-00007", "main~3")
    for arguments in (
        ("peel", "symrefs"),
        ("ref-prefix refs/heads/group5/",),
        ("ref-prefix refs/tags/release-0000", "peel"),
    ):
        body = command("ls-refs", *arguments)
        assert ask(twin(repo), body).packets == ask(repo.url, body).packets


@pytest.mark.rows("V2-16")
def test_too_many_prefixes_switch_the_filter_off(server: Server, twin: Twin) -> None:
    repo = server.create_repo()
    body = command("ls-refs", *[f"ref-prefix refs/none/{n}" for n in range(65536)])
    assert ask(twin(repo), body).packets == ask(repo.url, body).packets


@pytest.mark.rows("V2-04", "V2-05", "V2-06", "V2-08", "V2-09", "V2-19", "V2-25", "V2-26", "V2-37", "V2-46", "V2-48")
@pytest.mark.parametrize(
    "body",
    [
        b"0000",
        lines("command=ls-refs", "foo", FLUSH),
        lines("command=nosuch", FLUSH),
        lines("command=ls-refs=x", FLUSH),
        lines("command=ls-refs", "command=fetch", FLUSH),
        lines("agent=x", FLUSH),
        lines("command=ls-refs", DELIM, "nosuch", FLUSH),
        lines("command=ls-refs", DELIM, "peel"),
        lines("command=ls-refs", "object-format=sha256", FLUSH),
        lines("command=ls-refs"),
        lines("command=ls-refs", "object-format=nosuch", FLUSH),
        lines("command=fetch", DELIM, "nosuch", FLUSH),
        lines(DELIM, FLUSH),
        lines("command=fetch", DELIM, "want zz", FLUSH),
        lines("command=fetch", DELIM, "have zz", FLUSH),
        b"0003",
        b"xyzw",
        b"fff5",
        lines("command=fetch", DELIM, "filter blob:none", "done", FLUSH),
        lines("command=object-info", DELIM, "size", FLUSH),
        lines("command=fetch", DELIM, "want-ref refs/heads/main", "done", FLUSH),
        lines("command=fetch", DELIM, "deepen 0", FLUSH),
        lines("command=fetch", DELIM, "want " + "1" * 40, "done", FLUSH),
        lines("command=fetch", DELIM, "deepen-not nosuch", FLUSH),
        lines("command=fetch", DELIM, "shallow zz", FLUSH),
        lines("command=fetch", FLUSH),
        lines("command=fetch", DELIM, FLUSH),
        lines("command=fetch", DELIM, "deepen x", FLUSH),
        lines("command=bundle-uri", FLUSH),
        lines("command=", FLUSH),
        lines("command=fetch", DELIM, "packfile-uris https", "done", FLUSH),
        lines("command=ls-refs", DELIM, DELIM, FLUSH),
        lines("object-format=sha1", "agent=x", "command=ls-refs", DELIM, "ref-prefix HEAD", FLUSH),
        lines("agent=x", "command=ls-refs", FLUSH),
    ],
)
def test_odd_requests_end_as_in_git(server: Server, twin: Twin, body: bytes) -> None:
    repo = server.create_repo()
    ours, theirs = ask(repo.url, body), ask(twin(repo), body)
    assert (b"PACK" in theirs.body) == (b"PACK" in ours.body)
    assert b"Traceback" not in ours.body
    said = [p.rstrip(b"\n") for p in theirs.packets if isinstance(p, bytes)]
    heard = [p.rstrip(b"\n") for p in parse_packets(ours.body) if isinstance(p, bytes)]
    if said:
        assert said == heard
    else:
        assert [line for line in heard if not line.startswith(b"ERR ")] == []
    assert discover(repo.url).status == 200


@pytest.mark.rows("V2-07")
def test_only_the_first_command_of_a_post_counts(server: Server, twin: Twin) -> None:
    repo = server.create_repo()
    body = command("ls-refs", "ref-prefix HEAD")
    assert ask(twin(repo), body).packets == ask(repo.url, body + command("ls-refs")).packets


@pytest.mark.every_frontend
@pytest.mark.rows("V2-22", "V2-27", "V2-28", "V2-29", "V2-31", "V2-46")
@pytest.mark.parametrize("ending", ["", "done", "wait-for-done"])
@pytest.mark.parametrize(
    "haves",
    [
        [],
        ["main~5"],
        ["unknown"],
        ["unknown", "main~5", "unknown", "topic"],
        ["main:README", "v1"],
        ["main"],
        ["main~7", "main~1", "main~7"],
    ],
)
def test_negotiation_says_what_git_says(server: Server, git: Git, twin: Twin, ending: str, haves: list[str]) -> None:
    repo = server.create_repo()
    items: list[Item] = [f"want {repo.rev('main')}", "ofs-delta", "no-progress"]
    items += ["have " + (f"{n + 1:040x}" if have == "unknown" else repo.rev(have)) for n, have in enumerate(haves)]
    body = command("fetch", *items, *([ending] if ending else []))
    compare(git, repo, twin, body, claims=Claims.of(items))


@pytest.mark.rows("V2-30", "V2-26")
@pytest.mark.parametrize("haves", [[], ["main~5"], ["unknown"], ["unknown", "main~1"]])
def test_negotiation_only(server: Server, git: Git, twin: Twin, haves: list[str]) -> None:
    repo = server.create_repo()
    items = ["have " + (f"{n + 1:040x}" if have == "unknown" else repo.rev(have)) for n, have in enumerate(haves)]
    compare(git, repo, twin, command("fetch", "wait-for-done", *items))


@pytest.mark.rows("V2-23", "SEC-24", "SEC-25")
@pytest.mark.parametrize(
    "target", ["lost", "lost:README", "hidden", "main~4", "main~4^{tree}", "refs/tags/v1-of-tag", "1" * 40]
)
def test_anything_that_exists_may_be_wanted(server: Server, git: Git, twin: Twin, target: str) -> None:
    repo = server.create_repo(config={"transfer.hideRefs": "refs/hidden"})
    lost = grow(repo, 2, ref="refs/heads/lost")
    repo.run("update-ref", "-d", "refs/heads/lost")
    hidden = grow(repo, 3, ref="refs/hidden/h")
    oid = target if target[0] == "1" else repo.rev(target.replace("lost", lost).replace("hidden", hidden))
    compare(git, repo, twin, command("fetch", f"want {oid}", "no-progress", "done"))


@pytest.mark.rows("V2-33", "V2-34", "V2-32")
@pytest.mark.parametrize("template", ["linear", "merges"])
@pytest.mark.parametrize("ending", ["done", ""])
@pytest.mark.parametrize(
    "shallow",
    [
        ["deepen 1"],
        ["deepen 4"],
        ["deepen 2147483647"],
        ["shallow {main~3}"],
        ["shallow {main~3}", "deepen 7"],
        ["deepen-since {time}"],
        ["deepen-not old"],
        ["shallow {main~3}", "deepen 2", "deepen-relative"],
        ["shallow " + "1" * 40],
        ["shallow {main~3}", "deepen 2147483647"],
        ["deepen-since {time}", "deepen-not old"],
    ],
)
def test_shallow_requests(server: Server, git: Git, twin: Twin, template: str, shallow: list[str], ending: str) -> None:
    repo = server.create_repo(template)
    repo.run("update-ref", "refs/heads/old", "main~5")
    words = {"{main~3}": repo.rev("main~3"), "{time}": repo.run("log", "-1", "--format=%ct", "main~4")}
    items: list[Item] = [f"want {repo.rev('main')}", "no-progress"]
    for line in shallow:
        for word, value in words.items():
            line = line.replace(word, value)
        items.append(line)
    if not ending:
        items.append(f"have {repo.rev('main~2')}")
    body = command("fetch", *items, *([ending] if ending else []))
    compare(git, repo, twin, body, claims=Claims.of(items))


@pytest.mark.rows("V2-35")
@pytest.mark.parametrize("extra", [[], ["deepen 2"], ["deepen 2147483647"]])
def test_a_shallow_server(server: Server, git: Git, twin: Twin, extra: list[str]) -> None:
    source = server.create_repo("linear")
    path = server.root / "shallow-v2.git"
    git("clone", "-q", "--bare", "--depth=4", f"file://{source.path}", path)
    (path / "git-daemon-export-ok").touch()
    repo = server.adopt(path)
    compare(git, repo, twin, command("fetch", f"want {repo.rev('main')}", "no-progress", *extra, "done"))


@pytest.mark.rows("V2-36", "V2-45", "U0-62")
@pytest.mark.parametrize(
    "extra",
    [
        ["include-tag"],
        ["filter blob:none"],
        ["filter tree:1", "include-tag"],
        ["filter blob:limit=700"],
        ["filter nonsense"],
    ],
)
def test_filters_and_tags(server: Server, git: Git, twin: Twin, extra: list[str]) -> None:
    repo = server.create_repo(config={"uploadpack.allowFilter": "true"})
    body = command("fetch", f"want {repo.rev('main')}", "no-progress", *extra, "done")
    if extra == ["filter nonsense"]:
        assert b"PACK" not in ask(repo.url, body).body
        return
    compare(git, repo, twin, body)


@pytest.mark.rows("V2-45", "V2-22", "U0-60", "U0-61")
@pytest.mark.parametrize("ofs", [[], ["ofs-delta"]])
@pytest.mark.parametrize("thin", [[], ["thin-pack"]])
def test_deltas_are_of_the_kinds_that_were_asked_for(
    server: Server, git: Git, twin: Twin, thin: list[str], ofs: list[str]
) -> None:
    repo = server.create_repo("linear")
    push_a_delta(git, repo)
    asked = [f"want {repo.rev('main')}", f"have {repo.rev('main~40')}", *thin, *ofs, "no-progress", "done"]
    for url in (repo.url, twin(repo)):
        pack = demux(ask(url, command("fetch", *asked)).packets, v2=True).data
        kinds = entry_kinds(pack)
        assert bool(kinds[6]) == bool(ofs)
        assert bool(kinds[7]) == bool(thin or not ofs)
        git("init", "-q", "--bare", "alone.git")
        alone = git("index-pack", "--stdin", cwd="alone.git", input=pack, check=False)
        assert (url, "unresolved delta" in alone.stderr, alone.code != 0) == (url, bool(thin), bool(thin))
        shutil.rmtree(git.cwd / "alone.git")


@pytest.mark.rows("V2-38", "V2-39", "V2-40", "V2-32")
@pytest.mark.parametrize(
    "arguments",
    [
        ["want-ref refs/heads/main"],
        ["want-ref refs/heads/topic", "want-ref refs/tags/v1"],
        ["want-ref refs/heads/nosuch"],
        ["want-ref HEAD"],
        ["want-ref refs/heads/main", "deepen 2"],
        ["want-ref refs/hidden/h"],
        ["want-ref main"],
    ],
)
def test_want_ref(server: Server, git: Git, twin: Twin, arguments: list[str]) -> None:
    repo = server.create_repo(config={"uploadpack.allowRefInWant": "true", "transfer.hideRefs": "refs/hidden"})
    repo.run("update-ref", "refs/hidden/h", "main~1")
    compare(git, repo, twin, command("fetch", *arguments, "no-progress", "done"))


@pytest.mark.different_on_purpose
@pytest.mark.rows("V2-39")
def test_the_same_want_ref_twice_is_refused(server: Server) -> None:
    """git 2.39 takes it for one."""
    repo = server.create_repo(config={"uploadpack.allowRefInWant": "true"})
    asked = ["want-ref refs/heads/main", "want-ref refs/heads/topic", "want-ref refs/heads/main"]
    reply = ask(repo.url, command("fetch", *asked, "no-progress", "done"))
    said = [packet.rstrip(b"\n") if isinstance(packet, bytes) else packet for packet in reply.packets]
    assert said == [b"ERR duplicate want-ref refs/heads/main"]


@pytest.mark.rows("V2-41", "V2-58")
def test_sideband_all(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo(config={"uploadpack.allowSidebandAll": "true"})
    body = command("fetch", f"want {repo.rev('main')}", "deepen 1", "sideband-all", "no-progress", "done")
    ours, theirs = ask(repo.url, body), ask(twin(repo), body)

    def head(reply: Reply) -> list[bytes | Special]:
        keep = [p for p in reply.packets if not (isinstance(p, bytes) and (p == b"\1" or p[:1] == b"\2"))]
        return keep[: keep.index(b"\1packfile\n") + 1]

    assert head(theirs) == head(ours)


@pytest.mark.rows("V2-44", "V2-43")
def test_progress_comes_on_band_two(server: Server) -> None:
    repo = server.create_repo("linear")
    parts = demux(ask(repo.url, command("fetch", f"want {repo.rev('main')}", "done")).packets, v2=True)
    assert b"Enumerating objects: " in parts.progress
    assert b"Total " in parts.progress
    assert parts.ended
    quiet = demux(ask(repo.url, command("fetch", f"want {repo.rev('main')}", "no-progress", "done")).packets, v2=True)
    assert quiet.progress == b""


@pytest.mark.rows("V2-09")
@pytest.mark.parametrize("keys", [("object-format=sha256",), (), ("object-format=sha1",)])
def test_sha256_repositories_insist_on_their_format(server: Server, twin: Twin, keys: tuple[str, ...]) -> None:
    repo = server.create_repo(object_format="sha256", template="merges")
    body = command("ls-refs", "peel", keys=keys)
    ours, theirs = ask(repo.url, body), ask(twin(repo), body)
    if theirs.body:
        assert theirs.packets == ours.packets
    else:
        assert b"refs/heads/main" not in ours.body
