# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Copying entries, compiled; the story is in `packcopy`.

What is sent in which order is `_packrows_c`, how bytes come out is `_packout_c`; here is where each entry comes from.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc

from govc.kernels._chains_c cimport Chains, Columns, Link
from govc.kernels._inflate cimport Deflate, crc_of, find_deflate
from govc.kernels._packcheck_c cimport PackCheck
from govc.kernels._packout_c cimport PackOut
from govc.kernels._packread_c cimport BAD_CHECKSUM, FINE, IO_ERROR, NO_MEMORY, SHORTER, Entry, Fault, Pack, PackReader, crc_at
from govc.kernels._packrows_c cimport PackRows, Row, Share
from govc.kernels._sweep_c cimport AtPeer
from govc.kernels._thin_c cimport FOREIGN, NOT_TAKEN, WHOLE, Slot, ThinChoice, ThinFile


cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void *buf, size_t count, int64_t offset)


cdef extern from *:
    void __builtin_prefetch(const void *) noexcept nogil


DEF SPAN_MAX = 1 << 20
DEF GAP_MAX = 1 << 14
DEF ASIDE_MAX = 1 << 16
DEF IMPROVED_BYTES_MIN = 2048
DEF IMPROVED_MAX = 64
DEF AHEAD = 8

cdef Deflate deflate_functions
find_deflate(&deflate_functions)


cdef struct Span:  # what was read of a pack
    uint8_t *data
    uint64_t start
    Py_ssize_t size
    int pack  # -1: nothing


cdef struct Waiting:  # a row that must be out before others, and where it belongs
    Row *row
    Share *share


