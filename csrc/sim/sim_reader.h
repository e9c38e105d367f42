/* Reads a node's log and newest snapshot from the bytes on its disk, without the store: what is really there, if it
 * died now. It knows the layout (store/format.h, store/snapshot.h) and nothing of how the store writes, believes and
 * recovers. */
#ifndef RAFT_SIM_SIM_READER_H
#define RAFT_SIM_SIM_READER_H

#include "core/types.h"
#include "sim/sim_world.h"

#pragma GCC visibility push(hidden)

struct sim_found {
    raft_term term;
    raft_id vote;
    raft_term *terms; /* of entry i at i - 1; 0: the snapshot covers it */
    size_t last, capacity;
    /* Where reading has come to: number and salt of the segment, offset in it, number of the batch there. */
    uint64_t part, salt, at, number;
    uint64_t oldest; /* number of the first segment, when reading began */
    raft_index base; /* the log begins after this entry */
};

/* Reads the segments in dir, on from where the last call has come to, up to the first byte that is not as it should be;
 * what was read before is not looked at again, as long as it is the same log. found: zeroed before its first use. */
void sim_reader_read(struct sim_world *w, int node, const char *dir, struct sim_found *found);
void sim_found_forget(struct sim_found *found); /* the next call reads all of it */
void sim_found_free(struct sim_found *found);

#pragma GCC visibility pop

#endif
