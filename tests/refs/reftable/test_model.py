"""Any sequence of operations leaves what a dict and lists would hold; compaction at any point changes nothing."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from govc.refs.backend import LogUpdates, ReftableOptions
from govc.refs.plan import find_conflicts
from govc.refs.reftable.compaction import Compactor
from govc.refs.reftable.merged import merge_logs
from tests.refs.reftable.conftest import TAG, ZERO, Store, no_sleep, peel

NAMES = [b"refs/heads/" + name for name in (b"a", b"a/b", b"b", b"main", b"x/1", b"x/2", b"x/2/3")] + [b"refs/tags/t"]
OIDS = [bytes((number,)) * 20 for number in range(1, 6)] + [TAG]
WRONG = b"\xee" * 20


class ReftableMachine(RuleBasedStateMachine):
    folder: Path
    count = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).count += 1
        self.store = Store(self.folder / f"{self.count}.git")
        self.refs: dict[bytes, bytes] = {}
        self.logs: dict[bytes, list[tuple[bytes, bytes]]] = {}
        self.head = b"refs/heads/main"
        self.state = self.store.backend().load()

    @initialize(block_size=st.sampled_from([256, 4096]))
    def choose(self, block_size: int) -> None:
        self.store.use(block_size=block_size)

    @rule(
        wanted=st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*OIDS, ZERO]), min_size=1, max_size=4),
        wrong=st.sets(st.sampled_from(NAMES), max_size=1),
        log=st.booleans(),
    )
    def change(self, wanted: dict[bytes, bytes], wrong: set[bytes], log: bool) -> None:
        stale = wanted.keys() & wrong
        updates = [(name, WRONG if name in stale else self.refs.get(name, ZERO), new) for name, new in wanted.items()]
        refused = self.store.run(*updates, log=LogUpdates.ALWAYS if log else LogUpdates.NONE)
        others = {*self.refs, *wanted}
        assert stale <= refused.keys()
        for name in refused.keys() - stale:
            assert any(find_conflicts([name, other]) for other in others), (name, refused[name])
        for name, new in wanted.items():
            if name not in refused:
                self.apply(name, new, log)
        assert not find_conflicts(self.refs)

    def apply(self, name: bytes, new: bytes, log: bool) -> None:
        old = self.refs.get(name, ZERO)
        if old == new:
            return
        if new == ZERO:
            del self.refs[name]
            self.logs.pop(name, None)
        else:
            self.refs[name] = new
            self.add_log(name, old, new, log)
        if name == self.head:
            self.add_log(b"HEAD", old, new, log)

    def add_log(self, name: bytes, old: bytes, new: bytes, log: bool) -> None:
        if log or name in self.logs:
            self.logs.setdefault(name, []).insert(0, (old, new))

    @rule(branch=st.sampled_from(NAMES))
    def point_head(self, branch: bytes) -> None:
        self.store.shared.set_symref(b"HEAD", branch, self.store.options)
        self.head = branch

    @rule()
    def tidy(self) -> None:
        self.store.shared.tidy(self.store.options)

    @rule()
    def pack(self) -> None:
        self.store.shared.pack(peel, self.store.options)

    @rule(first=st.integers(0, 3), last=st.integers(0, 3))
    def merge_some(self, first: int, last: int) -> None:
        """Merge any neighbouring tables, not only those that the geometry asks for."""
        stack = self.store.shared.stacks[0]
        compactor = Compactor(stack, ReftableOptions(), sleep=no_sleep, modes=self.store.options.modes, fsync=False)
        tables = stack.open_tables()[first : last + 1]
        if len(tables) > 1:
            assert compactor._merge(tables, drop_tombstones=first == 0) == len(tables)

    @rule()
    def start_anew(self) -> None:
        self.store.shared = self.store.backend()

    @invariant()
    def everybody_sees_the_model(self) -> None:
        self.state = self.store.shared.load(self.state)
        for state in (self.state, self.store.backend().load()):
            table = state.table
            assert self.refs == {ref.name: ref.oid for ref in table.iter_refs()}
            assert sorted(self.refs) == list(table.iter_names())
            assert (self.head, self.refs.get(self.head), False) == table.head
            for name in NAMES:
                assert table.resolve(name) == self.refs.get(name)
                assert table.has_prefix(name + b"/") == any(other.startswith(name + b"/") for other in self.refs)
            assert all(ref.peeled == peel(TAG) for ref in table.iter_refs() if ref.oid == TAG)
        tables = self.state.stacks[0].tables
        for name in (*NAMES, b"HEAD"):
            found = [(log.entry.old, log.entry.new) for log in merge_logs(tables, name, drop_tombstones=True)]
            assert found == self.logs.get(name, [])


@pytest.mark.parametrize("on_top_max", [2000, 3])
def test_property_random_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_top_max: int) -> None:
    """With almost nothing allowed on top, tables are folded all the time."""
    monkeypatch.setattr("govc.refs.reftable.merged.ON_TOP_MAX", on_top_max)
    ReftableMachine.folder = tmp_path
    profile = settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(ReftableMachine, settings=profile)
