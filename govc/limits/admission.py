"""Who may work now: places for operations, and a bounded queue before them.

An operation is what costs: making a pack, making an archive, taking in a push. It needs a place of its client, one of
its repository and one of the server, all at once or none. Whoever finds one missing joins the queue, if that has room,
and is let in when all three are free, or refused when `queue_seconds` are over.

    line_up(wish) → Turn        refused at once when the queue is full, or the machine is short (`shedding`)
    turn.wait(seconds)          True: go; False: not yet
    turn.leave()                gives everything back; in a `finally`, always

**Shared by all workers** (`places`): a number means the server. Nothing has to be tidied up after a killed worker.

**Nobody takes all.** One client (a user, or an address that nobody has logged in from) has at most three quarters of
the places, of those of one repository, and of the queue, unless the setting says otherwise. Within a worker the clients
that wait are let in by turns. Between workers the lot decides: each looks every few milliseconds, at random, for a free
place. Who arrives goes past nobody: while anybody waits, in any worker, he joins the queue.

**Who waits for one busy repository** keeps nobody back who wants another.

A thread (a greenlet under gevent) looks for free places while somebody of this process waits; `serve` is what it calls,
and a test can call it instead.
"""

import logging
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from govc.errors import ClientGone, Refused
from govc.limits.places import Place, Places
from govc.limits.shedding import Shedder
from govc.limits.watch import NO_WATCH, LimitWatch

log = logging.getLogger(__name__)

LOOK_SECONDS = (0.005, 0.015)
"""How long between two looks for a free place: a random time between these."""
GONE_SECONDS = 1.0
"""How often those who wait are asked whether their client is still there, and how long they have waited by then."""

_SERVER, _REPOSITORY, _CLIENT = "operations_max", "operations_per_repository_max", "operations_per_client_max"
_SHARE = "operations_per_repository_max per client"
_QUEUE, _QUEUE_SHARE = "operations_queued_max", "operations_queued_max per client"
_FULL = {
    _SERVER: "The server has as much to do as it can take on at once.",
    _REPOSITORY: "This repository has as much to do as it may at once.",
    _CLIENT: "You have as many operations under way here as one client may.",
}


def _nobody_knows() -> bool:
    return False


class Wish(NamedTuple):
    """What somebody wants to do. `is_gone` says whether the client has hung up."""

    operation: str
    repository: str
    client: str
    is_gone: Callable[[], bool] = _nobody_knows


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """0 means no limit, except for `queued_max`: nobody waits."""

    operations_max: int = 0
    per_repository_max: int = 0
    per_client_max: int = 0
    queued_max: int = 0
    queue_seconds: float = 30.0

    @property
    def client_share(self) -> int:
        """How many places one client may have."""
        return self.per_client_max or _three_quarters(self.operations_max)

    @property
    def client_share_of_repository(self) -> int:
        """How many of one repository's places one client may have."""
        return 0 if self.per_client_max else _three_quarters(self.per_repository_max)

    @property
    def counts(self) -> bool:
        """Whether anything is counted."""
        return bool(self.operations_max or self.per_repository_max or self.per_client_max)


