# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Sorting and reordering columns, compiled; the story is in `order`."""

from array import array

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

DEF FEW_RECORDS = 16
DEF BUCKET_BITS_MAX = 18  # a table of two megabytes


cdef struct Record:
    uint64_t key
    uint32_t number


cdef inline bint precedes(const Record *a, const Record *b, const uint8_t *oids, int oid_size) noexcept nogil:
    """Whether b has to come before a: only then does merging take it first, which keeps the order of equals."""
    if a.key != b.key:
        return b.key < a.key
    if oid_size <= 8:
        return False
    return memcmp(oids + <int64_t>b.number * oid_size + 8, oids + <int64_t>a.number * oid_size + 8, oid_size - 8) < 0


cdef Record *merge_sort(Record *records, Record *spare, Py_ssize_t count, const uint8_t *oids,
                        int oid_size) noexcept nogil:
    """Sort, from the bottom up; return which of the two buffers has the result."""
    cdef Py_ssize_t width = 1, start, middle, end, left, right, at
    cdef Record *swap
    while width < count:
        start = 0
        while start < count:
            middle = start + width if start + width < count else count
            end = middle + width if middle + width < count else count
            left, right, at = start, middle, start
            while at < end:
                if left == middle or (right < end and precedes(&records[left], &records[right], oids, oid_size)):
                    spare[at] = records[right]
                    right += 1
                else:
                    spare[at] = records[left]
                    left += 1
                at += 1
            start = end
        swap = records
        records = spare
        spare = swap
        width *= 2
    return records


cdef inline void sort_few(Record *records, Record *spare, Py_ssize_t count, const uint8_t *oids,
                          int oid_size) noexcept nogil:
    """Sort where they are: a handful by insertion, more by merging."""
    cdef Py_ssize_t at, place
    cdef Record record
    if count > FEW_RECORDS:
        spare = merge_sort(records, spare, count, oids, oid_size)
        if spare != records:
            memcpy(records, spare, count * sizeof(Record))
        return
    for at in range(1, count):
        record = records[at]
        place = at
        while place and precedes(&records[place - 1], &record, oids, oid_size):
            records[place] = records[place - 1]
            place -= 1
        records[place] = record


cdef Record *bucket_sort(Record *records, Record *spare, Py_ssize_t count, const uint8_t *oids,
                         int oid_size) noexcept nogil:
    """Sort: distribute by the keys' upper bits, in their order, then sort what shares them; return the buffer.

    Names are hashes, and offsets spread over their pack, so few share them; where a peer saw to it that many do,
    merging takes the steps that it would have taken without this.
    """
    cdef uint64_t all_bits = 0
    cdef int bits = 1, shift = 0
    cdef Py_ssize_t at, bucket, bucket_count, start = 0, end
    cdef Py_ssize_t *ends
    while bits < BUCKET_BITS_MAX and (<Py_ssize_t>2 << bits) < count:
        bits += 1
    for at in range(count):
        all_bits |= records[at].key
    while all_bits >> shift >= <uint64_t>1 << bits:
        shift += 1
    bucket_count = <Py_ssize_t>1 << bits
    ends = <Py_ssize_t *>calloc(bucket_count, sizeof(Py_ssize_t))
    if ends == NULL:
        return merge_sort(records, spare, count, oids, oid_size)
    for at in range(count):
        ends[records[at].key >> shift] += 1
    for bucket in range(bucket_count):
        end = start + ends[bucket]
        ends[bucket] = start
        start = end
    for at in range(count):
        bucket = <Py_ssize_t>(records[at].key >> shift)
        spare[ends[bucket]] = records[at]
        ends[bucket] += 1
    start = 0
    for bucket in range(bucket_count):
        if ends[bucket] > start + 1:
            sort_few(spare + start, records + start, ends[bucket] - start, oids, oid_size)
        start = ends[bucket]
    free(ends)
    return spare


cdef object sorted_numbers(const uint64_t *offsets, const uint8_t *oids, int oid_size, Py_ssize_t count):
    cdef Record *records = <Record *>malloc(2 * count * sizeof(Record) + 1)
    cdef Record *result
    cdef Py_ssize_t at
    cdef int byte
    cdef uint64_t key
    cdef uint32_t[::1] numbers
    order = array("I", bytes(4 * count))
    if records == NULL:
        raise MemoryError
    if count:
        numbers = order
        with nogil:
            for at in range(count):
                key = 0
                if oids == NULL:
                    key = offsets[at]
                else:
                    for byte in range(8):
                        key = key << 8 | oids[<int64_t>at * oid_size + byte]
                records[at].key = key
                records[at].number = <uint32_t>at
            if count <= FEW_RECORDS:
                sort_few(records, records + count, count, oids, oid_size)
                result = records
            else:
                result = bucket_sort(records, records + count, count, oids, oid_size)
            for at in range(count):
                numbers[at] = result[at].number
    free(records)
    return order


