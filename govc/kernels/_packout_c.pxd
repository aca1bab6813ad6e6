# What the copier uses of the bytes that it sends; the story is in the .pyx.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from govc.kernels._packread_c cimport Fault, PackReader, PackTable


cdef struct Ready:  # columns of a file of ready entries; fd -1 for none
    int fd
    Py_ssize_t count
    uint64_t end  # of the streams
    const uint64_t *offsets
    const uint32_t *lengths
    const uint32_t *sizes
    const uint32_t *checksums
    const uint8_t *types
    const uint8_t *names


cdef class PackOut:
    cdef PackReader reader
    cdef PackTable table
    cdef uint8_t *out  # what the chunk has so far
    cdef Py_ssize_t out_size
    cdef Py_ssize_t out_room
    cdef uint64_t out_offset  # where in the new pack it ends
    cdef void *deflater  # zlib's stream
    cdef void *compressor  # of libdeflate, NULL where that isn't installed
    cdef Ready ready
    cdef object ready_source
    cdef uint8_t *ready_span  # a piece of its file
    cdef uint64_t ready_start
    cdef uint64_t ready_size
    cdef readonly Py_ssize_t expanded
    cdef readonly Py_ssize_t taken_ready

    cdef int begin(self, PackReader reader, int level, ready) except -1
    cdef int put(self, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef int put_head(self, int type_number, uint64_t size) noexcept nogil
    cdef int put_distance(self, uint64_t distance) noexcept nogil
    cdef int make_room(self, uint64_t size) noexcept nogil
    cdef Fault expand(self, int64_t number) noexcept nogil
    cdef int open_ready(self, source) except -1
    cdef Py_ssize_t find_ready(self, int64_t number) noexcept nogil
    cdef bint read_ready(self, uint64_t offset, uint64_t length, uint8_t *out) noexcept nogil
    cdef bint put_ready(self, int64_t number) noexcept nogil
