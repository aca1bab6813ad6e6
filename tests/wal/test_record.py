import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govc.wal.record import (
    GENESIS,
    HEADER,
    BadRecord,
    Draft,
    Kind,
    PackReference,
    RefChange,
    SymrefChange,
    decode_record,
    encode_record,
    peek_frame,
)

OIDS = st.binary(min_size=20, max_size=20)
NAMES = st.binary(min_size=1, max_size=60).map(lambda b: b"refs/" + b.replace(b"\0", b"x"))
DRAFTS = st.builds(
    Draft,
    kind=st.sampled_from(list(Kind)),
    actor=st.text(st.characters(codec="utf-8"), max_size=20),
    address=st.text(st.characters(codec="ascii"), max_size=20),
    committer=st.binary(max_size=30),
    message=st.binary(max_size=30),
    refs=st.lists(st.builds(RefChange, NAMES, OIDS, OIDS), max_size=4).map(tuple),
    symrefs=st.lists(st.builds(SymrefChange, NAMES, NAMES, NAMES), max_size=2).map(tuple),
    packs=st.lists(st.binary(max_size=80), max_size=2).map(tuple),
    pack_references=st.lists(
        st.builds(PackReference, OIDS, st.integers(0, 2**40), st.integers(0, 2**32 - 1)), max_size=2
    ).map(tuple),
    loose_objects=st.lists(st.tuples(OIDS, st.binary(max_size=20)), max_size=2).map(tuple),
    shallow=st.lists(OIDS, max_size=2).map(tuple),
    push_options=st.lists(st.binary(max_size=20), max_size=3).map(tuple),
    certificate=st.binary(max_size=40),
    number=st.integers(0, 2**63),
)


def encode(draft, **changed):
    values = {
        "sequence": 7,
        "salt": b"saltsalt",
        "durable": 5,
        "writer": b"writer!!",
        "time_ns": 1_700_000_000_123_456_789,
        "previous": b"p" * 32,
    }
    return encode_record(draft, **(values | changed))


@given(DRAFTS)
def test_a_record_comes_back_as_it_went(draft):
    record = decode_record(encode(draft))
    assert record.draft == draft
    assert (record.sequence, record.salt, record.durable, record.writer) == (7, b"saltsalt", 5, b"writer!!")
    assert record.previous == b"p" * 32
    assert record.time_seconds == 1_700_000_000


@given(DRAFTS, st.data())
def test_any_changed_byte_is_noticed(draft, data):
    encoded = bytearray(encode(draft))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadRecord):
        decode_record(bytes(encoded))


@given(DRAFTS, st.data())
def test_a_record_that_is_cut_short_is_none(draft, data):
    encoded = encode(draft)
    with pytest.raises(BadRecord):
        decode_record(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


def test_the_worked_example_of_the_format_document():
    """docs/formats/log.md shows these bytes."""
    draft = Draft(
        kind=Kind.CHANGE,
        actor="ann",
        committer=b"ann <ann@x>",
        message=b"push",
        refs=(RefChange(b"refs/heads/main", bytes(20), b"\x11" * 20),),
    )
    encoded = encode(draft, sequence=1, durable=0, previous=GENESIS)
    with open("docs/formats/log.md", encoding="utf-8") as file:
        text = file.read()
    shown = "".join(line[10:58] for line in text.split("```hex\n")[1].split("```")[0].splitlines())
    assert bytes.fromhex(shown) == encoded
    assert encoded[-32:] == hashlib.sha256(encoded[:-32]).digest()


def test_a_field_of_a_newer_govc_stops_the_reader_only_when_it_matters():
    plain = encode(Draft(kind=Kind.CHANGE, actor="a"))

    def with_field(tag):
        body = bytearray(plain[:-32] + bytes((tag,)) + (3).to_bytes(4, "big") + b"new")
        body[4:8] = (len(body) + 32).to_bytes(4, "big")
        return bytes(body) + hashlib.sha256(bytes(body)).digest()

    assert decode_record(with_field(0x7F)).draft.actor == "a"
    with pytest.raises(BadRecord, match="newer govc"):
        decode_record(with_field(0xFF))


def test_a_header_that_makes_no_sense_is_no_header():
    encoded = encode(Draft(kind=Kind.CHANGE))
    assert peek_frame(encoded[: HEADER.size]).length == len(encoded)
    assert peek_frame(b"XREC" + encoded[4 : HEADER.size]) is None
    assert peek_frame(encoded[: HEADER.size - 1]) is None
    huge = encoded[:4] + (2**31).to_bytes(4, "big") + encoded[8 : HEADER.size]
    assert peek_frame(huge) is None
    assert (
        peek_frame(encode(Draft(kind=Kind.CHANGE), durable=7)[: HEADER.size]) is None
    )  # durable before it was written
