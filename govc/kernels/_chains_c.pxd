# What packcopy uses of the choice of deltas; the story is in chains.py.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from govc.kernels._packread_c cimport Entry, Fault, Pack, PackReader, PackTable
from govc.kernels._packrows_c cimport Row, Share
from govc.kernels._sweep_c cimport AtPeer
from govc.kernels._thin_c cimport ThinChoice


cdef struct Columns:  # one file of forward deltas
    Py_ssize_t count
    const uint8_t *targets
    const uint8_t *bases
    const uint32_t *sizes
    const uint64_t *offsets
    const uint8_t *streams
    const uint32_t *checksums


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
    uint64_t limit  # bytes that a delta may take
    bint is_limit_known  # else it is what the stored entry takes
    int64_t stored  # rank of the stored base; -1 for none, -2 when nobody has looked
    bint is_whole  # likewise: whether it is stored whole; else, when its base isn't sent, that one's number
    int64_t elsewhere


cdef class Chains:
    cdef PackReader reader
    cdef PackTable table
    cdef object at_peer
    cdef AtPeer native  # the same, where it can be asked without the GIL
    cdef bint is_native
    cdef ThinChoice thin  # what was sent before all this
    cdef bint has_thin
    cdef object trouble  # what `at_peer` raised
    cdef list keep
    cdef Columns *files
    cdef int file_count
    cdef const int64_t *numbers
    cdef Py_ssize_t number_count
    cdef Link *links
    cdef Frame *frames
    cdef Py_ssize_t frame_room
    cdef uint32_t *target_rows  # by rank: one more than the first row of its deltas, 0 for none
    cdef uint32_t *target_files  # likewise: whose row that is
    cdef readonly Py_ssize_t target_count
    cdef int64_t first_number
    cdef int64_t range  # from the first number to the last
    cdef uint64_t *marks  # a bit for each number of the range; NULL where there are few in it
    cdef uint32_t *marked_before  # how many in the words before each
    cdef const Row *rows  # the copier's, of each share by offset
    cdef const Share *shares
    cdef int share_count
    cdef uint32_t *places  # by rank: which row it is

    cdef Py_ssize_t rank_of(self, int64_t number) noexcept nogil
    cdef bint is_target(self, Py_ssize_t rank) noexcept nogil
    cdef Fault choose(self, Py_ssize_t rank) noexcept nogil
    cdef int lay_out(self, const Row *rows, const Share *shares, int share_count) except -1

    cdef Py_ssize_t find_row(self, const Columns *file, const uint8_t *oid, Py_ssize_t low) noexcept nogil
    cdef void mark_numbers(self) noexcept nogil
    cdef void mark_targets(self) noexcept nogil
    cdef int ask_peer(self, int64_t number) noexcept with gil
    cdef int push(self, Py_ssize_t depth, int64_t rank) noexcept nogil
    cdef void find_deltas(self, Frame *frame) noexcept nogil
    cdef Fault find_stored(self, Frame *frame) noexcept nogil
    cdef Fault find_limit(self, Py_ssize_t depth) noexcept nogil
    cdef uint64_t stored_bytes(self, Py_ssize_t rank) noexcept nogil
    cdef int peer_has(self, int64_t number) noexcept nogil
    cdef Fault read_head(self, const Pack *pack, uint64_t offset, Entry *entry) noexcept nogil
    cdef int depth_of(self, int64_t rank) noexcept nogil
    cdef Fault try_deltas(self, Py_ssize_t depth, int64_t *next) noexcept nogil
    cdef void take(self, Frame *frame, int64_t base, int depth) noexcept nogil
    cdef Fault settle_stored(self, Frame *frame, int64_t *next) noexcept nogil
