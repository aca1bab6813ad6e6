# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: libraries = z
"""Reading packs, compiled; the story is in `packread`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy, memset

from govc.kernels._delta cimport DELTA_FINE, delta_run, delta_size
from govc.kernels._inflate cimport (
    Deflate,
    Z_BUF_ERROR,
    Z_NO_FLUSH,
    Z_OK,
    Z_STREAM_END,
    find_deflate,
    inflate,
    inflateEnd,
    inflateInit,
    inflateReset,
    z_stream,
)
from govc.kernels._names cimport find_name

import os

from govc.errors import CorruptPack, LimitExceeded


cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void *buf, size_t count, int64_t offset)


cdef Deflate deflate
find_deflate(&deflate)

DEF WINDOW = 1 << 16
DEF FIRST_READ = 4096
DEF BACK_READ = 12 * 1024
DEF BUCKETS_MAX = 1 << 20
DEF NODE_OVERHEAD = 112  # with its share of the buckets


cdef class PackTable:
    """See packread.PackTable."""

    def __cinit__(self, sources, int oid_size, PackTable before=None):
        cdef const uint8_t[::1] idx
        cdef Pack *pack
        cdef Py_ssize_t length
        cdef int i = 0, byte
        self.keep = list(before.keep) if before is not None else []
        self.find_reverse = []
        self.oid_size = oid_size
        self.pack_count = len(sources)
        self.packs = <Pack *>calloc(max(self.pack_count, 1), sizeof(Pack))
        if self.packs == NULL:
            raise MemoryError
        for fd, idx_buffer, find_reverse, size, first, owner in sources:
            self.find_reverse.append(find_reverse)
            idx = idx_buffer
            length = idx.shape[0]
            pack = &self.packs[i]
            if before is not None and i < before.pack_count and length > 8 and before.packs[i].fanout == &idx[8]:
                pack[0] = before.packs[i]
                i += 1
                continue
            if length < 8 + 1024 + 2 * oid_size or be32(&idx[0]) != 0xFF744F63 or be32(&idx[4]) != 2:
                raise CorruptPack("not an index of version 2")
            pack.fd = fd
            pack.size = size
            pack.first = first
            pack.fanout = &idx[8]
            pack.count = be32(pack.fanout + 1020)
            if length < 8 + 1024 + <Py_ssize_t>pack.count * (oid_size + 8) + 2 * oid_size:
                raise CorruptPack("index is too small")
            pack.oids = pack.fanout + 1024
            pack.offsets = pack.oids + <Py_ssize_t>pack.count * (oid_size + 4)
            pack.large = pack.offsets + <Py_ssize_t>pack.count * 4
            pack.large_count = <uint32_t>((length - (8 + 1024 + <Py_ssize_t>pack.count * (oid_size + 8) + 2 * oid_size)) // 8)
            for byte in range(255):
                if be32(pack.fanout + 4 * byte) > be32(pack.fanout + 4 * byte + 4):
                    raise CorruptPack("index fan-out goes down")
            self.keep.append(idx)
            self.keep.append(owner)
            i += 1
        self.take_origin(before)

    cdef int take_origin(self, PackTable before) except -1:
        """Take the origin of a table that this one has grown out of, until an eighth has come since."""
        cdef int i, shared = 0
        cdef int64_t end = 0
        if self.pack_count:
            end = self.packs[self.pack_count - 1].first + self.packs[self.pack_count - 1].count
        if before is not None and before.pack_count <= self.pack_count:
            for i in range(before.pack_count):
                shared += before.packs[i].fanout == self.packs[i].fanout and before.packs[i].first == self.packs[i].first
            if shared == before.pack_count and 8 * end <= 9 * before.origin_end:
                self.origin, self.origin_end = before.origin, before.origin_end
                return 0
        self.origin, self.origin_end = object(), end
        return 0

    def __dealloc__(self):
        free(self.packs)

    cdef bint is_good_order(self, const Pack *pack, const uint8_t[::1] rev) except -1:
        """Tell whether a .rev has the size and shape of this pack's, and its offsets ascend."""
        cdef uint32_t i, position
        cdef uint64_t last = 0, offset
        cdef const uint8_t *words
        if rev.shape[0] != 12 + 4 * <Py_ssize_t>pack.count + 2 * self.oid_size or be32(&rev[0]) != 0x52494458:
            return False
        if be32(&rev[4]) != 1 or be32(&rev[8]) != (1 if self.oid_size == 20 else 2):
            return False
        words = &rev[12]
        with nogil:
            for i in range(pack.count):
                position = be32(words + 4 * <Py_ssize_t>i)
                offset = self.offset_at(pack, position) if position < pack.count else 0
                if offset <= last:
                    break
                last = offset
            else:
                i = pack.count
        return i == pack.count

    cdef int make_order(self, Pack *pack) except -1:
        """Have the positions by offset, unless that was done: from a good .rev.

        Else they are sorted, least significant digits first, two bytes at a time.
        """
        cdef const uint8_t[::1] rev
        cdef uint32_t n = pack.count, i, digit, total, number
        cdef uint64_t *keys
        cdef uint32_t *one
        cdef uint32_t *other
        cdef uint32_t *swap
        cdef uint32_t *counts
        cdef int shift = 0
        cdef uint8_t *out
        if pack.order != NULL:
            return 0
        found = self.find_reverse[pack - self.packs]()
        if found is not None:
            rev = found
            if self.is_good_order(pack, rev):
                self.keep.append(rev)
                pack.order = &rev[12]
                return 0
        keep = PyBytes_FromStringAndSize(NULL, max(4 * <Py_ssize_t>n, 4))
        out = <uint8_t *>PyBytes_AS_STRING(keep)
        keys = <uint64_t *>malloc(8 * <size_t>max(n, 1))
        one = <uint32_t *>malloc(4 * <size_t>max(n, 1))
        other = <uint32_t *>malloc(4 * <size_t>max(n, 1))
        counts = <uint32_t *>malloc(4 * 65536)
        if keys == NULL or one == NULL or other == NULL or counts == NULL:
            free(keys)
            free(one)
            free(other)
            free(counts)
            raise MemoryError
        with nogil:
            for i in range(n):
                keys[i] = self.offset_at(pack, i)
                one[i] = i
            while shift < 64 and (pack.size >> shift):
                memset(counts, 0, 4 * 65536)
                for i in range(n):
                    counts[(keys[i] >> shift) & 0xFFFF] += 1
                total = 0
                for digit in range(65536):
                    number = counts[digit]
                    counts[digit] = total
                    total += number
                for i in range(n):
                    digit = (keys[one[i]] >> shift) & 0xFFFF
                    other[counts[digit]] = one[i]
                    counts[digit] += 1
                swap = one
                one = other
                other = swap
                shift += 16
            for i in range(n):
                number = one[i]
                out[4 * <Py_ssize_t>i] = number >> 24
                out[4 * <Py_ssize_t>i + 1] = (number >> 16) & 0xFF
                out[4 * <Py_ssize_t>i + 2] = (number >> 8) & 0xFF
                out[4 * <Py_ssize_t>i + 3] = number & 0xFF
            free(keys)
            free(one)
            free(other)
            free(counts)
        self.keep.append(keep)
        pack.order = out
        return 0

    cdef uint32_t rank_of(self, const Pack *pack, uint64_t offset) noexcept nogil:
        """Return the rank of the entry at `offset` among all, or `count` when none begins there."""
        cdef uint32_t low = 0, high = pack.count, middle
        while low < high:
            middle = low + ((high - low) >> 1)
            if self.offset_at(pack, be32(pack.order + 4 * <Py_ssize_t>middle)) < offset:
                low = middle + 1
            else:
                high = middle
        if low < pack.count and self.offset_at(pack, be32(pack.order + 4 * <Py_ssize_t>low)) == offset:
            return low
        return pack.count

    cdef int pack_of(self, int64_t number) noexcept nogil:
        cdef int low = 0, high = self.pack_count, middle
        while low < high:
            middle = (low + high) >> 1
            if self.packs[middle].first <= number:
                low = middle + 1
            else:
                high = middle
        low -= 1
        if low < 0 or number - self.packs[low].first >= self.packs[low].count:
            return -1
        return low

    cdef uint64_t offset_at(self, const Pack *pack, uint32_t position) noexcept nogil:
        """Return where an entry begins; 0, which is never one, when the index is wrong."""
        cdef uint32_t word = be32(pack.offsets + 4 * <Py_ssize_t>position)
        if word >> 31:
            word &= 0x7FFFFFFF
            if word >= pack.large_count:
                return 0
            return (<uint64_t>be32(pack.large + 8 * <Py_ssize_t>word) << 32) | be32(pack.large + 8 * <Py_ssize_t>word + 4)
        return word

    cdef int64_t find_in(self, const Pack *pack, const uint8_t *oid) noexcept nogil:
        cdef uint32_t low = be32(pack.fanout + 4 * (<int>oid[0] - 1)) if oid[0] else 0
        cdef uint32_t high = be32(pack.fanout + 4 * <int>oid[0])
        cdef uint64_t least = <uint64_t>oid[0] << 56
        return find_name(pack.oids, self.oid_size, low, high, oid, least, least | <uint64_t>0xFFFFFFFFFFFFFF)

    cdef int64_t find_number(self, const uint8_t *oid) noexcept nogil:
        cdef int i
        cdef int64_t position
        for i in range(self.pack_count):
            position = self.find_in(&self.packs[i], oid)
            if position >= 0:
                return self.packs[i].first + position
        return -1

    cdef const uint8_t *oid_at(self, int64_t number) noexcept nogil:
        cdef int i = self.pack_of(number)
        if i < 0:
            return NULL
        return self.packs[i].oids + (number - self.packs[i].first) * self.oid_size

    def find(self, const uint8_t[::1] oid not None):
        """See packread.PackTable."""
        if oid.shape[0] != self.oid_size:
            return -1
        return self.find_number(&oid[0])

    def find_many(self, const uint8_t[::1] oids not None, bint is_sorted):
        """See packread.PackTable. Sorted names are met in each index by going forward from the last one."""
        cdef Py_ssize_t n = oids.shape[0] // self.oid_size, k
        cdef int size = self.oid_size, i, order
        cdef const uint8_t *oid
        cdef const Pack *pack
        cdef uint32_t low
        result = PyBytes_FromStringAndSize(NULL, 8 * n)
        cdef int64_t *out = <int64_t *>PyBytes_AS_STRING(result)
        if n == 0:
            return result
        with nogil:
            if not is_sorted:
                for k in range(n):
                    out[k] = self.find_number(&oids[k * size])
            else:
                for k in range(n):
                    out[k] = -1
                for i in range(self.pack_count):
                    pack = &self.packs[i]
                    low = 0
                    for k in range(n):
                        if low == pack.count:
                            break
                        oid = &oids[k * size]
                        low = find_from(pack, low, oid, size)
                        if out[k] < 0 and low < pack.count and memcmp(pack.oids + <Py_ssize_t>low * size, oid, size) == 0:
                            out[k] = pack.first + low
        return result

    def oid_of(self, int64_t number):
        """See packread.PackTable."""
        cdef const uint8_t *oid = self.oid_at(number)
        if oid == NULL:
            raise IndexError(number)
        return (<const char *>oid)[:self.oid_size]


