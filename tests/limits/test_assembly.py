"""What the settings ask for is there, and what nobody asked for isn't."""

import pytest

from govc.errors import Refused
from govc.limits.admission import Wish
from govc.limits.assembly import make_limits
from govc.limits.watch import NO_WATCH
from govc.settings import BadSetting, load_settings

OFF = {
    "GOVC_SHED_MEMORY_PERCENT": "0",
    "GOVC_SHED_STALL_PERCENT": "0",
    "GOVC_CLIENT_IDLE_SECONDS": "0",
    "GOVC_CLIENT_BYTES_PER_SECOND_MIN": "0",
}


class Paths:
    def __init__(self, folder):
        self.folder = folder
        self.asked = []

    def __call__(self, name):
        self.asked.append(name)
        return str(self.folder / name)


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


def limits_of(paths, **settings):
    environ = {f"GOVC_{name.upper()}": str(value) for name, value in settings.items()}
    return make_limits(load_settings(environ), paths, NO_WATCH)


def test_nothing_is_counted_by_default(paths):
    limits = limits_of(paths)
    assert limits.rates is None
    assert limits.pace == (100, 300, 600)
    assert limits.admission is not None  # which asks for the memory only
    assert paths.asked == []


def test_all_may_be_switched_off(paths):
    limits = make_limits(load_settings(OFF), paths, NO_WATCH)
    assert (limits.admission, limits.rates, limits.pace) == (None, None, None)


@pytest.mark.parametrize("name", ["operations_max", "operations_per_repository_max", "operations_per_client_max"])
def test_each_limit_counts_in_the_shared_file(paths, name):
    one, other = (limits_of(paths, operations_queued_max=0, **{name: 1}).admission for _ in range(2))
    assert paths.asked == ["places", "places"]
    turn = one.line_up(Wish("clone", "/a", "ann"))
    with pytest.raises(Refused) as refused:
        other.line_up(Wish("clone", "/a", "ann"))
    assert refused.value.limit in (name, "operations_per_client_max")
    turn.leave()
    other.line_up(Wish("clone", "/a", "ann")).leave()


def test_rates_are_shared(paths):
    one, other = (limits_of(paths, rate_per_address=1, rate_burst_seconds=60).rates for _ in range(2))
    one.check_address("192.0.2.1", is_first=True)
    with pytest.raises(Refused):
        other.check_address("192.0.2.1", is_first=True)
    other.check_user("ann", is_first=True)
    other.check_user("ann", is_first=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shed_cpu_percent", 101),
        ("header_bytes_max", 8191),
        ("header_bytes_max", 511),
        ("rate_burst_seconds", 0),
        ("rate_per_address", -1),
        ("operations_max", "many"),
    ],
)
def test_values_that_make_no_sense(name, value):
    with pytest.raises(BadSetting, match=name):
        load_settings({f"GOVC_{name.upper()}": str(value)})
