#include "sim/sim_watch.h"

#include "base/mem.h"
#include "server/engine_state.h"
#include "server/host_state.h"
#include "sim/sim_node.h"
#include "sim/sim_queue.h"
#include "sim/sim_reader.h"
#include "sim/sim_relation.h"
#include "sim/sim_sessions.h"
#include "sim/sim_trace.h"
#include "wire/message.h"

#include <stdio.h>

#define DISKS_APART_US (4 * US_PER_S) /* at most, between two looks at all disks */
#define SENT_CHECKED 60u              /* permille of what is sent that is read back from its bytes */

/* One member. */
struct watched {
    struct sim_watch *watch;
    struct sim_member *member;
    struct raft_tap tap;
    char dir[64];
    uint32_t cache_bytes;
    raft_index hashed; /* entries up to here have told what their bytes hash to */
    uint64_t incarnation, peers; /* of its directory; members, as bits, whose directories are remembered there */
    raft_index judged; /* its table of visitors' sessions was judged with so much applied */
    struct sim_found found; /* on its disk */
    raft_term *added;  /* terms of the entries that the present step has added */
    size_t added_capacity;
};

struct sim_watch {
    struct sim_cluster *cluster;
    struct sim_relation *relation;
    struct sim_sessions *sessions; /* NULL where there are no visitors */
    struct prng prng;
    uint64_t disks_at_us; /* the next look at the disks */
    struct watched members[SIM_NODES_MAX]; /* member id at id - 1 */
};

struct sim_watch *sim_watch_new(struct sim_cluster *c)
{
    struct sim_watch *w = mem_zero(1, sizeof *w);
    if (w == NULL) return NULL;
    bool visited = c->config.clients.sessions > 0;
    w->relation = sim_relation_new(c->check, c->config.nodes);
    if (visited) w->sessions = sim_sessions_new(c->check, c->config.clients);
    if (w->relation == NULL || (visited && w->sessions == NULL)) {
        sim_watch_free(w);
        return NULL;
    }
    w->cluster = c;
    w->prng.state = ~c->config.seed;
    w->disks_at_us = prng_below(&w->prng, DISKS_APART_US);
    return w;
}

void sim_watch_free(struct sim_watch *w)
{
    if (w == NULL) return;
    for (int i = 0; i < SIM_NODES_MAX; i++) {
        mem_free(w->members[i].added);
        sim_found_free(&w->members[i].found);
    }
    sim_relation_free(w->relation);
    sim_sessions_free(w->sessions);
    mem_free(w);
}

/* ---- steps of a core ---- */

static raft_term core_term_at(const struct raft *r, raft_index index)
{
    raft_term term = 0;
    return raft_term_at(r, index, &term) ? term : 0;
}

/* How many entries are those that the checker knows: from the end down to where terms agree. Below that they agree as
 * long as logs match at all; but what a message speaks of is compared one by one. */
static raft_index kept_entries(const struct watched *n, const struct raft *r, const struct raft_input *input,
                               const struct raft_status *status)
{
    const struct sim_check *check = n->watch->cluster->check;
    const struct raft_message *m = input->message;
    int id = n->member->id;
    raft_index first = status->first, kept = MIN(sim_check_last(check, id), status->last);
    while (kept > 0 && kept + 1 >= first && core_term_at(r, kept) != sim_check_term_at(check, id, kept)) kept--;
    if (m == NULL || m->type != RAFT_APPEND) return kept;
    for (raft_index i = MAX(m->index + 1, first); i <= MIN(kept, m->index + m->n_entries); i++) {
        if (core_term_at(r, i) != sim_check_term_at(check, id, i)) return i - 1;
    }
    return kept;
}

/* Up to where a snapshot has taken the place of the log in this step; 0 = none has. */
static raft_index restored(const struct watched *n, const struct raft_input *input, const struct raft_status *status)
{
    const struct sim_check *check = n->watch->cluster->check;
    const struct raft_message *m = input->message;
    if (m == NULL || m->type != RAFT_SNAPSHOT || input->result != OK) return 0;
    if (status->last != m->index || status->first != m->index + 1) return 0;
    return sim_check_term_at(check, n->member->id, m->index) == m->log_term ? 0 : m->index;
}

static void look_at_log(struct watched *n, const struct raft *r, const struct raft_input *input,
                        const struct raft_status *status, struct sim_core *core)
{
    core->restored = restored(n, input, status);
    core->kept = core->restored != 0 ? core->restored : kept_entries(n, r, input, status);
    core->n_added = (size_t)(core->last - core->kept);
    void *added = n->added;
    sim_grow(&added, &n->added_capacity, core->n_added, sizeof *n->added);
    core->added = n->added = added;
    for (size_t i = 0; i < core->n_added; i++) n->added[i] = core_term_at(r, core->kept + 1 + i);
}

