# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Listing whole trees, compiled; the story is in `treewalk`."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc

from govc.kernels._packread_c cimport FINE, Fault, Node, PackReader, PackTable

DEF TREE = 2
DEF FORMAT_MASK = 0o170000
DEF FORMAT_TREE = 0o040000
DEF FORMAT_FILE = 0o100000
DEF FORMAT_LINK = 0o120000
DEF MODE_DIGITS_MAX = 11
DEF SEEN_AS_TREE = 1
DEF SEEN_AS_BLOB = 2


cdef struct Numbers:
    int64_t *values
    Py_ssize_t count
    Py_ssize_t room


cdef int push(Numbers *numbers, int64_t number) noexcept nogil:
    cdef int64_t *more
    cdef Py_ssize_t room
    if numbers.count == numbers.room:
        room = 2 * numbers.room + 256
        more = <int64_t *>realloc(numbers.values, 8 * room)
        if more == NULL:
            return -1
        numbers.values = more
        numbers.room = room
    numbers.values[numbers.count] = number
    numbers.count += 1
    return 0


cdef int list_entries(PackTable table, const uint8_t *data, uint64_t size, uint8_t *seen, bint with_blobs,
                      Numbers *stack, Numbers *blobs) noexcept nogil:
    """Note what one tree names; -1 when it is no list of entries, when something isn't packed, or without memory."""
    cdef uint64_t at = 0, mode
    cdef int digits
    cdef int64_t child
    cdef uint64_t oid_size = <uint64_t>table.oid_size
    while at < size:
        mode = 0
        digits = 0
        while at < size and data[at] >= 48 and data[at] < 56 and digits < MODE_DIGITS_MAX:
            mode = (mode << 3) | <uint64_t>(data[at] - 48)
            digits += 1
            at += 1
        if digits == 0 or at >= size or data[at] != 32:
            return -1
        at += 1
        digits = 0
        while at < size and data[at]:
            digits = 1
            at += 1
        if digits == 0 or size - at < oid_size + 1:
            return -1
        at += 1
        mode &= FORMAT_MASK
        if mode == FORMAT_TREE or (with_blobs and (mode == FORMAT_FILE or mode == FORMAT_LINK)):
            child = table.find_number(data + at)
            if child < 0:
                return -1
            if mode == FORMAT_TREE:
                if not seen[child] & SEEN_AS_TREE:
                    seen[child] |= SEEN_AS_TREE
                    if push(stack, child):
                        return -1
            elif not seen[child] & SEEN_AS_BLOB:
                seen[child] |= SEEN_AS_BLOB
                if push(blobs, child):
                    return -1
        at += oid_size
    return 0


def list_trees(PackReader reader not None, const int64_t[::1] roots, bint with_blobs):
    """See treewalk.list_trees."""
    cdef PackTable table = reader.table
    cdef int64_t total = 0
    cdef Numbers stack = Numbers(NULL, 0, 0)
    cdef Numbers trees = Numbers(NULL, 0, 0)
    cdef Numbers blobs = Numbers(NULL, 0, 0)
    cdef uint8_t *seen
    cdef Node *node = NULL
    cdef Py_ssize_t k
    cdef int failed = 0
    cdef int64_t number
    if table.pack_count:
        total = table.packs[table.pack_count - 1].first + table.packs[table.pack_count - 1].count
    for k in range(roots.shape[0]):
        if not 0 <= roots[k] < total:
            return None
    seen = <uint8_t *>calloc(<size_t>(total + 1), 1)
    if seen == NULL:
        raise MemoryError
    try:
        with nogil:
            for k in range(roots.shape[0]):
                if not seen[roots[k]] & SEEN_AS_TREE:
                    seen[roots[k]] |= SEEN_AS_TREE
                    failed |= push(&stack, roots[k])
            while stack.count and not failed:
                stack.count -= 1
                number = stack.values[stack.count]
                if push(&trees, number) or reader.load(number, &node) != FINE:
                    failed = 1
                    break
                if node.type_number != TREE:
                    failed = 1
                else:
                    failed = list_entries(table, node.data, node.size, seen, with_blobs, &stack, &blobs)
                reader.release(node)
        if failed:
            return None
        return (
            PyBytes_FromStringAndSize(<const char *>trees.values, 8 * trees.count),
            PyBytes_FromStringAndSize(<const char *>blobs.values, 8 * blobs.count),
        )
    finally:
        free(seen)
        free(stack.values)
        free(trees.values)
        free(blobs.values)
