# The columns of a graph and their loader, for history's other parts; the story is in history.py.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from govc.kernels._packread_c cimport PackReader, PackTable


cdef class Block:
    cdef uint32_t room
    cdef uint32_t parent_room
    cdef uint64_t mask
    cdef int size
    cdef uint8_t *oids
    cdef uint8_t *trees
    cdef int64_t *times
    cdef uint32_t *starts
    cdef uint32_t *parents
    cdef uint32_t *slots

    cdef uint32_t find(self, const uint8_t *oid) noexcept
    cdef void enter(self, uint32_t cid) noexcept


cdef class Columns:
    cdef Block block
    cdef readonly uint32_t count
    cdef readonly int oid_size

    cdef Block room_for(self, uint32_t rows, uint32_t links)
    cdef uint32_t check(self, int64_t cid) except? 0xFFFFFFFF


cdef struct Layer:
    const uint8_t *fanout
    const uint8_t *oids
    const uint8_t *data
    const uint8_t *edges
    uint32_t edge_count
    uint32_t count
    uint32_t first


cdef class Loader:
    cdef Columns graph
    cdef PackReader reader
    cdef PackTable table
    cdef object read
    cdef dict replaced
    cdef int size
    cdef Block met  # their names, and trees and times once they are read; `starts` and `parents` are not used
    cdef uint32_t count
    cdef uint32_t *starts
    cdef uint32_t *links  # parents: a row, or a cid with the highest bit set
    cdef uint32_t link_count
    cdef uint32_t link_room
    cdef Layer layers[64]
    cdef int layer_count
    cdef list keep

    cdef uint32_t meet(self, const uint8_t *oid) except? 0xFFFFFFFF
    cdef int link(self, const uint8_t *oid) except -1
    cdef int fill(self, uint32_t row) except -1
    cdef bint parse(self, uint32_t row, const uint8_t *data, Py_ssize_t length) except -1
    cdef bint fill_from_file(self, uint32_t row, const uint8_t *oid) except -1
    cdef int link_position(self, uint32_t position) except -1
    cdef int finish(self) except -1