def _three_quarters(count: int) -> int:
    return max(1, count * 3 // 4) if count else 0


class Turn:
    """One operation, from the moment that it lines up until it leaves."""

    __slots__ = ("_admission", "admitted", "came_at", "in_queue", "lacks", "places", "refusal", "told", "wish")

    def __init__(self, admission: "Admission", wish: Wish, came_at: float) -> None:
        self._admission = admission
        self.wish = wish
        self.came_at = came_at
        self.told: threading.Event | None = None
        """Set when something has become of it; only who waits needs one, and making it costs more than all the rest."""
        self.admitted = False
        self.refusal: Exception | None = None
        self.lacks = _SERVER
        self.places: list[Place] = []
        self.in_queue: list[Place] = []

    def wait(self, seconds: float) -> bool:
        """Say whether the operation may begin, waiting up to so long. May switch. Raises Refused, ClientGone."""
        if not self.admitted:
            assert self.told is not None
            self.told.wait(seconds)
            if self.refusal is not None:
                raise self.refusal
        return self.admitted

    def leave(self) -> None:
        """Give back whatever was taken; again is harmless."""
        self._admission.leave(self)


class Admission:
    """The door of one process; its places are the server's."""

    def __init__(
        self,
        limits: AdmissionLimits,
        places: Places,
        shedder: Shedder | None = None,
        *,
        watch: LimitWatch = NO_WATCH,
        clock: Callable[[], float] = time.monotonic,
        start_thread: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        """`start_thread` runs a function beside us; a test may give one that doesn't, and call `serve` itself."""
        self._limits = limits
        self._places = places
        self._shedder = shedder
        self._watch = watch
        self._clock = clock
        self._start_thread = start_thread or _start_daemon
        self._lock = threading.RLock()
        self._queues: OrderedDict[str, deque[Turn]] = OrderedDict()
        self._is_looking = False
        self._asked_at = 0.0

    @property
    def counts(self) -> bool:
        """Whether anybody may have to wait."""
        return self._limits.counts

    def check(self, operation: str) -> None:
        """Refuse an operation that needs no place when the machine is too short for it. Raises Refused."""
        if self._shedder is not None:
            try:
                self._shedder.check(operation)
            except Refused as error:
                self._watch.refused(error.limit)
                raise

    def line_up(self, wish: Wish) -> Turn:
        """Return a turn, which may have come already. Never waits. Raises Refused."""
        try:
            if self._shedder is not None:
                self._shedder.check(wish.operation)
            turn = Turn(self, wish, self._clock())
            with self._lock:
                waits_elsewhere = self._does_anybody_wait_elsewhere()
                if not self._queues and not waits_elsewhere and self._try(turn):
                    self._admit(turn)
                else:
                    self._join_queue(turn)
                    if not waits_elsewhere:
                        self._let_in()
        except Refused as error:
            self._watch.refused(error.limit)
            raise
        return turn

    def _does_anybody_wait_elsewhere(self) -> bool:
        queued_max = self._limits.queued_max
        return bool(queued_max) and self._places.is_taken_elsewhere(_QUEUE, "", queued_max)

    def _try(self, turn: Turn) -> bool:
        """Take all the places that the operation needs, or none of them."""
        limits, wish = self._limits, turn.wish
        for limit, kind, name, count in (
            (_CLIENT, _CLIENT, wish.client, limits.client_share),
            (_CLIENT, _SHARE, f"{wish.client}\0{wish.repository}", limits.client_share_of_repository),
            (_REPOSITORY, _REPOSITORY, wish.repository, limits.per_repository_max),
            (_SERVER, _SERVER, "", limits.operations_max),
        ):
            if not count:
                continue
            place = self._places.take(kind, name, count)
            if place is None:
                turn.lacks = limit
                _give_back(turn.places)
                return False
            turn.places.append(place)
        return True

    def _admit(self, turn: Turn) -> None:
        turn.admitted = True
        self._watch.working(turn.wish.operation, 1)
        if turn.told is not None:
            turn.told.set()

    # The queue

    def _join_queue(self, turn: Turn) -> None:
        """Raises Refused when there is no room."""
        queued_max = self._limits.queued_max
        for kind, name, count in (
            (_QUEUE_SHARE, turn.wish.client, _three_quarters(queued_max)),
            (_QUEUE, "", queued_max),
        ):
            place = self._places.take(kind, name, count) if count else None
            if place is None:
                _give_back(turn.in_queue)
                turn.lacks = _CLIENT if count and kind == _QUEUE_SHARE else turn.lacks
                raise self._full(turn)
            turn.in_queue.append(place)
        turn.told = threading.Event()
        self._queues.setdefault(turn.wish.client, deque()).append(turn)
        self._watch.waiting(1)
        if not self._is_looking:
            self._is_looking = True
            try:
                self._start_thread(self._look)
            except BaseException:
                self._is_looking = False
                self._take_out(turn)
                raise

    def _full(self, turn: Turn) -> Refused:
        text = f"{_FULL[turn.lacks]} Please try again."
        return Refused(turn.lacks, text, http_status=503, retry_after_seconds=self._limits.queue_seconds)

    def _take_out(self, turn: Turn) -> None:
        """Take somebody out of the queue, whatever has become of him."""
        queue = self._queues.get(turn.wish.client)
        if queue is None or turn not in queue:
            return
        queue.remove(turn)
        if not queue:
            del self._queues[turn.wish.client]
        _give_back(turn.in_queue)
        self._watch.waiting(-1)
        self._watch.waited(self._clock() - turn.came_at)

    def _look(self) -> None:
        """Serve for as long as somebody waits: the function of the thread."""
        while True:
            time.sleep(random.uniform(*LOOK_SECONDS))
            with self._lock:
                try:
                    self.serve()
                except Exception as error:
                    # Who waits must never be forgotten.
                    log.exception("the queue could not be served")
                    for turn in self._all_waiting():
                        self._turn_away(turn, error)
                if not self._queues:
                    self._is_looking = False
                    return

    def _all_waiting(self) -> list[Turn]:
        return [turn for queue in self._queues.values() for turn in queue]

    def _turn_away(self, turn: Turn, reason: Exception) -> None:
        self._take_out(turn)
        turn.refusal = reason
        if turn.told is not None:
            turn.told.set()

    def serve(self) -> None:
        """Let in who can be let in, by turns of clients; turn away who has waited too long, or is gone."""
        with self._lock:
            self._sort_out()
            self._let_in()

    def _sort_out(self) -> None:
        now = self._clock()
        asks = now - self._asked_at >= GONE_SECONDS
        if asks:
            self._asked_at = now
        for turn in self._all_waiting():
            if asks and now - turn.came_at >= GONE_SECONDS and turn.wish.is_gone():
                self._turn_away(turn, ClientGone())
            elif now - turn.came_at >= self._limits.queue_seconds:
                self._watch.refused(turn.lacks)
                self._turn_away(turn, self._full(turn))

    def _let_in(self) -> None:
        while self._let_one_in():
            continue

    def _let_one_in(self) -> bool:
        """Let the first one in for whom there is a place; his client's others go behind all others."""
        busy: set[str] = set()
        for client, queue in self._queues.items():
            client_busy: set[str] = set()
            for turn in queue:
                if turn.wish.repository in busy or turn.wish.repository in client_busy:
                    continue
                if self._try(turn):
                    self._take_out(turn)
                    if client in self._queues:
                        self._queues.move_to_end(client)
                    self._admit(turn)
                    return True
                if turn.lacks == _SERVER:
                    return False
                (busy if turn.lacks == _REPOSITORY else client_busy).add(turn.wish.repository)
        return False

    def leave(self, turn: Turn) -> None:
        """See Turn.leave."""
        with self._lock:
            self._take_out(turn)
            _give_back(turn.places)
            if not turn.admitted:
                return
            turn.admitted = False
            self._watch.working(turn.wish.operation, -1)
            if self._queues and not self._does_anybody_wait_elsewhere():
                self._let_in()


def _give_back(places: list[Place]) -> None:
    while places:
        places.pop().give_back()


def _start_daemon(function: Callable[[], None]) -> None:
    threading.Thread(target=function, daemon=True).start()
