"""Names are found by guessing where they lie: those that are no hashes of anything, too, as somebody may make them."""

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.kernels.packread import AVAILABLE, PackTable
from govc.pack.index_writer import encode_index_v2
from govc.protocol.oid import SHA1, SHA256

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="the kernels were not compiled")

EDGES = st.sampled_from([b"", b"\x00", b"\xff", b"\x00" * 8, b"\xff" * 8, b"\x7f" * 8, b"\xff" * 19])


@st.composite
def names(draw, size):
    head = draw(EDGES) + draw(st.binary(max_size=2))
    tail = draw(st.one_of(st.binary(max_size=4), st.binary(min_size=size, max_size=size)))
    return (head + tail).ljust(size, draw(st.sampled_from([b"\x00", b"\xff"])))[:size]


def table_of(algo, oids):
    joined = b"".join(oids)
    crcs, offsets = array("I", range(len(oids))), array("Q", range(12, 12 + len(oids)))
    index = b"".join(encode_index_v2(algo, joined, crcs, offsets, bytes(algo.oid_size)))
    return PackTable([(-1, index, None, 1 << 20, 0, None)], algo.oid_size)


@settings(derandomize=True, max_examples=150)
@given(st.data(), st.sampled_from([SHA1, SHA256]))
def test_every_name_is_found_and_no_other(data, algo):
    oids = sorted(set(data.draw(st.lists(names(algo.oid_size), max_size=60))))
    absent = set(data.draw(st.lists(names(algo.oid_size), max_size=20))) - set(oids)
    table = table_of(algo, oids)
    assert list(range(len(oids))) == [table.find(oid) for oid in oids]
    assert all(table.find(oid) == -1 for oid in absent)


@pytest.mark.parametrize("step", [1, 255, 1 << 40, 1 << 90, 1 << 150])
def test_names_of_any_density_are_found(step):
    oids = sorted((n * step % (1 << 160)).to_bytes(20, "big") for n in range(1, 900))
    table = table_of(SHA1, oids)
    assert list(range(len(oids))) == [table.find(oid) for oid in oids]
    assert table.find(bytes(20)) == -1
