# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: libraries = z
"""Commits, the objects that each introduces, compiled; the story is in `govc.graph.introduce`.

It runs where holding the GIL does no harm: in a helper process, or over the few commits of a push.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from govc.kernels._packread_c cimport FINE, Fault, Node, PackReader, PackTable

from array import array
from heapq import heapify, heappop, heappush

from govc.errors import CorruptObject, LimitExceeded, ObjectMissing

DEF NONE = 0xFFFFFFFF
DEF COMMIT = 1
DEF TREE = 2
DEF BLOB = 3
DEF DEPTH_MAX = 2048


cdef class OidTable:
    """Names and the order in which they came: an open hash over one block of bytes."""

    cdef uint8_t *oids
    cdef uint32_t *slots
    cdef uint32_t count
    cdef uint32_t room
    cdef uint64_t mask
    cdef int size

    def __cinit__(self, int size):
        self.size = size
        self.room = 256
        self.mask = 1023
        self.oids = <uint8_t *>malloc(self.room * size)
        self.slots = <uint32_t *>malloc(4 * (self.mask + 1))
        if self.oids == NULL or self.slots == NULL:
            raise MemoryError
        memset(self.slots, 0xFF, 4 * (self.mask + 1))

    def __dealloc__(self):
        free(self.oids)
        free(self.slots)

    cdef uint64_t slot_of(self, const uint8_t *oid) noexcept:
        cdef uint64_t key
        memcpy(&key, oid, 8)
        key &= self.mask
        while self.slots[key] != <uint32_t>NONE and memcmp(self.oids + <size_t>self.slots[key] * self.size, oid, self.size):
            key = (key + 1) & self.mask
        return key

    cdef uint32_t find(self, const uint8_t *oid) noexcept:
        return self.slots[self.slot_of(oid)]

    cdef uint32_t add(self, const uint8_t *oid) except? 0xFFFFFFFF:
        """Return the rank of the name, a new one at the end."""
        cdef uint64_t slot = self.slot_of(oid)
        cdef uint32_t i
        cdef uint8_t *more
        cdef uint32_t *slots
        if self.slots[slot] != <uint32_t>NONE:
            return self.slots[slot]
        if self.count == self.room:
            more = <uint8_t *>realloc(self.oids, <size_t>self.room * 2 * self.size)
            if more == NULL:
                raise MemoryError
            self.oids = more
            self.room *= 2
        memcpy(self.oids + <size_t>self.count * self.size, oid, self.size)
        self.slots[slot] = self.count
        self.count += 1
        if <uint64_t>self.count * 2 > self.mask:
            slots = <uint32_t *>malloc(8 * (self.mask + 1))
            if slots == NULL:
                raise MemoryError
            free(self.slots)
            self.slots = slots
            self.mask = 2 * self.mask + 1
            memset(self.slots, 0xFF, 4 * (self.mask + 1))
            for i in range(self.count):
                self.slots[self.slot_of(self.oids + <size_t>i * self.size)] = i
        return self.count - 1

    cdef bytes name(self, uint32_t rank):
        return (<const char *>self.oids + <size_t>rank * self.size)[:self.size]

    cdef bytes block(self):
        return (<const char *>self.oids)[:<size_t>self.count * self.size]


cdef class Column:
    """A growing array of uint32."""

    cdef uint32_t *data
    cdef uint32_t count
    cdef uint32_t room

    def __dealloc__(self):
        free(self.data)

    cdef int push(self, uint32_t value) except -1:
        cdef uint32_t *more
        if self.count == self.room:
            more = <uint32_t *>realloc(self.data, 4 * (<size_t>self.room * 2 + 64))
            if more == NULL:
                raise MemoryError
            self.data = more
            self.room = self.room * 2 + 64
        self.data[self.count] = value
        self.count += 1
        return 0

    cdef bytes block(self):
        return (<const char *>self.data)[:<size_t>self.count * 4] if self.count else b""


cdef struct TreeEntry:
    int kind
    const uint8_t *name
    Py_ssize_t name_size
    const uint8_t *oid


cdef struct Cursor:
    const uint8_t *at
    const uint8_t *end
    TreeEntry entry
    int is_over


cdef inline int octal_kind(uint32_t mode) noexcept:
    mode &= 0o170000
    if mode == 0o040000:
        return TREE
    return BLOB if mode == 0o100000 or mode == 0o120000 else 0


cdef int step(Cursor *cursor, int oid_size) noexcept:
    """Parse the next entry; -1 when the bytes are no entry."""
    cdef const uint8_t *p = cursor.at
    cdef const uint8_t *end = cursor.end
    cdef const uint8_t *nul
    cdef uint32_t mode = 0
    cdef int digits = 0
    if p == end:
        cursor.is_over = 1
        return 0
    while p < end and 48 <= p[0] <= 55 and digits < 11:
        mode = (mode << 3) | (p[0] - 48)
        p += 1
        digits += 1
    if digits == 0 or p == end or p[0] != 32:
        return -1
    while p < end and p[0] == 32:
        p += 1
    nul = <const uint8_t *>memchr(p, 0, end - p)
    if nul == NULL or nul == p or end - nul <= oid_size:
        return -1
    cursor.entry.kind = octal_kind(mode)
    cursor.entry.name = p
    cursor.entry.name_size = nul - p
    cursor.entry.oid = nul + 1
    cursor.at = nul + 1 + oid_size
    return 0


cdef int order_of(const TreeEntry *one, const TreeEntry *other) noexcept:
    """Compare as trees are sorted: the name of a tree as if it had a slash at its end."""
    cdef Py_ssize_t common = one.name_size if one.name_size < other.name_size else other.name_size
    cdef int found = memcmp(one.name, other.name, common)
    cdef int a, b
    if found:
        return found
    if common < one.name_size:
        a = one.name[common]
    else:
        a = 47 if one.kind == TREE else 0
    if common < other.name_size:
        b = other.name[common]
    else:
        b = 47 if other.kind == TREE else 0
    return a - b


cdef uint32_t hash_on(uint32_t so_far, const uint8_t *name, Py_ssize_t size) noexcept:
    """As graph.name_hash."""
    cdef Py_ssize_t i
    for i in range(size):
        if name[i] != 32 and name[i] != 9 and name[i] != 10 and name[i] != 13:
            so_far = (so_far >> 2) + (<uint32_t>name[i] << 24)
    return so_far


cdef class Builder:
    cdef PackReader reader
    cdef PackTable table
    cdef object fallback
    cdef int size
    cdef OidTable objects
    cdef bytearray types
    cdef Column sizes
    cdef Column previous
    cdef Column name_hashes
    cdef Column stamps
    cdef Column intros
    cdef uint32_t commit
    cdef uint32_t entries_max

    def __cinit__(self, PackReader reader not None, fallback, uint32_t entries_max):
        self.reader = reader
        self.table = reader.table
        self.fallback = fallback
        self.size = self.table.oid_size
        self.objects = OidTable(self.size)
        self.types = bytearray()
        self.sizes = Column()
        self.previous = Column()
        self.name_hashes = Column()
        self.stamps = Column()
        self.intros = Column()
        self.entries_max = entries_max

    cdef Node *load(self, const uint8_t *oid, int type_number) except? NULL:
        """Return an object's content, the caller's to release; NULL without an exception when it is nowhere."""
        cdef int64_t number = self.table.find_number(oid)
        cdef Node *node = NULL
        cdef Fault fault
        cdef const uint8_t[::1] content
        if number >= 0:
            fault = self.reader.load(number, &node)
            if fault != FINE:
                self.reader.fail(fault)
        else:
            found = self.fallback((<const char *>oid)[:self.size])
            if found is None:
                return NULL
            content = found[1]
            node = self.reader.new_node(0, found[0], content.shape[0])
            if node == NULL:
                raise MemoryError
            if content.shape[0]:
                memcpy(node.data, &content[0], content.shape[0])
        if node.type_number != type_number:
            self.reader.release(node)
            raise CorruptObject((<const char *>oid)[:self.size], "is of another type than what names it says")
        return node

    cdef uint32_t add(self, const uint8_t *oid, int type_number, bint is_introduced) except? 0xFFFFFFFF:
        """Return the rank of an object, entering it when it is new."""
        cdef uint32_t before = self.objects.count
        cdef uint32_t rank = self.objects.add(oid)
        if rank == before:
            self.types.append(type_number)
            self.sizes.push(<uint32_t>NONE)
            self.previous.push(<uint32_t>NONE)
            self.name_hashes.push(0)
            self.stamps.push(<uint32_t>NONE)
        if is_introduced and type_number == BLOB and self.sizes.data[rank] == <uint32_t>NONE:
            self.note_size(oid, rank)
        return rank

    cdef int note_size(self, const uint8_t *oid, uint32_t rank) except -1:
        cdef int64_t number = self.table.find_number(oid)
        cdef int actual = 0
        cdef uint64_t size = 0
        cdef Fault fault
        if number >= 0:
            fault = self.reader.look_at(number, &actual, &size)
            if fault != FINE:
                self.reader.fail(fault)
        else:
            name = (<const char *>oid)[:self.size]
            found = self.fallback(name)
            if found is None:
                raise ObjectMissing(name, "blob")
            actual, size = found[0], len(found[1])
        if actual != BLOB:
            raise CorruptObject((<const char *>oid)[:self.size], "is not a blob, as the tree that names it says")
        self.sizes.data[rank] = <uint32_t>size if size < <uint64_t>NONE else <uint32_t>(<uint64_t>NONE - 1)
        return 0

    cdef int add_commit(self, uint32_t commit, const uint8_t *root, const uint8_t **olds, int old_count) except -1:
        """Add what a commit with that root tree introduces over its parents' root trees."""
        cdef uint32_t rank
        cdef int i
        self.commit = commit
        for i in range(old_count):
            if memcmp(olds[i], root, self.size) == 0:
                return 0
        rank = self.add(root, TREE, True)
        self.intros.push(rank)
        self.stamps.data[rank] = commit
        if old_count and self.previous.data[rank] == <uint32_t>NONE:
            self.previous.data[rank] = self.add(olds[0], TREE, False)
        self.walk(root, rank, olds, old_count, 1, 0)
        return 0

    cdef int walk(self, const uint8_t *oid, uint32_t rank, const uint8_t **olds, int old_count, int depth, uint32_t path_hash) except -1:
        """Compare a tree with old ones at the same path; `oid` may be a pointer into a node that stays pinned."""
        cdef Node *node
        cdef Node **old_nodes = NULL
        cdef Cursor *cursors = NULL
        cdef const uint8_t **children = NULL
        cdef int i, count = 0
        if depth > DEPTH_MAX + 1:  # the root is at depth 1 here and at 0 in git
            raise LimitExceeded("core.maxTreeDepth", DEPTH_MAX)
        node = self.load(oid, TREE)
        if node == NULL:
            raise ObjectMissing((<const char *>oid)[:self.size], "tree")
        self.sizes.data[rank] = <uint32_t>node.size if node.size < <uint64_t>NONE else <uint32_t>(<uint64_t>NONE - 1)
        try:
            old_nodes = <Node **>malloc(sizeof(Node *) * (old_count + 1))
            cursors = <Cursor *>malloc(sizeof(Cursor) * (old_count + 1))
            children = <const uint8_t **>malloc(sizeof(uint8_t *) * (old_count + 1))
            if old_nodes == NULL or cursors == NULL or children == NULL:
                raise MemoryError
            for i in range(old_count):
                old_nodes[count] = self.load(olds[i], TREE)
                if old_nodes[count] == NULL:
                    raise ObjectMissing((<const char *>olds[i])[:self.size], "tree")
                cursors[count].at = old_nodes[count].data
                cursors[count].end = old_nodes[count].data + old_nodes[count].size
                cursors[count].is_over = 0
                count += 1
                if step(&cursors[count - 1], self.size) < 0:
                    raise CorruptObject((<const char *>olds[i])[:self.size], "malformed tree")
            self.compare(oid, node, cursors, children, count, depth, path_hash)
        finally:
            for i in range(count):
                self.reader.release(old_nodes[i])
            self.reader.release(node)
            free(old_nodes)
            free(cursors)
            free(children)
        return 0

    cdef int compare(self, const uint8_t *oid, Node *node, Cursor *cursors, const uint8_t **children, int count, int depth, uint32_t path_hash) except -1:
        cdef Cursor new
        cdef int i, found, child_count
        cdef bint is_old
        cdef uint32_t rank, name_hash
        cdef const uint8_t *before
        if depth > 1:
            path_hash = hash_on(path_hash, b"/", 1)
        new.at = node.data
        new.end = node.data + node.size
        new.is_over = 0
        while True:
            if step(&new, self.size) < 0:
                raise CorruptObject((<const char *>oid)[:self.size], "malformed tree")
            if new.is_over:
                return 0
            is_old = False
            child_count = 0
            before = NULL
            for i in range(count):
                found = -1
                while not cursors[i].is_over:
                    found = order_of(&cursors[i].entry, &new.entry)
                    if found >= 0:
                        break
                    if step(&cursors[i], self.size) < 0:
                        raise CorruptObject((<const char *>oid)[:self.size], "an older tree at its path is malformed")
                if found == 0 and not cursors[i].is_over and cursors[i].entry.kind == new.entry.kind:
                    if memcmp(cursors[i].entry.oid, new.entry.oid, self.size) == 0:
                        is_old = True
                        break
                    if i == 0:
                        before = cursors[i].entry.oid
                    if new.entry.kind == TREE:
                        children[child_count] = cursors[i].entry.oid
                        child_count += 1
            if is_old or new.entry.kind == 0:
                continue
            rank = self.add(new.entry.oid, new.entry.kind, True)
            if self.stamps.data[rank] == self.commit:
                continue
            self.stamps.data[rank] = self.commit
            if self.intros.count >= self.entries_max:
                raise LimitExceeded("introductions", self.entries_max)
            self.intros.push(rank)
            name_hash = hash_on(path_hash, new.entry.name, new.entry.name_size)
            if self.name_hashes.data[rank] == 0:
                self.name_hashes.data[rank] = name_hash
            if before != NULL and self.previous.data[rank] == <uint32_t>NONE:
                i = self.add(before, new.entry.kind, False)
                self.previous.data[rank] = i
            if new.entry.kind == TREE:
                self.walk(new.entry.oid, rank, children, child_count, depth + 1, name_hash)


