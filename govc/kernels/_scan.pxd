# The first pass over a received pack: where entries begin and end, their CRCs, the names of whole objects.
# The story is in govc/pack/scanner.py, the twin; the same checks in the same order. What an entry did wrong is not told
# here: FAULT_ENTRY names the entry, and the twin looks at it.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove

from govc.kernels._inflate cimport Z_BUF_ERROR, Z_NO_FLUSH, Z_OK, Z_STREAM_END, crc_of, inflate, inflateReset, inflate_whole
from govc.kernels._pack cimport (
    FAULT_ATTACK,
    FAULT_ENTRY,
    FAULT_MEMORY,
    NONE,
    OFS_DELTA,
    PACK_HEADER_SIZE,
    REF_DELTA,
    Content,
    Shared,
    Tools,
    content_drop,
    content_new,
    expand,
    fail,
    hash_content,
    hash_waiting,
    keep_delta,
    object_header,
    pread,
    reserve,
)
from govc.kernels._sha1 cimport (
    NOBODY,
    SHA1_HEADROOM,
    sha1_judge,
    sha1_lanes_abandon,
    sha1_stream,
    sha1_stream_finish,
    sha1_stream_init,
    sha1_stream_update,
)

cdef enum:
    WINDOW_BYTES = 1 << 20
    HEADER_BYTES_MAX = 48
    PIECE_BYTES = 1 << 16
    OUTPUT_BYTES = 1 << 18
    ENTRY_COST_BYTES = 4096

cdef struct Scanner:
    Tools tools
    uint64_t content_end
    int32_t entry
    uint8_t *window
    size_t capacity
    size_t pos
    size_t length
    uint64_t window_offset
    uint64_t work
    int32_t *ref_entries
    uint8_t *ref_base_oids
    int32_t ref_count
    int32_t ref_capacity


cdef inline bint scanner_init(Scanner *scanner, Shared *shared, uint64_t content_end) noexcept:
    scanner.content_end = content_end
    scanner.entry = 0
    scanner.capacity = 2 * WINDOW_BYTES
    scanner.window = <uint8_t *>malloc(scanner.capacity)
    scanner.pos = scanner.length = 0
    scanner.window_offset = PACK_HEADER_SIZE
    scanner.work = 0
    scanner.ref_entries = NULL
    scanner.ref_base_oids = NULL
    scanner.ref_count = scanner.ref_capacity = 0
    return scanner.window != NULL


cdef inline void scanner_free(Scanner *scanner) noexcept:
    sha1_lanes_abandon(&scanner.tools.lanes)
    name_done(scanner)
    free(scanner.window)
    free(scanner.ref_entries)
    free(scanner.ref_base_oids)
    scanner.window = NULL
    scanner.ref_entries = NULL
    scanner.ref_base_oids = NULL


cdef inline size_t have(Scanner *scanner, size_t wanted) noexcept nogil:
    """Have `wanted` bytes from `pos` on in the window, or all there are; return how many there are."""
    cdef size_t left = scanner.length - scanner.pos
    cdef uint64_t end
    cdef size_t room
    cdef ssize_t got
    cdef uint8_t *larger
    if left >= wanted:
        return left
    end = scanner.window_offset + scanner.length
    if end >= scanner.content_end:
        return left
    memmove(scanner.window, scanner.window + scanner.pos, left)
    scanner.window_offset += scanner.pos
    scanner.pos = 0
    scanner.length = left
    if wanted + WINDOW_BYTES > scanner.capacity:
        larger = <uint8_t *>realloc(scanner.window, wanted + WINDOW_BYTES)
        if larger == NULL:
            return left
        scanner.window = larger
        scanner.capacity = wanted + WINDOW_BYTES
    while scanner.length < wanted and end < scanner.content_end:
        room = scanner.capacity - scanner.length
        if room > scanner.content_end - end:
            room = <size_t>(scanner.content_end - end)
        got = pread(scanner.tools.shared.fd, scanner.window + scanner.length, room, <int64_t>end)
        if got <= 0:
            break
        scanner.length += <size_t>got
        end += <uint64_t>got
    return scanner.length - scanner.pos


cdef inline int parse_header(Scanner *scanner, size_t available, int *type_number, uint64_t *size,
                             uint64_t *distance) noexcept nogil:
    """Return the length of the entry's header at `pos`, 0 when it isn't right."""
    cdef const uint8_t *at = scanner.window + scanner.pos
    cdef size_t pos = 0
    cdef int shift = 4
    cdef uint8_t byte
    if not available:
        return 0
    byte = at[pos]
    pos += 1
    type_number[0] = (byte >> 4) & 7
    size[0] = byte & 15
    while byte & 0x80:
        if shift > 60 or pos >= available:
            return 0  # no limit allows so large an object
        byte = at[pos]
        pos += 1
        if shift == 60 and byte & 0x70:
            return 0
        size[0] |= <uint64_t>(byte & 0x7F) << shift
        shift += 7
    if type_number[0] == OFS_DELTA:
        if pos >= available:
            return 0
        byte = at[pos]
        pos += 1
        distance[0] = byte & 0x7F
        while byte & 0x80:
            if pos >= available or distance[0] >= (<uint64_t>1 << 55):
                return 0
            byte = at[pos]
            pos += 1
            distance[0] = ((distance[0] + 1) << 7) | (byte & 0x7F)
        if distance[0] == 0:
            return 0
    elif type_number[0] == REF_DELTA:
        pos += <size_t>scanner.tools.shared.oid_size
        if pos > available:
            return 0
    elif type_number[0] == 0 or type_number[0] == 5:
        return 0
    return <int>pos


