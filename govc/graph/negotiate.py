"""Which commits both sides have, and whether that is enough to build a pack.

A have means that its parents are common too, so repeating them is no news. The server is *ready* when every
want reaches some common commit; commits older than the oldest have are not looked at for that.

Source: gitprotocol-pack "Packfile Negotiation", git's upload-pack.c (do_got_oid, ok_to_give_up).
"""

from collections.abc import Iterable

from govc.errors import ObjectMissing
from govc.graph.commits import History, follow_tags
from govc.graph.interface import Work
from govc.graph.view import View
from govc.graph.walk import all_reach
from govc.objects.types import COMMIT


class Negotiation:
    """The have phase of one request."""

    __slots__ = (
        "_have_numbers",
        "_history",
        "_known",
        "_newest",
        "_oldest_have",
        "_they_have",
        "_view",
        "_wanted",
        "_wants",
        "common",
    )

    def __init__(self, history: History, wants: Iterable[bytes], view: View | None = None) -> None:
        """`view`: an index of the same history, asked before it is walked. `wants` are looked at when it is first asked
        whether they reach something: a clone, or the blobs of a partial one, never asks.
        """
        self._history = history
        self._view = view
        self._wants = wants
        self._wanted: list[int] | None = None
        self._they_have: set[int] = set()
        self._have_numbers: set[int] = set()
        self._known: set[int] = set()
        self._oldest_have: int | None = None
        self._newest: int | None = None
        """The last commit that was noted; what it says is read when something depends on it, mostly never."""
        self.common: list[bytes] = []
        """The haves that we have too and that said something new, in order: the haves of the closure."""

    def add_have(self, oid: bytes) -> bool:
        """Note a have. Return True when we have that object (of any type), which is then acknowledged."""
        reader = self._history.reader
        number = reader.find(oid)
        if number < 0:
            return False
        if reader.type_of(number) != COMMIT:
            if number not in self._have_numbers:
                self._have_numbers.add(number)
                self.common.append(oid)
            return True
        self._read_newest()
        self._newest = number
        if number not in self._they_have:
            self._they_have.add(number)
            self.common.append(oid)
        return True

    def _read_newest(self) -> None:
        number, self._newest = self._newest, None
        if number is None:
            return
        time = self._history.time(number)
        if self._oldest_have is None or time < self._oldest_have:
            self._oldest_have = time
        self._they_have.update(self._history.known_parents(number))

    def is_ready(self) -> Work[bool]:
        """Return whether every wanted commit reaches a common one; False while there is no common object."""
        if not self.common:
            return False
        self._read_newest()
        oldest = 0 if self._oldest_have is None else self._oldest_have
        if self._wanted is None:
            self._wanted = self._peel_wants(self._wants)
        wanted = self._wanted
        if self._view is not None:
            oid_of = self._history.reader.oid_of
            starts = self._view.cids(map(oid_of, wanted))
            goals = self._view.cids(map(oid_of, self._they_have))
            if len(starts) == len(wanted) and len(goals) == len(self._they_have):
                return self._view.sweep.reach(starts, goals, oldest)
        return (yield from all_reach(self._history, wanted, self._they_have, oldest, self._known))

    def _peel_wants(self, wants: Iterable[bytes]) -> list[int]:
        """Return the wanted commits; other wants have no ancestry to tell by and hold nothing back."""
        reader = self._history.reader
        commits: dict[int, None] = {}
        for oid in wants:
            number = reader.find(oid)
            if number < 0:
                raise ObjectMissing(oid)
            _tags, target, type_number = follow_tags(reader, number, self._history.may_be_missing)
            if type_number == COMMIT and target >= 0:
                commits[target] = None
        return list(commits)