cdef int hex_digit(uint8_t c) noexcept:
    if 48 <= c <= 57:
        return c - 48
    if 97 <= c <= 102:
        return c - 87
    if 65 <= c <= 70:
        return c - 55
    return -1


cdef int parse_hex(const uint8_t *text, uint8_t *oid, int size) noexcept:
    cdef int i, a, b
    for i in range(size):
        a = hex_digit(text[2 * i])
        b = hex_digit(text[2 * i + 1])
        if a < 0 or b < 0:
            return -1
        oid[i] = <uint8_t>((a << 4) | b)
    return 0


cdef int64_t parse_time(const uint8_t *p, const uint8_t *end) noexcept:
    """Read the seconds after the last `>` of a committer line; 0 when there is no such number, as git."""
    cdef const uint8_t *at = end
    cdef uint64_t value = 0
    cdef int digits = 0
    while at > p and (at - 1)[0] != 62:
        at -= 1
    if at == p:
        return 0
    while at < end and (at[0] == 32 or 9 <= at[0] <= 13):
        at += 1
    while at < end and not (at[0] == 32 or 9 <= at[0] <= 13):
        if not 48 <= at[0] <= 57 or digits == 20:
            return 0
        if value > (<uint64_t>0x7FFFFFFFFFFFFFFF - (at[0] - 48)) // 10:
            return 0
        value = value * 10 + (at[0] - 48)
        digits += 1
        at += 1
    return <int64_t>value


