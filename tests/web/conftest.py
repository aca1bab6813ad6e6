"""What several tests of the worker's own reading and answering start."""

import pytest

from tests.timeless import let_no_time_pass
from tests.web.lane_server import Server


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Start workers on a repository of their own (`lane_server.Server`); they end with the test."""
    let_no_time_pass(monkeypatch)
    started = []

    def start(**settings):
        started.append(Server(tmp_path, **settings))
        return started[-1]

    yield start
    for server in started:
        server.close()
