"""How a process with gevent does something later. Each asks a process of its own: gevent patches for good."""

import subprocess
import sys
import urllib.request
from pathlib import Path

from compat.frontends import server_environment, start_gunicorn
from compat.gitclient import Git
from tests.waiting import wait_until

LATER = """
from gevent import monkey
monkey.patch_all()
import gevent
from gevent.event import Event
from govc.repo.give_back import GiveBack
from govc.repo import give_back
from govc.web.gevent_runtime import GEVENT

thread = monkey.get_original("_thread", "get_ident")
serving, came, happened = thread(), [], {}
for who in ("hub", "pool"):
    happened[who] = Event()
def ask(who):
    GEVENT.later(0.01, lambda: (came.append((who, thread() == serving)), happened[who].set()))
ask("hub")
GEVENT.call_blocking(ask, "pool")
for event in happened.values():
    assert event.wait(60)
print(sorted(came))

gave, where = Event(), []
def trim():
    where.append(thread() == serving)
    GEVENT.later(0, gave.set)
give_back.trim = trim
GEVENT.call_blocking(GiveBack(GEVENT).soon, give_back.ENOUGH_OBJECTS)
assert gave.wait(60)
print(where)
"""


def test_what_is_asked_for_in_any_thread_comes_and_what_blocks_stays_off_the_hub() -> None:
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split("\n") == ["[('hub', True), ('pool', True)]", "[False]", ""], done.stderr


def test_with_batches_a_push_is_durable_a_moment_after_its_answer(tmp_path: Path) -> None:
    git = Git(tmp_path / "home", tmp_path)
    (tmp_path / "root").mkdir()
    (tmp_path / "scratch").mkdir()
    git("init", "-q", "--bare", str(tmp_path / "root" / "a.git"))
    git("config", "http.receivepack", "true", cwd=tmp_path / "root" / "a.git")
    git("init", "-q", str(tmp_path / "work"))
    git("commit", "-q", "--allow-empty", "-m", "one", cwd=tmp_path / "work")
    env = server_environment(tmp_path / "home", {"GOVC_DURABILITY": "batch"})
    with start_gunicorn(tmp_path / "root", env, tmp_path / "scratch", ("--export-all",)) as running:

        def syncs() -> float:
            with urllib.request.urlopen(f"{running.url}/-/metrics") as answer:
                lines = answer.read().decode().splitlines()
            return sum(
                float(line.split()[1]) for line in lines if line.startswith("govc_log_sync_duration_seconds_count")
            )

        for number, branch in enumerate(("one", "two"), 1):
            git("push", "-q", f"{running.url}/a.git", f"HEAD:refs/heads/{branch}", cwd=tmp_path / "work")
            wait_until(lambda number=number: syncs() >= number, "the sync")
