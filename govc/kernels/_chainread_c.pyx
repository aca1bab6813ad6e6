# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: libraries = z
"""Reading single objects through their chains of deltas, compiled; the story is in `chainread`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcpy

from govc.kernels._delta cimport DELTA_FINE, copy_operands, delta_run, delta_size, last_operands
from govc.kernels._guard_c cimport faults_now
from govc.kernels._inflate cimport Deflate, find_deflate, inflate_whole, z_stream
from govc.kernels._packread_c cimport FINE, Entry, Fault, Node, Pack, PackReader, PackTable

cdef extern from *:
    """
    #define GOVC_TUPLE(type, size) (((PyTypeObject *)(type))->tp_alloc((PyTypeObject *)(type), (size)))
    #if defined(__GNUC__) || defined(__clang__)
    #define GOVC_PREFETCH(address) __builtin_prefetch(address)
    #else
    #define GOVC_PREFETCH(address) ((void)(address))
    #endif
    """
    object GOVC_TUPLE(object type, Py_ssize_t size)
    void GOVC_PREFETCH(const void *address) nogil

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(void *what)

cdef Deflate deflate
find_deflate(&deflate)

cdef uint64_t DELTA_KEY = <uint64_t>1 << 63  # of a delta that is kept as it is, beside the object that it makes

DEF SIZE_MAX = 0x7FFFFFFF
DEF DEPTH_MAX = 4096
DEF CHAIN_BYTES_MAX = 8 << 20
DEF SCRATCH_KEPT = 1 << 21
DEF BYTES_PER_RUN = 200
DEF PACKS_MAX = 1 << 15
DEF MAPPED_MAX = 1 << 30
DEF RUNS_MAX = 1 << 16
DEF OFS_DELTA = 6


cdef struct Level:
    # One delta of a chain: what it holds, how large what it makes is, where its instructions begin; whether it was in the
    # cache, and so something else stands on it too.
    Node *node
    bint was_met
    uint64_t made
    Py_ssize_t start


cdef struct Piece:
    # An instruction: where in the result its bytes begin; where they come from, in the base or (highest bit) in the delta.
    uint32_t at
    uint32_t source


cdef struct Run:
    # Bytes of the object that are still to be found: where they go, and where they are in the object one level down.
    uint32_t to
    uint32_t source
    uint32_t size


cdef struct Wanted:
    # One of many objects: where it lies (pack and offset), its number, whose place in the answer is its.
    uint64_t key
    int64_t number
    Py_ssize_t place


cdef struct Map:
    const uint8_t *start
    bint was_asked


cdef class ChainReader(PackReader):
    """See chainread.ChainReader."""

    cdef void *fixed  # a decompressor of libdeflate for streams that begin with a block of fixed codes
    cdef Map *maps
    cdef list keep
    cdef object map_pack
    cdef Level *levels
    cdef Py_ssize_t level_room
    cdef Piece *pieces
    cdef size_t piece_room
    cdef Run *runs
    cdef Run *next_runs
    cdef size_t run_room
    cdef size_t next_room
    cdef uint8_t *scratch[2]
    cdef size_t scratch_room[2]
    cdef Node *made  # what was made on the way to the object that is being made, and is kept

    def __cinit__(self, PackTable table not None, uint64_t cache_bytes, uint64_t object_bytes_max, map_pack):
        self.map_pack = map_pack
        self.keep = []
        self.maps = <Map *>calloc(max(table.pack_count, 1), sizeof(Map))
        if self.maps == NULL or (deflate.allocate != NULL and self.decompressor == NULL):
            raise MemoryError
        if deflate.allocate != NULL:
            self.fixed = deflate.allocate()
            if self.fixed == NULL:
                raise MemoryError

    def __dealloc__(self):
        if self.fixed != NULL:
            deflate.release(self.fixed)
        free(self.maps)
        free(self.levels)
        free(self.pieces)
        free(self.runs)
        free(self.next_runs)
        free(self.scratch[0])
        free(self.scratch[1])

    cdef const uint8_t *map_of(self, int i) except? NULL:
        """Return where a pack is mapped; NULL where it isn't, and is read by its descriptor."""
        cdef const uint8_t[::1] content
        cdef Map *map = &self.maps[i]
        if not map.was_asked:
            map.was_asked = True
            buffer = self.map_pack(i) if i < PACKS_MAX else None
            if buffer is not None:
                content = buffer
                if <uint64_t>content.shape[0] == self.table.packs[i].size:
                    self.keep.append(content)
                    map.start = &content[0]
        return map.start

    cdef bint inflate_entry(self, const uint8_t *stream, uint64_t length, uint8_t *out, uint64_t size) noexcept nogil:
        """Inflate a stream that begins there.

        Small ones have one block, of fixed codes, whose tables cost more to make than such a block to inflate: a
        decompressor that meets no other codes keeps them.
        """
        cdef void *decompressor = self.decompressor
        cdef size_t used
        if self.fixed != NULL and length > 2 and stream[2] >> 1 & 3 == 1:
            decompressor = self.fixed
        return inflate_whole(&deflate, decompressor, <z_stream *>self.stream, stream, <size_t>length, out, size, &used)

    # The chain

    cdef void let_go(self, Py_ssize_t depth, Node *base) noexcept nogil:
        cdef Py_ssize_t k
        for k in range(depth):
            self.release(self.levels[k].node)
        if base != NULL:
            self.release(base)
        if self.made != NULL:
            self.release(self.made)
            self.made = NULL

    cdef Node *find(self, uint64_t key) noexcept nogil:
        """Return what is kept of the entry at a place: what it makes, or itself."""
        cdef Node *node = self.buckets[self.home(key)]
        cdef Node *found = NULL
        while node != NULL:
            if node.key & ~DELTA_KEY == key:
                found = node
                if node.type_number < OFS_DELTA:
                    break
            node = node.chain
        if found != NULL:
            found.was_asked = 1
        return found

    cdef void expect(self, const uint8_t *stream, uint64_t key) noexcept nogil:
        """Have what the next step down looks at brought here, while something else is inflated."""
        GOVC_PREFETCH(&self.buckets[self.home(key)])
        GOVC_PREFETCH(stream)
        GOVC_PREFETCH(stream + 64)
        GOVC_PREFETCH(stream + 128)

    cdef bint descend(self, int i, const uint8_t *start, uint64_t offset, Py_ssize_t *depth, Node **base) noexcept nogil:
        """Collect what makes an object: the deltas, its own first, and the whole object below them, all of them held.

        False where that can't be done: `load` finds out why, or does it.
        """
        cdef const Pack *pack = &self.table.packs[i]
        cdef uint64_t end = pack.size - self.table.oid_size, tag = <uint64_t>i << 48, at = offset, held = 0
        cdef Entry entry
        cdef Node *node
        cdef Level *more
        cdef bint was_met
        while True:
            node = self.find(tag | at)
            was_met = node != NULL
            if not was_met:
                if at < 12 or at >= end or self.parse(pack, at, start + at, <Py_ssize_t>(end - at), &entry) != FINE:
                    return False
                if entry.size > self.largest or (entry.type_number >= 6 and entry.size > CHAIN_BYTES_MAX):
                    return False
                if 12 <= entry.base < <int64_t>end:
                    self.expect(start + entry.base, tag | <uint64_t>entry.base)
                node = self.new_node(
                    (DELTA_KEY if entry.type_number >= 6 else 0) | tag | at, entry.type_number, entry.size)
                if node == NULL:
                    return False
                if not self.inflate_entry(start + entry.data, end - entry.data, node.data, entry.size):
                    self.release(node)
                    return False
                node.base = <uint64_t>entry.base
                self.remember(node)
            else:
                node.pins += 1
            if node.type_number < 6:
                base[0] = node
                return True
            held += node.size
            if depth[0] == DEPTH_MAX or held > CHAIN_BYTES_MAX:
                self.release(node)
                return False
            if depth[0] == self.level_room:
                more = <Level *>realloc(self.levels, sizeof(Level) * <size_t>(2 * self.level_room + 64))
                if more == NULL:
                    self.release(node)
                    return False
                self.levels = more
                self.level_room = 2 * self.level_room + 64
            self.levels[depth[0]].node = node
            self.levels[depth[0]].was_met = was_met
            depth[0] += 1
            at = node.base

    cdef bint measure(self, Py_ssize_t depth, const Node *base) noexcept nogil:
        """Read the sizes that the deltas state; each has to be made for what the next one makes."""
        cdef Py_ssize_t k = depth
        cdef uint64_t size = base.size, stated
        cdef Level *level
        while k:
            k -= 1
            level = &self.levels[k]
            level.start = 0
            if (
                size > SIZE_MAX
                or delta_size(level.node.data, <Py_ssize_t>level.node.size, &level.start, &stated) != DELTA_FINE
                or stated != size
                or delta_size(level.node.data, <Py_ssize_t>level.node.size, &level.start, &level.made) != DELTA_FINE
                or level.made > self.largest
            ):
                return False
            size = level.made
        return size <= SIZE_MAX

    # What it makes

    cdef Py_ssize_t cut(self, const Level *level, uint64_t base_size) noexcept nogil:
        """Take a delta apart; return the number of its pieces, -1 when it is no good or there is no memory."""
        cdef const uint8_t *delta = level.node.data
        cdef Py_ssize_t pos = level.start, length = <Py_ssize_t>level.node.size, taken
        cdef uint64_t at = 0, offset = 0, size = 0
        cdef uint8_t op
        cdef Piece *piece
        # An instruction takes a byte at least, and one more piece ends the last one.
        if not reserve(<void **>&self.pieces, &self.piece_room, sizeof(Piece), <size_t>length + 1):
            return -1
        piece = self.pieces
        while pos < length:
            op = delta[pos]
            pos += 1
            piece.at = <uint32_t>at
            if op & 0x80:
                if pos + 7 <= length:
                    pos += copy_operands(delta + pos, op, &offset, &size)
                else:
                    taken = last_operands(delta + pos, length - pos, op, &offset, &size)
                    if taken < 0:
                        return -1
                    pos += taken
                if offset + size > base_size:
                    return -1
                piece.source = <uint32_t>offset
            else:
                if op == 0 or pos + op > length:
                    return -1
                size = op
                piece.source = (<uint32_t>1 << 31) | <uint32_t>pos
                pos += op
            at += size
            if at > level.made:
                return -1
            piece += 1
        piece.at = <uint32_t>at
        return piece - self.pieces if at == level.made else -1

    cdef bint compose(self, Py_ssize_t depth, const Node *base, uint8_t *out) noexcept nogil:
        """Make the object out of all its deltas at once: each byte is copied once, from wherever it was written first.

        From the top down, the runs that are still to be found become runs of what lies below. Where they would be too
        short for that to pay, or too many, what is below is made whole.
        """
        cdef Py_ssize_t k, count = 1
        cdef const Level *level = &self.levels[0]
        cdef const uint8_t *below = base.data
        cdef uint64_t made
        cdef Run *swap
        if depth == 1:
            return delta_run(base.data, base.size, level.node.data, <Py_ssize_t>level.node.size, level.start, out,
                             level.made, &made) == DELTA_FINE
        if not reserve(<void **>&self.runs, &self.run_room, sizeof(Run), 1):
            return False
        self.runs[0].to = self.runs[0].source = 0
        self.runs[0].size = <uint32_t>level.made
        for k in range(depth):
            level = &self.levels[k]
            made = count
            count = -1
            if level.made >= BYTES_PER_RUN * made:
                count = self.lower(level, self.levels[k + 1].made if k + 1 < depth else base.size, <Py_ssize_t>made, out)
            if count < 0:
                count = <Py_ssize_t>made
                below = self.make_whole(k, depth, base)
                if below == NULL:
                    return False
                break
            swap = self.runs
            self.runs = self.next_runs
            self.next_runs = swap
            self.run_room, self.next_room = self.next_room, self.run_room
        for k in range(count):
            memcpy(out + self.runs[k].to, below + self.runs[k].source, self.runs[k].size)
        return True

    cdef Py_ssize_t lower(self, const Level *level, uint64_t base_size, Py_ssize_t count, uint8_t *out) noexcept nogil:
        """Turn runs of what a delta makes into bytes that it brings, and `next_runs` of what it stands on.

        Return how many these are; -1 when they are too many, there is no memory, or the delta is no good.
        """
        cdef const uint8_t *delta = level.node.data
        cdef Py_ssize_t piece_count = self.cut(level, base_size), n = 0, j = 0, k
        cdef int steps
        cdef uint32_t to, source, left, take, at
        cdef Run *last
        if piece_count < 0 or not reserve(<void **>&self.next_runs, &self.next_room, sizeof(Run), <size_t>count):
            return -1
        for k in range(count):
            to, source, left = self.runs[k].to, self.runs[k].source, self.runs[k].size
            if left and (self.pieces[j].at > source or self.pieces[j + 1].at <= source):
                # Mostly it is one of the next few.
                steps = 8
                while steps and self.pieces[j].at <= source:
                    if self.pieces[j + 1].at > source:
                        break
                    j += 1
                    steps -= 1
                else:
                    j = self.piece_at(source, piece_count)
            while left:
                if self.pieces[j + 1].at == source:
                    j += 1
                at = source - self.pieces[j].at
                take = self.pieces[j + 1].at - source
                if take > left:
                    take = left
                if self.pieces[j].source >> 31:
                    memcpy(out + to, delta + (self.pieces[j].source & SIZE_MAX) + at, take)
                else:
                    at += self.pieces[j].source
                    last = &self.next_runs[n - 1]
                    if n and last.to + last.size == to and last.source + last.size == at:
                        last.size += take
                    elif n == RUNS_MAX or (<size_t>n == self.next_room and not self.more_runs()):
                        return -1
                    else:
                        last = &self.next_runs[n]
                        n += 1
                        last.to = to
                        last.source = at
                        last.size = take
                left -= take
                to += take
                source += take
        return n

    cdef bint more_runs(self) noexcept nogil:
        cdef Run *more = <Run *>realloc(self.next_runs, 2 * self.next_room * sizeof(Run))
        if more == NULL:
            return False
        self.next_runs = more
        self.next_room *= 2
        return True

    cdef Py_ssize_t piece_at(self, uint32_t source, Py_ssize_t count) noexcept nogil:
        """Return the piece in which a byte of the result lies."""
        cdef Py_ssize_t low = 0, high = count - 1, middle
        while low < high:
            middle = (low + high + 1) >> 1
            if self.pieces[middle].at <= source:
                low = middle
            else:
                high = middle - 1
        return low

    cdef const uint8_t *make_whole(self, Py_ssize_t k, Py_ssize_t depth, const Node *base) noexcept nogil:
        """Make what the delta at level `k` makes, one delta after the other; NULL when one is no good.

        The topmost of these that something else stands on, too, is kept as what it makes: that is asked for again.
        """
        cdef const uint8_t *source = base.data
        cdef uint64_t size = base.size, made = 0
        cdef const Level *level
        cdef uint8_t *out
        cdef int which = 0
        cdef Py_ssize_t at = depth, kept = k
        while kept < depth and not self.levels[kept].was_met:
            kept += 1
        while at > k:
            at -= 1
            level = &self.levels[at]
            if at == kept and (level.made + sizeof(Node)) * 8 <= self.budget:
                self.made = self.new_node(level.node.key & ~DELTA_KEY, base.type_number, level.made)
            if at == kept and self.made != NULL:
                out = self.made.data
            else:
                if not reserve(<void **>&self.scratch[which], &self.scratch_room[which], 1, level.made + 1):
                    return NULL
                out = self.scratch[which]
                which ^= 1
            if delta_run(source, size, level.node.data, <Py_ssize_t>level.node.size, level.start, out, level.made,
                         &made) != DELTA_FINE:
                return NULL
            if at == kept and self.made != NULL:
                self.remember(self.made)
            source = out
            size = level.made
        return source

    cdef void tidy(self) noexcept nogil:
        """Give back what only an unusual object needed."""
        cdef int which
        for which in range(2):
            if self.scratch_room[which] > SCRATCH_KEPT:
                free(self.scratch[which])
                self.scratch[which] = NULL
                self.scratch_room[which] = 0
        if self.piece_room * sizeof(Piece) > SCRATCH_KEPT:
            free(self.pieces)
            self.pieces = NULL
            self.piece_room = 0
        if self.run_room * sizeof(Run) > SCRATCH_KEPT:
            free(self.runs)
            self.runs = NULL
            self.run_room = 0
        if self.next_room * sizeof(Run) > SCRATCH_KEPT:
            free(self.next_runs)
            self.next_runs = NULL
            self.next_room = 0

    # What is asked

    cdef bint was_torn(self, uint64_t faults) noexcept nogil:
        """Tell whether a page could not be read since there were so many faults; if so, nothing is read by maps again.

        Zeros stood where the file had something else, and whatever is in the cache may be made of them.
        """
        cdef int i
        if faults_now() == faults:
            return False
        for i in range(self.table.pack_count):
            self.maps[i].start = NULL
            self.maps[i].was_asked = True
        self.drop_all()
        return True

    cdef object content(self, int64_t number, int *type_number):
        """Return the content of an object, and its type; None when it takes `load` to know."""
        cdef int i = self.table.pack_of(number)
        cdef const uint8_t *start = self.map_of(i) if i >= 0 else NULL
        cdef uint64_t offset, faults = faults_now()
        cdef Py_ssize_t depth = 0
        cdef Node *base = NULL
        cdef bint fine
        cdef bytes data = None
        cdef uint8_t *out
        if start == NULL:
            return None
        offset = self.table.offset_at(&self.table.packs[i], <uint32_t>(number - self.table.packs[i].first))
        with nogil:
            fine = self.descend(i, start, offset, &depth, &base) and self.measure(depth, base)
        try:
            if fine and depth == 0:
                data = PyBytes_FromStringAndSize(<char *>base.data, <Py_ssize_t>base.size)
            elif fine:
                data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>self.levels[0].made)
                out = <uint8_t *>PyBytes_AS_STRING(data)
                with nogil:
                    fine = self.compose(depth, base, out)
                    self.tidy()
            if fine:
                type_number[0] = base.type_number
        finally:
            self.let_go(depth, base)
        return None if self.was_torn(faults) or not fine else data

    cdef Fault entry_at(self, const Pack *pack, uint64_t offset, Entry *entry, Py_ssize_t *got) noexcept nogil:
        cdef int i = <int>(pack - self.table.packs)
        cdef uint64_t end = pack.size - self.table.oid_size
        if not self.maps[i].was_asked:
            with gil:
                try:
                    self.map_of(i)
                except Exception:
                    self.maps[i].start = NULL  # it is read by its descriptor, which says what is wrong
        if self.maps[i].start == NULL or offset < 12 or offset >= end:
            return PackReader.entry_at(self, pack, offset, entry, got)
        self.window_fd = -1
        self.front = <uint8_t *>self.maps[i].start + offset  # nobody writes there
        got[0] = <Py_ssize_t>(end - offset if end - offset < MAPPED_MAX else MAPPED_MAX)
        return self.parse(pack, offset, self.front, got[0], entry)

    cdef Fault inflate_to(self, const Pack *pack, uint64_t offset, const Entry *entry, Py_ssize_t got, uint8_t *out) noexcept nogil:
        cdef const uint8_t *start = self.maps[pack - self.table.packs].start
        cdef uint64_t length = pack.size - self.table.oid_size - entry.data
        if start != NULL and self.inflate_entry(start + entry.data, length, out, entry.size):
            return FINE
        return PackReader.inflate_to(self, pack, offset, entry, got, out)

    cdef Fault load(self, int64_t number, Node **node) noexcept nogil:
        cdef uint64_t faults = faults_now()
        cdef Fault fault = PackReader.load(self, number, node)
        if not self.was_torn(faults):
            return fault
        if fault == FINE:
            self.release(node[0])
        return PackReader.load(self, number, node)

    cdef Fault look_at(self, int64_t number, int *type_number, uint64_t *size) noexcept nogil:
        cdef uint64_t faults = faults_now()
        cdef Fault fault = PackReader.look_at(self, number, type_number, size)
        return PackReader.look_at(self, number, type_number, size) if self.was_torn(faults) else fault

    def read(self, int64_t number):
        """See packread.PackReader."""
        cdef int type_number = 0
        data = self.content(number, &type_number)
        return (type_number, data) if data is not None else PackReader.read(self, number)

    def find_raw(self, oid, type, tuple kinds not None):
        """See chainread.ChainReader."""
        cdef int64_t number = -1
        cdef int type_number = 0
        cdef object data
        if PyBytes_CheckExact(oid) and PyBytes_GET_SIZE(oid) == self.table.oid_size:
            number = self.table.find_number(<const uint8_t *>PyBytes_AS_STRING(oid))
        data = self.content(number, &type_number) if number >= 0 else None
        return raw_of(type, kinds[type_number], data) if data is not None else None

    def find_many_raw(self, list oids not None, type, tuple kinds not None, uint64_t bytes_max):
        """See chainread.ChainReader."""
        cdef Py_ssize_t count = len(oids), wanted_count = 0, at
        cdef list found = [None] * count
        cdef bytes buffer = PyBytes_FromStringAndSize(NULL, count * sizeof(Wanted))
        cdef Wanted *wanted = <Wanted *>PyBytes_AS_STRING(buffer)
        cdef uint64_t used = 0
        cdef int64_t number
        cdef int type_number = 0, i
        cdef object oid, data
        for at in range(count):
            oid = oids[at]
            if not PyBytes_CheckExact(oid) or PyBytes_GET_SIZE(oid) != self.table.oid_size:
                continue
            number = self.table.find_number(<const uint8_t *>PyBytes_AS_STRING(oid))
            if number < 0:
                continue
            i = self.table.pack_of(number)
            wanted[wanted_count].key = <uint64_t>i << 48 | self.table.offset_at(
                &self.table.packs[i], <uint32_t>(number - self.table.packs[i].first))
            wanted[wanted_count].number = number
            wanted[wanted_count].place = at
            wanted_count += 1
        qsort(wanted, wanted_count, sizeof(Wanted), &compare_wanted)
        for at in range(wanted_count):
            data = self.content(wanted[at].number, &type_number)
            if data is not None:
                found[wanted[at].place] = raw_of(type, kinds[type_number], data)
                used += PyBytes_GET_SIZE(data)
                if used > bytes_max:
                    break
        return found


cdef object raw_of(type, kind, data):
    """Make a named tuple, without the call of its class."""
    if not issubclass(type, tuple):
        return None
    cdef object raw = GOVC_TUPLE(type, 2)
    Py_INCREF(kind)
    PyTuple_SET_ITEM(raw, 0, kind)
    Py_INCREF(data)
    PyTuple_SET_ITEM(raw, 1, data)
    PyObject_GC_UnTrack(<void *>raw)  # a string and bytes: no cycle leads through it
    return raw


cdef int compare_wanted(const void *a, const void *b) noexcept nogil:
    cdef const Wanted *one = <const Wanted *>a
    cdef const Wanted *other = <const Wanted *>b
    if one.key != other.key:
        return -1 if one.key < other.key else 1
    return (one.number > other.number) - (one.number < other.number)


cdef inline bint reserve(void **block, size_t *room, size_t size, size_t count) noexcept nogil:
    """Have room for `count` items; what was there may be lost."""
    if room[0] >= count:
        return True
    free(block[0])
    block[0] = malloc((count + count // 4 + 64) * size)
    room[0] = count + count // 4 + 64 if block[0] != NULL else 0
    return block[0] != NULL
