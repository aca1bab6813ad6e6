"""The configuration of one repository: entries of all scopes in git's order, asked by key.

What: an immutable value with typed questions. Not here: files and includes (`loader`), syntax (`parser`).

A key is "section.name" or "section.subsection.name"; section and name are compared without case, the
subsection with case. The last entry wins, unless the key is read as a list. A bad value is an error when,
and only when, it is asked for, as in git. Keys that decide which programs run or whom we trust are asked on
`config.restricted_to(PROTECTED_SCOPES)`.

Source: git-config "Configuration file", "Scopes", "Protected configuration".
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from govc.config.parser import split_key
from govc.config.values import (
    BadConfigValue,
    BadValue,
    find_bool_word,
    parse_bool,
    parse_expiry,
    parse_int,
    parse_path,
    parse_unsigned,
)

_T = TypeVar("_T")


class Scope(StrEnum):
    """Where an entry comes from, weakest first."""

    SYSTEM = "system"
    GLOBAL = "global"
    LOCAL = "local"
    WORKTREE = "worktree"
    COMMAND = "command"


PROTECTED_SCOPES = frozenset({Scope.SYSTEM, Scope.GLOBAL, Scope.COMMAND})
"""The scopes that nobody who can only write to the repository controls."""


class ConfigEntry(NamedTuple):
    """One entry.

    `source` is a path ("" for the environment), `line` counts from 1 (0 there), `include_depth` from 0.
    """

    key: str
    value: str | None
    scope: Scope
    source: str
    line: int
    include_depth: int = 0


@lru_cache(maxsize=1024)
def normalize_key(key: str) -> str:
    """Return the key with section and name in lower case."""
    section, subsection, name = split_key(key)
    if subsection is None:
        return key.lower()
    return f"{section.lower()}.{subsection}.{name.lower()}"


@dataclass(frozen=True, slots=True)
class Config:
    """All entries in order. `home` is what "~" means in path values."""

    entries: tuple[ConfigEntry, ...] = ()
    home: str | None = None
    _by_key: dict[str, list[ConfigEntry]] = field(init=False, repr=False, compare=False, default_factory=dict)
    _by_section: dict[str, list[tuple[str | None, str, ConfigEntry]]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _read: dict[Any, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.entries:
            self._by_key.setdefault(entry.key, []).append(entry)
            section, subsection, name = split_key(entry.key)
            self._by_section.setdefault(section, []).append((subsection, name, entry))

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str | None]], scope: Scope = Scope.LOCAL) -> "Config":
        """Return a configuration of (key, value) pairs, as if one file of that scope held them."""
        return cls(tuple(ConfigEntry(normalize_key(key), value, scope, "", 0) for key, value in pairs))

    def items(self) -> Iterator[tuple[str, str | None, Scope]]:
        """Iterate over (key, value, scope) in order; a value is None when the entry had no "="."""
        return ((entry.key, entry.value, entry.scope) for entry in self.entries)

    def restricted_to(self, scopes: Collection[Scope]) -> "Config":
        """Return the configuration without entries of other scopes."""
        return Config(tuple(entry for entry in self.entries if entry.scope in scopes), self.home)

    def find_entry(self, key: str) -> ConfigEntry | None:
        """Return the entry that wins, or None."""
        found = self._by_key.get(normalize_key(key))
        return found[-1] if found else None

    def find_entries(self, key: str) -> tuple[ConfigEntry, ...]:
        """Return all entries of a key in order."""
        return tuple(self._by_key.get(normalize_key(key), ()))

    def iter_section(self, section: str) -> Iterator[tuple[str | None, str, ConfigEntry]]:
        """Iterate over (subsection or None, name, entry) of one section in order."""
        return iter(self._by_section.get(section.lower(), ()))

    def get(self, key: str) -> str | None:
        """Return the last value, or None when the key is not there.

        Raises BadConfigValue when it has no "=".
        """
        entry = self.find_entry(key)
        return None if entry is None else _text_of(entry)

    def get_all(self, key: str) -> list[str]:
        """Return all values in order. Raises BadConfigValue when one has no "="."""
        return [_text_of(entry) for entry in self.find_entries(key)]

    def get_bool(self, key: str, default: bool) -> bool:
        """Return the last value as a bool. Raises BadConfigValue."""
        entry = self.find_entry(key)
        return default if entry is None else bool_of(entry)

    def find_bool(self, key: str) -> bool | None:
        """Return the last value as a bool, None when the key is not there. Raises BadConfigValue."""
        entry = self.find_entry(key)
        return None if entry is None else bool_of(entry)

    def get_int(self, key: str, default: int, *, bits: int = 64) -> int:
        """Return the last value as a signed number (k, m, g) of at most `bits`. Raises BadConfigValue."""
        return self._number(key, default, lambda text: parse_int(text, bits=bits))

    def get_unsigned(self, key: str, default: int, *, bits: int = 64) -> int:
        """Return the last value as a number from 0 (k, m, g). Raises BadConfigValue."""
        return self._number(key, default, lambda text: parse_unsigned(text, bits=bits))

    def get_bool_or_int(self, key: str, default: bool | int) -> bool | int:
        """Return a bool for a bool word or no value, else a 32-bit number. Raises BadConfigValue."""
        entry = self.find_entry(key)
        word = None if entry is None else find_bool_word(entry.value)
        return (
            self.get_int(key, int(default), bits=32)
            if word is None and entry is not None
            else (default if word is None else word)
        )

    def get_path(self, key: str) -> str | None:
        """Return the last value as a path with "~" expanded, None when absent or optional.

        Raises BadConfigValue.
        """
        entry = self.find_entry(key)
        if entry is None:
            return None
        try:
            return parse_path(_text_of(entry), self.home)
        except BadValue as error:
            raise BadConfigValue(entry.source, entry.line, error.reason) from error

    def get_expiry(self, key: str, default: str, *, now_seconds: int) -> int:
        """Return the moment before which things expire, in seconds since 1970. Raises BadConfigValue."""
        entry = self.find_entry(key)
        if entry is None:
            return parse_expiry(default, now_seconds)
        text = _text_of(entry)
        try:
            return parse_expiry(text, now_seconds)
        except BadValue as error:
            reason = f"'{text}' for '{entry.key}' is {error.reason}"
            raise BadConfigValue(entry.source, entry.line, reason) from error

    def remembered(self, read: Callable[["Config"], _T]) -> _T:
        """Return what `read` makes of this configuration, made once. What it raises is raised each time.

        `read` is a function of a module or a method of a class: it is the key.
        """
        if read not in self._read:
            self._read[read] = read(self)
        value: _T = self._read[read]
        return value

    def _number(self, key: str, default: int, parse: Callable[[str], int]) -> int:
        entry = self.find_entry(key)
        return default if entry is None else number_of(entry, parse)


def bool_of(entry: ConfigEntry) -> bool:
    """Return an entry's value as a bool. Raises BadConfigValue with git's text."""
    try:
        return parse_bool(entry.value)
    except BadValue as error:
        reason = f"bad boolean config value '{entry.value}' for '{entry.key}'"
        raise BadConfigValue(entry.source, entry.line, reason) from error


def number_of(entry: ConfigEntry, parse: Callable[[str], int] = parse_int) -> int:
    """Return an entry's value as a number. Raises BadConfigValue with git's text."""
    try:
        return parse(entry.value or "")
    except BadValue as error:
        reason = f"bad numeric config value '{entry.value or ''}' for '{entry.key}': {error.reason}"
        raise BadConfigValue(entry.source, entry.line, reason) from error


def _text_of(entry: ConfigEntry) -> str:
    if entry.value is None:
        raise BadConfigValue(entry.source, entry.line, f"missing value for '{entry.key}'")
    return entry.value
