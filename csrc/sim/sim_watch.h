/* Looks into the core of a member, and at what it sends, and tells the checker. */
#ifndef RAFT_SIM_SIM_WATCH_H
#define RAFT_SIM_SIM_WATCH_H

#include "sim/sim_cluster.h"

#pragma GCC visibility push(hidden)

void sim_watch_core(struct sim_member *m);     /* after every event of its engine */
void sim_watch_recovery(struct sim_member *m); /* once, when its engine has started */
/* For sim_world_observe; ctx is the cluster. */
void sim_watch_sent(void *ctx, int node, const struct buf *bytes);

#pragma GCC visibility pop

#endif
