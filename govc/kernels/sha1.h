/* SHA-1 with the detection of collision attacks, as fast as the machine allows. The story is in sha1.py.

   Written in C, because it is vectors and instructions that Cython has no words for. Three ways to hash:

       sha1_stream   one message that comes in pieces, by the CPU's SHA instructions where it has them
       sha1_lanes    many messages that lie in memory, sixteen at a time
       both          hand the blocks that satisfy the conditions of some disturbance vector to sha1_suspects

   Messages for the lanes must have SHA1_HEADROOM bytes before and SHA1_TAILROOM bytes after them that we may write to. */

#ifndef GOVC_SHA1_H
#define GOVC_SHA1_H

#include <stdint.h>
#include <string.h>

#include "sha1_vectors.h"

#define SHA1_HEADROOM 32
#define SHA1_TAILROOM 128
#define EARLY_STEP 58
#define LATE_STEP 65
#define NOBODY (-1)
#define PREFETCH_BYTES 320

typedef uint32_t sha1_v4 __attribute__((vector_size(16)));
typedef uint32_t sha1_v8 __attribute__((vector_size(32)));
typedef uint32_t sha1_v16 __attribute__((vector_size(64)));

#define SHIFT(x, n) ((n) < 0 ? (x) >> ((n) < 0 ? -(n) : 0) : (x) << ((n) < 0 ? 0 : (n)))
#define ROTL(x, n) ((n) % 32 ? ((x) << ((n) % 32)) | ((x) >> ((32 - (n)) % 32)) : (x))

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

/* The steps, over words or over vectors of words: a to e is the state, w the message. */

#define EXPAND(t) w[t] = ROTL(w[(t) - 3] ^ w[(t) - 8] ^ w[(t) - 14] ^ w[(t) - 16], 1);
#define CHOOSE(b, c, d) ((d) ^ ((b) & ((c) ^ (d))))
#define PARITY(b, c, d) ((b) ^ (c) ^ (d))
#define MAJORITY(b, c, d) (((b) & (c)) | ((d) & ((b) | (c))))
#define STEP(f, k, t, a, b, c, d, e) \
    e += ROTL(a, 5) + f(b, c, d) + (k) + w[t]; \
    b = ROTL(b, 30);
#define STEPS5(f, k, t, expand) \
    expand(t) STEP(f, k, (t), a, b, c, d, e) \
    expand((t) + 1) STEP(f, k, (t) + 1, e, a, b, c, d) \
    expand((t) + 2) STEP(f, k, (t) + 2, d, e, a, b, c) \
    expand((t) + 3) STEP(f, k, (t) + 3, c, d, e, a, b) \
    expand((t) + 4) STEP(f, k, (t) + 4, b, c, d, e, a)
#define STEPS20(f, k, t) \
    STEPS5(f, k, t, EXPAND) \
    STEPS5(f, k, (t) + 5, EXPAND) \
    STEPS5(f, k, (t) + 10, EXPAND) \
    STEPS5(f, k, (t) + 15, EXPAND)
#define GIVEN(t)
#define EXPAND_SOME(t) \
    if ((t) >= 16) { \
        EXPAND(t) \
    }
/* Each word is expanded right before its step, all by itself: two chains of dependent instructions side by side, and the
   words that the next ones are made of are still in registers. */
#define ALL_STEPS \
    STEPS5(CHOOSE, 0x5a827999u, 0, GIVEN) \
    STEPS5(CHOOSE, 0x5a827999u, 5, GIVEN) \
    STEPS5(CHOOSE, 0x5a827999u, 10, GIVEN) \
    STEPS5(CHOOSE, 0x5a827999u, 15, EXPAND_SOME) \
    STEPS20(PARITY, 0x6ed9eba1u, 20) \
    STEPS20(MAJORITY, 0x8f1bbcdcu, 40) \
    STEPS20(PARITY, 0xca62c1d6u, 60)

/* The blocks that an attack along some vector could end in, to be computed again. */
typedef struct {
    uint32_t state[5][16]; /* before the block */
    uint8_t vectors[16];
    uint8_t blocks[16][64];
    int64_t owners[16];
    int count;
    int64_t found; /* whose block was part of an attack; NOBODY */
} sha1_suspects;

/* One block at a time */

