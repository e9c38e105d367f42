#include "sim/sim_partition.h"

/* Does this shape part a and b? sides: a bit a node. */
static bool parts(enum sim_shape shape, int a, int b, int nodes, int about, uint64_t sides, struct prng *prng)
{
    bool differ = (sides >> a & 1) != (sides >> b & 1);
    int apart = a > b ? a - b : b - a;
    switch (shape) {
    case SIM_SPLIT: return differ;
    case SIM_ISOLATED: return a == about || b == about;
    case SIM_BRIDGE: return differ && a != about && b != about;
    case SIM_RING: return apart != 1 && apart != nodes - 1;
    case SIM_PATCHY: return prng_chance(prng, 300);
    default: ASSERT(!"a shape"); return false;
    }
}

void sim_partition_end(struct sim_world *w, int nodes)
{
    for (int a = 1; a <= nodes; a++) {
        for (int b = 1; b <= nodes; b++) sim_world_cut(w, a, b, false);
    }
}

void sim_partition_make(struct sim_world *w, int nodes, enum sim_shape shape, int about, bool one_way)
{
    struct prng *prng = sim_world_prng(w);
    uint64_t sides = prng_next(prng);
    sim_partition_end(w, nodes);
    for (int a = 1; a <= nodes; a++) {
        for (int b = 1; b < a; b++) {
            if (!parts(shape, a, b, nodes, about, sides, prng)) continue;
            bool forth = !one_way || (sides >> a & 1) != 0;
            if (forth) sim_world_cut(w, a, b, true);
            if (!one_way || !forth) sim_world_cut(w, b, a, true);
        }
    }
}
