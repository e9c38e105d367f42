#include "core/raft.h"

#include "base/mem.h"
#include "core/changes.h"
#include "core/elections.h"
#include "core/leases.h"
#include "core/peers.h"
#include "core/replication.h"
#include "core/roles.h"
#include "core/snapshots.h"
#include "core/state.h"
#include "core/transfers.h"

#define TERM_MAX (UINT64_MAX / 2)  /* larger ones come from broken peers: terms + 1 must never wrap */
#define INDEX_MAX (UINT64_MAX / 2)

/* Tells whoever watches, at the end of an input. Returns its result. */
static inline int tell(const struct raft *r, struct raft_input input, int result)
{
    if (r->config.tap == NULL) return result;
    input.result = result;
    r->config.tap->step(r->config.tap->ctx, r, &input);
    return result;
}

/* ---- life ---- */

static int check_config(const struct raft_config *c, const struct raft_initial *i, struct err *e)
{
    if (c->id == 0) return err_set(e, ERR_INVALID, "member id must not be 0");
    if (c->heartbeat_us == 0 || c->election_timeout_us <= 2 * c->heartbeat_us) {
        return err_set(e, ERR_INVALID, "the election timeout must be more than two heartbeats");
    }
    if (c->append_bytes == 0 || c->window_bytes == 0) {
        return err_set(e, ERR_INVALID, "append_bytes and window_bytes must not be 0");
    }
    if (c->election_timeout_us > UINT32_MAX || c->clock_drift_us >= c->election_timeout_us) {
        return err_set(e, ERR_INVALID, "the election timeout must be below 71 minutes, and above the clocks' drift");
    }
    if (i->applied > i->last || i->snapshot > i->last) {
        return err_set(e, ERR_INVALID, "applied index %" PRIu64 " or snapshot %" PRIu64 " is beyond the log's last, "
                       "%" PRIu64, i->applied, i->snapshot, i->last);
    }
    if (i->term > TERM_MAX || i->snapshot_term > TERM_MAX || i->last > INDEX_MAX) {
        return err_set(e, ERR_INVALID, "term or index out of range");
    }
    return OK;
}

/* Preconditions: n_runs > 0, the runs contradict neither each other nor last. */
static raft_term run_term_at(const struct raft_initial *i, raft_index index)
{
    size_t k = i->n_runs - 1;
    while (k > 0 && i->runs[k].start > index) k--;
    return i->runs[k].term;
}

static int check_runs(const struct raft_initial *i, struct err *e)
{
    if ((i->snapshot == 0) != (i->snapshot_term == 0)) {
        return err_set(e, ERR_INVALID, "a snapshot has an index and a term, or there is none");
    }
    if (i->n_runs == 0 && i->last != i->snapshot) {
        return err_set(e, ERR_INVALID, "terms do not cover the log");
    }
    raft_term most = MAX(i->term, i->snapshot_term);
    for (size_t k = 0; k < i->n_runs; k++) {
        const struct raft_run *run = &i->runs[k];
        bool starts = k == 0 ? run->start >= 1 && run->start <= i->snapshot + 1 && run->term > 0
                             : run->start > run[-1].start && run->term > run[-1].term;
        if (!starts || run->start > i->last || run->term > most) {
            return err_set(e, ERR_INVALID, "the terms of the log contradict each other at index %" PRIu64, run->start);
        }
    }
    bool covers = i->n_runs > 0 && i->runs[0].start <= i->snapshot;
    if (covers && run_term_at(i, i->snapshot) != i->snapshot_term) {
        return err_set(e, ERR_INVALID, "the log and the snapshot contradict each other at index %" PRIu64, i->snapshot);
    }
    return OK;
}

static int check_confs(const struct raft_initial *i, struct err *e)
{
    if ((!conf_is_valid(&i->conf) && !conf_is_empty(&i->conf)) || (i->conf.founding && i->snapshot > 0)) {
        return err_set(e, ERR_INVALID, "the configuration has no valid list of voters");
    }
    for (size_t k = 0; k < i->n_confs; k++) {
        const struct raft_conf_at *at = &i->confs[k];
        bool follows = at->index > (k == 0 ? i->snapshot : at[-1].index) && at->index <= i->last;
        if (!follows || !conf_is_valid(&at->conf) || at->conf.founding) {
            return err_set(e, ERR_INVALID, "the configuration at index %" PRIu64 " cannot be", at->index);
        }
    }
    return OK;
}

