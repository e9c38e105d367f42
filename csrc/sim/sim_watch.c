#include "sim/sim_watch.h"

#include "base/mem.h"
#include "core/raft.h"
#include "wire/message.h"

/* ---- watching the core ---- */

/* What the entry's bytes hash to; false: it is not stamped yet, and will be before anybody sees it. */
static bool entry_hash(const struct raft *r, raft_index index, uint64_t *hash)
{
    const struct raft_entry *entry = raft_entry_at(r, index);
    *hash = 0;
    if (entry == NULL) return true; /* older than the window */
    if (entry->block == NULL) return false;
    *hash = get_u64(entry->block->bytes); /* the header's hash covers the payload's */
    return *hash != 0;
}

static void watch_log(struct sim_member *m, const struct raft *r, raft_index last)
{
    struct sim_check *check = m->cluster->check;
    raft_index known = sim_check_last(check, m->id), same = MIN(known, last);
    raft_term term = 0;
    while (same > 0 && (!raft_term_at(r, same, &term) || term != sim_check_term_at(check, m->id, same))) same--;
    if (same < known) sim_check_truncate(check, m->id, same);
    for (raft_index i = same + 1; i <= last; i++) {
        uint64_t hash;
        if (!entry_hash(r, i, &hash) || !raft_term_at(r, i, &term)) break;
        sim_check_append(check, m->id, term, hash);
    }
}

void sim_watch_core(struct sim_member *m)
{
    struct sim_cluster *c = m->cluster;
    const struct raft *r = m->engine != NULL ? engine_raft(m->engine) : NULL;
    if (r == NULL) return;
    struct raft_status status;
    raft_status_get(r, &status);
    if (status.corrupt) sim_check_fail(c->check, m->id, "its core met a contradiction (ERR_CORRUPT)");
    sim_check_term(c->check, m->id, status.term, status.vote, status.durable_term);
    watch_log(m, r, status.last);
    sim_check_stable(c->check, m->id, status.stable);
    if (status.role == RAFT_LEADER) {
        sim_check_leader(c->check, m->id, status.term);
        if (status.term > c->newest_term) c->leaders++;
        c->newest_term = MAX(c->newest_term, status.term);
    }
    sim_check_commit(c->check, m->id, status.commit);
}

void sim_watch_recovery(struct sim_member *m)
{
    const struct raft *r = engine_raft(m->engine);
    struct raft_status status;
    if (r == NULL) return;
    raft_status_get(r, &status);
    raft_term *terms = mem_zero(status.last, sizeof(*terms));
    ASSERT(terms != NULL);
    for (raft_index i = 1; i <= status.last; i++) {
        bool known = raft_term_at(r, i, &terms[i - 1]);
        ASSERT(known);
    }
    sim_check_recover(m->cluster->check, m->id, status.term, status.vote, terms, status.last);
    mem_free(terms);
}

/* ---- what it sends ---- */

static void watch_message(struct sim_member *m, const struct raft_message *message)
{
    struct sim_check *check = m->cluster->check;
    struct raft_status status;
    bool hypothetical = message->pre && (message->type == RAFT_VOTE || !message->reject);
    raft_status_get(engine_raft(m->engine), &status);
    if (!hypothetical) sim_check_says(check, m->id, message->term, status.durable_term);
    if (message->reject || message->pre) return;
    if (message->type == RAFT_APPEND_REPLY) sim_check_says_stored(check, m->id, message->index, status.stable);
    if (message->type == RAFT_VOTE_REPLY) sim_check_says_vote(check, m->id, message->term, message->to);
    if (message->type == RAFT_VOTE) sim_check_says_vote(check, m->id, message->term, (raft_id)m->id);
}

void sim_watch_sent(void *ctx, int node, const struct buf *bytes)
{
    struct sim_cluster *c = ctx;
    struct sim_member *m = sim_cluster_member(c, node);
    const uint8_t *data = bytes->data;
    size_t size = bytes->size;
    struct frame frame;
    struct raft_message message;
    struct err e;
    int more;
    while ((more = frame_reader_next(&c->reader, &data, &size, &frame, &e)) == 1) {
        /* Entries are hashed when they are read: that would be half of the simulator's work. */
        bool promise = frame.type == FRAME_MESSAGE && frame.entries_size == 0;
        if (!promise || engine_raft(m->engine) == NULL) continue;
        if (message_read(&frame, &message, &e) != OK) break;
        watch_message(m, &message);
        message_free(&message);
    }
    if (more != 0 || size > 0) sim_check_fail(c->check, node, "sends what is no frame: %s", e.text);
}
