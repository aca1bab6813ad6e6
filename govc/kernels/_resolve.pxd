# The second pass over a received pack: the objects that are stored as deltas are made, and named.
# The story is in govc/pack/resolver.py, the twin. Each thread takes the next whole object that deltas stand on, and
# goes through what stands on it depth first. A difference: objects are named some time after they are made, sixteen
# at once, so deltas that wait for a name are found then and begin a new stack.
#
# A frame of the stack is an object with deltas left to be made. Its content is kept while the budget lasts, the bottom
# going first; what was dropped is made again along the chain of its bases.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memset

from govc.kernels._delta cimport (
    DELTA_FINE,
    DELTA_TOO_SHORT,
    DeltaFault,
    delta_run,
    delta_size,
)
from govc.kernels._inflate cimport inflate_whole
from govc.kernels._pack cimport (
    FAULT_ATTACK,
    FAULT_BASE_SIZE,
    FAULT_DELTA,
    FAULT_ENTRY,
    FAULT_MEMORY,
    FAULT_OBJECT_SIZE,
    FAULT_RESULT_SIZE,
    FAULT_TOO_SHORT,
    NONE,
    OFS_DELTA,
    REF_DELTA,
    Content,
    Shared,
    Tools,
    atomic_add,
    atomic_claim,
    atomic_take,
    content_drop,
    content_new,
    expand,
    fail,
    has_failed,
    hash_content,
    hash_waiting,
    kept_delta,
    read_at,
    reserve,
    tools_free,
    tools_init,
)
from govc.kernels._sha1 cimport NOBODY, sha1_judge, sha1_lanes_abandon

cdef enum:
    CONTENT_OVERHEAD_BYTES = 200
    OBJECT_COST_BYTES = 8192
    ON_THE_WAY = 1  # something that stands on it is asked for
    ASKED_FOR = 2

cdef struct Waiting:
    # The ref-deltas, sorted by the names of their bases; see RefChildren.
    int32_t count
    const uint32_t *entries
    const uint8_t *oids
    const uint32_t *fanout

cdef struct Frame:
    int32_t entry
    int32_t next_child
    int32_t stop_child  # the list of this frame ends before it
    Content *content

cdef struct Walk:
    Tools tools
    Waiting *waiting
    const uint8_t *is_root  # a flag per entry: whole, and not yet taken by any walk
    const uint8_t *wanted   # per entry whether its content is asked for; NULL when they are to be named
    int32_t *next_root      # shared by all walks
    int32_t root_count
    Frame *stack
    int32_t depth
    int32_t capacity
    int32_t dropped         # frames below have no content
    uint64_t kept_bytes
    uint64_t kept_bytes_max
    uint64_t work
    int32_t *path
    int32_t path_capacity
    Content **made          # with `wanted`: what was asked for
    int32_t made_count
    int32_t made_capacity
    uint64_t made_bytes


cdef inline bint walk_init(Walk *walk, Shared *shared) noexcept nogil:
    memset(walk, 0, sizeof(Walk))
    return tools_init(&walk.tools, shared)


cdef inline void walk_free(Walk *walk) noexcept nogil:
    cdef int32_t at
    cdef int done
    for at in range(walk.depth):
        if walk.stack[at].content != NULL:
            content_drop(walk.stack[at].content)
    for at in range(walk.made_count):
        content_drop(walk.made[at])
    if walk.tools.shared != NULL:
        sha1_lanes_abandon(&walk.tools.lanes)
        for done in range(walk.tools.lanes.done_count):
            content_drop(<Content *>walk.tools.lanes.done[done].holder)
    tools_free(&walk.tools)
    free(walk.stack)
    free(walk.path)
    free(walk.made)
    memset(walk, 0, sizeof(Walk))


# Contents


cdef inline bint read_entry(Walk *walk, int32_t entry, uint64_t *size, uint8_t **stream, size_t *length) noexcept nogil:
    """Read an entry that the scanner found right; tell its size and where its zlib stream is."""
    cdef Tools *tools = &walk.tools
    cdef Shared *shared = tools.shared
    cdef uint64_t offset = shared.offsets[entry]
    cdef size_t raw_length = <size_t>(shared.offsets[entry + 1] - offset), pos = 1
    cdef int shift = 4, type_number
    cdef uint8_t byte
    if not reserve(&tools.raw, &tools.raw_size, raw_length + 64):
        fail(shared, FAULT_MEMORY, entry, 0, 0)
        return False
    if not read_at(shared.fd, tools.raw, raw_length, offset):
        fail(shared, FAULT_ENTRY, entry, 0, 0)
        return False
    memset(tools.raw + raw_length, 0, 64)  # so that no header runs on, whatever the file has become
    byte = tools.raw[0]
    type_number = (byte >> 4) & 7
    size[0] = byte & 15
    while byte & 0x80 and shift < 64:
        byte = tools.raw[pos]
        pos += 1
        size[0] |= <uint64_t>(byte & 0x7F) << shift
        shift += 7
    if type_number == OFS_DELTA:
        while tools.raw[pos] & 0x80:
            pos += 1
        pos += 1
    elif type_number == REF_DELTA:
        pos += shared.oid_size
    if pos > raw_length:
        fail(shared, FAULT_ENTRY, entry, 0, 0)
        return False
    if size[0] > shared.delta_result_bytes_max:
        fail(shared, FAULT_OBJECT_SIZE, entry, size[0], 0)
        return False
    stream[0] = tools.raw + pos
    length[0] = raw_length - pos
    return True


