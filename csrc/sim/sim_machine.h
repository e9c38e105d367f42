/* The small state machine in C: what members run when this project judges itself. A command is a number from 1, its
 * value, which is proposed once but in a session; applying it changes the state that the checker keeps of each
 * member. */
#ifndef RAFT_SIM_SIM_MACHINE_H
#define RAFT_SIM_SIM_MACHINE_H

#include "sim/sim_cluster.h"

#pragma GCC visibility push(hidden)

extern const struct sim_program sim_machine;

/* One proposal of a new value, at least 8 bytes; its end is told to the checker. ERR_CLOSED when it is not running,
 * else as host_propose: with an error it is refused for certain. Precondition of both: the cluster's program is
 * sim_machine. */
int sim_member_propose(struct sim_member *m, uint32_t bytes);
int sim_member_barrier(struct sim_member *m);
/* A visitor's command in its session (dissertation 6.3). */
struct sim_visit {
    uint64_t session, sequence; /* session 0: it wants one, */
    uint64_t value;             /* and this is 0 too; else it may have been asked for before */
    uint32_t bytes;
    /* What comes of it, unless the process ends before: OK, with the index where it was applied or the new session's
     * id, or a code. Must not ask anew. */
    void (*told)(void *ctx, uint64_t value, int code, raft_index index);
    void *ctx;
};
/* Errors as sim_member_propose; then nothing is told. Before the first try its value is told to the checker. */
int sim_member_visit(struct sim_member *m, const struct sim_visit *visit);
/* A read without an entry of its own, which has to show what was acknowledged before it began. lease: one will do. */
int sim_member_read(struct sim_member *m, bool lease);
/* The leader shall hand over to target, or (0) to whom it finds best. */
int sim_member_transfer(struct sim_member *m, raft_id target);

#pragma GCC visibility pop

#endif
