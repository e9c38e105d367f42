/* A change of members from its proposal to its end (dissertation 4). */
#ifndef RAFT_CORE_CHANGES_H
#define RAFT_CORE_CHANGES_H

#include "core/state.h"

#pragma GCC visibility push(hidden)

/* Leader: see raft_change. Precondition: the log has room for one entry and one configuration. */
int change_propose(struct raft *r, const struct raft_change *changes, size_t n, uint64_t now);
/* Leader: something was committed. A committed joint configuration is left; a leader that is no voter by the committed
 * configuration steps down (dissertation 4.2.2). Precondition: as above, and the outbox has room for a message to each
 * peer and one more. */
void change_on_commit(struct raft *r, uint64_t now);

#pragma GCC visibility pop

#endif
