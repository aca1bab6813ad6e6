"""The name of a cached body: a digest over everything that decides its bytes.

`digest_of` takes any value made of bytes, text, numbers, None, sequences, sets, mappings, enums and frozen
dataclasses and digests it in one canonical form: sets and mappings in sorted order, everything with its length and
kind in front, so that no two different values have the same form. A class of any other kind may say its form itself,
as `canonical_form`. A dataclass contributes its name and all its fields: a field that somebody adds to a plan is in
the key from that day on. A value of any other kind is an error, never left out.
"""

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

DIGEST_BYTES = 20
"""160 bits: nobody can look for collisions in a digest of values that the server itself checked first."""

_fields: dict[type, tuple[bytes, tuple[tuple[str, bytes], ...]]] = {}
"""Of each dataclass that was met: what stands in front of its fields, and their names with what stands in front of
each."""


def digest_of(value: Any) -> bytes:
    """Return the digest of a value. Raises TypeError for a kind that has no canonical form."""
    pieces: list[bytes] = []
    _add(value, pieces)
    return hashlib.blake2b(b"".join(pieces), digest_size=DIGEST_BYTES).digest()


def _add(value: Any, pieces: list[bytes]) -> None:
    """Add the canonical form: `kind, count or length, ":"`, then what is inside.

    A list that grows, and what is usual first: a key is made in each fetch, and generators cost five times as much.
    """
    kind = type(value)
    if kind is bytes:
        pieces += (b"b%d:" % len(value), value)
    elif value is None or value is True or value is False:
        pieces.append(b"?" + repr(value)[0].encode("ascii"))
    elif kind is str:
        pieces.append(_text(value))
    elif kind is int:
        pieces.append(b"i%d:" % value)
    elif kind in _fields:
        _add_fields(value, _fields[kind], pieces)
    elif kind is tuple:
        pieces.append(b"l%d:" % len(value))
        _add_items(value, pieces)
    else:
        _add_other(value, pieces)


def _add_other(value: Any, pieces: list[bytes]) -> None:
    """Add what is seldom met, or for the first time."""
    if isinstance(value, bytes):
        pieces += (b"b%d:" % len(value), value)
    elif isinstance(value, Enum):
        pieces += (b"e", _text(type(value).__qualname__), b"l1:", _text(value.name))
    elif isinstance(value, int):
        pieces.append(b"i%d:" % value)
    elif isinstance(value, str):
        pieces.append(_text(value))
    elif isinstance(form := getattr(value, "canonical_form", None), bytes):
        pieces += (b"f", _text(type(value).__qualname__), b"l1:B%d:" % len(form), form)
    elif is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        start = b"d" + _text(type(value).__qualname__) + b"l%d:" % len(names)
        known = _fields[type(value)] = start, tuple((name, b"l2:" + _text(name)) for name in names)
        _add_fields(value, known, pieces)
    elif isinstance(value, Mapping):
        pieces.append(b"m%d:" % len(value))
        keys = sorted(value)
        _add_items(keys, pieces)
        _add_items([value[key] for key in keys], pieces)
    elif isinstance(value, Set):
        pieces.append(b"S%d:" % len(value))
        _add_items(sorted(value), pieces)
    elif isinstance(value, Sequence) and not isinstance(value, bytearray | memoryview):
        pieces.append(b"l%d:" % len(value))
        _add_items(value, pieces)
    else:
        raise TypeError(f"no canonical form for {type(value).__name__}")


def _add_fields(value: Any, known: tuple[bytes, tuple[tuple[str, bytes], ...]], pieces: list[bytes]) -> None:
    start, names = known
    pieces.append(start)
    for name, before in names:
        pieces.append(before)
        _add(getattr(value, name), pieces)


def _add_items(values: Sequence[Any], pieces: list[bytes]) -> None:
    """Add the items; many ids, which are all of one length, in one piece."""
    if values and type(values[0]) is bytes:
        lengths = {len(value) if type(value) is bytes else -1 for value in values}
        if len(lengths) == 1:
            pieces += (b"B%d:" % lengths.pop(), b"".join(values))
            return
    for value in values:
        _add(value, pieces)


def _text(value: str) -> bytes:
    text = value.encode("utf-8", "surrogateescape")
    return b"s%d:" % len(text) + text
