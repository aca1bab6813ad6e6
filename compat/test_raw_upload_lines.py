"""Area B, the lines of a request: how long they may be, in which order they come, and what they name.

Hand-made v0 requests, answered by govc and by git http-backend, as in test_raw_upload_pack.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compat.conftest import Repo, Server
from compat.gitclient import Git
from compat.rawhttp import FLUSH, lines, upload
from compat.test_raw_upload_pack import BANDED, assert_dies_alike, compare, read_shallow

Twin = Callable[[Repo], str]


@pytest.mark.rows("U0-02", "SEC-01")
@pytest.mark.parametrize("size", [65520, 65521])
def test_the_largest_packet(server: Server, git: Git, twin: Twin, size: int) -> None:
    repo = server.create_repo()
    want = f"want {repo.rev('main')}{BANDED} x=".encode()
    body = b"%04x" % size + want + b"y" * (size - len(want) - 5) + b"\n" + lines(FLUSH, "done")
    if size == 65520:
        assert compare(git, repo, twin, body).objects
    else:  # git looks at its buffer and not at the number, and takes three bytes more
        assert b"PACK" not in upload(repo.url, body).body


@pytest.mark.rows("U0-22", "U0-20")
@pytest.mark.parametrize(
    "shuffled",
    [
        ["deepen 2", "want"],
        ["shallow {main~3}", "deepen 5", "want"],
        ["filter blob:none", "want"],
        ["want", "filter blob:none", "deepen 1", "shallow {main~3}"],
        ["deepen-not old", "want", "filter tree:1", "deepen-since 1"],
        ["want {topic}", "deepen 1", "want"],
    ],
    ids=str,
)
def test_the_lines_before_the_flush_come_in_any_order(
    server: Server, git: Git, twin: Twin, shuffled: list[str]
) -> None:
    """`want` carries the capabilities wherever it stands."""
    repo = server.create_repo(config={"uploadpack.allowFilter": "true"})
    repo.run("update-ref", "refs/heads/old", "main~5")
    said = f"want {repo.rev('main')}{BANDED} multi_ack_detailed deepen-since deepen-not filter"
    words = {"{main~3}": repo.rev("main~3"), "{topic}": repo.rev("topic")}
    items = [said if line == "want" else line for line in shuffled]
    items = [line.replace("{main~3}", words["{main~3}"]).replace("{topic}", words["{topic}"]) for line in items]
    body = lines(*items, FLUSH, "done")
    if shuffled[0].startswith("filter"):  # which has to be negotiated before
        assert_dies_alike(repo, twin, body)
        return
    ours, theirs = (read_shallow(git, upload(url, body)) for url in (repo.url, twin(repo)))
    assert ours == theirs
    assert ours.objects


@pytest.mark.rows("U0-44")
def test_a_deepen_not_that_may_mean_two_refs_is_refused(server: Server, twin: Twin) -> None:
    repo = server.create_repo("linear")
    repo.run("update-ref", "refs/heads/both", "main~5")
    repo.run("update-ref", "refs/tags/both", "main~6")
    assert_dies_alike(repo, twin, lines(f"want {repo.rev('main')}{BANDED}", "deepen-not both", FLUSH, "done"))
    for name in ("heads/both", "refs/tags/both"):
        body = lines(f"want {repo.rev('main')}{BANDED}", f"deepen-not {name}", FLUSH, "done")
        assert [b"PACK" in upload(url, body).body for url in (repo.url, twin(repo))] == [True, True]