int raft_new(struct raft **out, const struct raft_config *config, const struct raft_initial *initial, uint64_t now,
             struct err *e)
{
    int rv = check_config(config, initial, e);
    if (rv == OK) rv = check_runs(initial, e);
    if (rv == OK) rv = check_confs(initial, e);
    if (rv != OK) return rv;
    struct raft *r = mem_zero(1, sizeof *r);
    if (r == NULL) return err_set(e, ERR_NOMEM, "no memory for the consensus core");
    if (log_init(&r->log, initial) != OK) {
        raft_free(r);
        return err_set(e, ERR_NOMEM, "no memory for the consensus core");
    }
    r->config = *config;
    r->withheld = config->withhold;
    r->prng.state = config->seed ^ config->id;
    r->term = r->durable_term = initial->term;
    r->vote = r->durable_vote = initial->vote;
    r->snapshot = initial->snapshot;
    r->snapshot_term = initial->snapshot_term;
    peers_adopt(r, now);
    /* What this node answered before it stopped may have been the promise of a lease. */
    if (config->lease && r->term > 0) r->promised_until_us = now + config->election_timeout_us;
    /* A snapshot may have been stored before the term in which it was received. */
    role_follow(r, MAX(r->term, initial->snapshot_term), 0, now);
    *out = r;
    return tell(r, (struct raft_input){RAFT_INPUT_START, .now = now, .config = config, .initial = initial}, OK);
}

void raft_free(struct raft *r)
{
    if (r == NULL) return;
    log_free(&r->log);
    outbox_free(&r->outbox);
    reads_free(&r->reads);
    mem_free(r);
}

/* Room for whatever one input may lead to: n entries, n_confs of them configurations, the empty one and the end of a
 * joint configuration; all held messages, and three to every peer. */
static int reserve_confs(struct raft *r, size_t n, size_t n_confs)
{
    if (r->corrupt) return ERR_CORRUPT;
    int rv = log_reserve(&r->log, n + 2, n_confs + 1);
    return rv != OK ? rv : outbox_reserve(&r->outbox, COUNT_OF(r->outbox.held) + 3 * r->n_peers + 3);
}

static int reserve(struct raft *r, size_t n)
{
    return reserve_confs(r, n, 0);
}

/* The leader's commit index goes as far as it can; each end of a change of members may allow more. */
static void advance(struct raft *r, uint64_t now)
{
    while (r->role == RAFT_LEADER && replication_commit(r)) change_on_commit(r, now);
}

/* ---- time ---- */

static void tick_leader(struct raft *r, uint64_t now)
{
    /* A leader that hears of no majority must not keep its clients waiting (check-quorum, dissertation 6.2). */
    if (now >= role_quorum_contact(r, now) + r->config.election_timeout_us) {
        role_follow(r, r->term, 0, now);
        return;
    }
    if (now >= r->transfer_until_us) r->transfer = 0; /* it did not come about: go on leading */
    if (now < r->heartbeat_at_us) return;             /* but a commit is to be told */
    r->transfer_told = false;
    replication_heartbeat(r, now);
    /* Here alone: rounds for reads must not put off the look above. */
    r->heartbeat_at_us = now + r->config.heartbeat_us;
}

static int tick(struct raft *r, uint64_t now)
{
    int rv = reserve(r, 0);
    if (rv != OK || now < raft_deadline(r)) return rv;
    r->dirty = true;
    if (r->role == RAFT_LEADER) tick_leader(r, now);
    else if (role_is_electable(r)) election_campaign(r, now);
    else election_ask(r, now);
    return OK;
}

int raft_tick(struct raft *r, uint64_t now)
{
    return tell(r, (struct raft_input){RAFT_INPUT_TICK, .now = now}, tick(r, now));
}

uint64_t raft_deadline(const struct raft *r)
{
    if (r->corrupt) return NEVER_US;
    return r->role == RAFT_LEADER ? MIN(r->heartbeat_at_us, replication_deadline(r)) : r->election_at_us;
}