cdef inline bint inflate_read(Walk *walk, int32_t entry, const uint8_t *stream, size_t length, uint8_t *out,
                              uint64_t size) noexcept nogil:
    cdef size_t used = 0
    if inflate_whole(&walk.tools.shared.deflate, walk.tools.decompressor, &walk.tools.stream, stream, length, out,
                     <size_t>size, &used):
        return True
    fail(walk.tools.shared, FAULT_ENTRY, entry, 0, 0)
    return False


cdef inline Content *make_whole(Walk *walk, int32_t entry) noexcept nogil:
    """The content of an entry that is no delta."""
    cdef Shared *shared = walk.tools.shared
    cdef uint64_t size = 0
    cdef uint8_t *stream = NULL
    cdef size_t length = 0
    cdef Content *content
    if not read_entry(walk, entry, &size, &stream, &length) or not expand(shared, size, entry):
        return NULL
    content = content_new(size, entry, shared.types[entry])
    if content == NULL:
        fail(shared, FAULT_MEMORY, entry, 0, 0)
        return NULL
    if not inflate_read(walk, entry, stream, length, content.data, size):
        content_drop(content)
        return NULL
    walk.work += size
    return content


cdef inline Content *make_from(Walk *walk, Content *base, int32_t entry) noexcept nogil:
    """The content of a delta."""
    cdef Tools *tools = &walk.tools
    cdef Shared *shared = tools.shared
    cdef uint64_t size = 0, base_size = 0, result_size = 0, made = 0
    cdef uint8_t *stream = NULL
    cdef size_t length = 0
    cdef Py_ssize_t pos = 0
    cdef DeltaFault fault
    cdef Content *content
    cdef uint8_t *delta = kept_delta(&shared.kept, entry, &size)
    if delta == NULL:
        if not read_entry(walk, entry, &size, &stream, &length):
            return NULL
        if not reserve(&tools.delta, &tools.delta_size, <size_t>size + 1):
            fail(shared, FAULT_MEMORY, entry, 0, 0)
            return NULL
        if not inflate_read(walk, entry, stream, length, tools.delta, size):
            return NULL
        delta = tools.delta
    fault = delta_size(delta, <Py_ssize_t>size, &pos, &base_size)
    if fault == DELTA_FINE:
        fault = delta_size(delta, <Py_ssize_t>size, &pos, &result_size)
    if fault != DELTA_FINE:
        fail(shared, FAULT_DELTA, entry, fault, 0)
        return NULL
    if not expand(shared, result_size, entry):
        return NULL
    if base_size != base.size:
        fail(shared, FAULT_BASE_SIZE, entry, base_size, base.size)
        return NULL
    if result_size > shared.delta_result_bytes_max:
        fail(shared, FAULT_RESULT_SIZE, entry, result_size, 0)
        return NULL
    content = content_new(result_size, entry, base.type_number)
    if content == NULL:
        fail(shared, FAULT_MEMORY, entry, 0, 0)
        return NULL
    fault = delta_run(base.data, base.size, delta, <Py_ssize_t>size, pos, content.data, result_size, &made)
    if fault != DELTA_FINE:
        if fault == DELTA_TOO_SHORT:
            fail(shared, FAULT_TOO_SHORT, entry, made, result_size)
        fail(shared, FAULT_DELTA, entry, fault, 0)
        content_drop(content)
        return NULL
    walk.work += result_size + OBJECT_COST_BYTES
    return content


# The stack


cdef inline void drop_content(Walk *walk, Frame *frame) noexcept nogil:
    if frame.content != NULL:
        walk.kept_bytes -= frame.content.size + CONTENT_OVERHEAD_BYTES
        content_drop(frame.content)
        frame.content = NULL


