r"""Which bytes may name a ref.

A refname is slash-separated components. Git's rules: no empty component, none that begins with a dot or
ends with `.lock`; no `..`, no `@{`, no byte below 0x21, no DEL, none of `~^:?*[\`; no dot at the end; not
the single `@`; and two components unless one is explicitly enough. What a *push* may name is narrower: it
must lie under `refs/`.

Bytes from 0x80 up are free. Names are bytes; nothing here knows about a disk except the length of one path
component.

Source: git-check-ref-format; rows FS-40, RP-42, SEC-03, SEC-17.
"""

import re

COMPONENT_BYTES_MAX = 255  # NAME_MAX of every file system in use
LOCK_SUFFIX = b".lock"

_FORBIDDEN = re.compile(rb"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\A[./]|[./]\Z|\.lock(?=/|\Z)|\A@?\Z")


def check_refname_format(name: bytes, *, allow_onelevel: bool = False) -> bool:
    """Return True when git's check_refname_format accepts `name`.

    `allow_onelevel` admits a name without a slash (`HEAD`, `main`).
    """
    if _FORBIDDEN.search(name) is not None:
        return False
    return allow_onelevel or b"/" in name


def is_safe_refname(name: bytes, *, deleting: bool = False) -> bool:
    """Return True when a push may name this ref: under `refs/`, and well-formed after it.

    `refs/x` (one level) may only be deleted. False is answered with `ng … funny refname`.
    """
    return name.startswith(b"refs/") and check_refname_format(name[5:], allow_onelevel=deleting)


def is_storable_refname(name: bytes) -> bool:
    """Return True when every component fits a directory entry, the last one also with `.lock` behind it."""
    components = name.split(b"/")
    if len(components[-1]) + len(LOCK_SUFFIX) > COMPONENT_BYTES_MAX:
        return False
    return max(map(len, components)) <= COMPONENT_BYTES_MAX
