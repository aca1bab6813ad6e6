"""A small part of the differential fuzzer (`make fuzz-http`), and that it notices when answers differ."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from compat.differential.__main__ import check, run
from compat.differential.answers import look_at
from compat.differential.differences import DIFFERENCES, Kind, judge
from compat.differential.requests import make_request
from compat.differential.world import Request, World
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


def test_what_is_said_to_be_newer_gits_is_asked_of_it(world: World) -> None:
    """Asked of the very git that answers otherwise, it isn't so."""
    world.reset()
    head = {"SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "REQUEST_METHOD": "GET"}
    where = {"PATH_INFO": "/plain.git/info/refs", "QUERY_STRING": "service=git-upload-pack"}
    request = Request(head | where | {"HTTP_GIT_PROTOCOL": "version=2"}, kind="discovery")
    verdict, _ = check(world, request)
    assert verdict in ("", "object-info is off")
    world.newer = "git"
    try:
        asked, text = check(world, request)
    finally:
        world.newer = None
    assert asked == ("" if verdict == "" else None)
    assert verdict == "" or text.startswith("object-info is off: newer git says otherwise")


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
    assert all(isinstance(difference.kind, Kind) and difference.reason for difference in DIFFERENCES)


def test_the_document_lists_every_difference_and_its_kind() -> None:
    words = {Kind.GIT_FAILS: "git fails", Kind.NEWER_GIT: "git 2.55", Kind.PROTECTS: "protects"}
    text = (Path(__file__).parents[1] / "docs/fuzzing.md").read_text()
    listed = set(re.findall(r"^\| ([^|]*) \| (git fails|git 2\.55|protects) \|", text, re.MULTILINE))
    assert listed == {(difference.name, words[difference.kind]) for difference in DIFFERENCES}
