"""Little answers are made where they are asked for; of the others nothing that was made is lost."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest

from govc.cache.flight import Notice, Piece
from govc.service.begun import FIRST, LITTLE, Begun


class Production:
    """Yields the pieces, and counts how often it was begun and closed."""

    def __init__(self, *pieces: Piece) -> None:
        self.pieces = pieces
        self.begun = 0
        self.closed = 0
        self.made = 0

    def __call__(self) -> Iterator[Piece]:
        self.begun += 1
        try:
            for piece in self.pieces:
                self.made += 1
                yield piece
        finally:
            self.closed += 1


def standing() -> float:
    return 0.0


def ticking(step: float) -> Callable[[], float]:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += step
        return now

    return clock


def test_a_little_answer_is_whole_and_one_piece() -> None:
    production = Production(Notice(b"head"), b"a", b"b")
    begun = Begun(production, clock=standing)
    assert begun.is_whole
    assert list(begun.take()) == [b"headab"]
    assert production.begun == 1


@pytest.mark.parametrize(
    ("pieces", "clock", "made"),
    [
        ((b"a" * (LITTLE.bytes_max + 1), b"b", b"c"), standing, 1),
        ((b"a", None, b"b"), standing, 2),
        ((b"a", b"b", b"c"), ticking(LITTLE.seconds_max * 0.6), 2),
    ],
)
def test_what_is_large_slow_or_silent_is_only_begun_and_nothing_of_it_is_made_twice(
    pieces: tuple[Piece, ...], clock: Callable[[], float], made: int
) -> None:
    production = Production(*pieces)
    begun = Begun(production, clock=clock)
    assert not begun.is_whole
    assert production.made == made
    assert tuple(begun.take()) == pieces
    assert production.begun == 1


def test_what_nobody_asked_for_before_may_be_larger() -> None:
    assert LITTLE.bytes_max < FIRST.bytes_max
    production = Production(b"a" * FIRST.bytes_max, b"")
    assert Begun(production, FIRST, clock=standing).is_whole
    assert not Begun(Production(b"a" * (FIRST.bytes_max + 1)), FIRST, clock=standing).is_whole


def test_who_takes_it_again_gets_it_from_the_first_piece_on() -> None:
    production = Production(b"a" * (LITTLE.bytes_max + 1), b"b")
    begun = Begun(production, clock=standing)
    assert list(begun.take()) == list(begun.take())
    assert production.begun == 2


def test_what_nobody_takes_is_closed() -> None:
    production = Production(b"a", None, b"b")
    begun = Begun(production, clock=standing)
    begun.close()
    assert production.closed == 1
    begun.close()


def test_what_was_taken_is_not_closed() -> None:
    production = Production(b"a", None, b"b")
    begun = Begun(production, clock=standing)
    pieces = begun.take()
    begun.close()
    assert list(pieces) == [b"a", None, b"b"]


def test_an_error_at_the_beginning_is_the_makers() -> None:
    def fail() -> Iterator[Piece]:
        yield b"a"
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Begun(fail, clock=standing)


@pytest.mark.parametrize("fails", [False, True])
def test_it_counts_while_it_is_being_begun(fails: bool) -> None:
    seen = []

    def produce() -> Iterator[Piece]:
        seen.append(Begun.under_way)
        if fails:
            raise ValueError("broken")
        yield b"x"

    before = Begun.under_way
    with pytest.raises(ValueError, match="broken") if fails else nullcontext():
        Begun(produce)
    assert seen == [before + 1]
    assert Begun.under_way == before