cdef int parse_commit(const Node *node, int size, uint8_t *tree, list parents, int64_t *time) except -1:
    """Parse as objects.commit does. Returns 1 when it is no commit."""
    cdef const uint8_t *p = node.data
    cdef const uint8_t *end = p + node.size
    cdef const uint8_t *line
    cdef uint8_t oid[32]
    cdef Py_ssize_t hex_size = 2 * size
    time[0] = 0
    if end - p < hex_size + 6 or memcmp(p, "tree ", 5) or parse_hex(p + 5, tree, size) or p[5 + hex_size] != 10:
        return 1
    p += hex_size + 6
    while end - p >= 7 and memcmp(p, "parent ", 7) == 0:
        if end - p < hex_size + 8 or parse_hex(p + 7, oid, size) or p[7 + hex_size] != 10:
            return 1
        parents.append((<const char *>oid)[:size])
        p += hex_size + 8
    if end - p < 7 or memcmp(p, "author ", 7):
        return 0
    line = <const uint8_t *>memchr(p, 10, end - p)
    if line == NULL:
        return 0
    p = line + 1
    if end - p < 10 or memcmp(p, "committer ", 10):
        return 0
    line = <const uint8_t *>memchr(p, 10, end - p)
    time[0] = parse_time(p + 10, line if line != NULL else end)
    return 0


