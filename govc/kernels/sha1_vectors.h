/* The disturbance vectors along which a SHA-1 collision attack is feasible; the story is in sha1.py.

   Here are the differences of message words that belong to each, and those of its conditions that are looked at only
   in blocks that satisfy all others (sha1_conditions.h). */

#ifndef GOVC_SHA1_VECTORS_H
#define GOVC_SHA1_VECTORS_H

#include <stdint.h>
#include <string.h>

#include "sha1_conditions.h"

#define VECTOR_COUNT 32
#define FURTHER_MAX 8

#define ROTL_WORD(x, n) ((x) << (n) | (x) >> (32 - (n)))

typedef struct {
    uint8_t i, a, j, b, value; /* as CONDITION has them */
} sha1_condition;

typedef struct {
    uint8_t difference[80 * 4]; /* of the expanded message words along the vector; big-endian, as messages are */
    uint32_t late;              /* all ones, or nothing */
    sha1_condition further[FURTHER_MAX];
    int further_count;
} sha1_vector;

static sha1_vector sha1_vectors[VECTOR_COUNT];

static void sha1_expand_vector(sha1_vector *vector, int type, int k, int b) {
    /* The disturbances follow SHA-1's own expansion; each is corrected by the five steps after it. */
    uint32_t around[80 + 5] = {0}, *at = around + 5;
    at[k + 15 < 80 ? k + 15 : 79] = (uint32_t)1 << b;
    if (type == 2)
        at[k + 1] = at[k + 3] = b ? ROTL_WORD((uint32_t)1 << 31, b) : (uint32_t)1 << 31;
    for (int t = k + 16; t < 80; t++)
        at[t] = ROTL_WORD(at[t - 3] ^ at[t - 8] ^ at[t - 14] ^ at[t - 16], 1);
    for (int t = k - 1; t >= -5; t--)
        at[t] = ROTL_WORD(at[t + 16], 31) ^ at[t + 13] ^ at[t + 8] ^ at[t + 2];
    for (int t = 0; t < 80; t++) {
        uint32_t word = at[t] ^ ROTL_WORD(at[t - 1], 5) ^ at[t - 2] ^ ROTL_WORD(at[t - 3] ^ at[t - 4] ^ at[t - 5], 30);
        for (int i = 0; i < 4; i++)
            vector->difference[4 * t + i] = (uint8_t)(word >> (24 - 8 * i));
    }
    vector->late = k >= 50 ? 0xffffffffu : 0;
}

static void sha1_add_further(int i, int a, int j, int b, int value, uint32_t vectors) {
    for (; vectors; vectors &= vectors - 1) {
        sha1_vector *vector = &sha1_vectors[__builtin_ctz(vectors)];
        vector->further[vector->further_count++] =
            (sha1_condition){(uint8_t)i, (uint8_t)a, (uint8_t)j, (uint8_t)b, (uint8_t)value};
    }
}

static void sha1_prepare_vectors(void) {
    int at = 0;
    memset(sha1_vectors, 0, sizeof sha1_vectors);
#define VECTOR(type, k, b) sha1_expand_vector(&sha1_vectors[at++], type, k, b);
    DISTURBANCE_VECTORS
#undef VECTOR
#define CONDITION(i, a, j, b, value, vectors) sha1_add_further(i, a, j, b, value, vectors);
    FURTHER_CONDITIONS
#undef CONDITION
}

static uint32_t sha1_look_further(uint32_t vectors, const uint32_t *w, int stride) {
    /* Return those of the vectors whose further conditions an expanded message satisfies, too.
       All of them without a branch: each is broken or not as by the toss of a coin. What isn't used of `further`, all
       zeros, is satisfied by any message. */
    uint32_t possible = vectors;
    for (; vectors; vectors &= vectors - 1) {
        const sha1_vector *vector = &sha1_vectors[__builtin_ctz(vectors)];
        uint32_t broken = 0;
        for (int k = 0; k < FURTHER_MAX; k++) {
            const sha1_condition *at = &vector->further[k];
            broken |= w[at->i * stride] >> at->a ^ w[at->j * stride] >> at->b ^ at->value;
        }
        possible ^= vectors & (0 - vectors) & (0 - (broken & 1));
    }
    return possible;
}

#undef ROTL_WORD

#endif
