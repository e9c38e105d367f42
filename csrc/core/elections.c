#include "core/elections.h"

#include "core/roles.h"

static enum quorum_vote vote_of(const void *ctx, raft_id id)
{
    const struct raft *r = ctx;
    for (size_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i].id == id) return r->peers[i].vote;
    }
    return r->own_vote;
}

enum election { PRE_VOTE, REAL, FORCED };

/* Asks all other voters; whether it would be elected, learners too: they have no say, but may be the only ones left who
 * know that this node was removed. Requests of a real election wait until this node's own (term, vote) is durable: else
 * it could win on the others' votes, append, crash, forget the term and win it once more with another entry. */
static void request_votes(struct raft *r, enum election election)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        if (election != PRE_VOTE && !conf_is_voter(state_conf(r), r->peers[i].id)) continue;
        struct raft_message m = state_message(r, RAFT_VOTE, r->peers[i].id);
        m.pre = election == PRE_VOTE;
        m.force = election == FORCED;
        m.term = m.pre ? r->term + 1 : r->term;
        m.index = r->log.last;
        m.log_term = log_last_term(&r->log);
        outbox_put(&r->outbox, &m, m.pre ? 0 : r->vote_after);
    }
}

/* Is (term, vote) not durable yet? */
static bool is_term_pending(const struct raft *r)
{
    return r->durable_term != r->term || r->durable_vote != r->vote;
}

static void tally(struct raft *r, uint64_t now)
{
    enum quorum_result result = quorum_tally(state_conf(r), vote_of, r);
    if (result == QUORUM_LOST) role_follow(r, r->term, 0, now);
    if (result != QUORUM_WON) return;
    /* Nobody is asked for a vote, and nobody leads, before this node's own term and vote are durable. And while an
     * earlier term is not (a stalled disk), a further one would only pile up. */
    if (is_term_pending(r)) return;
    if (!r->prevoting) {
        role_lead(r, now);
        return;
    }
    role_become_candidate(r, now);
    request_votes(r, REAL);
}

void election_campaign(struct raft *r, uint64_t now)
{
    ASSERT(role_is_electable(r) && r->role != RAFT_LEADER);
    if (now < r->promised_until_us) { /* its own vote is promised like any other */
        r->election_at_us = r->promised_until_us;
        return;
    }
    role_become_precandidate(r, now);
    request_votes(r, PRE_VOTE);
    tally(r, now);
}

void election_ask(struct raft *r, uint64_t now)
{
    role_follow(r, r->term, 0, now); /* nobody shall be sent to a leader that is not heard of any more */
    role_wait(r, now);
    if (!r->removed) request_votes(r, PRE_VOTE);
}

void election_on_timeout_now(struct raft *r, const struct raft_message *m, uint64_t now)
{
    ASSERT(m->term == r->term);
    if (r->role != RAFT_FOLLOWER || r->leader != m->from || !role_is_electable(r)) return;
    if (is_term_pending(r)) return; /* the leader will say it again */
    role_become_precandidate(r, now);
    role_become_candidate(r, now);
    request_votes(r, FORCED);
}

/* How long to wait after the leader was lost, so that mostly one node asks around, and is elected before the next one
 * would ask: steps by rank among the other voters, each longer than a durable write and a round trip should take. */
static uint64_t hint_delay_us(struct raft *r)
{
    uint64_t step_us = r->config.heartbeat_us / 2 + 1, rank = 0;
    for (size_t i = 0; i < r->n_peers && r->peers[i].id < r->config.id; i++) {
        rank += r->peers[i].id != r->leader && conf_is_voter(state_conf(r), r->peers[i].id);
    }
    return rank * step_us + step_us / 2 + prng_below(&r->prng, step_us / 2 + 1);
}

/* There is no leader, as is known before the election timeout is over: asks around soon. Once in a timeout. */
static void campaign_soon(struct raft *r, uint64_t now)
{
    if (!role_is_electable(r) || now < r->promised_until_us || now < r->hint_at_us) return;
    r->hint_at_us = now + r->config.election_timeout_us;
    uint64_t at_us = now + hint_delay_us(r); /* drawn once: MIN would draw it twice, and might end the wait later */
    r->election_at_us = MIN(r->election_at_us, at_us);
}

