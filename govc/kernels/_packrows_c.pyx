# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Which rows a pack to send has, compiled; the story is in `packrows`."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort

from govc.kernels._packread_c cimport Pack, PackTable, be32

from array import array


cdef int by_offset(const void *a, const void *b) noexcept nogil:
    cdef uint64_t one = (<const Row *>a).offset, other = (<const Row *>b).offset
    return -1 if one < other else 1 if one > other else 0


cdef class PackRows:
    """The rows of the objects with these numbers: int64 each, ascending, each once."""

    def __cinit__(self, PackTable table not None, const uint8_t[::1] numbers not None):
        cdef Py_ssize_t n = numbers.shape[0] // 8, k
        cdef const int64_t *values = <const int64_t *>&numbers[0] if n else NULL
        cdef int i
        self.table = table
        self.rows = <Row *>malloc(sizeof(Row) * (n + 1))
        self.shares = <Share *>malloc(sizeof(Share) * (table.pack_count + 1))
        if self.rows == NULL or self.shares == NULL:
            raise MemoryError
        with nogil:
            k = self.find_shares(values, n)
        if k < n:
            if k and values[k] <= values[k - 1] or values[k] < 0:
                raise ValueError("numbers must ascend")
            raise IndexError(values[k])
        for i in range(self.share_count):
            table.make_order(&table.packs[self.shares[i].pack])
        with nogil:
            for i in range(self.share_count):
                self.arrange(&self.shares[i])

    def __dealloc__(self):
        free(self.rows)
        free(self.shares)

    cdef Py_ssize_t find_shares(self, const int64_t *values, Py_ssize_t n) noexcept nogil:
        """Find which rows lie in which pack; return how many there are before one that is wrong."""
        cdef Py_ssize_t k
        cdef int64_t last = -1
        cdef int i
        cdef Share *share = NULL
        for k in range(n):
            if values[k] <= last:
                return k
            last = values[k]
            if share == NULL or last - self.table.packs[share.pack].first >= self.table.packs[share.pack].count:
                i = self.table.pack_of(last)
                if i < 0:
                    return k
                share = &self.shares[self.share_count]
                share.pack = i
                share.first = k
                share.count = 0
                self.share_count += 1
            share.count += 1
            self.rows[k].number = last
        return n

    cdef void arrange(self, Share *share) noexcept nogil:
        """Give the rows of one pack their places, and sort them by offset."""
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef Row *rows = self.rows + share.first
        cdef uint64_t end = pack.size - self.table.oid_size
        cdef Py_ssize_t k
        cdef uint32_t rank
        share.is_whole = share.count == <Py_ssize_t>pack.count
        for k in range(share.count):
            rows[k].offset = self.table.offset_at(pack, <uint32_t>(rows[k].number - pack.first))
            rows[k].out = 0
        if share.is_whole or share.count > <Py_ssize_t>pack.count // 64:
            self.arrange_many(share, rows, pack, end)
            return
        qsort(rows, share.count, sizeof(Row), by_offset)
        for k in range(share.count):
            rank = self.table.rank_of(pack, rows[k].offset)
            if rank + 1 < pack.count:
                rows[k].end = self.table.offset_at(pack, be32(pack.order + 4 * (<Py_ssize_t>rank + 1)))
            else:
                rows[k].end = end

    cdef void arrange_many(self, Share *share, Row *rows, const Pack *pack, uint64_t end) noexcept nogil:
        """The same in one pass over the pack's order, which is cheaper for many."""
        cdef uint8_t *chosen = <uint8_t *>malloc(pack.count)
        cdef Py_ssize_t k, at = 0
        cdef uint32_t rank, position
        cdef uint64_t offset
        if chosen == NULL:
            qsort(rows, share.count, sizeof(Row), by_offset)
            for k in range(share.count):
                rank = self.table.rank_of(pack, rows[k].offset)
                rows[k].end = end if rank + 1 >= pack.count else self.table.offset_at(pack, be32(pack.order + 4 * (<Py_ssize_t>rank + 1)))
            return
        for k in range(<Py_ssize_t>pack.count):
            chosen[k] = 0
        for k in range(share.count):
            chosen[rows[k].number - pack.first] = 1
        for rank in range(pack.count):
            position = be32(pack.order + 4 * <Py_ssize_t>rank)
            if at and rows[at - 1].end == 0:
                rows[at - 1].end = self.table.offset_at(pack, position)
            if chosen[position]:
                rows[at].number = pack.first + position
                rows[at].offset = self.table.offset_at(pack, position)
                rows[at].end = 0
                at += 1
        if at and rows[at - 1].end == 0:
            rows[at - 1].end = end
        free(chosen)

    cdef Row *find_row(self, uint64_t offset, const Share *share) noexcept nogil:
        """Return the row of an object that begins at `offset` in the pack of `share`; NULL when it isn't sent."""
        cdef Py_ssize_t low = share.first, high = share.first + share.count, middle
        while low < high:
            middle = (low + high) >> 1
            if self.rows[middle].offset < offset:
                low = middle + 1
            else:
                high = middle
        if low < share.first + share.count and self.rows[low].offset == offset:
            return &self.rows[low]
        return NULL

    cdef Row *find_before(self, const Row *near, uint64_t offset, const Share *share) noexcept nogil:
        """Return the row that begins at `offset`, somewhere before `near`: close by, mostly, and so are the looks."""
        cdef Py_ssize_t low, high = near - self.rows, step = 1, middle
        while True:
            if high == share.first:
                return NULL
            low = share.first if high - share.first <= step else high - step
            if self.rows[low].offset <= offset:
                break
            high = low
            step <<= 1
        while high - low > 1:
            middle = (low + high) >> 1
            if self.rows[middle].offset <= offset:
                low = middle
            else:
                high = middle
        return &self.rows[low] if self.rows[low].offset == offset else NULL

    cdef Row *row_in(self, int home, int64_t number) noexcept nogil:
        """Return the row of an object of pack `home`; NULL when it isn't sent."""
        cdef const Pack *pack = &self.table.packs[home]
        cdef int i
        for i in range(self.share_count):
            if self.shares[i].pack == home:
                return self.find_row(self.table.offset_at(pack, <uint32_t>(number - pack.first)), &self.shares[i])
        return NULL

    cdef Row *find_base(self, const Row *delta, const Share *share, uint64_t offset, bint wants_number, int64_t *number) noexcept nogil:
        """Return the row of a delta's base; when it isn't sent, NULL and its number, -1 for none. It is looked for only
        when it is wanted, or when a row may lie in an earlier pack.
        """
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef Row *row
        cdef uint32_t rank
        cdef int home
        if offset < delta.offset:
            row = self.find_before(delta, offset, share)
        else:
            row = self.find_row(offset, share)
        if row != NULL:
            return row
        number[0] = -1
        if share.pack == 0 and not wants_number:
            return NULL
        rank = self.table.rank_of(pack, offset)
        if rank == pack.count:
            return NULL
        # The same object may have its number in an earlier pack.
        number[0] = self.table.find_number(pack.oids + <Py_ssize_t>be32(pack.order + 4 * <Py_ssize_t>rank) * self.table.oid_size)
        home = self.table.pack_of(number[0])
        if home == share.pack:
            return NULL
        return self.row_in(home, number[0])

    cdef Share *share_of(self, const Row *row) noexcept nogil:
        cdef Py_ssize_t rank = row - self.rows
        cdef int i = 0
        while i + 1 < self.share_count and rank >= self.shares[i].first + self.shares[i].count:
            i += 1
        return &self.shares[i]


