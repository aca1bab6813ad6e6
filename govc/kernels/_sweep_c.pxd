# What other kernels ask of a sweep; the story is in sweep.py.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from govc.kernels._packread_c cimport PackTable


cdef struct Segment:
    uint32_t first  # cid of its first commit
    uint32_t commits
    uint32_t objects
    uint32_t first_vid  # of what it adds
    uint32_t added
    const uint8_t *commit_oids
    const uint32_t *sorted_places
    const int64_t *times
    const uint32_t *parent_starts
    const uint32_t *parents
    const uint32_t *foreign  # cids
    const uint32_t *aliases  # the cid of the same commit in an earlier segment, or NONE; NULL when there is none
    const uint8_t *object_oids
    const uint8_t *types
    const uint32_t *sizes
    const uint32_t *introducers
    const uint32_t *intro_starts
    const uint32_t *intros
    const uint32_t *multi_objects
    const uint32_t *multi_starts
    const uint32_t *multi_commits
    uint32_t multi_count
    const uint8_t *multi_marks  # a bit for each object rank that is among the multi objects; NULL but in the first segment
    const uint32_t *vids  # by object rank; NULL in the first segment, where they are the same
    const uint32_t *added_ranks


cdef class Sweep:
    cdef Segment *segments
    cdef int segment_count
    cdef int oid_size
    cdef readonly uint32_t commit_count
    cdef readonly uint32_t object_count
    cdef list keep
    cdef object numbered_commits  # of the first segment: (origin of the table, uint32 each), None before somebody asks for many
    cdef object numbered_objects

    cdef int add(self, columns) except -1
    cdef bint is_sound(self, const Segment *s, uint32_t foreign_count, Py_ssize_t parents, Py_ssize_t intros, Py_ssize_t more) noexcept nogil
    cdef int64_t find_commit(self, const uint8_t *oid) noexcept nogil
    cdef int64_t find_object(self, const uint8_t *oid) noexcept nogil
    cdef uint8_t kind_of(self, const uint8_t *oid, uint8_t likely) noexcept nogil
    cdef int segment_of(self, uint32_t cid) noexcept nogil
    cdef uint32_t parent_at(self, const Segment *segment, uint32_t at) noexcept nogil
    cdef const uint8_t *commit_name(self, uint32_t cid) noexcept nogil
    cdef const uint8_t *object_name(self, uint32_t vid) noexcept nogil
    cdef int64_t time_of(self, uint32_t cid) noexcept nogil
    cdef object number_all(self, PackTable table)
    cdef object number_all_commits(self, PackTable table)
    cdef object known_numbers(self, PackTable table, bint are_commits, bint is_many)
    cdef Py_ssize_t rank_in(self, const Segment *segment, const uint8_t *oid) noexcept nogil
    cdef object numbers(self, ids, finder, bint are_commits)


cdef class Painting:
    cdef Sweep sweep
    cdef uint8_t *marks
    cdef uint8_t *seen  # by vid
    cdef uint32_t next_cid  # commits from here on up are painted
    cdef bint has_haves
    cdef bint later_noted
    cdef readonly object range
    cdef readonly object cut

    cdef bint is_alias(self, uint32_t cid) noexcept nogil
    cdef int spread(self, uint32_t cid) noexcept nogil
    cdef int give(self, uint32_t cid, uint8_t paint) noexcept nogil
    cdef void paint_down_to(self, uint32_t lowest) noexcept nogil
    cdef void note_later(self) noexcept nogil
    cdef bint is_had(self, uint32_t vid) noexcept nogil
    cdef bint is_painted_have(self, uint32_t place) noexcept nogil
    cdef bint has_oid(self, const uint8_t *oid) noexcept nogil


cdef class AtPeer:
    cdef Painting painting
    cdef PackTable table
    cdef int64_t *others  # numbers, ascending
    cdef Py_ssize_t other_count

    cdef bint has(self, int64_t number) noexcept nogil
