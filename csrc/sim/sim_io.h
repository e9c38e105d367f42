/* struct io of a simulated node: which part of the world each of its functions is. */
#ifndef RAFT_SIM_SIM_IO_H
#define RAFT_SIM_SIM_IO_H

#include "base/io.h"

#pragma GCC visibility push(hidden)

extern const struct io_ops sim_io_ops; /* of the io in a struct sim_node */

#pragma GCC visibility pop

#endif
