"""Area D row by row: hand-made pushes to two equal repositories, one behind govc, one behind git.

Compared are the report, the refs afterwards and the objects afterwards.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.hookkit import install
from compat.pushing import CAPS, EMPTY_PACK, compare, new_objects, push_body
from compat.rawhttp import (
    FLUSH,
    ZERO,
    demux,
    discover,
    lines,
    make_pack,
    parse_advertisement,
    parse_report,
    receive,
)
from compat.test_fetch import grow

Twin = Callable[[Repo], str]


@pytest.mark.parametrize("template", ["small", "empty", "many_refs"])
@pytest.mark.rows("RP-01", "RP-02", "RP-03", "RP-06", "RP-08", "RP-09", "RP-13")
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"receive.advertiseAtomic": "false", "receive.advertisePushOptions": "true"},
        {"receive.hideRefs": "refs/tags"},
    ],
)
def test_the_advertisement_is_gits(
    pair: Callable[..., tuple[Repo, Repo]], template: str, config: dict[str, str]
) -> None:
    ours, theirs = pair(template, config=config)
    mine, other = (parse_advertisement(discover(repo.url, "receive-pack").packets) for repo in (ours, theirs))
    assert other[0] == mine[0]
    assert sorted(other[1]) == sorted(mine[1])


@pytest.mark.rows("CF-57", "RP-10")
@pytest.mark.parametrize(
    "prefixes", ["refs/heads", "refs/heads/", "refs/heads/ma", "refs/tags refs/heads/main", "refs/*/topic", "refs/none"]
)
def test_which_refs_of_an_alternate_are_told(server: Server, git: Git, twin: Twin, prefixes: str) -> None:
    source = server.create_repo()
    for number, name in enumerate(("heads/main", "heads/topic", "tags/new", "other/topic")):
        grow(source, 1 + number, ref=f"refs/{name}", start="refs/heads/main^0")
    path = server.root / f"prefixed-{source.path.name}"
    git("clone", "-q", "--bare", "--shared", source.path, path)
    (path / "git-daemon-export-ok").touch()
    repo = server.adopt(path, {"http.receivepack": "true", "core.alternateRefsPrefixes": prefixes})
    for name in repo.refs():
        repo.run("update-ref", "-d", name)
    ours, theirs = (parse_advertisement(discover(url, "receive-pack").packets)[0] for url in (repo.url, twin(repo)))
    assert sorted(ours) == sorted(theirs)


@pytest.mark.rows("RP-10")
def test_tips_of_alternates_are_advertised_as_have_lines(server: Server, git: Git, twin: Twin) -> None:
    source = server.create_repo()
    path = server.root / "have-fork.git"
    git("clone", "-q", "--bare", "--shared", source.path, path)
    (path / "git-daemon-export-ok").touch()
    repo = server.adopt(path, {"http.receivepack": "true"})
    grow(source, 2)
    mine, other = (parse_advertisement(discover(url, "receive-pack").packets)[0] for url in (repo.url, twin(repo)))
    assert sorted(other) == sorted(mine)
    assert f"{source.rev('main')} .have".encode() in mine


@pytest.mark.every_frontend
@pytest.mark.rows("RP-15", "RP-19", "RP-20", "RP-22")
@pytest.mark.parametrize(
    "caps",
    [
        CAPS,
        " report-status",
        "",
        " report-status-v2 side-band-64k",
        " report-status report-status-v2 quiet agent=x/1",
        " side-band-64k",
    ],
)
def test_update_and_create(pair: Callable[..., tuple[Repo, Repo]], git: Git, caps: str) -> None:
    ours, theirs = pair()
    old, new, pack = new_objects(git, ours)
    compare(
        ours,
        theirs,
        push_body([f"{old} {new} refs/heads/main", f"{ZERO} {new} refs/heads/new"], pack, caps=caps),
    )
    assert new == ours.rev("new")
    assert theirs.objects() == ours.objects()


@pytest.mark.rows("RP-30", "FS-05")
@pytest.mark.parametrize("options", [[], ["--thin"], ["--thin", "--delta-base-offset"], ["--delta-base-offset"]])
def test_packs_of_every_kind(pair: Callable[..., tuple[Repo, Repo]], git: Git, options: list[str]) -> None:
    ours, theirs = pair("linear")
    old, new, pack = new_objects(git, ours, 5, *options)
    assert compare(ours, theirs, push_body([f"{old} {new} refs/heads/main"], pack)) == [
        b"unpack ok",
        b"ok refs/heads/main",
    ]


@pytest.mark.rows("RP-18", "RP-19", "RP-64", "RP-66")
def test_delete_carries_no_pack_and_creation_of_known_objects_an_empty_one(
    pair: Callable[..., tuple[Repo, Repo]],
) -> None:
    ours, theirs = pair()
    topic, main = ours.rev("topic"), ours.rev("main")
    compare(ours, theirs, push_body([f"{topic} {ZERO} refs/heads/topic"], b""))
    compare(
        ours,
        theirs,
        push_body([f"{ZERO} {main} refs/heads/x/y", f"{main} {ZERO} refs/tags/light"], EMPTY_PACK),
    )
    compare(ours, theirs, push_body([f"{ZERO} {ZERO} refs/heads/absent"], b""))
    compare(ours, theirs, push_body([f"{main} {ZERO} refs/heads/absent"], b""))


@pytest.mark.every_frontend
@pytest.mark.rows("RP-56", "RP-59", "RP-61", "RP-57", "RP-93")
def test_stale_values_and_conflicts_stand_alone(pair: Callable[..., tuple[Repo, Repo]]) -> None:
    ours, theirs = pair()
    main, older, topic = ours.rev("main"), ours.rev("main~1"), ours.rev("topic")
    for commands in (
        [f"{older} {topic} refs/heads/main", f"{ZERO} {main} refs/heads/good"],
        [f"{ZERO} {topic} refs/heads/main"],
        [f"{main} {topic} refs/heads/nosuch", f"{ZERO} {main} refs/heads/good2"],
        [f"{ZERO} {main} refs/heads/topic/below", f"{ZERO} {main} refs/heads/good3"],
        [f"{topic} {main} refs/heads/main", f"{topic} {ZERO} refs/heads/topic"],
    ):
        report = compare(ours, theirs, push_body(commands, EMPTY_PACK))
        assert report[1].startswith(b"ng ")


@pytest.mark.rows("RP-61")
@pytest.mark.parametrize("names", [("main", "main"), ("alias", "other")])
def test_two_commands_for_one_ref_are_refused_with_all_beside_them(
    pair: Callable[..., tuple[Repo, Repo]], names: tuple[str, str]
) -> None:
    """The row's words, and git 2.55's answer (2.39 lets the first win): no transaction changes a ref twice."""
    ours, _ = pair()
    for alias in ("alias", "other"):
        ours.run("symbolic-ref", f"refs/heads/{alias}", "refs/heads/main")
    main, older, topic = ours.rev("main"), ours.rev("main~1"), ours.rev("topic")
    before = ours.refs()
    for second in (topic, older):
        commands = [
            f"{main} {older} refs/heads/{names[0]}",
            f"{main} {second} refs/heads/{names[1]}",
            f"{ZERO} {main} refs/heads/new",
            f"{topic} {ZERO} refs/heads/absent",
        ]
        report = parse_report(receive(ours.url, push_body(commands, EMPTY_PACK)))
        refused = [f"ng refs/heads/{name} failed to update refs".encode() for name in (*names, "new")]
        assert report[:4] == [b"unpack ok", *refused]
        assert not report[4].endswith(b"failed to update refs")
    assert ours.refs() == before
    commands = [f"{main} {older} refs/heads/{names[0]}", f"{main} {topic} refs/heads/{names[1]}"]
    report = parse_report(receive(ours.url, push_body(commands, EMPTY_PACK, caps=CAPS + " atomic")))
    assert report[1:] == [f"ng refs/heads/{name} atomic transaction failed".encode() for name in names]


@pytest.mark.rows("RP-15")
def test_capabilities_end_where_gits_text_does(pair: Callable[..., tuple[Repo, Repo]]) -> None:
    """Behind a second NUL: nobody asked for a report or a side band."""
    ours, theirs = pair()
    body = push_body([f"{ZERO} {ours.rev('main')} refs/heads/new"], EMPTY_PACK, caps="\0 report-status side-band-64k")
    mine, other = receive(ours.url, body), receive(theirs.url, body)
    assert mine.body == other.body == b""
    assert ours.refs() == theirs.refs()


@pytest.mark.rows("RP-42", "FS-40", "SEC-17")
@pytest.mark.parametrize(
    "name",
    [
        "HEAD",
        "refs/x",
        "refs/heads/a..b",
        "refs/heads/a b",
        "refs/heads/.a",
        "refs/heads/a.lock",
        "refs/heads/a/",
        "refs/heads//a",
        "config",
        "refs/../config",
        "refs/heads/../../config",
        "refs/heads/a~1",
        "refs/heads/a^",
        "refs/heads/a:b",
        "refs/heads/a?",
        "refs/heads/a*",
        "refs/heads/a[",
        "refs/heads/a\\b",
        "refs/heads/a@{b",
        "refs/heads/a.",
        "refs/heads/@",
        "refs/@/x",
        "refs/heads/a\x7f",
        "refs/heads/a\x01",
        "@",
        "refs/heads/-a",
        "refs/heads/é",
        "refs/heads/" + "n" * 300,
        "refs/heads/x.lock/y",
        "refs/",
        "/etc/passwd",
        "refs/heads/a/./b",
        "objects/x",
        "refs/stash",
    ],
)
def test_names_are_judged_as_git_judges_them(pair: Callable[..., tuple[Repo, Repo]], name: str) -> None:
    ours, theirs = pair()
    compare(
        ours,
        theirs,
        push_body([f"{ZERO} {ours.rev('main')} {name}", f"{ZERO} {ours.rev('main')} refs/heads/good"], EMPTY_PACK),
    )


@pytest.mark.rows("RP-46", "RP-47", "RP-48", "RP-50")
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"receive.denyDeletes": "true"},
        {"receive.denyDeleteCurrent": "ignore"},
        {"receive.denyNonFastForwards": "true"},
        {"transfer.hideRefs": "refs/heads/topic"},
        {"receive.hideRefs": "refs/tags"},
    ],
)
@pytest.mark.parametrize("atomic", ["", " atomic"])
def test_deny_settings(pair: Callable[..., tuple[Repo, Repo]], config: dict[str, str], atomic: str) -> None:
    if atomic and any(key.endswith("hideRefs") for key in config):
        return  # stated in test_an_atomic_push_with_a_hidden_ref_changes_nothing
    ours, theirs = pair(config=config)
    main, topic, light = ours.rev("main"), ours.rev("topic"), ours.rev("refs/tags/light")
    older = ours.rev("main~3")
    for commands in (
        [f"{topic} {older} refs/heads/topic", f"{ZERO} {main} refs/heads/fine"],
        [f"{light} {older} refs/tags/light"],
        [f"{older} {ZERO} refs/tags/light", f"{topic} {ZERO} refs/heads/feature/deep/name"],
        [f"{main} {ZERO} refs/heads/main", f"{ZERO} {main} refs/heads/fine2"],
    ):
        compare(ours, theirs, push_body(commands, EMPTY_PACK, caps=CAPS + atomic))


@pytest.mark.different_on_purpose
@pytest.mark.rows("RP-60", "RP-50")
def test_an_atomic_push_with_a_hidden_ref_changes_nothing(pair: Callable[..., tuple[Repo, Repo]]) -> None:
    # git 2.39 updates the others here, though an atomic push is all or nothing.
    ours, _ = pair(config={"transfer.hideRefs": "refs/heads/topic"})
    topic, main, before = ours.rev("topic"), ours.rev("main"), ours.refs()
    commands = [f"{topic} {ours.rev('main~3')} refs/heads/topic", f"{ZERO} {main} refs/heads/fine"]
    report = parse_report(receive(ours.url, push_body(commands, EMPTY_PACK, caps=CAPS + " atomic")))
    assert [
        b"unpack ok",
        b"ng refs/heads/topic deny updating a hidden ref",
        b"ng refs/heads/fine atomic push failure",
    ] == [line.rstrip(b"\n") for line in report if isinstance(line, bytes)]
    assert before == ours.refs()


@pytest.mark.every_frontend
@pytest.mark.rows("RP-60", "RP-56")
def test_atomic_is_all_or_nothing(pair: Callable[..., tuple[Repo, Repo]]) -> None:
    ours, theirs = pair()
    main, older = ours.rev("main"), ours.rev("main~1")
    before = ours.refs()
    for commands in (
        [
            f"{ZERO} {main} refs/heads/a",
            f"{older} {ours.rev('topic')} refs/heads/main",
            f"{ZERO} {main} refs/heads/b",
        ],
        [f"{ZERO} {main} refs/heads/a", f"{ZERO} {main} HEAD"],
        [f"{main} {older} refs/heads/main", f"{ZERO} {main} refs/heads/main/below"],
        [f"{ZERO} {main} refs/heads/a", f"{ZERO} {older} refs/heads/a"],
    ):
        mine = parse_report(receive(ours.url, push_body(commands, EMPTY_PACK, caps=CAPS + " atomic")))
        other = parse_report(receive(theirs.url, push_body(commands, EMPTY_PACK, caps=CAPS + " atomic")))
        assert sorted(other) == sorted(mine)
        assert before == ours.refs() == theirs.refs()
    good = push_body(
        [f"{ZERO} {main} refs/heads/a", f"{main} {older} refs/heads/main"], EMPTY_PACK, caps=CAPS + " atomic"
    )
    assert compare(ours, theirs, good) == [b"unpack ok", b"ok refs/heads/a", b"ok refs/heads/main"]


@pytest.mark.every_frontend
@pytest.mark.rows("RP-38", "RP-45", "RP-33")
@pytest.mark.parametrize("lacking", ["blob", "tree", "parent", "all"])
def test_a_push_that_lacks_an_object_is_refused_and_leaves_nothing(
    pair: Callable[..., tuple[Repo, Repo]], git: Git, lacking: str
) -> None:
    ours, theirs = pair()
    git("clone", "-q", "--bare", ours.path, "maker.git")
    maker = Repo(git.cwd / "maker.git", "", git)
    old, new = maker.rev("main"), grow(maker, 2)
    ids = set(maker.run("rev-list", "--objects", "--no-object-names", "main", f"^{old}").split())
    gone = {
        "blob": maker.rev("main:grown/1.txt"),
        "tree": maker.rev("main:grown"),
        "parent": maker.rev("main~1"),
    }
    ids = set() if lacking == "all" else ids - {gone[lacking]}
    name = git(
        "pack-objects",
        "-q",
        git.cwd / "lacking",
        cwd=maker.path,
        input="\n".join([*sorted(ids), ""]).encode(),
    ).stdout.strip()
    pack = (git.cwd / f"lacking-{name}.pack").read_bytes()
    before = ours.state()
    report = compare(ours, theirs, push_body([f"{old} {new} refs/heads/main"], pack))
    assert report == [b"unpack ok", b"ng refs/heads/main missing necessary objects"]
    assert before == ours.state()


@pytest.mark.rows("RP-38")
def test_one_ref_that_lacks_objects_does_not_take_others_down(pair: Callable[..., tuple[Repo, Repo]]) -> None:
    ours, theirs = pair()
    commands = [f"{ZERO} {'1' * 40} refs/heads/bad", f"{ZERO} {ours.rev('main')} refs/heads/good"]
    report = compare(ours, theirs, push_body(commands, EMPTY_PACK))
    assert report == [b"unpack ok", b"ng refs/heads/bad missing necessary objects", b"ok refs/heads/good"]


@pytest.mark.rows("RP-26", "RP-27", "SEC-09")
@pytest.mark.parametrize(
    "harm",
    ["empty", "signature", "version", "count-more", "count-less", "flip", "cut", "trailer", "junk-after"],
)
def test_damaged_packs_are_unpack_errors(pair: Callable[..., tuple[Repo, Repo]], git: Git, harm: str) -> None:
    ours, theirs = pair()
    old, new, pack = new_objects(git, ours)
    damaged = {
        "empty": b"",
        "signature": b"KCAP" + pack[4:],
        "version": pack[:4] + b"\0\0\0\5" + pack[8:],
        "count-more": pack[:8] + b"\0\0\1\0" + pack[12:],
        "count-less": pack[:8] + b"\0\0\0\1" + pack[12:],
        "flip": pack[:60] + bytes([pack[60] ^ 255]) + pack[61:],
        "cut": pack[:-30],
        "trailer": pack[:-1] + bytes([pack[-1] ^ 1]),
        "junk-after": pack + b"junk",
    }[harm]
    before = ours.state()
    body = push_body([f"{old} {new} refs/heads/main", f"{ZERO} {old} refs/heads/other"], damaged)
    mine, other = receive(ours.url, body), receive(theirs.url, body)
    assert b"Traceback" not in mine.body
    if harm == "junk-after" and b"ok refs/heads/main" in mine.body:
        return
    report = parse_report(mine)
    theirs_report = parse_report(other)
    assert before == ours.state()
    assert report[0].startswith(b"unpack ") and report[0] != b"unpack ok"
    assert report[1:] == [b"ng refs/heads/main unpacker error", b"ng refs/heads/other unpacker error"]
    if harm != "junk-after":  # which git takes when it explodes a pack, and refuses when it keeps one
        assert theirs_report[1:] == report[1:]
        assert theirs_report[0].split(b" (")[0] == report[0].split(b" (")[0]
    if harm not in ("empty", "signature", "version"):  # which the report itself tells
        for reply in (mine, other) if harm != "junk-after" else (mine,):
            assert re.search(rb"(fatal|error): \w+", demux(reply.packets).progress)


@pytest.mark.rows("RP-15", "RP-16", "RP-17", "SEC-01", "SEC-02")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0000",
        b"0003",
        b"zzzz",
        b"fff1",
        b"0008abcd",
        lines("hello", FLUSH),
        lines("x" * 81 + " refs/heads/a", FLUSH),
        b"0032" + b"a" * 10,
        lines("1" * 40 + " refs/heads/a\0report-status", FLUSH),
        lines("push-cert\0 report-status", FLUSH),
        lines("shallow zz", FLUSH),
    ],
)
def test_malformed_requests_change_nothing(pair: Callable[..., tuple[Repo, Repo]], body: bytes) -> None:
    ours, theirs = pair()
    before = ours.state()
    mine, other = receive(ours.url, body), receive(theirs.url, body)
    assert b"ok refs" not in mine.body and b"Traceback" not in mine.body
    assert before == ours.state()
    if body == b"0000":
        assert (other.status, other.body) == (mine.status, mine.body)


@pytest.mark.rows("RP-16")
def test_another_object_format_is_refused(server: Server, pair: Callable[..., tuple[Repo, Repo]]) -> None:
    """None at all means SHA-1."""
    ours, _ = pair()
    before = ours.state()
    body = push_body([f"{ZERO} {ours.rev('main')} refs/heads/a"], EMPTY_PACK, caps=CAPS + " object-format=sha256")
    assert b"ok refs" not in receive(ours.url, body).body
    assert before == ours.state()
    wide, theirs = pair("merges", object_format="sha256")
    for caps, is_fine in ((CAPS, False), (CAPS + " object-format=sha256", True)):
        line = f"{'0' * 64} {wide.rev('main')} refs/heads/new"
        empty = EMPTY_PACK[:12] + hashlib.sha256(EMPTY_PACK[:12]).digest()
        replies = [receive(repo.url, push_body([line], empty, caps=caps)).body for repo in (wide, theirs)]
        assert [b"ok refs/heads/new" in reply for reply in replies] == [is_fine, is_fine]
        assert ["refs/heads/new" in repo.refs() for repo in (wide, theirs)] == [is_fine, is_fine]


@pytest.mark.rows("RP-29")
def test_a_keep_file_protects_the_pack_until_the_refs_are_set(pair: Callable[..., tuple[Repo, Repo]], git: Git) -> None:
    ours, theirs = pair(config={"receive.unpackLimit": "1"})
    old, new, pack = new_objects(git, ours)
    seen = []
    for repo in ours, theirs:
        install(repo.path, "update", "for file in objects/pack/*.keep; do echo ${file%.keep}; cat $file; done > kept")
        assert parse_report(receive(repo.url, push_body([f"{old} {new} refs/heads/main"], pack)))[0] == b"unpack ok"
        name, text = (repo.path / "kept").read_text().splitlines()
        seen.append(name)
        # git's names its process; ours the owner of the log, by whom a recovery knows it.
        assert re.fullmatch(r"govc receive-pack [0-9a-f]{16}" if repo is ours else r"receive-pack \d+ on .+", text)
        assert (repo.path / f"{name}.pack").exists() and (repo.path / f"{name}.idx").exists()
        assert not (repo.path / f"{name}.keep").exists()
        assert name.endswith(f"pack-{(repo.path / f'{name}.pack').read_bytes()[-20:].hex()}")
    assert seen[0] == seen[1]


@pytest.mark.rows("RP-31", "SEC-15")
@pytest.mark.parametrize("kind", ["loose", "packed"])
def test_an_object_of_the_same_name_and_other_bytes_is_fatal(
    pair: Callable[..., tuple[Repo, Repo]], git: Git, kind: str
) -> None:
    """As a collision would look: what lies there under the name of the pushed object says something else."""
    ours, theirs = pair(config={"receive.unpackLimit": "1"})
    old, new, pack = new_objects(git, ours)
    victim = git("rev-parse", "main:grown/1.txt", cwd="maker.git").stdout.strip()
    for repo in ours, theirs:
        repo.broken = True
        path = repo.path / "objects" / victim[:2] / victim[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(b"blob 5\0other"))
        if kind == "packed":
            forge_pack(repo, victim)
            path.unlink()
        reply = receive(repo.url, push_body([f"{old} {new} refs/heads/main"], pack))
        assert parse_report(reply) == [b"unpack index-pack abnormal exit", b"ng refs/heads/main unpacker error"]
        assert f"SHA1 COLLISION FOUND WITH {victim} !".encode() in demux(reply.packets).progress
        assert old == repo.rev("main")
        assert repo.run("cat-file", "blob", victim, check=False) in ("", "other")


def forge_pack(repo: Repo, victim: str) -> None:
    """A pack whose index gives another blob the victim's name."""
    entry = b"\x35" + zlib.compress(b"other")
    body = b"PACK\0\0\0\2\0\0\0\1" + entry
    data = body + hashlib.sha1(body).digest()
    oid = bytes.fromhex(victim)
    fanout = b"".join((n >= oid[0]).to_bytes(4, "big") for n in range(256))
    crc = zlib.crc32(entry).to_bytes(4, "big")
    index = b"\xfftOc\0\0\0\2" + fanout + oid + crc + (12).to_bytes(4, "big") + data[-20:]
    name = repo.path / f"objects/pack/pack-{data[-20:].hex()}"
    name.with_suffix(".pack").write_bytes(data)
    name.with_suffix(".idx").write_bytes(index + hashlib.sha1(index).digest())