def introduce(PackReader reader not None, bytes tips, known, fallback, uint32_t entries_max, uint32_t commits_max):
    """See govc.graph.introduce."""
    cdef Builder builder = Builder(reader, fallback, entries_max)
    cdef int size = builder.size, i
    cdef OidTable commits = OidTable(size)
    cdef OidTable foreign = OidTable(size)
    cdef uint8_t tree[32]
    cdef int64_t time = 0
    cdef Node *node
    cdef uint32_t rank, parent, n
    cdef const uint8_t **olds
    cdef bytes name, root
    cdef list parents_of = [], times = [], trees = [], stack, parents, old_names
    # Every commit that is not known, from the tips down.
    stack = [tips[at : at + size] for at in range(0, len(tips), size)]
    stack = [name for name in stack if not known(name)]
    for name in stack:
        commits.add(<const uint8_t *>PyBytes_AS_STRING(name))
    rank = 0
    old_trees = {}
    while rank < commits.count:
        name = commits.name(rank)
        node = builder.load(<const uint8_t *>PyBytes_AS_STRING(name), COMMIT)
        if node == NULL:
            raise ObjectMissing(name, "commit")
        parents = []
        try:
            if parse_commit(node, size, tree, parents, &time):
                raise CorruptObject(name, "malformed commit")
        finally:
            reader.release(node)
        parents_of.append(parents)
        times.append(time)
        trees.append((<const char *>tree)[:size])
        for name in parents:
            if commits.find(<const uint8_t *>PyBytes_AS_STRING(name)) == <uint32_t>NONE and not known(name):
                commits.add(<const uint8_t *>PyBytes_AS_STRING(name))
        if commits.count > commits_max:
            raise LimitExceeded("commits", commits_max)
        rank += 1
    n = commits.count
    order = date_order(commits, parents_of, times)
    place = array("I", bytes(4 * n))
    for i, rank in enumerate(order):
        place[rank] = i
    # Parents first: what each introduces.
    parent_starts = array("I", [0])
    all_parents = array("I")
    intro_starts = array("I", [0])
    commit_trees = array("I")
    for i, rank in enumerate(order):
        old_names = []
        for name in parents_of[rank]:
            parent = commits.find(<const uint8_t *>PyBytes_AS_STRING(name))
            if parent != <uint32_t>NONE:
                all_parents.append(place[parent])
                old_names.append(trees[parent])
                continue
            all_parents.append(0x80000000 | foreign.add(<const uint8_t *>PyBytes_AS_STRING(name)))
            root = old_trees.get(name)
            if root is None:
                node = builder.load(<const uint8_t *>PyBytes_AS_STRING(name), COMMIT)
                if node == NULL:
                    raise ObjectMissing(name, "commit")
                try:
                    if parse_commit(node, size, tree, [], &time):
                        raise CorruptObject(name, "malformed commit")
                finally:
                    reader.release(node)
                root = old_trees[name] = (<const char *>tree)[:size]
            old_names.append(root)
        olds = <const uint8_t **>malloc(sizeof(uint8_t *) * (len(old_names) + 1))
        if olds == NULL:
            raise MemoryError
        try:
            for k, name in enumerate(old_names):
                olds[<int>k] = <const uint8_t *>PyBytes_AS_STRING(name)
            root = trees[rank]
            builder.add_commit(i, <const uint8_t *>PyBytes_AS_STRING(root), olds, <int>len(old_names))
            commit_trees.append(builder.add(<const uint8_t *>PyBytes_AS_STRING(root), TREE, False))
        finally:
            free(olds)
        parent_starts.append(len(all_parents))
        intro_starts.append(builder.intros.count)
    return sorted_columns(builder, commits, foreign, order, times, commit_trees, parent_starts, all_parents, intro_starts)


