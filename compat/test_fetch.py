"""Fetching into repositories that have something: negotiation, tags, ids, changes made beside the server."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from compat.conftest import Repo, Server, agree
from compat.gitclient import Git
from compat.rawhttp import FLUSH, TIMEOUT_SECONDS, lines, raw_head
from compat.repos import Stream

versions = pytest.mark.parametrize("version", ["0", "1", "2"])


def grow(repo: Repo, count: int = 3, ref: str = "refs/heads/main", start: str = "refs/heads/main^0") -> str:
    """Add commits to the server's repository with plain git, as an outside writer."""
    stream = Stream()
    tip: int | str = start
    for n in range(count):
        tip = stream.commit(ref, {f"grown/{n}.txt": b"%d of %d\n" % (n, count)}, parents=[tip])
    stream.load(repo.git, repo.path)
    return repo.rev(ref)


def fetch(git: Git, where: str, *options: str, version: str = "2") -> str:
    """Fetch, then fsck; the client's messages."""
    words = git("-c", f"protocol.version={version}", "fetch", *options, cwd=where).stderr
    git.fsck(where)
    return words


@versions
@pytest.mark.every_frontend
@pytest.mark.rows("U0-29", "U0-30", "U0-32", "V2-27", "V2-28", "V2-29", "FS-77")
def test_commits_added_beside_us_come_with_the_next_fetch(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    for count in (1, 5):
        grow(repo, count)
        fetch(git, "clone", version=version)
        agree(git, "clone", repo)


@versions
@pytest.mark.rows("U0-26", "V2-26")
def test_a_fetch_with_nothing_new_is_quiet(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    assert fetch(git, "clone", version=version) == ""


@versions
@pytest.mark.every_frontend
@pytest.mark.rows("U0-31", "U0-33", "U0-34", "HB-37", "V2-27")
def test_diverged_histories_with_hundreds_of_haves(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo("linear")
    git("clone", "-q", "--mirror", repo.url, "clone.git")
    mine = Stream()
    for line in range(4):
        tip: int | str = f"refs/heads/main~{line * 20 + 5}"
        for n in range(150):
            tip = mine.commit(f"refs/heads/mine{line}", {f"mine{line}/{n}": b"%d\n" % n}, parents=[tip])
    mine.load(git, git.cwd / "clone.git")
    grow(repo, 40)
    before = git.objects("clone.git")
    trace = git.cwd / "trace"
    git(
        "-c",
        f"protocol.version={version}",
        "fetch",
        "origin",
        "refs/heads/main:refs/heads/theirs",
        cwd="clone.git",
        env={"GIT_TRACE_PACKET": str(trace)},
    )
    assert repo.rev("main") == git.rev("clone.git", "theirs")
    git.fsck("clone.git")
    assert len(git.objects("clone.git") - before) <= 40 * 4
    assert trace.read_text().count("> have ") > 100


@versions
@pytest.mark.rows("U0-62", "V2-45")
def test_tags_of_fetched_commits_ride_along(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    grow(repo)
    repo.run("tag", "-a", "-m", "new", "v2", "main~1")
    repo.run("tag", "light2", "main~2")
    trace = git.cwd / "trace"
    git(
        "-c",
        f"protocol.version={version}",
        "fetch",
        "-q",
        cwd="clone",
        env={"GIT_TRACE_CURL": str(trace), "GIT_TRACE_CURL_NO_DATA": "1"},
    )
    assert repo.rev("refs/tags/v2") == git.rev("clone", "refs/tags/v2")
    posts = trace.read_text().count("header: POST")
    assert posts <= (3 if version == "2" else 2)


@pytest.mark.rows("U0-25", "SEC-23")
def test_version_0_serves_a_reachable_id_that_is_no_tip(server: Server, git: Git) -> None:
    repo = server.create_repo(config={"uploadpack.allowReachableSHA1InWant": "true"})
    git("init", "-q", "clone")
    git("-c", "protocol.version=0", "fetch", "-q", repo.url, repo.rev("main~2"), cwd="clone")
    assert repo.rev("main~2") == git.rev("clone", "FETCH_HEAD")


@pytest.mark.rows("V2-23", "SEC-24")
def test_version_2_serves_any_object_that_exists(server: Server, git: Git) -> None:
    repo = server.create_repo()
    lost = grow(repo, 2, ref="refs/heads/lost")
    repo.run("update-ref", "-d", "refs/heads/lost")
    git("init", "-q", "clone")
    git("fetch", "-q", repo.url, lost, cwd="clone")
    assert lost == git.rev("clone", "FETCH_HEAD")


@versions
@pytest.mark.rows("V2-24", "U0-24")
def test_an_absent_id_is_refused_with_gits_words(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo(config={"uploadpack.allowAnySHA1InWant": "true"})
    git("init", "-q", "clone")
    words = git.fails("-c", f"protocol.version={version}", "fetch", repo.url, "1" * 40, cwd="clone")
    assert "not our ref " + "1" * 40 in words


@versions
@pytest.mark.rows("V2-22")
def test_prune_and_forced_updates(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    repo.run("update-ref", "refs/heads/main", "main~2")
    repo.run("update-ref", "-d", "refs/heads/topic")
    grow(repo, 2)
    fetch(git, "clone", "--prune", version=version)
    agree(git, "clone", repo)


@pytest.mark.rows("V2-30")
def test_negotiate_only_names_common_commits(server: Server, git: Git) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    common = git.rev("clone", "HEAD")
    git.commit_file("clone", "own.txt", "own\n")
    said = git("fetch", "--negotiate-only", "--negotiation-tip=main", repo.url, cwd="clone").stdout
    assert common in said.split()


@pytest.mark.parametrize("algorithm", ["skipping", "noop", "consecutive"])
@versions
@pytest.mark.rows("U0-33")
def test_every_negotiation_algorithm(server: Server, git: Git, version: str, algorithm: str) -> None:
    repo = server.create_repo("merges")
    git("clone", "-q", repo.url, "clone")
    for n in range(40):
        git("commit", "-q", "--allow-empty", "-m", f"{n}", cwd="clone")
    grow(repo, 20)
    git(
        "-c",
        f"fetch.negotiationAlgorithm={algorithm}",
        "-c",
        f"protocol.version={version}",
        "fetch",
        "-q",
        cwd="clone",
    )
    agree(git, "clone", repo)
    git.fsck("clone")


@pytest.mark.every_frontend
@pytest.mark.rows("FS-17", "FS-18", "FS-33", "FS-77")
def test_gc_and_pack_refs_beside_us_are_seen(server: Server, git: Git) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    for command in (["pack-refs", "--all"], ["repack", "-adq"], ["gc", "-q", "--prune=now"]):
        tip = grow(repo, 2)
        repo.run(*command)
        fetch(git, "clone")
        assert tip == git.rev("clone", "origin/main")
        git("clone", "-q", "--mirror", repo.url, f"again-{command[0]}")
        assert repo.refs() == git.refs(f"again-{command[0]}")


@pytest.mark.every_frontend
@pytest.mark.rows("FS-77", "HB-75")
def test_each_ref_change_beside_us_is_seen_by_the_very_next_request(server: Server, git: Git) -> None:
    repo = server.create_repo()
    main, older = repo.rev("main"), repo.rev("main~1")
    for n in range(10):
        wanted = older if n % 2 == 0 else main
        repo.run("update-ref", "refs/heads/main", wanted)
        assert wanted == git("ls-remote", repo.url, "refs/heads/main").stdout.split()[0]


@pytest.mark.rows("FS-36", "FS-31")
def test_symrefs_and_packed_refs_without_a_header(server: Server, git: Git) -> None:
    repo = server.create_repo()
    repo.run("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    (repo.path / "HEAD").unlink()
    (repo.path / "HEAD").symlink_to("refs/heads/main")
    path = repo.path / "packed-refs"
    body = [line for line in path.read_text().splitlines() if not line.startswith(("#", "^"))]
    path.write_text("".join(f"{line}\n" for line in reversed(body)))
    git("clone", "-q", "--mirror", repo.url, "clone")
    assert repo.refs() == git.refs("clone")


@versions
@pytest.mark.rows("U0-32")
def test_fetching_many_branches_into_an_unrelated_history(server: Server, git: Git, version: str) -> None:
    repo = server.create_repo("merges")
    git("init", "-q", "clone")
    for n in range(30):
        git("commit", "-q", "--allow-empty", "-m", f"own {n}", cwd="clone")
    git("-c", f"protocol.version={version}", "fetch", "-q", repo.url, "+refs/*:refs/remotes/x/*", cwd="clone")
    git.fsck("clone")
    assert repo.rev("main") == git.rev("clone", "refs/remotes/x/heads/main")


@pytest.mark.rows("U0-64")
def test_fetching_a_ref_to_something_we_have_sends_nothing(server: Server, git: Git) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    before = git.objects("clone")
    repo.run("update-ref", "refs/heads/older", "main~4")
    fetch(git, "clone")
    assert before == git.objects("clone")
    agree(git, "clone", repo)


@pytest.mark.rows("V2-22")
def test_refetch_sends_all_again(server: Server, git: Git) -> None:
    repo = server.create_repo()
    git("clone", "-q", repo.url, "clone")
    fetch(git, "clone", "--refetch")
    agree(git, "clone", repo)


@pytest.mark.rows("HB-76")
def test_expect_100_continue_does_not_stall(server: Server, git: Git) -> None:
    repo = server.create_repo("linear")
    git("clone", "-q", repo.url, "clone")
    grow(repo)
    git("-c", "http.extraHeader=Expect: 100-continue", "fetch", "-q", cwd="clone")
    agree(git, "clone", repo)


@pytest.mark.rows("FS-36")
def test_a_clone_continues_from_another_repository_as_reference(server: Server, git: Git, tmp_path: Path) -> None:
    repo = server.create_repo("linear")
    git("clone", "-q", "--bare", repo.url, "first.git")
    tip = grow(repo)
    git("clone", "-q", "--reference", git.cwd / "first.git", repo.url, "second")
    assert tip == git.rev("second", "HEAD")
    git.fsck("second")


@pytest.mark.rows("HB-76")
def test_the_body_may_wait_for_a_100(server: Server) -> None:
    """A client that sends its body only once it is told to go on."""
    repo = server.create_repo()
    body = lines(f"want {repo.rev('main')} side-band-64k", FLUSH, "done")
    head = raw_head(
        repo.url, "upload-pack", f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close"
    )
    place = urlsplit(repo.url)
    with socket.create_connection((place.hostname or "", place.port or 80), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(head)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        while piece := connection.recv(65536):
            answer += piece
    assert b"HTTP/1.1 200 " in answer and b"PACK" in answer
