"""How short the machine is of CPU and memory, in percent, by the best measure that there is.

    cpu       the share of the last ten seconds in which somebody waited for a CPU: "some avg10" of the pressure stall
              information of our control group, else of the machine; without that, the share of the load of the last
              minute that is more than the CPUs
    memory    what is in use and can't be dropped, of what there is: the larger of machine (MemAvailable) and control
              groups (ours and those around it that have a limit; files' pages don't count)
    stall     the share of the last ten seconds in which somebody waited for memory to be freed or read back; 0 without
              pressure stall information

Files that are not there, or say something unexpected, count as no pressure. Reading takes some 50 µs.

Source: the kernel's admin-guide/cgroup-v2 "memory.current", "memory.stat", accounting/psi, proc(5).
"""

import os
import re
from typing import NamedTuple

_SOME = re.compile(r"some avg10=([0-9]+(?:\.[0-9]+)?)")
_TOTAL = re.compile(r"^MemTotal: +([0-9]+) kB$", re.MULTILINE)
_AVAILABLE = re.compile(r"^MemAvailable: +([0-9]+) kB$", re.MULTILINE)
_READ_BYTES = 64 << 10


class Pressure(NamedTuple):
    """One moment, in percent."""

    cpu: float
    memory: float
    stall: float


class PressureReader:
    """Reads below `proc` and `cgroups`, which a test can make."""

    def __init__(self, proc: str = "/proc", cgroups: str = "/sys/fs/cgroup", cpus: int | None = None) -> None:
        self._proc = proc
        self._cpus = cpus or os.cpu_count() or 1
        self._groups = _own_groups(proc, cgroups)

    def read(self) -> Pressure:
        """Return how it is now."""
        cpu = self._some("cpu")
        return Pressure(
            cpu=cpu if cpu is not None else self._waiting_share(),
            memory=max([self._machine_memory(), *(_group_memory(group) for group in self._groups)]),
            stall=self._some("memory") or 0.0,
        )

    def _some(self, resource: str) -> float | None:
        paths = [f"{group}/{resource}.pressure" for group in self._groups[:1]]
        for path in (*paths, f"{self._proc}/pressure/{resource}"):
            match = _SOME.match(_read(path))
            if match is not None:
                return float(match[1])
        return None

    def _waiting_share(self) -> float:
        try:
            load = float(_read(f"{self._proc}/loadavg").split()[0])
        except (IndexError, ValueError):
            return 0.0
        return max(0.0, (load - self._cpus) / load * 100) if load > 0 else 0.0

    def _machine_memory(self) -> float:
        text = _read(f"{self._proc}/meminfo")
        found, available = _TOTAL.search(text), _AVAILABLE.search(text)
        if found is None or available is None or not (total := int(found[1])):
            return 0.0
        return (total - int(available[1])) / total * 100


def _own_groups(proc: str, cgroups: str) -> list[str]:
    """Return the folders of our control group (version 2) and those around it, from the inside out."""
    match = re.search(r"^0::(/.*)$", _read(f"{proc}/self/cgroup"), re.MULTILINE)
    if match is None or not os.path.exists(f"{cgroups}/cgroup.controllers"):
        return []
    names = [name for name in match[1].split("/") if name]
    return ["/".join((cgroups, *names[:count])) for count in range(len(names), -1, -1)]


def _group_memory(group: str) -> float:
    try:
        limit, current = int(_read(f"{group}/memory.max")), int(_read(f"{group}/memory.current"))
    except ValueError:  # "max", or no such file
        return 0.0
    statistics = _numbers(f"{group}/memory.stat")
    droppable = statistics.get("active_file", 0) + statistics.get("inactive_file", 0)
    return max(0, current - droppable) / limit * 100 if limit else 0.0


def _numbers(path: str) -> dict[str, int]:
    words = (line.split() for line in _read(path).splitlines())
    return {word[0]: int(word[1]) for word in words if len(word) > 1 and word[1].isdigit()}


def _read(path: str) -> str:
    """Return what is in a file. Python's own files ask the kernel nine questions for that."""
    pieces = []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while piece := os.read(descriptor, _READ_BYTES):
                pieces.append(piece)
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    return b"".join(pieces).decode("ascii", "replace")
