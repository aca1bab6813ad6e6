# Applying a delta to bytes in memory; the story is in delta.py. Inline, because the resolver calls it per object.

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memmove


cdef enum DeltaFault:
    DELTA_FINE = 0
    DELTA_HEADER_CUT
    DELTA_SIZE_OVERFLOW
    DELTA_COPY_OUTSIDE
    DELTA_INSERT_OUTSIDE
    DELTA_OPCODE_ZERO
    DELTA_CUT
    DELTA_TOO_SHORT


cdef inline DeltaFault delta_size(const uint8_t *delta, Py_ssize_t length, Py_ssize_t *pos, uint64_t *size) noexcept nogil:
    """Read one of the two sizes at `pos`."""
    cdef uint64_t value
    cdef int shift = 7
    cdef uint8_t byte
    if pos[0] >= length:
        return DELTA_HEADER_CUT
    byte = delta[pos[0]]
    pos[0] += 1
    value = byte & 0x7F
    while byte & 0x80:
        if shift > 63:
            return DELTA_SIZE_OVERFLOW
        if pos[0] >= length:
            return DELTA_HEADER_CUT
        byte = delta[pos[0]]
        pos[0] += 1
        if shift == 63 and byte & 0x7E:
            return DELTA_SIZE_OVERFLOW
        value |= <uint64_t>(byte & 0x7F) << shift
        shift += 7
    size[0] = value
    return DELTA_FINE


cdef inline Py_ssize_t copy_operands(const uint8_t *p, uint8_t op, uint64_t *offset, uint64_t *size) noexcept nogil:
    """Read what follows a copy instruction, of which seven bytes can be read; return how many it takes.

    Without a branch: which bytes are there is different each time, and guessing wrong costs more than all of this.
    """
    cdef uint64_t b0 = op & 1, b1 = op >> 1 & 1, b2 = op >> 2 & 1, b3 = op >> 3 & 1
    cdef uint64_t b4 = op >> 4 & 1, b5 = op >> 5 & 1, b6 = op >> 6 & 1
    cdef uint64_t n2 = b0 + b1, n3 = n2 + b2, n4 = n3 + b3, n5 = n4 + b4, n6 = n5 + b5
    cdef uint64_t found
    offset[0] = (p[0] & (0 - b0)) | (p[b0] & (0 - b1)) << 8 | (p[n2] & (0 - b2)) << 16 | (p[n3] & (0 - b3)) << 24
    found = (p[n4] & (0 - b4)) | (p[n5] & (0 - b5)) << 8 | (p[n6] & (0 - b6)) << 16
    size[0] = found if found else 0x10000
    return <Py_ssize_t>(n6 + b6)


cdef inline Py_ssize_t last_operands(const uint8_t *p, Py_ssize_t left, uint8_t op, uint64_t *offset,
                                     uint64_t *size) noexcept nogil:
    """Likewise, where only `left` bytes can be read; -1 when it takes more."""
    cdef uint8_t bytes[8]
    cdef Py_ssize_t k, taken
    for k in range(8):
        bytes[k] = p[k] if k < left else 0
    taken = copy_operands(bytes, op, offset, size)
    return taken if taken <= left else -1


cdef inline void copy_bytes(uint8_t *to, uint64_t to_room, const uint8_t *source, uint64_t source_room,
                            uint64_t size) noexcept nogil:
    """Copy `size` bytes. Mostly they are few: then 32 at once, or 128, where both sides have room for those.

    What that writes beyond them has to be written afterwards. (Compilers make `rep movs` of what they know to be few
    bytes but not how many: it takes longer to begin than most of these take.)
    """
    if size <= 128 and to_room >= 128 and source_room >= 128:
        memcpy(to, source, 32)
        if size > 32:
            memcpy(to + 32, source + 32, 32)
            if size > 64:
                memcpy(to + 64, source + 64, 64)
    elif size <= 32 and to_room >= 32 and source_room >= 32:
        memcpy(to, source, 32)
    else:
        memmove(to, source, size)


cdef inline DeltaFault delta_run(const uint8_t *base, uint64_t base_size, const uint8_t *delta, Py_ssize_t length,
                                 Py_ssize_t pos, uint8_t *out, uint64_t result_size, uint64_t *made) noexcept nogil:
    """Carry the instructions from `pos` on out; `out` holds `result_size` bytes, `made` tells how many were made."""
    cdef uint64_t left = result_size, offset = 0, size = 0
    cdef Py_ssize_t taken
    cdef uint8_t op
    made[0] = 0
    while pos < length:
        op = delta[pos]
        pos += 1
        if op & 0x80:
            if pos + 7 <= length:
                pos += copy_operands(delta + pos, op, &offset, &size)
            else:
                # Near the end each byte may be missing.
                taken = last_operands(delta + pos, length - pos, op, &offset, &size)
                if taken < 0:
                    return DELTA_CUT
                pos += taken
            if size > left or offset + size > base_size:
                return DELTA_COPY_OUTSIDE
            copy_bytes(out, left, base + offset, base_size - offset, size)
            out += size
            left -= size
        elif op:
            if op > left or pos + op > length:
                return DELTA_INSERT_OUTSIDE
            copy_bytes(out, left, delta + pos, <uint64_t>(length - pos), op)
            out += op
            pos += op
            left -= op
        else:
            return DELTA_OPCODE_ZERO
    made[0] = result_size - left
    return DELTA_TOO_SHORT if left else DELTA_FINE
