"""Answers that can't be finished: the client is told within the stream, which is then cut short, as git does it.

No client takes half a pack for a whole one: what ends without its flush is not whole.
"""

import logging
from collections.abc import Generator
from contextlib import closing
from time import monotonic
from typing import TypeVar

from govc.cache.bodies import Chunk
from govc.errors import ClientGone, GovcError, Refused
from govc.protocol.sideband import Band, frame
from govc.service.context import RequestContext

log = logging.getLogger(__name__)

ABORTING = "aborting due to possible repository corruption on the remote side."

_T = TypeVar("_T")


class BrokenStream(GovcError):
    """The answer can't be finished; what was sent says so already, and the connection must end unclean."""


def break_off(
    chunks: Generator[Chunk, None, _T],
    context: RequestContext,
    gitdir: str,
    side_band: int,
    *,
    has_begun: bool = False,
) -> Generator[Chunk, None, _T]:
    """Yield the chunks of a body, and what is left to say when they end with an error. Raises BrokenStream; Refused or
    ClientGone, which are answers of their own, before the first chunk.
    """
    started = monotonic()
    try:
        with closing(chunks):
            while True:
                try:
                    chunk = next(chunks)
                except StopIteration as stop:
                    result: _T = stop.value
                    return result
                has_begun = True
                yield chunk
    except (GovcError, OSError) as error:  # also when no process is to be had for a helper
        if isinstance(error, Refused | ClientGone) and not has_begun:
            raise
        log.error("%s: %s: fetch failed after %.1f s: %s", context.request_id, gitdir, monotonic() - started, error)
        if side_band:
            yield frame(Band.ERROR, ABORTING.encode("ascii"), side_band)
        raise BrokenStream(str(error)) from error
