"""Every crash point: pushes, checkpoints and recovery itself, stopped before each call, in the outcomes that are legal.

At each call of a scenario's trace the machine stops. Once as a kill: what lies there is the page cache, a write perhaps
with its first bytes only. And some times as a power cut: see outcomes.py. Each state is put on the disk, a new process
recovers it, and `Checker` looks at what must hold.

    GOVC_CRASH_POINTS   how many power cuts per call (default 3); more takes longer
    GOVC_CRASH_SEED     the seed of the random ones (default 1)
"""

import copy
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.harness import Checker, Expectation, Refs, Scene
from tests.simulation.machine import Machine
from tests.simulation.model import Model
from tests.simulation.outcomes import Outcome, killed, materialise, power_cuts
from tests.simulation.pushes import Push, make_chain, make_commit
from tests.simulation.trace import Call

CUTS = int(os.environ.get("GOVC_CRASH_POINTS", "3"))
SEED = os.environ.get("GOVC_CRASH_SEED", "1")
CUTS_AFTER_NEWS = max(CUTS, 8)
"""How many when a push was acknowledged just now: all the extremes, as this is where a promise can be broken."""
RECOVERIES = max(2, CUTS // 2)


@dataclass
class Scenario:
    """Pushes before (`setup`, acknowledged), and what runs when the machine stops: one list of pushes per process."""

    setup: Sequence[Push]
    processes: Sequence[Sequence[Push]]
    closes: bool = False


def one(name: str, *changes: tuple[str, str | None, str | None], objects: Any = (), atomic: bool = False) -> Push:
    return Push(name, changes, tuple(objects), atomic)


MAIN, SIDE = "refs/heads/main", "refs/heads/topic/side"


def scenarios(first: str) -> dict[str, Scenario]:
    """By name; each begins with a repository whose `main` is at `first`."""
    chain = make_chain(first, "c", 6)
    oids = [commit.oid for commit in chain]
    large = make_commit(first, "large", random.Random(1).randbytes(300 << 10))
    update = one("update", (MAIN, first, oids[0]), objects=chain[0].objects)
    create = one("create", (SIDE, None, oids[0]), objects=chain[0].objects)
    delete = one("delete", (SIDE, oids[0], None))
    again = one("again", (MAIN, oids[0], oids[1]), objects=chain[1].objects)
    several = one(
        "several",
        (MAIN, first, oids[1]),
        ("refs/heads/a", None, oids[0]),
        (SIDE, oids[0], None),
        ("refs/tags/v1", None, oids[1]),
        objects=(*chain[0].objects, *chain[1].objects),
        atomic=True,
    )
    other = one("other", ("refs/heads/other", None, oids[0]), objects=chain[0].objects)
    return {
        "the very first push": Scenario([], [[update]]),
        "one ref": Scenario([update], [[again]]),
        "create": Scenario([update], [[create]]),
        "delete": Scenario([create], [[delete]]),
        "several refs, atomic": Scenario([create], [[several]]),
        "a large pack": Scenario([create], [[one("large", (MAIN, first, large.oid), objects=large.objects)]]),
        "two processes": Scenario([create], [[update, again], [other, delete]]),
        "a clean end": Scenario([create], [[update, delete]], closes=True),
    }


NAMES = list(scenarios("0" * 40))


@dataclass
class Explorer:
    """Runs a scenario, and stops it everywhere."""

    scene: Scene
    scenario: Scenario
    name: str
    points: int = 0

    def __post_init__(self) -> None:
        pushes = [*self.scenario.setup, *(push for pushes in self.scenario.processes for push in pushes)]
        self.checker = Checker(self.scene)
        self.base: Refs = {MAIN: self.scene.first}
        self.pushes = {push.name: push for push in pushes}

    def record(self, seed: int) -> tuple[Model, Expectation, list[Call]]:
        """Run the scenario whole: the state before it, what is expected then, and its calls."""
        expectation = Expectation(dict(self.base), self.pushes)
        before = Model.of_folder(str(self.scene.path))
        machine = Machine(str(self.scene.path), seed=seed)
        for call in machine.run(self.scene.pusher(*self.scenario.setup)).calls:
            before.apply(call)
            expectation.hear(call)
        run = machine.run(
            *(self.scene.pusher(*pushes, closes=self.scenario.closes) for pushes in self.scenario.processes)
        )
        ends = copy.deepcopy(expectation)
        for call in run.calls:
            ends.hear(call)
        assert [] == ends.on_the_way
        assert len(self.pushes) == len(ends.acknowledged), f"without any crash: {run.results}"
        return before, expectation, run.calls

    def explore(self, seed: int) -> None:
        """Stop at every call."""
        before, expectation, calls = self.record(seed)
        boot = self.scene.boot
        for position, expected, outcome in self.stops(before, expectation, calls, f"{SEED} {self.name} {seed}"):
            self.scene.boot = boot
            if outcome.is_cut:
                self.scene.restart_machine()
            self.checker.check(outcome, expected, context_of(calls, position))

    def stops(
        self, model: Model, expectation: Expectation, calls: Sequence[Call], seed: str
    ) -> Iterator[tuple[int, Expectation, Outcome]]:
        """Every stop: after how many calls, what is expected, what lies there."""
        has_news = False
        for position in range(len(calls) + 1):
            call = calls[position] if position < len(calls) else None
            has_news = has_news or (position > 0 and calls[position - 1].is_acknowledgement)
            if call is None or call.is_seam_call:
                self.points += 1
                yield position, expectation, killed(model)
                for outcome in power_cuts(model, f"{seed} {position}", CUTS_AFTER_NEWS if has_news else CUTS):
                    yield position, expectation, outcome
                has_news = False
                if call is not None and call.kind == "write" and len(call.data) > 1:
                    yield from ((position, expectation, outcome) for outcome in torn_kills(model, call))
            if call is not None:
                model.apply(call)
                expectation.hear(call)


def torn_kills(model: Model, call: Call) -> Iterator[Outcome]:
    """A kill in the middle of a write: its first bytes are in the page cache."""
    for size in sorted({1, len(call.data) // 2, len(call.data) - 1}):
        torn = copy.deepcopy(model)
        torn.apply(Call("write", inode=call.inode, offset=call.offset, data=call.data[:size], time_ns=call.time_ns))
        yield killed(torn, f"killed after {size} of {len(call.data)} bytes")


def context_of(calls: Sequence[Call], position: int) -> Callable[[], str]:
    """Where it was stopped, for people."""

    def text() -> str:
        lines = [f"stopped after {position} of {len(calls)} calls:"]
        lines += [f"  {number} {call}" for number, call in enumerate(calls[:position])][-60:]
        lines += [f"> {position} {calls[position]}"] if position < len(calls) else []
        return "\n".join(lines)

    return text


def show_count(explorer: Explorer, record_property: Callable[[str, object], None]) -> None:
    record_property("crash points", explorer.points)
    record_property("states recovered", explorer.checker.checked)
    record_property("fsck runs", explorer.checker.fsck_count)


@pytest.mark.rows("SEC-38")
@pytest.mark.parametrize("name", NAMES)
def test_stopped_at_every_call(name: str, place: Path, record_property: Callable[[str, object], None]) -> None:
    scene = Scene(place)
    explorer = Explorer(scene, scenarios(scene.first)[name], name)
    explorer.explore(seed=1)
    show_count(explorer, record_property)
    explorer.checker.conclude()
    assert explorer.points > 20


def test_a_large_pack_is_as_durable_in_a_batch(place: Path) -> None:
    """Nobody calls this process back, so it syncs its record at once: what that names has to be there."""
    scene = Scene(place, durability="batch")
    explorer = Explorer(scene, scenarios(scene.first)["a large pack"], "a large pack")
    explorer.explore(seed=1)
    explorer.checker.conclude()
    assert explorer.points > 20


@pytest.mark.rows("RP-95", "CF-59", "CF-34")
@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("one ref", "[core]\n\tfsync = none\n\tfsyncMethod = writeout-only\n\tfsyncObjectFiles = false\n"),
        ("a clean end", "[core]\n\tfsync = all\n\tfsyncMethod = batch\n[receive]\n\tunpackLimit = 100\n"),
    ],
)
def test_what_git_would_sync_when_is_no_matter(name: str, setting: str, place: Path) -> None:
    """The log makes each kind of file durable before the answer, objects that are kept loose too."""
    trial, explorer = (
        Explorer(scene, scenarios(scene.first)[name], name)
        for scene in (Scene(place / "trial"), Scene(place / "explored"))
    )
    for scene in (trial.scene, explorer.scene):
        with open(scene.path / "config", "a") as file:
            file.write(setting)
    named = [call.target or call.path for call in trial.record(seed=1)[2]]
    kept = [path for path in named if path.startswith("objects/pack/") and path.endswith(".pack")]
    assert bool(kept) == ("unpackLimit" not in setting)
    explorer.explore(seed=1)
    explorer.checker.conclude()
    assert explorer.points > 20


@pytest.mark.parametrize("name", ["several refs, atomic", "a large pack", "a clean end"])
def test_recovery_is_stopped_at_every_call(
    name: str, place: Path, record_property: Callable[[str, object], None]
) -> None:
    """The machine stops, a new process recovers and is stopped as well, another one recovers."""
    scene = Scene(place)
    explorer = Explorer(scene, scenarios(scene.first)[name], name)
    before, expectation, calls = explorer.record(seed=1)
    boot = scene.boot
    commit = make_commit(scene.first, "recoverer", b"recoverer\n")
    push = one("recoverer's", ("refs/heads/recoverer", None, commit.oid), objects=commit.objects)
    expectation.pushes[push.name] = push
    all_stops = [
        (position, copy.deepcopy(expected), copy.deepcopy(outcome))
        for position, expected, outcome in explorer.stops(before, expectation, calls, f"{SEED} {name}")
    ]
    explorer.points = 0
    chosen = random.Random(f"{SEED} {name}").sample(all_stops, RECOVERIES)
    for position, expected, outcome in chosen:
        scene.boot = boot
        if outcome.is_cut:
            scene.restart_machine()
        boot_then = scene.boot
        materialise(outcome, str(scene.path))
        model = Model.of_folder(str(scene.path))
        recovery = Machine(str(scene.path)).run(scene.pusher(push)).calls
        context = context_of(calls, position)
        for point, expected_then, second in explorer.stops(model, expected, recovery, f"{SEED} {name} {position}"):
            scene.boot = boot_then
            if second.is_cut:
                scene.restart_machine()
            explorer.checker.check(
                second,
                expected_then,
                lambda: f"first {outcome.label}: {context()}\nthen {context_of(recovery, point)()}",  # noqa: B023
            )
    show_count(explorer, record_property)
    explorer.checker.conclude()
    assert explorer.points > 20
