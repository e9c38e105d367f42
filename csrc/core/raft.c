#include "core/raft.h"

#include "base/mem.h"
#include "core/elections.h"
#include "core/replication.h"
#include "core/roles.h"
#include "core/state.h"

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
    if (!conf_is_valid(&i->conf)) return err_set(e, ERR_INVALID, "the configuration has no valid list of voters");
    if (!conf_is_member(&i->conf, c->id)) {
        return err_set(e, ERR_INVALID, "member %" PRIu64 " is not in the configuration", c->id);
    }
    if (i->applied > i->last) {
        return err_set(e, ERR_INVALID, "applied index %" PRIu64 " is beyond the log's last, %" PRIu64, i->applied,
                       i->last);
    }
    if (i->term > TERM_MAX || i->last > INDEX_MAX) return err_set(e, ERR_INVALID, "term or index out of range");
    return OK;
}

static int check_runs(const struct raft_initial *i, struct err *e)
{
    if ((i->n_runs == 0) != (i->last == 0)) return err_set(e, ERR_INVALID, "terms do not cover the log");
    for (size_t k = 0; k < i->n_runs; k++) {
        const struct raft_run *run = &i->runs[k];
        bool starts = k == 0 ? run->start == 1 && run->term > 0
                             : run->start > run[-1].start && run->term > run[-1].term;
        if (!starts || run->start > i->last || run->term > i->term) {
            return err_set(e, ERR_INVALID, "the terms of the log contradict each other at index %" PRIu64, run->start);
        }
    }
    return OK;
}

int raft_new(struct raft **out, const struct raft_config *config, const struct raft_initial *initial, uint64_t now,
             struct err *e)
{
    int rv = check_config(config, initial, e);
    if (rv == OK) rv = check_runs(initial, e);
    if (rv != OK) return rv;
    struct raft *r = mem_zero(1, sizeof *r);
    if (r == NULL) return err_set(e, ERR_NOMEM, "no memory for the consensus core");
    if (log_init(&r->log, initial) != OK) {
        raft_free(r);
        return err_set(e, ERR_NOMEM, "no memory for the consensus core");
    }
    r->config = *config;
    r->prng.state = config->seed ^ config->id;
    r->conf = initial->conf;
    r->term = r->durable_term = initial->term;
    r->vote = r->durable_vote = initial->vote;
    raft_id ids[3 * RAFT_MEMBERS_MAX];
    size_t n = conf_members(&r->conf, ids);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] != config->id) r->peers[r->n_peers++].id = ids[i];
    }
    role_follow(r, r->term, 0, now);
    *out = r;
    return tell(r, (struct raft_input){RAFT_INPUT_START, .now = now, .config = config, .initial = initial}, OK);
}

void raft_free(struct raft *r)
{
    if (r == NULL) return;
    log_free(&r->log);
    outbox_free(&r->outbox);
    mem_free(r);
}

/* Room for whatever one input may lead to: n entries and the empty one, a message to every peer and every held one. */
static int reserve(struct raft *r, size_t n)
{
    if (r->corrupt) return ERR_CORRUPT;
    int rv = log_reserve(&r->log, n + 1);
    return rv != OK ? rv : outbox_reserve(&r->outbox, COUNT_OF(r->outbox.held) + 2 * r->n_peers + 1);
}

/* ---- time ---- */

static int tick(struct raft *r, uint64_t now)
{
    int rv = reserve(r, 0);
    if (rv != OK || now < raft_deadline(r)) return rv;
    r->dirty = true;
    if (r->role != RAFT_LEADER) {
        if (conf_is_voter(&r->conf, r->config.id)) election_campaign(r, now);
        else role_wait(r, now);
        return OK;
    }
    /* A leader that hears of no majority must not keep its clients waiting (check-quorum, dissertation 6.2). */
    if (now >= role_quorum_contact(r, now) + r->config.election_timeout_us) role_follow(r, r->term, 0, now);
    else replication_heartbeat(r, now);
    return OK;
}

int raft_tick(struct raft *r, uint64_t now)
{
    return tell(r, (struct raft_input){RAFT_INPUT_TICK, .now = now}, tick(r, now));
}

uint64_t raft_deadline(const struct raft *r)
{
    if (r->corrupt) return NEVER_US;
    return r->role == RAFT_LEADER ? r->heartbeat_at_us : r->election_at_us;
}

int raft_campaign(struct raft *r, uint64_t now)
{
    int rv = reserve(r, 0);
    if (rv == OK && r->role != RAFT_LEADER && conf_is_voter(&r->conf, r->config.id)) election_campaign(r, now);
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
        term = entry->term;
    }
    return true;
}

/* The place in a log that a message names. Only the start of the log has no term, and no entry has a later term than
 * who speaks of it. */
static bool place_is_sane(const struct raft_message *m)
{
    if (m->type == RAFT_VOTE) return (m->index == 0) == (m->log_term == 0) && m->log_term < m->term;
    if (m->type == RAFT_APPEND) return (m->index == 0) == (m->log_term == 0) && m->log_term <= m->term;
    if (m->type == RAFT_APPEND_REPLY && m->reject) {
        return m->hint <= m->index && (m->hint == 0) == (m->log_term == 0) && m->log_term <= m->term;
    }
    return true;
}

