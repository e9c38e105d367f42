/* Proposals on their way to the leader: this node's own ones, and on the leader those of the others. */
#include "server/engine_state.h"

#include "base/mem.h"
#include "wire/message.h"

#define FORWARD_ENTRIES 512u        /* in one frame, or one call of the core */
#define FORWARD_BYTES (1u << 20)

static void refuse(struct engine *e, uint64_t sequence, int code)
{
    pending_remove(&e->pending, sequence);
    struct ring_item item = {.kind = NOTICE_REFUSED, .code = code, .value = sequence};
    channel_notice(e->channel, item);
}

void proposals_add(struct engine *e, struct block *block)
{
    uint64_t sequence = entry_view(block).sequence;
    pending_add(&e->pending, block);
    if (block->size - ENTRY_HEADER > e->config.command_bytes) refuse(e, sequence, ERR_TOO_LARGE);
    else if (e->phase == ENGINE_FAILED) refuse(e, sequence, ERR_FAULT);
    else if (e->phase != ENGINE_RUNNING) refuse(e, sequence, ERR_CLOSED);
}

void proposals_cancel(struct engine *e, uint64_t sequence)
{
    const struct proposal *proposal = pending_find(&e->pending, sequence);
    if (proposal != NULL) refuse(e, sequence, proposal->copies == 0 ? ERR_NOT_LEADER : ERR_TIMEOUT);
}

void proposals_end(struct engine *e, int code)
{
    for (uint64_t i = e->pending.lowest; i < e->pending.next; i++) {
        const struct proposal *proposal = pending_find(&e->pending, i);
        if (proposal != NULL) refuse(e, i, proposal->copies == 0 ? code : ERR_UNKNOWN);
    }
}

/* ---- to the leader ---- */

/* The next proposals to send, at most a frame's worth: their sequences and blocks, made ready to be stamped. */
static size_t gather(struct engine *e, uint64_t *sequences, struct block **blocks)
{
    size_t n = 0, bytes = 0;
    uint64_t sequence = 0;
    while (n < FORWARD_ENTRIES && bytes < FORWARD_BYTES) {
        struct proposal *proposal = pending_unsent(&e->pending, &sequence);
        if (proposal == NULL || pending_renew(proposal) != OK) break;
        bytes += proposal->block->size;
        sequences[n] = sequence++;
        blocks[n++] = proposal->block;
    }
    return n;
}

static void mark_sent(struct engine *e, const uint64_t *sequences, size_t n)
{
    uint64_t now = io_now(e->io);
    for (size_t i = 0; i < n; i++) {
        struct proposal *proposal = pending_find(&e->pending, sequences[i]);
        proposal->sent = true;
        proposal->sent_us = now;
        proposal->copies++;
    }
}

/* Appends blocks to this leader's log and stamps them. */
static int propose_here(struct engine *e, struct block *const *blocks, size_t n)
{
    struct raft_entry entries[FORWARD_ENTRIES];
    struct raft_status status;
    raft_index first;
    raft_term term;
    ASSERT(n > 0 && n <= FORWARD_ENTRIES);
    raft_status_get(e->raft, &status);
    if (status.role != RAFT_LEADER) return ERR_NOT_LEADER; /* whose disk is full does not matter then */
    if (!store_has_room(e->store)) return ERR_FULL;
    for (size_t i = 0; i < n; i++) {
        uint8_t type = entry_view(blocks[i]).type;
        entries[i] = (struct raft_entry){.block = blocks[i], .size = blocks[i]->size, .type = type};
    }
    int rv = raft_propose(e->raft, entries, n, &first, &term);
    if (rv != OK) return rv;
    uint64_t wall_us = io_wall(e->io);
    for (size_t i = 0; i < n; i++) entry_stamp(blocks[i], first + i, term, wall_us);
    return OK;
}

static int forward(struct engine *e, raft_id leader, struct block *const *blocks, size_t n)
{
    struct buf *out = links_out(e->links, leader);
    if (out == NULL) return ERR_BUSY;
    return forward_write(out, LINKS_GROUP, blocks, n) ? OK : ERR_NOMEM;
}

