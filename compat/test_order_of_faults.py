"""Of several things wrong with a fetch request that is told which git finds first, and behind what git says before.

Where git only hangs up, an `ERR` packet says why; everything before it has to be what git sends.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import DELIM, FLUSH, V2, Reply, Special, lines, parse_packets, upload

Twin = Callable[[Repo], str]
Item = str | Special

ABSENT = "1" * 40
OTHER = "2" * 40


def said(reply: Reply) -> tuple[int, list[bytes | Special], list[bytes]]:
    """Status, packets up to a fatal one or a pack, and the fatal ones (`ERR`, band 3)."""
    packets: list[bytes | Special] = []
    fatal: list[bytes] = []
    for packet in parse_packets(reply.body):
        text = packet.rstrip(b"\n\0") if isinstance(packet, bytes) else packet
        if isinstance(text, bytes) and (text.startswith((b"ERR ", b"\3"))):
            fatal.append(text)
        elif not (isinstance(text, bytes) and text[:1] in (b"\1", b"\2") and not text.startswith(b"\1shallow")):
            packets.append(text)
    return reply.status, packets, fatal


def assert_found_alike(repo: Repo, twin: Twin, body: bytes, headers: dict[str, str], *, first: str) -> None:
    """The same before the fault; the same fault where git names one, else the one that begins with `first`."""
    ours, theirs = (said(upload(url, body, headers)) for url in (repo.url, twin(repo)))
    assert ours[:2] == theirs[:2]
    assert len(ours[2]) == 1
    if theirs[2]:
        assert ours[2] == theirs[2]
    else:
        assert ours[2][0].removeprefix(b"ERR ").decode().startswith(first)


def filled(repo: Repo, items: list[Item]) -> list[Item]:
    """The lines with the names in them replaced by object ids."""
    words = {
        "{main}": repo.rev("main"),
        "{old}": repo.rev("main~4"),
        "{blob}": repo.run("hash-object", "-w", "--stdin", input=b"lonely\n"),
        "{lost}": repo.run("commit-tree", "-m", "lost", "main^{tree}"),
    }
    found: list[Item] = []
    for item in items:
        if isinstance(item, str):
            for word, oid in words.items():
                item = item.replace(word, oid)
        found.append(item)
    return found


@pytest.mark.rows("U0-23", "U0-24", "U0-25", "U0-35", "U0-36", "U0-39", "U0-42", "U0-44", "U0-45", "U0-47", "U0-49")
@pytest.mark.parametrize(
    ("items", "first"),
    [
        ([f"want {ABSENT}", f"want {OTHER}", FLUSH], ""),
        (["want {lost}", f"want {OTHER}", FLUSH], ""),
        (["want {main}", f"want {ABSENT}", "want zz", FLUSH], ""),
        (["want {main}", "want zz", f"want {ABSENT}", FLUSH], "git upload-pack: protocol error"),
        ([f"want {ABSENT}", "hello", FLUSH], ""),
        ([f"want {ABSENT}"], ""),
        (["want {main}", f"want {ABSENT}", "deepen x", FLUSH], ""),
        (["want {main}", "deepen x", f"want {ABSENT}", FLUSH], "Invalid deepen"),
        (["want {main}", "shallow {blob}", f"want {ABSENT}", FLUSH], "git upload-pack: invalid shallow object"),
        (["want {main}", "deepen-not nosuch", f"want {ABSENT}", FLUSH], "git upload-pack: ambiguous deepen-not"),
        (["want {main}", f"want {ABSENT}", "deepen-not nosuch", FLUSH], ""),
        (["want {old} filter", "want {lost}", "deepen 1", "deepen-since 1", FLUSH, "done"], ""),
        (["want {main}", "deepen 1", "deepen-since 1", FLUSH, "have zz"], "git upload-pack: deepen and deepen-since"),
        (["want {main}", "deepen 2", FLUSH, "have zz", "done"], "git upload-pack: expected SHA1 object"),
        (["want {main}", "deepen-since 2000000000", FLUSH, "have {main}"], "no commits selected"),
        (["want {main} multi_ack_detailed", FLUSH, "have {old}", "hello"], "git upload-pack: expected SHA1 list"),
        (["want {main} multi_ack", FLUSH, "have {old}", "have x", "done"], "git upload-pack: expected SHA1 object"),
        (["want {main}", FLUSH, "have {old}", "ERR no"], "remote error"),
        (["want {main}", "filter blob:none", f"want {ABSENT}", FLUSH], "git upload-pack: filtering"),
        (["want {main} filter", "filter tree:0", f"want {ABSENT}", FLUSH], ""),
        (["want {main} filter", f"want {ABSENT}", "filter tree:0", FLUSH], ""),
    ],
)
def test_v0_tells_the_fault_that_git_finds_first(server: Server, twin: Twin, items: list[Item], first: str) -> None:
    repo = server.create_repo(
        "linear", config={"uploadpack.allowFilter": "true", "uploadpackfilter.tree.allow": "false"}
    )
    assert_found_alike(repo, twin, lines(*filled(repo, items)), {}, first=first)


@pytest.mark.rows("U0-40", "SEC-02")
@pytest.mark.parametrize("rest", [b"", b"00", b"0032have"])
def test_a_body_that_ends_before_its_first_have_ends_quietly(server: Server, twin: Twin, rest: bytes) -> None:
    repo = server.create_repo("linear")
    body = lines(f"want {repo.rev('main')}", "deepen 2", FLUSH) + rest
    ours, theirs = (upload(url, body) for url in (repo.url, twin(repo)))
    assert ours.body == theirs.body
    assert ours.body.endswith(b"0000")


@pytest.mark.rows("V2-08", "V2-24", "V2-25", "V2-27", "V2-33", "V2-34", "V2-36", "V2-39", "V2-46", "V2-58")
@pytest.mark.parametrize(
    ("items", "first"),
    [
        ([f"want {ABSENT}", f"want {OTHER}", FLUSH], ""),
        ([f"want {ABSENT}", "hello", FLUSH], ""),
        (["hello", f"want {ABSENT}", FLUSH], "unexpected line"),
        ([f"want {ABSENT}", DELIM], ""),
        ([f"want {ABSENT}"], ""),
        (["want {main}", "done", DELIM], "expected flush after fetch arguments"),
        (["want-ref refs/nosuch", f"want {ABSENT}", FLUSH], ""),
        ([f"want {ABSENT}", "want-ref refs/nosuch", FLUSH], ""),
        (["have zz", f"want {ABSENT}", FLUSH], "git upload-pack: expected SHA1 object"),
        (["want {main}", "shallow {blob}", f"want {ABSENT}", FLUSH], "git upload-pack: invalid shallow object"),
        (["want {main}", "deepen-not nosuch", f"want {ABSENT}", FLUSH], "git upload-pack: ambiguous deepen-not"),
        (["want {main}", "filter tree:0", f"want {ABSENT}", FLUSH], ""),
        (["want {main}", "deepen 1", "deepen-since 1", "done", FLUSH], "git upload-pack: deepen and deepen-since"),
        (
            ["want {main}", "have {main}", "deepen 1", "deepen-since 1", FLUSH],
            "git upload-pack: deepen and deepen-since",
        ),
        (["want-ref refs/heads/main", "have {main}", "deepen-since 2000000000", FLUSH], "no commits selected"),
        (["want {main}", "have {main}", "deepen-since 2000000000", "done", FLUSH], "no commits selected"),
        (["sideband-all", f"want {ABSENT}", FLUSH], ""),
        ([f"want {ABSENT}", "sideband-all", FLUSH], ""),
        (["want {main}", "filter sparse:oid=nosuch", "done", FLUSH], ""),
        (["want {main}", "have {main}", "filter sparse:oid={main}", FLUSH], ""),
    ],
)
def test_v2_tells_the_fault_that_git_finds_first(server: Server, twin: Twin, items: list[Item], first: str) -> None:
    config = {
        "uploadpack.allowFilter": "true",
        "uploadpackfilter.tree.allow": "false",
        "uploadpack.allowRefInWant": "true",
        "uploadpack.allowSidebandAll": "true",
    }
    repo = server.create_repo("linear", config=config)
    body = lines("command=fetch", "object-format=sha1", DELIM, *filled(repo, items))
    assert_found_alike(repo, twin, body, V2, first=first)


@pytest.mark.rows("U0-50", "V2-36")
def test_a_filter_without_patterns_fails_where_the_pack_would_begin(server: Server, twin: Twin) -> None:
    repo = server.create_repo("linear", config={"uploadpack.allowFilter": "true"})
    items = filled(repo, ["want {main} filter side-band-64k", "filter sparse:oid=nosuch", FLUSH, "done"])
    assert_found_alike(repo, twin, lines(*items), {}, first="")


@pytest.mark.rows("U0-44", "U0-43")
def test_what_deepen_not_excludes_is_found_behind_a_wrong_clock(server: Server, git: Git, twin: Twin) -> None:
    """The excluded tip claims to be older than everything that it leads to."""
    repo = server.create_repo("linear")
    early = {"GIT_AUTHOR_DATE": "@1000000 +0000", "GIT_COMMITTER_DATE": "@1000000 +0000"}
    made = git("commit-tree", "-p", "main~3", "-m", "early", "main^{tree}", cwd=repo.path, env=early)
    repo.run("update-ref", "refs/heads/early", made.stdout.strip())
    body = lines(f"want {repo.rev('main')}", "deepen-not early", FLUSH)
    ours, theirs = (said(upload(url, body)) for url in (repo.url, twin(repo)))
    assert ours == theirs
    assert any(isinstance(packet, bytes) and packet.startswith(b"shallow ") for packet in ours[1])