int raft_campaign(struct raft *r, uint64_t now)
{
    int rv = reserve(r, 0);
    if (rv == OK && r->role != RAFT_LEADER && role_is_electable(r)) election_campaign(r, now);
    return tell(r, (struct raft_input){RAFT_INPUT_CAMPAIGN, .now = now}, rv);
}

void raft_step_down(struct raft *r, uint64_t now)
{
    if (r->role == RAFT_LEADER) {
        role_follow(r, r->term, 0, now);
        r->election_at_us += 2 * r->config.election_timeout_us;
    }
    tell(r, (struct raft_input){RAFT_INPUT_STEP_DOWN, .now = now}, OK);
}

/* ---- messages ---- */

static bool entries_are_sane(const struct raft_message *m)
{
    if (m->n_entries > 0 && m->entries == NULL) return false;
    raft_term term = m->log_term;
    for (uint32_t i = 0; i < m->n_entries; i++) {
        const struct raft_entry *entry = &m->entries[i];
        if (entry->term < MAX(term, 1) || entry->term > m->term) return false;
        if (entry->type == 0 || entry->type >= RAFT_ENTRY_TYPES) return false;
        bool tells = entry->conf != NULL && conf_is_valid(entry->conf) && !entry->conf->founding;
        if (entry->type == RAFT_ENTRY_CONFIG && !tells) return false;
        term = entry->term;
    }
    return true;
}

static size_t count_confs(const struct raft_message *m)
{
    size_t n = 0;
    for (uint32_t i = 0; i < m->n_entries; i++) n += m->entries[i].type == RAFT_ENTRY_CONFIG;
    return n;
}

/* The place in a log that a message names. Only the start of the log has no term, and no entry has a later term than
 * who speaks of it. */
static bool place_is_sane(const struct raft_message *m)
{
    if (m->type == RAFT_VOTE) return (m->index == 0) == (m->log_term == 0) && m->log_term < m->term;
    if (m->type == RAFT_APPEND || m->type == RAFT_VOTE_REPLY) {
        return (m->index == 0) == (m->log_term == 0) && m->log_term <= m->term;
    }
    if (m->type == RAFT_SNAPSHOT) return m->index > 0 && m->log_term > 0 && m->log_term <= m->term;
    if (m->type == RAFT_APPEND_REPLY && m->reject) {
        return m->hint <= m->index && (m->hint == 0) == (m->log_term == 0) && m->log_term <= m->term;
    }
    return true;
}

static bool is_answer(uint8_t type)
{
    return type == RAFT_APPEND_REPLY || type == RAFT_HEARTBEAT_REPLY || type == RAFT_VOTE_REPLY;
}

static bool message_is_sane(struct raft *r, const struct raft_message *m)
{
    if (m->type == 0 || m->type >= RAFT_MESSAGE_TYPES || m->term == 0 || m->term > TERM_MAX) return false;
    if (m->to != r->config.id || m->from == 0 || m->from == m->to) return false;
    if (is_answer(m->type) && state_peer(r, m->from) == NULL) return false;
    if (m->index > INDEX_MAX || m->commit > INDEX_MAX || !place_is_sane(m)) return false;
    if (m->type == RAFT_SNAPSHOT && (m->conf == NULL || !conf_is_valid(m->conf))) return false;
    return m->type == RAFT_APPEND ? entries_are_sane(m) : m->n_entries == 0;
}

static bool is_of_leader(uint8_t type)
{
    return type == RAFT_APPEND || type == RAFT_HEARTBEAT || type == RAFT_SNAPSHOT;
}

/* A leader of an earlier term must learn that there is a later one, even if this node may not disturb anybody by asking
 * for votes: otherwise it could never come back. */
static void answer_old_term(struct raft *r, const struct raft_message *m)
{
    if (!is_of_leader(m->type)) return;
    struct raft_message reply = state_message(r, RAFT_HEARTBEAT_REPLY, m->from);
    outbox_put(&r->outbox, &reply, r->vote_after);
    r->dirty = true;
}

