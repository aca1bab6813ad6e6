# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Are many files what they were? Compiled; the story is in `stamps`."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc


cdef extern from "Python.h":
    bytes PyUnicode_EncodeFSDefault(object text)


cdef extern from "sys/stat.h" nogil:
    cdef struct timespec:
        int64_t tv_sec
        long tv_nsec
    cdef struct Stat "stat":
        uint64_t st_dev
        uint64_t st_ino
        int64_t st_size
        timespec st_mtim
        timespec st_ctim
    int stat(const char *path, Stat *out)


cdef extern from "errno.h" nogil:
    int errno
    int ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EACCES, EPERM


cdef struct Stamp:
    const char *path
    bint is_there
    uint64_t device
    uint64_t inode
    int64_t size
    int64_t mtime_ns
    int64_t ctime_ns


cdef class Stamps:
    """See stamps.Stamps."""

    cdef Stamp *stamps
    cdef Py_ssize_t count
    cdef list keep
    cdef readonly tuple present
    cdef readonly tuple absent

    def __cinit__(self, present, absent):
        cdef Py_ssize_t k = 0
        cdef Stamp *stamp
        present = self.present = tuple(present)
        absent = self.absent = tuple(absent)
        self.keep = []
        self.stamps = <Stamp *>malloc(sizeof(Stamp) * (len(present) + len(absent) + 1))
        if self.stamps == NULL:
            raise MemoryError
        for path, (device, inode, size, mtime_ns, ctime_ns) in present:
            stamp = &self.stamps[k]
            self.hold(stamp, path)
            stamp.is_there = True
            stamp.device = device
            stamp.inode = inode
            stamp.size = size
            stamp.mtime_ns = mtime_ns
            stamp.ctime_ns = ctime_ns
            k += 1
        for path in absent:
            self.hold(&self.stamps[k], path)
            self.stamps[k].is_there = False
            k += 1
        self.count = k

    def __dealloc__(self):
        free(self.stamps)

    cdef int hold(self, Stamp *stamp, path) except -1:
        name = PyUnicode_EncodeFSDefault(path)
        if b"\0" in name:
            raise ValueError("a path holds a NUL")
        self.keep.append(name)
        stamp.path = PyBytes_AS_STRING(name)
        return 0

    def __len__(self):
        return self.count

    cdef bint is_same(self, Stamp *stamp) noexcept nogil:
        cdef Stat now
        if stat(stamp.path, &now) != 0:
            return not stamp.is_there and (
                errno == ENOENT or errno == ENOTDIR or errno == EACCES or errno == EPERM or errno == ELOOP
                or errno == ENAMETOOLONG
            )
        return (
            stamp.is_there
            and now.st_ctim.tv_sec * <int64_t>1000000000 + now.st_ctim.tv_nsec == stamp.ctime_ns
            and now.st_ino == stamp.inode
            and now.st_mtim.tv_sec * <int64_t>1000000000 + now.st_mtim.tv_nsec == stamp.mtime_ns
            and now.st_size == stamp.size
            and now.st_dev == stamp.device
        )

    def are_current(self):
        """See stamps.Stamps."""
        cdef Py_ssize_t k
        cdef bint same = True
        with nogil:
            for k in range(self.count):
                same = self.is_same(&self.stamps[k])
                if not same:
                    break
        return same

    def changed(self):
        """See stamps.Stamps."""
        cdef Py_ssize_t k, count = len(self.present)
        cdef char *same = <char *>malloc(count + 1)
        if same == NULL:
            raise MemoryError
        try:
            with nogil:
                for k in range(count):
                    same[k] = self.is_same(&self.stamps[k])
            return frozenset([self.present[k][0] for k in range(count) if not same[k]])
        finally:
            free(same)
