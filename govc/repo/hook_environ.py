"""The environment that hooks run in: what git-http-backend would have handed down.

    the server's own variables    without govc's settings (GOVC_*), which may hold secrets, and without CGI
                                  variables, which come from the request, and without those that say
                                  where another repository's index and work tree are
    the request's                 as CGI has them: REMOTE_USER, REMOTE_ADDR, QUERY_STRING, HTTP_*, ...
    GIT_COMMITTER_NAME, _EMAIL    who pushed
    GIT_DIR=.                     the working directory is the repository
    PATH                          with git's folder of programs in front, when there is a git to be found

What belongs to one hook only (quarantine, push options, certificate) is added where it runs (`push_hooks`).

Source: githooks; git's http-backend.c (run_service), builtin/receive-pack.c, exec-cmd.c (setup_path); rows RP-82,
HB-68, HB-69; clients.md 10.
"""

import os
import shutil
from collections.abc import Mapping
from functools import lru_cache

_FROM_THE_REQUEST_ONLY = ("HTTP_", "REMOTE_", "GOVC_")
_OF_ANOTHER_REPOSITORY = frozenset({"GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_WORK_TREE"})
"""What would lead a hook's git away from the repository, and was meant for whatever started the server."""

_EXEC_FOLDERS = ("libexec/git-core", "lib/git-core")


def hook_environ(
    server: Mapping[str, str],
    request: Mapping[str, str],
    *,
    committer_name: str,
    committer_email: str,
    namespace: str = "",
) -> dict[str, str]:
    """Return the variables for all hooks of a push. `request` holds CGI variables that are fit for programs."""
    variables = {
        name: value
        for name, value in server.items()
        if not name.startswith(_FROM_THE_REQUEST_ONLY) and name not in _OF_ANOTHER_REPOSITORY
    }
    variables.update(request)
    variables["GIT_COMMITTER_NAME"] = committer_name
    variables["GIT_COMMITTER_EMAIL"] = committer_email
    variables["GIT_DIR"] = "."
    if namespace:
        variables["GIT_NAMESPACE"] = namespace
    search = variables.get("PATH", os.defpath)
    folder = variables.get("GIT_EXEC_PATH") or find_exec_folder(search)
    variables["PATH"] = f"{folder}:{search}" if folder else search
    return variables


@lru_cache(maxsize=8)
def find_exec_folder(search: str) -> str | None:
    """Return the folder that `git --exec-path` would name for the git on that PATH, None without one."""
    program = shutil.which("git", path=search)
    if program is None:
        return None
    prefix = os.path.dirname(os.path.dirname(os.path.realpath(program)))
    folders = (f"{prefix}/{name}" for name in _EXEC_FOLDERS)
    return next((folder for folder in folders if os.path.isdir(folder)), None)
