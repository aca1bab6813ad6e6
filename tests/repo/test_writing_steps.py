"""The states of a ref transaction, and what a veto in each of them does."""

import pytest

from govc.odb.cache import BaseCache
from govc.refs.plan import REASON_HOOK, RefUpdate
from govc.repo.journal import JournalOptions
from govc.repo.repository import Repository, Surroundings
from govc.repo.writing import Origin, RefWriter, State
from tests.repo.worlds import Site

ORIGIN = Origin(committer=b"C <c@example.com>", message=b"push")


@pytest.fixture
def writer(site: Site) -> RefWriter:
    around = Surroundings(environ=site.environ, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 20)
    repository = Repository(str(site.repo), around)
    return RefWriter(repository, repository.snapshot(), ORIGIN, JournalOptions(), clock=lambda: 1700000000)


def drive(steps, answers=None):
    """Run to the end; return the stages met and what was refused, by name."""
    stages = []
    try:
        stage = next(steps)
        while True:
            stages.append((stage.state, [update.name for update in stage.updates]))
            stage = steps.send((answers or {}).get(stage.state, True))
    except StopIteration as stop:
        return stages, {name: (error.reason, error.detail) for name, error in stop.value.items()}


def updates(site):
    zero = bytes(20)
    first, second = site.first, site.second
    return RefUpdate(b"refs/heads/main", first, second), RefUpdate(b"refs/heads/new", zero, first)


def test_a_transaction_is_seen_in_git_s_states(site, writer):
    stages, refused = drive(writer.change_in_steps(updates(site)))
    names = [b"refs/heads/main", b"refs/heads/new"]
    assert [(State.PREPARING, names), (State.PREPARED, names), (State.COMMITTED, names)] == stages
    assert {} == refused
    assert site.second.hex() == site.git("rev-parse", "refs/heads/main")


def test_what_is_refused_is_not_prepared(site, writer):
    good, _ = updates(site)
    stale = RefUpdate(b"refs/heads/packed", site.second, site.first)
    stages, refused = drive(writer.change_in_steps((good, stale)))
    assert [b"refs/heads/main", b"refs/heads/packed"] == stages[0][1]
    assert [(State.PREPARED, [b"refs/heads/main"]), (State.COMMITTED, [b"refs/heads/main"])] == stages[1:]
    assert [b"refs/heads/packed"] == list(refused)


def test_an_atomic_refusal_is_never_prepared(site, writer):
    good, _ = updates(site)
    stale = RefUpdate(b"refs/heads/packed", site.second, site.first)
    stages, _ = drive(writer.change_in_steps((good, stale), atomic=True))
    assert [State.PREPARING] == [state for state, _ in stages]
    assert site.first.hex() == site.git("rev-parse", "refs/heads/main")


@pytest.mark.parametrize("state", [State.PREPARING, State.PREPARED])
def test_a_veto_changes_nothing_and_says_so_once(site, writer, state):
    wanted = updates(site)
    stages, refused = drive(writer.change_in_steps(wanted), {state: False})
    assert (State.ABORTED, [update.name for update in wanted]) == stages[-1]
    said = f"in '{state.value}' phase, update aborted by the reference-transaction hook"
    assert {b"refs/heads/main": (REASON_HOOK, said), b"refs/heads/new": (REASON_HOOK, "")} == refused
    assert site.first.hex() == site.git("rev-parse", "refs/heads/main")
    assert [] == list(site.repo.glob("refs/**/*.lock"))


def test_leaving_after_prepare_undoes_it(site, writer):
    steps = writer.change_in_steps(updates(site))
    assert State.PREPARING is next(steps).state
    assert State.PREPARED is steps.send(True).state
    assert [] != list(site.repo.glob("refs/**/*.lock"))
    steps.close()
    assert [] == list(site.repo.glob("refs/**/*.lock"))
    assert site.first.hex() == site.git("rev-parse", "refs/heads/main")