static void sha1_blocks_portable(uint32_t *state, const uint8_t *data, size_t count, uint32_t (*before)[5]) {
    uint32_t w[80];
    for (; count; count--, data += 64) {
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
        if (before)
            memcpy(*before++, state, 20);
        for (int t = 0; t < 16; t++)
            w[t] = (uint32_t)data[4 * t] << 24 | (uint32_t)data[4 * t + 1] << 16 | (uint32_t)data[4 * t + 2] << 8 |
                   data[4 * t + 3];
        ALL_STEPS
        state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
    }
}

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SHA1_X86 1
#include <cpuid.h>
#include <immintrin.h>

__attribute__((target("sha,sse4.1,ssse3"))) static void sha1_blocks_sha(uint32_t *state, const uint8_t *data,
                                                                      size_t count, uint32_t (*before)[5]) {
    /* Four steps an instruction (Intel, "SHA extensions"); abcd holds a in its highest word, e stands alone. */
    const __m128i swap = _mm_set_epi64x(0x0001020304050607ll, 0x08090a0b0c0d0e0fll);
    __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0x1b);
    __m128i e = _mm_set_epi32((int)state[4], 0, 0, 0);
    for (; count; count--, data += 64) {
        __m128i abcd_in = abcd, e_in = e, w0, w1, w2, w3, last;
        if (before) {
            _mm_storeu_si128((__m128i *)*before, _mm_shuffle_epi32(abcd, 0x1b));
            (*before++)[4] = (uint32_t)_mm_extract_epi32(e, 3);
        }
        w0 = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data), swap);
        w1 = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16)), swap);
        w2 = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 32)), swap);
        w3 = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 48)), swap);
        e = _mm_add_epi32(e, w0);
        last = abcd;
        abcd = _mm_sha1rnds4_epu32(abcd, e, 0);
#define FOUR(words, f) \
    e = _mm_sha1nexte_epu32(last, words); \
    last = abcd; \
    abcd = _mm_sha1rnds4_epu32(abcd, e, f);
#define NEXT(x0, x1, x2, x3) x0 = _mm_sha1msg2_epu32(_mm_xor_si128(_mm_sha1msg1_epu32(x0, x1), x2), x3);
        FOUR(w1, 0)
        FOUR(w2, 0)
        FOUR(w3, 0)
        NEXT(w0, w1, w2, w3)
        FOUR(w0, 0)
#define SIXTEEN(f1, f2, f3, f4) \
    NEXT(w1, w2, w3, w0) \
    FOUR(w1, f1) \
    NEXT(w2, w3, w0, w1) \
    FOUR(w2, f2) \
    NEXT(w3, w0, w1, w2) \
    FOUR(w3, f3) \
    NEXT(w0, w1, w2, w3) \
    FOUR(w0, f4)
        SIXTEEN(1, 1, 1, 1)
        SIXTEEN(1, 2, 2, 2)
        SIXTEEN(2, 2, 3, 3)
        NEXT(w1, w2, w3, w0)
        FOUR(w1, 3)
        NEXT(w2, w3, w0, w1)
        FOUR(w2, 3)
        NEXT(w3, w0, w1, w2)
        FOUR(w3, 3)
#undef FOUR
#undef NEXT
#undef SIXTEEN
        e = _mm_sha1nexte_epu32(last, e_in);
        abcd = _mm_add_epi32(abcd, abcd_in);
    }
    _mm_storeu_si128((__m128i *)state, _mm_shuffle_epi32(abcd, 0x1b));
    state[4] = (uint32_t)_mm_extract_epi32(e, 3);
}
#endif

/* Sixteen at a time, for each instruction set */

#define LANES(name) sha1_##name##_portable
#define LANES_TARGET
#define LANES_WIDTH 4
#define LANES_VECTOR sha1_v4
#define LANES_ROWS(b, k) sha1_load4((b)[0] + 16 * (k))
#ifdef __clang__
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, (sha1_v4){__VA_ARGS__})
#endif
#define LANES_LOW(x, y) SHUFFLE(x, y, 0, 4, 1, 5)
#define LANES_HIGH(x, y) SHUFFLE(x, y, 2, 6, 3, 7)
#define LANES_LOW2(x, y) SHUFFLE(x, y, 0, 1, 4, 5)
#define LANES_HIGH2(x, y) SHUFFLE(x, y, 2, 3, 6, 7)
#define LANES_SWAP(x) sha1_swap4(x)
#define LANES_FORBID(p, x, bit, value, dvs) \
    { \
        LANES_VECTOR is_zero = (LANES_VECTOR)(((x) & (1u << (bit))) == 0); \
        p &= value ? ~(is_zero & (dvs)) : is_zero | ~(dvs); \
    }
