# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Choosing forward deltas, compiled; the story is in `chains`."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.errno cimport EINTR, errno
from libc.stdlib cimport calloc, free, malloc, realloc

from govc.kernels._names cimport order_of
from govc.kernels._packread_c cimport (
    FINE,
    IO_ERROR,
    NO_MEMORY,
    NOT_THERE,
    Entry,
    Fault,
    Pack,
    PackReader,
    PackTable,
    be32,
)
from govc.kernels._sweep_c cimport AtPeer


cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void *buf, size_t count, int64_t offset)


cdef extern from * nogil:
    int popcount "__builtin_popcountll"(uint64_t)


DEF DEPTH_MAX = 50
DEF LOST_DEPTH_MAX = 250
DEF NO_LIMIT = 0xFFFFFFFFFFFFFFFF
DEF UNDECIDED = 0
DEF WAITING = 1  # for what it may stand on
DEF DECIDED = 2
DEF NOBODY_LOOKED = -2
DEF HEAD_BYTES = 64  # an entry's header is at most 10 bytes, and 32 of a name
DEF SPARSE = 1024


cdef const void *pointer_to(object buffer, Py_ssize_t size, list keep) except? NULL:
    """Return where a buffer lies, of which at least `size` bytes are used."""
    cdef const uint8_t[::1] view
    held = memoryview(buffer).cast("B")
    if held.nbytes < size:
        raise ValueError("a column is too short")
    keep.append(held)
    if held.nbytes == 0:
        return NULL
    view = held
    return &view[0]


