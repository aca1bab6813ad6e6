"""Which refs a peer may not see: the hideRefs patterns.

One list in the order of the configuration (the caller merges `transfer.hideRefs` with the section's own);
the last pattern that matches decides. `!` shows again what an earlier pattern hid; `^` (after `!`) compares
with the full name, before the namespace is cut off. A pattern matches the ref of that name and all below
it.

Source: git-config "transfer.hideRefs", git's refs.c (ref_is_hidden).
"""

from collections.abc import Iterable
from typing import NamedTuple


class _Pattern(NamedTuple):
    prefix: bytes
    hides: bool
    is_full_name: bool


def _parse_pattern(text: bytes) -> _Pattern:
    hides = not text.startswith(b"!")
    text = text if hides else text[1:]
    is_full_name = text.startswith(b"^")
    return _Pattern((text[1:] if is_full_name else text).rstrip(b"/"), hides, is_full_name)


class HiddenRefs:
    """A list of hideRefs patterns, ready to be asked."""

    __slots__ = ("_last_first",)

    def __init__(self, patterns: Iterable[bytes]) -> None:
        """Take the patterns in configuration order."""
        self._last_first = tuple(_parse_pattern(text) for text in patterns)[::-1]

    def __bool__(self) -> bool:
        """Say whether anything could be hidden."""
        return bool(self._last_first)

    def is_hidden(self, name: bytes | None, full_name: bytes) -> bool:
        """Say whether a ref is hidden.

        `name` is the name within the namespace, None for a ref outside it; `full_name` the one on disk.
        """
        for prefix, hides, is_full_name in self._last_first:
            subject = full_name if is_full_name else name
            if subject is None or not subject.startswith(prefix):
                continue
            if len(subject) == len(prefix) or subject[len(prefix)] == ord("/"):
                return hides
        return False
