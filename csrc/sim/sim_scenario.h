/* One seed's story: a cluster starts, suffers faults that the seed draws, is healed, and has to recover.
 *
 * Faults are a swarm: each seed has its own choice of kinds, rates and timings, since a run that has a little of
 * everything rarely gets far into anything. After `seconds` all is healed: within 10 election timeouts a command must
 * be acknowledged, then all nodes must come to the same state with every call answered, close in good order, and come
 * back to that state from their disks. */
#ifndef RAFT_SIM_SIM_SCENARIO_H
#define RAFT_SIM_SIM_SCENARIO_H

#include "sim/sim_client.h"

#pragma GCC visibility push(hidden)

/* Kinds of faults, as bits. */
enum {
    SIM_NETWORK = 1,    /* frames lost, doubled, late; connections broken or failing */
    SIM_PARTITIONS = 2, /* one or several nodes cut off, in one direction or both */
    SIM_CRASHES = 4,    /* at any event, also while starting; and orderly restarts */
    SIM_DISKS = 8,      /* stalls, failing operations, full */
    SIM_HOSTS = 16,     /* hosts that pause */
    SIM_LIES = 32,      /* disks that do not write what they say: a check must fail */
    SIM_ALL = 31,
};

struct sim_options {
    uint64_t seed;
    int nodes, clients;
    uint64_t seconds; /* of faults */
    unsigned faults;
};

struct sim_report {
    bool ok;
    char failure[SIM_FAILURE_MAX + 80];
    uint64_t hash, events, commands, elections, crashes, simulated_us;
    uint64_t recovery_us; /* from the healing to the first acknowledgement */
};

/* ERR_NOMEM: no report. */
int sim_scenario_run(const struct sim_options *options, struct sim_report *report);

#pragma GCC visibility pop

#endif
