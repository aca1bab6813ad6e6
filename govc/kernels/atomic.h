/* The few atomic operations that threads of one indexing share, by the builtins of GCC and Clang. */

#ifndef GOVC_ATOMIC_H
#define GOVC_ATOMIC_H

#include <stdint.h>

static inline uint64_t atomic_add(uint64_t *to, uint64_t number) {
    return __atomic_add_fetch(to, number, __ATOMIC_RELAXED);
}

static inline int32_t atomic_take(int32_t *to) {
    /* The number as it was, one higher afterwards. */
    return __atomic_fetch_add(to, 1, __ATOMIC_RELAXED);
}

static inline int atomic_claim(int32_t *slot, int32_t expected, int32_t wanted) {
    return __atomic_compare_exchange_n(slot, &expected, wanted, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline int32_t atomic_read(const int32_t *from) {
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}

#endif
