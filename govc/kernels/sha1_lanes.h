/* SHA-1 of sixteen messages at once, one per lane of a vector; included once per instruction set.

   Before including:

       LANES(name)          the name for this instruction set
       LANES_TARGET         the attribute of its functions
       LANES_WIDTH, LANES_VECTOR
                            how many lanes one vector has, and its type; sixteen lanes are several narrow ones
       LANES_ROWS(b, k)     a vector of the k-th sixteen bytes of b[0], b[4], ..., as many as it holds
       LANES_LOW, LANES_HIGH, LANES_LOW2, LANES_HIGH2
                            interleave words, or pairs of words, of the low or high half of each sixteen bytes
       LANES_SWAP(x)        from big-endian words
       LANES_FORBID(p, x, bit, value, dvs)
                            take dvs out of p in the lanes where the bit of x isn't `value`
       LANES_SOME(p)        a bit for each lane of p that isn't zero

   Vectors are those of GCC and Clang, so that most of this is written once.

   Source: FIPS 180-4; the conditions: sha1_conditions.h. */

#define LANES_FOR_EACH_PART for (int part = 0; part < 16; part += LANES_WIDTH)

LANES_TARGET static inline void LANES(load)(LANES_VECTOR *w, const uint8_t *const *blocks) {
    /* Rows of sixteen words become columns, four by four. */
    UNROLL
    for (int k = 0; k < 4; k++) {
        LANES_VECTOR r0 = LANES_ROWS(blocks, k), r1 = LANES_ROWS(blocks + 1, k);
        LANES_VECTOR r2 = LANES_ROWS(blocks + 2, k), r3 = LANES_ROWS(blocks + 3, k);
        LANES_VECTOR low01 = LANES_LOW(r0, r1), low23 = LANES_LOW(r2, r3);
        LANES_VECTOR high01 = LANES_HIGH(r0, r1), high23 = LANES_HIGH(r2, r3);
        w[4 * k] = LANES_SWAP(LANES_LOW2(low01, low23));
        w[4 * k + 1] = LANES_SWAP(LANES_HIGH2(low01, low23));
        w[4 * k + 2] = LANES_SWAP(LANES_LOW2(high01, high23));
        w[4 * k + 3] = LANES_SWAP(LANES_HIGH2(high01, high23));
    }
}

LANES_TARGET __attribute__((noinline)) static uint32_t LANES(conditions)(uint32_t *vectors, const LANES_VECTOR *w, uint32_t asked) {
    /* Tell for each lane along which disturbance vectors an attack is possible; return a bit for each of those asked for
       where one is. (The zeros in idle lanes would satisfy the conditions of many vectors.) */
    LANES_VECTOR possible = (LANES_VECTOR){0} - 1;
    uint32_t some, left;
#define CONDITION(i, a, j, b, value, dvs) LANES_FORBID(possible, SHIFT(w[i], (b) - (a)) ^ w[j], b, value, dvs)
    UNAVOIDABLE_CONDITIONS
#undef CONDITION
    memcpy(vectors, &possible, sizeof possible);
    some = LANES_SOME(possible) & asked;
    for (left = some; left; left &= left - 1) {
        int lane = __builtin_ctz(left);
        vectors[lane] = sha1_look_further(vectors[lane], (const uint32_t *)w + lane, LANES_WIDTH);
        some &= ~((uint32_t)!vectors[lane] << lane);
    }
    return some;
}

LANES_TARGET static uint32_t LANES(hash)(uint32_t (*state)[16], const uint8_t *const *blocks, uint32_t *vectors,
                                         uint32_t asked) {
    /* One block of each lane; `vectors` is NULL when nobody asks for attacks. Returns as `conditions` does. */
    uint32_t some = 0;
    LANES_FOR_EACH_PART {
        LANES_VECTOR w[80], h[5];
        for (int i = 0; i < 5; i++)
            memcpy(&h[i], &state[i][part], sizeof h[i]);
        LANES_VECTOR a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        LANES(load)(w, blocks + part);
        ALL_STEPS
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
        for (int i = 0; i < 5; i++)
            memcpy(&state[i][part], &h[i], sizeof h[i]);
        if (vectors)
            some |= LANES(conditions)(vectors + part, w, asked >> part) << part;
    }
    return some;
}

LANES_TARGET static uint32_t LANES(suspect)(const uint8_t *const *blocks, uint32_t *vectors, uint32_t asked) {
    /* The conditions alone, for blocks that were hashed one after the other. */
    uint32_t some = 0;
    LANES_FOR_EACH_PART {
        LANES_VECTOR w[80];
        LANES(load)(w, blocks + part);
        UNROLL
        for (int t = 16; t < 65; t++)
            EXPAND(t)
        some |= LANES(conditions)(vectors + part, w, asked >> part) << part;
    }
    return some;
}

#define BACK(f, k, t) \
    { \
        LANES_VECTOR was_b = ROTL(c, 2); \
        LANES_VECTOR was_e = a - ROTL(b, 5) - f(was_b, d, e) - (k) - w[t]; \
        a = b, b = was_b, c = d, d = e, e = was_e; \
    }
