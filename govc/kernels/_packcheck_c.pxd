# What the copier uses of the check of a whole pack; the story is in packcheck.py.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from govc.kernels._packread_c cimport Fault, Pack, PackTable


cdef class PackCheck:
    cdef PackTable table
    cdef int place  # of the pack among the table's
    cdef uint64_t at  # the byte of the file that is next
    cdef uint64_t start  # of the entry under way
    cdef uint64_t end
    cdef uint32_t begun  # entries, by offset
    cdef uint32_t position  # in the index, of the entry under way
    cdef uint32_t crc

    cdef Fault look_at(self, const uint8_t *data, uint64_t size) noexcept nogil
    cdef bint begin_entry(self, const Pack *pack, uint64_t body_end) noexcept nogil
    cdef bint is_frame(self, const Pack *pack, uint64_t body_end, uint8_t byte) noexcept nogil
