import io
import os
import shutil
import sys
from dataclasses import replace

import pytest

from govc import disk
from govc.app import create_app
from govc.refs.plan import RefUpdate
from govc.repo import recovery as recovery_room
from govc.repo.checkpoint_schedule import checkpoint_path, load_site
from govc.repo.checkpointing import checkpoint
from govc.repo.open_journal import may_need_recovery, open_journal
from govc.repo.runtime import PLAIN
from govc.service.backend import Backend
from govc.service.context import UPLOAD_PACK, RequestContext
from govc.settings import Settings
from govc.wal.errors import LogBlocked, LogDamaged, LogForeign
from govc.wal.reader import LogReader
from govc.wal.segment import list_segments, segment_path
from govc.web.cgi import make_environ

from .logged import ENVIRONMENT, ZERO, Logged, git, restart_machine, run_and_die

MAIN = b"refs/heads/main"


@pytest.fixture
def world(tmp_path):
    made = Logged(tmp_path)
    yield made
    made.repository.close()


DIE = """
import os, sys
from govc import disk
from govc.odb.cache import BaseCache
from govc.refs.plan import RefUpdate
from govc.repo.journal import JournalOptions
from govc.repo.repository import Repository, Surroundings
from govc.repo.writing import Origin, RefWriter

class Dying(disk.Disk):
    def rename(self, source, target):
        if target.endswith(sys.argv[2]):
            os._exit(9)
        super().rename(source, target)
    def sync_data(self, descriptor):
        if sys.argv[2] == "sync":
            os._exit(9)
        super().sync_data(descriptor)

around = Surroundings(environ=os.environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30)
repository = Repository(os.path.realpath(sys.argv[1]), around)
origin = Origin(committer=b"c <c@x>", message=b"push")
updates = [RefUpdate(*(part if i == 0 else bytes.fromhex(part) for i, part in enumerate(
    (lambda n, o, w: (n.encode(), o, w))(*text.split(","))))) for text in sys.argv[3:]]
with disk.use(Dying()):
    RefWriter(repository, repository.snapshot(), origin, JournalOptions()).change(updates)
os._exit(0)
"""


def die(world, where, *updates):
    """Another process changes refs and dies where the file `where` would be renamed into place."""
    world.repository.close()
    run_and_die(DIE, world.path, where, *(f"{n.decode()},{o.hex()},{w.hex()}" for n, o, w in updates))


# Killed processes


def test_a_push_that_died_before_publishing_is_published_by_the_next_writer(world):
    first, second, third = (world.commit() for _ in range(3))
    world.push((MAIN, ZERO, first), (b"refs/heads/x", ZERO, second), (b"refs/heads/y", ZERO, third))
    die(world, "refs/heads/main", (MAIN, first, second))
    assert world.ref("main") == first
    assert world.locks()
    assert may_need_recovery(world.path)
    report = world.recover()
    assert (report.kind, report.records) == ("dead processes", 1)
    assert world.ref("main") == second
    assert world.locks() == []
    assert not may_need_recovery(world.path)


def test_a_half_published_push_is_finished(world):
    first, second = world.commit(), world.commit()
    world.push((b"refs/heads/a", ZERO, first), (b"refs/heads/b", ZERO, first), (b"refs/heads/z", ZERO, second))
    die(world, "refs/heads/b", (b"refs/heads/a", first, second), (b"refs/heads/b", first, second))
    assert (world.ref("a"), world.ref("b")) == (second, first)
    world.recover()
    assert (world.ref("a"), world.ref("b")) == (second, second)


def test_a_deletion_is_finished(world):
    first = world.commit()
    world.push((b"refs/heads/a", ZERO, first), (MAIN, ZERO, first))
    git(world.path, "pack-refs", "--all")
    die(world, "packed-refs", (b"refs/heads/a", first, ZERO))
    assert world.ref("a") == first
    world.recover()
    assert world.ref("a") is None
    assert world.ref("main") == first
    assert world.locks() == []
    git(world.path, "update-ref", "refs/heads/a", first.hex())


