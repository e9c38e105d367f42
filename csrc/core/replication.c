#include "core/replication.h"

#include "core/peers.h"
#include "core/roles.h"

#define RANGE_ENTRIES_MAX 1024u /* in one message about entries that are not in memory */

/* A commit is told with the next append, which in a busy cluster comes sooner than this; a message for each commit
 * would double what a leader sends. Who waits for it, because the command or the read is its own, hears of it at
 * once. */
#define COMMIT_NEWS_US (2 * US_PER_MS)

/* ---- follower ---- */

/* The newest point at which the logs may still agree, so that the leader skips whole terms (dissertation 3.5, end). */
static void reject_append(struct raft *r, const struct raft_message *m)
{
    struct raft_message reply = state_message(r, RAFT_APPEND_REPLY, m->from);
    reply.reject = true;
    reply.index = m->index;
    reply.hint = MAX(log_find_term(&r->log, MIN(m->index, r->log.last), m->log_term), r->log.commit);
    reply.log_term = log_term(&r->log, reply.hint);
    outbox_put(&r->outbox, &reply, r->vote_after);
}

/* Up to here this log agrees with that of every leader this node may follow in this term: what is committed, and what
 * the leader has shown to agree. A message that says otherwise contradicts what came before it. */
static raft_index agreed(const struct raft *r)
{
    return MAX(r->log.commit, r->verified);
}

/* Appends what is new of m's entries; an entry that differs voids what follows it, an entry that is there already does
 * not (an old message, delivered late, must not cut off what came after it). */
static int append_new(struct raft *r, const struct raft_message *m)
{
    for (uint32_t i = 0; i < m->n_entries; i++) {
        raft_index index = m->index + 1 + i;
        if (index <= r->log.last) {
            if (log_matches(&r->log, index, m->entries[i].term)) continue;
            if (index <= agreed(r)) return state_corrupt(r);
            log_truncate(&r->log, index);
            outbox_clamp(&r->outbox, index - 1);
        }
        log_append(&r->log, &m->entries[i]);
    }
    return OK;
}

static void follow_commit(struct raft *r, raft_index commit)
{
    ASSERT(commit <= r->log.last);
    if (commit > r->log.commit) r->log.commit = commit;
}

/* Two leaders in one term? */
static bool has_other_leader(const struct raft *r, raft_id leader)
{
    return r->leader != 0 && r->leader != leader;
}

int replication_on_append(struct raft *r, const struct raft_message *m, uint64_t now)
{
    if (has_other_leader(r, m->from)) return state_corrupt(r);
    role_hear_leader(r, m->from, now);
    r->dirty = true;
    if (!log_matches(&r->log, m->index, m->log_term)) {
        if (m->index <= agreed(r)) return state_corrupt(r);
        reject_append(r, m);
        return OK;
    }
    uint64_t conf_changes = r->log.conf_changes;
    int rv = append_new(r, m);
    if (rv != OK) return rv;
    if (r->log.conf_changes != conf_changes) peers_adopt(r, now);
    /* What a message of old covers may be committed here long since: then that is how far the logs agree. */
    raft_index covered = MAX(m->index + m->n_entries, r->log.commit);
    ASSERT(covered <= r->log.last);
    r->verified = MAX(r->verified, covered);
    follow_commit(r, MIN(m->commit, covered)); /* never what this message does not vouch for */
    r->ack_due = true;
    return OK;
}

int replication_on_heartbeat(struct raft *r, const struct raft_message *m, uint64_t now)
{
    if (has_other_leader(r, m->from)) return state_corrupt(r);
    role_hear_leader(r, m->from, now);
    r->dirty = true;
    /* The leader never tells more than this node has confirmed to it: so this log has lost entries. */
    if (m->commit > r->log.last) return state_corrupt(r);
    follow_commit(r, m->commit);
    if (m->context == 0) return OK; /* news of a commit only */
    if (m->lease_us > 0) r->promised_until_us = MAX(r->promised_until_us, now + m->lease_us);
    /* The leader commits at least what this node has confirmed to it and a quorum has; if it tells less, the last
     * acknowledgement may be lost, and in a quiet cluster none would follow it. */
    if (m->commit < r->acked) r->ack_due = true;
    struct raft_message reply = state_message(r, RAFT_HEARTBEAT_REPLY, m->from);
    reply.context = m->context;
    reply.round = m->round;
    reply.priority = r->config.priority;
    reply.index = r->verified;
    reply.commit = r->log.applied;
    outbox_put(&r->outbox, &reply, r->vote_after);
    return OK;
}

