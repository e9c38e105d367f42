#include "server/host.h"

#include "base/mem.h"
#include "server/sessions.h"

/* An open call: a proposal or a barrier of this node whose end the caller has not been told. */
struct call {
    bool open, cancelled;
    uint32_t bytes;
};

struct host {
    struct channel *channel;
    struct host_machine machine;
    void *ctx;
    struct sessions sessions;

    struct call *calls;          /* a ring: the call with this sequence at sequence & calls_mask */
    size_t calls_mask;
    uint64_t lowest, next;       /* sequences lowest .. next - 1 are in the ring; lowest is open, or lowest == next */
    uint32_t pending, pending_max;
    uint64_t pending_bytes, pending_bytes_max;

    struct apply_batch *batch;   /* being applied */
    uint32_t batch_at;
    raft_index applied;
    uint64_t applied_time_us;    /* the leader's clock at that entry; never falls */
    uint64_t node, epoch;
    bool started, closing, closed, halted, stepping;
};

struct host *host_new(struct channel *channel, const struct host_machine *machine, void *ctx, uint32_t pending,
                      uint64_t pending_bytes)
{
    ASSERT(pending > 0 && pending <= CHANNEL_PENDING_MAX && pending <= SESSION_WINDOW);
    size_t ring = 1;
    while (ring < pending) ring *= 2;
    struct host *h = mem_zero(1, sizeof *h);
    struct call *calls = mem_zero(ring, sizeof *calls);
    if (h == NULL || calls == NULL) {
        mem_free(h);
        mem_free(calls);
        return NULL;
    }
    h->channel = channel;
    h->machine = *machine;
    h->ctx = ctx;
    h->calls = calls;
    h->calls_mask = ring - 1;
    h->pending_max = pending;
    h->pending_bytes_max = pending_bytes;
    return h;
}

void host_free(struct host *h)
{
    if (h == NULL) return;
    sessions_free(&h->sessions);
    mem_free(h->calls);
    mem_free(h);
}

/* ---- open calls ---- */

static struct call *call_at(struct host *h, uint64_t sequence)
{
    return &h->calls[sequence & h->calls_mask];
}

static bool call_is_open(struct host *h, uint64_t sequence)
{
    return sequence >= h->lowest && sequence < h->next && call_at(h, sequence)->open;
}

/* Ends an open call; the caller then tells whoever waits. */
static void call_close(struct host *h, uint64_t sequence)
{
    struct call *call = call_at(h, sequence);
    ASSERT(call_is_open(h, sequence) && h->pending > 0);
    call->open = false;
    h->pending--;
    h->pending_bytes -= call->bytes;
    while (h->lowest < h->next && !call_at(h, h->lowest)->open) h->lowest++;
}

static void call_end(struct host *h, uint64_t sequence, int code, raft_index index)
{
    if (!call_is_open(h, sequence)) return;
    call_close(h, sequence);
    h->machine.done(h->ctx, sequence, code, index);
}

static int propose(struct host *h, struct block *block, uint64_t *sequence)
{
    if (!h->started || h->closing || h->halted) return h->halted ? ERR_FAULT : ERR_CLOSED;
    bool fits = h->pending < h->pending_max && h->next - h->lowest <= h->calls_mask &&
                h->pending_bytes + block->size <= h->pending_bytes_max;
    if (!fits) return ERR_BUSY;
    entry_set_session(block, h->node, h->epoch, h->next, (uint32_t)(h->next - h->lowest));
    uint32_t bytes = block->size; /* the block is the engine's once it is pushed */
    if (!channel_request(h->channel, (struct ring_item){.kind = REQUEST_PROPOSE, .pointer = block})) return ERR_BUSY;
    *call_at(h, h->next) = (struct call){.open = true, .bytes = bytes};
    *sequence = h->next++;
    h->pending++;
    h->pending_bytes += bytes;
    return OK;
}

int host_propose(struct host *h, struct block *block, uint64_t *sequence)
{
    int rv = propose(h, block, sequence);
    if (rv != OK) block_unref(block);
    return rv;
}

int host_barrier(struct host *h, uint64_t *sequence)
{
    struct block *block = entry_new(RAFT_ENTRY_BARRIER, NULL, 0);
    return block == NULL ? ERR_NOMEM : host_propose(h, block, sequence);
}

void host_cancel(struct host *h, uint64_t sequence)
{
    if (h->closed || !call_is_open(h, sequence) || call_at(h, sequence)->cancelled) return;
    struct ring_item item = {.kind = REQUEST_CANCEL, .value = sequence};
    call_at(h, sequence)->cancelled = channel_request(h->channel, item);
}