#define LANES_SOME(p) sha1_some4(p)

static inline sha1_v4 sha1_load4(const uint8_t *from) {
    sha1_v4 row;
    memcpy(&row, from, sizeof row);
    return row;
}

static inline sha1_v4 sha1_swap4(sha1_v4 x) {
    if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
        return x;
    x = (x << 16) | (x >> 16);
    return ((x & 0x00ff00ffu) << 8) | ((x >> 8) & 0x00ff00ffu);
}

static inline uint32_t sha1_some4(sha1_v4 x) {
    return (uint32_t)(x[0] != 0) | (uint32_t)(x[1] != 0) << 1 | (uint32_t)(x[2] != 0) << 2 | (uint32_t)(x[3] != 0) << 3;
}

#include "sha1_lanes.h"

#ifdef SHA1_X86
#define LANES(name) sha1_##name##_avx2
#define LANES_TARGET __attribute__((target("avx2")))
#define LANES_WIDTH 8
#define LANES_VECTOR sha1_v8
#define ROW128(b, i, k) _mm_loadu_si128((const __m128i *)((b)[i] + 16 * (k)))
#define LANES_ROWS(b, k) \
    (sha1_v8)_mm256_inserti128_si256(_mm256_castsi128_si256(ROW128(b, 0, k)), ROW128(b, 4, k), 1)
#define LANES_LOW(x, y) (sha1_v8)_mm256_unpacklo_epi32((__m256i)x, (__m256i)y)
#define LANES_HIGH(x, y) (sha1_v8)_mm256_unpackhi_epi32((__m256i)x, (__m256i)y)
#define LANES_LOW2(x, y) (sha1_v8)_mm256_unpacklo_epi64((__m256i)x, (__m256i)y)
#define LANES_HIGH2(x, y) (sha1_v8)_mm256_unpackhi_epi64((__m256i)x, (__m256i)y)
#define LANES_SWAP(x) (sha1_v8)_mm256_shuffle_epi8((__m256i)(x), _mm256_broadcastsi128_si256(SWAP128))
#define SWAP128 _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll)
#define LANES_FORBID(p, x, bit, value, dvs) \
    { \
        LANES_VECTOR is_zero = (LANES_VECTOR)(((x) & (1u << (bit))) == 0); \
        p &= value ? ~(is_zero & (dvs)) : is_zero | ~(dvs); \
    }
#define LANES_SOME(p) (~(uint32_t)_mm256_movemask_ps((__m256)((p) == 0)) & 0xff)
#include "sha1_lanes.h"

#define LANES(name) sha1_##name##_avx512
#define LANES_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define LANES_WIDTH 16
#define LANES_VECTOR sha1_v16
#define INSERT128(x, b, i, k) _mm512_inserti32x4(x, ROW128(b, 4 * (i), k), i)
#define LANES_ROWS(b, k) \
    (sha1_v16)INSERT128(INSERT128(INSERT128(_mm512_castsi128_si512(ROW128(b, 0, k)), b, 1, k), b, 2, k), b, 3, k)
#define LANES_LOW(x, y) (sha1_v16)_mm512_unpacklo_epi32((__m512i)x, (__m512i)y)
#define LANES_HIGH(x, y) (sha1_v16)_mm512_unpackhi_epi32((__m512i)x, (__m512i)y)
#define LANES_LOW2(x, y) (sha1_v16)_mm512_unpacklo_epi64((__m512i)x, (__m512i)y)
#define LANES_HIGH2(x, y) (sha1_v16)_mm512_unpackhi_epi64((__m512i)x, (__m512i)y)
#define LANES_SWAP(x) (sha1_v16)_mm512_shuffle_epi8((__m512i)(x), _mm512_broadcast_i32x4(SWAP128))
#define LANES_FORBID(p, x, bit, value, dvs) \
    { \
        __mmask16 broken = value ? _mm512_testn_epi32_mask((__m512i)(x), _mm512_set1_epi32(1 << (bit))) \
                                 : _mm512_test_epi32_mask((__m512i)(x), _mm512_set1_epi32(1 << (bit))); \
        p = (LANES_VECTOR)_mm512_mask_and_epi32((__m512i)p, broken, (__m512i)p, _mm512_set1_epi32((int)~(dvs))); \
    }
