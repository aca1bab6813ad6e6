"""Answers that are little by their bytes alone: how much CPU one takes is the machine's affair, not a test's.

A collection of garbage that falls into the making of one, or a machine whose processor is lent to others, takes more
than what is little may (`govc.service.begun`): then it is shared, or needs a place, as it should, and a test that asks
what becomes of little answers meets a large one.
"""

from typing import Any

import pytest

from govc.service import fetch
from govc.service.begun import Begun


class TimelessBegun(Begun):
    """One whose clock stands still."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, clock=lambda: 0.0)


def let_no_time_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have fetches begin their answers so."""
    monkeypatch.setattr(fetch, "Begun", TimelessBegun)