def test_a_lock_of_another_program_defers_what_has_to_be_finished(world):
    """Nobody is shown the ref whose deletion was acknowledged, and nobody has to wait for an administrator."""
    first = world.commit()
    world.push((b"refs/heads/a", ZERO, first), (MAIN, ZERO, first))
    git(world.path, "pack-refs", "--all")
    die(world, "packed-refs", (b"refs/heads/a", first, ZERO))
    lock = f"{world.path}/packed-refs.lock"
    os.unlink(lock)  # the dead one's
    with open(lock, "x"):
        app = create_app(Settings(root=os.path.dirname(world.path), export_all=True, cache_bytes_max=0))
        status, headers, _ = ask(app)
        assert (status, headers["Retry-After"]) == ("503 Service Unavailable", "1")
        with pytest.raises(LogBlocked, match=r"Unable to create 'packed-refs\.lock': File exists"):
            world.recover()
    os.unlink(lock)
    status, _, body = ask(app)
    assert status == "200 OK"
    assert b"refs/heads/main" in body
    assert b"refs/heads/a\n" not in body


def ask(app):
    """The listing of a.git, as (status, headers, body)."""
    said = []
    environ = make_environ({"REQUEST_METHOD": "GET", "PATH_INFO": "/a.git/info/refs"}, io.BytesIO(), sys.stderr)
    chunks = app(environ, lambda status, headers, *rest: said.extend((status, dict(headers))))
    try:
        return (*said, b"".join(map(bytes, chunks)))
    finally:
        getattr(chunks, "close", lambda: None)()


def test_what_somebody_did_later_is_not_undone(world):
    first, second = world.commit(), world.commit()
    world.push((b"refs/heads/a", ZERO, first), (b"refs/heads/b", ZERO, first), (b"refs/heads/z", ZERO, second))
    die(world, "refs/heads/b", (b"refs/heads/a", first, second), (b"refs/heads/b", first, second))
    git(world.path, "update-ref", "refs/heads/a", first.hex())  # back, after it had been published
    world.recover()
    assert (world.ref("a"), world.ref("b")) == (first, second)


def test_a_push_that_died_before_its_record_leaves_only_locks_which_go(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first), (b"refs/heads/z", ZERO, second))
    before = len(world.records())
    world.repository.close()
    run_and_die(
        DIE.replace('== "sync"', '== "never"').replace(
            "    def sync_data", "    def pwrite(self, d, data, o):\n        os._exit(9)\n    def sync_data"
        ),
        world.path,
        "nothing",
        f"{MAIN.decode()},{first.hex()},{second.hex()}",
    )
    assert world.locks()
    world.recover()
    assert world.locks() == []
    assert world.ref("main") == first
    assert len(world.records()) == before


def test_a_record_of_a_process_that_died_in_its_sync_never_was(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first), (b"refs/heads/z", ZERO, second))
    die(world, "sync", (MAIN, first, second))
    world.recover()
    assert world.ref("main") == first
    assert world.locks() == []
    assert world.push((MAIN, first, second)) == {}
    assert world.ref("main") == second


def test_a_checkpoint_may_retire_what_a_recovery_is_about_to_read(world, monkeypatch):
    """A worker that starts under load: another one, or its helper, makes a checkpoint meanwhile."""
    oids = [world.commit(size=200_000) for _ in range(4)]
    for number, oid in enumerate(oids):
        world.push((b"refs/heads/%d" % number, ZERO, oid))
    site = load_site(os.path.realpath(world.path))
    beside, _ = open_journal(site, world.options)
    die(world, "refs/heads/0", (b"refs/heads/0", oids[0], oids[1]))
    retired = []

    class Overtaken(LogReader):
        def __iter__(self):
            for located in super().__iter__():
                yield located
                if not retired:
                    retired.append(checkpoint(beside, site).segments_retired)

    monkeypatch.setattr(recovery_room, "LogReader", Overtaken)
    report = world.recover()
    assert retired == [2]
    assert (report.kind, report.records) == ("dead processes", 1)
    assert world.ref("0") == oids[1]
    assert world.locks() == []
    beside.close()


def test_a_writer_that_meets_a_dead_lock_goes_on(world):
    first, second, third = (world.commit() for _ in range(3))
    world.push((MAIN, ZERO, first), (b"refs/heads/y", ZERO, second), (b"refs/heads/z", ZERO, third))
    journal = world.reopen().journal(world.options)
    run_and_die(DIE, world.path, "refs/heads/main", f"{MAIN.decode()},{first.hex()},{second.hex()}")
    assert world.repository.journal(world.options) is journal  # alive all the time
    assert world.push((MAIN, second, third)) == {}  # on top of what the dead one had recorded
    assert world.ref("main") == third


def test_plain_gits_locks_stay(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first), (b"refs/heads/z", ZERO, second))
    with open(f"{world.path}/refs/heads/main.lock", "w"):
        pass
    world.recover()
    assert world.locks() == [f"{world.path}/refs/heads/main.lock"]
    assert list(world.push((MAIN, first, second))) == [MAIN]


