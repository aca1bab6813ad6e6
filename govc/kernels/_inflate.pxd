# Inflating one entry of a pack: libdeflate where it is installed, zlib always.
#
# libdeflate is three times as fast, and made for what packs are: the inflated size is known, the whole stream lies in
# memory, and it says how much of the input it took. It is found at run time (libdeflate.so.0, in Debian's package
# libdeflate0, which many machines have because of libtiff): nothing has to be installed to build against. zlib has the
# last word: what libdeflate refuses is tried by zlib, which also takes what comes in pieces.

from libc.stdint cimport uint8_t, uint32_t

cdef extern from "zlib.h" nogil:
    ctypedef struct z_stream:
        uint8_t *next_in
        unsigned int avail_in
        uint8_t *next_out
        unsigned int avail_out
        const char *msg

    int Z_OK
    int Z_STREAM_END
    int Z_BUF_ERROR
    int Z_NO_FLUSH
    int inflateInit(z_stream *stream)
    int inflateReset(z_stream *stream)
    int inflate(z_stream *stream, int flush)
    int inflateEnd(z_stream *stream)
    unsigned long crc32(unsigned long crc, const uint8_t *data, unsigned int size)

cdef extern from "dlfcn.h" nogil:
    int RTLD_NOW
    void *dlopen(const char *name, int flags)
    void *dlsym(void *library, const char *name)

ctypedef void *(*allocate_t)() noexcept nogil
ctypedef void (*release_t)(void *) noexcept nogil
ctypedef int (*inflate_t)(void *, const void *, size_t, void *, size_t, size_t *, size_t *) noexcept nogil
ctypedef uint32_t (*crc_t)(uint32_t, const void *, size_t) noexcept nogil

cdef struct Deflate:
    # The functions of libdeflate; all NULL when it isn't there.
    allocate_t allocate
    release_t release
    inflate_t inflate
    crc_t crc


cdef inline void find_deflate(Deflate *found) noexcept:
    cdef void *library = dlopen("libdeflate.so.0", RTLD_NOW)
    if library == NULL:
        library = dlopen("libdeflate.0.dylib", RTLD_NOW)
    found.allocate = NULL
    if library == NULL:
        return
    found.release = <release_t>dlsym(library, "libdeflate_free_decompressor")
    found.inflate = <inflate_t>dlsym(library, "libdeflate_zlib_decompress_ex")
    found.crc = <crc_t>dlsym(library, "libdeflate_crc32")
    if found.release != NULL and found.inflate != NULL and found.crc != NULL:
        found.allocate = <allocate_t>dlsym(library, "libdeflate_alloc_decompressor")


cdef inline uint32_t crc_of(const Deflate *deflate, uint32_t crc, const uint8_t *data, size_t size) noexcept nogil:
    cdef size_t part
    if deflate.allocate != NULL:
        return deflate.crc(crc, data, size)
    while size:
        part = size if size < (1 << 30) else 1 << 30
        crc = <uint32_t>crc32(crc, data, <unsigned int>part)
        data += part
        size -= part
    return crc


cdef inline bint inflate_whole(const Deflate *deflate, void *decompressor, z_stream *stream, const uint8_t *data,
                               size_t length, uint8_t *out, size_t size, size_t *used) noexcept nogil:
    """Inflate a stream that lies whole in `data` to exactly `size` bytes; tell how much of `data` it took.

    False when that isn't what the stream makes, or when it doesn't end within `data`.
    """
    cdef size_t made = 0
    cdef int status = Z_OK
    cdef size_t left_in = length, left_out = size
    if deflate.allocate != NULL:
        if deflate.inflate(decompressor, data, length, out, size, used, &made) == 0 and made == size:
            return True
    inflateReset(stream)
    stream.next_in = <uint8_t *>data  # zlib only reads it
    stream.next_out = out
    stream.avail_in = stream.avail_out = 0
    while status == Z_OK:
        if stream.avail_in == 0:
            stream.avail_in = <unsigned int>(left_in if left_in < (1 << 30) else 1 << 30)
            left_in -= stream.avail_in
        if stream.avail_out == 0:
            stream.avail_out = <unsigned int>(left_out if left_out < (1 << 30) else 1 << 30)
            left_out -= stream.avail_out
        # Where there is no room left, zlib still takes the end of the stream, and refuses to go on otherwise.
        status = inflate(stream, Z_NO_FLUSH)
    used[0] = length - left_in - stream.avail_in
    return status == Z_STREAM_END and left_out == 0 and stream.avail_out == 0
