/* A small seeded generator (SplitMix64): the same seed gives the same numbers on every machine. Not for secrets. */
#ifndef RAFT_BASE_PRNG_H
#define RAFT_BASE_PRNG_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

struct prng {
    uint64_t state;
};

static inline uint64_t prng_next(struct prng *p)
{
    uint64_t z = (p->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* A number from 0 to bound - 1. Precondition: bound > 0. */
static inline uint64_t prng_below(struct prng *p, uint64_t bound)
{
    ASSERT(bound > 0);
    return prng_next(p) % bound;
}

/* True in about `permille` of 1000 calls. */
static inline bool prng_chance(struct prng *p, uint32_t permille)
{
    return prng_below(p, 1000) < permille;
}

#pragma GCC visibility pop

#endif
