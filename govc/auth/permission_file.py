"""The permission file: TOML to `Permissions`, every mistake named with its line.

    [groups]
    developers = ["ann", "bob"]

    [[rule]]                          from the top; the first that fits repository and person decides
    repositories = ["team/**"]
    read = ["@users"]
    write = ["@developers"]
    admin = ["ann"]
    none = ["eve"]

    [[branch]]                        every one that fits counts
    repositories = ["team/**"]
    refs = ["refs/heads/main"]
    force = false
    delete = false
    only = ["@developers"]
    exempt = ["@admins"]
    signed = false

What is misspelt is refused, not skipped: an unknown key, a group that [groups] doesn't hold, a pattern that can match
nothing. conf/permissions.toml is a complete example, docs/operations.md the explanation.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from govc.auth.branches import BranchRule
from govc.auth.patterns import BadPattern, RefPattern, RepositoryPattern
from govc.auth.permissions import Permissions, Rule
from govc.auth.principal import LEVELS, BadAuthFile, is_user_name
from govc.auth.subjects import ADMINS, ANYONE, BUILT_IN_GROUPS, USERS, Subjects
from govc.auth.toml_lines import Place, find_lines
from govc.auth.watched import decode_text

_TOML_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)\Z")
_GROUP_NAME = re.compile(r"[^\s@\[\]*?][^\s\[\]*?]*")
_TABLES = ("groups", "rule", "branch")
_RULE_KEYS = ("repositories", *LEVELS)
_FLAGS = ("force", "delete", "signed")
_BRANCH_KEYS = ("repositories", "refs", *_FLAGS, "only", "exempt")


def parse_permissions(content: bytes, path: str) -> Permissions:
    """Return the policy of a file's content; `path` is for errors. Raises BadAuthFile."""
    text = decode_text(content, path)
    try:
        values = tomllib.loads(text)
    except ValueError as error:  # a number of thousands of digits is no TOMLDecodeError
        sentence = str(error)
        found = _TOML_LINE.search(sentence)
        line = int(found[1]) if found else text.count("\n") + 1
        raise BadAuthFile(path, line, f"not TOML: {_TOML_LINE.sub('', sentence)}") from error
    except RecursionError as error:
        raise BadAuthFile(path, 0, "not TOML that makes sense here: nested too deeply") from error
    return _Reader(values, path, find_lines(text)).read()


class _Reader:
    """One pass over the parsed tables; raises at the first mistake."""

    def __init__(self, values: Mapping[str, Any], path: str, lines: Mapping[Place, int]) -> None:
        self._values = values
        self._path = path
        self._lines = lines
        self._groups: dict[str, frozenset[str]] = {}

    def read(self) -> Permissions:
        for name in self._values:
            if name not in _TABLES:
                raise self._bad((name,), f"there is no {name!r} here; there are {', '.join(_TABLES)}")
        self._groups = self._read_groups()
        rules = tuple(self._read_rule(index, table) for index, table in self._tables("rule"))
        branches = tuple(self._read_branch(index, table) for index, table in self._tables("branch"))
        return Permissions(self._groups, rules, branches)

    def _bad(self, place: Place, reason: str) -> BadAuthFile:
        """Return an error at the line of a place, or of what it is inside of."""
        while place and place not in self._lines:
            place = place[:-1]
        return BadAuthFile(self._path, self._lines.get(place, 0), reason)

    def _tables(self, name: str) -> list[tuple[int, Mapping[str, Any]]]:
        value = self._values.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._bad((name,), f"write [[{name}]], with two brackets: there may be several")
        return list(enumerate(value))

    def _words(self, place: Place, value: Any, what: str) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._bad(place, f"{place[-1]!r} wants a list of {what}")
        return value

    def _read_groups(self) -> dict[str, frozenset[str]]:
        value = self._values.get("groups", {})
        if not isinstance(value, dict):
            raise self._bad(("groups",), "[groups] is a table: NAME = [members]")
        groups = {}
        for name, members in value.items():
            place: Place = ("groups", name)
            if f"@{name}" in BUILT_IN_GROUPS:
                raise self._bad(place, f"the group {name!r} is built in")
            if not _GROUP_NAME.fullmatch(name):
                raise self._bad(place, f"{name!r} can't be a group's name (write it without '@' and blanks)")
            words = self._words(place, members, "users")
            for word in words:
                if word.startswith("@"):
                    raise self._bad(place, f"{word!r}: groups don't hold groups")
                self._check_user(place, word)
            groups[name] = frozenset(words)
        return groups

    def _check_user(self, place: Place, word: str) -> None:
        if not is_user_name(word):
            raise self._bad(place, f"{word!r} can't be a user's name")

    def _subjects(self, place: Place, value: Any, *built_in: str) -> Subjects:
        words = self._words(place, value, "users and @groups")
        for word in words:
            if not word.startswith("@"):
                self._check_user(place, word)
            elif word in BUILT_IN_GROUPS:
                if word not in built_in:
                    raise self._bad(place, f"{word!r} means nothing here")
            elif word[1:] not in self._groups:
                raise self._bad(
                    place, f"there is no group {word!r}; name it in [groups], empty if its members come from elsewhere"
                )
        return Subjects.parse(words)

    def _patterns(
        self, place: Place, table: Mapping[str, Any], key: str, make: Callable[[str], Any]
    ) -> tuple[Any, ...]:
        if key not in table:
            raise self._bad(place, f"{key!r} is missing")
        place = (*place, key)
        words = self._words(place, table[key], "patterns")
        if not words:
            raise self._bad(place, f"{key!r} is empty: the rule is about nothing")
        patterns = []
        for word in words:
            try:
                patterns.append(make(word))
            except BadPattern as error:
                raise self._bad(place, str(error)) from error
        return tuple(patterns)

    def _check_keys(self, place: Place, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                raise self._bad((*place, key), f"there is no {key!r} here; there are {', '.join(known)}")

    def _read_rule(self, index: int, table: Mapping[str, Any]) -> Rule:
        place: Place = ("rule", index)
        self._check_keys(place, table, _RULE_KEYS)
        patterns = self._patterns(place, table, "repositories", RepositoryPattern)
        levels = {
            level: self._subjects((*place, word), table[word], ANYONE, USERS)
            for word, level in LEVELS.items()
            if word in table
        }
        if not levels:
            raise self._bad(place, "the rule gives nothing to anybody: it needs none, read, write or admin")
        if ANYONE in table.get("admin", []):
            raise self._bad((*place, "admin"), f"{ANYONE!r} can't be admin: say {USERS!r}")
        return Rule(patterns, levels, self._lines.get(place, 0))

    def _read_branch(self, index: int, table: Mapping[str, Any]) -> BranchRule:
        place: Place = ("branch", index)
        self._check_keys(place, table, _BRANCH_KEYS)
        patterns = self._patterns(place, table, "repositories", RepositoryPattern)
        refs = self._patterns(place, table, "refs", RefPattern)
        for word in _FLAGS:
            if not isinstance(table.get(word, False), bool):
                raise self._bad((*place, word), f"{word!r} is true or false")
        only = None
        if "only" in table:
            only = self._subjects((*place, "only"), table["only"], USERS, ADMINS)
        exempt = self._subjects((*place, "exempt"), table.get("exempt", []), ADMINS)
        return BranchRule(
            patterns=patterns,
            refs=refs,
            force=table.get("force", False),
            delete=table.get("delete", False),
            signed=table.get("signed", False),
            only=only,
            exempt=exempt,
            line=self._lines.get(place, 0),
        )
