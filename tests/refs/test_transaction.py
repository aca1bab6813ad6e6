import os
import stat
import threading

import pytest

from govc.errors import RefUpdateRefused
from govc.protocol.oid import SHA1
from govc.refs.plan import ANY, RefUpdate, split_by_conflict
from govc.refs.reflog import LogUpdates
from govc.refs.symref import set_symref
from govc.refs.transaction import RefTransaction

ZERO = SHA1.zero


def begin(repo, *updates, database=None, sleep=lambda seconds: None, **options):
    transaction = RefTransaction(
        database or repo.database(),
        committer=b"C <c@example.com>",
        message=b"push",
        clock=lambda: 1700000000,
        sleep=sleep,
        **options,
    )
    for update in updates:
        transaction.add(RefUpdate(*update))
    return transaction


def run(repo, *updates, **options):
    """Prepare and commit; return {name: (reason, detail)} of what was refused."""
    transaction = begin(repo, *updates, **options)
    refused = transaction.prepare()
    assert transaction.commit() == {}
    leftovers = [name for _, _, names in os.walk(repo.path) for name in names if name.endswith((".lock", ".new"))]
    assert leftovers == []
    return {name: (error.reason, error.detail) for name, error in refused.items()}


def test_a_created_ref_is_there_for_git(repo):
    assert run(repo, (b"refs/heads/main", ZERO, repo.first), fsync=True) == {}
    assert {"refs/heads/main": repo.first.hex()} == repo.refs()
    repo.git("fsck", "--strict")


def test_nothing_changes_before_commit_and_rollback_leaves_no_trace(repo):
    transaction = begin(repo, (b"refs/heads/x/y", ZERO, repo.first), log_updates=LogUpdates.ALWAYS)
    assert transaction.prepare() == {}
    assert repo.refs() == {}
    transaction.rollback()
    assert os.listdir(repo.path / "refs/heads") == []
    assert not (repo.path / "logs/refs/heads/x/y").exists()


def test_update_delete_and_stale_values_stand_alone(repo):
    for name in "a", "b", "c":
        repo.git("update-ref", f"refs/heads/{name}", repo.first.hex())
    repo.git("pack-refs", "--all")
    repo.git("update-ref", "refs/heads/a", repo.second.hex())
    refused = run(
        repo,
        (b"refs/heads/a", repo.second, ZERO),
        (b"refs/heads/b", repo.first, repo.second),
        (b"refs/heads/c", repo.second, repo.first),
        (b"refs/heads/d", repo.first, repo.second),
        (b"refs/tags/t", ZERO, repo.tag),
    )
    first, second = repo.first.hex(), repo.second.hex()
    assert {
        b"refs/heads/c": (
            "incorrect old value provided",
            f"cannot lock ref 'refs/heads/c': is at {first} but expected {second}",
        ),
        b"refs/heads/d": (
            "reference does not exist",
            "cannot lock ref 'refs/heads/d': unable to resolve reference 'refs/heads/d'",
        ),
    } == refused
    assert {"refs/heads/b": second, "refs/heads/c": first, "refs/tags/t": repo.tag.hex()} == repo.refs()
    assert "refs/heads/a" not in (repo.path / "packed-refs").read_text()