/* A message of the current term, but for votes. */
static int dispatch(struct raft *r, const struct raft_message *m, uint64_t now)
{
    ASSERT(m->term == r->term);
    if (m->type == RAFT_APPEND) return replication_on_append(r, m, now);
    if (m->type == RAFT_HEARTBEAT) return replication_on_heartbeat(r, m, now);
    if (m->type == RAFT_SNAPSHOT) return snapshot_on_received(r, m, now);
    if (m->type == RAFT_TIMEOUT_NOW) election_on_timeout_now(r, m, now);
    if (r->role != RAFT_LEADER || !is_answer(m->type)) return OK;
    struct raft_progress *p = state_peer(r, m->from);
    int rv = m->type == RAFT_APPEND_REPLY ? replication_on_append_reply(r, p, m, now)
                                          : replication_on_heartbeat_reply(r, p, m, now);
    if (rv != OK) return rv;
    p->contact_us = now;
    advance(r, now);
    return OK;
}

static int step(struct raft *r, const struct raft_message *m, uint64_t now)
{
    if (!message_is_sane(r, m)) return ERR_INVALID;
    int rv = reserve_confs(r, m->n_entries, count_confs(m));
    if (rv != OK) return rv;
    if (m->type == RAFT_VOTE) {
        election_on_vote(r, m, now);
        return OK;
    }
    if (m->type == RAFT_VOTE_REPLY) {
        election_on_vote_reply(r, m, now);
        return OK;
    }
    if (m->term < r->term) {
        answer_old_term(r, m);
        return OK;
    }
    if (m->term > r->term) {
        role_follow(r, m->term, is_of_leader(m->type) ? m->from : 0, now);
        if (!is_of_leader(m->type)) return OK;
    }
    return dispatch(r, m, now);
}

int raft_step(struct raft *r, const struct raft_message *m, uint64_t now)
{
    return tell(r, (struct raft_input){RAFT_INPUT_STEP, .now = now, .message = m}, step(r, m, now));
}

static int propose(struct raft *r, struct raft_entry *entries, size_t n, raft_index *first, raft_term *term)
{
    ASSERT(n > 0);
    if (r->corrupt) return ERR_CORRUPT;
    if (r->role != RAFT_LEADER) return ERR_NOT_LEADER;
    if (r->transfer != 0) return ERR_TRANSFERRING; /* the target could never catch up */
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        ASSERT(entries[i].type != RAFT_ENTRY_CONFIG);
        bytes += entries[i].size;
    }
    /* One command is always let in, however large: else it could never be proposed. */
    bool fits = r->uncommitted_bytes == 0 || r->uncommitted_bytes + bytes <= r->config.uncommitted_bytes;
    if (!fits) return ERR_BUSY;
    int rv = reserve(r, n);
    if (rv != OK) return rv;
    *first = r->log.last + 1;
    *term = r->term;
    for (size_t i = 0; i < n; i++) {
        entries[i].term = r->term;
        log_append(&r->log, &entries[i]);
    }
    r->uncommitted_bytes += bytes;
    r->dirty = true;
    return OK;
}

int raft_propose(struct raft *r, struct raft_entry *entries, size_t n, raft_index *first, raft_term *term)
{
    return tell(r, (struct raft_input){RAFT_INPUT_PROPOSE, .n = n}, propose(r, entries, n, first, term));
}

void raft_unreachable(struct raft *r, raft_id peer)
{
    struct raft_progress *p = state_peer(r, peer);
    if (p == NULL) return;
    p->back = r->round + 1;
    if (r->role == RAFT_LEADER) {
        progress_become_probe(p, p->match + 1);
        p->probe_sent = true; /* until it answers a heartbeat: there is nobody to hear a probe */
        if (r->transfer == peer) r->transfer = 0;
    }
    tell(r, (struct raft_input){RAFT_INPUT_UNREACHABLE, .peer = peer}, OK);
}

void raft_range_sent(struct raft *r, raft_id peer, raft_index named, raft_index last, uint64_t now)
{
    struct raft_progress *p = state_peer(r, peer);
    if (p == NULL || r->role != RAFT_LEADER) return;
    progress_sent_late(p, named, last, now);
    r->dirty = true;
    tell(r, (struct raft_input){RAFT_INPUT_RANGE_SENT, .now = now, .index = last, .peer = peer}, OK);
}

