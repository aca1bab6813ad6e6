"""Does a `.gitmodules` blob make git do what its owner never wanted?

    [submodule "<name>"]      no empty name, no ".." component: the name becomes a folder under .git/modules
        url = ...             see `submodule_url`
        path = ...            not an option of a program
        update = ...          not a command ("!...")

Source: git's fsck.c fsck_gitmodules_fn, submodule-config.c check_submodule_name; CVE-2018-11235, CVE-2018-17456,
CVE-2019-19604.
"""

import re

from govc.objects.errors import MalformedObject
from govc.objects.fsck_messages import FsckMessage, Report
from govc.objects.gitmodules_syntax import iter_gitmodules
from govc.objects.submodule_url import is_command_line_option, is_safe_submodule_url

_SECTION = b"submodule."
_DOTDOT_COMPONENT = re.compile(rb"(?:\A|[/\\])\.\.(?:[/\\]|\Z)")


def is_safe_submodule_name(name: bytes) -> bool:
    """Tell whether a submodule's name can be made a path below a folder, on any platform."""
    return bool(name) and _DOTDOT_COMPONENT.search(name) is None


def check_gitmodules(content: bytes, report: Report) -> None:
    """Report on the whole blob; a syntax error ends it."""
    try:
        for key, value in iter_gitmodules(content):
            _check_entry(key, value, report)
    except MalformedObject:
        report(FsckMessage.GITMODULES_PARSE, b"could not parse gitmodules blob")


def _check_entry(key: bytes, value: bytes | None, report: Report) -> None:
    dot = key.rfind(b".")
    if not key.startswith(_SECTION) or dot < len(_SECTION):
        return
    submodule, name = key[len(_SECTION) : dot], key[dot + 1 :]
    if not is_safe_submodule_name(submodule):
        report(FsckMessage.GITMODULES_NAME, b"disallowed submodule name: " + submodule)
    if value is None:
        return
    if name == b"url" and not is_safe_submodule_url(value):
        report(FsckMessage.GITMODULES_URL, b"disallowed submodule url: " + value)
    elif name == b"path" and is_command_line_option(value):
        report(FsckMessage.GITMODULES_PATH, b"disallowed submodule path: " + value)
    elif name == b"update" and value.startswith(b"!"):
        report(FsckMessage.GITMODULES_UPDATE, b"disallowed submodule update setting: " + value)
