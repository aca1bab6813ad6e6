"""The audit log: what it says of pushes and fetches, that it follows a renamed file, and what happens when it fails."""

import hashlib
import io
import json
import os
import time

import pytest

from govc.app import create_app
from govc.protocol.oid import SHA1
from govc.repo.creation import create_first_commit, create_repository
from govc.service import audit as audit_room
from govc.settings import BadSetting

ZERO = "0" * 40
EMPTY = b"PACK\0\0\0\2\0\0\0\0"
EMPTY_PACK = EMPTY + hashlib.sha1(EMPTY).digest()


class World:
    """The application over one repository, called as a trusted proxy calls it."""

    def __init__(self, folder, **settings):
        self.path = folder / "served" / "a.git"
        self.path.parent.mkdir(exist_ok=True)
        if not self.path.exists():
            create_repository(str(self.path), SHA1, export=True, allow_push=True)
            create_first_commit(str(self.path), SHA1, now_seconds=1_700_000_000)
        self.first = (self.path / "refs/heads/main").read_text().strip()
        self.log = folder / "audit.jsonl"
        self.application = create_app(
            root=str(self.path.parent),
            export_all=True,
            helper_processes_max=0,
            cache_bytes_max=0,
            **{"audit_file": str(self.log), **settings},
        )

    def ask(self, path, body=b"", **more):
        environ = {
            "REQUEST_METHOD": "POST" if body else "GET",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": "ann",
            "HTTP_X_REQUEST_ID": "r-1",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.input": io.BytesIO(body),
            "CONTENT_LENGTH": str(len(body)) if body else "",
            "CONTENT_TYPE": f"application/x-{path.rpartition('/')[2]}-request",
            **more,
        }
        return self.application(environ, lambda _status, _headers: None)

    def read(self, path, body=b"", **more):
        answer = self.ask(path, body, **more)
        try:
            return b"".join(answer)
        finally:
            if hasattr(answer, "close"):
                answer.close()

    def push(self, *commands, pack=EMPTY_PACK):
        lines = [f"{old} {new} {ref}".encode() for old, new, ref in commands]
        lines[0] += b"\0report-status"
        body = b"".join(b"%04x%s" % (len(line) + 4, line) for line in lines) + b"0000" + pack
        return self.read("/a.git/git-receive-pack", body)

    def fetch_body(self, wants):
        return b"".join(b"0032want %s\n" % want.encode() for want in wants) + b"00000009done\n"

    def lines(self):
        return [json.loads(line) for line in self.log.read_text("ascii").splitlines()]


def test_a_push_is_one_line_with_what_became_of_each_ref(tmp_path):
    world = World(tmp_path)
    first = world.first
    world.push(
        (ZERO, first, "refs/heads/new"), (first, first[::-1], "refs/heads/main"), (ZERO, first, "refs/heads/a..b")
    )
    (line,) = world.lines()
    assert line.pop("time").endswith("Z")
    refs = line.pop("refs")
    assert line == {
        "event": "push",
        "request": "r-1",
        "user": "ann",
        "login": "proxy",
        "address": "127.0.0.1",
        "repository": str(world.path),
        "unpack": "ok",
    }
    assert refs[0] == {"ref": "refs/heads/new", "old": ZERO, "new": first, "result": "ok"}
    assert [ref["result"] for ref in refs[1:]] == ["missing necessary objects", "funny refname"]


def test_a_pack_that_can_not_be_unpacked_is_in_the_line(tmp_path):
    world = World(tmp_path)
    world.push((ZERO, world.first, "refs/heads/new"), pack=b"PACK and then nothing of the kind")
    (line,) = world.lines()
    assert line["unpack"] != "ok" and line["refs"][0]["result"] == "unpacker error"


