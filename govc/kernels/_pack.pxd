# What the two passes over a pack share: the columns, the limits, a thread's tools, and what went wrong.

from libc.stdint cimport UINT32_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from govc.kernels._evp cimport Evp
from govc.kernels._inflate cimport Deflate, inflateEnd, inflateInit, z_stream
from govc.kernels._sha1 cimport (
    LANES_QUEUE,
    SHA1_HEADROOM,
    SHA1_TAILROOM,
    sha1_lanes,
    sha1_lanes_add,
    sha1_lanes_finish,
    sha1_lanes_init,
    sha1_lanes_run,
    sha1_suspects,
    sha1_suspects_init,
)

cdef extern from "atomic.h" nogil:
    uint64_t atomic_add(uint64_t *to, uint64_t number)
    int32_t atomic_take(int32_t *to)
    int atomic_claim(int32_t *slot, int32_t expected, int32_t wanted)
    int32_t atomic_read(const int32_t *source)

cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void *buf, size_t count, int64_t offset)

cdef enum:
    NONE = -1
    OFS_DELTA = 6
    REF_DELTA = 7
    PACK_HEADER_SIZE = 12
    HELD_BYTES_MAX = 1 << 23  # objects held until there are sixteen to be hashed together
    HELD_BYTES_MANY = 1 << 22

cdef enum Fault:
    FINE = 0
    FAULT_ENTRY        # something is wrong with this entry: the twin is asked what
    FAULT_DELTA        # detail: a DeltaFault
    FAULT_TOO_SHORT    # detail: the size that the delta made, second: the one that it states
    FAULT_BASE_SIZE    # detail: the size that the delta states, second: the size of its base
    FAULT_RESULT_SIZE  # detail: the size that the delta makes
    FAULT_OBJECT_SIZE  # detail: the size of an object that would have to be held in memory
    FAULT_EXPANSION    # detail: the total
    FAULT_ATTACK
    FAULT_MEMORY

cdef struct Failure:
    int32_t is_set
    Fault fault
    int64_t entry
    uint64_t detail
    uint64_t second

cdef struct Content:
    # An object in memory; `data` has room before and after it, for the header and the padding of its hash.
    uint64_t size
    int32_t entry
    int32_t references
    int type_number
    uint8_t *data

cdef struct KeptDeltas:
    # Deltas from the first pass, for the second: one after the other, each behind its size, as many as there is room
    # for. `places` has where an entry's begins, from 1; 0: it isn't kept.
    uint8_t *data
    size_t used
    size_t capacity
    size_t bytes_max
    uint32_t *places
    int32_t count

cdef struct Shared:
    # The columns are those of EntryTable, the limits those of IndexLimits.
    int fd
    int oid_size
    bint is_sha1
    bint detects
    bint hashes_headers  # always, but in tests of attacks: those that are published are on files, not on objects
    int32_t count
    uint64_t *offsets
    uint32_t *crcs
    uint8_t *oids
    uint8_t *types
    int32_t *bases
    int32_t *first_child
    int32_t *next_sibling
    uint64_t object_bytes_max
    uint64_t delta_result_bytes_max
    uint64_t expansion_limit
    uint64_t stream_bytes_min
    uint64_t expanded
    uint64_t resolved
    Failure failure
    KeptDeltas kept
    Deflate deflate
    Evp evp

cdef struct Tools:
    # What one thread works with.
    Shared *shared
    void *decompressor
    z_stream stream
    void *evp_context
    sha1_lanes lanes
    sha1_suspects suspects
    uint8_t *raw
    size_t raw_size
    uint8_t *delta
    size_t delta_size


cdef inline void fail(Shared *shared, Fault fault, int64_t entry, uint64_t detail, uint64_t second) noexcept nogil:
    """Note what went wrong; the first one wins, and every thread stops when it sees it."""
    if atomic_claim(&shared.failure.is_set, 0, 1):
        shared.failure.fault = fault
        shared.failure.entry = entry
        shared.failure.detail = detail
        shared.failure.second = second


