# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Choosing thin entries, compiled; the story is in `thin`."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort

from govc.kernels._names cimport find_name, order_of
from govc.kernels._packread_c cimport PackReader, PackTable
from govc.kernels._sweep_c cimport AtPeer

from array import array


cdef extern from * nogil:
    int popcount "__builtin_popcountll"(uint64_t)


DEF DEPTH_MAX = 50
cdef enum:
    NOWHERE = 0xFFFFFFFF  # no place of the file


cdef const uint8_t *start_of(object buffer, Py_ssize_t size) except? NULL:
    """Return where a column lies, which has `size` bytes."""
    cdef const uint8_t[::1] view = memoryview(buffer).cast("B")
    if view.shape[0] != size:
        raise ValueError("a column of another length")
    return &view[0] if size else NULL


cdef int by_value(const void *a, const void *b) noexcept nogil:
    cdef int64_t one = (<const int64_t *>a)[0], other = (<const int64_t *>b)[0]
    return -1 if one < other else 1 if one > other else 0


cdef class ThinFile:
    """See thin.ThinFile."""

    def __cinit__(
        self, int oid_size, names, places, ranks, kinds, starts, bases, foreign, sizes, checksums, offsets, streams
    ):
        cdef Py_ssize_t n = memoryview(kinds).nbytes, rows = memoryview(bases).nbytes // 4
        cdef bint is_sound
        self.oid_size = oid_size
        self.count = n
        self.row_count = rows
        self.foreign_count = memoryview(foreign).nbytes // oid_size
        self.stream_bytes = memoryview(streams).nbytes
        self.keep = (names, places, ranks, kinds, starts, bases, foreign, sizes, checksums, offsets, streams)
        self.names = start_of(names, n * oid_size)
        self.places = <const uint32_t *>start_of(places, 4 * n)
        self.ranks = <const uint32_t *>start_of(ranks, 4 * n)
        self.kinds = start_of(kinds, n)
        self.starts = <const uint32_t *>start_of(starts, 4 * (n + 1))
        self.bases = <const uint32_t *>start_of(bases, 4 * rows)
        self.foreign = start_of(foreign, self.foreign_count * oid_size)
        self.sizes = <const uint32_t *>start_of(sizes, 4 * rows)
        self.checksums = <const uint32_t *>start_of(checksums, 4 * rows)
        self.offsets = <const uint64_t *>start_of(offsets, 8 * (rows + 1))
        self.streams = start_of(streams, <Py_ssize_t>self.stream_bytes)
        with nogil:
            is_sound = self.is_sound()
        if not is_sound:
            raise ValueError("a number outside its column")

    cdef bint is_sound(self) noexcept nogil:
        """Tell whether every number that is used as an index is one, and every base comes before what stands on it."""
        cdef Py_ssize_t place, row
        cdef uint32_t base
        if self.starts[0] != 0 or self.starts[self.count] != <uint32_t>self.row_count:
            return False
        for place in range(self.count):
            if self.places[place] >= <uint32_t>self.count or self.ranks[place] >= <uint32_t>self.count:
                return False
            if not 1 <= self.kinds[place] <= 4 or self.starts[place] >= self.starts[place + 1]:
                return False
            if self.starts[place + 1] > <uint32_t>self.row_count:
                return False
            for row in range(self.starts[place], self.starts[place + 1]):
                base = self.bases[row]
                if base == WHOLE:
                    continue
                if base & FOREIGN:
                    if base - FOREIGN >= self.foreign_count:
                        return False
                elif base >= place:
                    return False
        if self.offsets[0] != 0 or self.offsets[self.row_count] != self.stream_bytes:
            return False
        for row in range(self.row_count):
            if self.offsets[row] >= self.offsets[row + 1]:  # no stream is empty
                return False
        return True

    cdef int64_t place_of(self, const uint8_t *oid) noexcept nogil:
        """Return the place of a name, -1 when the file doesn't have it."""
        cdef int64_t rank = find_name(self.names, self.oid_size, 0, <uint32_t>self.count, oid, 0, <uint64_t>-1)
        return self.places[rank] if rank >= 0 else -1

    cdef Py_ssize_t rank_from(self, Py_ssize_t low, const uint8_t *oid) noexcept nogil:
        """Return the first rank that isn't before a name, where nothing below `low` is: names come ascending.

        The step is doubled until something isn't smaller: of much that is sent the next one is near.
        """
        cdef Py_ssize_t high = low, middle, step = 1
        while high < self.count and order_of(self.names + high * self.oid_size, oid, self.oid_size) < 0:
            low = high + 1
            high = high + step if self.count - high > step else self.count
            step <<= 1
        while low < high:
            middle = low + ((high - low) >> 1)
            if order_of(self.names + middle * self.oid_size, oid, self.oid_size) < 0:
                low = middle + 1
            else:
                high = middle
        return low

    cdef const uint8_t *base_name(self, uint32_t base) noexcept nogil:
        if base & FOREIGN:
            return self.foreign + <Py_ssize_t>(base - FOREIGN) * self.oid_size
        return self.names + <Py_ssize_t>self.ranks[base] * self.oid_size


