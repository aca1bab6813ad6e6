"""What a client is told when its answer can't be finished: the reason's kind, within the stream, and no clean end."""

import errno
import os
from collections.abc import Generator

import pytest

from govc.errors import GovcError
from govc.protocol.sideband import Band, frame
from govc.service.broken import ABORTING, BrokenStream, break_off
from govc.service.context import UPLOAD_PACK, RequestContext


@pytest.mark.parametrize(
    "error",
    [GovcError("a helper died"), OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))],
    ids=["ours", "no process is to be had"],
)
@pytest.mark.parametrize("side_band", [0, 1000])
def test_an_answer_that_fails_says_so_in_the_stream(error: Exception, side_band: int) -> None:
    def make() -> Generator[bytes, None, None]:
        yield b"head"
        raise error

    said: list[object] = []
    with pytest.raises(BrokenStream):
        for chunk in break_off(make(), RequestContext(service=UPLOAD_PACK), "a.git", side_band):
            said.append(chunk)
    told = [frame(Band.ERROR, ABORTING.encode(), side_band)] if side_band else []
    assert said == [b"head", *told]