/* What the leader said to proposals that did not enter its log: tried again after a while. */
static void on_refused(struct engine *e, const uint64_t *sequences, size_t n, int code)
{
    bool final = code == ERR_FULL || code == ERR_TOO_LARGE, ours = false;
    for (size_t i = 0; i < n; i++) {
        const struct proposal *proposal = pending_find(&e->pending, sequences[i]);
        if (proposal == NULL) continue;
        ours = true;
        if (final && proposal->copies == 0) refuse(e, sequences[i], code);
        else pending_resend(&e->pending, sequences[i]);
    }
    if (ours) e->retry_at_us = io_now(e->io) + e->config.heartbeat_us;
}

void proposals_flush(struct engine *e)
{
    uint64_t sequences[FORWARD_ENTRIES];
    struct block *blocks[FORWARD_ENTRIES];
    struct raft_status status;
    raft_status_get(e->raft, &status);
    if (status.leader != e->leader || (status.leader != 0 && status.term != e->leader_term)) {
        e->leader = status.leader;
        e->leader_term = status.term;
        e->retry_at_us = 0;
        pending_resend_all(&e->pending);
        asks_on_leader(e);
    }
    while (e->leader != 0 && io_now(e->io) >= e->retry_at_us) {
        size_t n = gather(e, sequences, blocks);
        if (n == 0) return;
        bool here = e->leader == e->identity.node;
        int rv = here ? propose_here(e, blocks, n) : forward(e, e->leader, blocks, n);
        if (rv == ERR_FULL) on_refused(e, sequences, n, rv);
        if (rv != OK) return; /* a bound is reached: they stay unsent, and the next turn tries again */
        mark_sent(e, sequences, n);
    }
}

/* ---- on the leader ---- */

/* A proposal of another member must be what that member may send. */
static int check_forwarded(const struct engine *e, raft_id from, const struct block *block)
{
    struct entry entry = entry_view(block);
    if (entry.session != from) return ERR_INVALID;
    return entry.payload_size > e->config.command_bytes ? ERR_TOO_LARGE : OK;
}

/* How many of them, from the first on, are judged as that one is; at most what one call of the core takes. */
static size_t count_alike(const struct engine *e, raft_id from, struct block *const *blocks, size_t n, int verdict)
{
    size_t alike = 1;
    while (alike < MIN(n, FORWARD_ENTRIES) && check_forwarded(e, from, blocks[alike]) == verdict) alike++;
    return alike;
}

/* What a peer's proposals may be told; all else that keeps them from the log passes. */
static int refusal_code(int code)
{
    return code == ERR_NOT_LEADER || code == ERR_FULL || code == ERR_TOO_LARGE ? code : ERR_BUSY;
}

static void answer_refused(struct engine *e, raft_id to, int code, struct block *const *blocks, size_t n)
{
    struct buf *out = links_out(e->links, to);
    uint64_t *sequences = mem_alloc(n * sizeof *sequences);
    for (size_t i = 0; i < n && sequences != NULL; i++) sequences[i] = entry_view(blocks[i]).sequence;
    if (out != NULL && sequences != NULL) forward_reply_write(out, LINKS_GROUP, refusal_code(code), sequences, n);
    mem_free(sequences); /* not answered: the proposer asks again by itself */
}

void proposals_on_forward(struct engine *e, raft_id from, const struct frame *f)
{
    struct block **blocks;
    size_t n;
    if (forward_read(f, &blocks, &n, NULL) != OK) return;
    for (size_t at = 0, part; at < n; at += part) {
        int rv = check_forwarded(e, from, blocks[at]);
        part = count_alike(e, from, blocks + at, n - at, rv);
        if (rv == OK) rv = propose_here(e, blocks + at, part);
        if (rv == OK) raft_await_commit(e->raft, from, entry_view(blocks[at + part - 1]).index);
        else if (rv != ERR_INVALID) answer_refused(e, from, rv, blocks + at, part);
    }
    for (size_t i = 0; i < n; i++) block_unref(blocks[i]);
    mem_free(blocks);
}

/* Whoever answers has no copy of them. But only what the present leader says tells when to try again. */
void proposals_on_forward_reply(struct engine *e, raft_id from, const struct frame *f)
{
    uint64_t *sequences;
    size_t n;
    int code;
    if (forward_reply_read(f, &code, &sequences, &n, NULL) != OK) return;
    for (size_t i = 0; i < n; i++) {
        struct proposal *proposal = pending_find(&e->pending, sequences[i]);
        if (proposal != NULL && proposal->copies > 0) proposal->copies--;
    }
    if (from == e->leader) on_refused(e, sequences, n, code);
    mem_free(sequences);
}
