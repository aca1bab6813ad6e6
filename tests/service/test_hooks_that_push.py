"""A hook that pushes to its own repository: as with git, that waits for no lock unless the hook is asked under it."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from govc.protocol.oid import SHA1
from govc.repo.creation import create_repository
from tests.service.test_receive_looks import Server, path
from tests.service.test_receive_turns import FIRST, HELD, MAIN, OTHER, is_waiting
from tests.simulation.pushes import Push
from tests.waiting import SECONDS, wait_until

__all__ = ["is_waiting", "path"]

# Waits in the push of HELD, in one state of its transaction where it is asked about that; prepared it may refuse.
ASKS = """#!/bin/sh
case {event} in
    update) test "$1" = {held} || exit 0 ;;
    reference-transaction)
        grep -q {held} || exit 0
        test "$1" = {state} || exit {prepared}
    ;;
    *) grep -q {held} || exit 0 ;;
esac
: > begun
n=0
until test -e go || test $n = 12000; do sleep 0.01; n=$((n + 1)); done
"""


@pytest.fixture(params=["files", "reftable"])
def server(request: Any, tmp_path: Path, path: Path) -> Server:
    """A server of a repository with three branches."""
    shutil.rmtree(path)
    create_repository(str(path), SHA1, export=True, allow_push=True, ref_storage=request.param)
    server = Server(path)
    refs = tuple((name, None, FIRST.oid) for name in (MAIN, HELD, OTHER))
    assert f"ok {OTHER}".encode() in server.push_whole(Push("first", refs, FIRST.objects))
    return server


@pytest.mark.parametrize(
    ("event", "state"),
    [
        ("pre-receive", ""),
        ("update", ""),
        ("post-receive", ""),
        ("post-update", ""),
        ("reference-transaction", "preparing"),
        ("reference-transaction", "committed"),
        ("reference-transaction", "aborted"),
    ],
)
def test_a_push_by_a_hook_waits_for_nothing(
    path: Path, server: Server, is_waiting: threading.Event, event: str, state: str
) -> None:
    """The outer push deletes, and so does the hook: in both they need the lock of packed-refs, or of the tables."""
    hook = path / "hooks" / event
    hook.parent.mkdir(exist_ok=True)
    prepared = '$(test "$1" != prepared; echo $?)' if state == "aborted" else "0"
    text = ASKS if event != "post-update" else ASKS.replace("*) grep -q {held}", '*) test "$1" = {held}')
    hook.write_text(text.format(event=event, held=HELD, state=state or "none", prepared=prepared))
    hook.chmod(0o755)
    with ThreadPoolExecutor(2) as clients:
        outer = clients.submit(server.push_whole, Push("outer", ((HELD, FIRST.oid, None),)))
        try:
            wait_until((path / "begun").exists, "the hook is asked")
            inner = clients.submit(server.push_whole, Push("inner", ((OTHER, FIRST.oid, None),)))
            wait_until(lambda: inner.done() or is_waiting.is_set(), "the hook's push is done, or waits")
            assert not is_waiting.is_set()
            assert not outer.done()
            assert f"ok {OTHER}".encode() in inner.result()
        finally:
            (path / "go").touch()
        said = "ng" if state == "aborted" else "ok"
        assert f"{said} {HELD}".encode() in outer.result(SECONDS)
