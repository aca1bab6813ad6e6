import fcntl
import json
import os
import threading

import pytest
from click.testing import CliRunner

from govc import disk
from govc.cli import main as govc
from govc.repo import eager_recovery
from govc.repo.checkpoint_schedule import checkpoint_path, load_site
from govc.repo.checkpointing import checkpoint
from govc.repo.eager_recovery import iter_unretired, recover_all
from govc.repo.journal import JournalOptions
from govc.repo.log_view import verify
from govc.repo.retire import NotRetired, retire
from govc.wal import reader
from govc.wal.checkpoint import read_checkpoint
from govc.wal.errors import LogFailed
from govc.wal.segment import list_segments

from .logged import ZERO, CountingDisk, FailingSync, Logged, git, restart_machine

MAIN = b"refs/heads/main"


@pytest.fixture
def world(tmp_path):
    made = Logged(tmp_path)
    yield made
    made.repository.close()


def run(*arguments):
    return CliRunner().invoke(govc, [str(argument) for argument in arguments])


def test_a_log_that_another_worker_closes_while_it_is_looked_at_is_sound(world, monkeypatch):
    world.push((MAIN, ZERO, world.commit()))
    listed, closed = reader.list_segments, []

    def list_then_close(folder):
        found = listed(folder)
        if not closed:
            closed.append(found)
            journal, site = world.repository.journal(world.options), world.repository.site(world.options.sleep)
            checkpoint(journal, site, close_log=True)
        return found

    monkeypatch.setattr(reader, "list_segments", list_then_close)
    view = verify(world.path)
    assert closed[0] and not listed(f"{world.path}/govc/log")
    assert (view.damage, view.segments, view.records) == ("", 0, 0)
    assert view.checkpoint > 0


def test_after_a_checkpoint_the_log_is_not_needed(world, tmp_path, monkeypatch):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    world.push((MAIN, first, second), (b"refs/heads/b", ZERO, first))
    report = checkpoint_path(world.path)
    assert (report.records, report.sequence) == (2, 2)
    found = read_checkpoint(f"{world.path}/govc/checkpoint")
    assert found.changes == {MAIN: second, b"refs/heads/b": first}
    assert found.head == MAIN
    restart_machine(monkeypatch, tmp_path)
    assert world.recover().records == 0


def test_a_checkpoint_syncs_what_changed_and_nothing_else(world):
    for n in range(30):
        world.push((b"refs/heads/%d" % n, ZERO, world.commit()))
    checkpoint_path(world.path)
    first = world.ref("0")
    world.push((b"refs/heads/0", first, world.commit()))
    counting = CountingDisk()
    with disk.use(counting):
        checkpoint(world.repository.journal(world.options), world.repository.site(world.options.sleep))
    assert "filesystem" not in counting.syncs
    assert len(counting.syncs) < 20
    assert counting.syncs


def test_many_changes_are_synced_in_one_call(world):
    oid = world.commit()
    world.push(*((b"refs/heads/%d" % n, ZERO, oid) for n in range(100)))
    counting = CountingDisk()
    with disk.use(counting):
        checkpoint(world.repository.journal(world.options), world.repository.site(world.options.sleep))
    assert counting.syncs.count("filesystem") == 1


def test_a_checkpoint_records_what_plain_git_did(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first), (b"refs/heads/gone", ZERO, second))
    git(world.path, "update-ref", "refs/heads/main", second.hex())
    git(world.path, "update-ref", "-d", "refs/heads/gone")
    git(world.path, "tag", "new", first.hex())
    report = checkpoint_path(world.path)
    assert report.observed == 3
    found = read_checkpoint(f"{world.path}/govc/checkpoint")
    assert found.changes == {MAIN: second, b"refs/heads/gone": b"", b"refs/tags/new": first}


