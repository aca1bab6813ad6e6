"""Log lines as JSON: one object a line, the request's fields in every line, no secrets, and files that are renamed."""

import json
import logging

import pytest

from govc.web.gunicorn_server import GovcServer
from govc.web.json_lines import CURRENT, JsonFormatter
from govc.web.log_lines import configure
from govc.web.redaction import CUT, RedactingFilter
from tests.web.fakes import Client, FakeBackend
from tests.web.test_gunicorn_server import default_options

TOKEN = "govc_0123456789abcdefghijklmnop"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"


@pytest.fixture
def json_log(tmp_path, monkeypatch):
    """Our log in a file, as `govc serve` has it; as before after the test."""
    logger = logging.getLogger("govc")
    before = (logger.handlers[:], logger.level, logger.propagate)
    flags = (logging.logThreads, logging.logProcesses, logging.logMultiprocessing)
    logger.handlers.clear()
    path = tmp_path / "govc.log"
    configure(RedactingFilter(), log_format="json", log_file=str(path))
    yield path
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags


def read(path):
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_a_request_is_one_object_with_its_fields(json_log):
    Client(remote_user_header="X-User", trusted_proxies=("192.0.2.0/24",)).get(
        "/a.git/HEAD", HTTP_X_USER="ann", HTTP_X_REQUEST_ID="abc-1"
    )
    (line,) = read(json_log)
    assert {
        "level": "INFO",
        "logger": "govc.access",
        "request": "abc-1",
        "user": "ann",
        "repository": "/a.git",
        "remote": "192.0.2.1",
        "method": "GET",
        "route": "head",
        "status": 200,
    }.items() <= line.items()
    assert line["message"].startswith("request=abc-1 remote=192.0.2.1")
    assert line["time"].endswith("Z") and "error" not in line
    assert CURRENT.get() is None


def test_other_rooms_lines_name_the_request_that_they_are_about(json_log):
    backend = FakeBackend()
    backend.failure = RuntimeError(f"no way: {TOKEN}")
    Client(backend).get("/a.git/HEAD", HTTP_X_REQUEST_ID="ignored")
    failed, access = read(json_log)
    assert (failed["logger"], failed["level"], failed["repository"]) == ("govc.web", "ERROR", "/a.git")
    assert failed["request"] == access["request"] and access["status"] == 500
    assert "RuntimeError: no way" in failed["exception"]
    logging.getLogger("govc.service").warning("nobody asked")
    assert "request" not in read(json_log)[-1]


@pytest.mark.parametrize("secret", [TOKEN[-16:], JWT, "hunter2-hunter2"])
def test_no_secret_reaches_any_field(json_log, secret):
    client = Client()
    client.get(f"/{TOKEN}/{JWT}/http://ann:hunter2-hunter2@x/HEAD")
    client.backend.failure = RuntimeError(f"{TOKEN} {JWT} https://ann:hunter2-hunter2@host/")
    client.get("/a.git/HEAD")
    logging.getLogger("govc.x").error('%s %s "Bearer hunter2-hunter2"', TOKEN, JWT)
    assert len(read(json_log)) == 5
    text = json_log.read_text()
    assert secret not in text and CUT in text


def test_the_formatter_cuts_secrets_without_the_filter():
    record = logging.LogRecord("govc.x", logging.INFO, "", 0, 'quoted "%s"\n{"level": "forged"}', (TOKEN,), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line and TOKEN not in line
    assert json.loads(line)["level"] == "INFO"


def test_a_renamed_file_is_followed_and_gunicorn_opens_it_again_on_its_signal(json_log):
    logger = logging.getLogger("govc.x")
    server = GovcServer(lambda: "application", default_options())
    gunicorn_log = server.cfg.logger_class(server.cfg)
    logger.warning("first")
    old = json_log.rename(json_log.with_suffix(".1"))
    logger.warning("second")
    gunicorn_log.warning("third from %s", "gunicorn")
    json_log.rename(json_log.with_suffix(".2"))
    gunicorn_log.reopen_files()  # what SIGUSR1 and SIGHUP do
    assert json_log.exists()
    logger.warning("fourth")
    assert [line["message"] for line in read(old)] == ["first"]
    assert [line["message"] for line in read(json_log.with_suffix(".2"))] == ["second", "third from gunicorn"]
    assert [line["message"] for line in read(json_log)] == ["fourth"]