void election_on_leader_lost(struct raft *r, uint64_t now)
{
    if (r->role != RAFT_FOLLOWER || r->leader == 0) return;
    r->leader_lost = true;
    campaign_soon(r, now);
}

/* The committed configuration is without this one: it should know. */
static bool was_removed(const struct raft *r, raft_id id)
{
    const struct raft_conf_at *latest = log_conf(&r->log);
    return latest->index <= r->log.commit && !conf_is_empty(&latest->conf) && !conf_is_member(&latest->conf, id);
}

/* A log that is committed up to (index, term) is without this node. Is the latest configuration here a part of it, or
 * void by it? Only such a word is news. Indexes alone do not tell: a leader that was cut off may have made its log, and
 * a change in it, as long as it liked. */
static bool is_overtaken(const struct raft_log *log, raft_index index, raft_term term)
{
    raft_index conf = log_conf(log)->index;
    if (index == 0) return false;
    if (conf <= log->commit) return index >= conf;
    raft_term conf_term = log_term(log, conf);
    return term > conf_term || (term == conf_term && index >= conf);
}

void election_on_vote(struct raft *r, const struct raft_message *m, uint64_t now)
{
    /* A node that lost touch must not unseat a leader that the others still hear (dissertation 4.2.3), and a leader may
     * rely on this node's vote. Neither holds against an election that the leader itself has asked for: it has given up
     * its lease before. */
    bool promised = now < r->promised_until_us;
    bool disturbs = !m->force && (promised || (m->term > r->term && role_has_live_leader(r, now)));
    if (!m->pre && !disturbs && m->term > r->term) role_follow(r, m->term, 0, now);

    bool current = m->pre ? m->term > r->term : m->term == r->term;
    bool unbound = m->pre || r->vote == m->from || (r->vote == 0 && r->leader == 0);
    bool behind = !log_is_up_to_date(&r->log, m->index, m->log_term);
    bool granted = !disturbs && !r->withheld && current && unbound && !behind;
    /* Who asks cannot win, and will not ask again before long; but no more than this node does it hear of a leader. */
    if (m->pre && behind && current && !disturbs && r->role == RAFT_FOLLOWER && r->leader != 0) campaign_soon(r, now);
    if (granted && !m->pre) {
        role_vote(r, m->from);
        role_wait(r, now);
    }
    struct raft_message reply = state_message(r, RAFT_VOTE_REPLY, m->from);
    reply.pre = m->pre;
    reply.reject = !granted;
    if (!granted && was_removed(r, m->from)) {
        reply.index = r->log.commit;
        reply.log_term = log_term(&r->log, r->log.commit);
    }
    if (granted && m->pre) reply.term = m->term; /* hypothetical, as the question was */
    outbox_put(&r->outbox, &reply, granted && m->pre ? 0 : r->vote_after);
    r->dirty = true;
}

void election_on_vote_reply(struct raft *r, const struct raft_message *m, uint64_t now)
{
    if (m->reject && m->term > r->term) role_follow(r, m->term, 0, now);
    if (m->reject && is_overtaken(&r->log, m->index, m->log_term) && !role_has_live_leader(r, now)) {
        role_follow(r, r->term, r->leader, now);
        r->removed = true;
        return;
    }
    raft_term asked = r->prevoting ? r->term + 1 : r->term;
    bool answers = r->role == RAFT_CANDIDATE && m->pre == r->prevoting && (m->reject || m->term == asked);
    if (!answers) return;
    struct raft_progress *p = state_peer(r, m->from);
    p->vote = m->reject ? VOTE_REFUSED : VOTE_GRANTED;
    r->dirty = true;
    tally(r, now);
}

void election_on_durable(struct raft *r, uint64_t now)
{
    if (r->role != RAFT_CANDIDATE) return;
    if (!r->prevoting && r->durable_term == r->term && r->durable_vote == r->config.id) r->own_vote = VOTE_GRANTED;
    tally(r, now); /* of a pre-vote too: it may have been won already, and waited for an earlier term's durability */
}
