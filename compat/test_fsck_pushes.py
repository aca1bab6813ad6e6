"""Area F over HTTP: what is checked of pushed objects, with the settings that say so, beside git."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable

import pytest

from compat.conftest import Repo
from compat.gitclient import Git
from compat.pushing import new_objects, push_body, report_of
from compat.rawhttp import ZERO, demux, make_pack, receive
from compat.test_hostile import entry_header

Pair = Callable[..., tuple[Repo, Repo]]
Settings = dict[str, str]

WITH_FSCK = {"receive.fsckObjects": "true"}


def odd_commit(git: Git, repo: Repo, name: str = "maker.git") -> tuple[str, bytes]:
    """A commit without an email, and a pack with it."""
    git("clone", "-q", "--bare", repo.path, name)
    tree = repo.rev("main^{tree}")
    text = f"tree {tree}\nauthor A 1700000000 +0000\ncommitter C <c@example.com> 1700000000 +0000\n\nx\n"
    oid = git(
        "hash-object", "-t", "commit", "--literally", "-w", "--stdin", cwd=name, input=text.encode()
    ).stdout.strip()
    return oid, git.output_bytes("pack-objects", "-q", "--stdout", cwd=name, input=f"{oid}\n".encode())


@pytest.mark.rows("CF-24", "CF-31", "CF-32", "FK-01", "FK-02", "FK-06")
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"transfer.fsckObjects": "true"},
        {"transfer.fsckObjects": "true", "receive.fsckObjects": "false"},
        {"transfer.fsckObjects": "false", "receive.fsckObjects": "true"},
        WITH_FSCK | {"receive.fsck.missingEmail": "warn"},
        WITH_FSCK | {"receive.fsck.missingEmail": "ignore"},
        WITH_FSCK | {"fsck.missingEmail": "ignore"},
        WITH_FSCK | {"receive.fsck.skipList": "skip"},
        WITH_FSCK | {"receive.fsck.nonesuch": "warn"},
    ],
)
def test_pushed_objects_are_checked_as_with_git(pair: Pair, git: Git, config: dict[str, str]) -> None:
    ours, theirs = pair(config=config)
    oid, pack = odd_commit(git, ours)
    seen = []
    for repo in ours, theirs:
        repo.broken = True  # git fsck complains of the commit, rightly
        (repo.path / "skip").write_text(f"# let off\n\n{oid}\n")
        reply = receive(repo.url, push_body([f"{ZERO} {oid} refs/heads/odd"], pack))
        found = re.findall(rb"(?:error|warning): object [^\n]*", demux(reply.packets).progress)
        seen.append((report_of(reply), found))
    assert seen[1] == seen[0]


def bad_pack(git: Git, repo: Repo) -> tuple[str, bytes]:
    """A commit of a tree that fsck calls an error (an entry named .GIT), and its pack; the repository lacks it."""
    maker = git.cwd / "maker.git"
    git("clone", "-q", "--bare", repo.path, maker)
    blob = git("hash-object", "-w", "--stdin", cwd=maker, input=b"x").stdout.strip()
    tree = b"100644 .GIT\0" + bytes.fromhex(blob)
    oid = git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", cwd=maker, input=tree).stdout.strip()
    commit = git("commit-tree", "-m", "bad", oid, cwd=maker).stdout.strip()
    return commit, make_pack(git, maker, [commit])


@pytest.mark.rows("CF-24", "CF-31", "CF-32", "CF-60", "FK-01", "SEC-29")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"transfer.fsckObjects": "true"},
        {"receive.fsckObjects": "true"},
        {"transfer.fsckObjects": "true", "receive.fsckObjects": "false"},
        {"receive.fsckObjects": "true", "receive.fsck.hasDotgit": "ignore"},
        {"receive.fsckObjects": "true", "receive.fsck.hasDotgit": "warn"},
        {"receive.fsckObjects": "true", "fsck.hasDotgit": "ignore"},
        {"receive.fsckObjects": "true", "core.protectNTFS": "false", "core.protectHFS": "false"},
    ],
    ids=str,
)
def test_which_objects_are_taken(pair: Pair, git: Git, settings: Settings) -> None:
    ours, theirs = pair(config=settings)
    for repo in (ours, theirs):
        repo.broken = True  # git fsck has its own opinion of such a tree
    commit, pack = bad_pack(git, ours)
    body = push_body([f"{ZERO} {commit} refs/heads/bad"], pack)
    reports = [report_of(receive(repo.url, body)) for repo in (ours, theirs)]
    assert reports[0] == reports[1]
    assert ours.refs() == theirs.refs()


@pytest.mark.rows("CF-60", "FK-56")
def test_the_checks_of_names_are_not_weakened(pair: Pair, git: Git) -> None:
    ours, theirs = pair(config=WITH_FSCK | {"core.protectHFS": "false", "core.protectNTFS": "false"})
    blob = ours.rev("main:README")
    git("clone", "-q", "--bare", ours.path, "maker.git")
    for name in ".GIT", "git~1", ".g\u200cit":
        tree = git("mktree", cwd="maker.git", input=f"100644 blob {blob}\t{name}\n".encode()).stdout.strip()
        oid = git("commit-tree", "-m", "x", tree, cwd="maker.git").stdout.strip()
        pack = git.output_bytes("pack-objects", "-q", "--stdout", cwd="maker.git", input=f"{oid}\n{tree}\n".encode())
        body = push_body([f"{ZERO} {oid} refs/heads/odd"], pack)
        replies = [receive(repo.url, body) for repo in (ours, theirs)]
        assert report_of(replies[1]) == report_of(replies[0])
        assert report_of(replies[0])[1] == b"ng refs/heads/odd unpacker error"
        assert all(b"hasDotgit" in demux(reply.packets).progress for reply in replies)


@pytest.mark.rows("FK-07", "FK-09")
@pytest.mark.parametrize("check", ["false", "true"])
@pytest.mark.parametrize("what", ["tree of garbage", "commit of garbage", "blob left out", "tree left out"])
def test_objects_must_be_whole_with_the_check_and_without(pair: Pair, git: Git, what: str, check: str) -> None:
    ours, theirs = pair(config={"receive.fsckObjects": check})
    before = ours.state()
    maker = git.cwd / "maker.git"
    git("init", "-q", "--bare", maker)

    def write(kind: str, data: bytes) -> str:
        options = ["-w", "-t", kind, "--literally", "--stdin"]
        return git("hash-object", *options, cwd=maker, input=data).stdout.strip()

    blob = write("blob", what.encode())
    tree = write("tree", b"junk" if what == "tree of garbage" else b"100644 f\0" + bytes.fromhex(blob))
    who = "A <a@b> 1600000000 +0000"
    text = f"tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n"
    commit = write("commit", b"junk\n" if what == "commit of garbage" else text.encode())
    left_out = {"blob left out": blob, "tree left out": tree}.get(what)
    names = [oid for oid in (commit, tree, blob) if oid != left_out]
    pack = git.output_bytes("pack-objects", "-q", "--stdout", cwd=maker, input="\n".join(names).encode() + b"\n")
    body = push_body([f"{ZERO} {commit} refs/heads/bad"], pack)
    reports = [report_of(receive(repo.url, body)) for repo in (ours, theirs)]
    assert reports[0] == reports[1]
    assert reports[0][1].startswith(b"ng refs/heads/bad ")
    assert "refs/heads/bad" not in ours.refs() and "refs/heads/bad" not in theirs.refs()
    assert before == ours.state() == theirs.state()


def write(git: Git, kind: str, data: bytes) -> str:
    """An object in maker.git."""
    options = ["-w", "-t", kind, "--literally", "--stdin"]
    return git("hash-object", *options, cwd="maker.git", input=data).stdout.strip()


@pytest.mark.rows("FK-07")
@pytest.mark.parametrize("check", ["false", "true"])
@pytest.mark.parametrize(
    "lost", ["nothing", "blob of a tree", "tree of a commit", "parent of a commit", "tag's object"]
)
def test_links_of_what_nothing_reaches_count_with_the_check_only(pair: Pair, git: Git, lost: str, check: str) -> None:
    """The pack has an object more that no ref will reach, and whose link leads nowhere."""
    ours, theirs = pair(config={"receive.fsckObjects": check})
    git("clone", "-q", "--bare", ours.path, "maker.git")
    tip, tree = ours.rev("main"), ours.rev("main^{tree}")
    who = "A <a@b> 1600000000 +0000"
    new = git("commit-tree", "-m", "new", "-p", tip, tree, cwd="maker.git").stdout.strip()
    nowhere = "1" * 40
    if lost == "blob of a tree":
        extra = [write(git, "tree", b"100644 f\0" + bytes.fromhex(nowhere))]
    elif lost == "tag's object":
        extra = [write(git, "tag", f"object {nowhere}\ntype commit\ntag t\ntagger {who}\n\nx\n".encode())]
    elif lost == "nothing":
        extra = [write(git, "tree", b"100644 f\0" + bytes.fromhex(ours.rev("main:README")))]
    else:
        root = nowhere if lost == "tree of a commit" else tree
        parent = f"parent {nowhere}\n" if lost == "parent of a commit" else ""
        extra = [write(git, "commit", f"tree {root}\n{parent}author {who}\ncommitter {who}\n\nx\n".encode())]
    listed = "".join(f"{oid}\n" for oid in (new, *extra)).encode()
    pack = git.output_bytes("pack-objects", "-q", "--stdout", cwd="maker.git", input=listed)
    body = push_body([f"{tip} {new} refs/heads/main"], pack)
    replies = [receive(repo.url, body) for repo in (ours, theirs)]
    assert report_of(replies[0]) == report_of(replies[1])
    is_good = lost == "nothing" or check == "false"
    assert (report_of(replies[0])[0] == b"unpack ok") == is_good
    assert ours.refs() == theirs.refs()
    if not is_good:
        assert nowhere.encode() in demux(replies[0].packets).progress
    for repo in (ours, theirs):
        repo.broken = check == "false"  # git fsck doesn't like what dangles there


@pytest.mark.rows("FK-08", "FK-43", "FK-53", "SEC-30")
@pytest.mark.parametrize("limit", ["1", "1000"])
@pytest.mark.parametrize("order", ["blob first", "tree first", "blob there already"])
@pytest.mark.parametrize("name", [".gitmodules", ".gitattributes"])
def test_special_blobs_are_found_wherever_they_lie(pair: Pair, git: Git, name: str, order: str, limit: str) -> None:
    ours, theirs = pair(config=WITH_FSCK | {"receive.unpackLimit": limit})
    content = b'[submodule "x"]\n\turl = -u./payload\n' if name == ".gitmodules" else b"x" * 3000
    git("clone", "-q", "--bare", ours.path, "maker.git")
    blob = write(git, "blob", content)
    tree = write(git, "tree", b"100644 %b\0" % name.encode() + bytes.fromhex(blob))
    commit = git("commit-tree", "-m", "x", tree, cwd="maker.git").stdout.strip()
    parts = [commit, *((blob, tree) if order == "blob first" else (tree, blob))]
    if order == "blob there already":
        parts.remove(blob)
        for repo in ours, theirs:
            repo.run("hash-object", "-w", "--stdin", input=content)
    entries = [git.output_bytes("cat-file", kind, oid, cwd="maker.git") for oid, kind in kinds_of(git, parts)]
    pack = pack_of([(KINDS[kind], data) for (_, kind), data in zip(kinds_of(git, parts), entries, strict=True)])
    replies = [receive(repo.url, push_body([f"{ZERO} {commit} refs/heads/bad"], pack)) for repo in (ours, theirs)]
    assert report_of(replies[0]) == report_of(replies[1])
    assert report_of(replies[0])[1] == b"ng refs/heads/bad unpacker error"
    found = [re.findall(rb"error: object [^\n]*", demux(reply.packets).progress) for reply in replies]
    assert found[0] == found[1] != []


@pytest.mark.rows("FK-49", "FK-52", "CF-52")
@pytest.mark.parametrize("limit", ["1", "1000"])
@pytest.mark.parametrize("order", ["blob first", "tree first"])
@pytest.mark.parametrize("name", [".gitmodules", ".gitattributes"])
def test_special_blobs_that_are_streamed_are_too_large(pair: Pair, git: Git, name: str, order: str, limit: str) -> None:
    """Above core.bigFileThreshold, and kept in a pack: what git unpacks it reads whole."""
    ours, theirs = pair(config=WITH_FSCK | {"receive.unpackLimit": limit, "core.bigFileThreshold": "100"})
    content = b"# fine\n" * 20
    git("clone", "-q", "--bare", ours.path, "maker.git")
    blob = write(git, "blob", content)
    tree = write(git, "tree", b"100644 %b\0" % name.encode() + bytes.fromhex(blob))
    commit = git("commit-tree", "-m", "x", tree, cwd="maker.git").stdout.strip()
    commit_text = git.output_bytes("cat-file", "commit", commit, cwd="maker.git")
    tree_text = git.output_bytes("cat-file", "tree", tree, cwd="maker.git")
    rest = [(3, content), (2, tree_text)] if order == "blob first" else [(2, tree_text), (3, content)]
    body = push_body([f"{ZERO} {commit} refs/heads/large"], pack_of([(1, commit_text), *rest]))
    replies = [receive(repo.url, body) for repo in (ours, theirs)]
    assert report_of(replies[0]) == report_of(replies[1])
    assert (report_of(replies[0])[0] == b"unpack ok") == (limit == "1000")
    found = [re.findall(rb"error: object [^\n]*", demux(reply.packets).progress) for reply in replies]
    assert found[0] == found[1]


KINDS = {"commit": 1, "tree": 2, "blob": 3}


def kinds_of(git: Git, oids: list[str]) -> list[tuple[str, str]]:
    """The ids with their types."""
    return [(oid, git("cat-file", "-t", oid, cwd="maker.git").stdout.strip()) for oid in oids]


def pack_of(objects: list[tuple[int, bytes]]) -> bytes:
    """A pack of whole objects in this order."""
    body = b"PACK\0\0\0\2" + len(objects).to_bytes(4, "big")
    for kind, data in objects:
        body += entry_header(kind, len(data)) + zlib.compress(data)
    return body + hashlib.sha1(body).digest()


ODD_REFS = {
    "trailing words": "{oid} and more\n",
    "no line feed": "{oid}",
    "a symbolic ref without a line feed": "ref: refs/heads/main",
    "a symbolic ref to a bad name": "ref: refs/heads/..x\n",
}


@pytest.mark.rows("FK-71")
@pytest.mark.parametrize("odd", sorted(ODD_REFS))
def test_odd_refs_are_no_matter_of_a_push(pair: Pair, git: Git, odd: str) -> None:
    """What `git refs verify` would complain of lies there already: pushes elsewhere go on, checked or not."""
    ours, theirs = pair(config=WITH_FSCK)
    tip, new, pack = new_objects(git, ours)
    for repo in ours, theirs:
        (repo.path / "refs/heads/odd").write_text(ODD_REFS[odd].format(oid=tip))
    replies = [receive(repo.url, push_body([f"{tip} {new} refs/heads/main"], pack)) for repo in (ours, theirs)]
    assert report_of(replies[0]) == report_of(replies[1]) == [b"unpack ok", b"ok refs/heads/main"]
    for repo in ours, theirs:
        assert (repo.path / "refs/heads/odd").read_text() == ODD_REFS[odd].format(oid=tip)
        (repo.path / "refs/heads/odd").unlink()


@pytest.mark.rows("FK-71", "FS-35", "FS-32")
def test_refs_are_written_as_git_writes_them(pair: Pair, git: Git) -> None:
    """Byte by byte, so no verifier can find in ours what it doesn't find in git's; a newer git is asked as well."""
    ours, theirs = pair(config=WITH_FSCK)
    tip, new, pack = new_objects(git, ours)
    older, tag = ours.rev("main~1"), ours.rev("refs/tags/light")
    for repo in ours, theirs:
        repo.run("pack-refs", "--all")
    for commands in (
        [f"{tip} {new} refs/heads/main", f"{ZERO} {new} refs/heads/deep/er", f"{ZERO} {older} refs/notes/x"],
        [f"{tag} {ZERO} refs/tags/light", f"{ours.rev('topic')} {ZERO} refs/heads/topic"],
        [f"{new} {ZERO} refs/heads/deep/er", f"{ZERO} {new} refs/heads/deep"],
    ):
        body = push_body(commands, b"" if all(ZERO == line.split()[1] for line in commands) else pack)
        assert report_of(receive(ours.url, body)) == report_of(receive(theirs.url, body))
        written = [
            {
                str(path.relative_to(repo.path)): path.read_bytes()
                for path in (*repo.path.glob("refs/**/*"), repo.path / "packed-refs", repo.path / "HEAD")
                if path.is_file()
            }
            for repo in (ours, theirs)
        ]
        assert written[0] == written[1]
        verified = git("refs", "verify", "--strict", cwd=ours.path, check=False)
        assert (verified.code, verified.stderr) == (0, "") or "is not a git command" in verified.stderr
