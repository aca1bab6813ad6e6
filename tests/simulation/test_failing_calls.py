"""Calls that fail: EIO and ENOSPC at every call of a push, a disk that stays full, a failed sync followed by a kill.

The server goes on: the push is acknowledged or refused with a reason, nothing of a refused one is ever seen, neither at
once nor after a kill or a power cut right then, and the next push works.
"""

import copy
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from govc.wal.errors import IN_DOUBT
from tests.simulation.harness import Checker, Expectation, Scene, is_ok
from tests.simulation.machine import Die, Fail, Faults, Go, Machine, Verdict, fail_at, fail_between, fill_up_at
from tests.simulation.model import Model
from tests.simulation.outcomes import Outcome, killed, materialise, power_cuts
from tests.simulation.pushes import Push, make_commit
from tests.simulation.test_crash_points import MAIN, SEED, Scenario, context_of, one, scenarios
from tests.simulation.trace import Call

STEP = int(os.environ.get("GOVC_FAULT_STEP", "4"))
"""Every how manyth call fails: 1 is all of them. EIO and ENOSPC, and the scenarios, begin at different calls."""

SCENARIOS = ["one ref", "several refs, atomic", "delete", "a large pack"]


class Failing:
    """A scene after its setup; `run` makes the scenario's push with a fault in it, then another push without."""

    def __init__(self, place: Path, name: str) -> None:
        self.scene = Scene(place)
        self.scenario: Scenario = scenarios(self.scene.first)[name]
        self.name = name
        self.push = self.scenario.processes[0][0]
        self.next, *self.more = (
            one(name, (f"refs/heads/{name}", None, commit.oid), objects=commit.objects)
            for name in ("next", "more1", "more2", "more3")
            if (commit := make_commit(self.scene.first, name, f"{name}\n".encode()))
        )
        pushes = [*self.scenario.setup, self.push, self.next, *self.more]
        self.expectation = Expectation({MAIN: self.scene.first}, {push.name: push for push in pushes})
        machine = Machine(str(self.scene.path))
        for call in machine.run(self.scene.pusher(*self.scenario.setup)).calls:
            self.expectation.hear(call)
        self.start: Outcome = copy.deepcopy(killed(machine.model))
        self.boot = self.scene.boot
        self.checker = Checker(self.scene, fsck_every=200)

    def run(self, faults: Faults, *more: Push) -> tuple[list[Call], list[dict[str, str]]]:
        """Start from the state after the setup; the calls, and the reports of the pushes ([] when it died)."""
        self.scene.boot = self.boot
        materialise(self.start, str(self.scene.path))
        self.before = Model.of_folder(str(self.scene.path))
        run = Machine(str(self.scene.path)).run(self.scene.pusher(self.push, self.next, *more), faults=faults)
        return run.calls, run.results[0][0] if run.results[0] else []

    def count_calls(self) -> int:
        """How many calls the first push makes when nothing fails, those that change nothing included."""
        return len(self.list_calls())

    def list_calls(self) -> list[tuple[str, str]]:
        """(kind, path) of the calls that the first push makes when nothing fails."""
        found: list[tuple[str, str]] = []

        def note(number: int, kind: str, path: str, growth: int) -> Verdict:
            found.append((kind, path))
            return Go()

        self.scene.boot = self.boot
        materialise(self.start, str(self.scene.path))
        Machine(str(self.scene.path)).run(self.scene.pusher(self.push), faults=note)
        return found

    def check_outcomes(self, calls: list[Call], label: str) -> None:
        """What lies there right after each answer, and at the end: after a kill, and after power cuts."""
        model, expected = self.before, copy.deepcopy(self.expectation)
        for position in range(len(calls) + 1):
            is_answer = position > 0 and calls[position - 1].kind == "note" and calls[position - 1].what[0] != "began"
            if is_answer or position == len(calls):
                # After a failed sync all extremes are of interest: what it had to cover may be lost at any time.
                count = 8 if any(not call.ok for call in calls) else 2
                for outcome in (killed(model), *power_cuts(model, f"{SEED} {label} {position}", count)):
                    self.scene.boot = self.boot
                    if outcome.is_cut:
                        self.scene.restart_machine()
                    self.checker.check(outcome, expected, lambda: f"{label}; {context_of(calls, position)()}")  # noqa: B023
            if position < len(calls):
                model.apply(calls[position])
                expected.hear(calls[position])


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_any_call_may_fail_once(
    name: str, number: int, place: Path, record_property: Callable[[str, object], None]
) -> None:
    failing = Failing(place, name)
    count = failing.count_calls()
    problems = []
    refused = 0
    for at in range((number + SCENARIOS.index(name)) % STEP, count, STEP):
        calls, reports = failing.run(fail_at(at, number))
        where = next((call for call in calls if not call.ok), None) or f"call {at}"
        if not is_ok(reports[1]):
            problems.append(f"{where} failed: the next push: {reports[1]}")
        refused += not is_ok(reports[0])
        failing.check_outcomes(calls, f"call {at} fails with {errno.errorcode[number]}, {reports[0]}")
    record_property("calls that failed", count)
    record_property("pushes refused", refused)
    record_property("states recovered", failing.checker.checked)
    assert [] == problems
    failing.checker.conclude()
    assert refused > 0