#define LANES_SOME(p) _mm512_test_epi32_mask((__m512i)(p), (__m512i)(p))
#include "sha1_lanes.h"
#endif

/* What this machine can do */

static void (*sha1_blocks)(uint32_t *, const uint8_t *, size_t, uint32_t (*)[5]) = sha1_blocks_portable;
static uint32_t (*sha1_hash)(uint32_t (*)[16], const uint8_t *const *, uint32_t *, uint32_t) = sha1_hash_portable;
static uint32_t (*sha1_suspect)(const uint8_t *const *, uint32_t *, uint32_t) = sha1_suspect_portable;
static uint32_t (*sha1_recompute)(const sha1_suspects *) = sha1_recompute_portable;
static const char *sha1_one_by, *sha1_many_by;

static void sha1_use(int allow_sha, int vector_bits_max) {
    /* Choose by what the CPU has; tests forbid parts of it. */
    int has_sha = 0, bits = 128;
    sha1_blocks = sha1_blocks_portable;
    sha1_hash = sha1_hash_portable, sha1_suspect = sha1_suspect_portable, sha1_recompute = sha1_recompute_portable;
#ifdef SHA1_X86
    unsigned eax, ebx = 0, ecx, edx;
    __builtin_cpu_init();
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        has_sha = ebx >> 29 & 1 && __builtin_cpu_supports("sse4.1");
    if (allow_sha && has_sha)
        sha1_blocks = sha1_blocks_sha;
    if (vector_bits_max >= 512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        sha1_hash = sha1_hash_avx512, sha1_suspect = sha1_suspect_avx512, sha1_recompute = sha1_recompute_avx512;
        bits = 512;
    } else if (vector_bits_max >= 256 && __builtin_cpu_supports("avx2")) {
        sha1_hash = sha1_hash_avx2, sha1_suspect = sha1_suspect_avx2, sha1_recompute = sha1_recompute_avx2;
        bits = 256;
    }
#endif
    sha1_one_by = allow_sha && has_sha ? "SHA instructions" : "portable code";
    sha1_many_by = bits == 512 ? "AVX-512" : bits == 256 ? "AVX2" : "plain vectors";
}

static void sha1_prepare(void) {
    sha1_prepare_vectors();
    sha1_use(1, 512);
}

/* Suspects */

static void sha1_suspects_init(sha1_suspects *suspects) {
    memset(suspects, 0, sizeof *suspects);
    suspects->found = NOBODY;
}

static void sha1_judge(sha1_suspects *suspects) {
    /* Compute the gathered blocks again. */
    uint32_t found;
    if (!suspects->count)
        return;
    found = sha1_recompute(suspects) & (suspects->count == 16 ? 0xffff : (1u << suspects->count) - 1);
    for (int lane = 0; found && suspects->found == NOBODY; lane++)
        if (found >> lane & 1)
            suspects->found = suspects->owners[lane];
    suspects->count = 0;
}

static void sha1_add_suspect(sha1_suspects *suspects, const uint8_t *block, const uint32_t *state, int stride,
                             uint32_t vectors, int64_t owner) {
    for (; vectors; vectors &= vectors - 1) {
        int lane = suspects->count++;
        memcpy(suspects->blocks[lane], block, 64);
        for (int i = 0; i < 5; i++)
            suspects->state[i][lane] = state[i * stride];
        suspects->vectors[lane] = (uint8_t)__builtin_ctz(vectors);
        suspects->owners[lane] = owner;
        if (suspects->count == 16)
            sha1_judge(suspects);
    }
}

static void sha1_inspect(sha1_suspects *suspects, const uint8_t *data, size_t count, uint32_t (*before)[5],
                         int64_t owner) {
    /* Up to sixteen blocks in a row, with the state before each. */
    const uint8_t *blocks[16];
    uint32_t vectors[16];
    for (size_t i = 0; i < 16; i++)
        blocks[i] = data + 64 * (i < count ? i : 0);
    uint32_t some = sha1_suspect(blocks, vectors, 0xffffu >> (16 - count));
    for (; some; some &= some - 1) {
        int i = __builtin_ctz(some);
        sha1_add_suspect(suspects, blocks[i], before[i], 1, vectors[i], owner);
    }
}

