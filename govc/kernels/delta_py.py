"""Applying deltas in pure Python; the story is in `delta`."""

from collections.abc import Callable

from govc.errors import CorruptDelta, LimitExceeded

_PIECES_DELTA_BYTES_MAX = 1 << 18
_SIZE_SHIFT_MAX = 63


def parse_delta_sizes(delta: bytes) -> tuple[int, int, int]:
    """Return base size, target size (bytes) and where the instructions begin. Raises CorruptDelta.

    `delta` may be the beginning of one: twenty bytes always hold both sizes.
    """
    sizes = []
    pos = 0
    try:
        for _ in range(2):
            byte = delta[pos]
            pos += 1
            size = byte & 0x7F
            shift = 7
            while byte & 0x80:
                if shift > _SIZE_SHIFT_MAX:
                    raise CorruptDelta("delta size overflow")
                byte = delta[pos]
                pos += 1
                size |= (byte & 0x7F) << shift
                shift += 7
            if size >> 64:
                raise CorruptDelta("delta size overflow")
            sizes.append(size)
    except IndexError:
        raise CorruptDelta("truncated delta header") from None
    return sizes[0], sizes[1], pos


def apply_delta(base: bytes, delta: bytes, *, result_bytes_max: int) -> bytes:
    """Return the target.

    Raises CorruptDelta when the delta lies about a size, copies from outside the base, or is cut or
    malformed; LimitExceeded when it states a target of more than `result_bytes_max`, before anything is
    allocated.
    """
    base_size, result_size, pos = parse_delta_sizes(delta)
    if base_size != len(base):
        raise CorruptDelta(f"delta is for a base of {base_size} bytes, not {len(base)}")
    if result_size > result_bytes_max:
        raise LimitExceeded("delta result bytes", result_bytes_max, result_size)
    if len(delta) <= _PIECES_DELTA_BYTES_MAX:
        pieces: list[bytes] = []
        _run(base, delta, pos, result_size, pieces.append)
        return b"".join(pieces)
    # A long delta of tiny copies would cost far more as separate pieces than the target is large.
    result = bytearray()
    _run(base, delta, pos, result_size, result.extend)
    return bytes(result)


def _run(base: bytes, delta: bytes, pos: int, result_size: int, emit: Callable[[bytes], None]) -> None:
    """Carry the instructions from `pos` on out, handing each piece of the target to `emit`."""
    base_size = len(base)
    end = len(delta)
    left = result_size
    try:
        while pos < end:
            op = delta[pos]
            pos += 1
            if op & 0x80:
                offset = size = 0
                if op & 0x01:
                    offset = delta[pos]
                    pos += 1
                if op & 0x02:
                    offset |= delta[pos] << 8
                    pos += 1
                if op & 0x0C:
                    if op & 0x04:
                        offset |= delta[pos] << 16
                        pos += 1
                    if op & 0x08:
                        offset |= delta[pos] << 24
                        pos += 1
                if op & 0x10:
                    size = delta[pos]
                    pos += 1
                if op & 0x60:
                    if op & 0x20:
                        size |= delta[pos] << 8
                        pos += 1
                    if op & 0x40:
                        size |= delta[pos] << 16
                        pos += 1
                if size == 0:
                    size = 0x10000
                left -= size
                stop = offset + size
                if stop > base_size or left < 0:
                    raise CorruptDelta("delta copies from outside its base or beyond its result")
                emit(base[offset:stop])
            elif op:
                left -= op
                stop = pos + op
                if stop > end or left < 0:
                    raise CorruptDelta("delta inserts beyond its end or its result")
                emit(delta[pos:stop])
                pos = stop
            else:
                raise CorruptDelta("unexpected delta opcode 0")
    except IndexError:
        raise CorruptDelta("truncated delta") from None
    if left:
        raise CorruptDelta(f"delta makes {result_size - left} bytes instead of {result_size}")
