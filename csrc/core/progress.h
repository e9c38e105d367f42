/* What the leader knows of one peer: how far its log agrees, what is on the way to it (dissertation 3.5, 10.2.1).
 *
 * PROBE: it is not known where the logs agree; one message at a time. REPLICATE: they agree up to match; messages are
 * pipelined within a window of messages and bytes. Always match < next. */
#ifndef RAFT_CORE_PROGRESS_H
#define RAFT_CORE_PROGRESS_H

#include "core/types.h"

#pragma GCC visibility push(hidden)

#define INFLIGHT_MAX 256u /* messages on the way to one peer */

enum progress_state { PROGRESS_PROBE, PROGRESS_REPLICATE };

struct inflight {
    raft_index last; /* of the message's entries */
    uint32_t bytes;
    uint64_t sent_us;
};

struct raft_progress {
    raft_id id;
    enum progress_state state;
    raft_index match, next;
    bool probe_sent;        /* PROBE: wait for its answer, or for a heartbeat's */
    raft_index commit_sent; /* commit index it has been told */
    uint64_t contact_us;    /* its last message in this term */
    uint64_t rtt_us;
    struct inflight inflight[INFLIGHT_MAX]; /* a ring, oldest at inflight_first */
    uint32_t inflight_first, inflight_count;
    uint64_t inflight_bytes;
};

void progress_become_probe(struct raft_progress *p, raft_index next); /* forgets what is on the way */
void progress_become_replicate(struct raft_progress *p);
/* May another message be sent now? */
bool progress_is_paused(const struct raft_progress *p, uint32_t window_bytes);
/* Entries next .. last were sent. Precondition: not paused. */
void progress_sent(struct raft_progress *p, raft_index last, uint32_t bytes, uint64_t now);
/* The newest message, whose entries ended at `named`, was sent only now, and with entries only up to `last`. */
void progress_sent_late(struct raft_progress *p, raft_index named, raft_index last, uint64_t now);
/* It confirmed entries up to index. true: that is news. */
bool progress_confirm(struct raft_progress *p, raft_index index);
/* It has received entries up to `received` when it answered a heartbeat sent at sent_us: what was sent to it before
 * that and lies beyond is lost. true: something was, and next goes back to send it again. */
bool progress_find_lost(struct raft_progress *p, raft_index received, uint64_t sent_us);

#pragma GCC visibility pop

#endif
