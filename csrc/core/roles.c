#include "core/roles.h"

#define EMPTY_ENTRY_SIZE 0 /* counted when its block is attached */

/* Elections are spread over half an election timeout, not a whole one: that is still many times what a vote takes, so
 * that two rarely meet, and a cluster whose leader's machine is gone waits for less (dissertation 9.3). */
void role_wait(struct raft *r, uint64_t now)
{
    uint64_t timeout_us = r->config.election_timeout_us;
    int32_t priority = r->config.priority;
    uint64_t least_us = priority < 0 ? 2 * timeout_us : timeout_us;
    uint64_t spread_us = timeout_us / 2 / (1 + (uint64_t)MAX(priority, 0)) + 1;
    r->election_at_us = now + least_us + prng_below(&r->prng, spread_us);
}

static void forget_votes(struct raft *r)
{
    for (size_t i = 0; i < r->n_peers; i++) r->peers[i].vote = VOTE_MISSING;
    r->own_vote = VOTE_MISSING;
}

static void set_term(struct raft *r, raft_term term)
{
    ASSERT(term > r->term);
    r->term = term;
    r->vote = 0;
    r->vote_changed = true;
    r->vote_after = r->outbox.handed + 1;
    r->leader = 0;
    r->leader_contact_us = 0;
    r->leader_lost = r->removed = false;
    r->verified = r->acked = 0;
    r->ack_due = false;
}

void role_vote(struct raft *r, raft_id candidate)
{
    ASSERT(r->vote == 0 || r->vote == candidate);
    if (r->vote == candidate) return;
    r->vote = candidate;
    r->vote_changed = true;
    r->vote_after = r->outbox.handed + 1;
}

void role_follow(struct raft *r, raft_term term, raft_id leader, uint64_t now)
{
    ASSERT(term >= r->term);
    if (term > r->term) set_term(r, term);
    ASSERT(r->leader == 0 || leader == 0 || r->leader == leader);
    /* A term heard of in passing must not put off this node's own election: else a node with an old log could keep all
     * others from electing anybody. */
    if (r->role != RAFT_FOLLOWER && r->role != RAFT_CANDIDATE) role_wait(r, now);
    r->role = RAFT_FOLLOWER;
    r->leader = leader;
    r->prevoting = false;
    r->uncommitted_bytes = 0;
    r->transfer = 0;
    reads_fail(&r->reads);
    forget_votes(r);
    r->dirty = true;
}

void role_hear_leader(struct raft *r, raft_id leader, uint64_t now)
{
    if (r->role != RAFT_FOLLOWER || r->leader != leader) role_follow(r, r->term, leader, now);
    r->leader_contact_us = now;
    r->leader_lost = false;
    r->removed = false; /* a leader speaks to its members only */
    role_wait(r, now);
}

void role_become_precandidate(struct raft *r, uint64_t now)
{
    ASSERT(r->role != RAFT_LEADER);
    r->role = RAFT_CANDIDATE;
    r->leader = 0;
    r->prevoting = true;
    forget_votes(r);
    r->own_vote = VOTE_GRANTED;
    role_wait(r, now);
    r->dirty = true;
}

void role_become_candidate(struct raft *r, uint64_t now)
{
    ASSERT(r->role == RAFT_CANDIDATE && r->prevoting);
    set_term(r, r->term + 1);
    role_vote(r, r->config.id);
    r->prevoting = false;
    r->elections++;
    forget_votes(r); /* its own counts when it is durable (raft_persisted) */
    role_wait(r, now);
    r->dirty = true;
}

/* A majority of a list and all of it always have a member in common: from here on a majority is enough. No other change
 * can be under way: by a founding list nobody leads without having the log of all, and no log has an entry yet. */
static void found_cluster(struct raft *r)
{
    struct raft_conf conf = *state_conf(r);
    conf.founding = false;
    struct raft_entry entry = {.term = r->term, .type = RAFT_ENTRY_CONFIG, .conf = &conf};
    log_append(&r->log, &entry);
}

void role_lead(struct raft *r, uint64_t now)
{
    ASSERT(r->role == RAFT_CANDIDATE && !r->prevoting);
    ASSERT(r->durable_term == r->term && r->durable_vote == r->config.id);
    r->role = RAFT_LEADER;
    r->leader = r->config.id;
    r->leader_contact_us = now;
    r->election_at_us = NEVER_US;
    r->heartbeat_at_us = now;
    r->own_first = r->log.last + 1;
    r->uncommitted_bytes = 0;
    r->lease_over = false;
    for (size_t i = 0; i < r->n_peers; i++) progress_reset(&r->peers[i], r->log.last, now);
    struct raft_entry empty = {.term = r->term, .type = RAFT_ENTRY_EMPTY, .size = EMPTY_ENTRY_SIZE};
    if (state_conf(r)->founding) found_cluster(r);
    else log_append(&r->log, &empty);
    r->dirty = true;
}

struct contact {
    const struct raft *r;
    uint64_t now;
};

static uint64_t contact_of(const void *ctx, raft_id id)
{
    const struct contact *c = ctx;
    for (size_t i = 0; i < c->r->n_peers; i++) {
        if (c->r->peers[i].id == id) return c->r->peers[i].contact_us;
    }
    return c->now; /* itself */
}

uint64_t role_quorum_contact(const struct raft *r, uint64_t now)
{
    struct contact c = {r, now};
    return quorum_reached(state_conf(r), contact_of, &c);
}

bool role_has_live_leader(const struct raft *r, uint64_t now)
{
    uint64_t heard_us = r->role == RAFT_LEADER ? role_quorum_contact(r, now) : r->leader_contact_us;
    if (r->leader == 0 || heard_us == 0 || r->leader_lost) return false;
    return now < heard_us + r->config.election_timeout_us;
}

bool role_is_electable(const struct raft *r)
{
    const struct raft_log *log = &r->log;
    if (r->removed || r->withheld) return false;
    for (size_t i = log->n_confs; i > 0; i--) {
        if (conf_is_voter(&log->confs[i - 1].conf, r->config.id)) return true;
        if (log->confs[i - 1].index <= log->commit) return false;
    }
    return false;
}
