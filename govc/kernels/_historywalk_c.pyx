# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Walks over the commits of a graph: by date, by topology, along what changes paths; without the GIL, for `_history_c`.

Everything is by number. `marks` and `states` have a byte for each commit up to the highest that is looked at; what
returns an int returns -1 when there is no memory. The story is in `history`.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc

DEF NONE = 0xFFFFFFFF
DEF WANT = 1
DEF HAVE = 2
DEF BOTH = 3
DEF CHANGED = 4
DEF BOTTOM = 8
DEF SEEN = 16
DEF SAME = 32
DEF PARSED = 64
DEF POPPED = 128
DEF SLOP = 5


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
