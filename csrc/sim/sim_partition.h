/* The shapes in which a network falls apart: which nodes of a cluster do not reach which. */
#ifndef RAFT_SIM_SIM_PARTITION_H
#define RAFT_SIM_SIM_PARTITION_H

#include "sim/sim_world.h"

#pragma GCC visibility push(hidden)

enum sim_shape {
    SIM_SPLIT,    /* two groups at random */
    SIM_ISOLATED, /* one node alone */
    SIM_BRIDGE,   /* two groups, and one node that both reach */
    SIM_RING,     /* each reaches its two neighbours only */
    SIM_PATCHY,   /* single pairs at random */
    SIM_SHAPES,
};

/* Cuts the nodes 1 .. nodes apart in this shape, and joins all others. about: the node alone, or the bridge; one_way:
 * of each pair, in one direction only. */
void sim_partition_make(struct sim_world *w, int nodes, enum sim_shape shape, int about, bool one_way);
void sim_partition_end(struct sim_world *w, int nodes);

#pragma GCC visibility pop

#endif
