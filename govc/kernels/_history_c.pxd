# What other kernels use of the graph; the story is in history.py.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef struct View:
    uint32_t count
    const int64_t *times
    const uint32_t *starts
    const uint32_t *parents


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


cdef class Graph:
    cdef Block block
    cdef readonly uint32_t count
    cdef readonly int oid_size

    cdef Block room_for(self, uint32_t rows, uint32_t links)
    cdef uint32_t check(self, int64_t cid) except? 0xFFFFFFFF
    cdef View view(self)
    cdef uint32_t mark_tips(self, const uint32_t[::1] cids, uint8_t *marks, uint8_t mark, uint32_t top) except? 0xFFFFFFFF
    cdef int check_all(self, const uint32_t[::1] cids) except -1
