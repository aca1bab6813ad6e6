"""Namespaces: several repositories' refs in one, each below a prefix of its own.

GIT_NAMESPACE `a/b` stands for the prefix `refs/namespaces/a/refs/namespaces/b/`; a peer sees the names
behind it.

Source: gitnamespaces.
"""

from govc.errors import GovcError
from govc.protocol.refname import check_refname_format


class BadNamespace(GovcError):
    """A GIT_NAMESPACE that git would die on."""

    def __init__(self, namespace: bytes) -> None:
        super().__init__(f'bad git namespace path "{namespace.decode("utf-8", "backslashreplace")}"')
        self.namespace = namespace


def expand_namespace(namespace: bytes) -> bytes:
    """Return the refname prefix of a namespace, with its trailing slash; b"" for none.

    Empty components are passed over. Raises BadNamespace when the prefix isn't a well-formed refname.
    """
    prefix = b"".join(b"refs/namespaces/%b/" % part for part in namespace.split(b"/") if part)
    if prefix and not check_refname_format(prefix[:-1]):
        raise BadNamespace(namespace)
    return prefix


def strip_namespace(name: bytes, prefix: bytes) -> bytes | None:
    """Return the name as the peer sees it, None when the ref is outside the namespace."""
    return name[len(prefix) :] if name.startswith(prefix) else None
