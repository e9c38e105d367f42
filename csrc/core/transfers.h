/* Handing leadership over (dissertation 3.10). */
#ifndef RAFT_CORE_TRANSFERS_H
#define RAFT_CORE_TRANSFERS_H

#include "core/state.h"

#pragma GCC visibility push(hidden)

/* Leader: the voter to hand over to: the most caught up, then the one of highest priority, then of lowest id, of those
 * heard of within T; 0 = none. */
raft_id transfer_best(const struct raft *r, uint64_t now);
/* Leader: see raft_transfer. */
int transfer_start(struct raft *r, raft_id target, uint64_t now, raft_id *chosen);
/* Leader: tells the target when it has everything, again with each heartbeat. Called for each raft_ready. */
void transfer_go_on(struct raft *r);
/* Leader: tells a peer to campaign at once. */
void transfer_tell(struct raft *r, raft_id target);

#pragma GCC visibility pop

#endif