cdef inline void keep_content(Walk *walk, int32_t at, Content *content) noexcept nogil:
    """Let a frame hold its content; the lowest ones go when that is too much, but not this one."""
    cdef int32_t lowest = walk.dropped
    content.references += 1
    walk.stack[at].content = content
    walk.kept_bytes += content.size + CONTENT_OVERHEAD_BYTES
    if at < walk.dropped:
        walk.dropped = at
        lowest = at
    while walk.kept_bytes > walk.kept_bytes_max and lowest < walk.depth:
        if lowest != at:
            drop_content(walk, &walk.stack[lowest])
        lowest += 1
    if lowest <= at:
        walk.dropped = lowest


cdef inline bint push(Walk *walk, int32_t entry, int32_t child, int32_t stop, Content *content) noexcept nogil:
    cdef Frame *larger
    if walk.depth == walk.capacity:
        walk.capacity = 2 * walk.capacity + 64
        larger = <Frame *>realloc(walk.stack, <size_t>walk.capacity * sizeof(Frame))
        if larger == NULL:
            walk.capacity = walk.depth
            fail(walk.tools.shared, FAULT_MEMORY, entry, 0, 0)
            return False
        walk.stack = larger
    walk.stack[walk.depth].entry = entry
    walk.stack[walk.depth].next_child = child
    walk.stack[walk.depth].stop_child = stop
    walk.stack[walk.depth].content = NULL
    walk.depth += 1
    if content != NULL:
        keep_content(walk, walk.depth - 1, content)
    return True


cdef inline void pop(Walk *walk) noexcept nogil:
    walk.depth -= 1
    drop_content(walk, &walk.stack[walk.depth])
    if walk.dropped > walk.depth:
        walk.dropped = walk.depth


cdef inline Content *content_of_top(Walk *walk) noexcept nogil:
    """The content of the top frame, made again from the nearest base that is kept; a reference for the caller."""
    cdef Shared *shared = walk.tools.shared
    cdef int32_t top = walk.depth - 1, at = top - 1, length = 0, base
    cdef int32_t entry = walk.stack[top].entry
    cdef int32_t *larger
    cdef Content *content = walk.stack[top].content
    cdef Content *made
    if content != NULL:
        content.references += 1
        return content
    while content == NULL and shared.bases[entry] != NONE:
        if length == walk.path_capacity:
            walk.path_capacity = 2 * walk.path_capacity + 64
            larger = <int32_t *>realloc(walk.path, <size_t>walk.path_capacity * sizeof(int32_t))
            if larger == NULL:
                walk.path_capacity = length
                fail(shared, FAULT_MEMORY, entry, 0, 0)
                return NULL
            walk.path = larger
        walk.path[length] = entry
        length += 1
        entry = shared.bases[entry]
        if at >= 0 and walk.stack[at].entry == entry:
            content = walk.stack[at].content
            at -= 1
    if content != NULL:
        content.references += 1
        at += 1
    else:
        content = make_whole(walk, entry)
        if content == NULL:
            return NULL
        at += 1
        # `at` is the lowest frame of the chain, if the chain's bottom is a frame at all.
        if at < top and walk.stack[at].entry == entry:
            keep_content(walk, at, content)
    if at < top and walk.stack[at].entry == entry:
        at += 1
    while length:
        length -= 1
        made = make_from(walk, content, walk.path[length])
        content_drop(content)
        if made == NULL:
            return NULL
        content = made
        # The walk comes back to the frames below next.
        if at <= top and walk.stack[at].entry == walk.path[length]:
            keep_content(walk, at, content)
            at += 1
    return content


# Names


cdef inline int32_t claim_waiting(Walk *walk, int32_t entry) noexcept nogil:
    """Hang the ref-deltas that wait for this entry's name on it, unless a duplicate has them; return the first."""
    cdef Shared *shared = walk.tools.shared
    cdef Waiting *waiting = walk.waiting
    cdef int size = shared.oid_size
    cdef const uint8_t *oid = shared.oids + <int64_t>entry * size
    cdef uint32_t key = (<uint32_t>oid[0] << 8) | oid[1]
    cdef uint32_t low = waiting.fanout[key], high = waiting.fanout[key + 1], end = high, middle
    cdef int32_t child
    while low < high:
        middle = (low + high) >> 1
        if memcmp(waiting.oids + <int64_t>middle * size, oid, size) < 0:
            low = middle + 1
        else:
            high = middle
    while low < end and memcmp(waiting.oids + <int64_t>low * size, oid, size) == 0:
        child = <int32_t>waiting.entries[low]
        if atomic_claim(&shared.bases[child], NONE, entry):
            shared.next_sibling[child] = shared.first_child[entry]
            shared.first_child[entry] = child
        low += 1
    return shared.first_child[entry]