void raft_await_commit(struct raft *r, raft_id peer, raft_index index)
{
    struct raft_progress *p = state_peer(r, peer);
    if (p == NULL || r->role != RAFT_LEADER) return;
    p->commit_awaited = MAX(p->commit_awaited, index);
    r->dirty = true;
    tell(r, (struct raft_input){RAFT_INPUT_AWAIT_COMMIT, .index = index, .peer = peer}, OK);
}

/* ---- snapshots, members, leadership, reads ---- */

void raft_snapshot_taken(struct raft *r, raft_index index)
{
    snapshot_taken(r, index);
    tell(r, (struct raft_input){RAFT_INPUT_SNAPSHOT_TAKEN, .index = index}, OK);
}

void raft_compact(struct raft *r, raft_index index)
{
    snapshot_compact(r, index);
    tell(r, (struct raft_input){RAFT_INPUT_COMPACT, .index = index}, OK);
}

void raft_snapshot_sent(struct raft *r, raft_id peer, bool ok)
{
    struct raft_progress *p = state_peer(r, peer);
    if (p == NULL || r->role != RAFT_LEADER) return;
    snapshot_sent(r, p, ok);
    tell(r, (struct raft_input){RAFT_INPUT_SNAPSHOT_SENT, .peer = peer}, OK);
}

static int change(struct raft *r, const struct raft_change *changes, size_t n, uint64_t now, raft_index *index,
                  raft_term *term)
{
    int rv = reserve(r, 0);
    if (rv != OK) return rv;
    if (r->role != RAFT_LEADER) return ERR_NOT_LEADER;
    rv = change_propose(r, changes, n, now);
    if (rv != OK) return rv;
    *index = r->log.last;
    *term = r->term;
    advance(r, now); /* a smaller quorum may have more already */
    return OK;
}

int raft_change(struct raft *r, const struct raft_change *changes, size_t n, uint64_t now, raft_index *index,
                raft_term *term)
{
    int rv = change(r, changes, n, now, index, term);
    raft_index at = rv == OK ? *index : 0;
    return tell(r, (struct raft_input){RAFT_INPUT_CHANGE, .now = now, .n = n, .changes = changes, .index = at}, rv);
}

void raft_peer_lost(struct raft *r, raft_id peer)
{
    struct raft_progress *p = state_peer(r, peer);
    if (p == NULL || r->role != RAFT_LEADER) return;
    p->match = p->commit_sent = p->applied = 0;
    p->answered_us = p->round = 0; /* so is its promise of a lease: it may not remember it */
    p->catch_up = (struct catch_up){0};
    progress_become_probe(p, r->log.last + 1);
    outbox_forget_heartbeats(&r->outbox, peer); /* a commit index beyond its log would have it stop */
    r->dirty = true;
    tell(r, (struct raft_input){RAFT_INPUT_PEER_LOST, .peer = peer}, OK);
}

void raft_withhold(struct raft *r, bool withhold, uint64_t now)
{
    r->withheld = withhold;
    if (withhold && r->role != RAFT_FOLLOWER) role_follow(r, r->term, 0, now);
    tell(r, (struct raft_input){RAFT_INPUT_WITHHOLD, .now = now, .n = withhold}, OK);
}

/* target 0: whoever suits best; one that was chosen before stays. */
static int transfer(struct raft *r, raft_id target, const struct raft_wish *wish, uint64_t now, raft_id *chosen)
{
    if (r->corrupt) return ERR_CORRUPT;
    if (r->role != RAFT_LEADER) return ERR_NOT_LEADER;
    if (target == 0) target = r->transfer != 0 ? r->transfer : transfer_best(r, wish, now);
    *chosen = target;
    return transfer_start(r, target, now);
}

int raft_transfer(struct raft *r, raft_id target, uint64_t now, raft_id *chosen)
{
    static const struct raft_wish anybody = {0};
    int rv = transfer(r, target, &anybody, now, chosen);
    return tell(r, (struct raft_input){RAFT_INPUT_TRANSFER, .now = now, .peer = rv == OK ? *chosen : 0}, rv);
}

int raft_transfer_to(struct raft *r, const struct raft_wish *wish, uint64_t now, raft_id *chosen)
{
    int rv = transfer(r, 0, wish, now, chosen);
    return tell(r, (struct raft_input){RAFT_INPUT_TRANSFER, .now = now, .peer = rv == OK ? *chosen : 0}, rv);
}

