"""A small part of the differential fuzzer (`make fuzz-http`), and that it notices when answers differ."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from compat.differential.__main__ import run
from compat.differential.answers import look_at
from compat.differential.differences import DIFFERENCES, judge
from compat.differential.requests import make_request
from compat.differential.world import World
from tests.fuzz.draw import Draw


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Both folders."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "GIT_CONFIG_GLOBAL", "XDG_CACHE_HOME", "LC_ALL", "GIT_CONFIG_NOSYSTEM", "PATH"):
            patch.setenv(name, os.environ.get(name, ""))
        made = World(tmp_path_factory.mktemp("differential") / "world")
        yield made
        made.close()


def test_the_same_requests_get_the_same_answers_or_a_judged_difference(world: World) -> None:
    logging.disable(logging.CRITICAL)
    try:
        done, verdicts, findings = run(world, 1, 0, 150, float("inf"))
    finally:
        logging.disable(logging.NOTSET)
    assert findings == []
    assert done == 150
    assert sum(number for verdict, number in verdicts.items() if verdict.endswith("agree")) > 70


def test_an_answer_that_was_doctored_is_a_finding(world: World) -> None:
    """Another status, header, packet or pack: nothing in the list explains it."""
    world.reset()
    noticed = 0
    for number in range(60):
        request = make_request(Draw(f"doctored/{number}"), world)
        theirs = look_at(request, world.ask_theirs(request))
        if theirs.status != 200 or not theirs.packets or theirs.died or request.kind == "push":
            continue
        for other in (
            replace(theirs, status=503),
            replace(theirs, headers=theirs.headers | {"content-type": "text/html"}),
            replace(theirs, packets=(*theirs.packets[:-1], b"=something\n")),
            replace(theirs, rest=b"more"),
        ):
            assert judge(request, other, theirs) is None
            noticed += 1
    assert noticed >= 40
    assert len({difference.name for difference in DIFFERENCES}) == len(DIFFERENCES)
