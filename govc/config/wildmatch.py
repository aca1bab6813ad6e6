"""Wild-card patterns over paths and branch names, as conditional includes use them.

What: `matches(pattern, text)` with git's path rules, `Wildmatch` for a pattern used often. Not here: refspecs,
hideRefs (prefixes, no wild cards).

    ?      one character, not "/"              [a-z] [!x] [[:alpha:]]   one of a class, never "/"
    *      any run without "/"                 \\x                       x itself
    **     between slashes or at an end: any run with slashes; "**/" may also stand for nothing; else like *

The pattern and the text may both come from a stranger, so nothing here backtracks: the pattern is a row of
states, held as the bits of one integer, and each character of the text moves all of them at once.

Source: gitignore "Pattern format", git-config "Conditional includes".
"""

import string
from collections.abc import Callable
from dataclasses import dataclass

PATTERN_CHARS_MAX = 4096
"""A longer pattern matches nothing."""

MOVES_KEPT_MAX = 1024
"""Characters whose effect a pattern remembers between texts; texts are strangers', so it is bounded."""
_OTHER_SLASH = "\U0010ffff"  # stands for a slash where that is nothing special: no character, says Unicode

_CLASSES: dict[str, Callable[[str], bool]] = {
    "alnum": lambda c: c.isascii() and c.isalnum(),
    "alpha": lambda c: c.isascii() and c.isalpha(),
    "blank": lambda c: c in " \t",
    "cntrl": lambda c: c < " " or c == "\x7f",
    "digit": lambda c: c in string.digits,
    "graph": lambda c: "!" <= c <= "~",
    "lower": lambda c: c in string.ascii_lowercase,
    "print": lambda c: " " <= c <= "~",
    "punct": lambda c: c in string.punctuation,
    "space": lambda c: c in " \t\n\v\f\r",
    "upper": lambda c: c in string.ascii_uppercase,
    "xdigit": lambda c: c in string.hexdigits,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    """One state: which character leads on, which stays, and what may be skipped without one."""

    accepts: Callable[[str], bool] = lambda _: False
    stays_on: Callable[[str], bool] = lambda _: False
    skips_one: bool = False
    skips_three: bool = False


class Wildmatch:
    """A pattern made ready once, for texts that come again and again."""

    def __init__(self, pattern: str, *, ignore_case: bool = False, crosses_slashes: bool = False) -> None:
        """Take any pattern; `is_valid` says whether it can match anything at all.

        `crosses_slashes`: to wild cards a slash is like any other character, as in pathspecs.
        """
        self._ignore_case = ignore_case
        self._crosses_slashes = crosses_slashes
        if crosses_slashes:
            pattern = pattern.replace("/", _OTHER_SLASH)
        tokens = _parse(pattern, ignore_case) if len(pattern) <= PATTERN_CHARS_MAX else None
        self.is_valid = tokens is not None
        self._tokens = tokens if tokens is not None else []
        self._one = sum(1 << i for i, token in enumerate(self._tokens) if token.skips_one)
        self._three = sum(1 << i for i, token in enumerate(self._tokens) if token.skips_three)
        self._moves: dict[str, tuple[int, int]] = {}

    def matches(self, text: str) -> bool:
        """Say whether the whole text follows the pattern."""
        if not self.is_valid:
            return False
        if self._ignore_case:
            text = text.lower()
        if self._crosses_slashes:
            text = text.replace("/", _OTHER_SLASH)
        moves = self._moves
        if len(moves) > MOVES_KEPT_MAX:
            moves.clear()
        states = _skip(1, self._one, self._three)
        for char in text:
            move = moves.get(char)
            if move is None:
                move = moves[char] = (
                    sum(1 << i for i, token in enumerate(self._tokens) if token.accepts(char)),
                    sum(1 << i for i, token in enumerate(self._tokens) if token.stays_on(char)),
                )
            on, stay = move
            states = _skip((states & on) << 1 | states & stay, self._one, self._three)
            if not states:
                return False
        return bool(states >> len(self._tokens) & 1)


def matches(pattern: str, text: str, *, ignore_case: bool = False, crosses_slashes: bool = False) -> bool:
    """Say whether the whole text follows the pattern; see `Wildmatch`."""
    return Wildmatch(pattern, ignore_case=ignore_case, crosses_slashes=crosses_slashes).matches(text)


def _skip(states: int, one: int, three: int) -> int:
    while True:
        more = states | (states & one) << 1 | (states & three) << 3
        if more == states:
            return states
        states = more


def _parse(pattern: str, ignore_case: bool) -> list[_Token] | None:
    """Return the states, or None for a pattern that can match nothing."""
    tokens: list[_Token] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "*":
            end = position
            while end < len(pattern) and pattern[end] == "*":
                end += 1
            position = _star(pattern, position, end, tokens)
        elif char == "?":
            tokens.append(_Token(accepts=lambda c: c != "/"))
            position += 1
        elif char == "[":
            found = _char_class(pattern, position + 1, ignore_case)
            if found is None:
                return None
            position, accepts = found
            tokens.append(_Token(accepts=accepts))
        else:
            if char == "\\":
                position += 1
                if position == len(pattern):
                    return None
                char = pattern[position]
            tokens.append(_literal(char.lower() if ignore_case else char))
            position += 1
    return tokens


def _literal(char: str) -> _Token:
    return _Token(accepts=lambda c: c == char)


def _star(pattern: str, start: int, end: int, tokens: list[_Token]) -> int:
    """Append the states of the stars at start:end; return where to go on."""
    delimited = (start == 0 or pattern[start - 1] == "/") and (
        end == len(pattern) or pattern[end] == "/" or pattern.startswith("\\/", end)
    )
    if end - start < 2 or not delimited:
        tokens.append(_Token(stays_on=lambda c: c != "/", skips_one=True))
        return end
    if end < len(pattern) and pattern[end] == "/":
        tokens.append(_Token(skips_one=True, skips_three=True))
        tokens.append(_Token(stays_on=lambda _: True, skips_one=True))
        tokens.append(_literal("/"))
        return end + 1
    tokens.append(_Token(stays_on=lambda _: True, skips_one=True))
    return end


def _char_class(pattern: str, position: int, ignore_case: bool) -> tuple[int, Callable[[str], bool]] | None:
    """Parse after "["; return (position after "]", test), or None when it isn't closed or names no class."""
    negated = pattern[position : position + 1] in ("!", "^")
    position += negated
    ranges: list[tuple[str, str]] = []
    tests: list[Callable[[str], bool]] = []
    first = True
    while True:
        if position >= len(pattern):
            return None
        char = pattern[position]
        if char == "]" and not first:
            break
        first = False
        if pattern.startswith("[:", position):
            end = pattern.find(":]", position + 2)
            test = _CLASSES.get(pattern[position + 2 : end]) if end > 0 else None
            if test is None:
                return None
            # Without case, an upper-case letter was lowered before it came here.
            tests.append(_CLASSES["alpha"] if ignore_case and test is _CLASSES["upper"] else test)
            position = end + 2
            continue
        if char == "\\":
            position += 1
        low = pattern[position : position + 1]
        position += 1
        high = low
        if pattern.startswith("-", position) and not pattern.startswith("-]", position):
            position += 1 + pattern.startswith("\\", position + 1)
            high = pattern[position : position + 1]
            position += 1
        if not low or not high:
            return None
        ranges.append((low, high))
    return (
        position + 1,
        lambda c: (
            c != "/"
            and negated
            != (
                any(low <= c <= high or (ignore_case and low <= c.upper() <= high) for low, high in ranges)
                or any(test(c) for test in tests)
            )
        ),
    )
