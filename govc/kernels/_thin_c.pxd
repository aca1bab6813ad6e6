# What packcopy and the choice of deltas use of the choice of thin entries; the story is in thin.py.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from govc.kernels._packread_c cimport PackTable
from govc.kernels._sweep_c cimport AtPeer


cdef enum:
    WHOLE = 0xFFFFFFFF  # for a base: the entry is no delta
    FOREIGN = 0x80000000  # for a base: the rest is its rank among the names of what isn't in the file
    NOT_TAKEN = 0xFFFFFFFF  # for a row


cdef struct Slot:  # one object that is sent and that the file has
    int64_t number
    uint64_t out  # where its entry begins in the new pack; 0: not yet
    uint32_t place
    uint32_t row  # of the entry that is taken, or NOT_TAKEN
    uint32_t depth  # deltas from here down to what isn't sent or is whole


cdef class ThinFile:
    cdef readonly Py_ssize_t count
    cdef Py_ssize_t row_count
    cdef Py_ssize_t foreign_count
    cdef uint64_t stream_bytes
    cdef int oid_size
    cdef tuple keep
    cdef const uint8_t *names
    cdef const uint32_t *places
    cdef const uint32_t *ranks
    cdef const uint8_t *kinds
    cdef const uint32_t *starts
    cdef const uint32_t *bases
    cdef const uint8_t *foreign
    cdef const uint32_t *sizes
    cdef const uint32_t *checksums
    cdef const uint64_t *offsets
    cdef const uint8_t *streams

    cdef bint is_sound(self) noexcept nogil
    cdef int64_t place_of(self, const uint8_t *oid) noexcept nogil
    cdef Py_ssize_t rank_from(self, Py_ssize_t low, const uint8_t *oid) noexcept nogil
    cdef const uint8_t *base_name(self, uint32_t base) noexcept nogil


cdef class ThinChoice:
    cdef ThinFile file
    cdef PackTable table
    cdef AtPeer at_peer
    cdef const int64_t *numbers  # what is sent, ascending, while entries are chosen
    cdef Py_ssize_t number_count
    cdef Slot *slots  # by place
    cdef Py_ssize_t slot_count
    cdef Py_ssize_t at  # the slot whose turn it is
    cdef uint64_t *marks  # a bit for each place
    cdef uint32_t *marked_before  # how many in the words before each
    cdef readonly Py_ssize_t taken
    cdef readonly object rest

    cdef Slot *slot_of(self, uint32_t place) noexcept nogil
    cdef Slot *find(self, const uint8_t *oid) noexcept nogil
    cdef void find_slots(self, const int64_t *numbers, uint32_t *places, Py_ssize_t n) noexcept nogil
    cdef void choose(self, Slot *slot) noexcept nogil
    cdef bint is_at_peer(self, uint32_t base) noexcept nogil
    cdef bint is_sent(self, int64_t number) noexcept nogil
