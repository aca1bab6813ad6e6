"""The application's modules are imported by the master, before gevent patches: none may keep what is patched later."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from compat.frontends import server_environment, start_gunicorn
from tests.waiting import wait_until

KEPT = """
    import _thread, importlib, sys, types

    for name in sys.argv[1:]:
        importlib.import_module(name)
    locks = (_thread.LockType, _thread.RLock)
    import gunicorn.workers.ggevent
    from gevent import monkey

    ours = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("govc",)}
    monkey.patch_all()  # as gunicorn's worker does
    patched = {}
    for module, names in monkey.saved.items():
        for name, original in names.items():
            if callable(original) and getattr(sys.modules[module], name, None) is not original:
                patched[id(original)] = f"{module}.{name}"

    def look(where, names):
        for name, value in list(names.items()):
            if id(value) in patched or isinstance(value, locks):
                print(f"{where}.{name} {patched.get(id(value), 'a lock')}")
            if isinstance(value, type) and f"{value.__module__}.{value.__qualname__}" == f"{where}.{name}":
                for base in value.__mro__:
                    if id(base) in patched:
                        print(f"{where}.{name} {patched[id(base)]}")
                look(f"{where}.{name}", vars(value))
            function = getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType):
                defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
                for default in defaults:
                    if id(default) in patched:
                        print(f"{where}.{name} {patched[id(default)]}")

    for name, module in sorted(ours.items()):
        look(name, vars(module))
"""

HARMLESS = {
    # Defaults for programs without gevent: `app` hands the runtime's own down.
    "govc.cache.bodies.BodyCache.__init__ time.sleep",
    "govc.refs.backend.WriteOptions.__init__ time.sleep",
    "govc.repo.journal.JournalOptions.__init__ time.sleep",
    "govc.repo.runtime.Runtime.__init__ time.sleep",
    "govc.wal.log.LogOptions.__init__ time.sleep",
}


def kept_by(*modules: str, folder: Path) -> set[str]:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(KEPT), *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return set(done.stdout.splitlines())


def test_no_module_of_ours_keeps_what_gevent_replaces() -> None:
    project = Path(__file__).parents[2]
    assert kept_by("govc.cli.serve", "govc.app", "govc.web.gunicorn_server", folder=project) - HARMLESS == set()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("from time import sleep", "govc_kept.sleep time.sleep"),
        ("import threading\nlock = threading.Lock()", "govc_kept.lock a lock"),
        ("import threading\nclass Own(threading.local): pass", "govc_kept.Own threading.local"),
        ("import time\ndef wait(how=time.sleep): pass", "govc_kept.wait time.sleep"),
        ("import time\nclass Waits:\n    how = time.sleep", "govc_kept.Waits.how time.sleep"),
        ("import time\ndef wait(): time.sleep(1)", ""),
    ],
)
def test_the_search_finds_what_is_kept(tmp_path: Path, text: str, kept: str) -> None:
    (tmp_path / "govc_kept.py").write_text(text)
    script = textwrap.dedent(KEPT).replace('("govc",)', '("govc_kept",)')
    command = [sys.executable, "-W", "ignore", "-c", script, "govc_kept"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == kept


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells what of a process is shared")
def test_workers_share_what_was_imported(tmp_path: Path) -> None:
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    root.mkdir()
    scratch.mkdir()
    with start_gunicorn(root, server_environment(tmp_path / "home", {}), scratch) as running:
        listed = Path(f"/proc/{running.pids[0]}/task/{running.pids[0]}/children")
        wait_until(lambda: len(listed.read_text().split()) == 2, "the second worker")  # the first one answers alone
        for child in listed.read_text().split():
            sizes = dict(line.split()[:2] for line in Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()[1:])
            private = int(sizes["Private_Dirty:"])
            assert private < int(sizes["Anonymous:"]) * 0.6, sizes