cdef date_order(OidTable commits, list parents_of, list times):
    """Return the ranks, parents before children, older ones first, equal ones by name."""
    cdef uint32_t n = commits.count, rank, parent
    waiting = array("I", bytes(4 * n))
    children = [None] * n
    for rank in range(n):
        for name in parents_of[rank]:
            parent = commits.find(<const uint8_t *>PyBytes_AS_STRING(name))
            if parent != <uint32_t>NONE:
                waiting[rank] += 1
                if children[parent] is None:
                    children[parent] = []
                children[parent].append(rank)
    heap = [(times[rank], commits.name(rank), rank) for rank in range(n) if not waiting[rank]]
    heapify(heap)
    order = array("I")
    while heap:
        rank = heappop(heap)[2]
        order.append(rank)
        if children[rank] is not None:
            for child in children[rank]:
                waiting[child] -= 1
                if not waiting[child]:
                    heappush(heap, (times[child], commits.name(child), child))
    return order


cdef extern from *:
    """
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>
    static const unsigned char *govc_sort_oids;
    static int govc_sort_size;
    static int govc_by_oid(const void *a, const void *b) {
        return memcmp(govc_sort_oids + (size_t)*(const uint32_t *)a * govc_sort_size,
                      govc_sort_oids + (size_t)*(const uint32_t *)b * govc_sort_size, govc_sort_size);
    }
    static void govc_sort(uint32_t *ranks, size_t n, const unsigned char *oids, int size) {
        govc_sort_oids = oids; govc_sort_size = size;
        qsort(ranks, n, sizeof(uint32_t), govc_by_oid);
    }
    """
    void govc_sort(uint32_t *ranks, size_t n, const uint8_t *oids, int size)


