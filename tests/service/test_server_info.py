"""The files of the dumb protocol after pushes to one repository in two workers (receive.updateServerInfo)."""

from pathlib import Path

import pytest

from govc.service import receive
from tests.service.test_receive_looks import NAME, Server, begin, git, path
from tests.simulation.pushes import Push, make_commit

__all__ = ["path"]


def test_who_looked_first_and_writes_last_leaves_the_newer_refs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, first = begin(path)
    other = Server(path)
    git(path, "config", "receive.updateServerInfo", "true")
    replace_file, answers = receive.replace_file, []

    def held_up(place: str, content: bytes) -> None:
        monkeypatch.setattr(receive, "replace_file", replace_file)
        answers.append(other.push_whole(Push("b", (("refs/heads/other", None, first),))))
        replace_file(place, content)

    monkeypatch.setattr(receive, "replace_file", held_up)
    new = make_commit(first, "new", b"new\n")
    answers.append(server.push_whole(Push("c", ((NAME, None, new.oid),), new.objects)))
    assert [b"ok refs/heads/" in answer for answer in answers] == [True, True]
    refs = f"{first}\trefs/heads/main\n{first}\trefs/heads/other\n{new.oid}\t{NAME}\n"
    assert (path / "info/refs").read_text() == refs
    packs = sorted(f"P {file.name}" for file in (path / "objects/pack").glob("*.pack"))
    assert sorted((path / "objects/info/packs").read_text().split("\n")) == ["", "", *packs]


def test_a_push_beside_others_that_never_end_writes_the_files_so_often_only(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, first = begin(path)
    git(path, "config", "receive.updateServerInfo", "true")
    replace_file, written = receive.replace_file, []

    def beside_another(place: str, content: bytes) -> None:
        replace_file(place, content)
        written.append(place)
        git(path, "update-ref", f"refs/heads/other{len(written)}", first)

    monkeypatch.setattr(receive, "replace_file", beside_another)
    new = make_commit(first, "new", b"new\n")
    assert b"ok " + NAME.encode() in server.push_whole(Push("c", ((NAME, None, new.oid),), new.objects))
    assert len(written) == 2 * receive.SERVER_INFO_ROUNDS_MAX
