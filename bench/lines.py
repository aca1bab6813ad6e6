"""What a run yields: a line is one figure of one row, with its samples by contender and the goal it is held against.

A goal is a ratio ("so many times better than the peer") or a limit in the line's own unit. A ratio is of medians of
the same run. A line without a goal is there to be seen beside the others.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

DIRECT, BEHIND, GIT = "govc", "govc behind nginx", "git"
OURS = (DIRECT, BEHIND)


@dataclass(frozen=True)
class Times:
    """At least so many times better than the peer."""

    factor: float

    def __str__(self) -> str:
        return f">= {self.factor:g}x"


@dataclass(frozen=True)
class AtMost:
    """At most so much."""

    limit: float

    def __str__(self) -> str:
        return f"<= {format_number(self.limit)}"


@dataclass(frozen=True)
class AtLeast:
    """At least so much."""

    limit: float

    def __str__(self) -> str:
        return f">= {format_number(self.limit)}"


Goal = Times | AtMost | AtLeast


@dataclass
class Line:
    """`what` is measured `on` a repository, in `unit`. `failures`: why a contender has no samples."""

    row: int
    what: str
    on: str
    unit: str
    goal: Goal | None = None
    more_is_better: bool = False
    samples: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, contender: str, value: float) -> None:
        """One more sample."""
        self.samples.setdefault(contender, []).append(value)

    def median(self, contender: str) -> float | None:
        """None without samples."""
        values = self.samples.get(contender)
        return statistics.median(values) if values and contender not in self.failures else None

    def ratio(self, contender: str, peer: str = GIT) -> float | None:
        """How many times better than the peer; None when one of them has no figure."""
        ours, theirs = self.median(contender), self.median(peer)
        if ours is None or theirs is None:
            return None
        better, worse = (ours, theirs) if self.more_is_better else (theirs, ours)
        return better / worse if worse else float("inf")

    def is_met(self, contender: str) -> bool | None:
        """Whether a contender of ours met the goal; None when that can't be said."""
        if self.goal is None:
            return None
        if isinstance(self.goal, Times):
            ratio = self.ratio(contender)
            return None if ratio is None else ratio >= self.goal.factor
        value = self.median(contender)
        if value is None:
            return None
        return value <= self.goal.limit if isinstance(self.goal, AtMost) else value >= self.goal.limit

    def verdict(self) -> str:
        """Return "met", "short" or "failed", over all contenders of ours; "" without a goal."""
        if self.goal is None:
            return ""
        ours = [name for name in OURS if name in self.samples or name in self.failures]
        verdicts = [self.is_met(name) for name in ours]
        if not verdicts or None in verdicts:
            return "failed"
        return "met" if all(verdicts) else "short"


def format_number(value: float) -> str:
    """Three digits that matter; thousands with commas."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def format_samples(line: Line, contender: str) -> str:
    """Median (least to most); or why there is none."""
    if reason := line.failures.get(contender):
        return f"no: {reason}".replace("|", "/")[:160]
    values = line.samples.get(contender)
    if not values:
        return ""
    text = format_number(statistics.median(values))
    if len(values) == 1:
        return text
    return f"{text} ({format_number(min(values))} to {format_number(max(values))})"
