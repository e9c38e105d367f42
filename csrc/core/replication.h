/* Log replication: appends, their acknowledgements, commitment, heartbeats (dissertation 3.5, 3.6.2, 6.2, 10.2.1). */
#ifndef RAFT_CORE_REPLICATION_H
#define RAFT_CORE_REPLICATION_H

#include "core/state.h"

#pragma GCC visibility push(hidden)

/* Follower. Preconditions: the message is of the current term; log and outbox have room for it. */
int replication_on_append(struct raft *r, const struct raft_message *m, uint64_t now);
int replication_on_heartbeat(struct raft *r, const struct raft_message *m, uint64_t now);
/* Follower: the acknowledgement that is due, as far as the disk has come. Called for each raft_ready. */
void replication_acknowledge(struct raft *r);

/* Leader. Precondition: the message is of the current term, p its sender's progress. */
int replication_on_append_reply(struct raft *r, struct raft_progress *p, const struct raft_message *m, uint64_t now);
int replication_on_heartbeat_reply(struct raft *r, struct raft_progress *p, const struct raft_message *m, uint64_t now);
/* Leader: commits what a quorum has made durable, if it is of this term (dissertation 3.6.2, figure 3.7). true: that is
 * news. */
bool replication_commit(struct raft *r);
/* Leader: a heartbeat to every peer, a round of its own. */
void replication_heartbeat(struct raft *r, uint64_t now);
/* Leader: when a peer is to be told of a commit, though there is nothing else to send. NEVER_US = all know. */
uint64_t replication_deadline(const struct raft *r);
/* Leader: everything up to `end` that windows allow, to every peer; a snapshot where the log does not reach back.
 * Called for each raft_ready. ERR_NOMEM: some of it, the rest next time. */
int replication_send(struct raft *r, raft_index end, uint64_t now);

#pragma GCC visibility pop

#endif
