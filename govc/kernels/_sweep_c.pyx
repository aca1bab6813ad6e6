# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: libraries = z
"""Sweeps, compiled; the story is in `sweep`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcpy, memset

from govc.kernels._names cimport find_name, order_of
from govc.kernels._packread_c cimport Pack, PackTable, find_from

from array import array

DEF NONE = 0xFFFFFFFF
DEF COMMIT = 1
DEF TREE = 2
DEF WANT = 1
DEF HAVE = 2
DEF CUT = 4
DEF CANDIDATE = 1
DEF HAD = 2


cdef const void *pointer_to(object buffer, list keep):
    """Return where the bytes of a buffer are; the buffer stays as long as `keep`."""
    cdef const uint8_t[::1] view
    if len(buffer) == 0:
        return NULL
    view = memoryview(buffer).cast("B")
    keep.append(view)
    return &view[0]


cdef class Growing:
    cdef uint32_t *data
    cdef Py_ssize_t count
    cdef Py_ssize_t room

    def __dealloc__(self):
        free(self.data)

    cdef int push(self, uint32_t value) noexcept nogil:
        cdef uint32_t *more
        if self.count == self.room:
            more = <uint32_t *>realloc(self.data, 4 * (2 * <size_t>self.room + 256))
            if more == NULL:
                return -1
            self.data = more
            self.room = 2 * self.room + 256
        self.data[self.count] = value
        self.count += 1
        return 0

    cdef object take(self):
        out = array("I")
        if self.count:
            out.frombytes((<const char *>self.data)[:4 * self.count])
        return out


cdef class Sweep:
    """See sweep.Sweep."""

    def __init__(self, int oid_size, Sweep before=None, columns=None):
        cdef int more = 1 if columns is not None else 0
        self.oid_size = oid_size
        self.keep = list(before.keep) if before is not None else []
        self.segment_count = before.segment_count if before is not None else 0
        self.segments = <Segment *>calloc(self.segment_count + more + 1, sizeof(Segment))
        if self.segments == NULL:
            raise MemoryError
        if before is not None:
            memcpy(self.segments, before.segments, self.segment_count * sizeof(Segment))
            self.commit_count = before.commit_count
            self.object_count = before.object_count
            if before.segment_count:  # the first segment is the same one
                self.numbered_commits, self.numbered_objects = before.numbered_commits, before.numbered_objects
        if columns is not None:
            self.add(columns)

    def __dealloc__(self):
        free(self.segments)

    cdef int add(self, columns) except -1:
        cdef Segment *segment = &self.segments[self.segment_count]
        cdef list keep = self.keep
        cdef uint32_t i, added, rank
        cdef int64_t found
        cdef uint32_t *out
        cdef uint32_t *ranks
        cdef uint8_t *marks
        (commit_oids, sorted_places, times, parent_starts, parents, foreign, object_oids, types, sizes, introducers,
         intro_starts, intros, multi_objects, multi_starts, multi_commits) = columns
        segment.first = self.commit_count
        segment.commits = <uint32_t>(memoryview(times).nbytes // 8)
        segment.objects = <uint32_t>memoryview(types).nbytes
        segment.commit_oids = <const uint8_t *>pointer_to(commit_oids, keep)
        segment.sorted_places = <const uint32_t *>pointer_to(sorted_places, keep)
        segment.times = <const int64_t *>pointer_to(times, keep)
        segment.parent_starts = <const uint32_t *>pointer_to(parent_starts, keep)
        segment.parents = <const uint32_t *>pointer_to(parents, keep)
        segment.object_oids = <const uint8_t *>pointer_to(object_oids, keep)
        segment.types = <const uint8_t *>pointer_to(types, keep)
        segment.sizes = <const uint32_t *>pointer_to(sizes, keep)
        segment.introducers = <const uint32_t *>pointer_to(introducers, keep)
        segment.intro_starts = <const uint32_t *>pointer_to(intro_starts, keep)
        segment.intros = <const uint32_t *>pointer_to(intros, keep)
        segment.multi_objects = <const uint32_t *>pointer_to(multi_objects, keep)
        segment.multi_starts = <const uint32_t *>pointer_to(multi_starts, keep)
        segment.multi_commits = <const uint32_t *>pointer_to(multi_commits, keep)
        segment.multi_count = <uint32_t>(memoryview(multi_objects).nbytes // 4)
        cdef Py_ssize_t foreign_count = memoryview(foreign).nbytes // self.oid_size
        cdef const uint8_t *foreign_oids = <const uint8_t *>pointer_to(foreign, keep)
        block = PyBytes_FromStringAndSize(NULL, 4 * foreign_count)
        out = <uint32_t *>PyBytes_AS_STRING(block)
        keep.append(block)
        for k in range(foreign_count):
            found = self.find_commit(foreign_oids + <Py_ssize_t>k * self.oid_size)
            if found < 0:
                raise ValueError("a parent of the segment's commits is not there")
            out[<Py_ssize_t>k] = <uint32_t>found
        segment.foreign = out
        if not self.is_sound(segment, <uint32_t>foreign_count, memoryview(parents).nbytes // 4, memoryview(intros).nbytes // 4,
                             memoryview(multi_commits).nbytes // 4):
            raise ValueError("a rank points outside its column")
        segment.multi_marks = NULL
        if self.segment_count == 0:
            block = PyBytes_FromStringAndSize(NULL, segment.objects // 8 + 8)
            marks = <uint8_t *>PyBytes_AS_STRING(block)
            memset(marks, 0, segment.objects // 8 + 8)
            keep.append(block)
            for i in range(segment.multi_count):
                rank = segment.multi_objects[i]
                marks[rank >> 3] |= <uint8_t>(1 << (rank & 7))
            segment.multi_marks = marks
        segment.aliases = NULL
        segment.vids = NULL
        segment.added_ranks = NULL
        segment.first_vid = self.object_count
        segment.added = segment.objects
        if self.segment_count:
            block = PyBytes_FromStringAndSize(NULL, 4 * <Py_ssize_t>segment.commits)
            out = <uint32_t *>PyBytes_AS_STRING(block)
            keep.append(block)
            for i in range(segment.commits):
                found = self.find_commit(segment.commit_oids + <Py_ssize_t>i * self.oid_size)
                out[i] = <uint32_t>found if found >= 0 else <uint32_t>NONE
            segment.aliases = out
            block = PyBytes_FromStringAndSize(NULL, 4 * <Py_ssize_t>segment.objects)
            more = PyBytes_FromStringAndSize(NULL, 4 * <Py_ssize_t>segment.objects)
            out = <uint32_t *>PyBytes_AS_STRING(block)
            ranks = <uint32_t *>PyBytes_AS_STRING(more)
            added = 0
            for rank in range(segment.objects):
                found = self.find_object(segment.object_oids + <Py_ssize_t>rank * self.oid_size)
                if found < 0:
                    found = self.object_count + added
                    ranks[added] = rank
                    added += 1
                out[rank] = <uint32_t>found
            keep.append(block)
            keep.append(more)
            segment.vids = out
            segment.added_ranks = ranks
            segment.added = added
        self.segment_count += 1
        self.commit_count += segment.commits
        self.object_count += segment.added
        return 0

    cdef bint is_sound(self, const Segment *s, uint32_t foreign_count, Py_ssize_t parents, Py_ssize_t intros, Py_ssize_t more) noexcept nogil:
        """Check every number that is used as an index: a file that lies must not lead out of its columns."""
        cdef uint32_t i, at, last = 0
        if s.parent_starts[0] or s.intro_starts[0] or s.multi_starts[0]:
            return False
        for i in range(s.commits):
            if s.sorted_places[i] >= s.commits or s.parent_starts[i + 1] < s.parent_starts[i] or s.parent_starts[i + 1] > parents:
                return False
            if s.intro_starts[i + 1] < s.intro_starts[i] or s.intro_starts[i + 1] > intros:
                return False
            for at in range(s.parent_starts[i], s.parent_starts[i + 1]):
                if s.parents[at] >> 31:
                    if (s.parents[at] & <uint32_t>0x7FFFFFFF) >= foreign_count:
                        return False
                elif s.parents[at] >= i:
                    return False  # parents come first: no cycle either
        for at in range(<uint32_t>intros):
            if s.intros[at] >= s.objects:
                return False
        for at in range(s.objects):
            if s.introducers[at] >= s.commits and s.introducers[at] != <uint32_t>NONE:
                return False
        for i in range(s.multi_count):
            if s.multi_starts[i + 1] < s.multi_starts[i] or s.multi_starts[i + 1] > more or s.multi_objects[i] >= s.objects:
                return False
        for at in range(<uint32_t>more):
            if s.multi_commits[at] >= s.commits:
                return False
        return True

    cdef int64_t find_commit(self, const uint8_t *oid) noexcept nogil:
        cdef int i, size = self.oid_size, found
        cdef uint32_t low, high, middle, place
        cdef const Segment *segment
        for i in range(self.segment_count):
            segment = &self.segments[i]
            low = 0
            high = segment.commits
            while low < high:
                middle = low + ((high - low) >> 1)
                place = segment.sorted_places[middle]
                found = order_of(segment.commit_oids + <Py_ssize_t>place * size, oid, size)
                if found == 0:
                    return segment.first + place
                if found < 0:
                    low = middle + 1
                else:
                    high = middle
        return -1

    cdef int64_t find_object(self, const uint8_t *oid) noexcept nogil:
        cdef int i
        cdef int64_t found
        cdef const Segment *segment
        for i in range(self.segment_count):
            segment = &self.segments[i]
            found = self.rank_in(segment, oid)
            if found >= 0:
                return segment.vids[found] if segment.vids != NULL else found
        return -1

    cdef uint8_t kind_of(self, const uint8_t *oid, uint8_t likely) noexcept nogil:
        """Return 1 for a commit, the type of a tree or blob, 0 for what isn't known; `likely` is looked for first."""
        cdef int i
        cdef Py_ssize_t rank
        if likely == COMMIT and self.find_commit(oid) >= 0:
            return COMMIT
        for i in range(self.segment_count):
            rank = self.rank_in(&self.segments[i], oid)
            if rank >= 0:
                return self.segments[i].types[rank]
        return COMMIT if likely != COMMIT and self.find_commit(oid) >= 0 else 0

    def kinds_of(self, const uint8_t[::1] oids not None):
        """See sweep.Sweep. Names of one kind follow each other, mostly."""
        cdef Py_ssize_t n = oids.shape[0] // self.oid_size, k
        cdef uint8_t kind = COMMIT
        block = PyBytes_FromStringAndSize(NULL, n)
        cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(block)
        with nogil:
            for k in range(n):
                kind = self.kind_of(&oids[k * self.oid_size], kind)
                out[k] = kind
        return block

    cdef int segment_of(self, uint32_t cid) noexcept nogil:
        cdef int i = self.segment_count - 1
        while i > 0 and self.segments[i].first > cid:
            i -= 1
        return i

    cdef uint32_t parent_at(self, const Segment *segment, uint32_t at) noexcept nogil:
        cdef uint32_t parent = segment.parents[at]
        if parent >> 31:
            return segment.foreign[parent & <uint32_t>0x7FFFFFFF]
        return segment.first + parent

    cdef const uint8_t *commit_name(self, uint32_t cid) noexcept nogil:
        cdef const Segment *segment = &self.segments[self.segment_of(cid)]
        return segment.commit_oids + <Py_ssize_t>(cid - segment.first) * self.oid_size

    cdef const uint8_t *object_name(self, uint32_t vid) noexcept nogil:
        cdef int i = self.segment_count - 1
        cdef const Segment *segment
        while i > 0 and self.segments[i].first_vid > vid:
            i -= 1
        segment = &self.segments[i]
        if segment.added_ranks != NULL:
            return segment.object_oids + <Py_ssize_t>segment.added_ranks[vid - segment.first_vid] * self.oid_size
        return segment.object_oids + <Py_ssize_t>vid * self.oid_size

    def cid_of(self, const uint8_t[::1] oid not None):
        """See sweep.Sweep."""
        return self.find_commit(&oid[0]) if oid.shape[0] == self.oid_size else -1

    def find_commits(self, const uint8_t[::1] oids not None):
        """See sweep.Sweep."""
        cdef Py_ssize_t n = oids.shape[0] // self.oid_size, k
        block = PyBytes_FromStringAndSize(NULL, 8 * n)
        cdef int64_t *out = <int64_t *>PyBytes_AS_STRING(block)
        for k in range(n):
            out[k] = self.find_commit(&oids[k * self.oid_size])
        result = array("q")
        result.frombytes(block)
        return result

    def vid_of(self, const uint8_t[::1] oid not None):
        """See sweep.Sweep."""
        return self.find_object(&oid[0]) if oid.shape[0] == self.oid_size else -1

    def commit_oid(self, uint32_t cid):
        """See sweep.Sweep."""
        if cid >= self.commit_count:
            raise IndexError(cid)
        return (<const char *>self.commit_name(cid))[:self.oid_size]

    def object_oid(self, uint32_t vid):
        """See sweep.Sweep."""
        if vid >= self.object_count:
            raise IndexError(vid)
        return (<const char *>self.object_name(vid))[:self.oid_size]

    def commit_row(self, uint32_t cid):
        """See sweep.Sweep."""
        cdef int i
        cdef const Segment *segment
        cdef uint32_t place, at
        if cid >= self.commit_count:
            raise IndexError(cid)
        i = self.segment_of(cid)
        segment = &self.segments[i]
        place = cid - segment.first
        parents = tuple([self.parent_at(segment, at) for at in range(segment.parent_starts[place], segment.parent_starts[place + 1])])
        return segment.times[place], i, place, parents

    def paint(self, wants not None, haves not None, cuts not None):
        """See sweep.Sweep."""
        return Painting(self, wants, haves, cuts)

    def reach(self, starts not None, goals not None, int64_t oldest):
        """See sweep.Sweep. One pass upwards: a commit reaches a goal when it is one or a parent (young enough) does."""
        cdef uint8_t *marks
        cdef uint32_t cid, lowest = <uint32_t>NONE, highest = 0, parent, place, at
        cdef int i
        cdef const Segment *segment
        if len(starts) == 0:
            return True
        if len(goals) == 0:
            return False
        marks = <uint8_t *>calloc(self.commit_count, 1)
        if marks == NULL:
            raise MemoryError
        try:
            for cid in goals:
                marks[cid] = 1
                lowest = min(lowest, cid)
            for cid in starts:
                highest = max(highest, cid)
            with nogil:
                cid = lowest
                i = self.segment_of(cid)
                while cid <= highest:
                    while i + 1 < self.segment_count and self.segments[i + 1].first <= cid:
                        i += 1
                    segment = &self.segments[i]
                    place = cid - segment.first
                    if marks[cid] == 0:
                        if segment.aliases != NULL and segment.aliases[place] != <uint32_t>NONE:
                            marks[cid] = marks[segment.aliases[place]]
                        else:
                            for at in range(segment.parent_starts[place], segment.parent_starts[place + 1]):
                                parent = self.parent_at(segment, at)
                                # A goal counts whatever its age; what lies between has to be young enough.
                                if marks[parent] == 1 or (marks[parent] == 2 and self.time_of(parent) >= oldest):
                                    marks[cid] = 2
                                    break
                    cid += 1
            for cid in starts:
                if not marks[cid]:
                    return False
            return True
        finally:
            free(marks)

    cdef int64_t time_of(self, uint32_t cid) noexcept nogil:
        cdef const Segment *segment = &self.segments[self.segment_of(cid)]
        return segment.times[cid - segment.first]

    def commit_numbers(self, cids not None, finder not None):
        """See sweep.Sweep."""
        return self.numbers(cids, finder, True)

    def object_numbers(self, vids not None, finder not None):
        """See sweep.Sweep."""
        return self.numbers(vids, finder, False)

    cdef object number_all(self, PackTable table):
        """Return the numbers of all objects of the first segment, uint32 each, by going through its names and each
        index's side by side: those that hold in every table of the same origin, which are all that are kept.
        """
        cdef const Segment *base = &self.segments[0]
        cdef const Pack *pack
        block = PyBytes_FromStringAndSize(NULL, 4 * <Py_ssize_t>base.objects)
        cdef uint32_t *numbers = <uint32_t *>PyBytes_AS_STRING(block)
        cdef uint32_t rank, position
        cdef int i, size = self.oid_size, order
        cdef Py_ssize_t k
        with nogil:
            for rank in range(base.objects):
                numbers[rank] = NONE
            for i in range(table.pack_count):
                pack = &table.packs[i]
                if pack.first >= table.origin_end:
                    break
                if pack.count < base.objects // 64:
                    for position in range(pack.count):
                        k = self.rank_in(base, pack.oids + <Py_ssize_t>position * size)
                        if k >= 0 and numbers[k] == <uint32_t>NONE:
                            numbers[k] = <uint32_t>(pack.first + position)
                    continue
                rank = 0
                position = 0
                while rank < base.objects and position < pack.count:
                    order = order_of(base.object_oids + <Py_ssize_t>rank * size, pack.oids + <Py_ssize_t>position * size, size)
                    if order < 0:
                        rank += 1
                    elif order > 0:
                        position += 1
                    else:
                        if numbers[rank] == <uint32_t>NONE:
                            numbers[rank] = <uint32_t>(pack.first + position)
                        rank += 1
                        position += 1
        return block

    cdef object number_all_commits(self, PackTable table):
        """Return the numbers of all commits of the first segment in the same way, by their names in order."""
        cdef const Segment *base = &self.segments[0]
        cdef const Pack *pack
        block = PyBytes_FromStringAndSize(NULL, 4 * <Py_ssize_t>base.commits)
        cdef uint32_t *numbers = <uint32_t *>PyBytes_AS_STRING(block)
        cdef uint32_t at, place, position
        cdef int i, size = self.oid_size
        cdef const uint8_t *name
        with nogil:
            for at in range(base.commits):
                numbers[at] = NONE
            for i in range(table.pack_count):
                pack = &table.packs[i]
                if pack.first >= table.origin_end:
                    break
                position = 0
                for at in range(base.commits):
                    place = base.sorted_places[at]
                    if numbers[place] != <uint32_t>NONE:
                        continue
                    name = base.commit_oids + <Py_ssize_t>place * size
                    position = find_from(pack, position, name, size)
                    if position == pack.count:
                        break
                    if order_of(pack.oids + <Py_ssize_t>position * size, name, size) == 0:
                        numbers[place] = <uint32_t>(pack.first + position)
        return block

    cdef object known_numbers(self, PackTable table, bint are_commits, bint is_many):
        """Return the numbers of the first segment's commits or objects as they were found before, None where nobody has
        looked yet and it isn't for many. What has none here may have one in this table.
        """
        known = self.numbered_commits if are_commits else self.numbered_objects
        if known is not None and known[0] is table.origin:
            return known[1]
        if not is_many or not table.pack_count or table.origin_end >= <int64_t>NONE:
            return None
        block = self.number_all_commits(table) if are_commits else self.number_all(table)
        if are_commits:
            self.numbered_commits = (table.origin, block)
        else:
            self.numbered_objects = (table.origin, block)
        return block

    cdef Py_ssize_t rank_in(self, const Segment *segment, const uint8_t *oid) noexcept nogil:
        return find_name(segment.object_oids, self.oid_size, 0, segment.objects, oid, 0, <uint64_t>0xFFFFFFFFFFFFFFFF)

    cdef object numbers(self, ids, finder, bint are_commits):
        cdef const uint32_t[::1] view = ids
        cdef Py_ssize_t n = view.shape[0], k
        cdef PackTable table
        cdef const uint32_t *column = NULL
        cdef uint32_t limit = self.commit_count if are_commits else self.object_count, base_count = 0
        block = PyBytes_FromStringAndSize(NULL, 8 * n)
        cdef int64_t *out = <int64_t *>PyBytes_AS_STRING(block)
        for k in range(n):
            if view[k] >= limit:
                raise IndexError(view[k])
        if isinstance(finder, PackTable):
            table = finder
            known = self.known_numbers(table, are_commits, n > limit // 16)
            if known is not None:
                column = <const uint32_t *>PyBytes_AS_STRING(known)
                base_count = self.segments[0].commits if are_commits else self.segments[0].objects
            with nogil:
                for k in range(n):
                    if view[k] < base_count and column[view[k]] != <uint32_t>NONE:
                        out[k] = column[view[k]]
                    else:
                        out[k] = table.find_number(self.commit_name(view[k]) if are_commits else self.object_name(view[k]))
        else:
            find = finder.find
            for k in range(n):
                out[k] = find(self.commit_oid(view[k]) if are_commits else self.object_oid(view[k]))
        result = array("q")
        result.frombytes(block)
        return result


cdef class Painting:
    """See sweep.Painting."""

    def __cinit__(self, Sweep sweep not None, wants, haves, cuts):
        cdef uint32_t cid, highest = 0
        cdef Py_ssize_t open_count = 0
        cdef int i
        cdef Growing found = Growing(), cut_found = Growing()
        cdef int bad = 0
        self.sweep = sweep
        self.marks = <uint8_t *>calloc(max(<uint32_t>1, sweep.commit_count), 1)
        self.seen = <uint8_t *>calloc(max(<uint32_t>1, sweep.object_count), 1)
        if self.marks == NULL or self.seen == NULL:
            raise MemoryError
        for cid in cuts:
            self.marks[cid] |= CUT
        for cid in haves:
            self.marks[cid] |= HAVE
            highest = max(highest, cid)
            self.has_haves = True
        for cid in wants:
            if not self.marks[cid] & (WANT | HAVE):
                open_count += 1
            self.marks[cid] |= WANT
            highest = max(highest, cid)
        self.next_cid = highest + 1
        with nogil:
            while open_count > 0 and self.next_cid > 0:
                self.next_cid -= 1
                if self.marks[self.next_cid] & 3 == WANT:
                    open_count -= 1
                    if not self.is_alias(self.next_cid):
                        bad |= found.push(self.next_cid)
                        if self.marks[self.next_cid] & CUT:
                            bad |= cut_found.push(self.next_cid)
                    open_count += self.spread(self.next_cid)
                elif self.marks[self.next_cid] & HAVE:
                    open_count += self.spread(self.next_cid)
        if bad:
            raise MemoryError
        self.range = found.take()
        self.cut = cut_found.take()

    def __dealloc__(self):
        free(self.marks)
        free(self.seen)

    cdef bint is_alias(self, uint32_t cid) noexcept nogil:
        cdef const Segment *segment = &self.sweep.segments[self.sweep.segment_of(cid)]
        return segment.aliases != NULL and segment.aliases[cid - segment.first] != <uint32_t>NONE

    cdef int spread(self, uint32_t cid) noexcept nogil:
        """Pass a commit's paint on to its parents; return by how many the commits that only wants reach grew."""
        cdef const Segment *segment = &self.sweep.segments[self.sweep.segment_of(cid)]
        cdef uint32_t place = cid - segment.first, at
        cdef uint8_t paint = HAVE if self.marks[cid] & HAVE else WANT
        cdef int grown = 0
        if segment.aliases != NULL and segment.aliases[place] != <uint32_t>NONE:
            if self.marks[cid] & CUT:
                self.marks[segment.aliases[place]] |= CUT
            return self.give(segment.aliases[place], paint)
        if self.marks[cid] & CUT:
            return 0
        for at in range(segment.parent_starts[place], segment.parent_starts[place + 1]):
            grown += self.give(self.sweep.parent_at(segment, at), paint)
        return grown

    cdef int give(self, uint32_t cid, uint8_t paint) noexcept nogil:
        cdef uint8_t before = self.marks[cid] & 3
        self.marks[cid] |= paint
        if paint == WANT:
            return 1 if before == 0 else 0
        return -1 if before == WANT else 0

    cdef void paint_down_to(self, uint32_t lowest) noexcept nogil:
        """Paint the have side on, down to a cid. (No commit there is reached by wants alone any more.)"""
        while self.next_cid > lowest:
            self.next_cid -= 1
            if self.marks[self.next_cid] & HAVE:
                self.spread(self.next_cid)

    cdef void note_later(self) noexcept nogil:
        """Mark what have-side commits of the later segments introduce: those are small, and swept as they are."""
        cdef const Segment *segment
        cdef uint32_t place, at
        cdef int i
        if self.later_noted or not self.has_haves:
            return
        self.later_noted = True
        if self.sweep.segment_count < 2:
            return
        self.paint_down_to(self.sweep.segments[1].first)
        for i in range(1, self.sweep.segment_count):
            segment = &self.sweep.segments[i]
            for place in range(segment.commits):
                if self.marks[segment.first + place] & HAVE:
                    for at in range(segment.intro_starts[place], segment.intro_starts[place + 1]):
                        self.seen[segment.vids[segment.intros[at]]] |= HAD

    cdef bint is_had(self, uint32_t vid) noexcept nogil:
        """Tell whether the have side introduces an object. `note_later` comes before."""
        cdef const Segment *base = &self.sweep.segments[0]
        cdef uint32_t low, high, middle, at, place
        if not self.has_haves:
            return False
        if self.seen[vid] & HAD:
            return True
        if vid >= base.objects:
            return False
        place = base.introducers[vid]
        if place == <uint32_t>NONE:
            return False
        if self.is_painted_have(place):
            return True
        if not base.multi_marks[vid >> 3] & (1 << (vid & 7)):
            return False
        low = 0
        high = base.multi_count
        while low < high:
            middle = low + ((high - low) >> 1)
            if base.multi_objects[middle] < vid:
                low = middle + 1
            else:
                high = middle
        if low < base.multi_count and base.multi_objects[low] == vid:
            for at in range(base.multi_starts[low], base.multi_starts[low + 1]):
                if self.is_painted_have(base.multi_commits[at]):
                    return True
        return False

    cdef bint is_painted_have(self, uint32_t place) noexcept nogil:
        """Tell whether a commit of the first segment is on the have side, painting as far as that needs."""
        if self.marks[place] & HAVE:
            return True
        if self.marks[place] & WANT and place >= self.next_cid:
            return False
        if place < self.next_cid:
            self.paint_down_to(place)
        return (self.marks[place] & HAVE) != 0

    def collect(self, bint trees, bint blobs, uint64_t blob_limit):
        """See sweep.Painting."""
        cdef Growing tree_vids = Growing(), blob_vids = Growing()
        cdef const uint32_t[::1] cids
        cdef Py_ssize_t k, n = len(self.range)
        cdef int bad = 0, i
        cdef uint32_t cid, place, at, rank, vid
        cdef const Segment *segment
        cdef Sweep sweep = self.sweep
        if n == 0:
            return array("I"), array("I")
        cids = self.range
        with nogil:
            self.note_later()
            i = sweep.segment_count - 1
            for k in range(n):
                cid = cids[k]
                if self.marks[cid] & CUT:
                    continue
                while sweep.segments[i].first > cid:
                    i -= 1
                segment = &sweep.segments[i]
                place = cid - segment.first
                for at in range(segment.intro_starts[place], segment.intro_starts[place + 1]):
                    rank = segment.intros[at]
                    vid = segment.vids[rank] if segment.vids != NULL else rank
                    if self.seen[vid]:
                        continue
                    self.seen[vid] = CANDIDATE
                    if segment.types[rank] == TREE:
                        if trees and not self.is_had(vid):
                            bad |= tree_vids.push(vid)
                    elif blobs and segment.sizes[rank] < blob_limit and not self.is_had(vid):
                        bad |= blob_vids.push(vid)
        if bad:
            raise MemoryError
        return tree_vids.take(), blob_vids.take()

    def reaches(self, uint32_t cid):
        """See sweep.Painting."""
        return cid < self.sweep.commit_count and self.marks[cid] & 3 == WANT

    def had_commit(self, uint32_t cid):
        """See sweep.Painting."""
        if cid >= self.sweep.commit_count:
            return False
        if cid < self.next_cid:
            self.paint_down_to(cid)
        return (self.marks[cid] & HAVE) != 0

    def has(self, uint32_t vid):
        """See sweep.Painting."""
        if vid >= self.sweep.object_count or self.sweep.segment_count == 0:
            return False
        self.note_later()
        return self.is_had(vid)

    def has_name(self, const uint8_t[::1] oid not None):
        """See sweep.Painting."""
        return oid.shape[0] == self.sweep.oid_size and self.has_oid(&oid[0])

    cdef bint has_oid(self, const uint8_t *oid) noexcept nogil:
        """The same of a name of the right length."""
        cdef int64_t found
        if not self.has_haves or self.sweep.segment_count == 0:
            return False
        found = self.sweep.find_object(oid)
        if found >= 0:
            self.note_later()
            return self.is_had(<uint32_t>found)
        found = self.sweep.find_commit(oid)
        if found < 0:
            return False
        if found < self.next_cid:
            self.paint_down_to(<uint32_t>found)
        return (self.marks[found] & HAVE) != 0

    def peer_of(self, PackTable table not None, others not None):
        """See sweep.Painting."""
        return AtPeer(self, table, array("q", sorted(others)))

    def place_commits(self, const int64_t[::1] cids not None):
        """See sweep.Painting."""
        cdef Py_ssize_t n = cids.shape[0], k
        cdef int64_t cid
        block = PyBytes_FromStringAndSize(NULL, n)
        cdef char *out = PyBytes_AS_STRING(block)
        for k in range(n):
            cid = cids[k]
            if cid >= <int64_t>self.sweep.commit_count:
                raise IndexError(cid)
            out[k] = 0 if cid < 0 else 1 if self.marks[cid] & 3 == WANT else 2
        return block


cdef class AtPeer:
    """What `Painting.peer_of` returns; other kernels ask it without the GIL."""

    def __cinit__(self, Painting painting not None, PackTable table not None, others not None):
        cdef Py_ssize_t size = 8 * len(others)
        self.painting = painting
        self.table = table
        self.other_count = len(others)
        self.others = <int64_t *>malloc(size + 1)
        if self.others == NULL:
            raise MemoryError
        memcpy(self.others, PyBytes_AS_STRING(others.tobytes()), size)

    def __dealloc__(self):
        free(self.others)

    def __call__(self, int64_t number):
        return self.has(number)

    cdef bint has(self, int64_t number) noexcept nogil:
        """Tell it of an object number; False of one that no pack has."""
        cdef Py_ssize_t low = 0, high = self.other_count, middle
        cdef const uint8_t *oid
        while low < high:
            middle = (low + high) >> 1
            if self.others[middle] < number:
                low = middle + 1
            else:
                high = middle
        if low < self.other_count and self.others[low] == number:
            return True
        oid = self.table.oid_at(number)
        return oid != NULL and self.painting.has_oid(oid)
