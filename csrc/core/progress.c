#include "core/progress.h"

static void forget_inflight(struct raft_progress *p)
{
    p->inflight_first = p->inflight_count = 0;
    p->inflight_bytes = 0;
    p->probe_sent = false;
}

void progress_reset(struct raft_progress *p, raft_index last, uint64_t now)
{
    *p = (struct raft_progress){.id = p->id, .vote = p->vote, .back = p->back, .next = last + 1,
                                .commit_due_us = NEVER_US};
    p->contact_us = now; /* a term's grace, not a word: else a new leader would step down at once */
    p->catch_up = (struct catch_up){.goal = last, .since_us = now, .open = true};
}

void progress_become_probe(struct raft_progress *p, raft_index next)
{
    p->state = PROGRESS_PROBE;
    p->next = MAX(next, p->match + 1);
    forget_inflight(p);
}

void progress_become_replicate(struct raft_progress *p)
{
    p->state = PROGRESS_REPLICATE;
    p->next = p->match + 1;
    forget_inflight(p);
}

void progress_become_snapshot(struct raft_progress *p, raft_index snapshot)
{
    ASSERT(snapshot > p->match);
    p->state = PROGRESS_SNAPSHOT;
    p->snapshot = snapshot;
    p->next = snapshot + 1;
    forget_inflight(p);
}

bool progress_is_paused(const struct raft_progress *p, uint32_t window_bytes)
{
    if (p->state == PROGRESS_PROBE) return p->probe_sent;
    if (p->state == PROGRESS_SNAPSHOT) return true;
    return p->inflight_count == INFLIGHT_MAX || p->inflight_bytes >= window_bytes;
}

void progress_sent(struct raft_progress *p, raft_index last, uint32_t bytes, uint64_t now)
{
    ASSERT(last + 1 >= p->next);
    if (p->state == PROGRESS_PROBE) {
        p->probe_sent = true;
        return;
    }
    ASSERT(p->inflight_count < INFLIGHT_MAX);
    uint32_t at = (p->inflight_first + p->inflight_count++) % INFLIGHT_MAX;
    p->inflight[at] = (struct inflight){.last = last, .bytes = bytes, .sent_us = now};
    p->inflight_bytes += bytes;
    p->next = last + 1;
}

void progress_sent_late(struct raft_progress *p, raft_index named, raft_index last, uint64_t now)
{
    if (p->inflight_count == 0 || p->next != named + 1 || last <= p->match) return;
    struct inflight *newest = &p->inflight[(p->inflight_first + p->inflight_count - 1) % INFLIGHT_MAX];
    ASSERT(newest->last == named && last <= named);
    newest->last = last;
    newest->sent_us = now;
    p->next = last + 1;
}

bool progress_confirm(struct raft_progress *p, raft_index index)
{
    while (p->inflight_count > 0 && p->inflight[p->inflight_first].last <= index) {
        p->inflight_bytes -= p->inflight[p->inflight_first].bytes;
        p->inflight_first = (p->inflight_first + 1) % INFLIGHT_MAX;
        p->inflight_count--;
    }
    if (index <= p->match) return false;
    p->match = index;
    p->next = MAX(p->next, index + 1);
    return true;
}

void progress_catch_up(struct raft_progress *p, raft_index last, uint64_t timeout_us, uint64_t now)
{
    struct catch_up *c = &p->catch_up;
    if (c->open && p->match >= c->goal) {
        c->open = false;
        c->rounds++;
        c->done = now < c->since_us + timeout_us;
    }
    if (c->open && now >= c->since_us + timeout_us) c->done = false;
    if (c->open) return;
    if (p->match >= last) {
        c->done = true; /* it has all there is: nothing could be faster, however slow the way here was */
        return;
    }
    c->open = true;
    c->goal = last;
    c->since_us = now;
}

bool progress_find_lost(struct raft_progress *p, raft_index received, uint64_t sent_us)
{
    for (uint32_t i = 0; i < p->inflight_count; i++) {
        const struct inflight *sent = &p->inflight[(p->inflight_first + i) % INFLIGHT_MAX];
        if (sent->sent_us >= sent_us) return false;
        if (sent->last > received) {
            p->next = MAX(received, p->match) + 1;
            forget_inflight(p);
            return true;
        }
    }
    return false;
}
