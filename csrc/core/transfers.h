/* Handing leadership over (dissertation 3.10). */
#ifndef RAFT_CORE_TRANSFERS_H
#define RAFT_CORE_TRANSFERS_H

#include "core/state.h"

#pragma GCC visibility push(hidden)

/* Leader: the voter to hand over to, of those that suit, can be reached and were heard of within T: one that has all
 * that is committed, or is nearest to it; of those the one of highest priority, then the most caught up, then of lowest
 * id; 0 = none. */
raft_id transfer_best(const struct raft *r, const struct raft_wish *wish, uint64_t now);
/* Leader: see raft_transfer. */
int transfer_start(struct raft *r, raft_id target, uint64_t now);
/* Leader: tells the target when it has everything, again with each heartbeat. Called for each raft_ready. */
void transfer_go_on(struct raft *r);
/* Leader: tells a peer to campaign at once. */
void transfer_tell(struct raft *r, raft_id target);

#pragma GCC visibility pop

#endif
