"""One record of the log: values in, bytes out, and back.

     0   4  magic "GREC"
     4   4  length of the whole record in bytes
     8   8  sequence number, gapless within a repository, from 1
    16   8  salt of the segment: bytes of another one never pass for its records
    24   8  highest sequence number that was durable when this was appended
    32   1  kind
    33   1  version of the record format (1)
    34   2  zero
    36   8  token of the process that appended it
    44   8  time, nanoseconds since 1970, signed
    52  32  checksum of the previous record (zeros before the first): the chain
    84   n  fields: tag (1), length (4), value
   end  32  SHA-256 of everything before

All numbers are big-endian. A tag above 0x7f that a reader doesn't know makes the record unreadable for it; one below
may be passed over. docs/formats/log.md has the fields and a worked example.

What this isn't: where a record lies (`segment`), in which order they come (`reader`).
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

MAGIC = b"GREC"
VERSION = 1
HEADER = struct.Struct(">4sIQQQBBH8sq32s")
CHECKSUM_BYTES = 32
RECORD_BYTES_MIN = HEADER.size + CHECKSUM_BYTES
RECORD_BYTES_MAX = 1 << 30
GENESIS = bytes(CHECKSUM_BYTES)
"""The checksum before the first record."""

_FIELD = struct.Struct(">BI")


class Kind(IntEnum):
    """What a record says."""

    CHANGE = 1  # refs change: a push, a new default branch
    VOID = 2  # the record of that number never happened
    OBSERVED = 3  # refs that something else changed, as we found them
    CHECKPOINT = 4  # up to that number the native repository is durable
    END = 5  # the next record is in the next segment


class Tag(IntEnum):
    """The fields of a record."""

    ACTOR = 1
    ADDRESS = 2
    REQUEST_ID = 3
    COMMITTER = 0x84
    MESSAGE = 0x85
    REF = 0x86
    SYMREF = 0x87
    PACK = 0x88
    PACK_REFERENCE = 0x89
    PUSH_OPTION = 10
    CERTIFICATE = 11
    LOOSE_OBJECT = 0x8C
    NUMBER = 0x8D
    SHALLOW = 0x8E


class BadRecord(ValueError):
    """Bytes that are no record."""


class RefChange(NamedTuple):
    """One ref's change. All zeros: it wasn't there, or is deleted."""

    name: bytes
    old: bytes
    new: bytes


class SymrefChange(NamedTuple):
    """A symbolic ref's change; b"" for no target before."""

    name: bytes
    old_target: bytes
    new_target: bytes


class PackReference(NamedTuple):
    """A pack that lies, synced, in `govc/packs/`: its trailer, its length in bytes, its number of objects."""

    checksum: bytes
    length: int
    object_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a record says, before it has a place in the log."""

    kind: Kind
    actor: str = ""
    address: str = ""
    request_id: str = ""
    committer: bytes = b""
    message: bytes = b""
    refs: tuple[RefChange, ...] = ()
    symrefs: tuple[SymrefChange, ...] = ()
    packs: tuple[bytes, ...] = field(default=(), repr=False)
    pack_references: tuple[PackReference, ...] = ()
    loose_objects: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    shallow: tuple[bytes, ...] = ()
    push_options: tuple[bytes, ...] = ()
    certificate: bytes = field(default=b"", repr=False)
    number: int = 0
    """VOID: the record that is void. CHECKPOINT: up to where. OBSERVED: the record whose refs were given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record in its place. `checksum` is its own, the next one's `previous`."""

    sequence: int
    salt: bytes
    durable: int
    writer: bytes
    time_ns: int
    previous: bytes
    checksum: bytes
    size: int
    draft: Draft

    @property
    def kind(self) -> Kind:
        """What it says."""
        return self.draft.kind

    @property
    def time_seconds(self) -> int:
        """Its time, for reflogs."""
        return self.time_ns // 1_000_000_000


def encode_record(
    draft: Draft, *, sequence: int, salt: bytes, durable: int, writer: bytes, time_ns: int, previous: bytes
) -> bytes:
    """Return the bytes of a record. ValueError when it would be longer than RECORD_BYTES_MAX."""
    fields = b"".join(_encode_fields(draft))
    length = RECORD_BYTES_MIN + len(fields)
    if length > RECORD_BYTES_MAX:
        raise ValueError(f"a record of {length} bytes")
    header = HEADER.pack(
        MAGIC, length, sequence, int.from_bytes(salt, "big"), durable, draft.kind, VERSION, 0, writer, time_ns, previous
    )
    body = header + fields
    return body + hashlib.sha256(body).digest()


def make_record(
    draft: Draft, *, sequence: int, salt: bytes, durable: int, writer: bytes, time_ns: int, previous: bytes
) -> tuple[Record, bytes]:
    """Return a record and its bytes; ValueError as `encode_record`."""
    data = encode_record(
        draft, sequence=sequence, salt=salt, durable=durable, writer=writer, time_ns=time_ns, previous=previous
    )
    record = Record(
        sequence=sequence,
        salt=salt,
        durable=durable,
        writer=writer,
        time_ns=time_ns,
        previous=previous,
        checksum=data[-CHECKSUM_BYTES:],
        size=len(data),
        draft=draft,
    )
    return record, data