def test_a_push_that_breaks_off_is_noted(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise RuntimeError("a bug")

    world = World(tmp_path)
    monkeypatch.setattr("govc.service.receive.ReceiveSession._decide", fail)
    world.push((ZERO, world.first, "refs/heads/new"))
    (line,) = world.lines()
    assert line["refs"][0]["result"] == "broke off"
    assert not (world.path / "refs/heads/new").exists()


def test_a_fetch_is_one_line_when_a_pack_was_sent(tmp_path):
    world = World(tmp_path)
    body = world.fetch_body([world.first])
    answer = world.read("/a.git/git-upload-pack", body)
    assert b"PACK" in answer
    world.read("/a.git/info/refs", QUERY_STRING="service=git-upload-pack")
    assert b"not our ref" in world.read("/a.git/git-upload-pack", world.fetch_body(["1" * 40]))
    (line,) = world.lines()
    assert (line["event"], line["user"], line["wants"]) == ("fetch", "ann", 1)
    assert (line["bytes"], line["complete"]) == (len(answer), True)


def test_a_fetch_that_the_client_left_is_not_complete(tmp_path):
    world = World(tmp_path)
    answer = world.ask("/a.git/git-upload-pack", world.fetch_body([world.first]))
    sent = len(next(iter(answer)))
    answer.close()
    (line,) = world.lines()
    assert line["complete"] is False and 0 < line["bytes"] <= sent


def test_files_of_the_dumb_protocol_are_noted(tmp_path):
    world = World(tmp_path)
    relative = f"objects/{world.first[:2]}/{world.first[2:]}"
    assert world.read(f"/a.git/{relative}")
    world.read(f"/a.git/objects/00/{'0' * 38}")
    assert [(line["event"], line["path"]) for line in world.lines()] == [
        ("file", relative),
        ("file", f"objects/00/{'0' * 38}"),
    ]


def test_a_renamed_file_is_followed(tmp_path):
    world = World(tmp_path)
    world.push((ZERO, world.first, "refs/heads/one"))
    world.log.rename(tmp_path / "audit.1")
    world.push((ZERO, world.first, "refs/heads/two"))
    assert [line["refs"][0]["ref"] for line in world.lines()] == ["refs/heads/two"]
    assert world.log.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("required", [False, True])
def test_a_file_that_can_not_be_written_is_loud_and_refuses_pushes_where_it_is_required(tmp_path, caplog, required):
    (tmp_path / "no-folder").write_text("a file")
    path = tmp_path / "no-folder" / "audit"
    world = World(tmp_path, audit_file=str(path), audit_required=required)
    report = world.push((ZERO, world.first, "refs/heads/new"))
    assert "AUDIT LOG NOT WRITTEN" in caplog.text and "refs/heads/new" in caplog.text
    text = world.read("/-/metrics").decode()
    assert "govc_audit_written_total 0.0" in text and "govc_audit_failed_total 0.0" not in text
    accepted = (world.path / "refs/heads/new").exists() or b"ok refs/heads/new" in report
    assert accepted is not required
    assert (b"ng refs/heads/new the server's audit log can not be written" in report) is required
    path.parent.unlink()
    path.parent.mkdir()
    assert b"ok refs/heads/later" in world.push((ZERO, world.first, "refs/heads/later"))


def test_where_it_is_required_a_push_leaves_a_line_before_it_begins(tmp_path):
    world = World(tmp_path, audit_required=True)
    world.push((ZERO, world.first, "refs/heads/new"))
    begun, done = world.lines()
    assert (begun["event"], done["event"]) == ("push-begun", "push")
    assert begun["refs"] == [{"ref": "refs/heads/new", "old": ZERO, "new": world.first}]


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path, monkeypatch, caplog):
    world = World(tmp_path)
    write, lengths = os.write, [10]
    monkeypatch.setattr(
        audit_room.os,
        "write",
        lambda fd, data: write(fd, data[: lengths.pop()] if lengths and data[:6] == b'{"time' else data),
    )
    world.push((ZERO, world.first, "refs/heads/one"))
    world.push((ZERO, world.first, "refs/heads/two"))
    monkeypatch.undo()
    assert "took only a part" in caplog.text
    cut, whole = world.log.read_text().splitlines()
    assert len(cut) == 10 and json.loads(whole)["refs"][0]["ref"] == "refs/heads/two"


def test_a_line_that_another_process_is_writing_is_not_taken_for_one_that_was_cut_short(tmp_path, monkeypatch):
    world = World(tmp_path)
    world.log.write_bytes(b'{"event": "the')

    def end_it(_seconds):
        with world.log.open("ab") as file:
            file.write(b'irs"}\n')
        monkeypatch.undo()

    monkeypatch.setattr(time, "sleep", end_it)
    world.push((ZERO, world.first, "refs/heads/one"))
    assert ["theirs", "push"] == [json.loads(line)["event"] for line in world.log.read_bytes().splitlines()]


def test_secrets_are_cut_and_names_stay_on_their_line(tmp_path):
    world = World(tmp_path)
    token = "govc_0123456789abcdefghijklmnop"
    world.push((ZERO, world.first, 'refs/heads/"\\'), (ZERO, world.first, "refs/heads/ok"))
    world.read("/a.git/git-upload-pack", world.fetch_body([world.first]), REMOTE_USER=token)
    text = world.log.read_text()
    assert token not in text and len(world.lines()) == 2


def test_a_required_log_must_be_named(tmp_path):
    with pytest.raises(BadSetting, match="audit_required"):
        create_app(root=str(tmp_path), audit_required=True)
