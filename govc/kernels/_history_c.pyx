# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What is asked of a repository's commits, compiled: `Graph` and the handles of its commits; the story is in `history`.

    _historyload_c    the columns, and how commits come into them
    _historywalk_c    walks over them without the GIL
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset

from govc.kernels._historyload_c cimport Block, Columns, Loader
from govc.kernels._historywalk_c cimport (
    Heap, Pruning, View, note_changes, paint_range, sort_by_topology, walk_by_date, walk_path
)
from govc.kernels._packread_c cimport PackReader

from array import array

DEF NONE = 0xFFFFFFFF
DEF WANT = 1
DEF HAVE = 2
DEF BOTH = 3
DEF STALE = 4
DEF BOTTOM = 8
DEF SEEN = 16
DEF SAME = 32

BY_DATE, BY_DATE_TOPO, BY_TOPO = range(3)


cdef class Graph(Columns):
    """See history.Graph."""

    def __len__(self):
        return self.count

    @property
    def byte_count(self):
        cdef Block block = self.block
        return <size_t>block.room * (2 * self.oid_size + 12) + 4 * <size_t>block.parent_room + 4 * <size_t>(block.mask + 1)

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