def _encode_fields(draft: Draft) -> Iterator[bytes]:
    yield from _texts(Tag.ACTOR, draft.actor)
    yield from _texts(Tag.ADDRESS, draft.address)
    yield from _texts(Tag.REQUEST_ID, draft.request_id)
    if draft.committer:
        yield _field(Tag.COMMITTER, draft.committer)
    if draft.message:
        yield _field(Tag.MESSAGE, draft.message)
    for ref in draft.refs:
        yield _field(Tag.REF, bytes((len(ref.old),)) + ref.old + ref.new + ref.name)
    for symref in draft.symrefs:
        yield _field(Tag.SYMREF, b"\0".join(symref))
    for pack in draft.packs:
        yield _field(Tag.PACK, pack)
    for reference in draft.pack_references:
        numbers = struct.pack(">QI", reference.length, reference.object_count)
        yield _field(Tag.PACK_REFERENCE, numbers + reference.checksum)
    for option in draft.push_options:
        yield _field(Tag.PUSH_OPTION, option)
    if draft.certificate:
        yield _field(Tag.CERTIFICATE, draft.certificate)
    for oid, content in draft.loose_objects:
        yield _field(Tag.LOOSE_OBJECT, bytes((len(oid),)) + oid + content)
    for oid in draft.shallow:
        yield _field(Tag.SHALLOW, oid)
    if draft.number:
        yield _field(Tag.NUMBER, draft.number.to_bytes(8, "big"))


def _texts(tag: Tag, text: str) -> Iterator[bytes]:
    if text:
        yield _field(tag, text.encode("utf-8", "surrogateescape"))


def _field(tag: Tag, value: bytes) -> bytes:
    return _FIELD.pack(tag, len(value)) + value


class Frame(NamedTuple):
    """The header of a record, enough to know how much to read."""

    length: int
    sequence: int
    salt: bytes
    durable: int


def peek_frame(header: bytes) -> Frame | None:
    """Return what the first HEADER.size bytes promise, None when they are no header."""
    if len(header) < HEADER.size or header[:4] != MAGIC:
        return None
    _, length, sequence, salt, durable, *_ = HEADER.unpack_from(header)
    if not RECORD_BYTES_MIN <= length <= RECORD_BYTES_MAX or durable >= sequence:
        return None
    return Frame(length, sequence, salt.to_bytes(8, "big"), durable)


def decode_record(data: bytes) -> Record:
    """Return the record that `data` is, all of it. Raises BadRecord."""
    frame = peek_frame(data[: HEADER.size])
    if frame is None or frame.length != len(data):
        raise BadRecord("no record header")
    checksum = hashlib.sha256(memoryview(data)[:-CHECKSUM_BYTES]).digest()
    if checksum != data[-CHECKSUM_BYTES:]:
        raise BadRecord("checksum mismatch")
    _, _, sequence, _, durable, kind, version, _, writer, time_ns, previous = HEADER.unpack_from(data)
    if version != VERSION:
        raise BadRecord(f"record format {version} is of a newer govc")
    try:
        draft = _decode_fields(Kind(kind), data[HEADER.size : -CHECKSUM_BYTES])
    except (ValueError, struct.error, IndexError) as error:
        raise BadRecord(str(error)) from error
    return Record(
        sequence=sequence,
        salt=frame.salt,
        durable=durable,
        writer=writer,
        time_ns=time_ns,
        previous=previous,
        checksum=checksum,
        size=len(data),
        draft=draft,
    )


def _decode_fields(kind: Kind, data: bytes) -> Draft:
    single: dict[int, bytes] = {}
    many: dict[int, list[bytes]] = {}
    position = 0
    while position < len(data):
        tag, length = _FIELD.unpack_from(data, position)
        position += _FIELD.size
        value = data[position : position + length]
        if len(value) != length:
            raise BadRecord("a field is cut short")
        position += length
        if tag not in _KNOWN and tag & 0x80:
            raise BadRecord(f"field {tag:#x} is of a newer govc")
        if tag in _REPEATED:
            many.setdefault(tag, []).append(value)
        else:
            single[tag] = value
    return Draft(
        kind=kind,
        actor=_text(single.get(Tag.ACTOR)),
        address=_text(single.get(Tag.ADDRESS)),
        request_id=_text(single.get(Tag.REQUEST_ID)),
        committer=single.get(Tag.COMMITTER, b""),
        message=single.get(Tag.MESSAGE, b""),
        refs=tuple(map(_decode_ref, many.get(Tag.REF, ()))),
        symrefs=tuple(map(_decode_symref, many.get(Tag.SYMREF, ()))),
        packs=tuple(many.get(Tag.PACK, ())),
        pack_references=tuple(map(_decode_reference, many.get(Tag.PACK_REFERENCE, ()))),
        loose_objects=tuple((v[1 : 1 + v[0]], v[1 + v[0] :]) for v in many.get(Tag.LOOSE_OBJECT, ())),
        shallow=tuple(many.get(Tag.SHALLOW, ())),
        push_options=tuple(many.get(Tag.PUSH_OPTION, ())),
        certificate=single.get(Tag.CERTIFICATE, b""),
        number=int.from_bytes(single.get(Tag.NUMBER, b""), "big"),
    )


def _text(value: bytes | None) -> str:
    return value.decode("utf-8", "surrogateescape") if value else ""


def _decode_ref(value: bytes) -> RefChange:
    size = value[0]
    if size not in (20, 32) or len(value) <= 1 + 2 * size:
        raise BadRecord("a ref's change is cut short")
    return RefChange(value[1 + 2 * size :], value[1 : 1 + size], value[1 + size : 1 + 2 * size])


def _decode_symref(value: bytes) -> SymrefChange:
    name, old_target, new_target = value.split(b"\0")
    return SymrefChange(name, old_target, new_target)


def _decode_reference(value: bytes) -> PackReference:
    length, count = struct.unpack_from(">QI", value)
    return PackReference(value[12:], length, count)


_KNOWN = frozenset(Tag)
_REPEATED = frozenset(
    {Tag.REF, Tag.SYMREF, Tag.PACK, Tag.PACK_REFERENCE, Tag.PUSH_OPTION, Tag.LOOSE_OBJECT, Tag.SHALLOW}
)
