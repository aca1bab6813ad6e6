"""Filter specs: which objects a partial clone leaves out.

    blob:none            blob:limit=N[kmg]     tree:DEPTH
    sparse:oid=EXPR      object:type=TYPE      combine:SPEC+SPEC+…   (each part percent-encoded)

A spec becomes a frozen value. Which kinds a repository refuses, and how deep a tree filter may go, is asked
with `find_banned_filter`. `sparse:path` (dropped by git) and `auto` (for clients) are refused with git's
texts.

Source: git-rev-list "--filter"; gitprotocol-v2 "fetch"; rows U0-49..53.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from govc.protocol.errors import RemoteProtocolError
from govc.protocol.text import find_c_integer, quote_line

ULONG_MAX = (1 << 64) - 1
COMBINE_DEPTH_MAX = 16  # nesting; git recurses without a bound, real clients use one level

_TYPES = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}
_UNITS = {b"k": 1 << 10, b"m": 1 << 20, b"g": 1 << 30}
_RESERVED = re.compile(rb"""[\x00-\x20\x80-\xff~`!@#$^&*()\[\]{}\\;'",<>?]""")
_PERCENT_ESCAPE = re.compile(rb"%([0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True)
class BlobNone:
    """No blobs."""

    kind: ClassVar[str] = "blob:none"


@dataclass(frozen=True, slots=True)
class BlobLimit:
    """No blobs of `size_limit` bytes or more."""

    kind: ClassVar[str] = "blob:limit"
    size_limit: int


@dataclass(frozen=True, slots=True)
class TreeDepth:
    """No trees and blobs whose depth from the root tree is `depth` or more (0: no trees at all)."""

    kind: ClassVar[str] = "tree"
    depth: int


@dataclass(frozen=True, slots=True)
class SparseOid:
    """Only blobs that match the sparse patterns in the blob that `expression` names."""

    kind: ClassVar[str] = "sparse:oid"
    expression: bytes


@dataclass(frozen=True, slots=True)
class ObjectType:
    """Only objects of one type: 1 commit, 2 tree, 3 blob, 4 tag."""

    kind: ClassVar[str] = "object:type"
    type_number: int


@dataclass(frozen=True, slots=True)
class Combine:
    """What every part lets through."""

    kind: ClassVar[str] = "combine"
    parts: "tuple[ObjectFilter, ...]"


ObjectFilter = BlobNone | BlobLimit | TreeDepth | SparseOid | ObjectType | Combine


def parse_filter(spec: bytes) -> ObjectFilter:
    """Parse a filter spec. Raises RemoteProtocolError with git's text."""
    return _parse_nested(spec, 0)


def _parse_nested(spec: bytes, depth: int) -> ObjectFilter:
    if spec == b"blob:none":
        return BlobNone()
    if spec.startswith(b"blob:limit="):
        size_limit = _find_size(spec[11:])
        if size_limit is not None:
            return BlobLimit(size_limit)
    elif spec.startswith(b"tree:"):
        tree_depth = _find_size(spec[5:])
        if tree_depth is None:
            raise RemoteProtocolError("expected 'tree:<depth>'")
        return TreeDepth(tree_depth)
    elif spec.startswith(b"sparse:oid="):
        return SparseOid(spec[11:])
    elif spec.startswith(b"sparse:path="):
        raise RemoteProtocolError("sparse:path filters support has been dropped")
    elif spec.startswith(b"object:type="):
        return ObjectType(_parse_type(spec[12:]))
    elif spec.startswith(b"combine:"):
        return _parse_combine(spec[8:], depth)
    elif spec == b"auto":
        raise RemoteProtocolError("'auto' filter not supported by this command")
    raise RemoteProtocolError(f"invalid filter-spec '{quote_line(spec)}'")


def _parse_combine(text: bytes, depth: int) -> Combine:
    if not text:
        raise RemoteProtocolError("expected something after combine:")
    if depth >= COMBINE_DEPTH_MAX:
        raise RemoteProtocolError(f"combine filters nested deeper than {COMBINE_DEPTH_MAX}")
    parts = text.split(b"+")
    if len(parts) > 1 and not parts[-1]:
        parts[-2:] = [parts[-2] + b"+"]  # a plus at the very end belongs to the last part, and spoils it
    filters = []
    for part in parts:
        reserved = _RESERVED.search(part)
        if reserved is not None:
            raise RemoteProtocolError(f"must escape char in sub-filter-spec: '{quote_line(reserved.group())}'")
        filters.append(_parse_nested(_percent_decode(part), depth + 1))
    return Combine(tuple(filters))


def _percent_decode(text: bytes) -> bytes:
    return _PERCENT_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), text)


def _parse_type(name: bytes) -> int:
    type_number = _TYPES.get(name)
    if type_number is None:
        raise RemoteProtocolError(f"'{quote_line(name)}' for 'object:type=<type>' is not a valid object type")
    return type_number


def _find_size(text: bytes) -> int | None:
    """Return an unsigned number, k, m or g behind it allowed, as git_parse_ulong reads it, or None."""
    unit = _UNITS.get(text[-1:].lower())
    number = find_c_integer(text if unit is None else text[:-1])
    if number is None or number < 0:
        return None
    size = number * (unit or 1)
    return size if size <= ULONG_MAX else None


def find_banned_filter(
    object_filter: ObjectFilter, is_allowed: Callable[[str], bool], tree_depth_max: int | None = None
) -> str | None:
    """Return git's text for the first filter, or part of one, that the repository refuses, or None.

    `is_allowed` is asked with kind names (`blob:none`, `tree`, `combine`, …).
    """
    pending: list[ObjectFilter] = [object_filter]
    while pending:
        current = pending.pop()
        if not is_allowed(current.kind):
            return f"filter '{current.kind}' not supported"
        if isinstance(current, TreeDepth) and tree_depth_max is not None and current.depth > tree_depth_max:
            return f"tree filter allows max depth {tree_depth_max}, but got {current.depth}"
        if isinstance(current, Combine):
            pending.extend(reversed(current.parts))
    return None
