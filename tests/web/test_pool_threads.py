"""Threads of a pool that need the same thing at once under gevent: a lock of gevent's may let one wait for ever there.

Each test asks a process of its own: gevent patches for good.
"""

import subprocess
import sys
from pathlib import Path

BEGIN = """
from govc.web import log_lines
log_lines.configure(log_file=sys.argv[1])
from gevent import monkey
monkey.patch_all()
import gevent
from govc.web.gevent_runtime import GEVENT
thread_sleep = monkey.get_original("time", "sleep")
"""

MEASURING = """
from govc.repo import disk_use
uses, settle = disk_use.DiskUses(1), disk_use.DiskUse._measure_folder
def measure_slowly(use, folder):
    if folder.endswith("/pack"):
        thread_sleep(0.05)
    return settle(use, folder)
disk_use.DiskUse._measure_folder = measure_slowly
def measure():
    return [uses.measure(sys.argv[2]) for _ in range(5)]
greenlets = [gevent.spawn(GEVENT.call_blocking, measure) for _ in range(6)]
gevent.joinall(greenlets, timeout=120)
print([greenlet.value == [0] * 5 for greenlet in greenlets])
"""

OPENING = """
from govc.odb.cache import BaseCache
from govc.protocol.oid import SHA1
from govc.repo.creation import create_repository
from govc.repo.journal import JournalOptions
from govc.repo.repository import Repository, Surroundings
create_repository(sys.argv[2], SHA1, export=True, allow_push=True)
class SlowRepository(Repository):
    known = None
    @property
    def _journal(self):
        thread_sleep(0.05)
        return self.known
    @_journal.setter
    def _journal(self, journal):
        self.known = journal
around = Surroundings(environ={}, base_cache=BaseCache(1 << 20), object_bytes_max=1 << 30)
repository = SlowRepository(sys.argv[2], around)
greenlets = [gevent.spawn(GEVENT.call_blocking, repository.journal, JournalOptions()) for _ in range(6)]
gevent.joinall(greenlets, timeout=120)
print([greenlet.value is repository.known for greenlet in greenlets])
"""

LOGGING = """
log = logging.getLogger("govc.web")
def tell(name):
    for number in range(300):
        log.info("%s %d", name, number)
        if name == "hub":
            gevent.sleep(0.001)
    return name
greenlets = [gevent.spawn(GEVENT.call_blocking, tell, name) for name in "abc"]
greenlets.append(gevent.spawn(tell, "hub"))
gevent.joinall(greenlets, timeout=120)
print([greenlet.value for greenlet in greenlets])
"""


def run(code: str, *arguments: Path) -> str:
    """Run code with a log file and these arguments. A process that stands still is ended from inside."""
    guard = "import faulthandler, logging, os, sys\nfaulthandler.dump_traceback_later(200, exit=True)\n"
    command = [sys.executable, "-c", f"{guard}{BEGIN}{code}sys.stdout.flush()\nos._exit(0)\n", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_pushes_that_measure_a_repository_at_once_all_get_an_answer(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    assert run(MEASURING, tmp_path / "log", tmp_path) == str([True] * 6)


def test_pushes_that_open_a_log_at_once_all_get_the_same(tmp_path: Path) -> None:
    assert run(OPENING, tmp_path / "log", tmp_path / "a.git") == str([True] * 6)


def test_lines_of_several_threads_all_come_into_the_log_file(tmp_path: Path) -> None:
    assert run(LOGGING, tmp_path / "log") == "['a', 'b', 'c', 'hub']"
    names = [line.split()[-2] for line in (tmp_path / "log").read_text().splitlines()]
    assert {name: names.count(name) for name in set(names)} == {"a": 300, "b": 300, "c": 300, "hub": 300}
