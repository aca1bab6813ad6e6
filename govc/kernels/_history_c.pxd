# What other kernels use of the graph; the story is in history.py.

from libc.stdint cimport int64_t, uint8_t, uint32_t

from govc.kernels._historyload_c cimport Columns
from govc.kernels._historywalk_c cimport View


cdef class Graph(Columns):
    cdef View view(self)
    cdef uint32_t mark_tips(self, const uint32_t[::1] cids, uint8_t *marks, uint8_t mark, uint32_t top) except? 0xFFFFFFFF
    cdef int check_all(self, const uint32_t[::1] cids) except -1
