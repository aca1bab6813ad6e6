import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govc.protocol.errors import LocalProtocolError, RemoteProtocolError
from govc.protocol.pktline import (
    HUNG_UP,
    MAX_PACKET,
    MAX_PAYLOAD,
    NEED_DATA,
    Control,
    PktLineDecoder,
    decode_all,
    encode,
    encode_error,
    encode_text,
    strip_lf,
)
from tests.protocol.feeding import check_three_ways, feed, split_at

VECTORS = [
    (b"a", b"0005a"),
    (b"a\n", b"0006a\n"),
    (b"", b"0004"),
    (b"foobar\n", b"000bfoobar\n"),
    (bytes(MAX_PAYLOAD), b"fff0" + bytes(MAX_PAYLOAD)),
]
CONTROLS = [(Control.FLUSH, b"0000"), (Control.DELIM, b"0001"), (Control.RESPONSE_END, b"0002")]
BAD_HEADERS = [b"0003", b"zzzz", b"fff1", b"ffff", b" 005", b"+005", b"0_05", b"0x05", b"\xff\xff\xff\xff"]


@pytest.mark.parametrize(("payload", "packet"), VECTORS[:4])
def test_packets_are_the_same_in_both_directions(payload, packet):
    assert packet == encode(payload)
    assert [payload] == decode_all(packet)
    check_three_ways(PktLineDecoder, packet, [payload])


def test_the_largest_packet_passes_in_both_directions():
    payload, packet = VECTORS[4]
    assert packet == encode(payload)
    assert [payload] == decode_all(packet)
    assert [payload] == feed(PktLineDecoder(), split_at(packet, [1, 3, 4, 5000]), count=1)


@pytest.mark.parametrize(("control", "packet"), CONTROLS)
def test_control_packets_carry_no_bytes(control, packet):
    assert [control] == decode_all(packet)
    check_three_ways(PktLineDecoder, packet, [control])


def test_upper_case_lengths_are_accepted():
    assert decode_all(b"003A" + b"x" * 0x36) == [b"x" * 0x36]
    check_three_ways(PktLineDecoder, b"003A" + b"x" * 0x36, [b"x" * 0x36])


@pytest.mark.parametrize("header", BAD_HEADERS)
def test_malformed_lengths_are_the_peers_fault(header):
    with pytest.raises(RemoteProtocolError, match="bad line length"):
        decode_all(b"0000" + header + bytes(MAX_PACKET))
    decoder = PktLineDecoder()
    decoder.receive_data(b"0000" + header)
    assert Control.FLUSH is decoder.next_event()
    with pytest.raises(RemoteProtocolError) as caught:
        decoder.next_event()
    assert caught.value.offset == 4


@pytest.mark.parametrize("body", [b"0", b"000", b"0005", b"0009abc", b"00000"])
def test_a_body_that_ends_inside_a_packet_is_an_error(body):
    with pytest.raises(RemoteProtocolError, match=HUNG_UP):
        decode_all(body)
    decoder = PktLineDecoder()
    decoder.receive_data(body)
    while decoder.next_event() is not NEED_DATA:
        pass
    with pytest.raises(RemoteProtocolError, match=HUNG_UP):
        decoder.close()


def test_the_end_between_packets_is_fine():
    assert decode_all(b"") == []
    decoder = PktLineDecoder()
    decoder.receive_data(b"0000")
    assert Control.FLUSH is decoder.next_event()
    assert NEED_DATA is decoder.next_event()
    decoder.close()


def test_the_decoder_is_unusable_after_the_rest_was_taken():
    decoder = PktLineDecoder()
    decoder.receive_data(b"0000rest")
    decoder.next_event()
    assert decoder.take_rest() == b"rest"
    with pytest.raises(LocalProtocolError):
        decoder.next_event()


def test_a_payload_too_large_for_a_packet_is_our_fault():
    with pytest.raises(LocalProtocolError):
        encode(bytes(MAX_PAYLOAD + 1))


def test_text_gets_an_lf_and_loses_one():
    assert encode_text(b"hi") == b"0007hi\n"
    assert strip_lf(b"hi\n") == b"hi"
    assert strip_lf(b"hi\n\n") == b"hi\n"
    assert strip_lf(b"hi") == b"hi"


def test_an_error_fits_one_packet_whatever_its_length():
    assert encode_error("no") == b"000aERR no"
    assert len(encode_error("x" * 100_000)) == MAX_PACKET


packets = st.lists(st.one_of(st.sampled_from(list(Control)), st.binary(max_size=40)), max_size=8)


@settings(derandomize=True, max_examples=200)
@given(packets, st.lists(st.integers(0, 1000), max_size=6))
def test_any_split_gives_the_same_packets(events, cuts):
    data = b"".join(b"%04x" % e.value if isinstance(e, Control) else encode(e) for e in events)
    assert events == decode_all(data)
    assert events == feed(PktLineDecoder(), split_at(data, cuts), count=len(events))


@settings(derandomize=True, max_examples=200)
@given(st.one_of(st.binary(max_size=40), st.text("0123456789abcdefgz", max_size=40).map(str.encode)))
def test_arbitrary_bytes_raise_only_remote_protocol_error(data):
    outcomes = []
    try:
        outcomes.append(decode_all(data))
    except RemoteProtocolError as error:
        outcomes.append(error.text)
    decoder = PktLineDecoder()
    decoder.receive_data(data)
    events = []
    try:
        while (event := decoder.next_event()) is not NEED_DATA:
            events.append(event)
        decoder.close()
        outcomes.append(events)
    except RemoteProtocolError as error:
        outcomes.append(error.text)
    assert outcomes[0] == outcomes[1]