void raft_leader_lost(struct raft *r, uint64_t now)
{
    election_on_leader_lost(r, now);
    tell(r, (struct raft_input){RAFT_INPUT_LEADER_LOST, .now = now}, OK);
}

int raft_read(struct raft *r, uint64_t context, bool lease, uint64_t now)
{
    if (r->corrupt) return ERR_CORRUPT;
    int rv = r->role == RAFT_LEADER ? lease_read(r, context, lease, now) : ERR_NOT_LEADER;
    return tell(r, (struct raft_input){RAFT_INPUT_READ, .now = now, .context = context, .lease = lease}, rv);
}

/* ---- storage ---- */

static int persisted(struct raft *r, uint64_t seq, uint64_t now)
{
    ASSERT(seq > r->outbox.done && seq <= r->outbox.handed);
    int rv = reserve(r, 0);
    if (rv != OK) return rv;
    struct raft_batch batch = outbox_persisted(&r->outbox, seq);
    ASSERT(batch.last <= r->log.last);
    r->log.stable = MAX(r->log.stable, batch.last);
    r->durable_term = batch.term;
    r->durable_vote = batch.vote;
    r->dirty = true;
    election_on_durable(r, now);
    advance(r, now);
    return OK;
}

int raft_persisted(struct raft *r, uint64_t seq, uint64_t now)
{
    return tell(r, (struct raft_input){RAFT_INPUT_PERSISTED, .now = now, .seq = seq}, persisted(r, seq, now));
}

void raft_applied(struct raft *r, raft_index index)
{
    /* A restored snapshot counts before the batch that replaces the log is durable: its file is. */
    ASSERT(index >= r->log.applied && index <= MAX(r->commit_out, r->snapshot));
    r->log.applied = index;
    tell(r, (struct raft_input){RAFT_INPUT_APPLIED, .index = index}, OK);
}

/* ---- output ---- */

bool raft_has_ready(const struct raft *r)
{
    return r->dirty;
}

/* Where the next batch ends. Not simply at the last entry: a batch is acknowledged as a whole, and of a large one
 * nothing would count before all of it is durable. */
static raft_index batch_end(const struct raft *r)
{
    uint64_t bytes = 0;
    raft_index end = r->log.handed;
    while (end < r->log.last) {
        bytes += log_entry(&r->log, end + 1)->size;
        if (bytes > r->config.append_bytes && end > r->log.handed) break;
        end++;
    }
    return end;
}

static void gather_batch(struct raft *r, raft_index end, struct raft_ready *out)
{
    struct raft_log *log = &r->log;
    out->first = log->handed + 1;
    out->last = end;
    if (!r->vote_changed && !r->restore_due && log->truncated == 0 && log->handed == log->last) return;
    out->vote_changed = r->vote_changed;
    out->restore = r->restore_due ? r->snapshot : 0;
    out->restore_term = r->restore_due ? r->snapshot_term : 0;
    out->truncate_from = log->truncated;
    struct raft_batch batch = {.last = out->last, .term = r->term, .vote = r->vote};
    out->seq = outbox_hand_out(&r->outbox, batch);
    ASSERT(!r->vote_changed || r->vote_after == out->seq);
    r->vote_changed = r->restore_due = false;
    log->truncated = 0;
    log->handed = out->last;
}

static int ready(struct raft *r, uint64_t now, struct raft_ready *out)
{
    int rv = reserve(r, 0);
    if (rv == OK) rv = reads_reserve(&r->reads);
    if (rv != OK) return rv;
    log_evict(&r->log, r->config.cache_bytes);
    /* Peers get nothing that is not handed out for persisting here, in this batch or before: only then has the caller
     * given the core's own entries their blocks. */
    raft_index end = batch_end(r);
    if (r->role == RAFT_LEADER) {
        lease_confirm(r, now);
        transfer_go_on(r);
        rv = replication_send(r, end, now);
    }
    if (rv != OK) return rv;
    replication_acknowledge(r);
    *out = (struct raft_ready){.term = r->term, .vote = r->vote};
    gather_batch(r, end, out);
    out->messages = outbox_lend(&r->outbox, &out->n_messages);
    out->reads = reads_lend(&r->reads, &out->n_reads);
    out->commit = MIN(r->log.commit, r->log.stable);
    ASSERT(out->commit >= r->commit_out);
    r->commit_out = out->commit;
    r->dirty = r->log.handed < r->log.last; /* the rest of them goes into batches of its own */
    return OK;
}