cdef int by_value(const void *a, const void *b) noexcept nogil:
    cdef int64_t one = (<const int64_t *>a)[0], other = (<const int64_t *>b)[0]
    return -1 if one < other else 1 if one > other else 0


def sort_numbers(PackTable table not None, numbers not None):
    """See packcopy. Many numbers are marked in a table of all, few are sorted."""
    cdef const uint8_t[::1] view = memoryview(numbers).cast("B")
    cdef Py_ssize_t n = view.shape[0] // 8, k, count = 0, out_at = 0
    cdef int64_t total = 0, number, last = -1
    cdef const int64_t *values
    cdef int64_t *chosen = NULL
    cdef uint8_t *marks = NULL
    others = set()
    packed = array("q")
    if table.pack_count:
        total = table.packs[table.pack_count - 1].first + table.packs[table.pack_count - 1].count
    if n == 0:
        return packed, array("q")
    values = <const int64_t *>&view[0]
    chosen = <int64_t *>malloc(8 * n)
    if chosen == NULL:
        raise MemoryError
    try:
        with nogil:
            for k in range(n):
                if 0 <= values[k] < total:
                    chosen[count] = values[k]
                    count += 1
        if count != n:
            for k in range(n):
                if not 0 <= values[k] < total:
                    others.add(values[k])
        if count > total // 64:
            marks = <uint8_t *>calloc(total + 1, 1)
            if marks == NULL:
                raise MemoryError
        with nogil:
            if marks != NULL:
                for k in range(count):
                    marks[chosen[k]] = 1
                for number in range(total):
                    if marks[number]:
                        chosen[out_at] = number
                        out_at += 1
            else:
                qsort(chosen, count, 8, by_value)
                for k in range(count):
                    if chosen[k] != last:
                        last = chosen[k]
                        chosen[out_at] = last
                        out_at += 1
        packed.frombytes((<const char *>chosen)[:8 * out_at])
    finally:
        free(chosen)
        free(marks)
    return packed, array("q", sorted(others))
