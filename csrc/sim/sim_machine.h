/* The small state machine in C: what members run when this project judges itself. A command is a number from 1, its
 * value, which is proposed once; applying it changes the state that the checker keeps of each member. */
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
/* A read without an entry of its own, which has to show what was acknowledged before it began. lease: one will do. */
int sim_member_read(struct sim_member *m, bool lease);
/* The leader shall hand over to target, or (0) to whom it finds best. */
int sim_member_transfer(struct sim_member *m, raft_id target);

#pragma GCC visibility pop

#endif
