import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.errors import RepositoryNotFound
from govc.web.request import (
    PathRefused,
    check_path,
    find_parameter,
    hook_variables,
    parse_protocol_version,
    request_path,
    wsgi_text,
)


@pytest.mark.parametrize("path", [b"/", b"/a", b"/a/", b"/.../a", b"/a/....", b"/.a/b.", b"/a..b/HEAD"])
def test_plain_paths_are_accepted(path):
    check_path(path)


@pytest.mark.parametrize(
    "path",
    [b"", b"a", b"//", b"//a", b"/./a", b"/../a", b"/a/..", b"/a/.", b"/a//b", b"/a/../b", b"/..", b"~/a"],
)
def test_aliased_paths_are_refused_with_500(path):
    with pytest.raises(PathRefused) as caught:
        check_path(path)
    assert caught.value.http_status == 500


@pytest.mark.parametrize("path", [b"/a\0b", b"/" + b"a" * 4096])
def test_impossible_paths_are_not_found(path):
    with pytest.raises(RepositoryNotFound):
        check_path(path)


@settings(max_examples=200, derandomize=True)
@given(st.binary(max_size=40))
def test_an_accepted_path_has_no_alias_in_it(path):
    try:
        check_path(b"/" + path)
    except (PathRefused, RepositoryNotFound):
        return
    assert not {b".", b".."} & set(path.split(b"/"))
    assert b"" not in path.split(b"/")[:-1]


def test_path_info_must_be_set_below_a_root():
    for environ in ({}, {"PATH_INFO": ""}):
        with pytest.raises(PathRefused):
            request_path(environ, root_is_set=True)


def test_without_a_root_path_translated_counts():
    assert request_path({"PATH_TRANSLATED": "/srv//a/HEAD"}, root_is_set=False) == b"/srv//a/HEAD"
    with pytest.raises(PathRefused):
        request_path({"PATH_INFO": "/a/HEAD"}, root_is_set=False)


def test_path_bytes_come_back_from_latin_1():
    raw = "/é x.git".encode()
    assert raw == request_path({"PATH_INFO": raw.decode("latin-1")}, root_is_set=True)
    assert wsgi_text(raw.decode("latin-1")) == "/é x.git"


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("", None),
        ("x=1", None),
        ("service", b""),
        ("service=", b""),
        ("x=1&service=git-upload-pack&y=2", b"git-upload-pack"),
        ("service=a&service=b", b"b"),
        ("%73ervice=git%2Dupload%2dpack", b"git-upload-pack"),
        ("service=a+b%20c", b"a b c"),
        ("service=%zz", b"%zz"),
        ("services=x", None),
    ],
)
def test_parameters_are_decoded_and_the_last_wins(query, value):
    assert value == find_parameter(query, b"service")


@pytest.mark.parametrize(
    ("value", "version"),
    [
        (None, 0),
        ("", 0),
        ("version=0", 0),
        ("version=1", 1),
        ("version=2", 2),
        ("version=1:version=2:foo=bar", 2),
        ("version=2:version=1", 2),
        ("version=9", 0),
        ("version=9:version=1", 1),
        ("version= 2", 0),
        ("version=1,version=2", 0),
    ],
)
def test_the_highest_known_version_wins(value, version):
    assert version == parse_protocol_version(value)


def test_hooks_see_the_cgi_variables_and_no_credentials():
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/Ã©.git",
        "REMOTE_USER": "liar",
        "HTTP_USER_AGENT": "git",
        "HTTP_AUTHORIZATION": "Basic x",
        "HTTP_PROXY": "http://evil",
        "HTTP_BAD": "a\0b",
        "wsgi.input": None,
        "GIT_DIR": "/elsewhere",
        "PATH": "/bin",
    }
    variables = hook_variables(environ, remote_user="ann", remote_addr="192.0.2.1", git_protocol=None)
    assert variables == {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/é.git",
        "REMOTE_USER": "ann",
        "REMOTE_ADDR": "192.0.2.1",
        "HTTP_USER_AGENT": "git",
    }


def test_hooks_see_no_user_that_we_did_not_accept():
    variables = hook_variables({"REMOTE_USER": "x"}, remote_user=None, remote_addr=None, git_protocol="version=2")
    assert variables == {"GIT_PROTOCOL": "version=2"}