@pytest.mark.rows("RP-06", "RP-67")
def test_push_options_need_their_section(pair: Callable[..., tuple[Repo, Repo]]) -> None:
    ours, theirs = pair(config={"receive.advertisePushOptions": "true"})
    body = push_body(
        [f"{ZERO} {ours.rev('main')} refs/heads/a"],
        EMPTY_PACK,
        caps=CAPS + " push-options",
        tail=lines(b"one", b"two=2", FLUSH),
    )
    assert compare(ours, theirs, body) == [b"unpack ok", b"ok refs/heads/a"]


@pytest.mark.rows("RP-21", "RP-24")
def test_messages_come_on_band_two_and_the_report_inside_band_one(
    pair: Callable[..., tuple[Repo, Repo]],
) -> None:
    ours, theirs = pair()
    body = push_body([f"{ours.rev('main')} {ZERO} refs/heads/main", f"{ZERO} {ZERO} refs/heads/gone"], b"")
    mine, other = (demux(receive(repo.url, body).packets) for repo in (ours, theirs))
    assert (other.data, other.ended) == (mine.data, mine.ended)
    words = re.compile(
        rb"refusing to delete the current branch|allowing deletion of corrupt ref|deleting a non-existent ref"
    )
    assert sorted(set(words.findall(other.progress))) == sorted(set(words.findall(mine.progress)))


