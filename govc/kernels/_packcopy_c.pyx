# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: libraries = z
"""Copying entries, compiled; the story is in `packcopy`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy



from govc.kernels._inflate cimport Deflate, crc_of, find_deflate
from govc.kernels._packread_c cimport (
    FINE,
    IO_ERROR,
    NO_MEMORY,
    SHORTER,
    Entry,
    Fault,
    Node,
    Pack,
    PackReader,
    PackTable,
    be32,
)


from array import array


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


DEF SPAN_MAX = 1 << 20
DEF GAP_MAX = 1 << 14
DEF IMPROVED_BYTES_MIN = 2048
DEF IMPROVED_MAX = 64
DEF READY_SPAN = 1 << 16

cdef Deflate deflate_functions
find_deflate(&deflate_functions)


cdef extern from "dlfcn.h" nogil:
    int RTLD_NOW
    void *dlopen(const char *name, int flags)
    void *dlsym(void *library, const char *name)


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


cdef struct Row:
    uint64_t offset
    uint64_t end
    uint64_t out  # where the entry begins in the new pack; 0 before it is out
    int64_t number


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


cdef struct Share:  # the rows of one pack
    int pack
    Py_ssize_t first
    Py_ssize_t count
    int is_whole


cdef int by_offset(const void *a, const void *b) noexcept nogil:
    cdef uint64_t one = (<const Row *>a).offset, other = (<const Row *>b).offset
    return -1 if one < other else 1 if one > other else 0


cdef class PackCopier:
    """See packcopy.PackCopier."""

    cdef PackReader reader
    cdef PackTable table
    cdef object at_peer
    cdef object make_delta
    cdef dict forward
    cdef Row *rows
    cdef Py_ssize_t row_count
    cdef Share *shares
    cdef int share_count
    cdef int share  # the one whose turn it is
    cdef Py_ssize_t row  # the next one, in the whole table
    cdef uint64_t body_at  # of a whole pack: what is next
    cdef uint64_t out_offset
    cdef uint64_t tail_at
    cdef uint64_t tail_end
    cdef int tail_fd
    cdef int64_t *forward_numbers  # ascending
    cdef Py_ssize_t forward_count
    cdef uint8_t *span
    cdef uint64_t span_start
    cdef Py_ssize_t span_size
    cdef int span_pack
    cdef uint8_t *out
    cdef Py_ssize_t out_size
    cdef Py_ssize_t out_room
    cdef z_stream *deflater
    cdef void *compressor
    cdef int improved
    cdef Ready ready
    cdef object ready_source
    cdef uint8_t *ready_span  # a piece of its file
    cdef uint64_t ready_start
    cdef uint64_t ready_size
    cdef readonly Py_ssize_t reused
    cdef readonly Py_ssize_t expanded
    cdef readonly Py_ssize_t taken_ready

    def __cinit__(self, PackReader reader not None, const uint8_t[::1] numbers not None, at_peer, forward, int level, make_delta=None, ready=None):
        cdef Py_ssize_t n = numbers.shape[0] // 8, k
        cdef const int64_t *values = <const int64_t *>&numbers[0] if n else NULL
        cdef int i
        self.reader = reader
        self.table = reader.table
        self.at_peer = at_peer
        self.make_delta = make_delta
        self.ready.fd = -1
        if ready is not None:
            self.open_ready(ready)
        self.forward = dict(forward)
        self.out_offset = 12
        self.span_pack = -1
        self.row_count = n
        self.rows = <Row *>malloc(sizeof(Row) * (n + 1))
        self.shares = <Share *>malloc(sizeof(Share) * (self.table.pack_count + 1))
        self.span = <uint8_t *>malloc(SPAN_MAX)
        if self.rows == NULL or self.shares == NULL or self.span == NULL:
            raise MemoryError
        self.deflater = <z_stream *>malloc(sizeof(z_stream))
        if self.deflater == NULL:
            raise MemoryError
        if allocate_compressor != NULL:
            self.compressor = allocate_compressor(level if level >= 0 else 6)
        import_zero(self.deflater)
        if deflateInit(self.deflater, level) != Z_OK:
            free(self.deflater)
            self.deflater = NULL
            raise MemoryError
        self.forward_numbers = <int64_t *>malloc(8 * (len(self.forward) + 1))
        if self.forward_numbers == NULL:
            raise MemoryError
        for number in sorted(self.forward):
            self.forward_numbers[self.forward_count] = number
            self.forward_count += 1
        with nogil:
            k = self.find_shares(values, n)
        if k < n:
            if k and values[k] <= values[k - 1] or values[k] < 0:
                raise ValueError("numbers must ascend")
            raise IndexError(values[k])
        for i in range(self.share_count):
            self.table.make_order(&self.table.packs[self.shares[i].pack])
        with nogil:
            for i in range(self.share_count):
                self.arrange(&self.shares[i])

    def __dealloc__(self):
        free(self.rows)
        free(self.shares)
        free(self.span)
        free(self.ready_span)
        free(self.out)
        free(self.forward_numbers)
        if self.compressor != NULL:
            free_compressor(self.compressor)
        if self.deflater != NULL:
            deflateEnd(self.deflater)
            free(self.deflater)

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
        if share.is_whole or share.count > <Py_ssize_t>pack.count // 16:
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

    cdef Fault read_span(self, Row *row, const Share *share) noexcept nogil:
        """Have the beginning of an entry in the span, and with one read what follows closely and is sent as well."""
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef Row *last = self.rows + share.first + share.count
        cdef Row *other = row + 1
        cdef uint64_t end = row.end
        cdef Py_ssize_t done = 0
        cdef ssize_t n
        if self.span_pack == share.pack and row.offset >= self.span_start and (
            row.end <= self.span_start + self.span_size
        ):
            return FINE
        if row.offset >= pack.size:
            self.reader.fault_at = row.offset
            return SHORTER
        while other < last and other.offset - end < GAP_MAX and other.end - row.offset <= SPAN_MAX:
            end = other.end
            other += 1
        if end - row.offset > SPAN_MAX:
            end = row.offset + SPAN_MAX
        self.span_pack = -1
        while done < <Py_ssize_t>(end - row.offset):
            n = pread(pack.fd, self.span + done, <size_t>(end - row.offset) - done, <int64_t>(row.offset + done))
            if n < 0:
                if errno == EINTR:
                    continue
                return IO_ERROR
            if n == 0:
                self.reader.fault_at = row.offset + done
                return SHORTER
            done += n
        self.span_pack = share.pack
        self.span_start = row.offset
        self.span_size = done
        return FINE

    cdef Row *find_row(self, int64_t number, uint64_t offset, const Share *share) noexcept nogil:
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

    cdef Row *find_base(self, const Share *share, uint64_t offset, int64_t *number) noexcept nogil:
        """Return the row of a delta's base; when it isn't sent, NULL and its number, -1 for none."""
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef Row *row = self.find_row(0, offset, share)
        cdef uint32_t rank
        cdef int i, home
        cdef const Pack *other
        if row != NULL:
            return row
        number[0] = -1
        rank = self.table.rank_of(pack, offset)
        if rank == pack.count:
            return NULL
        # The same object may have its number in an earlier pack.
        number[0] = self.table.find_number(pack.oids + <Py_ssize_t>be32(pack.order + 4 * <Py_ssize_t>rank) * self.table.oid_size)
        home = self.table.pack_of(number[0])
        if home == share.pack:
            return NULL
        other = &self.table.packs[home]
        for i in range(self.share_count):
            if self.shares[i].pack == home:
                return self.find_row(number[0], self.table.offset_at(other, <uint32_t>(number[0] - other.first)), &self.shares[i])
        return NULL

    cdef Fault copy_stream(self, const Share *share, const Row *row, uint64_t data) noexcept nogil:
        """Copy an entry's zlib stream, which begins at `data` of the file."""
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef uint64_t there = self.span_start + self.span_size, at
        if there > row.end:
            there = row.end
        if self.put(self.span + (data - self.span_start), <Py_ssize_t>(there - data)):
            return NO_MEMORY
        at = there
        self.tail_at = at  # an entry beyond the span follows piece by piece
        self.tail_end = row.end
        self.tail_fd = pack.fd
        return FINE

    cdef Fault add_tail(self, Py_ssize_t chunk_bytes) noexcept nogil:
        """Add the next piece of an entry that the span didn't hold."""
        cdef uint64_t want = self.tail_end - self.tail_at
        cdef ssize_t n
        if want > <uint64_t>chunk_bytes:
            want = <uint64_t>chunk_bytes
        if self.make_room(want):
            return NO_MEMORY
        n = pread(self.tail_fd, self.out + self.out_size, want, <int64_t>self.tail_at)
        if n < 0:
            return FINE if errno == EINTR else IO_ERROR
        if n == 0:
            self.reader.fault_at = self.tail_at
            return SHORTER
        self.out_size += n
        self.out_offset += n
        self.tail_at += n
        return FINE

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
            deflateReset(self.deflater)
            bound = deflateBound(self.deflater, node.size)
        if self.make_room(bound):
            self.reader.release(node)
            return NO_MEMORY
        if self.compressor != NULL:
            done = compress_whole(self.compressor, node.data, node.size, self.out + self.out_size, bound)
            self.out_size += <Py_ssize_t>done
            self.out_offset += done
            self.reader.release(node)
            return FINE if done else NO_MEMORY
        self.deflater.next_out = self.out + self.out_size
        self.deflater.avail_out = <unsigned int>bound
        self.deflater.next_in = node.data
        self.deflater.avail_in = <unsigned int>node.size
        code = deflate(self.deflater, Z_FINISH)
        done = self.deflater.next_out - (self.out + self.out_size)
        self.out_size += <Py_ssize_t>done
        self.out_offset += done
        self.reader.release(node)
        return FINE if code == Z_STREAM_END else NO_MEMORY

    cdef Fault add_row(self, Row *row, const Share *share, int *ask) noexcept nogil:
        """Add one entry. Sets `ask` when Python must choose: the entry is whole, or its base isn't sent."""
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef Entry entry
        cdef Row *base
        cdef int64_t number = -1
        cdef Fault fault = self.read_span(row, share)
        cdef Py_ssize_t there
        if fault != FINE:
            return fault
        there = self.span_size - <Py_ssize_t>(row.offset - self.span_start)
        fault = self.reader.parse(pack, row.offset, self.span + (row.offset - self.span_start), there, &entry)
        if fault != FINE:
            return fault
        if entry.data > row.end:
            self.reader.fault_at = row.offset
            return SHORTER
        if entry.type_number >= 6:
            base = self.find_base(share, <uint64_t>entry.base, &number)
            if base == NULL:
                ask[0] = 1
                return FINE
            row.out = self.out_offset
            if base.out:
                if self.put_head(6, entry.size) or self.put_distance(row.out - base.out):
                    return NO_MEMORY
            elif self.put_head(7, entry.size) or self.put(self.table.oid_at(base.number), self.table.oid_size):
                return NO_MEMORY
        else:
            if ask[0] == 0 and self.has_forward(row.number):
                ask[0] = 1
                return FINE
            ask[0] = 0
            row.out = self.out_offset
            if self.put_head(entry.type_number, entry.size):
                return NO_MEMORY
        self.reused += 1
        return self.copy_stream(share, row, entry.data)

    cdef bint has_forward(self, int64_t number) noexcept nogil:
        cdef Py_ssize_t low = 0, high = self.forward_count, middle
        while low < high:
            middle = (low + high) >> 1
            if self.forward_numbers[middle] < number:
                low = middle + 1
            else:
                high = middle
        return low < self.forward_count and self.forward_numbers[low] == number

    cdef Fault add_asked(self, Row *row, const Share *share) except *:
        """Add an entry for which Python's word is needed."""
        cdef Entry entry
        cdef int64_t number = -1
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef Fault fault
        cdef int ask = 1
        cdef const uint8_t *base_name
        cdef bytes name, stream
        delta = self.forward.get(row.number)
        if delta is None:
            fault = self.reader.parse(
                pack, row.offset, self.span + (row.offset - self.span_start),
                self.span_size - <Py_ssize_t>(row.offset - self.span_start), &entry,
            )
            if fault != FINE:
                return fault
            if entry.type_number < 6:
                return self.add_row(row, share, &ask)
            self.find_base(share, <uint64_t>entry.base, &number)
            is_thin = number >= 0 and self.at_peer is not None and self.at_peer(number)
            if is_thin and self.make_delta is not None and row.end - row.offset > IMPROVED_BYTES_MIN and self.improved < IMPROVED_MAX:
                # A large delta on something old: one on a nearer version may be a fraction of it.
                self.improved += 1
                delta = self.make_delta(row.number)
                if delta is not None and <uint64_t>len(delta[2]) * 2 > row.end - row.offset:
                    delta = None
            if delta is None and is_thin:
                row.out = self.out_offset
                base_name = self.table.oid_at(number)
                if self.put_head(7, entry.size) or self.put(base_name, self.table.oid_size):
                    return NO_MEMORY
                self.reused += 1
                return self.copy_stream(share, row, entry.data)
            if delta is None and self.make_delta is not None:
                delta = self.make_delta(row.number)
            if delta is None:
                row.out = self.out_offset
                with nogil:
                    fault = self.expand(row.number)
                return fault
        name, size, stream = delta
        row.out = self.out_offset
        if self.put_head(7, size) or self.put(<const uint8_t *>PyBytes_AS_STRING(name), self.table.oid_size):
            return NO_MEMORY
        if self.put(<const uint8_t *>PyBytes_AS_STRING(stream), len(stream)):
            return NO_MEMORY
        self.reused += 1
        return FINE

    cdef Fault add_body(self, const Share *share, Py_ssize_t chunk_bytes) noexcept nogil:
        """Add a piece of a whole pack's body."""
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef uint64_t end = pack.size - self.table.oid_size, want
        cdef Py_ssize_t k
        cdef ssize_t n
        if self.body_at == 0:
            self.body_at = 12
            for k in range(share.count):  # where its objects come to lie, for deltas in later packs
                self.rows[share.first + k].out = self.out_offset + self.rows[share.first + k].offset - 12
        want = end - self.body_at
        if want > <uint64_t>chunk_bytes:
            want = <uint64_t>chunk_bytes
        if self.make_room(want):
            return NO_MEMORY
        n = pread(pack.fd, self.out + self.out_size, want, <int64_t>self.body_at)
        if n < 0:
            return FINE if errno == EINTR else IO_ERROR
        if n == 0:
            self.reader.fault_at = self.body_at
            return SHORTER
        self.out_size += n
        self.out_offset += n
        self.body_at += n
        return FINE

    def next_chunk(self, Py_ssize_t chunk_bytes):
        """See packcopy.PackCopier."""
        cdef Fault fault = FINE
        cdef Share *share
        cdef int ask = 0
        self.out_size = 0
        while fault == FINE and self.out_size < chunk_bytes:
            if self.tail_at < self.tail_end:
                with nogil:
                    fault = self.add_tail(chunk_bytes)
                continue
            if self.share == self.share_count:
                break
            share = &self.shares[self.share]
            if share.is_whole and not self.forward_count:
                with nogil:
                    fault = self.add_body(share, chunk_bytes)
                if self.body_at == self.table.packs[share.pack].size - self.table.oid_size:
                    self.reused += share.count
                    self.body_at = 0
                    self.row += share.count
                    self.share += 1
                continue
            ask = 0
            with nogil:
                while fault == FINE and self.out_size < chunk_bytes and self.row < share.first + share.count:
                    fault = self.add_row(&self.rows[self.row], share, &ask)
                    if ask or fault != FINE:
                        break
                    self.row += 1
                    if self.tail_at < self.tail_end:
                        break
            if fault == FINE and ask:
                fault = self.add_asked(&self.rows[self.row], share)
                self.row += 1
            if self.row == share.first + share.count:
                self.share += 1
        if fault != FINE:
            self.reader.fail(fault)
        return PyBytes_FromStringAndSize(<const char *>self.out, self.out_size)


cdef void import_zero(z_stream *stream) noexcept:
    cdef uint8_t *at = <uint8_t *>stream
    cdef size_t i
    for i in range(sizeof(z_stream)):
        at[i] = 0


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
