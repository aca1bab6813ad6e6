"""Pushes that stand on the old value of their ref alone are taken in without another look at refs and packs; what
stands on more is looked at, whatever the last snapshot knew.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from govc.repo.repository import Repository
from govc.service.receive import EXPECTED_MAX
from tests.kernels.both import ARE_TWINS_ASKED
from tests.service.test_receive_looks import NAME, Body, Server, begin, git, packs, path
from tests.simulation.pushes import Commit, Push, make_commit, oid_of

__all__ = ["path"]

ON_OLD_LOOKS = 1 if ARE_TWINS_ASKED else 0
"""Without detection of collision attacks all packs have to be known."""


def list_refs(server: Server) -> None:
    """Have the server take a snapshot, as a client does before it pushes."""
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/r.git/info/refs",
        "QUERY_STRING": "service=git-receive-pack",
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
    }
    assert b"".join(server.app(environ, lambda *_: None))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Repository]]:
    """The looks that are taken; none after an answer."""
    taken: list[Repository] = []
    take = Repository.snapshot
    monkeypatch.setattr("govc.repo.index_keeper.IndexKeeper.note_push", lambda *_: None)
    monkeypatch.setattr(Repository, "snapshot", lambda self: taken.append(self) or take(self))
    yield taken


def started(path: Path) -> tuple[Server, Commit]:
    """A server that knows `topic`, one commit on top of main's."""
    server, first = begin(path)
    second = make_commit(first, "second", b"second\n")
    assert f"ok {NAME}".encode() in server.push_whole(Push("b", ((NAME, None, second.oid),), second.objects))
    list_refs(server)
    return server, second


def assert_left_nothing(path: Path, before: set[str]) -> None:
    assert packs(path) == before
    assert not list(path.glob("refs/**/*.lock"))


def test_what_stands_on_the_old_value_is_taken_without_a_look(path: Path, looks: list[Repository]) -> None:
    server, second = started(path)
    third = make_commit(second.oid, "third", b"third\n")
    looks.clear()
    assert f"ok {NAME}".encode() in server.push_whole(Push("c", ((NAME, second.oid, third.oid),), third.objects))
    assert ON_OLD_LOOKS == len(looks)
    assert third.oid == git(path, "rev-parse", NAME)
    list_refs(server)
    git(path, "fsck", "--strict")


def test_packs_that_git_has_merged_meanwhile_are_no_matter(path: Path, looks: list[Repository]) -> None:
    server, second = started(path)
    git(path, "repack", "-adq")
    git(path, "pack-refs", "--all", "--prune")
    third = make_commit(second.oid, "third", b"third\n")
    looks.clear()
    assert f"ok {NAME}".encode() in server.push_whole(Push("c", ((NAME, second.oid, third.oid),), third.objects))
    assert ON_OLD_LOOKS == len(looks)
    git(path, "fsck", "--strict")


def test_a_ref_that_was_moved_and_pruned_meanwhile_stays_where_it_is(path: Path) -> None:
    server, second = started(path)
    git(path, "update-ref", NAME, "main")
    git(path, "repack", "-adq")
    git(path, "prune", "--expire=now")
    before = packs(path)
    third = make_commit(second.oid, "third", b"third\n")
    answer = server.push_whole(Push("c", ((NAME, second.oid, third.oid),), third.objects))
    assert f"ng {NAME}".encode() in answer
    assert git(path, "rev-parse", "main") == git(path, "rev-parse", NAME)
    git(path, "fsck", "--strict")
    assert before <= packs(path)


def test_a_ref_that_was_deleted_meanwhile_stays_deleted(path: Path) -> None:
    server, second = started(path)
    git(path, "update-ref", "-d", NAME)
    git(path, "repack", "-adq")
    third = make_commit(second.oid, "third", b"third\n")
    answer = server.push_whole(Push("c", ((NAME, second.oid, third.oid),), third.objects))
    assert f"ng {NAME}".encode() in answer
    assert NAME not in git(path, "for-each-ref")
    git(path, "fsck", "--strict")


def make_merge(first: Commit, second: str) -> Commit:
    """A commit with a file of its own, and a second parent."""
    commit, *others = make_commit(first.oid, "merge", b"merged\n").objects
    head, author, rest = commit[1].partition(b"author ")
    merged = (b"commit", head + b"parent " + second.encode() + b"\n" + author + rest)
    return Commit(oid_of(merged).hex(), (merged, *others))


def prune_other(path: Path, server: Server) -> Commit:
    """Let the server know a branch with a file of its own, then delete both."""
    other = make_commit(None, "other", b"the other's own file\n")
    assert b"ok " in server.push_whole(Push("o", (("refs/heads/other", None, other.oid),), other.objects))
    list_refs(server)
    git(path, "update-ref", "-d", "refs/heads/other")
    git(path, "repack", "-adq")
    return other


