# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: libraries = z
"""Copying entries, compiled; the story is in `packcopy`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy

from govc.kernels._chains_c cimport Chains, Columns, Link, Row, Share
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
from govc.kernels._sweep_c cimport AtPeer

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
DEF ASIDE_MAX = 1 << 16
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


cdef struct Span:  # what was read of a pack
    uint8_t *data
    uint64_t start
    Py_ssize_t size
    int pack  # -1: nothing


cdef struct Waiting:  # a row that must be out before others, and where it belongs
    Row *row
    Share *share


cdef int by_offset(const void *a, const void *b) noexcept nogil:
    cdef uint64_t one = (<const Row *>a).offset, other = (<const Row *>b).offset
    return -1 if one < other else 1 if one > other else 0


cdef class PackCopier:
    """See packcopy.PackCopier."""

    cdef PackReader reader
    cdef PackTable table
    cdef object at_peer
    cdef AtPeer native  # the same, where it can be asked without the GIL
    cdef bint is_native
    cdef object make_delta
    cdef bint can_make
    cdef bint asks  # whether Python may have something for a delta on what isn't sent
    cdef Chains chains
    cdef bint has_chains  # whether some forward delta may stand for something
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
    cdef Span ahead  # of the rows whose turn it is, in their order
    cdef Span aside  # of one that comes before its turn
    cdef Waiting *waiting
    cdef Py_ssize_t waiting_count
    cdef Py_ssize_t waiting_room
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
        if isinstance(at_peer, AtPeer):
            self.native = at_peer
            self.is_native = True
        self.make_delta = make_delta
        self.can_make = make_delta is not None
        self.asks = at_peer is not None or make_delta is not None
        self.ready.fd = -1
        if ready is not None:
            self.open_ready(ready)
        self.out_offset = 12
        self.ahead.pack = self.aside.pack = -1
        self.row_count = n
        self.rows = <Row *>malloc(sizeof(Row) * (n + 1))
        self.shares = <Share *>malloc(sizeof(Share) * (self.table.pack_count + 1))
        self.ahead.data = <uint8_t *>malloc(SPAN_MAX)
        self.aside.data = <uint8_t *>malloc(ASIDE_MAX)
        if self.rows == NULL or self.shares == NULL or self.ahead.data == NULL or self.aside.data == NULL:
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
        if forward and at_peer is not None and n:
            self.chains = Chains(reader, numbers, at_peer, forward)
            self.has_chains = self.chains.target_count > 0
            if self.has_chains:
                self.chains.lay_out(self.rows, self.shares, self.share_count)

    def __dealloc__(self):
        free(self.rows)
        free(self.shares)
        free(self.ready_span)
        free(self.ahead.data)
        free(self.aside.data)
        free(self.waiting)
        free(self.out)
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
        if share.is_whole or share.count > <Py_ssize_t>pack.count // 64:
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

    cdef Fault read_ahead(self, Row *row, const Share *share) noexcept nogil:
        """Have the beginning of an entry, and with one read what follows closely and is sent as well."""
        cdef Row *last = self.rows + share.first + share.count
        cdef Row *other = row + 1
        cdef uint64_t end = row.end
        if self.ahead.pack == share.pack and row.offset >= self.ahead.start and (
            row.end <= self.ahead.start + self.ahead.size
        ):
            return FINE
        while other < last and other.offset - end < GAP_MAX and other.end - row.offset <= SPAN_MAX:
            end = other.end
            other += 1
        if end - row.offset > SPAN_MAX:
            end = row.offset + SPAN_MAX
        return self.read_span(&self.ahead, row, share, end)

    cdef Fault read_span(self, Span *span, const Row *row, const Share *share, uint64_t end) noexcept nogil:
        """Read from the beginning of an entry to `end`."""
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef Py_ssize_t done = 0
        cdef ssize_t n
        if row.offset >= pack.size:
            self.reader.fault_at = row.offset
            return SHORTER
        span.pack = -1
        while done < <Py_ssize_t>(end - row.offset):
            n = pread(pack.fd, span.data + done, <size_t>(end - row.offset) - done, <int64_t>(row.offset + done))
            if n < 0:
                if errno == EINTR:
                    continue
                return IO_ERROR
            if n == 0:
                self.reader.fault_at = row.offset + done
                return SHORTER
            done += n
        span.pack = share.pack
        span.start = row.offset
        span.size = done
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

    cdef Row *find_before(self, const Row *near, uint64_t offset, const Share *share) noexcept nogil:
        """Return the row that begins at `offset`, somewhere before `near`: close by, mostly, and so are the looks."""
        cdef Py_ssize_t low, high = near - self.rows, step = 1, middle
        while True:
            if high == share.first:
                return NULL
            low = share.first if high - share.first <= step else high - step
            if self.rows[low].offset <= offset:
                break
            high = low
            step <<= 1
        while high - low > 1:
            middle = (low + high) >> 1
            if self.rows[middle].offset <= offset:
                low = middle
            else:
                high = middle
        return &self.rows[low] if self.rows[low].offset == offset else NULL

    cdef Row *find_base(self, const Row *delta, const Share *share, uint64_t offset, int64_t *number) noexcept nogil:
        """Return the row of a delta's base; when it isn't sent, NULL and its number if Python is to be asked, -1 for
        none.
        """
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef Row *row
        cdef uint32_t rank
        cdef int i, home
        cdef const Pack *other
        if offset < delta.offset:
            row = self.find_before(delta, offset, share)
        else:
            row = self.find_row(0, offset, share)
        if row != NULL:
            return row
        number[0] = -1
        if share.pack == 0 and not self.asks:
            return NULL
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

    cdef Fault copy_stream(self, const Span *span, const Share *share, const Row *row, uint64_t data) noexcept nogil:
        """Copy an entry's zlib stream, which begins at `data` of the file."""
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef uint64_t there = span.start + span.size, at
        if there > row.end:
            there = row.end
        if self.put(span.data + (data - span.start), <Py_ssize_t>(there - data)):
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

    cdef Fault add_row(self, Row *row, const Share *share, Span *span, int *ask, Row **first) noexcept nogil:
        """Add one entry. Sets `ask` when Python must choose, for its base isn't sent; `first` to a base that must be out
        before it: by name a client that happens to have that base as well may take either, and git's refuses the pack.
        """
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef Entry entry
        cdef Row *base
        cdef int64_t number = -1
        cdef Fault fault
        if self.has_chains:
            fault = self.add_forward(row, first)
            if fault != FINE or row.out or first[0] != NULL:
                return fault
        if span == &self.ahead:
            fault = self.read_ahead(row, share)
        else:
            fault = self.read_span(span, row, share, row.end if row.end - row.offset < ASIDE_MAX else row.offset + ASIDE_MAX)
        if fault != FINE:
            return fault
        fault = self.parse(span, row, pack, &entry)
        if fault != FINE:
            return fault
        if entry.data > row.end:
            self.reader.fault_at = row.offset
            return SHORTER
        if entry.type_number >= 6:
            base = self.find_base(row, share, <uint64_t>entry.base, &number)
            if base == NULL and not self.asks:
                row.out = self.out_offset
                return self.expand(row.number)
            if base == NULL:
                if number < 0 or not self.is_native or self.is_improvable(row) or not self.native.has(number):
                    ask[0] = 1
                    return FINE
                row.out = self.out_offset
                if self.put_delta_head(entry.size, row, NULL, self.table.oid_at(number)):
                    return NO_MEMORY
                self.reused += 1
                return self.copy_stream(span, share, row, entry.data)
            if base.out == 0 and self.may_wait_for(base):
                first[0] = base
                return FINE
            row.out = self.out_offset
            if self.put_delta_head(entry.size, row, base, self.table.oid_at(base.number)):
                return NO_MEMORY
        else:
            row.out = self.out_offset
            if self.put_head(entry.type_number, entry.size):
                return NO_MEMORY
        self.reused += 1
        return self.copy_stream(span, share, row, entry.data)

    cdef Fault parse(self, const Span *span, const Row *row, const Pack *pack, Entry *entry) noexcept nogil:
        """Read the header of an entry whose beginning is in a span."""
        cdef Py_ssize_t at = <Py_ssize_t>(row.offset - span.start)
        return self.reader.parse(pack, row.offset, span.data + at, span.size - at, entry)

    cdef int put_delta_head(self, uint64_t size, const Row *row, const Row *base, const uint8_t *name) noexcept nogil:
        """Begin a delta: by distance when its base is out, else by name."""
        if base != NULL and base.out:
            return self.put_head(6, size) or self.put_distance(row.out - base.out)
        return self.put_head(7, size) or self.put(name, self.table.oid_size)

    cdef bint is_improvable(self, const Row *row) noexcept nogil:
        """Tell whether a delta is so large that another one is asked for."""
        return self.can_make and row.end - row.offset > IMPROVED_BYTES_MIN and self.improved < IMPROVED_MAX

    cdef bint may_wait_for(self, const Row *row) noexcept nogil:
        """Tell whether a row can be written before its turn: not one of a pack whose body is copied as it lies, and not
        one that waits already, which takes index files that contradict each other.
        """
        cdef Py_ssize_t k
        cdef const Share *share = self.share_of(row)
        if share.is_whole and not self.has_chains:
            return False
        for k in range(self.waiting_count):
            if self.waiting[k].row == row:
                return False
        return True

    cdef Share *share_of(self, const Row *row) noexcept nogil:
        cdef Py_ssize_t rank = row - self.rows
        cdef int i = 0
        while i + 1 < self.share_count and rank >= self.shares[i].first + self.shares[i].count:
            i += 1
        return &self.shares[i]

    cdef Fault wait_for(self, Row *row) noexcept nogil:
        """Have a row written next."""
        cdef Waiting *more
        if self.waiting_count == self.waiting_room:
            more = <Waiting *>realloc(self.waiting, sizeof(Waiting) * (2 * self.waiting_room + 64))
            if more == NULL:
                return NO_MEMORY
            self.waiting = more
            self.waiting_room = 2 * self.waiting_room + 64
        self.waiting[self.waiting_count].row = row
        self.waiting[self.waiting_count].share = self.share_of(row)
        self.waiting_count += 1
        return FINE

    cdef Fault add_forward(self, Row *row, Row **first) noexcept nogil:
        """Add a forward delta for an object, if there is one that will do; else `row.out` stays 0."""
        cdef Py_ssize_t rank = self.chains.rank_of(row.number)
        cdef const Link *link
        cdef const Columns *file
        cdef const uint8_t *stream
        cdef uint64_t length
        cdef Row *base
        cdef Fault fault
        if rank < 0 or not self.chains.is_target(rank):
            return FINE
        fault = self.chains.choose(rank)
        link = &self.chains.links[rank]
        if fault != FINE or link.file < 0:
            return fault
        file = &self.chains.files[link.file]
        base = self.row_of(self.chains.numbers[link.base]) if link.base >= 0 else NULL
        if base != NULL and base.out == 0 and self.may_wait_for(base):
            first[0] = base
            return FINE
        row.out = self.out_offset
        stream = file.streams + file.offsets[link.row]
        length = file.offsets[link.row + 1] - file.offsets[link.row]
        if crc_of(&deflate_functions, 0, stream, length) != file.checksums[link.row]:
            return self.expand(row.number)
        if self.put_delta_head(file.sizes[link.row], row, base, file.bases + <Py_ssize_t>link.row * self.table.oid_size):
            return NO_MEMORY
        self.reused += 1
        if self.put(stream, <Py_ssize_t>length):
            return NO_MEMORY
        return FINE

    cdef Row *row_of(self, int64_t number) noexcept nogil:
        """Return the row of an object that is sent."""
        cdef int i, home
        cdef const Pack *pack
        cdef Py_ssize_t rank
        if self.has_chains:
            rank = self.chains.rank_of(number)
            return &self.rows[self.chains.places[rank]] if rank >= 0 else NULL
        home = self.table.pack_of(number)
        if home < 0:
            return NULL
        pack = &self.table.packs[home]
        for i in range(self.share_count):
            if self.shares[i].pack == home:
                return self.find_row(number, self.table.offset_at(pack, <uint32_t>(number - pack.first)), &self.shares[i])
        return NULL

    cdef Fault add_asked(self, Row *row, const Share *share, Span *span) except *:
        """Add an entry for which Python's word is needed."""
        cdef Entry entry
        cdef int64_t number = -1
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef Fault fault
        cdef const uint8_t *base_name
        cdef bytes name, stream
        fault = self.parse(span, row, pack, &entry)
        if fault != FINE:
            return fault
        self.find_base(row, share, <uint64_t>entry.base, &number)
        is_thin = number >= 0 and self.at_peer is not None and self.at_peer(number)
        delta = None
        if is_thin and self.is_improvable(row):
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
            return self.copy_stream(span, share, row, entry.data)
        if delta is None and self.make_delta is not None:
            delta = self.make_delta(row.number)
        if delta is None:
            row.out = self.out_offset
            with nogil:
                fault = self.expand(row.number)
            return fault
        name, size, stream = delta
        row.out = self.out_offset
        base_name = <const uint8_t *>PyBytes_AS_STRING(name)
        if self.put_delta_head(size, row, self.row_of(self.table.find_number(base_name)), base_name):
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

    cdef Fault add_rows(self, const Share *share, Py_ssize_t chunk_bytes, int *ask) noexcept nogil:
        """Add entries until the chunk is full, a large one is under way, or Python is to be asked about the next."""
        cdef Fault fault = FINE
        cdef Row *first
        ask[0] = 0
        while fault == FINE and self.out_size < chunk_bytes and self.tail_at >= self.tail_end:
            first = NULL
            if self.waiting_count:
                fault = self.add_row(
                    self.waiting[self.waiting_count - 1].row, self.waiting[self.waiting_count - 1].share, &self.aside, ask, &first
                )
            elif self.row == share.first + share.count:
                break
            elif self.rows[self.row].out:  # before its turn
                self.row += 1
                continue
            else:
                fault = self.add_row(&self.rows[self.row], share, &self.ahead, ask, &first)
            if fault != FINE or ask[0]:
                break
            if first != NULL:
                fault = self.wait_for(first)
            elif self.waiting_count:
                self.waiting_count -= 1
            else:
                self.row += 1
        return fault

    def next_chunk(self, Py_ssize_t chunk_bytes):
        """See packcopy.PackCopier."""
        cdef Fault fault = FINE
        cdef Share *share
        cdef int ask
        cdef Waiting *waiting
        self.out_size = 0
        while fault == FINE and self.out_size < chunk_bytes:
            if self.tail_at < self.tail_end:
                with nogil:
                    fault = self.add_tail(chunk_bytes)
                continue
            if self.share == self.share_count:
                break
            share = &self.shares[self.share]
            if share.is_whole and not self.has_chains:
                with nogil:
                    fault = self.add_body(share, chunk_bytes)
                if self.body_at == self.table.packs[share.pack].size - self.table.oid_size:
                    self.reused += share.count
                    self.body_at = 0
                    self.row += share.count
                    self.share += 1
                continue
            with nogil:
                fault = self.add_rows(share, chunk_bytes, &ask)
            if fault == FINE and ask:
                if self.waiting_count:
                    waiting = &self.waiting[self.waiting_count - 1]
                    fault = self.add_asked(waiting.row, waiting.share, &self.aside)
                    self.waiting_count -= 1
                else:
                    fault = self.add_asked(&self.rows[self.row], share, &self.ahead)
                    self.row += 1
            if self.row == share.first + share.count and not self.waiting_count:
                self.share += 1
        if fault != FINE:
            if self.has_chains and self.chains.trouble is not None:
                raise self.chains.trouble
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
