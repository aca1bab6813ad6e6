"""The patterns of `sparse:oid`: gitignore syntax, read as "choose" instead of "ignore".

One pattern a line; blank lines and lines that begin with `#` are skipped; `!` negates; a trailing `/` matches
directories only; a pattern with no other slash matches the last component anywhere, one with a slash matches
the whole path from the root. `*` and `?` stop at slashes, `**` between slashes does not. The last line that
matches decides; where none does, the directory above decides, and the root is not chosen.

The patterns are a peer's: they are read in time and memory in proportion to their length, by the first who asks for a
choice, and matching simulates an automaton, in (length of pattern) x (length of path) steps at most. That is still much
for a long list, so whoever shares a processor with others leaves the matching to a process of its own.

Source: gitignore(5) "PATTERN FORMAT", git's dir.c (path_matches_pattern_list), wildmatch.c,
list-objects-filter.c.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from govc.errors import LimitExceeded

PATTERNS_BYTES_MAX = 1 << 20
"""A longer list of patterns is refused."""

_SLASH = 0x2F
_CLASSES: dict[bytes, Callable[[bytes], bool]] = {
    b"alnum": bytes.isalnum,
    b"alpha": bytes.isalpha,
    b"blank": lambda b: b in (b" ", b"\t"),
    b"cntrl": lambda b: b[0] < 32 or b[0] == 127,
    b"digit": bytes.isdigit,
    b"graph": lambda b: 32 < b[0] < 127,
    b"lower": bytes.islower,
    b"print": lambda b: 31 < b[0] < 127,
    b"punct": lambda b: 32 < b[0] < 127 and not b.isalnum(),
    b"space": bytes.isspace,
    b"upper": bytes.isupper,
    b"xdigit": lambda b: b in b"0123456789abcdefABCDEF",
}
_NAMES = {name: sum(1 << n for n in range(128) if belongs(bytes([n]))) for name, belongs in _CLASSES.items()}
"""What a `[:name:]` accepts, a bit for each byte."""


class _Step(NamedTuple):
    """One step of the automaton: the bytes it accepts, a bit for each; a loop may be passed any number of times."""

    accepts: int
    loop: bool
    skips: int = 0  # steps that may be jumped over: where "**/" stands for nothing


@dataclass(frozen=True, slots=True)
class _Pattern:
    steps: tuple[_Step, ...]
    literal: bytes | None
    negative: bool
    directories_only: bool
    basename_only: bool

    def matches(self, path: bytes, basename: bytes, is_directory: bool) -> bool:
        if self.directories_only and not is_directory:
            return False
        text = basename if self.basename_only else path
        if self.literal is not None:
            return text == self.literal
        return _simulate(self.steps, text)


class SparsePatterns:
    """A list of patterns. `canonical_form` is the text that they are read from, when the first choice is asked for.

    To another process goes the text alone.
    """

    __slots__ = ("_patterns", "canonical_form")

    def __init__(self, text: bytes) -> None:
        self.canonical_form = text
        self._patterns: tuple[_Pattern, ...] | None = None

    def __reduce__(self) -> tuple[type["SparsePatterns"], tuple[bytes]]:
        return SparsePatterns, (self.canonical_form,)

    def find_choice(self, path: bytes, *, is_directory: bool) -> bool | None:
        """Return True or False when a pattern decides about a path (no slash at either end), else None."""
        if self._patterns is None:
            self._patterns = tuple(reversed(_parse_lines(self.canonical_form)))
        basename = path[path.rfind(b"/") + 1 :]
        for pattern in self._patterns:
            if pattern.matches(path, basename, is_directory):
                return not pattern.negative
        return None


def parse_sparse_patterns(data: bytes) -> SparsePatterns:
    """Return the patterns of a blob. Raises LimitExceeded when it is longer than PATTERNS_BYTES_MAX."""
    if len(data) > PATTERNS_BYTES_MAX:
        raise LimitExceeded("sparse patterns", PATTERNS_BYTES_MAX, len(data))
    return SparsePatterns(data)


def _parse_lines(data: bytes) -> list[_Pattern]:
    patterns = []
    for raw in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        line = _trim(raw.removesuffix(b"\r"))
        if line and not line.startswith(b"#"):
            patterns.append(_parse_line(line))
    return patterns


def _trim(line: bytes) -> bytes:
    """Drop trailing spaces that no backslash quotes."""
    short = line.rstrip(b" ")
    is_quoted = (len(short) - len(short.rstrip(b"\\"))) % 2 and len(short) < len(line)
    return line[: len(short) + 1] if is_quoted else short


def _parse_line(line: bytes) -> _Pattern:
    negative = line.startswith(b"!")
    text = line[1:] if negative else line
    directories_only = text.endswith(b"/")
    if directories_only:
        text = text[:-1]
    basename_only = b"/" not in text
    text = text.removeprefix(b"/")
    literal = text if not any(c in text for c in b"*?[\\") else None
    steps = () if literal is not None else tuple(_compile(text))
    return _Pattern(steps, literal, negative, directories_only, basename_only)


_NONE = 0
_ANY = (1 << 256) - 1
_NO_SLASH = _ANY & ~(1 << _SLASH)

# Most steps are one of these: a list of a million makes no million of them.
_LITERALS = tuple(_Step(1 << byte, False) for byte in range(256))
_QUESTION = _Step(_NO_SLASH, False)
_STAR = _Step(_NO_SLASH, True)
_ANYTHING = _Step(_ANY, True)
_DIRECTORIES = (_Step(_NONE, True, 3), _ANYTHING, _LITERALS[_SLASH])
"""`**/`: nothing, or anything that ends in a slash."""

_STARS = re.compile(rb"\*+")


def _compile(text: bytes) -> list[_Step]:
    steps: list[_Step] = []
    last_name = text.rfind(b":]")
    at = 0
    while at < len(text):
        char = text[at : at + 1]
        if stars := _STARS.match(text, at):
            after = stars.end()
            is_double = after - at >= 2 and (at == 0 or text[at - 1 : at] == b"/")
            if is_double and text[after : after + 1] == b"/":
                steps += _DIRECTORIES
                after += 1
            else:
                steps.append(_ANYTHING if is_double and after == len(text) else _STAR)
            at = after
        elif char == b"?":
            steps.append(_QUESTION)
            at += 1
        elif char == b"[":
            accepts, at = _compile_class(text, at, last_name)
            steps.append(_Step(accepts, False))
        else:
            if char == b"\\" and at + 1 < len(text):
                at += 1
            steps.append(_LITERALS[text[at]])
            at += 1
    return steps


def _compile_class(text: bytes, at: int, last_name: int) -> tuple[int, int]:
    """Return the bytes that a bracket expression at `at` accepts, and where it ends; none when unclosed.

    `last_name`: where the last `:]` of the text begins; there is none to look for behind it.
    """
    at += 1
    inverted = text[at : at + 1] in (b"!", b"^")
    at += inverted
    members = 0
    first = True
    while first or text[at : at + 1] != b"]":
        first = False
        if at >= len(text):
            return _NONE, len(text)
        if text[at : at + 2] == b"[:" and at + 2 <= last_name:
            close = text.index(b":]", at + 2)
            name = _NAMES.get(text[at + 2 : close])
            if name is None:
                return _NONE, len(text)
            members |= name
            at = close + 2
            continue
        low, at = _class_member(text, at)
        if text[at : at + 1] == b"-" and text[at + 1 : at + 2] not in (b"", b"]"):
            high, at = _class_member(text, at + 1)
            members |= max((1 << high + 1) - (1 << low), 0)
        else:
            members |= 1 << low
    accepts = (_ANY & ~members) if inverted else members
    return accepts & ~(1 << _SLASH), at + 1


def _class_member(text: bytes, at: int) -> tuple[int, int]:
    if text[at : at + 1] == b"\\" and at + 1 < len(text):
        at += 1
    return text[at], at + 1


def _simulate(steps: tuple[_Step, ...], text: bytes) -> bool:
    states = _reach(steps, {0})
    for byte in text:
        moved: set[int] = set()
        for state in states:
            if state < len(steps) and steps[state].accepts >> byte & 1:
                moved.add(state if steps[state].loop else state + 1)
        states = _reach(steps, moved)
        if not states:
            return False
    return len(steps) in states


def _reach(steps: tuple[_Step, ...], states: set[int]) -> set[int]:
    """Add the states that can be reached without consuming a byte."""
    reached = set(states)
    pending = list(states)
    while pending:
        state = pending.pop()
        if state < len(steps) and steps[state].loop:
            for target in {state + 1, state + (steps[state].skips or 1)} - reached:
                reached.add(target)
                pending.append(target)
    return reached