cdef class Chains:
    """See chains.Chains."""

    def __cinit__(self, PackReader reader not None, numbers not None, at_peer not None, files not None):
        cdef Py_ssize_t count
        cdef int size = reader.table.oid_size
        cdef Columns *file
        self.reader = reader
        self.table = reader.table
        self.at_peer = at_peer
        if isinstance(at_peer, AtPeer):
            self.native = at_peer
            self.is_native = True
        self.keep = []
        self.number_count = memoryview(numbers).nbytes // 8
        self.numbers = <const int64_t *>pointer_to(numbers, 0, self.keep)
        self.files = <Columns *>calloc(len(files) + 1, sizeof(Columns))
        self.target_rows = <uint32_t *>calloc(self.number_count + 1, 4)
        self.target_files = <uint32_t *>malloc(4 * (self.number_count + 1))
        if self.files == NULL or self.target_rows == NULL or self.target_files == NULL:
            raise MemoryError
        for targets, bases, sizes, offsets, streams, checksums in files:
            count = memoryview(targets).nbytes // size
            file = &self.files[self.file_count]
            file.targets = <const uint8_t *>pointer_to(targets, count * size, self.keep)
            file.bases = <const uint8_t *>pointer_to(bases, count * size, self.keep)
            file.sizes = <const uint32_t *>pointer_to(sizes, 4 * count, self.keep)
            file.offsets = <const uint64_t *>pointer_to(offsets, 8 * (count + 1), self.keep)
            file.streams = <const uint8_t *>pointer_to(streams, file.offsets[count], self.keep)
            file.checksums = <const uint32_t *>pointer_to(checksums, 4 * count, self.keep)
            file.count = count
            self.file_count += 1
        with nogil:
            self.mark_targets()
        if self.target_count == 0:
            return
        self.links = <Link *>calloc(self.number_count, sizeof(Link))
        if self.links == NULL:
            raise MemoryError
        self.first_number = self.numbers[0]
        self.range = self.numbers[self.number_count - 1] - self.first_number
        if self.range < self.number_count * SPARSE:
            self.marks = <uint64_t *>calloc(self.range // 64 + 1, 8)
            self.marked_before = <uint32_t *>malloc(4 * (self.range // 64 + 1))
            if self.marks == NULL or self.marked_before == NULL:
                raise MemoryError
            with nogil:
                self.mark_numbers()

    def __dealloc__(self):
        free(self.files)
        free(self.target_rows)
        free(self.target_files)
        free(self.links)
        free(self.frames)
        free(self.marks)
        free(self.marked_before)
        free(self.places)

    cdef int lay_out(self, const Row *rows, const Share *shares, int share_count) except -1:
        """Take the rows of the objects, and where each pack's lie: before anything is chosen."""
        cdef Py_ssize_t k
        self.rows = rows
        self.shares = shares
        self.share_count = share_count
        self.places = <uint32_t *>malloc(4 * (self.number_count + 1))
        if self.places == NULL:
            raise MemoryError
        with nogil:
            for k in range(self.number_count):
                self.places[self.rank_of(rows[k].number)] = <uint32_t>k
        return 0

    cdef void mark_numbers(self) noexcept nogil:
        """Mark what is sent, and count."""
        cdef Py_ssize_t k
        cdef int64_t at
        cdef uint32_t count = 0
        for k in range(self.number_count):
            at = self.numbers[k] - self.first_number
            self.marks[at >> 6] |= <uint64_t>1 << (at & 63)
        for at in range(self.range // 64 + 1):
            self.marked_before[at] = count
            count += <uint32_t>popcount(self.marks[at])

    cdef Py_ssize_t find_row(self, const Columns *file, const uint8_t *oid, Py_ssize_t low) noexcept nogil:
        """Return the first row of `low` and later ones whose target is not smaller than `oid`."""
        cdef int size = self.table.oid_size
        cdef Py_ssize_t high = low, middle, step = 1
        while high < file.count and order_of(file.targets + high * size, oid, size) < 0:
            low = high + 1
            high = high + step if file.count - high > step else file.count
            step <<= 1
        while low < high:
            middle = low + ((high - low) >> 1)
            if order_of(file.targets + middle * size, oid, size) < 0:
                low = middle + 1
            else:
                high = middle
        return low

    cdef void mark_targets(self) noexcept nogil:
        """Mark what some delta makes. Numbers ascend, and so do the names within a pack."""
        cdef int i, pack, last_pack, size = self.table.oid_size
        cdef Py_ssize_t rank, row
        cdef const uint8_t *oid
        cdef const Columns *file
        for i in range(self.file_count):
            file = &self.files[i]
            last_pack = -1
            row = 0
            for rank in range(self.number_count):
                pack = self.table.pack_of(self.numbers[rank])
                if pack < 0:
                    continue
                if pack != last_pack:
                    last_pack = pack
                    row = 0
                oid = self.table.oid_at(self.numbers[rank])
                row = self.find_row(file, oid, row)
                if row < file.count and order_of(file.targets + row * size, oid, size) == 0:
                    if self.target_rows[rank] == 0:
                        self.target_rows[rank] = <uint32_t>row + 1
                        self.target_files[rank] = <uint32_t>i
                        self.target_count += 1

    cdef bint is_target(self, Py_ssize_t rank) noexcept nogil:
        return self.target_rows[rank] != 0

    cdef Py_ssize_t rank_of(self, int64_t number) noexcept nogil:
        """Return the rank of an object among those that are sent, -1 when it isn't."""
        cdef Py_ssize_t low = 0, high = self.number_count, middle
        cdef uint64_t word, bit
        if self.marks != NULL:
            number -= self.first_number
            if number < 0 or number > self.range:
                return -1
            word = self.marks[number >> 6]
            bit = <uint64_t>1 << (number & 63)
            return self.marked_before[number >> 6] + popcount(word & (bit - 1)) if word & bit else -1
        while low < high:
            middle = (low + high) >> 1
            if self.numbers[middle] < number:
                low = middle + 1
            else:
                high = middle
        if low < self.number_count and self.numbers[low] == number:
            return low
        return -1

    cdef int ask_peer(self, int64_t number) noexcept with gil:
        try:
            return 1 if self.at_peer(number) else 0
        except Exception as error:
            self.trouble = error
            return -1

    cdef int push(self, Py_ssize_t depth, int64_t rank) noexcept nogil:
        """Have an object decided next; `depth` others wait. -1 for no memory."""
        cdef Frame *more
        if depth == self.frame_room:
            more = <Frame *>realloc(self.frames, sizeof(Frame) * (2 * depth + 64))
            if more == NULL:
                return -1
            self.frames = more
            self.frame_room = 2 * depth + 64
        self.links[rank].state = WAITING
        self.frames[depth].rank = rank
        self.frames[depth].stored = NOBODY_LOOKED
        self.frames[depth].limit = self.stored_bytes(rank)
        self.frames[depth].is_limit_known = False
        self.find_deltas(&self.frames[depth])
        return 0

    cdef void find_deltas(self, Frame *frame) noexcept nogil:
        """Find the rows of the first file that has deltas for a frame's object."""
        cdef int size = self.table.oid_size
        cdef const uint8_t *oid
        cdef const Columns *file
        frame.row = frame.end = 0
        frame.file = 0
        if not self.is_target(frame.rank):
            return
        frame.file = <int>self.target_files[frame.rank]
        file = &self.files[frame.file]
        frame.row = <Py_ssize_t>self.target_rows[frame.rank] - 1
        frame.end = frame.row + 1
        oid = file.targets + frame.row * size
        while frame.end < file.count and order_of(file.targets + frame.end * size, oid, size) == 0:
            frame.end += 1

    cdef int peer_has(self, int64_t number) noexcept nogil:
        """Tell whether the peer has an object, or will have it before this: it is out. -1 for trouble."""
        if self.has_thin and self.thin.find(self.table.oid_at(number)) != NULL:
            return 1
        return self.native.has(number) if self.is_native else self.ask_peer(number)

    cdef uint64_t stored_bytes(self, Py_ssize_t rank) noexcept nogil:
        """Return how many bytes the entry of an object takes."""
        cdef const Row *row = &self.rows[self.places[rank]]
        return row.end - row.offset

    cdef Fault find_limit(self, Py_ssize_t depth) noexcept nogil:
        """Find how many bytes a delta may take for the object of a frame, if it is more than its stored entry takes.

        It is where that is of no use: it stands on what is neither sent nor had. And where it stands on what waits for
        this object: what that one gains may be spent, or it gains nothing.
        """
        cdef Frame *frame = &self.frames[depth]
        cdef Frame *other
        cdef const Columns *file
        cdef Fault fault
        cdef int answer = 0
        cdef uint64_t length
        if frame.is_limit_known:
            return FINE
        frame.is_limit_known = True
        fault = self.find_stored(frame)
        if fault != FINE or frame.is_whole:
            return fault
        if frame.stored < 0:
            if frame.elsewhere >= 0:
                answer = self.peer_has(frame.elsewhere)
            if answer == 0:
                frame.limit = <uint64_t>NO_LIMIT
            return NOT_THERE if answer < 0 else FINE
        if self.links[frame.stored].state != WAITING:
            return FINE
        while depth and self.frames[depth].rank != frame.stored:
            depth -= 1
        other = &self.frames[depth]
        if other.row < other.end:
            file = &self.files[other.file]
            length = file.offsets[other.row + 1] - file.offsets[other.row]
            if other.limit == <uint64_t>NO_LIMIT:
                frame.limit = <uint64_t>NO_LIMIT
            elif length < other.limit:
                frame.limit += other.limit - length
        return FINE

    cdef Fault find_stored(self, Frame *frame) noexcept nogil:
        """Find what the stored entry of a frame's object stands on, unless that is known."""
        cdef Py_ssize_t place = self.places[frame.rank], low, high, middle
        cdef const Share *share = self.shares
        cdef const Pack *pack
        cdef Entry entry
        cdef uint32_t rank
        cdef Fault fault
        if frame.stored != NOBODY_LOOKED:
            return FINE
        while place >= share.first + share.count:
            share += 1
        pack = &self.table.packs[share.pack]
        fault = self.read_head(pack, self.rows[place].offset, &entry)
        if fault != FINE:
            return fault
        frame.stored = frame.elsewhere = -1
        frame.is_whole = entry.type_number < 6
        if entry.type_number >= 6:
            low = share.first
            high = share.first + share.count
            while low < high:
                middle = (low + high) >> 1
                if self.rows[middle].offset < <uint64_t>entry.base:
                    low = middle + 1
                else:
                    high = middle
            if low < share.first + share.count and self.rows[low].offset == <uint64_t>entry.base:
                frame.stored = self.rank_of(self.rows[low].number)
                return FINE
            rank = self.table.rank_of(pack, <uint64_t>entry.base)
            if rank < pack.count:
                # As the copier does: the same object may have its number in an earlier pack.
                frame.elsewhere = self.table.find_number(
                    pack.oids + <Py_ssize_t>be32(pack.order + 4 * <Py_ssize_t>rank) * self.table.oid_size
                )
                frame.stored = self.rank_of(frame.elsewhere)
        return FINE

    cdef Fault read_head(self, const Pack *pack, uint64_t offset, Entry *entry) noexcept nogil:
        """Read the header of an entry."""
        cdef uint8_t head[HEAD_BYTES]
        cdef ssize_t n = pread(pack.fd, head, HEAD_BYTES, <int64_t>offset)
        while n < 0 and errno == EINTR:
            n = pread(pack.fd, head, HEAD_BYTES, <int64_t>offset)
        return IO_ERROR if n < 0 else self.reader.parse(pack, offset, head, n, entry)

    cdef int depth_of(self, int64_t rank) noexcept nogil:
        """Return how many deltas lead from a decided object down to what isn't sent or is whole; -1: nobody knows yet.

        A stored delta was decided before its base: the answer may have come since.
        """
        cdef int64_t at = rank
        cdef int steps = 0
        cdef const Link *link = &self.links[at]
        while link.state == DECIDED and link.depth == 0 and link.base >= 0:
            steps += 1
            if steps > 4096:
                return -1
            at = link.base
            link = &self.links[at]
        if link.state != DECIDED:
            return -1
        steps += link.depth
        self.links[rank].depth = <uint16_t>steps
        return steps

    cdef Fault choose(self, Py_ssize_t rank) noexcept nogil:
        """Decide what an object stands on, and before it whatever that takes."""
        cdef Py_ssize_t depth = 0
        cdef Frame *frame
        cdef Link *link
        cdef int64_t next
        cdef Fault fault
        if self.links[rank].state == DECIDED:
            return FINE
        if self.push(depth, rank):
            return NO_MEMORY
        depth = 1
        while depth:
            frame = &self.frames[depth - 1]
            next = -1
            fault = self.try_deltas(depth - 1, &next)
            if fault == FINE and next < 0 and self.links[frame.rank].state == WAITING:
                fault = self.settle_stored(frame, &next)
            if fault != FINE:
                return fault
            if next >= 0:
                if self.push(depth, next):
                    return NO_MEMORY
                depth += 1
            else:
                depth -= 1
        return FINE

    cdef Fault try_deltas(self, Py_ssize_t at, int64_t *next) noexcept nogil:
        """Take the first delta that will do for a frame's object. `next`: what must be decided before one can tell."""
        cdef Frame *frame = &self.frames[at]
        cdef const Columns *file = &self.files[frame.file]
        cdef int64_t number, base
        cdef int depth, answer
        cdef uint64_t length
        cdef Fault fault
        if frame.row == frame.end:
            return FINE
        while frame.row < frame.end:
            # One that was worth it when it was made need not be so any more; an empty one never was.
            length = file.offsets[frame.row + 1] - file.offsets[frame.row]
            if length > frame.limit:
                fault = self.find_limit(at)
                if fault != FINE:
                    return fault
            if 0 < length <= frame.limit:
                number = self.table.find_number(file.bases + frame.row * self.table.oid_size)
                base = self.rank_of(number) if number >= 0 else -1
                if base >= 0:
                    if self.links[base].state == UNDECIDED:
                        next[0] = base
                        return FINE
                    depth = self.depth_of(base)
                    if depth >= DEPTH_MAX:
                        fault = self.find_limit(at)
                        if fault != FINE:
                            return fault
                    if 0 <= depth < (LOST_DEPTH_MAX if frame.limit == <uint64_t>NO_LIMIT else DEPTH_MAX):
                        self.take(frame, base, depth + 1)
                        return FINE
                elif number >= 0:
                    answer = self.peer_has(number)
                    if answer < 0:
                        return NOT_THERE
                    if answer:
                        self.take(frame, -1, 1)
                        return FINE
            frame.row += 1
        return FINE

    cdef void take(self, Frame *frame, int64_t base, int depth) noexcept nogil:
        cdef Link *link = &self.links[frame.rank]
        link.base = base
        link.file = frame.file
        link.row = <uint32_t>frame.row
        link.depth = <uint16_t>depth
        link.state = DECIDED

    cdef Fault settle_stored(self, Frame *frame, int64_t *next) noexcept nogil:
        """Leave an object as it is stored, once its base is decided: unless that is waiting for this one."""
        cdef Link *link = &self.links[frame.rank]
        cdef int depth
        cdef Fault fault = self.find_stored(frame)
        if fault != FINE:
            return fault
        if frame.stored >= 0 and self.links[frame.stored].state == UNDECIDED:
            next[0] = frame.stored
            return FINE
        link.base = frame.stored
        link.file = -1
        link.depth = 0
        if frame.stored < 0:
            link.depth = 0 if frame.is_whole else 1
        else:
            depth = self.depth_of(frame.stored)
            if depth >= 0:
                link.depth = <uint16_t>(depth + 1)
        link.state = DECIDED
        return FINE
