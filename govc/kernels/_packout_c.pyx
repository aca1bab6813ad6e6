# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: libraries = z
"""The bytes of a pack to send, as they come to lie: headers of entries, what is added to them, whole objects.

A whole object comes out of the file of ready entries, if there is one (`odb.ready`) and it has it, as it lies; else it
is read and compressed: by libdeflate where that is installed, else by zlib. What is ready is believed when its checksum
is right. Which entries there are, and where they come from, is for `_packcopy_c` to say: its PackCopier is a PackOut.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from govc.kernels._inflate cimport RTLD_NOW, Deflate, crc_of, dlopen, dlsym, find_deflate
from govc.kernels._packread_c cimport FINE, NO_MEMORY, Fault, Node, PackReader


cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void *buf, size_t count, int64_t offset)


cdef extern from "zlib.h" nogil:
    ctypedef struct z_stream:
        const uint8_t *next_in
        unsigned int avail_in
        uint8_t *next_out
        unsigned int avail_out
    int deflateInit(z_stream *, int level)
    int deflateReset(z_stream *)
    int deflateEnd(z_stream *)
    int deflate(z_stream *, int)
    unsigned long deflateBound(z_stream *, unsigned long)
    int Z_OK, Z_STREAM_END, Z_FINISH


DEF READY_SPAN = 1 << 16

cdef Deflate deflate_functions
find_deflate(&deflate_functions)


# libdeflate's compressor, found at run time as in _inflate.pxd: twice as fast as zlib's.
ctypedef void *(*allocate_compressor_t)(int) noexcept nogil
ctypedef void (*free_compressor_t)(void *) noexcept nogil
ctypedef size_t (*compress_t)(void *, const void *, size_t, void *, size_t) noexcept nogil
ctypedef size_t (*bound_t)(void *, size_t) noexcept nogil

cdef allocate_compressor_t allocate_compressor = NULL
cdef free_compressor_t free_compressor = NULL
cdef compress_t compress_whole = NULL
cdef bound_t bound_of_whole = NULL


cdef void find_compressor() noexcept:
    global allocate_compressor, free_compressor, compress_whole, bound_of_whole
    cdef void *library = dlopen("libdeflate.so.0", RTLD_NOW)
    if library == NULL:
        library = dlopen("libdeflate.0.dylib", RTLD_NOW)
    if library == NULL:
        return
    free_compressor = <free_compressor_t>dlsym(library, "libdeflate_free_compressor")
    compress_whole = <compress_t>dlsym(library, "libdeflate_zlib_compress")
    bound_of_whole = <bound_t>dlsym(library, "libdeflate_zlib_compress_bound")
    if free_compressor != NULL and compress_whole != NULL and bound_of_whole != NULL:
        allocate_compressor = <allocate_compressor_t>dlsym(library, "libdeflate_alloc_compressor")


find_compressor()


cdef class PackOut:
    """See above; for one thread at a time."""

    cdef int begin(self, PackReader reader, int level, ready) except -1:
        """Have what the first bytes need; those of the pack's header are out before."""
        cdef z_stream *deflater
        self.reader = reader
        self.table = reader.table
        self.out_offset = 12
        self.ready.fd = -1
        if ready is not None:
            self.open_ready(ready)
        if allocate_compressor != NULL:
            self.compressor = allocate_compressor(level if level >= 0 else 6)
        deflater = <z_stream *>malloc(sizeof(z_stream))
        if deflater == NULL:
            raise MemoryError
        memset(deflater, 0, sizeof(z_stream))
        if deflateInit(deflater, level) != Z_OK:
            free(deflater)
            raise MemoryError
        self.deflater = deflater
        return 0

    def __dealloc__(self):
        free(self.ready_span)
        free(self.out)
        if self.compressor != NULL:
            free_compressor(self.compressor)
        if self.deflater != NULL:
            deflateEnd(<z_stream *>self.deflater)
            free(self.deflater)

    cdef int put(self, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        cdef uint8_t *more
        if self.out_size + size > self.out_room:
            more = <uint8_t *>realloc(self.out, 2 * self.out_room + size + 4096)
            if more == NULL:
                return -1
            self.out = more
            self.out_room = 2 * self.out_room + size + 4096
        if size:
            memcpy(self.out + self.out_size, data, size)
        self.out_size += size
        self.out_offset += size
        return 0

    cdef int put_head(self, int type_number, uint64_t size) noexcept nogil:
        cdef uint8_t head[12]
        cdef int n = 0
        cdef uint8_t byte = <uint8_t>((type_number << 4) | (size & 15))
        size >>= 4
        while size:
            head[n] = byte | 0x80
            n += 1
            byte = size & 0x7F
            size >>= 7
        head[n] = byte
        return self.put(head, n + 1)

    cdef int put_distance(self, uint64_t distance) noexcept nogil:
        cdef uint8_t text[12]
        cdef int at = 11
        text[at] = distance & 0x7F
        distance >>= 7
        while distance:
            distance -= 1
            at -= 1
            text[at] = 0x80 | (distance & 0x7F)
            distance >>= 7
        return self.put(text + at, 12 - at)

    cdef int make_room(self, uint64_t size) noexcept nogil:
        cdef uint8_t *more
        if self.out_size + <Py_ssize_t>size > self.out_room:
            more = <uint8_t *>realloc(self.out, self.out_size + size)
            if more == NULL:
                return -1
            self.out = more
            self.out_room = self.out_size + <Py_ssize_t>size
        return 0

    cdef Fault expand(self, int64_t number) noexcept nogil:
        """Add an object that is ready, else one read and compressed anew."""
        cdef Node *node = NULL
        cdef z_stream *deflater = <z_stream *>self.deflater
        cdef Fault fault
        cdef unsigned long bound
        cdef uint64_t done = 0
        cdef int code
        if self.ready.fd >= 0 and self.put_ready(number):
            return FINE
        fault = self.reader.load(number, &node)
        if fault != FINE:
            return fault
        self.expanded += 1
        if self.put_head(node.type_number, node.size):
            self.reader.release(node)
            return NO_MEMORY
        if self.compressor != NULL:
            bound = bound_of_whole(self.compressor, node.size)
        else:
            deflateReset(deflater)
            bound = deflateBound(deflater, node.size)
        if self.make_room(bound):
            self.reader.release(node)
            return NO_MEMORY
        if self.compressor != NULL:
            done = compress_whole(self.compressor, node.data, node.size, self.out + self.out_size, bound)
            self.out_size += <Py_ssize_t>done
            self.out_offset += done
            self.reader.release(node)
            return FINE if done else NO_MEMORY
        deflater.next_out = self.out + self.out_size
        deflater.avail_out = <unsigned int>bound
        deflater.next_in = node.data
        deflater.avail_in = <unsigned int>node.size
        code = deflate(deflater, Z_FINISH)
        done = deflater.next_out - (self.out + self.out_size)
        self.out_size += <Py_ssize_t>done
        self.out_offset += done
        self.reader.release(node)
        return FINE if code == Z_STREAM_END else NO_MEMORY

    cdef int open_ready(self, source) except -1:
        cdef const uint8_t[::1] columns = source.columns
        cdef Py_ssize_t n = source.entry_count
        if n <= 0 or columns.shape[0] < n * (21 + self.table.oid_size):
            return 0
        self.ready_span = <uint8_t *>malloc(READY_SPAN)
        if self.ready_span == NULL:
            raise MemoryError
        self.ready_source = (source, columns)
        self.ready.count = n
        self.ready.end = source.columns_at
        self.ready.offsets = <const uint64_t *>&columns[0]
        self.ready.lengths = <const uint32_t *>&columns[8 * n]
        self.ready.sizes = <const uint32_t *>&columns[12 * n]
        self.ready.checksums = <const uint32_t *>&columns[16 * n]
        self.ready.types = &columns[20 * n]
        self.ready.names = &columns[21 * n]
        self.ready.fd = source.descriptor
        return 0

    cdef Py_ssize_t find_ready(self, int64_t number) noexcept nogil:
        cdef const uint8_t *name = self.table.oid_at(number)
        cdef Py_ssize_t low = 0, high = self.ready.count, middle
        cdef int size = self.table.oid_size, order
        while low < high:
            middle = (low + high) >> 1
            order = memcmp(self.ready.names + middle * size, name, size)
            if order == 0:
                return middle
            if order < 0:
                low = middle + 1
            else:
                high = middle
        return -1

    cdef bint read_ready(self, uint64_t offset, uint64_t length, uint8_t *out) noexcept nogil:
        """Read a stream; of small ones, which mostly follow each other, the next ones with it."""
        cdef uint64_t want
        cdef ssize_t n
        if length <= READY_SPAN:
            if offset < self.ready_start or offset + length > self.ready_start + self.ready_size:
                want = self.ready.end - offset if self.ready.end - offset < READY_SPAN else READY_SPAN
                self.ready_size = 0
                n = pread(self.ready.fd, self.ready_span, want, <int64_t>offset)
                if n < <ssize_t>length:
                    return False
                self.ready_start = offset
                self.ready_size = <uint64_t>n
            memcpy(out, self.ready_span + (offset - self.ready_start), length)
            return True
        while length:
            n = pread(self.ready.fd, out, length, <int64_t>offset)
            if n <= 0:
                return False
            out += n
            offset += n
            length -= n
        return True

    cdef bint put_ready(self, int64_t number) noexcept nogil:
        """Add an object from the file of ready entries; False when it isn't there, or isn't what it was."""
        cdef Py_ssize_t rank = self.find_ready(number)
        cdef uint64_t offset, length
        cdef Py_ssize_t size_before = self.out_size
        cdef uint64_t offset_before = self.out_offset
        cdef int type_number
        if rank < 0:
            return False
        offset = self.ready.offsets[rank]
        length = self.ready.lengths[rank]
        type_number = self.ready.types[rank]
        if offset > self.ready.end or length > self.ready.end - offset or not 1 <= type_number <= 4:
            return False
        if self.put_head(type_number, self.ready.sizes[rank]) or self.make_room(length) or (
            not self.read_ready(offset, length, self.out + self.out_size)
            or crc_of(&deflate_functions, 0, self.out + self.out_size, length) != self.ready.checksums[rank]
        ):
            self.out_size = size_before
            self.out_offset = offset_before
            return False
        self.out_size += <Py_ssize_t>length
        self.out_offset += length
        self.taken_ready += 1
        return True
