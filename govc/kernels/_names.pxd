# Comparing names, and finding one in a column of names that ascend; shared by the kernels.
#
# Names are hashes, so how far into the column one lies can be told from its first bytes: a few looks near each other find
# it, where halving takes one for each power of two, most of them far apart in memory. Where somebody made names that are
# no hashes of anything, or the column doesn't ascend, halving takes over after some looks: never much worse than it, and
# never outside the column.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp


cdef enum:
    LOOKS_MAX = 6  # by guessing; the rest is halved
    FEW_NAMES = 4  # among so many nothing is guessed


cdef inline uint64_t head_of(const uint8_t *name) noexcept nogil:
    """Return the first eight bytes of a name as a number that orders as names do."""
    return (
        (<uint64_t>name[0] << 56) | (<uint64_t>name[1] << 48) | (<uint64_t>name[2] << 40) | (<uint64_t>name[3] << 32)
        | (<uint64_t>name[4] << 24) | (<uint64_t>name[5] << 16) | (<uint64_t>name[6] << 8) | name[7]
    )


cdef inline int order_of(const uint8_t *one, const uint8_t *other, int size) noexcept nogil:
    """As memcmp, of two names: their heads mostly tell."""
    cdef uint64_t a = head_of(one), b = head_of(other)
    if a == b:
        return memcmp(one, other, size)
    return -1 if a < b else 1


cdef inline int64_t find_name(
    const uint8_t *names, int size, uint32_t low, uint32_t high, const uint8_t *name, uint64_t least, uint64_t most
) noexcept nogil:
    """Return where a name lies in [low, high), -1 when it doesn't; the heads of what lies there are in [least, most]."""
    cdef uint64_t head = head_of(name), other
    cdef uint32_t middle, width
    cdef int looks = 0, order
    while low < high:
        width = high - low
        middle = low + (width >> 1)
        if width > FEW_NAMES and looks < LOOKS_MAX and least <= head < most:
            looks += 1
            middle = low + <uint32_t>(<double>(head - least) / <double>(most - least) * width)
            if middle >= high:
                middle = high - 1
        other = head_of(names + <int64_t>middle * size)
        if other == head:
            order = memcmp(names + <int64_t>middle * size, name, size)
            if order == 0:
                return middle
        else:
            order = -1 if other < head else 1
        if order < 0:
            low = middle + 1
            least = other
        else:
            high = middle
            most = other
    return -1
