"""Deltas, as far as packs are concerned: applying one (a kernel), making one.

`make_delta` indexes the base by blocks of sixteen bytes, looks every position of the target up, and grows each hit
in both directions: linear time, and a valid delta for any input. The format is told in `govc.kernels.delta`.

Source: gitformat-pack "Deltified representation".
"""

from govc.kernels.delta import apply_delta
from govc.kernels.delta_py import parse_delta_sizes

__all__ = ["apply_delta", "make_delta", "parse_delta_sizes"]

_BLOCK = 16
_BLOCKS_INDEXED_MAX = 1 << 17
_COPY_SIZE_WRITTEN = 0x10000
_OFFSET_LIMIT = 1 << 32
_INSERT_MAX = 127


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