cdef inline int32_t find_offset(const uint64_t *offsets, int32_t count, uint64_t wanted) noexcept nogil:
    """Return the entry among the first `count` that begins at `wanted`, NONE for none."""
    cdef int32_t low = 0, high = count, middle
    while low < high:
        middle = (low + high) >> 1
        if offsets[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < count and offsets[low] == wanted else NONE


cdef inline bint note_delta(Scanner *scanner, int type_number, uint64_t offset, uint64_t distance,
                            const uint8_t *base_oid) noexcept nogil:
    cdef Shared *shared = scanner.tools.shared
    cdef int32_t entry = scanner.entry, base
    cdef void *larger
    if type_number == OFS_DELTA:
        if distance > offset - PACK_HEADER_SIZE:
            return False
        base = find_offset(shared.offsets, entry, offset - distance)
        if base != NONE:  # between two entries: unresolved, and counted so at the end
            shared.bases[entry] = base
            shared.next_sibling[entry] = shared.first_child[base]
            shared.first_child[base] = entry
        return True
    if scanner.ref_count == scanner.ref_capacity:
        scanner.ref_capacity = 2 * scanner.ref_capacity + 64
        larger = realloc(scanner.ref_entries, <size_t>scanner.ref_capacity * sizeof(int32_t))
        if larger == NULL:
            return False
        scanner.ref_entries = <int32_t *>larger
        larger = realloc(scanner.ref_base_oids, <size_t>scanner.ref_capacity * shared.oid_size)
        if larger == NULL:
            return False
        scanner.ref_base_oids = <uint8_t *>larger
    scanner.ref_entries[scanner.ref_count] = entry
    memcpy(scanner.ref_base_oids + <int64_t>scanner.ref_count * shared.oid_size, base_oid, shared.oid_size)
    scanner.ref_count += 1
    return True


cdef inline void name_done(Scanner *scanner) noexcept nogil:
    cdef int at
    for at in range(scanner.tools.lanes.done_count):
        content_drop(<Content *>scanner.tools.lanes.done[at].holder)
    scanner.tools.lanes.done_count = 0


cdef inline bint inflate_pieces(Scanner *scanner, uint32_t *crc, uint64_t size, Content *content, bint is_hashed,
                                sha1_stream *stream) noexcept nogil:
    """Inflate what begins at `pos` in pieces: into `content`, else into the hash when it is to be hashed."""
    cdef Tools *tools = &scanner.tools
    cdef Shared *shared = tools.shared
    cdef int status = Z_OK
    cdef uint64_t left = size
    cdef size_t available, made, used
    cdef uint8_t *out
    if content == NULL and not reserve(&tools.delta, &tools.delta_size, OUTPUT_BYTES):
        fail(shared, FAULT_MEMORY, scanner.entry, 0, 0)
        return False
    inflateReset(&tools.stream)
    tools.stream.avail_in = 0
    while status != Z_STREAM_END:
        if tools.stream.avail_in == 0:
            available = have(scanner, 1)
            if not available:
                return False
            tools.stream.next_in = scanner.window + scanner.pos
            tools.stream.avail_in = <unsigned int>(available if available < PIECE_BYTES else PIECE_BYTES)
        made = <size_t>(left if left < OUTPUT_BYTES else OUTPUT_BYTES)
        out = content.data + (size - left) if content != NULL else tools.delta
        tools.stream.next_out = out
        tools.stream.avail_out = <unsigned int>made
        used = tools.stream.avail_in
        status = inflate(&tools.stream, Z_NO_FLUSH)
        used -= tools.stream.avail_in
        made -= tools.stream.avail_out
        if status == Z_BUF_ERROR and tools.stream.avail_in == 0:
            status = Z_OK  # it only wants more input; what makes more than `size` bytes ends with input left
        if status != Z_OK and status != Z_STREAM_END:
            return False
        left -= made
        crc[0] = crc_of(&shared.deflate, crc[0], scanner.window + scanner.pos, used)
        scanner.pos += used
        if stream != NULL:
            sha1_stream_update(stream, out, made, &tools.suspects if shared.detects else NULL, scanner.entry)
        elif is_hashed and content == NULL:
            shared.evp.update(tools.evp_context, out, made)
    return left == 0


cdef inline bint scan_entry(Scanner *scanner) noexcept nogil:
    """Take one entry; False with a failure noted, or for a fault that only the twin can name."""
    cdef Tools *tools = &scanner.tools
    cdef Shared *shared = tools.shared
    cdef int32_t entry = scanner.entry
    cdef size_t available = have(scanner, HEADER_BYTES_MAX), used = 0, wanted
    cdef uint64_t offset = scanner.window_offset + scanner.pos, size = 0, distance = 0
    cdef int type_number = 0, length, header_length
    cdef uint32_t crc
    cdef Content *content = NULL
    cdef bint is_delta, is_streamed, is_ready, is_whole = False, done = False
    cdef uint8_t base_oid[32]
    cdef char header[SHA1_HEADROOM]
    cdef sha1_stream stream
    cdef unsigned int digest_size = 0
    shared.offsets[entry] = offset
    length = parse_header(scanner, available, &type_number, &size, &distance)
    if length == 0 or size > shared.object_bytes_max:
        return False
    if not expand(shared, size, entry):
        return False
    scanner.work += size
    is_delta = type_number > 4
    is_streamed = size >= OUTPUT_BYTES if is_delta else size >= OUTPUT_BYTES and size > shared.stream_bytes_min
    if not is_streamed and size >= OUTPUT_BYTES and size > shared.delta_result_bytes_max:
        return False
    if type_number == REF_DELTA:
        memcpy(base_oid, scanner.window + scanner.pos + length - shared.oid_size, shared.oid_size)
    if not is_streamed:
        if is_delta:
            is_ready = reserve(&tools.delta, &tools.delta_size, OUTPUT_BYTES)
        else:
            content = content_new(size, entry, type_number)
            is_ready = content != NULL
        if not is_ready:
            fail(shared, FAULT_MEMORY, entry, 0, 0)
            return False
        # What is compressed is rarely larger than what it makes.
        wanted = <size_t>(length + size + (size >> 3) + 64)
        available = have(scanner, wanted)
        done = inflate_whole(
            &shared.deflate, tools.decompressor, &tools.stream, scanner.window + scanner.pos + length,
            available - length, tools.delta if is_delta else content.data, <size_t>size, &used)
        is_whole = done
        if done:
            shared.crcs[entry] = crc_of(&shared.deflate, 0, scanner.window + scanner.pos, length + used)
            scanner.pos += length + used
    if not done:
        crc = crc_of(&shared.deflate, 0, scanner.window + scanner.pos, length)
        scanner.pos += length
        if content == NULL and not is_delta:
            header_length = object_header(header, type_number, size) if shared.hashes_headers else 0
            if shared.is_sha1:
                sha1_stream_init(&stream)
                sha1_stream_update(&stream, <uint8_t *>header, header_length,
                                   &tools.suspects if shared.detects else NULL, entry)
            else:
                shared.evp.init(tools.evp_context, shared.evp.sha256, NULL)
                shared.evp.update(tools.evp_context, header, header_length)
        done = inflate_pieces(
            scanner, &crc, size, content, not is_delta,
            &stream if shared.is_sha1 and content == NULL and not is_delta else NULL)
        if not done:
            if content != NULL:
                content_drop(content)
            return False
        shared.crcs[entry] = crc
        if content == NULL and not is_delta:
            if shared.is_sha1:
                sha1_stream_finish(&stream, shared.oids + <int64_t>entry * shared.oid_size,
                                   &tools.suspects if shared.detects else NULL, entry)
            else:
                shared.evp.final(tools.evp_context, shared.oids + <int64_t>entry * shared.oid_size, &digest_size)
    if is_delta:
        if not note_delta(scanner, type_number, offset, distance, base_oid):
            return False
        if is_whole and size <= shared.delta_result_bytes_max:
            keep_delta(&shared.kept, entry, tools.delta, <size_t>size)
    else:
        shared.types[entry] = <uint8_t>type_number
        if content != NULL:
            hash_content(tools, content)
            content_drop(content)
            hash_waiting(tools, False)
            name_done(scanner)
    return True


cdef inline void scan_some(Scanner *scanner, uint64_t budget) noexcept nogil:
    """Take entries for about `budget` bytes of work, to the end of the pack at most."""
    cdef Shared *shared = scanner.tools.shared
    scanner.work = 0
    while scanner.entry < shared.count and scanner.work < budget:
        scanner.work += ENTRY_COST_BYTES
        if not scan_entry(scanner):
            fail(shared, FAULT_ENTRY, scanner.entry, 0, 0)
            return
        scanner.entry += 1
    if scanner.entry == shared.count:
        hash_waiting(&scanner.tools, True)
        name_done(scanner)
        sha1_judge(&scanner.tools.suspects)
        if scanner.tools.suspects.found != NOBODY:
            fail(shared, FAULT_ATTACK, scanner.tools.suspects.found, 0, 0)
        shared.offsets[shared.count] = scanner.window_offset + scanner.pos
