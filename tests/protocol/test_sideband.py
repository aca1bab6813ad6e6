import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.protocol.pktline import decode_all
from govc.protocol.sideband import KEEPALIVE, PACKET_MAX_LARGE, PACKET_MAX_SMALL, Band, frame, frame_chunks


def test_small_data_is_one_packet():
    assert frame(Band.DATA, b"PACK") == b"0009\x01PACK"
    assert frame(Band.PROGRESS, b"hi\n") == b"0008\x02hi\n"
    assert frame(Band.ERROR, memoryview(b"no")) == b"0007\x03no"


def test_no_data_is_no_packet():
    assert frame(Band.DATA, b"") == b""
    assert b"0005" + bytes([Band.DATA]) == KEEPALIVE


@pytest.mark.parametrize(("packet_max", "payload_max"), [(PACKET_MAX_LARGE, 65515), (PACKET_MAX_SMALL, 995)])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_data_is_cut_at_the_largest_packet(packet_max, payload_max, extra):
    data = bytes(range(256)) * (2 * payload_max // 256 + 1)
    data = data[: 2 * payload_max + extra]
    packets = decode_all(frame(Band.DATA, data, packet_max))
    assert {1} == {packet[0] for packet in packets}
    assert data == b"".join(packet[1:] for packet in packets)
    assert [payload_max] * (1 if extra < 0 else 2) == [len(p) - 1 for p in packets[: 1 if extra < 0 else 2]]


@settings(derandomize=True, max_examples=100)
@given(st.lists(st.binary(max_size=3000)), st.sampled_from([1000, 65520]))
def test_chunks_share_packets_and_keep_their_bytes(chunks, packet_max):
    packets = decode_all(frame_chunks(Band.PROGRESS, chunks, packet_max))
    assert b"".join(chunks) == b"".join(packet[1:] for packet in packets)
    assert all(len(packet) == packet_max - 4 for packet in packets[:-1])
