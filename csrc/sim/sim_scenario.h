/* One seed's story: a cluster starts, suffers faults that the seed draws (sim_chaos.h), is healed, and has to recover:
 * several times in a row.
 *
 * After each healing something must be committed within 10 election timeouts and, when all nodes have applied what was
 * there before, a command acknowledged within as much; then all nodes must come to the same state with every call
 * answered. In the end they close in good order, and come back to that state from their disks - all but those whose
 * disks were lost, of which no more is asked than that they answer their calls and close. */
#ifndef RAFT_SIM_SIM_SCENARIO_H
#define RAFT_SIM_SIM_SCENARIO_H

#include "sim/sim_chaos.h"
#include "sim/sim_client.h"
#include "sim/sim_visitor.h"

#pragma GCC visibility push(hidden)

struct sim_options {
    uint64_t seed;
    int nodes, clients, visitors;
    uint64_t seconds; /* of faults, over all rounds */
    unsigned faults; /* kinds that may be on; SIM_ALL: each seed has its choice, else all that are named are on */
    struct sim_trace *trace; /* NULL, or where to record what happens; changes nothing of the run */
};

struct sim_report {
    bool ok;
    char failure[SIM_FAILURE_MAX + 80];
    uint64_t hash, events, commands, elections, crashes, simulated_us;
    uint64_t changes; /* of members, that were made */
    uint64_t snapshots, restores; /* taken by nodes themselves; received in the place of a log */
    uint64_t repeats, ended; /* see sim_cluster */
    uint64_t timeout_us;  /* shortest election timeout of this seed */
    uint64_t recovery_us; /* from a healing to the first commit, at most */
    bool lease;     /* reads rest on leases, and clocks keep to what those ask for */
    unsigned kinds; /* of faults that this seed has drawn */
};

/* ERR_NOMEM: no report. */
int sim_scenario_run(const struct sim_options *options, struct sim_report *report);

#pragma GCC visibility pop

#endif
