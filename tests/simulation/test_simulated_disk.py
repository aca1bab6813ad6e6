"""The simulated disk itself: what is durable when, what a power cut may leave, who dies where."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from govc import disk
from tests.simulation.disk import SimulatedDisk
from tests.simulation.machine import Machine, ProcessFailed, Run, fail_at, fill_up_at, stop_at
from tests.simulation.model import Model
from tests.simulation.outcomes import Outcome, killed, materialise, power_cuts


def tree_of(outcome: Outcome) -> dict[str, bytes | None]:
    return {
        path: bytes(outcome.contents[node]) if node in outcome.contents else None for path, node in outcome.entries()
    }


def cuts(root: Path, run: Run, before: Model, count_max: int = 500) -> list[dict[str, bytes | None]]:
    return [tree_of(outcome) for outcome in power_cuts(before.apply_all(run.calls), "seed", count_max)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    return folder


def do(root: Path, work: Callable[[str], object], **options: object) -> list[dict[str, bytes | None]]:
    before = Model.of_folder(str(root))
    run = Machine(str(root)).run(lambda simulated: work(str(root)), **options)  # type: ignore[arg-type]
    return cuts(root, run, before)


def write(path: str, content: bytes, *, fsync: bool = False) -> None:
    disk.write_file(path, content, fsync=fsync)


def test_an_unsynced_file_may_be_there_or_not_or_empty_or_torn(root: Path) -> None:
    found = do(root, lambda at: write(f"{at}/new", b"abc"))
    assert {"old": b"old"} in found
    assert {"old": b"old", "new": b"abc"} in found
    assert {"old": b"old", "new": b""} in found
    assert all(tree["old"] == b"old" for tree in found)


def test_sync_makes_content_durable_and_not_the_name(root: Path) -> None:
    found = do(root, lambda at: write(f"{at}/new", b"abc", fsync=True))
    assert [{"old": b"old"}, {"old": b"old", "new": b"abc"}] == sorted(found, key=len)


def test_sync_of_the_folder_makes_the_name_durable(root: Path) -> None:
    def work(at: str) -> None:
        write(f"{at}/new", b"abc", fsync=True)
        disk.sync_folder(at)

    assert [{"old": b"old", "new": b"abc"}] == do(root, work)


def test_a_rename_in_one_folder_is_one_change(root: Path) -> None:
    def work(at: str) -> None:
        write(f"{at}/new", b"abc", fsync=True)
        disk.sync_folder(at)
        disk.rename(f"{at}/new", f"{at}/old")

    found = do(root, work)
    assert len(found) == 2
    assert {"old": b"old", "new": b"abc"} in found
    assert {"old": b"abc"} in found


def test_a_rename_across_folders_may_be_half_done(root: Path) -> None:
    (root / "sub").mkdir()
    found = do(root, lambda at: disk.rename(f"{at}/old", f"{at}/sub/old"))
    assert {"sub": None} in found
    assert {"sub": None, "old": b"old", "sub/old": b"old"} in found
    assert 4 == len(found)


def test_the_changes_of_one_name_keep_their_order(root: Path) -> None:
    def work(at: str) -> None:
        write(f"{at}/a", b"1", fsync=True)
        disk.unlink(f"{at}/a")
        write(f"{at}/a", b"2", fsync=True)

    found = do(root, work)
    assert [{"old": b"old"}, {"old": b"old", "a": b"1"}, {"old": b"old", "a": b"2"}] == sorted(
        found, key=lambda tree: (len(tree), tree.get("a", b""))
    )


def test_the_last_write_is_torn_at_any_byte_and_others_between_sectors(root: Path) -> None:
    (root / "log").write_bytes(bytes(4096))

    def work(at: str) -> None:
        descriptor = disk.open_file(f"{at}/log", os.O_WRONLY)
        disk.pwrite_all(descriptor, b"x" * 1024, 100)
        disk.pwrite_all(descriptor, b"y" * 10, 2000)

    found = do(root, work)
    logs = {tree["log"] for tree in found}
    assert all(log is not None and len(log) == 4096 for log in logs)
    assert {0, 412, 924, 1024} >= {log.count(b"x") for log in logs if log}
    assert {log.count(b"y") for log in logs if log} == set(range(11))


def test_syncdata_without_growth_keeps_names_unsynced(root: Path) -> None:
    (root / "log").write_bytes(bytes(64))

    def work(at: str) -> None:
        write(f"{at}/name", b"", fsync=False)
        descriptor = disk.open_file(f"{at}/log", os.O_WRONLY)
        disk.pwrite_all(descriptor, b"record", 0)
        disk.sync_data(descriptor)

    found = do(root, work)
    assert {tree["log"] for tree in found} == {b"record" + bytes(58)}
    assert {"name" in tree for tree in found} == {True, False}


def test_after_a_failed_sync_the_data_is_in_doubt_for_ever(root: Path) -> None:
    def work(at: str) -> None:
        descriptor = disk.open_file(f"{at}/old", os.O_WRONLY)
        disk.pwrite_all(descriptor, b"new", 0)
        with pytest.raises(OSError, match="Input/output"):
            disk.sync(descriptor)
        disk.sync(descriptor)  # claims success
        disk.pwrite_all(descriptor, b"er", 3)
        disk.sync(descriptor)
        assert Path(f"{at}/old").read_bytes() == b"newer"

    found = do(root, work, faults=fail_at(1, errno.EIO))
    assert {tree["old"] for tree in found} >= {b"older", b"newer"}
    assert all(tree["old"] is not None and tree["old"].endswith(b"er") for tree in found)


def test_a_process_dies_at_any_call_and_after_any_byte(root: Path) -> None:
    def work(simulated: SimulatedDisk) -> str:
        write(f"{root}/a", b"abc")
        write(f"{root}/b", b"")
        return "done"

    left = []
    for stop in (stop_at(0), stop_at(1), stop_at(1, 2), stop_at(2)):
        machine = Machine(str(root))
        run = machine.run(work, faults=stop)
        assert [True] == run.died
        left.append(tree_of(killed(machine.model)))
        for path in root.glob("[ab]"):
            path.unlink()
    assert [
        {"old": b"old"},
        {"a": b"", "old": b"old"},
        {"a": b"ab", "old": b"old"},
        {"a": b"abc", "old": b"old"},
    ] == left
    run = Machine(str(root)).run(work)
    assert [("done",)] == run.results
    assert 4 == run.seam_call_count


def test_a_full_disk_stops_growth_and_nothing_else(root: Path) -> None:
    def work(simulated: SimulatedDisk) -> None:
        descriptor = disk.open_file(f"{root}/old", os.O_WRONLY)
        disk.pwrite_all(descriptor, b"new", 0)
        with pytest.raises(OSError, match="No space"):
            disk.pwrite_all(descriptor, b"newer", 0)
        with pytest.raises(OSError, match="No space"):
            write(f"{root}/another", b"")
        disk.unlink(f"{root}/old")

    Machine(str(root)).run(work, faults=fill_up_at(0, errno.ENOSPC))


def test_what_happens_behind_the_seam_is_unsynced(root: Path) -> None:
    def work(at: str) -> None:
        os.mkdir(f"{at}/sub")
        Path(f"{at}/sub/file").write_bytes(b"data")
        Path(f"{at}/old").write_bytes(b"changed")
        write(f"{at}/mark", b"", fsync=True)

    found = do(root, work)
    assert {"old": b"old"} in found
    assert {"old": b"changed", "mark": b"", "sub": None, "sub/file": b"data"} in found


def test_links_keep_one_inode_when_materialised(root: Path, tmp_path: Path) -> None:
    def work(simulated: SimulatedDisk) -> None:
        write(f"{root}/a", b"abc")
        disk.link(f"{root}/a", f"{root}/a.lock")

    machine = Machine(str(root))
    machine.run(work)
    outcome = killed(machine.model)
    inode = root.stat().st_ino
    materialise(outcome, str(root))
    assert inode == root.stat().st_ino
    assert (root / "a").stat().st_ino == (root / "a.lock").stat().st_ino
    assert b"abc" == (root / "a.lock").read_bytes()


def test_two_processes_have_one_order_and_differ_by_seed(root: Path) -> None:
    def work(name: str) -> Callable[[SimulatedDisk], None]:
        def process(simulated: SimulatedDisk) -> None:
            for number in range(3):
                write(f"{root}/{name}{number}", b"")
                simulated.note(number)

        return process

    orders = set()
    for seed in range(6):
        run = Machine(str(root), seed=seed).run(work("a"), work("b"))
        orders.add("".join(call.path[0] for call in run.calls if call.kind == "create"))
        for path in root.glob("[ab]?"):
            path.unlink()
    assert len(orders) > 1
    assert all(sorted(order) == list("aaabbb") for order in orders)


def test_an_exception_in_a_process_is_the_tests(root: Path) -> None:
    with pytest.raises(ProcessFailed, match="ZeroDivisionError"):
        Machine(str(root)).run(lambda simulated: 1 // 0)
