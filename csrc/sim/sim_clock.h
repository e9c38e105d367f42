/* The monotonic clock of a simulated node: runs at a rate of its own, may stand still and jump forward, never back. */
#ifndef RAFT_SIM_SIM_CLOCK_H
#define RAFT_SIM_SIM_CLOCK_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

#define SIM_CLOCK_TRUE UINT64_C(1000000) /* the rate of the world's own time */
#define SIM_CLOCK_RATE_MAX (4 * SIM_CLOCK_TRUE)

struct sim_clock {
    uint64_t read_us, since_us; /* what it showed when the world's time was since_us */
    uint64_t rate;              /* us it gains in a second */
};

static inline uint64_t sim_clock_now(const struct sim_clock *c, uint64_t world_us)
{
    return c->read_us + (world_us - c->since_us) * c->rate / SIM_CLOCK_TRUE;
}

/* From now on. rate: 0 (it stands still) .. SIM_CLOCK_RATE_MAX. */
static inline void sim_clock_set_rate(struct sim_clock *c, uint64_t world_us, uint64_t rate)
{
    ASSERT(rate <= SIM_CLOCK_RATE_MAX);
    *c = (struct sim_clock){.read_us = sim_clock_now(c, world_us), .since_us = world_us, .rate = rate};
}

static inline void sim_clock_jump(struct sim_clock *c, uint64_t us)
{
    c->read_us += us;
}

/* The world's time when it will show at_us or more; NEVER_US: it does not get there, or not in a million seconds. */
static inline uint64_t sim_clock_when(const struct sim_clock *c, uint64_t at_us)
{
    if (at_us <= c->read_us) return c->since_us;
    uint64_t ahead_us = at_us - c->read_us;
    if (c->rate == 0 || ahead_us > UINT64_C(1000000) * US_PER_S) return NEVER_US;
    return c->since_us + (ahead_us * SIM_CLOCK_TRUE + c->rate - 1) / c->rate;
}

#pragma GCC visibility pop

#endif