def sort_by_oid(const uint8_t[::1] oids not None, int oid_size):
    """As `order_py.sort_by_oid`."""
    cdef Py_ssize_t count = oids.shape[0] // oid_size
    return sorted_numbers(NULL, &oids[0] if count else NULL, oid_size, count)


def sort_by_offset(const uint64_t[::1] offsets not None):
    """As `order_py.sort_by_offset`."""
    cdef Py_ssize_t count = offsets.shape[0]
    return sorted_numbers(&offsets[0] if count else NULL, NULL, 0, count)


def reorder_records(const uint8_t[::1] records not None, const uint32_t[::1] order not None, int size):
    """As `order_py.reorder_records`."""
    cdef Py_ssize_t count = order.shape[0], at
    result = PyBytes_FromStringAndSize(NULL, count * size)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(result)
    check_order(order, records.shape[0] // size)
    with nogil:
        for at in range(count):
            memcpy(out + at * size, &records[<int64_t>order[at] * size], size)
    return result


def gather_numbers(numbers, const uint32_t[::1] order not None):
    """As `order_py.gather_numbers`."""
    cdef const uint64_t[::1] wide
    cdef const uint32_t[::1] narrow
    cdef uint64_t[::1] wide_out
    cdef uint32_t[::1] narrow_out
    cdef Py_ssize_t count = order.shape[0], at
    result = array(numbers.typecode, bytes(numbers.itemsize * count))
    check_order(order, len(numbers))
    if not count:
        return result
    if numbers.typecode == "Q":
        wide, wide_out = numbers, result
        with nogil:
            for at in range(count):
                wide_out[at] = wide[order[at]]
    else:
        narrow, narrow_out = numbers, result
        with nogil:
            for at in range(count):
                narrow_out[at] = narrow[order[at]]
    return result


def gather_bytes(const uint8_t[::1] values not None, const uint32_t[::1] order not None):
    """As `order_py.gather_bytes`."""
    cdef Py_ssize_t count = order.shape[0], at
    result = PyBytes_FromStringAndSize(NULL, count)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(result)
    check_order(order, values.shape[0])
    with nogil:
        for at in range(count):
            out[at] = values[order[at]]
    return result


def invert(const uint32_t[::1] order not None):
    """As `order_py.invert`."""
    cdef Py_ssize_t count = order.shape[0], at
    cdef uint32_t[::1] ranks
    result = array("I", bytes(4 * count))
    check_order(order, count)
    if count:
        ranks = result
        with nogil:
            for at in range(count):
                ranks[order[at]] = <uint32_t>at
    return result


cdef check_order(const uint32_t[::1] order, Py_ssize_t count):
    cdef Py_ssize_t at
    cdef bint is_fine = True
    with nogil:
        for at in range(order.shape[0]):
            if order[at] >= <uint64_t>count:
                is_fine = False
    if not is_fine:
        raise IndexError("an order names a record that isn't there")


def match_oids(const uint8_t[::1] oids_sorted not None, int oid_size, const uint8_t[::1] table not None,
               Py_ssize_t start, Py_ssize_t stride, Py_ssize_t count):
    """As `order_py.match_oids`."""
    cdef Py_ssize_t number = oids_sorted.shape[0] // oid_size, at, low = 0, found_count = 0
    cdef uint32_t[::1] found
    cdef const uint8_t *oids
    cdef const uint8_t *tables
    if not number or not count:
        return array("I")
    if start < 0 or stride < oid_size or start + (count - 1) * stride + oid_size > table.shape[0]:
        raise IndexError("a table of oids reaches beyond its buffer")
    result = array("I", bytes(4 * number))
    found = result
    oids, tables = &oids_sorted[0], &table[start]
    with nogil:
        if number <= count:
            for at in range(number):
                low = first_not_below(tables, stride, low, count, oids + at * oid_size, oid_size)
                if low < count and memcmp(tables + low * stride, oids + at * oid_size, oid_size) == 0:
                    found[found_count] = <uint32_t>at
                    found_count += 1
        else:
            for at in range(count):
                low = first_not_below(oids, oid_size, low, number, tables + at * stride, oid_size)
                while low < number and memcmp(oids + low * oid_size, tables + at * stride, oid_size) == 0:
                    found[found_count] = <uint32_t>low
                    found_count += 1
                    low += 1
    return result[:found_count]


cdef inline Py_ssize_t first_not_below(const uint8_t *table, Py_ssize_t stride, Py_ssize_t low, Py_ssize_t high,
                                       const uint8_t *oid, int oid_size) noexcept nogil:
    """Bisect, in growing steps from `low` on: what is looked for next is rarely far."""
    cdef Py_ssize_t step = 1, middle
    while low + step < high and memcmp(table + (low + step) * stride, oid, oid_size) < 0:
        low += step
        step *= 2
    if low + step < high:
        high = low + step + 1 if low + step + 1 < high else high
    while low < high:
        middle = (low + high) >> 1
        if memcmp(table + middle * stride, oid, oid_size) < 0:
            low = middle + 1
        else:
            high = middle
    return low
