# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Making deltas, compiled; the story is in `deltify`."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

DEF BLOCK = 16
DEF CANDIDATES_MAX = 16
DEF COPY_MAX = 0x10000
DEF INSERT_MAX = 127
DEF MULTIPLIER = 2654435761


cdef struct Out:
    uint8_t *data
    Py_ssize_t size
    Py_ssize_t room


cdef inline int put(Out *out, uint8_t byte) noexcept nogil:
    if out.size == out.room:
        return -1
    out.data[out.size] = byte
    out.size += 1
    return 0


cdef int put_size(Out *out, uint64_t size) noexcept nogil:
    while size > 0x7F:
        if put(out, 0x80 | (size & 0x7F)):
            return -1
        size >>= 7
    return put(out, <uint8_t>size)


cdef int put_insert(Out *out, const uint8_t *data, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t part
    while size:
        part = size if size < INSERT_MAX else INSERT_MAX
        if out.size + part + 1 > out.room:
            return -1
        out.data[out.size] = <uint8_t>part
        memcpy(out.data + out.size + 1, data, part)
        out.size += part + 1
        data += part
        size -= part
    return 0


cdef int put_copy(Out *out, uint64_t offset, uint64_t size) noexcept nogil:
    cdef uint64_t part, value
    cdef Py_ssize_t head
    cdef uint8_t op
    cdef int i
    while size:
        part = size if size < COPY_MAX else COPY_MAX
        if out.size + 8 > out.room:
            return -1
        head = out.size
        op = 0x80
        out.size += 1
        value = offset
        for i in range(4):
            if value & 0xFF:
                op |= 1 << i
                out.data[out.size] = value & 0xFF
                out.size += 1
            value >>= 8
        if part != COPY_MAX:
            value = part
            for i in range(2):
                if value & 0xFF:
                    op |= 0x10 << i
                    out.data[out.size] = value & 0xFF
                    out.size += 1
                value >>= 8
        out.data[head] = op
        offset += part
        size -= part
    return 0


cdef inline uint32_t hash_block(const uint8_t *p) noexcept nogil:
    cdef uint32_t value = 0
    cdef int i
    for i in range(BLOCK):
        value = value * <uint32_t>MULTIPLIER + p[i] + 1
    return value


cdef int write_delta(const uint8_t *base, Py_ssize_t base_size, const uint8_t *target, Py_ssize_t size,
                     uint32_t *heads, uint32_t mask, uint32_t *nexts, Out *out) noexcept nogil:
    cdef Py_ssize_t blocks = base_size // BLOCK, block, at = 0, inserted = 0, length, back, best, best_from, best_back, start
    cdef uint32_t value, candidate, drop = 1
    cdef int i, tried
    for i in range(BLOCK):
        drop *= <uint32_t>MULTIPLIER
    if put_size(out, base_size) or put_size(out, size):
        return -1
    # The first of equal blocks is found first: later ones hang behind it.
    for block in range(blocks - 1, -1, -1):
        value = hash_block(base + block * BLOCK)
        value = (value ^ (value >> 15)) & mask
        nexts[block] = heads[value]
        heads[value] = <uint32_t>(block + 1)
    if size >= BLOCK:
        value = hash_block(target)
    while at + BLOCK <= size:
        best = best_from = best_back = 0
        candidate = heads[(value ^ (value >> 15)) & mask]
        tried = 0
        while candidate and tried < CANDIDATES_MAX:
            start = <Py_ssize_t>(candidate - 1) * BLOCK
            candidate = nexts[candidate - 1]
            tried += 1
            if memcmp(base + start, target + at, BLOCK):
                continue
            length = BLOCK
            while start + length < base_size and at + length < size and base[start + length] == target[at + length]:
                length += 1
            back = 0
            while back < inserted and start > back and base[start - back - 1] == target[at - back - 1]:
                back += 1
            if length + back > best + best_back:
                best, best_from, best_back = length, start, back
        if best == 0:
            if at + BLOCK < size:
                value = value * <uint32_t>MULTIPLIER + target[at + BLOCK] + 1 - (<uint32_t>target[at] + 1) * drop
            at += 1
            inserted += 1
            continue
        if put_insert(out, target + at - inserted, inserted - best_back):
            return -1
        if put_copy(out, best_from - best_back, best + best_back):
            return -1
        at += best
        inserted = 0
        if at + BLOCK <= size:
            value = hash_block(target + at)
    return put_insert(out, target + at - inserted, size - at + inserted)


def make_delta(const uint8_t[::1] base not None, const uint8_t[::1] target not None, Py_ssize_t size_max):
    """See deltify."""
    cdef Py_ssize_t base_size = base.shape[0], size = target.shape[0]
    cdef const uint8_t *base_at = &base[0] if base_size else NULL
    cdef const uint8_t *target_at = &target[0] if size else NULL
    cdef uint32_t mask = 255
    cdef uint32_t *heads
    cdef uint32_t *nexts
    cdef Out out
    cdef int fault
    if base_size >= 1 << 31 or size >= 1 << 31:
        return None
    while mask < <uint32_t>(base_size // BLOCK):
        mask = 2 * mask + 1
    heads = <uint32_t *>malloc(4 * (<size_t>mask + 1))
    nexts = <uint32_t *>malloc(4 * <size_t>(base_size // BLOCK + 1))
    out.data = <uint8_t *>malloc(size_max + 1)
    out.size = 0
    out.room = size_max
    try:
        if heads == NULL or nexts == NULL or out.data == NULL:
            raise MemoryError
        with nogil:
            memset(heads, 0, 4 * (<size_t>mask + 1))
            fault = write_delta(base_at, base_size, target_at, size, heads, mask, nexts, &out)
        return None if fault else PyBytes_FromStringAndSize(<char *>out.data, out.size)
    finally:
        free(heads)
        free(nexts)
        free(out.data)
