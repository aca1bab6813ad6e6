"""No pattern repeats a group possessively: before 3.11.5 bytes of the last, failed repetition stay in the match.

CPython's issue 106052; Debian 12 has 3.11.2. A possessive repeat of one set of characters is right there, too.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import govc

sre_parse: Any = importlib.import_module("re._parser")


def group_repeats(parsed: Any) -> Iterator[str]:
    """Every possessive repeat of more than one item, and every atomic group, in a parsed pattern."""
    for operation, argument in parsed:
        if str(operation) == "POSSESSIVE_REPEAT" and (len(argument[2]) > 1 or str(argument[2][0][0]) not in ATOMS):
            yield f"{operation} of {argument[2]}"
        if str(operation) == "ATOMIC_GROUP":
            yield str(operation)
        for part in argument if isinstance(argument, tuple | list) else ():
            if isinstance(part, sre_parse.SubPattern):
                yield from group_repeats(part)
            for branch in part if isinstance(part, list) else ():
                if isinstance(branch, sre_parse.SubPattern):
                    yield from group_repeats(branch)


ATOMS = frozenset(("IN", "LITERAL", "NOT_LITERAL", "ANY", "CATEGORY"))


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every compiled pattern that a module of ours holds, also in its tables."""
    for found in pkgutil.walk_packages(govc.__path__, "govc."):
        if found.name.endswith("__main__") or "._" in found.name:
            continue
        module = importlib.import_module(found.name)
        for name, value in list(vars(module).items()):
            values = list(value.values()) if isinstance(value, dict) else [value]
            yield from ((f"{found.name}.{name}", one) for one in values if isinstance(one, re.Pattern))


def test_no_group_is_repeated_possessively() -> None:
    assert list(group_repeats(sre_parse.parse("(?:ab)*+c"))) and list(
        group_repeats(sre_parse.parse("x(?:(?:a|bc)++)?"))
    )
    assert not list(group_repeats(sre_parse.parse("[ab]*+c++(?:d+e)*")))
    seen = dict(patterns())
    assert len(seen) > 40 and "govc.objects.dotgit._HFS_DOTGIT" in seen
    wrong = {
        name: flaws
        for name, pattern in seen.items()
        if (flaws := list(group_repeats(sre_parse.parse(pattern.pattern, pattern.flags & ~re.UNICODE))))
    }
    assert {} == wrong
