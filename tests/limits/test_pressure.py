"""How short is the machine? Read from folders that look like /proc and /sys/fs/cgroup."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.limits.pace import IDLE, SLOW, Pace, PaceLimits
from govc.limits.pressure import Pressure, PressureReader

MEMINFO = "MemTotal:       1000 kB\nMemFree:        10 kB\nMemAvailable:   {available} kB\n"
PSI = "some avg10={some} avg60=1.00 avg300=2.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


class Machine:
    """Files below a folder."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("proc/self", "proc/pressure", "cgroup"):
            (folder / name).mkdir(parents=True)
        self.write("proc/meminfo", MEMINFO.format(available=600))
        self.write("proc/self/cgroup", "4:memory:/v1\n0::/system.slice/govc.service\n")

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def group(self, name, *, limit="max", current=0, files=0):
        place = f"cgroup/{name}".rstrip("/")
        self.write(f"{place}/memory.max", f"{limit}\n")
        self.write(f"{place}/memory.current", f"{current}\n")
        self.write(f"{place}/memory.stat", f"anon 1\nactive_file {files}\ninactive_file {files}\n")

    def read(self, cpus=4):
        return PressureReader(str(self.folder / "proc"), str(self.folder / "cgroup"), cpus).read()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_machine_that_says_nothing_has_time(tmp_path):
    assert PressureReader(str(tmp_path), str(tmp_path)).read() == Pressure(0, 0, 0)


@pytest.mark.parametrize("text", ["", "junk", "some", "some avg10=", "MemTotal: x kB", "\x80"])
def test_files_that_make_no_sense_count_for_nothing(machine, text):
    for name in ("meminfo", "loadavg", "self/cgroup", "pressure/cpu", "pressure/memory"):
        machine.write(f"proc/{name}", text)
    assert machine.read() == Pressure(0, 0, 0)


@pytest.mark.parametrize(
    ("load", "cpus", "percent"), [("8.00", 4, 50), ("4.00", 4, 0), ("0.00", 4, 0), ("5.00", 4, 20)]
)
def test_without_pressure_stall_information_the_load_says_who_waits(machine, load, cpus, percent):
    machine.write("proc/loadavg", f"{load} 1.00 1.00 1/99 1234\n")
    assert machine.read(cpus) == Pressure(cpu=percent, memory=40, stall=0)


def test_pressure_of_the_machine_and_of_our_group(machine):
    machine.write("proc/loadavg", "90.00 1.00 1.00 1/99 1234\n")
    machine.write("proc/pressure/cpu", PSI.format(some="12.50"))
    machine.write("proc/pressure/memory", PSI.format(some="3.00"))
    assert machine.read() == Pressure(cpu=12.5, memory=40, stall=3)
    machine.write("cgroup/cgroup.controllers", "cpu memory\n")
    machine.write("cgroup/system.slice/govc.service/cpu.pressure", PSI.format(some="70.00"))
    assert machine.read() == Pressure(cpu=70, memory=40, stall=3)


def test_the_tightest_limit_around_us_counts_and_pages_of_files_do_not(machine):
    machine.write("cgroup/cgroup.controllers", "cpu memory\n")
    machine.group("system.slice/govc.service", current=500)
    assert machine.read().memory == 40
    machine.group("system.slice/govc.service", limit="1000", current=900, files=100)
    assert machine.read().memory == 70
    machine.group("system.slice", limit="1000", current=950)
    assert machine.read().memory == 95
    machine.group("", limit="0", current=5)
    assert machine.read().memory == 95


# Pace

LIMITS = PaceLimits(bytes_per_second=100, window_seconds=10, idle_seconds=30)


def looks(pace, *moved):
    """A look a second; what each says."""
    return [pace.look(number, 1.0) for number in moved]


def test_silence_is_too_long_after_so_many_seconds_of_waiting():
    assert looks(Pace(LIMITS, 5), *[5] * 30) == [None] * 29 + [IDLE]


def test_each_byte_ends_a_silence_but_does_not_make_a_client_quick():
    pace = Pace(LIMITS)
    said = looks(pace, *(number // 8 for number in range(40)))
    assert said[9] == SLOW


def test_a_window_is_an_average():
    quick = Pace(LIMITS)
    assert looks(quick, *[1000] * 10) == [None] * 10
    assert looks(quick, *[1999] * 10) == [None] * 9 + [SLOW]


def test_only_one_of_both():
    silent = Pace(PaceLimits(bytes_per_second=100, window_seconds=10, idle_seconds=0))
    assert looks(silent, *[0] * 500) == [None] * 500
    trickling = Pace(PaceLimits(bytes_per_second=0, window_seconds=10, idle_seconds=30))
    assert looks(trickling, *(number // 20 for number in range(500))) == [None] * 500


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 2)), max_size=300))
def test_who_moves_enough_in_every_second_is_never_ended(steps):
    pace, moved = Pace(LIMITS), 0
    for extra, seconds in steps:
        moved += int(100 * seconds) + 1 + extra
        assert pace.look(moved, seconds) is None


@given(st.lists(st.integers(0, 50), min_size=400, max_size=400))
def test_who_never_moves_enough_is_ended_soon(steps):
    pace, moved, said = Pace(LIMITS), 0, []
    for extra in steps:
        moved += extra
        said.append(pace.look(moved, 1.0))
    first = next(number for number, limit in enumerate(said) if limit is not None)
    assert first < LIMITS.idle_seconds + LIMITS.window_seconds
