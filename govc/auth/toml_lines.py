"""On which line does each key of a TOML file stand? tomllib gives values without places; errors want both.

What: a pass over text that tomllib has accepted already, which skips strings and comments, counts brackets and takes
down where each table and each key of a table begins. Not here: values, and keys inside inline tables (they stand
where their table does).

    ("rule", 1, "write")    the key `write` of the second [[rule]]
    ("groups", "ann")       a key of [groups]
    ("rule", 1)             the header of the second [[rule]]

Source: TOML 1.0, "Keys", "Table", "Array of Tables", "String".
"""

import re
import tomllib
from typing import Any

Place = tuple[str | int, ...]

_SKIPPED = re.compile(
    r'"""(?:[^\\]|\\.)*?"""+|' r"'''.*?'''+|" r'"(?:[^"\\\n]|\\.)*"|' r"'[^'\n]*'|" r"\#[^\n]*",
    re.DOTALL,
)
_HEADER = re.compile(r"[ \t]*(\[\[?)([^\n]*?)(\]\]?)[ \t]*(?:\#[^\n]*)?(?:\n|\Z)")
_KEY = re.compile(r"""[ \t]*((?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_.\- \t])+?)[ \t]*=""")


def find_lines(text: str) -> dict[Place, int]:
    """Return the line (from 1) of each table and key. The text must be valid TOML."""
    text = text.replace("\r\n", "\n")
    lines: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    table: Place = ()
    position = 0
    line = 1
    while position < len(text):
        header = _HEADER.match(text, position)
        if header is not None:
            table = _enter(_parts(header[2]), header[1] == "[[", counts)
            lines.setdefault(table, line)
            end = header.end()
        else:
            key = _KEY.match(text, position)
            if key is not None:
                lines.setdefault((*table, *_parts(key[1])), line)
            end = _end_of_statement(text, key.end() if key is not None else position)
        line += text.count("\n", position, end)
        position = end
    return lines


def _enter(names: tuple[str, ...], is_array: bool, counts: dict[Place, int]) -> Place:
    """Return the place of a header; names of arrays of tables are followed by the index of their last table."""
    place: Place = ()
    for depth, name in enumerate(names):
        place = (*place, name)
        if is_array and depth == len(names) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


def _parts(dotted: str) -> tuple[str, ...]:
    """Return the names of a dotted key: tomllib reads them, since quoting is its business."""
    value: Any = tomllib.loads(f"{dotted} = 0")
    names: list[str] = []
    while isinstance(value, dict):
        name, value = next(iter(value.items()))
        names.append(name)
    return tuple(names)


def _end_of_statement(text: str, position: int) -> int:
    """Return where the next line begins that is not inside a string or brackets."""
    depth = 0
    while position < len(text):
        skipped = _SKIPPED.match(text, position)
        if skipped is not None:
            position = skipped.end()
            continue
        char = text[position]
        position += 1
        if char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "\n" and depth <= 0:
            break
    return position