/* Of these members, those that are not there yet. */
static void look_at_peers(const struct raft *r, const raft_id *ids, size_t n, struct sim_core *core)
{
    struct raft_peer_status peer;
    for (size_t i = 0; i < n && core->role == RAFT_LEADER; i++) {
        size_t at = 0;
        while (at < core->n_peers && core->peers[at].id != ids[i]) at++;
        if (at < core->n_peers || !raft_peer_status_get(r, ids[i], &peer)) continue;
        core->peers[core->n_peers++] = (struct sim_peer){ids[i], peer.match, peer.next};
    }
}

/* Fills in what a core shows; what core->n_peers does not count is left as it is. */
static void look_at_core(struct watched *n, const struct raft *r, const struct raft_input *input,
                         const struct raft_status *status, struct sim_core *core)
{
    core->role = status->role;
    core->term = status->term;
    core->durable_term = status->durable_term;
    core->vote = status->vote;
    core->leader = status->leader;
    core->last = status->last;
    core->stable = status->stable;
    core->commit = status->commit;
    core->applied = status->applied;
    core->asking = status->prevoting;
    core->corrupt = status->corrupt;
    core->removed = status->removed;
    core->transfer = status->transfer;
    core->conf_index = status->conf_index;
    core->conf = raft_conf_at(r, UINT64_MAX);
    core->deadline_us = raft_deadline(r);
    core->n_peers = 0;
    look_at_peers(r, core->conf->voters, core->conf->n_voters, core);
    look_at_peers(r, core->conf->outgoing, core->conf->n_outgoing, core);
    look_at_peers(r, core->conf->learners, core->conf->n_learners, core);
    look_at_log(n, r, input, status, core);
}

static void tell_start(struct watched *n, const struct raft_input *input)
{
    const struct raft_initial *initial = input->initial;
    sim_check_identity(n->watch->cluster->check, n->member->id, input->config->id);
    void *terms = n->added;
    sim_grow(&terms, &n->added_capacity, initial->last, sizeof *n->added);
    n->added = terms;
    raft_index first = initial->n_runs > 0 ? initial->runs[0].start : initial->last + 1;
    for (raft_index i = 1; i < first; i++) n->added[i - 1] = 0;
    for (size_t run = 0; run < initial->n_runs; run++) {
        raft_index end = run + 1 < initial->n_runs ? initial->runs[run + 1].start - 1 : initial->last;
        for (raft_index i = initial->runs[run].start; i <= end; i++) n->added[i - 1] = initial->runs[run].term;
    }
    n->cache_bytes = input->config->cache_bytes;
    n->hashed = initial->last;
    sim_check_recover(n->watch->cluster->check, n->member->id, initial->term, initial->vote, n->added, initial->last);
}

static void tell_core(struct watched *n, const struct raft *r, const struct sim_core *core)
{
    struct sim_cluster *c = n->watch->cluster;
    int id = n->member->id;
    if (core->corrupt) sim_check_fail(c->check, id, "its core met a contradiction (ERR_CORRUPT)");
    sim_check_term(c->check, id, core->term, core->vote, core->durable_term);
    if (core->restored != 0) {
        sim_check_restore(c->check, id, core->restored, core_term_at(r, core->restored));
        n->hashed = core->restored;
        c->restores++;
    } else if (core->kept < sim_check_last(c->check, id)) {
        sim_check_truncate(c->check, id, core->kept);
        n->hashed = MIN(n->hashed, core->kept);
    }
    for (size_t i = 0; i < core->n_added; i++) sim_check_append(c->check, id, core->added[i], 0);
    sim_check_stable(c->check, id, core->stable);
    if (core->role == RAFT_LEADER) {
        sim_check_leader(c->check, id, core->term);
        if (core->term > c->newest_term) c->leaders++;
        c->newest_term = MAX(c->newest_term, core->term);
    }
    sim_check_conf(c->check, id, core->conf_index, core->conf);
    sim_check_commit(c->check, id, core->commit);
}

