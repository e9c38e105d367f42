#include "core/elections.h"

#include "core/roles.h"

static enum quorum_vote vote_of(const void *ctx, raft_id id)
{
    const struct raft *r = ctx;
    for (size_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i].id == id) return r->votes[i];
    }
    return r->own_vote;
}

/* Asks all other voters. Requests of a real election wait until this node's own (term, vote) is durable: else it could
 * win on the others' votes, append, crash, forget the term and win it once more with another entry. */
static void request_votes(struct raft *r)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        if (!conf_is_voter(&r->conf, r->peers[i].id)) continue;
        struct raft_message m = state_message(r, RAFT_VOTE, r->peers[i].id);
        m.pre = r->prevoting;
        m.term = r->prevoting ? r->term + 1 : r->term;
        m.index = r->log.last;
        m.log_term = log_last_term(&r->log);
        outbox_put(&r->outbox, &m, r->prevoting ? 0 : r->vote_after);
    }
}

static void tally(struct raft *r, uint64_t now)
{
    enum quorum_result result = quorum_tally(&r->conf, vote_of, r);
    if (result == QUORUM_LOST) role_follow(r, r->term, 0, now);
    if (result != QUORUM_WON) return;
    if (!r->prevoting) {
        role_lead(r, now);
        return;
    }
    /* While an earlier term is not durable yet (a stalled disk), a further one would only pile up. */
    if (r->durable_term != r->term || r->vote_changed) return;
    role_become_candidate(r, now);
    request_votes(r);
}

void election_campaign(struct raft *r, uint64_t now)
{
    ASSERT(conf_is_voter(&r->conf, r->config.id));
    role_become_precandidate(r, now);
    request_votes(r);
    tally(r, now);
}

void election_on_vote(struct raft *r, const struct raft_message *m, uint64_t now)
{
    /* A node that lost touch must not unseat a leader that the others still hear (dissertation 4.2.3). */
    bool disturbs = m->term > r->term && role_has_live_leader(r, now);
    if (!m->pre && !disturbs && m->term > r->term) role_follow(r, m->term, 0, now);

    bool current = m->pre ? m->term > r->term : m->term == r->term;
    bool unbound = m->pre || r->vote == m->from || (r->vote == 0 && r->leader == 0);
    bool granted = !disturbs && current && unbound && log_is_up_to_date(&r->log, m->index, m->log_term);
    if (granted && !m->pre) {
        role_vote(r, m->from);
        role_wait(r, now);
    }
    struct raft_message reply = state_message(r, RAFT_VOTE_REPLY, m->from);
    reply.pre = m->pre;
    reply.reject = !granted;
    if (granted && m->pre) reply.term = m->term; /* hypothetical, as the question was */
    outbox_put(&r->outbox, &reply, granted && m->pre ? 0 : r->vote_after);
    r->dirty = true;
}

void election_on_vote_reply(struct raft *r, const struct raft_message *m, uint64_t now)
{
    if (m->reject && m->term > r->term) {
        role_follow(r, m->term, 0, now);
        return;
    }
    raft_term asked = r->prevoting ? r->term + 1 : r->term;
    bool answers = r->role == RAFT_CANDIDATE && m->pre == r->prevoting && (m->reject || m->term == asked);
    if (!answers) return;
    for (size_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i].id == m->from) r->votes[i] = m->reject ? VOTE_REFUSED : VOTE_GRANTED;
    }
    r->dirty = true;
    tally(r, now);
}

void election_on_durable(struct raft *r, uint64_t now)
{
    if (r->role != RAFT_CANDIDATE) return;
    if (!r->prevoting && r->durable_term == r->term && r->durable_vote == r->config.id) r->own_vote = VOTE_GRANTED;
    tally(r, now); /* of a pre-vote too: it may have been won already, and waited for an earlier term's durability */
}
