"""Transactions of the reftable backend refuse and change what those of the files backend do (test_transaction.py)."""

import os
import threading

import pytest

from govc import disk
from govc.errors import RefUpdateRefused
from govc.protocol.oid import SHA256
from govc.refs.backend import LogUpdates
from govc.refs.plan import ANY
from govc.refs.reftable.merged import merge_logs
from govc.refs.reftable.stack import Stack
from tests.refs.reftable.conftest import ONE, TAG, THREE, TWO, ZERO, Store


def logs_of(store, name):
    tables = store.backend().load().stacks[0].tables
    return [
        (log.entry.old, log.entry.new, log.entry.name, log.entry.email, log.entry.seconds, log.entry.message)
        for log in merge_logs(tables, name, drop_tombstones=True)
    ]


def test_a_transaction_is_one_table(store):
    before = store.names()
    assert store.run((b"refs/heads/main", ZERO, ONE), (b"refs/tags/t", ZERO, TAG)) == {}
    assert store.names()[:-1] == before
    assert store.names()[-1].startswith("0x000000000002-0x000000000002-")
    assert {b"refs/heads/main": ONE, b"refs/tags/t": TAG} == store.refs()
    table = store.backend().load().table
    assert (b"refs/heads/main", ONE, False) == table.head
    assert table.get(b"refs/tags/t").peeled == ONE
    assert table.head.symref_target == b"refs/heads/main"


def test_nothing_changes_before_commit_and_rollback_leaves_no_trace(store):
    before = store.names()
    transaction = store.begin((b"refs/heads/x", ZERO, ONE), log=LogUpdates.ALWAYS)
    assert transaction.prepare() == {}
    assert [(b"refs/heads/x", ZERO, ONE)] == transaction.prepared()
    assert store.refs() == {}
    assert store.names() == before
    transaction.rollback()
    assert store.leftovers() == []
    assert transaction.commit() == {}
    assert store.refs() == {}


def test_commit_only_renames(store, monkeypatch):
    transaction = store.begin((b"refs/heads/x", ZERO, ONE), log=LogUpdates.ALWAYS)
    assert transaction.prepare() == {}
    calls = []

    class Watched(disk.Disk):
        def rename(self, source, target):
            calls.append(("rename", os.path.basename(target)))
            super().rename(source, target)

        def open(self, path, flags, mode=0o666):
            raise AssertionError(f"opened {path}")

        def write(self, descriptor, data):
            raise AssertionError("written")

    with disk.use(Watched()):
        assert transaction.commit() == {}
    assert [("rename", store.names()[-1]), ("rename", "tables.list")] == calls


def test_update_delete_and_stale_values_stand_alone(store):
    store.run(*((b"refs/heads/" + name, ZERO, ONE) for name in (b"a", b"b", b"c")))
    refused = store.run(
        (b"refs/heads/a", ONE, ZERO),
        (b"refs/heads/b", ONE, TWO),
        (b"refs/heads/c", TWO, ONE),
        (b"refs/heads/d", ONE, TWO),
        (b"refs/heads/e", ZERO, THREE),
    )
    one, two = ONE.hex(), TWO.hex()
    assert {
        b"refs/heads/c": (
            "incorrect old value provided",
            f"cannot lock ref 'refs/heads/c': is at {one} but expected {two}",
        ),
        b"refs/heads/d": (
            "reference does not exist",
            "cannot lock ref 'refs/heads/d': unable to resolve reference 'refs/heads/d'",
        ),
    } == refused
    assert {b"refs/heads/b": TWO, b"refs/heads/c": ONE, b"refs/heads/e": THREE} == store.refs()


def test_creating_what_exists_is_refused(store):
    store.run((b"refs/heads/a", ZERO, ONE))
    expected = ("reference already exists", "cannot lock ref 'refs/heads/a': reference already exists")
    assert {b"refs/heads/a": expected} == store.run((b"refs/heads/a", ZERO, TWO))


