/* Children of a simulated process. There is one process: the body runs at once, and joining writes what it has put,
 * with all that may befall a disk or a process meanwhile. The contracts are in base/io.h. */
#ifndef RAFT_SIM_SIM_CHILDREN_H
#define RAFT_SIM_SIM_CHILDREN_H

#include "base/io.h"

#pragma GCC visibility push(hidden)

int sim_child_fork(struct io *io, const char *path, bool apart, io_body *body, void *ctx, struct io_child **child,
                   struct err *e);
int sim_child_join(struct io *io, struct io_child *child, struct err *e);
void sim_child_kill(struct io *io, struct io_child *child);
void sim_child_free(struct io *io, struct io_child *child);

#pragma GCC visibility pop

#endif