cdef class PackCopier(PackOut):
    """See packcopy.PackCopier."""

    cdef PackRows sent
    cdef object at_peer
    cdef AtPeer native  # the same, where it can be asked without the GIL
    cdef bint is_native
    cdef object make_delta
    cdef bint can_make
    cdef bint asks  # whether Python may have something for a delta on what isn't sent
    cdef Chains chains
    cdef bint has_chains  # whether some forward delta may stand for something
    cdef ThinChoice thin
    cdef ThinFile thin_file
    cdef bint has_thin  # whether something is sent from the file of thin entries
    cdef int share  # the one whose turn it is
    cdef Py_ssize_t row  # the next one, in the whole table
    cdef uint64_t body_at  # of a whole pack: what is next
    cdef PackCheck body  # what is looked at while it goes out
    cdef uint64_t tail_at
    cdef uint64_t tail_end
    cdef int tail_fd
    cdef uint64_t copied_at  # where the entry begins that is copied
    cdef uint32_t copied_crc  # of what is out of it, with its header
    cdef uint32_t stored_crc  # of all of it, as its index has it
    cdef Span ahead  # of the rows whose turn it is, in their order
    cdef Span aside  # of one that comes before its turn
    cdef Waiting *waiting
    cdef Py_ssize_t waiting_count
    cdef Py_ssize_t waiting_room
    cdef int improved
    cdef readonly Py_ssize_t reused

    def __cinit__(self, PackReader reader not None, const uint8_t[::1] numbers not None, at_peer, forward, int level, make_delta=None, ready=None, ThinChoice thin=None):
        self.at_peer = at_peer
        if isinstance(at_peer, AtPeer):
            self.native = at_peer
            self.is_native = True
        self.make_delta = make_delta
        self.can_make = make_delta is not None
        self.asks = at_peer is not None or make_delta is not None
        self.ahead.pack = self.aside.pack = -1
        self.ahead.data = <uint8_t *>malloc(SPAN_MAX)
        self.aside.data = <uint8_t *>malloc(ASIDE_MAX)
        if self.ahead.data == NULL or self.aside.data == NULL:
            raise MemoryError
        self.begin(reader, level, ready)
        self.thin = thin
        self.has_thin = thin is not None and thin.taken > 0
        if thin is not None:
            self.thin_file = thin.file
        self.sent = PackRows(reader.table, numbers)
        if forward and at_peer is not None and numbers.shape[0] >= 8:
            self.chains = Chains(reader, numbers, at_peer, forward)
            self.has_chains = self.chains.target_count > 0
            if self.has_chains:
                if self.has_thin:
                    self.chains.thin = thin
                    self.chains.has_thin = True
                self.chains.lay_out(self.sent.rows, self.sent.shares, self.sent.share_count)

    def __dealloc__(self):
        free(self.ahead.data)
        free(self.aside.data)
        free(self.waiting)

    cdef Fault read_ahead(self, Row *row, const Share *share) noexcept nogil:
        """Have the beginning of an entry, and with one read what follows closely and is sent as well."""
        cdef Row *last = self.sent.rows + share.first + share.count
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

    cdef Fault copy_stream(self, const Span *span, const Share *share, const Row *row, uint64_t data) noexcept nogil:
        """Copy an entry's zlib stream, which begins at `data` of the file."""
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef uint64_t there = span.start + span.size
        if row + AHEAD < self.sent.rows + share.first + share.count:  # what the index says lies anywhere in it
            __builtin_prefetch(pack.offsets - 4 * (<Py_ssize_t>pack.count - (row[AHEAD].number - pack.first)))
        if there > row.end:
            there = row.end
        self.copied_at = row.offset
        self.copied_crc = crc_of(&deflate_functions, 0, span.data + (row.offset - span.start), there - row.offset)
        self.stored_crc = crc_at(pack, <uint32_t>(row.number - pack.first))
        if self.put(span.data + (data - span.start), <Py_ssize_t>(there - data)):
            return NO_MEMORY
        self.tail_at = there  # an entry beyond the span follows piece by piece
        self.tail_end = row.end
        self.tail_fd = pack.fd
        return self.compare()

    cdef Fault compare(self) noexcept nogil:
        """Compare what was copied with what the index says, when all of it is out."""
        if self.tail_at < self.tail_end or self.copied_crc == self.stored_crc:
            return FINE
        self.reader.fault_at = self.copied_at
        return BAD_CHECKSUM

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
        self.copied_crc = crc_of(&deflate_functions, self.copied_crc, self.out + self.out_size, <size_t>n)
        self.out_size += n
        self.out_offset += n
        self.tail_at += n
        return self.compare()

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
            base = self.sent.find_base(row, share, <uint64_t>entry.base, self.asks, &number)
            if base == NULL and not self.asks:
                row.out = self.out_offset
                return self.expand(row.number)
            if base == NULL and number >= 0 and self.has_thin and self.thin.find(self.table.oid_at(number)) != NULL:
                row.out = self.out_offset
                if self.put_delta_head(entry.size, row, NULL, self.table.oid_at(number)):
                    return NO_MEMORY
                self.reused += 1
                return self.copy_stream(span, share, row, entry.data)
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
        cdef const Slot *slot
        if base != NULL and base.out:
            return self.put_head(6, size) or self.put_distance(row.out - base.out)
        if base == NULL and self.has_thin:
            slot = self.thin.find(name)
            if slot != NULL:
                return self.put_head(6, size) or self.put_distance(row.out - slot.out)
        return self.put_head(7, size) or self.put(name, self.table.oid_size)

    cdef bint is_improvable(self, const Row *row) noexcept nogil:
        """Tell whether a delta is so large that another one is asked for."""
        return self.can_make and row.end - row.offset > IMPROVED_BYTES_MIN and self.improved < IMPROVED_MAX

    cdef bint may_wait_for(self, const Row *row) noexcept nogil:
        """Tell whether a row can be written before its turn: not one of a pack whose body is copied as it lies, and not
        one that waits already, which takes index files that contradict each other.
        """
        cdef Py_ssize_t k
        cdef const Share *share = self.sent.share_of(row)
        if share.is_whole and not self.has_chains:
            return False
        for k in range(self.waiting_count):
            if self.waiting[k].row == row:
                return False
        return True

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
        self.waiting[self.waiting_count].share = self.sent.share_of(row)
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
        cdef int home
        cdef Py_ssize_t rank
        if self.has_chains:
            rank = self.chains.rank_of(number)
            return &self.sent.rows[self.chains.places[rank]] if rank >= 0 else NULL
        home = self.table.pack_of(number)
        return self.sent.row_in(home, number) if home >= 0 else NULL

    cdef Fault add_asked(self, Row *row, const Share *share, Span *span) except *:
        """Add an entry for which Python's word is needed."""
        cdef Entry entry
        cdef int64_t number = -1
        cdef const Pack *pack = &self.table.packs[share.pack]
        cdef Fault fault
        cdef Row *base
        cdef const uint8_t *base_name
        cdef bytes name, stream
        fault = self.parse(span, row, pack, &entry)
        if fault != FINE:
            return fault
        self.sent.find_base(row, share, <uint64_t>entry.base, self.asks, &number)
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
        base = self.row_of(self.table.find_number(base_name))
        if base != NULL and base.out == 0:  # at the client, and sent later all the same: by name it would be two
            with nogil:
                fault = self.expand(row.number)
            return fault
        if self.put_delta_head(size, row, base, base_name):
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
                self.sent.rows[share.first + k].out = self.out_offset + self.sent.rows[share.first + k].offset - 12
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
        if self.body.look_at(self.out + self.out_size, <uint64_t>n) != FINE:
            self.reader.fault_at = self.body.start
            return BAD_CHECKSUM
        self.out_size += n
        self.out_offset += n
        self.body_at += n
        return FINE

    cdef Fault add_thin(self, Py_ssize_t chunk_bytes) noexcept nogil:
        """Add thin entries until the chunk is full."""
        cdef Slot *slot
        cdef Fault fault = FINE
        while fault == FINE and self.thin.at < self.thin.slot_count and self.out_size < chunk_bytes:
            slot = &self.thin.slots[self.thin.at]
            self.thin.at += 1
            if slot.row != NOT_TAKEN:
                fault = self.put_thin(slot)
        return fault

    cdef Fault put_thin(self, Slot *slot) noexcept nogil:
        cdef uint64_t start = self.thin_file.offsets[slot.row], end = self.thin_file.offsets[slot.row + 1]
        cdef uint64_t size = self.thin_file.sizes[slot.row]
        cdef uint32_t base = self.thin_file.bases[slot.row]
        cdef const Slot *other
        cdef int failed
        cdef const uint8_t *stream
        slot.out = self.out_offset
        if start >= end or end > self.thin_file.stream_bytes:
            return self.expand(slot.number)  # they were sound: what is mapped of a file that was cut reads as zeros
        stream = self.thin_file.streams + start
        if crc_of(&deflate_functions, 0, stream, end - start) != self.thin_file.checksums[slot.row]:
            return self.expand(slot.number)
        if base == WHOLE:
            failed = self.put_head(self.thin_file.kinds[slot.place], size)
        else:
            other = NULL if base & FOREIGN else self.thin.slot_of(base)
            if other != NULL:
                failed = self.put_head(6, size) or self.put_distance(slot.out - other.out)
            else:
                failed = self.put_head(7, size) or self.put(self.thin_file.base_name(base), self.table.oid_size)
        if failed or self.put(stream, <Py_ssize_t>(end - start)):
            return NO_MEMORY
        self.reused += 1
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
            elif self.sent.rows[self.row].out:  # before its turn
                self.row += 1
                continue
            else:
                fault = self.add_row(&self.sent.rows[self.row], share, &self.ahead, ask, &first)
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
            if self.has_thin and self.thin.at < self.thin.slot_count:
                with nogil:
                    fault = self.add_thin(chunk_bytes)
                continue
            if self.tail_at < self.tail_end:
                with nogil:
                    fault = self.add_tail(chunk_bytes)
                continue
            if self.share == self.sent.share_count:
                break
            share = &self.sent.shares[self.share]
            if share.is_whole and not self.has_chains:
                if self.body_at == 0:
                    self.body = PackCheck(self.table, self.table.packs[share.pack].first)
                    self.body.at = 12
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
                    fault = self.add_asked(&self.sent.rows[self.row], share, &self.ahead)
                    self.row += 1
            if self.row == share.first + share.count and not self.waiting_count:
                self.share += 1
        if fault != FINE:
            if self.has_chains and self.chains.trouble is not None:
                raise self.chains.trouble
            self.reader.fail(fault)
        return PyBytes_FromStringAndSize(<const char *>self.out, self.out_size)