def test_reflogs_get_their_line_once(world):
    git(world.path, "config", "core.logAllRefUpdates", "true")
    first, second = world.commit(), world.commit()
    world.reopen()
    world.push((MAIN, ZERO, first), (b"refs/heads/z", ZERO, second))
    die(world, "refs/heads/main", (MAIN, first, second))
    world.recover()
    with open(f"{world.path}/logs/refs/heads/main") as file:
        lines = file.read().splitlines()
    assert [line.split()[:2] for line in lines] == [[ZERO.hex(), first.hex()], [first.hex(), second.hex()]]


DIE_LATER = DIE.replace(
    "with disk.use",
    """
from govc.wal.log import Log
Log.mark_published = lambda *arguments: None  # so far it doesn't come, all the time
def writer():
    return RefWriter(repository, repository.snapshot(), origin, JournalOptions())
first, outside, last = updates
assert writer().change([first]) == {}
os.system(f"git -C {sys.argv[1]} update-ref {outside.name.decode()} {outside.new.hex()} {outside.old.hex()}")
if sys.argv[2] == "prepared":
    steps = writer().change_in_steps([last])
    next(steps)
    steps.send(True)
    os._exit(9)
updates = [last]
with disk.use""",
)


@pytest.mark.parametrize("where", ["prepared", "refs/heads/a"])
@pytest.mark.parametrize("deleted", [False, True])
def test_a_lock_that_a_dead_writer_took_for_another_change_says_nothing_of_an_earlier_one(world, where, deleted):
    """Its earlier record is not marked as published yet, and what somebody else did since then stays."""
    oids = [world.commit() for _ in range(4)]
    world.push(*((b"refs/heads/%d" % n, ZERO, oid) for n, oid in enumerate(oids)))
    name = b"refs/heads/a"
    world.push((name, ZERO, oids[0]))
    ours = ZERO if deleted else oids[1]
    theirs = ZERO if deleted else oids[2]
    changes = ((name, oids[0], ours), (name, ours, theirs), (name, theirs, oids[3]))
    world.repository.close()
    run_and_die(
        DIE_LATER, world.path, where, *(f"{name.decode()},{old.hex()},{new.hex()}" for name, old, new in changes)
    )
    assert world.locks()
    world.recover()
    expected = oids[3] if where != "prepared" else None if deleted else oids[2]
    assert world.ref("a") == expected
    assert world.locks() == []


# Power cuts


def test_refs_and_packs_come_back_from_the_log(world, tmp_path, monkeypatch):
    first = world.commit()
    world.push((MAIN, ZERO, first))
    second = world.commit(first)
    world.push((MAIN, first, second), (b"refs/heads/b", ZERO, second), without=[first])
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    for name in os.listdir(f"{world.path}/objects/pack"):
        os.unlink(f"{world.path}/objects/pack/{name}")
    os.unlink(f"{world.path}/refs/heads/b")
    with open(f"{world.path}/refs/heads/main", "w"):
        pass  # torn
    report = world.recover()
    assert report.kind == "power cut"
    assert (report.records, report.packs_restored, report.refs_set) == (2, 2, 2)
    assert (world.ref("main"), world.ref("b")) == (second, second)
    world.fsck()
    assert world.recover().kind == "clean"


