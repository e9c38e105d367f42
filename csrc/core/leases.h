/* Does this node still lead? What a quorum's answers to heartbeats prove about the past (a round) and, clocks
 * permitting, about the near future (a lease); and the reads that rest on it (dissertation 6.4). */
#ifndef RAFT_CORE_LEASES_H
#define RAFT_CORE_LEASES_H

#include "core/state.h"

#pragma GCC visibility push(hidden)

/* Leader: until when no other node can have been elected; 0 = not known. */
uint64_t lease_until(const struct raft *r);
/* Leader: takes a read. ERR_BUSY, ERR_NOMEM. */
int lease_read(struct raft *r, uint64_t context, bool lease, uint64_t now);
/* Leader: decides what can be decided, and starts a round for what has none. Called for each raft_ready. */
void lease_confirm(struct raft *r, uint64_t now);

#pragma GCC visibility pop

#endif
