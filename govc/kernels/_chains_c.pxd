# What packcopy uses of the choice of deltas; the story is in chains.py.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from govc.kernels._packread_c cimport Fault, PackReader, PackTable


cdef struct Columns:  # one file of forward deltas
    Py_ssize_t count
    const uint8_t *targets
    const uint8_t *bases
    const uint32_t *sizes
    const uint64_t *offsets
    const uint8_t *streams


cdef struct Link:
    int64_t base  # rank among the numbers of what it stands on; -1 when that isn't sent, or when there is none
    int32_t file  # of the delta that was chosen, -1: it stays as it is stored
    uint32_t row
    uint16_t depth  # deltas from here down to what isn't sent or is whole; 0 when that isn't known yet
    uint8_t state


cdef struct Frame:
    Py_ssize_t rank
    int file
    Py_ssize_t row  # of the delta whose turn it is
    Py_ssize_t end
    int64_t stored  # rank of the stored base; -1 for none, -2 when nobody has looked


cdef class Chains:
    cdef PackReader reader
    cdef PackTable table
    cdef object at_peer
    cdef object trouble  # what `at_peer` raised
    cdef list keep
    cdef Columns *files
    cdef int file_count
    cdef const int64_t *numbers
    cdef Py_ssize_t number_count
    cdef Link *links
    cdef Frame *frames
    cdef Py_ssize_t frame_room
    cdef uint8_t *targets  # a bit for each number
    cdef readonly Py_ssize_t target_count

    cdef Py_ssize_t rank_of(self, int64_t number) noexcept nogil
    cdef bint is_target(self, Py_ssize_t rank) noexcept nogil
    cdef Fault choose(self, Py_ssize_t rank) noexcept nogil

    cdef Py_ssize_t find_row(self, const Columns *file, const uint8_t *oid, Py_ssize_t low) noexcept nogil
    cdef void mark_targets(self) noexcept nogil
    cdef int peer_has(self, int64_t number) noexcept with gil
    cdef int push(self, Py_ssize_t depth, int64_t rank) noexcept nogil
    cdef void find_deltas(self, Frame *frame) noexcept nogil
    cdef uint64_t stored_bytes(self, int64_t number) noexcept nogil
    cdef Fault find_stored(self, Frame *frame, bint *is_whole) noexcept nogil
    cdef int depth_of(self, int64_t rank) noexcept nogil
    cdef Fault try_deltas(self, Frame *frame, int64_t *next) noexcept nogil
    cdef void take(self, Frame *frame, int64_t base, int depth) noexcept nogil
    cdef Fault settle_stored(self, Frame *frame, int64_t *next) noexcept nogil