def test_no_checkpoint_stands_on_what_a_failed_sync_takes_back(world, tmp_path, monkeypatch):
    """What was observed is published at once, and durable with the next push: whose sync fails."""
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    git(world.path, "update-ref", "refs/heads/theirs", first.hex())
    assert checkpoint_path(world.path).observed == 1
    with disk.use(FailingSync()):
        assert MAIN in world.push((MAIN, first, second))
    assert world.ref("main") == first
    assert world.push((MAIN, first, second)) == {}
    assert checkpoint_path(world.path).records == 1
    restart_machine(monkeypatch, tmp_path)
    world.recover()
    assert (world.ref("main"), world.ref("theirs")) == (second, first)


def test_a_checkpoint_that_cannot_make_the_log_durable_is_none(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    checkpoint_path(world.path)
    before = read_checkpoint(f"{world.path}/govc/checkpoint")
    git(world.path, "update-ref", "refs/heads/theirs", first.hex())
    with disk.use(FailingSync()), pytest.raises(LogFailed):
        checkpoint(world.repository.journal(world.options), world.repository.site(world.options.sleep))
    assert read_checkpoint(f"{world.path}/govc/checkpoint").position == before.position
    assert world.push((MAIN, first, second)) == {}
    assert checkpoint_path(world.path).observed == 1


def test_an_idle_log_is_retired_whole_and_begins_again(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    checkpoint_path(world.path, close_log=True)
    assert not os.path.exists(f"{world.path}/govc/log")
    assert world.push((MAIN, first, second)) == {}  # with the journal that was open all the time
    assert [record.sequence for record in world.records()][-1] > 1
    assert world.ref("main") == second


def test_segments_and_packs_go_when_a_checkpoint_covers_them(world):
    for n in range(4):
        world.push((b"refs/heads/%d" % n, ZERO, world.commit(size=200_000)))
    world.push((MAIN, ZERO, world.commit(size=400_000)))
    assert len(list_segments(f"{world.path}/govc/log")) > 1
    assert len(os.listdir(f"{world.path}/govc/packs")) == 1
    report = checkpoint_path(world.path)
    assert report.segments_retired >= 1
    assert report.packs_retired == 1
    assert os.listdir(f"{world.path}/govc/packs") == []


def test_retired_parts_are_archived_when_asked(world, tmp_path):
    archive = tmp_path / "archive"
    for n in range(4):
        world.push((b"refs/heads/%d" % n, ZERO, world.commit(size=200_000)))
    checkpoint_path(world.path, archive_dir=str(archive), close_log=True)
    (folder,) = os.listdir(archive)
    assert folder.startswith("a.git-")
    assert sorted(os.listdir(archive / folder))[0] == "000000000001.seg"


def test_a_push_in_flight_keeps_its_record(world):
    """A checkpoint while a record waits to be published covers only what was published before it."""
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    world.push((b"refs/heads/z", ZERO, second))
    inside = {}

    class Checkpointing(disk.Disk):
        def rename(self, source, target):
            if target.endswith("refs/heads/main") and not inside:
                inside["report"] = None
                journal = world.repository.journal(world.options)
                inside["report"] = checkpoint(journal, world.repository.site(world.options.sleep), close_log=True)
            super().rename(source, target)

    with disk.use(Checkpointing()):
        assert world.push((MAIN, first, second)) == {}
    assert inside["report"].sequence == 2
    assert inside["report"].observed == 0
    assert read_checkpoint(f"{world.path}/govc/checkpoint").changes[MAIN] == first
    assert world.records()[-1].sequence >= 3


def test_writers_do_not_wait_for_the_syncs_of_a_checkpoint(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first), (b"refs/heads/z", ZERO, second))
    pushed = []

    class Pushing(disk.Disk):
        def sync_folder(self, path):
            if not pushed and path.endswith("refs/heads"):
                pushed.append(True)
                worker = threading.Thread(target=lambda: pushed.append(world.push((MAIN, first, second))))
                worker.start()
                worker.join(120)
            super().sync_folder(path)

    journal = world.repository.journal(world.options)
    with disk.use(Pushing()):
        checkpoint(journal, world.repository.site(world.options.sleep))
    assert pushed == [True, {}]


def test_a_checkpoint_that_fails_leaves_the_old_one(world):
    world.push((MAIN, ZERO, world.commit()))

    class Failing(disk.Disk):
        def sync(self, descriptor):
            raise OSError(5, "input/output error")

    before = read_checkpoint(f"{world.path}/govc/checkpoint")
    with disk.use(Failing()), pytest.raises(LogFailed):
        checkpoint(world.repository.journal(world.options), world.repository.site(world.options.sleep))
    assert read_checkpoint(f"{world.path}/govc/checkpoint") == before
    assert checkpoint_path(world.path).records == 1


def test_retiring_leaves_a_plain_repository(world):
    oid = world.commit()
    world.push((MAIN, ZERO, oid))
    world.repository.close()
    before = set(os.listdir(world.path))
    report = retire(load_site(os.path.realpath(world.path)), world.options)
    assert report.was_there
    assert set(os.listdir(world.path)) == before - {"govc"}
    assert world.ref("main") == oid
    world.fsck()
    assert not retire(load_site(os.path.realpath(world.path)), world.options).was_there


def test_a_log_in_use_is_not_retired(world):
    world.push((MAIN, ZERO, world.commit()))
    with pytest.raises(NotRetired, match="stop the server first"):
        retire(load_site(os.path.realpath(world.path)), world.options)
    assert os.path.isdir(f"{world.path}/govc")


def test_a_log_that_is_opened_while_it_is_being_retired_is_not_retired(world, monkeypatch):
    """With its folder would go what tells the locks of the push that has just begun from plain git's."""
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    world.repository.close()

    def open_after(journal, site, **choices):
        report = checkpoint(journal, site, **choices)
        world.reopen().journal(world.options).next_lock_path()
        return report

    monkeypatch.setattr("govc.repo.retire.checkpoint", open_after)
    with pytest.raises(NotRetired, match="stop the server first"):
        retire(load_site(os.path.realpath(world.path)), world.options)
    assert os.path.isdir(f"{world.path}/govc")
    assert world.push((MAIN, first, second)) == {}


def test_a_pack_that_comes_again_is_kept_for_its_new_record(world, tmp_path, monkeypatch):
    """A checkpoint that comes between its staging and its record lets go of it, for the old record's sake."""
    oid = world.commit(size=400_000)
    branch = b"refs/heads/again"
    world.push((branch, ZERO, oid))
    world.push((branch, oid, ZERO))
    writer = world.writer

    def checkpoint_before(*arguments):
        checkpoint_path(world.path)
        return writer(*arguments)

    monkeypatch.setattr(world, "writer", checkpoint_before)
    assert world.push((branch, ZERO, oid)) == {}
    (reference,) = world.records()[-1].draft.pack_references
    assert os.listdir(f"{world.path}/govc/packs") == [f"pack-{reference.checksum.hex()}.pack"]
    for name in os.listdir(f"{world.path}/objects/pack"):  # which a power cut may take: nothing has synced the folder
        os.unlink(f"{world.path}/objects/pack/{name}")
    restart_machine(monkeypatch, tmp_path)
    assert world.recover().problems == []
    assert world.ref("again") == oid
    world.fsck()


def test_a_server_whose_log_was_removed_begins_a_new_one(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    os.rename(f"{world.path}/govc", f"{world.path}/elsewhere")
    assert world.push((MAIN, first, second)) == {}
    assert os.path.isdir(f"{world.path}/govc/log")


def test_at_start_a_clean_repository_costs_one_stat(world, tmp_path, monkeypatch):
    site = tmp_path / "site"
    for n in range(20):
        os.makedirs(site / "group" / f"{n}.git" / "objects")
    git(tmp_path, "init", "-q", "--bare", str(site / "work.git"))
    world.push((MAIN, ZERO, world.commit()))
    world.repository.close()
    os.rename(world.path, site / "logged.git")
    looked = []
    real = os.path.isdir
    monkeypatch.setattr(eager_recovery.os.path, "isdir", lambda path: looked.append(path) or real(path))
    assert list(iter_unretired(str(site))) == [f"{site}/logged.git"]
    assert len([path for path in looked if "/group/" in path and ".git/" in path]) == 20
    os.rename(site / "logged.git", world.path)


def test_at_start_everything_is_recovered(world, tmp_path, monkeypatch):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    world.push((MAIN, first, second))
    world.repository.close()
    with open(f"{world.path}/refs/heads/main", "w") as file:
        file.write(f"{first.hex()}\n")
    restart_machine(monkeypatch, tmp_path)
    done = recover_all(str(tmp_path), JournalOptions())
    assert done[world.path].kind == "power cut"
    assert world.ref("main") == second
    assert recover_all(str(tmp_path), JournalOptions()) == {}


# The commands


def test_dump_shows_records_for_people_and_programs(world):
    oid = world.commit()
    world.push((MAIN, ZERO, oid))
    shown = run("log", "dump", world.path)
    assert shown.exit_code == 0
    assert f"{ZERO.hex()} {oid.hex()} refs/heads/main" in shown.output
    assert "ann 127.0.0.1" in shown.output
    (line,) = run("log", "dump", world.path, "--json").output.splitlines()
    assert json.loads(line)["refs"] == [{"name": "refs/heads/main", "old": ZERO.hex(), "new": oid.hex()}]


def test_verify_tells_a_damaged_log_by_its_exit_code(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    world.push((MAIN, first, second))
    assert run("log", "verify", world.path).exit_code == 0
    with open(f"{world.path}/govc/log/000000000001.seg", "r+b") as file:
        file.seek(600)
        file.write(b"\xff")
    damaged = run("log", "verify", world.path, "--json")
    assert damaged.exit_code == 1
    assert "damaged at byte 512" in json.loads(damaged.output)["damage"]
    assert run("log", "verify", f"{world.path}/nothing").exit_code == 2


def test_fsck_says_what_is_broken(world):
    first, second = world.commit(), world.commit()
    world.push((MAIN, ZERO, first))
    whole = run("fsck", world.path)
    assert (whole.exit_code, "whole" in whole.output) == (0, True)
    git(world.path, "update-ref", "refs/heads/outside", first.hex())
    noted = run("fsck", world.path)
    assert noted.exit_code == 0
    assert "refs/heads/outside" in noted.output
    assert "something else" in noted.output
    with open(f"{world.path}/refs/heads/broken", "w") as file:
        file.write(f"{second.hex()}\n")
    broken = run("fsck", world.path, "--json")
    assert broken.exit_code == 1
    assert any(f"{second.hex()} is missing" in problem for problem in json.loads(broken.output)["problems"])
    os.unlink(f"{world.path}/refs/heads/broken")
    folder = f"{world.path}/objects/pack"
    pack = next(name for name in os.listdir(folder) if name.endswith(".pack"))
    os.chmod(f"{folder}/{pack}", 0o600)
    with open(f"{folder}/{pack}", "r+b") as file:
        file.seek(20)
        file.write(b"\xff")
    assert run("fsck", world.path).exit_code == 1


def test_checkpoint_recover_retire_from_the_command_line(world, tmp_path):
    world.push((MAIN, ZERO, world.commit()))
    world.repository.close()
    done = run("checkpoint", "--all", tmp_path)
    assert done.exit_code == 0
    assert "durable up to record 1: 1 records" in done.output
    assert "clean" in run("recover", world.path).output
    assert "retired at record" in run("retire", world.path).output
    assert run("retire", world.path).output.strip().endswith("has no log")
    assert run("checkpoint").exit_code == 2
    assert run("recover", "--adopt", "--cut", world.path).exit_code == 2


def test_set_head(world):
    world.push((b"refs/heads/next", ZERO, world.commit()))
    assert run("set-head", world.path, "next").exit_code == 0
    assert git(world.path, "symbolic-ref", "HEAD").decode().strip() == "refs/heads/next"
    assert run("set-head", world.path, "a..b").exit_code == 1


def test_one_checkpoint_at_a_time(world):
    world.push((MAIN, ZERO, world.commit()))
    with open(f"{world.path}/govc/checkpointing", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        waiting = threading.Thread(target=lambda: checkpoint_path(world.path))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(120)
    assert not waiting.is_alive()
