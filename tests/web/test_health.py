"""/-/healthz and /-/readyz say what they mean."""

import shutil
from types import SimpleNamespace

import pytest

from govc.app import create_app
from govc.web import wsgi_app
from govc.web.gunicorn_server import shorten_grace
from govc.web.health import Health
from govc.wsgi import _LazyApplication
from tests.web.fakes import Client, FakeBackend


class Server(Client):
    """The client of an application with this health."""

    def __init__(self, health):
        self.backend = FakeBackend()
        self.application = wsgi_app.Application(self.backend, wsgi_app.WebOptions(), health=health)


def test_ready_only_while_the_folder_can_be_listed(tmp_path):
    root = tmp_path / "served"
    server = Server(Health(str(root)))
    missing = server.get("/-/readyz")
    assert (missing.status, missing.body) == (
        503,
        b"the folder of repositories can't be read: No such file or directory\n",
    )
    assert server.get("/-/healthz").status == 200
    assert server.request("HEAD", "/-/readyz").status == 503
    root.mkdir()
    assert (server.get("/-/readyz").status, server.get("/-/readyz").body) == (200, b"ok\n")
    shutil.rmtree(root)
    root.write_text("not a folder")
    assert server.get("/-/readyz").body.endswith(b"Not a directory\n")


def test_a_file_that_was_never_accepted_makes_it_unready_and_a_newer_one_is_a_note():
    health = Health()
    health.note_file("jwt_keys", False)
    assert health.check() == (["jwt_keys: no version of it was accepted"], [])
    health.note_file("jwt_keys", True)
    assert health.check() == ([], [])
    health.note_file("jwt_keys", False)
    answer = Server(health).get("/-/readyz")
    assert (answer.status, answer.body) == (200, b"ok\njwt_keys: the newest version was refused, an older one counts\n")


def test_a_permission_file_that_is_broken_later_is_named(tmp_path):
    rules = tmp_path / "p.toml"
    rules.write_text("[[rule]]\nrepositories = ['**']\nread = ['@anyone']\n")
    client = Client()
    client.application = create_app(root=str(tmp_path), permission_file=str(rules), cache_bytes_max=0)
    assert client.get("/-/readyz").body == b"ok\n"
    rules.write_text("[[rule]]\nx = 1\n")
    client.get("/a.git/HEAD")
    assert client.get("/-/readyz").body.startswith(b"ok\npermission_file: the newest version was refused")
    assert client.get("/-/readyz").status == 200


def test_not_ready_once_the_worker_is_told_to_end():
    server = Server(Health())
    worker = SimpleNamespace(
        wsgi=server.application, alive=True, cfg=SimpleNamespace(graceful_timeout=60, set=lambda *_: None)
    )
    shorten_grace(worker)
    assert server.get("/-/readyz").status == 200
    worker.alive = False
    assert (server.get("/-/readyz").status, server.get("/-/readyz").body) == (503, b"shutting down\n")
    assert server.get("/-/healthz").status == 200


def test_not_ready_once_the_application_is_closed():
    server = Server(Health())
    server.application.close()
    assert server.get("/-/readyz").status == 503


@pytest.mark.parametrize("asked_before", [False, True])
def test_the_lazy_application_hands_on_who_says_that_it_ends(tmp_path, monkeypatch, asked_before):
    monkeypatch.setenv("GIT_PROJECT_ROOT", str(tmp_path))
    client = Client()
    client.application = lazy = _LazyApplication()
    if asked_before:
        assert client.get("/-/readyz").status == 200
    lazy.watch_ending(lambda: True)
    assert client.get("/-/readyz").body == b"shutting down\n"
