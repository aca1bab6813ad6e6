# What sha1.h offers, for Cython; the story is in sha1.py.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "sha1.h" nogil:
    enum:
        SHA1_HEADROOM
        SHA1_TAILROOM
        LANES_QUEUE
        NOBODY

    ctypedef struct sha1_suspects:
        int64_t found

    ctypedef struct sha1_stream:
        pass

    ctypedef struct sha1_job:
        int64_t owner
        void *holder

    ctypedef struct sha1_lanes:
        int queued
        uint32_t active
        sha1_job *done
        int done_count
        size_t held_bytes

    const char *sha1_one_by
    const char *sha1_many_by
    void sha1_prepare()
    void sha1_use(int allow_sha, int vector_bits_max)
    void sha1_suspects_init(sha1_suspects *suspects)
    void sha1_judge(sha1_suspects *suspects)
    void sha1_stream_init(sha1_stream *stream)
    void sha1_stream_update(
        sha1_stream *stream, const uint8_t *data, size_t size, sha1_suspects *suspects, int64_t owner)
    void sha1_stream_finish(sha1_stream *stream, uint8_t *digest, sha1_suspects *suspects, int64_t owner)
    void sha1_lanes_init(sha1_lanes *lanes, sha1_suspects *suspects)
    void sha1_lanes_run(sha1_lanes *lanes)
    void sha1_lanes_finish(sha1_lanes *lanes)
    void sha1_lanes_abandon(sha1_lanes *lanes)
    void sha1_lanes_add(
        sha1_lanes *lanes, uint8_t *message, size_t size, uint8_t *digest, int64_t owner, void *holder)
