# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""SHA-1 with detection, compiled; the story is in `sha1`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from govc.kernels._sha1 cimport (
    LANES_QUEUE,
    NOBODY,
    SHA1_TAILROOM,
    sha1_judge,
    sha1_lanes,
    sha1_lanes_add,
    sha1_lanes_finish,
    sha1_lanes_init,
    sha1_lanes_run,
    sha1_prepare,
    sha1_stream,
    sha1_stream_finish,
    sha1_stream_init,
    sha1_stream_update,
    sha1_suspects,
    sha1_suspects_init,
    sha1_use,
)

sha1_prepare()


def use_instructions(*, sha=True, vector_bits=512):
    """Forbid instruction sets, for tests."""
    sha1_use(sha, vector_bits)


cdef class Sha1:
    """As `sha1_py.Sha1`."""

    cdef sha1_stream stream
    cdef sha1_suspects suspects

    def __cinit__(self):
        sha1_stream_init(&self.stream)
        sha1_suspects_init(&self.suspects)

    def __init__(self, const uint8_t[::1] data=b""):
        self.update(data)

    def update(self, const uint8_t[::1] data not None):
        """Feed bytes."""
        cdef Py_ssize_t size = data.shape[0]
        if size:
            with nogil:
                sha1_stream_update(&self.stream, &data[0], size, &self.suspects, 0)

    cdef bytes finished(self, bint *is_attack):
        cdef sha1_stream stream = self.stream
        cdef sha1_suspects suspects = self.suspects
        cdef uint8_t digest[20]
        sha1_stream_finish(&stream, digest, &suspects, 0)
        sha1_judge(&suspects)
        is_attack[0] = suspects.found != NOBODY
        return digest[:20]

    def digest(self):
        """Return the raw digest of what was fed."""
        cdef bint is_attack = False
        return self.finished(&is_attack)

    @property
    def is_attack(self):
        """Whether what was fed, ended here, holds a block of a collision attack."""
        cdef bint is_attack = False
        self.finished(&is_attack)
        return is_attack


def hash_many(messages):
    """As `sha1_py.hash_many`."""
    cdef Py_ssize_t count = len(messages), at, size
    cdef const uint8_t[::1] message
    cdef uint8_t **copies = <uint8_t **>malloc(count * sizeof(uint8_t *) + 1)
    cdef sha1_lanes *lanes = <sha1_lanes *>malloc(sizeof(sha1_lanes))
    cdef sha1_suspects *suspects = <sha1_suspects *>malloc(sizeof(sha1_suspects))
    cdef uint8_t *digests
    cdef bint is_full = copies == NULL or lanes == NULL or suspects == NULL
    result = PyBytes_FromStringAndSize(NULL, 20 * count)
    found = -1
    at = 0
    if not is_full:
        digests = <uint8_t *>PyBytes_AS_STRING(result)
        sha1_suspects_init(suspects)
        sha1_lanes_init(lanes, suspects)
        while at < count and not is_full:
            message = messages[at]
            size = message.shape[0]
            copies[at] = <uint8_t *>malloc(size + SHA1_TAILROOM)
            is_full = copies[at] == NULL
            if not is_full:
                if size:
                    memcpy(copies[at], &message[0], size)
                if lanes.queued == LANES_QUEUE:
                    with nogil:
                        sha1_lanes_run(lanes)
                    lanes.done_count = 0
                sha1_lanes_add(lanes, copies[at], size, digests + 20 * at, at, NULL)
                at += 1
        with nogil:
            sha1_lanes_finish(lanes)
            sha1_judge(suspects)
        found = suspects.found
    while at:
        at -= 1
        free(copies[at])
    free(copies)
    free(lanes)
    free(suspects)
    if is_full:
        raise MemoryError
    return result, found
