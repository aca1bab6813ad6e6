# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: libraries = z
"""Which commits change which paths, compiled; the story is in `govc.graph.path_changes`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy

from govc.kernels._history_c cimport Graph
from govc.kernels._historyload_c cimport Block
from govc.kernels._packread_c cimport Node, PackReader, PackTable
from govc.kernels._treelist_c cimport Cursor, Entry, begin, begin_both, canonical, is_rest_equal, load, order_of, step

from array import array

from govc.errors import Corrupt, LimitExceeded

DEF NONE = 0xFFFFFFFF
DEF FORMAT = 0o170000
DEF DIRECTORY = 0o040000

# What a parent other than the first has where trees are compared: nothing, a tree, or the same as the commit (at all
# paths below, of which the commit may have none as well).
DEF ABSENT = 0
DEF THERE = 1
DEF SAME = 2


cdef struct Side:
    int kind
    const uint8_t *oid
    Node *node
    Cursor cursor


cdef struct Change:
    uint32_t place
    uint32_t name
    uint8_t parent


cdef int seek(Side *side, const Entry *entry, int size) noexcept nogil:
    """Go on to an entry of that name and kind: 1 when it is there, 0 when not, -1 when the bytes are no entry."""
    cdef int order
    while not side.cursor.is_over:
        order = order_of(&side.cursor.entry, entry)
        if order >= 0:
            return order == 0
        if step(&side.cursor, size) < 0:
            return -1
    return 0


cdef object wrong():
    raise Corrupt("malformed tree")


cdef class Builder:
    cdef PackReader reader
    cdef PackTable table
    cdef object fallback
    cdef int size
    cdef dict names
    cdef size_t name_bytes
    cdef Change *changes
    cdef uint32_t count
    cdef uint32_t room
    cdef uint32_t *stamps  # by name: its last change
    cdef uint32_t stamp_room
    cdef uint8_t *path
    cdef Py_ssize_t path_room
    cdef uint32_t place
    cdef uint32_t first  # change of the commit
    cdef size_t work
    cdef uint32_t changes_each
    cdef uint32_t changes_max
    cdef size_t name_bytes_max
    cdef Py_ssize_t path_max
    cdef int depth_max
    cdef size_t work_max

    def __cinit__(self, PackReader reader not None, fallback, limits):
        self.reader = reader
        self.table = reader.table
        self.fallback = fallback
        self.size = reader.table.oid_size
        self.names = {}
        self.changes_each = limits.changes_each
        self.changes_max = limits.changes
        self.name_bytes_max = limits.name_bytes
        self.path_max = limits.path_bytes
        self.depth_max = limits.depth
        self.work_max = limits.scanned_bytes

    def __dealloc__(self):
        free(self.changes)
        free(self.stamps)
        free(self.path)

    cdef uint32_t number_of(self, bytes name) except? 0xFFFFFFFF:
        cdef uint32_t number
        cdef uint32_t *more
        found = self.names.get(name)
        if found is not None:
            return found
        number = <uint32_t>len(self.names)
        if number == self.stamp_room:
            more = <uint32_t *>realloc(self.stamps, 4 * (2 * <size_t>self.stamp_room + 256))
            if more == NULL:
                raise MemoryError
            self.stamps = more
            self.stamp_room = 2 * self.stamp_room + 256
        self.name_bytes += len(name)
        if self.name_bytes > self.name_bytes_max:
            raise LimitExceeded("names of paths", self.name_bytes_max, self.name_bytes)
        self.stamps[number] = NONE
        self.names[name] = number
        return number

    cdef int append(self, uint32_t place, uint32_t number, uint8_t parent) except -1:
        cdef Change *more
        if self.count >= self.changes_max:
            raise LimitExceeded("changes of paths", self.changes_max)
        if self.count == self.room:
            more = <Change *>realloc(self.changes, sizeof(Change) * (<size_t>self.room + self.room // 2 + 1024))
            if more == NULL:
                raise MemoryError
            self.changes = more
            self.room += self.room // 2 + 1024
        self.changes[self.count].place = place
        self.changes[self.count].name = number
        self.changes[self.count].parent = parent
        self.stamps[number] = self.count
        self.count += 1
        return 0

    cdef int note(self, Py_ssize_t length, uint8_t parent, bint is_there) except -1:
        """Note a change at the path; 1 when the commit has too many."""
        cdef uint32_t number = self.number_of((<const char *>self.path)[:length] if length else b"")
        cdef uint32_t at = self.stamps[number]
        if self.first <= at < self.count and self.changes[at].name == number:
            # A file that became a folder, or the other way round, is met twice: what is there counts.
            if is_there:
                self.changes[at].parent = parent
            return 0
        if self.count - self.first >= self.changes_each:
            return 1
        self.append(self.place, number, parent)
        return 0

    cdef bint has_name(self, Node *node, const Entry *entry) except -1:
        """Tell whether a tree has anything of that name."""
        cdef Cursor cursor
        self.work += node.size
        begin(&cursor, node.data, <Py_ssize_t>node.size)
        while True:
            if step(&cursor, self.size) < 0:
                wrong()
            if cursor.is_over:
                return False
            if cursor.entry.name_size == entry.name_size and memcmp(cursor.entry.name, entry.name, entry.name_size) == 0:
                return True

    cdef int change(self, const Entry *new, const Entry *old, Side *sides, int side_count, Py_ssize_t prefix,
                    int depth) except -1:
        """Note that an entry differs, and what differs below it; either side may be NULL. 1 when it is too much."""
        cdef const Entry *entry = new if new != NULL else old
        cdef Py_ssize_t length = prefix + entry.name_size
        cdef const uint8_t *new_tree = new.oid if new != NULL and new.mode & FORMAT == DIRECTORY else NULL
        cdef const uint8_t *old_tree = old.oid if old != NULL and old.mode & FORMAT == DIRECTORY else NULL
        cdef uint8_t *more
        cdef Side *below = NULL
        cdef uint8_t parent = 0
        cdef int i, found, result
        if length > self.path_max or self.work > self.work_max:
            return 1
        if length + 1 > self.path_room:
            more = <uint8_t *>realloc(self.path, 2 * length + 256)
            if more == NULL:
                raise MemoryError
            self.path = more
            self.path_room = 2 * length + 256
        memcpy(self.path + prefix, entry.name, entry.name_size)
        for i in range(side_count):
            found = seek(&sides[i], entry, self.size) if sides[i].kind == THERE else 0
            if found < 0:
                wrong()
            if sides[i].kind == SAME:
                parent = <uint8_t>(i + 1)
            elif new != NULL:
                if (found and canonical(sides[i].cursor.entry.mode) == canonical(new.mode)
                        and memcmp(sides[i].cursor.entry.oid, new.oid, self.size) == 0):
                    parent = <uint8_t>(i + 1)
            elif not found and (sides[i].kind == ABSENT or not self.has_name(sides[i].node, entry)):
                parent = <uint8_t>(i + 1)
            if parent:
                break
        if self.note(length, parent, new != NULL):
            return 1
        if new_tree == NULL and old_tree == NULL:
            return 0
        if side_count:
            below = <Side *>malloc(sizeof(Side) * side_count)
            if below == NULL:
                raise MemoryError
        try:
            for i in range(side_count):
                below[i].kind = SAME if sides[i].kind == SAME or new_tree == NULL else ABSENT
                below[i].node = NULL
                found = seek(&sides[i], entry, self.size) if sides[i].kind == THERE else 0
                if found < 0:
                    wrong()
                if found and sides[i].cursor.entry.mode & FORMAT == DIRECTORY:
                    below[i].oid = sides[i].cursor.entry.oid
                    below[i].kind = THERE
                    if new_tree != NULL and memcmp(new_tree, below[i].oid, self.size) == 0:
                        below[i].kind = SAME
                if below[i].kind == SAME:
                    side_count = i + 1  # who stands behind a parent that has the same isn't asked
                    break
            self.path[length] = 47
            result = self.walk(new_tree, old_tree, below, side_count, length + 1, depth + 1)
        finally:
            free(below)
        return result

    cdef int compare(self, Node *new, Node *old, Side *sides, int side_count, Py_ssize_t prefix, int depth) except -1:
        cdef Cursor a, b
        cdef int order
        if begin_both(&a, new, &b, old, self.size) < 0:
            wrong()
        while not (a.is_over and b.is_over):
            if a.is_over:
                order = 1
            elif b.is_over:
                order = -1
            else:
                order = order_of(&a.entry, &b.entry)
            if order or memcmp(a.entry.oid, b.entry.oid, self.size) or canonical(a.entry.mode) != canonical(b.entry.mode):
                if self.change(&a.entry if order <= 0 else NULL, &b.entry if order >= 0 else NULL, sides, side_count,
                               prefix, depth):
                    return 1
            if order <= 0 and step(&a, self.size) < 0:
                wrong()
            if order >= 0 and step(&b, self.size) < 0:
                wrong()
            if is_rest_equal(&a, &b):
                break
        return 0

    cdef int walk(self, const uint8_t *new_tree, const uint8_t *old_tree, Side *sides, int side_count, Py_ssize_t prefix,
                  int depth) except -1:
        """Note what differs between two trees, of which either may be NULL. 1 when it is too much for one commit."""
        cdef Node *new = NULL
        cdef Node *old = NULL
        cdef int i
        if depth > self.depth_max:
            return 1
        try:
            if new_tree != NULL:
                new = load(self.reader, self.table, self.fallback, new_tree, self.size)
            if old_tree != NULL:
                old = load(self.reader, self.table, self.fallback, old_tree, self.size)
            for i in range(side_count):
                if sides[i].kind == THERE:
                    sides[i].node = load(self.reader, self.table, self.fallback, sides[i].oid, self.size)
                    begin(&sides[i].cursor, sides[i].node.data, <Py_ssize_t>sides[i].node.size)
                    if step(&sides[i].cursor, self.size) < 0:
                        wrong()
            return self.compare(new, old, sides, side_count, prefix, depth)
        finally:
            if new != NULL:
                self.reader.release(new)
            if old != NULL:
                self.reader.release(old)
            for i in range(side_count):
                if sides[i].node != NULL:
                    self.reader.release(sides[i].node)

    cdef int add_commit(self, Graph graph, uint32_t cid, uint32_t place) except -1:
        """Note what a commit changes; 1 when that is too much, and nothing is noted then."""
        cdef Block block = graph.block  # which stays as it is whatever the graph becomes meanwhile
        cdef uint32_t start = block.starts[cid], end = block.starts[cid + 1]
        cdef const uint8_t *new = block.trees + <size_t>cid * self.size
        cdef const uint8_t *old = block.trees + <size_t>block.parents[start] * self.size if start < end else NULL
        cdef int side_count = <int>(end - start) - 1 if start < end else 0, i, result
        cdef Side *sides = NULL
        cdef uint8_t parent = 0
        if old != NULL and memcmp(new, old, self.size) == 0:
            return 0
        if side_count > 254:
            return 1
        self.place = place
        self.first = self.count
        self.work = 0
        if side_count:
            sides = <Side *>malloc(sizeof(Side) * side_count)
            if sides == NULL:
                raise MemoryError
        try:
            for i in range(side_count):
                sides[i].node = NULL
                sides[i].oid = block.trees + <size_t>block.parents[start + 1 + i] * self.size
                sides[i].kind = SAME if memcmp(sides[i].oid, new, self.size) == 0 else THERE
                if sides[i].kind == SAME:
                    parent = <uint8_t>(i + 1)
                    side_count = i + 1
                    break
            result = self.note(0, parent, True)
            if not result:
                result = self.walk(new, old, sides, side_count, 0, 0)
        finally:
            free(sides)
        if result:
            self.count = self.first
        return result

    cdef columns(self):
        """Return the changes by path."""
        cdef Py_ssize_t total = len(self.names), n = 0
        cdef uint32_t *next = <uint32_t *>malloc(4 * <size_t>(total + 1))
        cdef uint32_t k, sum = 0, number
        cdef uint32_t *out
        cdef uint8_t *parents
        if next == NULL:
            raise MemoryError
        try:
            for n in range(total):
                next[n] = 0
            for k in range(self.count):
                next[self.changes[k].name] += 1
            # Paths that only too large a commit has are left out.
            ordered = sorted([name for name, place in self.names.items() if next[<uint32_t>place]])
            name_starts = array("I", [0])
            change_starts = array("I", [0])
            end = 0
            for name in ordered:
                end += len(name)
                name_starts.append(end)
                number = self.names[name]
                k = next[number]
                next[number] = sum
                sum += k
                change_starts.append(sum)
            places = PyBytes_FromStringAndSize(NULL, 4 * <Py_ssize_t>self.count)
            followed = PyBytes_FromStringAndSize(NULL, self.count)
            out = <uint32_t *>PyBytes_AS_STRING(places)
            parents = <uint8_t *>PyBytes_AS_STRING(followed)
            for k in range(self.count):
                number = self.changes[k].name
                out[next[number]] = self.changes[k].place
                parents[next[number]] = self.changes[k].parent
                next[number] += 1
        finally:
            free(next)
        return name_starts.tobytes(), b"".join(ordered), change_starts.tobytes(), places, followed


def find_name(const uint32_t[::1] starts not None, const uint8_t[::1] names not None, const uint8_t[::1] name not None):
    """See kernels.pathchanges."""
    cdef Py_ssize_t low = 0, high = starts.shape[0] - 1, middle, size, common
    cdef int order
    while low < high:
        middle = (low + high) >> 1
        if starts[middle] > starts[middle + 1] or <Py_ssize_t>starts[middle + 1] > names.shape[0]:
            raise ValueError("names that end outside of their block")
        size = starts[middle + 1] - starts[middle]
        common = size if size < name.shape[0] else name.shape[0]
        order = memcmp(&names[starts[middle]], &name[0], common) if common else 0
        if order == 0:
            if size == name.shape[0]:
                return middle
            order = -1 if size < name.shape[0] else 1
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return -1


def find_changes(PackReader reader not None, fallback, Graph graph not None, const uint32_t[::1] cids not None,
                 uint32_t first_place, known, limits):
    """See kernels.pathchanges."""
    cdef Builder builder = Builder(reader, fallback, limits)
    cdef Py_ssize_t k
    cdef uint32_t number, place
    if graph.oid_size != builder.size:
        raise ValueError("another hash")
    graph.check_all(cids)
    for name, places, parents in known:
        number = builder.number_of(name)
        for place, parent in zip(places, parents):
            builder.append(place, number, parent)
    large = array("I")
    for k in range(cids.shape[0]):
        if builder.add_commit(graph, cids[k], first_place + <uint32_t>k):
            large.append(first_place + k)
    return large.tobytes(), *builder.columns()