int raft_ready(struct raft *r, uint64_t now, struct raft_ready *out)
{
    return tell(r, (struct raft_input){RAFT_INPUT_READY, .now = now, .ready = out}, ready(r, now, out));
}

/* ---- looking in ---- */

const struct raft_cached *raft_entry_at(const struct raft *r, raft_index index)
{
    return index == 0 || index > r->log.last ? NULL : log_entry(&r->log, index);
}

void raft_attach(struct raft *r, raft_index index, struct block *block)
{
    struct raft_cached *entry = log_entry(&r->log, index);
    ASSERT(entry != NULL && entry->block == NULL);
    ASSERT(entry->type == RAFT_ENTRY_EMPTY || entry->type == RAFT_ENTRY_CONFIG);
    entry->block = block_ref(block);
    r->log.window_bytes += block->size - entry->size;
    r->uncommitted_bytes += r->role == RAFT_LEADER && index >= r->own_first ? block->size - entry->size : 0;
    entry->size = block->size;
}

bool raft_term_at(const struct raft *r, raft_index index, raft_term *term)
{
    if (index > r->log.last || index + 1 < r->log.first) return false;
    *term = log_term(&r->log, index);
    return true;
}

const struct raft_conf *raft_conf_at(const struct raft *r, raft_index index)
{
    return log_conf_at(&r->log, index);
}

uint64_t raft_lease_until(const struct raft *r)
{
    return r->role == RAFT_LEADER ? lease_until(r) : 0;
}

void raft_status_get(const struct raft *r, struct raft_status *out)
{
    const struct raft_conf *conf = state_conf(r);
    *out = (struct raft_status){
        .id = r->config.id,
        .leader = r->leader,
        .vote = r->vote,
        .role = r->role,
        .term = r->term,
        .durable_term = r->durable_term,
        .first = r->log.first,
        .last = r->log.last,
        .snapshot = r->snapshot,
        .commit = r->log.commit,
        .stable = r->log.stable,
        .applied = r->log.applied,
        .window = r->log.window,
        .window_bytes = r->log.window_bytes,
        .uncommitted_bytes = r->uncommitted_bytes,
        .leader_contact_us = r->leader_contact_us,
        .elections = r->elections,
        .prevoting = r->prevoting,
        .ready = r->role == RAFT_LEADER && r->log.commit >= r->own_first,
        .corrupt = r->corrupt,
        .voter = conf_is_voter(conf, r->config.id),
        .learner = conf_is_learner(conf, r->config.id),
        .removed = r->removed,
        .withheld = r->withheld,
        .joint = conf_is_joint(conf),
        .changing = state_is_changing(r),
        .conf_index = log_conf(&r->log)->index,
        .transfer = r->transfer,
        .reads = r->reads.n_waiting,
    };
}

static const char *const state_names[] = {
    [PROGRESS_PROBE] = "probe", [PROGRESS_REPLICATE] = "replicate", [PROGRESS_SNAPSHOT] = "snapshot"};

bool raft_peer_status_get(const struct raft *r, raft_id peer, struct raft_peer_status *out)
{
    for (size_t i = 0; i < r->n_peers && r->role == RAFT_LEADER; i++) {
        const struct raft_progress *p = &r->peers[i];
        if (p->id != peer) continue;
        *out = (struct raft_peer_status){
            .state = state_names[p->state],
            .snapshot = p->state == PROGRESS_SNAPSHOT ? p->snapshot : 0,
            .match = p->match,
            .next = p->next,
            .applied = p->applied,
            .inflight_bytes = p->inflight_bytes,
            .contact_us = p->contact_us,
            .rtt_us = p->rtt_us,
            .caught_up = p->catch_up.done,
            .rounds = p->catch_up.rounds,
            .priority = p->priority,
        };
        return true;
    }
    return false;
}
