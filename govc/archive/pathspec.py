"""Pathspecs: which paths of a tree did the client name?

    path          that file, or everything below that folder
    wild*card     * also matches slashes
    :(top,literal,icase,glob,exclude)path, :/path, :!path, :^path

With only exclusions, everything else is chosen. `:(attr:...)` is refused.

Source: gitglossary "pathspec".
"""

from collections.abc import Iterable
from dataclasses import dataclass

from govc.archive.options import ArchiveRefused
from govc.config.wildmatch import matches

_LONG = frozenset({"top", "literal", "icase", "glob", "exclude"})
_SHORT = {"/": "top", "!": "exclude", "^": "exclude"}


@dataclass(frozen=True, slots=True)
class _Spec:
    """One pathspec. `fixed` is the part before the first wild card."""

    original: str
    pattern: str
    fixed: str
    magic: frozenset[str]

    def matches(self, path: str) -> bool:
        """Say whether a path (without a slash at its end) is named, itself or by a folder above it."""
        pattern = self.pattern.removesuffix("/")
        if "icase" in self.magic:
            path, pattern = path.lower(), pattern.lower()
        if not pattern or path == pattern or path.startswith(f"{pattern}/"):
            return True
        if len(self.fixed) == len(self.pattern):
            return False
        return matches(self.pattern, path, ignore_case="icase" in self.magic, crosses_slashes="glob" not in self.magic)

    def may_match_below(self, folder: str) -> bool:
        """Say whether something below a folder (`a/b/`) may match."""
        fixed = self.fixed
        if "icase" in self.magic:
            folder, fixed = folder.lower(), fixed.lower()
        if len(self.fixed) == len(self.pattern):
            fixed = fixed.removesuffix("/")
            if not fixed:
                return True  # "./" and the like: everything
            fixed += "/"
        return folder.startswith(fixed) or fixed.startswith(folder)


class Pathspec:
    """All that were given. Make one with `parse_pathspec`."""

    def __init__(self, specs: Iterable[_Spec]) -> None:
        self._specs = tuple(specs)
        self._wanted = tuple(spec for spec in self._specs if "exclude" not in spec.magic)
        self._excluded = tuple(spec for spec in self._specs if "exclude" in spec.magic)

    def matches(self, path: str) -> bool:
        """Say whether a path is chosen."""
        return (not self._wanted or any(spec.matches(path) for spec in self._wanted)) and not any(
            spec.matches(path) for spec in self._excluded
        )

    def may_match_below(self, folder: str) -> bool:
        """Say whether something below a folder (`a/b/`) may be chosen."""
        return not self._wanted or any(spec.may_match_below(folder) for spec in self._wanted)

    def unmatched(self, paths: Iterable[str]) -> str | None:
        """Return the first pathspec that names nothing among `paths` (files and folders of the tree), or None."""
        waiting = [spec for spec in self._specs if spec.original and "exclude" not in spec.magic]
        for path in paths:
            waiting = [spec for spec in waiting if not spec.matches(path)]
            if not waiting:
                return None
        return waiting[0].original if waiting else None

    def __bool__(self) -> bool:
        return bool(self._specs)


def parse_pathspec(arguments: Iterable[bytes]) -> Pathspec:
    """Parse what follows the tree. Raises ArchiveRefused."""
    return Pathspec(_parse(argument.decode("utf-8", "surrogateescape")) for argument in arguments)


def _parse(text: str) -> _Spec:
    magic: set[str] = set()
    rest = text
    if text.startswith(":("):
        words, closed, rest = text[2:].partition(")")
        if not closed:
            raise ArchiveRefused(f"Missing ')' at the end of pathspec magic in '{text}'")
        for word in filter(None, words.split(",")):
            if word not in _LONG:
                raise ArchiveRefused(f"Invalid pathspec magic '{word}' in '{text}'")
            magic.add(word)
        if {"literal", "glob"} <= magic:
            raise ArchiveRefused(f"{text}: 'literal' and 'glob' are incompatible")
    elif text.startswith(":"):
        rest = text[1:]
        while rest[:1] in _SHORT:
            magic.add(_SHORT[rest[0]])
            rest = rest[1:]
        rest = rest.removeprefix(":")
    parts: list[str] = []
    for part in rest.split("/")[:-1]:
        if part == ".." and parts:
            parts.pop()
        elif part == "..":
            raise ArchiveRefused(f"{text}: '{text}' is outside repository")
        elif part not in ("", "."):
            parts.append(part)
    last = rest.rsplit("/", 1)[-1]
    pattern = "/".join([*parts, "" if last in (".", "") else last])
    if pattern == "/":
        pattern = ""
    cut = len(pattern)
    if "literal" not in magic:
        cut = min((at for char in "*?[\\" if (at := pattern.find(char)) >= 0), default=cut)
    return _Spec(text, pattern, pattern[:cut], frozenset(magic))
