# What other kernels use of trees; the story is in treelist.py.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memset

from govc.kernels._packread_c cimport Node, PackReader, PackTable

cdef struct Entry:
    uint32_t mode
    const uint8_t *start
    const uint8_t *name
    Py_ssize_t name_size
    const uint8_t *oid


cdef struct Cursor:
    const uint8_t *at
    const uint8_t *end
    Entry entry
    bint is_over


cdef inline int step(Cursor *cursor, int oid_size) noexcept nogil:
    """Parse the next entry; -1 when the bytes are no entry."""
    cdef const uint8_t *p = cursor.at
    cdef const uint8_t *end = cursor.end
    cdef const uint8_t *nul
    cdef uint32_t mode = 0
    cdef int digits = 0
    if p == end:
        cursor.is_over = True
        return 0
    cursor.entry.start = p
    while p < end and 48 <= p[0] <= 55 and digits < 11:
        mode = (mode << 3) | (p[0] - 48)
        p += 1
        digits += 1
    if digits == 0 or mode == 0 or p == end or p[0] != 32:
        return -1
    p += 1
    nul = <const uint8_t *>memchr(p, 0, end - p)
    if nul == NULL or nul == p or end - nul <= oid_size:
        return -1
    cursor.entry.mode = mode
    cursor.entry.name = p
    cursor.entry.name_size = nul - p
    cursor.entry.oid = nul + 1
    cursor.at = nul + 1 + oid_size
    return 0


cdef inline void begin(Cursor *cursor, const uint8_t *data, Py_ssize_t size) noexcept nogil:
    cursor.at = data
    cursor.end = data + size
    cursor.is_over = False
    memset(&cursor.entry, 0, sizeof(Entry))


cdef inline int order_of(const Entry *one, const Entry *other) noexcept nogil:
    """Compare as trees are sorted: the name of a tree as if it had a slash at its end."""
    cdef Py_ssize_t common = one.name_size if one.name_size < other.name_size else other.name_size
    cdef int found = memcmp(one.name, other.name, common), a, b
    if found:
        return found
    if common < one.name_size:
        a = one.name[common]
    else:
        a = 47 if one.mode & 0o170000 == 0o040000 else 0
    if common < other.name_size:
        b = other.name[common]
    else:
        b = 47 if other.mode & 0o170000 == 0o040000 else 0
    return a - b


cdef inline uint32_t canonical(uint32_t mode) noexcept nogil:
    """What git compares: of a file's permissions only whether its owner may run it."""
    cdef uint32_t kind = mode & 0o170000
    if kind == 0o100000:
        return 0o100755 if mode & 0o100 else 0o100644
    if kind == 0o120000 or kind == 0o040000:
        return kind
    return 0o160000


cdef inline int begin_both(Cursor *one, const Node *new, Cursor *other, const Node *old, int oid_size) noexcept nogil:
    """Set two cursors on the first entries of two trees that may differ; either may be NULL. -1: no tree.

    Entries that lie wholly in what both begin with are passed over, and parsed in one of them only.
    """
    cdef Py_ssize_t common = 0, most
    begin(one, new.data if new != NULL else NULL, <Py_ssize_t>new.size if new != NULL else 0)
    begin(other, old.data if old != NULL else NULL, <Py_ssize_t>old.size if old != NULL else 0)
    if new != NULL and old != NULL:
        most = <Py_ssize_t>(new.size if new.size < old.size else old.size)
        while common + 64 <= most and memcmp(one.at + common, other.at + common, 64) == 0:
            common += 64
    while True:
        if step(one, oid_size) < 0:
            return -1
        if one.is_over or one.at - new.data > common:
            break
    if not one.is_over:
        one.at = one.entry.start
    if new != NULL and old != NULL:
        other.at = old.data + (one.at - new.data)
    one.is_over = False
    return -1 if step(one, oid_size) < 0 or step(other, oid_size) < 0 else 0


cdef inline bint is_rest_equal(const Cursor *one, const Cursor *other) noexcept nogil:
    """Whether everything from the current entries on is the same."""
    cdef Py_ssize_t rest = one.end - one.entry.start
    if one.is_over or other.is_over or rest != other.end - other.entry.start:
        return False
    return memcmp(one.entry.start, other.entry.start, rest) == 0


cdef Node *load(PackReader reader, PackTable table, object fallback, const uint8_t *oid, int size) except NULL
