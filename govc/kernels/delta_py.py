"""Applying deltas in pure Python; the story is in `delta`."""

import struct
from collections.abc import Callable

from govc.errors import CorruptDelta, LimitExceeded

_PIECES_DELTA_BYTES_MAX = 1 << 18
_SIZE_SHIFT_MAX = 63

# Copies, by their bytes of offset (the third one by itself) and of size; the first byte says which, and is skipped.
_unpack_copy_2_1 = struct.Struct("<xHB").unpack_from
_unpack_copy_3_1 = struct.Struct("<xHBB").unpack_from
_unpack_copy_2_2 = struct.Struct("<xHH").unpack_from
_unpack_copy_3_2 = struct.Struct("<xHBH").unpack_from


def parse_delta_sizes(delta: bytes) -> tuple[int, int, int]:
    """Return base size, target size (bytes) and where the instructions begin. Raises CorruptDelta.

    `delta` may be the beginning of one: twenty bytes always hold both sizes.
    """
    try:
        base_size, pos = _parse_size(delta, 0)
        result_size, pos = _parse_size(delta, pos)
    except IndexError:
        raise CorruptDelta("truncated delta header") from None
    return base_size, result_size, pos


def _parse_size(delta: bytes, pos: int) -> tuple[int, int]:
    """Return the size that stands at `pos`, and the position after it. IndexError at the end of the delta."""
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
    return size, pos


def apply_delta(base: bytes, delta: bytes, *, result_bytes_max: int) -> bytes:
    """Return the target.

    Raises CorruptDelta when the delta lies about a size, copies from outside the base, or is cut or
    malformed; LimitExceeded when it states a target of more than `result_bytes_max`, before anything is
    allocated.
    """
    base_size, result_size, pos = _parse_common_sizes(delta) if len(delta) > 3 else parse_delta_sizes(delta)
    if base_size != len(base):
        raise CorruptDelta(f"delta is for a base of {base_size} bytes, not {len(base)}")
    if result_size > result_bytes_max:
        raise LimitExceeded("delta result bytes", result_bytes_max, result_size)
    if len(delta) <= _PIECES_DELTA_BYTES_MAX:
        pieces: list[bytes] = []
        is_fine = _carry_out(base, delta, pos, result_size, pieces.append)
        made = b"".join(pieces)
    else:  # a long one of tiny copies would cost far more as separate pieces than the target is large
        result = bytearray()
        is_fine = _carry_out(base, delta, pos, result_size, result.extend)
        made = bytes(result)
    if not is_fine or len(made) != result_size:
        raise _explain(len(base), delta, pos, result_size)
    return made


def _parse_common_sizes(delta: bytes) -> tuple[int, int, int]:
    """What `parse_delta_sizes` returns, of a delta of four bytes and more: most sizes have one byte, or two."""
    base_size, second, third, fourth = delta[0], delta[1], delta[2], delta[3]
    if base_size < 0x80:
        if second < 0x80:
            return base_size, second, 2
        if third < 0x80:
            return base_size, second & 0x7F | third << 7, 3
    elif second < 0x80:
        if third < 0x80:
            return base_size & 0x7F | second << 7, third, 3
        if fourth < 0x80:
            return base_size & 0x7F | second << 7, third & 0x7F | fourth << 7, 4
    return parse_delta_sizes(delta)


def _carry_out(base: bytes, delta: bytes, pos: int, result_size: int, emit: Callable[[bytes], None]) -> bool:
    """Carry the instructions from `pos` on out, handing each piece of the target to `emit`.

    False when they are not right, or state pieces of more or less than `result_size` bytes. A delta of a large tree has
    hundreds of instructions, so only what must be tested at once is: that the target doesn't grow beyond its size. What
    is copied or inserted from beyond an end is too short, which the caller sees by the target. Copies with any but
    three bytes of size, or with zeros inside of their numbers, are taken apart here; the rest is rare.
    """
    left = result_size
    try:
        while left > 0:
            op = delta[pos]
            if op < 0x80:
                if not op:
                    return False
                pos += 1
                stop = pos + op
                emit(delta[pos:stop])
                left -= op
                pos = stop
                continue
            if op == 0xB3:
                offset, size = _unpack_copy_2_2(delta, pos)
                pos += 5
            elif op == 0x93:
                offset, size = _unpack_copy_2_1(delta, pos)
                pos += 4
            elif op == 0x97:
                offset, high, size = _unpack_copy_3_1(delta, pos)
                offset |= high << 16
                pos += 5
            elif op == 0xB7:
                offset, high, size = _unpack_copy_3_2(delta, pos)
                offset |= high << 16
                pos += 6
            elif op == 0xB0:  # from the beginning
                offset, size = 0, delta[pos + 1] | delta[pos + 2] << 8
                pos += 3
            elif op == 0x90:
                offset, size = 0, delta[pos + 1]
                pos += 2
            elif op == 0xB1:
                offset, size = delta[pos + 1], delta[pos + 2] | delta[pos + 3] << 8
                pos += 4
            elif op == 0x91:
                offset, size = delta[pos + 1], delta[pos + 2]
                pos += 3
            else:
                offset, size, pos = _parse_copy(delta, pos)
            size = size or 0x10000
            emit(base[offset : offset + size])
            left -= size
    except (IndexError, struct.error):
        return False
    return left == 0 and pos == len(delta)


def _parse_copy(delta: bytes, pos: int) -> tuple[int, int, int]:
    """Return offset and size of the copy at `pos`, and the position after it. IndexError at the end of the delta."""
    op = delta[pos]
    pos += 1
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
    return offset, size or 0x10000, pos


def _explain(base_size: int, delta: bytes, pos: int, result_size: int) -> CorruptDelta:
    """Return what is wrong with the instructions from `pos` on."""
    end = len(delta)
    left = result_size
    try:
        while pos < end:
            op = delta[pos]
            if op & 0x80:
                offset, size, pos = _parse_copy(delta, pos)
                left -= size
                if offset + size > base_size or left < 0:
                    return CorruptDelta("delta copies from outside its base or beyond its result")
            elif op:
                left -= op
                pos += 1 + op
                if pos > end or left < 0:
                    return CorruptDelta("delta inserts beyond its end or its result")
            else:
                return CorruptDelta("unexpected delta opcode 0")
    except IndexError:
        return CorruptDelta("truncated delta")
    return CorruptDelta(f"delta makes {result_size - left} bytes instead of {result_size}")