static bool message_is_sane(struct raft *r, const struct raft_message *m)
{
    if (m->type == 0 || m->type >= RAFT_MESSAGE_TYPES || m->term == 0 || m->term > TERM_MAX) return false;
    if (m->to != r->config.id || state_peer(r, m->from) == NULL) return false;
    if (m->index > INDEX_MAX || m->commit > INDEX_MAX || !place_is_sane(m)) return false;
    return m->type == RAFT_APPEND ? entries_are_sane(m) : m->n_entries == 0;
}

/* A leader of an earlier term must learn that there is a later one, even if this node may not disturb anybody by asking
 * for votes: otherwise it could never come back. */
static void answer_old_term(struct raft *r, const struct raft_message *m)
{
    if (m->type != RAFT_APPEND && m->type != RAFT_HEARTBEAT) return;
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
    if (r->role != RAFT_LEADER) return OK;
    struct raft_progress *p = state_peer(r, m->from);
    int rv = m->type == RAFT_APPEND_REPLY ? replication_on_append_reply(r, p, m)
                                          : replication_on_heartbeat_reply(r, p, m, now);
    if (rv == OK) p->contact_us = now;
    return rv;
}

static int step(struct raft *r, const struct raft_message *m, uint64_t now)
{
    if (!message_is_sane(r, m)) return ERR_INVALID;
    int rv = reserve(r, m->n_entries);
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
        bool leads = m->type == RAFT_APPEND || m->type == RAFT_HEARTBEAT;
        role_follow(r, m->term, leads ? m->from : 0, now);
        if (!leads) return OK;
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
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += entries[i].size;
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
    if (p == NULL || r->role != RAFT_LEADER) return;
    progress_become_probe(p, p->match + 1);
    p->probe_sent = true; /* until it answers a heartbeat: there is nobody to hear a probe */
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
    if (r->role == RAFT_LEADER) replication_commit(r);
    return OK;
}

int raft_persisted(struct raft *r, uint64_t seq, uint64_t now)
{
    return tell(r, (struct raft_input){RAFT_INPUT_PERSISTED, .now = now, .seq = seq}, persisted(r, seq, now));
}

void raft_applied(struct raft *r, raft_index index)
{
    ASSERT(index >= r->log.applied && index <= r->commit_out);
    r->log.applied = index;
    tell(r, (struct raft_input){RAFT_INPUT_APPLIED, .index = index}, OK);
}

/* ---- output ---- */

bool raft_has_ready(const struct raft *r)
{
    return r->dirty;
}

/* Where the next batch ends. Not simply at the last entry: a batch is acknowledged as a whole, and of a large one nothing
 * would count before all of it is durable. */
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

static void gather_batch(struct raft *r, struct raft_ready *out)
{
    struct raft_log *log = &r->log;
    out->first = log->handed + 1;
    out->last = batch_end(r);
    if (!r->vote_changed && log->truncated == 0 && log->handed == log->last) return;
    out->vote_changed = r->vote_changed;
    out->truncate_from = log->truncated;
    struct raft_batch batch = {.last = out->last, .term = r->term, .vote = r->vote};
    out->seq = outbox_hand_out(&r->outbox, batch);
    ASSERT(!r->vote_changed || r->vote_after == out->seq);
    r->vote_changed = false;
    log->truncated = 0;
    log->handed = out->last;
}

static int ready(struct raft *r, uint64_t now, struct raft_ready *out)
{
    int rv = reserve(r, 0);
    if (rv != OK) return rv;
    log_evict(&r->log, r->config.cache_bytes);
    if (r->role == RAFT_LEADER) rv = replication_send(r, now);
    if (rv != OK) return rv;
    replication_acknowledge(r);
    *out = (struct raft_ready){.term = r->term, .vote = r->vote};
    gather_batch(r, out);
    out->messages = outbox_lend(&r->outbox, &out->n_messages);
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

const struct raft_entry *raft_entry_at(const struct raft *r, raft_index index)
{
    return index == 0 || index > r->log.last ? NULL : log_entry(&r->log, index);
}

void raft_attach(struct raft *r, raft_index index, struct block *block)
{
    struct raft_entry *entry = log_entry(&r->log, index);
    ASSERT(entry != NULL && entry->block == NULL && entry->type == RAFT_ENTRY_EMPTY);
    entry->block = block_ref(block);
    r->log.window_bytes += block->size - entry->size;
    r->uncommitted_bytes += r->role == RAFT_LEADER && index >= r->own_first ? block->size - entry->size : 0;
    entry->size = block->size;
}

bool raft_term_at(const struct raft *r, raft_index index, raft_term *term)
{
    if (index > r->log.last) return false;
    *term = log_term(&r->log, index);
    return true;
}

void raft_status_get(const struct raft *r, struct raft_status *out)
{
    *out = (struct raft_status){
        .id = r->config.id,
        .leader = r->leader,
        .vote = r->vote,
        .role = r->role,
        .term = r->term,
        .durable_term = r->durable_term,
        .last = r->log.last,
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
    };
}

bool raft_peer_status_get(const struct raft *r, raft_id peer, struct raft_peer_status *out)
{
    for (size_t i = 0; i < r->n_peers && r->role == RAFT_LEADER; i++) {
        const struct raft_progress *p = &r->peers[i];
        if (p->id != peer) continue;
        *out = (struct raft_peer_status){
            .state = p->state == PROGRESS_PROBE ? "probe" : "replicate",
            .match = p->match,
            .next = p->next,
            .inflight_bytes = p->inflight_bytes,
            .contact_us = p->contact_us,
            .rtt_us = p->rtt_us,
        };
        return true;
    }
    return false;
}
