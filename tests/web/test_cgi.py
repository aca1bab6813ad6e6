import io
import os

import pytest

from govc.web.cgi import run_cgi
from tests.web.fakes import Client


def run(variables, body=b"", client=None, answer=None):
    answer = answer or io.BytesIO()
    client = client or Client()
    variables = {"SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_METHOD": "GET", **variables}
    status = run_cgi(
        client.application,
        variables=variables,
        request_body=body if isinstance(body, io.RawIOBase) else io.BytesIO(body),
        answer=answer,
        errors=io.StringIO(),
    )
    head, _, content = answer.getvalue().partition(b"\r\n\r\n")
    return status, head.split(b"\r\n"), content


def test_a_good_answer_has_no_status_line():
    status, head, content = run({"PATH_INFO": "/a.git/info/refs", "QUERY_STRING": "service=git-upload-pack"})
    assert (status, content) == (0, b"advertisement")
    assert b"Content-Type: application/x-git-upload-pack-advertisement" in head
    assert not any(line.startswith(b"Status") for line in head)


def test_an_error_has_one():
    _, head, content = run({"PATH_INFO": "/b.git/HEAD"})
    assert (head[0], content) == (b"Status: 404 Not Found", b"")


@pytest.mark.parametrize("length", ["5", "", None])
def test_reading_stops_at_content_length_or_the_end(length):
    client = Client()
    sent = b"hello" + (b"NEXT" if length == "5" else b"")
    variables = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/a.git/git-receive-pack",
        "CONTENT_TYPE": "application/x-git-receive-pack-request",
    }
    if length is not None:
        variables["CONTENT_LENGTH"] = length
    _, _, content = run(variables, sent, client)
    assert content == b"firstsecond"
    assert client.backend.handle.bodies == [b"hello"]


def test_an_input_that_stays_open_does_not_hold_us():
    client = Client()
    reading, writing = os.pipe()
    os.write(writing, b"hello")
    with open(reading, "rb", buffering=0) as body, open(writing, "wb", buffering=0):
        variables = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/a.git/git-upload-pack",
            "CONTENT_TYPE": "application/x-git-upload-pack-request",
            "CONTENT_LENGTH": "5",
        }
        run(variables, body, client)
    assert client.backend.handle.bodies == [b"hello"]


def test_paths_keep_their_bytes():
    client = Client()
    run({"PATH_INFO": os.fsdecode(b"/\xc3\xa9\xff.git/HEAD")}, client=client)
    assert os.fsdecode(b"/\xc3\xa9\xff.git") == client.backend.opened[0][0]


def test_what_is_cached_for_a_year_has_a_date(tmp_path):
    client = Client()
    relative = "objects/ab/" + "0" * 38
    (tmp_path / "x").write_bytes(b"x")
    client.backend.handle.files["loose", relative] = str(tmp_path / "x")
    _, head, _ = run({"PATH_INFO": f"/a.git/{relative}"}, client=client)
    assert any(line.startswith(b"Date: ") for line in head)


def test_the_web_servers_user_counts():
    client = Client()
    run({"PATH_INFO": "/a.git/HEAD", "REMOTE_USER": "ann"}, client=client)
    assert client.backend.opened[0][1].remote_user == "ann"


class BrokenPipe(io.BytesIO):
    def write(self, data):
        raise BrokenPipeError


def test_a_web_server_that_goes_away_ends_the_work():
    client = Client()
    variables = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/a.git/git-upload-pack",
        "CONTENT_TYPE": "application/x-git-upload-pack-request",
    }
    status, _, _ = run(variables, b"x", client, BrokenPipe())
    assert (status, client.backend.handle.closed) == (1, 1)
