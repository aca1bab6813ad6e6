# What other kernels ask of the guard: whether a page that they read was one.

from libc.stdint cimport uint64_t

cdef uint64_t faults_now() noexcept nogil
