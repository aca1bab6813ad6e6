"""The torture program for a short while, with a fixed seed; `make torture` runs it as long as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from compat.torture import Plan, parse_porcelain, torture
from compat.torture_ledger import Ledger

SECONDS = 15


@pytest.mark.slow
@pytest.mark.rows("FS-17")
def test_nothing_acknowledged_is_lost_while_servers_and_workers_are_killed(tmp_path: Path) -> None:
    report = torture(Plan(seconds=SECONDS, seed=20, pushers=2), tmp_path)
    assert [] == report.findings, report.text()
    assert report.counts["pushes acknowledged"] > 0
    assert report.counts["server kills"] + report.counts["worker kills"] > 0


@pytest.mark.parametrize(
    ("was_disturbed", "reason", "may_be_done"),
    [
        (True, "reference does not exist", True),
        (False, "reference does not exist", False),
        (True, "pre-receive hook declined", False),
    ],
)
def test_a_push_that_was_sent_twice_may_have_been_done_the_first_time(
    was_disturbed: bool, reason: str, may_be_done: bool
) -> None:
    """Its worker was killed between the deletion and the answer; its client's HTTP library sent it to another one."""
    tag = "refs/tags/t"
    ledger = Ledger()
    ledger.begin({tag: "a" * 40})
    ledger.end({tag: "a" * 40}, {tag}, set())
    ledger.begin({tag: None})
    out = f"To http://x/r.git\n!\t:{tag}\t[remote rejected] ({reason})\nDone\n"
    ledger.end({tag: None}, *parse_porcelain(out, may_be_sent_twice=was_disturbed))
    ledger.check_final({})
    assert (ledger.findings == []) == may_be_done
    ledger.check_final({tag: "a" * 40})
    assert len(ledger.findings) == (not may_be_done)
