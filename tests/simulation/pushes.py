"""Pushes without a client: commits, packs, requests and reports, as small as they can be.

A `Push` names refs and their old and new values, None for absent. `make_chain` gives commits with one file each;
`Push.body` is what a client would send.
"""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

ZERO = "0" * 40
WHO = b"A <a@example.com> 1700000000 +0000"
_TYPES = {b"commit": 1, b"tree": 2, b"blob": 3}

Object = tuple[bytes, bytes]
"""A type and a content."""


def oid_of(item: Object) -> bytes:
    """The object's id."""
    kind, content = item
    return hashlib.sha1(b"%b %d\0%b" % (kind, len(content), content), usedforsecurity=False).digest()


def make_pack(objects: Sequence[Object]) -> bytes:
    """A pack of whole objects."""
    out = [b"PACK" + (2).to_bytes(4, "big") + len(objects).to_bytes(4, "big")]
    for kind, content in objects:
        size = len(content)
        byte = _TYPES[kind] << 4 | size & 15
        size >>= 4
        head = bytearray()
        while size:
            head.append(byte | 0x80)
            byte, size = size & 0x7F, size >> 7
        head.append(byte)
        out += [bytes(head), zlib.compress(content, 1)]
    data = b"".join(out)
    return data + hashlib.sha1(data, usedforsecurity=False).digest()


@dataclass(frozen=True)
class Commit:
    """A commit with its own objects."""

    oid: str
    objects: tuple[Object, ...]


def make_commit(parent: str | None, name: str, content: bytes) -> Commit:
    """A commit whose tree is one file."""
    blob = (b"blob", content)
    tree = (b"tree", b"100644 %b\0%b" % (name.encode(), oid_of(blob)))
    lines = [b"tree " + oid_of(tree).hex().encode()]
    if parent is not None:
        lines.append(b"parent " + parent.encode())
    lines += [b"author " + WHO, b"committer " + WHO, b"", name.encode(), b""]
    commit = (b"commit", b"\n".join(lines))
    return Commit(oid_of(commit).hex(), (commit, tree, blob))


def make_chain(parent: str, name: str, count: int) -> list[Commit]:
    """Commits on top of each other."""
    chain: list[Commit] = []
    for number in range(count):
        chain.append(make_commit(chain[-1].oid if chain else parent, f"{name}{number}", f"{name} {number}\n".encode()))
    return chain


@dataclass(frozen=True)
class Push:
    """What one client wants: `changes` are (ref, old oid or None, new oid or None)."""

    name: str
    changes: tuple[tuple[str, str | None, str | None], ...]
    objects: tuple[Object, ...] = ()
    is_atomic: bool = False

    @property
    def body(self) -> bytes:
        """The request."""
        capabilities = " report-status" + (" atomic" if self.is_atomic else "") + " object-format=sha1"
        out = []
        for number, (ref, old, new) in enumerate(self.changes):
            line = f"{old or ZERO} {new or ZERO} {ref}" + ("" if number else f"\0{capabilities}")
            out.append(b"%04x%b" % (len(line) + 4, line.encode()))
        needs_pack = any(new is not None for _, _, new in self.changes)
        return b"".join(out) + b"0000" + (make_pack(self.objects) if needs_pack else b"")


def parse_report(data: bytes) -> dict[str, str]:
    """Ref to "ok" or the reason, from a report-status answer; "unpack" is among them when it isn't ok."""
    found: dict[str, str] = {}
    while data:
        length = int(data[:4], 16)
        if length == 0:
            break
        words = data[4:length].decode().rstrip("\n").split(" ", 2)
        data = data[length:]
        if words[0] == "unpack" and words[1] != "ok":
            found["unpack"] = " ".join(words[1:])
        elif words[0] == "ok":
            found[words[1]] = "ok"
        elif words[0] == "ng":
            found[words[1]] = words[2] if len(words) > 2 else "?"
    return found