def test_a_torn_pack_is_put_back(world, tmp_path, monkeypatch):
    world.push((MAIN, ZERO, world.commit()))
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    folder = f"{world.path}/objects/pack"
    for name in os.listdir(folder):
        os.chmod(f"{folder}/{name}", 0o600)
        with open(f"{folder}/{name}", "r+b") as file:
            file.truncate(os.path.getsize(file.name) // 2)
    assert world.recover().packs_restored == 1
    world.fsck()


def test_a_large_pack_that_git_has_removed_comes_back_when_refs_need_it(world, tmp_path, monkeypatch):
    oid = world.commit(size=400_000)
    world.push((MAIN, ZERO, oid))
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    for name in os.listdir(f"{world.path}/objects/pack"):
        os.unlink(f"{world.path}/objects/pack/{name}")
    assert world.recover().packs_restored == 1
    world.fsck()
    assert world.ref("main") == oid


def test_an_older_value_of_its_own_is_moved_on_and_an_outsiders_stays(world, tmp_path, monkeypatch):
    first, second, third, foreign = (world.commit() for _ in range(4))
    git(world.path, "fetch", "-q", world.source, f"{foreign.hex()}:refs/heads/foreign")
    for name in (b"refs/heads/a", b"refs/heads/b"):
        world.push((name, ZERO, first))
        world.push((name, first, second))
        world.push((name, second, third))
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    with open(f"{world.path}/refs/heads/a", "w") as file:
        file.write(f"{first.hex()}\n")  # what the disk had
    with open(f"{world.path}/refs/heads/b", "w") as file:
        file.write(f"{foreign.hex()}\n")  # what plain git wrote after our pushes
    report = world.recover()
    assert (world.ref("a"), world.ref("b")) == (third, foreign)
    assert report.outside_changes_kept >= 1


def test_folding_does_not_replay_what_a_later_record_undid(world, tmp_path, monkeypatch):
    first = world.commit()
    world.push((b"refs/heads/a", ZERO, first))
    world.push((b"refs/heads/a", first, ZERO))
    world.push((b"refs/heads/a/b", ZERO, first))
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    os.unlink(f"{world.path}/refs/heads/a/b")
    os.rmdir(f"{world.path}/refs/heads/a")
    with open(f"{world.path}/refs/heads/a", "w") as file:
        file.write(f"{first.hex()}\n")  # the disk is two pushes behind
    world.recover()
    assert world.ref("refs/heads/a/b") == first
    assert not os.path.isfile(f"{world.path}/refs/heads/a")


def test_a_void_record_is_not_replayed(world, tmp_path, monkeypatch):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))

    class Failing(disk.Disk):
        def rename(self, source, target):
            if target.endswith("refs/heads/main"):
                raise OSError(5, "input/output error")
            super().rename(source, target)

    with disk.use(Failing()):
        assert world.push((MAIN, first, second))
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    world.recover()
    assert world.ref("main") == first


def test_a_torn_packed_refs_is_put_together_from_the_checkpoint(world, tmp_path, monkeypatch):
    oids = [world.commit() for _ in range(4)]
    world.push(*((b"refs/heads/%d" % n, ZERO, oid) for n, oid in enumerate(oids)))
    world.repository.close()
    checkpoint_path(world.path)
    git(world.path, "pack-refs", "--all")
    with open(f"{world.path}/packed-refs", "r+b") as file:
        file.truncate(70)
    restart_machine(monkeypatch, tmp_path)
    world.push((MAIN, ZERO, world.commit()))
    assert [world.ref(str(n)) for n in range(4)] == oids
    assert os.listdir(f"{world.path}/govc/torn")
    world.fsck()


def test_a_branch_that_git_deleted_after_the_checkpoint_stays_deleted(world, tmp_path, monkeypatch):
    first = world.commit()
    world.push((MAIN, ZERO, first), (b"refs/heads/gone", ZERO, first))
    git(world.path, "pack-refs", "--all")
    world.repository.close()
    checkpoint_path(world.path)
    git(world.path, "update-ref", "-d", "refs/heads/gone")
    restart_machine(monkeypatch, tmp_path)
    world.push((b"refs/heads/other", ZERO, world.commit()))
    assert world.ref("gone") is None
    assert world.ref("main") == first


def test_a_torn_tail_is_cut_off_and_counted(world, tmp_path, monkeypatch):
    first, second, third = (world.commit() for _ in range(3))
    world.push((MAIN, ZERO, first))
    world.push((MAIN, first, second))
    world.repository.close()
    folder = f"{world.path}/govc/log"
    last = list(LogReader(folder))[-1]
    with open(segment_path(folder, last.ordinal), "r+b") as file:
        file.seek(last.offset + last.record.size - 40)
        file.write(bytes(40))
    with open(f"{world.path}/refs/heads/main", "w") as file:
        file.write(f"{first.hex()}\n")
    restart_machine(monkeypatch, tmp_path)
    report = world.recover()
    assert report.torn_records == 1
    assert world.ref("main") == first
    assert world.push((MAIN, first, third)) == {}
    assert [record.sequence for record in world.records() if record.draft.refs][-1] >= 2


def test_damage_before_the_tail_stops_this_repository_and_changes_nothing(world, tmp_path, monkeypatch):
    first, second, third = (world.commit() for _ in range(3))
    world.push((MAIN, ZERO, first))
    world.push((MAIN, first, second))
    world.push((MAIN, second, third))
    world.repository.close()
    folder = f"{world.path}/govc/log"
    middle = list(LogReader(folder))[1]
    with open(segment_path(folder, middle.ordinal), "r+b") as file:
        file.seek(middle.offset + 100)
        file.write(b"\xff" * 8)
    with open(f"{world.path}/refs/heads/main", "w") as file:
        file.write(f"{first.hex()}\n")
    restart_machine(monkeypatch, tmp_path)
    with pytest.raises(LogDamaged, match="records up to 1 are whole"):
        world.recover()
    with pytest.raises(LogDamaged):
        world.reopen().recover(world.options)
    assert world.ref("main") == first
    report = world.recover(cut=True)
    assert report.kind == "power cut"
    assert world.push((MAIN, first, third)) == {}