#define FORTH(f, k, t) \
    { \
        LANES_VECTOR next = ROTL(a, 5) + f(b, c, d) + e + (k) + w[t]; \
        e = d, d = c, c = ROTL(b, 30), b = a, a = next; \
    }
#define EITHER_WAY(go, t) \
    if ((t) < 20) \
        go(CHOOSE, 0x5a827999u, t) \
    else if ((t) < 40) \
        go(PARITY, 0x6ed9eba1u, t) \
    else if ((t) < 60) \
        go(MAJORITY, 0x8f1bbcdcu, t) \
    else \
        go(PARITY, 0xca62c1d6u, t)
#define KEEP(to) (to[0] = a, to[1] = b, to[2] = c, to[3] = d, to[4] = e)
#define TAKE(from) (a = from[0], b = from[1], c = from[2], d = from[3], e = from[4])
#define BLEND(x, y) ((late & (x)) | (~late & (y)))

LANES_TARGET static uint32_t LANES(recompute)(const sha1_suspects *suspects) {
    /* Tell (a bit per suspect) which blocks are the second half of a collision: the block that differs from this one by its
       vector's difference, run back from the step before which the two states must agree, and forth again, ends in the
       same chaining value. That is LATE_STEP for the vectors of the late kind, EARLY_STEP for the others. */
    uint32_t found = 0;
    LANES_FOR_EACH_PART {
        LANES_VECTOR w[80], in[5], out[5], early_state[5], late_state[5], difference[16], late, apart;
        LANES_VECTOR a, b, c, d, e;
        const uint8_t *blocks[16];
        if (part >= suspects->count)
            break;
        for (int lane = 0; lane < LANES_WIDTH; lane++) {
            blocks[lane] = suspects->blocks[part + lane];
            late[lane] = sha1_vectors[suspects->vectors[part + lane]].late;
        }
        LANES(load)(w, blocks);
        for (int t = 16; t < 80; t++)
            EXPAND(t)
        for (int i = 0; i < 5; i++)
            memcpy(&in[i], &suspects->state[i][part], sizeof in[i]);
        TAKE(in);
        for (int t = 0; t < EARLY_STEP; t++)
            EITHER_WAY(FORTH, t)
        KEEP(early_state);
        for (int t = EARLY_STEP; t < LATE_STEP; t++)
            EITHER_WAY(FORTH, t)
        KEEP(late_state);
        for (int t = LATE_STEP; t < 80; t++)
            EITHER_WAY(FORTH, t)
        KEEP(out);
        for (int i = 0; i < 5; i++)
            out[i] += in[i];
        for (int t = 0; t < 80; t += 16) { /* w is the other message from here on */
            for (int lane = 0; lane < LANES_WIDTH; lane++)
                blocks[lane] = sha1_vectors[suspects->vectors[part + lane]].difference + 4 * t;
            LANES(load)(difference, blocks);
            for (int i = 0; i < 16; i++)
                w[t + i] ^= difference[i];
        }
        TAKE(late_state);
        for (int t = LATE_STEP - 1; t >= EARLY_STEP; t--)
            EITHER_WAY(BACK, t)
        a = BLEND(a, early_state[0]), b = BLEND(b, early_state[1]), c = BLEND(c, early_state[2]);
        d = BLEND(d, early_state[3]), e = BLEND(e, early_state[4]);
        for (int t = EARLY_STEP - 1; t >= 0; t--)
            EITHER_WAY(BACK, t)
        KEEP(in);
        TAKE(early_state);
        for (int t = EARLY_STEP; t < LATE_STEP; t++)
            EITHER_WAY(FORTH, t)
        a = BLEND(late_state[0], a), b = BLEND(late_state[1], b), c = BLEND(late_state[2], c);
        d = BLEND(late_state[3], d), e = BLEND(late_state[4], e);
        for (int t = LATE_STEP; t < 80; t++)
            EITHER_WAY(FORTH, t)
        apart = ((in[0] + a) ^ out[0]) | ((in[1] + b) ^ out[1]) | ((in[2] + c) ^ out[2]) | ((in[3] + d) ^ out[3]) |
                ((in[4] + e) ^ out[4]);
        for (int lane = 0; lane < LANES_WIDTH; lane++)
            found |= (uint32_t)(((uint32_t *)&apart)[lane] == 0) << (part + lane);
    }
    return found;
}

#undef BACK
#undef FORTH
#undef EITHER_WAY
#undef KEEP
#undef TAKE
#undef BLEND
#undef LANES
#undef LANES_TARGET
#undef LANES_WIDTH
#undef LANES_VECTOR
#undef LANES_ROWS
#undef LANES_LOW
#undef LANES_HIGH
#undef LANES_LOW2
#undef LANES_HIGH2
#undef LANES_SWAP
#undef LANES_FORBID
#undef LANES_SOME
#undef LANES_FOR_EACH_PART
