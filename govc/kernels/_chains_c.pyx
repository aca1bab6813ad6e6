# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Choosing forward deltas, compiled; the story is in `chains`."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp

from govc.kernels._packread_c cimport FINE, NO_MEMORY, NOT_THERE, Entry, Fault, Pack, PackReader, PackTable, be32


DEF DEPTH_MAX = 50
DEF UNDECIDED = 0
DEF WAITING = 1  # for what it may stand on
DEF DECIDED = 2
DEF NOBODY_LOOKED = -2


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
        self.keep = []
        self.number_count = memoryview(numbers).nbytes // 8
        self.numbers = <const int64_t *>pointer_to(numbers, 0, self.keep)
        self.files = <Columns *>calloc(len(files) + 1, sizeof(Columns))
        self.targets = <uint8_t *>calloc(self.number_count // 8 + 1, 1)
        if self.files == NULL or self.targets == NULL:
            raise MemoryError
        for targets, bases, sizes, offsets, streams in files:
            count = memoryview(targets).nbytes // size
            file = &self.files[self.file_count]
            file.targets = <const uint8_t *>pointer_to(targets, count * size, self.keep)
            file.bases = <const uint8_t *>pointer_to(bases, count * size, self.keep)
            file.sizes = <const uint32_t *>pointer_to(sizes, 4 * count, self.keep)
            file.offsets = <const uint64_t *>pointer_to(offsets, 8 * (count + 1), self.keep)
            file.streams = <const uint8_t *>pointer_to(streams, file.offsets[count], self.keep)
            file.count = count
            self.file_count += 1
        with nogil:
            self.mark_targets()
        if self.target_count == 0:
            return
        self.links = <Link *>calloc(self.number_count, sizeof(Link))
        if self.links == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.files)
        free(self.targets)
        free(self.links)
        free(self.frames)

    cdef Py_ssize_t find_row(self, const Columns *file, const uint8_t *oid, Py_ssize_t low) noexcept nogil:
        """Return the first row of `low` and later ones whose target is not smaller than `oid`."""
        cdef int size = self.table.oid_size
        cdef Py_ssize_t high = low, middle, step = 1
        while high < file.count and memcmp(file.targets + high * size, oid, size) < 0:
            low = high + 1
            high = high + step if file.count - high > step else file.count
            step <<= 1
        while low < high:
            middle = low + ((high - low) >> 1)
            if memcmp(file.targets + middle * size, oid, size) < 0:
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
                if row < file.count and memcmp(file.targets + row * size, oid, size) == 0:
                    if not self.is_target(rank):
                        self.targets[rank >> 3] |= 1 << (rank & 7)
                        self.target_count += 1

    cdef bint is_target(self, Py_ssize_t rank) noexcept nogil:
        return self.targets[rank >> 3] >> (rank & 7) & 1

    cdef Py_ssize_t rank_of(self, int64_t number) noexcept nogil:
        """Return the rank of an object among those that are sent, -1 when it isn't."""
        cdef Py_ssize_t low = 0, high = self.number_count, middle
        while low < high:
            middle = (low + high) >> 1
            if self.numbers[middle] < number:
                low = middle + 1
            else:
                high = middle
        if low < self.number_count and self.numbers[low] == number:
            return low
        return -1

    cdef int peer_has(self, int64_t number) noexcept with gil:
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
        self.find_deltas(&self.frames[depth])
        return 0

    cdef void find_deltas(self, Frame *frame) noexcept nogil:
        """Find the rows of the first file that has deltas for a frame's object."""
        cdef int i, size = self.table.oid_size
        cdef const uint8_t *oid = self.table.oid_at(self.numbers[frame.rank])
        cdef const Columns *file
        frame.row = frame.end = 0
        frame.file = 0
        if not self.is_target(frame.rank):
            return
        for i in range(self.file_count):
            file = &self.files[i]
            frame.row = frame.end = self.find_row(file, oid, 0)
            while frame.end < file.count and memcmp(file.targets + frame.end * size, oid, size) == 0:
                frame.end += 1
            if frame.end > frame.row:
                frame.file = i
                return

    cdef uint64_t stored_bytes(self, int64_t number) noexcept nogil:
        """Return how many bytes the entry of an object takes."""
        cdef const Pack *pack = &self.table.packs[self.table.pack_of(number)]
        cdef uint64_t offset = self.table.offset_at(pack, <uint32_t>(number - pack.first))
        cdef uint32_t rank = self.table.rank_of(pack, offset) + 1
        if rank >= pack.count:
            return pack.size - self.table.oid_size - offset if rank == pack.count else 0
        return self.table.offset_at(pack, be32(pack.order + 4 * <Py_ssize_t>rank)) - offset

    cdef Fault find_stored(self, Frame *frame, bint *is_whole) noexcept nogil:
        """Find what the stored entry of a frame's object stands on."""
        cdef int64_t number = self.numbers[frame.rank]
        cdef const Pack *pack = &self.table.packs[self.table.pack_of(number)]
        cdef uint64_t offset = self.table.offset_at(pack, <uint32_t>(number - pack.first))
        cdef Entry entry
        cdef Py_ssize_t got = 0
        cdef uint32_t rank
        cdef Fault fault = self.reader.entry_at(pack, offset, &entry, &got)
        if fault != FINE:
            return fault
        frame.stored = -1
        is_whole[0] = entry.type_number < 6
        if entry.type_number >= 6:
            rank = self.table.rank_of(pack, <uint64_t>entry.base)
            if rank < pack.count:
                # As the copier does: the same object may have its number in an earlier pack.
                frame.stored = self.rank_of(self.table.find_number(
                    pack.oids + <Py_ssize_t>be32(pack.order + 4 * <Py_ssize_t>rank) * self.table.oid_size
                ))
        return FINE

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
            fault = self.try_deltas(frame, &next)
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

    cdef Fault try_deltas(self, Frame *frame, int64_t *next) noexcept nogil:
        """Take the first delta that will do. `next`: what must be decided before one can tell."""
        cdef const Columns *file = &self.files[frame.file]
        cdef int64_t number, base
        cdef int depth, answer
        cdef uint64_t stored
        if frame.row == frame.end:
            return FINE
        stored = self.stored_bytes(self.numbers[frame.rank])
        while frame.row < frame.end:
            # One that was worth it when it was made need not be so any more; an empty one never was.
            if file.offsets[frame.row + 1] - file.offsets[frame.row] - 1 < stored:
                number = self.table.find_number(file.bases + frame.row * self.table.oid_size)
                base = self.rank_of(number) if number >= 0 else -1
                if base >= 0:
                    if self.links[base].state == UNDECIDED:
                        next[0] = base
                        return FINE
                    depth = self.depth_of(base)
                    if 0 <= depth < DEPTH_MAX:
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
        cdef bint is_whole = False
        cdef int depth
        cdef Fault fault
        if frame.stored == NOBODY_LOOKED:
            fault = self.find_stored(frame, &is_whole)
            if fault != FINE:
                return fault
            if frame.stored >= 0 and self.links[frame.stored].state == UNDECIDED:
                next[0] = frame.stored
                return FINE
        link.base = frame.stored
        link.file = -1
        link.depth = 0
        if frame.stored < 0:
            link.depth = 0 if is_whole else 1
        else:
            depth = self.depth_of(frame.stored)
            if depth >= 0:
                link.depth = <uint16_t>(depth + 1)
        link.state = DECIDED
        return FINE
