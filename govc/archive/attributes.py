"""gitattributes: what is said of a path, by the files of a tree and by the server's own.

    # comment
    pattern   name  -name  !name  name=value ...       set, unset, unspecified, a value
    [attr]macro   name ...                             only at the top, and in the server's own files

Later lines win over earlier ones, deeper files over those above, `info/attributes` over all of the tree, and the tree
over what the server's files say. A pattern without a slash matches the last part of a path; one with a slash the path
below the folder of its file; one that ends in a slash only folders. A path with a slash at its end is a folder's.

The files come from strangers: they are bounded, nothing backtracks, a line that makes no sense is passed over, as in
git.

Source: gitattributes; git's limits: FILE_BYTES_MAX, LINE_BYTES_MAX (CVE-2022-23521).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from govc.config.wildmatch import matches

FILE_BYTES_MAX = 100 << 20
LINE_BYTES_MAX = 2048
MACRO_DEPTH_MAX = 64

Value = bool | None | str
"""True: set. False: unset. None: unspecified (`!name`). A string: its value."""

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
_BLANKS = " \t\r\n"
_MACRO = "[attr]"
_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}


@dataclass(frozen=True, slots=True)
class _Line:
    """One line; `pattern` is None for a macro's definition, whose name is `macro`."""

    pattern: "_Pattern | None"
    macro: str
    states: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One pattern, taken apart: the usual forms are compared as they are, the others go to the matcher."""

    text: str
    folders_only: bool
    has_slash: bool

    def matches(self, path: str, base: str) -> bool:
        """Say whether a path (a folder's ends in a slash) matches; `base` is the folder of the file, `a/b/` or ""."""
        if path.endswith("/"):
            path = path[:-1]
        elif self.folders_only:
            return False
        if not path.startswith(base):
            return False
        subject = path[len(base) :] if self.has_slash else path[path.rfind("/") + 1 :]
        text = self.text
        if not _is_wild(text):
            return subject == text
        if not self.has_slash and text[0] == "*" and not _is_wild(text[1:]):
            return subject.endswith(text[1:])
        return matches(text, subject)


def _is_wild(text: str) -> bool:
    return any(char in text for char in "*?[\\")


@dataclass(frozen=True, slots=True)
class AttributesFile:
    """The lines of one file, and the folder whose paths it speaks of (`a/b/`, or "")."""

    base: str
    lines: tuple[_Line, ...]


def parse_attributes(data: bytes, base: str = "", *, macros: bool = True) -> AttributesFile:
    """Parse one file; `macros`: whether it may define any. Lines that make no sense are left out."""
    if len(data) > FILE_BYTES_MAX:
        return AttributesFile(base, ())
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return AttributesFile(base, tuple(_iter_lines(text.split("\n"), macros)))


def _iter_lines(lines: Iterable[str], macros: bool) -> Iterator[_Line]:
    for raw in lines:
        text = raw.lstrip(_BLANKS)
        if not text or text.startswith("#") or len(raw.encode("utf-8", "surrogateescape")) >= LINE_BYTES_MAX:
            continue
        found = _split_pattern(text)
        if found is None:
            continue
        name, rest = found
        states = _parse_states(rest)
        if states is None:
            continue
        if name.startswith(_MACRO) and not text.startswith('"'):
            macro = name[len(_MACRO) :]
            if not macro and rest:
                macro, _, rest = rest.partition(" ")
                states = _parse_states(rest) or ()
            if macros and _NAME.fullmatch(macro):
                yield _Line(None, macro, states)
        elif not name.startswith("!"):
            pattern = _parse_pattern(name)
            if pattern.text:
                yield _Line(pattern, "", states)


def _split_pattern(text: str) -> tuple[str, str] | None:
    """Return (pattern, the rest): the pattern may be quoted as C strings are."""
    if not text.startswith('"'):
        match = re.match(r"[^ \t\r\n]+", text)
        assert match is not None
        return match[0], text[match.end() :].strip(_BLANKS)
    out = bytearray()
    position = 1
    while position < len(text) and text[position] != '"':
        char = text[position]
        position += 1
        if char != "\\":
            out += char.encode("utf-8", "surrogateescape")
            continue
        octal = re.compile(r"[0-3][0-7]{2}").match(text, position)
        if octal is not None:
            out.append(int(octal[0], 8))
            position = octal.end()
        elif text[position : position + 1] in _ESCAPES:
            out.append(_ESCAPES[text[position]])
            position += 1
        else:
            return None
    if position >= len(text):
        return None
    return out.decode("utf-8", "surrogateescape"), text[position + 1 :].strip(_BLANKS)


def _parse_states(text: str) -> tuple[tuple[str, Value], ...] | None:
    """Return (name, value) pairs; None when a name is none."""
    states: list[tuple[str, Value]] = []
    for word in text.split():
        value: Value = True
        name = word
        if word[0] in "-!":
            value, name = (False if word[0] == "-" else None), word[1:]
            name = name.partition("=")[0]
        elif "=" in word:
            name, _, value = word.partition("=")
        if not _NAME.fullmatch(name) or name.startswith("builtin_"):
            return None
        states.append((name, value))
    return tuple(states)


def _parse_pattern(text: str) -> _Pattern:
    folders_only = text.endswith("/")
    if folders_only:
        text = text[:-1]
    has_slash = "/" in text
    return _Pattern(text.removeprefix("/"), folders_only, has_slash)


BUILTIN = parse_attributes(b"[attr]binary -diff -merge -text\n")


@dataclass
class Attributes:
    """What the files of a tree, and those around it, say of paths.

    `provide` is told the content of the .gitattributes of each folder (`a/b/`, or "") before a path below it is asked
    about. `above` win over the tree (info/attributes), `below` lose against it (the server's own files), both in the
    order of their weight, the heavier first.
    """

    above: tuple[AttributesFile, ...] = ()
    below: tuple[AttributesFile, ...] = ()
    _files: dict[str, AttributesFile] = field(default_factory=dict)
    _macros: dict[str, tuple[tuple[str, Value], ...]] | None = None

    def provide(self, folder: str, data: bytes) -> None:
        """Take the .gitattributes of a folder."""
        self._files[folder] = parse_attributes(data, folder, macros=not folder)
        if not folder:
            self._macros = None

    def of(self, path: str, names: Iterable[str]) -> dict[str, Value]:
        """Return the values of the names for a path; a folder's path ends in a slash."""
        found: dict[str, Value] = {}
        for file in self._files_for(path):
            for line in reversed(file.lines):
                if line.pattern is not None and line.pattern.matches(path, file.base):
                    self._take(line.states, found, MACRO_DEPTH_MAX)
        return {name: found.get(name) for name in names}

    def _take(self, states: tuple[tuple[str, Value], ...], found: dict[str, Value], depth: int) -> None:
        for name, value in reversed(states):
            if name in found:
                continue
            found[name] = value
            if value is True and depth and name in self._all_macros():
                self._take(self._all_macros()[name], found, depth - 1)

    def _all_macros(self) -> Mapping[str, tuple[tuple[str, Value], ...]]:
        if self._macros is None:
            root = self._files.get("")
            files = [*self.above, *([] if root is None else [root]), *self.below, BUILTIN]
            self._macros = {}
            for file in reversed(files):
                self._macros.update((line.macro, line.states) for line in file.lines if line.pattern is None)
        return self._macros

    def _files_for(self, path: str) -> Iterator[AttributesFile]:
        yield from self.above
        end = len(path) - 1 if path.endswith("/") else len(path)
        while (end := path.rfind("/", 0, end)) >= 0:
            file = self._files.get(path[: end + 1])
            if file is not None:
                yield file
        root = self._files.get("")
        if root is not None:
            yield root
        yield from self.below
        yield BUILTIN
