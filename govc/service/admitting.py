"""Lining up before what costs (see `govc.limits.admission`): the operations of the services, by their names.

    clone      a pack for somebody who has nothing        push       taking in a push
    fetch      a pack for somebody who has something      archive    making an archive

A listing of refs, an answer from the cache and a share in a production of somebody else line up nowhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from govc.limits.admission import Admission, Turn, Wish
from govc.service.context import RequestContext

CLONE, FETCH, PUSH, ARCHIVE = "clone", "fetch", "push", "archive"

WAIT_SECONDS = 0.25


def wish_of(context: RequestContext, operation: str, gitdir: str) -> Wish:
    """Return what a request wants to do."""
    return Wish(operation, gitdir, context.client, context.is_gone)


@contextmanager
def admitted(admission: Admission | None, wish: Wish) -> Iterator[None]:
    """Hold what the operation needs, once it has its turn. May switch. Raises Refused, ClientGone."""
    if admission is None:
        yield
        return
    turn = admission.line_up(wish)
    try:
        while not turn.wait(WAIT_SECONDS):
            continue
        yield
    finally:
        turn.leave()


def iter_waiting(turn: Turn) -> Iterator[None]:
    """Yield None for as long as it is not our turn: for a production, which is ended between two of its pieces."""
    while not turn.wait(WAIT_SECONDS):
        yield None