def test_a_parent_that_was_another_refs_value_is_missed_when_it_is_pruned(path: Path, looks: list[Repository]) -> None:
    server, second = started(path)
    other = prune_other(path, server)
    merge = make_merge(second, other.oid)
    before = packs(path)
    looks.clear()
    answer = server.push_whole(Push("c", ((NAME, second.oid, merge.oid),), merge.objects))
    assert f"ng {NAME} missing necessary objects".encode() in answer
    assert looks
    assert second.oid == git(path, "rev-parse", NAME)
    assert_left_nothing(path, before)


def test_a_file_that_only_another_ref_had_is_missed_when_it_is_pruned(path: Path, looks: list[Repository]) -> None:
    server, second = started(path)
    other = prune_other(path, server)
    # The same content as the other's under a commit of ours, without its blob.
    third = make_commit(second.oid, "third", b"the other's own file\n")
    blob = set(third.objects) & set(other.objects)
    assert blob
    objects = [each for each in third.objects if each not in blob]
    before = packs(path)
    looks.clear()
    answer = server.push_whole(Push("c", ((NAME, second.oid, third.oid),), objects))
    assert f"ng {NAME} missing necessary objects".encode() in answer
    assert looks
    assert second.oid == git(path, "rev-parse", NAME)
    assert_left_nothing(path, before)


def test_a_parent_that_plain_git_brought_meanwhile_is_found(path: Path, looks: list[Repository]) -> None:
    server, second = started(path)
    tree = git(path, "rev-parse", "main^{tree}")
    brought = git(path, "-c", "user.name=A", "-c", "user.email=a@b", "commit-tree", "-m", "x", "-p", "main", tree)
    git(path, "update-ref", "refs/heads/brought", brought)
    git(path, "repack", "-dq")
    merge = make_merge(second, brought)
    looks.clear()
    assert f"ok {NAME}".encode() in server.push_whole(Push("c", ((NAME, second.oid, merge.oid),), merge.objects))
    assert looks
    assert merge.oid == git(path, "rev-parse", NAME)
    git(path, "fsck", "--strict")


def test_a_branch_that_is_checked_out_meanwhile_is_refused(path: Path) -> None:
    server, second = started(path)
    git(path, "config", "core.bare", "false")
    list_refs(server)
    git(path, "symbolic-ref", "HEAD", NAME)
    third = make_commit(second.oid, "third", b"third\n")
    answer = server.push_whole(Push("c", ((NAME, second.oid, third.oid),), third.objects))
    assert f"ng {NAME} branch is currently checked out".encode() in answer


def test_a_setting_that_is_changed_meanwhile_counts(path: Path) -> None:
    server, second = started(path)
    third = make_commit(second.oid, "third", b"third\n")
    data = Push("c", ((NAME, second.oid, third.oid),), third.objects).body

    def hide() -> None:
        git(path, "config", "transfer.hideRefs", "refs/heads")

    answer = server.push(Body(data, len(data) // 2 + 1, hide), len(data))
    assert f"ng {NAME} deny updating a hidden ref".encode() in answer


@pytest.mark.parametrize("setting", ["receive.denyCurrentBranch=updateInstead", "receive.unpackLimit=100"])
def test_what_is_received_in_a_folder_is_looked_at(path: Path, looks: list[Repository], setting: str) -> None:
    git(path, "config", *setting.split("="))
    server, second = started(path)
    third = make_commit(second.oid, "third", b"third\n")
    looks.clear()
    assert f"ok {NAME}".encode() in server.push_whole(Push("c", ((NAME, second.oid, third.oid),), third.objects))
    assert looks
    assert third.oid == git(path, "rev-parse", NAME)
    git(path, "fsck", "--strict")


def test_packs_that_wait_to_be_listed_are_few(path: Path, looks: list[Repository]) -> None:
    server, second = started(path)
    count = 2 * EXPECTED_MAX + 3
    for number in range(count):
        git(path, "update-ref", f"refs/heads/n{number}", second.oid)
    list_refs(server)
    looks.clear()
    for number in range(count):
        third = make_commit(second.oid, f"third {number}", b"third %d\n" % number)
        name = f"refs/heads/n{number}"
        push = Push(f"n{number}", ((name, second.oid, third.oid),), third.objects)
        assert f"ok {name}".encode() in server.push_whole(push)
    assert count * ON_OLD_LOOKS + 2 * (1 - ON_OLD_LOOKS) == len(looks)
    git(path, "fsck", "--strict")