cdef inline bint has_failed(Shared *shared) noexcept nogil:
    return atomic_read(&shared.failure.is_set) != 0


cdef inline bint expand(Shared *shared, uint64_t size, int64_t entry) noexcept nogil:
    """Count bytes before they are made; False beyond the ceiling."""
    cdef uint64_t total = atomic_add(&shared.expanded, size)
    if total > shared.expansion_limit:
        fail(shared, FAULT_EXPANSION, entry, total, 0)
        return False
    return True


# Deltas that are kept


cdef inline bint kept_init(KeptDeltas *kept, int32_t count, size_t bytes_max) noexcept nogil:
    kept.bytes_max = bytes_max if bytes_max < <size_t>UINT32_MAX else <size_t>UINT32_MAX
    kept.count = count
    kept.places = <uint32_t *>calloc(<size_t><uint32_t>count + 1, sizeof(uint32_t))  # pages that nobody writes to cost nothing
    return kept.places != NULL


cdef inline void kept_free(KeptDeltas *kept) noexcept nogil:
    free(kept.data)
    free(kept.places)
    memset(kept, 0, sizeof(KeptDeltas))


cdef inline void keep_delta(KeptDeltas *kept, int32_t entry, const uint8_t *delta, size_t size) noexcept nogil:
    """Remember a delta if there is room; what isn't remembered is inflated again."""
    cdef size_t end = kept.used + sizeof(uint32_t) + size, capacity
    cdef uint32_t stored = <uint32_t>size
    cdef uint8_t *larger
    if end >= kept.bytes_max:
        return
    if end > kept.capacity:
        capacity = 2 * end + 4096
        if capacity > kept.bytes_max:
            capacity = kept.bytes_max
        larger = <uint8_t *>realloc(kept.data, capacity)
        if larger == NULL:
            return
        kept.data = larger
        kept.capacity = capacity
    memcpy(kept.data + kept.used, &stored, sizeof(uint32_t))
    memcpy(kept.data + kept.used + sizeof(uint32_t), delta, size)
    kept.places[entry] = <uint32_t>kept.used + 1
    kept.used = end


cdef inline uint8_t *kept_delta(const KeptDeltas *kept, int32_t entry, uint64_t *size) noexcept nogil:
    """Return an entry's delta, NULL when it isn't kept."""
    cdef uint32_t stored = 0
    cdef uint8_t *at
    if entry >= kept.count or kept.places[entry] == 0:
        return NULL
    at = kept.data + kept.places[entry] - 1
    memcpy(&stored, at, sizeof(uint32_t))
    size[0] = stored
    return at + sizeof(uint32_t)


# Tools


cdef inline bint tools_init(Tools *tools, Shared *shared) noexcept nogil:
    memset(tools, 0, sizeof(Tools))
    tools.shared = shared
    sha1_suspects_init(&tools.suspects)
    sha1_lanes_init(&tools.lanes, &tools.suspects if shared.detects else NULL)
    if inflateInit(&tools.stream) != 0:
        return False
    if shared.deflate.allocate != NULL:
        tools.decompressor = shared.deflate.allocate()
        if tools.decompressor == NULL:
            return False
    if not shared.is_sha1:
        tools.evp_context = shared.evp.new()
        if tools.evp_context == NULL:
            return False
    return True


cdef inline void tools_free(Tools *tools) noexcept nogil:
    if tools.shared == NULL:
        return
    inflateEnd(&tools.stream)
    if tools.decompressor != NULL:
        tools.shared.deflate.release(tools.decompressor)
    if tools.evp_context != NULL:
        tools.shared.evp.free(tools.evp_context)
    free(tools.raw)
    free(tools.delta)
    tools.shared = NULL