cdef sorted_columns(Builder builder, OidTable commits, OidTable foreign, order, list times, commit_trees, parent_starts, parents, intro_starts):
    """Put the objects in the order of their names and return the columns."""
    cdef uint32_t n = builder.objects.count, i, rank
    cdef int size = builder.size
    cdef uint32_t *ranks = <uint32_t *>malloc(4 * <size_t>(n + 1))
    cdef uint32_t *places = <uint32_t *>malloc(4 * <size_t>(n + 1))
    cdef uint8_t *old_types = builder.types
    if ranks == NULL or places == NULL:
        free(ranks)
        free(places)
        raise MemoryError
    try:
        for i in range(n):
            ranks[i] = i
        govc_sort(ranks, n, builder.objects.oids, size)
        for i in range(n):
            places[ranks[i]] = i
        oids = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>n * size)
        types = PyBytes_FromStringAndSize(NULL, n)
        sizes = PyBytes_FromStringAndSize(NULL, 4 * <Py_ssize_t>n)
        previous = PyBytes_FromStringAndSize(NULL, 4 * <Py_ssize_t>n)
        name_hashes = PyBytes_FromStringAndSize(NULL, 4 * <Py_ssize_t>n)
        for i in range(n):
            rank = ranks[i]
            memcpy(PyBytes_AS_STRING(oids) + <size_t>i * size, builder.objects.oids + <size_t>rank * size, size)
            PyBytes_AS_STRING(types)[i] = <char>old_types[rank]
            (<uint32_t *>PyBytes_AS_STRING(sizes))[i] = builder.sizes.data[rank]
            (<uint32_t *>PyBytes_AS_STRING(name_hashes))[i] = builder.name_hashes.data[rank]
            rank = builder.previous.data[rank]
            (<uint32_t *>PyBytes_AS_STRING(previous))[i] = places[rank] if rank != <uint32_t>NONE else <uint32_t>NONE
        for i in range(builder.intros.count):
            builder.intros.data[i] = places[builder.intros.data[i]]
        tree_places = array("I", [places[<uint32_t>rank] for rank in commit_trees])
    finally:
        free(ranks)
        free(places)
    return (
        b"".join([commits.name(rank) for rank in order]),
        array("q", [times[rank] for rank in order]).tobytes(),
        tree_places.tobytes(),
        parent_starts.tobytes(),
        parents.tobytes(),
        foreign.block(),
        oids,
        types,
        sizes,
        previous,
        name_hashes,
        intro_starts.tobytes(),
        builder.intros.block(),
    )
