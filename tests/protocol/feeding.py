"""Feeding an incremental parser as the network might: whole, byte by byte, with bytes following."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from govc.protocol.pktline import NEED_DATA


class Parser(Protocol):
    def receive_data(self, data: bytes) -> None: ...

    def next_event(self) -> Any: ...

    def take_rest(self) -> bytes: ...

    def close(self) -> None: ...


FOLLOWING = b"PACK\0\0\0\x02 and so on"


def split_at(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return `data` in pieces, cut at these positions (taken modulo its length)."""
    positions = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(positions)]


def feed(parser: Parser, pieces: list[bytes], *, count: int) -> list[Any]:
    """Feed the pieces and return the first `count` events; whatever is left stays in the parser."""
    return list(_iter_events(parser, pieces, count))


def _iter_events(parser: Parser, pieces: list[bytes], count: int) -> Iterator[Any]:
    left = list(pieces)
    while count:
        event = parser.next_event()
        if event is NEED_DATA:
            assert left, "the parser wants more than there is"
            parser.receive_data(left.pop(0))
        else:
            count -= 1
            yield event
    for piece in left:
        parser.receive_data(piece)


def check_three_ways(make: Callable[[], Parser], data: bytes, expected: list[Any]) -> None:
    """Check that `data` gives the expected events whole, byte by byte and with bytes following."""
    whole = make()
    assert expected == feed(whole, [data], count=len(expected))
    whole.close()

    bytewise = make()
    assert expected == feed(bytewise, [data[i : i + 1] for i in range(len(data))], count=len(expected))
    assert bytewise.take_rest() == b""

    followed = make()
    assert expected == feed(followed, [data + FOLLOWING], count=len(expected))
    assert followed.take_rest() == FOLLOWING
