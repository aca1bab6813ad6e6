import dataclasses
import tomllib

import pytest

from govc.settings import BadSetting, Settings, format_settings, load_settings, override, parse_size


def test_defaults_trust_loopback_only_and_export_nothing():
    settings = load_settings({})
    assert Settings() == settings
    assert (
        settings.export_all,
        settings.remote_user_header,
        settings.bind,
    ) == (False, None, "127.0.0.1:8000")
    assert settings.trusted_proxies == ("127.0.0.0/8", "::1/128", "unix")


def test_git_http_backends_own_environment():
    settings = load_settings(
        {
            "GIT_PROJECT_ROOT": "/srv/git",
            "GIT_HTTP_EXPORT_ALL": "",
            "GIT_HTTP_MAX_REQUEST_BUFFER": "10k",
            "GIT_NAMESPACE": "a/b",
            "GIT_PROTOCOL": "version=1",
        }
    )
    assert (
        settings.root,
        settings.export_all,
        settings.max_request_buffer,
        settings.namespace,
        settings.git_protocol,
    ) == ("/srv/git", True, 10240, "a/b", "version=1")


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_export_all_is_on_when_set_to_whatever(value):
    assert load_settings({"GIT_HTTP_EXPORT_ALL": value}).export_all


def test_later_sources_win(tmp_path):
    path = tmp_path / "govc.toml"
    path.write_text('bind = "127.0.0.1:1"\nworkers = 3\nkeepalive_seconds = 9\nexport_all = true\n')
    environ = {
        "GOVC_CONFIG": str(path),
        "GOVC_WORKERS": "4",
        "GOVC_BIND": "127.0.0.1:2",
        "GOVC_EXPORT_ALL": "no",
    }
    settings = load_settings(environ, flags={"bind": "127.0.0.1:3", "workers": None})
    assert (
        settings.bind,
        settings.workers,
        settings.keepalive_seconds,
        settings.export_all,
    ) == ("127.0.0.1:3", 4, 9, False)


def test_lists_come_with_commas_or_as_lists(tmp_path):
    path = tmp_path / "govc.toml"
    path.write_text('trusted_proxies = ["10.0.0.0/8"]\n')
    assert load_settings({}, file_path=str(path)).trusted_proxies == ("10.0.0.0/8",)
    assert load_settings({"GOVC_TRUSTED_PROXIES": "10.0.0.1, unix,"}).trusted_proxies == ("10.0.0.1", "unix")


@pytest.mark.parametrize(
    ("environ", "name", "source"),
    [
        ({"GOVC_WORKERS": "many"}, "workers", "GOVC_WORKERS"),
        ({"GOVC_WORKERS": "0"}, "workers", "GOVC_WORKERS"),
        ({"GOVC_EXPORT_ALL": "maybe"}, "export_all", "GOVC_EXPORT_ALL"),
        ({"GOVC_TRUSTED_PROXIES": "loopback"}, "trusted_proxies", "GOVC_TRUSTED_PROXIES"),
        ({"GOVC_REMOTE_USER_HEADER": "X Remote"}, "remote_user_header", "GOVC_REMOTE_USER_HEADER"),
        ({"GOVC_REMOTE_USER_HEADER": "X_Remote"}, "remote_user_header", "GOVC_REMOTE_USER_HEADER"),
        ({"GOVC_BIND": "8000x"}, "bind", "GOVC_BIND"),
        ({"GOVC_BIND": "unix:/" + "x" * 107}, "bind", "GOVC_BIND"),
        ({"GOVC_BIND": "unix:"}, "bind", "GOVC_BIND"),
        ({"GOVC_BIND": "unix://"}, "bind", "GOVC_BIND"),
        ({"GIT_HTTP_MAX_REQUEST_BUFFER": "-1"}, "max_request_buffer", "GIT_HTTP_MAX_REQUEST_BUFFER"),
        ({"GIT_HTTP_MAX_REQUEST_BUFFER": ""}, "max_request_buffer", "GIT_HTTP_MAX_REQUEST_BUFFER"),
    ],
)
def test_an_error_names_the_field_and_its_source(environ, name, source):
    with pytest.raises(BadSetting) as caught:
        load_settings(environ)
    assert (name, source) == (caught.value.name, caught.value.source)
    assert name in str(caught.value) and source in str(caught.value)


@pytest.mark.parametrize("text", ["wrokers = 1\n", "workers = \n", 'workers = "x"\n', "workers = true\n", "bind = 1\n"])
def test_a_bad_file_is_an_error(tmp_path, text):
    path = tmp_path / "govc.toml"
    path.write_text(text)
    with pytest.raises(BadSetting, match=r"govc\.toml"):
        load_settings({}, file_path=str(path))


def test_an_absent_file_is_an_error():
    with pytest.raises(BadSetting, match="no-such-file"):
        load_settings({}, file_path="no-such-file")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("12", 12),
        ("1k", 1024),
        ("2M", 2 << 20),
        ("1g", 1 << 30),
        ("1t", None),
        ("", None),
        ("k", None),
    ],
)
def test_sizes_have_gits_units(text, size):
    assert size == parse_size(text)


def test_overrides_are_checked():
    assert override(Settings(), {"workers": 7}).workers == 7
    with pytest.raises(BadSetting, match="nothing"):
        override(Settings(), {"nothing": 1})
    with pytest.raises(BadSetting, match="bind"):
        override(Settings(), {"bind": "x"})


def test_what_is_printed_can_be_read_again(tmp_path):
    settings = Settings(root='/srv/"git"\\x\n', remote_user_header="X-User", export_all=True)
    text = format_settings(settings)
    path = tmp_path / "govc.toml"
    path.write_text(text)
    assert settings == dataclasses.replace(load_settings({}, file_path=str(path)), root=settings.root)
    assert settings.root == tomllib.loads(text)["root"]


def test_every_field_has_a_reason():
    assert [knob.name for knob in dataclasses.fields(Settings) if not knob.metadata["reason"]] == []
