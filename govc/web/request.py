"""What does the environ say? Bytes of the path, the query, the protocol version, the CGI variables.

WSGI hands every byte of the URL over as one latin-1 character (PEP 3333), so `é` arrives as two; paths go
back to bytes here and become `str` again with surrogateescape, the way os.fsdecode would.

The path is checked before anything looks at it: `//`, `/./`, `/../` inside it and `/.` or `/..` at its end
are refused (names with three dots or more are ordinary), as git's daemon and http-backend do, whether or not
such a repository would exist.

Source: git-http-backend, gitprotocol-v2 "HTTP Transport", PEP 3333 "Unicode Issues".
"""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from govc.errors import GovcError, RepositoryNotFound

PATH_BYTES_MAX = 4096
"""PATH_MAX of Linux; git finds nothing at a longer path."""

_HIDDEN_FROM_HOOKS = frozenset({"HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION", "HTTP_PROXY"})
_CGI_NAME = re.compile(
    r"HTTP_[A-Z0-9_]+|SERVER_[A-Z]+|REMOTE_[A-Z]+|REQUEST_[A-Z]+|CONTENT_(?:TYPE|LENGTH)"
    r"|PATH_(?:INFO|TRANSLATED)|SCRIPT_(?:NAME|FILENAME)|QUERY_STRING|GATEWAY_INTERFACE|AUTH_TYPE|DOCUMENT_ROOT"
    r"|HTTPS|GIT_COMMITTER_(?:NAME|EMAIL)"
)
_ALIAS_NAMES = (b"", b".", b"..")


class PathRefused(GovcError):
    """A URL path that could name one thing in two ways, or none at all. Answered 500, as git does."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path!r}: {reason}")
        self.path = path
        self.reason = reason


def wsgi_bytes(value: str) -> bytes:
    """Return the bytes behind a WSGI string (one latin-1 character each)."""
    return value.encode("latin-1", "replace")


def wsgi_text(value: str) -> str:
    """Return a WSGI string as the file system and the environment of programs want it (surrogateescape)."""
    if value.isascii():
        return value
    return os.fsdecode(wsgi_bytes(value))


def check_path(path: bytes) -> None:
    """Refuse a path that is not in its one plain form.

    Raises `PathRefused` (500) for aliases and `RepositoryNotFound` (404) for what no file system can hold.
    """
    if b"\0" in path or len(path) >= PATH_BYTES_MAX:
        raise RepositoryNotFound(os.fsdecode(path[:80]), "no file system holds such a path")
    if path[:1] not in (b"/", b"~"):
        raise PathRefused(os.fsdecode(path), "does not begin with a slash")
    names = path[1:].split(b"/")
    last = names.pop()
    if last in (b".", b"..") or any(name in _ALIAS_NAMES for name in names):
        raise PathRefused(os.fsdecode(path), "aliased")


def request_path(environ: Mapping[str, Any], *, root_is_set: bool) -> bytes:
    """Return the path that holds repository and route.

    With a root that is PATH_INFO, relative to the root; without one, PATH_TRANSLATED, absolute on disk, which
    only the web server can set.
    """
    if not root_is_set:
        translated = environ.get("PATH_TRANSLATED")
        if not translated:
            raise PathRefused("", "no GIT_PROJECT_ROOT or PATH_TRANSLATED from the server")
        return wsgi_bytes(translated)
    path_info = environ.get("PATH_INFO")
    if not path_info:
        raise PathRefused("", "GIT_PROJECT_ROOT is set but PATH_INFO is not")
    path = wsgi_bytes(path_info)
    check_path(path)
    return path


def find_parameter(query: str, name: bytes) -> bytes | None:
    """Return the decoded value of the last parameter `name` in a query string, or None when it isn't
    there."""
    if not query:
        return None
    found = None
    for pair in wsgi_bytes(query).split(b"&"):
        key, _, value = pair.partition(b"=")
        if unquote_to_bytes(key.replace(b"+", b" ")) == name:
            found = unquote_to_bytes(value.replace(b"+", b" "))
    return found


@lru_cache(maxsize=1024)
def _is_for_hooks(name: str) -> bool:
    return _CGI_NAME.fullmatch(name) is not None and name not in _HIDDEN_FROM_HOOKS


def parse_protocol_version(value: str | None) -> int:
    """Return 0, 1 or 2 from a Git-Protocol value: the highest version that we know wins."""
    highest = 0
    for item in (value or "").split(":"):
        if item == "version=2":
            return 2
        if item == "version=1":
            highest = 1
    return highest


def hook_variables(
    environ: Mapping[str, Any],
    *,
    remote_user: str | None,
    remote_addr: str | None,
    git_protocol: str | None,
    auth_type: str | None = None,
) -> dict[str, str]:
    """Return the CGI variables that hooks see, fit for the environment of a program (surrogateescape).

    REMOTE_USER and REMOTE_ADDR are what we decided, not what a header claimed; `auth_type` is the scheme by which we
    did, None: the server in front knows. Credentials and HTTP_PROXY
    (which programs take for their own setting) stay out.
    """
    variables = {
        name: wsgi_text(value)
        for name, value in environ.items()
        if isinstance(value, str) and _is_for_hooks(name) and "\0" not in value
    }
    for name, value in (
        ("REMOTE_USER", remote_user),
        ("REMOTE_ADDR", remote_addr),
        ("GIT_PROTOCOL", git_protocol),
    ):
        variables.pop(name, None)
        if value and "\0" not in value:
            variables[name] = value
    if auth_type is not None:
        variables["AUTH_TYPE"] = auth_type
    return variables
