"""The name of a cached body: a digest over everything that decides its bytes.

`digest_of` takes any value made of bytes, text, numbers, None, sequences, sets, mappings, enums and frozen
dataclasses and digests it in one canonical form: sets and mappings in sorted order, everything with its length and
kind in front, so that no two different values have the same form. A class of any other kind may say its form itself,
as `canonical_form`. A dataclass contributes its name and all its fields: a field that somebody adds to a plan is in
the key from that day on. A value of any other kind is an error, never left out.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

DIGEST_BYTES = 20
"""160 bits: nobody can look for collisions in a digest of values that the server itself checked first."""


def digest_of(value: Any) -> bytes:
    """Return the digest of a value. Raises TypeError for a kind that has no canonical form."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for piece in _pieces(value):
        hasher.update(piece)
    return hasher.digest()


def _pieces(value: Any) -> Iterator[bytes]:
    """Yield the canonical form: `kind, count or length, ":"`, then what is inside."""
    if isinstance(value, bytes):
        yield b"b%d:" % len(value)
        yield value
    elif value is None or value is True or value is False:
        yield b"?" + repr(value)[0].encode("ascii")
    elif isinstance(value, Enum):
        yield from _named(b"e", type(value).__qualname__, (value.name,))
    elif isinstance(value, int):
        yield b"i%d:" % value
    elif isinstance(value, str):
        text = value.encode("utf-8", "surrogateescape")
        yield b"s%d:" % len(text)
        yield text
    elif isinstance(form := getattr(value, "canonical_form", None), bytes):
        yield from _named(b"f", type(value).__qualname__, (form,))
    elif is_dataclass(value) and not isinstance(value, type):
        contents = tuple((field.name, getattr(value, field.name)) for field in fields(value))
        yield from _named(b"d", type(value).__qualname__, contents)
    else:
        yield from _collection(value)


def _collection(value: Any) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        yield b"m%d:" % len(value)
        keys = sorted(value)
        yield from _items(keys)
        yield from _items([value[key] for key in keys])
    elif isinstance(value, Set):
        yield b"S%d:" % len(value)
        yield from _items(sorted(value))
    elif isinstance(value, Sequence) and not isinstance(value, bytearray | memoryview):
        yield b"l%d:" % len(value)
        yield from _items(value)
    else:
        raise TypeError(f"no canonical form for {type(value).__name__}")


def _items(values: Sequence[Any]) -> Iterator[bytes]:
    """Yield the items; many ids, which are all of one length, in one piece."""
    lengths = {len(value) if type(value) is bytes else -1 for value in values}
    if len(lengths) == 1 and (length := lengths.pop()) >= 0:
        yield b"B%d:" % length
        yield b"".join(values)
        return
    for value in values:
        yield from _pieces(value)


def _named(kind: bytes, name: str, contents: tuple[Any, ...]) -> Iterator[bytes]:
    yield kind
    yield from _pieces(name)
    yield from _pieces(contents)
