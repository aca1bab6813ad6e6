# What other kernels use of the pack reader; the story is in packread.py.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from govc.kernels._names cimport order_of


cdef enum Fault:
    FINE = 0
    NO_MEMORY
    SHORTER  # the file ends before the entry does
    BAD_HEADER
    BAD_BASE
    BAD_STREAM
    BAD_SIZE
    BAD_DELTA
    A_CYCLE
    TOO_LARGE
    IO_ERROR
    NOT_THERE
    BAD_CHECKSUM


cdef struct Pack:
    int fd
    uint32_t count
    uint64_t size
    int64_t first  # object number of position 0
    const uint8_t *fanout
    const uint8_t *oids
    const uint8_t *offsets
    const uint8_t *large
    uint32_t large_count
    const uint8_t *order  # positions by offset, big-endian as in a .rev; NULL until it is needed


cdef inline uint32_t find_from(const Pack *pack, uint32_t low, const uint8_t *oid, int oid_size) noexcept nogil:
    """Return the first position that isn't before a name, where nothing below `low` is: names come ascending.

    The step is doubled until something isn't smaller, so a name near the one before costs little.
    """
    cdef uint32_t step = 1, high = low, middle
    while high < pack.count and order_of(pack.oids + <Py_ssize_t>high * oid_size, oid, oid_size) < 0:
        low = high + 1
        high = high + step if pack.count - high > step else pack.count
        step <<= 1
    while low < high:
        middle = low + ((high - low) >> 1)
        if order_of(pack.oids + <Py_ssize_t>middle * oid_size, oid, oid_size) < 0:
            low = middle + 1
        else:
            high = middle
    return low


cdef struct Entry:
    int type_number  # as stored: 1 to 4, 6, 7
    uint64_t size  # what the stream inflates to
    uint64_t data  # where the zlib stream begins, in the file
    int64_t base  # offset of a delta's base, -1 when it is a name that the pack doesn't hold or when there is none


cdef struct Node:
    uint64_t key
    int type_number
    uint64_t size
    uint64_t base  # of a delta that is kept as it is (type 6 or 7): the offset of what it stands on
    uint8_t *data
    int pins
    uint8_t cached
    uint8_t was_asked  # since it became the oldest
    Node *newer
    Node *older
    Node *chain


cdef class PackTable:
    cdef Pack *packs
    cdef int pack_count
    cdef int oid_size
    cdef list keep
    cdef list find_reverse
    cdef object origin  # the same for a table and all that it grew into, which may be several: they share what the first had
    cdef int64_t origin_end  # the numbers below are theirs together

    cdef int take_origin(self, PackTable before) except -1
    cdef int pack_of(self, int64_t number) noexcept nogil
    cdef uint64_t offset_at(self, const Pack *pack, uint32_t position) noexcept nogil
    cdef int64_t find_in(self, const Pack *pack, const uint8_t *oid) noexcept nogil
    cdef int64_t find_number(self, const uint8_t *oid) noexcept nogil
    cdef const uint8_t *oid_at(self, int64_t number) noexcept nogil
    cdef bint is_good_order(self, const Pack *pack, const uint8_t[::1] rev) except -1
    cdef int make_order(self, Pack *pack) except -1
    cdef uint32_t rank_of(self, const Pack *pack, uint64_t offset) noexcept nogil


cdef class PackReader:
    cdef readonly PackTable table
    cdef uint8_t *window
    cdef uint8_t *front  # where in the window the entry begins that was parsed last
    cdef int window_fd  # which pack's bytes it holds, -1 when it holds none that may be used again
    cdef uint64_t window_start
    cdef int64_t window_size
    cdef void *stream
    cdef void *decompressor  # of libdeflate, NULL where that isn't installed
    cdef Node **buckets
    cdef uint64_t bucket_count
    cdef uint64_t node_count
    cdef Node *newest
    cdef Node *oldest
    cdef uint64_t used
    cdef uint64_t budget
    cdef uint64_t largest
    cdef uint64_t *links
    cdef Py_ssize_t links_size
    cdef uint64_t fault_at

    cdef Fault parse(self, const Pack *pack, uint64_t offset, const uint8_t *buf, Py_ssize_t length, Entry *entry) noexcept nogil
    cdef Fault entry_at(self, const Pack *pack, uint64_t offset, Entry *entry, Py_ssize_t *got) noexcept nogil
    cdef Fault inflate_to(self, const Pack *pack, uint64_t offset, const Entry *entry, Py_ssize_t got, uint8_t *out) noexcept nogil
    cdef Fault load(self, int64_t number, Node **node) noexcept nogil
    cdef Fault load_at(self, int pack_index, uint64_t offset, Node **node) noexcept nogil
    cdef void release(self, Node *node) noexcept nogil
    cdef uint64_t home(self, uint64_t key) noexcept nogil
    cdef void put_first(self, Node *node) noexcept nogil
    cdef void take_out(self, Node *node) noexcept nogil
    cdef void unlink(self, Node *node) noexcept nogil
    cdef void drop_all(self) noexcept nogil
    cdef void remember(self, Node *node) noexcept nogil
    cdef Node *lookup(self, uint64_t key) noexcept nogil
    cdef Node *new_node(self, uint64_t key, int type_number, uint64_t size) noexcept nogil
    cdef Fault look_at(self, int64_t number, int *type_number, uint64_t *size) noexcept nogil
    cdef object fail(self, Fault fault)


cdef inline uint32_t be32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint32_t crc_at(const Pack *pack, uint32_t position) noexcept nogil:
    """Return the CRC-32 of an entry as it lies in the pack: they stand before the offsets."""
    return be32(pack.offsets - 4 * (<Py_ssize_t>pack.count - position))
