/* What the leader knows of one peer: how far its log agrees, what is on the way to it (dissertation 3.5, 10.2.2),
 * whether it keeps up (4.2.1). Candidates keep a peer's vote here.
 *
 * PROBE: it is not known where the logs agree; one message at a time. REPLICATE: they agree up to match; messages are
 * pipelined within a window of messages and bytes. SNAPSHOT: what it needs next is compacted; a snapshot is on the way,
 * and nothing else. Always match < next. */
#ifndef RAFT_CORE_PROGRESS_H
#define RAFT_CORE_PROGRESS_H

#include "core/quorum.h"

#pragma GCC visibility push(hidden)

#define INFLIGHT_MAX 256u /* messages on the way to one peer */

enum progress_state { PROGRESS_PROBE, PROGRESS_REPLICATE, PROGRESS_SNAPSHOT };

struct inflight {
    raft_index last; /* of the message's entries */
    uint32_t bytes;
    uint64_t sent_us;
};

/* Catching up goes in rounds: each brings what the leader had when it began. A peer whose last round took less than an
 * election timeout will not hold the cluster up for longer than that when it becomes a voter. */
struct catch_up {
    raft_index goal;   /* of the round that is open */
    uint64_t since_us; /* when that began */
    bool open, done;   /* done: the last one was fast, and the open one, if any, is still young */
    uint32_t rounds;   /* finished */
};

struct raft_progress {
    raft_id id;
    enum quorum_vote vote; /* of the election that goes on */
    enum progress_state state;
    raft_index match, next;
    bool probe_sent;        /* PROBE: wait for its answer, or for a heartbeat's */
    raft_index commit_sent; /* commit index it has been told */
    raft_index commit_awaited; /* it waits for the commit of this: see raft_await_commit */
    uint64_t commit_due_us; /* when it is told of a commit that it does not wait for; NEVER_US = it knows all */
    raft_index snapshot;    /* SNAPSHOT: the one it is sent */
    uint64_t contact_us;    /* its last message in this term */
    uint64_t answered_us;   /* when the newest heartbeat that it has answered was sent; 0 = none in this term */
    uint64_t round;         /* newest round of heartbeats that it has answered */
    uint64_t back;          /* its link went down: it cannot be reached before it has answered this round */
    uint64_t rtt_us;
    raft_index applied;     /* as of its last answer to a heartbeat, like the next one */
    int32_t priority;
    struct catch_up catch_up;
    struct inflight inflight[INFLIGHT_MAX]; /* a ring, oldest at inflight_first */
    uint32_t inflight_first, inflight_count;
    uint64_t inflight_bytes;
};

/* A new leader, or a new member, knows nothing of the peer yet, but for whether it can be reached; last: the leader's
 * log. */
void progress_reset(struct raft_progress *p, raft_index last, uint64_t now);
void progress_become_probe(struct raft_progress *p, raft_index next); /* forgets what is on the way */
void progress_become_replicate(struct raft_progress *p);
void progress_become_snapshot(struct raft_progress *p, raft_index snapshot);
/* Its link is not down, as far as is known. */
static inline bool progress_is_reachable(const struct raft_progress *p)
{
    return p->round >= p->back;
}
/* May another message be sent now? */
bool progress_is_paused(const struct raft_progress *p, uint32_t window_bytes);
/* Entries next .. last were sent. Precondition: not paused. */
void progress_sent(struct raft_progress *p, raft_index last, uint32_t bytes, uint64_t now);
/* The newest message, whose entries ended at `named`, was sent only now, and with entries only up to `last`. */
void progress_sent_late(struct raft_progress *p, raft_index named, raft_index last, uint64_t now);
/* It confirmed entries up to index. true: that is news. */
bool progress_confirm(struct raft_progress *p, raft_index index);
/* Its catching up: a round begins when the leader has more than the peer, and ends when that has arrived; one that
 * lasts longer than timeout_us is slow, unless nothing is missing after it. Called when entries may have been added,
 * have arrived, or time has passed. */
void progress_catch_up(struct raft_progress *p, raft_index last, uint64_t timeout_us, uint64_t now);
/* It has received entries up to `received` when it answered a heartbeat sent at sent_us: what was sent to it before
 * that and lies beyond is lost. true: something was, and next goes back to send it again. */
bool progress_find_lost(struct raft_progress *p, raft_index received, uint64_t sent_us);

#pragma GCC visibility pop

#endif
