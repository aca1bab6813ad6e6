"""The torture program for a short while, with a fixed seed; `make torture` runs it as long as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from compat.torture import Plan, torture

SECONDS = 15


@pytest.mark.slow
@pytest.mark.rows("FS-17")
def test_nothing_acknowledged_is_lost_while_servers_and_workers_are_killed(tmp_path: Path) -> None:
    report = torture(Plan(seconds=SECONDS, seed=20, pushers=2), tmp_path)
    assert [] == report.findings, report.text()
    assert report.counts["pushes acknowledged"] > 0
    assert report.counts["server kills"] + report.counts["worker kills"] > 0
