/* Leadership that is given up on purpose, to a member that does better (dissertation 3.10): by a leader that is closed,
 * whose vote is about to be taken, whose disk hangs, or whose host takes nothing any more. */
#include "server/engine_state.h"

#define LEAVE_US US_PER_S /* how long a leader that is closed tries */

/* ---- before it closes ---- */

bool handover_begin(struct engine *e)
{
    raft_id chosen;
    uint64_t now = io_now(e->io);
    if (e->leave_until_us != 0) return true;
    if (e->phase != ENGINE_RUNNING || raft_transfer(e->raft, 0, now, &chosen) != OK) return false;
    e->leave_until_us = now + LEAVE_US;
    return true;
}

bool handover_is_over(const struct engine *e, uint64_t now)
{
    struct raft_status status;
    if (e->leave_until_us == 0 || e->phase != ENGINE_RUNNING) return false;
    raft_status_get(e->raft, &status);
    bool waits = status.role == RAFT_LEADER ? status.transfer != 0 : status.leader == 0;
    return !waits || now >= e->leave_until_us;
}

/* ---- before its vote is taken ---- */

/* The next leader makes the change, and nobody waits for an election. */
bool handover_first(struct engine *e, const struct ask_what *what, uint64_t now)
{
    raft_id leaving[RAFT_MEMBERS_MAX], chosen;
    struct raft_status status;
    struct raft_wish wish = {.except = leaving};
    for (uint8_t i = 0; i < what->n; i++) {
        const struct ask_change *change = &what->changes[i];
        if (change->op == RAFT_REMOVE || change->op == RAFT_DEMOTE) leaving[wish.n_except++] = change->id;
    }
    raft_status_get(e->raft, &status);
    bool concerns = status.ready && !status.changing && status.transfer == 0 &&
                    ids_have(leaving, wish.n_except, e->identity.node);
    return concerns && raft_transfer_to(e->raft, &wish, now, &chosen) == OK;
}

/* ---- while something stands still ---- */

static uint64_t disk_since(const struct engine *e)
{
    return store_write_since(e->store);
}

static uint64_t host_since(const struct engine *e)
{
    return e->feed.n_lent > 0 ? e->host_moved_us : 0;
}

/* A host that is slow, but goes on, is not what this is about. */
static void watch_host(struct engine *e, uint64_t now)
{
    raft_index applied = atomic_load_explicit(&e->channel->applied, memory_order_relaxed);
    if (applied == e->host_applied && e->feed.n_lent > 0) return;
    e->host_applied = applied;
    e->host_moved_us = now;
}

static uint64_t deadline_of(const struct stall *s, uint64_t since_us, uint64_t limit_us)
{
    return since_us == 0 || since_us == s->since_us ? NEVER_US : since_us + limit_us;
}

uint64_t handover_deadline(const struct engine *e)
{
    return MIN(deadline_of(&e->disk_stall, disk_since(e), e->config.election_timeout_us),
               deadline_of(&e->host_stall, host_since(e), e->config.host_timeout_us));
}

static void note_end(struct engine *e, struct stall *s, uint64_t since_us)
{
    if (s->since_us == 0 || s->since_us == since_us) return;
    *s = (struct stall){0};
    e->news = true;
}

/* Not every write is told of when it is done (a seal, a part of a batch): so it is asked for. */
void handover_note_ends(struct engine *e)
{
    note_end(e, &e->disk_stall, disk_since(e));
    note_end(e, &e->host_stall, host_since(e));
}

static void note_begin(struct engine *e, struct stall *s, uint64_t since_us, uint64_t limit_us, uint64_t now)
{
    if (now < deadline_of(s, since_us, limit_us)) return;
    *s = (struct stall){.since_us = since_us};
    e->news = true;
}

/* Once a stall, to one that is ahead in what stands still here: if nobody is, nobody would do better. If it does not
 * come about, the others shall choose. */
static void react(struct engine *e, struct stall *s, const struct raft_wish *ahead, uint64_t now)
{
    raft_id chosen;
    struct raft_status status;
    raft_status_get(e->raft, &status);
    if (s->since_us == 0 || s->stage == STALL_OVER) return;
    if (s->stage == STALL_NOTICED) {
        if (raft_transfer_to(e->raft, ahead, now, &chosen) == OK) s->stage = STALL_HANDING_OVER;
    } else if (status.transfer == 0) {
        s->stage = STALL_OVER;
        raft_step_down(e->raft, now); /* nothing, if another one leads by now */
    }
}

void handover_tick(struct engine *e, uint64_t now)
{
    struct raft_status status;
    watch_host(e, now);
    note_begin(e, &e->disk_stall, disk_since(e), e->config.election_timeout_us, now);
    note_begin(e, &e->host_stall, host_since(e), e->config.host_timeout_us, now);
    raft_status_get(e->raft, &status);
    react(e, &e->disk_stall, &(struct raft_wish){.match = status.stable + 1}, now);
    react(e, &e->host_stall, &(struct raft_wish){.applied = status.applied + 1}, now);
}

uint64_t handover_host_lag_us(const struct engine *e, uint64_t now)
{
    uint64_t since_us = host_since(e);
    return since_us == 0 ? 0 : now - since_us;
}
