import json
import logging
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from gunicorn.workers.ggevent import GeventWorker

from govc.settings import Settings
from govc.web.gevent_runtime import GEVENT, is_active
from govc.web.gunicorn_server import GovcServer, RedactingLogger, make_options

CONF = Path(__file__).parents[2] / "conf"
DEFAULTS = Settings()


@pytest.fixture
def configured():
    """conf/gunicorn.conf.py sends our log somewhere: put it back."""
    logger = logging.getLogger("govc")
    saved = logger.handlers, logger.level, logger.propagate
    flags = {name: getattr(logging, name) for name in ("logThreads", "logProcesses", "logMultiprocessing")}
    logger.handlers = []
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate = saved[0], saved[2]
    logger.setLevel(saved[1])
    for name, value in flags.items():
        setattr(logging, name, value)


def default_options():
    return make_options(
        bind=DEFAULTS.bind,
        workers=DEFAULTS.workers,
        worker_connections=DEFAULTS.worker_connections,
        keepalive_seconds=DEFAULTS.keepalive_seconds,
        stall_seconds=DEFAULTS.stall_seconds,
        graceful_seconds=DEFAULTS.graceful_seconds,
    )


def test_gunicorn_takes_our_options_and_makes_the_application_in_the_worker():
    made = []

    class FakeApplication:
        def __init__(self):
            made.append("made")

        def start(self):
            made.append("started")

        def close(self):
            made.append("closed")

    server = GovcServer(FakeApplication, default_options(), metrics_folder="/nowhere")
    worker = "govc.web.gunicorn_worker.GovcWorker"
    assert (worker, DEFAULTS.workers) == (server.cfg.worker_class_str, server.cfg.workers)
    assert issubclass(server.cfg.worker_class, GeventWorker)
    assert server.cfg.forwarder_headers == []
    assert made == []
    assert isinstance(server.load(), FakeApplication)
    assert made == ["made", "started"]
    server.cfg.worker_exit(None, None)
    assert made == ["made", "started", "closed"]


def test_gunicorns_lines_have_our_form_and_no_secrets(monkeypatch, capfd):
    monkeypatch.setattr(logging, "logProcesses", False)  # as log_lines has it
    server = GovcServer(lambda: "application", default_options())
    logger = server.cfg.logger_class(server.cfg)
    logger.warning("Invalid request from ip=%s: %s", "192.0.2.1", "Invalid HTTP Header: 'Authorization Basic YW5uOnB3'")
    said = capfd.readouterr().err
    assert said.endswith(
        "WARNING gunicorn.error Invalid request from ip=192.0.2.1: Invalid HTTP Header: [peer's words]\n"
    )
    assert "Logging error" not in said and "YW5uOnB3" not in said


def test_the_configuration_file_says_the_same_as_govc_serve(monkeypatch, configured):
    for name in ("GOVC_BIND", "GOVC_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    values = runpy.run_path(str(CONF / "gunicorn.conf.py"))
    ours = {name: value for name, value in default_options().items() if name in values}
    assert len(ours) >= 12
    assert values["logger_class"] == f"{RedactingLogger.__module__}.{RedactingLogger.__name__}"
    assert {name: values[name] for name in ours} == ours | {"logger_class": values["logger_class"]}


def test_the_configuration_file_sends_the_log_where_the_settings_say(monkeypatch, configured, tmp_path):
    monkeypatch.setenv("GOVC_LOG_FORMAT", "json")
    monkeypatch.setenv("GOVC_LOG_FILE", str(tmp_path / "log"))
    for _ in range(2):  # a reload reads it again
        runpy.run_path(str(CONF / "gunicorn.conf.py"))
    configured.warning("Basic c2VjcmV0OnNlY3JldA==")
    (line,) = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert line["message"] == "Basic [secret]"
    # A mistake that comes later doesn't end a server that runs.
    monkeypatch.setenv("GOVC_LOG_FORMAT", "yaml")
    runpy.run_path(str(CONF / "gunicorn.conf.py"))
    assert "wants text or json" in (tmp_path / "log").read_text()
    while configured.handlers:
        configured.handlers.pop().close()
    with pytest.raises(SystemExit, match="wants text or json"):
        runpy.run_path(str(CONF / "gunicorn.conf.py"))


def test_the_configuration_file_starts_nothing_with_a_mistake(monkeypatch, configured, tmp_path):
    on_starting = runpy.run_path(str(CONF / "gunicorn.conf.py"))["on_starting"]
    monkeypatch.setenv("GOVC_PERMISSION_FILE", str(tmp_path / "p.toml"))
    (tmp_path / "p.toml").write_text("[[rule]]\nx = 1\n")
    with pytest.raises(SystemExit, match=r"p\.toml line 2\): there is no 'x' here"):
        on_starting(None)
    (tmp_path / "p.toml").write_text("")
    on_starting(None)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_accepts_its_configuration(tmp_path):
    shutil.copy(CONF / "nginx.conf", tmp_path)
    done = subprocess.run(
        ["nginx", "-p", str(tmp_path), "-c", "nginx.conf", "-t"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_blocking_calls_run_off_the_hub_and_give_their_result():
    assert GEVENT.call_blocking(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        GEVENT.call_blocking(divmod, 7, 0)
    GEVENT.pause()
    assert is_active() is False