static void sha1_run(uint32_t *state, const uint8_t *data, size_t count, sha1_suspects *suspects, int64_t owner) {
    /* Any number of blocks in a row; `suspects` is NULL when nobody asks for attacks. */
    uint32_t before[16][5];
    if (!suspects) {
        sha1_blocks(state, data, count, NULL);
        return;
    }
    while (count) {
        size_t part = count < 16 ? count : 16;
        sha1_blocks(state, data, part, before);
        sha1_inspect(suspects, data, part, before, owner);
        data += 64 * part;
        count -= part;
    }
}

static const uint32_t sha1_start[5] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};

static void sha1_write_digest(uint8_t *digest, const uint32_t *state, int stride) {
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 4; j++)
            digest[4 * i + j] = (uint8_t)(state[i * stride] >> (24 - 8 * j));
}

static size_t sha1_pad(uint8_t *end, uint64_t size) {
    /* Write the padding of a message of `size` bytes at its end; return how many bytes that was. */
    size_t zeros = (size_t)(119 - size % 64) % 64;
    uint64_t bits = size * 8;
    end[0] = 0x80;
    memset(end + 1, 0, zeros);
    for (int i = 0; i < 8; i++)
        end[1 + zeros + i] = (uint8_t)(bits >> (56 - 8 * i));
    return 9 + zeros;
}

/* A message in pieces */

typedef struct {
    uint32_t state[5];
    uint64_t size;
    size_t fill;
    uint8_t buffer[16 * 64 + SHA1_TAILROOM];
} sha1_stream;

static void sha1_stream_init(sha1_stream *stream) {
    memcpy(stream->state, sha1_start, sizeof sha1_start);
    stream->size = stream->fill = 0;
}

static void sha1_stream_update(sha1_stream *stream, const uint8_t *data, size_t size, sha1_suspects *suspects,
                               int64_t owner) {
    stream->size += size;
    if (stream->fill) {
        size_t part = sizeof stream->buffer - SHA1_TAILROOM - stream->fill;
        part = part < size ? part : size;
        memcpy(stream->buffer + stream->fill, data, part);
        stream->fill += part, data += part, size -= part;
        if (stream->fill < sizeof stream->buffer - SHA1_TAILROOM)
            return;
        sha1_run(stream->state, stream->buffer, 16, suspects, owner);
        stream->fill = 0;
    }
    if (size >= 16 * 64) {
        size_t part = size / (16 * 64) * (16 * 64);
        sha1_run(stream->state, data, part / 64, suspects, owner);
        data += part, size -= part;
    }
    memcpy(stream->buffer, data, size);
    stream->fill = size;
}

static void sha1_stream_finish(sha1_stream *stream, uint8_t *digest, sha1_suspects *suspects, int64_t owner) {
    /* The stream is of no use afterwards; `suspects` may still hold blocks of it. */
    size_t size = stream->fill + sha1_pad(stream->buffer + stream->fill, stream->size);
    sha1_run(stream->state, stream->buffer, size / 64, suspects, owner);
    sha1_write_digest(digest, stream->state, 1);
}

/* Many messages */

#define LANES_QUEUE 64

typedef struct {
    const uint8_t *at;
    size_t blocks;
    size_t size;
    uint8_t *digest;
    int64_t owner;
    void *holder; /* what keeps the message in memory; comes back in `done` */
} sha1_job;

typedef struct {
    uint32_t state[5][16];
    sha1_job jobs[16];
    uint32_t active; /* a bit per lane */
    sha1_job queue[LANES_QUEUE];
    int first, queued;
    size_t held_bytes; /* of all messages that are not done */
    sha1_job done[2 * LANES_QUEUE + 16];
    int done_count; /* the caller takes them and sets it to 0 */
    sha1_suspects *suspects; /* NULL: nobody asks for attacks */
} sha1_lanes;

static void sha1_lanes_init(sha1_lanes *lanes, sha1_suspects *suspects) {
    memset(lanes, 0, sizeof *lanes);
    lanes->suspects = suspects;
}

static void sha1_lanes_fill(sha1_lanes *lanes) {
    for (int lane = 0; lane < 16 && lanes->queued; lane++) {
        if (lanes->active >> lane & 1)
            continue;
        lanes->jobs[lane] = lanes->queue[lanes->first];
        lanes->first = (lanes->first + 1) % LANES_QUEUE;
        lanes->queued--;
        lanes->active |= 1u << lane;
        for (int i = 0; i < 5; i++)
            lanes->state[i][lane] = sha1_start[i];
    }
}

