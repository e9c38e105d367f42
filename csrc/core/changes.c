#include "core/changes.h"

#include "core/membership.h"
#include "core/peers.h"
#include "core/replication.h"
#include "core/roles.h"
#include "core/transfers.h"

static void append_conf(struct raft *r, const struct raft_conf *conf, uint64_t now)
{
    struct raft_entry entry = {.term = r->term, .type = RAFT_ENTRY_CONFIG, .conf = conf};
    log_append(&r->log, &entry);
    peers_adopt(r, now);
    r->dirty = true;
}

static bool is_caught_up(const struct raft_progress *p, uint64_t timeout_us, uint64_t now)
{
    return p->catch_up.done && now < p->contact_us + timeout_us;
}

/* Who is to vote must keep up: else the cluster waits for it (dissertation 4.2.1). */
static int check_promoted(struct raft *r, const struct raft_change *changes, size_t n, uint64_t now)
{
    for (size_t i = 0; i < n; i++) {
        if (changes[i].op != RAFT_PROMOTE || changes[i].id == r->config.id) continue;
        const struct raft_progress *p = state_peer(r, changes[i].id);
        ASSERT(p != NULL);
        if (!is_caught_up(p, r->config.election_timeout_us, now)) return ERR_LAGGING;
    }
    return OK;
}

int change_propose(struct raft *r, const struct raft_change *changes, size_t n, uint64_t now)
{
    ASSERT(r->role == RAFT_LEADER);
    if (r->transfer != 0) return ERR_TRANSFERRING;
    if (r->log.commit < r->own_first) return ERR_NOT_READY;
    if (state_is_changing(r)) return ERR_CHANGING;
    struct raft_conf conf;
    int rv = membership_change(state_conf(r), changes, n, &conf);
    if (rv == OK) rv = check_promoted(r, changes, n, now);
    if (rv == OK) append_conf(r, &conf, now);
    return rv;
}

/* The others shall know what is committed before they are left alone, and need not wait for a timeout. */
static void leave_office(struct raft *r, uint64_t now)
{
    r->lease_over = true;
    replication_heartbeat(r, now);
    static const struct raft_wish anybody = {0};
    raft_id best = transfer_best(r, &anybody, now);
    if (best != 0) transfer_tell(r, best);
    role_follow(r, r->term, 0, now);
    r->removed = !conf_is_member(state_conf(r), r->config.id);
}

void change_on_commit(struct raft *r, uint64_t now)
{
    ASSERT(r->role == RAFT_LEADER);
    const struct raft_conf_at *latest = log_conf(&r->log);
    if (r->log.commit < latest->index || r->log.commit < r->own_first) return;
    if (conf_is_joint(&latest->conf)) {
        struct raft_conf conf = membership_leave(&latest->conf);
        append_conf(r, &conf, now);
    } else if (!conf_is_voter(&latest->conf, r->config.id)) {
        leave_office(r, now);
    }
}
