/* What leaves the core: messages, and the batches whose durability they wait for.
 *
 * A message that promises something (a vote, a term) is held until the batch that stores the promise has been
 * acknowledged: it carries the number of that batch. Held messages are at most one a peer and type (votes and pre-votes
 * apart): a newer one replaces an older one, which by then says nothing the newer does not. Append acknowledgements
 * are not held but made when the disk reports (replication.h), since under load there would always be a newer one to
 * wait for. */
#ifndef RAFT_CORE_OUTBOX_H
#define RAFT_CORE_OUTBOX_H

#include "core/types.h"

#pragma GCC visibility push(hidden)

/* A batch handed out for persisting and not acknowledged yet. */
struct raft_batch {
    raft_index last; /* the log's last index at hand-out; clamped when the log is truncated */
    raft_term term;
    raft_id vote;
};

struct raft_outbox {
    struct raft_message *messages; /* may leave with the next raft_ready */
    size_t n_messages, messages_capacity;
    struct raft_message *lent; /* left with the last one: the caller still looks at them */
    size_t lent_capacity;
    struct held {
        struct raft_message message;
        uint64_t after; /* number of the batch that must be durable */
    } held[RAFT_MEMBERS_MAX * RAFT_MESSAGE_TYPES];
    size_t n_held;
    struct raft_batch *batches; /* those with numbers done + 1 .. handed */
    size_t n_batches, batches_capacity;
    uint64_t handed, done; /* numbers: newest handed out, newest acknowledged */
};

void outbox_free(struct raft_outbox *o);
/* Room for n more messages and one more batch, so that nothing below can fail. ERR_NOMEM: nothing changed. */
int outbox_reserve(struct raft_outbox *o, size_t n);

/* Queues m for the time when batch `after` is durable (at once when it is already). Precondition: reserved. */
void outbox_put(struct raft_outbox *o, const struct raft_message *m, uint64_t after);
/* The next batch is handed out; returns its number. Precondition: reserved. */
uint64_t outbox_hand_out(struct raft_outbox *o, struct raft_batch batch);
/* Gives all messages that may leave to the caller: valid until the next outbox_lend. */
const struct raft_message *outbox_lend(struct raft_outbox *o, size_t *n);
/* Batches up to seq are durable: frees what waited for them and returns the newest of them.
 * Preconditions: done < seq <= handed; room for all held messages is reserved. */
struct raft_batch outbox_persisted(struct raft_outbox *o, uint64_t seq);
/* Drops heartbeats to this peer, which tell it what it has no more. */
void outbox_forget_heartbeats(struct raft_outbox *o, raft_id peer);
/* The log was truncated: an acknowledgement of a batch must not cover entries after last any more. */
void outbox_clamp(struct raft_outbox *o, raft_index last);

#pragma GCC visibility pop

#endif
