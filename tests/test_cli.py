import os
import subprocess
import tomllib

import pytest
from click.testing import CliRunner

from govc.cli import main
from govc.cli.doctor import diagnose
from govc.errors import RepositoryNotFound
from govc.protocol.oid import SHA1, SHA256
from govc.repo.creation import create_first_commit, create_repository
from govc.settings import Settings


def git(path, *arguments):
    environ = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(path), *arguments],
        capture_output=True,
        env=environ,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run(*arguments, **environ):
    return CliRunner(env={"GIT_PROJECT_ROOT": None, "GOVC_CONFIG": None, **environ}).invoke(main, arguments)


@pytest.mark.parametrize("name", ["sha1", "sha256"])
def test_init_makes_a_repository_that_git_knows(tmp_path, name):
    path = tmp_path / "a.git"
    result = run("init", "--object-format", name, "--export", "--allow-push", str(path))
    assert result.exit_code == 0, result.output
    assert git(path, "rev-parse", "--is-bare-repository") == "true"
    assert name == git(path, "rev-parse", "--show-object-format")
    assert git(path, "config", "http.receivepack") == "true"
    assert git(path, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert (path / "git-daemon-export-ok").exists()


def test_init_is_modest_by_default(tmp_path):
    run("init", str(tmp_path / "a.git"))
    assert not (tmp_path / "a.git" / "git-daemon-export-ok").exists()
    assert "receivepack" not in (tmp_path / "a.git" / "config").read_text()


def test_init_leaves_a_folder_with_something_in_it_alone(tmp_path):
    (tmp_path / "x").write_text("x")
    result = run("init", str(tmp_path))
    assert result.exit_code == 1
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("algo", [SHA1, SHA256])
def test_the_first_commit_is_whole(tmp_path, algo):
    path = tmp_path / "a.git"
    create_repository(str(path), algo, export=True, allow_push=False)
    oid = create_first_commit(str(path), algo, now_seconds=1_700_000_000)
    git(path, "fsck", "--full", "--strict")
    assert oid.hex() == git(path, "rev-parse", "main")
    assert git(path, "ls-tree", "--name-only", "main") == "README.md"


def test_print_config_shows_every_setting_as_toml(tmp_path):
    result = run("serve", str(tmp_path), "--workers", "3", "--export-all", "--print-config")
    assert result.exit_code == 0, result.output
    values = tomllib.loads(result.output)
    assert (3, True, str(tmp_path)) == (values["workers"], values["export_all"], values["root"])


def test_flags_that_make_no_sense_are_named(tmp_path):
    result = run("serve", str(tmp_path), "--workers", "none")
    assert result.exit_code == 1
    assert "workers" in result.output


def test_serve_wants_a_folder():
    assert "GIT_PROJECT_ROOT" in run("serve").output


@pytest.mark.parametrize(("bind", "takes_pushes"), [("127.0.0.1:8123", True), ("[::1]:1", True), ("0.0.0.0:80", False)])
def test_the_first_repository_takes_pushes_on_loopback_only(tmp_path, monkeypatch, bind, takes_pushes):
    monkeypatch.setattr("govc.cli.serve._run_server", lambda settings: None)
    for _ in range(2):
        result = run("serve", str(tmp_path / "new"), "--first-repository", "--bind", bind)
        assert f"git clone http://{bind}/hello.git" in result.output
    assert takes_pushes is ("receivepack = true" in (tmp_path / "new/hello.git/config").read_text())
    assert "pushes" not in result.output


def test_the_first_repository_is_made_in_an_empty_folder_only(tmp_path, monkeypatch):
    monkeypatch.setattr("govc.cli.serve._run_server", lambda settings: None)
    (tmp_path / "other").mkdir()
    run("serve", str(tmp_path), "--first-repository")
    assert os.listdir(tmp_path) == ["other"]


class Handle:
    def advertise(self, context):
        return b""

    def service_enabled(self, service, remote_user):
        return service == "upload-pack" or remote_user is not None

    def getanyfile_enabled(self):
        return False


class Backend:
    def open(self, path_info, *, context):
        if path_info.endswith("b.git"):
            raise RepositoryNotFound(path_info, "not exported: no git-daemon-export-ok")
        return Handle()


def test_doctor_says_what_is_served():
    sentences, is_served = diagnose(Backend(), "/srv/a.git")
    assert is_served
    assert sentences == [
        "Served: /srv/a.git.",
        "Anyone may fetch.",
        "Anyone may not push.",
        "Authenticated users may fetch.",
        "Authenticated users may push.",
        "Dumb HTTP is off (http.getanyfile=false).",
    ]


def test_doctor_says_why_it_is_not_served_and_what_to_do():
    sentences, is_served = diagnose(Backend(), "/srv/b.git")
    assert not is_served
    assert "404" in sentences[0] and "git-daemon-export-ok" in sentences[1]


def test_settings_have_no_field_that_a_flag_cannot_name():
    text = run("serve", "--help").output
    missing = [name for name in Settings.__slots__ if f"--{name.replace('_', '-')}" not in text and name != "root"]
    assert missing == []
