"""Making the body of a fetch's answer: head, the pack in frames, progress, tail.

Where an older body of the same line lies in the cache and what is wanted has only grown since, the new one grows out
of it (`growing`); everything else is made anew. Either may be called for more than once: whoever begins again after a
producer died gets all of it from the first byte.
"""

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from govc import phases
from govc.cache.bodies import PRODUCER_QUIET_SECONDS, BodyCache
from govc.cache.flight import Notice, Piece
from govc.cache.grown import Elder
from govc.cache.span import FramedSpan
from govc.errors import GovcError
from govc.protocol.sideband import OVERHEAD, Band, frame
from govc.repo.helper import Progress
from govc.repo.pack_plan import PackPlan, tell_counts, tell_total
from govc.repo.packing import PackProducer
from govc.repo.snapshot import Snapshot
from govc.repo.stored_packing import StoredPart
from govc.service.growing import TIMES_MAX, Growth, Outliner, decode_outline, encode_outline

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """What stands around the pack. `side_band`: the size of a packet, 0 for none."""

    side_band: int
    head: bytes
    tail: bytes


class BodyMaker:
    """One body, whoever it is for. `line`: that of bodies which may grow out of each other, "" for one that can't.
    `may_be_stored`: most of it may well lie in one pack, framed in a side band.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        plan: PackPlan,
        framing: Framing,
        producer: PackProducer,
        bodies: BodyCache,
        call_blocking: Callable[..., Any],
    ) -> None:
        self.line = ""
        self.may_be_stored = False
        self._snapshot = snapshot
        self._plan = plan
        self._framing = framing
        self._producer = producer
        self._bodies = bodies
        self._call_blocking = call_blocking
        self._recorder = phases.CURRENT.get()
        self._outliner = Outliner()

    def make(self) -> Iterator[Piece]:
        """Yield the pieces; None for silences. Raises GovcError."""
        phases.CURRENT.set(self._recorder)  # a production shared by many runs in a thread of its own
        self._outliner = outliner = Outliner()
        if self._framing.head:
            outliner.said(len(self._framing.head))
            yield Notice(self._framing.head)
        elder = self._bodies.find_elder(self.line) if self.line else None
        if elder is not None:
            with closing(elder.body):
                if (yield from self._grow(elder, outliner)):
                    return
        yield from self._make_anew(outliner)

    def make_stored(self) -> Iterator[Piece]:
        """Yield the pieces of a body that is not kept: what lies in a stored pack is sent from there."""
        phases.CURRENT.set(self._recorder)
        outliner = Outliner()
        if self._framing.head:
            yield Notice(self._framing.head)
        yield from self._make_anew(outliner)

    def note(self) -> bytes | None:
        """Return what is to be noted of the body that was made last; None when nothing may grow out of it."""
        outline = self._outliner.outline(self._plan, self._snapshot.algo)
        return encode_outline(outline) if outline is not None else None

    def _make_anew(self, outliner: Outliner) -> Iterator[Piece]:
        stored = self._producer.produce_stored(self._snapshot, self._plan) if self.may_be_stored else None
        made = stored or self._producer.produce(self._snapshot, self._plan, PRODUCER_QUIET_SECONDS)
        with closing(made):
            for item in made:
                if isinstance(item, Progress):
                    yield self._say(item, outliner)
                elif isinstance(item, bytes | StoredPart):
                    piece = self._frame(item)
                    if self.line and piece:
                        outliner.sent(piece)
                    yield piece
                else:
                    yield None
        if self._framing.tail:
            yield self._framing.tail

    def _frame(self, item: bytes | StoredPart) -> bytes | FramedSpan:
        side_band = self._framing.side_band
        if isinstance(item, bytes):
            return frame(Band.DATA, item, side_band) if side_band else item
        pack_fd, payload_max = item.pack.descriptor().pack_fd, side_band - OVERHEAD
        return FramedSpan(
            pack_fd,
            item.start,
            item.end,
            payload_max,
            _data_header,
            self._call_blocking,
            item.pack,
            item.check.look,
        )

    def _grow(self, elder: Elder, outliner: Outliner) -> Generator[Piece, None, bool]:
        """Make the body out of an older one; return whether that could be done."""
        snapshot, plan = self._snapshot, self._plan
        outline = decode_outline(elder.note, snapshot.algo)
        if outline is None or outline.times >= TIMES_MAX:
            return False
        added = self._producer.produce_added(snapshot, plan, outline.before)
        if added is None:
            return False
        outliner.times = outline.times + 1
        with closing(added):
            try:
                growth = Growth(elder.body, outline, snapshot.algo, self._call_blocking)
            except (GovcError, OSError) as error:
                log.warning("%s: %s", snapshot.layout.gitdir, error)
                self._bodies.forget_line(self.line)
                outliner.times = 0
                return False
            count = growth.count_with(added)
            for progress in tell_counts(plan, count):
                yield self._say(progress, outliner)
            try:
                for piece in growth.iter_pieces(added, self._framing.side_band):
                    outliner.sent(piece)
                    yield piece
            except (GovcError, OSError):
                self._bodies.forget_line(self.line)  # the next one is made anew
                raise
            for progress in tell_total(plan, count):
                yield self._say(progress, outliner)
            if self._framing.tail:
                yield self._framing.tail
        return True

    def _say(self, progress: Progress, outliner: Outliner) -> Notice:
        notice = Notice(frame(Band.PROGRESS, progress.text.encode("utf-8"), self._framing.side_band))
        outliner.said(len(notice))
        return notice


def _data_header(size: int) -> bytes:
    return b"%04x%c" % (size + OVERHEAD, Band.DATA)
