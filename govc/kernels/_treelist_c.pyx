# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: libraries = z
"""What trees hold, and how a folder changed through history, compiled; the story is in `treelist`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from govc.kernels._history_c cimport Graph
from govc.kernels._historyload_c cimport Block
from govc.kernels._packread_c cimport FINE, Fault, Node, PackReader, PackTable

from govc.errors import Corrupt, CorruptObject, LimitExceeded, ObjectMissing

DEF NONE = 0xFFFFFFFF
DEF TREE = 2
DEF DIRECTORY = 0o040000
DEF FORMAT = 0o170000


cdef extern from *:
    """
    #define GOVC_TUPLE(type, size) (((PyTypeObject *)(type))->tp_alloc((PyTypeObject *)(type), (size)))
    """
    object GOVC_TUPLE(object type, Py_ssize_t size)

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(void *what)
    int PyGC_Disable()
    int PyGC_Enable()


cdef object wrong():
    raise Corrupt("malformed tree")


def parse_entries(const uint8_t[::1] data, int oid_size, type):
    """See kernels.treelist.parse_entries."""
    cdef Cursor cursor
    cdef list entries = []
    cdef object entry, part
    if not issubclass(type, tuple):
        raise TypeError("not a kind of tuple")
    if data.shape[0] == 0:
        return entries
    begin(&cursor, &data[0], data.shape[0])
    while True:
        if step(&cursor, oid_size) < 0:
            wrong()
        if cursor.is_over:
            return entries
        entry = GOVC_TUPLE(type, 3)
        part = cursor.entry.mode
        Py_INCREF(part)
        PyTuple_SET_ITEM(entry, 0, part)
        part = PyBytes_FromStringAndSize(<const char *>cursor.entry.name, cursor.entry.name_size)
        Py_INCREF(part)
        PyTuple_SET_ITEM(entry, 1, part)
        part = PyBytes_FromStringAndSize(<const char *>cursor.entry.oid, oid_size)
        Py_INCREF(part)
        PyTuple_SET_ITEM(entry, 2, part)
        entries.append(entry)


cdef Node *load(PackReader reader, PackTable table, object fallback, const uint8_t *oid, int size) except NULL:
    """Return a tree's content, the caller's to release. Raises ObjectMissing or Corrupt."""
    cdef int64_t number = table.find_number(oid) if table is not None else -1
    cdef Node *node = NULL
    cdef const uint8_t[::1] content
    if number >= 0 and reader.load(number, &node) == FINE:
        if node.type_number != TREE:
            reader.release(node)
            raise CorruptObject((<const char *>oid)[:size], "is not a tree, as what names it says")
        return node
    found = fallback((<const char *>oid)[:size])  # a loose one, or another copy of a damaged one
    content = found[1]
    if found[0] != TREE:
        raise CorruptObject((<const char *>oid)[:size], "is not a tree, as what names it says")
    node = reader.new_node(0, TREE, content.shape[0])
    if node == NULL:
        raise MemoryError
    if content.shape[0]:
        memcpy(node.data, &content[0], content.shape[0])
    return node


def find_entry(const uint8_t[::1] data, int oid_size, const uint8_t[::1] name):
    """See kernels.treelist.find_entry."""
    cdef Cursor cursor
    if data.shape[0] == 0 or name.shape[0] == 0:
        return None
    begin(&cursor, &data[0], data.shape[0])
    while True:
        if step(&cursor, oid_size) < 0:
            wrong()
        if cursor.is_over:
            return None
        if cursor.entry.name_size == name.shape[0] and memcmp(cursor.entry.name, &name[0], name.shape[0]) == 0:
            return cursor.entry.mode, (<const char *>cursor.entry.oid)[:oid_size]


cdef class Lister:
    cdef PackReader reader
    cdef PackTable table
    cdef object fallback
    cdef object type
    cdef PyObject **entries
    cdef Py_ssize_t count
    cdef Py_ssize_t room
    cdef uint8_t *path
    cdef Py_ssize_t path_room
    cdef int size
    cdef int depth_max
    cdef Py_ssize_t entries_max
    cdef uint32_t last_mode
    cdef object last_mode_object

    def __dealloc__(self):
        cdef Py_ssize_t k
        for k in range(self.count):
            Py_DECREF(<object>self.entries[k])
        free(self.entries)
        free(self.path)

    cdef int keep(self, object entry) except -1:
        cdef PyObject **more
        if self.count == self.room:
            more = <PyObject **>realloc(self.entries, sizeof(PyObject *) * <size_t>(2 * self.room + 256))
            if more == NULL:
                raise MemoryError
            self.entries = more
            self.room = 2 * self.room + 256
        Py_INCREF(entry)
        self.entries[self.count] = <PyObject *>entry
        self.count += 1
        return 0

    cdef tuple found(self):
        """Hand all entries over."""
        cdef tuple found = PyTuple_New(self.count)
        cdef Py_ssize_t k
        for k in range(self.count):
            PyTuple_SET_ITEM(found, k, <object>self.entries[k])  # takes the reference that we had
        self.count = 0
        return found

    cdef int walk(self, const uint8_t *oid, Py_ssize_t prefix, int depth) except -1:
        cdef Node *node
        cdef Cursor cursor
        cdef Py_ssize_t length
        cdef uint8_t *more
        cdef object entry, part
        if depth > self.depth_max:
            raise LimitExceeded("core.maxTreeDepth", self.depth_max)
        node = load(self.reader, self.table, self.fallback, oid, self.size)
        try:
            begin(&cursor, node.data, <Py_ssize_t>node.size)
            while True:
                if step(&cursor, self.size) < 0:
                    raise CorruptObject((<const char *>oid)[:self.size], "malformed tree")
                if cursor.is_over:
                    return 0
                length = prefix + cursor.entry.name_size
                if length + 1 > self.path_room:
                    more = <uint8_t *>realloc(self.path, 2 * length + 256)
                    if more == NULL:
                        raise MemoryError
                    self.path = more
                    self.path_room = 2 * length + 256
                memcpy(self.path + prefix, cursor.entry.name, cursor.entry.name_size)
                if cursor.entry.mode & FORMAT == DIRECTORY:
                    self.path[length] = 47
                    self.walk(cursor.entry.oid, length + 1, depth + 1)
                    continue
                if self.count >= self.entries_max:
                    raise LimitExceeded("files_max", self.entries_max)
                entry = GOVC_TUPLE(self.type, 3)
                PyObject_GC_UnTrack(<void *>entry)  # a number and two byte strings: no cycle leads through it
                if cursor.entry.mode != self.last_mode:
                    self.last_mode = cursor.entry.mode
                    self.last_mode_object = cursor.entry.mode
                part = self.last_mode_object
                Py_INCREF(part)
                PyTuple_SET_ITEM(entry, 0, part)
                part = PyBytes_FromStringAndSize(<const char *>self.path, length)
                Py_INCREF(part)
                PyTuple_SET_ITEM(entry, 1, part)
                part = PyBytes_FromStringAndSize(<const char *>cursor.entry.oid, self.size)
                Py_INCREF(part)
                PyTuple_SET_ITEM(entry, 2, part)
                self.keep(entry)
        finally:
            self.reader.release(node)


def list_files(PackReader reader not None, fallback, bytes root not None, type, int depth_max, Py_ssize_t entries_max):
    """See kernels.treelist.list_files."""
    cdef Lister lister = Lister()
    if not issubclass(type, tuple):
        raise TypeError("not a kind of tuple")
    lister.reader = reader
    lister.table = reader.table
    lister.fallback = fallback
    lister.type = type
    lister.size = reader.table.oid_size
    lister.depth_max = depth_max
    lister.entries_max = entries_max
    if PyBytes_GET_SIZE(root) != lister.size:
        raise ObjectMissing(root, "tree")
    collects = PyGC_Disable()  # thousands of new tuples would set it off again and again, for nothing
    try:
        lister.walk(<const uint8_t *>PyBytes_AS_STRING(root), 0, 0)
    finally:
        if collects:
            PyGC_Enable()
    return lister.found()


cdef class Values:
    """Mode and oid of everything that was met, numbered from 1: an open hash over one block."""

    cdef uint8_t *block
    cdef uint32_t *slots
    cdef readonly uint32_t count
    cdef uint32_t room
    cdef uint64_t mask
    cdef int size
    cdef int stride

    def __cinit__(self, int oid_size):
        self.size = oid_size
        self.stride = oid_size + 4
        self.room = 256
        self.mask = 1023
        self.count = 1
        self.block = <uint8_t *>malloc(<size_t>self.room * self.stride)
        self.slots = <uint32_t *>malloc(4 * <size_t>(self.mask + 1))
        if self.block == NULL or self.slots == NULL:
            raise MemoryError
        memset(self.block, 0, self.stride)
        memset(self.slots, 0xFF, 4 * <size_t>(self.mask + 1))

    def __dealloc__(self):
        free(self.block)
        free(self.slots)

    @property
    def byte_count(self):
        return <size_t>self.room * self.stride + 4 * <size_t>(self.mask + 1)

    cdef uint64_t slot_of(self, const uint8_t *oid, uint32_t mode) noexcept:
        cdef uint64_t key
        cdef const uint8_t *at
        memcpy(&key, oid, 8)
        key = ((key * <uint64_t>0x9E3779B97F4A7C15) >> 20) & self.mask
        while self.slots[key] != <uint32_t>NONE:
            at = self.block + <size_t>self.slots[key] * self.stride
            if memcmp(at, oid, self.size) == 0 and memcmp(at + self.size, &mode, 4) == 0:
                break
            key = (key + 1) & self.mask
        return key

    cdef uint32_t add(self, const uint8_t *oid, uint32_t mode) except 0:
        cdef uint64_t slot = self.slot_of(oid, mode)
        cdef uint8_t *more
        cdef uint32_t *slots
        cdef uint32_t i, old_mode
        if self.slots[slot] != <uint32_t>NONE:
            return self.slots[slot]
        if self.count == self.room:
            more = <uint8_t *>realloc(self.block, (<size_t>self.room + self.room // 4) * self.stride)
            if more == NULL:
                raise MemoryError
            self.block = more
            self.room += self.room // 4
        memcpy(self.block + <size_t>self.count * self.stride, oid, self.size)
        memcpy(self.block + <size_t>self.count * self.stride + self.size, &mode, 4)
        self.slots[slot] = self.count
        self.count += 1
        if <uint64_t>self.count * 2 > self.mask:
            slots = <uint32_t *>malloc(8 * <size_t>(self.mask + 1))
            if slots == NULL:
                raise MemoryError
            free(self.slots)
            self.slots = slots
            self.mask = 2 * self.mask + 1
            memset(self.slots, 0xFF, 4 * <size_t>(self.mask + 1))
            for i in range(1, self.count):
                memcpy(&old_mode, self.block + <size_t>i * self.stride + self.size, 4)
                self.slots[self.slot_of(self.block + <size_t>i * self.stride, old_mode)] = i
        return self.count - 1

    cdef const uint8_t *tree_of(self, uint32_t value) noexcept:
        """Return the oid of a value that is a tree, NULL for any other."""
        cdef uint32_t mode
        if value == 0 or value >= self.count:
            return NULL
        memcpy(&mode, self.block + <size_t>value * self.stride + self.size, 4)
        return self.block + <size_t>value * self.stride if mode == DIRECTORY else NULL

    def entry(self, uint32_t value):
        """See kernels.treelist.Values."""
        cdef uint32_t mode
        if value == 0:
            return None
        if value >= self.count:
            raise IndexError(value)
        memcpy(&mode, self.block + <size_t>value * self.stride + self.size, 4)
        return mode, (<const char *>self.block + <size_t>value * self.stride)[:self.size]


def root_column(Graph graph not None, Values values not None, column):
    """See kernels.treelist.root_column."""
    cdef Block block = graph.block
    cdef uint32_t c
    for c in range(len(column), graph.count):
        column.append(values.add(block.trees + <size_t>c * graph.oid_size, DIRECTORY))


cdef struct Change:
    uint32_t cid
    uint32_t name
    uint32_t value


cdef class Folder:
    """See kernels.treelist.Folder."""

    cdef Graph graph
    cdef Values values
    cdef dict names
    cdef Change *changes
    cdef Py_ssize_t count
    cdef Py_ssize_t room
    cdef readonly uint32_t covered

    def __cinit__(self, Graph graph not None, Values values not None):
        self.graph = graph
        self.values = values
        self.names = {}

    def __dealloc__(self):
        free(self.changes)

    @property
    def byte_count(self):
        return self.room * sizeof(Change) + 150 * len(self.names)

    cdef int note(self, uint32_t cid, const Entry *entry, bint is_there) except -1:
        cdef Change *more
        cdef bytes name = (<const char *>entry.name)[:entry.name_size]
        number = self.names.get(name)
        if number is None:
            number = self.names[name] = len(self.names)
        if self.count == self.room:
            more = <Change *>realloc(self.changes, sizeof(Change) * (self.room + self.room // 4 + 256))
            if more == NULL:
                raise MemoryError
            self.changes = more
            self.room += self.room // 4 + 256
        self.changes[self.count].cid = cid
        self.changes[self.count].name = number
        self.changes[self.count].value = self.values.add(entry.oid, canonical(entry.mode)) if is_there else 0
        self.count += 1
        return 0

    cdef int compare(self, uint32_t cid, Node *new, Node *old) except -1:
        """Note what differs between two trees, of which either may be NULL. -1 with an exception."""
        cdef Cursor a, b
        cdef int size = self.graph.oid_size, order
        if begin_both(&a, new, &b, old, size) < 0:
            wrong()
        while not (a.is_over and b.is_over):
            if a.is_over:
                order = 1
            elif b.is_over:
                order = -1
            else:
                order = order_of(&a.entry, &b.entry)
            if order < 0:
                self.note(cid, &a.entry, True)
            elif order > 0:
                self.note(cid, &b.entry, False)
            elif memcmp(a.entry.oid, b.entry.oid, size) or canonical(a.entry.mode) != canonical(b.entry.mode):
                self.note(cid, &a.entry, True)
            if order <= 0 and step(&a, size) < 0:
                wrong()
            if order >= 0 and step(&b, size) < 0:
                wrong()
            if is_rest_equal(&a, &b):
                break
        return 0

    def cover(self, PackReader reader not None, fallback, column, int64_t until):
        """See kernels.treelist.Folder."""
        cdef Block block = self.graph.block
        cdef uint32_t c, parent, end = self.graph.count, goal
        cdef const uint32_t[::1] above
        cdef const uint8_t *new
        cdef const uint8_t *old
        cdef uint8_t new_oid[32]
        cdef uint8_t old_oid[32]
        cdef Node *new_node
        cdef Node *old_node
        cdef int size = self.graph.oid_size
        if column is not None:
            above = column
            if above.shape[0] < end:
                end = <uint32_t>above.shape[0]
        goal = end
        if until >= 0 and self.covered + until < end:
            end = <uint32_t>(self.covered + until)
        for c in range(self.covered, end):
            parent = block.parents[block.starts[c]] if block.starts[c + 1] > block.starts[c] else <uint32_t>NONE
            if column is None:
                new = block.trees + <size_t>c * size
                old = block.trees + <size_t>parent * size if parent != <uint32_t>NONE else NULL
            else:
                if above[c] == (above[parent] if parent != <uint32_t>NONE else 0):
                    self.covered = c + 1
                    continue
                new = self.values.tree_of(above[c])
                old = self.values.tree_of(above[parent]) if parent != <uint32_t>NONE else NULL
            if new == old or (new != NULL and old != NULL and memcmp(new, old, size) == 0):
                self.covered = c + 1
                continue
            # Adding values may move what these point into.
            if new != NULL:
                memcpy(new_oid, new, size)
            if old != NULL:
                memcpy(old_oid, old, size)
            new_node = old_node = NULL
            try:
                if old != NULL:
                    old_node = load(reader, reader.table, fallback, old_oid, size)
                if new != NULL:
                    new_node = load(reader, reader.table, fallback, new_oid, size)
                self.compare(c, new_node, old_node)
            except Corrupt as error:
                self.forget_from(c)
                if isinstance(error, CorruptObject):
                    raise
                raise CorruptObject((<const char *>new_oid)[:size] if new != NULL else (<const char *>old_oid)[:size],
                                    str(error)) from error
            finally:
                if new_node != NULL:
                    reader.release(new_node)
                if old_node != NULL:
                    reader.release(old_node)
            self.covered = c + 1
        return self.covered >= goal

    cdef void forget_from(self, uint32_t cid) noexcept:
        while self.count and self.changes[self.count - 1].cid >= cid:
            self.count -= 1

    def extend(self, bytes name not None, column):
        """See kernels.treelist.Folder."""
        cdef Block block = self.graph.block
        cdef uint32_t c, first = len(column), value
        cdef Py_ssize_t k = 0, high = self.count, middle
        cdef uint32_t number = self.names.get(name, NONE)
        cdef uint32_t[::1] out
        if first >= self.covered:
            return
        column.frombytes(bytes(4 * <size_t>(self.covered - first)))
        out = column
        while k < high:
            middle = (k + high) >> 1
            if self.changes[middle].cid < first:
                k = middle + 1
            else:
                high = middle
        for c in range(first, self.covered):
            value = out[block.parents[block.starts[c]]] if block.starts[c + 1] > block.starts[c] else 0
            high = 0
            while k < self.count and self.changes[k].cid == c:
                # A file that became a folder, or the other way round, was noted twice: what is there counts.
                if self.changes[k].name == number and (self.changes[k].value or not high):
                    value = self.changes[k].value
                    high = value != 0
                k += 1
            out[c] = value