@pytest.mark.rows("FS-48")
@pytest.mark.parametrize(("there", "wanted"), [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a"), ("a", "a/b/c")])
def test_a_ref_cannot_be_above_another(store, there, wanted):
    store.run((f"refs/heads/{there}".encode(), ZERO, ONE))
    name = f"refs/heads/{wanted}"
    detail = f"cannot lock ref '{name}': 'refs/heads/{there}' exists; cannot create '{name}'"
    assert {name.encode(): ("refname conflict", detail)} == store.run((name.encode(), ZERO, ONE))
    store.run((f"refs/heads/{there}".encode(), ONE, ZERO))
    assert store.run((name.encode(), ZERO, ONE)) == {}


def test_conflicts_inside_a_transaction(store):
    store.run((b"refs/heads/a", ZERO, ONE))
    refused = store.run((b"refs/heads/a", ONE, ZERO), (b"refs/heads/a/b", ZERO, TWO), (b"refs/heads/z", ZERO, TWO))
    assert {b"refs/heads/a/b"} == set(refused)
    assert {b"refs/heads/z": TWO} == store.refs()


def test_deleting_an_absent_ref_is_fine_and_writes_nothing(store):
    before = store.names()
    assert store.run((b"refs/heads/a", ANY, ZERO), (b"refs/heads/b/c", ZERO, ZERO)) == {}
    assert before == store.names()


def test_a_change_that_changes_nothing_writes_nothing(store):
    store.run((b"refs/heads/main", ZERO, ONE))
    before = store.names()
    assert store.run((b"refs/heads/main", ONE, ONE), log=LogUpdates.ALWAYS) == {}
    assert before == store.names()


def test_a_push_to_a_symref_moves_its_target(store):
    store.shared.set_symref(b"refs/heads/s", b"refs/heads/main", store.options)
    assert store.run((b"refs/heads/s", ZERO, ONE)) == {}
    assert {b"refs/heads/main": ONE, b"refs/heads/s": ONE} == store.refs()
    assert store.run((b"refs/heads/s", ONE, TWO), (b"refs/heads/main", ONE, TWO)) == {}
    assert {b"refs/heads/main": TWO, b"refs/heads/s": TWO} == store.refs()
    text = "inconsistent aliased update"
    refused = store.run((b"refs/heads/s", TWO, ONE), (b"refs/heads/main", TWO, ZERO))
    assert {b"refs/heads/s": text, b"refs/heads/main": text} == {name: reason for name, (reason, _) in refused.items()}
    assert store.backend().load().table.get(b"refs/heads/s").symref_target == b"refs/heads/main"


def test_a_circle_of_symrefs_is_broken(store):
    store.shared.set_symref(b"refs/heads/a", b"refs/heads/b", store.options)
    store.shared.set_symref(b"refs/heads/b", b"refs/heads/a", store.options)
    assert store.run((b"refs/heads/a", ZERO, ONE))[b"refs/heads/a"][0] == "broken symref"


def test_one_ref_twice_is_refused(store):
    refused = store.run((b"refs/heads/a", ZERO, ONE), (b"refs/heads/a", ZERO, TWO))
    detail = "multiple updates for ref 'refs/heads/a' not allowed"
    assert {b"refs/heads/a": ("failed to update refs", detail)} == refused


@pytest.mark.parametrize("name", [b"config", b"refs/../config", b"refs/heads/../../x", b"refs/heads/a.lock", b""])
def test_no_name_leaves_refs(store, name):
    assert {name: ("funny refname", "")} == store.run((name, ANY, ONE))


def test_an_overlong_name_is_refused_alone(store):
    name = b"refs/heads/" + b"n" * 5000
    refused = store.run((name, ZERO, ONE), (b"refs/heads/a", ZERO, ONE))
    assert {name} == set(refused)
    assert refused[name][0] == "failed to update ref"
    assert {b"refs/heads/a": ONE} == store.refs()


def test_a_foreign_lock_is_waited_for_and_left_alone(store):
    lock = store.path / "reftable/tables.list.lock"
    lock.write_text("")
    transaction = store.begin((b"refs/heads/a", ZERO, ONE), (b"refs/heads/b", ZERO, ONE))
    refused = transaction.prepare()
    assert transaction.commit() == {}
    assert {b"refs/heads/a", b"refs/heads/b"} == set(refused)
    assert {"failed to update refs"} == {error.reason for error in refused.values()}
    assert sorted(error.detail for error in refused.values()) == ["", "cannot lock references"]
    assert lock.exists()


@pytest.mark.rows("FS-47", "CF-58")
@pytest.mark.parametrize("timeout_ms", [0, 100, 350])
def test_the_lock_is_waited_for_as_long_as_configured(store, timeout_ms):
    (store.path / "reftable/tables.list.lock").write_text("")
    pauses = []
    store.use(lock_timeout_ms=timeout_ms)
    object.__setattr__(store.options, "sleep", pauses.append)
    store.begin((b"refs/heads/a", ZERO, ONE)).prepare()
    assert sum(pauses) == pytest.approx(timeout_ms / 1000)


def test_a_full_disk_refuses_and_leaves_nothing(store):
    class Full(disk.Disk):
        def write(self, descriptor, data):
            raise OSError(28, "No space left on device")

    before = store.names()
    transaction = store.begin((b"refs/heads/a", ZERO, ONE))
    with disk.use(Full()):
        refused = transaction.prepare()
    assert refused[b"refs/heads/a"].detail == "No space left on device"
    assert transaction.commit() == {}
    assert before == store.names()
    assert store.leftovers() == []


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_changes_nothing(store, failing):
    class Failing(disk.Disk):
        count = 0

        def rename(self, source, target):
            self.count += 1
            if self.count == failing:
                raise OSError(5, "Input/output error")
            super().rename(source, target)

    before = store.names()
    transaction = store.begin((b"refs/heads/a", ZERO, ONE))
    assert transaction.prepare() == {}
    with disk.use(Failing()):
        assert {b"refs/heads/a"} == set(transaction.commit())
    assert before == store.names()
    assert store.leftovers() == []


def test_a_table_that_is_gone_refuses_everything(store):
    store.run((b"refs/heads/a", ZERO, ONE))
    (store.path / "reftable" / store.names()[-1]).unlink()
    store.shared = store.backend()
    refused = store.run((b"refs/heads/b", ZERO, ONE))
    assert refused[b"refs/heads/b"][0] == "failed to update refs"
    assert "not there" in refused[b"refs/heads/b"][1]


# Reflogs


@pytest.mark.rows("FS-44", "RP-90", "RP-91")
def test_reflogs_of_branch_and_head(store):
    who = (b"C O", b"c@example.com", 1700000000)
    store.run((b"refs/heads/main", ZERO, ONE), (b"refs/tags/t", ZERO, ONE), log=LogUpdates.BRANCHES)
    store.run((b"refs/heads/main", ONE, TWO), message=b"  two\n words ")
    expected = [(ONE, TWO, *who, b"two words\n"), (ZERO, ONE, *who, b"push\n")]
    assert expected == logs_of(store, b"refs/heads/main") == logs_of(store, b"HEAD")
    assert logs_of(store, b"refs/tags/t") == []


def test_no_reflog_in_a_bare_repository_by_default(store):
    store.run((b"refs/heads/main", ZERO, ONE))
    assert logs_of(store, b"refs/heads/main") == logs_of(store, b"HEAD") == []


@pytest.mark.rows("FS-45", "RP-66")
def test_deleting_takes_the_reflog_along_and_head_keeps_its_own(store):
    store.run((b"refs/heads/main", ZERO, ONE), (b"refs/heads/b", ZERO, ONE), log=LogUpdates.ALWAYS)
    store.run((b"refs/heads/main", ONE, TWO), log=LogUpdates.ALWAYS)
    store.run((b"refs/heads/main", TWO, ZERO), log=LogUpdates.ALWAYS)
    assert logs_of(store, b"refs/heads/main") == []
    assert [(TWO, ZERO), (ONE, TWO), (ZERO, ONE)] == [log[:2] for log in logs_of(store, b"HEAD")]
    store.run((b"refs/heads/main/x", ZERO, ONE), log=LogUpdates.ALWAYS)
    assert len(logs_of(store, b"refs/heads/main/x")) == 1
    store.run((b"refs/heads/main/x", ONE, ZERO), (b"refs/heads/b", ONE, ZERO))
    store.run((b"refs/heads/b", ZERO, THREE))
    assert logs_of(store, b"refs/heads/b") == []


def test_a_symref_by_which_a_ref_was_named_gets_a_line_too(store):
    store.shared.set_symref(b"refs/heads/s", b"refs/heads/x", store.options)
    store.run((b"refs/heads/s", ZERO, ONE), log=LogUpdates.ALWAYS)
    assert len(logs_of(store, b"refs/heads/s")) == len(logs_of(store, b"refs/heads/x")) == 1


def test_a_detached_head_is_moved_by_its_name(store):
    store.run((b"HEAD", ZERO, ONE))
    assert {b"refs/heads/main": ONE} == store.refs()
    tables = Stack(str(store.path / "reftable"), store.algo)
    assert tables.find_ref(b"HEAD").target == b"refs/heads/main"


# Symrefs, other hashes, many at once


def test_head_is_pointed_elsewhere(store):
    store.shared.set_symref(b"HEAD", b"refs/heads/other", store.options)
    assert store.backend().load().table.head.symref_target == b"refs/heads/other"
    assert store.backend().read_head().target == b"refs/heads/other"
    for name, target in ((b"HEAD", b"config"), (b"../x", b"refs/heads/a")):
        with pytest.raises(RefUpdateRefused):
            store.shared.set_symref(name, target, store.options)
    (store.path / "reftable/tables.list.lock").write_text("")
    with pytest.raises(RefUpdateRefused):
        store.shared.set_symref(b"HEAD", b"refs/heads/a", store.options)


def test_sha256(tmp_path):
    store = Store(tmp_path / "r.git", SHA256)
    zero, one = SHA256.zero, b"\x11" * 32
    assert store.run((b"refs/heads/main", zero, one), log=LogUpdates.ALWAYS) == {}
    assert {b"refs/heads/main": one} == store.refs()
    assert logs_of(store, b"HEAD")[0][:2] == (zero, one)


def test_of_many_pushes_to_one_ref_one_wins(store):
    store.run((b"refs/heads/main", ZERO, ONE))
    outcomes = []

    def push():
        transaction = store.begin((b"refs/heads/main", ONE, TWO))
        outcomes.append(len(transaction.prepare()))
        transaction.commit()

    threads = [threading.Thread(target=push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [0, 1, 1, 1]


def test_many_pushes_to_different_refs_all_succeed(store):
    store.use(lock_timeout_ms=-1)
    object.__setattr__(store.options, "sleep", lambda seconds: threading.Event().wait(seconds / 20))
    failed = []

    def push(number):
        transaction = store.begin((b"refs/heads/n%d" % number, ZERO, ONE))
        failed.extend(transaction.prepare())
        failed.extend(transaction.commit())
        store.shared.tidy(store.options)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(store.refs()) == 12
    assert store.leftovers() == []