cdef inline bint reserve(uint8_t **buf, size_t *capacity, size_t size) noexcept nogil:
    """Let a scratch buffer hold `size` bytes; what it held may be lost."""
    cdef size_t wanted
    if capacity[0] >= size:
        return True
    wanted = size + (size >> 2) + 4096
    free(buf[0])
    buf[0] = <uint8_t *>malloc(wanted)
    capacity[0] = wanted if buf[0] != NULL else 0
    return buf[0] != NULL


cdef inline bint read_at(int fd, uint8_t *buf, size_t length, uint64_t offset) noexcept nogil:
    """Read exactly `length` bytes."""
    cdef ssize_t got
    while length:
        got = pread(fd, buf, length, <int64_t>offset)
        if got <= 0:
            return False
        buf += got
        length -= <size_t>got
        offset += <uint64_t>got
    return True


# Contents


cdef inline Content *content_new(uint64_t size, int32_t entry, int type_number) noexcept nogil:
    """An object to be filled, with one reference; NULL when there is no memory."""
    cdef Content *content = <Content *>malloc(sizeof(Content) + SHA1_HEADROOM + size + SHA1_TAILROOM)
    if content != NULL:
        content.size = size
        content.entry = entry
        content.references = 1
        content.type_number = type_number
        content.data = <uint8_t *>content + sizeof(Content) + SHA1_HEADROOM
    return content


cdef inline void content_drop(Content *content) noexcept nogil:
    content.references -= 1
    if content.references == 0:
        free(content)


cdef inline int object_header(char *out, int type_number, uint64_t size) noexcept nogil:
    """Write what stands before an object's content when it is hashed, its zero byte included; return the length."""
    cdef const char *name = b"commit "
    cdef char digits[20]
    cdef int length = 7, at = 20
    if type_number == 2:
        name = b"tree "
        length = 5
    elif type_number == 3:
        name = b"blob "
        length = 5
    elif type_number == 4:
        name = b"tag "
        length = 4
    memcpy(out, name, length)
    while True:
        at -= 1
        digits[at] = <char>(c"0" + size % 10)
        size //= 10
        if size == 0:
            break
    memcpy(out + length, digits + at, 20 - at)
    length += 20 - at
    out[length] = 0
    return length + 1


cdef inline void hash_content(Tools *tools, Content *content) noexcept nogil:
    """Have the object named: at once, or together with others. Takes a reference until it is in `lanes.done`."""
    cdef Shared *shared = tools.shared
    cdef char header[SHA1_HEADROOM]
    cdef int length = object_header(header, content.type_number, content.size) if shared.hashes_headers else 0
    cdef uint8_t *digest = shared.oids + <int64_t>content.entry * shared.oid_size
    cdef unsigned int digest_size = 0
    content.references += 1
    memcpy(content.data - length, header, length)
    if shared.is_sha1:
        sha1_lanes_add(
            &tools.lanes, content.data - length, length + content.size, digest, content.entry, content)
        return
    shared.evp.init(tools.evp_context, shared.evp.sha256, NULL)
    shared.evp.update(tools.evp_context, content.data - length, length + content.size)
    shared.evp.final(tools.evp_context, digest, &digest_size)
    tools.lanes.done[tools.lanes.done_count].owner = content.entry
    tools.lanes.done[tools.lanes.done_count].holder = content
    tools.lanes.done_count += 1


cdef inline void hash_waiting(Tools *tools, bint to_the_end) noexcept nogil:
    """Hash what has gathered, when it is enough for all lanes or must not wait; see `lanes.done` afterwards."""
    if not tools.shared.is_sha1:
        return
    if tools.lanes.queued >= LANES_QUEUE // 2 or tools.lanes.held_bytes > <size_t>HELD_BYTES_MANY:
        sha1_lanes_run(&tools.lanes)
    if to_the_end or tools.lanes.held_bytes > <size_t>HELD_BYTES_MAX:
        sha1_lanes_finish(&tools.lanes)
