# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: libraries = z
"""All commits of a repository as columns, and walks over them, compiled; the story is in `history`."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from govc.kernels._packread_c cimport FINE, Fault, Node, PackReader, PackTable, be32

from array import array

from govc.errors import Corrupt, CorruptObject

DEF NONE = 0xFFFFFFFF
DEF WANT = 1
DEF HAVE = 2
DEF BOTH = 3
DEF STALE = 4
DEF CHANGED = 4
DEF BOTTOM = 8
DEF SEEN = 16
DEF SAME = 32
DEF PARSED = 64
DEF POPPED = 128
DEF SLOP = 5
DEF COMMIT = 1

BY_DATE, BY_DATE_TOPO, BY_TOPO = range(3)


cdef inline uint64_t scramble(const uint8_t *oid) noexcept nogil:
    cdef uint64_t key
    memcpy(&key, oid, 8)
    return (key * <uint64_t>0x9E3779B97F4A7C15) >> 20


cdef class Block:
    """The columns, with room to grow. What stands below a count that somebody has seen never changes."""

    def __cinit__(self, int size, uint32_t room, uint32_t parent_room):
        self.size = size
        self.room = room
        self.parent_room = parent_room
        self.mask = 1023
        while self.mask < 2 * <uint64_t>room:
            self.mask = 2 * self.mask + 1
        self.oids = <uint8_t *>malloc(<size_t>room * size + 1)
        self.trees = <uint8_t *>malloc(<size_t>room * size + 1)
        self.times = <int64_t *>malloc(<size_t>room * 8 + 8)
        self.starts = <uint32_t *>calloc(<size_t>room + 1, 4)
        self.parents = <uint32_t *>malloc(<size_t>parent_room * 4 + 4)
        self.slots = <uint32_t *>malloc(4 * <size_t>(self.mask + 1))
        if (self.oids == NULL or self.trees == NULL or self.times == NULL or self.starts == NULL
                or self.parents == NULL or self.slots == NULL):
            raise MemoryError
        memset(self.slots, 0xFF, 4 * <size_t>(self.mask + 1))

    def __dealloc__(self):
        free(self.oids)
        free(self.trees)
        free(self.times)
        free(self.starts)
        free(self.parents)
        free(self.slots)

    cdef uint32_t find(self, const uint8_t *oid) noexcept:
        cdef uint64_t slot = scramble(oid) & self.mask
        cdef uint32_t cid = self.slots[slot]
        while cid != <uint32_t>NONE:
            if memcmp(self.oids + <size_t>cid * self.size, oid, self.size) == 0:
                return cid
            slot = (slot + 1) & self.mask
            cid = self.slots[slot]
        return cid

    cdef void enter(self, uint32_t cid) noexcept:
        cdef uint64_t slot = scramble(self.oids + <size_t>cid * self.size) & self.mask
        while self.slots[slot] != <uint32_t>NONE:
            slot = (slot + 1) & self.mask
        self.slots[slot] = cid


cdef struct Queued:
    int64_t time
    uint32_t serial
    uint32_t cid


cdef struct Heap:
    Queued *items
    uint32_t count
    uint32_t room
    uint32_t serial


cdef inline bint goes_first(const Queued *one, const Queued *other) noexcept nogil:
    """The newest first; of one time, what came first."""
    if one.time != other.time:
        return one.time > other.time
    return one.serial < other.serial


cdef int heap_push(Heap *heap, int64_t time, uint32_t cid) noexcept nogil:
    cdef Queued item
    cdef Queued *more
    cdef uint32_t at, up
    if heap.count == heap.room:
        more = <Queued *>realloc(heap.items, sizeof(Queued) * (2 * <size_t>heap.room + 64))
        if more == NULL:
            return -1
        heap.items = more
        heap.room = 2 * heap.room + 64
    item.time = time
    item.serial = heap.serial
    item.cid = cid
    heap.serial += 1
    at = heap.count
    heap.count += 1
    while at:
        up = (at - 1) >> 1
        if not goes_first(&item, &heap.items[up]):
            break
        heap.items[at] = heap.items[up]
        at = up
    heap.items[at] = item
    return 0


cdef uint32_t heap_pop(Heap *heap) noexcept nogil:
    cdef uint32_t cid = heap.items[0].cid, at = 0, child
    cdef Queued last
    heap.count -= 1
    last = heap.items[heap.count]
    while True:
        child = 2 * at + 1
        if child >= heap.count:
            break
        if child + 1 < heap.count and goes_first(&heap.items[child + 1], &heap.items[child]):
            child += 1
        if not goes_first(&heap.items[child], &last):
            break
        heap.items[at] = heap.items[child]
        at = child
    heap.items[at] = last
    return cid


cdef uint32_t paint_range(const View *g, uint8_t *marks, uint32_t top, bint first_parent) noexcept nogil:
    """Carry WANT and HAVE to the parents, from `top` down; return how many are wanted and not had."""
    cdef uint32_t c = top + 1, i, end, parent, found = 0, pending = 0, k
    cdef uint8_t mark, before, after
    for k in range(top + 1):
        if marks[k] & BOTH == WANT:
            pending += 1
    while c and pending:
        c -= 1
        mark = marks[c] & BOTH
        if mark == 0:
            continue
        if mark == WANT:
            found += 1
            pending -= 1
        else:
            mark = HAVE
        i = g.starts[c]
        end = g.starts[c + 1]
        if mark == WANT and first_parent and end > i + 1:
            end = i + 1
        while i < end:
            parent = g.parents[i]
            before = marks[parent]
            after = before | mark
            if after != before:
                marks[parent] = after
                if mark == WANT and before & BOTH == 0:
                    pending += 1
                elif mark == HAVE and before & BOTH == WANT:
                    pending -= 1
            i += 1
    # What lies lower and is marked WANT is had as well, or pending would not be zero.
    return found


cdef int walk_by_date(const View *g, uint8_t *marks, const uint32_t *tips, Py_ssize_t tip_count, bint first_parent,
                      bint bounded, uint32_t limit, uint32_t *out, uint32_t *made, Heap *heap) noexcept nogil:
    """Write commits in git's default order. `bounded`: only what is wanted and not had by its marks."""
    cdef Py_ssize_t k
    cdef uint32_t c, i, end, parent, n = 0, next = NONE
    for k in range(tip_count):
        c = tips[k]
        if marks[c] & SEEN or (bounded and marks[c] & BOTH != WANT):
            continue
        marks[c] |= SEEN
        if heap_push(heap, g.times[c], c) < 0:
            return -1
    while n < limit:
        if next != <uint32_t>NONE:
            c = next
            next = NONE
        elif heap.count:
            c = heap_pop(heap)
        else:
            break
        out[n] = c
        n += 1
        i = g.starts[c]
        end = g.starts[c + 1]
        if first_parent and end > i + 1:
            end = i + 1
        if end == i + 1:
            # An only parent that is newer than all that wait comes next, and need not wait itself.
            parent = g.parents[i]
            if marks[parent] & SEEN or (bounded and marks[parent] & BOTH != WANT):
                continue
            marks[parent] |= SEEN
            if heap.count == 0 or g.times[parent] > heap.items[0].time:
                next = parent
            elif heap_push(heap, g.times[parent], parent) < 0:
                return -1
            continue
        while i < end:
            parent = g.parents[i]
            i += 1
            if marks[parent] & SEEN or (bounded and marks[parent] & BOTH != WANT):
                continue
            marks[parent] |= SEEN
            if heap_push(heap, g.times[parent], parent) < 0:
                return -1
    made[0] = n
    return 0