@pytest.mark.rows("RP-31", "SEC-15")
def test_pushing_the_same_objects_again_keeps_the_old_ones(pair: Callable[..., tuple[Repo, Repo]], git: Git) -> None:
    ours, theirs = pair()
    pack = make_pack(git, ours.path, ["main"])
    before = ours.objects()
    report = compare(ours, theirs, push_body([f"{ZERO} {ours.rev('main')} refs/heads/again"], pack))
    assert report == [b"unpack ok", b"ok refs/heads/again"]
    assert before == ours.objects()


@pytest.mark.rows("RP-19", "RP-42")
@pytest.mark.parametrize("target", ["main:README", "main^{tree}", "refs/tags/v1"])
def test_branches_must_be_commits_and_tags_may_be_anything(pair: Callable[..., tuple[Repo, Repo]], target: str) -> None:
    ours, theirs = pair()
    oid = ours.rev(target)
    commands = [f"{ZERO} {oid} refs/heads/odd", f"{ZERO} {oid} refs/tags/odd", f"{ZERO} {oid} refs/other/odd"]
    compare(ours, theirs, push_body(commands, EMPTY_PACK))


@pytest.mark.rows("FS-36")
def test_a_push_through_a_symref_moves_its_target(pair: Callable[..., tuple[Repo, Repo]]) -> None:
    ours, theirs = pair()
    for repo in (ours, theirs):
        repo.run("symbolic-ref", "refs/heads/alias", "refs/heads/topic")
    topic, main = ours.rev("topic"), ours.rev("main")
    compare(ours, theirs, push_body([f"{topic} {main} refs/heads/alias"], EMPTY_PACK))
    assert main == ours.rev("topic")