static void sha1_lanes_end(sha1_lanes *lanes, int lane) {
    sha1_write_digest(lanes->jobs[lane].digest, &lanes->state[0][lane], 16);
    lanes->done[lanes->done_count++] = lanes->jobs[lane];
    lanes->held_bytes -= lanes->jobs[lane].size;
    lanes->active &= ~(1u << lane);
}

static void sha1_lanes_step(sha1_lanes *lanes) {
    /* All active lanes forth until the first of them ends. */
    static const uint8_t nothing[64];
    const uint8_t *at[16];
    uint32_t vectors[16], before[5][16];
    size_t steps = (size_t)-1;
    for (int lane = 0; lane < 16; lane++) {
        int is_active = lanes->active >> lane & 1;
        at[lane] = is_active ? lanes->jobs[lane].at : nothing;
        if (is_active && lanes->jobs[lane].blocks < steps)
            steps = lanes->jobs[lane].blocks;
    }
    for (size_t step = 0; step < steps; step++) {
        /* Sixteen messages are read side by side: more than the CPU sees through by itself. */
        for (int lane = 0; lane < 16; lane++)
            __builtin_prefetch(at[lane] + PREFETCH_BYTES);
        if (!lanes->suspects)
            sha1_hash(lanes->state, at, NULL, 0);
        else {
            memcpy(before, lanes->state, sizeof before);
            uint32_t some = sha1_hash(lanes->state, at, vectors, lanes->active);
            for (; some; some &= some - 1) {
                int lane = __builtin_ctz(some);
                sha1_add_suspect(lanes->suspects, at[lane], &before[0][lane], 16, vectors[lane],
                                 lanes->jobs[lane].owner);
            }
        }
        for (int lane = 0; lane < 16; lane++)
            at[lane] += lanes->active >> lane & 1 ? 64 : 0;
    }
    for (int lane = 0; lane < 16; lane++) {
        if (!(lanes->active >> lane & 1))
            continue;
        lanes->jobs[lane].at = at[lane];
        lanes->jobs[lane].blocks -= steps;
        if (!lanes->jobs[lane].blocks)
            sha1_lanes_end(lanes, lane);
    }
}

static void sha1_lanes_run(sha1_lanes *lanes) {
    /* While all sixteen lanes have work; the rest waits for more. */
    for (sha1_lanes_fill(lanes); lanes->active == 0xffff; sha1_lanes_fill(lanes))
        sha1_lanes_step(lanes);
}

static void sha1_lanes_finish(sha1_lanes *lanes) {
    /* Everything, with lanes idle; the last few messages one by one. */
    for (sha1_lanes_fill(lanes); __builtin_popcount(lanes->active) > 3; sha1_lanes_fill(lanes))
        sha1_lanes_step(lanes);
    for (int lane = 0; lane < 16; lane++) {
        sha1_job *job = &lanes->jobs[lane];
        uint32_t state[5];
        if (!(lanes->active >> lane & 1))
            continue;
        for (int i = 0; i < 5; i++)
            state[i] = lanes->state[i][lane];
        sha1_run(state, job->at, job->blocks, lanes->suspects, job->owner);
        for (int i = 0; i < 5; i++)
            lanes->state[i][lane] = state[i];
        sha1_lanes_end(lanes, lane);
    }
}

static void sha1_lanes_abandon(sha1_lanes *lanes) {
    /* Give back everything as it is, without its hash. */
    for (int lane = 0; lane < 16; lane++)
        if (lanes->active >> lane & 1)
            lanes->done[lanes->done_count++] = lanes->jobs[lane];
    for (; lanes->queued; lanes->queued--, lanes->first = (lanes->first + 1) % LANES_QUEUE)
        lanes->done[lanes->done_count++] = lanes->queue[lanes->first];
    lanes->active = 0;
    lanes->held_bytes = 0;
}

static void sha1_lanes_add(sha1_lanes *lanes, uint8_t *message, size_t size, uint8_t *digest, int64_t owner,
                           void *holder) {
    /* `message` has room for its padding. At most LANES_QUEUE may wait: run, and take what is done, before. */
    sha1_job *job = &lanes->queue[(lanes->first + lanes->queued++) % LANES_QUEUE];
    lanes->held_bytes += size;
    job->size = size;
    job->at = message;
    job->blocks = (size + sha1_pad(message + size, size)) / 64;
    job->digest = digest;
    job->owner = owner;
    job->holder = holder;
}

#endif
