/* Looks into the cores of members, at what they send and at their disks, and tells the checker. It changes nothing: its
 * chance is its own, so that what it samples does not change the run. */
#ifndef RAFT_SIM_SIM_WATCH_H
#define RAFT_SIM_SIM_WATCH_H

#include "sim/sim_cluster.h"

#pragma GCC visibility push(hidden)

struct sim_watch;

struct sim_watch *sim_watch_new(struct sim_cluster *c); /* NULL: no memory */
void sim_watch_free(struct sim_watch *w);

/* A life of m begins: has its core watched step by step. Precondition: engine_new has not been called with config. */
void sim_watch_open(struct sim_member *m, struct engine_config *config);
void sim_watch_event(struct sim_member *m); /* after every event of its engine, lanes or host */
/* Reads every disk, all of it: what was durable has to be there. Between, sim_watch_event reads what is new on them. */
void sim_watch_disks(struct sim_cluster *c);
/* For sim_world_observe; ctx is the cluster. */
void sim_watch_sent(void *ctx, int node, const struct buf *bytes);

#pragma GCC visibility pop

#endif
