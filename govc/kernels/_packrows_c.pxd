# What other kernels use of the rows of a pack to send; the story is in packrows.py.

from libc.stdint cimport int64_t, uint8_t, uint64_t

from govc.kernels._packread_c cimport Pack, PackTable


cdef struct Row:  # one object that is sent
    uint64_t offset
    uint64_t end
    uint64_t out  # where the entry begins in the new pack; 0 before it is out
    int64_t number


cdef struct Share:  # the rows of one pack
    int pack
    Py_ssize_t first
    Py_ssize_t count
    int is_whole


cdef class PackRows:
    cdef PackTable table
    cdef Row *rows  # of each share by offset
    cdef Share *shares
    cdef int share_count

    cdef Py_ssize_t find_shares(self, const int64_t *values, Py_ssize_t n) noexcept nogil
    cdef void arrange(self, Share *share) noexcept nogil
    cdef void arrange_many(self, Share *share, Row *rows, const Pack *pack, uint64_t end) noexcept nogil
    cdef Row *find_row(self, uint64_t offset, const Share *share) noexcept nogil
    cdef Row *find_before(self, const Row *near, uint64_t offset, const Share *share) noexcept nogil
    cdef Row *row_in(self, int home, int64_t number) noexcept nogil
    cdef Row *find_base(self, const Row *delta, const Share *share, uint64_t offset, bint wants_number, int64_t *number) noexcept nogil
    cdef Share *share_of(self, const Row *row) noexcept nogil