void replication_acknowledge(struct raft *r)
{
    if (r->role != RAFT_FOLLOWER || r->leader == 0 || r->durable_term != r->term) return;
    raft_index durable = MIN(r->verified, r->log.stable);
    if (durable <= r->acked && !(r->ack_due && durable == r->verified)) return;
    struct raft_message reply = state_message(r, RAFT_APPEND_REPLY, r->leader);
    reply.index = durable;
    outbox_put(&r->outbox, &reply, r->vote_after);
    r->acked = durable;
    if (durable == r->verified) r->ack_due = false;
}

/* ---- leader ---- */

static int on_reject(struct raft *r, struct raft_progress *p, const struct raft_message *m)
{
    /* What it has confirmed it cannot reject: that is old, or from a peer that lost its log and would be probed at the
     * same place again and again. */
    bool stale = m->index <= p->match || (p->state == PROGRESS_PROBE && m->index != p->next - 1);
    if (stale || p->state == PROGRESS_SNAPSHOT) return OK;
    raft_index agree = log_find_term(&r->log, MIN(m->hint, r->log.last), m->log_term);
    progress_become_probe(p, agree + 1);
    return OK;
}

int replication_on_append_reply(struct raft *r, struct raft_progress *p, const struct raft_message *m, uint64_t now)
{
    if (m->index > r->log.last) return ERR_INVALID;
    r->dirty = true;
    if (m->reject) return on_reject(r, p, m);
    bool news = progress_confirm(p, m->index);
    if (p->state == PROGRESS_PROBE && (news || m->index + 1 >= p->next)) progress_become_replicate(p);
    /* The snapshot has arrived, or what came before it was enough: its log and this one connect again. */
    if (p->state == PROGRESS_SNAPSHOT && p->match + 1 >= r->log.first) progress_become_replicate(p);
    progress_catch_up(p, r->log.last, r->config.election_timeout_us, now);
    return OK;
}

int replication_on_heartbeat_reply(struct raft *r, struct raft_progress *p, const struct raft_message *m, uint64_t now)
{
    if (m->context == 0) return OK; /* the answer to an older term's message: its term was all it had to say */
    if (m->context > now || m->round > r->round) return ERR_INVALID;
    r->dirty = true;
    p->rtt_us = MAX(now - m->context, 1);
    p->answered_us = MAX(p->answered_us, m->context);
    p->round = MAX(p->round, m->round);
    p->priority = m->priority;
    p->applied = m->commit;
    if (p->state == PROGRESS_PROBE) p->probe_sent = false;
    else if (p->state == PROGRESS_REPLICATE && m->index <= r->log.last) progress_find_lost(p, m->index, m->context);
    return OK;
}

static raft_index match_of(const void *ctx, raft_id id)
{
    const struct raft *r = ctx;
    for (size_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i].id == id) return r->peers[i].match;
    }
    return r->log.stable; /* its own copy counts when it is durable, like any other */
}

bool replication_commit(struct raft *r)
{
    ASSERT(r->role == RAFT_LEADER);
    raft_index reached = MIN(quorum_reached(state_conf(r), match_of, r), r->log.last);
    if (reached <= r->log.commit || log_term(&r->log, reached) != r->term) return false;
    for (raft_index i = MAX(r->log.commit + 1, r->own_first); i <= reached; i++) {
        uint32_t size = log_entry(&r->log, i)->size;
        ASSERT(r->uncommitted_bytes >= size);
        r->uncommitted_bytes -= size;
    }
    r->log.commit = reached;
    r->dirty = true;
    return true;
}

void replication_heartbeat(struct raft *r, uint64_t now)
{
    r->round++;
    for (size_t i = 0; i < r->n_peers; i++) {
        struct raft_progress *p = &r->peers[i];
        struct raft_message m = state_message(r, RAFT_HEARTBEAT, p->id);
        m.commit = MIN(p->match, r->log.commit);
        m.context = now;
        m.round = r->round;
        m.lease_us = r->config.lease && !r->lease_over ? (uint32_t)r->config.election_timeout_us : 0;
        outbox_put(&r->outbox, &m, r->vote_after);
        p->commit_sent = MAX(p->commit_sent, m.commit);
    }
}

