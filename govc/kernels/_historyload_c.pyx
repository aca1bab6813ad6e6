# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# distutils: libraries = z
"""The columns of a graph, and how commits come into them: from packs, from commit-graph files, from whoever reads.

The story is in `history`; `_history_c` asks what is here.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from govc.kernels._packread_c cimport FINE, Fault, Node, PackReader, PackTable, be32

from govc.errors import Corrupt, CorruptObject

DEF NONE = 0xFFFFFFFF
DEF COMMIT = 1


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


cdef class Columns:
    """All commits that a graph knows, and how many of them everybody may see."""

    def __cinit__(self, int oid_size):
        self.oid_size = oid_size
        self.block = Block(oid_size, 1024, 2048)

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


cdef class Loader:
    """Commits that are being added: rows in the order in which they were met."""

    def __cinit__(self, Columns graph, PackReader reader, read, dict replaced, layers):
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
