"""Lining up before what costs (see `govc.limits.admission`): the operations of the services, by their names.

    clone      a pack for somebody who has nothing        push       taking in a push
    fetch      a pack for somebody who has something      archive    making an archive

A listing of refs, an answer from the cache, a share in a production of somebody else, and a fetch that is answered
within some milliseconds (`govc.service.begun`) line up nowhere.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from govc.cache.flight import Piece
from govc.limits.admission import Admission, Wish
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


def iter_in_turn(admission: Admission | None, wish: Wish, make: Callable[[], Iterator[Piece]]) -> Iterator[Piece]:
    """Make a body when it is its turn. Yields None while it waits: a production is ended between two pieces.

    Raises Refused before the first piece.
    """
    if admission is None:
        yield from make()
        return
    turn = admission.line_up(wish)
    try:
        while not turn.wait(WAIT_SECONDS):
            yield None
        yield from make()
    finally:
        turn.leave()