/* How many entries from p->next on one message takes, and their bytes. Entries that are no longer in memory are named
 * by index alone; their sizes are not known here, so they fill the window and only one such message is on the way. */
static uint32_t entries_for(const struct raft *r, const struct raft_progress *p, raft_index end, uint32_t *bytes)
{
    const struct raft_log *log = &r->log;
    *bytes = 0;
    if (p->next > end) return 0;
    if (p->next < log->window) {
        *bytes = r->config.window_bytes;
        return (uint32_t)MIN(log->window - p->next, RANGE_ENTRIES_MAX);
    }
    uint32_t n = 0;
    for (raft_index i = p->next; i <= end && n < RANGE_ENTRIES_MAX; i++, n++) {
        uint32_t size = log_entry(log, i)->size;
        if (n > 0 && (uint64_t)*bytes + size > r->config.append_bytes) break;
        *bytes += size;
    }
    return n;
}

/* What the peer needs next is compacted. Everything it needs is in the newest snapshot, or behind it. */
static void send_snapshot(struct raft *r, struct raft_progress *p)
{
    ASSERT(r->snapshot + 1 >= r->log.first);
    struct raft_message m = state_message(r, RAFT_SNAPSHOT, p->id);
    m.index = r->snapshot;
    m.log_term = r->snapshot_term;
    outbox_put(&r->outbox, &m, r->vote_after);
    progress_become_snapshot(p, r->snapshot);
}

static void send_append(struct raft *r, struct raft_progress *p, raft_index end, uint64_t now)
{
    uint32_t bytes;
    struct raft_message m = state_message(r, RAFT_APPEND, p->id);
    m.index = p->next - 1;
    m.log_term = log_term(&r->log, m.index);
    m.n_entries = entries_for(r, p, end, &bytes);
    m.commit = r->log.commit;
    outbox_put(&r->outbox, &m, r->vote_after);
    raft_index covered = m.index + m.n_entries;
    progress_sent(p, covered, bytes, now);
    p->commit_sent = MAX(p->commit_sent, MIN(m.commit, covered));
    p->commit_due_us = NEVER_US;
}

/* Is it to be told of this commit now? If not, it is noted when. */
static bool commit_is_due(struct raft_progress *p, uint64_t now)
{
    if (p->commit_sent < p->commit_awaited) return true;
    p->commit_due_us = MIN(p->commit_due_us, now + COMMIT_NEWS_US);
    return now >= p->commit_due_us;
}

static void send_commit(struct raft *r, struct raft_progress *p, uint64_t now)
{
    raft_index commit = MIN(p->match, r->log.commit);
    bool news = p->state == PROGRESS_REPLICATE && commit > p->commit_sent;
    if (news && !commit_is_due(p, now)) return;
    p->commit_due_us = NEVER_US;
    if (!news) return;
    struct raft_message m = state_message(r, RAFT_HEARTBEAT, p->id);
    m.commit = commit;
    outbox_put(&r->outbox, &m, r->vote_after);
    p->commit_sent = commit;
}

uint64_t replication_deadline(const struct raft *r)
{
    uint64_t at_us = NEVER_US;
    for (size_t i = 0; i < r->n_peers; i++) at_us = MIN(at_us, r->peers[i].commit_due_us);
    return at_us;
}

int replication_send(struct raft *r, raft_index end, uint64_t now)
{
    ASSERT(r->role == RAFT_LEADER && r->durable_term == r->term);
    for (size_t i = 0; i < r->n_peers; i++) {
        struct raft_progress *p = &r->peers[i];
        while (!progress_is_paused(p, r->config.window_bytes) &&
               (p->next <= end || p->state == PROGRESS_PROBE)) {
            if (outbox_reserve(&r->outbox, COUNT_OF(r->outbox.held) + 2) != OK) return ERR_NOMEM;
            if (p->next < r->log.first) send_snapshot(r, p);
            else send_append(r, p, end, now);
        }
        progress_catch_up(p, r->log.last, r->config.election_timeout_us, now);
        if (outbox_reserve(&r->outbox, COUNT_OF(r->outbox.held) + 1) != OK) return ERR_NOMEM;
        send_commit(r, p, now);
    }
    return OK;
}
