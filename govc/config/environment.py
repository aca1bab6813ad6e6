"""Configuration that travels in environment variables: the command scope.

    GIT_CONFIG_COUNT=n  with  GIT_CONFIG_KEY_i, GIT_CONFIG_VALUE_i  for i from 0
    GIT_CONFIG_PARAMETERS='key'='value' 'key'= 'key=value'          what `git -c` leaves for its children

Anything that git would call bogus is an error: a server must not start to trust less or more because of a
typing slip.

Source: git-config "ENVIRONMENT"; git "GIT_CONFIG_PARAMETERS" is shell-quoted words.
"""

import re
from collections.abc import Iterator, Mapping

from govc.config.config import ConfigEntry, Scope
from govc.config.parser import split_key
from govc.errors import BadConfig

PAIRS_MAX = 10_000
"""More pairs than this are refused."""

_SOURCE = "environment"
_SECTION = re.compile(r"[A-Za-z0-9\-]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9\-]*", re.ASCII)
_COUNT = re.compile(r"\s*\+?(\d+)", re.ASCII)
# One word quoted for the shell; a quote or an exclamation mark inside is written '\'' or '\!'.
_QUOTED = re.compile(r"'(?:[^']++|'\\['!]')*'(?!\\)", re.DOTALL)
_QUOTED_ESCAPE = re.compile(r"'\\(['!])'")


def parse_environment(environ: Mapping[str, str]) -> list[ConfigEntry]:
    """Return the entries of the command scope in git's order. Raises BadConfig."""
    pairs = [*_iter_counted(environ), *_iter_parameters(environ.get("GIT_CONFIG_PARAMETERS", ""))]
    return [ConfigEntry(_parse_key(key), value, Scope.COMMAND, "", 0) for key, value in pairs]


def _iter_counted(environ: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    text = environ.get("GIT_CONFIG_COUNT")
    if not text:
        return
    match = _COUNT.fullmatch(text)
    if match is None or len(match[1]) > 20:
        raise BadConfig(_SOURCE, 0, "bogus count in GIT_CONFIG_COUNT")
    if int(match[1]) > PAIRS_MAX:
        raise BadConfig(_SOURCE, 0, "too many entries in GIT_CONFIG_COUNT")
    for i in range(int(match[1])):
        key, value = environ.get(f"GIT_CONFIG_KEY_{i}"), environ.get(f"GIT_CONFIG_VALUE_{i}")
        if key is None:
            raise BadConfig(_SOURCE, 0, f"missing config key GIT_CONFIG_KEY_{i}")
        if value is None:
            raise BadConfig(_SOURCE, 0, f"missing config value GIT_CONFIG_VALUE_{i}")
        yield key, value


def _iter_parameters(text: str) -> Iterator[tuple[str, str | None]]:
    position = 0
    while position < len(text):
        word, position = _dequote(text, position)
        if position == len(text) or text[position].isspace():
            key, equals, value = word.partition("=")
            yield key.strip(), value if equals else None
        elif text[position] != "=":
            raise BadConfig(_SOURCE, 0, "bogus format in GIT_CONFIG_PARAMETERS")
        elif position + 1 == len(text) or text[position + 1].isspace():
            position += 1
            yield word, None
        else:
            value, position = _dequote(text, position + 1)
            if position < len(text) and not text[position].isspace():
                raise BadConfig(_SOURCE, 0, "bogus format in GIT_CONFIG_PARAMETERS")
            yield word, value
        while position < len(text) and text[position].isspace():
            position += 1


def _dequote(text: str, position: int) -> tuple[str, int]:
    match = _QUOTED.match(text, position)
    if match is None:
        raise BadConfig(_SOURCE, 0, "bogus format in GIT_CONFIG_PARAMETERS")
    return _QUOTED_ESCAPE.sub(r"\1", match[0][1:-1]), match.end()


def _parse_key(key: str) -> str:
    """Return the key in its canonical case. Raises BadConfig for one that no file could hold."""
    section, subsection, name = split_key(key)
    if not _SECTION.fullmatch(section):
        raise BadConfig(_SOURCE, 0, f"key does not contain a section: {key}" if not section else f"invalid key: {key}")
    if not _NAME.fullmatch(name) or "\n" in (subsection or ""):
        raise BadConfig(_SOURCE, 0, f"invalid key: {key}")
    middle = "" if subsection is None else subsection + "."
    return f"{section.lower()}.{middle}{name.lower()}"
