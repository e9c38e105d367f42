#include "core/transfers.h"

static bool list_has(const raft_id *ids, size_t n, raft_id id)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == id) return true;
    }
    return false;
}

/* A voter that will stay one. */
static bool is_candidate(const struct raft *r, raft_id id)
{
    const struct raft_conf *conf = state_conf(r);
    return id != r->config.id && list_has(conf->voters, conf->n_voters, id);
}

raft_id transfer_best(const struct raft *r, uint64_t now)
{
    const struct raft_progress *best = NULL;
    for (size_t i = 0; i < r->n_peers; i++) {
        const struct raft_progress *p = &r->peers[i];
        if (!is_candidate(r, p->id) || now >= p->contact_us + r->config.election_timeout_us) continue;
        bool better = best == NULL || p->match > best->match ||
                      (p->match == best->match && p->priority > best->priority);
        if (better) best = p;
    }
    return best == NULL ? 0 : best->id;
}

int transfer_start(struct raft *r, raft_id target, uint64_t now, raft_id *chosen)
{
    ASSERT(r->role == RAFT_LEADER);
    if (target == 0) target = r->transfer != 0 ? r->transfer : transfer_best(r, now);
    if (!is_candidate(r, target)) return ERR_NO_MEMBER;
    if (r->transfer != 0 && r->transfer != target) return ERR_TRANSFERRING;
    *chosen = target;
    if (r->transfer == target) return OK; /* it goes on already, and not for longer */
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
