"""What has become of millions of commands: whoever looks at all of them lets others run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from govc.protocol.receive_pack import Command, PushRequest
from govc.repo.runtime import PLAIN
from govc.service.pacing import RUN_MAX
from govc.service.push_state import PushState
from tests.service.test_receive_looks import Body, Server, path

__all__ = ["path"]

COUNT = 5 * RUN_MAX
COMMANDS = tuple(Command(bytes(20), b"a" * 20, b"refs/heads/%d" % number) for number in range(COUNT))


@pytest.mark.parametrize(
    "look",
    [
        lambda state: state.fail_all("no"),
        lambda state: list(state.iter_standing()),
        lambda state: list(state.iter_all()),
        lambda state: list(state.iter_report()),
        lambda state: state.done(),
    ],
    ids=["fail_all", "iter_standing", "iter_all", "iter_report", "done"],
)
def test_who_looks_at_all_commands_lets_others_run(
    look: Callable[[PushState], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("govc.graph.interface.TICK_SECONDS", -1.0)
    pauses: list[int] = []
    look(PushState(PushRequest(commands=COMMANDS, report=1), lambda: pauses.append(1)))
    assert len(pauses) >= 4


def test_the_commands_of_a_certificate_are_paced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it comes in one piece here, so nobody is let run by reading; what ends it is refused at the last line."""
    monkeypatch.setattr("govc.repo.runtime.PAUSE_AFTER_SECONDS", -1.0)
    pauses: list[int] = []
    server = Server(path, replace(PLAIN, pause=lambda: pauses.append(1)))
    lines = "".join(f"{'a' * 40} {'0' * 40} refs/heads/{number}\n" for number in range(COUNT))
    text = f"certificate version 0.1\npusher a <a@x> 1 +0000\nnonce x\n\n{lines}broken\n"
    pieces = [text[at : at + 60_000] for at in range(0, len(text), 60_000)]
    packets = [f"{len(piece) + 4:04x}{piece}" for piece in ("push-cert\0report-status\n", *pieces, "push-cert-end\n")]
    body = "".join((*packets, "0000")).encode()
    answer = server.push(Body(body, len(body)), len(body))
    assert b"expected old/new/ref, got 'broken'" in answer
    assert len(pauses) >= 5
