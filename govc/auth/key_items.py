"""The outer form of a JWKS document: an object with a list of keys. Apart from `jwks`, since this much can be checked
before anything starts and without its libraries.

Source: RFC 7517 5.
"""

import json
from typing import Any

from govc.auth.principal import BadAuthFile

KEYS_MAX = 64


def parse_key_items(content: bytes, path: str) -> list[Any]:
    """Return the first `KEYS_MAX` keys as they stand there. Raises BadAuthFile."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 0
        raise BadAuthFile(path, line, "not JSON") from error
    items = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(items, list) or not items:
        raise BadAuthFile(path, 0, 'not a key set: wants an object with "keys", a list that isn\'t empty')
    return items[:KEYS_MAX]
