"""The server's own settings: its file, and variables of the environment, with values that are none."""

from __future__ import annotations

import os
from contextlib import suppress

from govc.settings import BadSetting, load_settings
from tests.fuzz.draw import Draw
from tests.fuzz.engine import Target
from tests.fuzz.targets.texts import folder_for, remove_scratch, write

SETTING_LINES = (
    b'root = "/srv/git"',
    b'bind = "127.0.0.1:8000"',
    b"workers = 2",
    b"export_all = true",
    b'cache_bytes_max = "1g"',
    b'trusted_proxies = ["127.0.0.1", "::1/128", "unix"]',
    b'durability = "batch"',
    b'log_format = "json"',
    b'remote_user_header = "X-Remote-User"',
    b'jwt_keys = "https://h/keys"',
    b'introspection_url = "http://[::1]/x"',
    b'login_realm = "Git"',
    b"audit_required = true",
    b"unknown = 1",
    b"workers = -1",
    b"workers = " + b"9" * 5000,
    b"root = 5",
    b"[table]",
    b"x = " + b"[" * 3000,
    b'bind = "x"',
    b'trusted_proxies = ["nonsense"]',
    b'durability = "maybe"',
    b'log_format = "xml"',
    b'remote_user_header = "a b"',
    b'jwt_keys = "http://example.com/"',
    b'jwt_keys = "https://u@h/"',
    b'jwt_keys = "http://[x/"',
    b'introspection_url = "nowhere"',
    b"login_realm = 'a\"b'",
    b'export_all = "maybe"',
    b'audit_file = "(not set)"',
    b'cache_dir = ""',
    b'export_all = "no"',
    b'cache_bytes_max = "5 apples"',
    b"trusted_proxies = [1]",
    b'otlp_endpoint = "ftp://h/"',
    b"create_on_push = true",
    b"trace_percent = 101",
    b"shed_cpu_percent = 101",
    b"header_bytes_max = 900000000",
)


def make_settings(draw: Draw) -> tuple[bytes, dict[str, str]]:
    chosen = draw.sample(SETTING_LINES[:13], draw.randrange(6))
    chosen += [draw.choice(SETTING_LINES[13:])] if draw.chance(0.3) else []
    environ = {}
    for _ in range(draw.randrange(3)):
        name = draw.choice(
            ("GOVC_BIND", "GOVC_WORKERS", "GIT_PROJECT_ROOT", "GIT_HTTP_EXPORT_ALL", "GOVC_CACHE_BYTES_MAX")
        )
        environ[name] = (
            draw.word(b"4", b"10k", b"unix:/x", b"", b"/srv").replace(b"\0", b"").decode("utf-8", "surrogateescape")
        )
    return b"\n".join(draw.raw(line) for line in chosen), environ


def run_settings(data: tuple[bytes, dict[str, str]]) -> None:
    content, environ = data
    path = f"{folder_for('settings')}/govc.toml"
    write(path, content)
    load_settings(environ)
    with suppress(BadSetting):
        load_settings({"GOVC_CONFIG": path}, flags={"workers": 3, "bind": None})
    settings = load_settings(environ, file_path=path)
    assert settings.root is None or os.path.isabs(settings.root)


TARGETS = (
    Target(
        name="settings",
        covers=(
            "govc.settings:load_settings,read_settings_file,_convert,_checked,_check_meaning,_check_logins,_is_safe_url,"
            "parse_size,_parse_bool,_environment_values",
        ),
        make=make_settings,
        run=run_settings,
        allowed=(BadSetting,),
        weight=0.15,
        tidy=remove_scratch,
    ),
)
