#include "core/transfers.h"

/* A voter that will stay one. */
static bool is_candidate(const struct raft *r, raft_id id)
{
    const struct raft_conf *conf = state_conf(r);
    return id != r->config.id && ids_have(conf->voters, conf->n_voters, id);
}

/* Under load, what is on its way to each differs all the time: who has all that is committed is as far as any other. */
static bool is_better(const struct raft *r, const struct raft_progress *p, const struct raft_progress *best)
{
    raft_index far = MIN(p->match, r->log.commit), best_far = MIN(best->match, r->log.commit);
    if (far != best_far) return far > best_far;
    return p->priority != best->priority ? p->priority > best->priority : p->match > best->match;
}

static bool suits(const struct raft_wish *wish, const struct raft_progress *p)
{
    return p->match >= wish->match && p->applied >= wish->applied && !ids_have(wish->except, wish->n_except, p->id);
}

raft_id transfer_best(const struct raft *r, const struct raft_wish *wish, uint64_t now)
{
    const struct raft_progress *best = NULL;
    for (size_t i = 0; i < r->n_peers; i++) {
        const struct raft_progress *p = &r->peers[i];
        if (!is_candidate(r, p->id) || !progress_is_reachable(p) || !suits(wish, p)) continue;
        if (now >= p->contact_us + r->config.election_timeout_us) continue;
        if (best == NULL || is_better(r, p, best)) best = p;
    }
    return best == NULL ? 0 : best->id;
}

int transfer_start(struct raft *r, raft_id target, uint64_t now)
{
    ASSERT(r->role == RAFT_LEADER);
    if (!is_candidate(r, target)) return ERR_NO_MEMBER;
    if (r->transfer != 0 && r->transfer != target) return ERR_TRANSFERRING;
    if (r->transfer == target) return OK; /* it goes on already, and not for longer */
    if (!progress_is_reachable(state_peer(r, target))) return ERR_LAGGING;
    r->transfer = target;
    r->transfer_until_us = now + r->config.election_timeout_us;
    r->transfer_told = false;
    /* From now on somebody else may lead. For good: the word to the target may arrive at any time in this term. */
    r->lease_over = true;
    r->dirty = true;
    return OK;
}

void transfer_tell(struct raft *r, raft_id target)
{
    struct raft_message m = state_message(r, RAFT_TIMEOUT_NOW, target);
    outbox_put(&r->outbox, &m, r->vote_after);
}

void transfer_go_on(struct raft *r)
{
    if (r->transfer == 0 || r->transfer_told) return;
    const struct raft_progress *p = state_peer(r, r->transfer);
    ASSERT(p != NULL);
    if (p->match < r->log.last) return;
    transfer_tell(r, r->transfer);
    r->transfer_told = true;
}