cdef class ThinChoice:
    """See thin.ThinChoice."""

    def __cinit__(self, ThinFile file not None, PackReader reader not None, numbers not None, at_peer not None):
        cdef const uint8_t[::1] view = memoryview(numbers).cast("B")
        cdef Py_ssize_t n = view.shape[0] // 8, k, left = 0
        cdef const int64_t *values = <const int64_t *>&view[0] if n else NULL
        cdef uint32_t *places = NULL
        cdef int64_t *rest = NULL
        if file.oid_size != reader.table.oid_size:
            raise ValueError("names of another size")
        self.file = file
        self.table = reader.table
        if isinstance(at_peer, AtPeer):
            self.at_peer = at_peer
        else:
            n = 0  # it can't be asked without the GIL: nothing is taken
        self.marks = <uint64_t *>calloc(file.count // 64 + 1, 8)
        self.marked_before = <uint32_t *>malloc(4 * (file.count // 64 + 1))
        self.slots = <Slot *>malloc(sizeof(Slot) * (n + 1))
        places = <uint32_t *>malloc(4 * (n + 1))
        rest = <int64_t *>malloc(8 * (n + 1))
        try:
            if self.marks == NULL or self.marked_before == NULL or self.slots == NULL or places == NULL or rest == NULL:
                raise MemoryError
            self.numbers, self.number_count = values, n
            with nogil:
                self.find_slots(values, places, n)
                for k in range(n):
                    if places[k] == NOWHERE:
                        rest[left] = values[k]
                        left += 1
                for k in range(self.slot_count):
                    self.choose(&self.slots[k])
                    if self.slots[k].row == NOT_TAKEN:
                        rest[left] = self.slots[k].number
                        left += 1
                self.taken = n - left
                qsort(rest, left, 8, by_value)
            self.rest = array("q")
            self.rest.frombytes(PyBytes_FromStringAndSize(<const char *>rest, 8 * left) if self.at_peer is not None else view)
        finally:
            self.numbers, self.number_count = NULL, 0  # they are the caller's
            free(places)
            free(rest)

    def __dealloc__(self):
        free(self.marks)
        free(self.marked_before)
        free(self.slots)

    cdef void find_slots(self, const int64_t *numbers, uint32_t *places, Py_ssize_t n) noexcept nogil:
        """Find which objects the file has, and put them in its order."""
        cdef Py_ssize_t k
        cdef Py_ssize_t rank = 0
        cdef int size = self.file.oid_size
        cdef uint64_t bit
        cdef uint32_t count = 0, place
        cdef const uint8_t *oid
        cdef const uint8_t *last = NULL
        cdef Slot *slot
        for k in range(n):
            places[k] = NOWHERE
            oid = self.table.oid_at(numbers[k])
            if oid == NULL:
                continue
            if last != NULL and order_of(last, oid, size) > 0:
                rank = 0  # the next pack's names begin anew
            last = oid
            rank = self.file.rank_from(rank, oid)
            if rank == self.file.count or order_of(self.file.names + rank * size, oid, size) != 0:
                continue
            place = self.file.places[rank]
            bit = <uint64_t>1 << (place & 63)
            if self.marks[place >> 6] & bit:
                continue  # each once: a file may have two names at one place, if somebody made it so
            self.marks[place >> 6] |= bit
            places[k] = place
        for k in range(self.file.count // 64 + 1):
            self.marked_before[k] = count
            count += <uint32_t>popcount(self.marks[k])
        self.slot_count = count
        for k in range(n):
            if places[k] != NOWHERE:
                slot = self.slot_of(places[k])
                slot.number = numbers[k]
                slot.place = places[k]
                slot.row = NOT_TAKEN
                slot.out = 0
                slot.depth = 0

    cdef Slot *slot_of(self, uint32_t place) noexcept nogil:
        """Return the slot of a place, NULL when what is there isn't sent."""
        cdef uint64_t word = self.marks[place >> 6], bit = <uint64_t>1 << (place & 63)
        if not word & bit:
            return NULL
        return &self.slots[self.marked_before[place >> 6] + <uint32_t>popcount(word & (bit - 1))]

    cdef Slot *find(self, const uint8_t *oid) noexcept nogil:
        """Return the slot of a name whose entry is taken from the file, else NULL."""
        cdef int64_t place = self.file.place_of(oid)
        cdef Slot *slot = self.slot_of(<uint32_t>place) if place >= 0 else NULL
        return slot if slot != NULL and slot.row != NOT_TAKEN else NULL

    cdef bint is_at_peer(self, uint32_t base) noexcept nogil:
        """Tell whether a base is at the client and not sent all the same, as what is wanted by its own name is."""
        cdef int64_t number = self.table.find_number(self.file.base_name(base))
        return number >= 0 and self.at_peer.has(number) and not self.is_sent(number)

    cdef bint is_sent(self, int64_t number) noexcept nogil:
        cdef Py_ssize_t low = 0, high = self.number_count, middle
        while low < high:
            middle = low + ((high - low) >> 1)
            if self.numbers[middle] < number:
                low = middle + 1
            else:
                high = middle
        return low < self.number_count and self.numbers[low] == number

    cdef void choose(self, Slot *slot) noexcept nogil:
        """Take an entry of an object; those before it are decided."""
        cdef const uint32_t *bases = self.file.bases
        cdef uint32_t first = self.file.starts[slot.place], row = self.file.starts[slot.place + 1], base
        cdef Slot *other
        if row - first > 1 and bases[first] != WHOLE and (
            bases[first] & FOREIGN or self.slot_of(bases[first]) == NULL
        ) and self.is_at_peer(bases[first]):
            slot.row = first
            slot.depth = 1
            return
        while row > first:  # the widest step first: so chains stay short
            row -= 1
            base = bases[row]
            if base == WHOLE:
                slot.row = row
                return
            other = NULL if base & FOREIGN else self.slot_of(base)
            if other != NULL:
                if other.row != NOT_TAKEN and other.depth < DEPTH_MAX:
                    slot.row = row
                    slot.depth = other.depth + 1
                    return
            elif self.is_at_peer(base):
                slot.row = row
                slot.depth = 1
                return
