"""A token bucket as one number.

A bucket holds `burst` tokens and gets one more every `interval_ns` nanoseconds until it is full. All of that is in the
moment at which it will be full again (`full_at_ns`; in the past: it is full):

    tokens = burst - (full_at_ns - now_ns) / interval_ns         when full_at_ns is in the future

Taking a token moves that moment one interval on, and is allowed while it stays within `burst` intervals from now. So
a bucket needs no timer, fits into eight bytes of shared memory, and one that is full need not be remembered.

Pure: the clock is the caller's. Source: ITU-T I.371, the generic cell rate algorithm (virtual scheduling).
"""

from typing import NamedTuple

SECOND_NS = 1_000_000_000


class Rate(NamedTuple):
    """How a bucket fills, and how much it holds."""

    interval_ns: int
    burst: int


def rate_per_minute(count: int, burst_seconds: int) -> Rate:
    """Return the rate of `count` tokens a minute, with what comes in in `burst_seconds` at once; one at least."""
    return Rate(60 * SECOND_NS // count, max(1, count * burst_seconds // 60))


def take(full_at_ns: int, now_ns: int, rate: Rate, *, debt: int = 0) -> tuple[int, int]:
    """Take one token. Return the bucket's new number and how long to wait: 0 ns when there was a token.

    `debt`: how many tokens more than there are may be taken. Who has to wait has taken nothing.
    """
    taken = max(full_at_ns, now_ns) + rate.interval_ns
    wait_ns = taken - now_ns - (rate.burst + debt) * rate.interval_ns
    return (full_at_ns, wait_ns) if wait_ns > 0 else (taken, 0)
