"""Plain git beside a push, a kill and a power cut: its changes and its locks stay, its repacking takes nothing away."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.simulation.harness import Checker, Scene, find_missing, is_ok
from tests.simulation.machine import Die, Faults, Go, Machine, Verdict
from tests.simulation.pushes import make_chain, make_commit
from tests.simulation.test_crash_points import MAIN, SIDE, one, scenarios


def run_git(scene: Scene, *words: str) -> None:
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(scene.root)}
    subprocess.run(["git", *words], cwd=scene.path, env=environment, check=True, capture_output=True)


@pytest.mark.parametrize("is_cut", [False, True], ids=["kill", "power cut"])
def test_what_git_changed_after_the_last_record_stays(place: Path, is_cut: bool) -> None:
    scene = Scene(place)
    chain = make_chain(scene.first, "c", 4)
    objects = [item for commit in chain for item in commit.objects]
    pushes = [
        one("store", ("refs/heads/store", None, chain[3].oid), objects=objects),
        one("update", (MAIN, scene.first, chain[0].oid)),
        one("again", (MAIN, chain[0].oid, chain[1].oid)),
        one("side", (SIDE, None, chain[0].oid)),
    ]
    run = Machine(str(scene.path)).run(scene.pusher(*pushes))
    assert all(map(is_ok, run.results[0][0]))
    run_git(scene, "update-ref", MAIN, chain[2].oid)
    run_git(scene, "update-ref", "-d", SIDE)
    if is_cut:
        scene.restart_machine()
    checker = Checker(scene)
    # A deletion beside us, unobserved, just before a power cut is the gap that storage rule 21 writes down.
    refs = {"refs/heads/store": chain[3].oid, MAIN: chain[2].oid}
    checker.judge([refs, refs | {SIDE: chain[0].oid}] if is_cut else [refs], lambda: "git's change was undone")
    checker.conclude()


@pytest.mark.parametrize("is_cut", [False, True], ids=["kill", "power cut"])
def test_a_lock_of_git_stays_and_ours_goes(place: Path, is_cut: bool) -> None:
    scene = Scene(place)
    chain = make_chain(scene.first, "c", 2)
    push = one("update", (MAIN, scene.first, chain[0].oid), (SIDE, None, chain[0].oid), objects=chain[0].objects)

    def at_the_record(number: int, kind: str, path: str, growth: int) -> Verdict:
        return Die() if kind == "syncdata" else Go()

    run = Machine(str(scene.path)).run(scene.pusher(push), faults=at_the_record)
    assert [True] == run.died
    assert (scene.path / f"{MAIN}.lock").exists()
    theirs = scene.path / "refs/heads/theirs.lock"
    theirs.write_text("")
    inode = theirs.stat().st_ino
    if is_cut:
        scene.restart_machine()
    server = scene.serve()
    server.refs()
    refused = server.push(one("theirs", ("refs/heads/theirs", None, chain[0].oid), objects=chain[0].objects))
    assert not is_ok(refused)
    assert inode == theirs.stat().st_ino
    theirs.unlink()
    main = server.refs()[MAIN]
    assert is_ok(server.push(one("again", (MAIN, main, chain[1].oid), objects=[*chain[0].objects, *chain[1].objects])))


def test_a_lock_of_a_living_process_stays(place: Path) -> None:
    """Another process meets the lock of one that lives and is slow: it waits, gives up, and leaves the lock alone."""
    scene = Scene(place)
    chain = make_chain(scene.first, "c", 2)
    push = one("slow", (MAIN, scene.first, chain[0].oid), objects=chain[0].objects)
    other = one("other", (MAIN, scene.first, chain[1].oid), objects=[*chain[0].objects, *chain[1].objects])
    seen = []

    def at_the_record(number: int, kind: str, path: str, growth: int) -> Verdict:
        if kind == "rename" and path == f"{MAIN}.lock":
            inode = (scene.path / f"{MAIN}.lock").stat().st_ino
            seen.append(scene.serve().push(other))
            assert inode == (scene.path / f"{MAIN}.lock").stat().st_ino
        return Go()

    run = Machine(str(scene.path)).run(scene.pusher(push), faults=at_the_record)
    assert is_ok(run.results[0][0][0])
    assert [False] == [is_ok(report) for report in seen]
    assert chain[0].oid == scene.serve().refs()[MAIN]


@pytest.mark.parametrize("name", ["several refs, atomic", "a large pack"])
def test_a_repack_at_any_moment_of_a_push_takes_nothing_away(name: str, place: Path) -> None:
    def repack_at(chosen: int, scene: Scene) -> Faults:
        def decide(number: int, kind: str, path: str, growth: int) -> Verdict:
            if number == chosen:
                run_git(scene, "repack", "-adq")
            return Go()

        return decide

    count = 0
    chosen = 0
    while chosen <= count:
        scene = Scene(place / str(chosen))
        scenario = scenarios(scene.first)[name]
        machine = Machine(str(scene.path))
        machine.run(scene.pusher(*scenario.setup))
        run = machine.run(scene.pusher(*scenario.processes[0]), faults=repack_at(chosen, scene))
        assert is_ok(run.results[0][0][0]), f"repack before call {chosen}: {run.results}"
        missing = find_missing(str(scene.path / "objects"), scene.serve().refs())
        assert [] == missing, f"repack before call {chosen}"
        run_git(scene, "fsck", "--strict")
        count = run.seam_call_count
        chosen += 2
    assert count > 20


def test_a_ref_that_git_made_is_observed_and_not_lost(place: Path) -> None:
    """A record's old value that the log doesn't know is noted before it; after a power cut all is as it was."""
    scene = Scene(place)
    chain = make_chain(scene.first, "c", 3)
    objects = [item for commit in chain for item in commit.objects]
    scene_pushes = [one("store", ("refs/heads/store", None, chain[2].oid), objects=objects)]
    machine = Machine(str(scene.path))
    machine.run(scene.pusher(*scene_pushes))
    run_git(scene, "update-ref", MAIN, chain[0].oid)
    commit = make_commit(chain[0].oid, "on top", b"on top\n")
    machine.run(scene.pusher(one("on top", (MAIN, chain[0].oid, commit.oid), objects=commit.objects)))
    scene.restart_machine()
    checker = Checker(scene)
    checker.judge([{"refs/heads/store": chain[2].oid, MAIN: commit.oid}], lambda: "after an observed change")
    checker.conclude()
