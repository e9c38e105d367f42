/* The whole state of the core, shared by its files; nobody outside this room sees it. */
#ifndef RAFT_CORE_STATE_H
#define RAFT_CORE_STATE_H

#include "base/prng.h"
#include "core/log.h"
#include "core/outbox.h"
#include "core/progress.h"
#include "core/quorum.h"
#include "core/raft.h"
#include "core/reads.h"

#pragma GCC visibility push(hidden)

struct raft {
    struct raft_config config;
    struct prng prng;

    /* Persistent state (dissertation fig. 3.1), and up to where it is durable. */
    raft_term term;
    raft_id vote;
    bool vote_changed;      /* term or vote changed since the last batch */
    uint64_t vote_after;    /* number of the batch that makes (term, vote) durable */
    raft_term durable_term;
    raft_id durable_vote;
    struct raft_log log;    /* with the configurations in it */
    raft_index snapshot;    /* the newest snapshot here */
    raft_term snapshot_term;
    bool restore_due;       /* it replaces the stored log, and the caller was not told yet */

    /* Role. */
    enum raft_role role;
    raft_id leader;             /* known leader of this term; 0 = none */
    uint64_t leader_contact_us; /* when it was last heard of; 0 = never in this term */
    uint64_t election_at_us;    /* follower, candidate: when to campaign */
    bool prevoting;             /* candidate: only asking so far, in term + 1 */
    bool removed;               /* somebody knows a committed configuration without this node */
    bool withheld;              /* no votes: see raft_withhold */
    uint64_t promised_until_us; /* no votes before: a leader relies on it for its lease, of whatever term */
    bool leader_lost;           /* the caller knows that the leader's process died */
    uint64_t hint_at_us;        /* no campaign on such a hint before */
    uint64_t elections;

    /* The members but this one, by the latest configuration, sorted by id. */
    struct raft_progress peers[RAFT_MEMBERS_MAX];
    enum quorum_vote own_vote;
    size_t n_peers;

    /* Leader. */
    uint64_t heartbeat_at_us;
    uint64_t round;             /* of heartbeats: the newest that was sent */
    bool lease_over;            /* a transfer was started in this term: somebody else may lead at any time */
    raft_id transfer;           /* to whom it is handing over; 0 = nobody */
    uint64_t transfer_until_us;
    bool transfer_told;         /* the target was told since the last heartbeat */
    struct raft_reads reads;
    uint64_t read_round;        /* newest round that a read waits for */
    raft_index own_first;       /* first entry of this leadership: the empty one */
    uint64_t uncommitted_bytes;

    /* Follower. */
    raft_index verified; /* this log agrees with the leader's up to here */
    bool ack_due;        /* the leader awaits an acknowledgement */
    raft_index acked;    /* index of the last acknowledgement in this term */

    struct raft_outbox outbox;
    raft_index commit_out; /* commit index of the last raft_ready */
    bool dirty;            /* there may be something for raft_ready */
    bool corrupt;
};

static inline struct raft_progress *state_peer(struct raft *r, raft_id id)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i].id == id) return &r->peers[i];
    }
    return NULL;
}

/* The configuration that governs: the latest in the log. */
static inline const struct raft_conf *state_conf(const struct raft *r)
{
    return &log_conf(&r->log)->conf;
}

/* A change of members is open until its last configuration is committed. */
static inline bool state_is_changing(const struct raft *r)
{
    return conf_is_joint(state_conf(r)) || log_conf(&r->log)->index > r->log.commit;
}

/* A message of this term to a peer, otherwise empty. */
static inline struct raft_message state_message(const struct raft *r, enum raft_message_type type, raft_id to)
{
    return (struct raft_message){.type = (uint8_t)type, .from = r->config.id, .to = to, .term = r->term};
}

/* Marks the state as contradicting itself; returns ERR_CORRUPT. */
static inline int state_corrupt(struct raft *r)
{
    r->corrupt = r->dirty = true;
    return ERR_CORRUPT;
}

#pragma GCC visibility pop

#endif