def test_creating_what_exists_is_refused(repo):
    repo.git("update-ref", "refs/heads/a", repo.first.hex())
    expected = ("reference already exists", "cannot lock ref 'refs/heads/a': reference already exists")
    assert {b"refs/heads/a": expected} == run(repo, (b"refs/heads/a", ZERO, repo.second))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("there", "wanted"), [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a")])
def test_a_ref_cannot_be_file_and_folder(repo, there, wanted, packed):
    repo.git("update-ref", f"refs/heads/{there}", repo.first.hex())
    if packed:
        repo.git("pack-refs", "--all")
    name = f"refs/heads/{wanted}"
    detail = f"cannot lock ref '{name}': 'refs/heads/{there}' exists; cannot create '{name}'"
    assert {name.encode(): ("refname conflict", detail)} == run(repo, (name.encode(), ZERO, repo.first))
    assert {f"refs/heads/{there}": repo.first.hex()} == repo.refs()


def test_conflict_inside_a_transaction_and_its_way_out_in_two_steps(repo):
    repo.git("update-ref", "refs/heads/a", repo.first.hex())
    updates = [
        RefUpdate(b"refs/heads/a", repo.first, ZERO),
        RefUpdate(b"refs/heads/a/b", ZERO, repo.second),
        RefUpdate(b"refs/heads/z", ZERO, repo.second),
    ]
    with begin(repo, *updates[:2]) as transaction:
        assert set(transaction.prepare()) == {b"refs/heads/a/b"}
    steps = split_by_conflict(updates, ZERO)
    assert (tuple(updates[:1]), tuple(updates[1:])) == steps
    for step in steps:
        assert run(repo, *step) == {}
    assert {"refs/heads/a/b", "refs/heads/z"} == set(repo.refs())
    assert (tuple(updates[1:]),) == split_by_conflict(updates[1:], ZERO)


def test_empty_folders_in_the_way_are_removed(repo):
    os.makedirs(repo.path / "refs/heads/x/y/z")
    assert run(repo, (b"refs/heads/x", ZERO, repo.first)) == {}
    assert {"refs/heads/x": repo.first.hex()} == repo.refs()


def test_empty_folders_that_git_removes_at_the_same_time_are_not_in_the_way(repo, monkeypatch):
    below = repo.path / "refs/heads/x/y/z"
    os.makedirs(below)
    walk = os.walk

    def walk_then_prune(*arguments, **options):
        found = list(walk(*arguments, **options))
        below.rmdir()
        return iter(found)

    monkeypatch.setattr(os, "walk", walk_then_prune)
    with begin(repo, (b"refs/heads/x", ZERO, repo.first)) as transaction:
        assert transaction.prepare() == {}
        assert not below.exists()
        monkeypatch.undo()
        assert transaction.commit() == {}
    assert {"refs/heads/x": repo.first.hex()} == repo.refs()


def test_a_folder_that_git_removes_while_it_is_looked_at_is_no_broken_ref(repo, monkeypatch):
    folder = repo.path / "refs/heads/x"
    folder.mkdir(parents=True)
    fstat = os.fstat

    def look_then_prune(descriptor):
        status = fstat(descriptor)
        if stat.S_ISDIR(status.st_mode) and folder.exists():
            folder.rmdir()
        return status

    monkeypatch.setattr(os, "fstat", look_then_prune)
    assert repo.database().read_loose(b"refs/heads/x") is None
    assert not folder.exists()
    folder.mkdir()
    assert run(repo, (b"refs/heads/x", ZERO, repo.first)) == {}
    assert {"refs/heads/x": repo.first.hex()} == repo.refs()


@pytest.mark.parametrize("packed", [False, True])
def test_the_lock_of_a_ref_below_is_in_the_way_before_anything_is_staged(repo, packed):
    if packed:
        repo.git("update-ref", "refs/heads/x", repo.first.hex())
        repo.git("pack-refs", "--all")
    os.makedirs(repo.path / "refs/heads/x", exist_ok=True)
    (repo.path / "refs/heads/x/y.lock").touch()
    with begin(repo, (b"refs/heads/x", repo.first if packed else ZERO, repo.second)) as transaction:
        (error,) = transaction.prepare().values()
    blocked = "there is a non-empty directory 'refs/heads/x' blocking reference 'refs/heads/x'"
    assert (error.reason, error.detail) == ("failed to update ref", f"cannot lock ref 'refs/heads/x': {blocked}")
    assert not (repo.path / "refs/heads/x.lock").exists()


def test_a_packed_ref_can_be_deleted_where_a_folder_has_its_name(repo):
    repo.git("update-ref", "refs/heads/x", repo.first.hex())
    repo.git("pack-refs", "--all")
    os.makedirs(repo.path / "refs/heads/x")
    assert run(repo, (b"refs/heads/x", repo.first, ZERO)) == {}
    assert repo.refs() == {}


def test_deleting_prunes_folders_and_the_reflog(repo):
    repo.git("config", "core.logAllRefUpdates", "true")
    repo.git("update-ref", "refs/heads/a/b/c", repo.first.hex())
    assert (repo.path / "logs/refs/heads/a/b/c").exists()
    assert run(repo, (b"refs/heads/a/b/c", ANY, ZERO)) == {}
    assert os.listdir(repo.path / "refs/heads") == []
    assert os.listdir(repo.path / "logs/refs/heads") == []


def test_deleting_an_absent_ref_is_fine(repo):
    assert run(repo, (b"refs/heads/a", ANY, ZERO), (b"refs/heads/b/c", ZERO, ZERO)) == {}


def test_a_broken_ref_can_be_deleted_and_not_updated(repo):
    (repo.path / "refs/heads/x").write_text("garbage\n")
    refused = run(repo, (b"refs/heads/x", ANY, repo.first))
    assert refused[b"refs/heads/x"][0] == "failed to update ref"
    assert run(repo, (b"refs/heads/x", ANY, ZERO)) == {}
    assert not (repo.path / "refs/heads/x").exists()


def test_a_push_to_a_symref_moves_its_target(repo):
    repo.git("symbolic-ref", "refs/heads/s", "refs/heads/main")
    assert run(repo, (b"refs/heads/s", ZERO, repo.first)) == {}
    assert repo.first.hex() == repo.refs()["refs/heads/main"]
    assert repo.git("symbolic-ref", "refs/heads/s").strip() == "refs/heads/main"
    both = [(b"refs/heads/s", repo.first, repo.second), (b"refs/heads/main", repo.first, repo.second)]
    assert run(repo, *both) == {}
    assert repo.second.hex() == repo.refs()["refs/heads/main"]
    unlike = [(b"refs/heads/s", repo.second, repo.first), (b"refs/heads/main", repo.second, ZERO)]
    reasons = {name: reason for name, (reason, _) in run(repo, *unlike).items()}
    text = "inconsistent aliased update"
    assert {b"refs/heads/s": text, b"refs/heads/main": text} == reasons


def test_one_ref_twice_is_refused(repo):
    refused = run(repo, (b"refs/heads/a", ZERO, repo.first), (b"refs/heads/a", ZERO, repo.second))
    detail = "multiple updates for ref 'refs/heads/a' not allowed"
    assert {b"refs/heads/a": ("failed to update refs", detail)} == refused


@pytest.mark.parametrize("name", [b"config", b"refs/../config", b"refs/heads/../../x", b"refs/heads/a.lock", b""])
def test_no_name_leaves_refs(repo, name):
    before = (repo.path / "config").read_bytes()
    assert {name: ("funny refname", "")} == run(repo, (name, ANY, repo.first))
    assert before == (repo.path / "config").read_bytes()


def test_an_overlong_name_is_refused_without_a_path(repo):
    name = b"refs/heads/" + b"n" * 300
    reason, detail = run(repo, (name, ZERO, repo.first))[name]
    assert reason == "failed to update ref"
    assert detail.endswith("File name too long.")
    assert str(repo.path) not in detail


def test_a_foreign_lock_is_waited_for_and_left_alone(repo):
    lock = repo.path / "refs/heads/a.lock"
    lock.write_text("")
    pauses: list[float] = []
    transaction = begin(
        repo, (b"refs/heads/a", ZERO, repo.first), (b"refs/heads/b", ZERO, repo.first), sleep=pauses.append
    )
    refused = transaction.prepare()
    transaction.commit()
    detail = "cannot lock ref 'refs/heads/a': Unable to create 'refs/heads/a.lock': File exists."
    assert {b"refs/heads/a": detail} == {name: error.detail for name, error in refused.items()}
    assert pytest.approx(sum(pauses)) == 0.1
    assert lock.exists()
    assert {"refs/heads/b"} == set(repo.refs())


def test_a_lock_that_goes_away_in_time_is_taken(repo):
    lock = repo.path / "refs/heads/a.lock"
    lock.write_text("")
    assert run(repo, (b"refs/heads/a", ZERO, repo.first), sleep=lambda seconds: lock.unlink()) == {}
    assert {"refs/heads/a"} == set(repo.refs())


def test_a_locked_packed_refs_refuses_deletions_only(repo):
    repo.git("update-ref", "refs/heads/a", repo.first.hex())
    lock = repo.path / "packed-refs.lock"
    lock.write_text("")
    transaction = begin(repo, (b"refs/heads/a", ANY, ZERO), (b"refs/heads/b", ZERO, repo.first))
    assert {b"refs/heads/a"} == set(transaction.prepare())
    assert transaction.commit() == {}
    assert lock.exists()
    assert {"refs/heads/a", "refs/heads/b"} == set(repo.refs())


def test_reflogs_of_branch_and_head_read_by_git(repo):
    run(repo, (b"refs/heads/main", ZERO, repo.first), log_updates=LogUpdates.BRANCHES)
    run(repo, (b"refs/heads/main", repo.first, repo.second), log_updates=LogUpdates.NONE)
    run(repo, (b"refs/tags/t", ZERO, repo.first), log_updates=LogUpdates.BRANCHES)
    line = f"{repo.first.hex()} {repo.second.hex()} C <c@example.com> 1700000000 +0000\tpush\n"
    for path in "logs/refs/heads/main", "logs/HEAD":
        assert (repo.path / path).read_text().endswith(line)
    assert len(repo.git("reflog", "show", "main").splitlines()) == 2
    assert not (repo.path / "logs/refs/tags/t").exists()


def test_no_reflog_in_a_bare_repository_by_default(repo):
    run(repo, (b"refs/heads/main", ZERO, repo.first))
    assert not (repo.path / "logs").exists()


def test_an_orphaned_log_gives_way(repo):
    os.makedirs(repo.path / "logs/refs/heads")
    (repo.path / "logs/refs/heads/a").write_text("")
    assert run(repo, (b"refs/heads/a/b", ZERO, repo.first), log_updates=LogUpdates.ALWAYS) == {}
    assert (repo.path / "logs/refs/heads/a/b").is_file()


def test_thousands_of_new_refs_go_into_packed_refs(repo):
    names = [b"refs/heads/n%04d" % number for number in range(3000)]
    updates = [(name, ZERO, repo.first) for name in names] + [(b"refs/tags/t", ZERO, repo.tag)]
    assert run(repo, *updates, peel=repo.peel, log_updates=LogUpdates.ALWAYS) == {}
    assert os.listdir(repo.path / "refs/heads") == []
    assert len(repo.refs()) == 3001
    assert f"^{repo.first.hex()}" in (repo.path / "packed-refs").read_text()
    assert run(repo, *[(name, repo.first, ZERO) for name in names]) == {}
    assert {"refs/tags/t": repo.tag.hex()} == repo.refs()
    repo.git("fsck")


def test_a_change_that_changes_nothing_writes_nothing(repo):
    run(repo, (b"refs/heads/main", ZERO, repo.first))
    inode = os.stat(repo.path / "refs/heads/main").st_ino
    assert run(repo, (b"refs/heads/main", repo.first, repo.first), log_updates=LogUpdates.ALWAYS) == {}
    assert inode == os.stat(repo.path / "refs/heads/main").st_ino


def test_of_two_pushes_to_one_ref_one_wins(repo):
    run(repo, (b"refs/heads/main", ZERO, repo.first))
    outcomes: list[int] = []

    def push() -> None:
        refused = begin(repo, (b"refs/heads/main", repo.first, repo.second))
        outcomes.append(len(refused.prepare()))
        refused.commit()

    threads = [threading.Thread(target=push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [0, 1, 1, 1]


def test_head_is_pointed_elsewhere(repo):
    set_symref(repo.database(), b"HEAD", b"refs/heads/other", sleep=lambda seconds: None, fsync=True)
    assert repo.git("symbolic-ref", "HEAD").strip() == "refs/heads/other"
    with pytest.raises(RefUpdateRefused):
        set_symref(repo.database(), b"HEAD", b"config", sleep=lambda seconds: None)
    with pytest.raises(RefUpdateRefused):
        set_symref(repo.database(), b"../x", b"refs/heads/a", sleep=lambda seconds: None)