@pytest.mark.parametrize("burst", [2, 3])
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_mends_a_failure_may_fail_too(name: str, burst: int, place: Path) -> None:
    """Some calls in a row: the void record after a failed publication, the new segment after a failed sync."""
    failing = Failing(place, name)
    problems = []
    for at in range((burst + SCENARIOS.index(name)) % (2 * STEP), failing.count_calls(), 2 * STEP):
        calls, reports = failing.run(fail_between(at, at + burst, errno.EIO), *failing.more[:burst])
        # The first pushes may each meet one of the failures; the last one meets what they have left.
        if not is_ok(reports[-1]):
            problems.append(f"{burst} calls from {at} on failed: the last push: {reports[-1]}")
        failing.check_outcomes(calls, f"calls {at} to {at + burst - 1} fail, {reports[0]}")
    assert [] == problems
    failing.checker.conclude()


@pytest.mark.parametrize("burst", [4, 5])
def test_a_push_in_doubt_keeps_all_its_locks_until_it_is_settled(burst: int, place: Path) -> None:
    """The note that a record is durable fails, what takes it back fails, giving a lock back fails; then a kill."""
    failing = Failing(place, "several refs, atomic")
    synced = next(
        at for at, (kind, path) in enumerate(failing.list_calls()) if kind == "syncdata" and path.endswith(".seg")
    )
    doubts = 0
    for at in range(synced - 2, synced + 6):
        calls, reports = failing.run(fail_between(at, at + burst, errno.EIO), *failing.more)
        doubts += any(IN_DOUBT in text for text in reports[0].values())
        failing.check_outcomes(calls, f"calls {at} to {at + burst - 1} fail, {reports[0]}")
    failing.checker.conclude()
    assert doubts


@pytest.mark.parametrize("name", ["one ref", "a large pack"])
def test_a_disk_that_is_full_from_some_call_on(name: str, place: Path) -> None:
    failing = Failing(place, name)
    for at in range(0, failing.count_calls(), STEP):
        calls, reports = failing.run(fill_up_at(at, errno.ENOSPC))
        failing.check_outcomes(calls, f"disk full from call {at} on, {reports}")
    failing.checker.conclude()


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_sync_fails_and_the_process_is_killed_at_once(name: str, place: Path) -> None:
    """The page cache is clean and wrong, and nobody was told. What the next process acknowledges must hold."""
    failing = Failing(place, name)
    count = failing.count_calls()
    other = make_commit(failing.scene.first, "other", b"other\n")
    heir = one("heir", ("refs/heads/heir", None, other.oid), objects=other.objects)
    failing.expectation.pushes[heir.name] = heir
    for at in range(count):
        calls, died = _fail_then_die(failing, at)
        if not died:
            continue
        machine = Machine(str(failing.scene.path))
        _take_over(machine, failing.before, calls)
        heirs = machine.run(failing.scene.pusher(heir))
        assert is_ok(heirs.results[0][0][0]), heirs.results
        failing.check_outcomes([*calls, *heirs.calls], f"the sync at call {at} failed, then the process was killed")
    failing.checker.conclude()


def _fail_then_die(failing: Failing, at: int) -> tuple[list[Call], bool]:
    """Let call `at` fail when it is a sync, and kill the process before its next call."""
    hit: list[bool] = []

    def faults(number: int, kind: str, path: str, growth: int) -> Verdict:
        if hit:
            return Die()
        if number == at and kind.startswith("sync"):
            hit.append(True)
            return Fail(errno.EIO)
        return Go()

    calls, _ = failing.run(faults)
    return calls, bool(hit)


def _take_over(machine: Machine, before: Model, calls: list[Call]) -> None:
    """Give a machine the history of the folder it begins with: what was unsynced then still is."""
    machine.model = copy.deepcopy(before).apply_all(calls)


def test_the_push_is_refused_with_a_reason_when_the_log_can_not_be_synced(place: Path) -> None:
    failing = Failing(place, "one ref")

    def faults(number: int, kind: str, path: str, growth: int) -> Verdict:
        return Fail(errno.EIO) if kind == "syncdata" and path.endswith(".seg") and not hit.append(number) else Go()

    hit: list[int] = []
    calls, reports = failing.run(faults)
    assert hit
    assert not is_ok(reports[0])
    failing.check_outcomes(calls, "every sync of the log fails")
    failing.checker.conclude()
