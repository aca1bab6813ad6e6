# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Whether the bytes of a pack are those that its index was made of, compiled; the story is in `packcheck`."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from govc.kernels._inflate cimport Deflate, crc_of, find_deflate
from govc.kernels._packread_c cimport BAD_CHECKSUM, FINE, Fault, Pack, PackTable, be32, crc_at

from govc.errors import CorruptPack

DEF HEADER = 12
DEF AHEAD = 8

cdef extern from *:
    void __builtin_prefetch(const void *) noexcept nogil

cdef Deflate deflate_functions
find_deflate(&deflate_functions)


cdef struct Piece:
    const uint8_t *data
    uint64_t size


cdef class PackCheck:
    """See packcheck.PackCheck."""

    def __cinit__(self, PackTable table not None, int64_t number):
        self.table = table
        self.place = table.pack_of(number)
        if self.place < 0:
            raise IndexError(number)
        self.end = HEADER

    def prepare(self):
        """See packcheck.PackCheck."""
        self.table.make_order(&self.table.packs[self.place])

    def look(self, uint64_t at, pieces):
        """See packcheck.PackCheck."""
        cdef const uint8_t[::1] view
        cdef Piece *found
        cdef Py_ssize_t count = 0, k
        cdef Fault fault = FINE
        if at != self.at:
            if self.at or at != HEADER:
                raise ValueError("bytes of a pack must come in their order")
            self.at = at
        self.prepare()
        held = []
        found = <Piece *>malloc(sizeof(Piece) * (len(pieces) + 1))
        if found == NULL:
            raise MemoryError
        try:
            for piece in pieces:
                if len(piece):
                    view = piece
                    held.append(view)
                    found[count].data = &view[0]
                    found[count].size = <uint64_t>view.shape[0]
                    count += 1
            with nogil:
                for k in range(count):
                    fault = self.look_at(found[k].data, found[k].size)
                    if fault != FINE:
                        break
        finally:
            free(found)
        if fault != FINE:
            raise CorruptPack("a pack's bytes don't match its index", self.start)

    cdef Fault look_at(self, const uint8_t *data, uint64_t size) noexcept nogil:
        """Look at the next bytes of the file."""
        cdef const Pack *pack = &self.table.packs[self.place]
        cdef uint64_t body_end = pack.size - self.table.oid_size, part
        while size:
            if self.at < HEADER or self.at >= body_end:
                self.start = self.at
                if not self.is_frame(pack, body_end, data[0]):
                    return BAD_CHECKSUM
                part = 1
            else:
                if self.at == self.end and not self.begin_entry(pack, body_end):
                    return BAD_CHECKSUM
                part = self.end - self.at if self.end - self.at < size else size
                self.crc = crc_of(&deflate_functions, self.crc, data, part)
                if self.at + part == self.end and self.crc != crc_at(pack, self.position):
                    return BAD_CHECKSUM
            self.at += part
            data += part
            size -= part
        return FINE

    cdef bint begin_entry(self, const Pack *pack, uint64_t body_end) noexcept nogil:
        """Find what the index says of the entry that begins here; False when none does."""
        cdef uint32_t ahead
        self.start = self.at
        if self.begun == pack.count:
            return False
        self.position = be32(pack.order + 4 * <Py_ssize_t>self.begun)
        if self.begun == 0 and self.table.offset_at(pack, self.position) != self.at:
            return False
        self.begun += 1
        if self.begun + AHEAD < pack.count:  # what the index says lies anywhere in it
            ahead = be32(pack.order + 4 * (<Py_ssize_t>self.begun + AHEAD))
            __builtin_prefetch(pack.offsets + 4 * <Py_ssize_t>ahead)
            __builtin_prefetch(pack.offsets - 4 * (<Py_ssize_t>pack.count - ahead))
        self.end = body_end
        if self.begun < pack.count:
            self.end = self.table.offset_at(pack, be32(pack.order + 4 * <Py_ssize_t>self.begun))
        self.crc = 0
        return self.at < self.end <= body_end

    cdef bint is_frame(self, const Pack *pack, uint64_t body_end, uint8_t byte) noexcept nogil:
        """Tell whether a byte of the header or of the trailer is the one that belongs there."""
        cdef const char *signature = b"PACK"
        if self.at >= pack.size:
            return False
        if self.at >= body_end:  # the index ends with the pack's trailer and its own
            return byte == (pack.large + 8 * <Py_ssize_t>pack.large_count)[self.at - body_end]
        if self.at < 4:
            return byte == <uint8_t>signature[self.at]
        if self.at < 8:
            return byte == 0 if self.at < 7 else byte == 2 or byte == 3
        return byte == <uint8_t>(pack.count >> (8 * (HEADER - 1 - self.at)))