cdef void double_buckets(PackReader reader) noexcept nogil:
    """Have twice as many buckets, where there is memory: a reader that reads little needs few."""
    cdef Node **before = reader.buckets
    cdef Node **buckets = <Node **>calloc(2 * reader.bucket_count, sizeof(Node *))
    cdef Node *node = reader.newest
    cdef Node **place
    if buckets == NULL:
        return
    reader.buckets = buckets
    reader.bucket_count *= 2
    while node != NULL:
        place = &buckets[reader.home(node.key)]
        node.chain = place[0]
        place[0] = node
        node = node.older
    free(before)


cdef class PackReader:
    """See packread.PackReader."""

    def __cinit__(self, PackTable table not None, uint64_t cache_bytes, uint64_t object_bytes_max, *_more):
        self.table = table
        self.budget = cache_bytes
        self.largest = object_bytes_max
        self.window = <uint8_t *>malloc(WINDOW)
        self.window_fd = -1
        self.bucket_count = 256
        self.buckets = <Node **>calloc(self.bucket_count, sizeof(Node *))
        self.stream = calloc(1, sizeof(z_stream))
        if self.window == NULL or self.buckets == NULL or self.stream == NULL:
            raise MemoryError
        if deflate.allocate != NULL:
            self.decompressor = deflate.allocate()
        if inflateInit(<z_stream *>self.stream) != Z_OK:
            free(self.stream)
            self.stream = NULL
            raise MemoryError

    def __dealloc__(self):
        self.drop_all()
        free(self.buckets)
        free(self.window)
        free(self.links)
        if self.decompressor != NULL:
            deflate.release(self.decompressor)
        if self.stream != NULL:
            inflateEnd(<z_stream *>self.stream)
            free(self.stream)

    cdef object fail(self, Fault fault):
        """Raise what a fault means."""
        if fault == NO_MEMORY:
            raise MemoryError
        if fault == IO_ERROR:
            raise OSError(errno, os.strerror(errno))
        if fault == NOT_THERE:
            raise IndexError("no object has that number")
        if fault == TOO_LARGE:
            raise LimitExceeded("object_bytes_max", self.largest)
        texts = {
            SHORTER: "pack file became shorter",
            BAD_HEADER: "bad entry header",
            BAD_BASE: "delta base is not an object of the pack",
            BAD_STREAM: "inflate: bad stream",
            BAD_SIZE: "entry inflates to another size than its header says",
            BAD_DELTA: "bad delta",
            A_CYCLE: "delta chain is a cycle",
            BAD_CHECKSUM: "an entry doesn't match its CRC-32 in the index",
        }
        raise CorruptPack(texts[fault], self.fault_at)

    cdef Fault parse(self, const Pack *pack, uint64_t offset, const uint8_t *buf, Py_ssize_t length, Entry *entry) noexcept nogil:
        """Read the header at `buf`, which begins at `offset` of the file."""
        cdef Py_ssize_t pos = 0
        cdef int shift = 4
        cdef uint8_t byte
        cdef uint64_t size, distance
        cdef int64_t position
        self.fault_at = offset
        if length <= 0:
            return BAD_HEADER
        byte = buf[0]
        pos = 1
        entry.type_number = (byte >> 4) & 7
        size = byte & 15
        while byte & 0x80:
            if pos >= length or shift >= 60:
                return BAD_HEADER
            byte = buf[pos]
            pos += 1
            size |= <uint64_t>(byte & 0x7F) << shift
            shift += 7
        entry.size = size
        entry.base = -1
        if entry.type_number == 6:
            if pos >= length:
                return BAD_HEADER
            byte = buf[pos]
            pos += 1
            distance = byte & 0x7F
            while byte & 0x80:
                if pos >= length or distance >> 55:
                    return BAD_HEADER
                byte = buf[pos]
                pos += 1
                distance = ((distance + 1) << 7) | (byte & 0x7F)
            if distance == 0 or distance + 12 > offset:
                return BAD_BASE
            entry.base = <int64_t>(offset - distance)
        elif entry.type_number == 7:
            if pos + self.table.oid_size > length:
                return BAD_HEADER
            position = self.table.find_in(pack, buf + pos)
            if position < 0:
                return BAD_BASE
            entry.base = <int64_t>self.table.offset_at(pack, <uint32_t>position)
            pos += self.table.oid_size
        elif entry.type_number == 0 or entry.type_number == 5:
            return BAD_HEADER
        entry.data = offset + pos
        return FINE

    cdef Fault entry_at(self, const Pack *pack, uint64_t offset, Entry *entry, Py_ssize_t *got) noexcept nogil:
        """Read the beginning of an entry into the window, unless it is there, and parse its header.

        It begins at `front`, and `got` bytes of it and of what follows are there.
        """
        cdef uint64_t end = pack.size - self.table.oid_size, start
        cdef int64_t here
        cdef size_t want
        cdef ssize_t n
        self.fault_at = offset
        if offset < 12 or offset >= end:
            return BAD_BASE
        if pack.fd == self.window_fd and offset >= self.window_start:
            here = self.window_size - <int64_t>(offset - self.window_start)
            if here >= FIRST_READ or here == <int64_t>(end - offset):
                got[0] = here
                self.front = self.window + (offset - self.window_start)
                return self.parse(pack, offset, self.front, here, entry)
        # A delta's base mostly lies shortly before it: one call reads both, more often than not.
        start = offset - BACK_READ if offset > BACK_READ + 12 else 12
        want = <size_t>(offset - start) + 2 * FIRST_READ
        if want > end - start:
            want = <size_t>(end - start)
        self.window_fd = -1
        n = pread(pack.fd, self.window, want, <int64_t>start)
        while n < 0 and errno == EINTR:
            n = pread(pack.fd, self.window, want, <int64_t>start)
        if n < 0:
            return IO_ERROR
        if n <= <int64_t>(offset - start):
            return SHORTER
        self.window_fd = pack.fd
        self.window_start = start
        self.window_size = n
        self.front = self.window + (offset - start)
        got[0] = n - <Py_ssize_t>(offset - start)
        return self.parse(pack, offset, self.front, got[0], entry)

    cdef Fault inflate_to(self, const Pack *pack, uint64_t offset, const Entry *entry, Py_ssize_t got, uint8_t *out) noexcept nogil:
        """Inflate the entry at `offset`, of which the window holds `got` bytes, to exactly `entry.size` bytes."""
        cdef z_stream *stream = <z_stream *>self.stream
        cdef uint64_t at = offset + got, end = pack.size - self.table.oid_size, left = entry.size
        cdef size_t want
        cdef ssize_t n
        cdef int code
        cdef uint8_t spare
        cdef size_t used = 0, made = 0
        self.fault_at = offset
        if self.decompressor != NULL and (entry.size <= 4 * WINDOW or <uint64_t>got > entry.size):
            if entry.size + 64 >= <uint64_t>got:
                # Have as much of it as the window holds: that is all of it, most likely.
                want = <size_t>(entry.size + 64 + (entry.data - offset))
                if want > WINDOW:
                    want = WINDOW
                if want > end - offset:
                    want = <size_t>(end - offset)
                if <Py_ssize_t>want > got:
                    self.window_fd = -1
                    n = pread(pack.fd, self.window, want, <int64_t>offset)
                    if n < got:
                        return IO_ERROR if n < 0 else SHORTER
                    got = n
                    at = offset + n
                    self.front = self.window
                    self.window_fd = pack.fd
                    self.window_start = offset
                    self.window_size = n
            if deflate.inflate(self.decompressor, self.front + (entry.data - offset), got - (entry.data - offset),
                               out, entry.size, &used, &made) == 0 and made == entry.size:
                return FINE
            # zlib has the last word.
        inflateReset(stream)
        stream.next_in = self.front + (entry.data - offset)
        stream.avail_in = <unsigned int>(got - <Py_ssize_t>(entry.data - offset))
        stream.next_out = out
        while True:
            if left > 0x40000000:
                stream.avail_out = 0x40000000
            else:
                stream.avail_out = <unsigned int>left
            if left == 0:
                stream.next_out = &spare
                stream.avail_out = 1
            want = stream.avail_out
            code = inflate(stream, Z_NO_FLUSH)
            if left:
                left -= want - stream.avail_out
            elif stream.avail_out == 0:
                return BAD_SIZE
            if code == Z_STREAM_END:
                return FINE if left == 0 else BAD_SIZE
            if code != Z_OK and code != Z_BUF_ERROR:
                return BAD_STREAM
            if stream.avail_in == 0:
                if at >= end:
                    return SHORTER
                want = WINDOW if end - at > WINDOW else <size_t>(end - at)
                self.window_fd = -1
                n = pread(pack.fd, self.window, want, <int64_t>at)
                if n < 0 and errno == EINTR:
                    continue
                if n < 0:
                    return IO_ERROR
                if n == 0:
                    return SHORTER
                stream.next_in = self.window
                stream.avail_in = <unsigned int>n
                at += n
            elif code == Z_BUF_ERROR:
                return BAD_STREAM

    cdef inline uint64_t home(self, uint64_t key) noexcept nogil:
        """Small packs have the same offsets: the product's upper half depends on all of the key but its highest bit."""
        return (((key << 1) * <uint64_t>0x9E3779B97F4A7C15) >> 32) & (self.bucket_count - 1)

    cdef void unlink(self, Node *node) noexcept nogil:
        cdef Node **at = &self.buckets[self.home(node.key)]
        while at[0] != node:
            at = &at[0].chain
        at[0] = node.chain
        self.take_out(node)
        self.used -= node.size + NODE_OVERHEAD
        self.node_count -= 1
        node.cached = 0

    cdef void remember(self, Node *node) noexcept nogil:
        """Put a node into the cache and make room: the oldest goes, unless it was asked for since it was the oldest.

        Nodes in use stay.
        """
        cdef Node *victim
        cdef Node *next_victim
        if (node.size + NODE_OVERHEAD) * 8 > self.budget:
            return
        self.used += node.size + NODE_OVERHEAD
        self.node_count += 1
        if self.node_count > self.bucket_count and self.bucket_count < BUCKETS_MAX:
            double_buckets(self)
        node.chain = self.buckets[self.home(node.key)]
        self.buckets[self.home(node.key)] = node
        node.cached = 1
        self.put_first(node)
        victim = self.oldest
        while self.used > self.budget and victim != NULL:
            next_victim = victim.newer
            if victim.pins == 0 and not victim.was_asked:
                self.unlink(victim)
                free(victim)
            elif victim.pins == 0:
                victim.was_asked = 0
                if next_victim == NULL:
                    continue
                self.take_out(victim)
                self.put_first(victim)
            victim = next_victim

    cdef inline void put_first(self, Node *node) noexcept nogil:
        node.newer = NULL
        node.older = self.newest
        if self.newest != NULL:
            self.newest.newer = node
        else:
            self.oldest = node
        self.newest = node

    cdef inline void take_out(self, Node *node) noexcept nogil:
        if node.newer != NULL:
            node.newer.older = node.older
        else:
            self.newest = node.older
        if node.older != NULL:
            node.older.newer = node.newer
        else:
            self.oldest = node.newer

    cdef Node *lookup(self, uint64_t key) noexcept nogil:
        cdef Node *node = self.buckets[self.home(key)]
        while node != NULL and node.key != key:
            node = node.chain
        if node != NULL:
            node.was_asked = 1
        return node

    cdef void drop_all(self) noexcept nogil:
        """Empty the cache; what is in use goes when it is released."""
        cdef Node *node = self.newest
        cdef Node *after
        while node != NULL:
            after = node.older
            self.unlink(node)
            if node.pins == 0:
                free(node)
            node = after

    cdef void release(self, Node *node) noexcept nogil:
        node.pins -= 1
        if node.pins == 0 and not node.cached:
            free(node)

    cdef Node *new_node(self, uint64_t key, int type_number, uint64_t size) noexcept nogil:
        cdef Node *node = <Node *>malloc(sizeof(Node) + size + 1)
        if node == NULL:
            return NULL
        memset(node, 0, sizeof(Node))
        node.data = <uint8_t *>node + sizeof(Node)
        node.key = key
        node.type_number = type_number
        node.size = size
        node.pins = 1
        return node

    cdef Fault load(self, int64_t number, Node **node) noexcept nogil:
        """Read an object; the node is the caller's to release."""
        cdef int i = self.table.pack_of(number)
        if i < 0:
            return NOT_THERE
        return self.load_at(i, self.table.offset_at(&self.table.packs[i], <uint32_t>(number - self.table.packs[i].first)), node)

    cdef Fault load_at(self, int pack_index, uint64_t offset, Node **result) noexcept nogil:
        cdef const Pack *pack = &self.table.packs[pack_index]
        cdef uint64_t tag = <uint64_t>pack_index << 48, base_size, made_size, made
        cdef Py_ssize_t depth = 0, got = 0, pos
        cdef Entry entry
        cdef Node *node = self.lookup(tag | offset)
        cdef Node *made_node
        cdef uint8_t *delta
        cdef uint64_t *more
        cdef Fault fault
        cdef uint64_t at = offset
        while node == NULL:
            fault = self.entry_at(pack, at, &entry, &got)
            if fault != FINE:
                return fault
            if entry.size > self.largest:
                return TOO_LARGE
            if entry.type_number < 6:
                node = self.new_node(tag | at, entry.type_number, entry.size)
                if node == NULL:
                    return NO_MEMORY
                fault = self.inflate_to(pack, at, &entry, got, node.data)
                if fault != FINE:
                    self.release(node)
                    return fault
                self.remember(node)
                node.pins -= 1
                break
            if depth > <Py_ssize_t>pack.count:
                self.fault_at = at
                return A_CYCLE
            if depth == self.links_size:
                more = <uint64_t *>realloc(self.links, 8 * <size_t>(2 * depth + 64))
                if more == NULL:
                    return NO_MEMORY
                self.links = more
                self.links_size = 2 * depth + 64
            self.links[depth] = at
            depth += 1
            at = <uint64_t>entry.base
            node = self.lookup(tag | at)
        node.pins += 1
        while depth:
            depth -= 1
            at = self.links[depth]
            fault = self.entry_at(pack, at, &entry, &got)
            if fault != FINE:
                self.release(node)
                return fault
            delta = <uint8_t *>malloc(entry.size + 1)
            if delta == NULL:
                self.release(node)
                return NO_MEMORY
            fault = self.inflate_to(pack, at, &entry, got, delta)
            pos = 0
            made_node = NULL
            base_size = made_size = 0
            if fault == FINE:
                if delta_size(delta, <Py_ssize_t>entry.size, &pos, &base_size) != DELTA_FINE or delta_size(
                    delta, <Py_ssize_t>entry.size, &pos, &made_size
                ) != DELTA_FINE or base_size != node.size:
                    fault = BAD_DELTA
                elif made_size > self.largest:
                    fault = TOO_LARGE
                else:
                    made_node = self.new_node(tag | at, node.type_number, made_size)
                    if made_node == NULL:
                        fault = NO_MEMORY
                    elif delta_run(node.data, node.size, delta, <Py_ssize_t>entry.size, pos, made_node.data, made_size, &made) != DELTA_FINE:
                        fault = BAD_DELTA
                        self.release(made_node)
            free(delta)
            self.release(node)
            if fault != FINE:
                self.fault_at = at
                return fault
            self.remember(made_node)
            node = made_node
        result[0] = node
        return FINE

    cdef Fault look_at(self, int64_t number, int *type_number, uint64_t *size) noexcept nogil:
        cdef int i = self.table.pack_of(number)
        cdef const Pack *pack
        cdef uint64_t offset, ignored
        cdef Entry entry
        cdef Py_ssize_t got = 0, pos = 0, depth = 0
        cdef z_stream *stream = <z_stream *>self.stream
        cdef uint8_t head[24]
        cdef Fault fault
        if i < 0:
            return NOT_THERE
        pack = &self.table.packs[i]
        offset = self.table.offset_at(pack, <uint32_t>(number - pack.first))
        fault = self.entry_at(pack, offset, &entry, &got)
        if fault != FINE:
            return fault
        size[0] = entry.size
        if entry.type_number >= 6:
            inflateReset(stream)
            stream.next_in = self.front + (entry.data - offset)
            stream.avail_in = <unsigned int>(got - <Py_ssize_t>(entry.data - offset))
            stream.next_out = head
            stream.avail_out = 24 if entry.size > 24 else <unsigned int>entry.size
            got = stream.avail_out
            pos = inflate(stream, Z_NO_FLUSH)
            if pos != Z_OK and pos != Z_STREAM_END and pos != Z_BUF_ERROR:
                return BAD_STREAM
            got -= stream.avail_out
            pos = 0
            if delta_size(head, got, &pos, &ignored) != DELTA_FINE or delta_size(head, got, &pos, size) != DELTA_FINE:
                return BAD_DELTA
        while entry.type_number >= 6:
            depth += 1
            if depth > <Py_ssize_t>pack.count:
                return A_CYCLE
            fault = self.entry_at(pack, <uint64_t>entry.base, &entry, &got)
            if fault != FINE:
                return fault
        type_number[0] = entry.type_number
        return FINE

    def read(self, int64_t number):
        """See packread.PackReader."""
        cdef Node *node = NULL
        cdef Fault fault
        with nogil:
            fault = self.load(number, &node)
        if fault != FINE:
            self.fail(fault)
        try:
            return node.type_number, PyBytes_FromStringAndSize(<char *>node.data, <Py_ssize_t>node.size)
        finally:
            self.release(node)

    def read_small(self, int64_t number, uint64_t size_max):
        """See packread.PackReader."""
        cdef Node *node = NULL
        cdef int type_number = 0
        cdef uint64_t size = 0
        if self.look_at(number, &type_number, &size) != FINE or size > size_max or self.load(number, &node) != FINE:
            return None
        content = PyBytes_FromStringAndSize(<char *>node.data, <Py_ssize_t>node.size)
        type_number = node.type_number
        self.release(node)
        return type_number, content

    def type_and_size(self, int64_t number):
        """See packread.PackReader."""
        cdef int type_number = 0
        cdef uint64_t size = 0
        cdef Fault fault = self.look_at(number, &type_number, &size)
        if fault != FINE:
            self.fail(fault)
        return type_number, size
