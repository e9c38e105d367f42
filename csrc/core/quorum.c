#include "core/quorum.h"

bool ids_have(const raft_id *ids, size_t n, raft_id id)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == id) return true;
    }
    return false;
}

bool conf_is_voter(const struct raft_conf *conf, raft_id id)
{
    return ids_have(conf->voters, conf->n_voters, id) || ids_have(conf->outgoing, conf->n_outgoing, id);
}

bool conf_is_member(const struct raft_conf *conf, raft_id id)
{
    return conf_is_voter(conf, id) || conf_is_learner(conf, id);
}

bool conf_is_learner(const struct raft_conf *conf, raft_id id)
{
    return ids_have(conf->learners, conf->n_learners, id);
}

bool conf_is_joint(const struct raft_conf *conf)
{
    return conf->n_outgoing > 0;
}

bool conf_is_empty(const struct raft_conf *conf)
{
    return conf->n_voters == 0 && conf->n_outgoing == 0 && conf->n_learners == 0;
}

/* Inserts id into the sorted, unique list of *n. */
static void list_insert(raft_id *ids, size_t *n, raft_id id)
{
    size_t at = *n;
    while (at > 0 && ids[at - 1] >= id) at--;
    if (at < *n && ids[at] == id) return;
    memmove(ids + at + 1, ids + at, (*n - at) * sizeof *ids);
    ids[at] = id;
    (*n)++;
}

size_t conf_members(const struct raft_conf *conf, raft_id *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < conf->n_voters; i++) list_insert(ids, &n, conf->voters[i]);
    for (size_t i = 0; i < conf->n_outgoing; i++) list_insert(ids, &n, conf->outgoing[i]);
    for (size_t i = 0; i < conf->n_learners; i++) list_insert(ids, &n, conf->learners[i]);
    ASSERT(n <= 3 * RAFT_MEMBERS_MAX);
    return n;
}

static bool list_is_valid(const raft_id *ids, size_t n)
{
    if (n > RAFT_MEMBERS_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == 0 || (i > 0 && ids[i] <= ids[i - 1])) return false;
    }
    return true;
}

bool conf_is_valid(const struct raft_conf *conf)
{
    if (!list_is_valid(conf->voters, conf->n_voters) || !list_is_valid(conf->outgoing, conf->n_outgoing)) return false;
    if (!list_is_valid(conf->learners, conf->n_learners) || conf->n_voters == 0) return false;
    for (size_t i = 0; i < conf->n_learners; i++) {
        if (ids_have(conf->voters, conf->n_voters, conf->learners[i])) return false;
    }
    if (conf->founding && (conf->n_outgoing > 0 || conf->n_learners > 0)) return false;
    raft_id all[3 * RAFT_MEMBERS_MAX];
    return conf_members(conf, all) <= RAFT_MEMBERS_MAX;
}

/* How many of a list of n voters decide. */
static size_t deciding(const struct raft_conf *conf, size_t n)
{
    return conf->founding ? n : n / 2 + 1;
}

/* The largest number that `least` of the list have reached: that many from the top, sorted downwards. */
static uint64_t list_reached(const raft_id *ids, size_t n, size_t least, quorum_value value, const void *ctx)
{
    uint64_t sorted[RAFT_MEMBERS_MAX];
    ASSERT(n > 0 && n <= RAFT_MEMBERS_MAX);
    for (size_t i = 0; i < n; i++) {
        uint64_t v = value(ctx, ids[i]);
        size_t at = i;
        for (; at > 0 && sorted[at - 1] < v; at--) sorted[at] = sorted[at - 1];
        sorted[at] = v;
    }
    return sorted[least - 1];
}

uint64_t quorum_reached(const struct raft_conf *conf, quorum_value value, const void *ctx)
{
    uint64_t reached = list_reached(conf->voters, conf->n_voters, deciding(conf, conf->n_voters), value, ctx);
    if (conf->n_outgoing == 0) return reached;
    size_t least = deciding(conf, conf->n_outgoing);
    uint64_t outgoing = list_reached(conf->outgoing, conf->n_outgoing, least, value, ctx);
    return MIN(reached, outgoing);
}

static enum quorum_result list_tally(const raft_id *ids, size_t n, size_t least, quorum_voter vote, const void *ctx)
{
    size_t granted = 0, refused = 0;
    for (size_t i = 0; i < n; i++) {
        enum quorum_vote v = vote(ctx, ids[i]);
        granted += v == VOTE_GRANTED;
        refused += v == VOTE_REFUSED;
    }
    if (granted >= least) return QUORUM_WON;
    return n - refused < least ? QUORUM_LOST : QUORUM_PENDING;
}

enum quorum_result quorum_tally(const struct raft_conf *conf, quorum_voter vote, const void *ctx)
{
    size_t least = deciding(conf, conf->n_voters);
    enum quorum_result incoming = list_tally(conf->voters, conf->n_voters, least, vote, ctx);
    if (conf->n_outgoing == 0 || incoming == QUORUM_LOST) return incoming;
    least = deciding(conf, conf->n_outgoing);
    enum quorum_result outgoing = list_tally(conf->outgoing, conf->n_outgoing, least, vote, ctx);
    return outgoing == QUORUM_WON ? incoming : outgoing;
}