/* What a member says to others is a promise, kept over its lives. */
static void tell_message(struct watched *n, const struct raft_message *m, const struct raft_status *status)
{
    struct sim_check *check = n->watch->cluster->check;
    int id = n->member->id;
    bool hypothetical = m->pre && (m->type == RAFT_VOTE || !m->reject);
    if (!hypothetical) sim_check_says(check, id, m->term, status->durable_term);
    if (m->reject || m->pre) return;
    if (m->type == RAFT_APPEND_REPLY) sim_check_says_stored(check, id, m->index, status->stable);
    if (m->type == RAFT_VOTE_REPLY) sim_check_says_vote(check, id, m->term, m->to);
    if (m->type == RAFT_VOTE) sim_check_says_vote(check, id, m->term, status->id);
}

static void tell_output(struct watched *n, const struct raft_ready *out, const struct raft_status *status)
{
    for (size_t i = 0; i < out->n_messages; i++) tell_message(n, &out->messages[i], status);
    if (status->window_bytes <= n->cache_bytes || status->window > MIN(status->stable, status->commit)) return;
    sim_check_fail(n->watch->cluster->check, n->member->id, "memory: it keeps %" PRIu64 " bytes of entries from index %"
                   PRIu64 " on, and may keep %" PRIu32, status->window_bytes, status->window, n->cache_bytes);
}

static void on_step(void *ctx, const struct raft *r, const struct raft_input *input)
{
    struct watched *n = ctx;
    struct raft_status status;
    struct sim_core core;
    if (input->type == RAFT_INPUT_START) tell_start(n, input);
    raft_status_get(r, &status);
    look_at_core(n, r, input, &status, &core);
    sim_relation_step(n->watch->relation, n->member->id, input, &core);
    tell_core(n, r, &core);
    if (input->type == RAFT_INPUT_READY && input->result == OK) tell_output(n, input->ready, &status);
}

void sim_watch_open(struct sim_member *m, struct engine_config *config)
{
    struct sim_watch *w = m->cluster->watch;
    struct watched *n = &w->members[m->id - 1];
    n->watch = w;
    n->member = m;
    n->judged = 0;
    n->tap = (struct raft_tap){.ctx = n, .step = on_step};
    snprintf(n->dir, sizeof n->dir, "%s", config->dir);
    config->tap = &n->tap;
}

/* ---- disks ---- */

static void look_at_disks(struct sim_cluster *c)
{
    struct sim_watch *w = c->watch;
    w->disks_at_us = sim_world_now(c->world) + 1 + prng_below(&w->prng, DISKS_APART_US);
    for (int id = 1; id <= c->config.nodes; id++) {
        struct watched *n = &w->members[id - 1];
        if (n->dir[0] == '\0') continue; /* never started */
        sim_reader_read(c->world, id, n->dir, &n->found);
        sim_check_disk(c->check, id, n->found.term, n->found.vote, n->found.terms, n->found.last);
    }
    sim_check_disks(c->check);
}

void sim_watch_disks(struct sim_cluster *c)
{
    for (int id = 1; id <= c->config.nodes; id++) sim_found_forget(&c->watch->members[id - 1].found);
    look_at_disks(c);
}

/* ---- after every event ---- */

/* A leader stamps its entries a little after they have entered its log. */
static void tell_hashes(struct watched *n, const struct raft *r)
{
    struct sim_check *check = n->watch->cluster->check;
    int id = n->member->id;
    for (; n->hashed < sim_check_last(check, id); n->hashed++) {
        const struct raft_cached *entry = raft_entry_at(r, n->hashed + 1);
        if (entry == NULL) continue; /* it has left memory already */
        if (entry->block == NULL) return;
        uint64_t hash = get_u64(entry->block->bytes); /* of the header, which holds the payload's */
        if (hash == 0) return;
        sim_check_hash(check, id, n->hashed + 1, hash);
        struct entry e = entry_view(entry->block);
        if (n->watch->sessions != NULL) sim_sessions_entry(n->watch->sessions, &e);
    }
}

/* Every queue has a bound. */
static void check_bounds(const struct sim_member *m)
{
    const struct engine *e = m->engine;
    struct sim_check *check = m->cluster->check;
    uint64_t open = e->pending.next - e->pending.lowest;
    if (e->feed.n_lent > CHANNEL_BATCHES) {
        sim_check_fail(check, m->id, "memory: %" PRIu32 " batches are with the host at once", e->feed.n_lent);
    }
    if (open > e->pending.mask + 1 || host_pending(m->host) > e->config.pending) {
        sim_check_fail(check, m->id, "memory: %" PRIu64 " proposals are open in the engine, %" PRIu32 " in the host; %"
                       PRIu32 " may be", open, host_pending(m->host), e->config.pending);
    }
    uint64_t members = e->confs.count > 0 ? e->confs.list[e->confs.count - 1].conf.next_id - 1 : 0; /* that ever were */
    uint64_t most = members + m->cluster->config.clients.sessions;
    if (host_sessions(m->host) > most) {
        sim_check_fail(check, m->id, "memory: %" PRIu32 " sessions, of at most %" PRIu64, host_sessions(m->host), most);
    }
}

