/* Clients of a simulated cluster: each proposes new values on members drawn by the seed, now and then in bursts, asks
 * for barriers and reads, has the leader hand over, and gives some calls up. No value is ever proposed twice: sending
 * again is the server's business. */
#ifndef RAFT_SIM_SIM_CLIENT_H
#define RAFT_SIM_SIM_CLIENT_H

#include "sim/sim_machine.h"

#pragma GCC visibility push(hidden)

#define SIM_CLIENTS_MAX 16

struct sim_clients {
    struct sim_cluster *cluster;
    uint64_t pause_us; /* between two acts of a client, on average */
    uint32_t large;    /* permille of commands that are large */
    uint32_t transfers; /* permille of acts that have the leader hand over */
    bool stopped; /* they wait until it is false again */
};

/* The struct must stay where it is as long as the cluster runs. */
void sim_clients_start(struct sim_clients *clients, int count);
/* Now and then many calls come to this member at once: what a leader takes before it is cut off or dies is what later
 * leaders void, and what fills a disk. For sim_chaos.aimed; ctx is the clients. */
void sim_clients_crowd(void *ctx, struct sim_member *m);

#pragma GCC visibility pop

#endif
