/* Programs outside a simulated cluster, that use it through sessions (dissertation 6.3). A visitor asks for one thing
 * after the other; what it has no answer to, because none came or that was lost on its way, it asks again, of any
 * member, until it has one. Now and then it stays away until its session has ended, or opens another one.
 *
 * Its chance is its own: where there are no visitors, a seed makes the run that it always made. */
#ifndef RAFT_SIM_SIM_VISITOR_H
#define RAFT_SIM_SIM_VISITOR_H

#include "base/prng.h"
#include "sim/sim_machine.h"

#pragma GCC visibility push(hidden)

#define SIM_VISITORS_MAX 16

struct sim_visitors;

struct sim_visitor {
    struct sim_visitors *all;
    uint64_t session;  /* 0 = it has none */
    uint64_t sequence; /* of its present command there */
    uint64_t value;    /* of that; 0 = it is opening a session */
    uint32_t bytes;
    bool waits;        /* for the answer to that */
    uint32_t tries;
};

struct sim_visitors {
    struct sim_cluster *cluster;
    struct prng prng;
    uint64_t pause_us; /* between two acts, on average */
    uint32_t lost;     /* permille of answers that are lost on their way */
    uint32_t leaves;   /* permille of commands before which a session is given up for another one */
    uint32_t away;     /* permille of acts after which it stays away for about as long as a session lasts */
    bool stopped;      /* they wait until it is false again */
    int count;
    struct sim_visitor list[SIM_VISITORS_MAX];
};

/* Draws what this seed's visitors are like, and what limits their sessions: none when count is 0. */
struct client_limits sim_visitors_draw(struct sim_visitors *v, uint64_t seed, int count);
/* The struct must stay where it is as long as the cluster runs. */
void sim_visitors_start(struct sim_visitors *v, struct sim_cluster *c);

#pragma GCC visibility pop

#endif
