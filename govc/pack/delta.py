"""Deltas: a target as copies out of a base and inserted bytes.

    base size, target size    little-endian groups of 7 bits
    1ooo oooo  offset bytes for bits 0-3, size bytes for bits 4-6; size 0 means 0x10000     copy from the base
    0nnn nnnn  n bytes                                                                      insert them
    0000 0000                                                                               reserved: refused

`apply_delta` believes nothing: both sizes are checked before a byte is produced, every copy lies inside the
base, and nothing grows beyond the stated size. `make_delta` indexes the base by blocks of sixteen bytes,
looks every position of the target up, and grows each hit in both directions: linear time, and a valid delta
for any input.

Source: gitformat-pack "Deltified representation".
"""

from collections.abc import Callable

from govc.errors import CorruptDelta, LimitExceeded

_BLOCK = 16
_BLOCKS_INDEXED_MAX = 1 << 17
_COPY_SIZE_WRITTEN = 0x10000
_OFFSET_LIMIT = 1 << 32
_INSERT_MAX = 127
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


def _encode_size(size: int) -> bytes:
    out = bytearray()
    while size > 0x7F:
        out.append(0x80 | (size & 0x7F))
        size >>= 7
    out.append(size)
    return bytes(out)


def _add_insert(out: bytearray, data: bytes) -> None:
    for at in range(0, len(data), _INSERT_MAX):
        piece = data[at : at + _INSERT_MAX]
        out.append(len(piece))
        out += piece


def _add_copy(out: bytearray, offset: int, size: int) -> None:
    """Append as many copy instructions as `size` needs; old readers know no copy of more than 64 KiB."""
    while size:
        part = min(size, _COPY_SIZE_WRITTEN)
        at = len(out)
        op = 0x80
        out.append(op)
        for bit, shift in ((0x01, 0), (0x02, 8), (0x04, 16), (0x08, 24)):
            byte = (offset >> shift) & 0xFF
            if byte:
                op |= bit
                out.append(byte)
        if part != _COPY_SIZE_WRITTEN:
            for bit, shift in ((0x10, 0), (0x20, 8)):
                byte = (part >> shift) & 0xFF
                if byte:
                    op |= bit
                    out.append(byte)
        out[at] = op
        offset += part
        size -= part


def _common_prefix(left: bytes, left_at: int, right: bytes, right_at: int) -> int:
    """Return how many bytes agree from those positions on: doubling steps, then halving ones."""
    longest = min(len(left) - left_at, len(right) - right_at)
    agreed = 0
    step = 32
    while agreed < longest:
        step = min(step, longest - agreed)
        a = left[left_at + agreed : left_at + agreed + step]
        b = right[right_at + agreed : right_at + agreed + step]
        if a == b:
            agreed += step
            step *= 2
        elif step == 1:
            break
        else:
            step //= 2
            if a[:step] == b[:step]:
                agreed += step
            # From here on only halving finds the first difference.
            while step > 1:
                step //= 2
                if (
                    left[left_at + agreed : left_at + agreed + step]
                    == right[right_at + agreed : right_at + agreed + step]
                ):
                    agreed += step
            while agreed < longest and left[left_at + agreed] == right[right_at + agreed]:
                agreed += 1
            break
    return agreed


def _index_blocks(base: bytes) -> dict[bytes, int]:
    """Return block -> its first offset; a large base is sampled so that the index stays bounded."""
    step = max(_BLOCK, len(base) // _BLOCKS_INDEXED_MAX)
    last = min(len(base), _OFFSET_LIMIT) - _BLOCK
    # Backwards, so that the first of equal blocks wins: it has the most bytes behind it to agree with.
    start = last // step * step
    return {base[at : at + _BLOCK]: at for at in range(start, -1, -step)} if last >= 0 else {}


def make_delta(base: bytes, target: bytes) -> bytes:
    """Return a delta that makes `target` of `base`: valid always, small when they are alike."""
    out = bytearray(_encode_size(len(base)) + _encode_size(len(target)))
    pos = _common_prefix(base, 0, target, 0)
    if pos < _BLOCK:
        pos = 0
    _add_copy(out, 0, pos)
    find = _index_blocks(base).get
    literal = pos
    last = len(target) - _BLOCK
    while pos <= last:
        offset = find(target[pos : pos + _BLOCK])
        if offset is None:
            pos += 1
            continue
        size = _BLOCK + _common_prefix(base, offset + _BLOCK, target, pos + _BLOCK)
        while pos > literal and offset and base[offset - 1] == target[pos - 1]:
            pos -= 1
            offset -= 1
            size += 1
        _add_insert(out, target[literal:pos])
        size = min(size, _OFFSET_LIMIT - offset)
        _add_copy(out, offset, size)
        pos += size
        literal = pos
    _add_insert(out, target[literal:])
    return bytes(out)
