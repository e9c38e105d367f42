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

#pragma GCC visibility pop

#endif