def test_recovery_can_be_interrupted_and_done_again(world, tmp_path, monkeypatch):
    oids = [world.commit() for _ in range(3)]
    world.push(*((b"refs/heads/%d" % n, ZERO, oid) for n, oid in enumerate(oids)))
    world.repository.close()
    restart_machine(monkeypatch, tmp_path)
    for n in range(3):
        os.unlink(f"{world.path}/refs/heads/{n}")

    class Stopping(disk.Disk):
        def rename(self, source, target):
            if target.endswith("refs/heads/1"):
                raise KeyboardInterrupt
            super().rename(source, target)

    with disk.use(Stopping()), pytest.raises(KeyboardInterrupt):
        world.recover()
    assert world.recover().kind == "power cut"
    assert [world.ref(str(n)) for n in range(3)] == oids
    assert world.locks() == []


# Copies


def test_a_copied_repository_is_not_replayed(world, tmp_path):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first), (b"refs/heads/z", ZERO, second))
    world.repository.close()
    copy = f"{tmp_path}/copy.git"
    git(tmp_path, "init", "-q", "--bare", copy)
    os.system(f"cp -r {world.path}/. {copy}/")
    site = load_site(os.path.realpath(copy))
    with pytest.raises(LogForeign, match="copied or restored"):
        open_journal(site, world.options)
    # It is served as it was saved.
    world.path = copy
    world.reopen().recover(world.options)
    assert any(ref.oid == first for ref in world.repository.snapshot().table.iter_refs())
    report = world.recover(adopt=True)
    assert report.kind == "power cut"
    assert world.push((MAIN, first, second)) == {}
    assert list_segments(f"{copy}/govc/log")


def test_reading_needs_no_log(world):
    git(world.path, "fetch", "-q", world.source, f"{world.commit().hex()}:refs/heads/main")
    world.repository.recover(world.options)
    world.repository.snapshot()
    assert not os.path.exists(f"{world.path}/govc")


def test_every_kind_of_leftover_of_one_dead_process_goes_at_once(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first), (b"refs/heads/z", ZERO, second))
    die(world, "refs/heads/main", (MAIN, first, second))
    token = next(name for name in os.listdir(f"{world.path}/govc/locks") if name.endswith(".owner"))[:16]
    keep = f"{world.path}/objects/pack/pack-{'0' * 40}.keep"
    with open(keep, "w") as file:
        file.write(f"govc receive-pack {token}\n")
    torn = f"{world.path}/objects/pack/pack-{'2' * 40}.keep"
    open(f"{world.path}/govc/locks/{token}.0", "w").close()  # a power cut took its text
    os.link(f"{world.path}/govc/locks/{token}.0", torn)
    admins = f"{world.path}/objects/pack/pack-{'1' * 40}.keep"
    with open(admins, "w") as file:
        file.write("mine\n")
    world.recover()
    assert world.locks() == [admins]
    assert [name for name in os.listdir(f"{world.path}/govc/locks") if token in name] == []
    assert world.writer().change([RefUpdate(MAIN, second, first)]) == {}


def test_a_thread_is_taken_for_what_may_be_to_recover_only(world, tmp_path):
    """Most repositories have no log: to know that is one stat."""
    site = tmp_path / "served"
    git(tmp_path, "init", "-q", "--bare", str(site / "none.git"))
    world.push((MAIN, ZERO, world.commit()))
    shutil.copytree(world.path, site / "logged.git")
    called = []

    def call_blocking(function, *arguments):
        called.append(function.__name__)
        return function(*arguments)

    settings = Settings(root=str(site), export_all=True, helper_processes_max=0, cache_bytes_max=0)
    backend = Backend(settings, replace(PLAIN, call_blocking=call_blocking), ENVIRONMENT)
    for _ in range(2):
        backend.open("/none.git", context=RequestContext(service=UPLOAD_PACK))
    assert "recover" not in called
    for _ in range(2):
        backend.open("/logged.git", context=RequestContext(service=UPLOAD_PACK))
    assert called.count("recover") == 1