cdef inline bint take_named(Walk *walk) noexcept nogil:
    """Go through what was named since: deltas may have waited for it."""
    cdef Tools *tools = &walk.tools
    cdef int at
    cdef int32_t before, first, entry
    cdef Content *content
    cdef bint is_fine = True
    for at in range(tools.lanes.done_count):
        content = <Content *>tools.lanes.done[at].holder
        entry = content.entry
        if walk.waiting != NULL and is_fine:
            before = tools.shared.first_child[entry]
            first = claim_waiting(walk, entry)
            if first != before:
                is_fine = push(walk, entry, first, before, content)
        content_drop(content)
    tools.lanes.done_count = 0
    return is_fine


cdef inline bint deliver(Walk *walk, Content *content) noexcept nogil:
    """Have an object named, or hand it over when its content is asked for."""
    if walk.wanted == NULL:
        hash_content(&walk.tools, content)
        hash_waiting(&walk.tools, False)
        return take_named(walk)
    return walk.wanted[content.entry] != ASKED_FOR or keep_made(walk, content)


cdef inline bint keep_made(Walk *walk, Content *content) noexcept nogil:
    cdef Content **larger
    if walk.made_count == walk.made_capacity:
        walk.made_capacity = 2 * walk.made_capacity + 64
        larger = <Content **>realloc(walk.made, <size_t>walk.made_capacity * sizeof(Content *))
        if larger == NULL:
            walk.made_capacity = walk.made_count
            fail(walk.tools.shared, FAULT_MEMORY, content.entry, 0, 0)
            return False
        walk.made = larger
    content.references += 1
    walk.made[walk.made_count] = content
    walk.made_count += 1
    walk.made_bytes += content.size
    return True


# The walk


cdef inline bint push_claimed(Walk *walk, int32_t entry, Content *content) noexcept nogil:
    """Begin at a whole object that was appended, when deltas wait for it."""
    cdef int32_t first = claim_waiting(walk, entry)
    return first == NONE or push(walk, entry, first, NONE, content)


cdef inline bint next_tree(Walk *walk) noexcept nogil:
    """Begin at the next whole object that deltas stand on; False when there is none left."""
    cdef Shared *shared = walk.tools.shared
    cdef int32_t root = atomic_take(walk.next_root)
    while root < walk.root_count:
        if walk.is_root[root] and (walk.wanted == NULL or walk.wanted[root]):
            if walk.waiting != NULL and walk.wanted == NULL:
                claim_waiting(walk, root)
            if shared.first_child[root] != NONE:
                return push(walk, root, shared.first_child[root], NONE, NULL)
        root = atomic_take(walk.next_root)
    return False


cdef inline bint make_next(Walk *walk) noexcept nogil:
    """Make one delta's object, on top of the stack."""
    cdef Shared *shared = walk.tools.shared
    cdef Frame *top = &walk.stack[walk.depth - 1]
    cdef int32_t child = top.next_child
    cdef Content *base
    cdef Content *made
    cdef bint is_fine = True
    if child == top.stop_child:
        pop(walk)
        return True
    if walk.wanted != NULL and not walk.wanted[child]:
        top.next_child = shared.next_sibling[child]
        return True
    base = content_of_top(walk)
    if base == NULL:
        return False
    top.next_child = shared.next_sibling[child]
    if top.next_child == top.stop_child:
        pop(walk)
    made = make_from(walk, base, child)
    content_drop(base)
    if made == NULL:
        return False
    if walk.wanted == NULL:
        shared.types[child] = <uint8_t>made.type_number
        atomic_add(&shared.resolved, 1)
    if shared.first_child[child] != NONE:
        is_fine = push(walk, child, shared.first_child[child], NONE, made)
    is_fine = is_fine and deliver(walk, made)
    content_drop(made)
    return is_fine


cdef inline bint walk_some(Walk *walk, uint64_t budget) noexcept nogil:
    """Work for about `budget` bytes, or until `made` has as much; False when nothing is left, or something failed."""
    cdef Shared *shared = walk.tools.shared
    walk.work = 0
    while walk.work < budget and walk.made_bytes < budget:
        if has_failed(shared):
            return False
        if walk.depth:
            if not make_next(walk):
                return False
        elif not next_tree(walk):
            if has_failed(shared):
                return False
            hash_waiting(&walk.tools, True)
            if not take_named(walk):
                return False
            if not walk.depth:
                sha1_judge(&walk.tools.suspects)
                if walk.tools.suspects.found != NOBODY:
                    fail(shared, FAULT_ATTACK, walk.tools.suspects.found, 0, 0)
                return False
    return True
