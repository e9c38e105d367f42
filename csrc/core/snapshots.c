#include "core/snapshots.h"

#include "core/peers.h"
#include "core/roles.h"

/* Log and state machine are replaced. Batches that are out already are acknowledged some time, but what they hold is
 * void: nothing new counts as durable before the batch that replaces the log does. */
static void restore(struct raft *r, const struct raft_message *m, uint64_t now)
{
    log_restore(&r->log, m->index, m->log_term, m->conf);
    r->log.stable = MIN(r->log.stable, r->commit_out);
    outbox_clamp(&r->outbox, r->log.stable);
    r->snapshot = m->index;
    r->snapshot_term = m->log_term;
    r->restore_due = true;
    peers_adopt(r, now);
}

int snapshot_on_received(struct raft *r, const struct raft_message *m, uint64_t now)
{
    if (r->leader != 0 && r->leader != m->from) return state_corrupt(r); /* two leaders in one term */
    role_hear_leader(r, m->from, now);
    /* An older one says nothing new. One whose last entry is here only says that it is committed: what follows it is
     * kept, it may have been acknowledged. */
    if (m->index > r->log.commit) {
        if (log_matches(&r->log, m->index, m->log_term)) r->log.commit = m->index;
        else if (m->index <= r->verified) return state_corrupt(r); /* this leader has shown another entry there */
        else restore(r, m, now);
    }
    r->verified = MAX(r->verified, r->log.commit);
    r->ack_due = true;
    r->dirty = true;
    return OK;
}

void snapshot_taken(struct raft *r, raft_index index)
{
    ASSERT(index <= r->commit_out);
    if (index <= r->snapshot) return;
    r->snapshot = index;
    r->snapshot_term = log_term(&r->log, index);
}

void snapshot_compact(struct raft *r, raft_index index)
{
    ASSERT(index <= r->snapshot);
    if (index >= r->log.first) log_compact(&r->log, index);
}

void snapshot_sent(struct raft *r, struct raft_progress *p, bool ok)
{
    if (p->state != PROGRESS_SNAPSHOT) return;
    progress_become_probe(p, ok ? p->snapshot + 1 : p->match + 1);
    p->probe_sent = !ok; /* tried again when it is heard of: there may be nobody there */
    r->dirty = true;
}
