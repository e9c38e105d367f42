#include "core/peers.h"

static void remove_gone(struct raft *r, const raft_id *ids, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->n_peers; i++) {
        if (!ids_have(ids, n, r->peers[i].id)) continue;
        if (kept != i) r->peers[kept] = r->peers[i];
        kept++;
    }
    r->n_peers = kept;
}

static void insert_new(struct raft *r, raft_id id, uint64_t now)
{
    size_t at = r->n_peers;
    while (at > 0 && r->peers[at - 1].id >= id) at--;
    if (at < r->n_peers && r->peers[at].id == id) return;
    ASSERT(r->n_peers < COUNT_OF(r->peers));
    memmove(&r->peers[at + 1], &r->peers[at], (r->n_peers++ - at) * sizeof r->peers[0]);
    r->peers[at] = (struct raft_progress){.id = id};
    progress_reset(&r->peers[at], r->log.last, now);
}

void peers_adopt(struct raft *r, uint64_t now)
{
    raft_id ids[3 * RAFT_MEMBERS_MAX];
    size_t n = conf_members(state_conf(r), ids);
    remove_gone(r, ids, n);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] != r->config.id) insert_new(r, ids[i], now);
    }
    /* Who is no voter any more cannot be handed over to (dissertation 3.10). */
    if (r->transfer != 0 && !conf_is_voter(state_conf(r), r->transfer)) r->transfer = 0;
}
