#include "core/leases.h"

#include "core/replication.h"

static const struct raft_progress *peer_of(const struct raft *r, raft_id id)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i].id == id) return &r->peers[i];
    }
    return NULL; /* itself */
}

static uint64_t answered_of(const void *ctx, raft_id id)
{
    const struct raft_progress *p = peer_of(ctx, id);
    return p == NULL ? NEVER_US : p->answered_us;
}

static uint64_t round_of(const void *ctx, raft_id id)
{
    const struct raft_progress *p = peer_of(ctx, id);
    return p == NULL ? UINT64_MAX : p->round;
}

/* Each member of a quorum gives nobody a vote for T after it received the heartbeat, hence after it was sent. */
uint64_t lease_until(const struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    if (!r->config.lease || r->lease_over) return 0;
    uint64_t sent_us = quorum_reached(state_conf(r), answered_of, r);
    if (sent_us == 0 || sent_us == NEVER_US) return sent_us;
    return sent_us + r->config.election_timeout_us - r->config.clock_drift_us;
}

int lease_read(struct raft *r, uint64_t context, bool lease, uint64_t now)
{
    if (r->reads.n_waiting >= RAFT_READS_MAX) return ERR_BUSY;
    /* Before the first commit of its term a leader does not know what is committed, but it has all of that: so its own
     * first entry comes after it (dissertation 6.4, step 1). */
    struct raft_read read = {.context = context, .index = MAX(r->log.commit, r->own_first)};
    /* Not a round that is on its way: its answers may tell of a time before this read. */
    uint64_t round = lease && now < lease_until(r) ? 0 : r->round + 1;
    int rv = reads_put(&r->reads, &read, round);
    if (rv != OK) return rv;
    r->read_round = MAX(r->read_round, round);
    r->dirty = true;
    return OK;
}

void lease_confirm(struct raft *r, uint64_t now)
{
    ASSERT(r->role == RAFT_LEADER);
    if (r->reads.n_waiting == 0) return;
    uint64_t answered = quorum_reached(state_conf(r), round_of, r);
    if (r->log.commit >= r->own_first) reads_confirm(&r->reads, answered);
    /* One round at a time: what arrives while it is on its way shares the next one. */
    bool due = r->reads.n_waiting > 0 && r->read_round > r->round && answered >= r->round;
    if (due) replication_heartbeat(r, now);
}