/* What a directory remembers of others is durable when it is told, and stays as long as that directory. */
static void check_peers(struct watched *n)
{
    const struct sim_cluster *c = n->watch->cluster;
    const struct engine *e = n->member->engine;
    const struct store *store = engine_store(e);
    if (store == NULL) return;
    if (e->identity.incarnation != n->incarnation) n->peers = 0;
    n->incarnation = e->identity.incarnation;
    for (int i = 0; i < c->config.nodes; i++) {
        raft_id id = c->members[i].raft_id;
        uint64_t bit = id > 0 && id < 64 ? UINT64_C(1) << id : 0;
        bool knows = store_peer(store, id) != 0;
        if (knows) n->peers |= bit;
        if (knows || (n->peers & bit) == 0) continue;
        sim_check_fail(c->check, n->member->id, "durability: it has forgotten the directory of member %" PRIu64, id);
    }
}

/* Those whom a server dials and lets in are those whom its core counts, whenever nothing is left to a turn still to
 * come. The first one comes with the first alarm. */
static void check_members(struct watched *n, const struct raft *r)
{
    const struct engine *e = n->member->engine;
    const struct raft_conf *conf = raft_conf_at(r, UINT64_MAX);
    struct raft_status status;
    if (e->phase != ENGINE_RUNNING || e->alarmed_us == 0 || sim_node_of(e->io)->turning || raft_has_ready(r)) return;
    raft_status_get(r, &status);
    bool same = e->conf_index == status.conf_index;
    for (uint8_t i = 0; i < e->members.count && same; i++) same = conf_is_member(conf, e->members.list[i].id);
    if (same) return;
    sim_check_fail(n->watch->cluster->check, n->member->id, "members: its server goes by the configuration at %" PRIu64
                   ", its core by that at %" PRIu64, e->conf_index, status.conf_index);
}

/* What it holds while a snapshot is being restored, or after it has stopped, is nothing that was agreed on. */
static void judge_sessions(struct watched *n)
{
    const struct host *h = n->member->host;
    if (n->watch->sessions == NULL || h->restoring || h->halted || h->applied == n->judged) return;
    n->judged = h->applied;
    sim_sessions_judge(n->watch->sessions, n->member->id, h->applied, &h->clients);
}

void sim_watch_event(struct sim_member *m)
{
    struct sim_cluster *c = m->cluster;
    struct sim_watch *w = c->watch;
    const struct raft *r = m->engine != NULL ? engine_raft(m->engine) : NULL;
    if (sim_world_now(c->world) >= w->disks_at_us) look_at_disks(c);
    if (r == NULL) return;
    tell_hashes(&w->members[m->id - 1], r);
    check_bounds(m);
    check_peers(&w->members[m->id - 1]);
    check_members(&w->members[m->id - 1], r);
    judge_sessions(&w->members[m->id - 1]);
    if (c->config.trace == NULL) return;
    struct raft_status status;
    raft_status_get(r, &status);
    sim_trace_core(c->config.trace, sim_world_now(c->world), m->id, status.role, status.term, status.commit,
                   status.stable);
}

/* ---- what is sent ---- */

void sim_watch_sent(void *ctx, int node, const struct buf *bytes)
{
    struct sim_cluster *c = ctx;
    struct watched *n = &c->watch->members[node - 1];
    const struct raft *r = n->member != NULL && n->member->engine != NULL ? engine_raft(n->member->engine) : NULL;
    const uint8_t *data = bytes->data;
    size_t size = bytes->size;
    struct frame frame;
    struct raft_message message;
    struct raft_status status;
    struct err e;
    int more;
    if (!prng_chance(&c->watch->prng, SENT_CHECKED)) return;
    while ((more = frame_reader_next(&c->reader, &data, &size, &frame, &e)) == 1) {
        if (frame.type != FRAME_MESSAGE || r == NULL) continue;
        if (message_read(&frame, &message, &e) != OK) break;
        raft_status_get(r, &status);
        tell_message(n, &message, &status);
        message_free(&message);
    }
    if (more != 0 || size > 0) sim_check_fail(c->check, node, "sends what is no frame: %s", e.text);
}
