/* Snapshots: which one is here, compaction, and a received one that replaces the log (dissertation 5). */
#ifndef RAFT_CORE_SNAPSHOTS_H
#define RAFT_CORE_SNAPSHOTS_H

#include "core/state.h"

#pragma GCC visibility push(hidden)

/* Follower. Preconditions: the message is of the current term; log and outbox have room for it. */
int snapshot_on_received(struct raft *r, const struct raft_message *m, uint64_t now);
/* See raft_snapshot_taken, raft_compact, raft_snapshot_sent. */
void snapshot_taken(struct raft *r, raft_index index);
void snapshot_compact(struct raft *r, raft_index index);
void snapshot_sent(struct raft *r, struct raft_progress *p, bool ok);

#pragma GCC visibility pop

#endif