void host_close(struct host *h)
{
    if (h->closing || h->closed) return;
    h->closing = true;
    channel_request(h->channel, (struct ring_item){.kind = REQUEST_CLOSE});
}

/* ---- applying ---- */

/* The machine cannot go on: neither can this node, whose state would differ from the others'. */
static void halt(struct host *h)
{
    h->halted = true;
    channel_request(h->channel, (struct ring_item){.kind = REQUEST_HALT});
}

/* A command or barrier, by its proposer's session. */
static void apply_proposed(struct host *h, const struct entry *e)
{
    enum session_verdict verdict;
    if (sessions_admit(&h->sessions, e, &verdict) != OK) {
        halt(h);
        return;
    }
    bool ours = e->session == h->node && e->epoch == h->epoch && call_is_open(h, e->sequence);
    if (verdict == SESSION_NEW && e->type == RAFT_ENTRY_COMMAND) {
        if (ours) call_close(h, e->sequence);
        if (h->machine.apply(h->ctx, e, h->applied_time_us, ours ? e->sequence : 0) == HOST_HALT) halt(h);
    } else if (ours) {
        call_end(h, e->sequence, verdict == SESSION_FENCED ? ERR_REFUSED : OK, e->index);
    }
}

static void apply_next(struct host *h)
{
    struct entry e = entry_view(h->batch->entries[h->batch_at]);
    ASSERT(e.index == h->applied + 1);
    h->applied_time_us = MAX(h->applied_time_us, e.time_us);
    if (e.type != RAFT_ENTRY_EMPTY) apply_proposed(h, &e);
    if (h->halted) return;
    h->applied = e.index;
    if (++h->batch_at < h->batch->n) return;
    struct ring_item back = {.kind = REQUEST_APPLIED, .pointer = h->batch};
    h->batch = NULL;
    channel_request(h->channel, back);
}

/* ---- notices ---- */

static void on_started(struct host *h, int code)
{
    h->started = code == OK;
    h->closed = code != OK;
    h->node = h->channel->node;
    h->epoch = h->channel->epoch;
    h->lowest = h->next = channel_first_sequence(h->epoch);
    h->machine.started(h->ctx, code);
}

static void on_closed(struct host *h)
{
    h->closing = h->closed = true;
    h->batch = NULL; /* the engine frees what it lent */
    while (h->lowest < h->next) call_end(h, h->lowest, ERR_UNKNOWN, 0);
    h->machine.closed(h->ctx);
}

static void on_notice(struct host *h, struct ring_item item)
{
    switch (item.kind) {
    case NOTICE_STARTED: on_started(h, item.code); break;
    case NOTICE_COMMITTED:
        h->batch = item.pointer;
        h->batch_at = 0;
        break;
    case NOTICE_REFUSED: call_end(h, item.value, item.code, 0); break;
    case NOTICE_CLOSED: on_closed(h); break;
    default: ASSERT(!"a known notice");
    }
}

/* One command, or one notice. false: nothing to do. */
static bool step_once(struct host *h, uint32_t *entries)
{
    if (h->batch != NULL && !h->halted) {
        (*entries)--;
        apply_next(h);
        return true;
    }
    struct ring_item item;
    if (!ring_pop(&h->channel->notices, &item)) return false;
    bool dead = h->halted && item.kind == NOTICE_COMMITTED;
    if (!dead) on_notice(h, item);
    return true;
}

static bool look_at_status(struct host *h)
{
    if (h->closed || !mailbox_take(&h->channel->status)) return false;
    h->machine.changed(h->ctx, mailbox_read(&h->channel->status));
    return true;
}

bool host_step(struct host *h, uint32_t entries)
{
    ASSERT(!h->stepping && entries > 0);
    h->stepping = true;
    bool more = true;
    while (more && entries > 0) {
        look_at_status(h);
        if (step_once(h, &entries)) continue;
        more = !ring_sleep(&h->channel->notices) || look_at_status(h);
    }
    h->stepping = false;
    return more;
}

/* ---- looking in ---- */

const struct server_status *host_status(const struct host *h)
{
    return mailbox_read(&h->channel->status);
}

const struct err *host_start_error(const struct host *h)
{
    return &h->channel->start_error;
}

raft_index host_applied(const struct host *h)
{
    return h->applied;
}

uint64_t host_applied_time(const struct host *h)
{
    return h->applied_time_us;
}

uint32_t host_pending(const struct host *h)
{
    return h->pending;
}

uint32_t host_sessions(const struct host *h)
{
    return (uint32_t)h->sessions.count;
}

uint64_t host_node(const struct host *h)
{
    return h->node;
}
