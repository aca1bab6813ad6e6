import dataclasses
import importlib.util
import subprocess
import sys

import pytest

from govc.auth import assembly
from govc.auth.assembly import check_settings, make_authenticator, make_policy
from govc.auth.permissions import LoginPermissions, Permissions
from govc.auth.principal import Level
from govc.settings import BadSetting, Settings, load_settings

from .issuer import key_set, make_key

HASH = "$2y$05$yZIB07pIL20rDbDkpu.F9.zNMvml6ZefkxIMRRTLKNC0HIZZnUU02"


def call(function, *arguments):
    return function(*arguments)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "pw").write_text(f"ann:{HASH}\n")
    (tmp_path / "p.toml").write_text('[[rule]]\nrepositories = ["**"]\nread = ["ann"]\n')
    (tmp_path / "jwks").write_bytes(key_set(make_key("ES256", "k")))
    (tmp_path / "secret").write_text("s3cr3t\n")
    return tmp_path


def settings(files, *names):
    all_values = {
        "permission_file": str(files / "p.toml"),
        "htpasswd_file": str(files / "pw"),
        "token_file": str(files / "tokens"),
        "jwt_keys": str(files / "jwks"),
        "jwt_issuer": "i",
        "jwt_audience": "a",
        "introspection_url": "https://i.example/",
        "introspection_client_id": "c",
        "introspection_secret_file": str(files / "secret"),
    }
    return Settings(**{name: value for name, value in all_values.items() if name.startswith(names)})


def test_nothing_configured_is_nothing_checked():
    assert make_policy(Settings()) is None
    assert make_authenticator(Settings(), call) is None
    check_settings(Settings())


def test_everything_configured_is_made(files):
    chosen = settings(files, "")
    check_settings(chosen)
    made = make_authenticator(chosen, call)
    assert made is not None
    assert None not in (made.passwords, made.tokens, made.jwt, made.introspection)
    assert made.authenticate("Basic YW5uOnNlY3JldA==", None).user == "ann"


def test_a_login_of_ours_without_a_permission_file_is_asked_of_everybody(files):
    policy = make_policy(settings(files, "htpasswd"))
    assert policy is not None and policy() == LoginPermissions(Level.NONE)
    policy = make_policy(dataclasses.replace(settings(files, "htpasswd"), anonymous_read=True))
    assert policy is not None and policy() == LoginPermissions(Level.READ)


def test_a_permission_file_counts_as_it_is_now(files):
    policy = make_policy(settings(files, "permission"))
    assert policy is not None and isinstance(policy(), Permissions) and len(policy().rules) == 1
    (files / "p.toml").write_text("")
    assert policy().rules == ()


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("p.toml", "[[rule]]\nx = 1\n", "p.toml line 2"),
        ("p.toml", None, "p.toml"),
        ("pw", "ann\n", "pw line 1"),
        ("pw", None, "pw"),
        ("tokens", "{\n", "tokens line 1"),
        ("jwks", "{\n", "jwks line 2"),
        ("jwks", '{"keys": []}', "jwks"),
        ("jwks", "[]", "jwks"),
        ("jwks", None, "jwks"),
        ("secret", "", "secret"),
        ("secret", None, "secret"),
    ],
)
def test_what_is_wrong_is_named_before_anything_starts(files, name, content, where):
    if content is None:
        (files / name).unlink()
    else:
        (files / name).write_text(content)
    chosen = settings(files, "")
    with pytest.raises(BadSetting) as caught:
        check_settings(chosen)
    assert str(files / where) in str(caught.value)


def test_what_is_checked_before_the_fork_imports_no_network_library(files):
    # gevent patches sockets in the worker; a library that was imported before would keep the old ones.
    chosen = settings(files, "")
    code = (
        "import sys, ast; from govc.auth.assembly import check_settings; from govc.settings import Settings;"
        f"check_settings(Settings(**ast.literal_eval({repr_of(chosen)!r})));"
        "print([name for name in ('requests', 'ssl', 'joserfc', 'authlib', 'argon2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def repr_of(chosen):
    return repr({name: value for name, value in dataclasses.asdict(chosen).items() if value is not None})


@pytest.mark.parametrize(
    ("library", "setting"),
    [
        ("bcrypt", "htpasswd_file"),
        ("argon2", "htpasswd_file"),
        ("joserfc", "jwt_keys"),
        ("authlib", "introspection_url"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_remedy(files, library, setting, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(assembly.importlib.util, "find_spec", lambda name: None if name == library else find_spec(name))
    with pytest.raises(BadSetting, match=rf"'{setting}'.*{library}: pip install 'govc\[auth\]'"):
        check_settings(settings(files, ""))
    check_settings(settings(files, "token", "permission"))


# What the settings say about each other


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"GOVC_JWT_KEYS": "k", "GOVC_JWT_ISSUER": "i"}, "'jwt_audience' .* must be set, since jwt_keys is"),
        ({"GOVC_JWT_KEYS": "k", "GOVC_JWT_AUDIENCE": "i"}, "'jwt_issuer' .* must be set"),
        (
            {"GOVC_JWT_KEYS": "k", "GOVC_JWT_AUDIENCE": "i", "GOVC_JWT_ISSUER": "i", "GOVC_JWT_USER_CLAIM": ""},
            "'jwt_user_claim' .* must be set",
        ),
        ({"GOVC_JWT_KEYS": "http://i.example/k"}, "'jwt_keys' \\(from GOVC_JWT_KEYS\\): wants https"),
        ({"GOVC_JWT_KEYS": "https://u:p@i.example/k"}, "wants https"),
        ({"GOVC_JWT_KEYS": "ftp://127.0.0.1/k"}, "wants https"),
        ({"GOVC_JWT_KEYS": "https://"}, "wants https"),
        ({"GOVC_INTROSPECTION_URL": "issuer"}, "wants a URL"),
        ({"GOVC_INTROSPECTION_URL": "https://i/"}, "'introspection_client_id' .* must be set"),
        ({"GOVC_LOGIN_REALM": 'a"b'}, "'login_realm'"),
        ({"GOVC_LOGIN_REALM": "a\r\nb"}, "'login_realm'"),
    ],
)
def test_settings_that_do_not_fit_together(environ, sentence):
    with pytest.raises(BadSetting, match=sentence):
        load_settings(environ)


@pytest.mark.parametrize("url", ["https://i.example/k", "http://127.0.0.1:1/k", "http://localhost/k", "http://[::1]/k"])
def test_urls_that_are_safe(url):
    assert load_settings({"GOVC_JWT_KEYS": url, "GOVC_JWT_ISSUER": "i", "GOVC_JWT_AUDIENCE": "a"}).jwt_keys == url
