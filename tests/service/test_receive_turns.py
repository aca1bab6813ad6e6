"""Who waits for a lock file does so in a thread of a pool, and so may keep out the one who holds it: he gave his thread
back when he asked his hook. Those who need one lock queue for it first.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from govc.refs.transaction import PACKED_CREATION_MIN
from govc.repo.repository import Repository
from govc.repo.runtime import PLAIN
from tests.service.test_receive_looks import Server, git, path
from tests.simulation.pushes import Commit, Push, make_commit
from tests.waiting import SECONDS, wait_until

__all__ = ["path"]

MAIN, HELD, OTHER = "refs/heads/main", "refs/heads/held", "refs/heads/other"
FIRST = make_commit(None, "first", b"first\n")
ASKS = f"""#!/bin/sh
test "$1" = prepared && grep -q {HELD} || exit 0
: > begun
until test -e go; do sleep 0.01; done
"""


@pytest.fixture
def is_waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a push waits for another: in the queue, or (see `server`) in the thread of the pool."""
    event = threading.Event()
    take = Repository.writers_turn

    def turn(self: Repository, **how: bool) -> AbstractContextManager[None]:
        if self._turn.locked():
            event.set()
        return take(self, **how)

    monkeypatch.setattr(Repository, "writers_turn", turn)
    return event


@pytest.fixture
def server(path: Path, is_waiting: threading.Event) -> Iterator[Server]:
    """A server whose pool has one thread."""
    with ThreadPoolExecutor(1) as pool:

        def call_blocking(function: Callable[..., Any], *arguments: Any) -> Any:
            return pool.submit(function, *arguments).result()

        def lock_sleep(seconds: float) -> None:
            is_waiting.set()
            time.sleep(seconds)

        yield Server(path, replace(PLAIN, call_blocking=call_blocking, lock_sleep=lock_sleep))


@pytest.fixture
def holder(path: Path, server: Server) -> Iterator[Any]:
    """A push that deletes HELD, and has asked its hook: what it will answer once there is a file `go`."""
    refs = tuple((name, None, FIRST.oid) for name in (MAIN, HELD, OTHER))
    assert b"ok" in server.push_whole(Push("first", refs, FIRST.objects))
    hook = path / "hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(ASKS)
    hook.chmod(0o755)
    with ThreadPoolExecutor(1) as clients:
        answer = clients.submit(server.push_whole, Push("held", ((HELD, FIRST.oid, None),)))
        try:
            wait_until((path / "begun").exists, "the hook is asked")
            yield answer
        finally:
            (path / "go").touch()


MANY = tuple((f"refs/tags/{number}", None, FIRST.oid) for number in range(PACKED_CREATION_MIN))


@pytest.mark.parametrize("changes", [((OTHER, FIRST.oid, None),), MANY], ids=["deletes", "makes many"])
def test_who_needs_packed_refs_leaves_the_thread_to_the_one_who_holds_it(
    path: Path, server: Server, holder: Any, is_waiting: threading.Event, changes: Any
) -> None:
    with ThreadPoolExecutor(1) as clients:
        answer = clients.submit(server.push_whole, Push("waits", changes))
        assert is_waiting.wait(SECONDS)
        (path / "go").touch()
        assert f"ok {HELD}".encode() in holder.result(SECONDS)
        said = answer.result(SECONDS)
    assert len(changes) == said.count(b"ok refs/")
    assert HELD not in git(path, "for-each-ref")
    git(path, "fsck", "--strict")


def test_who_needs_it_not_goes_on_meanwhile(path: Path, server: Server, holder: Any) -> None:
    second: Commit = make_commit(FIRST.oid, "second", b"second\n")
    said = server.push_whole(Push("second", ((MAIN, FIRST.oid, second.oid),), second.objects))
    assert f"ok {MAIN}".encode() in said
    assert not holder.done()
