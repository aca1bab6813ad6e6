# Applying a delta to bytes in memory; the story is in delta.py. Inline, because the resolver calls it per object.

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy


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


cdef inline DeltaFault delta_run(const uint8_t *base, uint64_t base_size, const uint8_t *delta, Py_ssize_t length,
                                 Py_ssize_t pos, uint8_t *out, uint64_t result_size, uint64_t *made) noexcept nogil:
    """Carry the instructions from `pos` on out; `out` holds `result_size` bytes, `made` tells how many were made."""
    cdef uint64_t left = result_size, offset, size
    cdef uint8_t op
    made[0] = 0
    while pos < length:
        op = delta[pos]
        pos += 1
        if op & 0x80:
            offset = size = 0
            if pos + 7 > length:
                # Near the end each byte may be missing.
                if pos + popcount7(op) > length:
                    return DELTA_CUT
            if op & 0x01:
                offset = delta[pos]
                pos += 1
            if op & 0x02:
                offset |= <uint64_t>delta[pos] << 8
                pos += 1
            if op & 0x04:
                offset |= <uint64_t>delta[pos] << 16
                pos += 1
            if op & 0x08:
                offset |= <uint64_t>delta[pos] << 24
                pos += 1
            if op & 0x10:
                size = delta[pos]
                pos += 1
            if op & 0x20:
                size |= <uint64_t>delta[pos] << 8
                pos += 1
            if op & 0x40:
                size |= <uint64_t>delta[pos] << 16
                pos += 1
            if size == 0:
                size = 0x10000
            if size > left or offset + size > base_size:
                return DELTA_COPY_OUTSIDE
            memcpy(out, base + offset, size)
            out += size
            left -= size
        elif op:
            if op > left or pos + op > length:
                return DELTA_INSERT_OUTSIDE
            memcpy(out, delta + pos, op)
            out += op
            pos += op
            left -= op
        else:
            return DELTA_OPCODE_ZERO
    made[0] = result_size - left
    return DELTA_TOO_SHORT if left else DELTA_FINE


cdef inline int popcount7(uint8_t op) noexcept nogil:
    cdef int number = 0
    op &= 0x7F
    while op:
        number += op & 1
        op >>= 1
    return number
