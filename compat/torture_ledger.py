"""The clients' common record: what was promised, what is in doubt, what somebody saw; and what broke a promise.

Every counted ref follows one chain of commits, so that "backwards" is a smaller number. Tags come and go; of them only
presence is checked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COUNTED = "refs/heads/c"
DETAIL_LENGTH = 800
HISTORY_LENGTH = 10


@dataclass(frozen=True)
class Finding:
    """A broken promise."""

    what: str
    detail: str

    def __str__(self) -> str:
        return f"{self.what}: {self.detail.strip()[:DETAIL_LENGTH]}"


class Ledger:
    """Thread-safe. A value is an oid, or None for a ref that isn't there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._sure: dict[str, str | None] = {}
        self._doubts: dict[str, set[str | None]] = {}
        self._seen: dict[str, int] = {}
        self._history: dict[str, list[str]] = {}
        self.counts: dict[str, int] = {}
        self.findings: list[Finding] = []

    def number_commits(self, oids: Sequence[str]) -> None:
        """A chain, from its first commit on."""
        self._numbers.update((oid, number) for number, oid in enumerate(oids, 1))

    def find(self, what: str, detail: str) -> None:
        """Something is wrong."""
        with self._lock:
            self.findings.append(Finding(what, detail))

    def count(self, name: str) -> None:
        """Something happened."""
        with self._lock:
            self.counts[name] = self.counts.get(name, 0) + 1

    # Pushes

    def begin(self, wanted: Mapping[str, str | None]) -> None:
        """These changes are on their way: from now on they may be there."""
        with self._lock:
            for ref, oid in wanted.items():
                self._doubts.setdefault(ref, set()).add(oid)
                self._remember(ref, f"asked for {oid and oid[:8]}")

    def _remember(self, ref: str, what: str) -> None:
        history = self._history.setdefault(ref, [])
        history.append(f"{time.strftime('%H:%M:%S')} {what}")
        del history[:-HISTORY_LENGTH]

    def end(self, wanted: Mapping[str, str | None], acknowledged: set[str], refused: set[str]) -> None:
        """What the client was told."""
        with self._lock:
            for ref, oid in wanted.items():
                told = "acknowledged" if ref in acknowledged else "refused" if ref in refused else "in doubt"
                self._remember(ref, told)
                if ref in acknowledged:
                    self._sure[ref] = oid
                    self._doubts[ref] = set()
                    self._see(ref, oid)
                elif ref in refused:
                    self._doubts[ref].discard(oid)
        kind = "acknowledged" if acknowledged >= set(wanted) else "refused" if refused else "in doubt"
        self.count(f"pushes {kind}")

    # Sightings

    def _see(self, ref: str, oid: str | None) -> None:
        if ref.startswith(COUNTED) and oid is not None:
            self._seen[ref] = max(self._seen.get(ref, 0), self._numbers[oid])

    def floor(self) -> dict[str, int]:
        """What somebody saw or was promised so far: the least that whoever asks now may see."""
        with self._lock:
            return dict(self._seen)

    def saw(self, refs: Mapping[str, str], floor: Mapping[str, int], how: str) -> None:
        """Somebody asked after `floor` was taken, and saw this."""
        for ref, least in floor.items():
            oid = refs.get(ref)
            if oid is None:
                self.find("a ref vanished", f"{how}: {ref} was at {least}")
            elif self._numbers.get(oid, -1) < least:
                self.find("a ref went backwards", f"{how}: {ref} was at {least}, is at {self._numbers.get(oid)}")
        with self._lock:
            for ref, oid in refs.items():
                if oid in self._numbers:
                    self._see(ref, oid)

    def check_final(self, refs: Mapping[str, str]) -> None:
        """The refs as plain git reads them when all is quiet."""
        for ref in sorted({*self._sure, *self._doubts}):
            allowed = {self._sure.get(ref), *self._doubts.get(ref, ())}
            if refs.get(ref) not in allowed:
                history = "; ".join(self._history.get(ref, ()))
                self.find("lost or made up", f"{ref} is {refs.get(ref)}, may be {sorted(map(str, allowed))}: {history}")
        for ref in refs:
            left = ref.removesuffix("/left") + "/right"
            if ref.endswith("/left") and refs[ref] != refs.get(left):
                self.find("an atomic push is there by half", f"{ref} {refs[ref]} {refs.get(left)}")
