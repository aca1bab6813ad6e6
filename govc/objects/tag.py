"""The link of an annotated tag: which object it names, and of which type.

    object <hex> LF type <name> LF tag <name> LF ...

Source: git's tag.c parse_tag_buffer.
"""

import re
from binascii import unhexlify
from typing import NamedTuple

from govc.objects.errors import MalformedObject
from govc.objects.types import TYPE_NUMBERS
from govc.protocol.oid import HashAlgorithm


class TagLinks(NamedTuple):
    """The tagged object and the type that the tag claims for it (1 to 4)."""

    oid: bytes
    type_number: int


_HEADERS = {
    size: re.compile(rb"object ([0-9a-fA-F]{%d})\ntype ([^\n]{1,20})\ntag [^\n]*+\n" % size) for size in (40, 64)
}


def parse_tag_links(data: bytes, algo: HashAlgorithm) -> TagLinks:
    """Return what a tag points at. Raises MalformedObject."""
    match = _HEADERS[algo.hex_size].match(data)
    if match is None:
        raise MalformedObject("tag", "no object, type and tag lines at its beginning")
    type_number = TYPE_NUMBERS.get(match[2])
    if type_number is None:
        raise MalformedObject("tag", f"unknown type {match[2]!r}")
    return TagLinks(unhexlify(match[1]), type_number)
