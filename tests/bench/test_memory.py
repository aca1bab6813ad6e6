"""Private memory of servers, as the benchmark sees it."""

from types import SimpleNamespace

import psutil

from bench.measure import Memory


def test_what_is_over_before_a_sample_is_due_is_seen():
    server = SimpleNamespace(processes=lambda: [psutil.Process()])
    with Memory(server, every_seconds=600) as seen:
        pass
    assert seen.sum_mib == seen.largest_mib > 1
