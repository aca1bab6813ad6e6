"""The routes that need no Git on the server: loose objects, packs, indexes, plain ref lists."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime

import pytest

from compat.conftest import Repo, Server, agree
from compat.gitclient import Git
from compat.rawhttp import Reply, request
from compat.test_fetch import grow

DUMB = {"GIT_SMART_HTTP": "0"}
Twin = Callable[[Repo], str]


def compare(repo: Repo, twin: Twin, path: str) -> Reply:
    """Both answers agree in status, type and body; ours."""
    ours, theirs = (request(url, "GET", path) for url in (repo.url, twin(repo)))
    assert (theirs.status, theirs.body) == (ours.status, ours.body)
    if theirs.status == 200:
        assert theirs.headers.get("content-type") == ours.headers.get("content-type")
        for name in ("cache-control", "pragma"):
            assert theirs.headers.get(name) == ours.headers.get(name)
    return ours


@pytest.mark.every_frontend
@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.rows("HB-06", "HB-09", "HB-11", "HB-12", "HB-14", "HB-81", "SEC-28")
def test_dumb_clone(server: Server, git: Git, object_format: str) -> None:
    repo = server.create_repo("small" if object_format == "sha1" else "merges", object_format=object_format)
    if object_format == "sha256":
        git("init", "-q", "--object-format=sha256", "clone")
        git("fetch", "-q", repo.url, "+refs/*:refs/remotes/x/*", cwd="clone", env=DUMB)
        assert repo.rev("main") == git.rev("clone", "refs/remotes/x/heads/main")
    else:
        git("clone", "-q", repo.url, "clone", env=DUMB)
        agree(git, "clone", repo)
    git.fsck("clone")


@pytest.mark.rows("HB-06", "HB-07", "HB-08", "HB-09", "HB-10", "HB-35")
def test_lists_and_texts_are_gits(server: Server, git: Git, twin: Twin) -> None:
    repo = server.create_repo()
    for path in (
        "/info/refs",
        "/HEAD",
        "/objects/info/packs",
        "/objects/info/alternates",
        "/objects/info/http-alternates",
    ):
        compare(repo, twin, path)
    repo.run("repack", "-dq")
    repo.run("update-ref", "-d", "refs/heads/topic")
    (repo.path / "objects/info/alternates").write_text("")
    for path in ("/info/refs", "/objects/info/packs", "/objects/info/alternates"):
        compare(repo, twin, path)
    (repo.path / "objects/info/alternates").unlink()


@pytest.mark.rows("HB-07", "HB-09")
def test_what_the_lists_leave_out(server: Server, git: Git, twin: Twin) -> None:
    """Refs whose objects are gone or damaged; packs of alternates."""
    source = server.create_repo("linear")
    path = server.root / f"fork-of-{source.path.name}"
    git("clone", "-q", "--bare", "--shared", source.path, path)
    (path / "git-daemon-export-ok").touch()
    fork = server.adopt(path)
    assert compare(fork, twin, "/objects/info/packs").body == b"\n"
    grow(fork, 2)
    fork.run("repack", "-dlq")
    assert len(compare(fork, twin, "/objects/info/packs").body.splitlines()) == 2
    repo = server.create_repo()
    repo.broken = True
    (repo.path / "refs/heads/gone").write_text("1" * 40 + "\n")
    listed = compare(repo, twin, "/info/refs").body
    assert b"gone" not in listed and b"refs/tags/v1\n" in listed
    # One whose object is damaged ends the answer, as with git. Nobody has read this one before.
    damaged = server.create_repo()
    damaged.broken = True
    tag = damaged.rev("v1")
    file = damaged.path / "objects" / tag[:2] / tag[2:]
    file.chmod(0o644)
    file.write_bytes(b"junk")
    assert compare(damaged, twin, "/info/refs").status == 500


@pytest.mark.rows("HB-08")
@pytest.mark.parametrize("head", ["ref: refs/heads/topic\n", "ref: refs/heads/unborn\n", "detached"])
def test_head_in_three_states(server: Server, twin: Twin, head: str) -> None:
    repo = server.create_repo()
    (repo.path / "HEAD").write_text(repo.rev("main") + "\n" if head == "detached" else head)
    compare(repo, twin, "/HEAD")


@pytest.mark.rows("HB-11", "HB-12", "HB-33", "HB-34", "HB-35", "SEC-28")
def test_objects_packs_and_indexes(server: Server, twin: Twin) -> None:
    repo = server.create_repo()
    main = repo.rev("main")
    loose = f"/objects/{main[:2]}/{main[2:]}"
    pack = next(repo.path.glob("objects/pack/*.pack"))
    for path in (loose, f"/objects/pack/{pack.name}", f"/objects/pack/{pack.with_suffix('.idx').name}"):
        reply = compare(repo, twin, path)
        assert reply.status == 200
        assert str(len(reply.body)) == reply.headers["content-length"]
        assert reply.headers["cache-control"] == "public, max-age=31536000"
        date, expires, modified = (
            parsedate_to_datetime(reply.headers[name]).timestamp() for name in ("date", "expires", "last-modified")
        )
        assert expires - date == pytest.approx(31_536_000, abs=120)  # the two are taken one after the other
        assert modified == int((repo.path / path[1:]).stat().st_mtime)
    for path in (
        loose.upper(),
        f"/objects/{main[:2]}/{'1' * 38}",
        f"/objects/pack/pack-{'1' * 40}.pack",
        loose + "0",
        f"/objects/{main}",
        "/objects/pack/other.pack",
        f"/objects/pack/{pack.name.upper()}",
        f"/objects/pack/{pack.name}x",
    ):
        assert request(repo.url, "GET", path).status == 404
    # Neither hiding a ref nor deleting it hides its object here.
    hidden = grow(repo, 1, ref="refs/hidden/x")
    repo.config("transfer.hideRefs", "refs/hidden")
    assert hidden.encode() not in request(repo.url, "GET", "/info/refs?service=git-upload-pack").body
    repo.run("update-ref", "-d", "refs/hidden/x")
    assert compare(repo, twin, f"/objects/{hidden[:2]}/{hidden[2:]}").status == 200


@pytest.mark.rows("HB-36")
def test_a_range_is_answered_with_it_or_with_all(server: Server) -> None:
    repo = server.create_repo()
    pack = next(repo.path.glob("objects/pack/*.pack"))
    data = pack.read_bytes()
    reply = request(repo.url, "GET", f"/objects/pack/{pack.name}", headers={"Range": "bytes=100-"})
    assert (reply.status, reply.body) in ((200, data), (206, data[100:]))


@pytest.mark.rows("HB-06")
def test_a_push_shows_at_once_in_the_dumb_list(server: Server, git: Git) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    tip = git.commit_file("clone", "a.txt", "a")
    git("push", "-q", cwd="clone")
    assert f"{tip}\trefs/heads/main\n".encode() in request(repo.url, "GET", "/info/refs").body
    git("clone", "-q", repo.url, "again", env=DUMB)
    assert tip == git.rev("again", "HEAD")