cdef int sort_by_topology(const View *g, const uint8_t *marks, uint32_t *listed, uint32_t count, uint32_t top,
                          bint first_parent, const uint32_t *only, bint by_date, Heap *heap) noexcept nogil:
    """Reorder `listed` (those with SEEN marks) so that children come first.

    `only`: the place of the one parent that counts, by cid, NONE for all. By date among what is free, else
    the line of the commit that came last is followed first, as git's --date-order and --topo-order do.
    """
    cdef uint32_t *waiting = <uint32_t *>calloc(<size_t>top + 1, 4)
    cdef uint32_t *stack = <uint32_t *>malloc(4 * <size_t>count + 4)
    cdef uint32_t k, c, i, end, parent, n = 0, depth = 0
    if waiting == NULL or stack == NULL:
        free(waiting)
        free(stack)
        return -1
    for k in range(count):
        c = listed[k]
        i = g.starts[c]
        end = g.starts[c + 1]
        if only != NULL and only[c] != <uint32_t>NONE:
            i += only[c]
            end = i + 1
        elif first_parent and end > i + 1:
            end = i + 1
        while i < end:
            waiting[g.parents[i]] += 1
            i += 1
    for k in range(count):
        c = listed[k]
        if waiting[c] == 0:
            if by_date:
                if heap_push(heap, g.times[c], c) < 0:
                    free(waiting)
                    free(stack)
                    return -1
            else:
                stack[depth] = c
                depth += 1
    for k in range(depth // 2):
        c = stack[k]
        stack[k] = stack[depth - 1 - k]
        stack[depth - 1 - k] = c
    while depth or heap.count:
        if by_date:
            c = heap_pop(heap)
        else:
            depth -= 1
            c = stack[depth]
        listed[n] = c
        n += 1
        i = g.starts[c]
        end = g.starts[c + 1]
        if only != NULL and only[c] != <uint32_t>NONE:
            i += only[c]
            end = i + 1
        elif first_parent and end > i + 1:
            end = i + 1
        while i < end:
            parent = g.parents[i]
            i += 1
            if not marks[parent] & SEEN:
                continue
            waiting[parent] -= 1
            if waiting[parent] == 0:
                if by_date:
                    if heap_push(heap, g.times[parent], parent) < 0:
                        free(waiting)
                        free(stack)
                        return -1
                else:
                    stack[depth] = parent
                    depth += 1
    free(waiting)
    free(stack)
    return 0


# What a walk over the history of paths knows. States by cid; `only` as for sort_by_topology.
cdef struct Pruning:
    const View *g
    uint8_t *states
    const uint32_t **columns
    int column_count
    bint by_changes  # `states` and `only` say which commits change the path; there are no columns
    bint first_parent
    bint shown_only  # what changes nothing isn't written
    uint32_t most  # to be written
    uint32_t *only
    uint32_t *stack
    uint32_t stack_room
    int64_t interesting  # in the queue, and not known to be excluded


cdef void simplify(Pruning *w, uint32_t c) noexcept nogil:
    """Find the parent that a commit is followed to, and whether it changes anything at the paths."""
    cdef const View *g = w.g
    cdef uint32_t i, start = g.starts[c], end = g.starts[c + 1], parent
    cdef int j
    cdef bint is_same, relevant, has_relevant = False, relevant_change = False, other_change = False
    if w.by_changes:
        # Nothing is excluded here, so of parents that have the same the first is followed, as of columns below.
        if not w.states[c] & CHANGED:
            w.only[c] = 0 if start < end else <uint32_t>NONE
            w.states[c] |= SAME
        elif w.only[c] >= end - start or w.first_parent:
            w.only[c] = <uint32_t>NONE
        else:
            w.states[c] |= SAME
        return
    w.only[c] = <uint32_t>NONE
    if start == end:
        is_same = True
        for j in range(w.column_count):
            if w.columns[j][c]:
                is_same = False
        if is_same:
            w.states[c] |= SAME
        return
    if w.first_parent:
        end = start + 1
    for i in range(start, end):
        parent = g.parents[i]
        w.states[parent] |= PARSED
        relevant = w.states[parent] & (HAVE | BOTTOM) != HAVE
        has_relevant |= relevant
        is_same = True
        for j in range(w.column_count):
            if w.columns[j][c] != w.columns[j][parent]:
                is_same = False
        if is_same and relevant:
            w.only[c] = i - start
            w.states[c] |= SAME
            return
        if not is_same:
            if relevant:
                relevant_change = True
            else:
                other_change = True
    if not (relevant_change if has_relevant else other_change):
        w.states[c] |= SAME


cdef inline void exclude(Pruning *w, uint32_t c) noexcept nogil:
    """Mark one commit as excluded."""
    if w.states[c] & (SEEN | POPPED) == SEEN:
        w.interesting -= 1
    w.states[c] |= HAVE


cdef int exclude_parents(Pruning *w, uint32_t commit) noexcept nogil:
    """Mark the parents, and theirs as far as they have been looked at: git knows no others at this moment."""
    cdef const View *g = w.g
    cdef uint32_t depth = 1, c, i, end
    cdef uint32_t *more
    w.stack[0] = commit
    while depth:
        depth -= 1
        c = w.stack[depth]
        i = g.starts[c]
        end = g.starts[c + 1]
        if w.states[c] & POPPED and not w.states[c] & HAVE and w.only[c] != <uint32_t>NONE:
            i += w.only[c]
            end = i + 1
        if depth + end - i + 1 > w.stack_room:
            more = <uint32_t *>realloc(w.stack, 4 * (2 * <size_t>w.stack_room + end - i))
            if more == NULL:
                return -1
            w.stack = more
            w.stack_room = 2 * w.stack_room + end - i
        while i < end:
            if not w.states[g.parents[i]] & HAVE:
                exclude(w, g.parents[i])
                if w.states[g.parents[i]] & PARSED:
                    w.stack[depth] = g.parents[i]
                    depth += 1
            i += 1
    return 0


cdef int note_changes(Pruning *w, uint32_t top, const uint32_t[::1] places, const uint8_t[::1] followed,
                      const uint32_t[::1] cid_of) except -1:
    """Mark the commits that change the path; one that no tip can reach, or that isn't here, is passed over."""
    cdef Py_ssize_t k
    cdef uint32_t c
    if followed.shape[0] != places.shape[0]:
        raise ValueError("as many parents as places")
    for k in range(places.shape[0]):
        if <Py_ssize_t>places[k] >= cid_of.shape[0]:
            raise IndexError("a place beyond the commits")
        c = cid_of[places[k]]
        if c <= top:
            w.states[c] |= CHANGED
            w.only[c] = followed[k] if followed[k] else <uint32_t>NONE
    return 0


cdef int walk_path(Pruning *w, const uint32_t *tips, Py_ssize_t tip_count, const uint32_t *bottoms, Py_ssize_t bottom_count,
                   uint32_t *out, uint32_t *made, Heap *heap) noexcept nogil:
    """Write what git's simplification visits, by date; SAME marks those that change nothing at the paths.

    The order of events is that of git's limit_list: whether a parent counts depends on whether it is known to be
    excluded by the time that its child is looked at.
    """
    cdef const View *g = w.g
    cdef Py_ssize_t k
    cdef uint32_t c, i, end, parent, n = 0, next = NONE
    cdef int64_t date = (<int64_t>1 << 62)
    cdef int slop = SLOP
    cdef uint32_t *only = w.only
    for k in range(tip_count):
        w.states[tips[k]] |= PARSED
    for k in range(bottom_count):
        w.states[bottoms[k]] |= HAVE | BOTTOM | PARSED
        only[bottoms[k]] = <uint32_t>NONE
        if exclude_parents(w, bottoms[k]) < 0:
            return -1
    for k in range(tip_count + bottom_count):
        c = tips[k] if k < tip_count else bottoms[k - tip_count]
        if w.states[c] & SEEN:
            continue
        w.states[c] |= SEEN
        if not w.states[c] & HAVE:
            w.interesting += 1
        if heap_push(heap, g.times[c], c) < 0:
            return -1
    while n < w.most:
        if next != <uint32_t>NONE:
            c = next
            next = NONE
        elif heap.count:
            c = heap_pop(heap)
        else:
            break
        if w.by_changes and w.shown_only:
            # What changes nothing is followed to its first parent as long as that is what comes next.
            while not w.states[c] & CHANGED and g.starts[c] < g.starts[c + 1]:
                parent = g.parents[g.starts[c]]
                if w.states[parent] & SEEN or (heap.count and g.times[parent] <= heap.items[0].time):
                    break
                w.states[parent] = (w.states[parent] & CHANGED) | SEEN
                c = parent
        i = g.starts[c]
        end = g.starts[c + 1]
        if w.states[c] & HAVE:
            w.states[c] |= POPPED
            while i < end:
                parent = g.parents[i]
                i += 1
                if not w.states[parent] & HAVE:
                    exclude(w, parent)
                w.states[parent] |= PARSED
                if exclude_parents(w, parent) < 0:
                    return -1
                if not w.states[parent] & SEEN:
                    w.states[parent] |= SEEN
                    if heap_push(heap, g.times[parent], parent) < 0:
                        return -1
            if heap.count == 0:
                break
            if date <= heap.items[0].time or w.interesting > 0:
                slop = SLOP
            else:
                slop -= 1
            if slop <= 0:
                break
            continue
        w.interesting -= 1
        simplify(w, c)
        w.states[c] |= POPPED
        if not (w.shown_only and w.states[c] & SAME):
            out[n] = c
            n += 1
        date = g.times[c]
        if only[c] != <uint32_t>NONE:
            i += only[c]
            end = i + 1
        elif w.first_parent and end > i + 1:
            end = i + 1
        if end == i + 1:
            # As in walk_by_date: most of a path's history is one commit after the other that changes nothing.
            parent = g.parents[i]
            w.states[parent] |= PARSED
            if w.states[parent] & SEEN:
                continue
            w.states[parent] |= SEEN
            if not w.states[parent] & HAVE:
                w.interesting += 1
            if heap.count == 0 or g.times[parent] > heap.items[0].time:
                next = parent
            elif heap_push(heap, g.times[parent], parent) < 0:
                return -1
            continue
        while i < end:
            parent = g.parents[i]
            i += 1
            w.states[parent] |= PARSED
            if w.states[parent] & SEEN:
                continue
            w.states[parent] |= SEEN
            if not w.states[parent] & HAVE:
                w.interesting += 1
            if heap_push(heap, g.times[parent], parent) < 0:
                return -1
    made[0] = n
    return 0


cdef struct Row:
    uint64_t date  # corrected: later than the parents'
    uint32_t row
    uint32_t cid


cdef int compare_rows(const void *one, const void *other) noexcept nogil:
    cdef const Row *a = <const Row *>one
    cdef const Row *b = <const Row *>other
    if a.date != b.date:
        return 1 if a.date > b.date else -1
    return 1 if a.row > b.row else -1


cdef inline int nibble(uint8_t digit) noexcept nogil:
    if 48 <= digit <= 57:
        return digit - 48
    if 97 <= digit <= 102:
        return digit - 87
    if 65 <= digit <= 70:
        return digit - 55
    return -1


cdef bint parse_hex(const uint8_t *text, int size, uint8_t *oid) noexcept nogil:
    cdef int i, high, low
    for i in range(size):
        high = nibble(text[2 * i])
        low = nibble(text[2 * i + 1])
        if high < 0 or low < 0:
            return False
        oid[i] = <uint8_t>(high << 4 | low)
    return True


cdef struct Layer:
    const uint8_t *fanout
    const uint8_t *oids
    const uint8_t *data
    const uint8_t *edges
    uint32_t edge_count
    uint32_t count
    uint32_t first


cdef class Loader:
    """Commits that are being added: rows in the order in which they were met."""

    cdef Graph graph
    cdef PackReader reader
    cdef PackTable table
    cdef object read
    cdef dict replaced
    cdef int size
    cdef Block met  # their names, and trees and times once they are read; `starts` and `parents` are not used
    cdef uint32_t count
    cdef uint32_t *starts
    cdef uint32_t *links  # parents: a row, or a cid with the highest bit set
    cdef uint32_t link_count
    cdef uint32_t link_room
    cdef Layer layers[64]
    cdef int layer_count
    cdef list keep

    def __cinit__(self, Graph graph, PackReader reader, read, dict replaced, layers):
        cdef const uint8_t[::1] data
        cdef Layer *layer
        self.graph = graph
        self.reader = reader
        self.table = reader.table if reader is not None else None
        self.read = read
        self.replaced = replaced
        self.size = graph.oid_size
        self.met = Block(self.size, 1024, 0)
        self.starts = <uint32_t *>malloc(4 * 1025)
        if self.starts == NULL:
            raise MemoryError
        self.keep = []
        first = 0
        for buffer, fanout, oids, rows, edges_start, edges_end, count in layers:
            if self.layer_count == 64:
                raise ValueError("too many commit-graph files")
            data = buffer
            self.keep.append(data)
            layer = &self.layers[self.layer_count]
            layer.fanout = &data[fanout]
            layer.oids = &data[oids]
            layer.data = &data[rows]
            layer.edges = &data[edges_start] if edges_end > edges_start else NULL
            layer.edge_count = (edges_end - edges_start) // 4
            layer.count = count
            layer.first = first
            first += count
            self.layer_count += 1

    def __dealloc__(self):
        free(self.starts)
        free(self.links)

    cdef uint32_t meet(self, const uint8_t *oid) except? 0xFFFFFFFF:
        """Return the link to a commit; one that nobody knows becomes the next row."""
        cdef uint32_t found = self.graph.block.find(oid)
        cdef uint32_t *more
        cdef Block larger
        if found != <uint32_t>NONE:
            return found | 0x80000000
        found = self.met.find(oid)
        if found != <uint32_t>NONE:
            return found
        if self.count >= 0x7FFFFF00:
            raise Corrupt("more commits than a graph can hold")
        if self.count == self.met.room:
            larger = Block(self.size, 2 * self.met.room, 0)
            memcpy(larger.oids, self.met.oids, <size_t>self.count * self.size)
            memcpy(larger.trees, self.met.trees, <size_t>self.count * self.size)
            memcpy(larger.times, self.met.times, <size_t>self.count * 8)
            for found in range(self.count):
                larger.enter(found)
            more = <uint32_t *>realloc(self.starts, 4 * (<size_t>larger.room + 1))
            if more == NULL:
                raise MemoryError
            self.starts = more
            self.met = larger
        memcpy(self.met.oids + <size_t>self.count * self.size, oid, self.size)
        self.met.enter(self.count)
        self.count += 1
        return self.count - 1

    cdef int link(self, const uint8_t *oid) except -1:
        cdef uint32_t *more
        cdef uint32_t found = self.meet(oid)
        if self.link_count == self.link_room:
            more = <uint32_t *>realloc(self.links, 4 * (<size_t>self.link_room * 2 + 1024))
            if more == NULL:
                raise MemoryError
            self.links = more
            self.link_room = self.link_room * 2 + 1024
        self.links[self.link_count] = found
        self.link_count += 1
        return 0

    cdef int fill(self, uint32_t row) except -1:
        """Read the tree, the time and the parents of a row."""
        cdef uint8_t oid[32]
        cdef Node *node = NULL
        cdef Fault fault
        cdef int64_t number
        cdef bint is_plain = False
        memcpy(oid, self.met.oids + <size_t>row * self.size, self.size)
        self.starts[row] = self.link_count
        if self.layer_count and self.fill_from_file(row, oid):
            return 0
        number = self.table.find_number(oid) if self.table is not None else -1
        name = (<const char *>oid)[:self.size]
        if number >= 0:
            fault = self.reader.load(number, &node)
            if fault == FINE:
                try:
                    if node.type_number != COMMIT:
                        raise CorruptObject(name, "is not a commit")
                    if not self.replaced or name not in self.replaced:
                        is_plain = self.parse(row, node.data, <Py_ssize_t>node.size)
                finally:
                    self.reader.release(node)
                if is_plain:
                    return 0
        # It lies elsewhere, is of an unusual form, has other parents here, or is damaged, of which there may be a better copy.
        self.link_count = self.starts[row]
        tree, parents, time = self.read(name)
        if self.replaced:
            parents = self.replaced.get(name, parents)
        memcpy(self.met.trees + <size_t>row * self.size, PyBytes_AS_STRING(tree), self.size)
        self.met.times[row] = time
        for parent in parents:
            self.link(<const uint8_t *>PyBytes_AS_STRING(parent))
        return 0

    cdef bint parse(self, uint32_t row, const uint8_t *data, Py_ssize_t length) except -1:
        """Read a commit of the usual form; False for any other, and links may have been added then."""
        cdef int hex_size = 2 * self.size
        cdef const uint8_t *p = data
        cdef const uint8_t *end = data + length
        cdef const uint8_t *line
        cdef uint8_t oid[32]
        cdef int64_t time = 0
        cdef int digits = 0
        if length < hex_size + 6 or memcmp(p, b"tree ", 5) or p[5 + hex_size] != 10:
            return False
        if not parse_hex(p + 5, self.size, oid):
            return False
        memcpy(self.met.trees + <size_t>row * self.size, oid, self.size)
        p += hex_size + 6
        while end - p > hex_size + 8 and memcmp(p, b"parent ", 7) == 0:
            if p[7 + hex_size] != 10 or not parse_hex(p + 7, self.size, oid):
                return False
            self.link(oid)
            p += hex_size + 8
        if end - p < 7 or memcmp(p, b"author ", 7):
            return False
        line = <const uint8_t *>memchr(p, 10, end - p)
        if line == NULL or end - line < 12 or memcmp(line + 1, b"committer ", 10):
            return False
        p = line + 11
        line = <const uint8_t *>memchr(p, 10, end - p)
        if line == NULL:
            return False
        end = line
        while line > p and line[0] != 62:  # the last ">"
            line -= 1
        if line[0] != 62 or end - line < 3 or line[1] != 32:
            return False
        line += 2
        while line < end and 48 <= line[0] <= 57:
            time = time * 10 + (line[0] - 48)
            line += 1
            digits += 1
        if not 0 < digits <= 17 or (line < end and line[0] != 32):
            return False
        self.met.times[row] = time
        return True

    cdef bint fill_from_file(self, uint32_t row, const uint8_t *oid) except -1:
        """Take a commit from a commit-graph file; False when none has it. Raises Corrupt."""
        cdef int k = self.layer_count
        cdef const Layer *layer
        cdef uint32_t low, high, middle, first, second, edge, word
        cdef const uint8_t *data
        cdef int order
        while k:
            k -= 1
            layer = &self.layers[k]
            low = be32(layer.fanout + 4 * (<int>oid[0] - 1)) if oid[0] else 0
            high = be32(layer.fanout + 4 * <int>oid[0])
            if high > layer.count or low > high:
                raise Corrupt("commit-graph fan-out")
            while low < high:
                middle = low + ((high - low) >> 1)
                order = memcmp(layer.oids + <size_t>middle * self.size, oid, self.size)
                if order == 0:
                    break
                if order < 0:
                    low = middle + 1
                else:
                    high = middle
            if low >= high:
                continue
            data = layer.data + <size_t>middle * (self.size + 16)
            memcpy(self.met.trees + <size_t>row * self.size, data, self.size)
            data += self.size
            first = be32(data)
            second = be32(data + 4)
            self.met.times[row] = <int64_t>(be32(data + 8) & 3) << 32 | be32(data + 12)
            if first != 0x70000000:
                self.link_position(first)
            if second & 0x80000000:
                edge = second & 0x7FFFFFFF
                while True:
                    if layer.edges == NULL or edge >= layer.edge_count:
                        raise Corrupt("commit-graph list of parents doesn't end")
                    word = be32(layer.edges + 4 * <size_t>edge)
                    self.link_position(word & 0x7FFFFFFF)
                    edge += 1
                    if word & 0x80000000:
                        break
            elif second != 0x70000000:
                self.link_position(second)
            return True
        return False

    cdef int link_position(self, uint32_t position) except -1:
        cdef int k
        for k in range(self.layer_count):
            if position - self.layers[k].first < self.layers[k].count:
                self.link(self.layers[k].oids + <size_t>(position - self.layers[k].first) * self.size)
                return 0
        raise Corrupt("commit-graph names a parent that it doesn't have")

    cdef int finish(self) except -1:
        """Put the rows in order, parents first and mostly by date, and add them to the graph."""
        cdef uint32_t n = self.count, row, depth = 0, i, parent, made = 0, cid
        cdef uint64_t date
        cdef Row *rows = <Row *>malloc(sizeof(Row) * (<size_t>n + 1))
        cdef uint32_t *stack = <uint32_t *>malloc(4 * (<size_t>n + 1))
        cdef uint32_t *at = <uint32_t *>malloc(4 * (<size_t>n + 1))
        cdef uint64_t *dates = <uint64_t *>calloc(<size_t>n + 1, 8)
        cdef uint32_t *cids = at
        cdef Block block
        cdef uint32_t base = self.graph.count
        if rows == NULL or stack == NULL or at == NULL or dates == NULL:
            free(rows)
            free(stack)
            free(at)
            free(dates)
            raise MemoryError
        try:
            self.starts[n] = self.link_count
            for row in range(n):
                at[row] = self.starts[row]
            # Depth first, without recursion; date 0: not met, 1: on the stack. A cycle can't be: names are hashes.
            for i in range(n):
                if dates[i]:
                    continue
                stack[0] = i
                depth = 1
                dates[i] = 1
                while depth:
                    row = stack[depth - 1]
                    while at[row] < self.starts[row + 1]:
                        parent = self.links[at[row]]
                        at[row] += 1
                        if not parent & 0x80000000 and dates[parent] == 0:
                            dates[parent] = 1
                            stack[depth] = parent
                            depth += 1
                            break
                        if not parent & 0x80000000 and dates[parent] == 1:
                            raise Corrupt("commits are their own ancestors")
                    else:
                        depth -= 1
                        date = <uint64_t>self.met.times[row] + 2
                        for parent in range(self.starts[row], self.starts[row + 1]):
                            if not self.links[parent] & 0x80000000 and dates[self.links[parent]] >= date:
                                date = dates[self.links[parent]] + 1
                        dates[row] = date
            for row in range(n):
                rows[row].date = dates[row]
                rows[row].row = row
            qsort(rows, n, sizeof(Row), compare_rows)
            block = self.graph.room_for(n, self.link_count)
            for i in range(n):
                cids[rows[i].row] = base + i
            for i in range(n):
                row = rows[i].row
                cid = base + i
                memcpy(block.oids + <size_t>cid * self.size, self.met.oids + <size_t>row * self.size, self.size)
                memcpy(block.trees + <size_t>cid * self.size, self.met.trees + <size_t>row * self.size, self.size)
                block.times[cid] = self.met.times[row]
                made = block.starts[cid]
                for parent in range(self.starts[row], self.starts[row + 1]):
                    if self.links[parent] & 0x80000000:
                        block.parents[made] = self.links[parent] & 0x7FFFFFFF
                    else:
                        block.parents[made] = cids[self.links[parent]]
                    made += 1
                block.starts[cid + 1] = made
                block.enter(cid)
            self.graph.block = block
            self.graph.count = base + n
        finally:
            free(rows)
            free(stack)
            free(at)
            free(dates)
        return 0


cdef class Graph:
    """See history.Graph."""

    def __cinit__(self, int oid_size):
        self.oid_size = oid_size
        self.block = Block(oid_size, 1024, 2048)

    def __len__(self):
        return self.count

    @property
    def byte_count(self):
        cdef Block block = self.block
        return <size_t>block.room * (2 * self.oid_size + 12) + 4 * <size_t>block.parent_room + 4 * <size_t>(block.mask + 1)

    cdef Block room_for(self, uint32_t rows, uint32_t links):
        """Return a block that has room for so many more; what is written beyond `count` nobody sees yet."""
        cdef Block old = self.block, block
        cdef uint32_t used = old.starts[self.count], cid
        cdef uint64_t need = <uint64_t>self.count + rows, parents = <uint64_t>used + links
        if need <= old.room and parents <= old.parent_room:
            return old
        if need >= 0x7FFFFF00 or parents >= 0x7FFFFF00:
            raise Corrupt("more commits than a graph can hold")
        # A quarter more than now needed: repositories grow slowly.
        block = Block(self.oid_size, <uint32_t>(need + need // 4 + 64), <uint32_t>(parents + parents // 4 + 64))
        memcpy(block.oids, old.oids, <size_t>self.count * self.oid_size)
        memcpy(block.trees, old.trees, <size_t>self.count * self.oid_size)
        memcpy(block.times, old.times, <size_t>self.count * 8)
        memcpy(block.starts, old.starts, 4 * (<size_t>self.count + 1))
        memcpy(block.parents, old.parents, 4 * <size_t>used)
        for cid in range(self.count):
            block.enter(cid)
        return block

    cdef uint32_t check(self, int64_t cid) except? 0xFFFFFFFF:
        if cid < 0 or cid >= self.count:
            raise IndexError(f"no commit has the number {cid}")
        return <uint32_t>cid

    cdef View view(self):
        cdef View g
        g.count = self.count
        g.times = self.block.times
        g.starts = self.block.starts
        g.parents = self.block.parents
        return g

    def find(self, const uint8_t[::1] oid not None):
        """See history.Graph."""
        cdef uint32_t cid
        if oid.shape[0] != self.oid_size:
            return -1
        cid = self.block.find(&oid[0])
        return -1 if cid == <uint32_t>NONE else cid

    def find_many(self, const uint8_t[::1] oids not None):
        """See history.Graph."""
        cdef Block block = self.block
        cdef Py_ssize_t k, n = oids.shape[0] // self.oid_size
        cdef uint32_t cid, count = self.count, unnamed = count
        cdef uint8_t *named = <uint8_t *>calloc(<size_t>count + 1, 1)
        cdef uint32_t[::1] out
        if named == NULL:
            raise MemoryError
        try:
            found = array("I", bytes(4 * n))
            if n:
                out = found
            for k in range(n):
                cid = block.find(&oids[k * self.oid_size])
                if cid < count:
                    unnamed -= not named[cid]
                    named[cid] = 1
                out[k] = cid if cid < count else <uint32_t>NONE
            others = array("I", bytes(4 * <size_t>unnamed))
            if unnamed:
                out = others
            k = 0
            for cid in range(count):
                if not named[cid]:
                    out[k] = cid
                    k += 1
        finally:
            free(named)
        return found, others

    def oid(self, int64_t cid):
        """See history.Graph."""
        return (<const char *>self.block.oids + <size_t>self.check(cid) * self.oid_size)[:self.oid_size]

    def tree(self, int64_t cid):
        """See history.Graph."""
        return (<const char *>self.block.trees + <size_t>self.check(cid) * self.oid_size)[:self.oid_size]

    def time(self, int64_t cid):
        """See history.Graph."""
        return self.block.times[self.check(cid)]

    def parents(self, int64_t cid):
        """See history.Graph."""
        cdef uint32_t c = self.check(cid), i
        cdef Block block = self.block
        return tuple([block.parents[i] for i in range(block.starts[c], block.starts[c + 1])])

    def oids(self, const uint32_t[::1] cids not None):
        """See history.Graph."""
        cdef Py_ssize_t k
        cdef Block block = self.block
        cdef list result = []
        for k in range(cids.shape[0]):
            result.append((<const char *>block.oids + <size_t>self.check(cids[k]) * self.oid_size)[:self.oid_size])
        return result

    def load(self, PackReader reader, bytes tips not None, read not None, replaced, layers):
        """See history.Graph."""
        cdef Loader loader = Loader(self, reader, read, replaced, layers)
        cdef Py_ssize_t k
        cdef uint32_t row = 0
        for k in range(len(tips) // self.oid_size):
            loader.meet(<const uint8_t *>PyBytes_AS_STRING(tips) + k * self.oid_size)
        while row < loader.count:
            loader.fill(row)
            row += 1
        if row:
            loader.finish()
        return row

    cdef uint32_t mark_tips(self, const uint32_t[::1] cids, uint8_t *marks, uint8_t mark, uint32_t top) except? 0xFFFFFFFF:
        cdef Py_ssize_t k
        for k in range(cids.shape[0]):
            marks[cids[k]] |= mark
            if cids[k] > top:
                top = cids[k]
        return top

    cdef int check_all(self, const uint32_t[::1] cids) except -1:
        cdef Py_ssize_t k
        for k in range(cids.shape[0]):
            self.check(cids[k])
        return 0

    def order(self, const uint32_t[::1] tips not None, const uint32_t[::1] excluded not None, int kind, bint first_parent,
              int64_t limit, columns=None, changes=None):
        """See history.Graph."""
        cdef View g = self.view()
        cdef Block keep = self.block
        cdef uint8_t *marks
        cdef uint32_t *out = NULL
        cdef uint32_t *only = NULL
        cdef const uint32_t *pointers[16]
        cdef const uint32_t[::1] column
        cdef Heap heap
        cdef uint32_t top = 0, made = 0, most, k, n
        cdef int fault = 0, column_count = 0
        cdef bint bounded = excluded.shape[0] > 0, by_changes = changes is not None
        cdef const uint32_t[::1] places
        cdef const uint8_t[::1] followed
        cdef const uint32_t[::1] cid_of
        cdef Pruning pruning
        cdef uint8_t *states = NULL
        cdef const uint32_t *bottom_pointer = &excluded[0] if bounded else NULL
        cdef Py_ssize_t bottom_count = excluded.shape[0]
        cdef const uint32_t *tip_pointer = &tips[0] if tips.shape[0] else NULL
        cdef Py_ssize_t tip_count = tips.shape[0]
        self.check_all(tips)
        self.check_all(excluded)
        if tip_count == 0 or limit == 0:
            return array("I")
        held = list(columns) if columns is not None else []
        shortest = 1 << 32
        if len(held) > 16:
            raise ValueError("at most 16 paths")
        for item in held:
            column = item
            shortest = min(shortest, column.shape[0])
            pointers[column_count] = &column[0] if column.shape[0] else NULL
            column_count += 1
        if by_changes and (bounded or column_count):
            raise ValueError("changes are for what has neither bounds nor columns")
        cdef bint pruning_is_on = column_count > 0 or by_changes
        memset(&heap, 0, sizeof(heap))
        marks = <uint8_t *>calloc(<size_t>g.count + 1, 1)
        if marks == NULL:
            raise MemoryError
        top = self.mark_tips(tips, marks, WANT, top)
        top = self.mark_tips(excluded, marks, HAVE | BOTTOM, top)
        if top >= shortest:
            free(marks)
            raise ValueError("a column is too short")
        most = g.count
        with nogil:
            if bounded:
                most = paint_range(&g, marks, top, first_parent)
            if pruning_is_on:
                memset(&pruning, 0, sizeof(pruning))
                only = <uint32_t *>malloc(4 * (<size_t>top + 1))
                states = <uint8_t *>calloc(<size_t>top + 1, 1)
                pruning.stack_room = 1024
                pruning.stack = <uint32_t *>malloc(4 * 1024)
                pruning.g = &g
                pruning.states = states
                pruning.columns = pointers
                pruning.column_count = column_count
                pruning.by_changes = by_changes
                pruning.first_parent = first_parent
                pruning.only = only
                # What is excluded is known at the end only, and who is sorted later has to be there whole.
                pruning.shown_only = kind == 0 and not bounded
                most = top + 1
            if limit >= 0 and limit < <int64_t>most and kind == 0 and (not pruning_is_on or pruning.shown_only):
                most = <uint32_t>limit
            out = <uint32_t *>malloc(4 * <size_t>most + 4)
            if out == NULL or (pruning_is_on and (only == NULL or states == NULL or pruning.stack == NULL)):
                fault = -1
        try:
            for places, followed, cid_of in changes if by_changes and not fault else ():
                note_changes(&pruning, top, places, followed, cid_of)
        except BaseException:
            free(marks)
            free(only)
            free(states)
            free(pruning.stack)
            free(out)
            raise
        with nogil:
            if fault:
                pass
            elif pruning_is_on:
                pruning.most = most
                fault = walk_path(&pruning, tip_pointer, tip_count, bottom_pointer, bottom_count, out, &made, &heap)
                heap.count = 0
                # What turned out to be excluded goes; the exact answer was painted before.
                n = 0
                for k in range(made):
                    if not (states[out[k]] | marks[out[k]]) & HAVE:
                        marks[out[k]] = SEEN | (states[out[k]] & SAME)
                        out[n] = out[k]
                        n += 1
                made = n
            else:
                fault = walk_by_date(&g, marks, tip_pointer, tip_count, first_parent, bounded, most, out, &made, &heap)
            if fault == 0 and kind != 0:
                fault = sort_by_topology(&g, marks, out, made, top, first_parent, only, kind == 1, &heap)
            if fault == 0 and pruning_is_on and not pruning.shown_only:
                n = 0
                for k in range(made):
                    if not marks[out[k]] & SAME:
                        out[n] = out[k]
                        n += 1
                made = n
        free(marks)
        free(only)
        free(states)
        if pruning_is_on:
            free(pruning.stack)
        free(heap.items)
        try:
            if fault:
                raise MemoryError
            if limit >= 0 and <int64_t>made > limit:
                made = <uint32_t>limit
            result = array("I")
            result.frombytes((<const char *>out)[:4 * <size_t>made])
        finally:
            free(out)
        return result

    def ahead_behind(self, int64_t one, int64_t other):
        """See history.Graph."""
        cdef View g = self.view()
        cdef Block keep = self.block
        cdef uint32_t a = self.check(one), b = self.check(other), c, i, end, parent, pending, ahead = 0, behind = 0
        cdef uint8_t mark, before, after
        cdef uint8_t *marks
        if a == b:
            return 0, 0
        c = (a if a > b else b) + 1
        marks = <uint8_t *>calloc(c, 1)
        if marks == NULL:
            raise MemoryError
        marks[a] = WANT
        marks[b] = HAVE
        pending = 2
        with nogil:
            while c and pending:
                c -= 1
                mark = marks[c]
                if mark == 0:
                    continue
                if mark != BOTH:
                    pending -= 1
                    if mark == WANT:
                        ahead += 1
                    else:
                        behind += 1
                i = g.starts[c]
                end = g.starts[c + 1]
                while i < end:
                    parent = g.parents[i]
                    i += 1
                    before = marks[parent]
                    after = before | mark
                    if after != before:
                        marks[parent] = after
                        if before == 0:
                            if after != BOTH:
                                pending += 1
                        elif after == BOTH:
                            pending -= 1
        free(marks)
        return ahead, behind

    def merge_bases(self, int64_t one, const uint32_t[::1] others not None):
        """See history.Graph."""
        cdef View g = self.view()
        cdef Block keep = self.block
        cdef uint32_t c = self.check(one), i, end, parent, pending = 0, top
        cdef uint8_t mark, before, after
        cdef uint8_t *marks
        cdef Py_ssize_t k
        self.check_all(others)
        top = c
        for k in range(others.shape[0]):
            if others[k] > top:
                top = others[k]
        marks = <uint8_t *>calloc(<size_t>top + 1, 1)
        if marks == NULL:
            raise MemoryError
        marks[c] = WANT
        for k in range(others.shape[0]):
            marks[others[k]] |= HAVE
        pending = 1 if marks[c] != HAVE else 0
        for k in range(others.shape[0]):
            if marks[others[k]] == HAVE:
                # Named twice, it is counted once: the mark of those that were counted is taken off again below.
                marks[others[k]] |= SEEN
                pending += 1
        for k in range(others.shape[0]):
            marks[others[k]] &= ~SEEN
        found = array("I")
        c = top + 1
        try:
            while c and pending:
                c -= 1
                mark = marks[c]
                if mark == 0:
                    continue
                if not mark & STALE:
                    pending -= 1
                    if mark == BOTH:
                        found.append(c)
                        mark |= STALE
                i = g.starts[c]
                end = g.starts[c + 1]
                while i < end:
                    parent = g.parents[i]
                    i += 1
                    before = marks[parent]
                    after = before | mark
                    if after != before:
                        marks[parent] = after
                        if before == 0:
                            if not after & STALE:
                                pending += 1
                        elif not before & STALE and after & STALE:
                            pending -= 1
        finally:
            free(marks)
        return found

    def is_ancestor(self, int64_t old, int64_t new):
        """See history.Graph."""
        cdef View g = self.view()
        cdef Block keep = self.block
        cdef uint32_t a = self.check(old), b = self.check(new), c, i, end, pending = 1
        cdef uint8_t *marks
        cdef bint found = a == b
        if a >= b:
            return found
        marks = <uint8_t *>calloc(<size_t>b - a + 1, 1)
        if marks == NULL:
            raise MemoryError
        marks[b - a] = 1
        c = b + 1
        with nogil:
            while c > a + 1 and pending:
                c -= 1
                if not marks[c - a]:
                    continue
                pending -= 1
                i = g.starts[c]
                end = g.starts[c + 1]
                while i < end:
                    if g.parents[i] >= a and not marks[g.parents[i] - a]:
                        marks[g.parents[i] - a] = 1
                        pending += 1
                    i += 1
                if marks[0]:
                    break
        found = marks[0]
        free(marks)
        return found

    def reached_by(self, int64_t old, const uint32_t[::1] tips not None):
        """See history.Graph."""
        cdef View g = self.view()
        cdef Block keep = self.block
        cdef uint32_t a = self.check(old), c, i, end, top = a
        cdef Py_ssize_t k, n = tips.shape[0]
        cdef uint8_t *marks
        self.check_all(tips)
        for k in range(n):
            if tips[k] > top:
                top = tips[k]
        marks = <uint8_t *>calloc(<size_t>top - a + 1, 1)
        if marks == NULL:
            raise MemoryError
        with nogil:
            marks[0] = 1
            for c in range(a + 1, top + 1):
                i = g.starts[c]
                end = g.starts[c + 1]
                while i < end:
                    if g.parents[i] >= a and marks[g.parents[i] - a]:
                        marks[c - a] = 1
                        break
                    i += 1
        result = PyBytes_FromStringAndSize(NULL, n)
        for k in range(n):
            (<uint8_t *>PyBytes_AS_STRING(result))[k] = marks[tips[k] - a] if tips[k] >= a else 0
        free(marks)
        return result


@cython.no_gc
cdef class Handle:
    """See history.Handle. Not followed by the collector: neither a graph nor a source ever refers to a handle."""

    cdef readonly Graph graph
    cdef readonly object source
    cdef readonly uint32_t cid

    @property
    def oid(self):
        return (<const char *>self.graph.block.oids + <size_t>self.cid * self.graph.oid_size)[:self.graph.oid_size]

    @property
    def tree_oid(self):
        return (<const char *>self.graph.block.trees + <size_t>self.cid * self.graph.oid_size)[:self.graph.oid_size]

    @property
    def time(self):
        return self.graph.block.times[self.cid]

    @property
    def message(self):
        cdef const char *p
        cdef const char *end
        data = self.source[self.oid].data
        if type(data) is bytes and PyBytes_GET_SIZE(data) >= 5 and memcmp(PyBytes_AS_STRING(data), b"tree ", 5) == 0:
            p = PyBytes_AS_STRING(data)
            end = p + PyBytes_GET_SIZE(data)
            while True:
                p = <const char *>memchr(p, 10, end - p)
                if p == NULL:
                    return b""
                p += 1
                if p < end and p[0] == 10:
                    return PyBytes_FromStringAndSize(p + 1, end - p - 1)
        return self.odd_message()

    def odd_message(self):
        """See history.Handle."""
        raise ValueError("not a commit of the usual form")


cdef extern from *:
    """
    #define GOVC_NEW(type) ((PyObject *)((PyTypeObject *)(type))->tp_new((PyTypeObject *)(type), govc_nothing, NULL))
    static PyObject *govc_nothing;
    #define GOVC_SET_NOTHING(value) (govc_nothing = (value))
    """
    object GOVC_NEW(object type)
    void GOVC_SET_NOTHING(object value)


_nothing = ()
GOVC_SET_NOTHING(_nothing)


cdef class Handles:
    """Makes handles one after the other: an iterator."""

    cdef object type
    cdef Graph graph
    cdef object source
    cdef object keep
    cdef const uint32_t[::1] cids
    cdef Py_ssize_t at

    def __iter__(self):
        return self

    def __next__(self):
        cdef Handle handle
        if self.at >= self.cids.shape[0]:
            raise StopIteration
        handle = <Handle>GOVC_NEW(self.type)
        handle.graph = self.graph
        handle.source = self.source
        handle.cid = self.cids[self.at]
        self.at += 1
        return handle


def iter_handles(type, Graph graph not None, source, cids):
    """See history.iter_handles."""
    cdef Handles handles = Handles()
    if not issubclass(type, Handle):
        raise TypeError("not a kind of Handle")
    graph.check_all(cids)
    handles.type = type
    handles.graph = graph
    handles.source = source
    handles.cids = cids
    return handles


def make_handle(type, Graph graph not None, source, int64_t cid):
    """See history.make_handle."""
    cdef Handle handle
    if not issubclass(type, Handle):
        raise TypeError("not a kind of Handle")
    handle = <Handle>GOVC_NEW(type)
    handle.graph = graph
    handle.source = source
    handle.cid = graph.check(cid)
    return handle
