# Walks over a graph's commits, for history's other parts; the story is in history.py.

from libc.stdint cimport int64_t, uint8_t, uint32_t


cdef struct View:
    uint32_t count
    const int64_t *times
    const uint32_t *starts
    const uint32_t *parents


cdef struct Queued:
    int64_t time
    uint32_t serial
    uint32_t cid


cdef struct Heap:
    Queued *items
    uint32_t count
    uint32_t room
    uint32_t serial


# What a walk over the history of paths knows. States by cid; `only` as for sort_by_topology.
cdef struct Pruning:
    const View *g
    uint8_t *states
    const uint32_t **columns
    int column_count
    bint by_changes  # `states` and `only` say which commits change the path; there are no columns
    bint first_parent
    bint shown_only  # what changes nothing isn't written
    uint32_t most  # to be written
    uint32_t *only
    uint32_t *stack
    uint32_t stack_room
    int64_t interesting  # in the queue, and not known to be excluded


cdef uint32_t paint_range(const View *g, uint8_t *marks, uint32_t top, bint first_parent) noexcept nogil
cdef int walk_by_date(const View *g, uint8_t *marks, const uint32_t *tips, Py_ssize_t tip_count, bint first_parent,
                      bint bounded, uint32_t limit, uint32_t *out, uint32_t *made, Heap *heap) noexcept nogil
cdef int sort_by_topology(const View *g, const uint8_t *marks, uint32_t *listed, uint32_t count, uint32_t top,
                          bint first_parent, const uint32_t *only, bint by_date, Heap *heap) noexcept nogil
cdef int note_changes(Pruning *w, uint32_t top, const uint32_t[::1] places, const uint8_t[::1] followed,
                      const uint32_t[::1] cid_of) except -1
cdef int walk_path(Pruning *w, const uint32_t *tips, Py_ssize_t tip_count, const uint32_t *bottoms, Py_ssize_t bottom_count,
                   uint32_t *out, uint32_t *made, Heap *heap) noexcept nogil
